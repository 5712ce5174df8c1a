//! Record once, replay every denoising step.
//!
//! A [`PlanBuilder`] collects dispatches with checked operands; [`PlanBuilder::freeze`] uploads all
//! parameters into one uniform buffer and creates every bind group; after that a [`Plan`] only encodes.
//! Work is cut into *slices*, each small enough for one submit (driver watchdogs), none of which
//! depends on a CPU decision.

use crate::error::{Error, Result};
use crate::gpu::counters::Counters;
use crate::gpu::kernel::{Access, Kernel, Variant, kernel};
use crate::gpu::{DType, Gpu, Tensor};

kernel! {
    /// arguments[i] = the grid of dispatch i if the decode state wants this plan now, zeros if not
    GATE = "gate" {
        params: GateParams { n_steps: u32, wanted: u32, block: u32 },
        bindings: [read state, read grids, write out],
        slots: [],
        consts: [],
    }
}

/// When a gated plan runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// In the first step of a block.
    BlockStart,
    /// In any later step of any block.
    WithinAnyBlock,
    /// In any later step of this block.
    Within(usize),
    /// In every step until the answer is done.
    EveryStep,
}

impl Turn {
    /// The parameters `wanted` and `block` of the shader.
    fn params(self) -> (u32, u32) {
        match self {
            Turn::BlockStart => (0, u32::MAX),
            Turn::WithinAnyBlock => (1, u32::MAX),
            Turn::Within(block) => (1, block as u32),
            Turn::EveryStep => (2, u32::MAX),
        }
    }
}

/// Arithmetic and traffic of one dispatch, for slicing and for benchmarks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations (a multiply-add is two).
    pub flops: u64,
    /// Bytes that must move at least once.
    pub bytes: u64,
}

/// Number of workgroups, and what it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    groups: [u32; 3],
    /// Rows that one group in y covers, if y counts rows; 0 otherwise.
    rows_per_group: u32,
}

impl From<[u32; 3]> for Grid {
    fn from(groups: [u32; 3]) -> Grid {
        Grid { groups, rows_per_group: 0 }
    }
}

impl Grid {
    /// `columns` groups in x and as many in y as `rows` need.
    pub(crate) fn over_rows(columns: usize, rows: usize, rows_per_group: usize) -> Grid {
        let groups = [columns as u32, rows.div_ceil(rows_per_group) as u32, 1];
        Grid { groups, rows_per_group: rows_per_group as u32 }
    }

    /// The same in `parts` layers.
    pub(crate) fn deep(mut self, parts: usize) -> Grid {
        self.groups[2] = parts as u32;
        self
    }
}

/// Workgroups per dimension allowed everywhere (WebGPU's default limit).
const MAX_GROUPS: u32 = 65_535;

/// Folds a linear number of workgroups into x and y. Kernels undo it with `linear_group()` of
/// `lib/grid.wgsl` and ignore the surplus.
pub(crate) fn linear_grid(groups: usize) -> Grid {
    let groups = groups as u32;
    if groups <= MAX_GROUPS {
        return [groups, 1, 1].into();
    }
    let rows = groups.div_ceil(MAX_GROUPS);
    [groups.div_ceil(rows), rows, 1].into()
}

/// `columns` groups in x for each of `rows` rows, which are folded into y and z. Kernels undo it with `row_group()`
/// of `lib/grid.wgsl` and ignore the surplus. Saves them dividing, which is slow on software adapters.
pub(crate) fn row_grid(columns: usize, rows: usize) -> Grid {
    let [y, z, _] = linear_grid(rows).groups;
    [columns as u32, y, z].into()
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
    live_rows: bool,
    scratch: Vec<Option<Tensor>>,
}

const PARAMS_ALIGN: usize = 256;

impl PlanBuilder {
    /// An empty plan; `name` appears in labels and messages.
    pub fn new(gpu: &Gpu, name: &str) -> PlanBuilder {
        PlanBuilder {
            gpu: gpu.clone(),
            name: name.into(),
            params: Vec::new(),
            pending: Vec::new(),
            live_rows: false,
            scratch: Vec::new(),
        }
    }

    /// The device the plan is for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// From here on, rows are candidate rows of the current block: behind a gate, grids over them shrink to
    /// the rows that may still be committed.
    pub(crate) fn rows_are_candidates(&mut self, yes: bool) {
        self.live_rows = yes;
    }

    /// Rows that one dispatch of `flops_per_row` may cover, a multiple of `unit`, so that no dispatch is longer
    /// than a submit may be. Candidate rows are never split: gates count them from the first.
    pub(crate) fn rows_per_dispatch(&self, rows: usize, flops_per_row: u64, unit: usize) -> usize {
        if self.live_rows {
            return rows.max(1);
        }
        let fit = (self.gpu.flops_per_submit() / flops_per_row.max(1)) as usize;
        (fit / unit * unit).max(unit).min(rows.max(1))
    }

