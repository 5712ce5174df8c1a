// lm_head_merge: predictions[r] = (id, confidence, gap) from the partial results of lm_head, merged in order
//   confidence = softmax probability of the id, from the unperturbed logits; 0 for ids whose
//   confidence is suppressed; gap = distance of the two best (perturbed) logits. One workgroup per row. Dispatch: [n_rows, 1, 1].
// @use partial

const WG: u32 = 64u;

struct Params { n_groups: u32 }

@group(0) @binding(0) var<uniform>             params:      Params;
@group(0) @binding(1) var<storage, read>       partials:    array<vec4<u32>>;   // [n_rows, n_groups, 2]
@group(0) @binding(2) var<storage, read>       id_rules:    array<u32>;         // n_banned, n_low, banned.., low..
@group(0) @binding(3) var<storage, read_write> predictions: array<vec4<u32>>;   // [n_rows] (id, confidence, gap, 0)

var<workgroup> lanes: array<Partial, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    var mine = empty_partial();
    for (var g = lane; g < params.n_groups; g += WG) {
        let best = partials[(row * params.n_groups + g) * 2u];
        let soft = partials[(row * params.n_groups + g) * 2u + 1u];
        mine = merge(mine, Partial(
            bitcast<f32>(best.x), best.y, bitcast<f32>(best.z), bitcast<f32>(best.w),
            bitcast<f32>(soft.x), bitcast<f32>(soft.y),
        ));
    }
    lanes[lane] = mine;
    workgroupBarrier();
    if (lane == 0u) {
        var all = lanes[0];
        for (var i = 1u; i < WG; i++) { all = merge(all, lanes[i]); }
        var confidence = exp(all.logit - all.top) / all.sum;
        for (var i = 0u; i < id_rules[1]; i++) {
            if (id_rules[2u + id_rules[0] + i] == all.id) { confidence = 0.0; }
        }
        predictions[row] = vec4<u32>(all.id, bitcast<u32>(confidence), bitcast<u32>(all.score - all.second), 0u);
    }
}
