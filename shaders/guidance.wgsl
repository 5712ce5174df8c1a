// guidance: h[r, c] = u[r, c] + (scale + 1) * (h[r, c] - u[r, c]) with u the rows n_rows .. 2 n_rows of h, in place
// Classifier-free guidance combines logits; as the output matrix is linear, combining the final hidden
// states gives the same logits for half the work. Dispatch: linear over ceil(n_rows * n_cols / WG).
// @use grid

const WG: u32 = 64u;

struct Params { n_rows: u32, n_cols: u32, scale: f32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read_write> h: array<f32>;   // [2 n_rows, n_cols]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    let len = params.n_rows * params.n_cols;
    if (i >= len) { return; }
    let u = h[len + i];
    h[i] = u + (params.scale + 1.0) * (h[i] - u);
}
