//! Matrix products with stored weights: `out = act(x W^T + bias) (+ out)`.

use std::fmt;

use crate::error::{Error, Result};
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, Grid, PlanBuilder, linear_grid};
use crate::gpu::{DType, Gpu, Matrix, Slab, Tensor};
use crate::quant::QuantFormat;

kernel! {
    /// out = act(x W^T + bias) (+ out): one lane per output, any inner length
    MATMUL_NAIVE = "matmul_naive" {
        params: MatmulParams {
            m: u32, n: u32, k: u32, slab_cols: u32, col0: u32, x_row0: u32, out_row0: u32,
            has_bias: u32, activation: u32, accumulate: u32,
        },
        bindings: [read x, read w, read bias, write out],
        slots: [weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4"],
        consts: [],
    }
}

kernel! {
    /// out = act(x W^T + bias) (+ out): register blocks of MR x NR outputs per lane, no workgroup memory
    MATMUL_DIRECT = "matmul_direct" {
        params: MatmulParams,
        bindings: [read x, read w, read bias, write out],
        slots: [weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4"],
        consts: [MR: 8 | 4, NR: 8 | 4 | 2 | 1],
    }
}

kernel! {
    /// out = act(x W^T + bias) (+ out): 64 x 64 tiles staged in workgroup memory
    MATMUL_TILE = "matmul_tile" {
        params: MatmulParams,
        bindings: [read x, read w, read bias, write out],
        slots: [weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4"],
        consts: [],
    }
}

/// Function applied to each output after the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// Identity.
    #[default]
    None = 0,
    /// `x / 2 (1 + erf(x / sqrt 2))`.
    Gelu = 1,
    /// `max(x, 0)`.
    Relu = 2,
}

/// Operands of one product.
#[derive(Debug, Clone, Copy)]
pub struct Matmul<'a> {
    /// Activations `[.., k]` f32.
    pub x: &'a Tensor,
    /// First row of `x`.
    pub x_row0: usize,
    /// Number of rows.
    pub rows: usize,
    /// Weights `[n, k]`.
    pub weight: &'a Matrix,
    /// Bias `[n]` f32.
    pub bias: Option<&'a Tensor>,
    /// Epilogue function.
    pub activation: Activation,
    /// Add to what `out` holds instead of overwriting it (residual connections).
    pub accumulate: bool,
    /// Result `[.., n]` f32.
    pub out: &'a Tensor,
    /// First row of `out`.
    pub out_row0: usize,
}

impl<'a> Matmul<'a> {
    /// `out[..rows] = x[..rows] W^T`.
    pub fn new(x: &'a Tensor, rows: usize, weight: &'a Matrix, out: &'a Tensor) -> Matmul<'a> {
        Matmul {
            x,
            x_row0: 0,
            rows,
            weight,
            bias: None,
            activation: Activation::None,
            accumulate: false,
            out,
            out_row0: 0,
        }
    }
}

/// The kernels for one product, by how they block it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatmulVariant {
    /// One lane per output.
    Naive,
    /// `mr x nr` outputs per lane in registers.
    Direct {
        /// Rows per lane.
        mr: u32,
        /// Columns per lane.
        nr: u32,
    },
    /// 64 x 64 tiles in workgroup memory.
    Tile,
}

impl MatmulVariant {
    /// The built-in choice for `rows x n x k` on a software adapter or a GPU.
    pub fn default_for(is_software: bool, rows: usize, n: usize, k: usize) -> MatmulVariant {
        if !k.is_multiple_of(8) {
            return MatmulVariant::Naive;
        }
        if is_software || rows <= 4 {
            let mr = if rows <= 4 { 4 } else { 8 };
            let nr = [1, 2, 4].into_iter().find(|nr| n <= 64 * nr).unwrap_or(8);
            return MatmulVariant::Direct { mr, nr: nr as u32 };
        }
        MatmulVariant::Tile
    }
}

impl fmt::Display for MatmulVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MatmulVariant::Naive => f.write_str("naive"),
            MatmulVariant::Direct { mr, nr } => write!(f, "direct {mr}x{nr}"),
            MatmulVariant::Tile => f.write_str("tile"),
        }
    }
}

impl MatmulVariant {
    /// What is worth trying for `n x k`, the built-in choices among it.
    pub fn candidates(n: usize, k: usize) -> Vec<MatmulVariant> {
        if !k.is_multiple_of(8) {
            return vec![MatmulVariant::Naive];
        }
        let mut all = vec![MatmulVariant::Tile];
        for mr in [4, 8] {
            let useful = [1, 2, 4, 8].into_iter().filter(|nr| *nr == 1 || n > 32 * *nr as usize);
            all.extend(useful.map(|nr| MatmulVariant::Direct { mr, nr }));
        }
        all
    }

    /// The key of a measured choice. Rows count in powers of two: neighbours behave alike.
    pub fn key(dtype: DType, rows: usize, n: usize, k: usize) -> String {
        let bucket = rows.max(1).next_power_of_two().min(1024);
        format!("matmul {} {n}x{k} rows {bucket}", dtype.name())
    }

