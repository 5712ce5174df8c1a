//! What an adapter or device offers, found once and consulted wherever a choice depends on it.

use crate::error::{Error, Result};
use crate::gpu::adapter;
use crate::system;

/// What every kernel needs. These are the WebGPU default limits, so every conforming adapter has them.
#[derive(Debug, Clone, Copy)]
pub struct Requirements;

impl Requirements {
    const STORAGE_BUFFERS: u32 = 8;
    const WORKGROUP_SIZE: u32 = 256;
    const WORKGROUP_BYTES: u32 = 16_384;
    const UNIFORM_ALIGNMENT: u32 = 256;

    /// Everything that `limits` lacks, in words; empty if the device will do.
    pub fn missing(limits: &wgpu::Limits) -> Vec<String> {
        let at_least = [
            (
                "max_storage_buffers_per_shader_stage",
                limits.max_storage_buffers_per_shader_stage,
                Self::STORAGE_BUFFERS,
            ),
            (
                "max_compute_invocations_per_workgroup",
                limits.max_compute_invocations_per_workgroup,
                Self::WORKGROUP_SIZE,
            ),
            ("max_compute_workgroup_size_x", limits.max_compute_workgroup_size_x, Self::WORKGROUP_SIZE),
            (
                "max_compute_workgroup_storage_size",
                limits.max_compute_workgroup_storage_size,
                Self::WORKGROUP_BYTES,
            ),
        ];
        let mut missing: Vec<String> = at_least
            .into_iter()
            .filter(|(_, found, needed)| found < needed)
            .map(|(name, found, needed)| format!("{name} >= {needed} (found {found})"))
            .collect();
        if limits.min_uniform_buffer_offset_alignment > Self::UNIFORM_ALIGNMENT {
            missing.push(format!(
                "min_uniform_buffer_offset_alignment <= {} (found {})",
                Self::UNIFORM_ALIGNMENT,
                limits.min_uniform_buffer_offset_alignment
            ));
        }
        missing
    }

    /// An error listing everything missing, or `Ok`.
    pub fn check(limits: &wgpu::Limits) -> Result<()> {
        let missing = Self::missing(limits);
        if missing.is_empty() { Ok(()) } else { Err(Error::Unsupported { missing }) }
    }

    /// Optional features that make things faster or measurable; a host should request those its adapter has.
    /// Cooperative matrices are not among them: wgpu calls them experimental, and a device that wants them
    /// must say that it knows ([`crate::Gpu::open`] does).
    pub fn wanted_features(adapter: &wgpu::Adapter) -> wgpu::Features {
        adapter.features()
            & (wgpu::Features::TIMESTAMP_QUERY
                | wgpu::Features::SHADER_F16
                | wgpu::Features::SUBGROUP
                | wgpu::Features::PIPELINE_CACHE)
    }

    /// The limits a host should request from `adapter`: its own, because the default binding size of
    /// 128 MiB would split large matrices into more slabs than needed.
    pub fn wanted_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
        adapter.limits()
    }
}

/// Facts about the device in use.
#[derive(Debug, Clone)]
pub struct Caps {
    /// Adapter name, backend, driver.
    pub info: wgpu::AdapterInfo,
    /// Limits of the device (not of the adapter).
    pub limits: wgpu::Limits,
    /// Features enabled on the device.
    pub features: wgpu::Features,
    /// The adapter's own memory, where the backend tells and the adapter is known ([`crate::Gpu::from_wgpu_on`]).
    pub memory_bytes: Option<u64>,
    /// Edges (8, 16) of the square cooperative matrices with f16 factors and f32 sums that shaders may use.
    /// Empty for a host's device whose adapter is not known.
    pub cooperative_edges: Vec<u32>,
}

impl Caps {
    /// Of a device that [`crate::Gpu::open`] would open on the adapter.
    pub fn of_adapter(adapter: &wgpu::Adapter) -> Caps {
        let cooperative_edges = adapter::cooperative_edges(adapter);
        Caps {
            info: with_known_subgroups(adapter.get_info(), &cooperative_edges),
            limits: Requirements::wanted_limits(adapter),
            features: Requirements::wanted_features(adapter),
            memory_bytes: adapter::memory_bytes(adapter),
            cooperative_edges,
        }
    }

    /// True for a software adapter: kernels for it avoid workgroup memory and barriers.
    pub fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// True if what is on the adapter is in the machine's main memory.
    pub fn is_in_main_memory(&self) -> bool {
        matches!(self.info.device_type, wgpu::DeviceType::Cpu | wgpu::DeviceType::IntegratedGpu)
    }

