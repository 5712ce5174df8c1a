//! Checkpoint folders: finding tensors by name in safetensors and torch `.bin` files.
//!
//! Input: a folder as it is downloaded (one weight file, or an index with shards), or the same files
//! embedded in the program. Output: [`StoredTensor`]s, whose bytes are borrowed from the memory map
//! wherever the file allows it. Invariant: after [`Checkpoint::open`] every byte range that can be
//! handed out has been checked against its file, so that later calls can neither panic nor read past
//! the end, whatever the file says about itself.

mod direct;
mod folder;
mod narrow;
mod pickle;
mod safetensors;
mod stored;
mod torch_bin;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::quant::QuantFormat;
use crate::system;
pub use direct::Blocks;
use direct::DirectFile;
use folder::{Bytes, Folder};
pub use narrow::Narrow;
pub use stored::{StoredDtype, StoredTensor};

/// The weight files a folder may have, in order of preference (that of Hugging Face transformers).
const LOOKED_FOR: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The weights of one folder.
pub struct Checkpoint {
    dir: PathBuf,
    shards: Vec<Shard>,
    entries: BTreeMap<String, Entry>,
    /// Whether its files are read past the page cache; `None`: if memory could not keep them.
    past_cache: Option<bool>,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoint({}, {} tensors)", self.dir.display(), self.entries.len())
    }
}

struct Shard {
    path: PathBuf,
    bytes: Bytes,
    /// Opened when first asked for.
    direct: OnceLock<Option<DirectFile>>,
}

struct Entry {
    shard: usize,
    tensor: Found,
    /// Found when first asked for.
    narrow: OnceLock<Narrow>,
}

/// What a file reader reports of one tensor.
struct Found {
    kind: Kind,
    shape: Vec<usize>,
    /// What `kind` needs for `shape`.
    n_bytes: usize,
    place: Place,
}

/// Element type: an accepted one, or the file's word for another, which is refused when asked for.
enum Kind {
    Accepted(StoredDtype),
    Other(String),
}

enum Place {
    /// Plain bytes of the file.
    Range(Range<usize>),
    /// Must be inflated or gathered.
    View(torch_bin::View),
}

