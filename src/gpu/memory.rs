//! Buffers: creating tensors, streaming bytes into them, reading them back for tests and dumps.

use crate::error::{Error, Result};
use crate::gpu::counters::Counters;
use crate::gpu::{DType, Gpu, Tensor};

/// Bytes handed to one `write_buffer`.
const CHUNK_BYTES: usize = 8 << 20;
/// Bytes in flight before the queue is flushed and waited for. Without the wait the driver keeps a
/// staging copy of everything uploaded, which doubles the memory of a 16 GB checkpoint.
const FLUSH_BYTES: usize = 64 << 20;

impl Gpu {
    /// A new tensor with undefined (zero) content.
    ///
    /// Errors: larger than one binding of this device may be, or out of memory.
    pub(crate) fn tensor(&self, name: &str, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        // 16 bytes is the granularity of vec4 loads; runtime arrays round down to whole elements.
        let bytes = (dtype.bytes(shape) as u64).next_multiple_of(16).max(16);
        let limit = self.caps().max_slab_bytes();
        if bytes > limit {
            return Err(Error::Unsupported {
                missing: vec![format!(
                    "a buffer of {bytes} bytes for `{name}` {shape:?}; the limit is {limit}"
                )],
            });
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = self.buffer(name, bytes, usage)?;
        Ok(Tensor { name: name.into(), dtype, shape: shape.to_vec(), buffer })
    }

    /// A tensor `[n, 3]` that a kernel fills with grids for indirect dispatch.
    pub(crate) fn arguments_tensor(&self, name: &str, n: usize) -> Result<Tensor> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::INDIRECT;
        let buffer = self.buffer(name, (12 * n as u64).next_multiple_of(16).max(16), usage)?;
        Ok(Tensor { name: name.into(), dtype: DType::U32, shape: vec![n, 3], buffer })
    }

    fn buffer(&self, name: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        Counters::add(&self.counters().buffers, 1);
        Counters::add(&self.counters().buffer_bytes, bytes);
        let label = format!("diffa.{name}");
        self.scoped(&format!("allocating {bytes} bytes for `{name}`"), || {
            self.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(&label),
                size: bytes,
                usage,
                mapped_at_creation: false,
            })
        })
    }

    /// A new tensor holding `data`.
    pub(crate) fn tensor_from<T: bytemuck::Pod>(
        &self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        data: &[T],
    ) -> Result<Tensor> {
        let tensor = self.tensor(name, dtype, shape)?;
        let mut upload = Upload::new(self);
        upload.write(&tensor, bytemuck::cast_slice(data))?;
        Ok(tensor)
    }

    /// Overwrites the first elements of a tensor; takes effect before the next submit.
    pub(crate) fn write<T: bytemuck::Pod>(&self, tensor: &Tensor, data: &[T]) {
        self.queue().write_buffer(&tensor.buffer, 0, bytemuck::cast_slice(data));
    }

    /// Reads a whole tensor back. Blocks; meant for tests, dumps and final results.
    pub fn read<T: bytemuck::Pod>(&self, tensor: &Tensor) -> Result<Vec<T>> {
        let mut out = self.read_bytes(tensor, 0, tensor.byte_len().next_multiple_of(4))?;
        out.truncate(tensor.byte_len() as usize);
        Ok(bytemuck::pod_collect_to_vec(&out))
    }

    /// Reads `bytes` bytes from byte `first` on; both must be multiples of 4 within the buffer.
    pub(crate) fn read_bytes(&self, tensor: &Tensor, first: u64, bytes: u64) -> Result<Vec<u8>> {
        let mut out: Vec<u8> = Vec::with_capacity(bytes as usize);
        if bytes == 0 {
            return Ok(out);
        }
        // In pieces, so that reading a large tensor needs no second buffer of its size.
        let piece = bytes.min(FLUSH_BYTES as u64);
        Counters::add(&self.counters().buffers, 1);
        let staging = self.scoped("reading back", || {
            self.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("diffa.read"),
                size: piece,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        let mut at = 0;
        while at < bytes {
            let n = piece.min(bytes - at);
            let mut encoder = self.device().create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&tensor.buffer, first + at, &staging, 0, n);
            self.submit(encoder);
            self.map_wait(&staging, n, |view| out.extend_from_slice(view))?;
            at += n;
        }
        Ok(out)
    }

    /// Maps the first `bytes` of a staging buffer, waits, and hands the content to `take`.
    pub(crate) fn map_wait(
        &self,
        staging: &wgpu::Buffer,
        bytes: u64,
        take: impl FnOnce(&[u8]),
    ) -> Result<()> {
        let pending = self.map_start(staging, bytes);
        self.wait()?;
        // The callback may run on another thread that polls the same device, a moment after this wait.
        let result = pending.recv_timeout(std::time::Duration::from_secs(60));
        self.map_finish(staging, bytes, result.unwrap_or(Err(wgpu::BufferAsyncError)), take)
    }

    /// Starts mapping the first `bytes` of a staging buffer.
    pub(crate) fn map_start(&self, staging: &wgpu::Buffer, bytes: u64) -> PendingMap {
        Counters::add(&self.counters().maps, 1);
        Counters::add(&self.counters().mapped_bytes, bytes);
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            // The receiver is gone only if the caller returned early with an error.
            let _ = sender.send(result);
        });
        receiver
    }

    /// Hands the content of a mapped buffer to `take` and unmaps it.
    pub(crate) fn map_finish(
        &self,
        staging: &wgpu::Buffer,
        bytes: u64,
        result: Result<(), wgpu::BufferAsyncError>,
        take: impl FnOnce(&[u8]),
    ) -> Result<()> {
        let fail = |message: String| Error::Gpu { doing: "reading back".into(), message };
        result.map_err(|e| fail(e.to_string()))?;
        take(&staging.get_mapped_range(0..bytes).map_err(|e| fail(e.to_string()))?);
        staging.unmap();
        Ok(())
    }
}

/// The result of a map, once it is there.
pub(crate) type PendingMap = std::sync::mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>;

/// Streams bytes into tensors with a bounded amount in flight.
pub(crate) struct Upload<'a> {
    gpu: &'a Gpu,
    pending: usize,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(gpu: &'a Gpu) -> Upload<'a> {
        Upload { gpu, pending: 0 }
    }

    /// Writes `bytes` from the start of `tensor`. A tail that is not a whole word is padded with zeros.
    pub(crate) fn write(&mut self, tensor: &Tensor, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > tensor.byte_len() {
            return Err(Error::Shape {
                op: "upload",
                operand: tensor.name.clone(),
                expected: format!("room for {} bytes", bytes.len()),
                got: tensor.shape.clone(),
            });
        }
        let mut at = 0u64;
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let whole = chunk.len() / 4 * 4;
            self.gpu.queue().write_buffer(&tensor.buffer, at, &chunk[..whole]);
            if whole < chunk.len() {
                let mut word = [0u8; 4];
                word[..chunk.len() - whole].copy_from_slice(&chunk[whole..]);
                self.gpu.queue().write_buffer(&tensor.buffer, at + whole as u64, &word);
            }
            at += chunk.len() as u64;
            self.pending += chunk.len();
            if self.pending >= FLUSH_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Submits and waits, so that the driver frees its staging memory.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.pending = 0;
        self.gpu.queue().submit([]);
        self.gpu.wait()
    }
}
