// matmul_tile: out[out_row0 + r, col0 + c] = act(sum_k x[x_row0 + r, k] * w[c, k] + bias[col0 + c]) (+ out)
// 64 x 64 outputs per workgroup of 16 x 16 lanes, 4 x 4 outputs per lane, operands staged in workgroup
// memory 16 inner elements at a time (8 KiB). The shape for real GPUs. k must be a multiple of 8.
// Dispatch: [ceil(slab_cols / 64), ceil(m / 64), ceil(k / k_part)].
// @use epilogue
// @slot weights

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

const TILE: u32 = 64u;
const K_STEP: u32 = 16u;

// Inner-major, so that a lane's four rows and four columns are one vec4 each.
var<workgroup> x_tile: array<array<vec4<f32>, 16>, K_STEP>;
var<workgroup> w_tile: array<array<vec4<f32>, 16>, K_STEP>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row0 = group.y * TILE;
    let first_col = group.x * TILE;
    let k8 = params.k / 8u;

    var acc: array<vec4<f32>, 4>;   // acc[r] = the lane's four columns of its row r
    let k_end = min((group.z + 1u) * params.k_part, params.k);
    for (var step = group.z * params.k_part; step < k_end; step += K_STEP) {
        // 64 rows x 4 vec4 of x: one per lane.
        let x_row = lane % TILE;
        let x_quad = lane / TILE;
        var xv = vec4<f32>(0.0);
        if (step + x_quad * 4u < k_end) {
            xv = x[(params.x_row0 + min(row0 + x_row, params.m - 1u)) * k8 * 2u + step / 4u + x_quad];
        }
        for (var i = 0u; i < 4u; i++) { x_tile[x_quad * 4u + i][x_row / 4u][x_row % 4u] = xv[i]; }
        // 64 columns x 2 groups of eight weights: one for each lane of the first half.
        if (lane < 2u * TILE) {
            let w_col = lane % TILE;
            let w_oct = lane / TILE;
            var wv = Weights8(vec4<f32>(0.0), vec4<f32>(0.0));
            if (step + w_oct * 8u < k_end) {
                let col = min(first_col + w_col, params.slab_cols - 1u);
                wv = weights8(row8(params.w_row0 + col, params.k), step / 8u + w_oct, params.k);
            }
            for (var i = 0u; i < 4u; i++) {
                w_tile[w_oct * 8u + i][w_col / 4u][w_col % 4u] = wv.lo[i];
                w_tile[w_oct * 8u + 4u + i][w_col / 4u][w_col % 4u] = wv.hi[i];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < K_STEP; k++) {
            let a = x_tile[k][id.y];
            let b = w_tile[k][id.x];
            for (var r = 0u; r < 4u; r++) { acc[r] = fma(vec4<f32>(a[r]), b, acc[r]); }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < 4u; r++) {
        for (var c = 0u; c < 4u; c++) {
            let row = row0 + id.y * 4u + r;
            let col = first_col + id.x * 4u + c;
            if (row < params.m && col < params.slab_cols) {
                if (params.k_part < params.k) {
                    out[(group.z * params.m + row) * params.slab_cols + col] = acc[r][c];
                } else {
                    store(row, col, acc[r][c]);
                }
            }
        }
    }
}
