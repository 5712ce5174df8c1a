// scales: the f16 scales of a quantized row, after its quants (src/quant.rs).
// Uses `quant_vectors(k)` of the format: vec4s of quants in a row of k weights.

// Where a row begins.
fn row8(row: u32, k: u32) -> u32 { return row * (quant_vectors(k) + (k + 255u) / 256u); }

// The word with the scale of block `b` of the row that begins at `base`.
fn two_scales(base: u32, b: u32, k: u32) -> u32 { return w[base + quant_vectors(k) + b / 8u][(b / 2u) % 4u]; }

// The scale of block `b` in that word.
fn one_scale(scales: u32, b: u32) -> f32 {
    let pair = unpack2x16float(scales);
    return select(pair.x, pair.y, (b & 1u) == 1u);
}

// The scale of block `b` of the row that begins at `base`.
fn scale_of(base: u32, b: u32, k: u32) -> f32 { return one_scale(two_scales(base, b, k), b); }
