// layer_norm: out[out_row0 + r, c] = (x[r, c] - mean_c) * rsqrt(var_c + eps) * weight[c] + bias[c]
// One workgroup per row, two passes (mean, then centred variance). Dispatch: linear over n_rows.
// @use grid
// @slot sums

const WG: u32 = 64u;

struct Params { n_rows: u32, n_cols: u32, x_row0: u32, out_row0: u32, eps: f32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:      array<f32>;   // [.., n_cols]
@group(0) @binding(2) var<storage, read>       weight: array<f32>;   // [n_cols]
@group(0) @binding(3) var<storage, read>       bias:   array<f32>;   // [n_cols]
@group(0) @binding(4) var<storage, read_write> out:    array<f32>;   // [.., n_cols]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = linear_group(group);
    if (row >= params.n_rows) { return; }
    let x_at = (params.x_row0 + row) * params.n_cols;
    let out_at = (params.out_row0 + row) * params.n_cols;
    let n = f32(params.n_cols);
    var sum = 0.0;
    for (var c = lane; c < params.n_cols; c += WG) { sum += x[x_at + c]; }
    let mean = reduce_add(lane, sum) / n;
    var sum_sq = 0.0;
    for (var c = lane; c < params.n_cols; c += WG) {
        let d = x[x_at + c] - mean;
        sum_sq = fma(d, d, sum_sq);
    }
    let scale = 1.0 / sqrt(reduce_add(lane, sum_sq) / n + params.eps);
    for (var c = lane; c < params.n_cols; c += WG) {
        out[out_at + c] = (x[x_at + c] - mean) * scale * weight[c] + bias[c];
    }
}
