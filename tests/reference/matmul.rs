//! out = act(x W^T + bias) (+ out).

use diffa::ops::cases::{Case, Host};

use super::{Expected, as_multiplied, output_len};

/// erf by its Taylor series, summed in f64; 1 beyond 6.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

pub fn matmul(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (x, w) = (&as_multiplied(case, &t[0].data), &as_multiplied(case, &t[1].data));
    let (bias, start) = (&t[2].data, &t[3].data);
    let (n, k) = (t[1].shape[0], t[1].shape[1]);
    let mut out = Expected::untouched(output_len(case, 0));
    if case.attribute("accumulate") != 0.0 {
        out.values.copy_from_slice(start);
    }
    for row in 0..case.size("m") {
        for col in case.size("first_column")..case.size("end_column") {
            let (mut sum, mut scale) = (0.0, 0.0);
            for i in 0..k {
                let product = x[(case.size("x_row0") + row) * k + i] * w[col * k + i];
                sum += product;
                scale += product.abs();
            }
            if case.attribute("bias") != 0.0 {
                sum += bias[col];
                scale += bias[col].abs();
            }
            sum = match case.size("activation") {
                1 => 0.5 * sum * (1.0 + erf(sum / 2f64.sqrt())),
                2 => sum.max(0.0),
                _ => sum,
            };
            let at = (case.size("out_row0") + row) * n + col;
            if case.attribute("accumulate") != 0.0 {
                sum += start[at];
                scale += start[at].abs();
            }
            out.put(at, sum, scale);
        }
    }
    vec![out]
}

/// quants = round(x / scale) as packed bytes, scale = max |x| / 127 of 32 neighbours.
pub fn quantize_rows(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (rows, k, row0) = (case.size("n_rows"), case.size("k"), case.size("row0"));
    let (mut quants, mut scales) = (Vec::new(), Vec::new());
    for block in t[0].data[row0 * k..(row0 + rows) * k].chunks(32) {
        let scale = block.iter().fold(0.0f64, |top, v| top.max(v.abs())) / 127.0;
        let byte = |v: &f64| if scale == 0.0 { 0 } else { (v / scale).round() as i8 as u8 };
        let bytes: Vec<u8> = block.iter().map(byte).collect();
        let word = |b: &[u8]| f64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        quants.extend(bytes.chunks(4).map(word));
        scales.push(scale);
    }
    vec![Expected::new(quants), Expected::new(scales)]
}

#[test]
fn erf_is_erf() {
    for (x, y) in
        [(0.0, 0.0), (0.5, 0.520499877813), (1.0, 0.842700792950), (-2.0, -0.995322265019), (6.0, 1.0)]
    {
        assert!((erf(x) - y).abs() < 1e-11, "{x}");
    }
}
