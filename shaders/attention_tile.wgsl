// attention_tile: out[q] = softmax(q k^T * scale) v, per head, over all keys (bidirectional, no mask)
// For real GPUs: 8 ROWS queries per workgroup against 32 keys at a time, operands staged in workgroup memory 32
// elements of the head at a time, scores and sums in registers. The 64 lanes are 8 x 8: a lane has ROWS queries,
// of the scores four neighbouring keys, of the sums every eighth vector of the head. HEAD_DIM must be a multiple
// of 32. Several workgroups may share the keys (keys_per_part, a multiple of 32); then `out` is [parts, n_q, n_heads,
// HEAD_DIM + 4] and attention_merge puts them together.
// Dispatch: [ceil(n_q / (8 ROWS)), n_heads, ceil(n_kv / keys_per_part)].
// @slot octets
// @slot kept

const HEAD_DIM: u32 = 64u;
const ROWS: u32 = 4u;
const WG: u32 = 64u;

struct Params {
    n_q: u32, n_kv: u32, q_row0: u32, kv_row0: u32, out_row0: u32,
    n_heads: u32, n_kv_heads: u32, head_dim: u32, scale: f32,
    keys_per_part: u32,   // keys of one workgroup
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       q:   array<vec4<f32>>;   // [.., n_heads * HEAD_DIM / 4]
@group(0) @binding(2) var<storage, read>       k:   array<Kept4>;       // [.., n_kv_heads * HEAD_DIM / 4]
@group(0) @binding(3) var<storage, read>       v:   array<Kept4>;       // [.., n_kv_heads * HEAD_DIM / 4]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;   // [.., n_heads * HEAD_DIM / 4]; or the parts

const D4: u32 = HEAD_DIM / 4u;
const CHUNKS: u32 = HEAD_DIM / 32u;
const BQ: u32 = 8u * ROWS;
const BK: u32 = 32u;
// Vectors of a staged row of 32 elements: one more than there are, so that rows begin in different banks.
const STRIDE: u32 = 9u;

var<workgroup> q_tile:  array<vec4<f32>, BQ * STRIDE>;
var<workgroup> kv_tile: array<vec4<f32>, BK * STRIDE>;
var<workgroup> weights: array<vec4<f32>, BQ * STRIDE>;   // of the BK keys, four to a vector

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let kv_head = head / (params.n_heads / params.n_kv_heads);
    let q_stride = params.n_heads * D4;
    let kv_stride = params.n_kv_heads * D4;
    let q_at = params.q_row0 * q_stride + head * D4;
    let kv_at = params.kv_row0 * kv_stride + kv_head * D4;
    let first = group.x * BQ;
    let y = lane / 8u;
    let x = lane % 8u;
    let row0 = y * ROWS;   // of the lane's queries, in the tile
    let first_key = group.z * params.keys_per_part;
    let end_key = min(first_key + params.keys_per_part, params.n_kv);

    var acc: array<array<vec4<f32>, ROWS>, CHUNKS>;
    var top: array<f32, ROWS>;
    var sum: array<f32, ROWS>;   // over the lane's own keys
    for (var r = 0u; r < ROWS; r++) { top[r] = -1.0e30; }

