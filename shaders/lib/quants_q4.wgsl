// quants_q4: reads of `w: array<vec4<u32>>` that holds rows of k q4_0 weights (weights_q4.wgsl), as packed bytes.
// @use scales
struct Quants32 { lo: vec4<u32>, hi: vec4<u32> }

fn quant_vectors(k: u32) -> u32 { return k / 32u; }

// The lower four half bytes of a word as four signed bytes.
fn bytes_of(word: u32) -> u32 {
    let spread = (word & 0xffu) | ((word & 0xff00u) << 8u);
    let stored = (spread & 0x000f000fu) | ((spread & 0x00f000f0u) << 4u);
    // Each byte less 8, without a borrow from its neighbour.
    return ((stored | 0x80808080u) - 0x08080808u) ^ 0x80808080u;
}

// Block `b`, 32 signed bytes, of the row that begins at `base`.
fn quants32(base: u32, b: u32) -> Quants32 {
    let words = w[base + b];
    return Quants32(
        vec4<u32>(bytes_of(words.x), bytes_of(words.x >> 16u), bytes_of(words.y), bytes_of(words.y >> 16u)),
        vec4<u32>(bytes_of(words.z), bytes_of(words.z >> 16u), bytes_of(words.w), bytes_of(words.w >> 16u)),
    );
}
