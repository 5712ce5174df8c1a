// rope_qkv: takes the heads of a fused projection apart, with rotary position embedding of queries and keys:
//   q[q_row0 + r] = rotated(qkv[x_row0 + r], the first n_heads heads)
//   k[rows[list0 + r]], v[rows[list0 + r]] = rotated(the next n_kv_heads heads), the last n_kv_heads heads
// Half-split pairs: for i < half
//   x'[i] = x[i] cos - x[i + half] sin,   x'[i + half] = x[i + half] cos + x[i] sin
// with (cos, sin) of angle (rows[list0 + r] mod rows_per_sequence) * theta^(-2i / head_dim): sequences of a batch
// lie rows_per_sequence apart. The table is made on the CPU, because the precision of WGSL's own sin and cos is not
// guaranteed for arguments of thousands.
// A lane writes whole words of k and v: PER_WORD neighbours, of which half must be a multiple.
// Only heads from first_head on. One workgroup for each row and head. Dispatch: over n_rows, one for each head.
// @use grid
// @slot kept

const WG: u32 = 8u;

struct Params {
    n_rows: u32, n_heads: u32, n_kv_heads: u32, half: u32,
    first_head: u32, x_row0: u32, q_row0: u32, list0: u32, rows_per_sequence: u32,
}

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       qkv:   array<f32>;        // [.., (n_heads + 2 n_kv_heads) * 2 half]
@group(0) @binding(2) var<storage, read>       table: array<vec2<f32>>;  // [rows_per_sequence, half] (cos, sin)
@group(0) @binding(3) var<storage, read>       rows:  array<u32>;        // [list0 + n_rows] row in the forward
@group(0) @binding(4) var<storage, read_write> q:     array<f32>;        // [.., n_heads * 2 half]
@group(0) @binding(5) var<storage, read_write> k:     array<Kept>;       // [.., n_kv_heads * 2 half]
@group(0) @binding(6) var<storage, read_write> v:     array<Kept>;       // [.., n_kv_heads * 2 half]

// The pair of `qkv` whose first element is at `at`, rotated.
fn rotated(at: u32, turn: vec2<f32>) -> vec2<f32> {
    let lo = qkv[at];
    let hi = qkv[at + params.half];
    return vec2<f32>(lo * turn.x - hi * turn.y, hi * turn.x + lo * turn.y);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let r = row_group(group);
    if (r >= params.n_rows) { return; }
    let head = params.first_head + group.x;
    let kv_head = (head - params.n_heads) % params.n_kv_heads;
    let row = rows[params.list0 + r];
    let turn0 = row % params.rows_per_sequence * params.half;
    let dim = 2u * params.half;
    let at = ((params.x_row0 + r) * (params.n_heads + 2u * params.n_kv_heads) + head) * dim;
    let q_at = ((params.q_row0 + r) * params.n_heads + head) * dim;
    let kv_at = (row * params.n_kv_heads + kv_head) * dim;

    // Loops that end before they begin, not branches: software adapters take all sides of a branch.
    let is_query = head < params.n_heads;
    let is_key = !is_query && head < params.n_heads + params.n_kv_heads;
    for (var pair = lane; pair < select(0u, params.half, is_query); pair += WG) {
        let x = rotated(at + pair, table[turn0 + pair]);
        q[q_at + pair] = x.x;
        q[q_at + params.half + pair] = x.y;
    }
    for (var pair = PER_WORD * lane; pair < select(0u, params.half, is_key); pair += PER_WORD * WG) {
        let last = pair + PER_WORD - 1u;
        let x = rotated(at + pair, table[turn0 + pair]);
        let next = rotated(at + last, table[turn0 + last]);
        k[(kv_at + pair) / PER_WORD] = to_kept(x.x, next.x);
        k[(kv_at + params.half + pair) / PER_WORD] = to_kept(x.y, next.y);
    }
    for (var i = PER_WORD * lane; i < select(dim, 0u, is_query || is_key); i += PER_WORD * WG) {
        v[(kv_at + i) / PER_WORD] = to_kept(qkv[at + i], qkv[at + i + PER_WORD - 1u]);
    }
}
