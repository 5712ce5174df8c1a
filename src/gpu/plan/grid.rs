//! What one dispatch costs and how many workgroups it has.

/// Arithmetic and traffic of one dispatch, for slicing and for benchmarks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations (a multiply-add is two).
    pub flops: u64,
    /// Bytes that must move at least once.
    pub bytes: u64,
}

/// Number of workgroups, and what it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(super) groups: [u32; 3],
    /// Rows that one group in y covers, if y counts rows; 0 otherwise.
    pub(super) rows_per_group: u32,
}

impl From<[u32; 3]> for Grid {
    fn from(groups: [u32; 3]) -> Grid {
        Grid { groups, rows_per_group: 0 }
    }
}

impl Grid {
    /// `columns` groups in x and as many in y as `rows` need.
    pub(crate) fn over_rows(columns: usize, rows: usize, rows_per_group: usize) -> Grid {
        let groups = [columns as u32, rows.div_ceil(rows_per_group) as u32, 1];
        Grid { groups, rows_per_group: rows_per_group as u32 }
    }

    /// The same in `parts` layers.
    pub(crate) fn deep(mut self, parts: usize) -> Grid {
        self.groups[2] = parts as u32;
        self
    }
}

/// Workgroups per dimension allowed everywhere (WebGPU's default limit).
pub(super) const MAX_GROUPS: u32 = 65_535;

/// Width of folded grids, `FOLD` of `shaders/lib/grid.wgsl`.
const FOLD: u32 = 32_768;

/// Folds a linear number of workgroups into x and y. Kernels undo it with `linear_group()` of
/// `lib/grid.wgsl` and ignore the surplus.
pub(crate) fn linear_grid(groups: usize) -> Grid {
    let groups = groups as u32;
    if groups <= MAX_GROUPS {
        return [groups, 1, 1].into();
    }
    [FOLD, groups.div_ceil(FOLD), 1].into()
}

/// `columns` groups in x for each of `rows` rows, which are folded into y and z. Kernels undo it with `row_group()`
/// of `lib/grid.wgsl` and ignore the surplus. Saves them dividing, which is slow on software adapters.
pub(crate) fn row_grid(columns: usize, rows: usize) -> Grid {
    let [y, z, _] = linear_grid(rows).groups;
    [columns as u32, y, z].into()
}

#[cfg(test)]
mod tests {
    use super::{FOLD, linear_grid};

    #[test]
    fn grids_fold_and_cover() {
        for groups in [0, 1, 65_535, 65_536, 196_608, 1_000_001] {
            let [x, y, z] = linear_grid(groups).groups;
            assert!(x as usize * y as usize >= groups && x <= 65_535 && y <= 65_535 && z == 1);
            assert!((x as usize * y as usize) < groups + FOLD as usize);
            assert!(y <= 1 || x == FOLD);
        }
        assert!(include_str!("../../../shaders/lib/grid.wgsl").contains(&format!("FOLD: u32 = {FOLD}u;")));
    }
}
