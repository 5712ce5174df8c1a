// peak_copy: out[i] = x[i], one vec4 a lane: how fast a kernel can read and write.
// Dispatch: linear over ceil(len / WG).
// @use grid

const WG: u32 = 64u;

struct Params { len: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:   array<vec4<u32>>;   // [len]
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;   // [len]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.len) { return; }
    out[i] = x[i];
}
