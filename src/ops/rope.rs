//! Rotary position embedding, on the way from a fused projection to queries, keys and values.

use crate::error::Result;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, PlanBuilder, row_grid};
use crate::gpu::{DType, Gpu, Tensor};
use crate::ops::kept::kept_fragment;

kernel! {
    /// q, k[rows], v[rows] = heads of qkv; of q and k x'[i] = x[i] cos - x[i + half] sin, x'[i + half] = x[i + half] cos + x[i] sin
    ROPE_QKV = "rope_qkv" {
        params: RopeQkvParams {
            n_rows: u32, n_heads: u32, n_kv_heads: u32, half: u32, first_head: u32,
            x_row0: u32, q_row0: u32, list0: u32, rows_per_sequence: u32,
        },
        bindings: [read qkv, read table, read rows, write q, write k, write v],
        slots: [kept: "kept_f32" | "kept_f16"],
        consts: [WG: 8 | 64],
    }
}

/// The (cos, sin) table `[max_positions, head_dim / 2, 2]` f32. Angles are formed in f32 as the reference
/// does (`position * (1 / theta^(2i / head_dim))`), their cosines and sines in f64.
pub fn rope_table(gpu: &Gpu, max_positions: usize, head_dim: usize, theta: f32) -> Result<Tensor> {
    let half = head_dim / 2;
    let mut table: Vec<[f32; 2]> = Vec::with_capacity(max_positions * half);
    for position in 0..max_positions {
        for i in 0..half {
            let inverse = 1.0 / theta.powf((2 * i) as f32 / head_dim as f32);
            let angle = f64::from(position as f32 * inverse);
            table.push([angle.cos() as f32, angle.sin() as f32]);
        }
    }
    gpu.tensor_from("rope.table", DType::F32, &[max_positions, half, 2], &table)
}

/// Which heads of a fused projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// Queries, keys and values.
    All,
    /// Queries only.
    Queries,
    /// Keys and values only.
    KeysValues,
}

impl Heads {
    /// The first of them and the one behind the last, in a row of queries, keys and values.
    pub fn range(self, n_heads: usize, n_kv_heads: usize) -> (usize, usize) {
        let end = n_heads + 2 * n_kv_heads;
        match self {
            Heads::All => (0, end),
            Heads::Queries => (0, n_heads),
            Heads::KeysValues => (n_heads, end),
        }
    }
}

/// Operands of [`rope_qkv`].
#[derive(Debug, Clone, Copy)]
pub struct RopeQkv<'a> {
    /// Fused projection `[.., (n_heads + 2 n_kv_heads) * head_dim]` f32 and its first row.
    pub qkv: (&'a Tensor, usize),
    /// Number of rows.
    pub rows: usize,
    /// Which heads are taken; the results of others are left alone.
    pub heads: Heads,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// The table of [`rope_table`]; its rows are those of one sequence.
    pub table: &'a Tensor,
    /// Rows in the forward, u32, and the entry of the first of them. Modulo the rows of the table they are
    /// positions; keys and values go to these rows, which must be distinct.
    pub list: (&'a Tensor, usize),
    /// Queries `[.., n_heads * head_dim]` and their first row.
    pub q: (&'a Tensor, usize),
    /// Keys of the forward `[.., n_kv_heads * head_dim]`, f32 or f16.
    pub k: &'a Tensor,
    /// Values of the forward, as the keys.
    pub v: &'a Tensor,
}

/// Takes queries, keys and values of a fused projection apart and rotates queries and keys.
///
/// Errors: operand shapes or types that do not fit.
pub fn rope_qkv(plan: &mut PlanBuilder, args: RopeQkv<'_>) -> Result<()> {
    // A vector of lanes is enough for software adapters; others have no smaller unit than 32 or 64.
    let lanes = if plan.gpu().caps().is_software() { 8 } else { 64 };
    rope_qkv_with(plan, lanes, args)
}

/// The same with so many lanes for each row and head.
pub(crate) fn rope_qkv_with(plan: &mut PlanBuilder, lanes: u32, args: RopeQkv<'_>) -> Result<()> {
    let RopeQkv { rows, n_heads, n_kv_heads, table, .. } = args;
    let [rows_per_sequence, half, _] = table.dims::<3>("rope_qkv")?;
    let head_dim = 2 * half;
    args.qkv.0.check_rows("rope_qkv", args.qkv.1 + rows, (n_heads + 2 * n_kv_heads) * head_dim)?;
    args.list.0.check_len("rope_qkv", args.list.1 + rows)?;
    let (first, end) = args.heads.range(n_heads, n_kv_heads);
    let q_rows = if first < n_heads { args.q.1 + rows } else { 0 };
    args.q.0.check_rows("rope_qkv", q_rows, n_heads * head_dim)?;
    for kept in [args.k, args.v] {
        kept.check_rows("rope_qkv", 0, n_kv_heads * head_dim)?;
    }
    let kept = kept_fragment("rope_qkv", args.k, args.v, head_dim)?;
    let params = RopeQkvParams {
        n_rows: rows as u32,
        n_heads: n_heads as u32,
        n_kv_heads: n_kv_heads as u32,
        half: half as u32,
        first_head: first as u32,
        x_row0: args.qkv.1 as u32,
        q_row0: args.q.1 as u32,
        list0: args.list.1 as u32,
        rows_per_sequence: rows_per_sequence as u32,
    };
    let elements = |heads: usize| rows * heads * head_dim;
    let queries = n_heads.saturating_sub(first).min(end - first);
    let written = 4 * elements(queries) + args.k.dtype.row_bytes(elements(end - first - queries));
    let cost =
        Cost { flops: 3 * elements(end - first) as u64, bytes: (4 * elements(end - first) + written) as u64 };
    let variant = Variant::fragments(&[kept]).with("WG", lanes);
    let grid = row_grid(end - first, rows);
    let bindings = [args.qkv.0, table, args.list.0, args.q.0, args.k, args.v];
    plan.dispatch(&ROPE_QKV, variant, params, &bindings, grid, cost)
}
