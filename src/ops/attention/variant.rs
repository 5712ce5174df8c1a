//! Which kernel computes an attention: all choices, their names in tuning files, and the built-in ones.

use std::fmt;

use crate::gpu::needs::Need;
use crate::gpu::{Caps, Gpu};
use crate::ops::ENOUGH_GROUPS;
use crate::ops::rounding::{COOP_LANES, Rounding, least_coop_lanes, missing_for_coop};

/// Largest head size of the fused kernels: running sums must fit 16 KiB of workgroup memory.
const MAX_HEAD_DIM: usize = 128;

/// Queries that one workgroup of any fused kernel takes at most; attentions are split at multiples of it.
pub(super) const QUERIES_PER_GROUP: usize = 32;

/// Up to so many workgroups, all parts counted, sharing the keys may still help the largest GPUs: measuring tells.
const MOST_GROUPS: usize = 1024;

/// Keys of a part that are worth a workgroup.
const LEAST_KEYS: usize = 64;

/// The sizes of an attention, which decide which kernel is best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttentionShape {
    /// Queries.
    pub n_q: usize,
    /// Keys.
    pub n_kv: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Size of one head.
    pub head_dim: usize,
}

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
        /// Workgroups that share the keys, at most.
        parts: u32,
    },
    /// Cooperative matrices: operands rounded to f16, sums in f32.
    Coop {
        /// Edge of a matrix, 8 or 16.
        edge: u32,
        /// Lanes of a workgroup: at least four subgroups.
        lanes: u32,
        /// Workgroups that share the keys, at most.
        parts: u32,
    },
}

impl AttentionVariant {
    /// The built-in choice for a shape.
    pub fn default_for(caps: &Caps, shape: AttentionShape) -> AttentionVariant {
        // Workgroups of few queries while there are few: a block of 32 rows and 32 heads has 64 of them, and gets as
        // many for each part of its keys.
        let rows = if shape.n_q <= 128 { 2 } else { 4 };
        let fallback = AttentionVariant::Fused { qb: if caps.is_software() { 4 } else { 1 } };
        let best_first = if caps.is_software() {
            [AttentionVariant::Shuffle, fallback, AttentionVariant::Naive]
        } else {
            let subgroups = Need::Subgroup8.is_met(caps);
            let tile = |parts| AttentionVariant::Tile { rows, subgroups, parts };
            let parts = [8, 4, 2].into_iter().find(|parts| tile(*parts).is_shared_well(shape, ENOUGH_GROUPS));
            [tile(parts.unwrap_or(1)), fallback, AttentionVariant::Naive]
        };
        let possible = best_first.into_iter().find(|variant| variant.is_possible(caps, shape.head_dim));
        possible.unwrap_or(AttentionVariant::Naive)
    }

    /// Every variant, whatever the device and the heads.
    fn all() -> Vec<AttentionVariant> {
        use AttentionVariant::*;
        let mut all = vec![Naive, Fused { qb: 1 }, Fused { qb: 4 }, Shuffle];
        for parts in [1, 2, 4, 8] {
            for subgroups in [false, true] {
                all.extend([2, 4].map(|rows| Tile { rows, subgroups, parts }));
            }
            for edge in [8, 16] {
                all.extend(COOP_LANES.map(|lanes| Coop { edge, lanes, parts }));
            }
        }
        all
    }

    /// Queries of one workgroup.
    pub(super) fn queries_per_group(self) -> usize {
        match self {
            AttentionVariant::Naive => 1,
            AttentionVariant::Fused { .. } | AttentionVariant::Shuffle => QUERIES_PER_GROUP,
            AttentionVariant::Tile { rows, .. } => 8 * rows as usize,
            AttentionVariant::Coop { edge, .. } => edge as usize,
        }
    }

    /// Parts that the keys are taken in, at most.
    pub fn parts(self) -> u32 {
        match self {
            AttentionVariant::Tile { parts, .. } | AttentionVariant::Coop { parts, .. } => parts,
            _ => 1,
        }
    }

    /// The same blocks, all keys in one part.
    pub(crate) fn with_all_keys(mut self) -> AttentionVariant {
        if let AttentionVariant::Tile { parts, .. } | AttentionVariant::Coop { parts, .. } = &mut self {
            *parts = 1;
        }
        self
    }

