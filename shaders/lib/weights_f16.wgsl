// weights_f16: reads of `w: array<vec4<u32>>` that holds IEEE half floats; needs no f16 feature.
struct Weights8 { lo: vec4<f32>, hi: vec4<f32> }

// Element `i`.
fn weight(i: u32) -> f32 {
    return unpack2x16float(w[i / 8u][(i / 2u) % 4u])[i & 1u];
}

// Elements 8i .. 8i+7.
fn weights8(i: u32) -> Weights8 {
    let words = w[i];
    return Weights8(
        vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)),
        vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w)),
    );
}
