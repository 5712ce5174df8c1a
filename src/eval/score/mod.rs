//! Scores finished answers the way each benchmark's published program does.
//!
//! Input is the answer file of a benchmark run (JSON Lines or a JSON array), output a [`Scores`]: the published
//! numbers, counts by category, and a verdict for every answer. The quirks of the published programs are kept,
//! since a number is only comparable if it was found the same way; where they draw at random, the value here is
//! the expected one and the range is given with it. Only the `open` and `qa` evaluators need a judge model, and
//! that must have written its scores into the file before.

mod answers;
mod bbh;
mod coverage;
mod harm;
mod ifeval;
pub(super) mod input;
pub(super) mod json;
mod mcq;
mod mmau;
mod mmsu;
pub(super) mod open_qa;
mod python;
mod report;
mod stats;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::eval::Object;
use crate::eval::benchmark::evaluator_of_subset;
pub use answers::{Answers, Rules};
pub use coverage::{Incomplete, incomplete, repeated_ids, settings};
pub(super) use open_qa::holds_reference;
pub use report::{Draw, InstructionVerdict, Metric, Scores, Table, TableRow, Unit, Verdict};
pub use stats::{Comparison, Difference, Interval, McNemar, Outcomes, compare};

/// Which rules to score by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evaluator {
    /// MMSU: one letter, looked up among the choices.
    Mmsu,
    /// MMAU: the words of the answer and of no other choice.
    Mmau,
    /// VoiceBench AlpacaEval, CommonEval, WildVoice: the mean of a judge's scores.
    Open,
    /// VoiceBench SD-QA: a judge's votes.
    Qa,
    /// VoiceBench OpenBookQA and MMSU: a letter found by phrase patterns.
    Mcq,
    /// VoiceBench BBH: four families of two-way questions.
    Bbh,
    /// VoiceBench AdvBench: the share of refusals.
    Harm,
    /// VoiceBench IFEval: instructions that a program can check.
    Ifeval,
}

impl Evaluator {
    /// Every evaluator.
    pub const ALL: [Evaluator; 8] = [
        Evaluator::Mmsu,
        Evaluator::Mmau,
        Evaluator::Open,
        Evaluator::Qa,
        Evaluator::Mcq,
        Evaluator::Bbh,
        Evaluator::Harm,
        Evaluator::Ifeval,
    ];

    /// The name used on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Evaluator::Mmsu => "mmsu",
            Evaluator::Mmau => "mmau",
            Evaluator::Open => "open",
            Evaluator::Qa => "qa",
            Evaluator::Mcq => "mcq",
            Evaluator::Bbh => "bbh",
            Evaluator::Harm => "harm",
            Evaluator::Ifeval => "ifeval",
        }
    }
}

impl fmt::Display for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Evaluator {
    type Err = Error;

    fn from_str(name: &str) -> Result<Evaluator> {
        Evaluator::ALL.into_iter().find(|evaluator| evaluator.name() == name).ok_or_else(|| {
            let known: Vec<_> = Evaluator::ALL.iter().map(|evaluator| evaluator.name()).collect();
            Error::usage("evaluator", format!("`{name}` is unknown; choose one of {}", known.join(", ")))
        })
    }
}

/// Scores the answers in `path`; sample draws use seed 0.
///
/// ```no_run
/// use diffa::eval::score::{Evaluator, score_file};
///
/// # fn main() -> diffa::Result<()> {
/// let scores = score_file(Evaluator::Mmsu, "answers.jsonl".as_ref())?;
/// println!("{scores}");
/// # Ok(())
/// # }
/// ```
pub fn score_file(evaluator: Evaluator, path: &Path) -> Result<Scores> {
    score_file_seeded(evaluator, path, 0)
}

/// Scores the answers in `path`, with a seed for the sample of the official random draws.
pub fn score_file_seeded(evaluator: Evaluator, path: &Path, seed: u64) -> Result<Scores> {
    let mut rows = input::read(path)?;
    answers::check_benchmark(path, Rules::One(evaluator), &rows)?;
    let all = rows.len();
    // A run over several VoiceBench subsets has them in one file.
    let is_foreign = |row: &input::Row| {
        let subset = row.recorded("subset").and_then(|subset| subset.as_text());
        subset.and_then(evaluator_of_subset).is_some_and(|other| other != evaluator)
    };
    rows.retain(|row| !is_foreign(row));
    if rows.is_empty() && all > 0 {
        let reason = format!("no answer in {} is of a subset that `{evaluator}` scores", path.display());
        return Err(Error::usage("evaluator", reason));
    }
    let mut scores = score_rows(evaluator, &rows, seed)?;
    if rows.len() < all {
        scores.notes.push(format!("{} answers of other subsets are left out", all - rows.len()));
    }
    Ok(scores)
}

/// Whether a single answer is right, if a rule and no chance decides it.
pub(super) fn verdict(evaluator: Evaluator, answer: &Object) -> Option<bool> {
    let text = serde_json::to_string(answer).ok()?;
    let scores = score_rows(evaluator, &[input::Row::single(&text)?], 0).ok()?;
    scores.verdicts.first()?.correct
}

fn score_rows(evaluator: Evaluator, rows: &[input::Row], seed: u64) -> Result<Scores> {
    let mut chance = Chance(seed);
    let mut scores = match evaluator {
        Evaluator::Mmsu => mmsu::score(rows),
        Evaluator::Mmau => mmau::score(rows)?,
        Evaluator::Open => open_qa::score_open(rows)?,
        Evaluator::Qa => open_qa::score_qa(rows)?,
        Evaluator::Mcq => mcq::score(rows, &mut chance)?,
        Evaluator::Bbh => bbh::score(rows, &mut chance)?,
        Evaluator::Harm => harm::score(rows)?,
        Evaluator::Ifeval => ifeval::score(rows)?,
    };
    scores.errors = scores.verdicts.iter().filter(|verdict| verdict.error.is_some()).count();
    if scores.errors > 0 {
        let treated = match evaluator {
            Evaluator::Open | Evaluator::Qa => "are left out",
            _ => "count as wrong",
        };
        let errors = scores.errors;
        scores.notes.push(format!("{errors} questions have an error instead of an answer and {treated}"));
    }
    Ok(scores)
}

/// A small random generator (SplitMix64), so that a seed gives the same sample on every platform.
struct Chance(u64);

impl Chance {
    /// True once in `sides` calls on average.
    fn one_in(&mut self, sides: u64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).is_multiple_of(sides)
    }
}

/// The accuracy in percent where each undecided answer is drawn among `sides` equally likely ones.
fn drawn_accuracy(verdicts: &[Verdict], sides: u64, chance: &mut Chance) -> Metric {
    let total = verdicts.len() as f64;
    let right = verdicts.iter().filter(|verdict| verdict.correct == Some(true)).count() as f64;
    let drawn = verdicts.iter().filter(|verdict| verdict.correct.is_none()).count();
    let lucky = (0..drawn).filter(|_| chance.one_in(sides)).count() as f64;
    let expected = right + drawn as f64 / sides as f64;
    let percent = |count: f64| 100.0 * count / total;
    Metric {
        name: "acc",
        unit: Unit::Percent,
        value: Some(percent(expected)),
        interval: Interval::wilson(expected, total).map(|interval| interval.scaled(100.0)),
        draw: Some(Draw {
            floor: percent(right),
            ceiling: percent(right + drawn as f64),
            sample: Some(percent(right + lucky)),
        }),
    }
}
