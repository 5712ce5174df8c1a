//! The parts of a model as fixed works: a forward over token rows, a block against kept keys and values, and
//! the two halves of the encoder. `diffa bench model` times them, `diffa bench worker` does them on request.
//!
//! A forward computes everything from token ids, layer 0 of the prompt rows too, which a decode does once per
//! request; of the last layer it computes what the block's rows need, as every forward of the engine does.

use std::time::Duration;

use serde_json::{Map, json};

use crate::bench::report::Row;
use crate::bench::{Clock, Measurement, Timer, median};
use crate::error::{Error, Result};
use crate::gpu::plan::{Plan, PlanBuilder};
use crate::gpu::timing::time_each;
use crate::gpu::{DType, Gpu, Tensor};
use crate::model::encoder::Encoder;
use crate::model::forward::{Answers, Forward, ForwardBuffers, Layout};
use crate::model::llada::Llada;
use crate::ops::embed::embed;
use crate::ops::kept::CacheDtype;
use crate::ops::matmul::{Matmul, matmul};

/// A language model over fixed token rows, of which the last `n` are the block.
#[derive(Debug)]
pub struct Forwards {
    gpu: Gpu,
    full: Plan,
    block: Plan,
    logits: Tensor,
}

impl Forwards {
    /// Plans forwards over `ids`, the last `n` of them the block, all attending to all.
    ///
    /// Errors: [`Error::Usage`] if there are not more rows than the block's or an id is outside the vocabulary.
    pub fn new(gpu: &Gpu, llada: &Llada, ids: &[u32], n: usize) -> Result<Forwards> {
        let config = llada.config();
        if n == 0 || ids.len() <= n {
            return Err(Error::usage(
                "--rows",
                format!("{} rows leave none beside a block of {n}", ids.len()),
            ));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= config.vocab_size) {
            return Err(Error::usage(
                "--rows",
                format!("token {id} is outside the vocabulary of {}", config.vocab_size),
            ));
        }
        let prompt = ids.len() - n;
        let layout = Layout { prompt_rows: vec![prompt], gen_length: n, candidates: n };
        let buffers = ForwardBuffers::new(gpu, config, &layout, true, CacheDtype::F32)?;
        let tensor = |name: &str, data: &[u32]| gpu.tensor_from(name, DType::U32, &[data.len()], data);
        let prompt_ids = tensor("bench.prompt", &ids[..prompt])?;
        let answer_ids = tensor("bench.ids", &ids[prompt..])?;
        let rows: Vec<u32> = (prompt..ids.len()).map(|row| row as u32).collect();
        let rows = tensor("bench.rows", &rows)?;
        let answers = Answers { ids: &answer_ids, rows: &rows, row_ids: &answer_ids, branches: 1 };
        let forward = Forward { llada, layout: &layout, buffers: &buffers, answers };
        let logits = gpu.tensor("bench.logits", DType::F32, &[n, config.vocab_size])?;
        let head = |plan: &mut PlanBuilder| {
            matmul(plan, Matmul::new(&buffers.candidate_h, n, llada.head(), &logits))
        };

        let mut plan = PlanBuilder::new(gpu, "forward");
        embed(&mut plan, (&prompt_ids, 0), prompt, &llada.wte, (&buffers.context, 0))?;
        forward.record_prompt(&mut plan)?;
        forward.record_full(&mut plan)?;
        head(&mut plan)?;
        let full = plan.freeze()?;
        let mut plan = PlanBuilder::new(gpu, "block");
        forward.record_cached(&mut plan, 0, 0)?;
        head(&mut plan)?;
        let block = plan.freeze()?;
        full.run(gpu)?; // keys and values for the block
        Ok(Forwards { gpu: gpu.clone(), full, block, logits })
    }

    /// One forward over all rows -> logits of the block's rows `[n, vocab]`, in host memory.
    pub fn forward(&self) -> Result<Vec<f32>> {
        self.full.run(&self.gpu)?;
        self.gpu.read(&self.logits)
    }

    /// The block's rows against the kept keys and values of all others -> logits `[n, vocab]`.
    pub fn block(&self) -> Result<Vec<f32>> {
        self.block.run(&self.gpu)?;
        self.gpu.read(&self.logits)
    }
}

