// select: one denoising decision per sequence: rank the masked rows of the current block by confidence,
//   commit those the rule takes, advance the schedule, list the rows of the next step, write a report.
// Everything the next forward needs is left on the device. One workgroup per sequence.
// Order: confidence descending, lower row first on a tie; NaN counts as 0. Dispatch: [sequences, 1, 1].
// The candidate rows of a block are listed by slot: still-masked rows first, each part in row order.
// @use random

const WG: u32 = 64u;
const STATE_WORDS: u32 = 16u;
const REPORT_HEADER: u32 = 8u;

// Words of a sequence's state.
const BLOCK: u32 = 0u;            // current block
const STEP: u32 = 1u;             // step within the block
const DONE: u32 = 2u;             // 1 once the answer is finished
const FORWARDS: u32 = 3u;         // forwards done (NFE)
const BLOCK_MASKED: u32 = 4u;     // masked rows when the block began
const ANSWER_ROW: u32 = 5u;       // row of answer row 0 in the forward
const ANSWER_POSITION: u32 = 6u;  // its position (RoPE)
const LIVE: u32 = 7u;             // masked rows in the block now

const RULE_QUOTA: u32 = 0u;
const RULE_THRESHOLD: u32 = 1u;
const RULE_FACTOR: u32 = 2u;

struct Params {
    gen_length: u32, block_length: u32, steps_per_block: u32,
    until_empty: u32,                   // 1: a block lasts until no mask is left; 0: steps_per_block steps at most
    rule: u32, rule_value: f32,
    random: u32, seed: u32,             // remasking = random
    mask_id: u32, stop_id: u32,         // stop_id 0xffffffff: no early end
    n_branches: u32, branch_rows: u32,  // guidance: the second branch's rows lie branch_rows further on
    n_sequences: u32,
}

@group(0) @binding(0) var<uniform>             params:      Params;
@group(0) @binding(1) var<storage, read>       predictions: array<vec2<u32>>;  // [sequences * block_length] by slot
@group(0) @binding(2) var<storage, read_write> state:       array<u32>;        // [sequences, STATE_WORDS]
@group(0) @binding(3) var<storage, read_write> ids:         array<u32>;        // [sequences, gen_length]
@group(0) @binding(4) var<storage, read_write> rows:        array<u32>;        // [branches, sequences, block_length] by slot
@group(0) @binding(5) var<storage, read_write> positions:   array<u32>;        // [branches, sequences, block_length] by slot
@group(0) @binding(6) var<storage, read_write> scratch:     array<u32>;        // [sequences, 2, block_length] rank | slot by rank
@group(0) @binding(7) var<storage, read_write> report:      array<u32>;        // [sequences, REPORT_HEADER + 3 block_length]

var<workgroup> n_taken: u32;
var<workgroup> next_block: u32;
var<workgroup> next_live: u32;
var<workgroup> stop_row: u32;

fn confidence(sequence: u32, slot: u32) -> f32 {
    let i = sequence * params.block_length + slot;
    if (params.random != 0u) {
        let key = vec4<u32>(params.seed, state[sequence * STATE_WORDS + FORWARDS], positions[i], 0x72616e64u);
        return uniform_of(pcg4d(key).x);
    }
    let c = bitcast<f32>(predictions[i].y);
    return select(0.0, c, c > 0.0);
}

// How many of the `live` ranked rows the rule commits.
fn count(sequence: u32, live: u32) -> u32 {
    let s = sequence * STATE_WORDS;
    let order = (sequence * 2u + 1u) * params.block_length;
    switch params.rule {
        case RULE_THRESHOLD: {
            var n = 0u;
            while (n < live && confidence(sequence, scratch[order + n]) >= params.rule_value) { n++; }
            return clamp(n, min(1u, live), live);
        }
        case RULE_FACTOR: {
            // Fast-dLLM's scan with its edges: a stop at the first or the last row still takes that row.
            if (live == 0u) { return 0u; }
            var i = 1u;
            while (i < live && confidence(sequence, scratch[order + i]) >= 1.0 - params.rule_value / f32(i + 2u)) { i++; }
            return select(i, i + 1u, i + 1u == live);
        }
        default: {
            let step = state[s + STEP];
            if (step >= params.steps_per_block) { return 0u; }
            let masked = state[s + BLOCK_MASKED];
            let quota = masked / params.steps_per_block + select(0u, 1u, step < masked % params.steps_per_block);
            return min(quota, live);
        }
    }
}

fn is_masked(sequence: u32, row: u32) -> bool {
    return ids[sequence * params.gen_length + row] == params.mask_id;
}

// After a commit: has the answer ended, and at which row? gen_length if not.
fn find_stop(sequence: u32, first: u32) -> u32 {
    for (var r = first; r < first + params.block_length; r++) {
        let id = ids[sequence * params.gen_length + r];
        if (id == params.mask_id) { break; }
        if (id == params.stop_id) { return r; }
    }
    return params.gen_length;
}

