//! Whether a candidate computes what it should: numbers for the operands, and a look at the results.
//!
//! Drivers have miscompiled kernels, and the fastest of all candidates may be one that computes nothing.

use half::{bf16, f16};

use crate::error::Result;
use crate::gpu::{DType, Gpu, Tensor};
use crate::ops::Rounding;

/// Different rows that a matrix is filled with; a prime, so that no block of rows repeats.
const ROWS: usize = 61;
/// Results that are looked at, at the start and at the end of the output.
const LOOKED_AT: u64 = 16_384;

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

/// The results that are looked at.
pub(super) fn results(gpu: &Gpu, out: &Tensor) -> Result<Vec<f32>> {
    let some = (4 * LOOKED_AT).min(4 * out.len() as u64);
    let mut bytes = gpu.read_bytes(out, 0, some)?;
    bytes.extend(gpu.read_bytes(out, 4 * out.len() as u64 - some, some)?);
    Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
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
