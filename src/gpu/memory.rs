//! Buffers: creating tensors, streaming bytes into them, reading them back for tests and dumps.

use crate::error::{Error, Result};
use crate::gpu::counters::Counters;
use crate::gpu::in_place::filled_buffer;
use crate::gpu::{DType, Gpu, Tensor};

/// How the buffers of tensors are used.
const USAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);
/// Largest size of a staging buffer for uploads.
const CHUNK_BYTES: usize = 8 << 20;
/// Staging buffers of an [`Upload`].
const SLOTS: usize = 2;
/// Size of a staging buffer for reading back.
const READ_BYTES: u64 = 64 << 20;
/// Longest time between the end of a copy and the callback of the map behind it.
const MAP_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

impl Gpu {
    /// A new tensor with undefined (zero) content.
    ///
    /// Errors: larger than one binding of this device may be, or out of memory.
    pub(crate) fn tensor(&self, name: &str, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let buffer = self.buffer(name, self.size_of_tensor(name, dtype, shape)?, USAGE, false)?;
        Ok(Tensor { name: name.into(), dtype, shape: shape.to_vec(), buffer })
    }

    /// Bytes of the buffer of a tensor.
    ///
    /// Errors: larger than one binding of this device may be.
    fn size_of_tensor(&self, name: &str, dtype: DType, shape: &[usize]) -> Result<u64> {
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
        Ok(bytes)
    }

