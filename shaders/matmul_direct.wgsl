// matmul_direct: out[out_row0 + r, col0 + c] = act(sum_k x[x_row0 + r, k] * w[c, k] + bias[col0 + c]) (+ out)
// Register-blocked, without workgroup memory: each lane owns MR rows x NR columns (64 apart), so every
// weight vector is reused MR times and every activation vector, the same for all lanes, NR times.
// The inner loops are written out, or drivers would keep large blocks in memory. Wins on software adapters, where
// barriers and workgroup memory are slow. k must be a multiple of 8.
// Dispatch: [ceil(slab_cols / (64 NR)), ceil(m / MR), 1].
// @use epilogue
// @slot weights

const MR: u32 = 8u;
const NR: u32 = 8u;
const BARRIER: u32 = 0u;

struct Params {
    m: u32, n: u32, k: u32,           // rows, columns of `out`, inner length
    slab_cols: u32, col0: u32,        // columns from this slab and their offset in `out`
    w_row0: u32,                      // the slab's row of the first of them
    x_row0: u32, out_row0: u32,
    has_bias: u32, activation: u32, accumulate: u32,
    k_part: u32, k0: u32,             // inner elements of one workgroup and the first of the dispatch
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:    array<vec4<f32>>;  // [.., k / 4]
@group(0) @binding(2) var<storage, read>       w:    array<vec4<u32>>;  // [slab_cols, k], packed
@group(0) @binding(3) var<storage, read>       bias: array<f32>;        // [n]
@group(0) @binding(4) var<storage, read_write> out:  array<f32>;        // [.., n]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let k8 = params.k / 8u;
    let row0 = group.y * MR;
    let first_col = group.x * 64u * NR + lane;
    // Rows and columns past the edge repeat the last one and are not stored.
    var w_at: array<u32, NR>;
    for (var c = 0u; c < NR; c++) {
        w_at[c] = row8(params.w_row0 + min(first_col + 64u * c, params.slab_cols - 1u), params.k);
    }
    var x_at: array<u32, MR>;
    for (var r = 0u; r < MR; r++) { x_at[r] = (params.x_row0 + min(row0 + r, params.m - 1u)) * k8 * 2u; }

    var acc: array<array<f32, NR>, MR>;
    for (var k = 0u; k < k8; k++) {
        var wk: array<Weights8, NR>;
        for (var c = 0u; c < NR; c++) { // @unroll
            wk[c] = weights8(w_at[c], k, params.k);
        }
        for (var r = 0u; r < MR; r++) { // @unroll
            let lo = x[x_at[r] + 2u * k];
            let hi = x[x_at[r] + 2u * k + 1u];
            for (var c = 0u; c < NR; c++) { // @unroll
                var sum = acc[r][c];
                sum = fma(lo.x, wk[c].lo.x, sum);
                sum = fma(lo.y, wk[c].lo.y, sum);
                sum = fma(lo.z, wk[c].lo.z, sum);
                sum = fma(lo.w, wk[c].lo.w, sum);
                sum = fma(hi.x, wk[c].hi.x, sum);
                sum = fma(hi.y, wk[c].hi.y, sum);
                sum = fma(hi.z, wk[c].hi.z, sum);
                sum = fma(hi.w, wk[c].hi.w, sum);
                acc[r][c] = sum;
            }
        }
    }

    // Not needed; but with it recent Mesas keep the sums of a wide block in registers.
    if (BARRIER == 1u) { workgroupBarrier(); }

    for (var r = 0u; r < MR; r++) {
        for (var c = 0u; c < NR; c++) {
            let col = first_col + 64u * c;
            if (row0 + r < params.m && col < params.slab_cols) { store(row0 + r, col, acc[r][c]); }
        }
    }
}
