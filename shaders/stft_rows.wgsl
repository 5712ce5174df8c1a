// stft_rows: power[f, k] = |sum_n2 columns[f, k1, n2] exp(-2 pi i n2 k2 / 25)|^2 with k = k1 + 16 k2, or 400 - k for it
// The second half of a transform of 400 = 16 x 25 points: 25 points as 5 x 5. One lane per frame and k1, all in
// registers. Dispatch: linear over ceil(9 n_frames / WG).
// @use grid

const WG: u32 = 64u;
const N_FFT: u32 = 400u;
const N1: u32 = 16u;
const N2: u32 = 25u;
const K1: u32 = 9u;
// Cosines and sines of one and two fifths of a turn.
const C1: f32 = 0.30901699437494742;
const C2: f32 = -0.80901699437494742;
const S1: f32 = 0.95105651629515357;
const S2: f32 = 0.58778525229247313;

struct Params { n_frames: u32, frame0: u32 }

@group(0) @binding(0) var<uniform>             params:  Params;
@group(0) @binding(1) var<storage, read>       columns: array<vec2<f32>>;   // [n_frames, 9, 25] (re, im)
@group(0) @binding(2) var<storage, read>       circle:  array<vec2<f32>>;   // [400] (cos, sin) of 2 pi n / 400
@group(0) @binding(3) var<storage, read_write> power:   array<f32>;         // [.., 201]

alias Five = array<vec2<f32>, 5>;

fn transform(x: Five) -> Five {
    let s1 = x[1] + x[4];
    let s2 = x[2] + x[3];
    let d1 = x[1] - x[4];
    let d2 = x[2] - x[3];
    let a1 = x[0] + C1 * s1 + C2 * s2;
    let a2 = x[0] + C2 * s1 + C1 * s2;
    // -i times the sine parts.
    let b1 = S1 * d1 + S2 * d2;
    let b2 = S2 * d1 - S1 * d2;
    let t1 = vec2<f32>(b1.y, -b1.x);
    let t2 = vec2<f32>(b2.y, -b2.x);
    return Five(x[0] + s1 + s2, a1 + t1, a2 + t2, a2 - t2, a1 - t1);
}

// z times exp(-2 pi i n / 25).
fn turned(z: vec2<f32>, n: u32) -> vec2<f32> {
    let turn = circle[n * (N_FFT / N2)];
    return vec2<f32>(z.x * turn.x + z.y * turn.y, z.y * turn.x - z.x * turn.y);
}

// Of n2 = 5 a + b over a, turned for the transform over b.
fn over_a(at: u32, b: u32) -> Five {
    let y = transform(Five(columns[at + b], columns[at + b + 5u], columns[at + b + 10u], columns[at + b + 15u], columns[at + b + 20u]));
    return Five(y[0], turned(y[1], b), turned(y[2], 2u * b), turned(y[3], 3u * b), turned(y[4], 4u * b));
}

// Stores the powers of k2 = c + 5 e for e = 0 .. 4. Above the middle, k has the power of 400 - k, which no other
// lane has unless k1 is 0 or 8.
fn store(frame: u32, k1: u32, c: u32, y: Five) {
    let k = k1 + N1 * c;
    store_one(frame, k1, k, y[0]);
    store_one(frame, k1, k + 5u * N1, y[1]);
    store_one(frame, k1, k + 10u * N1, y[2]);
    store_one(frame, k1, k + 15u * N1, y[3]);
    store_one(frame, k1, k + 20u * N1, y[4]);
}

fn store_one(frame: u32, k1: u32, k: u32, z: vec2<f32>) {
    let bin = min(k, N_FFT - k);
    if (k == bin || k1 % 8u != 0u) { power[frame * (N_FFT / 2u + 1u) + bin] = dot(z, z); }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.n_frames * K1) { return; }
    let frame = params.frame0 + i / K1;
    let k1 = i % K1;
    let at = i * N2;
    let b0 = over_a(at, 0u);
    let b1 = over_a(at, 1u);
    let b2 = over_a(at, 2u);
    let b3 = over_a(at, 3u);
    let b4 = over_a(at, 4u);
    store(frame, k1, 0u, transform(Five(b0[0], b1[0], b2[0], b3[0], b4[0])));
    store(frame, k1, 1u, transform(Five(b0[1], b1[1], b2[1], b3[1], b4[1])));
    store(frame, k1, 2u, transform(Five(b0[2], b1[2], b2[2], b3[2], b4[2])));
    store(frame, k1, 3u, transform(Five(b0[3], b1[3], b2[3], b3[3], b4[3])));
    store(frame, k1, 4u, transform(Five(b0[4], b1[4], b2[4], b3[4], b4[4])));
}
