// peak_multiply: how fast a kernel can multiply and add. Each lane runs 8 independent chains
// s = s * a + b from s = 0, 1 .. 7, UNROLL n_steps steps long, and writes their sum; a = x[i], b = 1 - a,
// so that for 0 < a < 1 every chain goes to 1 and the sum to 8.
// Dispatch: linear over ceil(len / WG).
// @use grid

const WG: u32 = 64u;
const UNROLL: u32 = 16u;

struct Params { len: u32, n_steps: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:   array<f32>;   // [len]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;   // [len]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.len) { return; }
    let a = vec4<f32>(x[i]);
    let b = 1.0 - a;
    var s0 = vec4<f32>(0.0, 1.0, 2.0, 3.0);
    var s1 = vec4<f32>(4.0, 5.0, 6.0, 7.0);
    for (var step = 0u; step < params.n_steps; step++) {
        for (var unrolled = 0u; unrolled < UNROLL; unrolled++) {
            s0 = fma(s0, a, b);
            s1 = fma(s1, a, b);
        }
    }
    let s = s0 + s1;
    out[i] = s.x + s.y + s.z + s.w;
}
