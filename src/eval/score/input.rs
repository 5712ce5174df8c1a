//! Reads answer files: JSON Lines or one JSON array, a row per answer.
//!
//! A byte order mark, blank lines and Windows line ends are accepted, although the published programs stop at the
//! first two. Whatever else is wrong with a file becomes an error that names the file and the line (or, in an
//! array, the number of the item), so no row is ever skipped silently.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::json::{Json, Malformed};
use crate::error::{Error, Result};
use crate::eval::record::RECORD;

/// One answer and where it was read.
#[derive(Debug, Clone)]
pub(in crate::eval) struct Row {
    path: Arc<Path>,
    unit: &'static str,
    /// Line in the file or position in the array, counted from 1.
    pub(in crate::eval) number: usize,
    value: Json,
}

/// Reads every row of `path`; at least one.
pub(in crate::eval) fn read(path: &Path) -> Result<Vec<Row>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let rows = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => read_array(path, bytes)?,
        _ => read_lines(path, bytes)?,
    };
    if rows.is_empty() {
        return Err(bad(path, "contents", "the file holds no answers"));
    }
    Ok(rows)
}

fn read_lines(path: &Path, bytes: &[u8]) -> Result<Vec<Row>> {
    let (mut rows, shared) = (Vec::new(), Arc::<Path>::from(path));
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        if let Some(value) = parse_line(path, number, line)? {
            rows.push(Row { path: shared.clone(), unit: "line", number, value });
        }
    }
    Ok(rows)
}

/// The object on line `number` of `path`; none if the line is blank.
pub(in crate::eval) fn parse_line(path: &Path, number: usize, line: &[u8]) -> Result<Option<Json>> {
    let at = || format!("line {number}");
    let text = str::from_utf8(line).map_err(|error| bad(path, at(), format!("no valid UTF-8: {error}")))?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let value = Json::parse(text).map_err(|error| bad(path, at(), malformed(text, &error)))?;
    match value {
        Json::Object(_) => Ok(Some(value)),
        _ => Err(bad(path, at(), "a JSON object in braces is expected on every line")),
    }
}

fn read_array(path: &Path, bytes: &[u8]) -> Result<Vec<Row>> {
    let line_of = |offset: usize| 1 + bytes[..offset].iter().filter(|byte| **byte == b'\n').count();
    let text = str::from_utf8(bytes).map_err(|error| {
        bad(path, format!("line {}", line_of(error.valid_up_to())), format!("no valid UTF-8: {error}"))
    })?;
    let parsed = Json::parse(text);
    let parsed =
        parsed.map_err(|error| bad(path, format!("line {}", line_of(error.offset)), error.reason))?;
    let Json::List(items) = parsed else {
        return Err(bad(path, "contents", "a JSON array of objects is expected"));
    };
    let (mut rows, shared) = (Vec::new(), Arc::<Path>::from(path));
    for (index, value) in items.into_iter().enumerate() {
        let number = index + 1;
        if !matches!(value, Json::Object(_)) {
            return Err(bad(path, format!("item {number}"), "an object in braces is expected"));
        }
        rows.push(Row { path: shared.clone(), unit: "item", number, value });
    }
    Ok(rows)
}

fn malformed(text: &str, error: &Malformed) -> String {
    let column = text.get(..error.offset).map_or(error.offset, |before| before.chars().count()) + 1;
    format!("not valid JSON at column {column}: {}", error.reason)
}

fn bad(path: &Path, place: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Config { path: path.to_path_buf(), key: place.into(), reason: reason.into() }
}

impl Row {
    /// A row that was never in a file.
    pub(super) fn single(text: &str) -> Option<Row> {
        Some(Row { path: Path::new("row").into(), unit: "row", number: 1, value: Json::parse(text).ok()? })
    }

    /// What `diffa eval` noted of this item or of its run, or else the row's own field of that name, as other
    /// programs may write it.
    pub(in crate::eval) fn recorded(&self, key: &str) -> Option<&Json> {
        let item = self.get(RECORD);
        let run = item.and_then(|item| item.get("run"));
        let settings = run.and_then(|run| run.get("settings"));
        [item, run, settings].into_iter().flatten().find_map(|noted| noted.get(key)).or_else(|| self.get(key))
    }

