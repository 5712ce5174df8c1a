//! Measuring which kernel variant is fastest on this adapter, and keeping the result.
//!
//! [`works`] lists the products, attentions and heads of a model, [`Tuner`] times every candidate of one at the
//! real inner length, and [`Tuning`] is the file: valid for one adapter, driver and state of the shaders.
//! Without it the built-in choices hold. Variants that round operands are tried only where the caller allows
//! it; the others differ in the order of f32 sums at most.

mod check;
mod works;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bench::{Measurement, Timer};
use crate::error::{Error, Result};
use crate::files::replace;
use crate::fnv::fnv1a;
use crate::gpu::{Choices, DType, Gpu};
use crate::ops::matmul::MatmulVariant;
use crate::ops::{REGISTRY, Rounding};
use works::{Candidate, Factors};
pub use works::{Output, Product, Work, works};

/// Time for finding the adapter's speed, when a program starts.
const CALIBRATION: Duration = Duration::from_millis(20);

/// A candidate and its time.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Trial {
    /// Name of the variant.
    pub variant: String,
    /// Seconds of one run, the median of several; processor time on software adapters.
    pub seconds: f64,
}

/// What was found for one work.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Entry {
    /// [`Work::key`].
    pub key: String,
    /// All candidates that ran, fastest first.
    pub trials: Vec<Trial>,
    /// Candidates that the device refused or computed wrongly, with the reasons.
    #[serde(default)]
    pub refused: Vec<(String, String)>,
    /// The built-in choice.
    pub built_in: String,
}

impl Entry {
    /// Time of the built-in choice over that of the fastest.
    pub fn gain(&self) -> Option<f64> {
        let built_in = self.trials.iter().find(|trial| trial.variant == self.built_in)?;
        Some(built_in.seconds / self.trials.first()?.seconds)
    }
}

/// Times works on one adapter.
#[derive(Debug)]
pub struct Tuner<'a> {
    gpu: &'a Gpu,
    timer: Timer,
    /// Time to spend on repeats of one candidate.
    budget: Duration,
    allowed: Vec<Rounding>,
}

