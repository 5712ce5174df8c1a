//! One request on the device: its rows, its buffers, its frozen plans, and what is known of its answers. The loop
//! over its steps is in `decode/steps.rs`.

use std::time::{Duration, Instant};

use crate::decode::host::HostState;
use crate::decode::options::{Cache, DecodeOptions, Remasking, Rule};
use crate::decode::prompt::{Prompt, record_prompts};
use crate::decode::steps::{Queued, RULE_BURST};
use crate::error::{Error, Result};
use crate::gpu::plan::{Plan, PlanBuilder, Turn};
use crate::gpu::readback::Readback;
use crate::gpu::{DType, Gpu};
use crate::model::forward::{Answers, Forward, ForwardBuffers, Layout};
use crate::model::llada::Llada;
use crate::ops::elementwise::guidance;
use crate::ops::lm_head::{LmHead, LmHeadBuffers, Noise, lm_head};
use crate::ops::matmul::{Matmul, matmul};
use crate::ops::select::{SelectArgs, SelectBuffers, SelectRule, select};

/// Reports kept on the device, at most.
const MAX_RING: usize = 64;
/// Reports kept at least: a host that records steps into its own frames reads them late.
const MIN_RING: usize = 4;

/// A decode in progress, of one prompt or a batch. Created once per request shape; the step loop allocates
/// nothing on the device.
#[derive(Debug)]
pub struct Session<'m> {
    pub(super) gpu: Gpu,
    llada: &'m Llada,
    pub(super) options: DecodeOptions,
    layout: Layout,
    buffers: ForwardBuffers,
    pub(super) select: SelectBuffers,
    pub(super) full: Plan,
    /// One for the dual cache; one per block for the prefix cache; none without a cache.
    pub(super) cached: Vec<Plan>,
    /// Two, so that one forward may be queued before the report of the one before it is read.
    pub(super) readbacks: [Readback; 2],
    pub(super) ring: usize,
    pub(super) answers: Vec<AnswerRows>,
    /// Forwards of the batch seen in reports.
    pub(super) forwards: usize,
    /// Block and step of the next forward.
    pub(super) at: (usize, usize),
    pub(super) done: bool,
    /// The forward that is expected after the one whose report is read next.
    pub(super) ahead: Option<Queued>,
    pub(super) rows_computed: usize,
    pub(super) flops: u64,
    planning: Duration,
    pub(super) host: HostState,
}

/// One answer, as far as reports told.
#[derive(Debug, Clone)]
pub(super) struct AnswerRows {
    pub(super) ids: Vec<u32>,
    pub(super) forwards: usize,
    pub(super) done: bool,
}

