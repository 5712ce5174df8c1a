//! The file of answers: one JSON line for each finished item, written at once, so that no interruption costs more
//! than the item at hand.
//!
//! A run that is killed may leave half a line at the end; [`AnswerFile::resume`] takes it off. Where the published
//! file is a JSON array (MMAU), the lines become one when the run is complete, in the order of the data, through a
//! second file that takes the place of the first.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::eval::benchmark::Benchmark;
use crate::eval::dataset::read_objects;
use crate::eval::{Object, record};
use crate::files::replace;

/// Lines are handed to the operating system one by one, which outlives the process; the disk is waited for no
/// more often than this, which bounds what a power failure costs.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// An answer file that is being written. No other process can open it for writing meanwhile.
#[derive(Debug)]
pub struct AnswerFile {
    path: PathBuf,
    file: File,
    benchmark: Benchmark,
    synced: Instant,
}

impl AnswerFile {
    /// A new file, or one that is empty: that of a run which ended before its first answer.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are answers in it, [`Error::Io`] if it cannot be made.
    pub fn create(path: &Path, benchmark: Benchmark) -> Result<AnswerFile> {
        let file = OpenOptions::new().append(true).read(true).create(true).open(path);
        let answers = AnswerFile::locked(path, file.map_err(Error::io("create", path))?, benchmark)?;
        if answers.file.metadata().map_err(Error::io("read", path))?.len() == 0 {
            return Ok(answers);
        }
        let mut first = [0];
        (&answers.file).read_exact(&mut first).map_err(Error::io("read", path))?;
        if may_be_rows(&first) {
            let reason =
                format!("{} has answers in it; --resume continues it, or name another file", path.display());
            return Err(Error::usage("--out", reason));
        }
        Err(no_answers(path))
    }

    /// Opens a file that an earlier run left, or makes it if there is none, and returns its rows. Half a line at
    /// the end is cut off.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Config`] if a line before the last is damaged; [`Error::Usage`] if another process
    /// is writing it, or if it never was an answer file.
    pub fn resume(path: &Path, benchmark: Benchmark) -> Result<(AnswerFile, Vec<Object>)> {
        let file = OpenOptions::new().append(true).read(true).create(true).open(path);
        let mut answers = AnswerFile::locked(path, file.map_err(Error::io("open", path))?, benchmark)?;
        let mut bytes = Vec::new();
        answers.file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        if bytes.trim_ascii_start().first() != Some(&b'[') {
            let whole = whole_lines(&bytes);
            if !may_be_rows(&bytes) || !may_be_rows(&bytes[whole..]) {
                return Err(no_answers(path));
            }
            if whole < bytes.len() {
                answers.file.set_len(whole as u64).map_err(Error::io("shorten", path))?;
            }
            return Ok((answers, read_objects(path)?));
        }
        let rows = read_objects(path)?;
        answers.replace(&rows)?;
        Ok((answers, rows))
    }

    fn locked(path: &Path, file: File, benchmark: Benchmark) -> Result<AnswerFile> {
        if !file.metadata().map_err(Error::io("read", path))?.is_file() {
            return Err(Error::usage("--out", format!("{} is no regular file; name one", path.display())));
        }
        // Some network file systems know no locks; the run is not refused for that.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let reason =
                format!("another process is writing {}; name another file or end that one", path.display());
            return Err(Error::usage("--out", reason));
        }
        Ok(AnswerFile { path: path.into(), file, benchmark, synced: Instant::now() })
    }

    /// Adds a row, with a single write.
    ///
    /// # Errors
    /// [`Error::Io`], for example when the disk is full.
    pub fn append(&mut self, row: &Object) -> Result<()> {
        let fail = || Error::io("write", &self.path);
        let line = lines(std::slice::from_ref(row)).map_err(fail())?;
        self.file.write_all(&line).map_err(fail())?;
        if self.synced.elapsed() >= SYNC_EVERY {
            self.file.sync_data().map_err(fail())?;
            self.synced = Instant::now();
        }
        Ok(())
    }

    /// Puts these rows in place of all.
    ///
    /// # Errors
    /// [`Error::Io`]; the file is as before then.
    pub fn replace(&mut self, rows: &[Object]) -> Result<()> {
        replace(&self.path, &lines(rows).map_err(Error::io("write", &self.path))?)?;
        let file = OpenOptions::new().append(true).read(true).open(&self.path);
        *self = AnswerFile::locked(&self.path, file.map_err(Error::io("open", &self.path))?, self.benchmark)?;
        Ok(())
    }

    /// Ends a run whose items all have their row: gives the file its published form.
    ///
    /// # Errors
    /// [`Error::Io`]; the file can be resumed then.
    pub fn finish(mut self) -> Result<()> {
        self.file.sync_all().map_err(Error::io("write", &self.path))?;
        if !self.benchmark.answers_are_an_array() {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(0)).map_err(Error::io("read", &self.path))?;
        let mut rows = read_objects(&self.path)?;
        rows.sort_by_key(|row| record::number(row, "index"));
        write(&self.path, self.benchmark, &rows)
    }
}

/// Writes a complete answer file in its published form, all or nothing.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn write(path: &Path, benchmark: Benchmark, rows: &[Object]) -> Result<()> {
    let mut content = lines(rows).map_err(Error::io("write", path))?;
    if benchmark.answers_are_an_array() {
        content.pop();
        let rows = String::from_utf8_lossy(&content).replace('\n', ",\n");
        content = format!("[\n{rows}\n]\n").into_bytes();
    }
    replace(path, &content)
}

/// One line of JSON for each row; JSON text holds no line breaks of its own.
fn lines(rows: &[Object]) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// True if this may be the start of rows, of an array of them, of a row that was cut off, or of the zeros that a power
/// failure leaves in its place.
fn may_be_rows(content: &[u8]) -> bool {
    matches!(content.trim_ascii_start().first(), None | Some(b'{' | b'[' | 0))
}

fn no_answers(path: &Path) -> Error {
    let reason = format!("{} is not empty and no answer file; name another file", path.display());
    Error::usage("--out", reason)
}

/// The length of the content without an unfinished last line: one without its end, or one that is no JSON (a
/// power failure can leave zeros where the line should be).
fn whole_lines(bytes: &[u8]) -> usize {
    let ended = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let Some(body) = bytes[..ended].strip_suffix(b"\n") else { return 0 };
    let start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let last = &body[start..];
    let is_whole = last.trim_ascii().is_empty() || serde_json::from_slice::<Object>(last).is_ok();
    if is_whole { ended } else { start }
}

#[cfg(test)]
mod tests {
    use super::whole_lines;

    #[test]
    fn half_a_line_is_no_line() {
        for (content, whole) in [
            ("", 0),
            ("{\"a\"", 0),
            ("{\"a\":1}\n", 8),
            ("{\"a\":1}\n{\"a\":2}", 8),
            ("{\"a\":1}\n\0\0\0\0", 8),
            ("{\"a\":1}\n\0\0\n", 8),
            ("{\"a\":1}\n{\"a\":2}\n", 16),
        ] {
            assert_eq!(whole_lines(content.as_bytes()), whole, "{content:?}");
        }
    }
}
