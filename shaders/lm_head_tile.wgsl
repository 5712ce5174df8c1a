// lm_head_tile: as lm_head, for real GPUs: 32 rows x 64 ids per workgroup, operands staged in workgroup memory 32
//   inner elements at a time, so that neighbouring lanes read neighbouring weights, and these but once for 32 rows.
// The 128 lanes are 8 x 16, with four rows x four ids each.
// Dispatch per slab: [ceil(slab_rows / 64), ceil(n_rows / 32), 1]. k must be a multiple of 8.
// @use head
// @slot weights
// @slot noise

const WG: u32 = 128u;
const ROWS: u32 = 32u;
const IDS: u32 = 64u;
const K_STEP: u32 = 32u;

struct Params {
    n_rows: u32, k: u32, vocab: u32,
    slab_rows: u32, first_id: u32,        // this slab's ids
    first_group: u32, n_groups: u32,      // this slab's place among the partial results of a row
    block_length: u32, seed: u32, temperature: f32,
}

@group(0) @binding(0) var<uniform>             params:      Params;
@group(0) @binding(1) var<storage, read>       h:           array<vec4<f32>>;   // [n_rows, k / 4]
@group(0) @binding(2) var<storage, read>       w:           array<vec4<u32>>;   // [slab_rows, k], packed
@group(0) @binding(3) var<storage, read>       state:       array<u32>;         // see select.wgsl
@group(0) @binding(4) var<storage, read>       rows:        array<u32>;         // [n_rows], rows in the forward
@group(0) @binding(5) var<storage, read>       id_rules:    array<u32>;         // n_banned, n_low, banned.., low..
@group(0) @binding(6) var<storage, read>       noise:       array<f32>;         // [n_rows, vocab] or unused
@group(0) @binding(7) var<storage, read_write> partials:    array<vec4<u32>>;   // [n_rows, n_groups, 2]

// Inner-major, so that a lane's four rows and four ids are one vec4 each.
var<workgroup> h_tile: array<array<vec4<f32>, 8>, K_STEP>;
var<workgroup> w_tile: array<array<vec4<f32>, 16>, K_STEP>;
var<workgroup> lanes: array<array<Partial, 16>, 8>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.y * ROWS;
    let first_col = group.x * IDS;
    let y = lane / 16u;
    let x = lane % 16u;
    let k_end = select(0u, params.k, is_any_live(row0, ROWS));

    var acc: array<vec4<f32>, 4>;   // acc[r] = the lane's four ids of its row r
    for (var step = 0u; step < k_end; step += K_STEP) {
        // 32 rows x 8 vec4 of h and 64 ids x 4 groups of eight weights: two of each for every lane. Past the end
        // of k zeros; rows and ids past the end repeat the last one and are not stored.
        for (var i = lane; i < ROWS * 8u; i += WG) {
            let row = i / 8u;
            let quad = i % 8u;
            var value = vec4<f32>(0.0);
            if (step + 4u * quad < params.k) {
                value = h[min(row0 + row, params.n_rows - 1u) * (params.k / 4u) + step / 4u + quad];
            }
            for (var j = 0u; j < 4u; j++) { h_tile[4u * quad + j][row / 4u][row % 4u] = value[j]; }
        }
        for (var i = lane; i < IDS * 4u; i += WG) {
            let id = i / 4u;
            let oct = i % 4u;
            var value = Weights8(vec4<f32>(0.0), vec4<f32>(0.0));
            if (step + 8u * oct < params.k) {
                value = weights8(row8(min(first_col + id, params.slab_rows - 1u), params.k), step / 8u + oct, params.k);
            }
            for (var j = 0u; j < 4u; j++) {
                w_tile[8u * oct + j][id / 4u][id % 4u] = value.lo[j];
                w_tile[8u * oct + 4u + j][id / 4u][id % 4u] = value.hi[j];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < K_STEP; k++) {
            let a = h_tile[k][y];
            let b = w_tile[k][x];
            for (var r = 0u; r < 4u; r++) { acc[r] = fma(vec4<f32>(a[r]), b, acc[r]); }
        }
        workgroupBarrier();
    }

    let cols = vec4<u32>(first_col + 4u * x) + vec4<u32>(0u, 1u, 2u, 3u);
    let uses = uses_of(cols);
    for (var r = 0u; r < 4u; r++) {
        let row = row0 + 4u * y + r;
        let its = candidate(min(row, params.n_rows - 1u));
        lanes[y][x] = partial_of(its, cols, uses, acc[r]);
        workgroupBarrier();
        if (x == 0u && row < params.n_rows) {
            var all = lanes[y][0];
            for (var i = 1u; i < 16u; i++) { all = merge(all, lanes[y][i]); }
            store_partial(row, group.x, all);
        }
        workgroupBarrier();
    }
}
