//! One request on the device: its rows, its frozen step plan, its step loop.

use crate::decode::options::{DecodeOptions, Remasking, Rule};
use crate::error::{Error, Result};
use crate::gpu::plan::{Cost, Plan, PlanBuilder};
use crate::gpu::readback::Readback;
use crate::gpu::{DType, Gpu, Tensor};
use crate::model::llada::{Candidates, ForwardBuffers, Layout, Llada};
use crate::ops::elementwise::{copy_rows, guidance};
use crate::ops::embed::embed;
use crate::ops::lm_head::{LmHead, LmHeadBuffers, Noise, lm_head};
use crate::ops::matmul::{Matmul, matmul};
use crate::ops::select::{
    COMMIT_WORDS, NO_STOP, REPORT_HEADER_WORDS, SelectArgs, SelectBuffers, SelectRule, select,
};

/// What the model is asked: token ids, and audio rows somewhere between them.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// Prompt token ids.
    pub ids: &'a [u32],
    /// Audio rows `[rows, d_model]` f32 and the token before which they go.
    pub audio: Option<(&'a Tensor, usize)>,
}

impl Prompt<'_> {
    fn audio_rows(&self) -> usize {
        self.audio.map_or(0, |(rows, _)| rows.shape[0])
    }

    /// Rows before the answer: prompt tokens and audio.
    pub fn rows(&self) -> usize {
        self.ids.len() + self.audio_rows()
    }
}

/// One committed token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Commit {
    /// Answer row, counted from the start of the answer.
    pub position: usize,
    /// Token id.
    pub id: u32,
    /// Confidence it was committed with.
    pub confidence: f32,
}

/// What one denoising step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Block worked on.
    pub block: usize,
    /// Step within the block.
    pub step: usize,
    /// Tokens committed, in row order.
    pub commits: Vec<Commit>,
    /// Masked rows left in the block.
    pub masked: usize,
    /// Forwards so far (NFE).
    pub forwards: usize,
    /// True for the last step.
    pub done: bool,
    /// True if the answer ended at the stop token.
    pub stopped: bool,
}

/// A decode in progress. Created once per request shape; the step loop allocates nothing on the device.
#[derive(Debug)]
pub struct Session<'m> {
    gpu: Gpu,
    llada: &'m Llada,
    options: DecodeOptions,
    layout: Layout,
    buffers: ForwardBuffers,
    select: SelectBuffers,
    step_plan: Plan,
    readback: Readback,
    report_bytes: u64,
    ids: Vec<u32>,
    forwards: usize,
    done: bool,
}

impl<'m> Session<'m> {
    /// Plans a decode of `prompt` and embeds the prompt.
    ///
    /// Errors: invalid options, ids outside the vocabulary, rows beyond what the device can bind.
    pub fn new(gpu: &Gpu, llada: &'m Llada, prompt: Prompt<'_>, options: &DecodeOptions) -> Result<Session<'m>> {
        options.validate()?;
        check_prompt(llada, &prompt)?;
        let branches = if options.cfg_scale > 0.0 { 2 } else { 1 };
        let layout = Layout {
            sequences: branches,
            rows: prompt.rows() + options.gen_length,
            candidates: options.block_length,
        };
        let buffers = ForwardBuffers::new(gpu, llada.config(), layout)?;
        let schedule = schedule(llada, options, layout);
        let state = SelectBuffers::new(gpu, &schedule, 1)?;
        let context = embed_prompt(gpu, llada, &prompt, layout)?;

        let mut plan = PlanBuilder::new(gpu, "step");
        copy_rows(&mut plan, (&context, 0), branches * layout.rows, (&buffers.x, 0))?;
        for branch in 0..branches {
            let first = branch * layout.rows + prompt.rows();
            embed(&mut plan, (&state.ids, 0), options.gen_length, &llada.wte, (&buffers.x, first))?;
        }
        let candidates = Candidates { rows: &state.rows, positions: &state.positions };
        llada.record(&mut plan, layout, &buffers, candidates)?;
        if branches == 2 {
            guidance(&mut plan, &buffers.candidate_h, options.block_length, options.cfg_scale)?;
        }
        let head = LmHeadBuffers::new(gpu, options.block_length, llada.head())?;
        let id_rules = options.id_rules.upload(gpu)?;
        let noise = match options.temperature {
            0.0 => Noise::None,
            temperature => Noise::Gumbel { temperature, seed: options.seed },
        };
        let args = LmHead {
            hidden: &buffers.candidate_h,
            n_rows: options.block_length,
            weight: llada.head(),
            state: &state.state,
            positions: &state.positions,
            id_rules: &id_rules,
            block_length: options.block_length,
            noise,
        };
        lm_head(&mut plan, args, &head)?;
        select(&mut plan, &schedule, &head.predictions, &state)?;

