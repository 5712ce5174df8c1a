//! Log-mel spectrogram: STFT power, Slaney filterbank, log10, clip-maximum clamp.
//!
//! Frames of 400 samples, which all Whispers have, are transformed as 16 x 25 points in two dispatches; other
//! lengths by the definition.

use crate::error::Result;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, PlanBuilder, linear_grid};
use crate::gpu::{DType, Gpu, Tensor};

kernel! {
    /// power[f, b] = |sum_n window[n] x[f hop + n - N_FFT/2] exp(-2 pi i b n / N_FFT)|^2, reflected ends
    STFT_POWER = "stft_power" {
        params: StftPowerParams { n_frames: u32, n_samples: u32, hop: u32 },
        bindings: [read samples, read window, read circle, write power],
        slots: [],
        consts: [N_FFT: 400 | 512],
    }
}

kernel! {
    /// columns[f, k1, n2] = transform of 16 windowed samples of frame0 + f, 25 apart from n2 on, turned by n2 k1 / 400
    STFT_COLUMNS = "stft_columns" {
        params: StftColumnsParams { n_frames: u32, n_samples: u32, hop: u32, frame0: u32 },
        bindings: [read samples, read window, read circle, write columns],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// power[frame0 + f, k1 + 16 k2] = |transform of the 25 columns[f, k1]|^2, up to the middle of 400
    STFT_ROWS = "stft_rows" {
        params: StftRowsParams { n_frames: u32, frame0: u32 },
        bindings: [read columns, read circle, write power],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// out[f, m] = log10(max(sum_b power[f, b] bank[m, b], 1e-10))
    MEL_FILTER = "mel_filter" {
        params: MelFilterParams { n_frames: u32, n_mels: u32, n_bins: u32 },
        bindings: [read power, read bank, read spans, write out],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// out[0] = max_i x[i]
    CLIP_MAX = "clip_max" {
        params: ClipMaxParams { len: u32 },
        bindings: [read x, write out],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// x[i] = (max(x[i], top[0] - 8) + 4) / 4, in place
    MEL_NORMALIZE = "mel_normalize" {
        params: MelNormalizeParams { len: u32 },
        bindings: [read top, write x],
        slots: [],
        consts: [],
    }
}

/// Constant tables of the spectrogram, on the device.
#[derive(Debug, Clone)]
pub struct MelTables {
    /// Periodic Hann window `[n_fft]`.
    pub window: Tensor,
    /// (cos, sin) of `2 pi n / n_fft`, `[n_fft, 2]`.
    pub circle: Tensor,
    /// Mel filterbank `[n_mels, n_fft / 2 + 1]`.
    pub bank: Tensor,
    /// First bin of each filter and the one after its last, `[n_mels, 2]`.
    pub spans: Tensor,
    /// Transform length, even.
    pub n_fft: usize,
    /// Samples between frames.
    pub hop_length: usize,
}

impl MelTables {
    /// Tables for `n_mels` bands up to 8 kHz, the highest frequency Whisper's extractor uses.
    pub fn new(
        gpu: &Gpu,
        n_fft: usize,
        hop_length: usize,
        n_mels: usize,
        sample_rate: usize,
    ) -> Result<MelTables> {
        let turn = |n: usize| 2.0 * std::f64::consts::PI * n as f64 / n_fft as f64;
        let window: Vec<f32> = (0..n_fft).map(|n| (0.5 - 0.5 * turn(n).cos()) as f32).collect();
        let circle: Vec<[f32; 2]> =
            (0..n_fft).map(|n| [turn(n).cos() as f32, turn(n).sin() as f32]).collect();
        let n_bins = n_fft / 2 + 1;
        let bank = mel_filterbank(n_mels, n_bins, sample_rate as f64);
        let spans = filter_spans(&bank, n_bins);
        Ok(MelTables {
            window: gpu.tensor_from("mel.window", DType::F32, &[n_fft], &window)?,
            circle: gpu.tensor_from("mel.circle", DType::F32, &[n_fft, 2], &circle)?,
            bank: gpu.tensor_from("mel.bank", DType::F32, &[n_mels, n_bins], &bank)?,
            spans: gpu.tensor_from("mel.spans", DType::U32, &[n_mels, 2], &spans)?,
            n_fft,
            hop_length,
        })
    }
}

/// Triangular filters on the Slaney mel scale with Slaney normalisation, `[n_mels, n_bins]`, from 0 to
/// half the sample rate. Computed in f64, as the reference function `mel_filterbank` does.
pub fn mel_filterbank(n_mels: usize, n_bins: usize, sample_rate: f64) -> Vec<f32> {
    let step = 27.0 / 6.4f64.ln();
    let to_mel = |hz: f64| if hz >= 1000.0 { 15.0 + (hz / 1000.0).ln() * step } else { 3.0 * hz / 200.0 };
    let to_hz = |mel: f64| if mel >= 15.0 { 1000.0 * ((mel - 15.0) / step).exp() } else { 200.0 * mel / 3.0 };
    let top = to_mel(sample_rate / 2.0);
    let edges: Vec<f64> = (0..n_mels + 2).map(|i| to_hz(top * i as f64 / (n_mels + 1) as f64)).collect();
    let mut bank = Vec::with_capacity(n_mels * n_bins);
    for m in 0..n_mels {
        let (lower, centre, upper) = (edges[m], edges[m + 1], edges[m + 2]);
        for bin in 0..n_bins {
            let hz = sample_rate / 2.0 * bin as f64 / (n_bins - 1) as f64;
            let rise = (hz - lower) / (centre - lower);
            let fall = (upper - hz) / (upper - centre);
            bank.push((rise.min(fall).max(0.0) * 2.0 / (upper - lower)) as f32);
        }
    }
    bank
}

/// The bins of each filter of a bank `[n_mels, n_bins]` from its first above 0 to its last, as (first, end).
pub(crate) fn filter_spans(bank: &[f32], n_bins: usize) -> Vec<[u32; 2]> {
    let span = |filter: &[f32]| {
        let first = filter.iter().position(|w| *w != 0.0).unwrap_or(0);
        let end = filter.iter().rposition(|w| *w != 0.0).map_or(0, |last| last + 1);
        [first as u32, end as u32]
    };
    bank.chunks_exact(n_bins).map(span).collect()
}

/// `samples` `[n_samples]` f32 (zero-padded window) -> `out` `[n_frames, n_mels]`, time-major.
/// `power` `[n_frames, n_fft / 2 + 1]` and `top` `[1]` are scratch.
pub fn log_mel(
    plan: &mut PlanBuilder,
    samples: &Tensor,
    tables: &MelTables,
    power: &Tensor,
    top: &Tensor,
    out: &Tensor,
) -> Result<()> {
    if tables.n_fft == N_FAST {
        stft_fast(plan, samples, tables, power)?;
    } else {
        stft_power(plan, samples, tables, power)?;
    }
    mel_filter(plan, power, (&tables.bank, &tables.spans), out)?;
    clip_max(plan, out, top)?;
    mel_normalize(plan, out, top)
}

/// Frame length of [`stft_fast`].
pub const N_FAST: usize = 400;
/// Its columns, and the points of each.
const COLUMNS: usize = 9 * 25;

/// `power[f, b]` of every frame of 400 samples; `samples` `[n_samples]`, `power` `[n_frames, 201]`.
pub fn stft_fast(plan: &mut PlanBuilder, samples: &Tensor, tables: &MelTables, power: &Tensor) -> Result<()> {
    let [n_frames, _] = power.dims("stft_fast")?;
    // As many frames at a time as one binding holds the columns of.
    let most = (plan.gpu().caps().max_slab_bytes() / (4 * 2 * COLUMNS) as u64) as usize;
    let step = n_frames.min(most).max(1);
    let columns = plan.scratch(0, step * COLUMNS * 2)?;
    for frame0 in (0..n_frames).step_by(step) {
        let columns = Tensor { shape: vec![step.min(n_frames - frame0), COLUMNS, 2], ..columns.clone() };
        stft_columns(plan, samples, tables, frame0, &columns)?;
        stft_rows(plan, &columns, tables, frame0, power)?;
    }
    Ok(())
}

/// The first half of [`stft_fast`], of the frames from `frame0` on: `samples` `[n_samples]` -> `columns`
/// `[n_frames, 9 * 25, 2]`, complex.
pub(crate) fn stft_columns(
    plan: &mut PlanBuilder,
    samples: &Tensor,
    tables: &MelTables,
    frame0: usize,
    columns: &Tensor,
) -> Result<()> {
    let [n_frames, _, _] = columns.dims("stft_columns")?;
    columns.check_shape("stft_columns", &[n_frames, COLUMNS, 2])?;
    tables.window.check_shape("stft_columns", &[N_FAST])?;
    let params = StftColumnsParams {
        n_frames: n_frames as u32,
        n_samples: samples.len() as u32,
        hop: tables.hop_length as u32,
        frame0: frame0 as u32,
    };
    // 70 additions and multiplications for 16 real points, 6 for each turn.
    let flops = (n_frames * 25 * (70 + 9 * 6)) as u64;
    let cost = Cost { flops, bytes: samples.byte_len() + columns.byte_len() };
    let bindings = [samples, &tables.window, &tables.circle, columns];
    let grid = linear_grid((n_frames * 25).div_ceil(64));
    plan.dispatch(&STFT_COLUMNS, Variant::default(), params, &bindings, grid, cost)
}

/// The second half: `columns` -> as many rows of `power` `[.., 201]` from `frame0` on.
pub(crate) fn stft_rows(
    plan: &mut PlanBuilder,
    columns: &Tensor,
    tables: &MelTables,
    frame0: usize,
    power: &Tensor,
) -> Result<()> {
    let [n_frames, _, _] = columns.dims("stft_rows")?;
    columns.check_shape("stft_rows", &[n_frames, COLUMNS, 2])?;
    power.check_rows("stft_rows", frame0 + n_frames, N_FAST / 2 + 1)?;
    tables.circle.check_shape("stft_rows", &[N_FAST, 2])?;
    let params = StftRowsParams { n_frames: n_frames as u32, frame0: frame0 as u32 };
    // 48 for five complex points, ten times; 16 turns; 25 powers.
    let flops = (n_frames * 9 * (10 * 48 + 16 * 6 + 25 * 3)) as u64;
    let cost = Cost { flops, bytes: columns.byte_len() + 4 * (n_frames * (N_FAST / 2 + 1)) as u64 };
    let grid = linear_grid((n_frames * 9).div_ceil(64));
    plan.dispatch(&STFT_ROWS, Variant::default(), params, &[columns, &tables.circle, power], grid, cost)
}

/// `power[f, b]` of every frame, of any even length, by the definition; `samples` `[n_samples]`, `power`
/// `[n_frames, n_fft / 2 + 1]`.
pub fn stft_power(
    plan: &mut PlanBuilder,
    samples: &Tensor,
    tables: &MelTables,
    power: &Tensor,
) -> Result<()> {
    let [n_frames, n_bins] = power.dims("stft_power")?;
    power.check_shape("stft_power", &[n_frames, tables.n_fft / 2 + 1])?;
    let params = StftPowerParams {
        n_frames: n_frames as u32,
        n_samples: samples.len() as u32,
        hop: tables.hop_length as u32,
    };
    let cost = Cost {
        flops: 2 * (n_frames * n_bins * tables.n_fft) as u64,
        bytes: 4 * (samples.len() + n_frames * n_bins) as u64,
    };
    let variant = Variant::default().with("N_FFT", tables.n_fft as u32);
    let bindings = [samples, &tables.window, &tables.circle, power];
    plan.dispatch(&STFT_POWER, variant, params, &bindings, linear_grid(n_frames), cost)
}

/// `power` `[n_frames, n_bins]`, `bank` `[n_mels, n_bins]` with its spans `[n_mels, 2]` -> `out` `[n_frames, n_mels]`.
pub fn mel_filter(
    plan: &mut PlanBuilder,
    power: &Tensor,
    (bank, spans): (&Tensor, &Tensor),
    out: &Tensor,
) -> Result<()> {
    let [n_frames, n_bins] = power.dims("mel_filter")?;
    let [n_mels, _] = bank.dims("mel_filter")?;
    bank.check_shape("mel_filter", &[n_mels, n_bins])?;
    spans.check_shape("mel_filter", &[n_mels, 2])?;
    out.check_shape("mel_filter", &[n_frames, n_mels])?;
    let params = MelFilterParams { n_frames: n_frames as u32, n_mels: n_mels as u32, n_bins: n_bins as u32 };
    let cost = Cost {
        // Neighbouring triangles overlap by half: each bin counts twice.
        flops: 4 * (n_frames * n_bins) as u64,
        bytes: 4 * (n_frames * (n_bins + n_mels)) as u64,
    };
    let grid = linear_grid((n_frames * n_mels).div_ceil(64));
    plan.dispatch(&MEL_FILTER, Variant::default(), params, &[power, bank, spans, out], grid, cost)
}

/// `out[0] = max(x)`.
pub fn clip_max(plan: &mut PlanBuilder, x: &Tensor, out: &Tensor) -> Result<()> {
    out.check_shape("clip_max", &[1])?;
    let cost = Cost { flops: x.len() as u64, bytes: x.byte_len() };
    plan.dispatch(
        &CLIP_MAX,
        Variant::default(),
        ClipMaxParams { len: x.len() as u32 },
        &[x, out],
        [1, 1, 1],
        cost,
    )
}

/// `x = (max(x, top - 8) + 4) / 4`.
pub fn mel_normalize(plan: &mut PlanBuilder, x: &Tensor, top: &Tensor) -> Result<()> {
    top.check_shape("mel_normalize", &[1])?;
    let params = MelNormalizeParams { len: x.len() as u32 };
    let cost = Cost { flops: 3 * x.len() as u64, bytes: 2 * x.byte_len() };
    let grid = linear_grid(x.len().div_ceil(64));
    plan.dispatch(&MEL_NORMALIZE, Variant::default(), params, &[top, x], grid, cost)
}
