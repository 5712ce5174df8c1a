// matmul_direct: out[out_row0 + r, col0 + c] = act(sum_k x[x_row0 + r, k] * w[c, k] + bias[col0 + c]) (+ out)
// Register-blocked, without workgroup memory: each lane owns MR rows x NR columns (WG apart). Wins on software
// adapters, where barriers and workgroup memory are slow. k must be a multiple of 8.
// Dispatch: [ceil(slab_cols / (WG NR)), ceil(m / MR), 1].
// @use direct_block, store_block
// @slot weights

const WG: u32 = 64u;
const MR: u32 = 8u;
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
@group(0) @binding(1) var<storage, read>       x:    array<vec4<f32>>;  // [.., k / 4]
@group(0) @binding(2) var<storage, read>       w:    array<vec4<u32>>;  // [slab_cols, k], packed
@group(0) @binding(3) var<storage, read>       bias: array<f32>;        // [n]
@group(0) @binding(4) var<storage, read_write> out:  array<f32>;        // [.., n]

fn activations(i: u32) -> vec4<f32> { return x[i]; }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.y * MR;
    let first_col = group.x * WG * NR + lane;
    // Rows and columns past the edge repeat the last one and are not stored.
    var w_at: array<u32, NR>;
    for (var c = 0u; c < NR; c++) { // @unroll
        w_at[c] = row8(params.w_row0 + min(first_col + WG * c, params.slab_cols - 1u), params.k);
    }
    var x_at: array<u32, MR>;
    for (var r = 0u; r < MR; r++) { // @unroll
        x_at[r] = (params.x_row0 + min(row0 + r, params.m - 1u)) * (params.k / 4u);
    }
    multiply(x_at, w_at, params.k, params.k / 8u);
    store_block(row0, first_col);
}
