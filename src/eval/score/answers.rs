//! Answer files: what they hold, and which rules they are scored by.
//!
//! VoiceBench is ten subsets with six kinds of rules. Which subset a file is follows from the rows' field
//! `subset`, or else from the name that the published inference program gives to its files,
//! `MODEL-SUBSET-SPLIT-MODALITY.jsonl`. A file may hold several subsets if its rows say which.

use std::path::{Path, PathBuf};

use super::input::{self, Row};
use super::{Evaluator, Scores, Verdict, score_rows};
use crate::error::{Error, Result};
use crate::eval::benchmark::{Benchmark, SUBSETS, evaluator_of_subset};

/// What the user calls the rules: a benchmark, an evaluator, or VoiceBench as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// One evaluator for every file.
    One(Evaluator),
    /// VoiceBench: the evaluator of each file's subset.
    VoiceBench,
}

impl Rules {
    /// The benchmark that is scored by them.
    pub fn benchmark(self) -> Benchmark {
        match self {
            Rules::One(Evaluator::Mmsu) => Benchmark::Mmsu,
            Rules::One(Evaluator::Mmau) => Benchmark::Mmau,
            Rules::One(_) | Rules::VoiceBench => Benchmark::Voicebench,
        }
    }
}

impl std::str::FromStr for Rules {
    type Err = Error;

    fn from_str(name: &str) -> Result<Rules> {
        if name == "voicebench" { Ok(Rules::VoiceBench) } else { name.parse().map(Rules::One) }
    }
}

/// The answers of one file, or of one subset in it, that are scored together.
#[derive(Debug, Clone)]
pub struct Answers {
    /// The file.
    pub path: PathBuf,
    /// The benchmark or VoiceBench subset, for example `mmau`, `sd-qa`.
    pub subset: String,
    /// The split named by an official file name, for example `usa`.
    pub split: Option<String>,
    /// The rules.
    pub evaluator: Evaluator,
    pub(in crate::eval) rows: Vec<Row>,
}

impl Answers {
    /// Reads a file. VoiceBench rows that name several subsets become several entries, in order of appearance;
    /// `subset` overrides what the rows and the file's name say, and is for VoiceBench only.
    ///
    /// # Errors
    /// The file is unreadable or damaged, of another benchmark, or its subset is unknown.
    pub fn read(path: &Path, rules: Rules, subset: Option<&str>) -> Result<Vec<Answers>> {
        let rows = input::read(path)?;
        check_benchmark(path, rules, &rows)?;
        let answers = |subset: &str, split, evaluator, rows| Answers {
            path: path.to_path_buf(),
            subset: subset.to_owned(),
            split,
            evaluator,
            rows,
        };
        match (rules, subset) {
            (Rules::One(evaluator), None) => Ok(vec![answers(evaluator.name(), None, evaluator, rows)]),
            (Rules::One(_), Some(_)) => Err(Error::usage("--subset", "only VoiceBench has subsets")),
            (Rules::VoiceBench, Some(name)) => {
                let split = named_by(path).filter(|(subset, _)| *subset == name).and_then(|(_, split)| split);
                Ok(vec![answers(name, split, evaluator_of(name)?, rows)])
            }
            (Rules::VoiceBench, None) => {
                let named = named_by(path);
                let mut parts: Vec<Answers> = Vec::new();
                for row in rows {
                    let own = row.recorded("subset").and_then(|subset| subset.as_text());
                    let (subset, split) = match own.filter(|subset| evaluator_of(subset).is_ok()) {
                        Some(subset) => (subset.to_owned(), row.recorded("split").map(|split| split.label())),
                        None => named
                            .clone()
                            .map(|(subset, split)| (subset.to_owned(), split))
                            .ok_or_else(|| no_subset(path, &row, own))?,
                    };
                    match parts.iter_mut().find(|part| part.subset == subset && part.split == split) {
                        Some(part) => part.rows.push(row),
                        None => parts.push(answers(&subset, split, evaluator_of(&subset)?, vec![row])),
                    }
                }
                Ok(parts)
            }
        }
    }

    /// Reads a file whose benchmark is told by its rows: MMSU has `answer_gt`, MMAU `answer` and `choices`,
    /// everything else is VoiceBench.
    ///
    /// # Errors
    /// As for [`Answers::read`].
    pub fn detect(path: &Path) -> Result<Vec<Answers>> {
        let rows = input::read(path)?;
        let rules = match () {
            () if look_like(Benchmark::Mmsu, &rows) => Rules::One(Evaluator::Mmsu),
            () if look_like(Benchmark::Mmau, &rows) => Rules::One(Evaluator::Mmau),
            () => Rules::VoiceBench,
        };
        Answers::read(path, rules, None)
    }

    /// Joins what belongs to one subset, for example the twelve domains of VoiceBench's MMSU.
    pub fn pooled(parts: &[Answers]) -> Vec<Answers> {
        let mut pooled: Vec<Answers> = Vec::new();
        for part in parts {
            match pooled.iter_mut().find(|other| other.subset == part.subset) {
                Some(other) => {
                    other.rows.extend(part.rows.iter().cloned());
                    other.split = None;
                }
                None => pooled.push(part.clone()),
            }
        }
        pooled
    }

    /// The subset, with the split if there is one.
    pub fn label(&self) -> String {
        match &self.split {
            Some(split) if split != "test" => format!("{} {split}", self.subset),
            _ => self.subset.clone(),
        }
    }

    /// Scores the answers, with a seed for the sample of the official random draws.
    ///
    /// # Errors
    /// A row lacks what the rules need.
    pub fn score(&self, seed: u64) -> Result<Scores> {
        score_rows(self.evaluator, &self.rows, seed)
    }

