// matmul_naive: out[out_row0 + r, col0 + c] = act(sum_k x[x_row0 + r, k] * w[c, k] + bias[col0 + c]) (+ out)
// One lane per output; any k. The reference and the fallback for widths that are no multiple of 8.
// Dispatch: linear over ceil(m * slab_cols / WG).
// @use grid, epilogue
// @slot weights

const WG: u32 = 64u;

struct Params {
    m: u32, n: u32, k: u32,           // rows, columns of `out`, inner length
    slab_cols: u32, col0: u32,        // columns from this slab and their offset in `out`
    w_row0: u32,                      // the slab's row of the first of them
    x_row0: u32, out_row0: u32,
    has_bias: u32, activation: u32, accumulate: u32,
    k_part: u32,                      // inner elements of one workgroup
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:    array<f32>;        // [.., k]
@group(0) @binding(2) var<storage, read>       w:    array<vec4<u32>>;  // [slab_cols, k], packed
@group(0) @binding(3) var<storage, read>       bias: array<f32>;        // [n]
@group(0) @binding(4) var<storage, read_write> out:  array<f32>;        // [.., n]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.m * params.slab_cols) { return; }
    let row = i / params.slab_cols;
    let col = i % params.slab_cols;
    let x_at = (params.x_row0 + row) * params.k;
    var sum = 0.0;
    for (var k = 0u; k < params.k; k++) {
        sum = fma(x[x_at + k], weight(params.w_row0 + col, k, params.k), sum);
    }
    store(row, col, sum);
}
