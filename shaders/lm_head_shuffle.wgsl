// lm_head_shuffle: as lm_head, for software adapters whose lanes can exchange values: 8 GROUPS rows x 4 ids per lane,
//   rows read by one lane each and passed on by shuffles.
// Dispatch per slab, or part of one from group0 on: [ceil(slab_rows / 256), ceil(n_rows / (8 GROUPS)), 1]. k must be a multiple of 8.
// @use head, shuffle_block
// @slot weights
// @slot noise

const GROUPS: u32 = 4u;   // of eight rows

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

var<workgroup> lanes: array<array<Partial, 64>, 8>;

fn activations(i: u32) -> vec4<f32> { return h[i]; }

// The row of group `g` that this lane reads: where it begins.
fn row_at(row0: u32, g: u32, lane: u32) -> u32 {
    return min(row0 + 8u * g + lane % 8u, params.n_rows - 1u) * (params.k / 4u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.y * 8u * GROUPS;
    let k8 = select(0u, params.k / 8u, is_any_live(row0, 8u * GROUPS));
    let id_group = params.group0 + group.x;
    let first_col = id_group * 256u + lane;
    let cols = vec4<u32>(first_col) + vec4<u32>(0u, 64u, 128u, 192u);
    let uses = uses_of(cols);
    let read = min(cols, vec4<u32>(params.slab_rows - 1u));
    let w_at = vec4<u32>(row8(read.x, params.k), row8(read.y, params.k), row8(read.z, params.k), row8(read.w, params.k));
    let h_at = vec4<u32>(row_at(row0, 0u, lane), row_at(row0, 1u, lane), row_at(row0, 2u, lane), row_at(row0, 3u, lane));
    multiply(h_at, w_at, params.k, k8);
    for (var g = 0u; g < GROUPS; g++) {
        for (var r = 0u; r < 8u; r++) {
            let its = candidate(min(row0 + 8u * g + r, params.n_rows - 1u));
            lanes[r][lane] = partial_of(its, cols, uses, block[g][r]);
        }
        workgroupBarrier();
        let row = row0 + 8u * g + lane;
        if (lane < 8u && row < params.n_rows) {
            var all = lanes[lane][0];
            for (var i = 1u; i < 64u; i++) { all = merge(all, lanes[lane][i]); }
            store_partial(row, id_group, all);
        }
        workgroupBarrier();
    }
}
