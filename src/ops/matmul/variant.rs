//! Which kernel computes a product: all choices, their names in tuning files, and the built-in ones.

use std::fmt;

use crate::gpu::kernel::Variant;
use crate::gpu::needs::Need;
use crate::gpu::{Caps, DType, Gpu};
use crate::ops::ENOUGH_GROUPS;
use crate::ops::rounding::{COOP_LANES, Rounding, least_coop_lanes, missing_for_coop};
use crate::quant::QuantFormat;

/// The kernels for one product, by how they block it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatmulVariant {
    /// One lane per output.
    Naive,
    /// `mr x nr` outputs per lane in registers.
    Direct {
        /// Rows per lane.
        mr: u32,
        /// Columns per lane.
        nr: u32,
    },
    /// `8 groups` rows x 4 columns per lane, rows passed on by shuffles.
    Shuffle {
        /// Groups of eight rows.
        groups: u32,
    },
    /// `rows x 64` tiles in workgroup memory.
    Tile {
        /// Rows of a tile.
        rows: u32,
        /// Rows of a lane, each with four columns.
        lane_rows: u32,
        /// Workgroups that share the inner length.
        parts: u32,
    },
    /// One workgroup for every `mr` rows of four columns.
    Gemv {
        /// Rows per workgroup.
        mr: u32,
        /// Lanes add up by exchange inside subgroups.
        subgroups: bool,
    },
    /// Cooperative matrices: operands rounded to f16, sums in f32.
    Coop {
        /// Edge of a matrix, 8 or 16.
        edge: u32,
        /// What a workgroup computes.
        block: CoopBlock,
        /// Lanes of a workgroup: at least four subgroups.
        lanes: u32,
        /// Workgroups that share the inner length.
        parts: u32,
    },
    /// Quantized weights times activations quantized on the way: `mr x nr` outputs per lane.
    Int8 {
        /// Rows per lane.
        mr: u32,
        /// Columns per lane.
        nr: u32,
    },
}

/// Cooperative matrices of a workgroup, down and across; four subgroups share them. Flat ones are for the few rows
/// of a block step, whose time is that of reading weights; the others use each staged element more often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoopBlock {
    /// One by eight.
    Of1x8,
    /// Two by eight.
    Of2x8,
    /// Four by four.
    Of4x4,
    /// Eight by eight.
    Of8x8,
}

impl CoopBlock {
    /// All of them, by growing height.
    pub const ALL: [CoopBlock; 4] = [CoopBlock::Of1x8, CoopBlock::Of2x8, CoopBlock::Of4x4, CoopBlock::Of8x8];

    /// The fragment with its constants.
    pub fn fragment(self) -> &'static str {
        match self {
            CoopBlock::Of1x8 => "block_1x8",
            CoopBlock::Of2x8 => "block_2x8",
            CoopBlock::Of4x4 => "block_4x4",
            CoopBlock::Of8x8 => "block_8x8",
        }
    }

    /// Rows and columns of the result, for matrices of this edge.
    pub fn outputs(self, edge: u32) -> [usize; 2] {
        let matrices = match self {
            CoopBlock::Of1x8 => [1, 8],
            CoopBlock::Of2x8 => [2, 8],
            CoopBlock::Of4x4 => [4, 4],
            CoopBlock::Of8x8 => [8, 8],
        };
        matrices.map(|n| n * edge as usize)
    }

    /// True for those that are made for few rows.
    fn is_flat(self) -> bool {
        matches!(self, CoopBlock::Of1x8 | CoopBlock::Of2x8)
    }

    /// Workgroup memory: the rows of both operands in f16, padded by 16 bytes, and a result of each subgroup.
    pub fn memory_bytes(self, edge: u32) -> u32 {
        let k_step = if self.is_flat() { 64 } else { 32 };
        let [rows, columns] = self.outputs(edge);
        (rows + columns) as u32 * 2 * (k_step + 8) + 4 * 4 * edge * edge
    }
}

/// Rows of the tiles in workgroup memory.
const TILE_ROWS: [u32; 3] = [16, 32, 64];

