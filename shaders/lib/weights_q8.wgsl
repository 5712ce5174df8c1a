// weights_q8: reads of `w: array<vec4<u32>>` that holds rows of k q8_0 weights: k signed bytes, then an f16 scale
// for every 32 of them, padded to 16 bytes (src/quant.rs). k is a multiple of 32.
// @use scales
struct Weights8 { lo: vec4<f32>, hi: vec4<f32> }
struct Packed8 { lo: u32, hi: u32, scales: u32 }

fn quant_vectors(k: u32) -> u32 { return k / 16u; }

// Four signed bytes as floats.
fn quants(word: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// Element `i` of a row.
fn weight(row: u32, i: u32, k: u32) -> f32 {
    let base = row8(row, k);
    return scale_of(base, i / 32u, k) * quants(w[base + i / 16u][(i / 4u) % 4u])[i % 4u];
}

// Elements 8i .. 8i+7 of the row that begins at `base`, as stored, and as numbers.
fn packed8(base: u32, i: u32, k: u32) -> Packed8 {
    let at = base + i / 2u;
    let first = 2u * (i & 1u);
    return Packed8(w[at][first], w[at][first + 1u], two_scales(base, i / 4u, k));
}
fn unpacked8(words: Packed8, i: u32) -> Weights8 {
    let scale = one_scale(words.scales, i / 4u);
    return Weights8(scale * quants(words.lo), scale * quants(words.hi));
}
fn weights8(base: u32, i: u32, k: u32) -> Weights8 { return unpacked8(packed8(base, i, k), i); }
