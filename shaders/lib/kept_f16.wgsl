// kept_f16: keys and values of a decode as IEEE half floats, two to a word; needs no f16 feature.
alias Kept4 = vec2<u32>;    // four elements of a head
alias Kept = u32;           // a word
const PER_WORD: u32 = 2u;   // neighbours in it

fn kept4(x: Kept4) -> vec4<f32> { return vec4<f32>(unpack2x16float(x.x), unpack2x16float(x.y)); }

// Element `i`, which is in the word `i / PER_WORD`.
fn kept(x: Kept, i: u32) -> f32 { return unpack2x16float(x)[i & 1u]; }

// Two neighbours, clipped to the range of half floats. `pack2x16float` may round either way, so they are rounded
// before: to 11 bits, to nearest, ties to even.
fn to_kept(x: f32, next: f32) -> Kept {
    let bits = bitcast<vec2<u32>>(clamp(vec2<f32>(x, next), vec2<f32>(-65504.0), vec2<f32>(65504.0)));
    let odd = (bits >> vec2<u32>(13u)) & vec2<u32>(1u);
    return pack2x16float(bitcast<vec2<f32>>((bits + odd + 0xfffu) & vec2<u32>(0xffffe000u)));
}
