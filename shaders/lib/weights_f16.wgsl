// weights_f16: reads of `w: array<vec4<u32>>` that holds rows of k IEEE half floats; needs no f16 feature.
struct Weights8 { lo: vec4<f32>, hi: vec4<f32> }
alias Packed8 = vec4<u32>;

// Element `i` of a row.
fn weight(row: u32, i: u32, k: u32) -> f32 {
    let at = row * k + i;
    return unpack2x16float(w[at / 8u][(at / 2u) % 4u])[at & 1u];
}

// Where a row begins, for weights8.
fn row8(row: u32, k: u32) -> u32 { return row * (k / 8u); }

// Elements 8i .. 8i+7 of the row that begins at `base`, as stored, and widened (`i` matters to quantized rows).
fn packed8(base: u32, i: u32, k: u32) -> Packed8 { return w[base + i]; }
fn unpacked8(words: Packed8, i: u32) -> Weights8 {
    return Weights8(
        vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)),
        vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w)),
    );
}
fn weights8(base: u32, i: u32, k: u32) -> Weights8 { return unpacked8(packed8(base, i, k), i); }
