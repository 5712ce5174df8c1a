//! Change of sample rate by a polyphase windowed sinc, tap for tap torchaudio's default `Resample`.
//!
//! With `o`, `m` the two rates divided by their greatest common divisor, `b = 0.99 · min(o, m)` and
//! `W = ceil(6 · o / b)`, output sample `q·m + j` is `Σ_k tap[j][k] · x[q·o + k]`, where
//!
//! ```text
//! t = clip(b·(k/o − j/m), −6, 6)      tap[j][k] = sinc(t) · cos²(π·t/12) · b/o      k = −W … W+o−1
//! ```
//!
//! The window is zero for |t| = 6 (below the smallest f32), so of the `2W + o` taps of a phase only the
//! `2W + 2` around `k = j·o/m` can differ from zero; only those are computed, which leaves the result the
//! same and the work independent of the ratio's size. Taps are computed in f64 and rounded to f32 as in the
//! reference (`resample`); products are summed in f64.

use std::f64::consts::PI;

/// Zero crossings of the sinc on either side (torchaudio's `lowpass_filter_width`).
const WIDTH: f64 = 6.0;
/// Cut-off as a fraction of the lower Nyquist frequency (torchaudio's `rolloff`).
const ROLLOFF: f64 = 0.99;
/// Largest tap table that is kept, 16 MiB. Beyond it taps are computed anew for every output sample.
const MAX_TABLE: usize = 1 << 22;

/// Taps of one conversion, `o` input samples to `m` output samples.
struct Filter {
    o: u64,
    m: u64,
    base: f64,
    half: i64,
}

impl Filter {
    /// `orig` and `new` are nonzero rates in Hz.
    fn new(orig: u32, new: u32) -> Filter {
        let g = gcd(u64::from(orig), u64::from(new));
        let (o, m) = (u64::from(orig) / g, u64::from(new) / g);
        let base = o.min(m) as f64 * ROLLOFF;
        Filter { o, m, base, half: (WIDTH * o as f64 / base).ceil() as i64 }
    }

    /// Number of taps computed per phase.
    fn len(&self) -> usize {
        2 * self.half as usize + 2
    }

    /// Tap index `k` of the first computed tap of phase `j`.
    fn first(&self, j: u64) -> i64 {
        (j * self.o / self.m) as i64 - self.half
    }

    /// Tap `k` of phase `j`. The order of operations is the reference's, so that the rounding falls the same way.
    fn tap(&self, j: u64, k: i64) -> f32 {
        let t = (-(j as f64) / self.m as f64 + k as f64 / self.o as f64) * self.base;
        let t = t.clamp(-WIDTH, WIDTH);
        let window = (t * PI / WIDTH / 2.0).cos().powi(2);
        let t = t * PI;
        let sinc = if t == 0.0 { 1.0 } else { t.sin() / t };
        (sinc * window * (self.base / self.o as f64)) as f32
    }
}

/// `[n]` samples at `orig` Hz to `[ceil(n · new / orig)]` samples at `new` Hz; none if a rate is zero.
pub(super) fn resample(x: &[f32], orig: u32, new: u32) -> Vec<f32> {
    resample_with(x, orig, new, MAX_TABLE)
}

/// [`resample`] with a table of at most `max_table` taps.
fn resample_with(x: &[f32], orig: u32, new: u32, max_table: usize) -> Vec<f32> {
    if orig == 0 || new == 0 {
        return Vec::new();
    }
    let f = Filter::new(orig, new);
    let n_out = (x.len() as u128 * u128::from(f.m)).div_ceil(u128::from(f.o)) as usize;
    let width = f.len();
    // A clip shorter than one period of the phases needs only the first of them.
    let phases = n_out.min(f.m as usize);
    let mut table = Vec::new();
    if phases.saturating_mul(width) <= max_table {
        table.reserve_exact(phases * width);
        for j in 0..phases as u64 {
            table.extend((0..width as i64).map(|i| f.tap(j, f.first(j) + i)));
        }
    }
    let mut out = Vec::with_capacity(n_out);
    // Output sample n is phase j of the period that starts at input sample q·o = start.
    let (mut j, mut start) = (0u64, 0i64);
    for _ in 0..n_out {
        // The input samples that the taps reach; beyond the ends of the clip it is silent.
        let at = start + f.first(j);
        let lo = at.clamp(0, x.len() as i64);
        let hi = (at + width as i64).clamp(lo, x.len() as i64);
        let reached = &x[lo as usize..hi as usize];
        out.push(if table.is_empty() {
            reached.iter().zip(lo - start..).map(|(x, k)| f64::from(f.tap(j, k)) * f64::from(*x)).sum::<f64>()
                as f32
        } else {
            dot(&table[j as usize * width + (lo - at) as usize..][..reached.len()], reached)
        });
        j += 1;
        if j == f.m {
            j = 0;
            start += f.o as i64;
        }
    }
    out
}

