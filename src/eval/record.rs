//! The field `diffa` of every answer row: which item it is, what it took, and under which settings it was made.
//!
//! It stands beside the published fields, which official scorers read and which do not depend on it. Each row has
//! the whole record, so that a file can be cut, joined and compared without anything beside it.

use serde_json::{Value, json};

use crate::eval::Object;
use crate::eval::benchmark::Benchmark;
use crate::eval::select::{Due, Selected, Selection};

/// The name of the field.
pub const RECORD: &str = "diffa";

/// What all answers of a run have in common, as `run` in each record. Answers of different runs never go into
/// one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Run(Value);

impl Run {
    /// `settings`: everything that an answer depends on besides the item, for example model and decoder.
    pub fn new(benchmark: Benchmark, settings: Object, selection: &Selection, selected: &Selected) -> Run {
        Run(json!({
            "benchmark": benchmark.name(),
            "settings": settings,
            "selection": selection.record(selected.total),
            "shard": selection.shard.map(|shard| shard.to_string()),
        }))
    }

    /// The first thing in which two runs differ, as a sentence; nothing if they do not. `ours` is the run now.
    pub fn difference(&self, theirs: &Value) -> Option<String> {
        difference("", theirs, &self.0)
    }

    /// As it is written.
    pub(super) fn value(&self) -> &Value {
        &self.0
    }
}

/// What an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Everything but reading the file: hearing (if this item was the first of its clip), planning, denoising.
    pub seconds: f64,
    /// Hearing alone; 0 if the clip had been heard for the item before.
    pub hear_seconds: f64,
    /// Length of the clip.
    pub audio_seconds: f64,
    /// Forwards.
    pub nfe: usize,
    /// Rows fed to the transformer, over all forwards.
    pub rows: usize,
}

/// The record of one item: its figures, or why there is no answer.
pub(super) fn record(due: &Due, run: &Run, device: &str, outcome: &Result<Figures, String>) -> Object {
    let mut record = Object::new();
    let mut put = |key: &str, value: Value| record.insert(key.to_owned(), value);
    put("index", due.item.index.into());
    put("place", due.place.into());
    put("audio", due.item.audio.name().to_string_lossy().into());
    if let Some(subset) = &due.item.subset {
        put("subset", subset.as_str().into());
        put("split", due.item.split.as_deref().into());
    }
    match outcome {
        Ok(figures) => {
            let round = |seconds: f64| json!((seconds * 1e4).round() / 1e4);
            put("seconds", round(figures.seconds));
            put("hear_seconds", round(figures.hear_seconds));
            put("audio_seconds", round(figures.audio_seconds));
            put("nfe", figures.nfe.into());
            put("rows", figures.rows.into());
        }
        Err(reason) => _ = put("error", reason.as_str().into()),
    }
    put("device", device.into());
    put("run", run.value().clone());
    record
}

/// A row's record.
pub(super) fn of(row: &Object) -> Option<&Object> {
    row.get(RECORD)?.as_object()
}

/// A whole number of a row's record.
pub(super) fn number(row: &Object, key: &str) -> Option<usize> {
    of(row)?.get(key)?.as_u64().map(|n| n as usize)
}

/// Why a row has no answer, if it has none.
pub fn failure(row: &Object) -> Option<&str> {
    of(row)?.get("error")?.as_str()
}

/// The first difference between two values, by the path of keys that leads to it.
pub(super) fn difference(path: &str, theirs: &Value, ours: &Value) -> Option<String> {
    if let (Value::Object(theirs), Value::Object(ours)) = (theirs, ours) {
        let keys = ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key)));
        let below = |key: &String| {
            let [theirs, ours] = [theirs, ours].map(|object| object.get(key).unwrap_or(&Value::Null));
            difference(&format!("{path}{}{key}", if path.is_empty() { "" } else { "." }), theirs, ours)
        };
        return keys.map(below).find_map(|difference| difference);
    }
    (theirs != ours).then(|| format!("{path} is {theirs} there and {ours} here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_path() {
        let run = |steps: u32| json!({"settings": {"steps": steps, "rule": "quota"}, "shard": null});
        assert_eq!(difference("", &run(4), &run(4)), None);
        let found = difference("", &run(4), &run(16)).unwrap();
        assert_eq!(found, "settings.steps is 4 there and 16 here");
        assert!(difference("", &json!({"a": 1, "b": 2}), &json!({"a": 1})).unwrap().contains("b is 2 there"));
    }
}
