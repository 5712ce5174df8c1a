//! Cases: for every kernel in every variant, operands with seeded content and how to dispatch them.
//!
//! `tests/kernels.rs` runs them against an f64 reference, `benches/kernels.rs` and [`crate::bench`] time
//! them. A case owns no device memory until it is prepared (`run`).

mod attention;
mod audio;
mod fill;
mod head;
mod matmul;
mod peak;
mod rows;
mod run;
mod select;
mod shapes;

use std::fmt;

pub use fill::Fill;
use fill::Random;
pub use head::{Head, HeadNoise, head_case};
pub use run::{Found, Host, Outcome, SENTINEL};
pub(crate) use run::{Operands, Prepared};
pub use select::{random_select, select_step};
pub use shapes::{Shape, shapes};

use crate::error::Result;
use crate::gpu::kernel::Variant;
use crate::gpu::needs::Need;
use crate::gpu::plan::PlanBuilder;
use crate::gpu::{DType, shader};
use crate::ops::REGISTRY;

/// One operand that the kernel reads.
#[derive(Debug, Clone)]
pub struct Input {
    /// Name in labels.
    pub name: &'static str,
    /// Element type on the device.
    pub dtype: DType,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// Content.
    pub fill: Fill,
    /// Rows of each slab, for a matrix in several; empty: one piece.
    pub slabs: Vec<usize>,
}

/// One operand that the kernel writes.
#[derive(Debug, Clone)]
pub struct Output {
    /// Name in messages.
    pub name: &'static str,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// Types of the words, repeated to the end.
    pub words: &'static [DType],
    /// Input whose content it starts with; `None`: poison.
    pub start: Option<usize>,
}

type Record = Box<dyn Fn(&mut PlanBuilder, &Operands) -> Result<()> + Send + Sync>;

/// One kernel in one variant on operands of given shapes.
pub struct Case {
    /// Name of the kernel in the registry.
    pub kernel: &'static str,
    /// The variant it runs.
    pub variant: Variant,
    /// Parts that a product's inner length, or the keys of an attention, are taken in.
    pub parts: u32,
    /// What is special about it.
    pub name: String,
    /// Operands read, and starting content of operands updated in place.
    pub inputs: Vec<Input>,
    /// Operands written.
    pub outputs: Vec<Output>,
    /// Allowed absolute error.
    pub atol: f64,
    /// Allowed error as a part of the reference's scale (mostly the sum of the magnitudes that were added).
    pub rtol: f64,
    /// Too slow for tests on a software adapter.
    pub bench_only: bool,
    /// Worth timing: a real or realistic shape.
    pub benched: bool,
    /// Of kernels that it runs beside its own.
    more_needs: Vec<Need>,
    attributes: Vec<(&'static str, f64)>,
    record: Record,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("kernel", &self.kernel).field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) {}", self.kernel, self.variant, self.name)
    }
}

impl Case {
    fn new(kernel: &'static str, variant: Variant, name: impl Into<String>) -> Case {
        Case {
            kernel,
            variant,
            parts: 1,
            name: name.into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            atol: 0.0,
            rtol: 0.0,
            bench_only: false,
            benched: false,
            more_needs: Vec::new(),
            attributes: Vec::new(),
            record: Box::new(|_, _| Ok(())),
        }
    }

    fn input(mut self, name: &'static str, dtype: DType, shape: &[usize], fill: Fill) -> Case {
        self.inputs.push(Input { name, dtype, shape: shape.to_vec(), fill, slabs: Vec::new() });
        self
    }

    fn words(self, name: &'static str, words: Vec<u32>) -> Case {
        let len = words.len();
        self.input(name, DType::U32, &[len], Fill::Words(words))
    }

    fn matrix(mut self, dtype: DType, shape: [usize; 2], fill: Fill, slabs: &[usize]) -> Case {
        self.inputs.push(Input { name: "w", dtype, shape: shape.to_vec(), fill, slabs: slabs.to_vec() });
        self
    }

    fn output(self, name: &'static str, shape: &[usize]) -> Case {
        self.output_words(name, shape, &[DType::F32], None)
    }

    fn in_place(self, name: &'static str, shape: &[usize], start: usize) -> Case {
        self.output_words(name, shape, &[DType::F32], Some(start))
    }

    fn output_words(
        mut self,
        name: &'static str,
        shape: &[usize],
        words: &'static [DType],
        start: Option<usize>,
    ) -> Case {
        self.outputs.push(Output { name, shape: shape.to_vec(), words, start });
        self
    }

    fn set(mut self, name: &'static str, value: impl Into<f64>) -> Case {
        self.attributes.push((name, value.into()));
        self
    }

    fn sizes(mut self, values: &[(&'static str, usize)]) -> Case {
        self.attributes.extend(values.iter().map(|(name, value)| (*name, *value as f64)));
        self
    }

    fn tolerance(mut self, atol: f64, rtol: f64) -> Case {
        (self.atol, self.rtol) = (atol, rtol);
        self
    }

    fn bench(mut self, bench_only: bool) -> Case {
        (self.benched, self.bench_only) = (true, bench_only);
        self
    }

    fn dispatching(
        mut self,
        record: impl Fn(&mut PlanBuilder, &Operands) -> Result<()> + Send + Sync + 'static,
    ) -> Case {
        self.record = Box::new(record);
        self
    }

    /// A number the reference needs; 0 if the case does not set it.
    pub fn attribute(&self, name: &str) -> f64 {
        self.attributes.iter().find(|(n, _)| *n == name).map_or(0.0, |(_, value)| *value)
    }

    /// Like [`Case::attribute`], as a size.
    pub fn size(&self, name: &str) -> usize {
        self.attribute(name) as usize
    }

    /// What its kernels need beyond core WGSL.
    pub fn needs(&self) -> Vec<Need> {
        let kernel = REGISTRY.iter().find(|kernel| kernel.name == self.kernel);
        let mut needs = kernel.and_then(|k| shader::needs(k, &self.variant).ok()).unwrap_or_default();
        needs.extend(&self.more_needs);
        needs
    }

    /// Bytes of all operands on the device.
    pub fn byte_len(&self) -> u64 {
        let input = |i: &Input| i.dtype.bytes(&i.shape);
        let output = |o: &Output| o.words[0].bytes(&o.shape);
        (self.inputs.iter().map(input).sum::<usize>() + self.outputs.iter().map(output).sum::<usize>()) as u64
    }
}

/// Every case of every kernel.
pub fn cases() -> Vec<Case> {
    let mut all = audio::cases();
    all.extend(matmul::cases());
    all.extend(attention::cases());
    all.extend(rows::cases());
    all.extend(head::cases());
    all.extend(select::cases());
    all.extend(peak::cases());
    all
}
