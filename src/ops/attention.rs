//! Bidirectional attention, self and cross: every query sees every key.

use crate::error::{Error, Result};
use crate::gpu::Tensor;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, PlanBuilder, linear_grid};

kernel! {
    /// out = softmax(q k^T scale) v per head, in two passes, one lane per query and head, any head size
    ATTENTION_NAIVE = "attention_naive" {
        params: AttentionParams {
            n_q: u32, n_kv: u32, q_row0: u32, kv_row0: u32, out_row0: u32,
            n_heads: u32, n_kv_heads: u32, head_dim: u32, scale: f32,
        },
        bindings: [read q, read k, read v, write out],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// out = softmax(q k^T scale) v per head, fused with an online softmax over blocks of keys
    ATTENTION = "attention" {
        params: AttentionParams,
        bindings: [read q, read k, read v, write out],
        slots: [],
        consts: [HEAD_DIM: 64 | 12 | 16 | 32 | 128, QB: 4 | 1],
    }
}

/// Largest head size of the fused kernel: its accumulators must fit 16 KiB of workgroup memory.
const MAX_HEAD_DIM: usize = 128;

/// Queries of one workgroup of the fused kernel.
const QUERIES_PER_GROUP: usize = 32;

/// Operands of one attention. All tensors are f32 `[.., heads * head_dim]`.
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

/// Which kernel computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionVariant {
    /// Two passes, any head size.
    Naive,
    /// Online softmax with `qb` of a workgroup's 32 queries per lane.
    Fused {
        /// Queries per lane.
        qb: u32,
    },
}

impl AttentionVariant {
    /// The built-in choice.
    pub fn default_for(is_software: bool, head_dim: usize) -> AttentionVariant {
        if !head_dim.is_multiple_of(4) || head_dim > MAX_HEAD_DIM {
            AttentionVariant::Naive
        } else if is_software {
            AttentionVariant::Fused { qb: 4 }
        } else {
            AttentionVariant::Fused { qb: 1 }
        }
    }
}

/// Appends one attention with the built-in variant; scale is `head_dim^-1/2`.
///
/// Errors: operand shapes that do not fit, or no keys.
pub fn attention(plan: &mut PlanBuilder, args: Attention<'_>) -> Result<()> {
    let variant = AttentionVariant::default_for(plan.gpu().caps().is_software(), args.head_dim);
    attention_with(plan, variant, args)
}

/// Appends one attention with a given variant.
pub fn attention_with(plan: &mut PlanBuilder, variant: AttentionVariant, args: Attention<'_>) -> Result<()> {
    let Attention { n_heads, n_kv_heads, head_dim, .. } = args;
    let ((q, q_row0, n_q), (kv_row0, n_kv), (out, out_row0)) = (args.q, args.kv_rows, args.out);
    q.expect_rows("attention", q_row0 + n_q, n_heads * head_dim)?;
    args.k.expect_rows("attention", kv_row0 + n_kv, n_kv_heads * head_dim)?;
    args.v.expect_rows("attention", kv_row0 + n_kv, n_kv_heads * head_dim)?;
    out.expect_rows("attention", out_row0 + n_q, n_heads * head_dim)?;
    if n_kv == 0 || !n_heads.is_multiple_of(n_kv_heads) {
        return Err(Error::Shape {
            op: "attention",
            operand: args.k.name.clone(),
            expected: "at least one key, and query heads a multiple of key heads".into(),
            got: vec![n_kv, n_heads, n_kv_heads],
        });
    }
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
        bytes: 8 * (n_q * width + n_kv * n_kv_heads * head_dim) as u64,
    };
    let bindings = [q, args.k, args.v, out];
    match variant {
        AttentionVariant::Naive => {
            let grid = linear_grid((n_q * n_heads).div_ceil(64));
            plan.dispatch(&ATTENTION_NAIVE, Variant::default(), params, &bindings, grid, cost)
        }
        AttentionVariant::Fused { qb } => {
            let variant = Variant::default().with("HEAD_DIM", head_dim as u32).with("QB", qb);
            let grid = [n_q.div_ceil(QUERIES_PER_GROUP) as u32, n_heads as u32, 1];
            plan.dispatch(&ATTENTION, variant, params, &bindings, grid, cost)
        }
    }
}