    /// True if there is no score before a judge has been asked: there are answers, and none has any votes.
    pub fn needs_judge(&self) -> bool {
        matches!(self.evaluator, Evaluator::Open | Evaluator::Qa)
            && self.rows.iter().any(|row| row.failure().is_none())
            && self.rows.iter().all(|row| row.get("score").is_none())
    }

    /// What is known of answers that [need a judge](Answers::needs_judge): no metric, and no answer decided.
    pub fn unjudged(&self) -> Scores {
        let verdicts: Vec<Verdict> = self.rows.iter().map(|row| Verdict::new(row, None)).collect();
        let errors = verdicts.iter().filter(|verdict| verdict.error.is_some()).count();
        Scores {
            evaluator: self.evaluator,
            answers: verdicts.len() - errors,
            errors,
            metrics: Vec::new(),
            tables: Vec::new(),
            notes: vec!["needs --judge: without a judge's votes there is no score".to_owned()],
            verdicts,
        }
    }
}

/// Refuses answers to another benchmark than the rules are for: most rules make some number of any row.
pub(super) fn check_benchmark(path: &Path, rules: Rules, rows: &[Row]) -> Result<()> {
    let (wanted, file) = (rules.benchmark().name(), path.display());
    let noted = |row: &Row| Some(row.run()?.get("benchmark")?.as_text()?.to_owned());
    let refuse = |reason| Err(Error::usage("BENCHMARK", reason));
    for row in rows {
        let Some(found) = noted(row).filter(|found| found != wanted) else { continue };
        let place = row.place();
        if rows.iter().all(|row| noted(row).as_ref() == Some(&found)) {
            let reason =
                format!("{file} holds answers of {found}, not of {wanted}; use `diffa score {found} {file}`");
            return refuse(reason);
        }
        return refuse(format!(
            "{place} of {file} is an answer of {found}, not of {wanted}; put each benchmark into a file of its own"
        ));
    }
    let other = match rules.benchmark() {
        Benchmark::Mmsu => Benchmark::Mmau,
        Benchmark::Mmau => Benchmark::Mmsu,
        Benchmark::Voicebench => return Ok(()),
    };
    if look_like(other, rows) && !look_like(rules.benchmark(), rows) {
        return refuse(format!(
            "{file} has the fields of {other}, not of {wanted}; use `diffa score {other} {file}`"
        ));
    }
    Ok(())
}

/// Whether all rows have the fields that tell a benchmark from the others; VoiceBench has none.
fn look_like(benchmark: Benchmark, rows: &[Row]) -> bool {
    let all_have = |key: &str| rows.iter().all(|row| row.get(key).is_some());
    match benchmark {
        Benchmark::Mmsu => all_have("answer_gt"),
        Benchmark::Mmau => all_have("answer") && all_have("choices"),
        Benchmark::Voicebench => false,
    }
}

/// The error for a row that no rules are known for. `own` is the subset it names itself.
fn no_subset(path: &Path, row: &Row, own: Option<&str>) -> Error {
    let (file, known) = (path.display(), SUBSETS.map(|(name, _)| name).join(", "));
    let reason = match own {
        Some(own) => format!(
            "{} of {file} is of the subset `{own}`, for which VoiceBench has no rules; name the subset by whose \
             rules all rows shall be scored, one of {known}",
            row.place()
        ),
        None => format!(
            "which part of VoiceBench {file} is cannot be told from its name or its rows; choose one of {known}"
        ),
    };
    Error::usage("--subset", reason)
}

/// The rules of a VoiceBench subset.
fn evaluator_of(subset: &str) -> Result<Evaluator> {
    evaluator_of_subset(subset).ok_or_else(|| {
        let known = SUBSETS.map(|(name, _)| name).join(", ");
        Error::usage("--subset", format!("`{subset}` is unknown; choose one of {known}"))
    })
}

/// Subset and split in an official file name. The model's name comes first and may hold anything, so the last
/// subset named counts.
fn named_by(path: &Path) -> Option<(&'static str, Option<String>)> {
    let stem = path.file_stem()?.to_str()?;
    let is_edge = |c: Option<char>| c.is_none_or(|c| matches!(c, '-' | '.'));
    let mut found: Option<(usize, &'static str)> = None;
    for (name, _) in SUBSETS {
        for (at, _) in stem.match_indices(name) {
            let (before, after) = (stem[..at].chars().next_back(), stem[at + name.len()..].chars().next());
            if is_edge(before) && is_edge(after) && found.is_none_or(|(best, _)| at > best) {
                found = Some((at, name));
            }
        }
    }
    let (at, name) = found?;
    let split = stem[at + name.len()..].split(['-', '.']).nth(1).filter(|split| !split.is_empty());
    let split = split.filter(|split| !matches!(*split, "audio" | "text" | "ttft" | "judged"));
    Some((name, split.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_names_tell_the_subset() {
        let cases = [
            ("myModel-openbookqa-test.jsonl", "openbookqa", Some("test")),
            ("result-a-sd-qa-usa-audio.jsonl", "sd-qa", Some("usa")),
            ("mmsu-tuned-bbh-test.judged.jsonl", "bbh", Some("test")),
            ("x-alpacaeval_full-test-audio.jsonl", "alpacaeval_full", Some("test")),
            ("ifeval.jsonl", "ifeval", None),
        ];
        for (file, subset, split) in cases {
            assert_eq!(named_by(file.as_ref()), Some((subset, split.map(str::to_owned))), "{file}");
        }
        assert_eq!(named_by("myalpacaeval-answers.jsonl".as_ref()), None);
    }
}
