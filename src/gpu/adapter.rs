//! Choosing an adapter: list all, rank them, say why one was taken.

use crate::error::{Error, Result};
use crate::gpu::caps::{Requirements, describe};

/// Which adapter to open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdapterChoice {
    /// Index in [`list`]'s order, or a part of the adapter's name (any case). `None`: the best one.
    pub adapter: Option<String>,
    /// Backends to look at; `None`: all that were built in.
    pub backend: Option<wgpu::Backends>,
}

impl AdapterChoice {
    /// Backend by the name a user types: `vulkan`, `metal`, `dx12` or `gl`.
    pub fn parse_backend(name: &str) -> Result<wgpu::Backends> {
        match name.to_ascii_lowercase().as_str() {
            "vulkan" => Ok(wgpu::Backends::VULKAN),
            "metal" => Ok(wgpu::Backends::METAL),
            "dx12" => Ok(wgpu::Backends::DX12),
            "gl" => Ok(wgpu::Backends::GL),
            _ => Err(Error::usage("--backend", format!("`{name}` is not one of vulkan, metal, dx12, gl"))),
        }
    }
}

/// An instance for compute only. `backends` narrows the search.
pub(crate) fn instance(backends: Option<wgpu::Backends>) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends.unwrap_or(wgpu::Backends::all());
    // Validation layers cost time and print; wgpu's own validation is always on.
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

/// Every adapter, best first: discrete, integrated, virtual, unknown, software; native APIs before GL.
pub fn list(backends: Option<wgpu::Backends>) -> Vec<wgpu::Adapter> {
    let wanted = backends.unwrap_or(wgpu::Backends::all());
    let mut adapters = pollster::block_on(instance(backends).enumerate_adapters(wanted));
    adapters.sort_by_key(|adapter| rank(&adapter.get_info()));
    adapters
}

fn rank(info: &wgpu::AdapterInfo) -> (u8, u8) {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    (kind, u8::from(info.backend == wgpu::Backend::Gl))
}

/// What to say where there is no adapter at all.
pub fn none_found() -> Error {
    Error::Adapter(
        "no GPU adapter was found. Install a Vulkan driver (on Debian or Ubuntu a software one is in \
         `mesa-vulkan-drivers`), or try another --backend"
            .into(),
    )
}

/// The adapters that `--adapter` may mean among `names`, those of [`list`] by [`describe`]: the one of an index, else all
/// that have `wanted` in their name; the first is taken where one is needed. Errors: none; the message lists all.
pub fn matching(names: &[String], wanted: &str) -> Result<Vec<usize>> {
    if let Some(index) = wanted.parse().ok().filter(|i| *i < names.len()) {
        return Ok(vec![index]);
    }
    let wanted = wanted.to_lowercase();
    let found: Vec<usize> = (0..names.len()).filter(|i| names[*i].to_lowercase().contains(&wanted)).collect();
    if found.is_empty() {
        let known: Vec<_> = names.iter().enumerate().map(|(i, name)| format!("{i}: {name}")).collect();
        let reason = format!("no adapter matches `{wanted}`; there are {}", known.join("; "));
        return Err(Error::usage("--adapter", reason));
    }
    Ok(found)
}

/// The chosen adapter and the reason, as a phrase to print.
pub(crate) fn choose(choice: &AdapterChoice) -> Result<(wgpu::Adapter, String)> {
    let adapters = list(choice.backend);
    if adapters.is_empty() {
        return Err(none_found());
    }
    let usable = |a: &wgpu::Adapter| Requirements::missing(&a.limits()).is_empty();
    let (index, reason) = match &choice.adapter {
        Some(wanted) => {
            let names: Vec<String> = adapters.iter().map(|a| describe(&a.get_info())).collect();
            (matching(&names, wanted)?[0], format!("asked for with --adapter {wanted}"))
        }
        None => match adapters.iter().position(usable) {
            Some(_) if adapters.len() == 1 => {
                let of = choice
                    .backend
                    .map(|_| format!(" of {}", adapters[0].get_info().backend))
                    .unwrap_or_default();
                (0, format!("the only adapter{of}"))
            }
            Some(i) => {
                (i, format!("the best of {} (discrete before integrated before software)", adapters.len()))
            }
            None => (0, String::new()),
        },
    };
    let adapter =
        adapters.into_iter().nth(index).ok_or_else(|| Error::Adapter("adapter list changed".into()))?;
    Requirements::check(&adapter.limits())?;
    Ok((adapter, reason))
}

/// Edges of the square cooperative matrices, f16 times f16 into f32, that WGSL can name and the adapter offers.
pub fn cooperative_edges(adapter: &wgpu::Adapter) -> Vec<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    if !adapter.features().contains(needed) {
        return Vec::new();
    }
    let offered = adapter.cooperative_matrix_properties();
    let has = |edge: u32| {
        offered
            .iter()
            .any(|p| [p.m_size, p.n_size, p.k_size] == [edge; 3] && p.ab_type == F16 && p.cr_type == F32)
    };
    [8, 16].into_iter().filter(|edge| has(*edge)).collect()
}

/// The largest pool of memory that is the adapter's own, in bytes; `None` where the backend does not tell
/// (wgpu has no such query, so this asks Vulkan underneath), and for software adapters, which use the
/// machine's memory and report some other number.
pub(crate) fn memory_bytes(adapter: &wgpu::Adapter) -> Option<u64> {
    if adapter.get_info().device_type == wgpu::DeviceType::Cpu {
        return None;
    }
    #[cfg(any(target_os = "linux", target_os = "windows", target_os = "android"))]
    {
        /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
        const DEVICE_LOCAL: u32 = 1;
        // SAFETY: the raw handles are only read, and not kept beyond this call.
        let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
        let instance = adapter.shared_instance().raw_instance();
        // SAFETY: the physical device belongs to this very instance, which the guard keeps alive.
        let memory = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
        let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
        heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
    }
    #[cfg(not(any(target_os = "linux", target_os = "windows", target_os = "android")))]
    {
        let _ = adapter;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_goes_before_a_name_that_has_it() {
        let names = ["Radeon 610".to_string(), "GeForce (vulkan)".to_string(), "GeForce (gl)".to_string()];
        assert_eq!(matching(&names, "1").unwrap(), [1]);
        assert_eq!(matching(&names, "610").unwrap(), [0]);
        assert_eq!(matching(&names, "geforce").unwrap(), [1, 2]);
        let error = matching(&names, "Arc").unwrap_err().to_string();
        assert!(error.contains("`arc`") && error.contains("2: GeForce (gl)"), "{error}");
    }
}
