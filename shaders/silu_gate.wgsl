// silu_gate: out[r, c] = g / (1 + exp(-g)) * gate_up[r, n_cols + c],   g = gate_up[r, c]
// Of a fused projection: gate in the first half of a row, what it gates in the second.
// Dispatch: over n_rows, ceil(n_cols / WG) for each.
// @use grid

const WG: u32 = 64u;

struct Params { n_rows: u32, n_cols: u32 }

@group(0) @binding(0) var<uniform>             params:  Params;
@group(0) @binding(1) var<storage, read>       gate_up: array<f32>;   // [n_rows, 2 n_cols]
@group(0) @binding(2) var<storage, read_write> out:     array<f32>;   // [n_rows, n_cols]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_group(group);
    let col = group.x * WG + lane;
    if (row >= params.n_rows || col >= params.n_cols) { return; }
    let at = row * 2u * params.n_cols + col;
    let g = gate_up[at];
    // exp overflows to infinity for g < -88, where the quotient is zero; spelled out because WGSL need not honour infinities.
    let silu = select(g / (1.0 + exp(-max(g, -80.0))), 0.0, g < -80.0);
    out[row * params.n_cols + col] = silu * gate_up[at + params.n_cols];
}
