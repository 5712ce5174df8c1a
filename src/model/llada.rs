//! LLaDA: a llama-style transformer without a causal mask, as the mask predictor of the decoder.
//!
//! Reference: `llada_forward` of the PyTorch reference; model.md 5. A forward is recorded into a plan once
//! per request shape. Only the rows of the current block are candidates for a commit, so in the last
//! block queries, MLP and output matrix run on those rows alone: the others' results are never read.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::gpu::plan::PlanBuilder;
use crate::gpu::{DType, Gpu, Matrix, Tensor};
use crate::model::config::LladaConfig;
use crate::model::weights::{LoadProgress, WeightReader};
use crate::ops::attention::{Attention, attention};
use crate::ops::elementwise::{gather_rows, silu_gate};
use crate::ops::matmul::{Matmul, matmul};
use crate::ops::norm::rms_norm;
use crate::ops::rope::{rope, rope_table};

#[derive(Debug)]
struct Block {
    attn_norm: Tensor,
    q_proj: Matrix,
    k_proj: Matrix,
    v_proj: Matrix,
    attn_out: Matrix,
    ff_norm: Tensor,
    ff_proj: Matrix,
    up_proj: Matrix,
    ff_out: Matrix,
}

/// A loaded language model.
#[derive(Debug)]
pub struct Llada {
    config: LladaConfig,
    /// Embedding table `[vocab, d_model]`.
    pub wte: Matrix,
    blocks: Vec<Block>,
    ln_f: Tensor,
    ff_out: Option<Matrix>,
}

/// The rows of one forward: `sequences` spans of `rows` each, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Number of sequences; with guidance the second half is unconditional.
    pub sequences: usize,
    /// Rows of each.
    pub rows: usize,
    /// Candidate rows of each (the block length).
    pub candidates: usize,
}

impl Layout {
    fn total_rows(&self) -> usize {
        self.sequences * self.rows
    }

    fn total_candidates(&self) -> usize {
        self.sequences * self.candidates
    }
}

/// Activations of a forward. Sized once; layers reuse them.
#[derive(Debug)]
pub struct ForwardBuffers {
    /// Residual stream `[rows, d_model]`; filled with the input embeddings before the forward.
    pub x: Tensor,
    /// Positions of all rows, for RoPE.
    pub positions: Tensor,
    rope_table: Tensor,
    h: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn: Tensor,
    gate: Tensor,
    up: Tensor,
    /// Rows of `gate` and `up`: the MLP runs in chunks of so many rows.
    mlp_rows: usize,
    candidate_x: Tensor,
    /// Final normed hidden states of the candidate rows `[candidates, d_model]`: the forward's result.
    pub candidate_h: Tensor,
    candidate_q: Tensor,
    candidate_attn: Tensor,
}

impl ForwardBuffers {
    /// Buffers for `layout`.
    pub fn new(gpu: &Gpu, config: &LladaConfig, layout: Layout) -> Result<ForwardBuffers> {
        let (n, c, d) = (layout.total_rows(), layout.total_candidates(), config.d_model);
        let kv = config.n_kv_heads * config.head_dim;
        let mlp = config.mlp_hidden_size;
        let fit = (gpu.caps().max_slab_bytes() / (4 * mlp) as u64) as usize;
        let mlp_rows = n.max(c).min(fit.max(1));
        let buffer =
            |name: &str, rows: usize, cols: usize| gpu.tensor(&format!("llada.{name}"), DType::F32, &[rows, cols]);
        let positions: Vec<u32> =
            (0..layout.sequences).flat_map(|_| 0..layout.rows as u32).collect();
        Ok(ForwardBuffers {
            x: buffer("x", n, d)?,
            positions: gpu.tensor_from("llada.positions", DType::U32, &[n], &positions)?,
            rope_table: rope_table(gpu, layout.rows, config.head_dim, config.rope_theta as f32)?,
            h: buffer("h", n, d)?,
            q: buffer("q", n, d)?,
            k: buffer("k", n, kv)?,
            v: buffer("v", n, kv)?,
            attn: buffer("attn", n, d)?,
            gate: buffer("gate", mlp_rows, mlp)?,
            up: buffer("up", mlp_rows, mlp)?,
            mlp_rows,
            candidate_x: buffer("candidate_x", c, d)?,
            candidate_h: buffer("candidate_h", c, d)?,
            candidate_q: buffer("candidate_q", c, d)?,
            candidate_attn: buffer("candidate_attn", c, d)?,
        })
    }
}