    /// What `diffa eval` noted of the run; none in rows of other programs.
    pub(super) fn run(&self) -> Option<&Json> {
        self.get(RECORD)?.get("run")
    }

    /// A whole number that `diffa eval` noted of the item.
    pub(super) fn noted_number(&self, key: &str) -> Option<usize> {
        let number = self.get(RECORD)?.get(key)?.as_number()?;
        (number >= 0.0 && number.fract() == 0.0).then_some(number as usize)
    }

    /// Where the row is in its file: `line 3`.
    pub(super) fn place(&self) -> String {
        format!("{} {}", self.unit, self.number)
    }

    /// The error for something wrong with this row.
    pub(in crate::eval) fn error(&self, reason: impl Into<String>) -> Error {
        bad(&self.path, self.place(), reason)
    }

    /// The value under `key`; none if the row lacks it.
    pub(in crate::eval) fn get(&self, key: &str) -> Option<&Json> {
        self.value.get(key)
    }

    /// The value under `key`, which must be there.
    pub(in crate::eval) fn need(&self, key: &str) -> Result<&Json> {
        self.get(key).ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    /// The text under `key`, which must be there and be a text.
    pub(in crate::eval) fn text(&self, key: &str) -> Result<&str> {
        self.need(key)?
            .as_text()
            .ok_or_else(|| self.error(format!("`{key}` must be a text, not null or another type")))
    }

    /// The list under `key`, which must be there and be a list.
    pub(in crate::eval) fn list(&self, key: &str) -> Result<&[Json]> {
        match self.need(key)? {
            Json::List(items) => Ok(items),
            _ => Err(self.error(format!("`{key}` must be a list"))),
        }
    }

    /// What to call this row in a report: its `id`, `audio_id`, `key` or `index`, or else its number.
    pub(in crate::eval) fn name(&self) -> String {
        let named = ["id", "audio_id", "key"].iter().filter_map(|key| self.get(key));
        let index = self.get("index").filter(|index| index.as_number().is_some());
        let named = named.chain(index).find(|value| value.is_truthy() || index == Some(*value));
        named.map_or_else(|| self.place(), Json::label)
    }

    /// The value under `key` as a label in a table; empty if the row lacks it.
    pub(in crate::eval) fn label(&self, key: &str) -> String {
        self.get(key).map_or_else(String::new, Json::label)
    }

    /// The number recorded under `key`, if there is one and it is finite.
    pub(in crate::eval) fn number_at(&self, key: &str) -> Option<f64> {
        match self.recorded(key)? {
            number @ Json::Number(_) => number.as_number().filter(|number| number.is_finite()),
            _ => None,
        }
    }

    /// The whole row.
    pub(in crate::eval) fn value(&self) -> &Json {
        &self.value
    }

    /// The row with another value under `key`, which goes to the end if it is new.
    pub(in crate::eval) fn with(&self, key: &str, value: Json) -> Row {
        let mut row = self.clone();
        if let Json::Object(pairs) = &mut row.value {
            match pairs.iter_mut().find(|(name, _)| name == key) {
                Some(pair) => pair.1 = value,
                None => pairs.push((key.to_owned(), value)),
            }
        }
        row
    }

    /// The file the row was read from.
    pub(in crate::eval) fn path(&self) -> &Path {
        &self.path
    }

    /// Why the question was never answered: the runner's `error`, in a row that has no answer.
    ///
    /// A judge or a later program may note errors of its own under that name, so an answer outweighs it.
    pub(in crate::eval) fn failure(&self) -> Option<String> {
        if let Some(reason) = self.get(RECORD).and_then(|record| record.get("error")) {
            return Some(reason.label());
        }
        let error = self.get("error").filter(|error| error.is_truthy())?;
        let answered = ["response", "model_prediction"].iter().filter_map(|key| self.get(key));
        answered.into_iter().all(|answer| *answer == Json::Null).then(|| error.label())
    }
}
