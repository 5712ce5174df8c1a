// copy_rows: out[out_row0 + r, c] = x[x_row0 + r, c]
// Dispatch: linear over ceil(n_rows * n_cols / WG).
// @use grid

const WG: u32 = 64u;

struct Params { n_rows: u32, n_cols: u32, x_row0: u32, out_row0: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:   array<f32>;   // [.., n_cols]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;   // [.., n_cols]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.n_rows * params.n_cols) { return; }
    out[params.out_row0 * params.n_cols + i] = x[params.x_row0 * params.n_cols + i];
}
