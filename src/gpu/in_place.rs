//! Buffers of a software adapter, filled where they stay.
//!
//! wgpu would zero a mapped buffer first, page by small page, and the copy would touch every page again. Underneath
//! wgpu, as its interface for hosts allows, the memory can be had untouched, in large pages where the system offers
//! them, so that each is touched once, by the bytes that belong there.

use crate::error::Result;
use crate::gpu::memory::Source;

/// A buffer of `size` bytes with `pieces` from its start on and zeros behind; `None` where the backend is not Vulkan,
/// if the pieces are longer, or if the driver has no memory left. The ordinary way then serves, or says what is wrong.
///
/// Errors: those of the pieces.
#[cfg(any(target_os = "linux", target_os = "windows", target_os = "android"))]
pub(super) fn filled_buffer(
    device: &wgpu::Device,
    label: &str,
    size: u64,
    usage: wgpu::BufferUsages,
    pieces: &[impl Source],
) -> Result<Option<wgpu::Buffer>> {
    use wgpu::BufferUses as Uses;
    use wgpu::hal::{self, Device as _, api::Vulkan};

    let used: usize = pieces.iter().map(Source::byte_len).sum();
    if size == 0 || used > size as usize {
        return Ok(None);
    }
    // SAFETY: the device is used for this one buffer, and not kept.
    let Some(raw) = (unsafe { device.as_hal::<Vulkan>() }) else { return Ok(None) };
    let storage = Uses::STORAGE_READ_ONLY | Uses::STORAGE_READ_WRITE;
    let descriptor = hal::BufferDescriptor {
        label: Some(label),
        size,
        usage: storage | Uses::COPY_SRC | Uses::COPY_DST | Uses::MAP_WRITE,
        memory_flags: hal::MemoryFlags::empty(),
    };
    // SAFETY: the size is not 0, the uses are those of an ordinary storage buffer.
    let Ok(buffer) = (unsafe { raw.create_buffer(&descriptor) }) else { return Ok(None) };
    // SAFETY: the buffer is new, of this device, made for mapping, and as long as the range.
    let Ok(mapping) = (unsafe { raw.map_buffer(&buffer, 0..size) }) else {
        // SAFETY: nothing else knows the buffer.
        unsafe { raw.destroy_buffer(buffer) };
        return Ok(None);
    };
    prefer_large_pages(mapping.ptr.as_ptr(), size as usize);
    // SAFETY: the mapping is `size` bytes long, of memory from the system, where every byte has a value; the buffer is
    // new, so nothing else reads or writes them.
    let filled = fill(unsafe { std::slice::from_raw_parts_mut(mapping.ptr.as_ptr(), size as usize) }, pieces);
    // SAFETY: the range is the mapped one, and what was mapped is not used any more.
    unsafe {
        if !mapping.is_coherent {
            raw.flush_mapped_ranges(&buffer, std::iter::once(0..size));
        }
        raw.unmap_buffer(&buffer);
    }
    if let Err(error) = filled {
        // SAFETY: nothing else knows the buffer.
        unsafe { raw.destroy_buffer(buffer) };
        return Err(error);
    }
    drop(raw);
    let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
    // SAFETY: made by this device, as the descriptor says, and every byte written.
    Ok(Some(unsafe { device.create_buffer_from_hal::<Vulkan>(buffer, &descriptor) }))
}

/// The pieces from the start of `memory` on, and zeros behind. What does not fit is left out.
#[cfg(any(target_os = "linux", target_os = "windows", target_os = "android"))]
fn fill(memory: &mut [u8], pieces: &[impl Source]) -> Result<()> {
    let mut at = 0;
    for piece in pieces {
        piece.chunks(&mut |chunk| {
            if let Some(to) = memory.get_mut(at..at + chunk.len()) {
                to.copy_from_slice(chunk);
            }
            at += chunk.len();
            Ok(())
        })?;
    }
    debug_assert_eq!(
        at,
        pieces.iter().map(Source::byte_len).sum::<usize>(),
        "bytes that the pieces promised"
    );
    if let Some(rest) = memory.get_mut(at..) {
        rest.fill(0);
    }
    Ok(())
}

/// There is no Vulkan here.
#[cfg(not(any(target_os = "linux", target_os = "windows", target_os = "android")))]
pub(super) fn filled_buffer(
    _: &wgpu::Device,
    _: &str,
    _: u64,
    _: wgpu::BufferUsages,
    _: &[impl Source],
) -> Result<Option<wgpu::Buffer>> {
    Ok(None)
}

/// Advice only: without it, or where it is not followed, the system takes small pages.
#[cfg(target_os = "linux")]
fn prefer_large_pages(start: *mut u8, len: usize) {
    let page = rustix::param::page_size();
    let skipped = start.align_offset(page);
    let whole = len.saturating_sub(skipped) / page * page;
    if whole > 0 {
        // SAFETY: whole pages within memory that belongs to the caller; their content does not change.
        let _ = unsafe {
            rustix::mm::madvise(start.add(skipped).cast(), whole, rustix::mm::Advice::LinuxHugepage)
        };
    }
}

#[cfg(any(target_os = "windows", target_os = "android"))]
fn prefer_large_pages(_: *mut u8, _: usize) {}
