// octets: sums and maxima over the eight neighbours 8i .. 8i+7 of a workgroup of WG lanes, the same in all eight.
// Calls that follow one another name different slots of four.

var<workgroup> octet_scratch: array<array<f32, WG>, 4>;

fn octet_max(lane: u32, slot: u32, value: f32) -> f32 {
    octet_scratch[slot][lane] = value;
    workgroupBarrier();
    let first = lane / 8u * 8u;
    var top = octet_scratch[slot][first];
    for (var i = 1u; i < 8u; i++) { top = max(top, octet_scratch[slot][first + i]); }
    return top;
}

fn octet_add(lane: u32, slot: u32, value: f32) -> f32 {
    octet_scratch[slot][lane] = value;
    workgroupBarrier();
    let first = lane / 8u * 8u;
    var sum = octet_scratch[slot][first];
    for (var i = 1u; i < 8u; i++) { sum += octet_scratch[slot][first + i]; }
    return sum;
}
