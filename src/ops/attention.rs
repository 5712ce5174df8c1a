//! Bidirectional attention, self and cross: every query sees every key.

mod variant;

use crate::error::{Error, Result};
use crate::gpu::Tensor;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, PlanBuilder, linear_grid};
use crate::ops::kept::kept_fragment;
use crate::ops::rounding::coop_fragment;
pub use variant::AttentionVariant;

kernel! {
    /// out = softmax(q k^T scale) v per head, one workgroup per query and head, any head size
    ATTENTION_NAIVE = "attention_naive" {
        params: AttentionParams {
            n_q: u32, n_kv: u32, q_row0: u32, kv_row0: u32, out_row0: u32,
            n_heads: u32, n_kv_heads: u32, head_dim: u32, scale: f32,
        },
        bindings: [read q, read k, read v, write out],
        slots: [kept: "kept_f32" | "kept_f16"],
        consts: [],
    }
}

kernel! {
    /// out = softmax(q k^T scale) v per head, fused with an online softmax over blocks of keys
    ATTENTION = "attention" {
        params: AttentionParams,
        bindings: [read q, read k, read v, write out],
        slots: [kept: "kept_f32" | "kept_f16"],
        consts: [HEAD_DIM: 64 | 12 | 16 | 32 | 128, QB: 4 | 1],
    }
}

kernel! {
    /// out = softmax(q k^T scale) v per head, fused, four queries a lane; keys and values pass between lanes by shuffles
    ATTENTION_SHUFFLE = "attention_shuffle" {
        params: AttentionParams,
        bindings: [read q, read k, read v, write out],
        slots: [kept: "kept_f32" | "kept_f16"],
        consts: [HEAD_DIM: 64 | 12 | 16 | 32 | 128],
    }
}

kernel! {
    /// out = softmax(q k^T scale) v per head, fused, tiles of 8 ROWS queries and 32 keys in workgroup memory
    ATTENTION_TILE = "attention_tile" {
        params: AttentionParams,
        bindings: [read q, read k, read v, write out],
        slots: [octets: "octets" | "octets_subgroup", kept: "kept_f32" | "kept_f16"],
        consts: [HEAD_DIM: 64 | 32 | 128, ROWS: 4 | 2],
    }
}

kernel! {
    /// out = softmax(q k^T scale) v per head, in two passes over cooperative matrices of f16 with f32 sums
    ATTENTION_COOP = "attention_coop" {
        params: AttentionParams,
        bindings: [read q, read k, read v, write out],
        slots: [matrices: "coop_8" | "coop_16", kept: "kept_f32" | "kept_f16"],
        consts: [HEAD_DIM: 64 | 128, LANES: 128 | 256],
    }
}

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

/// Appends one attention with the variant that was measured best or built in; scale is `head_dim^-1/2`.
///
/// Errors: operand shapes or types that do not fit, or no keys.
pub fn attention(plan: &mut PlanBuilder, args: Attention<'_>) -> Result<()> {
    let variant = AttentionVariant::choose(plan.gpu(), args.q.2, args.n_heads, args.head_dim);
    attention_with(plan, variant, args)
}

/// Appends one attention with a given variant: one dispatch, or several over rows of queries if one would be
/// longer than a submit may be.
pub fn attention_with(plan: &mut PlanBuilder, variant: AttentionVariant, args: Attention<'_>) -> Result<()> {
    let Attention { n_heads, n_kv_heads, head_dim, .. } = args;
    let ((q, q_row0, n_q), (kv_row0, n_kv), (out, out_row0)) = (args.q, args.kv_rows, args.out);
    q.expect_rows("attention", q_row0 + n_q, n_heads * head_dim)?;
    args.k.expect_rows("attention", kv_row0 + n_kv, n_kv_heads * head_dim)?;
    args.v.expect_rows("attention", kv_row0 + n_kv, n_kv_heads * head_dim)?;
    out.expect_rows("attention", out_row0 + n_q, n_heads * head_dim)?;
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
    };
    let width = n_heads * head_dim;
    let cost = Cost {
        flops: 4 * (n_q * n_kv * width) as u64,
        bytes: (8 * n_q * width + 2 * n_kv * args.k.dtype.row_bytes(n_kv_heads * head_dim)) as u64,
    };
    let bindings = [q, args.k, args.v, out];
    let fused = |fragments: &[&'static str]| Variant::fragments(fragments).with("HEAD_DIM", head_dim as u32);
    let grid = |queries: usize| [n_q.div_ceil(queries) as u32, n_heads as u32, 1];
    match variant {
        AttentionVariant::Naive => {
            let grid = linear_grid(n_q * n_heads);
            plan.dispatch(&ATTENTION_NAIVE, Variant::fragments(&[kept]), params, &bindings, grid, cost)
        }
        AttentionVariant::Fused { qb } => {
            plan.dispatch(&ATTENTION, fused(&[kept]).with("QB", qb), params, &bindings, grid(32), cost)
        }
        AttentionVariant::Shuffle => {
            plan.dispatch(&ATTENTION_SHUFFLE, fused(&[kept]), params, &bindings, grid(32), cost)
        }
        AttentionVariant::Tile { rows, subgroups } => {
            let octets = if subgroups { "octets_subgroup" } else { "octets" };
            let variant = fused(&[octets, kept]).with("ROWS", rows);
            plan.dispatch(&ATTENTION_TILE, variant, params, &bindings, grid(8 * rows as usize), cost)
        }
        AttentionVariant::Coop { edge, lanes } => {
            let variant = fused(&[coop_fragment(edge), kept]).with("LANES", lanes);
            plan.dispatch(&ATTENTION_COOP, variant, params, &bindings, grid(edge as usize), cost)
        }
    }
}
