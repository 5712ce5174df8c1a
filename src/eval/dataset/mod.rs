//! The benchmarks' data as they are published: JSON with audio files beside it, or Parquet with the audio inside.
//!
//! Nothing but the questions is held in memory; audio is read when its turn comes.

mod json;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::eval::Object;
use crate::eval::benchmark::{Benchmark, published_subset};

pub(super) use json::read as read_objects;
pub(super) use table::Clips;

/// One question.
#[derive(Debug, Clone)]
pub struct Item {
    /// Position in the data, from 0.
    pub index: usize,
    /// The fields of the data, without embedded audio.
    pub fields: Object,
    /// Where the clip is.
    pub audio: AudioSource,
    /// VoiceBench subset, for example `sd-qa`.
    pub subset: Option<String>,
    /// Split of the subset, for example `usa`.
    pub split: Option<String>,
}

/// Where a clip is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioSource {
    /// A file of its own.
    File(PathBuf),
    /// A cell of a Parquet file.
    Embedded {
        /// The Parquet file.
        table: Arc<Path>,
        /// Row in it, from 0.
        row: usize,
    },
    /// The item does not say.
    Unknown {
        /// The field that should.
        field: &'static str,
    },
}

impl AudioSource {
    /// The clip's name in messages and records.
    pub fn name(&self) -> PathBuf {
        match self {
            AudioSource::File(path) => path.clone(),
            AudioSource::Embedded { table, row } => PathBuf::from(format!("{}#{row}", table.display())),
            AudioSource::Unknown { field } => PathBuf::from(format!("`{field}`")),
        }
    }

    /// False if the file is certainly not there.
    pub fn may_exist(&self) -> bool {
        match self {
            AudioSource::File(path) => path.is_file(),
            AudioSource::Embedded { .. } => true,
            AudioSource::Unknown { .. } => false,
        }
    }
}

/// Reads the items of a benchmark in the order of its files.
///
/// `path` is a JSON, JSON Lines or (VoiceBench) Parquet file, or for VoiceBench a folder of them, read in the order
/// of their paths. Relative audio paths start at `audio_root`, or else at the folder of the file.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read, [`Error::Config`] if it is not what its name says, [`Error::Usage`] if
/// there is nothing in it or nothing in it names a clip, as in another benchmark's data.
pub fn read(benchmark: Benchmark, path: &Path, audio_root: Option<&Path>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for file in files(benchmark, path)? {
        let (subset, split) = match benchmark {
            Benchmark::Voicebench => subset_of(&file),
            _ => (None, None),
        };
        let embedded = is_parquet(&file);
        let rows = if embedded { table::read(&file)? } else { json::read(&file)? };
        let root = audio_root.or_else(|| file.parent()).unwrap_or(Path::new(""));
        let shared: Arc<Path> = file.as_path().into();
        if !embedded {
            check_fields(benchmark, &file, &rows)?;
        }
        for (row, fields) in rows.into_iter().enumerate() {
            let audio = match embedded {
                true => AudioSource::Embedded { table: shared.clone(), row },
                false => audio_file(&fields, benchmark.audio_field(), root),
            };
            items.push(Item {
                index: items.len(),
                fields,
                audio,
                subset: subset.clone(),
                split: split.clone(),
            });
        }
    }
    match items.is_empty() {
        true => Err(Error::usage("--data", format!("{} holds no questions", path.display()))),
        false => Ok(items),
    }
}

/// Refuses a file whose items all lack the field of the clip: it is of another benchmark, or no benchmark's data.
fn check_fields(benchmark: Benchmark, file: &Path, rows: &[Object]) -> Result<()> {
    let field = benchmark.audio_field();
    let Some(first) = rows.first() else { return Ok(()) };
    if rows.iter().any(|row| !matches!(audio_file(row, field, Path::new("")), AudioSource::Unknown { .. })) {
        return Ok(());
    }
    let others = Benchmark::ALL.into_iter().filter(|other| *other != benchmark);
    let remedy = match others.into_iter().find(|other| first.contains_key(other.audio_field())) {
        Some(other) => format!(
            "it has `{}`, as the data of {other}: use `diffa eval {other}`, or name the data of {benchmark}",
            other.audio_field()
        ),
        None => format!("is it the data of {benchmark}?"),
    };
    let reason = format!(
        "no item of {} names its clip in the field `{field}`, as those of {benchmark} do; {remedy}",
        file.display()
    );
    Err(Error::usage("--data", reason))
}

fn audio_file(fields: &Object, field: &'static str, root: &Path) -> AudioSource {
    let named = match fields.get(field) {
        Some(Value::String(name)) => Some(name.as_str()),
        // What the Hugging Face library writes for a clip that is not embedded.
        Some(Value::Object(clip)) => clip.get("path").and_then(Value::as_str),
        _ => None,
    };
    named
        .filter(|name| !name.is_empty())
        .map_or(AudioSource::Unknown { field }, |name| AudioSource::File(root.join(name)))
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// The data files at `path`.
fn files(benchmark: Benchmark, path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        if is_parquet(path) && benchmark != Benchmark::Voicebench {
            let reason = format!("{} is a Parquet file; {benchmark} is published as JSON", path.display());
            return Err(Error::usage("--data", reason));
        }
        return Ok(vec![path.to_path_buf()]);
    }
    if benchmark != Benchmark::Voicebench {
        let reason = format!("{} is a folder; name the JSON file of {benchmark} in it", path.display());
        return Err(Error::usage("--data", reason));
    }
    let mut found = Vec::new();
    find(path, &mut found)?;
    found.sort();
    match found.is_empty() {
        true => {
            Err(Error::usage("--data", format!("there is no .parquet or .jsonl file in {}", path.display())))
        }
        false => Ok(found),
    }
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let is_lines = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
        if is_hidden {
            continue;
        }
        if path.is_dir() {
            find(&path, found)?;
        } else if is_parquet(&path) || is_lines {
            found.push(path);
        }
    }
    Ok(())
}

/// Subset and split by the file's place: `sd-qa/usa-00000-of-00001.parquet`, `sd-qa-usa.jsonl`, `openbookqa.jsonl`.
fn subset_of(file: &Path) -> (Option<String>, Option<String>) {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if is_parquet(file) {
        let folder =
            fs::canonicalize(file).ok().and_then(|full| Some(full.parent()?.file_name()?.to_owned()));
        // `-00000-of-00001` numbers the pieces of a split.
        let numbered = stem.rsplit_once("-of-").and_then(|(before, _)| before.rsplit_once('-'));
        let split = numbered.map_or(stem.as_str(), |(split, _)| split).to_owned();
        return (folder.map(|name| name.to_string_lossy().into_owned()), Some(split));
    }
    match published_subset(&stem) {
        Some((subset, "")) => (Some(subset.to_owned()), None),
        Some((subset, split)) => (Some(subset.to_owned()), Some(split.to_owned())),
        None => (Some(stem), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_tell_the_subset() {
        let of = |name: &str| subset_of(Path::new(name));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("x/sd-qa-usa.jsonl"), (some("sd-qa"), some("usa")));
        assert_eq!(of("alpacaeval_full.jsonl"), (some("alpacaeval_full"), None));
        assert_eq!(of("alpacaeval-test.jsonl"), (some("alpacaeval"), some("test")));
        assert_eq!(of("mine.jsonl"), (some("mine"), None));
        assert_eq!(of("mmsu_extra.jsonl"), (some("mmsu_extra"), None));
        assert_eq!(of("absent/usa-00000-of-00002.parquet").1, some("usa"));
        assert_eq!(of("absent/test.parquet").1, some("test"));
    }
}
