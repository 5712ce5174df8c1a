//! Descriptions of data on the device: what lies where, in which type and shape.
//!
//! A [`Tensor`] is an immutable description of a buffer range; cloning it copies the description, not
//! the data. A [`Matrix`] is a weight matrix split by rows into slabs, so that no binding exceeds the
//! device's limit however large the matrix is (the 126464 x 4096 head of LLaDA-8B is 1 GB).

use crate::error::{Error, Result};
use crate::quant::QuantFormat;

/// Element type of a tensor on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit float: all activations.
    F32,
    /// 16-bit IEEE float, two to a word: weights, and keys and values that are kept so.
    F16,
    /// bfloat16, two to a word: weights only.
    Bf16,
    /// Rows of quantized blocks: large weights of the language model only.
    Q(QuantFormat),
    /// 32-bit unsigned integer: token ids, row lists, state.
    U32,
}

impl DType {
    /// Bytes of a row of `cols` elements; for quantized blocks `cols` must be whole blocks.
    pub const fn row_bytes(self, cols: usize) -> usize {
        match self {
            DType::F32 | DType::U32 => 4 * cols,
            DType::F16 | DType::Bf16 => 2 * cols,
            DType::Q(format) => format.row_bytes(cols),
        }
    }

    /// Bytes of a row-major array of this shape.
    pub fn bytes(self, shape: &[usize]) -> usize {
        match shape.split_last() {
            Some((cols, rows)) => rows.iter().product::<usize>() * self.row_bytes(*cols),
            None => self.row_bytes(1),
        }
    }

    /// Lower-case name as used in tables and messages.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::Q(format) => format.name(),
            DType::U32 => "u32",
        }
    }
}

/// A contiguous row-major array on the device.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Name used in labels and error messages, for example `llada.x`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Row-major shape.
    pub shape: Vec<usize>,
    pub(crate) buffer: wgpu::Buffer,
}

impl Tensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True for a tensor without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the elements (the buffer may be a few bytes longer).
    pub fn byte_len(&self) -> u64 {
        self.dtype.bytes(&self.shape) as u64
    }

    /// The underlying buffer, for hosts that read results on the device.
    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// The shape as an array of `N` dimensions, or an error naming the operation and the tensor.
    pub fn dims<const N: usize>(&self, op: &'static str) -> Result<[usize; N]> {
        <[usize; N]>::try_from(self.shape.as_slice())
            .map_err(|_| self.shape_error(op, format!("{N} dimensions")))
    }

    /// Checks the exact shape.
    pub fn check_shape(&self, op: &'static str, shape: &[usize]) -> Result<()> {
        if self.shape == shape { Ok(()) } else { Err(self.shape_error(op, format!("{shape:?}"))) }
    }

    /// Checks that the tensor has `cols` columns and at least `rows` rows.
    pub fn check_rows(&self, op: &'static str, rows: usize, cols: usize) -> Result<()> {
        match self.shape.as_slice() {
            [r, c] if *r >= rows && *c == cols => Ok(()),
            _ => Err(self.shape_error(op, format!("at least [{rows}, {cols}]"))),
        }
    }

    /// Checks the number of elements, whatever the shape.
    pub fn check_len(&self, op: &'static str, len: usize) -> Result<()> {
        if self.len() >= len { Ok(()) } else { Err(self.shape_error(op, format!("at least {len} elements"))) }
    }

    fn shape_error(&self, op: &'static str, expected: String) -> Error {
        Error::Shape { op, operand: self.name.clone(), expected, got: self.shape.clone() }
    }
}

/// Rows `first_row ..` of a [`Matrix`].
#[derive(Debug, Clone)]
pub struct Slab {
    /// Index of the slab's first row in the whole matrix.
    pub first_row: usize,
    /// The rows, `[rows, cols]`.
    pub tensor: Tensor,
}

/// A weight matrix `[rows, cols]` (`[out, in]`) as stored in the checkpoint, in one or more row slabs.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// Checkpoint name.
    pub name: String,
    /// Element type, as stored.
    pub dtype: DType,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// The pieces, in row order, without gaps.
    pub slabs: Vec<Slab>,
}

/// Rows are handed out in this unit, so that every slab but the last fills whole column groups of a kernel.
const SLAB_ROW_UNIT: usize = 64;

impl Matrix {
    /// A matrix of a single slab.
    pub fn from_tensor(tensor: Tensor) -> Result<Matrix> {
        let [rows, cols] = tensor.dims("matrix")?;
        let (name, dtype) = (tensor.name.clone(), tensor.dtype);
        Ok(Matrix { name, dtype, rows, cols, slabs: vec![Slab { first_row: 0, tensor }] })
    }

    /// Row ranges `(first_row, rows)` so that no slab is larger than `max_bytes`.
    pub fn slab_rows(rows: usize, row_bytes: usize, max_bytes: u64) -> Result<Vec<(usize, usize)>> {
        let fit = (max_bytes / row_bytes.max(1) as u64) as usize;
        let step = if fit >= rows { rows } else { fit / SLAB_ROW_UNIT * SLAB_ROW_UNIT };
        if rows > 0 && step == 0 {
            return Err(Error::Unsupported {
                missing: vec![format!(
                    "max_storage_buffer_binding_size of at least {} bytes ({SLAB_ROW_UNIT} matrix rows); it is {max_bytes}",
                    SLAB_ROW_UNIT * row_bytes
                )],
            });
        }
        Ok((0..rows).step_by(step.max(1)).map(|r| (r, step.min(rows - r))).collect())
    }

    /// Bytes of all slabs.
    pub fn byte_len(&self) -> u64 {
        self.slabs.iter().map(|s| s.tensor.byte_len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_of_the_real_head_fit_the_default_binding_limit() {
        let limit = 128 << 20;
        let slabs = Matrix::slab_rows(126_464, 4096 * 2, limit).unwrap();
        assert_eq!(slabs.iter().map(|s| s.1).sum::<usize>(), 126_464);
        assert!(slabs.iter().all(|s| (s.1 * 4096 * 2) as u64 <= limit));
        assert!(slabs[..slabs.len() - 1].iter().all(|s| s.1 % SLAB_ROW_UNIT == 0));
        assert!(slabs.windows(2).all(|w| w[0].0 + w[0].1 == w[1].0));
    }

    #[test]
    fn a_row_that_cannot_fit_is_an_error() {
        assert!(Matrix::slab_rows(100, 1 << 20, 1 << 20).is_err());
    }
}