    /// Memory for what one operation hands from one of its dispatches to the next: at least `words` 32-bit words,
    /// shared by all operations of the plan that ask for the same `slot`.
    pub(crate) fn scratch(&mut self, slot: usize, words: usize) -> Result<Tensor> {
        self.scratch.resize((slot + 1).max(self.scratch.len()), None);
        match &self.scratch[slot] {
            Some(tensor) if tensor.len() >= words => Ok(tensor.clone()),
            _ => {
                let name = format!("{}.scratch.{slot}", self.name);
                // Room for larger ones to come, as far as a binding goes.
                let most = (self.gpu.caps().max_slab_bytes() / 4) as usize;
                let room = words.next_power_of_two().min(most).max(words);
                let tensor = self.gpu.tensor(&name, DType::F32, &[room])?;
                self.scratch[slot] = Some(tensor.clone());
                Ok(tensor)
            }
        }
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
        grid: impl Into<Grid>,
        cost: Cost,
    ) -> Result<()> {
        let mut grid = grid.into();
        if grid.groups.contains(&0) {
            return Ok(());
        }
        if !self.live_rows {
            grid.rows_per_group = 0;
        }
        if bindings.len() != kernel.bindings.len() || grid.groups.iter().any(|g| *g > MAX_GROUPS) {
            return Err(Error::Shape {
                op: kernel.name,
                operand: "bindings, grid".into(),
                expected: format!("{} bindings, a grid within {MAX_GROUPS}", kernel.bindings.len()),
                got: grid.groups.iter().map(|g| *g as usize).chain([bindings.len()]).collect(),
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
        let steps = self.freeze_steps()?;
        let slices = slice(&steps, self.gpu.flops_per_submit());
        Ok(Plan { name: self.name, steps, slices, arguments: None })
    }

    /// Like [`PlanBuilder::freeze`], but the plan runs only when the decode state on the device wants it:
    /// see `shaders/gate.wgsl`.
    pub(crate) fn freeze_gated(self, state: &Tensor, turn: Turn) -> Result<Plan> {
        let mut steps = self.freeze_steps()?;
        let gpu = &self.gpu;
        if gpu.is_sketch() {
            gpu.sketch_pipeline((&GATE, Variant::default()));
        }
        let grids: Vec<[u32; 4]> = steps
            .iter()
            .map(|s| [s.grid.groups[0], s.grid.groups[1], s.grid.groups[2], s.grid.rows_per_group])
            .collect();
        let grids = gpu.tensor_from("gate.grids", DType::U32, &[grids.len(), 4], &grids)?;
        let arguments = gpu.arguments_tensor("gate.arguments", steps.len())?;
        let mut builder = PlanBuilder::new(gpu, &self.name);
        let (wanted, block) = turn.params();
        let params = GateParams { n_steps: steps.len() as u32, wanted, block };
        let groups = (steps.len() as u32).div_ceil(64);
        let bindings = [state, &grids, &arguments];
        builder.dispatch(&GATE, Variant::default(), params, &bindings, [groups, 1, 1], Cost::default())?;
        let gate = builder.freeze_steps()?;
        steps.splice(0..0, gate);
        let slices = slice(&steps, gpu.flops_per_submit());
        Ok(Plan { name: self.name, steps, slices, arguments: Some(arguments) })
    }

    fn freeze_steps(&self) -> Result<Vec<Step>> {
        let gpu = &self.gpu;
        if gpu.is_sketch() {
            self.pending.iter().for_each(|p| gpu.sketch_pipeline((p.kernel, p.variant.clone())));
            return Ok(Vec::new());
        }
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
        self.pending.iter().map(|pending| self.freeze_step(pending, &params)).collect()
    }

    fn freeze_step(&self, pending: &Pending, params: &wgpu::Buffer) -> Result<Step> {
        let gpu = &self.gpu;
        let pipeline = gpu.pipeline(pending.kernel, &pending.variant)?;
        Counters::add(&gpu.counters().bind_groups, 1);
        let doing = format!("binding `{}` of plan `{}`", pending.kernel.name, self.name);
        let bind_group = gpu.scoped(&doing, || {
            let uniform = wgpu::BufferBinding {
                buffer: params,
                offset: pending.params_at as u64,
                size: wgpu::BufferSize::new(pending.params_len as u64),
            };
            let mut entries =
                vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(uniform) }];
            for (i, tensor) in pending.bindings.iter().enumerate() {
                let resource = tensor.buffer.as_entire_binding();
                entries.push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource });
            }
            gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(pending.kernel.name),
                layout: &pipeline.layout,
                entries: &entries,
            })
        })?;
        Ok(Step {
            kernel: pending.kernel.name,
            variant: pending.variant.clone(),
            pipeline: pipeline.pipeline,
            bind_group,
            grid: pending.grid,
            cost: pending.cost,
        })
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
    pub(super) fn slices(&self) -> &[usize] {
        &self.slices
    }

    /// True if all of it may go into one submit.
    pub(crate) fn is_one_submit(&self) -> bool {
        self.slices.len() <= 1
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

#[cfg(test)]
mod tests {
    use super::linear_grid;

    #[test]
    fn grids_fold_and_cover() {
        for groups in [0, 1, 65_535, 65_536, 196_608, 1_000_001] {
            let [x, y, z] = linear_grid(groups).groups;
            assert!(x as usize * y as usize >= groups && x <= 65_535 && y <= 65_535 && z == 1);
            assert!((x as usize * y as usize) < groups + y as usize + 1);
        }
    }
}
