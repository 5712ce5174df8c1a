//! The files of a checkpoint folder, mapped from disk or embedded in the program.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::weights;
use crate::error::{Error, Result};

/// Where files come from.
pub(super) enum Folder<'a> {
    Disk(&'a Path),
    Static(&'a [(&'a str, &'static [u8])], &'a Path),
}

impl Folder<'_> {
    pub(super) fn path(&self) -> &Path {
        match self {
            Folder::Disk(path) | Folder::Static(_, path) => path,
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Folder::Disk(dir) => dir.join(name).is_file(),
            Folder::Static(files, _) => files.iter().any(|(n, _)| *n == name),
        }
    }

    /// Up to four files that look like weights, for the message that none can be used.
    pub(super) fn weight_like(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Folder::Disk(dir) => std::fs::read_dir(dir)
                .map(|all| all.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
                .unwrap_or_default(),
            Folder::Static(files, _) => files.iter().map(|(n, _)| (*n).to_string()).collect(),
        };
        names.retain(|n| [".safetensors", ".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| n.ends_with(end)));
        names.sort_unstable();
        names.truncate(4);
        names
    }

    pub(super) fn load(&self, name: &str) -> Result<Bytes> {
        let path = self.path().join(name);
        let bytes = match self {
            Folder::Disk(_) => {
                let file = File::open(&path).map_err(Error::io("open", &path))?;
                if file.metadata().map_err(Error::io("read", &path))?.len() == 0 {
                    return Err(weights(&path, "is empty (0 bytes); download it again"));
                }
                // SAFETY: the map is read-only and private to this program. As with any mapped file, another
                // program could change or cut the file while it is mapped; weight files are not written while
                // in use, and the values read are plain numbers for which every bit pattern is valid.
                let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", &path))?;
                Bytes(Arc::new(Memory::Mapped(map, file)))
            }
            Folder::Static(files, _) => match files.iter().find(|(n, _)| *n == name) {
                Some((_, [])) => return Err(weights(&path, "is empty (0 bytes)")),
                Some((_, content)) => Bytes(Arc::new(Memory::Static(content))),
                None => return Err(weights(&path, "there is no such file")),
            },
        };
        if bytes.as_ref().starts_with(b"version https://git-lfs") {
            return Err(weights(
                &path,
                "is a git-lfs pointer, not the weights; fetch it with `git lfs pull`",
            ));
        }
        Ok(bytes)
    }
}

/// A whole file in memory; cloning shares it.
#[derive(Clone)]
pub(super) struct Bytes(Arc<Memory>);

enum Memory {
    /// With the file, which may have another name or none by now.
    Mapped(memmap2::Mmap, File),
    Static(&'static [u8]),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match &*self.0 {
            Memory::Mapped(map, _) => map,
            Memory::Static(bytes) => bytes,
        }
    }
}

impl Bytes {
    /// The file that they are mapped from.
    pub(super) fn file(&self) -> Option<&File> {
        match &*self.0 {
            Memory::Mapped(_, file) => Some(file),
            Memory::Static(_) => None,
        }
    }

    pub(super) fn release(&self, range: &Range<usize>) {
        #[cfg(unix)]
        if let Memory::Mapped(map, _) = &*self.0
            && !range.is_empty()
        {
            // SAFETY: the map is read-only and backed by a file, so dropping its pages loses nothing: the
            // next access reads the same bytes from the file. A refusal only leaves the pages in memory.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
