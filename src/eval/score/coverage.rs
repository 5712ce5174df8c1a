//! Whether answer files hold the whole of their runs, and every item once.
//!
//! `diffa eval` notes in each row how many items the run has, which of them this is, and the shard. Rows of other
//! programs say nothing of the kind and are passed over.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::input::Row;
use super::json::Json;
use super::{Answers, Evaluator};
use crate::error::{Error, Result};
use crate::eval::record::RECORD;
use crate::eval::select::Shard;

/// Shards without answers that are named, at most.
const SHARDS: usize = 8;

/// A run of which items are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incomplete {
    /// The files that hold it.
    pub files: Vec<PathBuf>,
    /// Items that have a row, also one with an error.
    pub answered: usize,
    /// Items of the run, over all its shards.
    pub expected: usize,
    /// Shards of which there is no row, for example `1/4`; the first few.
    pub missing_shards: Vec<String>,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Incomplete { answered, expected, missing_shards, .. } = self;
        write!(f, "{answered} of the run's {expected} items are here, and the scores are of these alone; ")?;
        match missing_shards.is_empty() {
            true => write!(f, "finish the run with `diffa eval ... --resume`"),
            false => write!(
                f,
                "there is nothing of shard {}; join all shards with `diffa merge`",
                missing_shards.join(", ")
            ),
        }
    }
}

/// What is here of one run.
#[derive(Default)]
struct Held<'a> {
    files: Vec<PathBuf>,
    expected: usize,
    rows: HashMap<usize, &'a Row>,
    shards: BTreeSet<String>,
}

/// The runs among `parts` of which items are missing, in the order of their first rows.
///
/// # Errors
/// An item of a run is there twice: [`Error::Duplicate`] or [`Error::Conflict`] for two files, as when they are
/// merged, [`Error::Config`] within one.
pub fn incomplete<'a>(parts: impl IntoIterator<Item = &'a Answers>) -> Result<Vec<Incomplete>> {
    let mut runs: Vec<Held<'a>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for row in parts.into_iter().flat_map(|part| &part.rows) {
        let (Some(run), Some(place)) = (row.run(), row.noted_number("place")) else { continue };
        let at = *known.entry(without(run, "shard").to_string()).or_insert(runs.len());
        if at == runs.len() {
            let items = run.get("selection").and_then(|selection| selection.get("items")?.as_number());
            runs.push(Held { expected: items.map_or(0, |items| items as usize), ..Held::default() });
        }
        let held = &mut runs[at];
        if let Some(earlier) = held.rows.insert(place, row) {
            return Err(twice(earlier, row));
        }
        if !held.files.iter().any(|file| file == row.path()) {
            held.files.push(row.path().to_path_buf());
        }
        held.shards.extend(run.get("shard").and_then(Json::as_text).map(str::to_owned));
    }
    Ok(runs.into_iter().filter_map(Held::gap).collect())
}

impl Held<'_> {
    fn gap(self) -> Option<Incomplete> {
        let (answered, expected) = (self.rows.len(), self.expected);
        let count =
            self.shards.iter().find_map(|shard| shard.parse::<Shard>().ok()).map_or(0, |one| one.count);
        let all = (0..count).map(|index| Shard { index, count }.to_string());
        let missing_shards = all.filter(|shard| !self.shards.contains(shard)).take(SHARDS).collect();
        (answered < expected).then_some(Incomplete { files: self.files, answered, expected, missing_shards })
    }
}

/// The error for two rows of one item.
fn twice(earlier: &Row, row: &Row) -> Error {
    let index = row.noted_number("index").unwrap_or(row.number);
    if earlier.path() == row.path() {
        return row.error(format!(
            "this is item {index} of the run, which is on {} already; leave one of the two out",
            earlier.place()
        ));
    }
    let (first, second) = (earlier.path().to_path_buf(), row.path().to_path_buf());
    match without(earlier.value(), RECORD) == without(row.value(), RECORD) {
        true => Error::Duplicate { index, first, second },
        false => Error::Conflict { index, first, second },
    }
}

fn without(value: &Json, key: &str) -> Json {
    match value {
        Json::Object(pairs) => Json::Object(pairs.iter().filter(|(name, _)| name != key).cloned().collect()),
        other => other.clone(),
    }
}

/// The settings that the rows note, each once: answers of one run have them in common.
pub fn settings(answers: &Answers) -> BTreeSet<String> {
    let noted = answers.rows.iter().filter_map(|row| row.run()?.get("settings"));
    noted.map(Json::to_string).collect()
}

/// How many rows of other programs have an `id` that an earlier row has, and the first such id.
///
/// Only MMSU and MMAU promise that ids are unique.
pub fn repeated_ids(answers: &Answers) -> Option<(usize, String)> {
    if !matches!(answers.evaluator, Evaluator::Mmsu | Evaluator::Mmau) {
        return None;
    }
    let foreign = answers.rows.iter().filter(|row| row.run().is_none());
    let mut seen = BTreeSet::new();
    let mut again =
        foreign.filter_map(|row| row.get("id")).map(Json::label).filter(|id| !seen.insert(id.clone()));
    let first = again.next()?;
    Some((1 + again.count(), first))
}
