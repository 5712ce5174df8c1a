//! Cases of the peak kernels: input x, output of the same length.

use super::{Case, Fill};
use crate::gpu::DType;
use crate::gpu::kernel::Variant;
use crate::ops::peak::{peak_copy, peak_multiply};

fn copy(len: usize) -> Case {
    Case::new("peak_copy", Variant::default(), format!("{len}"))
        .input("x", DType::F32, &[len], Fill::Normal(1.0))
        .output("out", &[len])
        .dispatching(|plan, o| peak_copy(plan, o.input(0), o.output(0)))
}

fn multiply(len: usize, n_steps: usize) -> Case {
    Case::new("peak_multiply", Variant::default(), format!("{len}, {n_steps} steps"))
        .input(
            "x",
            DType::F32,
            &[len],
            Fill::Values((0..len).map(|i| 0.5 + (i % 97) as f32 / 256.0).collect()),
        )
        .output("out", &[len])
        .sizes(&[("n_steps", n_steps)])
        .tolerance(1e-6, 4e-6)
        .dispatching(move |plan, o| peak_multiply(plan, o.input(0), n_steps, o.output(0)))
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        copy(4),
        copy(260),
        copy(1 << 20).bench(false),
        multiply(1, 1),
        multiply(65, 3),
        multiply(1 << 14, 64).bench(false),
    ]
}
