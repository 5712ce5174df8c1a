//! Cases of the spectrogram kernels and of the convolution patches.

use super::{Case, Fill};
use crate::gpu::kernel::Variant;
use crate::gpu::{DType, Tensor};
use crate::ops::conv::conv1d_patches;
use crate::ops::mel::{
    MelTables, clip_max, filter_spans, mel_filter, mel_filterbank, mel_normalize, stft_columns, stft_fast,
    stft_power, stft_rows,
};

/// Periodic Hann window and (cos, sin) circle of `n` samples.
fn tables(n: usize) -> (Vec<f32>, Vec<f32>) {
    let turn = |i: usize| 2.0 * std::f64::consts::PI * i as f64 / n as f64;
    let window = (0..n).map(|i| (0.5 - 0.5 * turn(i).cos()) as f32).collect();
    let circle = (0..n).flat_map(|i| [turn(i).cos() as f32, turn(i).sin() as f32]).collect();
    (window, circle)
}

/// Constant tables of which the kernels of a transform read these two.
fn transform_tables(window: &Tensor, circle: &Tensor, n_fft: usize, hop_length: usize) -> MelTables {
    let (bank, spans) = (window.clone(), window.clone());
    MelTables { window: window.clone(), circle: circle.clone(), bank, spans, n_fft, hop_length }
}

fn stft(n_fft: usize, n_samples: usize, n_frames: usize, hop: usize) -> Case {
    let (window, circle) = tables(n_fft);
    let bins = n_fft / 2 + 1;
    let variant = Variant::default().with("N_FFT", n_fft as u32);
    Case::new("stft_power", variant, format!("{n_samples} samples, {n_frames} frames, hop {hop}"))
        .input("samples", DType::F32, &[n_samples], Fill::Normal(0.2))
        .input("window", DType::F32, &[n_fft], Fill::Values(window))
        .input("circle", DType::F32, &[n_fft, 2], Fill::Values(circle))
        .output("power", &[n_frames, bins])
        .sizes(&[("hop", hop)])
        .tolerance(1e-9, 2e-6)
        .dispatching(move |plan, o| {
            stft_power(plan, o.input(0), &transform_tables(o.input(1), o.input(2), n_fft, hop), o.output(0))
        })
}

fn columns(n_samples: usize, frame0: usize, n_frames: usize, hop: usize) -> Case {
    let (window, circle) = tables(400);
    Case::new(
        "stft_columns",
        Variant::default(),
        format!("{n_samples} samples, {n_frames} frames from {frame0} on, hop {hop}"),
    )
    .input("samples", DType::F32, &[n_samples], Fill::Normal(0.2))
    .input("window", DType::F32, &[400], Fill::Values(window))
    .input("circle", DType::F32, &[400, 2], Fill::Values(circle))
    .output("columns", &[n_frames, 9 * 25, 2])
    .sizes(&[("hop", hop), ("frame0", frame0)])
    .tolerance(1e-9, 1e-6)
    .dispatching(move |plan, o| {
        let tables = transform_tables(o.input(1), o.input(2), 400, hop);
        stft_columns(plan, o.input(0), &tables, frame0, o.output(0))
    })
}

fn rows(frame0: usize, n_frames: usize) -> Case {
    let (window, circle) = tables(400);
    Case::new("stft_rows", Variant::default(), format!("{n_frames} frames from {frame0} on"))
        .input("columns", DType::F32, &[n_frames, 9 * 25, 2], Fill::Normal(1.0))
        .input("window", DType::F32, &[400], Fill::Values(window))
        .input("circle", DType::F32, &[400, 2], Fill::Values(circle))
        .output("power", &[frame0 + n_frames + 1, 201])
        .sizes(&[("frame0", frame0)])
        .tolerance(1e-9, 2e-6)
        .dispatching(move |plan, o| {
            let tables = transform_tables(o.input(1), o.input(2), 400, 160);
            stft_rows(plan, o.input(0), &tables, frame0, o.output(0))
        })
}

/// Both halves of the fast transform, against the definition.
fn fast(n_samples: usize, n_frames: usize, hop: usize) -> Case {
    let case = stft(400, n_samples, n_frames, hop);
    let name = format!("from samples: {}", case.name);
    Case { kernel: "stft_rows", variant: Variant::default(), name, ..case }
        .sizes(&[("from_samples", 1)])
        .dispatching(move |plan, o| {
            stft_fast(plan, o.input(0), &transform_tables(o.input(1), o.input(2), 400, hop), o.output(0))
        })
}

