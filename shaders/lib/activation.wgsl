// activation: the epilogue functions of the matmul kernels, by the code in `Activation` (src/ops/matmul.rs).

// erf by Abramowitz and Stegun 7.1.26, |error| <= 1.5e-7.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - poly * exp(-a * a));
}

fn activate(code: u32, x: f32) -> f32 {
    switch code {
        case 1u: { return 0.5 * x * (1.0 + erf(x * 0.7071067811865476)); }   // gelu, exact form
        case 2u: { return max(x, 0.0); }                                     // relu
        default: { return x; }
    }
}
