//! `diffa bench model`.

use clap::Args;
use diffa::Result;
use diffa::bench::model;
use diffa::bench::report::{Report, table};
use diffa::model::encoder::Encoder;
use diffa::model::{Llada, Part};
use serde_json::json;

use super::output::{Output, OutputArgs};
use super::{PartArgs, seconds};
use crate::cli::args::{Global, length};
use crate::cli::terminal::Terminal;
use crate::cli::{interrupt, load};

pub(super) const HELP: &str = "\
A forward computes logits of the last 16 rows from token ids; a block step those of the last 16 or 32 rows against \
kept keys and values of all others. Each is run as a whole and, turn by turn in the same minutes, one dispatch at a \
time: `gaps` is the wall time of the whole over the sum of the dispatches' own times (1 is none), by timestamps where \
the adapter has them.

Examples:
  diffa bench model                                           the built-in demo model
  diffa bench model --llm DIR --rows 565 --json";

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchModelArgs {
    /// Rows of a forward: prompt, audio and answer together.
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = length(), allow_negative_numbers = true)]
    rows: usize,
    /// Seconds for each work.
    #[arg(long, value_name = "S", default_value_t = 5.0, allow_negative_numbers = true)]
    seconds: f64,
    #[command(flatten)]
    parts: PartArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(term: &Terminal, global: &Global, args: &BenchModelArgs) -> Result<()> {
    let output = Output::new(&args.output, "model")?;
    let budget = seconds("--seconds", args.seconds)?;
    let gpu = load::open(term, global)?;
    let paths = args.parts.paths();
    let settings = json!({ "model": args.parts.name(), "rows": args.rows, "seconds": args.seconds });
    let mut report = Report::new("model", &gpu, settings);
    output.head(&report)?;
    output.text("")?;
    if args.parts.wants_whisper() {
        let config = paths.whisper_config()?;
        let bar = term.bytes("loading", paths.load_bytes(&[Part::Whisper])?);
        let checkpoint = paths.checkpoint(Part::Whisper)?;
        let encoder = Encoder::load(&gpu, &checkpoint, &config, &[], &load::advance(&bar))?;
        bar.finish_and_clear();
        let bar = term.spinner("encoding");
        report.rows.extend(model::encoder(&gpu, &encoder, budget)?);
        bar.finish_and_clear();
        show(&output, &report.rows)?;
    }
    interrupt::check()?;
    if args.parts.wants_llm() {
        let config = paths.llada_config()?;
        let bar = term.bytes("loading", paths.load_bytes(&[Part::Llm])?);
        let llada =
            Llada::load(&gpu, &paths.checkpoint(Part::Llm)?, &config, paths.quantize, &load::advance(&bar))?;
        bar.finish_and_clear();
        let bar = term.spinner("forwards");
        let rows = model::llada(&gpu, &llada, args.rows, budget)?;
        bar.finish_and_clear();
        show(&output, &rows)?;
        report.rows.extend(rows);
    }
    output.finish(&report)
}

fn show(output: &Output<'_>, rows: &[diffa::bench::report::Row]) -> Result<()> {
    rows.iter().try_for_each(|row| output.text(&table::model_lines(row)))
}
