// select: one denoising decision for every sequence of a batch: rank the masked rows of the current block
//   by confidence, commit those the rule takes, advance the schedule, list the candidate rows of the next
//   step, write a report. Everything the next forward needs is left on the device.
// One workgroup; sequences in turn. All sequences share block and step: a block is over when it is over
// for all of them, and those that finish early wait without changing.
// Order: confidence descending, lower row first on a tie; NaN counts as 0. Candidates are listed by slot:
// still-masked rows first, each part in row order. Dispatch: [1, 1, 1].
// @use random

const WG: u32 = 64u;

// The state: words of the batch, then SEQUENCE_WORDS for each sequence.
const BLOCK: u32 = 0u;            // current block
const STEP: u32 = 1u;             // step within the block
const DONE: u32 = 2u;             // 1 once every answer is finished
const FORWARDS: u32 = 3u;         // forwards done
const LIVE_ROWS: u32 = 4u;        // leading candidate rows that may still be committed
const SEQUENCES: u32 = 16u;       // first word of sequence 0
const SEQUENCE_WORDS: u32 = 16u;
const LIVE: u32 = 0u;             // masked rows in the block now
const BLOCK_MASKED: u32 = 1u;     // masked rows when the block began
const FINISHED: u32 = 2u;         // 1 once this answer is finished
const NFE: u32 = 3u;              // forwards this answer needed
const ANSWER_ROW: u32 = 4u;       // row of answer row 0 in the forward

// A report: header, then (answer row, id, confidence bits) for each commit. One ring slot per forward.
const REPORT_HEADER: u32 = 8u;

const RULE_THRESHOLD: u32 = 1u;
const RULE_FACTOR: u32 = 2u;
const RULE_PROFILE: u32 = 3u;

struct Params {
    gen_length: u32, block_length: u32, steps_per_block: u32,
    until_empty: u32,                   // 1: a block lasts until no mask is left; 0: steps_per_block steps at most
    rule: u32, rule_value: f32,
    random: u32, seed: u32,             // remasking = random
    mask_id: u32,
    stop_id: u32, other_stop_id: u32,   // 0xffffffff: none
    gap_early: f32, gap_middle: f32, gap_late: f32,   // mean logit gaps for an early commit; negative: off
    n_branches: u32, branch_rows: u32,  // guidance: the second branch's rows lie branch_rows further on
    n_sequences: u32, ring: u32,
}

@group(0) @binding(0) var<uniform>             params:      Params;
@group(0) @binding(1) var<storage, read>       predictions: array<vec4<u32>>;  // [sequences * block_length] (id, confidence, gap, 0) by slot
@group(0) @binding(2) var<storage, read_write> state:       array<u32>;        // see above
@group(0) @binding(3) var<storage, read_write> ids:         array<u32>;        // [sequences, gen_length]
@group(0) @binding(4) var<storage, read_write> rows:        array<u32>;        // [branches, sequences, block_length] by slot
@group(0) @binding(5) var<storage, read_write> row_ids:     array<u32>;        // [sequences, block_length] ids at those rows
@group(0) @binding(6) var<storage, read_write> scratch:     array<u32>;        // [sequences, 2, block_length] rank | slot by rank
@group(0) @binding(7) var<storage, read_write> report:      array<u32>;        // [ring, sequences, REPORT_HEADER + 3 block_length]

var<workgroup> n_taken: u32;
var<workgroup> next_block: u32;
var<workgroup> stop_row: u32;

fn of_sequence(sequence: u32, word: u32) -> u32 {
    return SEQUENCES + sequence * SEQUENCE_WORDS + word;
}

fn report_at(sequence: u32) -> u32 {
    let slot = state[FORWARDS] % params.ring;
    return (slot * params.n_sequences + sequence) * (REPORT_HEADER + 3u * params.block_length);
}

fn answer_row(sequence: u32, slot: u32) -> u32 {
    return rows[sequence * params.block_length + slot] - state[of_sequence(sequence, ANSWER_ROW)];
}

fn confidence(sequence: u32, slot: u32) -> f32 {
    if (params.random != 0u) {
        let key = vec4<u32>(params.seed, state[of_sequence(sequence, NFE)], answer_row(sequence, slot), 0x72616e64u);
        return uniform_of(pcg4d(key).x);
    }
    let c = bitcast<f32>(predictions[sequence * params.block_length + slot].y);
    return select(0.0, c, c > 0.0);
}