        let report_bytes = 4 * (REPORT_HEADER_WORDS + COMMIT_WORDS * options.max_commits()) as u64;
        state.reset(gpu, &schedule, &[(prompt.rows(), prompt.rows())]);
        Ok(Session {
            gpu: gpu.clone(),
            llada,
            layout,
            buffers,
            select: state,
            step_plan: plan.freeze()?,
            readback: Readback::new(gpu, report_bytes)?,
            report_bytes,
            ids: vec![llada.config().mask_token_id; options.gen_length],
            options: options.clone(),
            forwards: 0,
            done: false,
        })
    }

    /// One denoising step: a forward, a decision, a report of a few dozen bytes. `None` once finished.
    pub fn step(&mut self) -> Result<Option<StepReport>> {
        if self.done {
            return Ok(None);
        }
        let mut encoder = self.step_plan.replay(&self.gpu);
        self.readback.copy(&mut encoder, &self.select.report, self.report_bytes);
        self.gpu.submit(encoder);
        let words = self.readback.words(&self.gpu, self.report_bytes)?;
        let report = parse_report(&words)?;
        for commit in &report.commits {
            match self.ids.get_mut(commit.position) {
                Some(id) => *id = commit.id,
                None => return Err(bad_report(format!("row {} of {}", commit.position, self.ids.len()))),
            }
        }
        if let (true, Some(stop)) = (report.stopped, self.options.stop_id) {
            let block = report.block * self.options.block_length;
            if let Some(at) = self.ids[block..].iter().position(|id| *id == stop) {
                self.ids[block + at..].fill(stop);
            }
        }
        self.forwards = report.forwards;
        self.done = report.done;
        Ok(Some(report))
    }

    /// Runs all remaining steps; `on_step` sees every report and may stop the decode with an error.
    pub fn run(&mut self, mut on_step: impl FnMut(&Session<'m>, &StepReport) -> Result<()>) -> Result<()> {
        while let Some(report) = self.step()? {
            on_step(self, &report)?;
        }
        Ok(())
    }

    /// Answer ids so far; rows still masked hold the mask id.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Forwards so far. With guidance, both branches count as one.
    pub fn forwards(&self) -> usize {
        self.forwards
    }

    /// True once the answer is complete.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The settings.
    pub fn options(&self) -> &DecodeOptions {
        &self.options
    }

    /// Rows of one forward, all sequences together.
    pub fn rows(&self) -> usize {
        self.layout.sequences * self.layout.rows
    }

    /// Arithmetic and traffic of one step.
    pub fn step_cost(&self) -> Cost {
        self.step_plan.cost()
    }

    /// Logits `[block_length, vocab]` of the last step's candidate rows, in row order. A debugging path:
    /// it computes the output matrix again, without the fused reduction, and reads everything back.
    pub fn logits(&self) -> Result<Vec<Vec<f32>>> {
        let (rows, vocab) = (self.options.block_length, self.llada.config().vocab_size);
        let logits = self.gpu.tensor("logits", DType::F32, &[rows, vocab])?;
        let mut plan = PlanBuilder::new(&self.gpu, "logits");
        matmul(&mut plan, Matmul::new(&self.buffers.candidate_h, rows, self.llada.head(), &logits))?;
        plan.freeze()?.run(&self.gpu)?;
        let flat: Vec<f32> = self.gpu.read(&logits)?;
        Ok(flat.chunks(vocab).map(<[f32]>::to_vec).collect())
    }
}

