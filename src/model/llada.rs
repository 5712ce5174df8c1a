//! LLaDA: a llama-style transformer without a causal mask, as the mask predictor of the decoder.
//!
//! Reference: `llada_forward` of the PyTorch reference; docs/MODEL.md 5. This file holds the weights; how a
//! forward over them is recorded is in [`crate::model::forward`].

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::gpu::{DType, Gpu, Matrix, Tensor};
use crate::model::config::LladaConfig;
use crate::model::weights::{LoadProgress, WeightReader};
use crate::quant::QuantFormat;

/// How the large matrices of the language model are quantized: 8.5 GB instead of 16 for LLaDA-8B at `Q8`, 5
/// at `Q4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// All large matrices in `q8_0`.
    Q8,
    /// The matrices of the blocks in `q4_0`; embedding table and output matrix, which suffer more, in `q8_0`.
    Q4,
}

impl Quantization {
    /// Both.
    pub const ALL: [Quantization; 2] = [Quantization::Q8, Quantization::Q4];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Quantization::Q8 => "q8",
            Quantization::Q4 => "q4",
        }
    }

    /// Format of the seven matrices of a block.
    pub const fn blocks(self) -> QuantFormat {
        match self {
            Quantization::Q8 => QuantFormat::Q8_0,
            Quantization::Q4 => QuantFormat::Q4_0,
        }
    }

    /// Format of the embedding table and the output matrix.
    pub const fn vocabulary(self) -> QuantFormat {
        QuantFormat::Q8_0
    }

    /// Format of a tensor by its name without prefix, `None` for those that stay as they are (norms).
    pub fn of(self, name: &str) -> Option<QuantFormat> {
        match name {
            "wte.weight" | "ff_out.weight" => Some(self.vocabulary()),
            _ if name.ends_with("_proj.weight") || name.ends_with("_out.weight") => Some(self.blocks()),
            _ => None,
        }
    }
}

/// One transformer block, by checkpoint names; matrices with the same input are stacked into one, so that their
/// products are one dispatch, which fills a GPU with few rows.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) attn_norm: Tensor,
    /// Queries, keys and values: `[d_model + 2 n_kv_heads * head_dim, d_model]`.
    pub(crate) qkv_proj: Matrix,
    pub(crate) attn_out: Matrix,
    pub(crate) ff_norm: Tensor,
    /// `ff_proj` (the gate) and `up_proj`: `[2 mlp_hidden_size, d_model]`.
    pub(crate) gate_up_proj: Matrix,
    pub(crate) ff_out: Matrix,
}

/// Matrices of a block that are multiplied in one go, and so are of one type on the device.
const QKV: [&str; 3] = ["q_proj.weight", "k_proj.weight", "v_proj.weight"];
const GATE_UP: [&str; 2] = ["ff_proj.weight", "up_proj.weight"];

/// The tensors that are stacked with `name`, itself among them.
pub(super) fn stacked_with(name: &str) -> Vec<String> {
    let stacks: [&[&str]; 2] = [&QKV, &GATE_UP];
    for stack in stacks {
        if let Some(prefix) =
            stack.iter().find_map(|own| name.strip_suffix(own)).filter(|p| p.contains("blocks."))
        {
            return stack.iter().map(|own| format!("{prefix}{own}")).collect();
        }
    }
    vec![name.to_string()]
}

fn zip<const N: usize>(names: [&'static str; N], rows: [usize; N]) -> [(&'static str, usize); N] {
    std::array::from_fn(|i| (names[i], rows[i]))
}

/// A loaded language model.
#[derive(Debug)]
pub struct Llada {
    gpu: Gpu,
    config: LladaConfig,
    /// Embedding table `[vocab, d_model]`.
    pub wte: Matrix,
    pub(crate) blocks: Vec<Block>,
    pub(crate) ln_f: Tensor,
    ff_out: Option<Matrix>,
}

impl Llada {
    /// Loads the weights, large matrices in several slabs. Matrices stay in their stored type unless a
    /// `quantization` is given, which those that are quantized in the file ignore.
    pub fn load(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        config: &LladaConfig,
        quantization: Option<Quantization>,
        progress: LoadProgress<'_>,
    ) -> Result<Llada> {
        let prefix = config.check(checkpoint)?;
        if !config.d_model.is_multiple_of(8) {
            return Err(Error::Config {
                path: config.path.clone(),
                key: "d_model".into(),
                reason: format!("{} is no multiple of 8, which the output kernel needs", config.d_model),
            });
        }
        let at = WeightReader::new(gpu, checkpoint, prefix, progress);
        let (d, mlp, vocab) = (config.d_model, config.mlp_hidden_size, config.vocab_size);
        let kv = config.n_kv_heads * config.head_dim;
        let in_blocks = at.quantizing(quantization.map(Quantization::blocks));
        let blocks = in_blocks.each(config.n_layers, |at, i| {
            let at = at.at(format!("blocks.{i}"));
            Ok(Block {
                attn_norm: at.vector("attn_norm.weight", d)?,
                qkv_proj: at.matrix_stack(&zip(QKV, [d, kv, kv]), d)?,
                attn_out: at.matrix("attn_out.weight", d, d)?,
                ff_norm: at.vector("ff_norm.weight", d)?,
                gate_up_proj: at.matrix_stack(&zip(GATE_UP, [mlp, mlp]), d)?,
                ff_out: at.matrix("ff_out.weight", d, mlp)?,
            })
        })?;
        let at = at.quantizing(quantization.map(Quantization::vocabulary));
        Ok(Llada {
            gpu: gpu.clone(),
            wte: at.matrix("wte.weight", vocab, d)?,
            blocks,
            ln_f: at.vector("ln_f.weight", d)?,
            ff_out: if config.weight_tying { None } else { Some(at.matrix("ff_out.weight", vocab, d)?) },
            config: config.clone(),
        })
    }

    /// The device that the weights are on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The configuration.
    pub fn config(&self) -> &LladaConfig {
        &self.config
    }

    /// The output matrix `[vocab, d_model]`: `ff_out`, or the embedding table if weights are tied.
    pub fn head(&self) -> &Matrix {
        self.ff_out.as_ref().unwrap_or(&self.wte)
    }

    /// The matrices of all blocks: queries with keys and values, output, then those of the MLP.
    pub fn block_matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.blocks.iter().flat_map(|b| [&b.qkv_proj, &b.attn_out, &b.gate_up_proj, &b.ff_out])
    }

    /// The products of a forward, `(type, n, k)`: all of [`Llada::block_matrices`], and the two parts of the last
    /// block's `qkv_proj`, whose queries are needed for fewer rows than its keys and values.
    pub fn products(&self) -> impl Iterator<Item = (DType, usize, usize)> {
        let LladaConfig { d_model, n_kv_heads, head_dim, .. } = self.config;
        let last = self.blocks.last().map(|block| block.qkv_proj.dtype);
        let parts = last
            .into_iter()
            .flat_map(move |dtype| [(dtype, d_model, d_model), (dtype, 2 * n_kv_heads * head_dim, d_model)]);
        self.block_matrices().map(|m| (m.dtype, m.rows, m.cols)).chain(parts)
    }

    /// Bytes of all matrices on the device.
    pub fn weight_bytes(&self) -> u64 {
        let head = self.ff_out.as_ref().map_or(0, Matrix::byte_len);
        self.wte.byte_len() + head + self.block_matrices().map(Matrix::byte_len).sum::<u64>()
    }
}
