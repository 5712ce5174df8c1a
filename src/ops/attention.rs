//! Bidirectional attention, self and cross: every query sees every key.

mod kernels;
mod variant;

use crate::error::{Error, Result};
use crate::gpu::Tensor;
use crate::gpu::kernel::Variant;
use crate::gpu::plan::{Cost, PlanBuilder, linear_grid};
use crate::ops::kept::kept_fragment;
use crate::ops::rounding::coop_fragment;
use kernels::AttentionParams;
pub use kernels::{
    ATTENTION, ATTENTION_COOP, ATTENTION_MERGE, ATTENTION_NAIVE, ATTENTION_SHUFFLE, ATTENTION_TILE,
};
pub use variant::{AttentionShape, AttentionVariant};

/// Operands of one attention. Tensors are `[.., heads * head_dim]`, f32; keys and values may both be f16.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Queries, first row, number of rows.
    pub q: (&'a Tensor, usize, usize),
    /// Keys.
    pub k: &'a Tensor,
    /// Values.
    pub v: &'a Tensor,
    /// First row of keys and values, number of rows.
    pub kv_rows: (usize, usize),
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; query head `h` uses key head `h / (n_heads / n_kv_heads)`.
    pub n_kv_heads: usize,
    /// Size of one head.
    pub head_dim: usize,
    /// Result and its first row.
    pub out: (&'a Tensor, usize),
}

impl Attention<'_> {
    /// Its sizes.
    pub fn shape(&self) -> AttentionShape {
        let Attention { n_heads, n_kv_heads, head_dim, .. } = *self;
        AttentionShape { n_q: self.q.2, n_kv: self.kv_rows.1, n_heads, n_kv_heads, head_dim }
    }
}

/// Appends one attention with the variant that was measured best or built in; scale is `head_dim^-1/2`.
///
/// Errors: operand shapes or types that do not fit, or no keys.
pub fn attention(plan: &mut PlanBuilder, args: Attention<'_>) -> Result<()> {
    let variant = AttentionVariant::choose(plan.gpu(), args.shape());
    attention_with(plan, variant, args)
}

/// Appends one attention with a given variant: one dispatch, or several over rows of queries if one would be
/// longer than a submit may be.
pub fn attention_with(plan: &mut PlanBuilder, variant: AttentionVariant, args: Attention<'_>) -> Result<()> {
    let Attention { n_heads, n_kv_heads, head_dim, .. } = args;
    let ((q, q_row0, n_q), (kv_row0, n_kv), (out, out_row0)) = (args.q, args.kv_rows, args.out);
    q.check_rows("attention", q_row0 + n_q, n_heads * head_dim)?;
    args.k.check_rows("attention", kv_row0 + n_kv, n_kv_heads * head_dim)?;
    args.v.check_rows("attention", kv_row0 + n_kv, n_kv_heads * head_dim)?;
    out.check_rows("attention", out_row0 + n_q, n_heads * head_dim)?;
    let refused = |expected: String, got: Vec<usize>| {
        Err(Error::Shape { op: "attention", operand: args.k.name.clone(), expected, got })
    };
    if n_kv == 0 || n_kv_heads == 0 || !n_heads.is_multiple_of(n_kv_heads) {
        let expected = "at least one key, and query heads a multiple of key heads";
        return refused(expected.into(), vec![n_kv, n_heads, n_kv_heads]);
    }
    let kept = kept_fragment("attention", args.k, args.v, head_dim)?;
    let missing = variant.missing(plan.gpu().caps());
    if !missing.is_empty() {
        return Err(Error::Unsupported { missing });
    }
    if !variant.is_possible(plan.gpu().caps(), head_dim) {
        return refused(format!("heads that `{variant}` can work with"), vec![n_heads, head_dim]);
    }
    let flops_per_row = 4 * (n_kv * n_heads * head_dim) as u64;
    let step = plan.rows_per_dispatch(n_q, flops_per_row, variant::QUERIES_PER_GROUP);
    for row in (0..n_q).step_by(step) {
        let rows = step.min(n_q - row);
        let args = Attention { q: (q, q_row0 + row, rows), out: (out, out_row0 + row), ..args };
        dispatch_rows(plan, variant, kept, &args)?;
    }
    Ok(())
}

