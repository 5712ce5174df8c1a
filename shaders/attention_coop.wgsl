// attention_coop: out[q] = softmax(q k^T * scale) v, per head, over all keys, on cooperative matrices
// EDGE queries of one head per workgroup; q, k, v and the weights of the softmax are rounded to f16 (and to its
// range), scores and sums are f32. Two passes over the keys: the first finds each row's maximum, so that the second
// never has to rescale its sums, which a cooperative matrix cannot do by rows. Four subgroups share the keys of a
// block in q k^T and the head's columns in the product with v; more repeat them, as in matmul_coop. Several workgroups
// may share the keys (keys_per_part, a multiple of KEYS); then `out` is [parts, n_q, n_heads, HEAD_DIM + 4] and
// attention_merge puts them together.
// Dispatch: [ceil(n_q / EDGE), n_heads, ceil(n_kv / keys_per_part)].
// @needs f16, subgroup
// @slot matrices
// @slot kept
enable f16;
enable wgpu_cooperative_matrix;

const HEAD_DIM: u32 = 64u;
const LANES: u32 = 128u;

struct Params {
    n_q: u32, n_kv: u32, q_row0: u32, kv_row0: u32, out_row0: u32,
    n_heads: u32, n_kv_heads: u32, head_dim: u32, scale: f32,
    keys_per_part: u32,   // keys of one workgroup
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       q:   array<vec4<f32>>;   // [.., n_heads * HEAD_DIM / 4]
@group(0) @binding(2) var<storage, read>       k:   array<Kept4>;       // [.., n_kv_heads * HEAD_DIM / 4]
@group(0) @binding(3) var<storage, read>       v:   array<Kept4>;       // [.., n_kv_heads * HEAD_DIM / 4]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;         // [.., n_heads * HEAD_DIM]; or the parts

const D4: u32 = HEAD_DIM / 4u;
const KEYS: u32 = 4u * EDGE;            // keys of a block
const SLICE: u32 = 32u;                 // columns of k staged at a time
// Rows of the staged operands, padded against bank conflicts.
const HEAD_STRIDE: u32 = HEAD_DIM + 8u;
const SLICE_STRIDE: u32 = SLICE + 8u;
const KEY_STRIDE: u32 = KEYS + 8u;
const TILES: u32 = HEAD_DIM / EDGE / 4u;    // matrices of the result per subgroup
const WORKERS: u32 = 128u;                  // lanes that compute the softmax
const SHARERS: u32 = WORKERS / EDGE;        // those that share a row
// The largest weight of a row: f16 has no room below 1 for small ones, but much above. The sums divide it out.
const ONE: f32 = 32768.0;

var<workgroup> q_tile: array<f16, EDGE * HEAD_STRIDE>;      // [EDGE, HEAD_DIM]
var<workgroup> kv_tile: array<f16, KEYS * SLICE_STRIDE>;    // k: [KEYS, SLICE]; v: [EDGE, HEAD_DIM], smaller
var<workgroup> scores: array<f32, EDGE * KEYS>;             // [EDGE, KEYS]
var<workgroup> weights: array<f16, EDGE * KEY_STRIDE>;      // [EDGE, KEYS]
var<workgroup> partial: array<f32, WORKERS>;

fn rounded(x: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(clamp(x, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

// scores = q k^T of the block of keys that begins at `first`; those past the last key are 0.
fn score(first: u32, kv_at: u32, kv_stride: u32, lane: u32, quarter: u32) {
    var sum = Sum();
    for (var d = 0u; d < HEAD_DIM; d += SLICE) {
        for (var i = lane; i < KEYS * SLICE / 4u; i += LANES) {
            let key = i / (SLICE / 4u);
            let quad = i % (SLICE / 4u);
            var x = vec4<f16>();
            if (first + key < params.n_kv) { x = rounded(kept4(k[kv_at + (first + key) * kv_stride + d / 4u + quad])); }
            for (var j = 0u; j < 4u; j++) { kv_tile[key * SLICE_STRIDE + 4u * quad + j] = x[j]; }
        }
        workgroupBarrier();
        for (var e = 0u; e < SLICE; e += EDGE) {
            let left = coopLoadT<Left>(&q_tile[d + e], HEAD_STRIDE);
            // Columns of k^T are rows of k.
            let right = coopLoad<Right>(&kv_tile[quarter * EDGE * SLICE_STRIDE + e], SLICE_STRIDE);
            sum = coopMultiplyAdd(left, right, sum);
        }
        workgroupBarrier();
    }
    // naga wants plain names here.
    let block = sum;
    let at = quarter * EDGE;
    let stride = KEYS;
    coopStoreT(block, &scores[at], stride);
    workgroupBarrier();
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let head = group.y;
    let quarter = subgroup % 4u;
    let q0 = group.x * EDGE;
    let q_stride = params.n_heads * D4;
    let kv_stride = params.n_kv_heads * D4;
    let kv_at = params.kv_row0 * kv_stride + head / (params.n_heads / params.n_kv_heads) * D4;
    for (var i = lane; i < EDGE * D4; i += LANES) {
        let row = i / D4;
        var x = vec4<f16>();
        if (q0 + row < params.n_q) { x = rounded(q[(params.q_row0 + q0 + row) * q_stride + head * D4 + i % D4]); }
        for (var j = 0u; j < 4u; j++) { q_tile[row * HEAD_STRIDE + i % D4 * 4u + j] = x[j]; }
    }
    workgroupBarrier();

    let first_key = group.z * params.keys_per_part;
    let end_key = min(first_key + params.keys_per_part, params.n_kv);
    let row = min(lane, WORKERS - 1u) / SHARERS;
    // Surplus lanes begin past every block.
    let share = select(KEYS, lane % SHARERS, lane < WORKERS);
    var top = -3.4e38;
    for (var first = first_key; first < end_key; first += KEYS) {
        score(first, kv_at, kv_stride, lane, quarter);
        for (var key = share; key < min(KEYS, params.n_kv - first); key += SHARERS) {
            top = max(top, scores[row * KEYS + key]);
        }
        workgroupBarrier();
    }
    if (lane < WORKERS) { partial[lane] = top; }
    workgroupBarrier();
    for (var i = 0u; i < SHARERS; i++) { top = max(top, partial[row * SHARERS + i]); }
    workgroupBarrier();

    var sum = 0.0;
    var acc: array<Sum, TILES>;
    for (var t = 0u; t < TILES; t++) { acc[t] = Sum(); }
    for (var first = first_key; first < end_key; first += KEYS) {
        score(first, kv_at, kv_stride, lane, quarter);
        for (var key = share; key < KEYS; key += SHARERS) {
            var weight = f16(0.0);
            if (first + key < params.n_kv) { weight = f16(ONE * exp(params.scale * (scores[row * KEYS + key] - top))); }
            weights[row * KEY_STRIDE + key] = weight;
            sum += f32(weight);
        }
        for (var e = 0u; e < KEYS; e += EDGE) {
            for (var i = lane; i < EDGE * D4; i += LANES) {
                let key = first + e + i / D4;
                var x = vec4<f16>();
                if (key < params.n_kv) { x = rounded(kept4(v[kv_at + key * kv_stride + i % D4])); }
                for (var j = 0u; j < 4u; j++) { kv_tile[i / D4 * HEAD_STRIDE + i % D4 * 4u + j] = x[j]; }
            }
            workgroupBarrier();
            let left = coopLoadT<Left>(&weights[e], KEY_STRIDE);
            for (var t = 0u; t < TILES; t++) {
                let right = coopLoadT<Right>(&kv_tile[(quarter * TILES + t) * EDGE], HEAD_STRIDE);
                acc[t] = coopMultiplyAdd(left, right, acc[t]);
            }
            workgroupBarrier();
        }
    }
    if (lane < WORKERS) { partial[lane] = sum; }
    workgroupBarrier();
    let is_part = params.keys_per_part < params.n_kv;
    if (is_part && lane < WORKERS && share == 0u && q0 + row < params.n_q) {
        var total = 0.0;
        for (var p = 0u; p < SHARERS; p++) { total += partial[row * SHARERS + p]; }
        let at = ((group.z * params.n_q + q0 + row) * params.n_heads + head) * (HEAD_DIM + 4u) + HEAD_DIM;
        out[at] = params.scale * top;
        out[at + 1u] = total;
    }
    for (var t = 0u; t < TILES; t++) {
        let block = acc[t];
        let at = quarter * EDGE;
        let stride = KEYS;
        coopStoreT(block, &scores[at], stride);
        workgroupBarrier();
        for (var i = lane; i < EDGE * KEYS; i += LANES) {
            let r = i / KEYS;
            var total = 0.0;
            for (var p = 0u; p < SHARERS; p++) { total += partial[r * SHARERS + p]; }
            let column = (i % KEYS / EDGE * TILES + t) * EDGE + i % EDGE;
            var out_at = ((params.out_row0 + q0 + r) * params.n_heads + head) * HEAD_DIM + column;
            if (is_part) {
                out_at = ((group.z * params.n_q + q0 + r) * params.n_heads + head) * (HEAD_DIM + 4u) + column;
                total = 1.0;
            }
            if (q0 + r < params.n_q) { out[out_at] = scores[i] / total; }
        }
        workgroupBarrier();
    }
}
