//! Block formats for quantized weight matrices.
//!
//! A row of `cols` weights (a multiple of [`BLOCK`]) becomes `cols / 32` blocks that share one f16 scale each:
//! `weight = scale * quant`. All quants of the row come first, then all scales, padded with zeros to 16 bytes, so
//! that a shader reads either as aligned words:
//!
//! | format | quant | bytes of a row | bits per weight at 4096 columns |
//! | --- | --- | --- | --- |
//! | `q8_0` | i8, -127 to 127, in order | `cols + 16 ceil(cols / 256)` | 8.5 |
//! | `q4_0` | 4 bits, stored + 8, lower half of a byte first | `cols / 2 + 16 ceil(cols / 256)` | 4.5 |
//!
//! The numbers are those of llama.cpp's formats of the same names; the layout is not (there the scale stands
//! in front of each block, which leaves no quant aligned).

use std::fmt;

use half::f16;

/// Weights that share a scale.
pub const BLOCK: usize = 32;

/// How the weights of a block are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuantFormat {
    /// 8 bits per weight.
    Q8_0,
    /// 4 bits per weight.
    Q4_0,
}

impl QuantFormat {
    /// Every format.
    pub const ALL: [QuantFormat; 2] = [QuantFormat::Q8_0, QuantFormat::Q4_0];

    /// Lower-case name, as in tables and as the suffix of tensor names in files.
    pub const fn name(self) -> &'static str {
        match self {
            QuantFormat::Q8_0 => "q8_0",
            QuantFormat::Q4_0 => "q4_0",
        }
    }

    /// True if rows of `cols` weights divide into blocks.
    pub const fn fits(self, cols: usize) -> bool {
        cols > 0 && cols.is_multiple_of(BLOCK)
    }

    const fn quant_bytes(self, cols: usize) -> usize {
        match self {
            QuantFormat::Q8_0 => cols,
            QuantFormat::Q4_0 => cols / 2,
        }
    }

    /// Bytes of a row of `cols` weights, a multiple of 16.
    pub const fn row_bytes(self, cols: usize) -> usize {
        self.quant_bytes(cols) + 16 * cols.div_ceil(8 * BLOCK)
    }

    /// The number of weights of a row of `bytes`, if there is one.
    pub fn cols(self, bytes: usize) -> Option<usize> {
        // Scales take one part in 17 (q8_0) or 9 (q4_0) of a long row, and are rounded up.
        let about = match self {
            QuantFormat::Q8_0 => bytes / 17 * 16,
            QuantFormat::Q4_0 => bytes / 9 * 16,
        };
        let near = about / BLOCK * BLOCK;
        (near.saturating_sub(8 * BLOCK)..=near + 8 * BLOCK)
            .step_by(BLOCK)
            .find(|cols| *cols > 0 && self.row_bytes(*cols) == bytes)
    }

    /// Quantizes one row into `out` (`row_bytes(row.len())` bytes). Each scale is rounded to f16 before the
    /// weights are divided by it.
    pub fn quantize_row(self, row: &[f32], out: &mut [u8]) {
        let (quants, scales) = out.split_at_mut(self.quant_bytes(row.len()));
        scales.fill(0);
        for (i, block) in row.chunks_exact(BLOCK).enumerate() {
            let extreme = block.iter().fold(0.0f32, |m, w| if w.abs() > m.abs() { *w } else { m });
            let scale = match self {
                QuantFormat::Q8_0 => f16::from_f32(extreme.abs() / 127.0),
                // Signed, so that the largest weight gets -8, the end of the range without a counterpart.
                QuantFormat::Q4_0 => f16::from_f32(extreme / -8.0),
            };
            let inverse = if scale.to_f32() == 0.0 { 0.0 } else { 1.0 / scale.to_f32() };
            scales[2 * i..2 * i + 2].copy_from_slice(&scale.to_le_bytes());
            match self {
                QuantFormat::Q8_0 => {
                    for (quant, w) in quants[BLOCK * i..].iter_mut().zip(block) {
                        *quant = (w * inverse).round().clamp(-127.0, 127.0) as i8 as u8;
                    }
                }
                QuantFormat::Q4_0 => {
                    let nibble = |w: f32| ((w * inverse).round().clamp(-8.0, 7.0) + 8.0) as u8;
                    for (byte, pair) in quants[BLOCK / 2 * i..].iter_mut().zip(block.as_chunks::<2>().0) {
                        *byte = nibble(pair[0]) | nibble(pair[1]) << 4;
                    }
                }
            }
        }
    }

    /// The weights of one row of `row_bytes(out.len())` bytes.
    pub fn dequantize_row(self, bytes: &[u8], out: &mut [f32]) {
        let (quants, scales) = bytes.split_at(self.quant_bytes(out.len()));
        for (i, w) in out.iter_mut().enumerate() {
            let at = 2 * (i / BLOCK);
            let scale = f16::from_le_bytes([scales[at], scales[at + 1]]).to_f32();
            let quant = match self {
                QuantFormat::Q8_0 => f32::from(quants[i] as i8),
                QuantFormat::Q4_0 => f32::from(quants[i / 2] >> (4 * (i % 2)) & 15) - 8.0,
            };
            *w = scale * quant;
        }
    }
}

impl fmt::Display for QuantFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_whole_vectors_and_their_length_tells_the_columns() {
        for format in QuantFormat::ALL {
            for cols in (32..20_000).step_by(32) {
                assert_eq!(format.row_bytes(cols) % 16, 0);
                assert_eq!(format.cols(format.row_bytes(cols)), Some(cols), "{format} {cols}");
            }
            assert_eq!(format.cols(0), None);
            assert_eq!(format.cols(format.row_bytes(4096) + 1), None);
        }
        assert_eq!(QuantFormat::Q4_0.row_bytes(4096), 2048 + 256);
    }

    #[test]
    fn a_weight_is_off_by_at_most_half_a_step() {
        let row: Vec<f32> =
            (0..320).map(|i| ((i * 7919 % 640) as f32 - 320.0) * (1.0 + (i / BLOCK) as f32)).collect();
        for (format, steps) in [(QuantFormat::Q8_0, 127.0), (QuantFormat::Q4_0, 8.0)] {
            let mut bytes = vec![0xff; format.row_bytes(row.len())];
            format.quantize_row(&row, &mut bytes);
            let mut back = vec![0.0; row.len()];
            format.dequantize_row(&bytes, &mut back);
            for (block, found) in row.chunks(BLOCK).zip(back.chunks(BLOCK)) {
                let step = block.iter().fold(0.0f32, |m, w| m.max(w.abs())) / steps;
                // A q4 weight opposite to the extreme one may lie beyond the last step.
                let most = if format == QuantFormat::Q4_0 { 1.01 } else { 0.51 } * step;
                assert!(block.iter().zip(found).all(|(w, q)| (w - q).abs() <= most), "{format}");
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for format in QuantFormat::ALL {
            let mut bytes = vec![0xff; format.row_bytes(64)];
            format.quantize_row(&[0.0; 64], &mut bytes);
            let mut back = [1.0; 64];
            format.dequantize_row(&bytes, &mut back);
            assert!(back.iter().all(|w| *w == 0.0));
        }
    }
}
