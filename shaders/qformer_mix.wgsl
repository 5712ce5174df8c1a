// qformer_mix: out[p, c] = sum_t softmax_t(layer_weights[p, t]) * y[t * n_prompts + p, c]
// One lane per output. Dispatch: linear over ceil(n_prompts * n_cols / WG).
// @use grid

const WG: u32 = 64u;

struct Params { n_targets: u32, n_prompts: u32, n_cols: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       y:             array<f32>;   // [n_targets * n_prompts, n_cols]
@group(0) @binding(2) var<storage, read>       layer_weights: array<f32>;   // [n_prompts, n_targets]
@group(0) @binding(3) var<storage, read_write> out:           array<f32>;   // [n_prompts, n_cols]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.n_prompts * params.n_cols) { return; }
    let prompt = i / params.n_cols;
    let w_at = prompt * params.n_targets;
    var top = -3.0e38;
    for (var t = 0u; t < params.n_targets; t++) { top = max(top, layer_weights[w_at + t]); }
    var sum = 0.0;
    var mixed = 0.0;
    for (var t = 0u; t < params.n_targets; t++) {
        let e = exp(layer_weights[w_at + t] - top);
        sum += e;
        mixed = fma(e, y[t * params.n_prompts * params.n_cols + i], mixed);
    }
    out[i] = mixed / sum;
}