fn filter(n_frames: usize, n_mels: usize, n_bins: usize) -> Case {
    let bank = mel_filterbank(n_mels, n_bins, 16_000.0);
    let spans = filter_spans(&bank, n_bins).concat();
    Case::new("mel_filter", Variant::default(), format!("{n_frames} frames, {n_bins} bins to {n_mels} bands"))
        .input("power", DType::F32, &[n_frames, n_bins], Fill::Powers)
        .input("bank", DType::F32, &[n_mels, n_bins], Fill::Values(bank))
        .input("spans", DType::U32, &[n_mels, 2], Fill::Words(spans))
        .output("out", &[n_frames, n_mels])
        .tolerance(2e-6, 1e-6)
        .dispatching(|plan, o| mel_filter(plan, o.input(0), (o.input(1), o.input(2)), o.output(0)))
}

fn maximum(len: usize, lift: f32) -> Case {
    // All values below zero in one case: a maximum that starts from 0 would show.
    let values = (0..len).map(|i| lift - ((i * 7919) % 10_007) as f32 / 1000.0).collect();
    Case::new("clip_max", Variant::default(), format!("{len} values from {lift} down"))
        .input("x", DType::F32, &[len], Fill::Values(values))
        .output("out", &[1])
        .dispatching(|plan, o| clip_max(plan, o.input(0), o.output(0)))
}

fn normalize(len: usize) -> Case {
    Case::new("mel_normalize", Variant::default(), format!("{len} values"))
        .input("x", DType::F32, &[len], Fill::Normal(8.0))
        .input("top", DType::F32, &[1], Fill::Values(vec![1.25]))
        .in_place("x", &[len], 0)
        .tolerance(1e-7, 2e-7)
        .dispatching(|plan, o| mel_normalize(plan, o.output(0), o.input(1)))
}

fn patches(
    t_in: usize,
    channels: usize,
    (kernel, stride, pad): (usize, usize, usize),
    x_row0: usize,
) -> Case {
    let t_out = (t_in + 2 * pad - kernel) / stride + 1;
    let name =
        format!("[{t_in}, {channels}], window {kernel}, stride {stride}, pad {pad}, from row {x_row0}");
    Case::new("conv1d_patches", Variant::default(), name)
        // A row more than is used: padding must be zero, not the neighbour.
        .input("x", DType::F32, &[x_row0 + t_in + 1, channels], Fill::Mixed(1.0))
        .output("out", &[t_out, channels * kernel])
        .sizes(&[("t_in", t_in), ("kernel", kernel), ("stride", stride), ("pad", pad), ("x_row0", x_row0)])
        .dispatching(move |plan, o| {
            conv1d_patches(plan, (o.input(0), x_row0), t_in, (kernel, stride, pad), o.output(0))
        })
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        stft(400, 1000, 1, 160),
        stft(400, 1000, 7, 160),
        stft(400, 3201, 21, 160),
        stft(512, 700, 3, 256),
        stft(512, 5000, 9, 512),
        stft(400, 480_000, 3000, 160).bench(true),
        columns(1000, 0, 1, 160),
        columns(3201, 0, 21, 160),
        columns(3201, 13, 8, 160),
        columns(480_000, 0, 3000, 160).bench(true),
        rows(0, 1),
        rows(4, 15),
        fast(1000, 1, 160),
        fast(3201, 21, 160),
        fast(480_000, 3000, 160).bench(true),
        filter(1, 1, 3),
        filter(3, 80, 201),
        filter(65, 13, 257),
        filter(3000, 80, 201).bench(true),
        maximum(1, -3.0),
        maximum(255, 2.0),
        maximum(10_000, -0.5),
        maximum(240_000, 1.0).bench(false),
        normalize(1),
        normalize(63),
        normalize(1025),
        normalize(240_000).bench(false),
        patches(1, 1, (3, 1, 1), 0),
        patches(5, 3, (3, 2, 1), 2),
        patches(34, 12, (8, 4, 2), 1),
        patches(70, 5, (3, 2, 1), 0),
        patches(3000, 80, (3, 1, 1), 0).bench(false),
        patches(3000, 768, (3, 2, 1), 0).bench(true),
    ]
}
