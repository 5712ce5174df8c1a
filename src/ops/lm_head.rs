//! The output matrix fused with argmax and confidence: logits never exist in memory.

mod variant;

use crate::error::{Error, Result};
use crate::gpu::kernel::{Kernel, Variant, kernel};
use crate::gpu::plan::{Cost, Grid, PlanBuilder};
use crate::gpu::{DType, Gpu, Matrix, Tensor};
use crate::ops::matmul::{direct_block, weights_fragment};
pub use variant::LmHeadVariant;

kernel! {
    /// logits[r, id] = sum_k h[r, k] w[id, k], reduced per group of ids to (best score, id, logit, second score) and (max, sum of exp)
    LM_HEAD = "lm_head" {
        params: LmHeadParams {
            n_rows: u32, k: u32, vocab: u32, slab_rows: u32, first_id: u32, first_group: u32, n_groups: u32,
            group0: u32, block_length: u32, seed: u32, temperature: f32,
        },
        bindings: [read h, read w, read state, read rows, read id_rules, read noise, write partials],
        slots: [
            weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4",
            noise: "noise_none" | "noise_gumbel" | "noise_given",
        ],
        consts: [MR: 8, NR: 4 | 8],
        also: [[MR: 16, NR: 8, BARRIER: 1], [MR: 32, NR: 4, BARRIER: 1]],
    }
}

kernel! {
    /// as lm_head: 8 GROUPS rows x 4 ids per lane, rows passed between lanes by shuffles
    LM_HEAD_SHUFFLE = "lm_head_shuffle" {
        params: LmHeadParams,
        bindings: [read h, read w, read state, read rows, read id_rules, read noise, write partials],
        slots: [
            weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4",
            noise: "noise_none" | "noise_gumbel" | "noise_given",
        ],
        consts: [GROUPS: 4 | 2 | 1],
    }
}

kernel! {
    /// as lm_head: 32 rows x 64 ids per workgroup, tiles staged in workgroup memory
    LM_HEAD_TILE = "lm_head_tile" {
        params: LmHeadParams,
        bindings: [read h, read w, read state, read rows, read id_rules, read noise, write partials],
        slots: [
            weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4",
            noise: "noise_none" | "noise_gumbel" | "noise_given",
        ],
        consts: [],
    }
}

kernel! {
    /// predictions[r] = (argmax id, softmax probability of that id, gap to the second best), from the partial results in order
    LM_HEAD_MERGE = "lm_head_merge" {
        params: LmHeadMergeParams { n_groups: u32 },
        bindings: [read partials, read id_rules, write predictions],
        slots: [],
        consts: [],
    }
}

/// Words of one partial result.
const PARTIAL_WORDS: usize = 8;

/// How ids are drawn from the logits.
#[derive(Debug, Clone, Copy)]
pub enum Noise<'a> {
    /// Temperature 0: the largest logit.
    None,
    /// Gumbel noise of this temperature, from the counter-based generator of `shaders/lib/random.wgsl`.
    Gumbel {
        /// Temperature, above 0.
        temperature: f32,
        /// Seed of the run.
        seed: u32,
    },
    /// Given Gumbel variates `[n_rows, vocab]`; for checks against stored noise.
    Given {
        /// Temperature, above 0.
        temperature: f32,
        /// `-ln(-ln u)` per row and id.
        gumbel: &'a Tensor,
    },
}

/// Ids treated specially (`ban_ids`, `low_conf_ids`; docs/MODEL.md 6.6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdRules {
    /// Never predicted: their logits count as minus infinity.
    pub banned: Vec<u32>,
    /// Predicted, but with confidence 0; left out of the softmax.
    pub low_confidence: Vec<u32>,
}

impl IdRules {
    /// The list as the kernels read it.
    pub(crate) fn upload(&self, gpu: &Gpu) -> Result<Tensor> {
        let mut words = vec![self.banned.len() as u32, self.low_confidence.len() as u32];
        words.extend(&self.banned);
        words.extend(&self.low_confidence);
        gpu.tensor_from("lm_head.id_rules", DType::U32, &[words.len()], &words)
    }
}

/// Buffers of the head for a number of candidate rows, and the kernel that they are for.
#[derive(Debug, Clone)]
pub struct LmHeadBuffers {
    variant: LmHeadVariant,
    partials: Tensor,
    n_groups: usize,
    /// `[n_rows, 4]`: id, confidence bits, bits of the gap between the two best logits, 0.
    pub predictions: Tensor,
}

impl LmHeadBuffers {
    /// Buffers for `n_rows` candidate rows over `weight` `[vocab, k]`, for the variant that was measured best or
    /// built in.
    ///
    /// Errors: device errors.
    pub fn new(gpu: &Gpu, n_rows: usize, weight: &Matrix) -> Result<LmHeadBuffers> {
        let variant = LmHeadVariant::choose(gpu, weight.dtype, n_rows, weight.rows, weight.cols);
        LmHeadBuffers::with(gpu, variant, n_rows, weight)
    }

    /// The same where, behind a gate, only those of the rows count that are still masked.
    ///
    /// Errors: device errors.
    pub(crate) fn for_candidates(gpu: &Gpu, n_rows: usize, weight: &Matrix) -> Result<LmHeadBuffers> {
        let usual = gpu.caps().usual_candidates(n_rows);
        let variant = LmHeadVariant::choose(gpu, weight.dtype, usual, weight.rows, weight.cols);
        LmHeadBuffers::with(gpu, variant, n_rows, weight)
    }

