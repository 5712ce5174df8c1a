//! `diffa bench merge`.

use std::path::PathBuf;

use clap::Args;
use diffa::bench::report::{Report, table};
use diffa::{Error, Result};

use crate::cli::terminal;

pub(super) const HELP: &str = "\
Of a case's variants each machine's own choice is shown, or its fastest where none is marked.

Example:
  diffa bench merge laptop.json server.json > table.md";

#[derive(Debug, Args)]
pub(in crate::cli) struct MergeArgs {
    /// Reports of the same command, as its --json printed them.
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &MergeArgs) -> Result<()> {
    let reports: Vec<Report> =
        args.files.iter().map(|file| Report::read("FILE.json", file)).collect::<Result<_>>()?;
    let first = &reports[0].kind;
    if let Some(other) = reports.iter().find(|report| report.kind != *first) {
        let reason = format!("a report of `bench {}` does not go with one of `bench {first}`", other.kind);
        return Err(Error::usage("FILE.json", reason));
    }
    terminal::print(&table::merged(&reports))
}
