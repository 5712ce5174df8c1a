//! Loading checkpoints, against plain reading of the same files: `diffa bench load`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::system;

/// Bytes of one read, as `cat` takes them or more.
const READ_BYTES: usize = 1 << 20;

/// The weight files of a checkpoint, each once.
pub fn files(checkpoint: &Checkpoint) -> Vec<PathBuf> {
    let files: BTreeSet<&Path> = checkpoint.names().map(|name| checkpoint.file_of(name)).collect();
    files.into_iter().map(Path::to_path_buf).collect()
}

/// Drops the files from the page cache; false if the system gives no way to.
pub fn forget(files: &[PathBuf]) -> Result<bool> {
    let mut done = true;
    for file in files {
        done &= system::forget_file(file)?;
    }
    Ok(done)
}

/// Reads the files from end to end as `cat FILES > /dev/null` would: bytes and seconds. `progress` is called
/// with the bytes of each read and may stop it.
pub fn read_all(files: &[PathBuf], progress: &dyn Fn(u64) -> Result<()>) -> Result<(u64, f64)> {
    let mut buffer = vec![0u8; READ_BYTES];
    let start = Instant::now();
    let mut bytes = 0;
    for path in files {
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        loop {
            let n = file.read(&mut buffer).map_err(Error::io("read", path))? as u64;
            if n == 0 {
                break;
            }
            bytes += n;
            progress(n)?;
        }
    }
    Ok((bytes, start.elapsed().as_secs_f64()))
}

/// What a load took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loaded {
    /// Wall seconds.
    pub seconds: f64,
    /// CPU seconds of the process.
    pub cpu: Option<f64>,
    /// Highest resident memory while it went on, in bytes, of which `resident_before` were there before.
    pub peak_resident: Option<u64>,
    /// Resident memory before.
    pub resident_before: Option<u64>,
}

/// Times `load` and watches memory. Where a new peak cannot be started, the peak is that of the whole process.
pub fn measure<T>(load: impl FnOnce() -> Result<T>) -> Result<(T, Loaded)> {
    system::reset_peak();
    let before = system::resident_bytes();
    let (cpu, start) = (system::cpu_seconds(), Instant::now());
    let value = load()?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu.zip(system::cpu_seconds()).map(|(before, after)| after - before);
    let peak_resident = system::resident_bytes().map(|(_, peak)| peak);
    Ok((value, Loaded { seconds, cpu, peak_resident, resident_before: before.map(|(now, _)| now) }))
}
