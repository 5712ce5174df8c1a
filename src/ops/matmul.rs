//! Matrix products with stored weights: `out = act(x W^T + bias) (+ out)`.

mod kernels;
mod variant;

use crate::error::{Error, Result};
use crate::gpu::kernel::Variant;
use crate::gpu::plan::{Cost, Grid, PlanBuilder, linear_grid};
use crate::gpu::{DType, Matrix, Slab, Tensor};
use crate::ops::rounding::coop_fragment;
use crate::quant::{BLOCK, QuantFormat};
pub use kernels::{
    MATMUL_COOP, MATMUL_DIRECT, MATMUL_GEMV, MATMUL_INT8, MATMUL_NAIVE, MATMUL_SHUFFLE, MATMUL_SUM,
    MATMUL_TILE, QUANTIZE_ROWS,
};
use kernels::{MatmulParams, QuantizeRowsParams};
pub(crate) use kernels::{weights_dtype, weights_fragment};
pub use variant::{CoopBlock, MatmulVariant};
pub(crate) use variant::{direct_block, tall_block};

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
    /// The columns of the result that are computed, that is, rows of `weight`; others are left alone.
    pub columns: (usize, usize),
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
    /// `out[..rows] = x[..rows] W^T`, all columns.
    pub fn new(x: &'a Tensor, rows: usize, weight: &'a Matrix, out: &'a Tensor) -> Matmul<'a> {
        Matmul {
            x,
            x_row0: 0,
            rows,
            weight,
            columns: (0, weight.rows),
            bias: None,
            activation: Activation::None,
            accumulate: false,
            out,
            out_row0: 0,
        }
    }
}

/// Columns that a dispatch covers at least, enough for a few threads or small units.
const LEAST_COLUMNS: usize = 256;

/// Appends one product, a dispatch for each weight slab that has a part in it, with the variant that was measured best or built in.
///
/// Errors: operand shapes that do not fit.
pub fn matmul(plan: &mut PlanBuilder, args: Matmul<'_>) -> Result<()> {
    let weight = args.weight;
    let (first, end) = args.columns;
    let n = end.saturating_sub(first);
    let rows = plan.usual_rows(args.rows);
    let variant = MatmulVariant::choose(plan.gpu(), weight.dtype, rows, n, weight.cols);
    matmul_with(plan, variant, args)
}

