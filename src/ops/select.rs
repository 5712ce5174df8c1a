//! The denoising decision on the device: which rows are committed, and what comes next.

use crate::error::Result;
use crate::gpu::kernel::{Variant, kernel};
use crate::gpu::plan::{Cost, PlanBuilder};
use crate::gpu::{DType, Gpu, Tensor};

kernel! {
    /// rank masked rows by confidence, commit those the rule takes, advance the schedule, list the next rows, report
    SELECT = "select" {
        params: SelectParams {
            gen_length: u32, block_length: u32, steps_per_block: u32, until_empty: u32,
            rule: u32, rule_value: f32, random: u32, seed: u32, mask_id: u32, stop_id: u32,
            n_branches: u32, branch_rows: u32, n_sequences: u32,
        },
        bindings: [
            read predictions, write state, write ids, write rows, write positions, write scratch, write report,
        ],
        slots: [],
        consts: [],
    }
}

/// Words of one sequence's state on the device; the layout is in `shaders/select.wgsl`.
pub const STATE_WORDS: usize = 16;
/// Words before the commits in a report.
pub const REPORT_HEADER_WORDS: usize = 8;
/// Words of one commit in a report: answer row, id, confidence bits.
pub const COMMIT_WORDS: usize = 3;
/// `stop_id` of a decode without an early end.
pub const NO_STOP: u32 = u32::MAX;

/// Which masked rows a step commits, in the kernel's terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SelectRule {
    /// The fixed schedule.
    Quota,
    /// Every row at least this confident, and at least one.
    Threshold(f32),
    /// Fast-dLLM's factor rule.
    Factor(f32),
}

/// The schedule of one decode, the same for all its sequences.
#[derive(Debug, Clone, Copy)]
pub struct SelectArgs {
    /// Answer rows.
    pub gen_length: usize,
    /// Rows of a block.
    pub block_length: usize,
    /// Steps the fixed schedule gives a block.
    pub steps_per_block: usize,
    /// A block lasts until no mask is left instead of `steps_per_block` steps at most.
    pub until_empty: bool,
    /// The commit rule.
    pub rule: SelectRule,
    /// Random instead of softmax confidence.
    pub random: bool,
    /// Seed of the random confidence.
    pub seed: u32,
    /// Id of the mask token.
    pub mask_id: u32,
    /// Id that ends the answer early, or [`NO_STOP`].
    pub stop_id: u32,
    /// 2 with classifier-free guidance, else 1.
    pub n_branches: usize,
    /// Rows between a branch and the next.
    pub branch_rows: usize,
}

/// Decode state on the device, for `n_sequences` answers.
#[derive(Debug, Clone)]
pub struct SelectBuffers {
    /// `[sequences, STATE_WORDS]`.
    pub state: Tensor,
    /// Answer ids `[sequences, gen_length]`.
    pub ids: Tensor,
    /// Rows of the current block in the forward, masked ones first, `[branches * sequences * block_length]`.
    pub rows: Tensor,
    /// Their positions.
    pub positions: Tensor,
    scratch: Tensor,
    /// `[sequences, header + commits]`.
    pub report: Tensor,
    n_sequences: usize,
}

impl SelectBuffers {
    /// Buffers for a schedule.
    pub fn new(gpu: &Gpu, args: &SelectArgs, n_sequences: usize) -> Result<SelectBuffers> {
        let candidates = args.n_branches * n_sequences * args.block_length;
        let report = REPORT_HEADER_WORDS + COMMIT_WORDS * args.block_length;
        Ok(SelectBuffers {
            state: gpu.tensor("select.state", DType::U32, &[n_sequences, STATE_WORDS])?,
            ids: gpu.tensor("select.ids", DType::U32, &[n_sequences, args.gen_length])?,
            rows: gpu.tensor("select.rows", DType::U32, &[candidates])?,
            positions: gpu.tensor("select.positions", DType::U32, &[candidates])?,
            scratch: gpu.tensor("select.scratch", DType::U32, &[n_sequences, 2, args.block_length])?,
            report: gpu.tensor("select.report", DType::U32, &[n_sequences, report])?,
            n_sequences,
        })
    }

    /// Sets all sequences to the start: every answer row masked, block 0, step 0.
    /// `answer_rows[s]` is (row, position) of the first answer row of sequence `s`.
    pub fn reset(&self, gpu: &Gpu, args: &SelectArgs, answer_rows: &[(usize, usize)]) {
        let length = args.block_length as u32;
        let (mut state, mut rows, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for &(row, position) in answer_rows {
            let mut words = [0u32; STATE_WORDS];
            words[4] = length; // masked rows at the start of the block
            words[5] = row as u32;
            words[6] = position as u32;
            words[7] = length; // live rows
            state.extend(words);
        }
        for branch in 0..args.n_branches {
            for &(row, position) in answer_rows {
                rows.extend((0..length).map(|r| (row + branch * args.branch_rows) as u32 + r));
                positions.extend((0..length).map(|r| position as u32 + r));
            }
        }
        gpu.write(&self.state, &state);
        gpu.write(&self.rows, &rows);
        gpu.write(&self.positions, &positions);
        gpu.write(&self.ids, &vec![args.mask_id; answer_rows.len() * args.gen_length]);
    }
}

/// Appends the decision for all sequences; `predictions` as the head left them.
pub fn select(
    plan: &mut PlanBuilder,
    args: &SelectArgs,
    predictions: &Tensor,
    buffers: &SelectBuffers,
) -> Result<()> {
    predictions.expect("select", &[buffers.n_sequences * args.block_length, 2])?;
    let (rule, rule_value) = match args.rule {
        SelectRule::Quota => (0, 0.0),
        SelectRule::Threshold(value) => (1, value),
        SelectRule::Factor(value) => (2, value),
    };
    let params = SelectParams {
        gen_length: args.gen_length as u32,
        block_length: args.block_length as u32,
        steps_per_block: args.steps_per_block as u32,
        until_empty: args.until_empty as u32,
        rule,
        rule_value,
        random: args.random as u32,
        seed: args.seed,
        mask_id: args.mask_id,
        stop_id: args.stop_id,
        n_branches: args.n_branches as u32,
        branch_rows: args.branch_rows as u32,
        n_sequences: buffers.n_sequences as u32,
    };
    let SelectBuffers { state, ids, rows, positions, scratch, report, .. } = buffers;
    let bindings = [predictions, state, ids, rows, positions, scratch, report];
    let grid = [buffers.n_sequences as u32, 1, 1];
    plan.dispatch(&SELECT, Variant::default(), params, &bindings, grid, Cost::default())
}