    /// The measured choice for this product if there is one, else the built-in one.
    pub fn choose(gpu: &Gpu, dtype: DType, rows: usize, n: usize, k: usize) -> MatmulVariant {
        let candidates = || MatmulVariant::candidates(n, k).into_iter();
        gpu.choice(&MatmulVariant::key(dtype, rows, n, k))
            .and_then(|name| candidates().find(|variant| variant.to_string() == name))
            .unwrap_or_else(|| MatmulVariant::default_for(gpu.caps().is_software(), rows, n, k))
    }
}

/// The fragment that reads weights of a type.
pub(crate) fn weights_fragment(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "weights_f16",
        DType::Bf16 => "weights_bf16",
        DType::Q(QuantFormat::Q8_0) => "weights_q8",
        DType::Q(QuantFormat::Q4_0) => "weights_q4",
        DType::F32 | DType::U32 => "weights_f32",
    }
}

/// The type that a fragment reads.
pub(crate) fn weights_dtype(fragment: &str) -> DType {
    let all = [DType::F16, DType::Bf16, DType::Q(QuantFormat::Q8_0), DType::Q(QuantFormat::Q4_0)];
    all.into_iter().find(|dtype| weights_fragment(*dtype) == fragment).unwrap_or(DType::F32)
}

/// Appends one product, a dispatch per weight slab, with the variant that was measured best or built in.
///
/// Errors: operand shapes that do not fit.
pub fn matmul(plan: &mut PlanBuilder, args: Matmul<'_>) -> Result<()> {
    let weight = args.weight;
    let variant = MatmulVariant::choose(plan.gpu(), weight.dtype, args.rows, weight.rows, weight.cols);
    matmul_with(plan, variant, args)
}

/// Appends one product with a given variant.
pub fn matmul_with(plan: &mut PlanBuilder, variant: MatmulVariant, args: Matmul<'_>) -> Result<()> {
    let Matmul { x, weight, bias, out, rows, .. } = args;
    x.expect_rows("matmul", args.x_row0 + rows, weight.cols)?;
    out.expect_rows("matmul", args.out_row0 + rows, weight.rows)?;
    if let Some(bias) = bias {
        bias.expect("matmul", &[weight.rows])?;
    }
    if variant != MatmulVariant::Naive && !weight.cols.is_multiple_of(8) {
        return Err(Error::Shape {
            op: "matmul",
            operand: weight.name.clone(),
            expected: "an inner length that is a multiple of 8 for this variant".into(),
            got: vec![weight.rows, weight.cols],
        });
    }
    let unused = plan.unused()?;
    for slab in &weight.slabs {
        let flops_per_row = 2 * (slab.tensor.shape[0] * weight.cols) as u64;
        let step = plan.rows_per_dispatch(rows, flops_per_row, 64);
        for row in (0..rows).step_by(step) {
            let part = Matmul {
                x_row0: args.x_row0 + row,
                out_row0: args.out_row0 + row,
                rows: step.min(rows - row),
                ..args
            };
            slab_product(plan, variant, &part, slab, bias.unwrap_or(&unused))?;
        }
    }
    Ok(())
}

fn slab_product(
    plan: &mut PlanBuilder,
    variant: MatmulVariant,
    args: &Matmul<'_>,
    slab: &Slab,
    bias: &Tensor,
) -> Result<()> {
    let [slab_cols, k] = slab.tensor.dims("matmul")?;
    let (m, n) = (args.rows, args.weight.rows);
    let params = MatmulParams {
        m: m as u32,
        n: n as u32,
        k: k as u32,
        slab_cols: slab_cols as u32,
        col0: slab.first_row as u32,
        x_row0: args.x_row0 as u32,
        out_row0: args.out_row0 as u32,
        has_bias: args.bias.is_some() as u32,
        activation: args.activation as u32,
        accumulate: args.accumulate as u32,
    };
    let cost = Cost {
        flops: 2 * (m * slab_cols * k) as u64,
        bytes: slab.tensor.byte_len() + 4 * (m * (k + slab_cols)) as u64,
    };
    let bindings = [args.x, &slab.tensor, bias, args.out];
    let weights = Variant::fragments(&[weights_fragment(args.weight.dtype)]);
    match variant {
        MatmulVariant::Naive => {
            let grid = linear_grid((m * slab_cols).div_ceil(64));
            plan.dispatch(&MATMUL_NAIVE, weights, params, &bindings, grid, cost)
        }
        MatmulVariant::Direct { mr, nr } => {
            let grid = Grid::over_rows(slab_cols.div_ceil(64 * nr as usize), m, mr as usize);
            let variant = weights.with("MR", mr).with("NR", nr);
            plan.dispatch(&MATMUL_DIRECT, variant, params, &bindings, grid, cost)
        }
        MatmulVariant::Tile => {
            let grid = Grid::over_rows(slab_cols.div_ceil(64), m, 64);
            plan.dispatch(&MATMUL_TILE, weights, params, &bindings, grid, cost)
        }
    }
}
