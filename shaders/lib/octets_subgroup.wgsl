// octets_subgroup: as octets, by exchange of registers. Relies on subgroups being consecutive lanes of a
// one-dimensional workgroup, as all backends make them.
// @needs subgroup_8

fn octet_max(lane: u32, slot: u32, value: f32) -> f32 {
    var top = value;
    for (var distance = 1u; distance < 8u; distance *= 2u) { top = max(top, subgroupShuffleXor(top, distance)); }
    return top;
}

// Neighbours first, then pairs of them, then fours.
fn octet_add(lane: u32, slot: u32, value: f32) -> f32 {
    var sum = value;
    for (var distance = 1u; distance < 8u; distance *= 2u) { sum += subgroupShuffleXor(sum, distance); }
    return sum;
}
