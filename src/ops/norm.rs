//! LayerNorm (Whisper, adapters) and RMSNorm (LLaDA).

use crate::error::Result;
use crate::gpu::Tensor;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::needs::Need;
use crate::gpu::plan::{Cost, PlanBuilder, linear_grid};

kernel! {
    /// out[r, c] = (x[r, c] - mean) / sqrt(var + eps) * weight[c] + bias[c]
    LAYER_NORM = "layer_norm" {
        params: LayerNormParams { n_rows: u32, n_cols: u32, x_row0: u32, out_row0: u32, eps: f32 },
        bindings: [read x, read weight, read bias, write out],
        slots: [sums: "reduce" | "reduce_subgroup"],
        consts: [WG: 64 | 256 | 8],
    }
}

kernel! {
    /// out[r, c] = x[r, c] / sqrt(mean_c(x[r, c]^2) + eps) * weight[c]
    RMS_NORM = "rms_norm" {
        params: RmsNormParams { n_rows: u32, n_cols: u32, row0: u32, eps: f32 },
        bindings: [read x, read weight, write out],
        slots: [sums: "reduce" | "reduce_subgroup"],
        consts: [WG: 64 | 256 | 8],
    }
}

/// Scale and shift of a LayerNorm, each `[n_cols]` f32.
#[derive(Debug, Clone)]
pub struct LayerNormWeights {
    /// Scale.
    pub weight: Tensor,
    /// Shift.
    pub bias: Tensor,
    /// Added to the variance.
    pub eps: f32,
}

/// `out[out_row0 ..][..rows] = LayerNorm(x[x_row0 ..][..rows])`, f32 `[.., n_cols]`.
pub fn layer_norm(
    plan: &mut PlanBuilder,
    (x, x_row0): (&Tensor, usize),
    rows: usize,
    norm: &LayerNormWeights,
    (out, out_row0): (&Tensor, usize),
) -> Result<()> {
    let n_cols = norm.weight.len();
    x.check_rows("layer_norm", x_row0 + rows, n_cols)?;
    out.check_rows("layer_norm", out_row0 + rows, n_cols)?;
    norm.bias.check_shape("layer_norm", &[n_cols])?;
    let params = LayerNormParams {
        n_rows: rows as u32,
        n_cols: n_cols as u32,
        x_row0: x_row0 as u32,
        out_row0: out_row0 as u32,
        eps: norm.eps,
    };
    let cost = Cost { flops: 8 * (rows * n_cols) as u64, bytes: 8 * (rows * n_cols) as u64 };
    let variant = variant(plan);
    let bindings = [x, &norm.weight, &norm.bias, out];
    plan.dispatch(&LAYER_NORM, variant, params, &bindings, linear_grid(rows), cost)
}

/// `out[row0 ..][..rows] = RMSNorm(x[row0 ..][..rows])`, f32 `[.., n_cols]`, weight `[n_cols]`.
pub fn rms_norm(
    plan: &mut PlanBuilder,
    x: &Tensor,
    (row0, rows): (usize, usize),
    weight: &Tensor,
    eps: f32,
    out: &Tensor,
) -> Result<()> {
    let n_cols = weight.len();
    x.check_rows("rms_norm", row0 + rows, n_cols)?;
    out.check_rows("rms_norm", row0 + rows, n_cols)?;
    let params = RmsNormParams { n_rows: rows as u32, n_cols: n_cols as u32, row0: row0 as u32, eps };
    let cost = Cost { flops: 4 * (rows * n_cols) as u64, bytes: 8 * (rows * n_cols) as u64 };
    let variant = variant(plan);
    plan.dispatch(&RMS_NORM, variant, params, &[x, weight, out], linear_grid(rows), cost)
}

/// More than one vector of lanes per row, and exchange inside subgroups, pay where lanes are plenty.
fn variant(plan: &PlanBuilder) -> Variant {
    let caps = plan.gpu().caps();
    let (sums, lanes) = match (caps.is_software(), Need::Subgroup.is_met(caps)) {
        (true, _) => ("reduce", 8),
        (false, false) => ("reduce", 256),
        (false, true) => ("reduce_subgroup", 256),
    };
    Variant::fragments(&[sums]).with("WG", lanes)
}