impl<'a> Tuner<'a> {
    /// A tuner that repeats every candidate for about `budget`, and tries variants that round their operands only
    /// as `allowed`.
    ///
    /// Errors: device errors.
    pub fn new(gpu: &'a Gpu, budget: Duration, allowed: &[Rounding]) -> Result<Tuner<'a>> {
        Ok(Tuner { gpu, timer: Timer::new(gpu)?, budget, allowed: allowed.to_vec() })
    }

    /// Times every candidate of a work, in turn; slow ones for less than the budget. What the device refuses to
    /// compile or to run, or computes wrongly, is left out.
    ///
    /// Errors: a lost device, or too little memory for the operands.
    pub fn measure(&self, work: Work) -> Result<Entry> {
        let built_in = work.built_in(self.gpu.caps());
        let mut candidates = work.plans(self.gpu, &self.allowed)?;
        // First what the others are compared with.
        candidates.sort_by_key(|candidate| candidate.variant != built_in);
        let (mut names, mut plans, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut expected: Option<Vec<f32>> = None;
        for Candidate { variant, plan, runs, rounding, out } in candidates {
            // Many drivers compile at the first dispatch.
            let ran = plan.and_then(|plan| {
                plan.run(self.gpu)?;
                let found = out.read(self.gpu)?;
                let is_steady = rounding != Rounding::F16 || out.stays_the_same(self.gpu, &plan)?;
                Ok((plan, found, is_steady))
            });
            match ran {
                Ok((_, found, _))
                    if expected.as_ref().is_some_and(|e| !check::agrees(&found, e, rounding)) =>
                {
                    refused.push((variant, format!("its results are not those of {built_in}")));
                }
                Ok((_, _, false)) => refused.push((variant, "its results change from run to run".into())),
                Ok((plan, found, _)) => {
                    expected = expected.or(Some(found));
                    names.push((variant, runs));
                    plans.push(plan);
                }
                Err(lost @ Error::DeviceLost { .. }) => return Err(lost),
                Err(error) => refused.push((variant, error.to_string())),
            }
        }
        let measured = self.timer.compare(&plans.iter().collect::<Vec<_>>(), self.budget)?;
        let trial = |((variant, runs), measured): ((String, usize), Measurement)| Trial {
            variant,
            seconds: measured.seconds() / runs as f64,
        };
        let mut trials: Vec<Trial> = names.into_iter().zip(measured).map(trial).collect();
        trials.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        Ok(Entry { key: work.key(), trials, refused, built_in })
    }
}

/// Measures how fast the adapter multiplies and bounds its submits to `time`.
///
/// Errors: device errors.
pub fn limit_submits(gpu: &Gpu, dtype: DType, time: Duration) -> Result<()> {
    // Enough workgroups to fill a large GPU; a software adapter has few threads, and no time for more.
    let (rows, n) = if gpu.caps().is_software() { (64, 1024) } else { (512, 4096) };
    let product = Product { dtype, rows, n, k: 1024 }.fitting(gpu);
    let Product { rows, n, k, .. } = product;
    let factors = Factors::new(gpu, product, 1)?;
    let plan = factors.plan(gpu, MatmulVariant::choose(gpu, dtype, rows, n, k))?;
    plan.run(gpu)?;
    // Watchdogs go by the clock on the wall.
    let seconds = Timer::new(gpu)?.measure(&plan, CALIBRATION)?.wall();
    gpu.limit_submits((2 * rows * n * k) as f64 / seconds.max(1e-9), time);
    Ok(())
}

/// The measured choices of one adapter.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Tuning {
    /// Adapter, backend, driver.
    pub adapter: String,
    /// Fingerprint of all kernels: other shaders need other choices.
    pub shaders: String,
    /// What was found.
    pub entries: Vec<Entry>,
}

impl Tuning {
    /// An empty tuning for an adapter.
    pub fn new(gpu: &Gpu) -> Tuning {
        Tuning { adapter: gpu.caps().describe(), shaders: shaders(), entries: Vec::new() }
    }

    /// Adds or replaces what is known of one work.
    pub fn insert(&mut self, entry: Entry) {
        self.entries.retain(|known| known.key != entry.key);
        self.entries.push(entry);
    }

    /// The fastest variants, for [`Gpu::set_choices`].
    pub fn choices(&self) -> Choices {
        let first = |entry: &Entry| Some((entry.key.clone(), entry.trials.first()?.variant.clone()));
        self.entries.iter().filter_map(first).collect()
    }

    /// Where the choices for an adapter are kept: `tune-ADAPTER.json` in the user's cache folder.
    /// `None` if the system knows no such folder.
    pub fn path(describe: &str) -> Option<PathBuf> {
        let name = format!("tune-{:016x}.json", fnv1a(describe.bytes()));
        Some(dirs::cache_dir()?.join("diffa").join(name))
    }

    /// Reads a file. `None` if there is none, or if it is about another adapter, driver or other shaders.
    ///
    /// Errors: a file that is damaged.
    pub fn read(path: &Path, describe: &str) -> Result<Option<Tuning>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let tuning: Tuning = serde_json::from_str(&text).map_err(|e| {
            let reason = format!("{} is damaged ({e}); delete it and run `diffa tune` again", path.display());
            Error::usage("--tuning", reason)
        })?;
        Ok(Some(tuning).filter(|tuning| tuning.adapter == describe && tuning.shaders == shaders()))
    }

    /// Writes the file, whole or not at all.
    ///
    /// Errors: a folder that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::usage("--tuning", e.to_string()))?;
        replace(path, text.as_bytes())
    }
}

fn shaders() -> String {
    let fragments = crate::gpu::shader::FRAGMENTS.iter().map(|(_, text)| *text);
    let texts = REGISTRY.iter().map(|kernel| kernel.source).chain(fragments);
    format!("{:016x}", fnv1a(texts.flat_map(str::bytes)))
}