/// Appends one product with a given variant.
pub fn matmul_with(plan: &mut PlanBuilder, variant: MatmulVariant, args: Matmul<'_>) -> Result<()> {
    let Matmul { x, weight, bias, out, rows, .. } = args;
    x.check_rows("matmul", args.x_row0 + rows, weight.cols)?;
    out.check_rows("matmul", args.out_row0 + rows, weight.rows)?;
    if let Some(bias) = bias {
        bias.check_shape("matmul", &[weight.rows])?;
    }
    let missing = variant.missing(plan.gpu().caps());
    if !missing.is_empty() {
        return Err(Error::Unsupported { missing });
    }
    if !variant.is_possible(plan.gpu().caps(), weight.dtype, weight.cols) {
        return Err(Error::Shape {
            op: "matmul",
            operand: weight.name.clone(),
            expected: format!("a type and an inner length that `{variant}` can work with"),
            got: vec![weight.rows, weight.cols],
        });
    }
    let (first, end) = args.columns;
    if first > end || end > weight.rows {
        return Err(Error::Shape {
            op: "matmul",
            operand: weight.name.clone(),
            expected: format!("columns {first}..{end} of the result"),
            got: vec![weight.rows, weight.cols],
        });
    }
    let unused = plan.unused()?;
    for slab in &weight.slabs {
        let from = first.max(slab.first_row);
        let columns = end.min(slab.first_row + slab.tensor.shape[0]).saturating_sub(from);
        if columns == 0 {
            continue;
        }
        // Columns first: each weight is then read by few dispatches.
        let flops = 2 * (rows * weight.cols) as u64;
        let columns_step = plan.columns_per_dispatch(columns, flops, LEAST_COLUMNS);
        let rows_step = plan.rows_per_dispatch(rows, 2 * (columns_step * weight.cols) as u64, 64);
        for column in (from..from + columns).step_by(columns_step) {
            for row in (0..rows).step_by(rows_step) {
                let part = Matmul {
                    x_row0: args.x_row0 + row,
                    out_row0: args.out_row0 + row,
                    rows: rows_step.min(rows - row),
                    columns: (column, (column + columns_step).min(from + columns)),
                    ..args
                };
                slab_product(plan, variant, &part, slab, bias.unwrap_or(&unused))?;
            }
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
    let (m, n, k) = (args.rows, args.weight.rows, args.weight.cols);
    let (col0, slab_cols) = (args.columns.0, args.columns.1 - args.columns.0);
    let k_part = variant.k_part(k);
    let params = MatmulParams {
        m: m as u32,
        n: n as u32,
        k: k as u32,
        slab_cols: slab_cols as u32,
        col0: col0 as u32,
        w_row0: (col0 - slab.first_row) as u32,
        x_row0: args.x_row0 as u32,
        out_row0: args.out_row0 as u32,
        has_bias: args.bias.is_some() as u32,
        activation: args.activation as u32,
        accumulate: args.accumulate as u32,
        k_part: k_part as u32,
    };
    let parts = k.div_ceil(k_part.max(1));
    let cost = Cost {
        flops: 2 * (m * slab_cols * k) as u64,
        bytes: args.weight.dtype.bytes(&[slab_cols, k]) as u64 + 4 * (m * (k + parts * slab_cols)) as u64,
    };
    let partials =
        if variant.has_partial_sums() { Some(plan.scratch(0, parts * m * slab_cols)?) } else { None };
    let bindings = [args.x, &slab.tensor, bias, partials.as_ref().unwrap_or(args.out)];
    let weights = Variant::fragments(&[weights_fragment(args.weight.dtype)]);
    match variant {
        MatmulVariant::Naive => {
            let grid = linear_grid((m * slab_cols).div_ceil(64));
            plan.dispatch(&MATMUL_NAIVE, weights, params, &bindings, grid, cost)?;
        }
        MatmulVariant::Direct { mr, nr } => {
            let block = direct_block(weights, mr, nr);
            // Tall blocks are for software adapters, whose few cores want no wide workgroups.
            let (lanes, variant) = if mr > 8 { (8, block.with("WG", 8)) } else { (64, block) };
            let grid = Grid::over_rows(slab_cols.div_ceil(lanes * nr as usize), m, mr as usize);
            plan.dispatch(&MATMUL_DIRECT, variant, params, &bindings, grid, cost)?;
        }
        MatmulVariant::Shuffle { groups } => {
            let grid = Grid::over_rows(slab_cols.div_ceil(32), m, 8 * groups as usize);
            plan.dispatch(&MATMUL_SHUFFLE, weights.with("GROUPS", groups), params, &bindings, grid, cost)?;
        }
        MatmulVariant::Tile { rows, lane_rows, .. } => {
            let grid = Grid::over_rows(slab_cols.div_ceil(64), m, rows as usize).deep(parts);
            let tile = weights.with("ROWS", rows);
            let lanes_y = rows / lane_rows;
            let tile = if lanes_y == 16 { tile } else { tile.with("LANES_Y", lanes_y) };
            plan.dispatch(&MATMUL_TILE, tile, params, &bindings, grid, cost)?;
        }
        MatmulVariant::Gemv { mr, subgroups } => {
            let grid = Grid::over_rows(slab_cols.div_ceil(GEMV_COLUMNS), m, mr as usize);
            let sums = if subgroups { "reduce_subgroup" } else { "reduce" };
            let variant = Variant::fragments(&[weights.fragments[0], sums]).with("MR", mr);
            plan.dispatch(&MATMUL_GEMV, variant, params, &bindings, grid, cost)?;
        }
        MatmulVariant::Coop { edge, block, lanes, .. } => {
            let [rows, columns] = block.outputs(edge);
            let grid = Grid::over_rows(slab_cols.div_ceil(columns), m, rows).deep(parts);
            let fragments = [weights.fragments[0], coop_fragment(edge), block.fragment()];
            let variant = Variant::fragments(&fragments).with("LANES", lanes);
            plan.dispatch(&MATMUL_COOP, variant, params, &bindings, grid, cost)?;
        }
        MatmulVariant::Int8 { mr, nr } => {
            let quants = plan.scratch(1, m * k / 4)?;
            let scales = plan.scratch(2, m * k / BLOCK)?;
            quantize_rows(plan, (args.x, args.x_row0, m), k, (&quants, &scales))?;
            int8_product(
                plan,
                (mr, nr),
                args.weight.dtype,
                params,
                &[&quants, &scales, &slab.tensor, bias, args.out],
                cost,
            )?;
        }
    }
    if let Some(partials) = &partials {
        let grid = Grid::over_rows(slab_cols.div_ceil(64), m, 1);
        let cost =
            Cost { flops: (parts * m * slab_cols) as u64, bytes: 4 * ((parts + 1) * m * slab_cols) as u64 };
        plan.dispatch(&MATMUL_SUM, Variant::default(), params, &[partials, bias, args.out], grid, cost)?;
    }
    Ok(())
}

/// Columns of one workgroup of the kernel for few rows (`NR` of the shader).
const GEMV_COLUMNS: usize = 4;

/// Rows of f32 to packed bytes `[rows, k / 4]` and scales `[rows, k / 32]`.
pub(crate) fn quantize_rows(
    plan: &mut PlanBuilder,
    (x, row0, rows): (&Tensor, usize, usize),
    k: usize,
    (quants, scales): (&Tensor, &Tensor),
) -> Result<()> {
    x.check_rows("quantize_rows", row0 + rows, k)?;
    let params = QuantizeRowsParams { n_rows: rows as u32, k: k as u32, row0: row0 as u32 };
    let cost = Cost { flops: 4 * (rows * k) as u64, bytes: 5 * (rows * k) as u64 };
    let grid = Grid::over_rows((k / BLOCK).div_ceil(64), rows, 1);
    plan.dispatch(&QUANTIZE_ROWS, Variant::default(), params, &[x, quants, scales], grid, cost)
}

/// `bindings`: quants, scales, weights, bias, out.
fn int8_product(
    plan: &mut PlanBuilder,
    (mr, nr): (u32, u32),
    dtype: DType,
    params: MatmulParams,
    bindings: &[&Tensor; 5],
    cost: Cost,
) -> Result<()> {
    let fragment = if dtype == DType::Q(QuantFormat::Q4_0) { "quants_q4" } else { "quants_q8" };
    let variant = Variant::fragments(&[fragment]).with("MR", mr).with("NR", nr);
    let variant = if mr > 16 { variant.with("BARRIER", 1) } else { variant };
    let grid = Grid::over_rows(
        (params.slab_cols as usize).div_ceil(64 * nr as usize),
        params.m as usize,
        mr as usize,
    );
    plan.dispatch(&MATMUL_INT8, variant, params, bindings, grid, cost)
}
