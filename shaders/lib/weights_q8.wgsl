// weights_q8: reads of `w: array<vec4<u32>>` that holds rows of k q8_0 weights: k signed bytes, then an f16 scale
// for every 32 of them, padded to 16 bytes (src/quant.rs). k is a multiple of 32.
// @use scales
struct Weights8 { lo: vec4<f32>, hi: vec4<f32> }

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

// Elements 8i .. 8i+7 of the row that begins at `base`.
fn weights8(base: u32, i: u32, k: u32) -> Weights8 {
    let scale = scale_of(base, i / 4u, k);
    let at = base + i / 2u;
    let first = 2u * (i & 1u);
    return Weights8(scale * quants(w[at][first]), scale * quants(w[at][first + 1u]));
}
