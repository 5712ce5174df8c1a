//! Recording forwards of the language model: the full one, and the cached one within a block.
//!
//! Rows of a batch lie in one tensor, `stride` rows for each sequence: prompt rows (text and audio), then
//! answer rows. What is not needed is not computed, and every omission is exact:
//! - only the rows of the current block can be committed, so in the last block queries, MLP and final
//!   norm run on those rows alone, and only on the still-masked ones where a gate knows them;
//! - embeddings of prompt rows never change, so their queries, keys and values in layer 0 are computed
//!   once per request;
//! - the branches of classifier-free guidance are two sequences of one batch.

use crate::error::Result;
use crate::gpu::plan::PlanBuilder;
use crate::gpu::{DType, Gpu, Tensor};
use crate::model::config::LladaConfig;
use crate::model::llada::{Block, Llada};
use crate::ops::attention::{Attention, attention};
use crate::ops::elementwise::{copy_rows, gather_rows, silu_gate};
use crate::ops::embed::embed;
use crate::ops::kept::CacheDtype;
use crate::ops::matmul::{Matmul, matmul};
use crate::ops::norm::rms_norm;
use crate::ops::rope::{Heads, RopeQkv, rope_qkv, rope_table};

/// The rows of one forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Prompt rows (text and audio) of each sequence.
    pub prompt_rows: Vec<usize>,
    /// Answer rows of each sequence.
    pub gen_length: usize,
    /// Candidate rows of each sequence (the block length).
    pub candidates: usize,
}

impl Layout {
    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.prompt_rows.len()
    }

    /// Rows from one sequence to the next; shorter sequences leave rows unused.
    pub fn stride(&self) -> usize {
        self.prompt_rows.iter().max().map_or(0, |p| p + self.gen_length)
    }

    /// Rows of the whole forward.
    pub fn total_rows(&self) -> usize {
        self.sequences() * self.stride()
    }

    /// Candidate rows of the whole forward.
    pub fn total_candidates(&self) -> usize {
        self.sequences() * self.candidates
    }

    /// First row and number of rows of a sequence.
    fn span(&self, sequence: usize) -> (usize, usize) {
        (sequence * self.stride(), self.prompt_rows[sequence] + self.gen_length)
    }

    /// Row of answer row 0 of a sequence.
    pub fn answer_row(&self, sequence: usize) -> usize {
        sequence * self.stride() + self.prompt_rows[sequence]
    }
}

/// Keys (after RoPE) and values of all rows in one layer, `[total_rows, n_kv_heads * head_dim]`, f32 or f16.
#[derive(Debug)]
struct KeysValues {
    k: Tensor,
    v: Tensor,
}

/// Activations and caches of a request. Sized once; layers reuse the activations.
#[derive(Debug)]
pub struct ForwardBuffers {
    /// Input embeddings of the prompt rows; answer rows unused. `[total_rows, d_model]`.
    pub context: Tensor,
    /// Residual stream.
    x: Tensor,
    /// 0, 1, 2 ...: the row list of a full forward.
    all_rows: Tensor,
    rope_table: Tensor,
    h: Tensor,
    /// Fused projection of some rows, before its heads go their ways.
    qkv: Tensor,
    /// Rows of `qkv`: projections run in chunks of so many rows.
    qkv_rows: usize,
    q: Tensor,
    /// Queries of layer 0, kept for the prompt rows.
    first_q: Tensor,
    /// One per layer with a cache; without, one for layer 0 and one for all others.
    keys_values: Vec<KeysValues>,
    attn: Tensor,
    /// Fused projection of the MLP, `[mlp_rows, 2 mlp_hidden_size]`.
    gate_up: Tensor,
    /// What its gate lets through, `[mlp_rows, mlp_hidden_size]`.
    gated: Tensor,
    /// The MLP runs in chunks of so many rows.
    mlp_rows: usize,
    candidate_x: Tensor,
    /// Final normed hidden states of the candidate rows `[candidates, d_model]`: the forward's result.
    pub candidate_h: Tensor,
    candidate_q: Tensor,
    candidate_attn: Tensor,
}

