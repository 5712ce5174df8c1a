//! The model: configuration, weights on the device, and what each part computes.

pub mod adapters;
pub mod config;
pub mod encoder;
pub mod forward;
pub mod hearing;
pub mod llada;
pub mod memory;
pub mod source;
pub mod weights;

pub use hearing::{Clip, Hearing};
pub use llada::{Llada, Quantization};
pub use source::{ModelPaths, Part};
