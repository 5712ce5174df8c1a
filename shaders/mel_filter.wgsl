// mel_filter: out[f, m] = log10(max(sum_b power[f, b] * bank[m, b], 1e-10))
// A filter is a narrow triangle: only its span is added up. One lane per output. Dispatch: linear over ceil(n_frames * n_mels / WG).
// @use grid

const WG: u32 = 64u;

struct Params { n_frames: u32, n_mels: u32, n_bins: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       power: array<f32>;   // [n_frames, n_bins]
@group(0) @binding(2) var<storage, read>       bank:  array<f32>;   // [n_mels, n_bins]
@group(0) @binding(3) var<storage, read>       spans: array<vec2<u32>>;   // [n_mels] (first, end) of the bins above 0
@group(0) @binding(4) var<storage, read_write> out:   array<f32>;   // [n_frames, n_mels]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.n_frames * params.n_mels) { return; }
    let power_at = (i / params.n_mels) * params.n_bins;
    let bank_at = (i % params.n_mels) * params.n_bins;
    let span = spans[i % params.n_mels];
    var sum = 0.0;
    for (var b = span.x; b < span.y; b++) { sum = fma(power[power_at + b], bank[bank_at + b], sum); }
    out[i] = log2(max(sum, 1.0e-10)) * 0.30102999566398120;
}
