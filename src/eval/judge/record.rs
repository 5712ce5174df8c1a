//! The judged file: every answer with its votes, a line at a time.
//!
//! Lines are appended as votes come in, in any order; at the end of a run the file is put into the order of the
//! answers. A line belongs to the answer that it repeats word for word, so neither ids nor line numbers have to be
//! unique, and votes for other answers are noticed.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::VOTES;
use crate::error::{Error, Result};
use crate::eval::score::input::{Row, parse_line};
use crate::eval::score::json::Json;
use crate::files::{replace, same_file};

/// Holds the name of the judge in each line, so that votes of two judges are never mixed.
const MODEL: &str = "judge_model";
const SCORE: &str = "score";

/// The open file.
pub(super) struct Record {
    path: PathBuf,
    file: File,
    model: String,
}

/// What identifies an answer: everything in its row but what a judge adds.
fn identity(row: &Json) -> String {
    match row {
        Json::Object(pairs) => {
            let own = pairs.iter().filter(|(key, _)| key != MODEL && key != SCORE).cloned().collect();
            Json::Object(own).to_string()
        }
        other => other.to_string(),
    }
}

impl Record {
    /// Opens or creates the file, and finds the votes it already holds for `rows`, by their position.
    ///
    /// A last line that was torn by a crash is cut off.
    pub(super) fn open(path: &Path, model: &str, rows: &[&Row]) -> Result<(Record, Vec<Option<Json>>)> {
        if rows.iter().any(|row| row.path() == path || same_file(row.path(), path)) {
            let reason = format!("{} is the file of the answers; choose another one", path.display());
            return Err(Error::usage("--judged", reason));
        }
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options.map_err(Error::io("open", path))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let reason = format!("{} is being written by another run", path.display());
            return Err(Error::usage("--judged", reason));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        let mut record = Record { path: path.to_path_buf(), file, model: model.to_owned() };
        let votes = record.votes_for(rows, &bytes)?;
        Ok((record, votes))
    }

    fn votes_for(&mut self, rows: &[&Row], bytes: &[u8]) -> Result<Vec<Option<Json>>> {
        let mut wanted: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, row) in rows.iter().enumerate().rev() {
            wanted.entry(identity(row.value())).or_default().push(at);
        }
        let mut votes = vec![None; rows.len()];
        let (mut start, mut strangers) = (0, 0);
        for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let is_whole = line.ends_with(b"\n");
            match parse_line(&self.path, index + 1, line) {
                Ok(None) => {}
                Ok(Some(value)) => {
                    self.check_model(index + 1, &value)?;
                    match wanted.get_mut(&identity(&value)).and_then(Vec::pop) {
                        Some(at) => votes[at] = value.get(SCORE).filter(|score| is_complete(score)).cloned(),
                        None => strangers += 1,
                    }
                    if !is_whole {
                        self.append(b"\n", bytes.len())?;
                    }
                }
                Err(_) if !is_whole => {
                    self.file.set_len(start as u64).map_err(Error::io("repair", &self.path))?;
                }
                Err(error) => return Err(error),
            }
            start += line.len();
        }
        if strangers > 0 {
            let reason = format!(
                "{} of the lines in {} belong to other answers than these; choose another file, or delete this one",
                strangers,
                self.path.display()
            );
            return Err(Error::usage("--judged", reason));
        }
        self.file.seek(SeekFrom::End(0)).map_err(Error::io("write", &self.path))?;
        Ok(votes)
    }

    fn check_model(&self, line: usize, value: &Json) -> Result<()> {
        match value.get(MODEL).and_then(Json::as_text) {
            Some(model) if model != self.model => {
                let reason = format!(
                    "line {line} of {} was judged by {model}; choose another file for {}",
                    self.path.display(),
                    self.model
                );
                Err(Error::usage("--judged", reason))
            }
            _ => Ok(()),
        }
    }

    fn append(&mut self, bytes: &[u8], at: usize) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(at as u64))
            .and_then(|_| self.file.write_all(bytes))
            .map_err(Error::io("repair", &self.path))
    }

    fn line(&self, row: &Row, votes: &Json) -> String {
        let row = row.with(SCORE, votes.clone()).with(MODEL, Json::Text(self.model.clone()));
        format!("{}\n", row.value())
    }

    /// Writes one answer with its votes, so that no crash can take them away.
    pub(super) fn add(&mut self, row: &Row, votes: &Json) -> Result<()> {
        let line = self.line(row, votes);
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush());
        written.map_err(Error::io("write", &self.path))
    }

    /// Puts the file into the order of `rows`, at once or not at all. Rows without votes are kept where
    /// `keep` says so.
    pub(super) fn finish(
        self,
        rows: &[&Row],
        votes: &[Option<Json>],
        keep: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let mut text = String::new();
        for (at, (row, votes)) in rows.iter().zip(votes).enumerate() {
            match votes {
                Some(votes) => text += &self.line(row, votes),
                None if keep(at) => text += &format!("{}\n", row.value()),
                None => {}
            }
        }
        let Record { path, file, .. } = self;
        drop(file); // some systems do not replace an open file
        replace(&path, text.as_bytes())
    }
}

fn is_complete(score: &Json) -> bool {
    matches!(score, Json::List(votes) if votes.len() >= VOTES)
}