fn ranked(sequence: u32, rank: u32) -> f32 {
    return confidence(sequence, scratch[(sequence * 2u + 1u) * params.block_length + rank]);
}

// Early commit (Prophet, arXiv 2508.19982): the mean gap between the two best logits of the masked rows
// passes a bar that falls with the part of the block already committed.
fn is_settled(sequence: u32, live: u32) -> bool {
    if (params.gap_late < 0.0 || live == 0u) { return false; }
    var sum = 0.0;
    for (var slot = 0u; slot < live; slot++) {
        sum += bitcast<f32>(predictions[sequence * params.block_length + slot].z);
    }
    let committed = 3u * (params.block_length - live);
    var bar = params.gap_late;
    if (committed < params.block_length) {
        bar = params.gap_early;
    } else if (committed < 2u * params.block_length) {
        bar = params.gap_middle;
    }
    return sum / f32(live) >= bar;
}

// How many of the `live` ranked rows are committed.
fn count(sequence: u32, live: u32) -> u32 {
    if (live == 0u) { return 0u; }
    if (is_settled(sequence, live)) { return live; }
    // One return at the end: FXC does not see that a switch with a default always returns.
    var n = 0u;
    switch params.rule {
        case RULE_THRESHOLD: {
            while (n < live && ranked(sequence, n) >= params.rule_value) { n++; }
            n = max(n, 1u);
        }
        case RULE_FACTOR: {
            // Fast-dLLM's scan with its edge: a stop at the last row still takes that row.
            n = 1u;
            while (n < live && ranked(sequence, n) >= 1.0 - params.rule_value / f32(n + 2u)) { n++; }
            n = select(n, live, n + 1u == live);
        }
        case RULE_PROFILE: {
            // Largest n with (sum of doubts of the n best) + (doubt of the n-th) < value; see docs/DECODING.md.
            var doubts = 0.0;
            while (n < live) {
                let doubt = 1.0 - ranked(sequence, n);
                doubts += doubt;
                if (doubts + doubt >= params.rule_value) { break; }
                n++;
            }
            n = max(n, 1u);
        }
        default: {
            let step = state[STEP];
            let masked = state[of_sequence(sequence, BLOCK_MASKED)];
            let quota = masked / params.steps_per_block + select(0u, 1u, step < masked % params.steps_per_block);
            n = select(0u, min(quota, live), step < params.steps_per_block);
        }
    }
    return n;
}

fn is_masked(sequence: u32, row: u32) -> bool {
    return ids[sequence * params.gen_length + row] == params.mask_id;
}

fn masked_in_block(sequence: u32, block: u32) -> u32 {
    var n = 0u;
    for (var r = 0u; r < params.block_length; r++) {
        n += select(0u, 1u, is_masked(sequence, block * params.block_length + r));
    }
    return n;
}

// The row of the first stop token in the block with no mask before it; gen_length if there is none.
fn find_stop(sequence: u32, first: u32) -> u32 {
    for (var r = first; r < first + params.block_length; r++) {
        let id = ids[sequence * params.gen_length + r];
        if (id == params.mask_id) { break; }
        if (id == params.stop_id || id == params.other_stop_id) { return r; }
    }
    return params.gen_length;
}

// Closes the step of one sequence: count what is left, notice an early end, write the report's header.
fn close(sequence: u32, worked: bool, committed: u32) {
    let block = state[BLOCK];
    let live = of_sequence(sequence, LIVE);
    let finished = of_sequence(sequence, FINISHED);
    let nfe = of_sequence(sequence, NFE);
    stop_row = params.gen_length;
    if (worked) {
        state[nfe] += 1u;
        state[live] = masked_in_block(sequence, block);
        stop_row = find_stop(sequence, block * params.block_length);
        if (stop_row < params.gen_length) {
            state[finished] = 1u;
            state[live] = 0u;
        }
    }
    let at = report_at(sequence);
    report[at] = block;
    report[at + 1u] = state[STEP];
    report[at + 2u] = committed;
    report[at + 3u] = state[live];
    report[at + 4u] = state[finished];
    report[at + 5u] = state[nfe];
    report[at + 6u] = select(0u, 1u, stop_row < params.gen_length);
    report[at + 7u] = state[FORWARDS] + 1u;
}

