// grid: undoes the folding of a linear grid into x and y (see `linear_grid` in src/gpu/plan.rs).
fn linear_group(group: vec3<u32>, n_groups: vec3<u32>) -> u32 {
    return group.x + group.y * n_groups.x;
}