/// Candidate rows of the current block, kept on the device by the selection kernel.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    /// Row of each candidate in the forward.
    pub rows: &'a Tensor,
    /// Position of each.
    pub positions: &'a Tensor,
}

impl Llada {
    /// Loads the weights; matrices stay in their stored type, large ones in several slabs.
    pub fn load(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        config: &LladaConfig,
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
        let mut blocks = Vec::with_capacity(config.n_layers);
        for i in 0..config.n_layers {
            let at = at.at(format!("blocks.{i}"));
            blocks.push(Block {
                attn_norm: at.vector("attn_norm.weight", d)?,
                q_proj: at.matrix("q_proj.weight", d, d)?,
                k_proj: at.matrix("k_proj.weight", kv, d)?,
                v_proj: at.matrix("v_proj.weight", kv, d)?,
                attn_out: at.matrix("attn_out.weight", d, d)?,
                ff_norm: at.vector("ff_norm.weight", d)?,
                ff_proj: at.matrix("ff_proj.weight", mlp, d)?,
                up_proj: at.matrix("up_proj.weight", mlp, d)?,
                ff_out: at.matrix("ff_out.weight", d, mlp)?,
            });
        }
        Ok(Llada {
            wte: at.matrix("wte.weight", vocab, d)?,
            blocks,
            ln_f: at.vector("ln_f.weight", d)?,
            ff_out: if config.weight_tying { None } else { Some(at.matrix("ff_out.weight", vocab, d)?) },
            config: config.clone(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &LladaConfig {
        &self.config
    }

    /// The output matrix `[vocab, d_model]`: `ff_out`, or the embedding table if weights are tied.
    pub fn head(&self) -> &Matrix {
        self.ff_out.as_ref().unwrap_or(&self.wte)
    }

    /// Bytes of all matrices on the device.
    pub fn weight_bytes(&self) -> u64 {
        let block = |b: &Block| {
            [&b.q_proj, &b.k_proj, &b.v_proj, &b.attn_out, &b.ff_proj, &b.up_proj, &b.ff_out]
                .iter()
                .map(|m| m.byte_len())
                .sum::<u64>()
        };
        let head = self.ff_out.as_ref().map_or(0, Matrix::byte_len);
        self.wte.byte_len() + head + self.blocks.iter().map(block).sum::<u64>()
    }

    /// Records `buffers.x` (embeddings of all rows) -> `buffers.candidate_h`.
    pub fn record(
        &self,
        plan: &mut PlanBuilder,
        layout: Layout,
        buffers: &ForwardBuffers,
        candidates: Candidates<'_>,
    ) -> Result<()> {
        for (i, block) in self.blocks.iter().enumerate() {
            if i + 1 < self.blocks.len() {
                self.record_block(plan, block, layout, buffers)?;
            } else {
                self.record_last_block(plan, block, layout, buffers, candidates)?;
            }
        }
        let rows = layout.total_candidates();
        rms_norm(plan, &buffers.candidate_x, rows, &self.ln_f, self.eps(), &buffers.candidate_h)
    }

    fn record_block(
        &self,
        plan: &mut PlanBuilder,
        block: &Block,
        layout: Layout,
        b: &ForwardBuffers,
    ) -> Result<()> {
        let rows = layout.total_rows();
        rms_norm(plan, &b.x, rows, &block.attn_norm, self.eps(), &b.h)?;
        matmul(plan, Matmul::new(&b.h, rows, &block.q_proj, &b.q))?;
        self.record_keys_values(plan, block, rows, b)?;
        rope(plan, &b.q, rows, self.config.n_heads, &b.rope_table, &b.positions)?;
        for sequence in 0..layout.sequences {
            let first = sequence * layout.rows;
            self.attend(plan, (&b.q, first, layout.rows), b, (first, layout.rows), (&b.attn, first))?;
        }
        matmul(plan, Matmul { accumulate: true, ..Matmul::new(&b.attn, rows, &block.attn_out, &b.x) })?;
        rms_norm(plan, &b.x, rows, &block.ff_norm, self.eps(), &b.h)?;
        self.record_mlp(plan, block, &b.h, rows, b, &b.x)
    }

    /// Keys and values of all rows, everything else for the candidate rows only.
    fn record_last_block(
        &self,
        plan: &mut PlanBuilder,
        block: &Block,
        layout: Layout,
        b: &ForwardBuffers,
        candidates: Candidates<'_>,
    ) -> Result<()> {
        let rows = layout.total_candidates();
        rms_norm(plan, &b.x, layout.total_rows(), &block.attn_norm, self.eps(), &b.h)?;
        self.record_keys_values(plan, block, layout.total_rows(), b)?;
        gather_rows(plan, &b.x, candidates.rows, rows, &b.candidate_x)?;
        gather_rows(plan, &b.h, candidates.rows, rows, &b.candidate_h)?;
        matmul(plan, Matmul::new(&b.candidate_h, rows, &block.q_proj, &b.candidate_q))?;
        rope(plan, &b.candidate_q, rows, self.config.n_heads, &b.rope_table, candidates.positions)?;
        for sequence in 0..layout.sequences {
            let first = sequence * layout.candidates;
            let queries = (&b.candidate_q, first, layout.candidates);
            let keys = (sequence * layout.rows, layout.rows);
            self.attend(plan, queries, b, keys, (&b.candidate_attn, first))?;
        }
        let out = Matmul::new(&b.candidate_attn, rows, &block.attn_out, &b.candidate_x);
        matmul(plan, Matmul { accumulate: true, ..out })?;
        rms_norm(plan, &b.candidate_x, rows, &block.ff_norm, self.eps(), &b.candidate_h)?;
        self.record_mlp(plan, block, &b.candidate_h, rows, b, &b.candidate_x)
    }

    fn record_keys_values(
        &self,
        plan: &mut PlanBuilder,
        block: &Block,
        rows: usize,
        b: &ForwardBuffers,
    ) -> Result<()> {
        matmul(plan, Matmul::new(&b.h, rows, &block.k_proj, &b.k))?;
        matmul(plan, Matmul::new(&b.h, rows, &block.v_proj, &b.v))?;
        rope(plan, &b.k, rows, self.config.n_kv_heads, &b.rope_table, &b.positions)
    }

    fn attend(
        &self,
        plan: &mut PlanBuilder,
        q: (&Tensor, usize, usize),
        b: &ForwardBuffers,
        kv_rows: (usize, usize),
        out: (&Tensor, usize),
    ) -> Result<()> {
        attention(
            plan,
            Attention {
                q,
                k: &b.k,
                v: &b.v,
                kv_rows,
                n_heads: self.config.n_heads,
                n_kv_heads: self.config.n_kv_heads,
                head_dim: self.config.head_dim,
                out,
            },
        )
    }

    /// `out += ff_out(silu(ff_proj(h)) * up_proj(h))`, in chunks of rows.
    fn record_mlp(
        &self,
        plan: &mut PlanBuilder,
        block: &Block,
        h: &Tensor,
        rows: usize,
        b: &ForwardBuffers,
        out: &Tensor,
    ) -> Result<()> {
        for first in (0..rows).step_by(b.mlp_rows) {
            let n = b.mlp_rows.min(rows - first);
            for (weight, to) in [(&block.ff_proj, &b.gate), (&block.up_proj, &b.up)] {
                matmul(plan, Matmul { x_row0: first, ..Matmul::new(h, n, weight, to) })?;
            }
            silu_gate(plan, &b.gate, &b.up, n)?;
            let down = Matmul::new(&b.gate, n, &block.ff_out, out);
            matmul(plan, Matmul { out_row0: first, accumulate: true, ..down })?;
        }
        Ok(())
    }

    fn eps(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }
}
