// gather_rows: out[r, c] = x[rows[r], c]
// Dispatch: linear over ceil(n_rows * n_cols / WG).
// @use grid

const WG: u32 = 64u;

struct Params { n_rows: u32, n_cols: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:    array<f32>;   // [.., n_cols]
@group(0) @binding(2) var<storage, read>       rows: array<u32>;   // [n_rows]
@group(0) @binding(3) var<storage, read_write> out:  array<f32>;   // [n_rows, n_cols]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.n_rows * params.n_cols) { return; }
    out[i] = x[rows[i / params.n_cols] * params.n_cols + i % params.n_cols];
}
