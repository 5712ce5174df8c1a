// store_block: puts the sums `block` of MR rows and NR columns, WG apart, of each lane in their places, for products
// without workgroup memory. Uses `params`, `bias`, `out`, MR, NR, WG and `block` of the kernel.
// @use activation

fn store_block(row0: u32, first_col: u32) {
    // Loops over what is not asked for end before they begin: software adapters take both sides of a branch.
    let rows = min(MR, params.m - row0);
    let to = (params.out_row0 + row0) * params.n + params.col0 + first_col;
    for (var r = 0u; r < select(0u, rows, params.has_bias != 0u); r++) {
        for (var c = 0u; c < NR; c++) { block[r][c] += bias[params.col0 + first_col + WG * c]; }
    }
    for (var r = 0u; r < select(0u, rows, params.activation != 0u); r++) {
        for (var c = 0u; c < NR; c++) { block[r][c] = activate(params.activation, block[r][c]); }
    }
    for (var r = 0u; r < select(0u, rows, params.accumulate != 0u); r++) {
        for (var c = 0u; c < NR; c++) { block[r][c] += out[to + r * params.n + WG * c]; }
    }
    for (var r = 0u; r < rows; r++) {
        for (var c = 0u; c < NR; c++) {
            if (first_col + WG * c < params.slab_cols) { out[to + r * params.n + WG * c] = block[r][c]; }
        }
    }
}
