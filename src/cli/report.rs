//! `diffa report`: several runs of one benchmark in one table.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use comfy_table::{CellAlignment, Table, presets};
use diffa::eval::runs::{self, Cost, Run, Runs};
use diffa::{Error, Result};

use super::terminal;

pub(super) const HELP: &str = "\
Columns: the benchmark's number with its 95 % interval; seconds and forwards (NFE) for an answer, and the real-time \
factor, as means of what the rows note in `seconds`, `nfe`, `rtf`; the paired difference against the baseline with \
its 95 % interval, and McNemar's exact p-value. A row with an `error` and no answer counts as wrong and has no cost. \
Runs are called by the `preset` in their rows, or else by their file.

Examples:
  diffa report exact.jsonl balanced.jsonl fast.jsonl
  diffa report *.jsonl --baseline exact.jsonl --markdown
  diffa report a-openbookqa-test.jsonl b-openbookqa-test.jsonl --json";

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Answer files of one benchmark, one for each run.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Benchmark, or the VoiceBench evaluator, if the rows do not tell.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(
        ["mmsu", "mmau", "voicebench", "open", "qa", "mcq", "bbh", "harm", "ifeval"]))]
    benchmark: Option<String>,
    /// VoiceBench subset, if neither the rows nor the files' names tell.
    #[arg(long, value_name = "NAME")]
    subset: Option<String>,
    /// The file to measure the others against; the first if not given.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// A Markdown table.
    #[arg(long)]
    markdown: bool,
}

/// Runs the command.
pub(super) fn run(args: &ReportArgs) -> Result<()> {
    let benchmark = args.benchmark.as_deref().map(str::parse).transpose()?;
    let runs = runs::table(&args.files, benchmark, args.subset.as_deref(), args.baseline.as_deref())?;
    if args.json {
        let text = serde_json::to_string(&runs)
            .map_err(|e| Error::usage("--json", format!("the runs cannot be written: {e}")))?;
        return terminal::print(&text);
    }
    terminal::print(&table(&runs, args.markdown))
}

/// The runs as a table for the terminal or for Markdown.
fn table(runs: &Runs, markdown: bool) -> String {
    let has = |cost: fn(&Run) -> &Option<Cost>| runs.runs.iter().any(|run| cost(run).is_some());
    let metric = runs.runs.first().map_or("score", |run| run.score.name);
    let mut head = vec![runs.subset.as_str(), "answers", "errors", metric, "95 %", "s/item", "NFE/item"];
    if has(|run| &run.rtf) {
        head.push("RTF");
    }
    let against = format!("against {}", runs.baseline);
    head.extend([against.as_str(), "p"]);
    let mut table = Table::new();
    table.load_style(if markdown { presets::ASCII_MARKDOWN } else { presets::NOTHING });
    table.set_header(&head);
    for run in &runs.runs {
        let mean = |cost: &Option<Cost>, digits: usize| {
            cost.map_or_else(|| "-".to_owned(), |cost| format!("{:.digits$}", cost.mean))
        };
        let mut cells = vec![
            run.name.replace('|', "\\|"),
            run.answers.to_string(),
            run.errors.to_string(),
            run.score.shown(),
            run.score.range().unwrap_or_else(|| "-".to_owned()),
            mean(&run.seconds, 3),
            mean(&run.nfe, 1),
        ];
        if has(|run| &run.rtf) {
            cells.push(mean(&run.rtf, 3));
        }
        let versus = run.versus_baseline.as_ref();
        cells.push(versus.map_or_else(|| "-".to_owned(), |versus| versus.difference.to_string()));
        let outcomes = versus.and_then(|versus| versus.outcomes);
        cells.push(outcomes.map_or_else(|| "-".to_owned(), |found| format!("{:.4}", found.mcnemar.exact_p)));
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.trim_fmt();
    for run in &runs.runs {
        if let Some(unpaired) = run.versus_baseline.as_ref().map(|versus| versus.unpaired).filter(|n| *n > 0)
        {
            let name = &run.name;
            text += &format!("\n\nnote: {unpaired} answers of {name} and {} have no partner", runs.baseline);
        }
    }
    text
}