/// Rows of a tile and rows of a lane: for 256 lanes a tile, and for fewer, which do more each.
const TILES: [(u32, u32); 6] = [(16, 1), (16, 4), (32, 2), (32, 4), (64, 4), (64, 8)];

/// Shares of the inner length are multiples of this.
const PART_UNIT: usize = 32;

/// Sums of a lane that every compiler takes; Microsoft's FXC gives up on 256 of them.
const LARGEST_BLOCK: u32 = 128;

/// Below so many it may still, on the largest GPUs: measuring tells.
const MOST_GROUPS: usize = 1024;

/// Rows and columns of the register blocks that the driver makes most of, if they are to be tall for so many rows.
pub(crate) fn tall_block(caps: &Caps, rows: usize) -> Option<(u32, u32)> {
    (caps.is_recent_lavapipe() && rows > 8).then_some(if rows <= 16 { (16, 8) } else { (32, 4) })
}

/// The constants of a kernel with `lib/direct_block`: tall blocks take a barrier.
pub(crate) fn direct_block(fragments: Variant, mr: u32, nr: u32) -> Variant {
    let block = fragments.with("MR", mr).with("NR", nr);
    if mr > 8 { block.with("BARRIER", 1) } else { block }
}

impl MatmulVariant {
    /// What the variant does to the operands.
    pub fn rounding(self) -> Rounding {
        match self {
            MatmulVariant::Coop { .. } => Rounding::F16,
            MatmulVariant::Int8 { .. } => Rounding::Int8,
            _ => Rounding::Exact,
        }
    }

    /// The built-in choice for `rows x n x k`, always exact.
    pub fn default_for(caps: &Caps, rows: usize, n: usize, k: usize) -> MatmulVariant {
        if !k.is_multiple_of(8) {
            return MatmulVariant::Naive;
        }
        if !caps.is_software() {
            if rows <= 4 {
                return MatmulVariant::Gemv { mr: 4, subgroups: Need::Subgroup.is_met(caps) };
            }
            let tile = TILE_ROWS.into_iter().find(|tile| rows <= *tile as usize).unwrap_or(64);
            let groups = rows.div_ceil(tile as usize) * n.div_ceil(64);
            let parts = [8, 4, 2].into_iter().find(|p| groups * p <= ENOUGH_GROUPS && k / p >= 512);
            // 4 x 4 outputs a lane, whatever the rows: eight reads of workgroup memory for 64 products.
            return MatmulVariant::Tile { rows: tile, lane_rows: 4, parts: parts.unwrap_or(1) as u32 };
        }
        if Need::Subgroup8.is_met(caps) && !caps.prefers_blocks() {
            let groups = [1, 2].into_iter().find(|groups| rows <= 8 * groups).unwrap_or(4);
            return MatmulVariant::Shuffle { groups: groups as u32 };
        }
        if let Some((mr, nr)) = tall_block(caps, rows) {
            return MatmulVariant::Direct { mr, nr };
        }
        let mr = if rows <= 4 { 4 } else { 8 };
        let nr = [1, 2, 4].into_iter().find(|nr| n <= 64 * nr).unwrap_or(8);
        MatmulVariant::Direct { mr, nr: nr as u32 }
    }

    /// Every variant, whatever the device and the shape.
    fn all() -> Vec<MatmulVariant> {
        use MatmulVariant::*;
        let mut all = vec![Naive];
        for mr in [4, 8] {
            all.extend([1, 2, 4, 8].map(|nr| Direct { mr, nr }));
        }
        all.extend([(16, 8), (32, 4), (32, 8)].map(|(mr, nr)| Direct { mr, nr }));
        all.extend([1, 2, 4].map(|groups| Shuffle { groups }));
        for (rows, lane_rows) in TILES {
            all.extend([1, 2, 4, 8].map(|parts| Tile { rows, lane_rows, parts }));
        }
        for subgroups in [false, true] {
            all.extend([1, 4].map(|mr| Gemv { mr, subgroups }));
        }
        for edge in [8, 16] {
            let blocks = CoopBlock::ALL.into_iter().flat_map(|b| COOP_LANES.map(|lanes| (b, lanes)));
            for (block, lanes) in blocks {
                all.extend([1, 2, 4, 8].map(|parts| Coop { edge, block, lanes, parts }));
            }
        }
        all.extend([(8, 4), (16, 8), (32, 4)].map(|(mr, nr)| Int8 { mr, nr }));
        all
    }

