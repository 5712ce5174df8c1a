//! Whether a candidate computes what it should: numbers for the operands, and a look at the results.
//!
//! Drivers have miscompiled kernels, and the fastest of all candidates may be one that computes nothing.

use half::{bf16, f16};

use crate::error::Result;
use crate::fnv::fnv1a;
use crate::gpu::plan::Plan;
use crate::gpu::{DType, Gpu, Tensor};
use crate::ops::Rounding;

/// Different rows that a matrix is filled with; a prime, so that no block of rows repeats.
const ROWS: usize = 61;
/// Results that are looked at, at the start and at the end of the output.
const LOOKED_AT: u64 = 16_384;

/// Runs on a GPU that must give the same bits as the first. A software adapter takes its lanes in order: one will do.
const AGAIN: usize = 8;

/// Fills a tensor `[rows, cols]` of any type with numbers between -0.5 and 0.5.
pub(super) fn fill(gpu: &Gpu, tensor: &Tensor) {
    let (rows, cols) = (tensor.shape[0], tensor.shape[1..].iter().product::<usize>());
    let number = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5;
    let distinct: Vec<Vec<u8>> = (0..ROWS.min(rows))
        .map(|row| encoded(tensor.dtype, &(0..cols).map(|i| number(row * cols + i + 1)).collect::<Vec<_>>()))
        .collect();
    let bytes: Vec<u8> = (0..rows).flat_map(|row| distinct[row % ROWS].iter().copied()).collect();
    gpu.write(tensor, &bytes);
}

fn encoded(dtype: DType, row: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F32 | DType::U32 => bytemuck::cast_slice(row).to_vec(),
        DType::F16 => row.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        DType::Bf16 => row.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        DType::Q(format) => {
            let mut bytes = vec![0; format.row_bytes(row.len())];
            format.quantize_row(row, &mut bytes);
            bytes
        }
    }
}

/// Where the results of a work are.
#[derive(Debug, Clone)]
pub(super) enum Out {
    /// Numbers.
    Numbers(Tensor),
    /// Predictions of a head, `[n_rows, 4]`: id, confidence, and what is not looked at.
    Predictions(Tensor),
}

impl Out {
    /// The results that are looked at. Of a prediction one number, wrong if either id or confidence is.
    pub(super) fn read(&self, gpu: &Gpu) -> Result<Vec<f32>> {
        let (Out::Numbers(tensor) | Out::Predictions(tensor)) = self;
        let bytes = 4 * tensor.len() as u64;
        let some = bytes.min(4 * LOOKED_AT);
        let mut words = gpu.read_bytes(tensor, 0, some)?;
        words.extend(gpu.read_bytes(tensor, bytes - some, some)?);
        let words = bytemuck::pod_collect_to_vec::<_, u32>(&words);
        Ok(match self {
            Out::Numbers(_) => words.into_iter().map(f32::from_bits).collect(),
            Out::Predictions(_) => words
                .as_chunks::<4>()
                .0
                .iter()
                .map(|[id, confidence, ..]| (*id as f32 + 1.0) * f32::from_bits(*confidence))
                .collect(),
        })
    }

    /// Runs the plan again some times; false if any bit of the results differs. For kernels whose lanes exchange
    /// operands through memory in ways that drivers are new to: their races need not show at once.
    pub(super) fn stays_the_same(&self, gpu: &Gpu, plan: &Plan) -> Result<bool> {
        let (Out::Numbers(tensor) | Out::Predictions(tensor)) = self;
        let all = || Ok(fnv1a(gpu.read_bytes(tensor, 0, 4 * tensor.len() as u64)?));
        let first = all()?;
        let again = if gpu.caps().is_software() { 1 } else { AGAIN };
        for _ in 0..again {
            plan.run(gpu)?;
            if all()? != first {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// True if `found` is `expected` but for what a variant that rounds so may lose.
pub(super) fn agrees(found: &[f32], expected: &[f32], rounding: Rounding) -> bool {
    let allowed = match rounding {
        Rounding::Exact => 1e-4,
        Rounding::F16 => 5e-3,
        Rounding::Int8 => 5e-2,
    };
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let differences = || found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
    let error = norm(&mut differences()) / norm(&mut expected.iter().map(|x| f64::from(*x))).max(1e-30);
    found.len() == expected.len() && error <= allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_are_told_from_wrong_results() {
        let expected: Vec<f32> = (0..100).map(|i| i as f32 - 40.0).collect();
        let scaled = |by: f32| expected.iter().map(|x| x * by).collect::<Vec<_>>();
        assert!(agrees(&scaled(1.000_001), &expected, Rounding::Exact));
        assert!(!agrees(&scaled(1.001), &expected, Rounding::Exact));
        assert!(agrees(&scaled(1.001), &expected, Rounding::F16));
        assert!(!agrees(&scaled(1.02), &expected, Rounding::F16));
        assert!(agrees(&scaled(1.02), &expected, Rounding::Int8));
        assert!(!agrees(&[0.0; 100], &expected, Rounding::Int8));
        assert!(!agrees(&[f32::NAN; 100], &expected, Rounding::Int8));
        assert!(!agrees(&expected[..50], &expected, Rounding::Int8));
    }
}
