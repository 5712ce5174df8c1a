//! What a kernel variant asks of a device beyond core WGSL.
//!
//! A shader file or fragment says so in a line `// @needs subgroup`; see [`crate::gpu::shader::needs`].

use std::fmt;

use crate::gpu::caps::Caps;

/// One optional ability of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// Half floats in arithmetic and workgroup memory.
    F16,
    /// Lanes that exchange values without memory.
    Subgroup,
    /// The same, never fewer than eight of them.
    Subgroup8,
    /// Square matrices of this edge held by a subgroup: f16 factors, f32 sums.
    CooperativeMatrix(u32),
}

impl Need {
    /// By the word after `// @needs`.
    pub fn parse(word: &str) -> Option<Need> {
        match word {
            "f16" => Some(Need::F16),
            "subgroup" => Some(Need::Subgroup),
            "subgroup_8" => Some(Need::Subgroup8),
            "cooperative_matrix_8" => Some(Need::CooperativeMatrix(8)),
            "cooperative_matrix_16" => Some(Need::CooperativeMatrix(16)),
            _ => None,
        }
    }

    /// True if a device with these capabilities has it.
    pub fn is_met(self, caps: &Caps) -> bool {
        match self {
            Need::F16 => caps.features.contains(wgpu::Features::SHADER_F16),
            Need::Subgroup => caps.features.contains(wgpu::Features::SUBGROUP),
            Need::Subgroup8 => Need::Subgroup.is_met(caps) && caps.info.subgroup_min_size >= 8,
            Need::CooperativeMatrix(edge) => caps.cooperative_edges.contains(&edge),
        }
    }

    /// Those of `needs` that a device lacks, in words for [`crate::Error::Unsupported`].
    pub fn missing(needs: &[Need], caps: &Caps) -> Vec<String> {
        needs.iter().filter(|need| !need.is_met(caps)).map(Need::to_string).collect()
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::F16 => f.write_str("f16"),
            Need::Subgroup => f.write_str("subgroup"),
            Need::Subgroup8 => f.write_str("subgroups of eight or more"),
            Need::CooperativeMatrix(edge) => write!(f, "cooperative matrix {edge}"),
        }
    }
}