impl<'m> Session<'m> {
    /// Plans a decode of a batch of prompts and embeds them. All answers share the options; each is the
    /// same as if it were decoded alone.
    ///
    /// Errors: invalid options, a cache type that the model's heads rule out, ids outside the vocabulary, rows
    /// beyond what the device can bind.
    pub fn new(
        gpu: &Gpu,
        llada: &'m Llada,
        prompts: &[Prompt<'_>],
        options: &DecodeOptions,
    ) -> Result<Session<'m>> {
        let start = Instant::now();
        options.validate()?;
        if !llada.gpu().is_same(gpu) {
            let doing = "planning a decode".into();
            return Err(Error::Gpu { doing, message: "the model was loaded on another device".into() });
        }
        for prompt in prompts {
            prompt.check(llada)?;
        }
        let branches = if options.cfg_scale > 0.0 { 2 } else { 1 };
        let rows: Vec<usize> = prompts.iter().map(Prompt::rows).collect();
        let layout = Layout {
            prompt_rows: rows.repeat(branches),
            gen_length: options.gen_length,
            candidates: options.block_length,
        };
        let cached = options.cache != Cache::None;
        let buffers = ForwardBuffers::new(gpu, llada.config(), &layout, cached, options.cache_dtype)?;
        let schedule = schedule(llada, options, branches, prompts.len() * layout.stride());
        let state = SelectBuffers::new(gpu, &schedule, prompts.len())?;
        let answers = Answers { ids: &state.ids, rows: &state.rows, row_ids: &state.row_ids, branches };
        let forward = Forward { llada, layout: &layout, buffers: &buffers, answers };

        let mut plan = PlanBuilder::new(gpu, "prompt");
        record_prompts(&mut plan, llada, prompts, &layout, &buffers)?;
        forward.record_prompt(&mut plan)?;
        let prompt_plan = plan.freeze()?;

        let candidates = prompts.len() * options.block_length;
        let head = LmHeadBuffers::for_candidates(gpu, candidates, llada.head())?;
        let id_rules = options.id_rules.upload(gpu)?;
        let decision =
            Decision { options, schedule: &schedule, head: &head, id_rules: &id_rules, state: &state };

        let turn = if cached { Turn::BlockStart } else { Turn::EveryStep };
        let mut plan = PlanBuilder::gated(gpu, "forward", &state.state, turn);
        forward.record_full(&mut plan)?;
        decision.record(&mut plan, &forward)?;
        let full = plan.freeze()?;

        let mut cached = Vec::new();
        for block in 0..options.cached_plans() {
            let (tail, turn) = match options.cache {
                Cache::Prefix => {
                    (options.gen_length - (block + 1) * options.block_length, Turn::Within(block))
                }
                Cache::None | Cache::Dual => (0, Turn::WithinAnyBlock),
            };
            let mut plan = PlanBuilder::gated(gpu, "cached", &state.state, turn);
            forward.record_cached(&mut plan, block, tail)?;
            decision.record(&mut plan, &forward)?;
            cached.push(plan.freeze()?);
        }

        let first_rows: Vec<usize> = (0..prompts.len()).map(|s| layout.answer_row(s)).collect();
        state.reset(gpu, &schedule, &first_rows);
        prompt_plan.run(gpu)?;
        let mask = llada.config().mask_token_id;
        let reports = state.report_stride_bytes() * schedule.ring as u64;
        let readback = || Readback::new(gpu, reports);
        let answer = AnswerRows { ids: vec![mask; options.gen_length], forwards: 0, done: false };
        Ok(Session {
            gpu: gpu.clone(),
            llada,
            full,
            cached,
            readbacks: [readback()?, readback()?],
            ring: schedule.ring,
            answers: vec![answer; prompts.len()],
            forwards: 0,
            at: (0, 0),
            done: false,
            ahead: None,
            rows_computed: 0,
            flops: 0,
            planning: start.elapsed(),
            host: HostState::default(),
            options: options.clone(),
            layout,
            buffers,
            select: state,
        })
    }

    /// Time from the request to the first forward: plans, buffers, the prompt's embeddings.
    pub fn planning(&self) -> Duration {
        self.planning
    }

    pub(super) fn rows_at(&self, (block, step): (usize, usize)) -> usize {
        let rows = match self.options.cache {
            Cache::None => return self.layout.total_rows(),
            _ if step == 0 => return self.layout.total_rows(),
            Cache::Dual => self.options.block_length,
            Cache::Prefix => self.options.gen_length - block * self.options.block_length,
        };
        rows * self.layout.sequences()
    }

    /// Ids of the first answer so far; rows still masked hold the mask id.
    pub fn ids(&self) -> &[u32] {
        self.ids_of(0)
    }

    /// Ids of one answer of the batch so far.
    pub fn ids_of(&self, sequence: usize) -> &[u32] {
        self.answers.get(sequence).map_or(&[], |answer| &answer.ids)
    }

    /// Forwards of the batch so far. With guidance, both branches count as one.
    pub fn forwards(&self) -> usize {
        self.forwards
    }

    /// Forwards that one answer of the batch needed so far (its NFE).
    pub fn forwards_of(&self, sequence: usize) -> usize {
        self.answers.get(sequence).map_or(0, |answer| answer.forwards)
    }

    /// Rows fed to the transformer so far, over all forwards.
    pub fn rows_computed(&self) -> usize {
        self.rows_computed
    }

