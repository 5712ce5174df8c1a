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
            rule: u32, rule_value: f32, random: u32, seed: u32, mask_id: u32, stop_id: u32, other_stop_id: u32,
            gap_early: f32, gap_middle: f32, gap_late: f32,
            n_branches: u32, branch_rows: u32, n_sequences: u32, ring: u32,
        },
        bindings: [
            read predictions, write state, write ids, write rows, write row_ids, write scratch, write report,
        ],
        slots: [],
        consts: [],
    }
}

/// Words of the batch in the state; the layout is in `shaders/select.wgsl`.
const BATCH_WORDS: usize = 16;
/// Words of each sequence in the state.
const SEQUENCE_WORDS: usize = 16;

/// A state, as `shaders/select.wgsl` lays it out, of one sequence whose `rows` candidates are all masked; for measuring.
pub(crate) fn all_masked(rows: usize) -> Vec<u32> {
    let mut state = vec![0; BATCH_WORDS + SEQUENCE_WORDS];
    state[BATCH_WORDS] = rows as u32;
    state
}

/// Words before the commits in a report.
pub const REPORT_HEADER_WORDS: usize = 8;
/// Words of one commit in a report: answer row, id, confidence bits.
pub const COMMIT_WORDS: usize = 3;
/// An id that is never predicted, for an absent stop token.
const NO_ID: u32 = u32::MAX;

/// Which masked rows a step commits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SelectRule {
    /// The fixed schedule.
    Quota,
    /// Every row at least this confident, and at least one.
    Threshold(f32),
    /// Fast-dLLM's factor rule.
    Factor(f32),
    /// Fast-dLLM++'s profile rule.
    Profile(f32),
}

/// The schedule of one decode, the same for all its sequences.
#[derive(Debug, Clone, PartialEq)]
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
    /// Up to two ids that end an answer early.
    pub stop_ids: Vec<u32>,
    /// Mean logit gaps (early, middle, late) at which everything left in a block is committed.
    pub settled_gaps: Option<[f32; 3]>,
    /// 2 with classifier-free guidance, else 1.
    pub n_branches: usize,
    /// Rows between a branch and the next.
    pub branch_rows: usize,
    /// Reports kept on the device before the oldest is overwritten.
    pub ring: usize,
}

/// Decode state on the device, for `n_sequences` answers.
#[derive(Debug, Clone)]
pub struct SelectBuffers {
    /// Schedule and counters; layout in `shaders/select.wgsl`.
    pub state: Tensor,
    /// Answer ids `[sequences, gen_length]`.
    pub ids: Tensor,
    /// Rows of the current block in the forward, masked ones first, `[branches * sequences * block_length]`.
    pub rows: Tensor,
    /// Ids at those rows, `[sequences * block_length]`.
    pub row_ids: Tensor,
    scratch: Tensor,
    /// `[ring, sequences, header + commits]`.
    pub report: Tensor,
    n_sequences: usize,
}

impl SelectBuffers {
    /// Buffers for a schedule.
    pub fn new(gpu: &Gpu, args: &SelectArgs, n_sequences: usize) -> Result<SelectBuffers> {
        let (s, length) = (n_sequences, args.block_length);
        let buffer = |name: &str, shape: &[usize]| gpu.tensor(&format!("select.{name}"), DType::U32, shape);
        Ok(SelectBuffers {
            state: buffer("state", &[BATCH_WORDS + s * SEQUENCE_WORDS])?,
            ids: buffer("ids", &[s, args.gen_length])?,
            rows: buffer("rows", &[args.n_branches * s * length])?,
            row_ids: buffer("row_ids", &[s * length])?,
            scratch: buffer("scratch", &[s, 2, length])?,
            report: buffer("report", &[args.ring, s, REPORT_HEADER_WORDS + COMMIT_WORDS * length])?,
            n_sequences,
        })
    }

    /// Bytes of one forward's reports.
    pub fn report_stride_bytes(&self) -> u64 {
        (self.report.shape[1] * self.report.shape[2] * 4) as u64
    }

    /// Sets all sequences to the start: every answer row masked, block 0, step 0.
    /// `answer_rows[s]` is the row of the first answer row of sequence `s` in the forward.
    pub fn reset(&self, gpu: &Gpu, args: &SelectArgs, answer_rows: &[usize]) {
        let length = args.block_length as u32;
        let mut state = vec![0u32; BATCH_WORDS];
        state[4] = (args.n_branches * answer_rows.len()) as u32 * length; // live rows
        let mut rows = Vec::new();
        for &row in answer_rows {
            let mut words = [0u32; SEQUENCE_WORDS];
            words[0] = length; // masked rows now
            words[1] = length; // and when the block began
            words[4] = row as u32;
            state.extend(words);
        }
        for branch in 0..args.n_branches {
            for &row in answer_rows {
                rows.extend((0..length).map(|r| (row + branch * args.branch_rows) as u32 + r));
            }
        }
        gpu.write(&self.state, &state);
        gpu.write(&self.rows, &rows);
        gpu.write(&self.row_ids, &vec![args.mask_id; answer_rows.len() * args.block_length]);
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
    predictions.check_shape("select", &[buffers.n_sequences * args.block_length, 4])?;
    let (rule, rule_value) = match args.rule {
        SelectRule::Quota => (0, 0.0),
        SelectRule::Threshold(value) => (1, value),
        SelectRule::Factor(value) => (2, value),
        SelectRule::Profile(value) => (3, value),
    };
    let [gap_early, gap_middle, gap_late] = args.settled_gaps.unwrap_or([-1.0; 3]);
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
        stop_id: args.stop_ids.first().copied().unwrap_or(NO_ID),
        other_stop_id: args.stop_ids.get(1).copied().unwrap_or(NO_ID),
        gap_early,
        gap_middle,
        gap_late,
        n_branches: args.n_branches as u32,
        branch_rows: args.branch_rows as u32,
        n_sequences: buffers.n_sequences as u32,
        ring: args.ring as u32,
    };
    let SelectBuffers { state, ids, rows, row_ids, scratch, report, .. } = buffers;
    let bindings = [predictions, state, ids, rows, row_ids, scratch, report];
    plan.dispatch(&SELECT, Variant::default(), params, &bindings, [1, 1, 1], Cost::default())
}
