// matmul_shuffle: out[out_row0 + r, col0 + c] = act(sum_k x[x_row0 + r, k] * w[c, k] + bias[col0 + c]) (+ out)
// For software adapters whose lanes can exchange values: 8 GROUPS rows x 4 columns (WG apart) per lane in registers.
// A row of activations, the same for all lanes, is read by one lane and passed on by shuffles (lib/shuffle). Adds in
// the order of matmul_direct. k must be a multiple of 8.
// Dispatch: [ceil(slab_cols / (4 WG)), ceil(m / (8 GROUPS)), 1].
// @use epilogue, shuffle
// @slot weights

const WG: u32 = 8u;
const GROUPS: u32 = 4u;   // of eight rows

struct Params {
    m: u32, n: u32, k: u32,           // rows, columns of `out`, inner length
    slab_cols: u32, col0: u32,        // this slab's columns and their offset in `out`
    x_row0: u32, out_row0: u32,
    has_bias: u32, activation: u32, accumulate: u32,
    k_part: u32,                      // inner elements of one workgroup; below k: partial sums, see matmul_sum
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:    array<vec4<f32>>;  // [.., k / 4]
@group(0) @binding(2) var<storage, read>       w:    array<vec4<u32>>;  // [slab_cols, k], packed
@group(0) @binding(3) var<storage, read>       bias: array<f32>;        // [n]
@group(0) @binding(4) var<storage, read_write> out:  array<f32>;        // [.., n]

// The finished sums, where a loop that is not unrolled may pick them.
var<private> finished: array<Rows8, GROUPS>;

// Where the row of group `g` begins that this lane reads. Rows past the edge repeat the last one.
fn row_at(row0: u32, g: u32, lane: u32) -> u32 {
    return (params.x_row0 + min(row0 + 8u * g + lane % 8u, params.m - 1u)) * (params.k / 4u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let k8 = params.k / 8u;
    let row0 = group.y * 8u * GROUPS;
    let first_col = group.x * 4u * WG + lane;
    let last = params.slab_cols - 1u;
    let w0 = row8(min(first_col, last), params.k);
    let w1 = row8(min(first_col + WG, last), params.k);
    let w2 = row8(min(first_col + 2u * WG, last), params.k);
    let w3 = row8(min(first_col + 3u * WG, last), params.k);
    let x0 = row_at(row0, 0u, lane);
    let x1 = row_at(row0, 1u, lane);
    let x2 = row_at(row0, 2u, lane);
    let x3 = row_at(row0, 3u, lane);

    var sums0: Rows8;
    var sums1: Rows8;
    var sums2: Rows8;
    var sums3: Rows8;
    for (var k = 0u; k < k8; k++) {
        let c0 = weights8(w0, k, params.k);
        let c1 = weights8(w1, k, params.k);
        let c2 = weights8(w2, k, params.k);
        let c3 = weights8(w3, k, params.k);
        let lo = transpose(mat4x4<f32>(c0.lo, c1.lo, c2.lo, c3.lo));
        let hi = transpose(mat4x4<f32>(c0.hi, c1.hi, c2.hi, c3.hi));
        add_products(&sums0, x[x0 + 2u * k], lo);
        add_products(&sums0, x[x0 + 2u * k + 1u], hi);
        if (GROUPS > 1u) {
            add_products(&sums1, x[x1 + 2u * k], lo);
            add_products(&sums1, x[x1 + 2u * k + 1u], hi);
        }
        if (GROUPS > 2u) {
            add_products(&sums2, x[x2 + 2u * k], lo);
            add_products(&sums2, x[x2 + 2u * k + 1u], hi);
            add_products(&sums3, x[x3 + 2u * k], lo);
            add_products(&sums3, x[x3 + 2u * k + 1u], hi);
        }
    }

    finished[0] = sums0;
    if (GROUPS > 1u) { finished[1u % GROUPS] = sums1; }
    if (GROUPS > 2u) {
        finished[2u % GROUPS] = sums2;
        finished[3u % GROUPS] = sums3;
    }
    for (var r = 0u; r < min(8u * GROUPS, params.m - row0); r++) {
        for (var c = 0u; c < 4u; c++) {
            let col = first_col + WG * c;
            if (col < params.slab_cols) { store(row0 + r, col, finished[r / 8u][r % 8u][c]); }
        }
    }
}
