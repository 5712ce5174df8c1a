//! Collecting the dispatches of a plan: operands are checked here, and everything the device needs is created once,
//! by [`PlanBuilder::freeze`].

use super::grid::{Cost, Grid, MAX_GROUPS};
use super::{Plan, Step, slice};
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
    /// The decode state and when it wants the plan.
    gate: Option<(Tensor, Turn)>,
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
            gate: None,
            live_rows: false,
            scratch: Vec::new(),
        }
    }

    /// A plan that runs only when the decode state on the device wants it: see `shaders/gate.wgsl`.
    pub(crate) fn gated(gpu: &Gpu, name: &str, state: &Tensor, turn: Turn) -> PlanBuilder {
        PlanBuilder { gate: Some((state.clone(), turn)), ..PlanBuilder::new(gpu, name) }
    }

    /// The device the plan is for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// From here on, rows are candidate rows of the current block: behind a gate, grids over them shrink to
    /// the rows that may still be committed.
    pub(crate) fn rows_are_candidates(&mut self, yes: bool) {
        self.live_rows = yes && self.gate.is_some();
    }

    /// How many of `n` columns (ids, groups of them) of `flops` each one dispatch may cover, a multiple of `unit`, so
    /// that no dispatch is longer than a submit may be.
    pub(crate) fn columns_per_dispatch(&self, n: usize, flops: u64, unit: usize) -> usize {
        let fit = (self.gpu.flops_per_submit() / flops.max(1)) as usize;
        (fit / unit * unit).max(unit).min(n.max(1))
    }

    /// The same for rows. Candidate rows are never split: gates count them from the first.
    pub(crate) fn rows_per_dispatch(&self, rows: usize, flops: u64, unit: usize) -> usize {
        if self.live_rows { rows.max(1) } else { self.columns_per_dispatch(rows, flops, unit) }
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

    /// Rows that a kernel for `rows` rows is best blocked for.
    pub(crate) fn usual_rows(&self, rows: usize) -> usize {
        if self.live_rows { self.gpu.caps().usual_candidates(rows) } else { rows }
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
        let mut steps = self.freeze_steps()?;
        let arguments = match &self.gate {
            Some((state, turn)) => Some(self.freeze_gate(&mut steps, state, *turn)?),
            None => None,
        };
        let slices = slice(&steps, self.gpu.flops_per_submit());
        Ok(Plan { name: self.name, steps, slices, arguments })
    }

    /// Puts the gate before the steps; returns the buffer that it writes their grids into.
    fn freeze_gate(&self, steps: &mut Vec<Step>, state: &Tensor, turn: Turn) -> Result<Tensor> {
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
        Ok(arguments)
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
        gpu.deferred(|| gpu.queue().write_buffer(&params, 0, &self.params));
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
