// epilogue: what a product does with a finished sum. Uses `params`, `bias` and `out` of the kernel.
// @use activation

// Puts the sum of row `row` and column `col` of this slab in its place.
fn store(row: u32, col: u32, sum: f32) {
    var value = sum;
    if (params.has_bias != 0u) { value += bias[params.col0 + col]; }
    value = activate(params.activation, value);
    let at = (params.out_row0 + row) * params.n + params.col0 + col;
    if (params.accumulate != 0u) { value += out[at]; }
    out[at] = value;
}
