// matmul_coop: out[out_row0 + r, col0 + c] = act(sum_k f16(x[x_row0 + r, k]) * f16(w[c, k]) + bias[col0 + c]) (+ out)
// Four subgroups of a workgroup, ACROSS of them side by side, each with ROW_TILES x COL_TILES cooperative matrices of
// f32 sums. Operands are rounded to f16 (and to its range) while they are staged in workgroup memory, K_STEP inner
// elements at a time; those of the next step are on their way from memory while matrices multiply those of this one.
// k must be a multiple of 8. LANES holds at least four subgroups. More help with staging; then they repeat what the
// first four do and store the same numbers, because control flow around cooperative matrices must not depend on the
// subgroup. Loops over matrices are written out: matrices in an array that is indexed at run time would not stay in
// registers.
// Dispatch: [ceil(slab_cols / BLOCK_COLS), ceil(m / BLOCK_ROWS), ceil(k / k_part)].
// @needs f16, subgroup
// @use epilogue
// @slot weights
// @slot matrices
// @slot block
enable f16;
enable wgpu_cooperative_matrix;

const LANES: u32 = 128u;

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

const BLOCK_ROWS: u32 = 4u / ACROSS * ROW_TILES * EDGE;
const BLOCK_COLS: u32 = ACROSS * COL_TILES * EDGE;
const CHUNKS: u32 = K_STEP / 8u;   // of a staged row, eight elements each
const STRIDE: u32 = K_STEP + 8u;   // of staged rows, padded against bank conflicts
// Chunks that one lane stages.
const X_CHUNKS: u32 = (BLOCK_ROWS * CHUNKS + LANES - 1u) / LANES;
const W_CHUNKS: u32 = (BLOCK_COLS * CHUNKS + LANES - 1u) / LANES;

var<workgroup> tiles: array<f16, (BLOCK_ROWS + BLOCK_COLS) * STRIDE>;   // rows of x, then rows of w
var<workgroup> sums: array<f32, 4u * EDGE * EDGE>;                      // one matrix of each subgroup

