//! Audio understanding with diffusion language models on any GPU.
#![warn(missing_docs, unreachable_pub)]

pub mod error;
pub mod gpu;
pub mod ops;

pub use error::{Error, Result};
pub use wgpu;
