// weights_q4: reads of `w: array<vec4<u32>>` that holds rows of k q4_0 weights: k half bytes, stored + 8, then an
// f16 scale for every 32 of them, padded to 16 bytes (src/quant.rs). k is a multiple of 32.
// @use scales
struct Weights8 { lo: vec4<f32>, hi: vec4<f32> }
struct Packed8 { quants: u32, scales: u32 }

fn quant_vectors(k: u32) -> u32 { return k / 32u; }

// The lower four half bytes of a word as floats.
fn quants(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - vec4<f32>(8.0);
}

// Element `i` of a row.
fn weight(row: u32, i: u32, k: u32) -> f32 {
    let base = row8(row, k);
    let word = w[base + i / 32u][(i / 8u) % 4u];
    return scale_of(base, i / 32u, k) * quants(word >> (4u * (i % 8u))).x;
}

// Elements 8i .. 8i+7 of the row that begins at `base`, as stored, and as numbers.
fn packed8(base: u32, i: u32, k: u32) -> Packed8 {
    return Packed8(w[base + i / 4u][i % 4u], two_scales(base, i / 4u, k));
}
fn unpacked8(words: Packed8, i: u32) -> Weights8 {
    let scale = one_scale(words.scales, i / 4u);
    return Weights8(scale * quants(words.quants), scale * quants(words.quants >> 16u));
}
fn weights8(base: u32, i: u32, k: u32) -> Weights8 { return unpacked8(packed8(base, i, k), i); }
