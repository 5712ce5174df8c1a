// random: counter-based random words, pcg4d (Jarzynski and Olano, JCGT 9(3), 2020). A pure function of
// its key, so that a run can be repeated on any adapter and does not depend on tiling or batching.
fn pcg4d(key: vec4<u32>) -> vec4<u32> {
    var v = key * 1664525u + 1013904223u;
    v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
    v = v ^ (v >> vec4<u32>(16u));
    v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
    return v;
}

// Uniform in (0, 1): 23 bits and a half, exact in f32, never 0 or 1.
fn uniform_of(bits: u32) -> f32 {
    return (f32(bits >> 9u) + 0.5) * 1.1920928955078125e-7;
}