    /// The same for a given variant.
    ///
    /// Errors: a variant that the device does not allow, device errors.
    pub fn with(gpu: &Gpu, variant: LmHeadVariant, n_rows: usize, weight: &Matrix) -> Result<LmHeadBuffers> {
        let missing = variant.missing(gpu.caps());
        if !missing.is_empty() {
            return Err(Error::Unsupported { missing });
        }
        let groups = |rows: usize| rows.div_ceil(variant.ids_per_group());
        let n_groups = weight.slabs.iter().map(|s| groups(s.tensor.shape[0])).sum();
        Ok(LmHeadBuffers {
            variant,
            partials: gpu.tensor("lm_head.partials", DType::U32, &[n_rows, n_groups, PARTIAL_WORDS])?,
            n_groups,
            predictions: gpu.tensor("lm_head.predictions", DType::U32, &[n_rows, 4])?,
        })
    }
}

/// Operands of the head.
#[derive(Debug, Clone, Copy)]
pub struct LmHead<'a> {
    /// Final hidden states of the candidate rows `[.., k]`.
    pub hidden: &'a Tensor,
    /// Number of candidate rows.
    pub n_rows: usize,
    /// Output matrix `[vocab, k]`.
    pub weight: &'a Matrix,
    /// State of the selection kernel.
    pub state: &'a Tensor,
    /// Rows of the candidates in the forward.
    pub rows: &'a Tensor,
    /// Uploaded [`IdRules`].
    pub id_rules: &'a Tensor,
    /// Candidate rows per sequence.
    pub block_length: usize,
    /// How ids are drawn.
    pub noise: Noise<'a>,
}

/// Groups of ids that a dispatch covers at least.
const LEAST_GROUPS: usize = 2;

/// Appends the head: a dispatch per slab, or several where one would be long, then the merge into `buffers.predictions`.
pub fn lm_head(plan: &mut PlanBuilder, args: LmHead<'_>, buffers: &LmHeadBuffers) -> Result<()> {
    let LmHead { hidden, n_rows, weight, .. } = args;
    hidden.check_rows("lm_head", n_rows, weight.cols)?;
    args.rows.check_len("lm_head", n_rows)?;
    buffers.predictions.check_shape("lm_head", &[n_rows, 4])?;
    let unused = plan.unused()?;
    let (fragment, temperature, seed, noise) = match args.noise {
        Noise::None => ("noise_none", 0.0, 0, &unused),
        Noise::Gumbel { temperature, seed } => ("noise_gumbel", temperature, seed, &unused),
        Noise::Given { temperature, gumbel } => {
            gumbel.check_shape("lm_head", &[n_rows, weight.rows])?;
            ("noise_given", temperature, 0, gumbel)
        }
    };
    let fragments = Variant::fragments(&[weights_fragment(weight.dtype), fragment]);
    let (kernel, chosen): (&'static Kernel, Variant) = match buffers.variant {
        LmHeadVariant::Direct { mr, nr } => (&LM_HEAD, direct_block(fragments, mr, nr)),
        LmHeadVariant::Shuffle { groups } => (&LM_HEAD_SHUFFLE, fragments.with("GROUPS", groups)),
        LmHeadVariant::Tile => (&LM_HEAD_TILE, fragments),
    };
    let mut first_group = 0;
    for slab in &weight.slabs {
        let [slab_rows, k] = slab.tensor.dims("lm_head")?;
        let params = LmHeadParams {
            n_rows: n_rows as u32,
            k: k as u32,
            vocab: weight.rows as u32,
            slab_rows: slab_rows as u32,
            first_id: slab.first_row as u32,
            first_group: first_group as u32,
            n_groups: buffers.n_groups as u32,
            group0: 0,
            block_length: args.block_length as u32,
            seed,
            temperature,
        };
        let ids = buffers.variant.ids_per_group();
        let slab_groups = slab_rows.div_ceil(ids);
        let flops_per_group = 2 * (n_rows * ids * k) as u64;
        let step = plan.columns_per_dispatch(slab_groups, flops_per_group, LEAST_GROUPS);
        let bindings = [hidden, &slab.tensor, args.state, args.rows, args.id_rules, noise, &buffers.partials];
        for group0 in (0..slab_groups).step_by(step) {
            let groups = step.min(slab_groups - group0);
            let n_ids = (groups * ids).min(slab_rows - group0 * ids);
            let cost = Cost {
                flops: 2 * (n_rows * n_ids * k) as u64,
                bytes: weight.dtype.bytes(&[n_ids, k]) as u64,
            };
            let params = LmHeadParams { group0: group0 as u32, ..params };
            let grid = Grid::over_rows(groups, n_rows, buffers.variant.rows_per_group());
            plan.dispatch(kernel, chosen.clone(), params, &bindings, grid, cost)?;
        }
        first_group += slab_groups;
    }
    let params = LmHeadMergeParams { n_groups: buffers.n_groups as u32 };
    let bindings = [&buffers.partials, args.id_rules, &buffers.predictions];
    let cost = Cost { flops: 0, bytes: buffers.partials.byte_len() };
    plan.dispatch(&LM_HEAD_MERGE, Variant::default(), params, &bindings, [n_rows as u32, 1, 1], cost)
}
