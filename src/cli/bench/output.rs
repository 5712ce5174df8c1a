//! Where a report goes: text as it grows, or JSON, or CSV; a page; a comparison with an earlier one.

use std::path::PathBuf;

use clap::Args;
use diffa::bench::report::compare::compare;
use diffa::bench::report::{Report, html, table};
use diffa::{Error, Result};
use serde_json::json;

use crate::cli::load::check_target;
use crate::cli::terminal;

/// What to do with the report.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// One JSON object instead of text; can be compared and merged later.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values instead of text.
    #[arg(long)]
    csv: bool,
    /// Also writes a self-contained page with plots.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// An earlier --json of the same command: ratios of time for each case, and which exceed the noise.
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
}

/// The report of a command and its way out.
pub(super) struct Output<'a> {
    args: &'a OutputArgs,
    old: Option<Report>,
}

impl<'a> Output<'a> {
    /// Checks what can be checked before the work.
    pub(super) fn new(args: &'a OutputArgs, kind: &str) -> Result<Output<'a>> {
        if let Some(path) = &args.html {
            check_target("--html", path, args.compare.as_deref())?;
        }
        let old = args.compare.as_ref().map(|path| Report::read("--compare", path)).transpose()?;
        if let Some(old) = old.as_ref().filter(|old| old.kind != kind) {
            return Err(Error::usage("--compare", format!("is a report of `bench {}`", old.kind)));
        }
        Ok(Output { args, old })
    }

    /// True if text is printed as it grows.
    pub(super) fn is_text(&self) -> bool {
        !self.args.json && !self.args.csv
    }

    /// Prints a line of text, if text is wanted.
    pub(super) fn text(&self, line: &str) -> Result<()> {
        if self.is_text() { terminal::print(line) } else { Ok(()) }
    }

    /// Prints the head, if text is wanted.
    pub(super) fn head(&self, report: &Report) -> Result<()> {
        self.text(&table::head(&report.head, report.peaks.as_ref()))
    }

    /// Everything that is printed or written at the end.
    pub(super) fn finish(&self, report: &Report) -> Result<()> {
        let comparison = self.old.as_ref().map(|old| compare(old, report));
        if let Some(path) = &self.args.html {
            std::fs::write(path, html::page(report)).map_err(Error::io("write", path))?;
        }
        if self.args.json {
            let mut object = report.json();
            if let Some(comparison) = &comparison {
                object["comparison"] = json!(comparison);
            }
            return terminal::print(&object.to_string());
        }
        if self.args.csv {
            terminal::print(&table::csv(report))?;
        }
        match &comparison {
            Some(comparison) => self.text(&format!("\n{}", table::comparison(comparison))),
            None => Ok(()),
        }
    }
}
