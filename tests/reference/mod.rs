//! Plain-loop f64 references of all kernels, looked up by kernel name. They share nothing with `src/`
//! but the layout of operands that `src/ops/cases/` documents.

mod attention;
mod audio;
mod head;
mod matmul;
mod peak;
mod rows;
mod select;

pub use head::{pcg4d, uniform};

use diffa::ops::cases::{Case, Host};

/// An element that the kernel must leave as it was (the poison).
pub const UNTOUCHED: f64 = f64::NAN;
/// An element that may be anything.
pub const ANY: f64 = f64::INFINITY;

/// What one output should hold.
pub struct Expected {
    /// The values, [`UNTOUCHED`] or [`ANY`].
    pub values: Vec<f64>,
    /// What the relative tolerance is relative to; the magnitudes of the values if empty.
    pub scales: Vec<f64>,
}

impl Expected {
    /// Errors are relative to the value itself.
    pub fn new(values: Vec<f64>) -> Expected {
        Expected { values, scales: Vec::new() }
    }

    /// `len` untouched elements.
    pub fn untouched(len: usize) -> Expected {
        Expected { values: vec![UNTOUCHED; len], scales: vec![0.0; len] }
    }

    /// Sets one element and its scale.
    pub fn put(&mut self, at: usize, value: f64, scale: f64) {
        (self.values[at], self.scales[at]) = (value, scale);
    }
}

/// Elements of the case's output `index`.
pub fn output_len(case: &Case, index: usize) -> usize {
    case.outputs[index].shape.iter().product()
}

/// A number in the range of halves.
pub fn clipped(value: f64) -> f64 {
    value.clamp(-65504.0, 65504.0)
}

/// Operands of kernels that multiply halves: clipped to their range, then rounded.
pub fn as_multiplied(case: &Case, values: &[f64]) -> Vec<f64> {
    let half = |v: &f64| half::f16::from_f64(clipped(*v)).to_f64();
    if case.attribute("f16") == 0.0 { values.to_vec() } else { values.iter().map(half).collect() }
}

/// A reference: the expected content of every output.
pub type Reference = fn(&Case, &[Host]) -> Vec<Expected>;

/// The reference of a kernel; `None` is a failure of the suite.
pub fn reference(kernel: &str) -> Option<Reference> {
    Some(match kernel {
        "stft_power" => audio::stft_power,
        "stft_columns" => audio::stft_columns,
        "stft_rows" => audio::stft_rows,
        "mel_filter" => audio::mel_filter,
        "clip_max" => audio::clip_max,
        "mel_normalize" => audio::mel_normalize,
        "conv1d_patches" => audio::conv1d_patches,
        "matmul_naive" | "matmul_direct" | "matmul_shuffle" | "matmul_tile" | "matmul_gemv"
        | "matmul_coop" | "matmul_sum" | "matmul_int8" => matmul::matmul,
        "quantize_rows" => matmul::quantize_rows,
        "layer_norm" => rows::layer_norm,
        "rms_norm" => rows::rms_norm,
        "rope_qkv" => rows::rope_qkv,
        "attention_naive" | "attention" | "attention_shuffle" | "attention_tile" | "attention_coop"
        | "attention_merge" => attention::attention,
        "silu_gate" => rows::silu_gate,
        "copy_rows" => rows::copy_rows,
        "gather_rows" => rows::gather_rows,
        "qformer_mix" => rows::qformer_mix,
        "guidance" => rows::guidance,
        "embed" => rows::embed,
        "gate" => rows::gate,
        "lm_head" | "lm_head_shuffle" | "lm_head_tile" => head::lm_head,
        "lm_head_merge" => head::lm_head_merge,
        "select" => select::select,
        "peak_copy" => peak::peak_copy,
        "peak_multiply" => peak::peak_multiply,
        _ => return None,
    })
}
