// grid: undoes the folding of a linear grid into x and y (see `linear_grid` in src/gpu/plan.rs).
fn linear_group(group: vec3<u32>, n_groups: vec3<u32>) -> u32 {
    return group.x + group.y * n_groups.x;
}

// The row of a grid over rows that is folded into y and z (see `row_grid` there).
fn row_group(group: vec3<u32>, n_groups: vec3<u32>) -> u32 {
    return group.y + group.z * n_groups.y;
}
