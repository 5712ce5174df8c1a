//! Record once, replay every denoising step.
//!
//! A [`PlanBuilder`] collects dispatches with checked operands; [`PlanBuilder::freeze`] uploads all
//! parameters into one uniform buffer and creates every bind group; after that a [`Plan`] only encodes.
//! Work is cut into *slices*, each small enough for one submit (driver watchdogs), none of which
//! depends on a CPU decision.

use crate::error::{Error, Result};
use crate::gpu::counters::Counters;
use crate::gpu::kernel::{Access, Kernel, Variant};
use crate::gpu::{Gpu, Tensor};

/// Arithmetic and traffic of one dispatch, for slicing and for benchmarks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations (a multiply-add is two).
    pub flops: u64,
    /// Bytes that must move at least once.
    pub bytes: u64,
}

/// Number of workgroups in x, y, z.
pub(crate) type Grid = [u32; 3];

/// Workgroups per dimension allowed everywhere (WebGPU's default limit).
const MAX_GROUPS: u32 = 65_535;

/// Folds a linear number of workgroups into x and y. Kernels undo it with `linear_group()` of
/// `lib/grid.wgsl` and ignore the surplus.
pub(crate) fn linear_grid(groups: usize) -> Grid {
    let groups = groups as u32;
    if groups <= MAX_GROUPS {
        return [groups, 1, 1];
    }
    let rows = groups.div_ceil(MAX_GROUPS);
    [groups.div_ceil(rows), rows, 1]
}

#[derive(Debug)]
struct Pending {
    kernel: &'static Kernel,
    variant: Variant,
    params_at: usize,
    params_len: usize,
    bindings: Vec<Tensor>,
    grid: Grid,
    cost: Cost,
}

/// Collects the dispatches of a plan.
#[derive(Debug)]
pub struct PlanBuilder {
    gpu: Gpu,
    name: String,
    params: Vec<u8>,
    pending: Vec<Pending>,
}

const PARAMS_ALIGN: usize = 256;

impl PlanBuilder {
    /// An empty plan; `name` appears in labels and messages.
    pub fn new(gpu: &Gpu, name: &str) -> PlanBuilder {
        PlanBuilder { gpu: gpu.clone(), name: name.into(), params: Vec::new(), pending: Vec::new() }
    }

    /// The device the plan is for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// A small tensor to bind where an optional operand is absent.
    pub(crate) fn unused(&self) -> Result<Tensor> {
        self.gpu.unused()
    }

    /// Appends one dispatch. An empty grid appends nothing.
    ///
    /// Errors: wrong number of operands, or a written operand that is also another operand.
    pub(crate) fn dispatch<P: bytemuck::Pod>(
        &mut self,
        kernel: &'static Kernel,
        variant: Variant,
        params: P,
        bindings: &[&Tensor],
        grid: Grid,
        cost: Cost,
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        if bindings.len() != kernel.bindings.len() || grid.iter().any(|g| *g > MAX_GROUPS) {
            return Err(Error::Shape {
                op: kernel.name,
                operand: "bindings, grid".into(),
                expected: format!("{} bindings, a grid within {MAX_GROUPS}", kernel.bindings.len()),
                got: grid.iter().map(|g| *g as usize).chain([bindings.len()]).collect(),
            });
        }
        for (i, written) in bindings.iter().enumerate() {
            let aliased = |(j, other): (usize, &&Tensor)| j != i && other.buffer == written.buffer;
            if kernel.bindings[i].access == Access::Write && bindings.iter().enumerate().any(aliased) {
                return Err(Error::Shape {
                    op: kernel.name,
                    operand: written.name.clone(),
                    expected: "an output that is no other operand of the dispatch".into(),
                    got: written.shape.clone(),
                });
            }
        }
        let bytes = bytemuck::bytes_of(&params);
        let params_at = self.params.len();
        self.params.extend_from_slice(bytes);
        self.params.resize(self.params.len().next_multiple_of(PARAMS_ALIGN), 0);
        self.pending.push(Pending {
            kernel,
            variant,
            params_at,
            params_len: bytes.len(),
            bindings: bindings.iter().map(|t| (*t).clone()).collect(),
            grid,
            cost,
        });
        Ok(())
    }

    /// Creates everything the plan needs on the device.
    pub fn freeze(self) -> Result<Plan> {
        let gpu = self.gpu;
        let params = gpu.scoped(&format!("freezing plan `{}`", self.name), || {
            Counters::add(&gpu.counters().buffers, 1);
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(&format!("diffa.{}.params", self.name)),
                size: self.params.len().max(PARAMS_ALIGN) as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        gpu.queue().write_buffer(&params, 0, &self.params);
        let mut steps = Vec::with_capacity(self.pending.len());
        for pending in &self.pending {
            let pipeline = gpu.pipeline(pending.kernel, &pending.variant)?;
            Counters::add(&gpu.counters().bind_groups, 1);
            let bind_group = gpu.scoped(&format!("binding `{}` of plan `{}`", pending.kernel.name, self.name), || {
                let uniform = wgpu::BufferBinding {
                    buffer: &params,
                    offset: pending.params_at as u64,
                    size: wgpu::BufferSize::new(pending.params_len as u64),
                };
                let mut entries =
                    vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(uniform) }];
                for (i, tensor) in pending.bindings.iter().enumerate() {
                    entries.push(wgpu::BindGroupEntry {
                        binding: i as u32 + 1,
                        resource: tensor.buffer.as_entire_binding(),
                    });
                }
                gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(pending.kernel.name),
                    layout: &pipeline.layout,
                    entries: &entries,
                })
            })?;
            steps.push(Step {
                kernel: pending.kernel.name,
                pipeline: pipeline.pipeline,
                bind_group,
                grid: pending.grid,
                cost: pending.cost,
            });
        }
        let slices = slice(&steps, gpu.caps().flops_per_submit());
        Ok(Plan { name: self.name, steps, slices })
    }
}

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

    /// Encodes dispatches `range` into an open compute pass: the whole replay. Never submits or waits.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, range: std::ops::Range<usize>) {
        for step in &self.steps[range] {
            pass.set_pipeline(&step.pipeline);
            pass.set_bind_group(0, &step.bind_group, &[]);
            pass.dispatch_workgroups(step.grid[0], step.grid[1], step.grid[2]);
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

    fn record(&self, gpu: &Gpu, range: std::ops::Range<usize>) -> wgpu::CommandEncoder {
        let label = Some(self.name.as_str());
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
        {
            let mut pass =
                encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes: None });
            self.encode(&mut pass, range);
        }
        encoder
    }

    /// Runs the plan and waits for it.
    pub fn run(&self, gpu: &Gpu) -> Result<()> {
        gpu.submit(self.replay(gpu));
        gpu.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::linear_grid;

    #[test]
    fn grids_fold_and_cover() {
        for groups in [0, 1, 65_535, 65_536, 196_608, 1_000_001] {
            let [x, y, z] = linear_grid(groups);
            assert!(x as usize * y as usize >= groups && x <= 65_535 && y <= 65_535 && z == 1);
            assert!((x as usize * y as usize) < groups + y as usize + 1);
        }
    }
}
