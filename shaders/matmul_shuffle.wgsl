// matmul_shuffle: out[out_row0 + r, col0 + c] = act(sum_k x[x_row0 + r, k] * w[c, k] + bias[col0 + c]) (+ out)
// For software adapters whose lanes can exchange values: 8 GROUPS rows x 4 columns (WG apart) per lane in registers.
// A row of activations, the same for all lanes, is read by one lane and passed on by shuffles (lib/shuffle_block). Adds in
// the order of matmul_direct. k must be a multiple of 8.
// Dispatch: [ceil(slab_cols / (4 WG)), ceil(m / (8 GROUPS)), 1].
// @use activation, shuffle_block
// @slot weights

const WG: u32 = 8u;
const GROUPS: u32 = 4u;   // of eight rows

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

// Where the row of group `g` begins that this lane reads. Rows past the edge repeat the last one.
fn row_at(row0: u32, g: u32, lane: u32) -> u32 {
    return (params.x_row0 + min(row0 + 8u * g + lane % 8u, params.m - 1u)) * (params.k / 4u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.y * 8u * GROUPS;
    let first_col = group.x * 4u * WG + lane;
    let columns = min(vec4<u32>(first_col) + vec4<u32>(0u, WG, 2u * WG, 3u * WG), vec4<u32>(params.slab_cols - 1u));
    let w_rows = vec4<u32>(params.w_row0) + columns;
    let w_at = vec4<u32>(
        row8(w_rows.x, params.k), row8(w_rows.y, params.k), row8(w_rows.z, params.k), row8(w_rows.w, params.k),
    );
    let x_at = vec4<u32>(row_at(row0, 0u, lane), row_at(row0, 1u, lane), row_at(row0, 2u, lane), row_at(row0, 3u, lane));
    multiply(x_at, w_at, params.k, params.k / 8u);

    // Loops over what is not asked for end before they begin: software adapters take both sides of a branch.
    let rows = min(8u * GROUPS, params.m - row0);
    let col = params.col0 + vec4<u32>(first_col) + vec4<u32>(0u, WG, 2u * WG, 3u * WG);
    let to = (params.out_row0 + row0) * params.n + col;
    for (var r = 0u; r < select(0u, rows, params.has_bias != 0u); r++) {
        block[r / 8u][r % 8u] += vec4<f32>(bias[col.x], bias[col.y], bias[col.z], bias[col.w]);
    }
    for (var r = 0u; r < select(0u, rows, params.activation != 0u); r++) {
        for (var c = 0u; c < 4u; c++) {
            block[r / 8u][r % 8u][c] = activate(params.activation, block[r / 8u][r % 8u][c]);
        }
    }
    for (var r = 0u; r < select(0u, rows, params.accumulate != 0u); r++) {
        let at = to + vec4<u32>(r * params.n);
        block[r / 8u][r % 8u] += vec4<f32>(out[at.x], out[at.y], out[at.z], out[at.w]);
    }
    for (var r = 0u; r < rows; r++) {
        for (var c = 0u; c < 4u; c++) {
            if (first_col + WG * c < params.slab_cols) { out[to[c] + r * params.n] = block[r / 8u][r % 8u][c]; }
        }
    }
}
