//! How much device memory a model will need, from its files' headers, and for f32 matrices from their values.

use serde::Serialize;

use crate::checkpoint::{Checkpoint, StoredDtype};
use crate::error::Result;
use crate::model::config::{AdapterConfig, LladaConfig, TensorList, WhisperConfig};
use crate::model::forward::Layout;
use crate::model::llada::{Quantization, stacked_with};
use crate::model::source::{ModelPaths, Part};
use crate::ops::kept::CacheDtype;

/// Name of the item with the language model's weights.
const LANGUAGE_MODEL: &str = "language model";

/// Tensors of two dimensions that are read as f32: positions, prompts and the mixing of layers.
const NO_MATRIX: [&str; 3] = ["embed_positions", "layer_prompts", "layer_weights"];

/// Bytes of one group of buffers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryItem {
    /// What it is, for example `language model`.
    pub name: &'static str,
    /// Element type on the device.
    pub dtype: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// Everything a model puts on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Weights by part and type, then the buffers of a request.
    pub items: Vec<MemoryItem>,
}

impl MemoryPlan {
    /// The plan for `parts` of a model as it would be loaded, and for decoding over `layout`, with keys and values
    /// in the type `kept`, those of every layer if `cached`. Weights are exact to a few bytes; buffers of a request
    /// are estimated.
    ///
    /// Errors: files that do not load, heads that cannot be kept in that type.
    pub fn new(
        paths: &ModelPaths,
        parts: &[Part],
        layout: &Layout,
        cached: bool,
        kept: CacheDtype,
    ) -> Result<MemoryPlan> {
        let mut plan = MemoryPlan { items: Vec::new() };
        let llada = paths.llada_config()?;
        kept.check(llada.head_dim)?;
        for part in parts {
            let checkpoint = paths.checkpoint(*part)?;
            let (name, prefix, tensors) = match part {
                Part::Llm => (LANGUAGE_MODEL, llada.check(&checkpoint)?, llada.tensors()),
                Part::Whisper => {
                    let config = paths.whisper_config()?;
                    ("audio encoder", config.check(&checkpoint)?, config.tensors())
                }
                Part::Adapters => {
                    let config =
                        AdapterConfig::from_checkpoint(&checkpoint, &paths.whisper_config()?, &llada)?;
                    ("adapters", config.prefix, config.tensors())
                }
            };
            let quantize = paths.quantize.filter(|_| *part == Part::Llm);
            plan.weights(name, &tensors, quantize, (&checkpoint, prefix))?;
        }
        if parts.contains(&Part::Whisper) {
            let config = paths.whisper_config()?;
            let adapters =
                AdapterConfig::from_checkpoint(&paths.checkpoint(Part::Adapters)?, &config, &llada)?;
            let taps = adapters.target_layers(config.n_layers).len();
            plan.add("encoder buffers", "f32".into(), hearing_bytes(&config, taps));
        }
        plan.add("decoder buffers", "f32".into(), decoder_bytes(&llada, layout));
        plan.add("keys and values", kept.to_string(), cache_bytes(&llada, layout, cached, kept));
        Ok(plan)
    }

    /// Bytes of everything.
    pub fn total(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    fn add(&mut self, name: &'static str, dtype: String, bytes: u64) {
        match self.items.iter_mut().find(|item| item.name == name && item.dtype == dtype) {
            Some(item) => item.bytes += bytes,
            None => self.items.push(MemoryItem { name, dtype, bytes }),
        }
    }

    /// Matrices are quantized or take the narrowest type that holds them; what is no matrix is widened to f32.
    fn weights(
        &mut self,
        name: &'static str,
        tensors: &TensorList,
        quantize: Option<Quantization>,
        (checkpoint, prefix): (&Checkpoint, &str),
    ) -> Result<()> {
        for (tensor, shape) in tensors {
            let (rows, cols) = match shape.as_slice() {
                [] => continue,
                [len] => (1, *len),
                [rows, inner @ ..] => (*rows, inner.iter().product::<usize>()),
            };
            let stored_name = format!("{prefix}{tensor}");
            let format = quantize.and_then(|q| q.of(tensor)).filter(|f| shape.len() == 2 && f.fits(cols));
            let dtype = match (checkpoint.dtype(&stored_name), format) {
                (Some(stored @ StoredDtype::Quantized(_)), _) => stored,
                (_, Some(format)) => StoredDtype::Quantized(format),
                _ if shape.len() == 1 || NO_MATRIX.iter().any(|part| tensor.contains(part)) => {
                    StoredDtype::F32
                }
                _ => {
                    let mut narrow = checkpoint.narrow(&stored_name)?;
                    let others = if name == LANGUAGE_MODEL { stacked_with(tensor) } else { Vec::new() };
                    for other in others {
                        narrow = narrow & checkpoint.narrow(&format!("{prefix}{other}"))?;
                    }
                    narrow.dtype()
                }
            };
            self.add(name, dtype.to_string().to_lowercase(), (rows * dtype.row_bytes(cols)) as u64);
        }
        Ok(())
    }
}

/// Activations of one forward, and the partial results of the output matrix.
fn decoder_bytes(config: &LladaConfig, layout: &Layout) -> u64 {
    let (n, c, d) = (layout.total_rows(), layout.total_candidates(), config.d_model);
    let kv = config.n_kv_heads * config.head_dim;
    let head = c * config.vocab_size.div_ceil(256) * 8;
    let projections = n.max(c) * (d + 2 * kv + 3 * config.mlp_hidden_size);
    4 * (6 * n * d + projections + 4 * c * d + head) as u64
}

/// Keys and values of all rows: of every layer if they are kept from step to step, else of two.
fn cache_bytes(config: &LladaConfig, layout: &Layout, cached: bool, kept: CacheDtype) -> u64 {
    let layers = if cached { config.n_layers } else { config.n_layers.min(2) };
    let row = kept.dtype().row_bytes(config.n_kv_heads * config.head_dim);
    (2 * layers * layout.total_rows() * row) as u64
}

/// Spectrogram, convolution patches, activations of one layer, and the hidden states that the adapters read,
/// with the adapters' own copies of them.
fn hearing_bytes(config: &WhisperConfig, taps: usize) -> u64 {
    let (frames, rows, d) = (config.n_frames, config.max_source_positions, config.d_model);
    let spectrogram = config.n_samples + frames * (config.n_fft / 2 + 1 + config.n_mels);
    let stem = frames * (d + 3 * config.n_mels) + rows * 3 * d;
    let layer = rows * (6 * d + config.ffn_dim);
    4 * (spectrogram + stem + layer + (taps + 4) * rows * d) as u64
}
