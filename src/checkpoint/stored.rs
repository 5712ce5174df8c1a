//! One tensor as it lies in its file, and its element type.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use half::{bf16, f16};

use crate::quant::QuantFormat;

/// Element types that the engine accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredDtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single precision number.
    BF16,
    /// Rows of quantized blocks, as `diffa quantize` writes them: a tensor `NAME.q8_0` of bytes is found as
    /// `NAME`, in the shape of its weights.
    Quantized(QuantFormat),
}

impl StoredDtype {
    /// Bytes of `cols` elements; for quantized rows `cols` must be whole blocks.
    pub const fn row_bytes(self, cols: usize) -> usize {
        match self {
            StoredDtype::F32 => 4 * cols,
            StoredDtype::F16 | StoredDtype::BF16 => 2 * cols,
            StoredDtype::Quantized(format) => format.row_bytes(cols),
        }
    }
}

impl fmt::Display for StoredDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoredDtype::F32 => "F32",
            StoredDtype::F16 => "F16",
            StoredDtype::BF16 => "BF16",
            StoredDtype::Quantized(format) => format.name(),
        })
    }
}

/// One tensor as it lies in its file.
#[derive(Clone, Debug)]
pub struct StoredTensor<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// Element type of `bytes`.
    pub dtype: StoredDtype,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// Row-major little-endian elements, exactly as many as `dtype` needs for `shape`. Borrowed from the
    /// file unless it was compressed or strided there. Not necessarily aligned to the element size.
    pub bytes: Cow<'a, [u8]>,
    /// The file the tensor comes from, for messages.
    pub file: &'a Path,
}

impl StoredTensor<'_> {
    /// All elements as `f32` (exact for every dense type).
    pub fn to_f32(&self) -> Vec<f32> {
        let pairs = || self.bytes.as_chunks::<2>().0.iter();
        match self.dtype {
            StoredDtype::F32 => {
                self.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
            }
            StoredDtype::F16 => pairs().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            StoredDtype::BF16 => pairs().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            StoredDtype::Quantized(format) => {
                let cols = self.shape.last().copied().unwrap_or(0);
                let mut all = vec![0.0; self.shape.iter().product()];
                let rows = all.chunks_exact_mut(cols.max(1));
                rows.zip(self.bytes.chunks_exact(format.row_bytes(cols)))
                    .for_each(|(row, bytes)| format.dequantize_row(bytes, row));
                all
            }
        }
    }

    /// The rows of a matrix `[rows, cols]` in a block format, or `None` if it is quantized already or its rows
    /// do not divide into blocks. Uses all processors.
    pub fn quantized(&self, format: QuantFormat) -> Option<Vec<u8>> {
        let [rows, cols] = *self.shape else { return None };
        if matches!(self.dtype, StoredDtype::Quantized(_)) || !format.fits(cols) {
            return None;
        }
        let mut out = vec![0; rows * format.row_bytes(cols)];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = rows.div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let parts = self.bytes.chunks(share * self.dtype.row_bytes(cols));
            for (part, out) in parts.zip(out.chunks_mut(share * format.row_bytes(cols))) {
                scope.spawn(move || {
                    // Row by row: no f32 copy of a 1 GB matrix.
                    let rows = part.chunks_exact(self.dtype.row_bytes(cols));
                    for (bytes, out) in rows.zip(out.chunks_exact_mut(format.row_bytes(cols))) {
                        let row =
                            StoredTensor { shape: &[cols], bytes: Cow::Borrowed(bytes), ..self.clone_head() };
                        format.quantize_row(&row.to_f32(), out);
                    }
                });
            }
        });
        Some(out)
    }

    /// The description without the data.
    fn clone_head(&self) -> StoredTensor<'_> {
        StoredTensor {
            name: self.name,
            dtype: self.dtype,
            shape: self.shape,
            bytes: Cow::Borrowed(&[]),
            file: self.file,
        }
    }
}
