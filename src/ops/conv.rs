//! 1-D convolution as a patch layout followed by a matrix product.

use crate::error::{Error, Result};
use crate::gpu::Tensor;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, PlanBuilder, linear_grid};
use crate::gpu::{DType, Matrix};
use crate::ops::matmul::{Activation, Matmul, matmul};

kernel! {
    /// out[t, c * kernel + j] = x[t * stride + j - pad, c], zero outside
    CONV1D_PATCHES = "conv1d_patches" {
        params: Conv1dPatchesParams {
            t_in: u32, t_out: u32, channels: u32, kernel: u32, stride: u32, pad: u32, x_row0: u32,
        },
        bindings: [read x, write out],
        slots: [],
        consts: [],
    }
}

/// A convolution: weight `[out_channels, channels * kernel]` (the stored `[out, in, kernel]`, flattened), bias `[out_channels]`.
#[derive(Debug, Clone)]
pub struct Conv1d {
    /// Flattened weight.
    pub weight: Matrix,
    /// Bias.
    pub bias: Tensor,
    /// Window length.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros on either side.
    pub pad: usize,
}

impl Conv1d {
    /// Output length for `t_in` input rows.
    pub fn out_len(&self, t_in: usize) -> usize {
        (t_in + 2 * self.pad).saturating_sub(self.kernel) / self.stride + 1
    }
}

/// Lays out the windows of `x[x_row0 ..][..t_in]`, `[.., channels]` time-major, as `out` `[t_out, channels * kernel]`.
pub fn conv1d_patches(
    plan: &mut PlanBuilder,
    (x, x_row0): (&Tensor, usize),
    t_in: usize,
    (kernel, stride, pad): (usize, usize, usize),
    out: &Tensor,
) -> Result<()> {
    let [_, channels] = x.dims("conv1d_patches")?;
    let [t_out, width] = out.dims("conv1d_patches")?;
    x.check_rows("conv1d_patches", x_row0 + t_in, channels)?;
    if width != channels * kernel {
        return Err(Error::Shape {
            op: "conv1d_patches",
            operand: out.name.clone(),
            expected: format!("[t_out, {}]", channels * kernel),
            got: out.shape.clone(),
        });
    }
    let params = Conv1dPatchesParams {
        t_in: t_in as u32,
        t_out: t_out as u32,
        channels: channels as u32,
        kernel: kernel as u32,
        stride: stride as u32,
        pad: pad as u32,
        x_row0: x_row0 as u32,
    };
    let len = t_out * width;
    let cost = Cost { flops: 0, bytes: 4 * (len + t_in * channels) as u64 };
    let grid = linear_grid(len.div_ceil(64));
    plan.dispatch(&CONV1D_PATCHES, Variant::default(), params, &[x, out], grid, cost)
}

/// `out[..t_out] = act(conv(x[..t_in]) + bias) (+ out)`, time-major `[t, channels]` f32. Returns `t_out`.
///
pub fn conv1d(
    plan: &mut PlanBuilder,
    x: &Tensor,
    t_in: usize,
    conv: &Conv1d,
    activation: Activation,
    accumulate: bool,
    out: &Tensor,
) -> Result<usize> {
    let t_out = conv.out_len(t_in);
    let width = conv.weight.cols;
    let patches = plan.gpu().tensor("conv1d.patches", DType::F32, &[t_out, width])?;
    conv1d_patches(plan, (x, 0), t_in, (conv.kernel, conv.stride, conv.pad), &patches)?;
    let product = Matmul {
        bias: Some(&conv.bias),
        activation,
        accumulate,
        ..Matmul::new(&patches, t_out, &conv.weight, out)
    };
    matmul(plan, product)?;
    Ok(t_out)
}