    /// Keys of one workgroup: all, or whole blocks of them.
    pub(super) fn keys_per_part(self, n_kv: usize) -> usize {
        let block = match self {
            AttentionVariant::Coop { edge, .. } => 4 * edge as usize,
            _ => 32,
        };
        match self.parts() as usize {
            1 => n_kv,
            parts => n_kv.div_ceil(parts).next_multiple_of(block).min(n_kv),
        }
    }

    /// True if there are at most `groups` workgroups with all parts, and keys for each.
    fn is_shared_well(self, shape: AttentionShape, groups: usize) -> bool {
        let parts = self.parts() as usize;
        let all = shape.n_q.div_ceil(self.queries_per_group()) * shape.n_heads * parts;
        all <= groups && shape.n_kv / parts >= LEAST_KEYS
    }

    /// What it needs and the device lacks, in words.
    pub fn missing(self, caps: &Caps) -> Vec<String> {
        match self {
            AttentionVariant::Naive | AttentionVariant::Fused { .. } => Vec::new(),
            AttentionVariant::Tile { subgroups: false, .. } => Vec::new(),
            AttentionVariant::Shuffle | AttentionVariant::Tile { .. } => {
                Need::missing(&[Need::Subgroup8], caps)
            }
            AttentionVariant::Coop { edge, lanes, .. } => missing_for_coop(caps, edge, lanes),
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
    pub fn candidates(caps: &Caps, shape: AttentionShape, allowed: &[Rounding]) -> Vec<AttentionVariant> {
        let built_in = AttentionVariant::default_for(caps, shape);
        let possible = AttentionVariant::all().into_iter().filter(|v| v.is_possible(caps, shape.head_dim));
        let is_useful = |variant: &AttentionVariant| match *variant {
            AttentionVariant::Naive => false,
            AttentionVariant::Coop { lanes, .. } if least_coop_lanes(caps) != Some(lanes) => false,
            // Software adapters have few cores to share the keys.
            _ if variant.parts() > 1 => !caps.is_software() && variant.is_shared_well(shape, MOST_GROUPS),
            _ => true,
        };
        possible
            .filter(|v| v.rounding() == Rounding::Exact || allowed.contains(&v.rounding()))
            .filter(|v| *v == built_in || is_useful(v))
            .collect()
    }

    /// The key of a measured choice. Rows count in powers of two: neighbours behave alike. Keys and values in f16
    /// get what was measured for f32, and any number of keys what was measured for that of a clip and a question.
    pub fn key(shape: AttentionShape) -> String {
        let AttentionShape { n_q, n_heads, head_dim, .. } = shape;
        let bucket = n_q.max(1).next_power_of_two().min(1024);
        format!("attention {n_heads}x{head_dim} rows {bucket}")
    }

    /// The variant of a name, as [`fmt::Display`] writes it.
    pub fn parse(name: &str) -> Option<AttentionVariant> {
        AttentionVariant::all().into_iter().find(|variant| variant.to_string() == name)
    }

    /// The measured choice if there is one that the device allows, else the built-in one.
    pub fn choose(gpu: &Gpu, shape: AttentionShape) -> AttentionVariant {
        gpu.choice(&AttentionVariant::key(shape))
            .and_then(|name| AttentionVariant::parse(&name))
            .filter(|variant| variant.is_possible(gpu.caps(), shape.head_dim))
            .unwrap_or_else(|| AttentionVariant::default_for(gpu.caps(), shape))
    }
}

impl fmt::Display for AttentionVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AttentionVariant::Naive => f.write_str("naive"),
            AttentionVariant::Fused { qb } => write!(f, "fused {qb}"),
            AttentionVariant::Shuffle => f.write_str("shuffle"),
            AttentionVariant::Tile { rows, subgroups, .. } => {
                write!(f, "tile {rows}{}", if subgroups { " subgroups" } else { "" })
            }
            AttentionVariant::Coop { edge, lanes, .. } => write!(f, "coop {edge} lanes {lanes}"),
        }?;
        if self.parts() > 1 { write!(f, ", keys in {}", self.parts()) } else { Ok(()) }
    }
}
