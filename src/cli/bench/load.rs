//! `diffa bench load`.

use clap::Args;
use diffa::bench::Clock;
use diffa::bench::load::{Loaded, files, forget, measure, read_all};
use diffa::bench::report::{Report, Row, table};
use diffa::model::encoder::Encoder;
use diffa::model::{Llada, Part};
use diffa::{Error, Result};
use indicatif::BinaryBytes;
use serde_json::json;

use super::PartArgs;
use super::output::{Output, OutputArgs};
use crate::cli::args::Global;
use crate::cli::load;
use crate::cli::terminal::Terminal;

pub(super) const HELP: &str = "\
The same files are first read from end to end, as by `cat FILES > /dev/null`, then loaded; `share` is the load's rate \
over the reading's. Without --cold the files are read once before, so that both find them in memory; but a checkpoint that main memory \
cannot keep beside what is loaded is read from the disk in any case (Linux). Peak memory is \
what the process held at most (Linux); on a software adapter that holds the weights too.

Examples:
  diffa bench load --llm DIR
  diffa bench load --model DIR --cold --json";

#[derive(Debug, Args)]
pub(in crate::cli) struct LoadArgs {
    /// Drops the files from the page cache before reading and before loading.
    #[arg(long)]
    cold: bool,
    #[command(flatten)]
    parts: PartArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(term: &Terminal, global: &Global, args: &LoadArgs) -> Result<()> {
    let output = Output::new(&args.output, "load")?;
    let paths = args.parts.paths();
    if paths.is_demo() {
        return Err(Error::usage(
            "--model, --llm or --whisper",
            "is needed; the demo model is part of the program",
        ));
    }
    let gpu = load::open(term, global)?;
    let settings = json!({ "model": args.parts.name(), "cold": args.cold });
    let mut report = Report::new("load", &gpu, settings);
    report.head.clock = Clock::Wall.name().into();
    output.head(&report)?;
    output.text("")?;
    let wanted = [(args.parts.wants_whisper(), Part::Whisper), (args.parts.wants_llm(), Part::Llm)];
    for (_, part) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
        let files = files(&paths.checkpoint(part)?);
        let prepare = || -> Result<()> {
            if args.cold {
                if !forget(&files)? {
                    term.warn("this system has no way to drop files from its cache; the load is warm");
                }
                return Ok(());
            }
            read_all(&files, &|_| crate::cli::interrupt::check()).map(|_| ())
        };
        prepare()?;
        let bytes = paths.load_bytes(&[part])?;
        let bar = term.bytes("reading", bytes);
        let (read_bytes, read_seconds) = read_all(&files, &load::advance(&bar))?;
        bar.finish_and_clear();
        prepare()?;
        let bar = term.bytes("loading", bytes);
        let progress = load::advance(&bar);
        // Opened again within the time: parsing headers and mapping files are part of a load.
        let loaded = match part {
            Part::Whisper => {
                let config = paths.whisper_config()?;
                let load = || {
                    let encoder = Encoder::load(&gpu, &paths.checkpoint(part)?, &config, &[], &progress)?;
                    gpu.wait().map(|()| encoder)
                };
                measure(load)?.1
            }
            _ => {
                let config = paths.llada_config()?;
                let load = || {
                    let checkpoint = paths.checkpoint(part)?;
                    let llada = Llada::load(&gpu, &checkpoint, &config, paths.quantize, &progress)?;
                    gpu.wait().map(|()| llada)
                };
                measure(load)?.1
            }
        };
        bar.finish_and_clear();
        let row = row(part, bytes, (read_bytes, read_seconds), &loaded, args.cold);
        output.text(&line(&row))?;
        report.rows.push(row);
    }
    output.finish(&report)
}

fn row(part: Part, bytes: u64, (read_bytes, read_seconds): (u64, f64), loaded: &Loaded, cold: bool) -> Row {
    let (rate, read_rate) = (bytes as f64 / loaded.seconds, read_bytes as f64 / read_seconds.max(1e-9));
    let mut row = Row::new(part.folder(), if cold { "cold" } else { "warm" }, loaded.seconds, 0.0);
    row.spread = None; // one sample
    row.set("gbyte", json!(bytes as f64 / 1e9));
    row.set("gbyte_per_second", json!(rate / 1e9));
    row.set("cpu_seconds", json!(loaded.cpu));
    row.set("read_seconds", json!(read_seconds));
    row.set("read_gbyte_per_second", json!(read_rate / 1e9));
    row.set("share_of_reading", json!(rate / read_rate));
    row.set("peak_resident_bytes", json!(loaded.peak_resident));
    row.set("resident_before_bytes", json!(loaded.resident_before));
    row
}

fn line(row: &Row) -> String {
    let number = |name: &str| row.number(name).unwrap_or_default();
    let memory = match (row.number("peak_resident_bytes"), row.number("resident_before_bytes")) {
        (Some(peak), Some(before)) => {
            format!("{} resident at most, {} before", BinaryBytes(peak as u64), BinaryBytes(before as u64))
        }
        _ => "resident memory unknown".into(),
    };
    format!(
        "{} ({}): {:.2} GB in {}, {:.2} GB/s; reading alone {}, {:.2} GB/s: share {:.0}%; {memory}",
        row.case,
        row.variant,
        number("gbyte"),
        table::time(row.seconds),
        number("gbyte_per_second"),
        table::time(number("read_seconds")),
        number("read_gbyte_per_second"),
        100.0 * number("share_of_reading"),
    )
}
