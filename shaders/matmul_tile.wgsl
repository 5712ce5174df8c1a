// matmul_tile: out[out_row0 + r, col0 + c] = act(sum_k x[x_row0 + r, k] * w[c, k] + bias[col0 + c]) (+ out)
// ROWS x 64 outputs per workgroup of 16 x LANES_Y lanes, every 16th column and every LANES_Y-th row for a lane, operands
// staged in workgroup memory 32 inner elements at a time. The shape for real GPUs: fewer lanes have more rows each, and
// read less of that memory for an output. k must be a multiple of 8.
// Dispatch: [ceil(slab_cols / 64), ceil(m / ROWS), ceil(k / k_part)].
// @use epilogue, tile
// @slot weights

const ROWS: u32 = 64u;
const LANES_Y: u32 = 16u;

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

const WG: u32 = 16u * LANES_Y;
const COLUMNS: u32 = 64u;
const LANE_ROWS: u32 = ROWS / LANES_Y;

var<workgroup> x_tile: array<vec4<f32>, ROWS * 8u>;
var<workgroup> w_tile: array<vec4<f32>, COLUMNS * 8u>;

@compute @workgroup_size(16, LANES_Y)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row0 = group.y * ROWS;
    let first_col = group.x * COLUMNS;

    var acc: array<vec4<f32>, LANE_ROWS>;   // columns id.x, + 16, + 32, + 48 of rows id.y, + LANES_Y ..
    let k_end = min((group.z + 1u) * params.k_part, params.k);
    for (var step = group.z * params.k_part; step < k_end; step += K_STEP) {
        // Neighbouring lanes read on in a row. Past the end of k zeros; rows and columns past the end repeat the last
        // one and are not stored.
        for (var i = lane; i < ROWS * 8u; i += WG) {
            let row = i / 8u;
            let quad = i % 8u;
            var value = vec4<f32>(0.0);
            if (step + 4u * quad < k_end) {
                value = x[(params.x_row0 + min(row0 + row, params.m - 1u)) * (params.k / 4u) + step / 4u + quad];
            }
            x_tile[tile_at(row, quad)] = value;
        }
        for (var i = lane; i < COLUMNS * 4u; i += WG) {
            let column = i / 4u;
            let oct = i % 4u;
            var weights = Weights8(vec4<f32>(0.0), vec4<f32>(0.0));
            if (step + 8u * oct < k_end) {
                let row = params.w_row0 + min(first_col + column, params.slab_cols - 1u);
                weights = weights8(row8(row, params.k), step / 8u + oct, params.k);
            }
            w_tile[tile_at(column, 2u * oct)] = weights.lo;
            w_tile[tile_at(column, 2u * oct + 1u)] = weights.hi;
        }
        workgroupBarrier();
        for (var quad = 0u; quad < 8u; quad++) {
            let columns = transpose(mat4x4<f32>(
                w_tile[tile_at(id.x, quad)],
                w_tile[tile_at(id.x + 16u, quad)],
                w_tile[tile_at(id.x + 32u, quad)],
                w_tile[tile_at(id.x + 48u, quad)],
            ));
            for (var r = 0u; r < LANE_ROWS; r++) {
                acc[r] = tile_products(acc[r], x_tile[tile_at(id.y + LANES_Y * r, quad)], columns);
            }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < LANE_ROWS; r++) {
        for (var c = 0u; c < 4u; c++) {
            let row = row0 + id.y + LANES_Y * r;
            let col = first_col + id.x + 16u * c;
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
