//! Counts of the operations that must not happen inside a decode loop; read by tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Monotonic counts since the device was opened.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) submits: AtomicU64,
    pub(crate) buffers: AtomicU64,
    pub(crate) bind_groups: AtomicU64,
    pub(crate) pipelines: AtomicU64,
    pub(crate) maps: AtomicU64,
    pub(crate) mapped_bytes: AtomicU64,
    pub(crate) buffer_bytes: AtomicU64,
}

/// The values of [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Command buffers submitted.
    pub submits: u64,
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
    /// Buffer maps (each is one readback).
    pub maps: u64,
    /// Bytes read back.
    pub mapped_bytes: u64,
    /// Bytes of all buffers created.
    pub buffer_bytes: u64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// The values now.
    pub fn snapshot(&self) -> Counts {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        Counts {
            submits: get(&self.submits),
            buffers: get(&self.buffers),
            bind_groups: get(&self.bind_groups),
            pipelines: get(&self.pipelines),
            maps: get(&self.maps),
            mapped_bytes: get(&self.mapped_bytes),
            buffer_bytes: get(&self.buffer_bytes),
        }
    }
}

impl Counts {
    /// What happened between `earlier` and `self`.
    pub fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            submits: self.submits - earlier.submits,
            buffers: self.buffers - earlier.buffers,
            bind_groups: self.bind_groups - earlier.bind_groups,
            pipelines: self.pipelines - earlier.pipelines,
            maps: self.maps - earlier.maps,
            mapped_bytes: self.mapped_bytes - earlier.mapped_bytes,
            buffer_bytes: self.buffer_bytes - earlier.buffer_bytes,
        }
    }
}
