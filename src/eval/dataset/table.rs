//! Parquet files in the layout of the Hugging Face hub: a column `audio` of `{bytes, path}`, and whatever else.
//!
//! The other columns are read at once. Of the audio column, the reader skips to the row that is wanted; whole pages
//! are passed over unread.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::Type;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::eval::Object;

/// The column of the clips.
const AUDIO: &str = "audio";
/// Where in it the bytes are.
const BYTES: &str = "audio.bytes";

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    SerializedFileReader::new(file).map_err(unreadable(path))
}

fn unreadable(path: &Path) -> impl Fn(ParquetError) -> Error {
    let path = path.to_path_buf();
    move |e| Error::Config {
        path: path.clone(),
        key: "contents".into(),
        reason: format!("this is not a readable Parquet file ({e}); download it again"),
    }
}

/// All rows of a file, without its audio.
pub(super) fn read(path: &Path) -> Result<Vec<Object>> {
    let reader = open(path)?;
    audio_column(path, &reader)?;
    let schema = reader.metadata().file_metadata().schema();
    let others = schema.get_fields().iter().filter(|field| field.name() != AUDIO).cloned().collect();
    let others =
        Type::group_type_builder(schema.name()).with_fields(others).build().map_err(unreadable(path))?;
    let rows = reader.get_row_iter(Some(others)).map_err(unreadable(path))?;
    rows.map(|row| match row.map_err(unreadable(path))?.to_json_value() {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Object::new()),
    })
    .collect()
}

/// The index of the leaf column that holds the clips' bytes.
fn audio_column(path: &Path, reader: &SerializedFileReader<File>) -> Result<usize> {
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let found = schema.columns().iter().position(|column| column.path().string() == BYTES);
    found.ok_or_else(|| Error::Config {
        path: path.into(),
        key: BYTES.into(),
        reason: "there is no such column; a file of the Hugging Face hub with embedded audio is expected"
            .into(),
    })
}

/// Reads clips out of Parquet files; fastest in the order of the rows.
#[derive(Default)]
pub(in crate::eval) struct Clips {
    open: Option<OpenTable>,
}

struct OpenTable {
    path: PathBuf,
    reader: Arc<SerializedFileReader<File>>,
    column: usize,
    /// Row group, the next row in it, and the reader that stands there.
    at: Option<(usize, usize, ColumnReader)>,
}

impl Clips {
    /// The content of the clip in `row` of `table`, an audio file of any format.
    pub(in crate::eval) fn bytes(&mut self, table: &Path, row: usize) -> Result<Vec<u8>> {
        if self.open.as_ref().is_none_or(|open| open.path != table) {
            let reader = Arc::new(open(table)?);
            let column = audio_column(table, &reader)?;
            self.open = Some(OpenTable { path: table.into(), reader, column, at: None });
        }
        match &mut self.open {
            Some(open) => open.bytes(row),
            None => Err(no_clip(table, row)),
        }
    }
}

impl OpenTable {
    fn bytes(&mut self, row: usize) -> Result<Vec<u8>> {
        let fail = unreadable(&self.path);
        let (mut group, mut within) = (0, row);
        let groups = self.reader.metadata().row_groups();
        while let Some(rows) =
            groups.get(group).map(|group| group.num_rows() as usize).filter(|rows| within >= *rows)
        {
            (group, within) = (group + 1, within - rows);
        }
        if group == groups.len() {
            return Err(no_clip(&self.path, row));
        }
        let (next, mut column) = match self.at.take() {
            Some((at, next, column)) if at == group && next <= within => (next, column),
            _ => {
                let group = self.reader.get_row_group(group).map_err(&fail)?;
                (0, group.get_column_reader(self.column).map_err(&fail)?)
            }
        };
        let ColumnReader::ByteArrayColumnReader(typed) = &mut column else {
            return Err(no_clip(&self.path, row));
        };
        typed.skip_records(within - next).map_err(&fail)?;
        let mut values = Vec::with_capacity(1);
        let (mut definition, mut repetition) = (Vec::new(), Vec::new());
        typed.read_records(1, Some(&mut definition), Some(&mut repetition), &mut values).map_err(&fail)?;
        self.at = Some((group, within + 1, column));
        values.pop().map(|bytes| bytes.data().to_vec()).ok_or_else(|| no_clip(&self.path, row))
    }
}

fn no_clip(table: &Path, row: usize) -> Error {
    Error::Audio { path: table.into(), reason: format!("row {row} has no audio in it") }
}
