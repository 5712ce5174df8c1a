//! The spectrogram, stage by stage, and convolution patches.

use std::f64::consts::PI;

use diffa::ops::cases::{Case, Host};

use super::{Expected, output_len};

/// A sample of a frame, windowed, with reflection at both ends.
fn windowed<'a>(case: &'a Case, t: &'a [Host], frame: usize) -> impl Fn(usize) -> f64 + 'a {
    let (samples, window) = (&t[0].data, &t[1].data);
    let last = samples.len() as i64 - 1;
    move |n: usize| {
        let at = ((frame * case.size("hop") + n) as i64 - window.len() as i64 / 2).abs();
        samples[(if at > last { 2 * last - at } else { at }).clamp(0, last) as usize] * window[n]
    }
}

/// For each n2 and k1 up to 8, the DFT of the 16 samples 25 apart from n2 on, turned by n2 k1 / 400.
pub fn stft_columns(case: &Case, t: &[Host]) -> Vec<Expected> {
    let mut out = Expected::untouched(output_len(case, 0));
    for frame in 0..case.outputs[0].shape[0] {
        let value = windowed(case, t, case.size("frame0") + frame);
        for (k1, n2) in (0..9).flat_map(|k1| (0..25).map(move |n2| (k1, n2))) {
            // exp(-2 pi i (n1 k1 / 16 + n2 k1 / 400)) is exp(-2 pi i n k1 / 400).
            let parts =
                || (0..16).map(|n1| 25 * n1 + n2).map(|n| (value(n), -2.0 * PI * (n * k1) as f64 / 400.0));
            let total: f64 = parts().map(|(v, _)| v.abs()).sum();
            let at = 2 * ((frame * 9 + k1) * 25 + n2);
            out.put(at, parts().map(|(v, angle)| v * angle.cos()).sum(), total);
            out.put(at + 1, parts().map(|(v, angle)| v * angle.sin()).sum(), total);
        }
    }
    vec![out]
}

/// The power of the DFT of 25 columns, or of the samples they come from.
pub fn stft_rows(case: &Case, t: &[Host]) -> Vec<Expected> {
    if case.size("from_samples") == 1 {
        return stft_power(case, t);
    }
    let mut out = Expected::untouched(output_len(case, 0));
    for (i, column) in t[0].data.chunks(50).enumerate() {
        let (frame, k1) = (case.size("frame0") + i / 9, i % 9);
        for k2 in 0..25 {
            let k = k1 + 16 * k2;
            if k > 200 && k1 % 8 == 0 {
                continue; // the mirror image of another one
            }
            let part = |n2: usize| {
                let angle = -2.0 * PI * (n2 * k2) as f64 / 25.0;
                let [re, im] = [column[2 * n2], column[2 * n2 + 1]];
                [re * angle.cos() - im * angle.sin(), re * angle.sin() + im * angle.cos()]
            };
            let [re, im] = [0, 1].map(|which| (0..25).map(|n2| part(n2)[which]).sum::<f64>());
            let total: f64 = column.iter().map(|v| v.abs()).sum();
            let power = re * re + im * im;
            out.put(frame * 201 + k.min(400 - k), power, power.sqrt() * total + 1e-6 * total * total);
        }
    }
    vec![out]
}

/// The DFT of each windowed frame directly from its definition, with f64 angles.
pub fn stft_power(case: &Case, t: &[Host]) -> Vec<Expected> {
    let n_fft = t[1].data.len();
    let bins = n_fft / 2 + 1;
    let mut out = Expected::untouched(output_len(case, 0));
    for frame in 0..case.outputs[0].shape[0] {
        let values: Vec<f64> = (0..n_fft).map(windowed(case, t, frame)).collect();
        let total: f64 = values.iter().map(|v| v.abs()).sum();
        for bin in 0..bins {
            let angle = |n: usize| 2.0 * PI * ((bin * n) % n_fft) as f64 / n_fft as f64;
            let re: f64 = values.iter().enumerate().map(|(n, v)| v * angle(n).cos()).sum();
            let im: f64 = values.iter().enumerate().map(|(n, v)| v * angle(n).sin()).sum();
            let power = re * re + im * im;
            // An error of e in the sum of magnitude `total` is 2 |X| e in the power, plus e^2.
            out.put(frame * bins + bin, power, power.sqrt() * total + 1e-6 * total * total);
        }
    }
    vec![out]
}

pub fn mel_filter(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (power, bank, bins) = (&t[0].data, &t[1].data, t[1].shape[1]);
    let mut out = Vec::with_capacity(output_len(case, 0));
    for frame in power.chunks(bins) {
        for filter in bank.chunks(bins) {
            let sum: f64 = frame.iter().zip(filter).map(|(p, w)| p * w).sum();
            out.push(sum.max(1e-10).log10());
        }
    }
    vec![Expected::new(out)]
}

pub fn clip_max(_: &Case, t: &[Host]) -> Vec<Expected> {
    vec![Expected::new(vec![t[0].data.iter().copied().fold(f64::NEG_INFINITY, f64::max)])]
}

pub fn mel_normalize(_: &Case, t: &[Host]) -> Vec<Expected> {
    let top = t[1].data[0];
    let values: Vec<f64> = t[0].data.iter().map(|x| (x.max(top - 8.0) + 4.0) / 4.0).collect();
    let scales = t[0].data.iter().map(|x| (x.max(top - 8.0).abs() + 4.0) / 4.0).collect();
    vec![Expected { values, scales }]
}

pub fn conv1d_patches(case: &Case, t: &[Host]) -> Vec<Expected> {
    let [kernel, stride, pad, t_in, x_row0] =
        ["kernel", "stride", "pad", "t_in", "x_row0"].map(|name| case.size(name));
    let channels = t[0].shape[1];
    let mut out = Vec::with_capacity(output_len(case, 0));
    for row in 0..case.outputs[0].shape[0] {
        for channel in 0..channels {
            for j in 0..kernel {
                let at = (row * stride + j) as i64 - pad as i64;
                let inside = (0..t_in as i64).contains(&at);
                out.push(if inside { t[0].data[(x_row0 + at as usize) * channels + channel] } else { 0.0 });
            }
        }
    }
    vec![Expected::new(out)]
}
