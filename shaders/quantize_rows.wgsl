// quantize_rows: 32 neighbours of a row of x share one scale: quants = round(x / scale), scale = max |x| / 127.
// One lane per block of 32. Dispatch: [ceil(k / 32 / 64), n_rows, 1].

struct Params { n_rows: u32, k: u32, row0: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:      array<vec4<f32>>;  // [.., k / 4]
@group(0) @binding(2) var<storage, read_write> quants: array<u32>;        // [n_rows, k / 4], four signed bytes each
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;        // [n_rows, k / 32]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let blocks = params.k / 32u;
    let block = group.x * 64u + lane;
    if (block >= blocks) { return; }
    let at = ((params.row0 + group.y) * blocks + block) * 8u;
    var values: array<vec4<f32>, 8>;
    var top = 0.0;
    for (var i = 0u; i < 8u; i++) {
        values[i] = x[at + i];
        let a = abs(values[i]);
        top = max(top, max(max(a.x, a.y), max(a.z, a.w)));
    }
    let scale = top / 127.0;
    let inverse = select(0.0, 1.0 / scale, scale > 0.0);
    let to = group.y * blocks + block;
    for (var i = 0u; i < 8u; i++) {
        let q = vec4<u32>(vec4<i32>(clamp(round(values[i] * inverse), vec4<f32>(-127.0), vec4<f32>(127.0))) & vec4<i32>(255));
        quants[to * 8u + i] = q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
    }
    scales[to] = scale;
}
