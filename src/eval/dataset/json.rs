//! JSON Lines or one JSON array of objects.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::eval::Object;

/// Reads all objects of `path`; blank lines and a byte order mark are passed over.
///
/// # Errors
/// [`Error::Io`]; [`Error::Config`] naming the line, or the number of the entry, at fault.
pub(in crate::eval) fn read(path: &Path) -> Result<Vec<Object>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if is_array(bytes) {
        let entries: Vec<Value> =
            serde_json::from_slice(bytes).map_err(|e| bad(path, "contents", e.to_string()))?;
        let objects =
            entries.into_iter().enumerate().map(|(i, entry)| object(path, format!("entry {}", i + 1), entry));
        return objects.collect();
    }
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let filled = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    filled
        .map(|(i, line)| {
            let place = format!("line {}", i + 1);
            match serde_json::from_slice(line) {
                Ok(value) => object(path, place, value),
                Err(e) => Err(bad(path, &place, format!("is not valid JSON: {e}"))),
            }
        })
        .collect()
}

/// True if the content is one JSON array.
pub(in crate::eval) fn is_array(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

fn object(path: &Path, place: String, value: Value) -> Result<Object> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(bad(path, &place, "a JSON object in braces is expected")),
    }
}

fn bad(path: &Path, place: &str, reason: impl Into<String>) -> Error {
    Error::Config { path: path.into(), key: place.into(), reason: reason.into() }
}
