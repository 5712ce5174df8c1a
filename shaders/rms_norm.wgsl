// rms_norm: out[row0 + r, c] = x[row0 + r, c] * rsqrt(mean_c(x[row0 + r, c]^2) + eps) * weight[c]
// One workgroup per row. Dispatch: linear over n_rows.
// @use grid
// @slot sums

const WG: u32 = 64u;

struct Params { n_rows: u32, n_cols: u32, row0: u32, eps: f32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:      array<f32>;   // [.., n_cols]
@group(0) @binding(2) var<storage, read>       weight: array<f32>;   // [n_cols]
@group(0) @binding(3) var<storage, read_write> out:    array<f32>;   // [.., n_cols]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = linear_group(group);
    if (row >= params.n_rows) { return; }
    let at = (params.row0 + row) * params.n_cols;
    var sum_sq = 0.0;
    for (var c = lane; c < params.n_cols; c += WG) {
        let v = x[at + c];
        sum_sq = fma(v, v, sum_sq);
    }
    let scale = 1.0 / sqrt(reduce_add(lane, sum_sq) / f32(params.n_cols) + params.eps);
    for (var c = lane; c < params.n_cols; c += WG) {
        out[at + c] = x[at + c] * scale * weight[c];
    }
}
