// lm_head_shuffle: as lm_head, for software adapters whose lanes can exchange values: 8 GROUPS rows x 4 ids per lane,
//   rows read by one lane each and passed on by shuffles.
// Dispatch per slab: [ceil(slab_rows / 256), ceil(n_rows / (8 GROUPS)), 1]. k must be a multiple of 8.
// @use head, shuffle
// @slot weights
// @slot noise

const GROUPS: u32 = 4u;   // of eight rows

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

var<workgroup> lanes: array<array<Partial, 64>, 8>;
// Logits after the products, where loops that are not unrolled may pick them.
var<private> logits: array<Rows8, GROUPS>;

// The row of group `g` that this lane reads: where it begins.
fn row_at(row0: u32, g: u32, lane: u32) -> u32 {
    return min(row0 + 8u * g + lane % 8u, params.n_rows - 1u) * (params.k / 4u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.y * 8u * GROUPS;
    let k8 = select(0u, params.k / 8u, is_any_live(row0, 8u * GROUPS));
    let first_col = group.x * 256u + lane;
    let last = params.slab_rows - 1u;
    let w0 = row8(min(first_col, last), params.k);
    let w1 = row8(min(first_col + 64u, last), params.k);
    let w2 = row8(min(first_col + 128u, last), params.k);
    let w3 = row8(min(first_col + 192u, last), params.k);
    let h0 = row_at(row0, 0u, lane);
    let h1 = row_at(row0, 1u, lane);
    let h2 = row_at(row0, 2u, lane);
    let h3 = row_at(row0, 3u, lane);

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
        add_products(&sums0, h[h0 + 2u * k], lo);
        add_products(&sums0, h[h0 + 2u * k + 1u], hi);
        if (GROUPS > 1u) {
            add_products(&sums1, h[h1 + 2u * k], lo);
            add_products(&sums1, h[h1 + 2u * k + 1u], hi);
        }
        if (GROUPS > 2u) {
            add_products(&sums2, h[h2 + 2u * k], lo);
            add_products(&sums2, h[h2 + 2u * k + 1u], hi);
            add_products(&sums3, h[h3 + 2u * k], lo);
            add_products(&sums3, h[h3 + 2u * k + 1u], hi);
        }
    }

    logits[0] = sums0;
    if (GROUPS > 1u) { logits[1u % GROUPS] = sums1; }
    if (GROUPS > 2u) {
        logits[2u % GROUPS] = sums2;
        logits[3u % GROUPS] = sums3;
    }
    for (var g = 0u; g < GROUPS; g++) {
        for (var r = 0u; r < 8u; r++) {
            let its = candidate(min(row0 + 8u * g + r, params.n_rows - 1u));
            var mine = empty_partial();
            for (var c = 0u; c < 4u; c++) {
                mine = merge(mine, partial_of(its, first_col + 64u * c, logits[g][r][c]));
            }
            lanes[r][lane] = mine;
        }
        workgroupBarrier();
        let row = row0 + 8u * g + lane;
        if (lane < 8u && row < params.n_rows) {
            var all = lanes[lane][0];
            for (var i = 1u; i < 64u; i++) { all = merge(all, lanes[lane][i]); }
            store_partial(row, group.x, all);
        }
        workgroupBarrier();
    }
}