impl ForwardBuffers {
    /// Buffers for `layout`; with `cached`, keys and values of every layer are kept, in the type `kept`.
    ///
    /// Errors: heads that cannot be kept in it, rows beyond what the device can bind.
    pub fn new(
        gpu: &Gpu,
        config: &LladaConfig,
        layout: &Layout,
        cached: bool,
        kept: CacheDtype,
    ) -> Result<ForwardBuffers> {
        kept.check(config.head_dim)?;
        let (n, c, d) = (layout.total_rows(), layout.total_candidates(), config.d_model);
        let kv = config.n_kv_heads * config.head_dim;
        let mlp = config.mlp_hidden_size;
        let fit = |cols: usize| (gpu.caps().max_slab_bytes() / (4 * cols) as u64).max(1) as usize;
        let qkv_rows = n.max(c).min(fit(d + 2 * kv));
        let mlp_rows = n.max(c).min(fit(2 * mlp));
        let buffer = |name: &str, rows: usize, cols: usize| {
            gpu.tensor(&format!("llada.{name}"), DType::F32, &[rows, cols])
        };
        let pair = |name: &str| -> Result<KeysValues> {
            Ok(KeysValues {
                k: gpu.tensor(&format!("llada.{name}.k"), kept.dtype(), &[n, kv])?,
                v: gpu.tensor(&format!("llada.{name}.v"), kept.dtype(), &[n, kv])?,
            })
        };
        let layers = if cached { config.n_layers } else { config.n_layers.min(2) };
        let all_rows: Vec<u32> = (0..n as u32).collect();
        Ok(ForwardBuffers {
            context: buffer("context", n, d)?,
            x: buffer("x", n, d)?,
            all_rows: gpu.tensor_from("llada.all_rows", DType::U32, &[n], &all_rows)?,
            rope_table: rope_table(gpu, layout.stride(), config.head_dim, config.rope_theta as f32)?,
            h: buffer("h", n, d)?,
            qkv: buffer("qkv", qkv_rows, d + 2 * kv)?,
            qkv_rows,
            q: buffer("q", n, d)?,
            first_q: buffer("first_q", n, d)?,
            keys_values: (0..layers).map(|i| pair(&format!("cache.{i}"))).collect::<Result<_>>()?,
            attn: buffer("attn", n, d)?,
            gate_up: buffer("gate_up", mlp_rows, 2 * mlp)?,
            gated: buffer("gated", mlp_rows, mlp)?,
            mlp_rows,
            candidate_x: buffer("candidate_x", c, d)?,
            candidate_h: buffer("candidate_h", c, d)?,
            candidate_q: buffer("candidate_q", c, d)?,
            candidate_attn: buffer("candidate_attn", c, d)?,
        })
    }

    fn keys_values(&self, layer: usize) -> &KeysValues {
        &self.keys_values[layer.min(self.keys_values.len() - 1)]
    }
}

/// The answers as the selection kernel keeps them.
#[derive(Debug, Clone, Copy)]
pub struct Answers<'a> {
    /// Ids of all answer rows `[sequences, gen_length]`; with guidance one set serves both branches.
    pub ids: &'a Tensor,
    /// Rows of the candidates in the forward, by slot.
    pub rows: &'a Tensor,
    /// Ids at those rows.
    pub row_ids: &'a Tensor,
    /// Sequences that share one set of ids (2 with guidance).
    pub branches: usize,
}

/// Records forwards of one model over one set of buffers.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'a> {
    /// Weights.
    pub llada: &'a Llada,
    /// Rows.
    pub layout: &'a Layout,
    /// Activations and caches.
    pub buffers: &'a ForwardBuffers,
    /// Answer ids and candidates.
    pub answers: Answers<'a>,
}

