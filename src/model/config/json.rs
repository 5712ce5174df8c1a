//! Reading a configuration file key by key, with errors that name file and key.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::MAX_SIZE;
use crate::error::{Error, Result};

pub(super) fn read_config(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join("config.json");
    std::fs::read(&path).map_err(Error::io("read", &path))
}

/// A configuration file; null counts as absent.
pub(super) struct Json {
    map: Map<String, Value>,
    pub(super) path: PathBuf,
}

impl Json {
    pub(super) fn parse(bytes: &[u8], path: PathBuf) -> Result<Self> {
        match serde_json::from_slice(bytes) {
            Ok(map) => Ok(Self { map, path }),
            Err(e) => Err(Error::Config { path, key: "JSON".into(), reason: format!("not an object: {e}") }),
        }
    }

    pub(super) fn error(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::Config { path: self.path.clone(), key: key.into(), reason: reason.into() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub(super) fn natural_opt(&self, key: &str) -> Result<Option<usize>> {
        let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        match self.get(key) {
            None => Ok(None),
            Some(v) => match number(v) {
                Some(n) => Ok(Some(n)),
                None => Err(self.error(key, format!("is {v}, expected a whole number, not negative"))),
            },
        }
    }

    pub(super) fn size_opt(&self, key: &str) -> Result<Option<usize>> {
        match self.natural_opt(key)? {
            Some(n) if n == 0 || n > MAX_SIZE => {
                Err(self.error(key, format!("is {n}, expected 1 to {MAX_SIZE}")))
            }
            n => Ok(n),
        }
    }

    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.size_opt(key)?.unwrap_or(default))
    }

    pub(super) fn size(&self, key: &str) -> Result<usize> {
        self.size_opt(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    pub(super) fn number_opt(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => match v.as_f64() {
                Some(x) => Ok(Some(x)),
                None => Err(self.error(key, format!("is {v}, expected a number"))),
            },
        }
    }

    pub(super) fn positive_or(&self, key: &str, default: f64) -> Result<f64> {
        let x = self.number_opt(key)?.unwrap_or(default);
        if x.is_finite() && x > 0.0 {
            Ok(x)
        } else {
            Err(self.error(key, format!("is {x}, expected a positive number")))
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(b)) => Ok(*b),
            Some(v) => Err(self.error(key, format!("is {v}, expected true or false"))),
        }
    }

    /// Absent or equal to the one value that the engine implements.
    pub(super) fn only(&self, key: &str, value: &Value) -> Result<()> {
        match self.get(key) {
            Some(v) if v != value => Err(self.error(key, format!("is {v}, only {value} is supported"))),
            _ => Ok(()),
        }
    }

    pub(super) fn divides(&self, key: &str, part: usize, whole_key: &str, whole: usize) -> Result<()> {
        if whole.is_multiple_of(part) {
            Ok(())
        } else {
            Err(self.error(key, format!("is {part}, which does not divide {whole_key} {whole}")))
        }
    }
}