/// Ordinary tokens, spread over the vocabulary; what they say does not matter for the time they take.
pub fn spread_ids(llada: &Llada, rows: usize) -> Vec<u32> {
    let ordinary = llada.config().vocab_size.saturating_sub(64).max(1);
    (0..rows).map(|i| ((i * 7919 + 13) % ordinary) as u32).collect()
}

/// A tone that rises over the whole window, at the encoder's rate.
pub fn sweep(encoder: &Encoder) -> Vec<f32> {
    let config = encoder.config();
    let at = |i: usize| {
        let t = i as f64 / config.sampling_rate as f64;
        (0.3 * (std::f64::consts::TAU * (200.0 + 20.0 * t) * t).sin()) as f32
    };
    (0..config.n_samples).map(at).collect()
}

/// Times the language model's works: a forward over `rows` rows, and blocks of 16 and 32 of them against the
/// others.
pub fn llada(gpu: &Gpu, llada: &Llada, rows: usize, budget: Duration) -> Result<Vec<Row>> {
    let ids = spread_ids(llada, rows);
    let mut found = Vec::new();
    for n in [16, 32] {
        let works = Forwards::new(gpu, llada, &ids, n)?;
        if n == 16 {
            found.push(plan(gpu, &format!("forward, {rows} rows"), &works.full, budget)?);
        }
        found.push(plan(gpu, &format!("block of {n} in {rows} rows"), &works.block, budget)?);
    }
    Ok(found)
}

/// Times the encoder's works: samples to log-mel, log-mel to hidden states.
pub fn encoder(gpu: &Gpu, encoder: &Encoder, budget: Duration) -> Result<Vec<Row>> {
    encoder.run(gpu, &sweep(encoder))?;
    let rows = encoder.config().max_source_positions;
    let (mel, layers) = encoder.plans();
    Ok(vec![plan(gpu, "log-mel", mel, budget)?, plan(gpu, &format!("encoder, {rows} rows"), layers, budget)?])
}

/// A plan as a whole, and its dispatches one by one in the same minutes: turn by turn until `budget` is spent.
fn plan(gpu: &Gpu, name: &str, plan: &Plan, budget: Duration) -> Result<Row> {
    let timer = Timer::new(gpu)?;
    timer.sample(plan, 1)?;
    let start = std::time::Instant::now();
    let (mut samples, mut alone, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    while samples.len() < 3 || start.elapsed() < budget && samples.len() < super::MAX_SAMPLES {
        let sample = timer.sample(plan, 1)?;
        let each = time_each(gpu, plan)?;
        gaps.push(sample.wall / each.iter().sum::<f64>().max(1e-9));
        samples.push(sample);
        alone.push(each);
    }
    let mut by_kernel: Vec<(&str, f64)> = Vec::new();
    for (i, (kernel, _, _)) in plan.dispatches().enumerate() {
        let seconds = median(alone.iter().map(|each| each[i]).collect());
        match by_kernel.iter_mut().find(|(name, _)| *name == kernel) {
            Some((_, sum)) => *sum += seconds,
            None => by_kernel.push((kernel, seconds)),
        }
    }
    by_kernel.sort_by(|a, b| b.1.total_cmp(&a.1));
    let measured = Measurement { samples, clock: Clock::of(gpu), cost: plan.cost() };
    let mut row = Row::new(name, "", measured.seconds(), measured.spread());
    row.set("wall_seconds", json!(measured.wall()));
    row.set("gflop", json!(measured.cost.flops as f64 / 1e9));
    row.set("gflop_per_second", json!(measured.flop_per_s() / 1e9));
    row.set("dispatches", json!(plan.len()));
    row.set("kernels_seconds", json!(by_kernel.iter().map(|(_, seconds)| seconds).sum::<f64>()));
    row.set("gaps", json!(median(gaps)));
    let by_kernel: Map<_, _> = by_kernel.into_iter().map(|(name, s)| (name.to_string(), json!(s))).collect();
    row.set("kernels", by_kernel.into());
    Ok(row)
}