impl Checkpoint {
    /// Maps the weight files of `dir` and reads their headers; no tensor data is touched.
    ///
    /// Looks for `model.safetensors`, `model.safetensors.index.json`, `pytorch_model.bin` and
    /// `pytorch_model.bin.index.json`, and takes the first one there is.
    ///
    /// # Errors
    /// [`Error::Weights`] or [`Error::Io`] if the folder or a file is missing, damaged, incomplete, or
    /// contradicts the index; the message names the file and, where one is concerned, the tensor.
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.exists() {
            return Err(weights(dir, "there is no such folder"));
        }
        if !dir.is_dir() {
            return Err(weights(dir, "is a file; give the checkpoint folder that holds it"));
        }
        Self::from_folder(&Folder::Disk(dir))
    }

    /// The same for files embedded in the program: pairs of file name and content. `name` stands for the
    /// folder in messages and in [`Checkpoint::dir`].
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_static(files: &[(&str, &'static [u8])], name: &Path) -> Result<Self> {
        Self::from_folder(&Folder::Static(files, name))
    }

    fn from_folder(folder: &Folder<'_>) -> Result<Self> {
        let dir = folder.path();
        let Some(first) = LOOKED_FOR.into_iter().find(|name| folder.has(name)) else {
            let mut reason = format!("no weight file in this folder; looked for {}", LOOKED_FOR.join(", "));
            let other = folder.weight_like();
            if !other.is_empty() {
                reason += &format!(" (there is {}, which cannot be used without an index)", other.join(", "));
            }
            return Err(weights(dir, reason));
        };
        let mut this =
            Checkpoint { dir: dir.to_path_buf(), shards: vec![], entries: BTreeMap::new(), past_cache: None };
        if !first.ends_with(".json") {
            this.add_shard(folder, first)?;
            return Ok(this);
        }
        let index_path = dir.join(first);
        let index: Index = serde_json::from_slice(folder.load(first)?.as_ref()).map_err(|e| {
            weights(
                &index_path,
                format!("is not a JSON index with a `weight_map` of tensor to file names: {e}"),
            )
        })?;
        if index.weight_map.is_empty() {
            return Err(weights(&index_path, "its `weight_map` is empty"));
        }
        let mut shards: BTreeMap<&str, &str> = BTreeMap::new();
        for (tensor, file) in &index.weight_map {
            shards.entry(file).or_insert(tensor);
        }
        for (file, tensor) in shards {
            // A shard lies beside its index; anything else would let a download read other folders.
            if file.is_empty() || file.contains(['/', '\\', ':']) || file.starts_with('.') {
                let reason = format!("tensor `{tensor}`: `{file}` is not a plain file name");
                return Err(weights(&index_path, reason));
            }
            if !folder.has(file) {
                let reason = format!(
                    "names shard `{file}` (tensor `{tensor}`), which is not in the folder; download it again"
                );
                return Err(weights(&index_path, reason));
            }
            this.add_shard(folder, file)?;
        }
        for (tensor, file) in &index.weight_map {
            let held = this.entries.get(tensor).is_some_and(|e| this.shards[e.shard].path.ends_with(file));
            if !held {
                let reason = format!("has no tensor `{tensor}`, which {first} says it holds");
                return Err(weights(&dir.join(file), reason));
            }
        }
        Ok(this)
    }

    fn add_shard(&mut self, folder: &Folder<'_>, file: &str) -> Result<()> {
        let path = folder.path().join(file);
        let bytes = folder.load(file)?;
        let read = if file.ends_with(".safetensors") { safetensors::read } else { torch_bin::read };
        let found = read(&bytes).map_err(|reason| weights(&path, reason))?;
        let shard = self.shards.len();
        for (name, tensor) in found {
            let (name, tensor) = unquantized(name, tensor).map_err(|reason| weights(&path, reason))?;
            match self.entries.entry(name) {
                Slot::Vacant(slot) => _ = slot.insert(Entry { shard, tensor, narrow: OnceLock::new() }),
                Slot::Occupied(slot) => {
                    let other = self.shards[slot.get().shard].path.display();
                    return Err(weights(&path, format!("tensor `{}` is also in {other}", slot.key())));
                }
            }
        }
        self.shards.push(Shard { path, bytes, direct: OnceLock::new() });
        Ok(())
    }

    /// All tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// True if there is a tensor of that name, of whatever type.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Dimensions of a tensor, or `None` if there is no tensor of that name. Touches no data.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.tensor.shape.as_slice())
    }

    /// Element type of a tensor, or `None` if there is no tensor of that name or its type is not accepted.
    /// Touches no data.
    pub fn dtype(&self, name: &str) -> Option<StoredDtype> {
        match self.entries.get(name)?.tensor.kind {
            Kind::Accepted(dtype) => Some(dtype),
            Kind::Other(_) => None,
        }
    }

    /// True if any tensor is stored quantized. Touches no data.
    pub fn is_quantized(&self) -> bool {
        let mut kinds = self.entries.values().map(|entry| &entry.tensor.kind);
        kinds.any(|kind| matches!(kind, Kind::Accepted(StoredDtype::Quantized(_))))
    }

    /// The folder, as given.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that holds a tensor, or the folder if there is none.
    pub fn file_of(&self, name: &str) -> &Path {
        match self.entries.get(name) {
            Some(entry) => &self.shards[entry.shard].path,
            // With a single file, that is the one that lacks the tensor.
            None if self.shards.len() == 1 => &self.shards[0].path,
            None => &self.dir,
        }
    }

    /// Size of a tensor's elements in bytes, or `None` if there is no tensor of that name. Touches no data.
    pub fn byte_len(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|e| e.tensor.n_bytes as u64)
    }

    /// Sum of the sizes of all tensors in bytes, ignored ones included.
    pub fn total_bytes(&self) -> u64 {
        self.entries.values().map(|e| e.tensor.n_bytes as u64).sum()
    }

    /// The first of `candidates` with which some tensor name begins, for example
    /// `["model.encoder.", "encoder."]`.
    pub fn prefix<'c>(&self, candidates: &[&'c str]) -> Option<&'c str> {
        candidates.iter().copied().find(|c| {
            let from =
                self.entries.range::<str, _>((std::ops::Bound::Included(*c), std::ops::Bound::Unbounded));
            from.take(1).any(|(name, _)| name.starts_with(c))
        })
    }

    /// The first of `candidates` for which there is a tensor `candidate + tensor`. Unlike
    /// [`Checkpoint::prefix`] it can tell "no prefix" (`""`) from the others.
    pub fn prefix_of<'c>(&self, candidates: &[&'c str], tensor: &str) -> Option<&'c str> {
        candidates.iter().copied().find(|c| self.contains(&format!("{c}{tensor}")))
    }

    /// One tensor.
    ///
    /// # Errors
    /// [`Error::Weights`] if there is no such tensor (with the most similar names there are), if its type
    /// is not a [`StoredDtype`], or if its compressed data is damaged.
    pub fn get(&self, name: &str) -> Result<StoredTensor<'_>> {
        let Some((name, Entry { shard, tensor, .. })) = self.entries.get_key_value(name) else {
            return Err(self.missing(name));
        };
        let Shard { path: file, bytes, .. } = &self.shards[*shard];
        let dtype = match &tensor.kind {
            Kind::Accepted(dtype) => *dtype,
            Kind::Other(found) => {
                let reason = format!("tensor `{name}` has dtype {found}, expected F32, F16 or BF16");
                return Err(weights(file, reason));
            }
        };
        let bytes = match &tensor.place {
            Place::Range(range) => Cow::Borrowed(&bytes.as_ref()[range.clone()]),
            Place::View(view) => {
                let data = view.read(bytes.as_ref(), &tensor.shape, dtype.row_bytes(1));
                Cow::Owned(data.map_err(|reason| weights(file, format!("tensor `{name}`: {reason}")))?)
            }
        };
        Ok(StoredTensor { name, dtype, shape: &tensor.shape, bytes, file })
    }

    /// Checks that a tensor is there, has the given shape and an accepted type. Touches no data.
    ///
    /// # Errors
    /// [`Error::Weights`] otherwise.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let Some(Entry { shard, tensor, .. }) = self.entries.get(name) else {
            return Err(self.missing(name));
        };
        let reason = match &tensor.kind {
            Kind::Other(found) => format!("tensor `{name}` has dtype {found}, expected F32, F16 or BF16"),
            Kind::Accepted(_) if tensor.shape != shape => format!(
                "tensor `{name}` has shape {:?}, expected {shape:?} (from config.json); \
                 weights and configuration belong to different models",
                tensor.shape
            ),
            Kind::Accepted(_) => return Ok(()),
        };
        Err(weights(&self.shards[*shard].path, reason))
    }

    /// [`Checkpoint::check`], then [`Checkpoint::get`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<StoredTensor<'_>> {
        self.check(name, shape)?;
        self.get(name)
    }

    /// Has its files read past the page cache always, or never, whatever the memory.
    pub fn read_past_cache(self, always: bool) -> Checkpoint {
        Checkpoint { past_cache: Some(always), ..self }
    }

    /// True if the files should be read past the page cache: if main memory could not hold `copies` of them, so that the
    /// cache cannot keep them for the next time. To be asked before a load takes memory; false where the system does
    /// not say.
    pub(crate) fn is_read_past_cache(&self, copies: u64) -> bool {
        let bytes: usize = self.shards.iter().map(|shard| shard.bytes.as_ref().len()).sum();
        let is_larger = |available| copies.saturating_mul(bytes as u64) > available;
        self.past_cache.unwrap_or_else(|| system::available_bytes().is_some_and(is_larger))
    }

    /// Hands bytes `range` of a tensor to `take`, in order; all chunks but the last are whole words of 4 bytes. With
    /// `past_cache` they are read into that memory, past the system's page cache, if there is such a way.
    ///
    /// # Errors
    /// `take`'s, and [`Error::Io`] if the file cannot be read.
    pub fn chunks(
        &self,
        tensor: &StoredTensor<'_>,
        range: Range<usize>,
        past_cache: Option<&mut Blocks>,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        // A range that the tensor does not have fails here, whichever way it would be read.
        let mapped = &tensor.bytes[range.clone()];
        let entry = self.entries.get(tensor.name);
        if let (Some(blocks), Some(Entry { shard, tensor: Found { place: Place::Range(place), .. }, .. })) =
            (past_cache, entry)
            && let Shard { path, bytes, direct } = &self.shards[*shard]
            && let Some(file) = direct.get_or_init(|| bytes.file().and_then(DirectFile::of))
        {
            let place = place.start + range.start..place.start + range.end;
            return file.chunks(path, place, blocks, take);
        }
        take(mapped)
    }

    /// Tells the system that a tensor's part of the file is not needed in memory any more, so that reading
    /// a checkpoint larger than memory tensor by tensor keeps at most one of them resident. The bytes stay
    /// valid: touching them again reads the file again. Does nothing where the system has no such call.
    pub fn release(&self, tensor: &StoredTensor<'_>) {
        let Some(Entry { shard, tensor, .. }) = self.entries.get(tensor.name) else { return };
        let range = match &tensor.place {
            Place::Range(range) => range,
            Place::View(view) => view.range(),
        };
        self.shards[*shard].bytes.release(range);
    }

    /// The error for a tensor that is not there.
    pub(crate) fn missing(&self, name: &str) -> Error {
        let near = self.similar(name);
        let hint = if near.is_empty() {
            let some: Vec<_> = self.names().take(3).map(|n| format!("`{n}`")).collect();
            format!("it holds {} tensors, for example {}", self.entries.len(), some.join(", "))
        } else {
            format!(
                "similar names are {}",
                near.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
            )
        };
        weights(self.file_of(name), format!("tensor `{name}` is missing; {hint}"))
    }

    /// Up to three names close to `name`: the same under another prefix, or a few letters away.
    fn similar(&self, name: &str) -> Vec<&str> {
        let limit = (name.len() / 6).max(2);
        let tail = |a: &str, b: &str| a.strip_suffix(b).is_some_and(|rest| rest.ends_with('.'));
        let mut near: Vec<(usize, &str)> = self
            .names()
            .filter(|other| other.len() <= 256 && name.len() <= 256)
            .filter_map(|other| {
                let same = tail(other, name) || tail(name, other);
                let d = if same { 0 } else { edit_distance(name.as_bytes(), other.as_bytes(), limit)? };
                Some((d, other))
            })
            .collect();
        near.sort_unstable();
        near.into_iter().take(3).map(|(_, n)| n).collect()
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// A byte matrix named `NAME.q8_0` is the quantized matrix `NAME`.
fn unquantized(name: String, found: Found) -> std::result::Result<(String, Found), String> {
    let format = QuantFormat::ALL.into_iter().find(|f| name.ends_with(&format!(".{f}")));
    let Some(format) = format else { return Ok((name, found)) };
    let ([rows, row_bytes], Kind::Other(dtype)) = (found.shape.as_slice(), &found.kind) else {
        return Ok((name, found));
    };
    if dtype != "U8" {
        return Ok((name, found));
    }
    let cols = format.cols(*row_bytes).ok_or_else(|| {
        format!("tensor `{name}` has rows of {row_bytes} bytes, which no {format} row has; quantize it again")
    })?;
    let plain = name[..name.len() - format.name().len() - 1].to_string();
    let kind = Kind::Accepted(StoredDtype::Quantized(format));
    Ok((plain, Found { shape: vec![*rows, cols], kind, ..found }))
}

fn weights(path: &Path, reason: impl Into<String>) -> Error {
    Error::Weights { path: path.to_path_buf(), reason: reason.into() }
}

/// `product(shape) * element`, or `None` if it does not fit.
fn byte_count(shape: &[usize], element: usize) -> Option<usize> {
    shape.iter().try_fold(element, |n, &d| n.checked_mul(d))
}

/// Levenshtein distance if it is at most `limit`.
fn edit_distance(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    Some(row[b.len()]).filter(|d| *d <= limit)
}
