//! The two connectors, whose sizes are told by the shapes of their tensors.

use super::tensors::{Surplus, Tensors, check_all, find_prefix};
use super::{LladaConfig, MAX_LIST, MAX_SIZE, SEMANTIC_RATE, TensorList, WhisperConfig};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// The two connectors, as their tensors' shapes tell; the adapter's own `config.json` repeats the configs
/// of the two models and is not needed.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// What stands before the names of [`AdapterConfig::tensors`] in the checkpoint, usually nothing.
    pub prefix: &'static str,
    /// Whisper's width `d`.
    pub d_audio: usize,
    /// LLaDA's width `D`.
    pub d_model: usize,
    /// Encoder states that the acoustic connector reads; at most Whisper's layers.
    pub n_targets: usize,
    /// Acoustic rows.
    pub prompt_size: usize,
    /// Q-former blocks, shared by all targets.
    pub n_blocks: usize,
    /// Q-former attention heads: Whisper's.
    pub n_heads: usize,
    /// Width of the Q-former's feed-forward layer.
    pub ffn_dim: usize,
    /// Kernel sizes of the semantic connector's two convolutions; always 3 (padding 1).
    pub conv_kernels: [usize; 2],
    /// Rows of `trainable_prompts` (stage 1 only), 0 if the checkpoint has none.
    pub n_trainable_prompts: usize,
}

