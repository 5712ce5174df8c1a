// attention_naive: out[q] = softmax(q k^T * scale) v, per head, over all keys (bidirectional, no mask)
// One lane per query and head, any head size; `out` is the accumulator. The reference and the fallback
// for head sizes that are no multiple of 4. Dispatch: linear over ceil(n_q * n_heads / WG).
// @use grid

const WG: u32 = 64u;

struct Params {
    n_q: u32, n_kv: u32, q_row0: u32, kv_row0: u32, out_row0: u32,
    n_heads: u32, n_kv_heads: u32, head_dim: u32, scale: f32,
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       q:   array<f32>;   // [.., n_heads * head_dim]
@group(0) @binding(2) var<storage, read>       k:   array<f32>;   // [.., n_kv_heads * head_dim]
@group(0) @binding(3) var<storage, read>       v:   array<f32>;   // [.., n_kv_heads * head_dim]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;   // [.., n_heads * head_dim]

fn score(q_at: u32, k_at: u32) -> f32 {
    var dot = 0.0;
    for (var d = 0u; d < params.head_dim; d++) { dot = fma(q[q_at + d], k[k_at + d], dot); }
    return dot * params.scale;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * WG + lane;
    if (i >= params.n_q * params.n_heads) { return; }
    let row = i / params.n_heads;
    let head = i % params.n_heads;
    let kv_head = head / (params.n_heads / params.n_kv_heads);
    let q_at = ((params.q_row0 + row) * params.n_heads + head) * params.head_dim;
    let out_at = ((params.out_row0 + row) * params.n_heads + head) * params.head_dim;
    let kv_stride = params.n_kv_heads * params.head_dim;
    let kv_at = params.kv_row0 * kv_stride + kv_head * params.head_dim;

    var top = -3.0e38;
    for (var j = 0u; j < params.n_kv; j++) { top = max(top, score(q_at, kv_at + j * kv_stride)); }
    for (var d = 0u; d < params.head_dim; d++) { out[out_at + d] = 0.0; }
    var sum = 0.0;
    for (var j = 0u; j < params.n_kv; j++) {
        let p = exp(score(q_at, kv_at + j * kv_stride) - top);
        sum += p;
        for (var d = 0u; d < params.head_dim; d++) {
            out[out_at + d] = fma(p, v[kv_at + j * kv_stride + d], out[out_at + d]);
        }
    }
    for (var d = 0u; d < params.head_dim; d++) { out[out_at + d] = out[out_at + d] / sum; }
}
