//! Errors of kernels on large shapes: a sample of the outputs, computed again in f64 from the operands on the
//! device. The tests compare every output with references of their own, on smaller shapes.

use half::{bf16, f16};

use crate::error::Result;
use crate::gpu::{DType, Gpu, Matrix, Tensor};
use crate::ops::cases::{Case, Operands, Prepared};

/// Rows and columns of the outputs that are looked at.
const ROWS: usize = 3;
const COLUMNS: usize = 16;

/// Largest error among sampled outputs over the root mean square of what they should be; `None` if there is no
/// f64 version here. `prepared` must have run exactly once.
pub(crate) fn error(gpu: &Gpu, case: &Case, prepared: &Prepared) -> Result<Option<f64>> {
    let operands = &prepared.operands;
    let sampled = match case.kernel {
        kernel if kernel.starts_with("matmul") => matmul(gpu, case, operands)?,
        kernel if kernel.starts_with("attention") => attention(gpu, case, operands)?,
        "lm_head" | "lm_head_shuffle" | "lm_head_tile" => lm_head(gpu, operands)?,
        // Through the op; with other operands it is the merge alone.
        "lm_head_merge" if case.inputs.len() == 6 => lm_head(gpu, operands)?,
        "rms_norm" | "layer_norm" => norm(gpu, case, operands)?,
        "peak_copy" | "copy_rows" => copy(gpu, case, operands)?,
        _ => None,
    };
    Ok(sampled.map(|pairs| {
        let square = pairs.iter().map(|(_, wanted)| wanted * wanted).sum::<f64>() / pairs.len() as f64;
        let worst = pairs.iter().map(|(found, wanted)| (found - wanted).abs()).fold(0.0, nan_max);
        worst / square.sqrt().max(1e-30)
    }))
}

/// Found and wanted values.
type Pairs = Option<Vec<(f64, f64)>>;

/// Unlike `f64::max`, keeps what is no number.
fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// About `n` indices spread over `0..len`, ends included.
fn spread(len: usize, n: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).map(|i| i * len.saturating_sub(1) / (n - 1).max(1)).collect();
    all.dedup();
    all
}

/// Row `r` of `[.., cols]` values.
fn row_of(gpu: &Gpu, tensor: &Tensor, cols: usize, r: usize) -> Result<Option<Vec<f64>>> {
    values(gpu, tensor, r * cols, cols)
}

/// `n` values from the `first` on; `None` for types that do not hold one value an element.
fn values(gpu: &Gpu, tensor: &Tensor, first: usize, n: usize) -> Result<Option<Vec<f64>>> {
    let (first, len) = match tensor.dtype {
        // Quantized values are read by whole rows only.
        DType::Q(format) if !first.is_multiple_of(n.max(1)) || !format.fits(n) => return Ok(None),
        DType::Q(format) => (first / n * format.row_bytes(n), format.row_bytes(n)),
        dense => (dense.row_bytes(first), dense.row_bytes(n)),
    };
    let start = first / 4 * 4;
    let end = (first + len).next_multiple_of(4);
    let bytes = gpu.read_bytes(tensor, start as u64, (end - start) as u64)?;
    let bytes = &bytes[first - start..][..len];
    Ok(match tensor.dtype {
        DType::F32 => {
            Some(bytemuck::pod_collect_to_vec::<_, f32>(bytes).into_iter().map(f64::from).collect())
        }
        DType::F16 => {
            Some(bytemuck::pod_collect_to_vec::<_, f16>(bytes).iter().map(|v| v.to_f64()).collect())
        }
        DType::Bf16 => {
            Some(bytemuck::pod_collect_to_vec::<_, bf16>(bytes).iter().map(|v| v.to_f64()).collect())
        }
        DType::Q(format) => {
            let mut row = vec![0.0; n];
            format.dequantize_row(bytes, &mut row);
            Some(row.into_iter().map(f64::from).collect())
        }
        DType::U32 => None,
    })
}

