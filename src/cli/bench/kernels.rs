//! `diffa bench kernels`.

use std::time::Duration;

use clap::Args;
use diffa::bench::kernels::{Event, Selection, run as measure};
use diffa::bench::peak::Peaks;
use diffa::bench::report::{Report, table};
use diffa::{Error, Result};
use serde_json::json;

use super::output::{Output, OutputArgs};
use super::seconds;
use crate::cli::args::{Global, length};
use crate::cli::terminal::Terminal;
use crate::cli::{interrupt, load};

pub(super) const HELP: &str = "\
Columns: median time of one run; (largest - smallest) / median of the samples; wall time; operations and bytes per \
second, each with its share of what this adapter reached in the same run at multiplying f32 and at copying; largest \
error among sampled outputs against f64, relative to their root mean square. On a software adapter times are CPU \
seconds of the process, so rates are those of one core. Whisper-small's shapes do not depend on --rows.

Examples:
  diffa bench kernels                                         a few minutes at most
  diffa bench kernels --filter attention --rows 16,32,600
  diffa bench kernels --json > before.json; diffa bench kernels --compare before.json
  diffa bench kernels --all --html kernels.html               everything, however long it takes";

#[derive(Debug, Args)]
pub(in crate::cli) struct KernelsArgs {
    /// Rows of the language models' operations; 32 on a software adapter, otherwise 1 to 1500, if not given.
    #[arg(long, value_delimiter = ',', value_name = "N,N...", value_parser = length(), allow_negative_numbers = true)]
    rows: Vec<usize>,
    /// Only cases with this text in operation, model, sizes or variant.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Seconds for each case.
    #[arg(long, value_name = "S", default_value_t = 0.4, allow_negative_numbers = true)]
    seconds: f64,
    /// Starts no case after so many seconds.
    #[arg(long, value_name = "S", default_value_t = 180.0, allow_negative_numbers = true)]
    total: f64,
    /// Every case however long it takes, and the whole head of LLaDA-8B.
    #[arg(long)]
    all: bool,
    /// Does not compute sampled outputs again in f64.
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(term: &Terminal, global: &Global, args: &KernelsArgs) -> Result<()> {
    let output = Output::new(&args.output, "kernels")?;
    let (each, total) = (seconds("--seconds", args.seconds)?, seconds("--total", args.total)?);
    let gpu = load::open(term, global)?;
    let rows = if args.rows.is_empty() { Selection::default_rows(&gpu) } else { args.rows.clone() };
    let selection = Selection {
        rows,
        filter: args.filter.clone(),
        all: args.all,
        seconds: each.as_secs_f64(),
        total: total.as_secs_f64(),
        check: !args.no_check,
    };
    let bar = term.cases("measuring");
    let peaks = Peaks::measure(&gpu, Duration::from_secs_f64(each.as_secs_f64().min(1.0)))?;
    let settings = json!({ "rows": selection.rows, "filter": selection.filter, "all": selection.all,
        "seconds": selection.seconds, "total": selection.total, "check": selection.check });
    let mut report = Report::new("kernels", &gpu, settings);
    report.peaks = Some(peaks);
    output.head(&report)?;
    let mut case = String::new();
    let found = measure(&gpu, &selection, &peaks, &mut |event| {
        match event {
            Event::Next(i, n, planned) => {
                interrupt::check()?;
                bar.set_length(n as u64);
                bar.set_position(i as u64);
                bar.set_message(planned.name.clone());
            }
            Event::Row(row) => {
                let new = row.case != case;
                let titles =
                    if case.is_empty() { format!("\n{}", table::kernel_titles()) } else { String::new() };
                case.clone_from(&row.case);
                let heading = if new { format!("{titles}\n{case}\n") } else { String::new() };
                bar.suspend(|| output.text(&format!("{heading}{}", table::kernel_line(row))))?;
            }
        }
        Ok(())
    });
    bar.finish_and_clear();
    (report.rows, report.skipped) = found?;
    if report.rows.is_empty() && report.skipped.is_empty() {
        let filter = args.filter.as_deref().unwrap_or_default();
        return Err(Error::usage("--filter", format!("no case has `{filter}` in it")));
    }
    for line in table::skipped(&report.skipped) {
        output.text(&line)?;
    }
    output.finish(&report)
}
