// matmul_coop: out[out_row0 + r, col0 + c] = act(sum_k f16(x[x_row0 + r, k]) * f16(w[c, k]) + bias[col0 + c]) (+ out)
// Four subgroups of a workgroup, two by two, each with TILES x TILES cooperative matrices of f32 sums; operands
// are rounded to f16 (and to its range) while they are staged in workgroup memory. k must be a multiple of 8.
// LANES holds at least four subgroups. More help with staging; then they repeat what the first four do and store
// the same numbers, because control flow around cooperative matrices must not depend on the subgroup.
// Dispatch: [ceil(slab_cols / (2 TILES EDGE)), ceil(m / (2 TILES EDGE)), ceil(k / k_part)].
// @needs f16, subgroup
// @use epilogue
// @slot weights
// @slot matrices
enable f16;
enable wgpu_cooperative_matrix;

const TILES: u32 = 2u;
const LANES: u32 = 128u;

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

const K_STEP: u32 = 16u;
const BLOCK: u32 = 2u * TILES * EDGE;   // rows and columns of a workgroup
const STRIDE: u32 = K_STEP + 8u;        // rows of the staged operands, padded against bank conflicts

var<workgroup> x_tile: array<f16, BLOCK * STRIDE>;      // [BLOCK, STRIDE]
var<workgroup> w_tile: array<f16, BLOCK * STRIDE>;      // [BLOCK, STRIDE]
var<workgroup> sums: array<f32, 4u * EDGE * EDGE>;      // one matrix of each subgroup

fn rounded(v: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let row0 = group.y * BLOCK;
    let first_col = group.x * BLOCK;
    let k_end = min((group.z + 1u) * params.k_part, params.k);
    let quarter = subgroup % 4u;
    let sub_row = quarter / 2u * TILES * EDGE;
    let sub_col = quarter % 2u * TILES * EDGE;

    var acc: array<Sum, TILES * TILES>;
    for (var i = 0u; i < TILES * TILES; i++) { acc[i] = Sum(); }
    for (var step = group.z * params.k_part; step < k_end; step += K_STEP) {
        // Eight elements at a time: BLOCK rows x 2 of each operand. Past an edge: zeros.
        for (var i = lane; i < 2u * BLOCK; i += LANES) {
            let row = i / 2u;
            let k = step + 8u * (i % 2u);
            var lo = vec4<f16>();
            var hi = vec4<f16>();
            if (k < k_end && row0 + row < params.m) {
                let at = ((params.x_row0 + row0 + row) * params.k + k) / 4u;
                lo = rounded(x[at]);
                hi = rounded(x[at + 1u]);
            }
            let to = row * STRIDE + 8u * (i % 2u);
            for (var j = 0u; j < 4u; j++) {
                x_tile[to + j] = lo[j];
                x_tile[to + 4u + j] = hi[j];
            }
            var wv = Weights8(vec4<f32>(), vec4<f32>());
            if (k < k_end && first_col + row < params.slab_cols) {
                wv = weights8(row8(params.w_row0 + first_col + row, params.k), k / 8u, params.k);
            }
            lo = rounded(wv.lo);
            hi = rounded(wv.hi);
            for (var j = 0u; j < 4u; j++) {
                w_tile[to + j] = lo[j];
                w_tile[to + 4u + j] = hi[j];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < K_STEP; k += EDGE) {
            var right: array<Right, TILES>;
            for (var c = 0u; c < TILES; c++) {
                // Columns of w^T are rows of w.
                right[c] = coopLoad<Right>(&w_tile[(sub_col + c * EDGE) * STRIDE + k], STRIDE);
            }
            for (var r = 0u; r < TILES; r++) {
                let left = coopLoadT<Left>(&x_tile[(sub_row + r * EDGE) * STRIDE + k], STRIDE);
                for (var c = 0u; c < TILES; c++) {
                    acc[r * TILES + c] = coopMultiplyAdd(left, right[c], acc[r * TILES + c]);
                }
            }
        }
        workgroupBarrier();
    }

    for (var i = 0u; i < TILES * TILES; i++) {
        // naga wants plain names here.
        let sum = acc[i];
        let at = quarter * EDGE * EDGE;
        let stride = EDGE;
        coopStoreT(sum, &sums[at], stride);
        workgroupBarrier();
        for (var e = lane; e < 4u * EDGE * EDGE; e += LANES) {
            let q = e / (EDGE * EDGE);
            let row = row0 + (q / 2u * TILES + i / TILES) * EDGE + e / EDGE % EDGE;
            let col = first_col + (q % 2u * TILES + i % TILES) * EDGE + e % EDGE;
            if (row < params.m && col < params.slab_cols) {
                if (params.k_part < params.k) {
                    out[(group.z * params.m + row) * params.slab_cols + col] = sums[e];
                } else {
                    store(row, col, sums[e]);
                }
            }
        }
        workgroupBarrier();
    }
}
