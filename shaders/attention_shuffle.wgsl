// attention_shuffle: out[q] = softmax(q k^T * scale) v, per head, over all keys (bidirectional, no mask)
// Fused with an online softmax. A workgroup is eight lanes, each with four queries. Keys and values, the same for
// all queries, are read by one lane each, eight rows at a time, and passed on by shuffles (lib/shuffle). The four
// queries of a lane are the components of vectors throughout; scores, then weights, of eight keys are a Rows8.
// HEAD_DIM must be a multiple of 4, at most 128. Dispatch: [ceil(n_q / 32), n_heads, 1].
// @use shuffle
// @slot kept

const HEAD_DIM: u32 = 64u;
const WG: u32 = 8u;   // lanes that shuffle: one subgroup, or a part of one
const KB: u32 = 32u;  // keys between two updates of the running sums

struct Params {
    n_q: u32, n_kv: u32, q_row0: u32, kv_row0: u32, out_row0: u32,
    n_heads: u32, n_kv_heads: u32, head_dim: u32, scale: f32,
    keys_per_part: u32,   // keys of one workgroup
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       q:   array<vec4<f32>>;   // [.., n_heads * HEAD_DIM / 4]
@group(0) @binding(2) var<storage, read>       k:   array<Kept4>;       // [.., n_kv_heads * HEAD_DIM / 4]
@group(0) @binding(3) var<storage, read>       v:   array<Kept4>;       // [.., n_kv_heads * HEAD_DIM / 4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;   // [.., n_heads * HEAD_DIM / 4]

const D4: u32 = HEAD_DIM / 4u;

// The running weighted sums of a lane: for each element of the head a vector over its queries. Too many for
// registers, and private to each lane.
var<workgroup> acc: array<array<array<vec4<f32>, WG>, 4>, D4>;

// Four elements of the head for the lane's four queries.
struct Sums { x: vec4<f32>, y: vec4<f32>, z: vec4<f32>, w: vec4<f32> }

// Scales the scores; keys past the end repeat the last one and get weight zero. Returns the new maxima.
fn finish_scores(scores: ptr<function, Rows8>, first_key: u32, top: vec4<f32>) -> vec4<f32> {
    var new_top = top;
    for (var j = 0u; j < 8u; j++) {
        (*scores)[j] = select(vec4<f32>(-3.0e38), (*scores)[j] * params.scale, first_key + j < params.n_kv);
        new_top = max(new_top, (*scores)[j]);
    }
    return new_top;
}

// Turns scores into weights and returns their sums.
fn exponentiate(scores: ptr<function, Rows8>, top: vec4<f32>) -> vec4<f32> {
    var sum = vec4<f32>(0.0);
    for (var j = 0u; j < 8u; j++) {
        (*scores)[j] = exp((*scores)[j] - top);
        sum += (*scores)[j];
    }
    return sum;
}

fn add_values(sums: ptr<function, Sums>, weights: ptr<function, Rows8>, mine: vec4<f32>) {
    for (var j = 0u; j < 8u; j++) {
        let value = subgroupShuffle(mine, j);
        let weight = (*weights)[j];
        (*sums).x = fma(vec4<f32>(value.x), weight, (*sums).x);
        (*sums).y = fma(vec4<f32>(value.y), weight, (*sums).y);
        (*sums).z = fma(vec4<f32>(value.z), weight, (*sums).z);
        (*sums).w = fma(vec4<f32>(value.w), weight, (*sums).w);
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let kv_head = head / (params.n_heads / params.n_kv_heads);
    let q_stride = params.n_heads * D4;
    let kv_stride = params.n_kv_heads * D4;
    let kv_at = params.kv_row0 * kv_stride + kv_head * D4;
    let first = group.x * 4u * WG + lane;
    let apart = vec4<u32>(0u, WG, 2u * WG, 3u * WG);
    let queries = min(vec4<u32>(first) + apart, vec4<u32>(params.n_q - 1u));
    let q_at = (params.q_row0 + queries) * q_stride + head * D4;
    // Not HEAD_DIM, so that the loops that are run once are not unrolled.
    let d4 = params.head_dim / 4u;

    var top = vec4<f32>(-1.0e30);
    var sum = vec4<f32>(0.0);
    for (var d = 0u; d < d4; d++) {
        for (var i = 0u; i < 4u; i++) { acc[d][i][lane] = vec4<f32>(0.0); }
    }

    for (var key0 = 0u; key0 < params.n_kv; key0 += KB) {
        let keys = min(vec4<u32>(key0 + lane) + apart, vec4<u32>(params.n_kv - 1u));
        let key_at = kv_at + keys * kv_stride;
        var p0: Rows8;
        var p1: Rows8;
        var p2: Rows8;
        var p3: Rows8;
        for (var d = 0u; d < D4; d++) {
            let qd = transpose(mat4x4<f32>(q[q_at.x + d], q[q_at.y + d], q[q_at.z + d], q[q_at.w + d]));
            add_products(&p0, kept4(k[key_at.x + d]), qd);
            add_products(&p1, kept4(k[key_at.y + d]), qd);
            add_products(&p2, kept4(k[key_at.z + d]), qd);
            add_products(&p3, kept4(k[key_at.w + d]), qd);
        }

        var new_top = finish_scores(&p0, key0, top);
        new_top = finish_scores(&p1, key0 + 8u, new_top);
        new_top = finish_scores(&p2, key0 + 16u, new_top);
        new_top = finish_scores(&p3, key0 + 24u, new_top);
        let keep = exp(top - new_top);
        top = new_top;
        sum *= keep;
        sum += exponentiate(&p0, top);
        sum += exponentiate(&p1, top);
        sum += exponentiate(&p2, top);
        sum += exponentiate(&p3, top);

        for (var d = 0u; d < D4; d++) {
            var o = Sums(acc[d][0][lane] * keep, acc[d][1][lane] * keep, acc[d][2][lane] * keep, acc[d][3][lane] * keep);
            add_values(&o, &p0, kept4(v[key_at.x + d]));
            add_values(&o, &p1, kept4(v[key_at.y + d]));
            add_values(&o, &p2, kept4(v[key_at.z + d]));
            add_values(&o, &p3, kept4(v[key_at.w + d]));
            acc[d][0][lane] = o.x;
            acc[d][1][lane] = o.y;
            acc[d][2][lane] = o.z;
            acc[d][3][lane] = o.w;
        }
    }

    for (var d = 0u; d < d4; d++) {
        let o = transpose(mat4x4<f32>(
            acc[d][0][lane] / sum, acc[d][1][lane] / sum, acc[d][2][lane] / sum, acc[d][3][lane] / sum,
        ));
        for (var i = 0u; i < 4u; i++) {
            let row = first + i * WG;
            if (row < params.n_q) { out[(params.out_row0 + row) * q_stride + head * D4 + d] = o[i]; }
        }
    }
}
