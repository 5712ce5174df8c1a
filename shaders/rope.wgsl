// rope: rotary position embedding in place, half-split pairs: for i < half
//   x'[i] = x[i] cos - x[i + half] sin,   x'[i + half] = x[i + half] cos + x[i] sin
// for rows row0 .., with (cos, sin) of angle (rows[list0 + r] mod rows_per_sequence) * theta^(-2i / head_dim):
// sequences of a batch lie rows_per_sequence apart. The table is made on the CPU, because the
// precision of WGSL's own sin and cos is not guaranteed for arguments of thousands.
// One lane per pair. Dispatch: linear over ceil(n_rows * n_heads * half / WG).
// @use grid

const WG: u32 = 64u;

struct Params { n_rows: u32, n_heads: u32, half: u32, row0: u32, list0: u32, rows_per_sequence: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       table: array<vec2<f32>>;  // [rows_per_sequence, half] (cos, sin)
@group(0) @binding(2) var<storage, read>       rows:  array<u32>;        // [list0 + n_rows] row in the forward
@group(0) @binding(3) var<storage, read_write> x:     array<f32>;        // [row0 + n_rows, n_heads * 2 half]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * WG + lane;
    let pairs = params.n_heads * params.half;
    if (i >= params.n_rows * pairs) { return; }
    let row = i / pairs;
    let head = (i % pairs) / params.half;
    let pair = i % params.half;
    let position = rows[params.list0 + row] % params.rows_per_sequence;
    let turn = table[position * params.half + pair];
    let lo_at = (params.row0 + row) * pairs * 2u + head * params.half * 2u + pair;
    let hi_at = lo_at + params.half;
    let lo = x[lo_at];
    let hi = x[hi_at];
    x[lo_at] = lo * turn.x - hi * turn.y;
    x[hi_at] = hi * turn.x + lo * turn.y;
}
