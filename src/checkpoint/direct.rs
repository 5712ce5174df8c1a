//! Files read past the system's page cache.
//!
//! What memory could not keep anyway is only copied once more on its way through the cache, and pushes out what others
//! keep there. On Linux such a file can be read straight from the disk (`O_DIRECT`), in whole blocks.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result};

/// Offsets, lengths and addresses of reads are multiples of this; no disk asks for more.
const BLOCK: usize = 4096;

/// Bytes of one read, one large page: the disk writes into one piece of memory.
const READ_BYTES: usize = 2 << 20;

/// Memory that one reader reads into.
#[derive(Debug, Default)]
pub struct Blocks(Option<memmap2::MmapMut>);

impl Blocks {
    /// [`READ_BYTES`] bytes, where a large page begins.
    fn memory(&mut self) -> io::Result<&mut [u8]> {
        let map = match &mut self.0 {
            Some(map) => map,
            none => {
                let map = memmap2::MmapMut::map_anon(2 * READ_BYTES)?;
                // Advice only: small pages serve, at twice the time.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                none.insert(map)
            }
        };
        let start = map.as_ptr().align_offset(READ_BYTES);
        Ok(&mut map[start..start + READ_BYTES])
    }
}

/// A file that is open for such reads.
pub(super) struct DirectFile(File);

impl DirectFile {
    /// The same file, opened once more; `None` where the system or the file system has no such reads.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn of(file: &File) -> Option<DirectFile> {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
        // By number: its name may be that of another file by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = DirectFile(File::options().read(true).custom_flags(flags).open(path).ok()?);
        // Some file systems take the flag and refuse the reads.
        file.read_at(&mut Blocks::default().memory().ok()?[..BLOCK], 0).ok()?;
        Some(file)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn of(_: &File) -> Option<DirectFile> {
        None
    }

    #[cfg(unix)]
    fn read_at(&self, to: &mut [u8], at: usize) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, to, at as u64)
    }

    #[cfg(not(unix))]
    fn read_at(&self, _: &mut [u8], _: usize) -> io::Result<usize> {
        let _ = &self.0;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Hands the bytes of `range` to `take`, in order; `path` is for messages; all chunks but the last are whole words of 4 bytes.
    ///
    /// Errors: `take`'s, and those of reading; that the file has become shorter is one of them.
    pub(super) fn chunks(
        &self,
        path: &Path,
        range: Range<usize>,
        blocks: &mut Blocks,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let memory = blocks.memory().map_err(Error::io("read", path))?;
        let mut at = range.start;
        while at < range.end {
            let skipped = at % BLOCK;
            let wanted = (skipped + range.end - at).next_multiple_of(BLOCK).min(READ_BYTES);
            let memory = &mut memory[..wanted];
            let n = match self.read_at(memory, at - skipped) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                n => n.map_err(Error::io("read", path))?.saturating_sub(skipped),
            };
            let n = if n < range.end - at { n / 4 * 4 } else { range.end - at };
            if n == 0 {
                return Err(Error::io("read", path)(io::ErrorKind::UnexpectedEof.into()));
            }
            take(&memory[skipped..skipped + n])?;
            at += n;
        }
        Ok(())
    }
}

// The reads themselves need no disk that is read directly: any file serves.
#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_whole_and_a_shorter_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let content: Vec<u8> = (0..2 * READ_BYTES + 4099).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = DirectFile(File::open(&path).unwrap());
        let mut blocks = Blocks::default();
        for range in [0..0, 5..6, 1..BLOCK + 2, 4..content.len() - 3, READ_BYTES - 1..content.len()] {
            let mut chunks: Vec<Vec<u8>> = Vec::new();
            let mut take = |chunk: &[u8]| {
                chunks.push(chunk.to_vec());
                Ok(())
            };
            file.chunks(&path, range.clone(), &mut blocks, &mut take).unwrap();
            assert!(chunks.concat() == content[range.clone()], "{range:?}");
            assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() % 4 == 0), "{range:?}");
        }
        File::options().write(true).open(&path).unwrap().set_len(READ_BYTES as u64 + 1).unwrap();
        let error =
            file.chunks(&path, 0..content.len(), &mut blocks, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("end of file"), "{error}");
    }
}
