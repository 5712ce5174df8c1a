//! Sizes of the three models, from their `config.json` files and, for the adapter, its tensor shapes.
//!
//! Input: the folders of a model, or their files' bytes. Output: plain structs, and for each model the
//! list of its tensors with their shapes. Invariant: a value that exists has been cross-checked, so that
//! code using it may divide by the sizes and multiply any three of them in 64 bits.
//!
//! The keys and their meaning follow Hugging Face's `WhisperConfig`, `WhisperFeatureExtractor` and LLaDA's
//! `configuration_llada.py`; options of the latter that LLaDA does not use are refused, not ignored.

mod adapter;
mod json;
mod llada;
mod tensors;
mod whisper;

pub use adapter::AdapterConfig;
pub use llada::LladaConfig;
pub use whisper::WhisperConfig;

/// Names and shapes of a model's tensors.
pub type TensorList = Vec<(String, Vec<usize>)>;

/// Largest size accepted for any dimension, so that products cannot overflow.
const MAX_SIZE: usize = 1 << 20;

/// Most layers or layer prompts that an adapter is believed to have.
const MAX_LIST: usize = 1000;

/// Sampling rate that the filterbank and the resampler are made for, Hz.
const SAMPLING_RATE: usize = 16000;

/// Encoder rows per semantic row.
pub const SEMANTIC_RATE: usize = 4;
