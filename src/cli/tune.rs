//! `diffa tune`: finds the fastest kernels for a model on this adapter and keeps the result.

use std::time::Duration;

use clap::{Args, ValueEnum};
use diffa::ops::Rounding;
use diffa::tune::{Entry, Tuner, Tuning, works};
use diffa::{DecodeOptions, Error, Result};
use serde_json::json;

use super::args::{Global, ModelArgs};
use super::terminal::{self, Terminal};
use super::{interrupt, load};

pub(super) const HELP: &str = "\
Later commands on the same adapter and driver use the result by themselves; `diffa devices` shows it. It is kept in \
the user's cache folder, or in the file given with --tuning.

Examples:
  diffa tune                                   for the built-in demo model
  diffa tune --model DIR --rows 32,128,600
  diffa tune --model DIR --allow f16           also matrix units (cooperative matrices), where there are any
  diffa tune --model DIR --quantize q8 --allow int8";

#[derive(Debug, Args)]
pub(super) struct TuneArgs {
    /// Rows of the language model's forwards: a block, and whole sequences.
    #[arg(long, value_delimiter = ',', value_name = "N,N..", default_value = "16,32,128,512,1024")]
    rows: Vec<usize>,
    /// Seconds to repeat each candidate for.
    #[arg(long, value_name = "S", default_value_t = 0.2)]
    seconds: f64,
    /// Also try variants that round what they multiply (sums stay f32): f16 for both operands on matrix units,
    /// int8 for activations with quantized weights.
    #[arg(long, value_delimiter = ',', value_name = "f16,int8")]
    allow: Vec<Allowed>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// A rounding that may be traded for speed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Allowed {
    F16,
    Int8,
}

/// Runs the command.
pub(super) fn run(term: &Terminal, global: &Global, args: &TuneArgs) -> Result<()> {
    if !(args.seconds.is_finite() && args.seconds >= 0.0 && args.seconds <= 3600.0) {
        return Err(Error::usage("--seconds", "must be between 0 and 3600"));
    }
    if args.rows.contains(&0) || args.rows.iter().any(|rows| *rows > 65_536) {
        return Err(Error::usage("--rows", "must be between 1 and 65536 each"));
    }
    let gpu = load::open_untuned(term, global)?;
    let path = load::tuning_path(global, &gpu.caps().describe()).ok_or_else(|| {
        Error::usage("--tuning", "must name a file: this system has no cache folder, or tuning is off")
    })?;
    let paths = args.model.paths();
    let text_only = !paths.is_demo() && paths.model.is_none() && paths.whisper.is_none();
    let (model, _) = load::model(term, &gpu, &paths, !text_only, &DecodeOptions::default())?;
    let mut tuning = Tuning::read(&path, &gpu.caps().describe())?.unwrap_or_else(|| Tuning::new(&gpu));
    let all = works(model.llada(), model.hearing().ok(), &args.rows);
    let allowed: Vec<Rounding> = args
        .allow
        .iter()
        .map(|allowed| match allowed {
            Allowed::F16 => Rounding::F16,
            Allowed::Int8 => Rounding::Int8,
        })
        .collect();
    let tuner = Tuner::new(&gpu, Duration::from_secs_f64(args.seconds), &allowed)?;
    let bar = term.items("tuning", 0, all.len());
    let mut found: Vec<Entry> = Vec::new();
    let mut stopped = Ok(());
    for work in all {
        // What is measured is kept, whatever happens.
        match interrupt::check().and_then(|()| tuner.measure(work)) {
            Ok(entry) => {
                tuning.insert(entry.clone());
                found.push(entry);
            }
            Err(error) => {
                stopped = Err(error);
                break;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    tuning.write(&path)?;
    if args.json {
        terminal::print(&json!({ "file": path, "adapter": tuning.adapter, "entries": found }).to_string())?;
    } else {
        for entry in &found {
            let best = entry.trials.first();
            let (name, ms) = best.map_or(("-", 0.0), |trial| (trial.variant.as_str(), 1e3 * trial.seconds));
            let gain = entry.gain().unwrap_or(1.0);
            terminal::print(&format!(
                "{:<40} {name:<16} {ms:>9.2} ms   {gain:.2}x of built-in {}",
                entry.key, entry.built_in
            ))?;
            for (variant, reason) in &entry.refused {
                term.note(&format!("{}: {variant} is left out: {reason}", entry.key));
            }
        }
        terminal::print(&format!("kept in {}", path.display()))?;
    }
    stopped
}
