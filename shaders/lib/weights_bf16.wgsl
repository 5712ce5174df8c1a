// weights_bf16: reads of `w: array<vec4<u32>>` that holds bfloat16, widened exactly by a shift.
struct Weights8 { lo: vec4<f32>, hi: vec4<f32> }

// Element `i`.
fn weight(i: u32) -> f32 {
    let word = w[i / 8u][(i / 2u) % 4u];
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (i & 1u) == 1u));
}

// Elements 8i .. 8i+7.
fn weights8(i: u32) -> Weights8 {
    let words = w[i];
    let even = bitcast<vec4<f32>>(words << vec4<u32>(16u));
    let odd = bitcast<vec4<f32>>(words & vec4<u32>(0xffff0000u));
    return Weights8(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}
