// attention_naive: out[q] = softmax(q k^T * scale) v, per head, over all keys (bidirectional, no mask)
// One workgroup per query and head, any head size: each lane scores a key of 64, then adds up elements of the head
// in `out`. The reference and the fallback for head sizes that are no multiple of 4. Loops stay short: software
// drivers end all loops of a lane after 65,535 rounds. Dispatch: linear over n_q * n_heads.
// @use grid, reduce

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

var<workgroup> weights: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups);
    if (i >= params.n_q * params.n_heads) { return; }
    let row = i / params.n_heads;
    let head = i % params.n_heads;
    let kv_head = head / (params.n_heads / params.n_kv_heads);
    let q_at = ((params.q_row0 + row) * params.n_heads + head) * params.head_dim;
    let out_at = ((params.out_row0 + row) * params.n_heads + head) * params.head_dim;
    let kv_stride = params.n_kv_heads * params.head_dim;
    let kv_at = params.kv_row0 * kv_stride + kv_head * params.head_dim;

    var top = -3.0e38;
    var sum = 0.0;   // over the lane's own keys
    for (var key0 = 0u; key0 < params.n_kv; key0 += WG) {
        let keys = min(WG, params.n_kv - key0);
        var score = -3.0e38;
        if (lane < keys) {
            var product = 0.0;
            let k_at = kv_at + (key0 + lane) * kv_stride;
            for (var d = 0u; d < params.head_dim; d++) { product = fma(q[q_at + d], k[k_at + d], product); }
            score = product * params.scale;
        }
        let new_top = max(top, reduce_max(lane, score));
        let keep = exp(top - new_top);
        let weight = select(0.0, exp(score - new_top), lane < keys);
        top = new_top;
        sum = fma(sum, keep, weight);
        weights[lane] = weight;
        workgroupBarrier();
        for (var d = lane; d < params.head_dim; d += WG) {
            var total = 0.0;
            if (key0 > 0u) { total = out[out_at + d] * keep; }
            for (var j = 0u; j < keys; j++) {
                total = fma(weights[j], v[kv_at + (key0 + j) * kv_stride + d], total);
            }
            out[out_at + d] = total;
        }
        workgroupBarrier();
    }
    let all = reduce_add(lane, sum);
    for (var d = lane; d < params.head_dim; d += WG) { out[out_at + d] /= all; }
}
