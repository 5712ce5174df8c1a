//! How long a decode takes and how much work it is; the figures behind `diffa bench decode`.

use std::time::{Duration, Instant};

use crate::decode::{Cache, DecodeOptions, Prompt, Rule, Session};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::llada::Llada;

/// Figures of one decode.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Forwards (NFE).
    pub forwards: usize,
    /// Rows fed to the transformer, over all forwards.
    pub rows: usize,
    /// Floating-point operations of all dispatches, at their full grids.
    pub flops: u64,
    /// Seconds of all denoising steps; planning and compilation are not in it.
    pub seconds: f64,
    /// Answer rows committed.
    pub tokens: usize,
    /// True if time ran out and the rest was extrapolated.
    pub extrapolated: bool,
}

/// Times and work of one kind of step.
#[derive(Debug, Clone, Copy, Default)]
struct Kind {
    steps: usize,
    seconds: f64,
    rows: usize,
    flops: u64,
}

impl Kind {
    fn scaled(&self, steps: usize) -> (f64, usize, u64) {
        if self.steps == 0 {
            return (0.0, 0, 0);
        }
        let factor = steps as f64 / self.steps as f64;
        (self.seconds * factor, (self.rows as f64 * factor) as usize, (self.flops as f64 * factor) as u64)
    }
}

/// Runs a decode of `prompt` for at most about `budget` and measures it. One that does not finish is
/// extrapolated: by its steps if the schedule is fixed, by the tokens committed so far if a rule decides.
pub fn measure(
    gpu: &Gpu,
    llada: &Llada,
    prompt: Prompt<'_>,
    options: &DecodeOptions,
    budget: Duration,
) -> Result<Measured> {
    // Drivers compile a kernel when it is first dispatched; that belongs to loading.
    Session::new(gpu, llada, &[prompt], options)?.advance(2)?;
    let mut session = Session::new(gpu, llada, &[prompt], options)?;
    let (mut full, mut cached) = (Kind::default(), Kind::default());
    let (mut tokens, mut extrapolated) = (0, false);
    let start = Instant::now();
    let (mut at, mut rows, mut flops) = (start, 0, 0);
    // The loop of an answer, which queues a forward before it waits for the one before: a step lasts from report to report.
    let ran = session.run(|session, report| {
        let is_full = options.cache == Cache::None || report.step == 0;
        let kind = if is_full { &mut full } else { &mut cached };
        let now = Instant::now();
        kind.steps += 1;
        kind.seconds += (now - at).as_secs_f64();
        kind.rows += session.rows_computed() - rows;
        kind.flops += session.flops() - flops;
        (at, rows, flops) = (now, session.rows_computed(), session.flops());
        tokens += report.commits.len();
        extrapolated = !session.is_done() && start.elapsed() >= budget && full.steps >= 2;
        if extrapolated { Err(Error::Interrupted) } else { Ok(()) }
    });
    if !extrapolated {
        ran?;
    }
    let (mut n_full, mut n_cached) = (full.steps, cached.steps);
    if extrapolated && options.rule == Rule::Quota {
        n_full = if options.cache == Cache::None { options.steps } else { options.n_blocks() };
        n_cached = options.steps - n_full;
        tokens = options.gen_length;
    } else if extrapolated {
        // A rule's steps cannot be foreseen; what it committed so far tells how many the rest will take.
        let scale = |steps: usize| steps * options.gen_length / tokens.max(1);
        (n_full, n_cached) = (scale(n_full), scale(n_cached));
        tokens = options.gen_length;
    }
    let (full, cached) = (full.scaled(n_full), cached.scaled(n_cached));
    Ok(Measured {
        forwards: n_full + n_cached,
        rows: full.1 + cached.1,
        flops: full.2 + cached.2,
        seconds: full.0 + cached.0,
        tokens,
        extrapolated,
    })
}