impl AdapterConfig {
    /// Derives the sizes from the tensors of an adapter checkpoint and checks every tensor against them and
    /// against the two models.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing, or if the adapter was made for other models.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        whisper: &WhisperConfig,
        llada: &LladaConfig,
    ) -> Result<Self> {
        let prefixes = ["", "model.", "module.", "module.model.", "base_model.model."];
        let prefix = find_prefix(checkpoint, &prefixes, "semantic_connector.conv.0.weight", "DIFFA adapter")?;
        let shape = |name: &str, rank: usize| -> Result<&[usize]> {
            let name = format!("{prefix}{name}");
            match checkpoint.shape(&name) {
                Some(shape) if shape.len() == rank => Ok(shape),
                Some(shape) => {
                    let reason = format!("tensor `{name}` has shape {shape:?}, expected {rank} dimensions");
                    Err(Error::Weights { path: checkpoint.file_of(&name).into(), reason })
                }
                None => Err(checkpoint.missing(&name)),
            }
        };
        // One more than the highest index that follows `list` in any name, so that a tensor lost from the
        // last block is missed and does not make the adapter smaller.
        let count = |list: &str| {
            let list = format!("{prefix}{list}");
            let index = |name: &str| -> Option<usize> {
                let digits = name.strip_prefix(&list)?.split('.').next()?;
                digits.parse().ok().filter(|&i| i < MAX_LIST)
            };
            checkpoint.names().filter_map(index).max().map_or(0, |i| i + 1)
        };
        let fail = |name: &str, reason: String| {
            let path = checkpoint.file_of(&format!("{prefix}{name}")).into();
            Error::Weights { path, reason: format!("tensor `{prefix}{name}`: {reason}") }
        };

        let first = "semantic_connector.conv.0.weight";
        let (d_audio, kernel_0) = (shape(first, 3)?[1], shape(first, 3)?[2]);
        if d_audio != whisper.d_model {
            let (found, file) = (whisper.d_model, whisper.path.display());
            return Err(fail(
                first,
                format!("adapter expects Whisper width {d_audio} but {file} has {found}"),
            ));
        }
        let second = "semantic_connector.conv.2.weight";
        let conv_kernels = [kernel_0, shape(second, 3)?[2]];
        if conv_kernels != [3, 3] {
            let reason = format!("convolution kernels of sizes {conv_kernels:?}, expected [3, 3]");
            return Err(fail(if kernel_0 == 3 { second } else { first }, reason));
        }
        let last = "semantic_connector.linear_connector.2.weight";
        let d_model = shape(last, 2)?[0];
        if d_model != llada.d_model {
            let (found, file) = (llada.d_model, llada.path.display());
            return Err(fail(last, format!("adapter expects LLaDA width {d_model} but {file} has {found}")));
        }
        let prompts = "acoustic_connector.layer_prompts.0";
        let prompt_size = shape(prompts, 3)?[1];
        let mix = "acoustic_connector.layer_weights";
        let n_targets = shape(mix, 2)?[1].max(count("acoustic_connector.layer_prompts."));
        if n_targets > whisper.n_layers {
            let (layers, file) = (whisper.n_layers, whisper.path.display());
            let reason = format!("{n_targets} layer prompts, but {file} has {layers} encoder layers");
            return Err(fail(prompts, reason));
        }
        let intermediate = "acoustic_connector.qformer.layer.0.intermediate.dense.weight";
        let ffn_dim = shape(intermediate, 2)?[0];
        let trainable = "trainable_prompts.weight";
        let this = Self {
            prefix,
            d_audio,
            d_model,
            n_targets,
            prompt_size,
            n_blocks: count("acoustic_connector.qformer.layer."),
            n_heads: whisper.n_heads,
            ffn_dim,
            conv_kernels,
            n_trainable_prompts: match checkpoint.contains(&format!("{prefix}{trainable}")) {
                true => shape(trainable, 2)?[0],
                false => 0,
            },
        };
        for (name, size) in [(mix, n_targets), (prompts, prompt_size), (intermediate, ffn_dim)] {
            if size == 0 || size > MAX_SIZE {
                return Err(fail(name, format!("the impossible size {size}")));
            }
        }
        check_all(checkpoint, prefix, &this.tensors(), Surplus::Skipped)?;
        Ok(this)
    }

    /// The hidden states that the acoustic connector reads: `(i + 1) * n_layers / n_targets - 1`, where 0
    /// is the input of the first encoder layer (docs/MODEL.md 4.2).
    pub fn target_layers(&self, n_layers: usize) -> Vec<usize> {
        (1..=self.n_targets).map(|i| (i * n_layers / self.n_targets).saturating_sub(1)).collect()
    }

    /// The adapter's tensors, names without `prefix`; linear weights are `[out, in]`.
    pub fn tensors(&self) -> TensorList {
        let (d, big, ffn) = (self.d_audio, self.d_model, self.ffn_dim);
        let wide = SEMANTIC_RATE * d;
        let mut all = Tensors::default();
        if self.n_trainable_prompts > 0 {
            all.weight("trainable_prompts", &[self.n_trainable_prompts, big]);
        }
        all.at("semantic_connector.");
        all.with_bias("conv.0", &[d, d, self.conv_kernels[0]]);
        all.with_bias("conv.2", &[wide, d, self.conv_kernels[1]]);
        all.with_bias("linear_connector.0", &[d, wide]);
        all.with_bias("linear_connector.2", &[big, d]);
        all.norm("layernorm", big);
        all.at("acoustic_connector.");
        all.push("layer_weights", &[self.prompt_size, self.n_targets]);
        for t in 0..self.n_targets {
            all.push(&format!("layer_prompts.{t}"), &[1, self.prompt_size, d]);
        }
        for b in 0..self.n_blocks {
            for attention in ["attention", "crossattention"] {
                all.at(&format!("acoustic_connector.qformer.layer.{b}.{attention}."));
                for name in ["self.query", "self.key", "self.value", "output.dense"] {
                    all.with_bias(name, &[d, d]);
                }
                all.norm("output.LayerNorm", d);
            }
            all.at(&format!("acoustic_connector.qformer.layer.{b}."));
            all.with_bias("intermediate.dense", &[ffn, d]);
            all.with_bias("output.dense", &[d, ffn]);
            all.norm("output.LayerNorm", d);
        }
        all.at("acoustic_connector.");
        all.norm("proj.0", d);
        all.with_bias("proj.1", &[big, d]);
        all.list
    }
}
