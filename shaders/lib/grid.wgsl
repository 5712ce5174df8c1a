// grid: undoes the folding of a linear grid into x and y (see `linear_grid` in src/gpu/plan/grid.rs). The width is a
// constant, because the number of workgroups reads as zero in indirect dispatches of D3D12 unless wgpu checks these.
const FOLD: u32 = 32768u;

fn linear_group(group: vec3<u32>) -> u32 {
    return group.x + group.y * FOLD;
}

// The row of a grid over rows that is folded into y and z (see `row_grid` there).
fn row_group(group: vec3<u32>) -> u32 {
    return group.y + group.z * FOLD;
}
