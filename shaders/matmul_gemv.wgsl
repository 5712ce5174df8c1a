// matmul_gemv: out[out_row0 + r, col0 + c] = act(sum_k x[x_row0 + r, k] * w[c, k] + bias[col0 + c]) (+ out)
// For few rows: the lanes of a workgroup share the inner length, so that a row of weights is read by neighbours,
// and add up what they have at the end. MR rows x NR columns per workgroup. k must be a multiple of 8.
// Dispatch: [ceil(slab_cols / NR), ceil(m / MR), 1].
// @use epilogue
// @slot weights
// @slot sums

const WG: u32 = 64u;
const MR: u32 = 4u;
const NR: u32 = 4u;

struct Params {
    m: u32, n: u32, k: u32,           // rows, columns of `out`, inner length
    slab_cols: u32, col0: u32,        // columns from this slab and their offset in `out`
    w_row0: u32,                      // the slab's row of the first of them
    x_row0: u32, out_row0: u32,
    has_bias: u32, activation: u32, accumulate: u32,
    k_part: u32,                      // inner elements of one workgroup
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:    array<vec4<f32>>;  // [.., k / 4]
@group(0) @binding(2) var<storage, read>       w:    array<vec4<u32>>;  // [slab_cols, k], packed
@group(0) @binding(3) var<storage, read>       bias: array<f32>;        // [n]
@group(0) @binding(4) var<storage, read_write> out:  array<f32>;        // [.., n]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let k8 = params.k / 8u;
    let row0 = group.y * MR;
    let first_col = group.x * NR;
    // Rows and columns past the edge repeat the last one and are not stored.
    var acc: array<array<f32, NR>, MR>;
    for (var k = lane; k < k8; k += WG) {
        var wk: array<Weights8, NR>;
        for (var c = 0u; c < NR; c++) {
            let col = min(first_col + c, params.slab_cols - 1u);
            wk[c] = weights8(row8(params.w_row0 + col, params.k), k, params.k);
        }
        for (var r = 0u; r < MR; r++) {
            let at = (params.x_row0 + min(row0 + r, params.m - 1u)) * k8 * 2u + 2u * k;
            let lo = x[at];
            let hi = x[at + 1u];
            for (var c = 0u; c < NR; c++) { acc[r][c] += dot(lo, wk[c].lo) + dot(hi, wk[c].hi); }
        }
    }
    for (var r = 0u; r < MR; r++) {
        for (var c = 0u; c < NR; c++) {
            let sum = reduce_add(lane, acc[r][c]);
            if (lane == 0u && row0 + r < params.m && first_col + c < params.slab_cols) {
                store(row0 + r, first_col + c, sum);
            }
        }
    }
}
