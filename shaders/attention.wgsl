// attention: out[q] = softmax(q k^T * scale) v, per head, over all keys (bidirectional, no mask)
// Fused with an online softmax; scores live in registers, never in memory. Each lane owns QB queries and
// takes KB keys at a time, so every key and value vector, the same for all lanes, serves QB queries and
// every query vector KB keys. HEAD_DIM must be a multiple of 4.
// Dispatch: [ceil(n_q / 32), n_heads, 1].
// @slot kept

const HEAD_DIM: u32 = 64u;
const QB: u32 = 4u;
const KB: u32 = 16u;
const WG: u32 = 32u / QB;   // 32 queries per workgroup: 16 KiB of workgroup memory at HEAD_DIM 128

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

// The running weighted sums: too many for registers at HEAD_DIM 128, and private to each lane anyway.
var<workgroup> acc: array<array<array<vec4<f32>, WG>, QB>, D4>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let kv_head = head / (params.n_heads / params.n_kv_heads);
    let q_stride = params.n_heads * D4;
    let kv_stride = params.n_kv_heads * D4;
    let kv_at = params.kv_row0 * kv_stride + kv_head * D4;
    let first = group.x * WG * QB + lane;
    // Not HEAD_DIM, so that no driver unrolls loops over a whole head: it would take some half a minute.
    let d4 = params.head_dim / 4u;

    var q_at: array<u32, QB>;
    var top: array<f32, QB>;
    var sum: array<f32, QB>;
    for (var i = 0u; i < QB; i++) {
        q_at[i] = (params.q_row0 + min(first + i * WG, params.n_q - 1u)) * q_stride + head * D4;
        top[i] = -1.0e30;
    }
    for (var d = 0u; d < d4; d++) {
        for (var i = 0u; i < QB; i++) { acc[d][i][lane] = vec4<f32>(0.0); }
    }

    for (var key0 = 0u; key0 < params.n_kv; key0 += KB) {
        // Keys past the end repeat the last one with weight zero.
        var key_at: array<u32, KB>;
        for (var j = 0u; j < KB; j++) { key_at[j] = kv_at + min(key0 + j, params.n_kv - 1u) * kv_stride; }

        var p: array<array<f32, KB>, QB>;
        for (var d = 0u; d < d4; d++) {
            var qd: array<vec4<f32>, QB>;
            for (var i = 0u; i < QB; i++) { qd[i] = q[q_at[i] + d]; }
            for (var j = 0u; j < KB; j++) {
                let kd = kept4(k[key_at[j] + d]);
                for (var i = 0u; i < QB; i++) {
                    p[i][j] = fma(qd[i].x, kd.x, fma(qd[i].y, kd.y, fma(qd[i].z, kd.z, fma(qd[i].w, kd.w, p[i][j]))));
                }
            }
        }

        var keep: array<f32, QB>;
        for (var i = 0u; i < QB; i++) {
            var new_top = top[i];
            for (var j = 0u; j < KB; j++) {
                p[i][j] = select(-3.0e38, p[i][j] * params.scale, key0 + j < params.n_kv);
                new_top = max(new_top, p[i][j]);
            }
            keep[i] = exp(top[i] - new_top);
            top[i] = new_top;
            sum[i] = sum[i] * keep[i];
            for (var j = 0u; j < KB; j++) {
                p[i][j] = exp(p[i][j] - new_top);
                sum[i] += p[i][j];
            }
        }

        for (var d = 0u; d < d4; d++) {
            var o: array<vec4<f32>, QB>;
            for (var i = 0u; i < QB; i++) { o[i] = acc[d][i][lane] * keep[i]; }
            for (var j = 0u; j < KB; j++) {
                let vd = kept4(v[key_at[j] + d]);
                for (var i = 0u; i < QB; i++) { o[i] = fma(vec4<f32>(p[i][j]), vd, o[i]); }
            }
            for (var i = 0u; i < QB; i++) { acc[d][i][lane] = o[i]; }
        }
    }

    for (var i = 0u; i < QB; i++) {
        let row = first + i * WG;
        if (row < params.n_q) {
            let out_at = (params.out_row0 + row) * q_stride + head * D4;
            for (var d = 0u; d < d4; d++) { out[out_at + d] = acc[d][i][lane] / sum[i]; }
        }
    }
}
