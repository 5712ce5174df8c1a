//! Cases of the peak kernels: input x, output of the same length.

use super::{Case, Fill};
use crate::gpu::DType;
use crate::gpu::kernel::Variant;
use crate::ops::peak::{PEAK_MULTIPLY, peak_copy, peak_multiply};

fn copy(len: usize) -> Case {
    Case::new("peak_copy", Variant::default(), format!("{len}"))
        .input("x", DType::F32, &[len], Fill::Normal(1.0))
        .output("out", &[len])
        .dispatching(|plan, o| peak_copy(plan, o.input(0), o.output(0)))
}

fn multiply(variant: &Variant, len: usize, n_steps: usize) -> Case {
    let unroll = variant.consts[0].1;
    Case::new("peak_multiply", variant.clone(), format!("{len}, {n_steps} steps"))
        .input(
            "x",
            DType::F32,
            &[len],
            Fill::Values((0..len).map(|i| 0.5 + (i % 97) as f32 / 256.0).collect()),
        )
        .output("out", &[len])
        .sizes(&[("steps", n_steps * unroll as usize)])
        .tolerance(1e-6, 4e-6)
        .dispatching(move |plan, o| peak_multiply(plan, o.input(0), (n_steps, unroll), o.output(0)))
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![copy(4), copy(260), copy(1 << 20).bench(false)];
    for variant in PEAK_MULTIPLY.variants() {
        all.extend([multiply(&variant, 1, 1), multiply(&variant, 65, 3)]);
        all.push(multiply(&variant, 1 << 14, 64).bench(false));
    }
    all
}