// Moves the batch to the next step, the next block or the end.
fn advance() {
    let block = state[BLOCK];
    let step = state[STEP];
    var limit = params.steps_per_block;
    if (params.until_empty != 0u) { limit = 4u * max(params.block_length, params.steps_per_block); }
    var left = 0u;
    var unfinished = 0u;
    for (var s = 0u; s < params.n_sequences; s++) {
        left = max(left, state[of_sequence(s, LIVE)]);
        unfinished += 1u - state[of_sequence(s, FINISHED)];
    }
    let block_over = left == 0u || step + 1u >= limit;
    let done = unfinished == 0u || (block_over && (block + 1u) * params.block_length == params.gen_length);
    for (var s = 0u; s < params.n_sequences; s++) {
        if (done && state[of_sequence(s, FINISHED)] == 0u) {
            state[of_sequence(s, FINISHED)] = 1u;
            report[report_at(s) + 4u] = 1u;
        }
    }
    next_block = block;
    if (block_over && !done) {
        next_block = block + 1u;
        left = 0u;
        for (var s = 0u; s < params.n_sequences; s++) {
            if (state[of_sequence(s, FINISHED)] == 0u) {
                let masked = masked_in_block(s, next_block);
                state[of_sequence(s, BLOCK_MASKED)] = masked;
                state[of_sequence(s, LIVE)] = masked;
                left = max(left, masked);
            }
        }
        state[BLOCK] = next_block;
        state[STEP] = 0u;
    } else {
        state[STEP] = step + 1u;
    }
    state[FORWARDS] += 1u;
    state[DONE] = select(0u, 1u, done);
    // Rows are compact only for a single sequence without a second branch.
    let rows_of_all = params.n_branches * params.n_sequences * params.block_length;
    state[LIVE_ROWS] = select(rows_of_all, left, params.n_branches * params.n_sequences == 1u);
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lane: u32) {
    let length = params.block_length;
    for (var sequence = 0u; sequence < params.n_sequences; sequence++) {
        let live = state[of_sequence(sequence, LIVE)];
        let rank0 = sequence * 2u * length;
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
                let prediction = predictions[sequence * length + slot];
                let row = answer_row(sequence, slot);
                var place = 0u;   // commits are reported in row order
                for (var other = 0u; other < slot; other++) {
                    place += select(0u, 1u, scratch[rank0 + other] < taken);
                }
                let at = report_at(sequence) + REPORT_HEADER + 3u * place;
                report[at] = row;
                report[at + 1u] = prediction.x;
                report[at + 2u] = bitcast<u32>(confidence(sequence, slot));
                ids[sequence * params.gen_length + row] = prediction.x;
            }
        }
        storageBarrier();
        workgroupBarrier();
        if (lane == 0u) { close(sequence, live > 0u, taken); }
        storageBarrier();
        workgroupBarrier();
        // Everything after an early end becomes the (first) stop token.
        let stop = stop_row;
        for (var r = stop + 1u + lane; r < params.gen_length; r += WG) {
            ids[sequence * params.gen_length + r] = params.stop_id;
        }
        storageBarrier();
        workgroupBarrier();
    }

    if (lane == 0u) { advance(); }
    storageBarrier();
    workgroupBarrier();

    let first = next_block * length;
    for (var sequence = 0u; sequence < params.n_sequences; sequence++) {
        let live = masked_in_block(sequence, next_block);
        for (var r = lane; r < length; r += WG) {
            var masked_before = 0u;
            for (var other = 0u; other < r; other++) {
                masked_before += select(0u, 1u, is_masked(sequence, first + other));
            }
            let slot = select(live + r - masked_before, masked_before, is_masked(sequence, first + r));
            row_ids[sequence * length + slot] = ids[sequence * params.gen_length + first + r];
            for (var branch = 0u; branch < params.n_branches; branch++) {
                let at = (branch * params.n_sequences + sequence) * length + slot;
                rows[at] = state[of_sequence(sequence, ANSWER_ROW)] + branch * params.branch_rows + first + r;
            }
        }
    }
}