    /// Floating-point operations so far, counting every dispatch at its full grid.
    pub fn flops(&self) -> u64 {
        self.flops
    }

    /// True once every answer is complete.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The settings.
    pub fn options(&self) -> &DecodeOptions {
        &self.options
    }

    /// Rows of one full forward, all sequences together.
    pub fn rows(&self) -> usize {
        self.layout.total_rows()
    }

    /// Logits `[block_length, vocab]` of the last forward's candidate rows, in the order of the slots at
    /// that forward: rows masked before it, then the others, each in row order. Rows that could not be
    /// committed hold no meaningful values. A debugging path: it computes the output matrix again, without
    /// the fused reduction, and reads everything back.
    ///
    /// Errors: within [`Session::run`], where the device may already be at the forward after the last.
    pub fn logits(&self) -> Result<Vec<Vec<f32>>> {
        if self.ahead.is_some() {
            let message = "the next forward is under way; decode with `step` or `advance` instead of `run`";
            return Err(Error::Gpu { doing: "computing logits".into(), message: message.into() });
        }
        let (rows, vocab) = (self.options.block_length, self.llada.config().vocab_size);
        let logits = self.gpu.tensor("logits", DType::F32, &[rows, vocab])?;
        let mut plan = PlanBuilder::new(&self.gpu, "logits");
        matmul(&mut plan, Matmul::new(&self.buffers.candidate_h, rows, self.llada.head(), &logits))?;
        plan.freeze()?.run(&self.gpu)?;
        let flat: Vec<f32> = self.gpu.read(&logits)?;
        Ok(flat.chunks(vocab).map(<[f32]>::to_vec).collect())
    }
}

/// The part of a plan after the forward: guidance, output matrix, selection.
struct Decision<'a> {
    options: &'a DecodeOptions,
    schedule: &'a SelectArgs,
    head: &'a LmHeadBuffers,
    id_rules: &'a crate::gpu::Tensor,
    state: &'a SelectBuffers,
}

impl Decision<'_> {
    fn record(&self, plan: &mut PlanBuilder, forward: &Forward<'_>) -> Result<()> {
        let hidden = &forward.buffers.candidate_h;
        let rows = self.head.predictions.shape[0];
        if self.options.cfg_scale > 0.0 {
            guidance(plan, hidden, rows, self.options.cfg_scale)?;
        }
        let noise = match self.options.temperature {
            0.0 => Noise::None,
            temperature => Noise::Gumbel { temperature, seed: self.options.seed },
        };
        let args = LmHead {
            hidden,
            n_rows: rows,
            weight: forward.llada.head(),
            state: &self.state.state,
            rows: &self.state.rows,
            id_rules: self.id_rules,
            block_length: self.options.block_length,
            noise,
        };
        plan.rows_are_candidates(true);
        lm_head(plan, args, self.head)?;
        plan.rows_are_candidates(false);
        select(plan, self.schedule, &self.head.predictions, self.state)
    }
}

fn schedule(llada: &Llada, options: &DecodeOptions, branches: usize, branch_rows: usize) -> SelectArgs {
    let ring = match options.rule {
        Rule::Quota => options.steps_per_block().clamp(MIN_RING, MAX_RING),
        _ => RULE_BURST.max(MIN_RING),
    };
    SelectArgs {
        gen_length: options.gen_length,
        block_length: options.block_length,
        steps_per_block: options.steps_per_block(),
        until_empty: options.is_until_empty(),
        rule: match options.rule {
            Rule::Quota => SelectRule::Quota,
            Rule::Threshold(value) => SelectRule::Threshold(value),
            Rule::Factor(value) => SelectRule::Factor(value),
            Rule::Profile(value) => SelectRule::Profile(value),
        },
        random: options.remasking == Remasking::Random,
        seed: options.seed,
        mask_id: llada.config().mask_token_id,
        stop_ids: options.stop_ids.clone(),
        settled_gaps: options.settled_gaps,
        n_branches: branches,
        branch_rows,
        ring,
    }
}
