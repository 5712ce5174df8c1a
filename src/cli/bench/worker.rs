//! `diffa bench worker`.

use std::path::PathBuf;

use clap::Args;
use diffa::ModelPaths;
use diffa::Result;
use diffa::bench::worker::Worker;
use diffa::model::encoder::Encoder;
use diffa::model::{Llada, Part};

use crate::cli::args::Global;
use crate::cli::load;
use crate::cli::terminal::Terminal;

pub(super) const HELP: &str = "\
Once loaded it prints `ready {json}`. Then each input line `WORK REPS` does that work so often and is answered with \
{\"ok\":true}; `show WORK` does it once and also answers with results to compare. Works with --llm: fwd (600 rows, \
logits of the last 16), blk16, blk32 (the last rows against kept keys and values). With --whisper: mel, enc, both.

Example:
  printf 'fwd 3\\nshow fwd\\n' | diffa bench worker --llm DIR";

#[derive(Debug, Args)]
pub(in crate::cli) struct WorkerArgs {
    /// LLaDA folder.
    #[arg(long, value_name = "DIR", required_unless_present = "whisper", conflicts_with = "whisper")]
    llm: Option<PathBuf>,
    /// Whisper folder.
    #[arg(long, value_name = "DIR")]
    whisper: Option<PathBuf>,
    /// Clip to hear instead of a rising tone.
    #[arg(long, value_name = "AUDIO", requires = "whisper")]
    clip: Option<PathBuf>,
}

pub(super) fn run(term: &Terminal, global: &Global, args: &WorkerArgs) -> Result<()> {
    let gpu = load::open(term, global)?;
    let paths = ModelPaths { llm: args.llm.clone(), whisper: args.whisper.clone(), ..Default::default() };
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let nothing = |_| crate::cli::interrupt::check();
    if args.llm.is_some() {
        let config = paths.llada_config()?;
        let llada = Llada::load(&gpu, &paths.checkpoint(Part::Llm)?, &config, &nothing)?;
        return Worker::llada(&gpu, &llada)?.serve(input, output);
    }
    let config = paths.whisper_config()?;
    let samples = args.clip.as_ref().map(|clip| load::audio(clip, &config)).transpose()?;
    let encoder = Encoder::load(&gpu, &paths.checkpoint(Part::Whisper)?, &config, &[], &nothing)?;
    Worker::whisper(&gpu, &encoder, samples.map(|(wave, _)| wave.samples))?.serve(input, output)
}