    /// What it needs and the device lacks, in words.
    pub fn missing(self, caps: &Caps) -> Vec<String> {
        match self {
            MatmulVariant::Coop { edge, block, lanes, .. } => {
                let mut missing = missing_for_coop(caps, edge, lanes);
                let (needed, found) =
                    (block.memory_bytes(edge), caps.limits.max_compute_workgroup_storage_size);
                if needed > found {
                    missing.push(format!("{needed} bytes of workgroup memory (found {found})"));
                }
                missing
            }
            MatmulVariant::Gemv { subgroups: true, .. } => Need::missing(&[Need::Subgroup], caps),
            MatmulVariant::Shuffle { .. } => Need::missing(&[Need::Subgroup8], caps),
            MatmulVariant::Direct { mr, nr } if mr * nr > LARGEST_BLOCK && caps.is_direct3d() => {
                vec![format!("a shader compiler that takes {} sums of a lane (not Direct3D's)", mr * nr)]
            }
            _ => Vec::new(),
        }
    }

    /// True if the device and the operands allow it.
    pub fn is_possible(self, caps: &Caps, dtype: DType, k: usize) -> bool {
        if !self.missing(caps).is_empty() || (self != MatmulVariant::Naive && !k.is_multiple_of(8)) {
            return false;
        }
        if self.parts() > 1 && k / (self.parts() as usize) < PART_UNIT {
            return false;
        }
        match self {
            MatmulVariant::Int8 { .. } => matches!(dtype, DType::Q(QuantFormat::Q8_0 | QuantFormat::Q4_0)),
            _ => true,
        }
    }

    /// What is worth trying for `rows x n x k`, the built-in choice among it; of the variants that round, those
    /// in `allowed`.
    pub fn candidates(
        caps: &Caps,
        dtype: DType,
        [rows, n, k]: [usize; 3],
        allowed: &[Rounding],
    ) -> Vec<MatmulVariant> {
        let least_lanes = least_coop_lanes(caps);
        let is_useful = |variant: &MatmulVariant| match *variant {
            MatmulVariant::Coop { lanes, .. } if Some(lanes) != least_lanes => false,
            // No flat blocks for more than four times their rows, and none that rows do not fill more than half.
            MatmulVariant::Coop { edge, block, .. }
                if block.is_flat() && rows > 4 * block.outputs(edge)[0]
                    || block != CoopBlock::Of1x8 && 2 * rows <= block.outputs(edge)[0] =>
            {
                false
            }
            MatmulVariant::Naive => !k.is_multiple_of(8),
            MatmulVariant::Direct { mr, nr } => {
                (nr == 1 || n > 32 * nr as usize || mr > 8)
                    && (mr <= 8 || (rows >= mr as usize && caps.is_software()))
                    && (mr * nr <= LARGEST_BLOCK || caps.is_recent_lavapipe())
            }
            // No more groups of rows than there are rows for.
            MatmulVariant::Shuffle { groups } => groups == 1 || rows > 4 * groups as usize,
            // On software adapters, which win nothing by tiles, one size; elsewhere none smaller than half of the rows.
            MatmulVariant::Tile { rows: tile, lane_rows, parts } if caps.is_software() => {
                (tile, lane_rows, parts) == (64, 4, 1)
            }
            MatmulVariant::Tile { rows: tile, .. } if tile < 64 && rows > 2 * tile as usize => false,
            // Software adapters have few cores to share the inner length.
            MatmulVariant::Tile { parts, .. } | MatmulVariant::Coop { parts, .. } if parts > 1 => {
                let [tile, columns] = match *variant {
                    MatmulVariant::Coop { edge, block, .. } => block.outputs(edge),
                    MatmulVariant::Tile { rows, .. } => [rows as usize, 64],
                    _ => [64, 64],
                };
                !caps.is_software()
                    && rows.div_ceil(tile) * n.div_ceil(columns) < MOST_GROUPS
                    && k / parts as usize >= 512
            }
            MatmulVariant::Gemv { mr, .. } => rows <= 2 * mr as usize,
            MatmulVariant::Int8 { mr, .. } => mr <= 8 || (rows >= mr as usize && caps.is_software()),
            _ => true,
        };
        let built_in = MatmulVariant::default_for(caps, rows, n, k);
        let rounds_well =
            |v: &MatmulVariant| v.rounding() == Rounding::Exact || allowed.contains(&v.rounding());
        MatmulVariant::all()
            .into_iter()
            .filter(|variant| variant.is_possible(caps, dtype, k) && rounds_well(variant))
            .filter(|variant| *variant == built_in || is_useful(variant))
            .collect()
    }

