// quants_q8: reads of `w: array<vec4<u32>>` that holds rows of k q8_0 weights (weights_q8.wgsl), as packed bytes.
// @use scales
struct Quants32 { lo: vec4<u32>, hi: vec4<u32> }

fn quant_vectors(k: u32) -> u32 { return k / 16u; }

// Block `b`, 32 signed bytes, of the row that begins at `base`.
fn quants32(base: u32, b: u32) -> Quants32 { return Quants32(w[base + 2u * b], w[base + 2u * b + 1u]); }
