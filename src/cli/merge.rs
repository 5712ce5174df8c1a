//! `diffa merge`: the answers of several shards as one file.

use std::path::PathBuf;

use clap::Args;
use diffa::Result;
use diffa::eval::merge;

use super::{load, terminal};

pub(super) const HELP: &str = "\
The files must be of one run, the same but for --shard, and together have every item once; whatever is missing, \
there twice, or answered differently is named. The result is in the order of the data.

Examples:
  diffa merge mmsu.jsonl mmsu.0.jsonl mmsu.1.jsonl mmsu.2.jsonl
  diffa merge mmau.json shards/*.json";

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// File to write.
    out: PathBuf,
    /// Answer files of all shards.
    #[arg(required = true, value_name = "SHARD")]
    shards: Vec<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &MergeArgs) -> Result<()> {
    load::check_target("OUT", &args.out, None)?;
    let merged = merge::merge(&args.out, &args.shards)?;
    let (n, files) = (merged.rows.len(), args.shards.len());
    terminal::print(&format!("{}: {n} items of {files} files: {}", merged.benchmark, args.out.display()))
}
