//! Kernels that touch each element once: copies, gathers, the SiLU gate, the Q-Former mix, guidance.

use crate::error::Result;
use crate::gpu::Tensor;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, PlanBuilder, linear_grid, row_grid};

kernel! {
    /// out[r, c] = silu(gate_up[r, c]) * gate_up[r, n_cols + c]
    SILU_GATE = "silu_gate" {
        params: SiluGateParams { n_rows: u32, n_cols: u32 },
        bindings: [read gate_up, write out],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// out[out_row0 + r, c] = x[x_row0 + r, c]
    COPY_ROWS = "copy_rows" {
        params: CopyRowsParams { n_rows: u32, n_cols: u32, x_row0: u32, out_row0: u32 },
        bindings: [read x, write out],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// out[r, c] = x[rows[r], c]
    GATHER_ROWS = "gather_rows" {
        params: GatherRowsParams { n_rows: u32, n_cols: u32 },
        bindings: [read x, read rows, write out],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// out[p, c] = sum_t softmax_t(layer_weights[p, t]) * y[t, p, c]
    QFORMER_MIX = "qformer_mix" {
        params: QformerMixParams { n_targets: u32, n_prompts: u32, n_cols: u32 },
        bindings: [read y, read layer_weights, write out],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// h[r, c] = u[r, c] + (scale + 1) (h[r, c] - u[r, c]), u the second half of h
    GUIDANCE = "guidance" {
        params: GuidanceParams { n_rows: u32, n_cols: u32, scale: f32 },
        bindings: [write h],
        slots: [],
        consts: [],
    }
}

fn moved(elements: usize, flops: usize) -> Cost {
    Cost { flops: (elements * flops) as u64, bytes: 8 * elements as u64 }
}

/// `out[..rows] = silu(gate) * up` of a fused projection `[.., 2 n_cols]` f32, gate in the first half of a row.
pub fn silu_gate(plan: &mut PlanBuilder, gate_up: &Tensor, rows: usize, out: &Tensor) -> Result<()> {
    let [_, n_cols] = out.dims("silu_gate")?;
    out.check_rows("silu_gate", rows, n_cols)?;
    gate_up.check_rows("silu_gate", rows, 2 * n_cols)?;
    let params = SiluGateParams { n_rows: rows as u32, n_cols: n_cols as u32 };
    let len = rows * n_cols;
    let cost = Cost { flops: 5 * len as u64, bytes: 12 * len as u64 };
    let grid = row_grid(n_cols.div_ceil(64), rows);
    plan.dispatch(&SILU_GATE, Variant::default(), params, &[gate_up, out], grid, cost)
}

/// Copies `rows` rows of f32 `[.., n_cols]`.
pub fn copy_rows(
    plan: &mut PlanBuilder,
    (x, x_row0): (&Tensor, usize),
    rows: usize,
    (out, out_row0): (&Tensor, usize),
) -> Result<()> {
    let [_, n_cols] = x.dims("copy_rows")?;
    x.check_rows("copy_rows", x_row0 + rows, n_cols)?;
    out.check_rows("copy_rows", out_row0 + rows, n_cols)?;
    let params = CopyRowsParams {
        n_rows: rows as u32,
        n_cols: n_cols as u32,
        x_row0: x_row0 as u32,
        out_row0: out_row0 as u32,
    };
    let len = rows * n_cols;
    let grid = linear_grid(len.div_ceil(64));
    plan.dispatch(&COPY_ROWS, Variant::default(), params, &[x, out], grid, moved(len, 0))
}

/// `out[r] = x[rows[r]]` for the first `n_rows` entries of the u32 list `rows`.
pub fn gather_rows(
    plan: &mut PlanBuilder,
    x: &Tensor,
    rows: &Tensor,
    n_rows: usize,
    out: &Tensor,
) -> Result<()> {
    let [_, n_cols] = x.dims("gather_rows")?;
    rows.check_len("gather_rows", n_rows)?;
    out.check_rows("gather_rows", n_rows, n_cols)?;
    let params = GatherRowsParams { n_rows: n_rows as u32, n_cols: n_cols as u32 };
    let len = n_rows * n_cols;
    let grid = linear_grid(len.div_ceil(64));
    plan.dispatch(&GATHER_ROWS, Variant::default(), params, &[x, rows, out], grid, moved(len, 0))
}

/// `y` `[n_targets * n_prompts, n_cols]`, `layer_weights` `[n_prompts, n_targets]` -> `out` `[n_prompts, n_cols]`.
pub fn qformer_mix(plan: &mut PlanBuilder, y: &Tensor, layer_weights: &Tensor, out: &Tensor) -> Result<()> {
    let [n_prompts, n_targets] = layer_weights.dims("qformer_mix")?;
    let [_, n_cols] = y.dims("qformer_mix")?;
    y.check_shape("qformer_mix", &[n_targets * n_prompts, n_cols])?;
    out.check_shape("qformer_mix", &[n_prompts, n_cols])?;
    let params =
        QformerMixParams { n_targets: n_targets as u32, n_prompts: n_prompts as u32, n_cols: n_cols as u32 };
    let len = n_prompts * n_cols;
    let grid = linear_grid(len.div_ceil(64));
    plan.dispatch(
        &QFORMER_MIX,
        Variant::default(),
        params,
        &[y, layer_weights, out],
        grid,
        moved(len, 4 * n_targets),
    )
}

/// Combines the conditional rows `h[..n_rows]` with the unconditional rows `h[n_rows .. 2 n_rows]`.
pub fn guidance(plan: &mut PlanBuilder, h: &Tensor, n_rows: usize, scale: f32) -> Result<()> {
    let [_, n_cols] = h.dims("guidance")?;
    h.check_rows("guidance", 2 * n_rows, n_cols)?;
    let params = GuidanceParams { n_rows: n_rows as u32, n_cols: n_cols as u32, scale };
    let len = n_rows * n_cols;
    plan.dispatch(&GUIDANCE, Variant::default(), params, &[h], linear_grid(len.div_ceil(64)), moved(len, 3))
}
