// rope_qkv: takes the heads of a fused projection apart, with rotary position embedding of queries and keys:
//   q[q_row0 + r] = rotated(qkv[x_row0 + r], the first n_heads heads)
//   k[rows[list0 + r]], v[rows[list0 + r]] = rotated(the next n_kv_heads heads), the last n_kv_heads heads
// Half-split pairs: for i < half
//   x'[i] = x[i] cos - x[i + half] sin,   x'[i + half] = x[i + half] cos + x[i] sin
// with (cos, sin) of angle (rows[list0 + r] mod rows_per_sequence) * theta^(-2i / head_dim): sequences of a batch
// lie rows_per_sequence apart. The table is made on the CPU, because the precision of WGSL's own sin and cos is not
// guaranteed for arguments of thousands.
// Only `heads` heads from first_head on. One lane per pair. Dispatch: linear over ceil(n_rows * heads * half / WG).
// @use grid

const WG: u32 = 64u;

struct Params {
    n_rows: u32, n_heads: u32, n_kv_heads: u32, half: u32,
    first_head: u32, heads: u32,
    x_row0: u32, q_row0: u32, list0: u32, rows_per_sequence: u32,
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       qkv:   array<f32>;        // [.., (n_heads + 2 n_kv_heads) * 2 half]
@group(0) @binding(2) var<storage, read>       table: array<vec2<f32>>;  // [rows_per_sequence, half] (cos, sin)
@group(0) @binding(3) var<storage, read>       rows:  array<u32>;        // [list0 + n_rows] row in the forward
@group(0) @binding(4) var<storage, read_write> q:     array<f32>;        // [.., n_heads * 2 half]
@group(0) @binding(5) var<storage, read_write> k:     array<f32>;        // [.., n_kv_heads * 2 half]
@group(0) @binding(6) var<storage, read_write> v:     array<f32>;        // [.., n_kv_heads * 2 half]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * WG + lane;
    let pairs = params.heads * params.half;
    if (i >= params.n_rows * pairs) { return; }
    let r = i / pairs;
    let head = params.first_head + (i % pairs) / params.half;
    let pair = i % params.half;
    let dim = 2u * params.half;
    let n_heads = params.n_heads;
    let n_kv_heads = params.n_kv_heads;

    let at = ((params.x_row0 + r) * (n_heads + 2u * n_kv_heads) + head) * dim + pair;
    let lo = qkv[at];
    let hi = qkv[at + params.half];
    let row = rows[params.list0 + r];
    let turn = table[(row % params.rows_per_sequence) * params.half + pair];
    let rotated = vec2<f32>(lo * turn.x - hi * turn.y, hi * turn.x + lo * turn.y);
    if (head < n_heads) {
        let to = ((params.q_row0 + r) * n_heads + head) * dim + pair;
        q[to] = rotated.x;
        q[to + params.half] = rotated.y;
    } else if (head < n_heads + n_kv_heads) {
        let to = (row * n_kv_heads + head - n_heads) * dim + pair;
        k[to] = rotated.x;
        k[to + params.half] = rotated.y;
    } else {
        let to = (row * n_kv_heads + head - n_heads - n_kv_heads) * dim + pair;
        v[to] = lo;
        v[to + params.half] = hi;
    }
}