    /// The largest buffer that can be created and bound as one storage binding, in bytes.
    pub fn max_slab_bytes(&self) -> u64 {
        self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size)
    }

    /// True for a software driver of Mesa 26 or later, which reads what is the same for all lanes once: plain register
    /// blocks are two to four times as fast there.
    pub fn is_recent_lavapipe(&self) -> bool {
        let release = self.info.driver_info.strip_prefix("Mesa ").and_then(|rest| rest.split('.').next());
        self.is_software() && release.and_then(|r| r.parse::<u32>().ok()).is_some_and(|r| r >= 26)
    }

    /// True if plain register blocks are faster than shuffles on this software adapter, most weights taken together: with
    /// a recent Mesa on processors of other makers than Intel, where only quantized weights lose by shuffles, up to 8 %
    /// (docs/BENCHMARKS.md, Blocks and shuffles).
    pub fn prefers_blocks(&self) -> bool {
        self.is_recent_lavapipe() && !system::is_intel()
    }

    /// Rows that a kernel for `rows` candidate rows is best blocked for. Behind a gate half of them are still masked on
    /// average, and lower blocks leave out more of the others; but a GPU would read the weights more than once.
    pub fn usual_candidates(&self, rows: usize) -> usize {
        if self.is_software() { rows.div_ceil(2) } else { rows }
    }

    /// True if shaders go through Microsoft's compilers, FXC or DXC.
    pub fn is_direct3d(&self) -> bool {
        self.info.backend == wgpu::Backend::Dx12
    }

    /// Bytes that a model can have: the adapter's own memory, on a software adapter what the machine has available now.
    pub fn usable_memory(&self) -> Option<u64> {
        if self.is_software() { system::available_bytes() } else { self.memory_bytes }
    }

    /// True if the device can time its own passes.
    pub fn has_timestamps(&self) -> bool {
        self.features.contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Names of the enabled features.
    pub fn feature_names(&self) -> Vec<String> {
        self.features.iter_names().map(|(name, _)| name.to_lowercase()).collect()
    }

    /// The limits that decide how kernels are cut, by name.
    pub fn notable_limits(&self) -> [(&'static str, u64); 5] {
        let limits = &self.limits;
        [
            ("max_storage_buffer_binding_size", limits.max_storage_buffer_binding_size),
            ("max_buffer_size", limits.max_buffer_size),
            ("max_compute_workgroup_storage_size", limits.max_compute_workgroup_storage_size.into()),
            ("max_compute_invocations_per_workgroup", limits.max_compute_invocations_per_workgroup.into()),
            ("max_storage_buffers_per_shader_stage", limits.max_storage_buffers_per_shader_stage.into()),
        ]
    }

    /// One line: name, backend, kind, driver.
    pub fn describe(&self) -> String {
        describe(&self.info)
    }

    /// A first guess of the operations that one submit may hold, before [`crate::Gpu::limit_submits`] knows
    /// the adapter's speed.
    pub(crate) fn assumed_flops_per_submit(&self) -> u64 {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => 400_000_000_000,
            wgpu::DeviceType::Cpu => 8_000_000_000,
            _ => 50_000_000_000,
        }
    }
}

/// On Metal wgpu reports subgroups of 4 to 64 lanes whatever the device; Apple's own GPUs with matrix units have 32.
/// (It names matrix units for other makers' GPUs in Macs, too, whose subgroups may have 64.)
pub(super) fn with_known_subgroups(info: wgpu::AdapterInfo, cooperative_edges: &[u32]) -> wgpu::AdapterInfo {
    let is_apple = info.backend == wgpu::Backend::Metal && info.name.starts_with("Apple");
    if !is_apple || cooperative_edges.is_empty() {
        return info;
    }
    wgpu::AdapterInfo { subgroup_min_size: 32, subgroup_max_size: 32, ..info }
}

/// One line about an adapter: name, backend, kind, driver.
pub fn describe(info: &wgpu::AdapterInfo) -> String {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "unknown kind",
    };
    let driver = [info.driver.as_str(), info.driver_info.as_str()];
    let driver = driver.iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>().join(" ");
    format!("{} ({}, {kind}{}{driver})", info.name, info.backend, if driver.is_empty() { "" } else { ", " })
}

/// The kind of an adapter in one word.
pub fn kind(info: &wgpu::AdapterInfo) -> &'static str {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "other",
    }
}

/// Driver name and version, as far as the backend tells.
pub fn driver(info: &wgpu::AdapterInfo) -> String {
    format!("{} {}", info.driver, info.driver_info).trim().to_string()
}
