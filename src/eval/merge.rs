//! Joins the answer files of several shards into the file that one run would have written.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::eval::benchmark::Benchmark;
use crate::eval::dataset::read_objects;
use crate::eval::select::Shard;
use crate::eval::{Object, answers, record};

/// What was joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The benchmark.
    pub benchmark: Benchmark,
    /// All rows, in the order of the data.
    pub rows: Vec<Object>,
}

/// Joins the answers of all shards of one run into `out`, a new file in its published form, if each item has
/// exactly one.
///
/// # Errors
/// [`Error::Usage`] if `out` exists, [`Error::Io`], and those of [`join`].
pub fn merge(out: &Path, files: &[PathBuf]) -> Result<Merged> {
    if out.exists() {
        return Err(Error::usage("OUT", format!("{} exists; name a new file", out.display())));
    }
    let merged = join(files)?;
    answers::write(out, merged.benchmark, &merged.rows)?;
    Ok(merged)
}

/// Reads the answers of all shards of one run and checks that each item has exactly one.
///
/// # Errors
/// [`Error::Config`] for a damaged file or one of another program, [`Error::Usage`] for files of different runs,
/// [`Error::Duplicate`], [`Error::Conflict`], [`Error::MissingAnswers`].
pub fn join(files: &[PathBuf]) -> Result<Merged> {
    let mut joined: BTreeMap<usize, (&Path, Object)> = BTreeMap::new();
    let mut first: Option<(&Path, Value)> = None;
    let mut shards = BTreeSet::new();
    for path in files {
        for (i, mut row) in read_objects(path)?.into_iter().enumerate() {
            let bad = |reason: &str| Error::Config {
                path: path.clone(),
                key: format!("row {}", i + 1),
                reason: reason.into(),
            };
            let place = record::number(&row, "place");
            let run = row.get_mut(record::RECORD).and_then(|record| record.get_mut("run"));
            let (Some(place), Some(run)) = (place, run) else {
                return Err(bad("this row was not written by diffa eval; only such files can be merged"));
            };
            // The joined file is that of a run without shards.
            if let Some(Value::String(shard)) = run.get_mut("shard").map(Value::take) {
                shards.insert(shard);
            }
            match &first {
                None => first = Some((path, run.clone())),
                Some((other, theirs)) => {
                    if let Some(difference) = record::difference("", theirs, run) {
                        let reason = format!(
                            "{} and {} are of different runs: {difference} (there: the first file)",
                            other.display(),
                            path.display()
                        );
                        return Err(Error::usage("SHARD", reason));
                    }
                }
            }
            if let Some((other, earlier)) = joined.get(&place) {
                let index = record::number(&row, "index").unwrap_or(place);
                let (first, second) = (other.to_path_buf(), path.clone());
                return Err(match published(earlier) == published(&row) {
                    true => Error::Duplicate { index, first, second },
                    false => Error::Conflict { index, first, second },
                });
            }
            joined.insert(place, (path, row));
        }
    }
    let Some((_, run)) = first else {
        return Err(Error::usage("SHARD", "there is no answer in these files"));
    };
    let total = run["selection"]["items"].as_u64().unwrap_or(0) as usize;
    check_complete(total, &joined, &shards)?;
    let benchmark = run["benchmark"].as_str().unwrap_or_default().parse()?;
    let mut rows: Vec<Object> = joined.into_values().map(|(_, row)| row).collect();
    rows.sort_by_key(|row| record::number(row, "index"));
    Ok(Merged { benchmark, rows })
}

fn published(row: &Object) -> Object {
    let mut row = row.clone();
    row.remove(record::RECORD);
    row
}

fn check_complete(
    total: usize,
    joined: &BTreeMap<usize, (&Path, Object)>,
    shards: &BTreeSet<String>,
) -> Result<()> {
    let missing: Vec<usize> = (0..total).filter(|place| !joined.contains_key(place)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let whole = shards.iter().filter_map(|shard| shard.parse::<Shard>().ok()).next();
    let absent = whole.map(|one| {
        let all = (0..one.count).map(|index| Shard { index, ..one }.to_string());
        all.filter(|shard| !shards.contains(shard)).collect::<Vec<_>>()
    });
    let remedy = match absent.unwrap_or_default() {
        none if none.is_empty() => "finish the shards with --resume".to_owned(),
        absent => format!("give also the file of shard {}", absent.join(", ")),
    };
    Err(Error::MissingAnswers { missing: missing.len(), total, places: ranges(&missing), remedy })
}

/// `3-7, 12, ...`: the first few runs of consecutive numbers.
fn ranges(numbers: &[usize]) -> String {
    const SHOWN: usize = 4;
    let mut runs: Vec<RangeInclusive<usize>> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some(run) if *run.end() + 1 == *n => *run = *run.start()..=*n,
            _ => runs.push(*n..=*n),
        }
    }
    let show = |run: &RangeInclusive<usize>| match run.start() == run.end() {
        true => run.start().to_string(),
        false => format!("{}-{}", run.start(), run.end()),
    };
    let mut shown: Vec<String> = runs.iter().take(SHOWN).map(show).collect();
    if runs.len() > SHOWN {
        shown.push("...".into());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn missing_places_are_summed_up() {
        assert_eq!(ranges(&[0, 1, 2, 5, 8, 9]), "0-2, 5, 8-9");
        assert_eq!(ranges(&[1, 3, 5, 7, 9]), "1, 3, 5, 7, ...");
    }
}
