//! Buffers of a software adapter, filled where they stay.
//!
//! wgpu would zero a mapped buffer first, page by small page, and the copy would touch every page again. Underneath
//! wgpu, as its interface for hosts allows, the memory can be had untouched, in large pages where the system offers
//! them, so that each is touched once, by the bytes that belong there.

/// A buffer of `size` bytes with `pieces` from its start on and zeros behind; `None` where the backend is not Vulkan,
/// if the pieces are longer, or if the driver has no memory left. The ordinary way then serves, or says what is wrong.
#[cfg(any(target_os = "linux", target_os = "windows", target_os = "android"))]
pub(super) fn filled_buffer(
    device: &wgpu::Device,
    label: &str,
    size: u64,
    usage: wgpu::BufferUsages,
    pieces: &[&[u8]],
) -> Option<wgpu::Buffer> {
    use wgpu::BufferUses as Uses;
    use wgpu::hal::{self, Device as _, api::Vulkan};

    let used: usize = pieces.iter().map(|piece| piece.len()).sum();
    let unused = (size as usize).checked_sub(used).filter(|_| size > 0)?;
    // SAFETY: the device is used for this one buffer, and not kept.
    let raw = unsafe { device.as_hal::<Vulkan>() }?;
    let storage = Uses::STORAGE_READ_ONLY | Uses::STORAGE_READ_WRITE;
    let descriptor = hal::BufferDescriptor {
        label: Some(label),
        size,
        usage: storage | Uses::COPY_SRC | Uses::COPY_DST | Uses::MAP_WRITE,
        memory_flags: hal::MemoryFlags::empty(),
    };
    // SAFETY: the size is not 0, the uses are those of an ordinary storage buffer.
    let buffer = unsafe { raw.create_buffer(&descriptor) }.ok()?;
    // SAFETY: the buffer is new, of this device, made for mapping, and as long as the range.
    let Ok(mapping) = (unsafe { raw.map_buffer(&buffer, 0..size) }) else {
        // SAFETY: nothing else knows the buffer.
        unsafe { raw.destroy_buffer(buffer) };
        return None;
    };
    prefer_large_pages(mapping.ptr.as_ptr(), size as usize);
    let mut to = mapping.ptr.as_ptr();
    // SAFETY: the mapping is `size` bytes long, which hold all pieces and the zeros; the buffer is new, so nothing else
    // reads or writes them.
    unsafe {
        for piece in pieces {
            std::ptr::copy_nonoverlapping(piece.as_ptr(), to, piece.len());
            to = to.add(piece.len());
        }
        std::ptr::write_bytes(to, 0, unused);
        if !mapping.is_coherent {
            raw.flush_mapped_ranges(&buffer, std::iter::once(0..size));
        }
        raw.unmap_buffer(&buffer);
    }
    drop(raw);
    let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
    // SAFETY: made by this device, as the descriptor says, and every byte written.
    Some(unsafe { device.create_buffer_from_hal::<Vulkan>(buffer, &descriptor) })
}

/// There is no Vulkan here.
#[cfg(not(any(target_os = "linux", target_os = "windows", target_os = "android")))]
pub(super) fn filled_buffer(
    _: &wgpu::Device,
    _: &str,
    _: u64,
    _: wgpu::BufferUsages,
    _: &[&[u8]],
) -> Option<wgpu::Buffer> {
    None
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