fn rounded(v: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

// The lane's chunks of rows row0 .. of x, from inner element `step` on. Past an edge: zeros.
fn fetch_x(next: ptr<function, array<vec4<f32>, 2u * X_CHUNKS>>, row0: u32, step: u32, k_end: u32, lane: u32) {
    for (var c = 0u; c < X_CHUNKS; c++) {
        let i = lane + c * LANES;
        let row = row0 + i / CHUNKS;
        let k = step + 8u * (i % CHUNKS);
        (*next)[2u * c] = vec4<f32>();
        (*next)[2u * c + 1u] = vec4<f32>();
        if (i < BLOCK_ROWS * CHUNKS && row < params.m && k < k_end) {
            let at = ((params.x_row0 + row) * params.k + k) / 4u;
            (*next)[2u * c] = x[at];
            (*next)[2u * c + 1u] = x[at + 1u];
        }
    }
}

// The same of w, as stored: what they mean is worked out once they have arrived.
fn fetch_w(next: ptr<function, array<Packed8, W_CHUNKS>>, col0: u32, step: u32, k_end: u32, lane: u32) {
    for (var c = 0u; c < W_CHUNKS; c++) {
        let i = lane + c * LANES;
        let col = col0 + i / CHUNKS;
        let k = step + 8u * (i % CHUNKS);
        (*next)[c] = Packed8();
        if (i < BLOCK_COLS * CHUNKS && col < params.slab_cols && k < k_end) {
            (*next)[c] = packed8(row8(params.w_row0 + col, params.k), k / 8u, params.k);
        }
    }
}

// Puts a chunk into its place. Lanes write words at the same time whose places differ by multiples of a chunk: each
// of four neighbouring rows begins with another of its four words, so that they lie in different banks.
fn put(row: u32, chunk: u32, lo: vec4<f32>, hi: vec4<f32>) {
    let a = rounded(lo);
    let b = rounded(hi);
    let is_odd = (row & 1u) != 0u;
    let one = array<vec2<f16>, 4>(
        select(a.xy, a.zw, is_odd), select(a.zw, b.xy, is_odd), select(b.xy, b.zw, is_odd), select(b.zw, a.xy, is_odd),
    );
    let is_upper = (row & 2u) != 0u;
    let to = row * STRIDE + 8u * chunk;
    let first = to + 2u * (row % 4u);
    let second = to + 2u * ((row + 1u) % 4u);
    let third = to + 2u * ((row + 2u) % 4u);
    let fourth = to + 2u * ((row + 3u) % 4u);
    let w0 = select(one[0], one[2], is_upper);
    tiles[first] = w0.x;
    tiles[first + 1u] = w0.y;
    let w1 = select(one[1], one[3], is_upper);
    tiles[second] = w1.x;
    tiles[second + 1u] = w1.y;
    let w2 = select(one[2], one[0], is_upper);
    tiles[third] = w2.x;
    tiles[third + 1u] = w2.y;
    let w3 = select(one[3], one[1], is_upper);
    tiles[fourth] = w3.x;
    tiles[fourth + 1u] = w3.y;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let row0 = group.y * BLOCK_ROWS;
    let first_col = group.x * BLOCK_COLS;
    let k_begin = group.z * params.k_part;
    let k_end = min(k_begin + params.k_part, params.k);
    let quarter = subgroup % 4u;
    let sub_row = quarter / ACROSS * ROW_TILES * EDGE;
    let sub_col = quarter % ACROSS * COL_TILES * EDGE;

    var acc: array<Sum, ROW_TILES * COL_TILES>;
    for (var r = 0u; r < ROW_TILES; r++) { // @unroll
        for (var c = 0u; c < COL_TILES; c++) { // @unroll
            acc[r * COL_TILES + c] = Sum();
        }
    }
    var next_x: array<vec4<f32>, 2u * X_CHUNKS>;
    var next_w: array<Packed8, W_CHUNKS>;
    fetch_x(&next_x, row0, k_begin, k_end, lane);
    fetch_w(&next_w, first_col, k_begin, k_end, lane);
    for (var step = k_begin; step < k_end; step += K_STEP) {
        for (var c = 0u; c < X_CHUNKS; c++) {
            let i = lane + c * LANES;
            if (i < BLOCK_ROWS * CHUNKS) { put(i / CHUNKS, i % CHUNKS, next_x[2u * c], next_x[2u * c + 1u]); }
        }
        for (var c = 0u; c < W_CHUNKS; c++) {
            let i = lane + c * LANES;
            let eight = unpacked8(next_w[c], step / 8u + i % CHUNKS);
            if (i < BLOCK_COLS * CHUNKS) { put(BLOCK_ROWS + i / CHUNKS, i % CHUNKS, eight.lo, eight.hi); }
        }
        workgroupBarrier();
        fetch_x(&next_x, row0, step + K_STEP, k_end, lane);
        fetch_w(&next_w, first_col, step + K_STEP, k_end, lane);
        for (var k = 0u; k < K_STEP; k += EDGE) {
            var right: array<Right, COL_TILES>;
            for (var c = 0u; c < COL_TILES; c++) { // @unroll
                // Columns of w^T are rows of w.
                right[c] = coopLoad<Right>(&tiles[(BLOCK_ROWS + sub_col + c * EDGE) * STRIDE + k], STRIDE);
            }
            for (var r = 0u; r < ROW_TILES; r++) { // @unroll
                let left = coopLoadT<Left>(&tiles[(sub_row + r * EDGE) * STRIDE + k], STRIDE);
                for (var c = 0u; c < COL_TILES; c++) { // @unroll
                    acc[r * COL_TILES + c] = coopMultiplyAdd(left, right[c], acc[r * COL_TILES + c]);
                }
            }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < ROW_TILES; r++) { // @unroll
        for (var c = 0u; c < COL_TILES; c++) { // @unroll
            // naga wants plain names here.
            let sum = acc[r * COL_TILES + c];
            let at = quarter * EDGE * EDGE;
            let stride = EDGE;
            coopStoreT(sum, &sums[at], stride);
            workgroupBarrier();
            for (var e = lane; e < 4u * EDGE * EDGE; e += LANES) {
                let q = e / (EDGE * EDGE);
                let row = row0 + (q / ACROSS * ROW_TILES + r) * EDGE + e / EDGE % EDGE;
                let col = first_col + (q % ACROSS * COL_TILES + c) * EDGE + e % EDGE;
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
}
