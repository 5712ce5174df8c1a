//! Token embedding: rows of the stored table, widened to f32.

use crate::error::Result;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, PlanBuilder, linear_grid};
use crate::gpu::{Matrix, Tensor};
use crate::ops::matmul::weights_fragment;

kernel! {
    /// out[out_row0 + r, c] = table[ids[id0 + r], c], for the ids that this slab of the table holds
    EMBED = "embed" {
        params: EmbedParams { n_rows: u32, n_cols: u32, id0: u32, out_row0: u32, first_id: u32, slab_rows: u32 },
        bindings: [read ids, read w, write out],
        slots: [weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4"],
        consts: [],
    }
}

/// `out[out_row0 + r] = table[ids[id0 + r]]` for `rows` rows; ids outside the table leave their row as it is.
pub fn embed(
    plan: &mut PlanBuilder,
    (ids, id0): (&Tensor, usize),
    rows: usize,
    table: &Matrix,
    (out, out_row0): (&Tensor, usize),
) -> Result<()> {
    ids.check_len("embed", id0 + rows)?;
    out.check_rows("embed", out_row0 + rows, table.cols)?;
    for slab in &table.slabs {
        let params = EmbedParams {
            n_rows: rows as u32,
            n_cols: table.cols as u32,
            id0: id0 as u32,
            out_row0: out_row0 as u32,
            first_id: slab.first_row as u32,
            slab_rows: slab.tensor.shape[0] as u32,
        };
        let len = rows * table.cols;
        let variant = Variant::fragments(&[weights_fragment(table.dtype)]);
        let cost = Cost { flops: 0, bytes: (4 * len + rows * table.dtype.row_bytes(table.cols)) as u64 };
        let grid = linear_grid(len.div_ceil(64));
        plan.dispatch(&EMBED, variant, params, &[ids, &slab.tensor, out], grid, cost)?;
    }
    Ok(())
}
