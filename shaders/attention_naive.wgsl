// attention_naive: out[q] = softmax(q k^T * scale) v, per head, over all keys (bidirectional, no mask)
// One workgroup per query and head, any head size: each lane scores keys, first for maximum and sum, then again, 64
// keys at a time, to add up elements of the head in `out`. The reference and the fallback for head sizes that are no
// multiple of 4. Loops stay short: software drivers end all loops of a lane after 65,535 rounds.
// Dispatch: linear over n_q * n_heads.
// @use grid, reduce
// @slot kept

const WG: u32 = 64u;

struct Params {
    n_q: u32, n_kv: u32, q_row0: u32, kv_row0: u32, out_row0: u32,
    n_heads: u32, n_kv_heads: u32, head_dim: u32, scale: f32,
    keys_per_part: u32,   // keys of one workgroup
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       q:   array<f32>;   // [.., n_heads * head_dim]
@group(0) @binding(2) var<storage, read>       k:   array<Kept>;  // [.., n_kv_heads * head_dim]
@group(0) @binding(3) var<storage, read>       v:   array<Kept>;  // [.., n_kv_heads * head_dim]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;   // [.., n_heads * head_dim]

var<workgroup> weights: array<f32, WG>;

// Of the query and the key that begin there.
fn score(q_at: u32, k_at: u32) -> f32 {
    var product = 0.0;
    for (var d = 0u; d < params.head_dim; d++) {
        product = fma(q[q_at + d], kept(k[(k_at + d) / PER_WORD], k_at + d), product);
    }
    return product * params.scale;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group);
    if (i >= params.n_q * params.n_heads) { return; }
    let row = i / params.n_heads;
    let head = i % params.n_heads;
    let kv_head = head / (params.n_heads / params.n_kv_heads);
    let q_at = ((params.q_row0 + row) * params.n_heads + head) * params.head_dim;
    let out_at = ((params.out_row0 + row) * params.n_heads + head) * params.head_dim;
    let kv_stride = params.n_kv_heads * params.head_dim;
    let kv_at = params.kv_row0 * kv_stride + kv_head * params.head_dim;

    // Loops have the same rounds for all lanes, or FXC takes the barriers after them for divergent.
    var top = -3.0e38;
    var sum = 0.0;   // both of the lane's own keys
    for (var key0 = 0u; key0 < params.n_kv; key0 += WG) {
        let key = min(key0 + lane, params.n_kv - 1u);
        let s = select(-3.0e38, score(q_at, kv_at + key * kv_stride), key0 + lane < params.n_kv);
        let new_top = max(top, s);
        sum = fma(sum, exp(top - new_top), select(0.0, exp(s - new_top), key0 + lane < params.n_kv));
        top = new_top;
    }
    let all_top = reduce_max(lane, top);
    let all_sum = reduce_add(lane, sum * exp(top - all_top));

    for (var key0 = 0u; key0 < params.n_kv; key0 += WG) {
        let keys = min(WG, params.n_kv - key0);
        let key = key0 + min(lane, keys - 1u);
        weights[lane] = exp(score(q_at, kv_at + key * kv_stride) - all_top) / all_sum;
        workgroupBarrier();
        for (var d0 = 0u; d0 < params.head_dim; d0 += WG) {
            let d = min(d0 + lane, params.head_dim - 1u);
            var total = select(0.0, out[out_at + d], key0 > 0u);
            for (var j = 0u; j < keys; j++) {
                let at = kv_at + (key0 + j) * kv_stride + d;
                total = fma(weights[j], kept(v[at / PER_WORD], at), total);
            }
            if (d0 + lane < params.head_dim) { out[out_at + d] = total; }
        }
        workgroupBarrier();
    }
}
