// lm_head_tile: as lm_head, for real GPUs: 32 rows x 64 ids per workgroup, operands staged in workgroup memory 32
//   inner elements at a time, so that neighbouring lanes read neighbouring weights, and these but once for 32 rows.
// The 128 lanes are 8 x 16, with every eighth row and every 16th id each.
// Dispatch per slab, or part of one from group0 on: [ceil(slab_rows / 64), ceil(n_rows / 32), 1]. k must be a multiple of 8.
// @use head, tile
// @slot weights
// @slot noise

const WG: u32 = 128u;
const ROWS: u32 = 32u;
const IDS: u32 = 64u;

struct Params {
    n_rows: u32, k: u32, vocab: u32,
    slab_rows: u32, first_id: u32,        // this slab's ids
    first_group: u32, n_groups: u32,      // this slab's place among the partial results of a row
    group0: u32,                          // the dispatch's first group of ids of this slab
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

var<workgroup> h_tile: array<vec4<f32>, ROWS * 8u>;
var<workgroup> w_tile: array<vec4<f32>, IDS * 8u>;
var<workgroup> lanes: array<array<Partial, 16>, 8>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.y * ROWS;
    let id_group = params.group0 + group.x;
    let first_col = id_group * IDS;
    let y = lane / 16u;
    let x = lane % 16u;
    let k_end = select(0u, params.k, is_any_live(row0, ROWS));

    var acc: array<vec4<f32>, 4>;   // ids x, + 16, + 32, + 48 of rows y, + 8, + 16, + 24
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
            h_tile[tile_at(row, quad)] = value;
        }
        for (var i = lane; i < IDS * 4u; i += WG) {
            let id = i / 4u;
            let oct = i % 4u;
            var value = Weights8(vec4<f32>(0.0), vec4<f32>(0.0));
            if (step + 8u * oct < params.k) {
                value = weights8(row8(min(first_col + id, params.slab_rows - 1u), params.k), step / 8u + oct, params.k);
            }
            w_tile[tile_at(id, 2u * oct)] = value.lo;
            w_tile[tile_at(id, 2u * oct + 1u)] = value.hi;
        }
        workgroupBarrier();
        for (var quad = 0u; quad < 8u; quad++) {
            let columns = transpose(mat4x4<f32>(
                w_tile[tile_at(x, quad)],
                w_tile[tile_at(x + 16u, quad)],
                w_tile[tile_at(x + 32u, quad)],
                w_tile[tile_at(x + 48u, quad)],
            ));
            for (var r = 0u; r < 4u; r++) {
                acc[r] = tile_products(acc[r], h_tile[tile_at(y + 8u * r, quad)], columns);
            }
        }
        workgroupBarrier();
    }

    let cols = vec4<u32>(first_col + x) + vec4<u32>(0u, 16u, 32u, 48u);
    let uses = uses_of(cols);
    for (var r = 0u; r < 4u; r++) {
        let row = row0 + y + 8u * r;
        let its = candidate(min(row, params.n_rows - 1u));
        lanes[y][x] = partial_of(its, cols, uses, acc[r]);
        workgroupBarrier();
        if (x == 0u && row < params.n_rows) {
            var all = lanes[y][0];
            for (var i = 1u; i < 16u; i++) { all = merge(all, lanes[y][i]); }
            store_partial(row, id_group, all);
        }
        workgroupBarrier();
    }
}
