//! Rotary position embedding.

use crate::error::Result;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, PlanBuilder, linear_grid};
use crate::gpu::{DType, Gpu, Tensor};

kernel! {
    /// x'[i] = x[i] cos - x[i + half] sin, x'[i + half] = x[i + half] cos + x[i] sin, angle = position * theta^(-i / half)
    ROPE = "rope" {
        params: RopeParams {
            n_rows: u32, n_heads: u32, half: u32, row0: u32, list0: u32, rows_per_sequence: u32,
        },
        bindings: [read table, read rows, write x],
        slots: [],
        consts: [],
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

/// Rotates rows `row0 ..` of `x` `[.., n_heads * head_dim]` in place. The position of the r-th of them is
/// `list[list0 + r]`, its row in the forward, modulo the rows of the table (one sequence).
pub fn rope(
    plan: &mut PlanBuilder,
    x: &Tensor,
    (row0, rows): (usize, usize),
    n_heads: usize,
    table: &Tensor,
    (list, list0): (&Tensor, usize),
) -> Result<()> {
    let [rows_per_sequence, half, _] = table.dims::<3>("rope")?;
    x.expect_rows("rope", row0 + rows, n_heads * half * 2)?;
    list.expect_len("rope", list0 + rows)?;
    let params = RopeParams {
        n_rows: rows as u32,
        n_heads: n_heads as u32,
        half: half as u32,
        row0: row0 as u32,
        list0: list0 as u32,
        rows_per_sequence: rows_per_sequence as u32,
    };
    let pairs = rows * n_heads * half;
    let cost = Cost { flops: 6 * pairs as u64, bytes: 16 * pairs as u64 };
    let grid = linear_grid(pairs.div_ceil(64));
    plan.dispatch(&ROPE, Variant::default(), params, &[table, list, x], grid, cost)
}
