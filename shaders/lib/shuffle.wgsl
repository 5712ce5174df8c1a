// shuffle: products of rows that eight neighbouring lanes have read, one each, with columns of the lane's own.
// On software adapters a read of the same word by all lanes costs as much as eight different ones; this way a
// row is read once by one lane and passed on. Four columns are the components of vectors throughout: arrays of
// single numbers are too many instructions for drivers to unroll, and then live in memory.
// @needs subgroup_8

// Eight rows of four columns.
alias Rows8 = array<vec4<f32>, 8>;

// Adds the products of four inner elements: `mine` of the row that this lane has read, which is the row of its
// place among eight; `columns` one vector over the columns for each element.
fn add_products(sums: ptr<function, Rows8>, mine: vec4<f32>, columns: mat4x4<f32>) {
    for (var j = 0u; j < 8u; j++) {
        let row = subgroupShuffle(mine, j);
        var sum = (*sums)[j];
        sum = fma(vec4<f32>(row.x), columns[0], sum);
        sum = fma(vec4<f32>(row.y), columns[1], sum);
        sum = fma(vec4<f32>(row.z), columns[2], sum);
        sum = fma(vec4<f32>(row.w), columns[3], sum);
        (*sums)[j] = sum;
    }
}
