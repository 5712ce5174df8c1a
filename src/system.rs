//! What the operating system knows: CPU time and memory of this process, memory that is left, the cache of files. `None`,
//! or nothing done, where it cannot be asked.

use std::path::Path;

use crate::error::{Error, Result};

/// Seconds of user and system time of all threads so far.
#[cfg(unix)]
pub(crate) fn cpu_seconds() -> Option<f64> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9)
}

/// Seconds of user and system time of all threads so far.
#[cfg(not(unix))]
pub(crate) fn cpu_seconds() -> Option<f64> {
    None
}

/// Resident memory now and its peak, in bytes. Linux only.
pub(crate) fn resident_bytes() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").trim().parse().ok()
    };
    Some((1024 * kib("VmRSS:")?, 1024 * kib("VmHWM:")?))
}

/// Bytes of main memory that programs could still take. Linux only.
pub(crate) fn available_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(1024 * line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()?)
}

/// True if this machine's processor is one of Intel's: a software adapter computes on it.
pub(crate) fn is_intel() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        // Safe of itself in current Rust, not in the oldest that builds this.
        #[allow(unused_unsafe)]
        let id = unsafe { std::arch::x86_64::__cpuid(0) };
        [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Starts a new peak of resident memory; false where that is not allowed.
pub(crate) fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Drops a file from the page cache, as far as the kernel follows the advice; needs no rights. False where
/// there is no such advice.
///
/// Errors: [`Error::Io`] if the file cannot be opened.
pub(crate) fn forget_file(path: &Path) -> Result<bool> {
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).is_ok());
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        drop(file);
        Ok(false)
    }
}