fn schedule(llada: &Llada, options: &DecodeOptions, layout: Layout) -> SelectArgs {
    SelectArgs {
        gen_length: options.gen_length,
        block_length: options.block_length,
        steps_per_block: options.steps_per_block(),
        until_empty: options.rule != Rule::Quota,
        rule: match options.rule {
            Rule::Quota => SelectRule::Quota,
            Rule::Threshold(value) => SelectRule::Threshold(value),
            Rule::Factor(value) => SelectRule::Factor(value),
        },
        random: options.remasking == Remasking::Random,
        seed: options.seed,
        mask_id: llada.config().mask_token_id,
        stop_id: options.stop_id.unwrap_or(NO_STOP),
        n_branches: layout.sequences,
        branch_rows: layout.rows,
    }
}

fn check_prompt(llada: &Llada, prompt: &Prompt<'_>) -> Result<()> {
    let vocab = llada.config().vocab_size;
    if let Some(id) = prompt.ids.iter().find(|id| **id as usize >= vocab) {
        return Err(Error::Tokenizer {
            path: llada.config().path.with_file_name("tokenizer.json"),
            reason: format!("token id {id} is outside the model's vocabulary of {vocab}; the files do not match"),
        });
    }
    if prompt.ids.is_empty() {
        return Err(Error::usage("PROMPT", "is empty"));
    }
    if let Some((audio, position)) = prompt.audio {
        let [_, cols] = audio.dims("prompt")?;
        audio.expect_rows("prompt", 1, llada.config().d_model)?;
        if position > prompt.ids.len() || cols != llada.config().d_model {
            return Err(Error::Shape {
                op: "prompt",
                operand: audio.name.clone(),
                expected: format!("an audio position within {} tokens", prompt.ids.len()),
                got: vec![position],
            });
        }
    }
    Ok(())
}

/// Embeddings of the prompt rows of every branch, `[sequences * rows, d_model]`; answer rows stay zero.
/// The unconditional branch has every prompt token masked, and the same audio rows.
fn embed_prompt(gpu: &Gpu, llada: &Llada, prompt: &Prompt<'_>, layout: Layout) -> Result<Tensor> {
    let d = llada.config().d_model;
    let n = prompt.ids.len();
    let context = gpu.tensor("session.context", DType::F32, &[layout.sequences * layout.rows, d])?;
    let mut ids = prompt.ids.to_vec();
    ids.resize(layout.sequences * n, llada.config().mask_token_id);
    let ids = gpu.tensor_from("session.prompt_ids", DType::U32, &[ids.len()], &ids)?;
    let before = prompt.audio.map_or(n, |(_, position)| position);

    let mut plan = PlanBuilder::new(gpu, "prompt");
    for branch in 0..layout.sequences {
        let (id0, row0) = (branch * n, branch * layout.rows);
        embed(&mut plan, (&ids, id0), before, &llada.wte, (&context, row0))?;
        if let Some((audio, _)) = prompt.audio {
            let rows = audio.shape[0];
            copy_rows(&mut plan, (audio, 0), rows, (&context, row0 + before))?;
            embed(&mut plan, (&ids, id0 + before), n - before, &llada.wte, (&context, row0 + before + rows))?;
        }
    }
    plan.freeze()?.run(gpu)?;
    Ok(context)
}

fn parse_report(words: &[u32]) -> Result<StepReport> {
    let header: [u32; REPORT_HEADER_WORDS] = words
        .get(..REPORT_HEADER_WORDS)
        .and_then(|h| h.try_into().ok())
        .ok_or_else(|| bad_report(format!("{} words", words.len())))?;
    let [block, step, committed, masked, done, forwards, stopped, _] = header;
    let body = &words[REPORT_HEADER_WORDS..];
    if committed as usize * COMMIT_WORDS > body.len() {
        return Err(bad_report(format!("{committed} commits in {} words", body.len())));
    }
    let commits = body
        .chunks_exact(COMMIT_WORDS)
        .take(committed as usize)
        .map(|c| Commit { position: c[0] as usize, id: c[1], confidence: f32::from_bits(c[2]) })
        .collect();
    Ok(StepReport {
        block: block as usize,
        step: step as usize,
        commits,
        masked: masked as usize,
        forwards: forwards as usize,
        done: done != 0,
        stopped: stopped != 0,
    })
}

fn bad_report(found: String) -> Error {
    Error::Gpu { doing: "reading a step report".into(), message: format!("impossible content: {found}") }
}
