// clip_max: out[0] = max_i x[i]
// One workgroup for the whole clip (a quarter of a million values). Dispatch: [1, 1, 1].
// @use reduce

const WG: u32 = 256u;

struct Params { len: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:   array<f32>;   // [len]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;   // [1]

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lane: u32) {
    var top = -3.0e38;
    for (var i = lane; i < params.len; i += WG) { top = max(top, x[i]); }
    top = reduce_max(lane, top);
    if (lane == 0u) { out[0] = top; }
}
