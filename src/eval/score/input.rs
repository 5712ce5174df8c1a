//! Reads answer files: JSON Lines or one JSON array, a row per answer.
//!
//! A byte order mark, blank lines and Windows line ends are accepted, although the published programs stop at the
//! first two. Whatever else is wrong with a file becomes an error that names the file and the line (or, in an
//! array, the number of the item), so no row is ever skipped silently.

use std::fs;
use std::path::Path;

use super::json::{Json, Malformed};
use crate::error::{Error, Result};

/// One answer and where it was read.
#[derive(Debug)]
pub(super) struct Row<'a> {
    path: &'a Path,
    unit: &'static str,
    /// Line in the file or position in the array, counted from 1.
    pub(super) number: usize,
    value: Json,
}

/// Reads every row of `path`; at least one.
pub(super) fn read(path: &Path) -> Result<Vec<Row<'_>>> {
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

fn read_lines<'a>(path: &'a Path, bytes: &[u8]) -> Result<Vec<Row<'a>>> {
    let mut rows = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let at = || format!("line {number}");
        let text =
            str::from_utf8(line).map_err(|error| bad(path, at(), format!("no valid UTF-8: {error}")))?;
        if text.trim().is_empty() {
            continue;
        }
        let value = Json::parse(text).map_err(|error| bad(path, at(), malformed(text, &error)))?;
        if !matches!(value, Json::Object(_)) {
            return Err(bad(path, at(), "a JSON object in braces is expected on every line"));
        }
        rows.push(Row { path, unit: "line", number, value });
    }
    Ok(rows)
}

fn read_array<'a>(path: &'a Path, bytes: &[u8]) -> Result<Vec<Row<'a>>> {
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
    let mut rows = Vec::new();
    for (index, value) in items.into_iter().enumerate() {
        let number = index + 1;
        if !matches!(value, Json::Object(_)) {
            return Err(bad(path, format!("item {number}"), "an object in braces is expected"));
        }
        rows.push(Row { path, unit: "item", number, value });
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

impl<'a> Row<'a> {
    /// A row that was never in a file.
    pub(super) fn single(text: &str) -> Option<Row<'static>> {
        Some(Row { path: Path::new("row"), unit: "row", number: 1, value: Json::parse(text).ok()? })
    }

    /// Why the item could not be answered, if `diffa eval` recorded that. Its empty answer is wrong then, even
    /// where the published program would draw for it or take it for a refusal.
    pub(super) fn failure(&self) -> Option<&str> {
        self.record()?.get("error")?.as_text()
    }

    /// The VoiceBench subset that `diffa eval` recorded.
    pub(super) fn subset(&self) -> Option<&str> {
        self.record()?.get("subset")?.as_text()
    }

    fn record(&self) -> Option<&Json> {
        self.get(crate::eval::record::RECORD)
    }

    /// The error for something wrong with this row.
    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        bad(self.path, format!("{} {}", self.unit, self.number), reason)
    }

    /// The value under `key`; none if the row lacks it.
    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        self.value.get(key)
    }

    /// The value under `key`, which must be there.
    pub(super) fn need(&self, key: &str) -> Result<&Json> {
        self.get(key).ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    /// The text under `key`, which must be there and be a text.
    pub(super) fn text(&self, key: &str) -> Result<&str> {
        self.need(key)?
            .as_text()
            .ok_or_else(|| self.error(format!("`{key}` must be a text, not null or another type")))
    }

    /// The list under `key`, which must be there and be a list.
    pub(super) fn list(&self, key: &str) -> Result<&[Json]> {
        match self.need(key)? {
            Json::List(items) => Ok(items),
            _ => Err(self.error(format!("`{key}` must be a list"))),
        }
    }

    /// What to call this row in a report: its `id`, `audio_id` or `key`, or else its number.
    pub(super) fn name(&self) -> String {
        let named =
            ["id", "audio_id", "key"].iter().filter_map(|key| self.get(key)).find(|value| value.is_truthy());
        named.map_or_else(|| format!("{} {}", self.unit, self.number), Json::label)
    }

    /// The value under `key` as a label in a table; empty if the row lacks it.
    pub(super) fn label(&self, key: &str) -> String {
        self.get(key).map_or_else(String::new, Json::label)
    }
}