// Moves to the next step, the next block or the end. Returns (block, live) of the next step.
fn advance(sequence: u32, committed: u32) {
    let s = sequence * STATE_WORDS;
    let block = state[s + BLOCK];
    let step = state[s + STEP];
    let first = block * params.block_length;
    var masked = 0u;
    for (var r = 0u; r < params.block_length; r++) { masked += select(0u, 1u, is_masked(sequence, first + r)); }

    let stop = find_stop(sequence, first);
    var limit = params.steps_per_block;
    if (params.until_empty != 0u) { limit = 4u * max(params.block_length, params.steps_per_block); }
    let block_over = masked == 0u || step + 1u >= limit;
    let last = (block + 1u) * params.block_length == params.gen_length;
    let done = stop < params.gen_length || (block_over && last);

    let header = sequence * (REPORT_HEADER + 3u * params.block_length);
    report[header] = block;
    report[header + 1u] = step;
    report[header + 2u] = committed;
    report[header + 3u] = masked;
    report[header + 4u] = select(0u, 1u, done);
    report[header + 5u] = state[s + FORWARDS] + 1u;
    report[header + 6u] = select(0u, 1u, stop < params.gen_length);

    state[s + FORWARDS] += 1u;
    state[s + DONE] = select(0u, 1u, done);
    stop_row = stop;
    next_block = block;
    next_live = masked;
    if (block_over && !done) {
        next_block = block + 1u;
        next_live = 0u;
        for (var r = 0u; r < params.block_length; r++) {
            next_live += select(0u, 1u, is_masked(sequence, first + params.block_length + r));
        }
        state[s + BLOCK] = next_block;
        state[s + STEP] = 0u;
        state[s + BLOCK_MASKED] = next_live;
    } else {
        state[s + STEP] = step + 1u;
    }
    state[s + LIVE] = select(next_live, 0u, done);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sequence = group.x;
    let s = sequence * STATE_WORDS;
    let length = params.block_length;
    let slot0 = sequence * length;
    let rank0 = sequence * 2u * length;
    let report0 = sequence * (REPORT_HEADER + 3u * length);
    let was_done = state[s + DONE] != 0u;
    let live = select(state[s + LIVE], 0u, was_done);

    for (var slot = lane; slot < live; slot += WG) {
        let mine = confidence(sequence, slot);
        var rank = 0u;
        for (var other = 0u; other < live; other++) {
            let theirs = confidence(sequence, other);
            rank += select(0u, 1u, theirs > mine || (theirs == mine && other < slot));
        }
        scratch[rank0 + slot] = rank;
        scratch[rank0 + length + rank] = slot;
    }
    storageBarrier();
    workgroupBarrier();

    if (lane == 0u) { n_taken = count(sequence, live); }
    workgroupBarrier();
    let taken = n_taken;

    for (var slot = lane; slot < live; slot += WG) {
        if (scratch[rank0 + slot] < taken) {
            let prediction = predictions[slot0 + slot];
            let row = positions[slot0 + slot] - state[s + ANSWER_POSITION];
            var place = 0u;   // committed rows are reported in row order
            for (var other = 0u; other < slot; other++) {
                place += select(0u, 1u, scratch[rank0 + other] < taken);
            }
            let at = report0 + REPORT_HEADER + 3u * place;
            report[at] = row;
            report[at + 1u] = prediction.x;
            report[at + 2u] = bitcast<u32>(confidence(sequence, slot));
            ids[sequence * params.gen_length + row] = prediction.x;
        }
    }
    storageBarrier();
    workgroupBarrier();

    if (lane == 0u) {
        if (was_done) {
            report[report0 + 2u] = 0u;
            next_block = state[s + BLOCK];
            next_live = 0u;
            stop_row = params.gen_length;
        } else {
            advance(sequence, taken);
        }
    }
    storageBarrier();
    workgroupBarrier();

    // Everything after an early end becomes the stop token.
    for (var r = stop_row + 1u + lane; r < params.gen_length; r += WG) {
        ids[sequence * params.gen_length + r] = params.stop_id;
    }
    if (stop_row < params.gen_length) { return; }

    let first = next_block * length;
    for (var r = lane; r < length; r += WG) {
        var masked_before = 0u;
        for (var other = 0u; other < r; other++) {
            masked_before += select(0u, 1u, is_masked(sequence, first + other));
        }
        let slot = select(next_live + r - masked_before, masked_before, is_masked(sequence, first + r));
        for (var branch = 0u; branch < params.n_branches; branch++) {
            let at = (branch * params.n_sequences + sequence) * length + slot;
            rows[at] = state[s + ANSWER_ROW] + branch * params.branch_rows + first + r;
            positions[at] = state[s + ANSWER_POSITION] + first + r;
        }
    }
}
