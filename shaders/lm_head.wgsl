// lm_head: logits[r, id] = sum_k h[r, k] * w[id, k], reduced on the spot over this workgroup's 64 NR ids
//   to (best perturbed logit, its id, its plain logit, the second best) and (max, sum of exp(logit - max)).
// The logits themselves are never stored. Ties go to the lower id. Rows are the candidate rows of the
// current block, still-masked ones first; a workgroup without a live row returns at once.
// Dispatch per slab, or part of one from group0 on: [ceil(slab_rows / (64 NR)), ceil(n_rows / MR), 1]. k must be a multiple of 8.
// @use head, direct_block
// @slot weights
// @slot noise

const MR: u32 = 8u;
const NR: u32 = 4u;
const BARRIER: u32 = 0u;

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

var<workgroup> lanes: array<array<Partial, 64>, 8>;   // of eight rows, one eight after another

fn activations(i: u32) -> vec4<f32> { return h[i]; }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.y * MR;
    let k8 = select(0u, params.k / 8u, is_any_live(row0, MR));
    let id_group = params.group0 + group.x;
    let first_col = id_group * 64u * NR + lane;
    var w_at: array<u32, NR>;
    for (var c = 0u; c < NR; c++) { // @unroll
        w_at[c] = row8(min(first_col + 64u * c, params.slab_rows - 1u), params.k);
    }
    var h_at: array<u32, MR>;
    for (var r = 0u; r < MR; r++) { // @unroll
        h_at[r] = min(row0 + r, params.n_rows - 1u) * (params.k / 4u);
    }

    multiply(h_at, w_at, params.k, k8);

    for (var eight = 0u; eight < MR; eight += 8u) {
        for (var four = 0u; four < NR / 4u; four++) {
            let cols = vec4<u32>(first_col + 256u * four) + vec4<u32>(0u, 64u, 128u, 192u);
            let uses = uses_of(cols);
            for (var r = 0u; r < 8u; r++) {
                let its = candidate(min(row0 + eight + r, params.n_rows - 1u));
                var logits: vec4<f32>;
                for (var c = 0u; c < 4u; c++) { logits[c] = block[eight + r][4u * four + c]; }
                var mine = partial_of(its, cols, uses, logits);
                if (four > 0u) { mine = merge(lanes[r][lane], mine); }
                lanes[r][lane] = mine;
            }
        }
        workgroupBarrier();
        let row = row0 + eight + lane;
        if (lane < 8u && row < params.n_rows) {
            var all = lanes[lane][0];
            for (var i = 1u; i < 64u; i++) { all = merge(all, lanes[lane][i]); }
            store_partial(row, id_group, all);
        }
        workgroupBarrier();
    }
}
