// stft_power: power[f, b] = |sum_n window[n] * x[f * hop + n - N_FFT/2] * exp(-2 pi i b n / N_FFT)|^2
// with reflection at both ends of the window of samples. One workgroup per frame; the frame is folded
// into even and odd parts about N_FFT/2, which halves the work and the rounding error of a direct DFT.
// Dispatch: linear over n_frames.
// @use grid

const N_FFT: u32 = 400u;
const WG: u32 = 64u;

struct Params { n_frames: u32, n_samples: u32, hop: u32 }

@group(0) @binding(0) var<uniform>             params:  Params;
@group(0) @binding(1) var<storage, read>       samples: array<f32>;         // [n_samples], zero-padded
@group(0) @binding(2) var<storage, read>       window:  array<f32>;         // [N_FFT]
@group(0) @binding(3) var<storage, read>       circle:  array<vec2<f32>>;   // [N_FFT] (cos, sin) of 2 pi n / N_FFT
@group(0) @binding(4) var<storage, read_write> power:   array<f32>;         // [n_frames, N_FFT/2 + 1]

const HALF: u32 = N_FFT / 2u;

var<workgroup> even: array<f32, HALF + 1u>;
var<workgroup> odd: array<f32, HALF + 1u>;

fn windowed(frame: u32, n: u32) -> f32 {
    var at = i32(frame * params.hop + n) - i32(HALF);
    let last = i32(params.n_samples) - 1;
    if (at < 0) { at = -at; }
    if (at > last) { at = 2 * last - at; }
    return samples[u32(clamp(at, 0, last))] * window[n];
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let frame = linear_group(group);
    if (frame >= params.n_frames) { return; }
    for (var n = lane; n <= HALF; n += WG) {
        let a = windowed(frame, n);
        if (n == 0u || n == HALF) {
            even[n] = a;
            odd[n] = 0.0;
        } else {
            let b = windowed(frame, N_FFT - n);
            even[n] = a + b;
            odd[n] = a - b;
        }
    }
    workgroupBarrier();
    for (var bin = lane; bin <= HALF; bin += WG) {
        var re = 0.0;
        var im = 0.0;
        var turn = 0u;   // bin * n modulo N_FFT
        for (var n = 0u; n <= HALF; n++) {
            let c = circle[turn];
            re = fma(even[n], c.x, re);
            im = fma(odd[n], c.y, im);
            turn += bin;
            if (turn >= N_FFT) { turn -= N_FFT; }
        }
        power[frame * (HALF + 1u) + bin] = re * re + im * im;
    }
}
