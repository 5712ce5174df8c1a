//! Small reports from the device, through a staging buffer made once.

use crate::error::Result;
use crate::gpu::counters::Counters;
use crate::gpu::memory::PendingMap;
use crate::gpu::{Gpu, SubmissionIndex, Tensor};

/// A staging buffer of fixed size that is copied into and mapped once per denoising step.
#[derive(Debug)]
pub(crate) struct Readback {
    staging: wgpu::Buffer,
    capacity: u64,
    pending: Option<(PendingMap, u64)>,
}

impl Readback {
    /// Room for `capacity` bytes.
    pub(crate) fn new(gpu: &Gpu, capacity: u64) -> Result<Readback> {
        Counters::add(&gpu.counters().buffers, 1);
        let staging = gpu.scoped("allocating a readback buffer", || {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("diffa.readback"),
                size: capacity.next_multiple_of(16).max(16),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        Ok(Readback { staging, capacity, pending: None })
    }

    /// Appends to `encoder` a copy of `bytes` of `source` from byte `offset` on, to byte `to` of the staging buffer.
    pub(crate) fn copy(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        (source, offset): (&Tensor, u64),
        to: u64,
        bytes: u64,
    ) {
        encoder.copy_buffer_to_buffer(&source.buffer, offset, &self.staging, to, bytes);
    }

    /// Waits for a submit, the last with a copy, but not for those after it, and returns the first `bytes` as words.
    pub(crate) fn words(&self, gpu: &Gpu, after: SubmissionIndex, bytes: u64) -> Result<Vec<u32>> {
        let mut words = Vec::new();
        let wait = wgpu::PollType::Wait { submission_index: Some(after), timeout: None };
        gpu.map_wait(&self.staging, bytes.min(self.capacity), wait, |view| {
            words = bytemuck::pod_collect_to_vec(view);
        })?;
        Ok(words)
    }

    /// Starts mapping the first `bytes` without waiting; the copy must have been submitted.
    pub(crate) fn start(&mut self, gpu: &Gpu, bytes: u64) {
        if self.pending.is_none() {
            let bytes = bytes.min(self.capacity);
            self.pending = Some((gpu.map_start(&self.staging, bytes), bytes));
        }
    }

    /// The words of a started map, if they have arrived. Never blocks.
    pub(crate) fn try_words(&mut self, gpu: &Gpu) -> Result<Option<Vec<u32>>> {
        let Some((receiver, bytes)) = &self.pending else { return Ok(None) };
        let result = match receiver.try_recv() {
            Ok(result) => result,
            Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(None),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Err(wgpu::BufferAsyncError),
        };
        let mut words = Vec::new();
        gpu.map_finish(&self.staging, *bytes, result, |view| words = bytemuck::pod_collect_to_vec(view))?;
        self.pending = None;
        Ok(Some(words))
    }
}
