// weights_bf16: reads of `w: array<vec4<u32>>` that holds rows of k bfloat16, widened exactly by a shift.
struct Weights8 { lo: vec4<f32>, hi: vec4<f32> }
alias Packed8 = vec4<u32>;

// Element `i` of a row.
fn weight(row: u32, i: u32, k: u32) -> f32 {
    let at = row * k + i;
    let word = w[at / 8u][(at / 2u) % 4u];
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (at & 1u) == 1u));
}

// Where a row begins, for weights8.
fn row8(row: u32, k: u32) -> u32 { return row * (k / 8u); }

// Elements 8i .. 8i+7 of the row that begins at `base`, as stored, and widened (`i` matters to quantized rows).
fn packed8(base: u32, i: u32, k: u32) -> Packed8 { return w[base + i]; }
fn unpacked8(words: Packed8, i: u32) -> Weights8 {
    let even = bitcast<vec4<f32>>(words << vec4<u32>(16u));
    let odd = bitcast<vec4<f32>>(words & vec4<u32>(0xffff0000u));
    return Weights8(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}
fn weights8(base: u32, i: u32, k: u32) -> Weights8 { return unpacked8(packed8(base, i, k), i); }
