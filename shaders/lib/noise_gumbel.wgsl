// noise_gumbel: logit - temperature * ln(-ln u), u uniform in (0, 1) and a function of (seed, forward,
// answer row, id): sampling by the Gumbel-max trick. Expects lib/random and `params`.

// -ln(x) for normal x > 0, to full f32 precision near 1, where WGSL's log may lose every digit:
// x = m 2^e with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh((m - 1) / (m + 1)).
fn neg_log(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    var e = i32(bits >> 23u) - 127;
    var m = bitcast<f32>((bits & 0x007fffffu) | 0x3f800000u);
    if (m > 1.4142135) { m = m * 0.5; e += 1; }
    let z = (m - 1.0) / (m + 1.0);
    let z2 = z * z;
    let ln_m = 2.0 * z * (1.0 + z2 * (0.33333333 + z2 * (0.2 + z2 * (0.14285715 + z2 * (0.11111111 + z2 * 0.09090909)))));
    return -(f32(e) * 0.6931471806 + ln_m);
}

fn perturbed(logit: f32, row: u32, answer_row: u32, forward: u32, id: u32) -> f32 {
    let u = uniform_of(pcg4d(vec4<u32>(params.seed, forward, answer_row, id)).x);
    return fma(params.temperature, neg_log(neg_log(u)), logit);
}
