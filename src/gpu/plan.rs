//! Record once, replay every denoising step.
//!
//! A [`PlanBuilder`] collects dispatches with checked operands; [`PlanBuilder::freeze`] uploads all
//! parameters into one uniform buffer and creates every bind group; after that a [`Plan`] only encodes.
//! Work is cut into *slices*, each small enough for one submit (driver watchdogs), none of which
//! depends on a CPU decision.

mod builder;
mod grid;

use crate::error::Result;
use crate::gpu::kernel::Variant;
use crate::gpu::{Gpu, Tensor};
pub use builder::{GATE, PlanBuilder};
pub(crate) use builder::{GateParams, Turn};
pub use grid::Cost;
pub(crate) use grid::{Grid, linear_grid, row_grid};

/// Ends of the slices: a slice closes as soon as it holds `limit` operations.
fn slice(steps: &[Step], limit: u64) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut flops = 0;
    for (i, step) in steps.iter().enumerate() {
        flops += step.cost.flops;
        if flops >= limit || i + 1 == steps.len() {
            ends.push(i + 1);
            flops = 0;
        }
    }
    ends
}

#[derive(Debug)]
struct Step {
    kernel: &'static str,
    variant: Variant,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: Grid,
    cost: Cost,
}

/// A frozen, replayable list of dispatches.
#[derive(Debug)]
pub struct Plan {
    name: String,
    steps: Vec<Step>,
    slices: Vec<usize>,
    /// Grids written by the gate, which is step 0; `[len - 1, 3]`.
    arguments: Option<Tensor>,
}

impl Plan {
    /// Number of dispatches.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// True if the plan does nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// True for the same plan object.
    pub(crate) fn is_same(&self, other: &Plan) -> bool {
        std::ptr::eq(self, other)
    }

    /// Total arithmetic and traffic.
    pub fn cost(&self) -> Cost {
        self.steps.iter().fold(Cost::default(), |sum, s| Cost {
            flops: sum.flops + s.cost.flops,
            bytes: sum.bytes + s.cost.bytes,
        })
    }

    /// Kernel names in order, for tests and tables.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.steps.iter().map(|s| s.kernel)
    }

    /// Kernel, variant and cost of every dispatch in order.
    pub fn dispatches(&self) -> impl Iterator<Item = (&'static str, &Variant, Cost)> + '_ {
        self.steps.iter().map(|s| (s.kernel, &s.variant, s.cost))
    }

    /// Ends of the slices, each of which is one submit.
    pub(crate) fn slices(&self) -> &[usize] {
        &self.slices
    }

    /// Encodes dispatches `range` into an open compute pass: the whole replay. Never submits or waits.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, range: std::ops::Range<usize>) {
        for i in range {
            let step = &self.steps[i];
            pass.set_pipeline(&step.pipeline);
            pass.set_bind_group(0, &step.bind_group, &[]);
            match &self.arguments {
                Some(arguments) if i > 0 => {
                    pass.dispatch_workgroups_indirect(&arguments.buffer, 12 * (i as u64 - 1));
                }
                _ => {
                    let [x, y, z] = step.grid.groups;
                    pass.dispatch_workgroups(x, y, z);
                }
            }
        }
    }

    /// Encodes the whole plan and submits it slice by slice, without waiting. The last slice is
    /// returned unsubmitted, so that the caller can append copies.
    pub(crate) fn replay(&self, gpu: &Gpu) -> wgpu::CommandEncoder {
        let mut start = 0;
        for (i, &end) in self.slices.iter().enumerate() {
            let encoder = self.record(gpu, start..end);
            if i + 1 == self.slices.len() {
                return encoder;
            }
            gpu.submit(encoder);
            start = end;
        }
        self.record(gpu, 0..0)
    }

    /// Encodes dispatches `range` into a host's command encoder, in a pass of their own.
    pub(crate) fn encode_into(&self, encoder: &mut wgpu::CommandEncoder, range: std::ops::Range<usize>) {
        let label = Some(self.name.as_str());
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes: None });
        self.encode(&mut pass, range);
    }

    fn record(&self, gpu: &Gpu, range: std::ops::Range<usize>) -> wgpu::CommandEncoder {
        let label = Some(self.name.as_str());
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        self.encode_into(&mut encoder, range);
        encoder
    }

    /// Runs the plan and waits for it.
    pub fn run(&self, gpu: &Gpu) -> Result<()> {
        if gpu.is_sketch() {
            return Ok(());
        }
        gpu.submit(self.replay(gpu));
        gpu.wait()
    }
}