    for (var key0 = first_key; key0 < end_key; key0 += BK) {
        var p: array<vec4<f32>, ROWS>;   // of the keys 4 x .. 4 x + 3
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            // Rows past the end repeat the last one: queries are not stored, keys get weight zero.
            for (var i = y; i < BQ; i += 8u) {
                q_tile[i * STRIDE + x] = q[q_at + min(first + i, params.n_q - 1u) * q_stride + 8u * chunk + x];
            }
            // Keys 4 x + c lie in row x + 8 c, where the eight lanes that read them find different banks.
            for (var i = y; i < BK; i += 8u) {
                let key = key0 + 4u * (i % 8u) + i / 8u;
                let at = kv_at + min(key, end_key - 1u) * kv_stride + 8u * chunk + x;
                kv_tile[i * STRIDE + x] = kept4(k[at]);
            }
            workgroupBarrier();
            for (var d = 0u; d < 8u; d++) {
                let keys = transpose(mat4x4<f32>(
                    kv_tile[x * STRIDE + d],
                    kv_tile[(x + 8u) * STRIDE + d],
                    kv_tile[(x + 16u) * STRIDE + d],
                    kv_tile[(x + 24u) * STRIDE + d],
                ));
                for (var r = 0u; r < ROWS; r++) {
                    let query = q_tile[(row0 + r) * STRIDE + d];
                    p[r] = fma(vec4<f32>(query.x), keys[0], p[r]);
                    p[r] = fma(vec4<f32>(query.y), keys[1], p[r]);
                    p[r] = fma(vec4<f32>(query.z), keys[2], p[r]);
                    p[r] = fma(vec4<f32>(query.w), keys[3], p[r]);
                }
            }
            workgroupBarrier();
        }

        let valid = vec4<u32>(key0 + 4u * x) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(end_key);
        for (var r = 0u; r < ROWS; r++) {
            let score = select(vec4<f32>(-3.0e38), p[r] * params.scale, valid);
            let highest = octet_max(lane, r, max(max(score.x, score.y), max(score.z, score.w)));
            let new_top = max(top[r], highest);
            let keep = exp(top[r] - new_top);
            top[r] = new_top;
            let weight = exp(score - new_top);
            sum[r] = sum[r] * keep + ((weight.x + weight.y) + (weight.z + weight.w));
            for (var chunk = 0u; chunk < CHUNKS; chunk++) { acc[chunk][r] *= keep; }
            weights[(row0 + r) * STRIDE + x] = weight;
        }

        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            for (var i = y; i < BK; i += 8u) {
                let at = kv_at + min(key0 + i, end_key - 1u) * kv_stride + 8u * chunk + x;
                kv_tile[i * STRIDE + x] = kept4(v[at]);
            }
            workgroupBarrier();
            // On their own: where a driver leaves the loop over chunks a loop, `acc` is in memory.
            var o: array<vec4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) { o[r] = acc[chunk][r]; }
            for (var j = 0u; j < 8u; j++) {
                let v0 = kv_tile[(4u * j) * STRIDE + x];
                let v1 = kv_tile[(4u * j + 1u) * STRIDE + x];
                let v2 = kv_tile[(4u * j + 2u) * STRIDE + x];
                let v3 = kv_tile[(4u * j + 3u) * STRIDE + x];
                for (var r = 0u; r < ROWS; r++) {
                    let weight = weights[(row0 + r) * STRIDE + j];
                    o[r] = fma(vec4<f32>(weight.x), v0, o[r]);
                    o[r] = fma(vec4<f32>(weight.y), v1, o[r]);
                    o[r] = fma(vec4<f32>(weight.z), v2, o[r]);
                    o[r] = fma(vec4<f32>(weight.w), v3, o[r]);
                }
            }
            for (var r = 0u; r < ROWS; r++) { acc[chunk][r] = o[r]; }
            workgroupBarrier();
        }
    }

    let is_part = params.keys_per_part < params.n_kv;
    for (var r = 0u; r < ROWS; r++) {
        let total = octet_add(lane, r, sum[r]);
        let row = first + row0 + r;
        if (row < params.n_q) {
            var out_at = (params.out_row0 + row) * q_stride + head * D4;
            var divisor = total;
            if (is_part) {
                out_at = ((group.z * params.n_q + row) * params.n_heads + head) * (D4 + 1u);
                divisor = 1.0;
                if (x == 0u) { out[out_at + D4] = vec4<f32>(top[r], total, 0.0, 0.0); }
            }
            for (var chunk = 0u; chunk < CHUNKS; chunk++) { out[out_at + 8u * chunk + x] = acc[chunk][r] / divisor; }
        }
    }
}
