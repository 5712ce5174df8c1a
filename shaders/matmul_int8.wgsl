// matmul_int8: out[out_row0 + r, col0 + c] = act(sum_b scale_x[r, b] * scale_w[c, b] * (x[r, b] . w[c, b]) + bias) (+ out)
// Activations of quantize_rows times quantized weights: blocks of 32 multiply as bytes with exact integer sums,
// which are scaled and added in f32. Blocked like matmul_direct. k must be a multiple of 32.
// Dispatch: [ceil(slab_cols / (WG NR)), ceil(m / MR), 1].
// @use store_block
// @slot quants

const WG: u32 = 64u;
const MR: u32 = 16u;
const NR: u32 = 8u;
const BARRIER: u32 = 0u;

struct Params {
    m: u32, n: u32, k: u32,           // rows, columns of `out`, inner length
    slab_cols: u32, col0: u32,        // columns from this slab and their offset in `out`
    w_row0: u32,                      // the slab's row of the first of them
    x_row0: u32, out_row0: u32,
    has_bias: u32, activation: u32, accumulate: u32,
    k_part: u32,                      // inner elements of one workgroup
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:      array<vec4<u32>>;  // [m, k / 16], 16 signed bytes each
@group(0) @binding(2) var<storage, read>       scales: array<f32>;        // [m, k / 32]
@group(0) @binding(3) var<storage, read>       w:      array<vec4<u32>>;  // [slab_cols, k], packed
@group(0) @binding(4) var<storage, read>       bias:   array<f32>;        // [n]
@group(0) @binding(5) var<storage, read_write> out:    array<f32>;        // [.., n]

// The sums, as in lib/direct_block.
var<private> block: array<array<f32, NR>, MR>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let blocks = params.k / 32u;
    let row0 = group.y * MR;
    let first_col = group.x * WG * NR + lane;
    // Rows and columns past the edge repeat the last one and are not stored.
    var w_at: array<u32, NR>;
    for (var c = 0u; c < NR; c++) { // @unroll
        w_at[c] = row8(params.w_row0 + min(first_col + WG * c, params.slab_cols - 1u), params.k);
    }
    var x_at: array<u32, MR>;
    for (var r = 0u; r < MR; r++) { // @unroll
        x_at[r] = min(row0 + r, params.m - 1u) * blocks;
    }

    var acc: array<array<f32, NR>, MR>;
    for (var b = 0u; b < blocks; b++) {
        var wb: array<Quants32, NR>;
        var w_scale: array<f32, NR>;
        for (var c = 0u; c < NR; c++) { // @unroll
            wb[c] = quants32(w_at[c], b);
            w_scale[c] = scale_of(w_at[c], b, params.k);
        }
        for (var r = 0u; r < MR; r++) { // @unroll
            let at = x_at[r] + b;
            let lo = x[2u * at];
            let hi = x[2u * at + 1u];
            let x_scale = scales[at];
            for (var c = 0u; c < NR; c++) { // @unroll
                let sum = dot4I8Packed(lo.x, wb[c].lo.x) + dot4I8Packed(lo.y, wb[c].lo.y)
                    + dot4I8Packed(lo.z, wb[c].lo.z) + dot4I8Packed(lo.w, wb[c].lo.w)
                    + dot4I8Packed(hi.x, wb[c].hi.x) + dot4I8Packed(hi.y, wb[c].hi.y)
                    + dot4I8Packed(hi.z, wb[c].hi.z) + dot4I8Packed(hi.w, wb[c].hi.w);
                acc[r][c] = fma(f32(sum), x_scale * w_scale[c], acc[r][c]);
            }
        }
    }

    // As in lib/direct_block.
    if (BARRIER == 1u) { workgroupBarrier(); }
    for (var r = 0u; r < MR; r++) { // @unroll
        for (var c = 0u; c < NR; c++) { // @unroll
            block[r][c] = acc[r][c];
        }
    }
    store_block(row0, first_col);
}
