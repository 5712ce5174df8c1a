// embed: out[out_row0 + r, c] = w[ids[id0 + r], c] for ids in this slab [first_id, first_id + slab_rows)
// One dispatch per slab of the table; each writes only the rows whose id it holds.
// Dispatch: linear over ceil(n_rows * n_cols / WG).
// @use grid
// @slot weights

const WG: u32 = 64u;

struct Params { n_rows: u32, n_cols: u32, id0: u32, out_row0: u32, first_id: u32, slab_rows: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       ids: array<u32>;         // [.. n_rows]
@group(0) @binding(2) var<storage, read>       w:   array<vec4<u32>>;   // [slab_rows, n_cols], packed
@group(0) @binding(3) var<storage, read_write> out: array<f32>;         // [.., n_cols]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    if (i >= params.n_rows * params.n_cols) { return; }
    let id = ids[params.id0 + i / params.n_cols];
    if (id < params.first_id || id - params.first_id >= params.slab_rows) { return; }
    out[params.out_row0 * params.n_cols + i] = weight(id - params.first_id, i % params.n_cols, params.n_cols);
}