/// `Σ_i taps[i] · x[i]`, both `[n]`.
fn dot(taps: &[f32], x: &[f32]) -> f32 {
    // Four running sums, because one would wait for each addition before starting the next.
    let mut sum = [0f64; 4];
    let (t4, x4) = (taps.chunks_exact(4), x.chunks_exact(4));
    let rest: f64 =
        t4.remainder().iter().zip(x4.remainder()).map(|(t, x)| f64::from(*t) * f64::from(*x)).sum();
    for (t, x) in t4.zip(x4) {
        for i in 0..4 {
            sum[i] += f64::from(t[i]) * f64::from(x[i]);
        }
    }
    ((sum[0] + sum[1]) + (sum[2] + sum[3]) + rest) as f32
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition with all `2W + o` taps and explicit padding, in f64.
    fn plain(x: &[f32], orig: u32, new: u32) -> Vec<f32> {
        let f = Filter::new(orig, new);
        let (o, m) = (f.o as i64, f.m as i64);
        let n_out = (x.len() as i64 * m + o - 1) / o;
        let value = |n: i64| {
            let (q, j) = (n / m, n % m);
            let mut sum = 0f64;
            for k in -f.half..f.half + o {
                let t = (f.base * (k as f64 / o as f64 - j as f64 / m as f64)).clamp(-WIDTH, WIDTH);
                let sinc = if t == 0.0 { 1.0 } else { (PI * t).sin() / (PI * t) };
                let tap = (sinc * (PI * t / 12.0).cos().powi(2) * f.base / o as f64) as f32;
                let at = q * o + k;
                if (0..x.len() as i64).contains(&at) {
                    sum += f64::from(tap) * f64::from(x[at as usize]);
                }
            }
            sum as f32
        };
        (0..n_out).map(value).collect()
    }

    fn noise(n: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as f32 / 2f32.powi(31) - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn max_diff(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn equals_the_definition_up_and_down() {
        for (orig, new) in [(44100, 16000), (8000, 16000), (48000, 16000), (16000, 44100), (3, 2), (7, 640)] {
            let x = noise(500);
            assert!(max_diff(&resample(&x, orig, new), &plain(&x, orig, new)) < 2e-7, "{orig} -> {new}");
        }
    }

    #[test]
    fn odd_ratios_work_with_and_without_a_table() {
        let x = noise(300);
        for (orig, new) in [(44101, 16000), (15999, 16000), (767_999, 16000)] {
            let with = resample(&x, orig, new);
            assert!(max_diff(&with, &resample_with(&x, orig, new, 0)) < 2e-7, "{orig} -> {new}");
            assert!(max_diff(&with, &plain(&x, orig, new)) < 2e-7, "{orig} -> {new}");
        }
    }

    #[test]
    fn lengths_are_rounded_up_and_edges_are_safe() {
        assert_eq!(resample(&[], 44100, 16000).len(), 0);
        assert_eq!(resample(&[1.0], 44100, 16000).len(), 1);
        assert_eq!(resample(&[1.0; 442], 44100, 16000).len(), 161);
        assert_eq!(resample(&[1.0; 10], 0, 16000).len(), 0);
        assert_eq!(resample(&[1.0; 10], 16000, 0).len(), 0);
        assert_eq!(resample(&[0.5; 3], u32::MAX, 1).len(), 1);
        assert_eq!(resample(&[0.5; 3], u32::MAX, u32::MAX - 1).len(), 3);
    }

    #[test]
    fn a_low_tone_keeps_its_height_and_a_high_one_goes() {
        let tone = |hz: f64, rate: u32, n: usize| -> Vec<f32> {
            (0..n).map(|i| (2.0 * PI * hz * i as f64 / f64::from(rate)).sin() as f32).collect()
        };
        let y = resample(&tone(440.0, 44100, 44100), 44100, 16000);
        assert!(max_diff(&y[100..15900], &tone(440.0, 16000, 16000)[100..15900]) < 2e-3);
        let y = resample(&tone(15000.0, 44100, 44100), 44100, 16000);
        assert!(y[100..15900].iter().all(|v| v.abs() < 2e-3));
    }
}
