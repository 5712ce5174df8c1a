// tile: rows of 32 inner elements staged in workgroup memory as eight vectors each, written and read as whole vectors
// (Metal and D3D may write a whole vector where one component is stored, so lanes must not share one). Vectors of a
// row change places from row to row, so that eight neighbouring lanes, in a row or in a column, find different banks.

const K_STEP: u32 = 32u;

// Where elements 4 quad .. 4 quad + 3 of a row lie.
fn tile_at(row: u32, quad: u32) -> u32 { return row * 8u + (quad ^ (row & 7u)); }

// `sums` and the products of four inner elements of a row with those of four columns, in order.
fn tile_products(sums: vec4<f32>, row: vec4<f32>, columns: mat4x4<f32>) -> vec4<f32> {
    var all = fma(vec4<f32>(row.x), columns[0], sums);
    all = fma(vec4<f32>(row.y), columns[1], all);
    all = fma(vec4<f32>(row.z), columns[2], all);
    return fma(vec4<f32>(row.w), columns[3], all);
}
