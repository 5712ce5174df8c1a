// weights_f32: reads of `w: array<vec4<u32>>` that holds rows of k 32-bit floats.
struct Weights8 { lo: vec4<f32>, hi: vec4<f32> }
struct Packed8 { lo: vec4<u32>, hi: vec4<u32> }

// Element `i` of a row.
fn weight(row: u32, i: u32, k: u32) -> f32 {
    let at = row * k + i;
    return bitcast<f32>(w[at / 4u][at % 4u]);
}

// Where a row begins, for weights8.
fn row8(row: u32, k: u32) -> u32 { return row * (k / 4u); }

// Elements 8i .. 8i+7 of the row that begins at `base`, as stored, and as numbers (`i` matters to quantized rows).
fn packed8(base: u32, i: u32, k: u32) -> Packed8 { return Packed8(w[base + 2u * i], w[base + 2u * i + 1u]); }
fn unpacked8(words: Packed8, i: u32) -> Weights8 {
    return Weights8(bitcast<vec4<f32>>(words.lo), bitcast<vec4<f32>>(words.hi));
}
fn weights8(base: u32, i: u32, k: u32) -> Weights8 { return unpacked8(packed8(base, i, k), i); }
