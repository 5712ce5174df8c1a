// weights_f32: reads of `w: array<vec4<u32>>` that holds 32-bit floats.
struct Weights8 { lo: vec4<f32>, hi: vec4<f32> }

// Element `i`.
fn weight(i: u32) -> f32 {
    return bitcast<f32>(w[i / 4u][i % 4u]);
}

// Elements 8i .. 8i+7.
fn weights8(i: u32) -> Weights8 {
    return Weights8(bitcast<vec4<f32>>(w[2u * i]), bitcast<vec4<f32>>(w[2u * i + 1u]));
}
