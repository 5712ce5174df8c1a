//! Denoising: from a prompt and a row of masks to an answer.
//!
//! [`options`] says what to do and checks it, [`session`] plans it on the device, and its steps run one at
//! a time or ahead. The decisions themselves are made by the `select` kernel; the CPU only reads a small report.

mod host;
pub mod options;
pub mod preset;
pub mod prompt;
pub mod report;
pub mod session;
mod steps;

pub use crate::ops::kept::CacheDtype;
pub use host::Recorded;
pub use options::{Cache, DecodeOptions, Remasking, Rule};
pub use preset::Preset;
pub use prompt::Prompt;
pub use report::{Commit, StepReport};
pub use session::Session;