    /// A tensor `[n, 3]` that a kernel fills with grids for indirect dispatch.
    pub(crate) fn arguments_tensor(&self, name: &str, n: usize) -> Result<Tensor> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::INDIRECT;
        let buffer = self.buffer(name, (12 * n as u64).next_multiple_of(16).max(16), usage, false)?;
        Ok(Tensor { name: name.into(), dtype: DType::U32, shape: vec![n, 3], buffer })
    }

    fn buffer(
        &self,
        name: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer> {
        if self.is_sketch() {
            // Still a buffer of its own: plans tell operands apart by their buffers.
            let descriptor =
                wgpu::BufferDescriptor { label: None, size: 4, usage, mapped_at_creation: false };
            return self.scoped("sketching", || self.device().create_buffer(&descriptor));
        }
        Counters::add(&self.counters().buffers, 1);
        Counters::add(&self.counters().buffer_bytes, bytes);
        let label = format!("diffa.{name}");
        self.scoped(&format!("allocating {bytes} bytes for `{name}`"), || {
            self.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(&label),
                size: bytes,
                usage,
                mapped_at_creation,
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
        self.write(&tensor, data);
        Ok(tensor)
    }

    /// Overwrites the first elements of a tensor; takes effect before the next submit.
    pub(crate) fn write<T: bytemuck::Pod>(&self, tensor: &Tensor, data: &[T]) {
        if self.is_sketch() {
            return;
        }
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let whole = bytes.len() / 4 * 4;
        self.deferred(|| self.queue().write_buffer(&tensor.buffer, 0, &bytes[..whole]));
        if whole < bytes.len() {
            let mut word = [0u8; 4];
            word[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.deferred(|| self.queue().write_buffer(&tensor.buffer, whole as u64, &word));
        }
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
        let piece = bytes.min(READ_BYTES);
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
            self.map_wait(&staging, n, wgpu::PollType::wait_indefinitely(), |view| {
                out.extend_from_slice(view)
            })?;
            at += n;
        }
        Ok(out)
    }

    /// Maps the first `bytes` of a staging buffer, waits as `wait` says, and hands the content to `take`.
    pub(crate) fn map_wait(
        &self,
        staging: &wgpu::Buffer,
        bytes: u64,
        wait: wgpu::PollType,
        take: impl FnOnce(&[u8]),
    ) -> Result<()> {
        let pending = self.map_start(staging, bytes);
        self.poll_device("waiting for the device", wait)?;
        // The callback may run on another thread that polls the same device, a moment after this wait.
        let result = pending.recv_timeout(MAP_TIMEOUT);
        self.map_finish(staging, bytes, result.unwrap_or(Err(wgpu::BufferAsyncError)), take)
    }

    /// Starts mapping the first `bytes` of a staging buffer.
    pub(crate) fn map_start(&self, staging: &wgpu::Buffer, bytes: u64) -> PendingMap {
        Counters::add(&self.counters().maps, 1);
        Counters::add(&self.counters().mapped_bytes, bytes);
        let (sender, receiver) = std::sync::mpsc::channel();
        let tell = move |result| {
            // The receiver is gone only if the caller returned early with an error.
            let _ = sender.send(result);
        };
        self.deferred(|| staging.map_async(wgpu::MapMode::Read, 0..bytes, tell));
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
        self.deferred(|| staging.unmap());
        Ok(())
    }
}

/// The result of a map, once it is there.
pub(crate) type PendingMap = std::sync::mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>;

/// Bytes on their way to the device.
pub(crate) trait Source {
    /// How many.
    fn byte_len(&self) -> usize;

    /// Hands them to `take`, in order; all chunks but the last are whole words of 4 bytes.
    ///
    /// Errors: `take`'s, and those of where they come from.
    fn chunks(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
}

/// One staging buffer of an [`Upload`].
struct Slot {
    buffer: wgpu::Buffer,
    /// The copy out of it that was submitted last, and the map that follows it.
    busy: Option<(wgpu::SubmissionIndex, PendingMap)>,
}

/// Brings a checkpoint's bytes onto the device, a tensor at a time and with a bounded amount in flight: without
/// a bound the driver keeps a staging copy of everything, which doubles the memory of a 16 GB checkpoint.
///
/// Where the device works in the machine's own memory, the bytes are copied once, into their place. Elsewhere they go
/// through a ring of staging buffers: while the device copies out of one, the next is filled, so that reading a file
/// and taking it in overlap.
pub(crate) struct Upload<'a> {
    gpu: &'a Gpu,
    slots: Vec<Slot>,
    /// The slot to fill next.
    next: usize,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(gpu: &'a Gpu) -> Upload<'a> {
        Upload { gpu, slots: Vec::new(), next: 0 }
    }

    /// A new tensor that holds `pieces`, one after the other, row-major. All but the last are whole words.
    ///
    /// Errors: those of [`Gpu::tensor`] and of the pieces, or more bytes than the shape has.
    pub(crate) fn tensor(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        pieces: &[impl Source],
    ) -> Result<Tensor> {
        if self.gpu.caps().is_software() {
            let size = self.gpu.size_of_tensor(name, dtype, shape)?;
            let label = format!("diffa.{name}");
            if let Some(buffer) = filled_buffer(self.gpu.device(), &label, size, USAGE, pieces)? {
                Counters::add(&self.gpu.counters().buffers, 1);
                Counters::add(&self.gpu.counters().buffer_bytes, size);
                return Ok(Tensor { name: name.into(), dtype, shape: shape.to_vec(), buffer });
            }
        }
        let tensor = self.gpu.tensor(name, dtype, shape)?;
        let mut at = 0;
        for piece in pieces {
            piece.chunks(&mut |chunk| {
                self.write(&tensor, at, chunk)?;
                at += chunk.len();
                Ok(())
            })?;
        }
        Ok(tensor)
    }

    /// Writes `bytes` from byte `first` of `tensor` on, a multiple of 4. A tail that is not a whole word is padded
    /// with zeros.
    pub(crate) fn write(&mut self, tensor: &Tensor, first: usize, bytes: &[u8]) -> Result<()> {
        check_room(tensor, first + bytes.len())?;
        for (i, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
            self.write_chunk(tensor, (first + i * CHUNK_BYTES) as u64, chunk)?;
        }
        Ok(())
    }

    fn write_chunk(&mut self, tensor: &Tensor, at: u64, chunk: &[u8]) -> Result<()> {
        let gpu = self.gpu;
        let fail = |message: String| Error::Gpu { doing: format!("uploading `{}`", tensor.name), message };
        let whole = chunk.len() / 4 * 4;
        let bytes = chunk.len().next_multiple_of(4) as u64;
        let slot = self.free_slot(bytes)?;
        {
            let mut view = slot.buffer.get_mapped_range_mut(0..bytes).map_err(|e| fail(e.to_string()))?;
            view.slice(..whole).copy_from_slice(&chunk[..whole]);
            if whole < chunk.len() {
                let mut word = [0u8; 4];
                word[..chunk.len() - whole].copy_from_slice(&chunk[whole..]);
                view.slice(whole..).copy_from_slice(&word);
            }
        }
        gpu.deferred(|| slot.buffer.unmap());
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&slot.buffer, 0, &tensor.buffer, at, bytes);
        let index = gpu.submit(encoder);
        let (sender, receiver) = std::sync::mpsc::channel();
        let tell = move |result| {
            // The receiver is gone only if the load ended early.
            let _ = sender.send(result);
        };
        gpu.deferred(|| slot.buffer.map_async(wgpu::MapMode::Write, .., tell));
        slot.busy = Some((index, receiver));
        Ok(())
    }

    /// The next slot, mapped and with room for `bytes`; waits for the copy out of it if that is still under way.
    fn free_slot(&mut self, bytes: u64) -> Result<&mut Slot> {
        let at = self.next;
        self.next = (at + 1) % SLOTS;
        if self.slots.get(at).is_none_or(|slot| slot.buffer.size() < bytes) {
            let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
            // Rounded up, so that a chunk that is a little longer needs no new buffer.
            let size = bytes.next_power_of_two();
            let slot = Slot { buffer: self.gpu.buffer("upload", size, usage, true)?, busy: None };
            self.slots.truncate(at);
            self.slots.push(slot);
        }
        let slot = &mut self.slots[at];
        if let Some((index, mapped)) = slot.busy.take() {
            let fail = |message: String| Error::Gpu { doing: "uploading".into(), message };
            let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: None };
            self.gpu.poll_device("uploading", wait)?;
            // The callback may run on another thread that polls the same device, a moment after this wait.
            let result = mapped.recv_timeout(MAP_TIMEOUT).unwrap_or(Err(wgpu::BufferAsyncError));
            result.map_err(|e| fail(e.to_string()))?;
        }
        Ok(slot)
    }
}

fn check_room(tensor: &Tensor, bytes: usize) -> Result<()> {
    if bytes as u64 <= tensor.byte_len() {
        return Ok(());
    }
    Err(Error::Shape {
        op: "upload",
        operand: tensor.name.clone(),
        expected: format!("room for {bytes} bytes"),
        got: tensor.shape.clone(),
    })
}
