//! Writing a quantized copy of a LLaDA checkpoint.
//!
//! Input: a LLaDA folder in any layout that loads. Output: a folder with `model.safetensors` and copies of the
//! JSON files (configuration, tokenizer). A quantized matrix `NAME` `[rows, cols]` is stored as the byte tensor
//! `NAME.q8_0` or `NAME.q4_0` of shape `[rows, row bytes]` in the layout of [`crate::quant`]; all other tensors
//! are copied as they are. The loader finds either under `NAME`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, View};

use crate::checkpoint::{Checkpoint, StoredDtype, StoredTensor};
use crate::error::{Error, Result};
use crate::model::Quantization;
use crate::model::config::LladaConfig;
use crate::quant::QuantFormat;

const WEIGHTS: &str = "model.safetensors";

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantized {
    /// The weight file.
    pub file: PathBuf,
    /// Bytes of all tensors before and after.
    pub bytes: [u64; 2],
    /// Matrices that were quantized.
    pub matrices: usize,
}

/// Called with the bytes of each tensor read.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

/// Bytes that a quantization will read: the total for a progress bar.
///
/// Errors: as [`Checkpoint::open`].
pub fn input_bytes(input: &Path) -> Result<u64> {
    Ok(Checkpoint::open(input)?.total_bytes())
}

/// Quantizes the LLaDA folder `input` into the folder `output`, which is created.
///
/// Errors: an input that does not load or is quantized already; an output that holds weights already.
pub fn quantize(input: &Path, output: &Path, to: Quantization, progress: Progress<'_>) -> Result<Quantized> {
    let config = LladaConfig::read(input)?;
    let checkpoint = Checkpoint::open(input)?;
    let prefix = config.check(&checkpoint)?;
    let file = output.join(WEIGHTS);
    if file.exists() {
        let reason = format!("{} exists already; remove it or name another folder", file.display());
        return Err(Error::usage("OUT", reason));
    }
    let progress = RefCell::new(progress);
    let read = |bytes: u64| (progress.borrow_mut())(bytes);
    let mut tensors = Vec::new();
    for name in checkpoint.names() {
        let stored = checkpoint.get(name)?;
        if let StoredDtype::Quantized(format) = stored.dtype {
            let reason = format!("tensor `{name}` is {format} already; quantize the original weights");
            return Err(Error::Weights { path: stored.file.into(), reason });
        }
        let wanted = name.strip_prefix(prefix).and_then(|name| to.of(name));
        let format = wanted.filter(|f| matches!(stored.shape, [_, cols] if f.fits(*cols)));
        let name = format.map_or(name.to_string(), |format| format!("{name}.{format}"));
        let shape = match (format, stored.shape) {
            (Some(format), [rows, cols]) => vec![*rows, format.row_bytes(*cols)],
            (_, shape) => shape.to_vec(),
        };
        tensors.push((name, Entry { checkpoint: &checkpoint, stored, format, shape, read: &read }));
    }
    let matrices = tensors.iter().filter(|(_, entry)| entry.format.is_some()).count();
    let after = tensors.iter().map(|(_, entry)| entry.data_len() as u64).sum();
    std::fs::create_dir_all(output).map_err(Error::io("create", output))?;
    // Under another name until it is complete: a cut-off file would look like a damaged checkpoint.
    let part = output.join(format!("{WEIGHTS}.part"));
    let metadata = [("format".to_string(), "pt".to_string())].into();
    safetensors::serialize_to_file(tensors, Some(metadata), &part).map_err(|e| Error::Weights {
        path: part.clone(),
        reason: format!("cannot be written: {e}; is the disk full?"),
    })?;
    // The library makes files that only their owner may read; the copy may be read by who may read the original.
    let original = checkpoint.file_of(checkpoint.names().next().unwrap_or_default());
    let permissions = std::fs::metadata(original).map_err(Error::io("read", original))?.permissions();
    std::fs::set_permissions(&part, permissions).map_err(Error::io("set the permissions of", &part))?;
    std::fs::rename(&part, &file).map_err(Error::io("rename", &part))?;
    copy_json(input, output)?;
    Ok(Quantized { file, bytes: [checkpoint.total_bytes(), after], matrices })
}

/// Copies configuration and tokenizer; an index of shards would name files that are not there.
fn copy_json(input: &Path, output: &Path) -> Result<()> {
    for entry in std::fs::read_dir(input).map_err(Error::io("read", input))? {
        let path = entry.map_err(Error::io("read", input))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".json") && !name.ends_with(".index.json") {
            std::fs::copy(&path, output.join(name)).map_err(Error::io("copy", &path))?;
        }
    }
    Ok(())
}

/// One tensor of the output, made when it is written.
struct Entry<'a> {
    checkpoint: &'a Checkpoint,
    stored: StoredTensor<'a>,
    format: Option<QuantFormat>,
    /// As it is written: `[rows, row bytes]` for a quantized matrix.
    shape: Vec<usize>,
    read: &'a dyn Fn(u64),
}

impl View for Entry<'_> {
    fn dtype(&self) -> Dtype {
        match (self.format, self.stored.dtype) {
            (Some(_), _) | (_, StoredDtype::Quantized(_)) => Dtype::U8,
            (None, StoredDtype::F32) => Dtype::F32,
            (None, StoredDtype::F16) => Dtype::F16,
            (None, StoredDtype::BF16) => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let data = match self.format.and_then(|format| self.stored.quantized(format)) {
            Some(bytes) => Cow::Owned(bytes),
            None => Cow::Borrowed(self.stored.bytes.as_ref()),
        };
        if matches!(data, Cow::Owned(_)) {
            self.checkpoint.release(&self.stored);
        }
        (self.read)(self.stored.bytes.len() as u64);
        data
    }

    fn data_len(&self) -> usize {
        match self.format {
            Some(_) => self.shape.iter().product(),
            None => self.stored.bytes.len(),
        }
    }
}