fn matrix_row(gpu: &Gpu, matrix: &Matrix, r: usize) -> Result<Option<Vec<f64>>> {
    let slab = matrix.slabs.iter().rev().find(|slab| slab.first_row <= r);
    match slab {
        Some(slab) => row_of(gpu, &slab.tensor, matrix.cols, r - slab.first_row),
        None => Ok(None),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn matmul(gpu: &Gpu, case: &Case, operands: &Operands) -> Result<Pairs> {
    // Epilogues are for the tests.
    if ["bias", "activation", "accumulate"].iter().any(|name| case.size(name) != 0) {
        return Ok(None);
    }
    let (w, n) = (operands.matrix(1), operands.matrix(1).rows);
    let mut columns = Vec::new();
    for c in spread(n, COLUMNS) {
        let Some(row) = matrix_row(gpu, w, c)? else { return Ok(None) };
        columns.push((c, row));
    }
    let mut pairs = Vec::new();
    for r in spread(case.size("m"), ROWS) {
        let x = row_of(gpu, operands.input(0), w.cols, case.size("x_row0") + r)?.unwrap_or_default();
        let out = row_of(gpu, operands.output(0), n, case.size("out_row0") + r)?.unwrap_or_default();
        pairs.extend(columns.iter().map(|(c, row)| (out[*c], dot(&x, row))));
    }
    Ok(Some(pairs))
}

fn attention(gpu: &Gpu, case: &Case, operands: &Operands) -> Result<Pairs> {
    let [n_q, n_kv, heads, kv_heads, dim] =
        ["n_q", "n_kv", "n_heads", "n_kv_heads", "head_dim"].map(|name| case.size(name));
    let kv_cols = kv_heads * dim;
    let rows = |tensor| -> Result<Vec<Vec<f64>>> {
        let all = values(gpu, tensor, case.size("kv_row0") * kv_cols, n_kv * kv_cols)?.unwrap_or_default();
        Ok(all.chunks(kv_cols).map(<[f64]>::to_vec).collect())
    };
    let (k, v) = (rows(operands.input(1))?, rows(operands.input(2))?);
    let mut pairs = Vec::new();
    for r in spread(n_q, ROWS) {
        let q = row_of(gpu, operands.input(0), heads * dim, case.size("q_row0") + r)?.unwrap_or_default();
        let out =
            row_of(gpu, operands.output(0), heads * dim, case.size("out_row0") + r)?.unwrap_or_default();
        for head in spread(heads, 2) {
            let at = head / (heads / kv_heads) * dim;
            let own = &q[head * dim..][..dim];
            let scores: Vec<f64> =
                k.iter().map(|k| dot(own, &k[at..at + dim]) / (dim as f64).sqrt()).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            for d in spread(dim, COLUMNS) {
                let wanted: f64 = scores.iter().zip(&v).map(|(s, v)| (s - top).exp() / sum * v[at + d]).sum();
                pairs.push((out[head * dim + d], wanted));
            }
        }
    }
    Ok(Some(pairs))
}

/// Confidence and gap of one row; a wrong id is an error of 1.
fn lm_head(gpu: &Gpu, operands: &Operands) -> Result<Pairs> {
    let w = operands.matrix(1);
    let Some(h) = row_of(gpu, operands.input(0), w.cols, 0)? else { return Ok(None) };
    let mut logits = Vec::with_capacity(w.rows);
    for slab in &w.slabs {
        let rows = slab.tensor.shape[0];
        // Some rows at a time: the whole matrix in f64 would take four times its memory.
        for first in (0..rows).step_by(512) {
            let n = 512.min(rows - first);
            let Some(values) = values(gpu, &slab.tensor, first * w.cols, n * w.cols)? else {
                return Ok(None);
            };
            logits.extend(values.chunks(w.cols).map(|row| dot(&h, row)));
        }
    }
    let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
    let others = logits.iter().enumerate().filter(|(i, _)| *i != best).map(|(_, logit)| *logit);
    let second = others.fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - logits[best]).exp()).sum();
    let words = gpu.read_bytes(operands.output(0), 0, 16)?;
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(&words);
    let float = |i: usize| f64::from(f32::from_bits(words[i]));
    let right = if words[0] as usize == best { 1.0 } else { 0.0 };
    Ok(Some(vec![(right, 1.0), (float(1), 1.0 / sum), (float(2), logits[best] - second)]))
}

fn norm(gpu: &Gpu, case: &Case, operands: &Operands) -> Result<Pairs> {
    let (x, weight) = (operands.input(0), operands.input(1));
    let cols = weight.len();
    let weight = row_of(gpu, weight, cols, 0)?.unwrap_or_default();
    let is_layer = case.kernel == "layer_norm";
    let bias =
        if is_layer { row_of(gpu, operands.input(2), cols, 0)?.unwrap_or_default() } else { vec![0.0; cols] };
    let (from, to) = if is_layer { ("x_row0", "out_row0") } else { ("row0", "row0") };
    let mut pairs = Vec::new();
    for r in spread(case.size("rows"), ROWS) {
        let row = row_of(gpu, x, cols, case.size(from) + r)?.unwrap_or_default();
        let out = row_of(gpu, operands.output(0), cols, case.size(to) + r)?.unwrap_or_default();
        let mean = if is_layer { row.iter().sum::<f64>() / cols as f64 } else { 0.0 };
        let square = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / cols as f64;
        let scale = 1.0 / (square + case.attribute("eps")).sqrt();
        pairs.extend((0..cols).map(|c| (out[c], (row[c] - mean) * scale * weight[c] + bias[c])));
    }
    Ok(Some(pairs))
}

fn copy(gpu: &Gpu, case: &Case, operands: &Operands) -> Result<Pairs> {
    let (x, out) = (operands.input(0), operands.output(0));
    let cols = if x.shape.len() == 2 { x.shape[1] } else { 1 };
    let rows = if cols == 1 { x.len() } else { case.size("rows") };
    let mut pairs = Vec::new();
    for r in spread(rows, ROWS) {
        let from = row_of(gpu, x, cols, case.size("x_row0") + r)?.unwrap_or_default();
        let to = row_of(gpu, out, cols, case.size("out_row0") + r)?.unwrap_or_default();
        pairs.extend(to.into_iter().zip(from));
    }
    Ok(Some(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_reach_both_ends() {
        assert_eq!(spread(1, 16), [0]);
        assert_eq!(spread(3, 3), [0, 1, 2]);
        let some = spread(4096, 16);
        assert_eq!((some.len(), some[0], some[15]), (16, 0, 4095));
    }

    #[test]
    fn what_is_no_number_stays_an_error() {
        assert!([0.1, f64::NAN, 0.2].into_iter().fold(0.0, nan_max).is_nan());
    }
}
