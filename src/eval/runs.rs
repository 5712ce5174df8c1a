//! Several runs of one benchmark side by side: how often each is right, and what an answer costs.
//!
//! The cost is read from what the runner notes in every row: `seconds`, `nfe` (forwards) and `rtf`. Files of other
//! programs lack some of it and then have no number there.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::score::input::Row;
use super::score::{Answers, Comparison, Interval, Metric, Rules, compare};
use crate::error::{Error, Result};

/// The runs of one benchmark.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Runs {
    /// The benchmark or VoiceBench subset.
    pub subset: String,
    /// The run the others are measured against.
    pub baseline: String,
    /// The runs, in the order given.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The preset noted in its rows, or else the file's name.
    pub name: String,
    /// The answer file.
    pub file: PathBuf,
    /// Decode settings noted in its rows, as JSON text; none if there are none or several.
    pub settings: Option<String>,
    /// Answers that count.
    pub answers: usize,
    /// Rows with an error instead of an answer.
    pub errors: usize,
    /// The benchmark's number with its 95 % interval.
    pub score: Metric,
    /// Seconds for an answer.
    pub seconds: Option<Cost>,
    /// Forwards for an answer.
    pub nfe: Option<Cost>,
    /// Seconds for an answer by seconds of sound.
    pub rtf: Option<Cost>,
    /// This run against the baseline, which is the comparison's first run; none for the baseline itself.
    pub versus_baseline: Option<Comparison>,
}

/// What answers cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// Rows that note it.
    pub items: usize,
    /// Mean over them.
    pub mean: f64,
    /// Student's 95 % interval of the mean; none for a single row.
    pub interval: Option<Interval>,
    /// The middle value, or the mean of the two middle ones.
    pub median: f64,
    /// Sum over them.
    pub total: f64,
}

impl Cost {
    fn of(rows: &[Row], key: &str) -> Option<Cost> {
        let answered = rows.iter().filter(|row| row.failure().is_none());
        let mut values: Vec<f64> = answered.filter_map(|row| row.number_at(key)).collect();
        values.sort_by(f64::total_cmp);
        let items = values.len();
        let (low, high) = (values.get(items.checked_sub(1)? / 2)?, values.get(items / 2)?);
        let total: f64 = values.iter().sum();
        let interval = Interval::of_mean(&values);
        Some(Cost { items, mean: total / items as f64, interval, median: (low + high) / 2.0, total })
    }
}

/// Reads and scores `files`, and compares each with the one called `baseline`, or with the first.
///
/// The benchmark is told by the rows if it is not given; see [`Answers::detect`].
///
/// # Errors
/// A file is unreadable, holds several subsets, or is of another benchmark than the first; or the baseline is none
/// of the files.
pub fn table(
    files: &[PathBuf],
    rules: Option<Rules>,
    subset: Option<&str>,
    baseline: Option<&Path>,
) -> Result<Runs> {
    let mut answers = Vec::with_capacity(files.len());
    for file in files {
        let parts = match (rules, subset) {
            (None, None) => Answers::detect(file)?,
            (given, _) => Answers::read(file, given.unwrap_or(Rules::VoiceBench), subset)?,
        };
        answers.push(only_subset(file, Answers::pooled(&parts))?);
    }
    let Some(first) = answers.first() else {
        return Err(Error::usage("FILE", "there is no answer file to report on"));
    };
    if let Some(other) = answers.iter().find(|other| other.subset != first.subset) {
        let reason = format!(
            "{} is {}, but {} is {}; one table is about one benchmark",
            first.path.display(),
            first.subset,
            other.path.display(),
            other.subset
        );
        return Err(Error::usage("FILE", reason));
    }
    let base = match baseline {
        None => 0,
        Some(path) => files.iter().position(|file| file == path).ok_or_else(|| {
            Error::usage("--baseline", format!("{} is not one of the files", path.display()))
        })?,
    };
    let names = names(&answers);
    let scores = answers.iter().map(|answers| answers.score(0)).collect::<Result<Vec<_>>>()?;
    let mut runs = Vec::with_capacity(answers.len());
    for (at, (answers, scores_here)) in answers.iter().zip(&scores).enumerate() {
        let versus_baseline = if at == base { None } else { Some(compare(&scores[base], scores_here)?) };
        let score = scores_here
            .metrics
            .first()
            .cloned()
            .ok_or_else(|| Error::usage("FILE", format!("{} has no score", answers.path.display())))?;
        runs.push(Run {
            name: names[at].clone(),
            file: answers.path.clone(),
            settings: shared(&answers.rows, "settings", |row, key| {
                row.recorded(key).map(ToString::to_string)
            }),
            answers: scores_here.answers,
            errors: scores_here.errors,
            score,
            seconds: Cost::of(&answers.rows, "seconds"),
            nfe: Cost::of(&answers.rows, "nfe"),
            rtf: Cost::of(&answers.rows, "rtf"),
            versus_baseline,
        });
    }
    Ok(Runs { subset: first.subset.clone(), baseline: names[base].clone(), runs })
}

fn only_subset(file: &Path, mut parts: Vec<Answers>) -> Result<Answers> {
    match (parts.pop(), parts.is_empty()) {
        (Some(part), true) => Ok(part),
        _ => {
            let reason = format!("{} holds several subsets; report on one file for each", file.display());
            Err(Error::usage("FILE", reason))
        }
    }
}

/// What all rows that note `key` agree on.
fn shared(rows: &[Row], key: &str, read: impl Fn(&Row, &str) -> Option<String>) -> Option<String> {
    let mut noted = rows.iter().filter_map(|row| read(row, key));
    let first = noted.next()?;
    noted.all(|other| other == first).then_some(first)
}

/// The presets, with the files' names where presets are not noted or not distinct.
fn names(answers: &[Answers]) -> Vec<String> {
    let preset = |answers: &Answers| {
        shared(&answers.rows, "preset", |row, key| Some(row.recorded(key)?.as_text()?.to_owned()))
    };
    let presets: Vec<Option<String>> = answers.iter().map(preset).collect();
    let name = |(answers, preset): (&Answers, &Option<String>)| {
        let stem = answers.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match preset {
            Some(preset) if presets.iter().flatten().filter(|other| *other == preset).count() == 1 => {
                preset.clone()
            }
            Some(preset) => format!("{preset} ({stem})"),
            None => stem,
        }
    };
    answers.iter().zip(&presets).map(name).collect()
}
