// mel_normalize: x[i] = (max(x[i], top[0] - 8) + 4) / 4, in place
// Dispatch: linear over ceil(len / WG).
// @use grid

const WG: u32 = 64u;

struct Params { len: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       top: array<f32>;   // [1]
@group(0) @binding(2) var<storage, read_write> x:   array<f32>;   // [len]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.len) { return; }
    x[i] = (max(x[i], top[0] - 8.0) + 4.0) / 4.0;
}
