// stft_columns: columns[f, k1, n2] = exp(-2 pi i n2 k1 / 400) sum_n1 window[n] x[(frame0 + f) * hop + n - 200] exp(-2 pi i n1 k1 / 16)
//   with n = 25 n1 + n2, reflection at both ends of the window of samples, k1 = 0 .. 8.
// The first half of a transform of 400 = 16 x 25 points; stft_rows is the second. Samples are real, so k1 = 9 .. 15
// would be conjugates. One lane per frame and n2, all in registers. Dispatch: linear over ceil(25 n_frames / WG).
// @use grid

const WG: u32 = 64u;
const N_FFT: u32 = 400u;
const N1: u32 = 16u;
const N2: u32 = 25u;
const K1: u32 = 9u;
// Cosines of 1, 2 and 3 sixteenths of a turn; the sines of 3, 2 and 1.
const C1: f32 = 0.92387953251128674;
const C2: f32 = 0.70710678118654752;
const C3: f32 = 0.38268343236508977;

struct Params { n_frames: u32, n_samples: u32, hop: u32, frame0: u32 }

@group(0) @binding(0) var<uniform>             params:  Params;
@group(0) @binding(1) var<storage, read>       samples: array<f32>;         // [n_samples], zero-padded
@group(0) @binding(2) var<storage, read>       window:  array<f32>;         // [400]
@group(0) @binding(3) var<storage, read>       circle:  array<vec2<f32>>;   // [400] (cos, sin) of 2 pi n / 400
@group(0) @binding(4) var<storage, read_write> columns: array<vec2<f32>>;   // [n_frames, 9, 25] (re, im)

fn windowed(frame: u32, n: u32) -> f32 {
    var at = i32(frame * params.hop + n) - i32(N_FFT / 2u);
    let last = i32(params.n_samples) - 1;
    if (at < 0) { at = -at; }
    if (at > last) { at = 2 * last - at; }
    return samples[u32(clamp(at, 0, last))] * window[n];
}

fn store(frame: u32, n2: u32, k1: u32, re: f32, im: f32) {
    let turn = circle[n2 * k1];
    columns[(frame * K1 + k1) * N2 + n2] = vec2<f32>(re * turn.x + im * turn.y, im * turn.x - re * turn.y);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.n_frames * N2) { return; }
    let frame = i / N2;
    let n2 = i % N2;
    var x: array<f32, N1>;
    for (var n1 = 0u; n1 < N1; n1++) { x[n1] = windowed(params.frame0 + frame, N2 * n1 + n2); }

    // Even k1: the transform of 8 points of x[n] + x[n + 8]; of it the even ones: of 4 points, folded again.
    let e = array<f32, 8>(x[0] + x[8], x[1] + x[9], x[2] + x[10], x[3] + x[11],
                          x[4] + x[12], x[5] + x[13], x[6] + x[14], x[7] + x[15]);
    let f = array<f32, 4>(e[0] + e[4], e[1] + e[5], e[2] + e[6], e[3] + e[7]);
    let g = array<f32, 4>(e[0] - e[4], e[1] - e[5], e[2] - e[6], e[3] - e[7]);
    store(frame, n2, 0u, (f[0] + f[2]) + (f[1] + f[3]), 0.0);
    store(frame, n2, 2u, g[0] + C2 * (g[1] - g[3]), -g[2] - C2 * (g[1] + g[3]));
    store(frame, n2, 4u, f[0] - f[2], f[3] - f[1]);
    store(frame, n2, 6u, g[0] - C2 * (g[1] - g[3]), g[2] - C2 * (g[1] + g[3]));
    store(frame, n2, 8u, (f[0] + f[2]) - (f[1] + f[3]), 0.0);

    // Odd k1: of x[n] - x[n + 8], where n and 8 - n share a cosine and a sine.
    let o0 = x[0] - x[8];
    let o4 = x[4] - x[12];
    let p = vec3<f32>((x[1] - x[9]) - (x[7] - x[15]), (x[2] - x[10]) - (x[6] - x[14]), (x[3] - x[11]) - (x[5] - x[13]));
    let q = vec3<f32>((x[1] - x[9]) + (x[7] - x[15]), (x[2] - x[10]) + (x[6] - x[14]), (x[3] - x[11]) + (x[5] - x[13]));
    store(frame, n2, 1u, o0 + dot(p, vec3<f32>(C1, C2, C3)), -o4 - dot(q, vec3<f32>(C3, C2, C1)));
    store(frame, n2, 3u, o0 + dot(p, vec3<f32>(C3, -C2, -C1)), o4 - dot(q, vec3<f32>(C1, C2, -C3)));
    store(frame, n2, 5u, o0 + dot(p, vec3<f32>(-C3, -C2, C1)), -o4 - dot(q, vec3<f32>(C1, -C2, -C3)));
    store(frame, n2, 7u, o0 + dot(p, vec3<f32>(-C1, C2, -C3)), o4 - dot(q, vec3<f32>(C3, -C2, C1)));
}
