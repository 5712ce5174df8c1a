// epilogue: what a product does with a finished sum. Uses `params`, `bias` and `out` of the kernel.
// @use activation

// Where the sum of row `row` and column `col` of this slab goes.
fn place(row: u32, col: u32) -> u32 {
    return (params.out_row0 + row) * params.n + params.col0 + col;
}

// True if sums are results as they are. Kernels for software adapters, which take all sides of a branch, then store
// in a loop of its own.
fn is_plain() -> bool {
    return (params.has_bias | params.activation | params.accumulate) == 0u;
}

// Puts the sum of row `row` and column `col` of this slab in its place.
fn store(row: u32, col: u32, sum: f32) {
    var value = sum;
    if (params.has_bias != 0u) { value += bias[params.col0 + col]; }
    value = activate(params.activation, value);
    let at = place(row, col);
    if (params.accumulate != 0u) { value += out[at]; }
    out[at] = value;
}
