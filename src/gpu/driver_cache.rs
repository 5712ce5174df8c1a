//! What the driver remembers of compiled kernels, kept in a file from one program to the next.
//!
//! Vulkan only, and only on devices with the feature for it; a host decides by asking for the feature whether
//! its device has one. The file is an aid: whatever is wrong with it, kernels are compiled as if there were none.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::replace;
use crate::fnv::fnv1a;
use crate::gpu::Gpu;

/// Begins every file; the digit counts its layouts.
const MAGIC: &[u8; 8] = b"diffapc1";

/// The driver's cache and the file it came from.
#[derive(Debug)]
pub(super) struct DriverCache {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// Content of the file when it was opened, empty if there was none of any use.
    read: Vec<u8>,
}

impl DriverCache {
    pub(super) fn handle(&self) -> &wgpu::PipelineCache {
        &self.cache
    }
}

impl Gpu {
    /// The file for this adapter in the user's cache folder; `None` if the backend has no such cache, or the
    /// system no such folder.
    pub fn pipeline_file(&self) -> Option<PathBuf> {
        let key = wgpu::util::pipeline_cache_key(&self.caps().info)?;
        Some(dirs::cache_dir()?.join("diffa").join(key))
    }

    /// Lets the driver take compiled kernels from a file and remember new ones, which [`Gpu::save_pipelines`]
    /// writes. A file that is missing, damaged, or of another driver counts as empty. Call it before anything
    /// is compiled.
    ///
    /// Returns whether the device can do that; if not, nothing happens. A second call changes nothing.
    ///
    /// Errors: a file of another kind, which would be lost; device errors.
    pub fn keep_pipelines(&self, path: &Path) -> Result<bool> {
        if is_foreign(path) {
            let reason =
                format!("{} holds something else than compiled kernels; name another file", path.display());
            return Err(Error::usage("--pipeline-cache", reason));
        }
        if !self.caps().features.contains(wgpu::Features::PIPELINE_CACHE) {
            return Ok(false);
        }
        let read = std::fs::read(path).ok().and_then(|file| unpacked(&file)).unwrap_or_default();
        let cache = self.scoped("opening the pipeline cache", || {
            let descriptor = wgpu::PipelineCacheDescriptor {
                label: Some("diffa"),
                data: Some(read.as_slice()).filter(|data| !data.is_empty()),
                fallback: true,
            };
            // SAFETY: the data must be what a cache returned. It is: the file begins with this module's mark and
            // has its checksum; wgpu compares adapter and driver, and falls back to an empty cache.
            unsafe { self.device().create_pipeline_cache(&descriptor) }
        })?;
        let opened = DriverCache { cache, path: path.to_path_buf(), read };
        _ = self.inner.pipelines.driver.set(opened);
        Ok(true)
    }

    /// Writes what the driver remembers to the file given to [`Gpu::keep_pipelines`], whole or not at all, if it
    /// is not what the file held. Returns whether it was written.
    ///
    /// Errors: a folder or file that cannot be written.
    pub fn save_pipelines(&self) -> Result<bool> {
        let Some(DriverCache { cache, path, read }) = self.inner.pipelines.driver.get() else {
            return Ok(false);
        };
        let Some(data) = cache.get_data().filter(|data| data != read) else { return Ok(false) };
        replace(path, &packed(&data))?;
        Ok(true)
    }
}

/// True for a file with content that was never written here, not even in part.
fn is_foreign(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head));
    read.is_ok() && !MAGIC.starts_with(&head)
}

/// Mark, checksum, data.
fn packed(data: &[u8]) -> Vec<u8> {
    [MAGIC, &checksum(data).to_le_bytes(), data].concat()
}

/// The data of a file that is whole.
fn unpacked(file: &[u8]) -> Option<Vec<u8>> {
    let (sum, data) = file.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*sum) == checksum(data)).then(|| data.to_vec())
}

fn checksum(data: &[u8]) -> u64 {
    fnv1a(data.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_another_kind_are_told_from_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(!is_foreign(&path), "there is none");
        for (content, foreign) in
            [(&b""[..], false), (b"diffapc1 and more", false), (b"diff", false), (b"notes", true)]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(is_foreign(&path), foreign, "{content:?}");
        }
    }

    #[test]
    fn only_whole_files_are_unpacked() {
        let file = packed(b"compiled kernels");
        assert_eq!(unpacked(&file).as_deref(), Some(b"compiled kernels".as_slice()));
        assert_eq!(unpacked(&packed(b"")).as_deref(), Some(b"".as_slice()));
        for n in 0..file.len() {
            assert_eq!(unpacked(&file[..n]), None, "cut to {n} bytes");
            let mut damaged = file.clone();
            damaged[n] ^= 1;
            assert_eq!(unpacked(&damaged), None, "byte {n} damaged");
        }
        assert_eq!(unpacked(&[file, vec![0]].concat()), None, "longer");
    }
}
