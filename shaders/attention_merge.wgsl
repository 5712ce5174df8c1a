// attention_merge: out[q] = sum_p e_p sums_p[q] / sum_p e_p total_p[q] per head, e_p = exp(top_p[q] - max_p top_p[q])
// Ends an attention whose keys were shared by workgroups (flash-decoding): each left its sums of values, weighted
// relative to its own largest score `top`, and the `total` of its weights. Adds in order of the parts. One lane per four
// outputs. After the HEAD_DIM sums of a part, row and head come four words: top, total, and two that nobody uses.
// Dispatch: [ceil(n_heads head_dim / 256), n_q, 1].

struct Params {
    n_q: u32, n_kv: u32, q_row0: u32, kv_row0: u32, out_row0: u32,
    n_heads: u32, n_kv_heads: u32, head_dim: u32, scale: f32,
    keys_per_part: u32,   // keys of one workgroup
}

@group(0) @binding(0) var<uniform>             params:   Params;
@group(0) @binding(1) var<storage, read>       partials: array<vec4<f32>>;   // [parts, n_q, n_heads, head_dim / 4 + 1]
@group(0) @binding(2) var<storage, read_write> out:      array<vec4<f32>>;   // [.., n_heads * head_dim / 4]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let i = group.x * 64u + lane;
    let d4 = params.head_dim / 4u;
    if (i >= params.n_heads * d4) { return; }
    let parts = (params.n_kv + params.keys_per_part - 1u) / params.keys_per_part;
    let stride = params.n_q * params.n_heads * (d4 + 1u);
    let at = (row * params.n_heads + i / d4) * (d4 + 1u);
    var top = partials[at + d4].x;
    for (var p = 1u; p < parts; p++) { top = max(top, partials[at + p * stride + d4].x); }
    var sum = vec4<f32>();
    var total = 0.0;
    for (var p = 0u; p < parts; p++) {
        let stats = partials[at + p * stride + d4];
        let weight = exp(stats.x - top);
        sum += weight * partials[at + p * stride + i % d4];
        total += weight * stats.y;
    }
    out[(params.out_row0 + row) * params.n_heads * d4 + i] = sum / total;
}
