// matmul_sum: out[out_row0 + r, col0 + c] = act(sum_p partials[p, r, c] + bias[col0 + c]) (+ out), p in order
// Ends a product whose inner length was split over workgroups. One lane per output.
// Dispatch: [ceil(slab_cols / 64), m, 1].
// @use epilogue

struct Params {
    m: u32, n: u32, k: u32,           // rows, columns of `out`, inner length
    slab_cols: u32, col0: u32,        // columns from this slab and their offset in `out`
    w_row0: u32,                      // the slab's row of the first of them
    x_row0: u32, out_row0: u32,
    has_bias: u32, activation: u32, accumulate: u32,
    k_part: u32,                      // inner elements of one workgroup
}

@group(0) @binding(0) var<uniform>             params:   Params;
@group(0) @binding(1) var<storage, read>       partials: array<f32>;    // [ceil(k / k_part), m, slab_cols]
@group(0) @binding(2) var<storage, read>       bias:     array<f32>;    // [n]
@group(0) @binding(3) var<storage, read_write> out:      array<f32>;    // [.., n]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let col = group.x * 64u + lane;
    if (col >= params.slab_cols) { return; }
    let parts = (params.k + params.k_part - 1u) / params.k_part;
    var sum = 0.0;
    for (var p = 0u; p < parts; p++) { sum += partials[(p * params.m + row) * params.slab_cols + col]; }
    store(row, col, sum);
}
