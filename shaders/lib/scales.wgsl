// scales: the f16 scales of a quantized row, after its quants (src/quant.rs).
// Uses `quant_vectors(k)` of the format: vec4s of quants in a row of k weights.

// Where a row begins.
fn row8(row: u32, k: u32) -> u32 { return row * (quant_vectors(k) + (k + 255u) / 256u); }

// Scale of block `b` of the row that begins at `base`.
fn scale_of(base: u32, b: u32, k: u32) -> f32 {
    let pair = unpack2x16float(w[base + quant_vectors(k) + b / 8u][(b / 2u) % 4u]);
    return select(pair.x, pair.y, (b & 1u) == 1u);
}
