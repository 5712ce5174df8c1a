//! Audio understanding with diffusion language models on any GPU.
//!
//! DIFFA hears with a frozen Whisper encoder, turns what it heard into embeddings with two adapters, and
//! answers with a frozen LLaDA that unmasks many tokens in parallel. This crate runs it on hand-written
//! WGSL kernels through wgpu: Vulkan, Metal and DX12, on a device of its own or on a host's.
//!
//! ```no_run
//! use diffa::{AdapterChoice, DecodeOptions, Diffa, Gpu, ModelPaths, audio, text};
//!
//! # fn main() -> diffa::Result<()> {
//! let gpu = Gpu::open(&AdapterChoice::default())?; // or Gpu::from_wgpu(device, queue)
//! let diffa = Diffa::load(&gpu, &ModelPaths::default(), &|_bytes| Ok(()))?; // the embedded demo model
//! let wave = audio::read("clip.wav".as_ref(), 16_000)?;
//! let clip = diffa.hear(&wave.samples)?;
//! let options = DecodeOptions::new(16, 16, 16);
//! let answer = diffa.ask(&clip, "What does the speaker say?", text::DEFAULT_SYSTEM, &options, |_, _| Ok(()))?;
//! println!("{}", answer.text);
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs, unreachable_pub)]

pub mod audio;
pub mod bench;
pub mod checkpoint;
pub mod decode;
pub mod engine;
pub mod error;
#[cfg(feature = "eval")]
pub mod eval;
pub mod files;
mod fnv;
pub mod gpu;
pub mod model;
pub mod ops;
pub mod quant;
pub mod quantize;
pub mod synth;
mod system;
pub mod text;
pub mod tune;

pub use decode::{Cache, CacheDtype, DecodeOptions, Preset, Remasking, Rule, Session, StepReport};
pub use engine::{Answer, Diffa};
pub use error::{Error, Result};
pub use gpu::{AdapterChoice, Gpu};
pub use model::{Clip, ModelPaths, Quantization};
pub use wgpu;