impl Forward<'_> {
    /// Once per request: layer 0 of the prompt rows, from `buffers.context`.
    pub fn record_prompt(&self, plan: &mut PlanBuilder) -> Result<()> {
        let b = self.buffers;
        copy_rows(plan, (&b.context, 0), self.layout.total_rows(), (&b.x, 0))?;
        for (sequence, rows) in self.layout.prompt_rows.iter().enumerate() {
            self.record_first_projections(plan, self.layout.span(sequence).0, *rows)?;
        }
        Ok(())
    }

    /// A forward over all rows -> `buffers.candidate_h`; keys and values of all rows are kept where there
    /// is a cache.
    pub fn record_full(&self, plan: &mut PlanBuilder) -> Result<()> {
        let (b, layout) = (self.buffers, self.layout);
        let rows = layout.total_rows();
        copy_rows(plan, (&b.context, 0), rows, (&b.x, 0))?;
        let sets = layout.sequences() / self.answers.branches;
        for sequence in 0..layout.sequences() {
            let id0 = sequence % sets * layout.gen_length;
            let answer = layout.answer_row(sequence);
            embed(plan, (self.answers.ids, id0), layout.gen_length, &self.llada.wte, (&b.x, answer))?;
        }
        for (i, block) in self.llada.blocks.iter().enumerate() {
            let is_last = i + 1 == self.llada.blocks.len();
            let kv = b.keys_values(i);
            if i == 0 {
                for sequence in 0..layout.sequences() {
                    self.record_first_projections(plan, layout.answer_row(sequence), layout.gen_length)?;
                }
            } else {
                rms_norm(plan, &b.x, (0, rows), &block.attn_norm, self.eps(), &b.h)?;
                let heads = if is_last { Heads::KeysValues } else { Heads::All };
                let all = Rows { first: 0, n: rows, list: (&b.all_rows, 0) };
                self.record_heads(plan, block, heads, &b.h, &[all], (&b.q, kv))?;
            }
            if is_last {
                let n = layout.total_candidates();
                gather_rows(plan, &b.x, self.answers.rows, n, &b.candidate_x)?;
                gather_rows(plan, &b.h, self.answers.rows, n, &b.candidate_h)?;
                return self.record_candidates(plan, block, kv);
            }
            let q = if i == 0 { &b.first_q } else { &b.q };
            for sequence in 0..layout.sequences() {
                let (first, n) = layout.span(sequence);
                self.attend(plan, (q, first, n), kv, (first, n), (&b.attn, first))?;
            }
            self.record_rest(plan, block, (&b.attn, &b.x, &b.h), rows)?;
        }
        Ok(())
    }

    /// A forward over the rows of the current block, and with `tail` over that many rows after it, against
    /// kept keys and values of all others -> `buffers.candidate_h`. Fresh keys and values replace the kept
    /// ones of the rows that are fed. `block` matters only with a tail.
    pub fn record_cached(&self, plan: &mut PlanBuilder, block_index: usize, tail: usize) -> Result<()> {
        let (b, layout) = (self.buffers, self.layout);
        let (bl, feed) = (layout.candidates, layout.candidates + tail);
        let rows = layout.sequences() * feed;
        let after = (block_index + 1) * bl;
        for sequence in 0..layout.sequences() {
            let to = sequence * feed;
            let (ids, row_ids) = (self.answers.ids, self.answers.row_ids);
            embed(plan, (row_ids, sequence * bl), bl, &self.llada.wte, (&b.x, to))?;
            embed(plan, (ids, sequence * layout.gen_length + after), tail, &self.llada.wte, (&b.x, to + bl))?;
        }
        let fed = self.fed_rows(feed, after);
        for (i, block) in self.llada.blocks.iter().enumerate() {
            let is_last = i + 1 == self.llada.blocks.len();
            let kv = b.keys_values(i);
            rms_norm(plan, &b.x, (0, rows), &block.attn_norm, self.eps(), &b.h)?;
            let heads = if is_last { Heads::KeysValues } else { Heads::All };
            self.record_heads(plan, block, heads, &b.h, &fed, (&b.q, kv))?;
            if is_last {
                for sequence in 0..layout.sequences() {
                    for (from, to) in [(&b.x, &b.candidate_x), (&b.h, &b.candidate_h)] {
                        copy_rows(plan, (from, sequence * feed), bl, (to, sequence * bl))?;
                    }
                }
                return self.record_candidates(plan, block, kv);
            }
            for sequence in 0..layout.sequences() {
                let from = sequence * feed;
                self.attend(plan, (&b.q, from, feed), kv, layout.span(sequence), (&b.attn, from))?;
            }
            self.record_rest(plan, block, (&b.attn, &b.x, &b.h), rows)?;
        }
        Ok(())
    }

    /// The last block and the final norm for the candidate rows, whose residual stream and normed input are
    /// in `candidate_x` and `candidate_h`.
    fn record_candidates(&self, plan: &mut PlanBuilder, block: &Block, kv: &KeysValues) -> Result<()> {
        let (b, layout) = (self.buffers, self.layout);
        let rows = layout.total_candidates();
        plan.rows_are_candidates(true);
        let all = Rows { first: 0, n: rows, list: (self.answers.rows, 0) };
        self.record_heads(plan, block, Heads::Queries, &b.candidate_h, &[all], (&b.candidate_q, kv))?;
        for sequence in 0..layout.sequences() {
            let first = sequence * layout.candidates;
            let queries = (&b.candidate_q, first, layout.candidates);
            self.attend(plan, queries, kv, layout.span(sequence), (&b.candidate_attn, first))?;
        }
        self.record_rest(plan, block, (&b.candidate_attn, &b.candidate_x, &b.candidate_h), rows)?;
        rms_norm(plan, &b.candidate_x, (0, rows), &self.llada.ln_f, self.eps(), &b.candidate_h)?;
        plan.rows_are_candidates(false);
        Ok(())
    }

    /// `x += attn_out(attn)`, `x += mlp(norm(x))`; `h` is scratch.
    fn record_rest(
        &self,
        plan: &mut PlanBuilder,
        block: &Block,
        (attn, x, h): (&Tensor, &Tensor, &Tensor),
        rows: usize,
    ) -> Result<()> {
        let b = self.buffers;
        matmul(plan, Matmul { accumulate: true, ..Matmul::new(attn, rows, &block.attn_out, x) })?;
        rms_norm(plan, x, (0, rows), &block.ff_norm, self.eps(), h)?;
        for first in (0..rows).step_by(b.mlp_rows) {
            let n = b.mlp_rows.min(rows - first);
            matmul(plan, Matmul { x_row0: first, ..Matmul::new(h, n, &block.gate_up_proj, &b.gate_up) })?;
            silu_gate(plan, &b.gate_up, n, &b.gated)?;
            let down = Matmul::new(&b.gated, n, &block.ff_out, x);
            matmul(plan, Matmul { out_row0: first, accumulate: true, ..down })?;
        }
        Ok(())
    }

    /// Norm, queries, keys and values of layer 0 for a range of rows of `x`.
    fn record_first_projections(&self, plan: &mut PlanBuilder, row0: usize, rows: usize) -> Result<()> {
        let (b, block) = (self.buffers, &self.llada.blocks[0]);
        rms_norm(plan, &b.x, (row0, rows), &block.attn_norm, self.eps(), &b.h)?;
        let range = Rows { first: row0, n: rows, list: (&b.all_rows, row0) };
        self.record_heads(plan, block, Heads::All, &b.h, &[range], (&b.first_q, b.keys_values(0)))
    }

    /// Projections of rows of `h`: queries into the same rows of `q`, keys and values into their rows of the
    /// forward. `rows` follow each other.
    fn record_heads(
        &self,
        plan: &mut PlanBuilder,
        block: &Block,
        heads: Heads,
        h: &Tensor,
        rows: &[Rows<'_>],
        (q, kv): (&Tensor, &KeysValues),
    ) -> Result<()> {
        let (b, config) = (self.buffers, self.config());
        let (n_heads, n_kv_heads) = (config.n_heads, config.n_kv_heads);
        let (first_head, end_head) = heads.range(n_heads, n_kv_heads);
        let columns = (first_head * config.head_dim, end_head * config.head_dim);
        let first = rows.first().map_or(0, |range| range.first);
        let end = rows.last().map_or(0, |range| range.first + range.n);
        for start in (first..end).step_by(b.qkv_rows) {
            let stop = end.min(start + b.qkv_rows);
            let product = Matmul::new(h, stop - start, &block.qkv_proj, &b.qkv);
            matmul(plan, Matmul { x_row0: start, columns, ..product })?;
            for range in rows {
                let from = range.first.max(start);
                let n = stop.min(range.first + range.n).saturating_sub(from);
                let args = RopeQkv {
                    qkv: (&b.qkv, from.saturating_sub(start)),
                    rows: n,
                    heads,
                    n_heads,
                    n_kv_heads,
                    table: &b.rope_table,
                    list: (range.list.0, range.list.1 + (from - range.first)),
                    q: (q, from),
                    k: &kv.k,
                    v: &kv.v,
                };
                if n > 0 {
                    rope_qkv(plan, args)?;
                }
            }
        }
        Ok(())
    }

    /// The rows fed to a cached step: of each sequence the block, then the answer rows from `after` on.
    fn fed_rows(&self, feed: usize, after: usize) -> Vec<Rows<'_>> {
        let (layout, bl) = (self.layout, self.layout.candidates);
        if feed == bl {
            return vec![Rows { first: 0, n: layout.total_candidates(), list: (self.answers.rows, 0) }];
        }
        let of_sequence = |sequence: usize| {
            let at = sequence * feed;
            let tail = (&self.buffers.all_rows, layout.answer_row(sequence) + after);
            [
                Rows { first: at, n: bl, list: (self.answers.rows, sequence * bl) },
                Rows { first: at + bl, n: feed - bl, list: tail },
            ]
        };
        (0..layout.sequences()).flat_map(of_sequence).collect()
    }

    fn attend(
        &self,
        plan: &mut PlanBuilder,
        q: (&Tensor, usize, usize),
        kv: &KeysValues,
        kv_rows: (usize, usize),
        out: (&Tensor, usize),
    ) -> Result<()> {
        let config = self.config();
        attention(
            plan,
            Attention {
                q,
                k: &kv.k,
                v: &kv.v,
                kv_rows,
                n_heads: config.n_heads,
                n_kv_heads: config.n_kv_heads,
                head_dim: config.head_dim,
                out,
            },
        )
    }

    fn config(&self) -> &LladaConfig {
        self.llada.config()
    }

    fn eps(&self) -> f32 {
        self.llada.config().rms_norm_eps as f32
    }
}

/// Rows of activations, and where they are in the forward.
#[derive(Debug, Clone, Copy)]
struct Rows<'a> {
    /// First row of the activations.
    first: usize,
    /// Number of rows.
    n: usize,
    /// Their rows in the forward, from this entry of a list on.
    list: (&'a Tensor, usize),
}
