//! Which kernel computes the output head: all choices, their names in tuning files, and the built-in ones.

use std::fmt;

use crate::gpu::needs::Need;
use crate::gpu::{Caps, DType, Gpu};
use crate::ops::matmul::tall_block;

/// The kernels for the output matrix. They differ in the order of f32 sums, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LmHeadVariant {
    /// `mr x nr` rows and ids per lane in registers.
    Direct {
        /// Rows per lane.
        mr: u32,
        /// Ids per lane.
        nr: u32,
    },
    /// `8 groups` rows x 4 ids per lane, rows passed on by shuffles.
    Shuffle {
        /// Groups of eight rows.
        groups: u32,
    },
    /// 32 rows x 64 ids per workgroup, tiles in workgroup memory.
    Tile,
}

impl LmHeadVariant {
    /// The built-in choice for `n_rows` candidate rows.
    pub fn default_for(caps: &Caps, n_rows: usize) -> LmHeadVariant {
        if !caps.is_software() {
            return LmHeadVariant::Tile;
        }
        let groups = [1, 2].into_iter().find(|groups| n_rows <= 8 * groups).unwrap_or(4);
        let shuffle = LmHeadVariant::Shuffle { groups: groups as u32 };
        let has_shuffles = shuffle.is_possible(caps);
        match tall_block(caps, n_rows) {
            Some((mr, nr)) if caps.prefers_blocks() || !has_shuffles => LmHeadVariant::Direct { mr, nr },
            _ if has_shuffles => shuffle,
            // 8 ids per lane reach 0.7 to 0.8 of it (`diffa bench kernels --filter lm_head`).
            _ => LmHeadVariant::Direct { mr: 8, nr: 4 },
        }
    }

    /// Every variant, whatever the device.
    fn all() -> Vec<LmHeadVariant> {
        use LmHeadVariant::*;
        let mut all = vec![Tile];
        all.extend([(8, 4), (8, 8), (16, 8), (32, 4)].map(|(mr, nr)| Direct { mr, nr }));
        all.extend([1, 2, 4].map(|groups| Shuffle { groups }));
        all
    }

    /// What it needs and the device lacks, in words.
    pub fn missing(self, caps: &Caps) -> Vec<String> {
        match self {
            LmHeadVariant::Shuffle { .. } => Need::missing(&[Need::Subgroup8], caps),
            LmHeadVariant::Direct { .. } | LmHeadVariant::Tile => Vec::new(),
        }
    }

    /// True if the device allows it.
    pub fn is_possible(self, caps: &Caps) -> bool {
        self.missing(caps).is_empty()
    }

    /// What is worth trying, the built-in choice among it.
    pub fn candidates(caps: &Caps, n_rows: usize) -> Vec<LmHeadVariant> {
        // No more groups of rows than there are rows for.
        let is_useful = |v: &LmHeadVariant| match v {
            LmHeadVariant::Shuffle { groups } => *groups == 1 || n_rows > 4 * *groups as usize,
            LmHeadVariant::Direct { mr, .. } => *mr == 8 || (n_rows > *mr as usize / 2 && caps.is_software()),
            LmHeadVariant::Tile => true,
        };
        LmHeadVariant::all().into_iter().filter(|v| v.is_possible(caps) && is_useful(v)).collect()
    }

    /// The key of a measured choice. Rows count in powers of two: neighbours behave alike.
    pub fn key(dtype: DType, n_rows: usize, vocab: usize, k: usize) -> String {
        let bucket = n_rows.max(1).next_power_of_two().min(1024);
        format!("head {} {vocab}x{k} rows {bucket}", dtype.name())
    }

    /// The variant of a name, as [`fmt::Display`] writes it.
    pub fn parse(name: &str) -> Option<LmHeadVariant> {
        LmHeadVariant::all().into_iter().find(|variant| variant.to_string() == name)
    }

    /// The measured choice if there is one that the device allows, else the built-in one.
    pub fn choose(gpu: &Gpu, dtype: DType, n_rows: usize, vocab: usize, k: usize) -> LmHeadVariant {
        gpu.choice(&LmHeadVariant::key(dtype, n_rows, vocab, k))
            .and_then(|name| LmHeadVariant::parse(&name))
            .filter(|variant| variant.is_possible(gpu.caps()))
            .unwrap_or_else(|| LmHeadVariant::default_for(gpu.caps(), n_rows))
    }

    /// Ids of one workgroup.
    pub(crate) fn ids_per_group(self) -> usize {
        match self {
            LmHeadVariant::Direct { nr, .. } => 64 * nr as usize,
            LmHeadVariant::Shuffle { .. } => 256,
            LmHeadVariant::Tile => 64,
        }
    }

    /// Rows of one workgroup.
    pub(crate) fn rows_per_group(self) -> usize {
        match self {
            LmHeadVariant::Direct { mr, .. } => mr as usize,
            LmHeadVariant::Shuffle { groups } => 8 * groups as usize,
            LmHeadVariant::Tile => 32,
        }
    }
}

impl fmt::Display for LmHeadVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            LmHeadVariant::Direct { mr, nr } => write!(f, "direct {mr}x{nr}"),
            LmHeadVariant::Shuffle { groups } => write!(f, "shuffle {}x4", 8 * groups),
            LmHeadVariant::Tile => f.write_str("tile"),
        }
    }
}
