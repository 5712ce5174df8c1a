//! What an adapter can do at best, for [`crate::bench`]: copying and multiplying without any model.

use crate::error::Result;
use crate::gpu::Tensor;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, PlanBuilder, linear_grid};

kernel! {
    /// out[i] = x[i]: the copy peak
    PEAK_COPY = "peak_copy" {
        params: PeakCopyParams { len: u32 },
        bindings: [read x, write out],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// out[i] = sum of 8 chains s = s x[i] + (1 - x[i]), UNROLL n_steps steps long: the multiply peak
    PEAK_MULTIPLY = "peak_multiply" {
        params: PeakMultiplyParams { len: u32, n_steps: u32 },
        bindings: [read x, write out],
        slots: [],
        consts: [UNROLL: 16 | 4 | 32],
    }
}

const LANES: usize = 64;
const CHAINS: u64 = 8;

/// Copies `x` to `out`, two tensors of the same number of whole vec4s.
pub fn peak_copy(plan: &mut PlanBuilder, x: &Tensor, out: &Tensor) -> Result<()> {
    let len = x.byte_len() as usize / 16;
    out.check_len("peak_copy", x.len())?;
    let cost = Cost { flops: 0, bytes: 2 * x.byte_len() };
    let params = PeakCopyParams { len: len as u32 };
    plan.dispatch(&PEAK_COPY, Variant::default(), params, &[x, out], linear_grid(len.div_ceil(LANES)), cost)
}

/// Runs the chains for every element of `x` `[len]` -> `out` `[len]`, `unroll` steps to a turn of the loop.
pub fn peak_multiply(
    plan: &mut PlanBuilder,
    x: &Tensor,
    (n_steps, unroll): (usize, u32),
    out: &Tensor,
) -> Result<()> {
    let len = x.len();
    out.check_len("peak_multiply", len)?;
    let steps = (n_steps * unroll as usize * len) as u64;
    let cost = Cost { flops: 2 * CHAINS * steps, bytes: 8 * len as u64 };
    let params = PeakMultiplyParams { len: len as u32, n_steps: n_steps as u32 };
    let variant = Variant::default().with("UNROLL", unroll);
    plan.dispatch(&PEAK_MULTIPLY, variant, params, &[x, out], linear_grid(len.div_ceil(LANES)), cost)
}