    /// The key of a measured choice. Rows count in powers of two: neighbours behave alike.
    pub fn key(dtype: DType, rows: usize, n: usize, k: usize) -> String {
        let bucket = rows.max(1).next_power_of_two().min(1024);
        format!("matmul {} {n}x{k} rows {bucket}", dtype.name())
    }

    /// The variant of a name, as [`fmt::Display`] writes it.
    pub fn parse(name: &str) -> Option<MatmulVariant> {
        MatmulVariant::all().into_iter().find(|variant| variant.to_string() == name)
    }

    /// The measured choice for this product if there is one that the device allows, else the built-in one.
    pub fn choose(gpu: &Gpu, dtype: DType, rows: usize, n: usize, k: usize) -> MatmulVariant {
        gpu.choice(&MatmulVariant::key(dtype, rows, n, k))
            .and_then(|name| MatmulVariant::parse(&name))
            .filter(|variant| variant.is_possible(gpu.caps(), dtype, k))
            .unwrap_or_else(|| MatmulVariant::default_for(gpu.caps(), rows, n, k))
    }

    /// Parts that the inner length is computed in.
    pub fn parts(self) -> u32 {
        match self {
            MatmulVariant::Tile { parts, .. } | MatmulVariant::Coop { parts, .. } => parts,
            _ => 1,
        }
    }

    /// Inner elements of one part.
    pub(crate) fn k_part(self, k: usize) -> usize {
        match self.parts() as usize {
            1 => k,
            parts => k.div_ceil(parts).next_multiple_of(PART_UNIT),
        }
    }

    /// True if parts of the inner length are computed side by side, their sums added by a dispatch of its own.
    pub(crate) fn has_partial_sums(self) -> bool {
        self.parts() > 1
    }

    /// The same blocks, the inner length in one part.
    pub(crate) fn with_whole_inner(mut self) -> MatmulVariant {
        if let MatmulVariant::Tile { parts, .. } | MatmulVariant::Coop { parts, .. } = &mut self {
            *parts = 1;
        }
        self
    }
}

impl fmt::Display for MatmulVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_parts = |f: &mut fmt::Formatter<'_>, parts: u32| {
            if parts == 1 { Ok(()) } else { write!(f, ", k in {parts}") }
        };
        match *self {
            MatmulVariant::Naive => f.write_str("naive"),
            MatmulVariant::Direct { mr, nr } => write!(f, "direct {mr}x{nr}"),
            MatmulVariant::Shuffle { groups } => write!(f, "shuffle {}x4", 8 * groups),
            MatmulVariant::Tile { rows, lane_rows, parts } => {
                write!(f, "tile {rows}x64 by {lane_rows}x4")?;
                in_parts(f, parts)
            }
            MatmulVariant::Gemv { mr, subgroups } => {
                write!(f, "gemv {mr}{}", if subgroups { " subgroups" } else { "" })
            }
            MatmulVariant::Coop { edge, block, lanes, parts } => {
                let [rows, cols] = block.outputs(edge);
                write!(f, "coop {edge} block {rows}x{cols} lanes {lanes}")?;
                in_parts(f, parts)
            }
            MatmulVariant::Int8 { mr, nr } => write!(f, "int8 {mr}x{nr}"),
        }
    }
}
