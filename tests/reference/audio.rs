//! The spectrogram, stage by stage, and convolution patches.

use std::f64::consts::PI;

use diffa::ops::cases::{Case, Host};

use super::{Expected, output_len};

/// The DFT of each windowed frame directly from its definition, with f64 angles.
pub fn stft_power(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (samples, window) = (&t[0].data, &t[1].data);
    let (n_fft, last) = (window.len(), samples.len() as i64 - 1);
    let bins = n_fft / 2 + 1;
    let mut out = Expected::untouched(output_len(case, 0));
    for frame in 0..case.outputs[0].shape[0] {
        let reflected = |n: usize| {
            let at = (frame * case.size("hop") + n) as i64 - n_fft as i64 / 2;
            let at = at.abs();
            samples[(if at > last { 2 * last - at } else { at }).clamp(0, last) as usize] * window[n]
        };
        let values: Vec<f64> = (0..n_fft).map(reflected).collect();
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
