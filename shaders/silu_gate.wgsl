// silu_gate: gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i], in place
// Dispatch: linear over ceil(len / WG).
// @use grid

const WG: u32 = 64u;

struct Params { len: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       up:   array<f32>;   // [len]
@group(0) @binding(2) var<storage, read_write> gate: array<f32>;   // [len]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * WG + lane;
    if (i >= params.len) { return; }
    let g = gate[i];
    // exp overflows to infinity for g < -88, where the quotient is zero; spelled out because WGSL need not honour infinities.
    let silu = select(g / (1.0 + exp(-max(g, -80.0))), 0.0, g < -80.0);
    gate[i] = silu * up[i];
}
