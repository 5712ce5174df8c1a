//! Keys and values as a decode keeps them: in f32, or in f16 at half the memory and half the traffic.

use std::fmt;

use crate::error::{Error, Result};
use crate::gpu::{DType, Tensor};

/// Half floats are written two and read four at a time, so heads must be whole fours.
const F16_UNIT: usize = 4;

/// Type in which a decode keeps keys (after RoPE) and values, with or without a cache between its steps. All else
/// stays f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheDtype {
    /// As they are computed: exact.
    #[default]
    F32,
    /// Rounded to the nearest IEEE half float, by at most one part in 2048 (a model that runs in bf16, as the
    /// reference does, keeps one in 256), and clipped to ±65504; the head size must be a multiple of 4.
    /// Approximate; docs/NUMERICS.md has the errors measured.
    F16,
}

impl CacheDtype {
    /// Name as a user writes it.
    pub const fn name(self) -> &'static str {
        self.dtype().name()
    }

    /// Type of the tensors.
    pub const fn dtype(self) -> DType {
        match self {
            CacheDtype::F32 => DType::F32,
            CacheDtype::F16 => DType::F16,
        }
    }

    /// Errors: heads of a size that cannot be kept in this type.
    pub fn check(self, head_dim: usize) -> Result<()> {
        match self {
            CacheDtype::F16 if !head_dim.is_multiple_of(F16_UNIT) => Err(Error::usage(
                "--cache-dtype",
                format!(
                    "f16 is for heads of a multiple of {F16_UNIT} elements, not of {head_dim} as in this model; use f32"
                ),
            )),
            CacheDtype::F16 | CacheDtype::F32 => Ok(()),
        }
    }
}

impl fmt::Display for CacheDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The fragment that reads and writes keys and values of these tensors.
///
/// Errors: types other than f32 and f16, keys of another type than values, heads that f16 cannot serve.
pub(crate) fn kept_fragment(
    op: &'static str,
    k: &Tensor,
    v: &Tensor,
    head_dim: usize,
) -> Result<&'static str> {
    let refused = |operand: &Tensor, expected: String| {
        Err(Error::Shape { op, operand: operand.name.clone(), expected, got: operand.shape.clone() })
    };
    if v.dtype != k.dtype {
        return refused(v, format!("{} as `{}`, not {}", k.dtype.name(), k.name, v.dtype.name()));
    }
    match k.dtype {
        DType::F32 => Ok("kept_f32"),
        DType::F16 if head_dim.is_multiple_of(F16_UNIT) => Ok("kept_f16"),
        DType::F16 => refused(k, format!("heads of a multiple of {F16_UNIT} for f16, not of {head_dim}")),
        other => refused(k, format!("f32 or f16, not {}", other.name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_that_are_no_whole_fours_need_f32() {
        for head_dim in [1, 6, 7, 12, 128, 160] {
            CacheDtype::F32.check(head_dim).unwrap();
        }
        for head_dim in [12, 128, 160] {
            CacheDtype::F16.check(head_dim).unwrap();
        }
        let error = CacheDtype::F16.check(6).unwrap_err().to_string();
        assert!(error.contains("--cache-dtype") && error.contains("use f32"), "{error}");
    }
}
