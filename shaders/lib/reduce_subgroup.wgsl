// reduce_subgroup: as reduce, with one exchange of registers per halving inside a subgroup and two barriers in all.
// The order is fixed: neighbours, then pairs of them, and so on; then the subgroups in turn. Relies on subgroups
// being consecutive lanes of a one-dimensional workgroup, as all backends make them.
// @needs subgroup

// One value of each subgroup; no subgroup has fewer than four lanes.
var<workgroup> reduce_scratch: array<f32, WG / 4u>;

fn reduce_add(lane: u32, value: f32) -> f32 {
    let size = subgroupAdd(1u);
    var sum = value;
    for (var distance = 1u; distance < 128u; distance *= 2u) {
        let other = subgroupShuffleXor(sum, distance);
        sum = select(sum, sum + other, distance < size);
    }
    if (lane % size == 0u) { reduce_scratch[lane / size] = sum; }
    workgroupBarrier();
    var total = reduce_scratch[0];
    for (var i = 1u; i < WG / size; i++) { total += reduce_scratch[i]; }
    workgroupBarrier();
    return total;
}

fn reduce_max(lane: u32, value: f32) -> f32 {
    let size = subgroupAdd(1u);
    let top = subgroupMax(value);
    if (lane % size == 0u) { reduce_scratch[lane / size] = top; }
    workgroupBarrier();
    var total = reduce_scratch[0];
    for (var i = 1u; i < WG / size; i++) { total = max(total, reduce_scratch[i]); }
    workgroupBarrier();
    return total;
}
