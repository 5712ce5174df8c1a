// gate: indirect arguments of a plan: its grids if the decode state wants this plan now, zeros if not
//   A forward that was queued before its turn is known (the block ended, the answer is done) then costs
//   nothing. Grids over candidate rows shrink to the rows that may still be committed.
// One lane per dispatch of the plan. Dispatch: [ceil(n_steps / WG), 1, 1].

const WG: u32 = 64u;

const BLOCK: u32 = 0u;       // of the state laid out in select.wgsl
const STEP: u32 = 1u;
const DONE: u32 = 2u;
const LIVE_ROWS: u32 = 4u;

const AT_BLOCK_START: u32 = 0u;
const WITHIN_BLOCK: u32 = 1u;

struct Params { n_steps: u32, wanted: u32, block: u32 }   // block 0xffffffff: any

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       state: array<u32>;
@group(0) @binding(2) var<storage, read>       grids: array<vec4<u32>>;   // [n_steps] x, y, z, candidate rows per group in y (0: fixed)
@group(0) @binding(3) var<storage, read_write> out:   array<u32>;         // [n_steps, 3]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * WG + lane;
    if (i >= params.n_steps) { return; }
    var open = state[DONE] == 0u;
    if (params.wanted == AT_BLOCK_START) { open = open && state[STEP] == 0u; }
    if (params.wanted == WITHIN_BLOCK) { open = open && state[STEP] > 0u; }
    open = open && (params.block == 0xffffffffu || params.block == state[BLOCK]);
    let grid = grids[i];
    var y = grid.y;
    if (grid.w > 0u) { y = min(y, (state[LIVE_ROWS] + grid.w - 1u) / grid.w); }
    out[3u * i] = select(0u, grid.x, open);
    out[3u * i + 1u] = select(0u, y, open);
    out[3u * i + 2u] = select(0u, grid.z, open);
}
