//! What variants do to operands before they multiply, and what those on cooperative matrices share.

use crate::gpu::Caps;
use crate::gpu::needs::Need;

/// What a variant does to the operands before it multiplies. Sums are f32 in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Nothing: activations f32, weights as stored.
    Exact,
    /// Both to f16: values above 65504 are clipped.
    F16,
    /// Activations to 8 bits, 32 neighbours with one scale.
    Int8,
}

/// Lanes of a workgroup with cooperative matrices: four subgroups of 32, of 64. Of smaller ones it has more than it
/// needs; they belong to software adapters, whose matrices gain nothing anyway.
pub(crate) const COOP_LANES: [u32; 2] = [128, 256];

/// The fewest of [`COOP_LANES`] that hold four subgroups.
pub(crate) fn least_coop_lanes(caps: &Caps) -> Option<u32> {
    COOP_LANES.into_iter().find(|lanes| *lanes >= 4 * caps.info.subgroup_max_size)
}

/// What a kernel on matrices of this edge needs.
pub(crate) fn coop_needs(edge: u32) -> [Need; 3] {
    [Need::F16, Need::Subgroup, Need::CooperativeMatrix(edge)]
}

/// What such a kernel with workgroups of `lanes` needs and a device lacks, in words.
pub(crate) fn missing_for_coop(caps: &Caps, edge: u32, lanes: u32) -> Vec<String> {
    let mut missing = Need::missing(&coop_needs(edge), caps);
    let largest = caps.info.subgroup_max_size;
    if lanes < 4 * largest {
        missing.push(format!("subgroups of at most {} lanes (found {largest})", lanes / 4));
    }
    missing
}

/// True if the device can run kernels on cooperative matrices of some size.
pub fn has_matrix_units(caps: &Caps) -> bool {
    least_coop_lanes(caps)
        .is_some_and(|lanes| [8, 16].into_iter().any(|edge| missing_for_coop(caps, edge, lanes).is_empty()))
}

/// The fragment with the types of this edge, 8 or 16.
pub(crate) fn coop_fragment(edge: u32) -> &'static str {
    if edge == 8 { "coop_8" } else { "coop_16" }
}
