//! Which kernel computes an attention: all choices, their names in tuning files, and the built-in ones.

use std::fmt;

use crate::gpu::needs::Need;
use crate::gpu::{Caps, Gpu};
use crate::ops::rounding::{COOP_LANES, Rounding, least_coop_lanes, missing_for_coop};

/// Largest head size of the fused kernels: running sums must fit 16 KiB of workgroup memory.
const MAX_HEAD_DIM: usize = 128;

/// Queries that one workgroup of any fused kernel takes at most; attentions are split at multiples of it.
pub(super) const QUERIES_PER_GROUP: usize = 32;

/// The kernels for one attention. All but the one that rounds differ in the order of f32 sums, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionVariant {
    /// Any head size.
    Naive,
    /// Online softmax with `qb` of a workgroup's 32 queries per lane.
    Fused {
        /// Queries per lane.
        qb: u32,
    },
    /// Online softmax, four queries per lane, keys and values passed on by shuffles.
    Shuffle,
    /// Online softmax over tiles in workgroup memory.
    Tile {
        /// Queries per lane; a workgroup has eight times as many.
        rows: u32,
        /// Lanes find the maximum of a row by exchange inside subgroups.
        subgroups: bool,
    },
    /// Cooperative matrices: operands rounded to f16, sums in f32.
    Coop {
        /// Edge of a matrix, 8 or 16.
        edge: u32,
        /// Lanes of a workgroup: at least four subgroups.
        lanes: u32,
    },
}

impl AttentionVariant {
    /// The built-in choice for `n_q` queries.
    pub fn default_for(caps: &Caps, n_q: usize, head_dim: usize) -> AttentionVariant {
        // Workgroups of few queries while there are few: a block of 32 rows and 32 heads has 64 of them.
        let rows = if n_q <= 128 { 2 } else { 4 };
        let fallback = AttentionVariant::Fused { qb: if caps.is_software() { 4 } else { 1 } };
        let best_first = if caps.is_software() {
            [AttentionVariant::Shuffle, fallback, AttentionVariant::Naive]
        } else {
            let subgroups = Need::Subgroup8.is_met(caps);
            [AttentionVariant::Tile { rows, subgroups }, fallback, AttentionVariant::Naive]
        };
        let possible = best_first.into_iter().find(|variant| variant.is_possible(caps, head_dim));
        possible.unwrap_or(AttentionVariant::Naive)
    }

    /// Every variant, whatever the device and the heads.
    fn all() -> Vec<AttentionVariant> {
        use AttentionVariant::*;
        let mut all = vec![Naive, Fused { qb: 1 }, Fused { qb: 4 }, Shuffle];
        for subgroups in [false, true] {
            all.extend([2, 4].map(|rows| Tile { rows, subgroups }));
        }
        for edge in [8, 16] {
            all.extend(COOP_LANES.map(|lanes| Coop { edge, lanes }));
        }
        all
    }

    /// What it needs and the device lacks, in words.
    pub fn missing(self, caps: &Caps) -> Vec<String> {
        match self {
            AttentionVariant::Naive | AttentionVariant::Fused { .. } => Vec::new(),
            AttentionVariant::Tile { subgroups: false, .. } => Vec::new(),
            AttentionVariant::Shuffle | AttentionVariant::Tile { .. } => {
                Need::missing(&[Need::Subgroup8], caps)
            }
            AttentionVariant::Coop { edge, lanes } => missing_for_coop(caps, edge, lanes),
        }
    }

    /// True if the device and the head size allow it.
    pub fn is_possible(self, caps: &Caps, head_dim: usize) -> bool {
        let fits = |unit: usize| head_dim.is_multiple_of(unit) && (1..=MAX_HEAD_DIM).contains(&head_dim);
        self.missing(caps).is_empty()
            && match self {
                AttentionVariant::Naive => true,
                AttentionVariant::Fused { .. } | AttentionVariant::Shuffle => fits(4),
                AttentionVariant::Tile { .. } => fits(32),
                AttentionVariant::Coop { .. } => fits(64),
            }
    }

    /// What the variant does to the operands.
    pub fn rounding(self) -> Rounding {
        if matches!(self, AttentionVariant::Coop { .. }) { Rounding::F16 } else { Rounding::Exact }
    }

    /// What is worth trying, the built-in choice among it; of the variants that round, those in `allowed`.
    pub fn candidates(
        caps: &Caps,
        n_q: usize,
        head_dim: usize,
        allowed: &[Rounding],
    ) -> Vec<AttentionVariant> {
        let built_in = AttentionVariant::default_for(caps, n_q, head_dim);
        let possible = AttentionVariant::all().into_iter().filter(|v| v.is_possible(caps, head_dim));
        let is_useful = |variant: &AttentionVariant| match *variant {
            AttentionVariant::Naive => false,
            AttentionVariant::Coop { lanes, .. } => least_coop_lanes(caps) == Some(lanes),
            _ => true,
        };
        possible
            .filter(|v| v.rounding() == Rounding::Exact || allowed.contains(&v.rounding()))
            .filter(|v| *v == built_in || is_useful(v))
            .collect()
    }

    /// The key of a measured choice. Rows count in powers of two: neighbours behave alike. Keys and values in f16
    /// get what was measured for f32.
    pub fn key(n_q: usize, n_heads: usize, head_dim: usize) -> String {
        let bucket = n_q.max(1).next_power_of_two().min(1024);
        format!("attention {n_heads}x{head_dim} rows {bucket}")
    }

    /// The variant of a name, as [`fmt::Display`] writes it.
    pub fn parse(name: &str) -> Option<AttentionVariant> {
        AttentionVariant::all().into_iter().find(|variant| variant.to_string() == name)
    }

    /// The measured choice if there is one that the device allows, else the built-in one.
    pub fn choose(gpu: &Gpu, n_q: usize, n_heads: usize, head_dim: usize) -> AttentionVariant {
        gpu.choice(&AttentionVariant::key(n_q, n_heads, head_dim))
            .and_then(|name| AttentionVariant::parse(&name))
            .filter(|variant| variant.is_possible(gpu.caps(), head_dim))
            .unwrap_or_else(|| AttentionVariant::default_for(gpu.caps(), n_q, head_dim))
    }
}

impl fmt::Display for AttentionVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AttentionVariant::Naive => f.write_str("naive"),
            AttentionVariant::Fused { qb } => write!(f, "fused {qb}"),
            AttentionVariant::Shuffle => f.write_str("shuffle"),
            AttentionVariant::Tile { rows, subgroups } => {
                write!(f, "tile {rows}{}", if subgroups { " subgroups" } else { "" })
            }
            AttentionVariant::Coop { edge, lanes } => write!(f, "coop {edge} lanes {lanes}"),
        }
    }
}