fn dispatch_rows(
    plan: &mut PlanBuilder,
    variant: AttentionVariant,
    kept: &'static str,
    args: &Attention<'_>,
) -> Result<()> {
    let Attention { n_heads, n_kv_heads, head_dim, .. } = *args;
    let ((q, q_row0, n_q), (kv_row0, n_kv), (out, out_row0)) = (args.q, args.kv_rows, args.out);
    let keys_per_part = variant.keys_per_part(n_kv);
    let params = AttentionParams {
        n_q: n_q as u32,
        n_kv: n_kv as u32,
        q_row0: q_row0 as u32,
        kv_row0: kv_row0 as u32,
        out_row0: out_row0 as u32,
        n_heads: n_heads as u32,
        n_kv_heads: n_kv_heads as u32,
        head_dim: head_dim as u32,
        scale: (head_dim as f32).powf(-0.5),
        keys_per_part: keys_per_part as u32,
    };
    let width = n_heads * head_dim;
    let parts = n_kv.div_ceil(keys_per_part);
    // Of each part, query and head: the sums, then the largest score, the sum of weights and two unused words.
    let words = parts * n_q * n_heads * (head_dim + 4);
    let partials = if parts > 1 { Some(plan.scratch(0, words)?) } else { None };
    let written = if parts > 1 { words } else { n_q * width };
    let cost = Cost {
        flops: 4 * (n_q * n_kv * width) as u64,
        bytes: (4 * (n_q * width + written) + 2 * n_kv * args.k.dtype.row_bytes(n_kv_heads * head_dim))
            as u64,
    };
    let bindings = [q, args.k, args.v, partials.as_ref().unwrap_or(out)];
    let fused = |fragments: &[&'static str]| Variant::fragments(fragments).with("HEAD_DIM", head_dim as u32);
    let grid = [n_q.div_ceil(variant.queries_per_group()) as u32, n_heads as u32, parts as u32];
    match variant {
        AttentionVariant::Naive => {
            let grid = linear_grid(n_q * n_heads);
            plan.dispatch(&ATTENTION_NAIVE, Variant::fragments(&[kept]), params, &bindings, grid, cost)?;
        }
        AttentionVariant::Fused { qb } => {
            plan.dispatch(&ATTENTION, fused(&[kept]).with("QB", qb), params, &bindings, grid, cost)?;
        }
        AttentionVariant::Shuffle => {
            plan.dispatch(&ATTENTION_SHUFFLE, fused(&[kept]), params, &bindings, grid, cost)?;
        }
        AttentionVariant::Tile { rows, subgroups, .. } => {
            let octets = if subgroups { "octets_subgroup" } else { "octets" };
            let variant = fused(&[octets, kept]).with("ROWS", rows);
            plan.dispatch(&ATTENTION_TILE, variant, params, &bindings, grid, cost)?;
        }
        AttentionVariant::Coop { edge, lanes, .. } => {
            let variant = fused(&[coop_fragment(edge), kept]).with("LANES", lanes);
            plan.dispatch(&ATTENTION_COOP, variant, params, &bindings, grid, cost)?;
        }
    }
    if let Some(partials) = &partials {
        let grid = [(width / 4).div_ceil(64) as u32, n_q as u32, 1];
        let cost = Cost { flops: (2 * words) as u64, bytes: 4 * (words + n_q * width) as u64 };
        plan.dispatch(&ATTENTION_MERGE, Variant::default(), params, &[partials, out], grid, cost)?;
    }
    Ok(())
}
