//! `diffa score`: the official scorers' numbers for a file of answers.

use diffa::eval::score::{Evaluator, compare, score_file};
use diffa::{Error, Result};

use super::args::ScoreArgs;
use super::terminal;

/// Runs the command.
pub(super) fn run(args: &ScoreArgs) -> Result<()> {
    let evaluator: Evaluator = args.evaluator.parse()?;
    let scores = score_file(evaluator, &args.file)?;
    let comparison = match &args.compare {
        Some(other) => Some(compare(&scores, &score_file(evaluator, other)?)?),
        None => None,
    };
    if args.json {
        let fail =
            |e: serde_json::Error| Error::usage("--json", format!("the scores cannot be written: {e}"));
        let mut object = serde_json::to_value(&scores).map_err(fail)?;
        if let Some(comparison) = &comparison {
            object["comparison"] = serde_json::to_value(comparison).map_err(fail)?;
        }
        return terminal::print(&object.to_string());
    }
    terminal::print(scores.to_string().trim_end())?;
    match comparison {
        Some(comparison) => terminal::print(&format!("\n{comparison}")),
        None => Ok(()),
    }
}
