//! `diffa bench ...`: measurements under one head, in one report form, and what is done with such reports.

mod decode;
mod kernels;
mod load;
mod merge;
mod model;
mod output;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use diffa::{Error, ModelPaths, Result};

use super::args::{Global, LlmArgs};
use super::terminal::Terminal;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Every kernel in every variant on the shapes of real models, as shares of this adapter's measured peaks.
    #[command(after_help = kernels::HELP)]
    Kernels(kernels::KernelsArgs),
    /// Encoder, forward and block steps of a model, and how much of their time the kernels themselves take.
    #[command(after_help = model::HELP)]
    Model(model::BenchModelArgs),
    /// Every decoder on one checkpoint: forwards, rows, work and time, as ratios against the exact one.
    #[command(after_help = decode::HELP)]
    Decode(decode::DecodeArgs),
    /// Loading a checkpoint, against plain reading of its files.
    #[command(after_help = load::HELP)]
    Load(load::LoadArgs),
    /// One Markdown table from the reports of several machines.
    #[command(after_help = merge::HELP)]
    Merge(merge::MergeArgs),
    /// Does fixed pieces of work on request over stdin and stdout, for a driver that times several engines.
    #[command(after_help = worker::HELP)]
    Worker(worker::WorkerArgs),
}

/// Runs the command.
pub(super) fn run(term: &Terminal, global: &Global, command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Kernels(args) => kernels::run(term, global, args),
        BenchCommand::Model(args) => model::run(term, global, args),
        BenchCommand::Decode(args) => decode::run(term, global, args),
        BenchCommand::Load(args) => load::run(term, global, args),
        BenchCommand::Merge(args) => merge::run(args),
        BenchCommand::Worker(args) => worker::run(term, global, args),
    }
}

/// Where the parts that are measured come from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
struct PartArgs {
    #[command(flatten)]
    llm: LlmArgs,
    /// Whisper folder, instead of the one in --model.
    #[arg(long, value_name = "DIR")]
    whisper: Option<PathBuf>,
}

impl PartArgs {
    fn paths(&self) -> ModelPaths {
        ModelPaths { whisper: self.whisper.clone(), ..self.llm.paths() }
    }

    /// True if the language model is wanted: always, unless the encoder alone was named.
    fn wants_llm(&self) -> bool {
        self.whisper.is_none() || self.llm.model.is_some() || self.llm.llm.is_some()
    }

    /// The same for the encoder.
    fn wants_whisper(&self) -> bool {
        self.llm.llm.is_none() || self.llm.model.is_some() || self.whisper.is_some()
    }

    /// What was measured, for the report.
    fn name(&self) -> String {
        name(&self.paths())
    }
}

/// What was measured, for a report: its folders, and how it was quantized.
fn name(paths: &ModelPaths) -> String {
    let folders = [&paths.model, &paths.llm, &paths.whisper].into_iter().flatten().map(|p| folder_name(p));
    let mut parts: Vec<String> = folders.collect();
    if parts.is_empty() {
        parts.push("demo".into());
    }
    parts.extend(paths.quantize.map(|to| to.name().to_string()));
    parts.join(", ")
}

/// The last parts of a path: enough to know it, without telling where on this machine it is.
fn folder_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A time in seconds given as an option; at most a day, so that nothing overflows.
fn seconds(option: &str, seconds: f64) -> Result<Duration> {
    let wrong = || Error::usage(option, format!("{seconds} is not between 0 and 86400 seconds"));
    Duration::try_from_secs_f64(seconds).ok().filter(|time| time.as_secs() <= 86_400).ok_or_else(wrong)
}
