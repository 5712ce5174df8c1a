//! f32 tensors whose values fewer bits hold exactly: those of a model trained in half precision and saved in single.

use std::ops::BitAnd;

use half::{bf16, f16};

use super::Checkpoint;
use super::stored::{StoredDtype, StoredTensor};
use crate::error::Result;

/// Values that are looked at before asking whether any narrow type is left.
const CHUNK: usize = 4096;
/// Bytes of a tensor that are looked at between releases.
const LOOK_BYTES: usize = 64 << 20;
/// The largest f16.
const F16_MAX: f32 = 65504.0;
/// The smallest normal f16; the numbers below it are multiples of 2^-24.
const F16_MIN_NORMAL: f32 = 6.103_515_6e-5;

/// The types narrower than f32 that hold every value of a tensor exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Narrow {
    /// f16 does.
    pub f16: bool,
    /// bf16 does.
    pub bf16: bool,
}

impl Narrow {
    /// Only f32 will do.
    pub const NONE: Narrow = Narrow { f16: false, bf16: false };
    /// All of them, until a value is looked at.
    const ALL: Narrow = Narrow { f16: true, bf16: true };

    /// The narrowest type: bf16 where both hold, as widening it takes fewer steps.
    pub fn dtype(self) -> StoredDtype {
        match self {
            Narrow { bf16: true, .. } => StoredDtype::BF16,
            Narrow { f16: true, .. } => StoredDtype::F16,
            _ => StoredDtype::F32,
        }
    }

    /// What holds these little-endian f32, and whether any of them is not zero. Ends at the first few that need f32.
    fn of_f32(bytes: &[u8]) -> (Narrow, bool) {
        let (mut fits, mut bits) = (Narrow::ALL, 0);
        for chunk in bytes.as_chunks::<4>().0.chunks(CHUNK) {
            // No branches, so that compilers take several values at a time.
            let (mut lost_to_bf16, mut outside_f16) = (0, false);
            for value in chunk.iter().map(|b| f32::from_le_bytes(*b)) {
                let abs = value.abs();
                bits |= abs.to_bits();
                lost_to_bf16 |= value.to_bits() & 0xffff;
                // Near 1/2 the numbers of f32 are 2^-24 apart, as the smallest of f16 are.
                let is_multiple = (abs >= F16_MIN_NORMAL) | ((abs + 0.5) - 0.5 == abs);
                outside_f16 |= !((value.to_bits() & 0x1fff == 0) & (abs <= F16_MAX) & is_multiple);
            }
            fits = fits & Narrow { f16: !outside_f16, bf16: lost_to_bf16 == 0 };
            if fits == Narrow::NONE {
                break;
            }
        }
        (fits, bits != 0)
    }
}

impl Checkpoint {
    /// The types narrower than f32 that hold a dense tensor exactly. Of an f32 tensor it reads the values, the first time
    /// that it is asked, up to the first that needs f32; one of zeros alone is a placeholder and stays what it is.
    ///
    /// # Errors
    /// Those of [`Checkpoint::get`].
    pub fn narrow(&self, name: &str) -> Result<Narrow> {
        if let Some(known) = self.entries.get(name).and_then(|entry| entry.narrow.get()) {
            return Ok(*known);
        }
        let stored = self.get(name)?;
        let narrow = match stored.dtype {
            StoredDtype::F32 => {
                let (mut narrow, mut is_any) = (Narrow::ALL, false);
                // Piece by piece, so that little of the file stays resident on behalf of a look.
                for piece in stored.bytes.chunks(LOOK_BYTES) {
                    let (fits, any) = Narrow::of_f32(piece);
                    (narrow, is_any) = (narrow & fits, is_any | any);
                    self.release(&stored);
                    if narrow == Narrow::NONE {
                        break;
                    }
                }
                if is_any { narrow } else { Narrow::NONE }
            }
            StoredDtype::F16 => Narrow { f16: true, ..Narrow::NONE },
            StoredDtype::BF16 => Narrow { bf16: true, ..Narrow::NONE },
            StoredDtype::Quantized(_) => Narrow::NONE,
        };
        Ok(self.entries.get(name).map_or(narrow, |entry| *entry.narrow.get_or_init(|| narrow)))
    }
}

impl BitAnd for Narrow {
    type Output = Narrow;

    fn bitand(self, other: Narrow) -> Narrow {
        Narrow { f16: self.f16 & other.f16, bf16: self.bf16 & other.bf16 }
    }
}

impl StoredTensor<'_> {
    /// The elements converted to a dense type; rounded, where that does not hold them.
    pub fn to_dtype(&self, dtype: StoredDtype) -> Vec<u8> {
        let values = self.to_f32().into_iter();
        match dtype {
            StoredDtype::F16 => values.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            StoredDtype::BF16 => values.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
            StoredDtype::F32 | StoredDtype::Quantized(_) => values.flat_map(f32::to_le_bytes).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32]) -> Narrow {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Narrow::of_f32(&bytes).0
    }

    #[test]
    fn exactly_the_numbers_of_a_type_fit_it() {
        for bits in 0..=u16::MAX {
            let (half, brain) = (f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32());
            assert_eq!(of(&[half]).f16, half.is_finite(), "{half:e}");
            assert!(of(&[brain]).bf16, "{brain:e}");
            // The next number of f32 on either side is between two of either type.
            if half.is_finite() && half != 0.0 {
                assert_eq!(of(&[half, half.next_up()]), Narrow::NONE, "{half:e}");
                assert_eq!(of(&[half.next_down()]), Narrow::NONE, "{half:e}");
            }
        }
        // Multiples of an f16 that f16 lacks: too large, too small, too many digits.
        for value in [65536.0, 2.0_f32.powi(-25), 3.0 * 2.0_f32.powi(-25), 2049.0] {
            assert!(!of(&[1.0, value]).f16, "{value:e}");
        }
        assert_eq!(of(&[0.0, -0.0, 1.0]), Narrow::ALL);
    }

    #[test]
    fn one_value_anywhere_decides() {
        let mut values = vec![1.0 + 2.0_f32.powi(-10); 3 * CHUNK + 5];
        assert_eq!(of(&values), Narrow { f16: true, bf16: false });
        for at in [0, CHUNK, 3 * CHUNK + 4] {
            values[at] = 1.0e-30;
            assert_eq!(of(&values), Narrow::NONE);
            values[at] = 1.0 + 2.0_f32.powi(-10);
        }
    }
}
