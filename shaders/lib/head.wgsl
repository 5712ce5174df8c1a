// head: what the kernels of the output matrix do with a logit. Expects `params`, `state`, `rows`, `id_rules` and
// `partials` of lm_head, lib/partial and a noise fragment.
// @use partial
// @use random

// Of the state laid out in select.wgsl: first sequence, words of each; live rows, forwards, answer row.
const SEQUENCES: u32 = 16u;
const SEQUENCE_WORDS: u32 = 16u;
const LIVE: u32 = 0u;
const NFE: u32 = 3u;
const ANSWER_ROW: u32 = 4u;

fn is_banned(id: u32) -> bool {
    for (var i = 0u; i < id_rules[0]; i++) { if (id_rules[2u + i] == id) { return true; } }
    return false;
}

fn is_low_confidence(id: u32) -> bool {
    for (var i = 0u; i < id_rules[1]; i++) { if (id_rules[2u + id_rules[0] + i] == id) { return true; } }
    return false;
}

// True if one of the candidate rows from `row0` on is still masked.
fn is_any_live(row0: u32, n: u32) -> bool {
    var live = false;
    for (var row = row0; row < min(row0 + n, params.n_rows); row++) {
        let sequence = row / params.block_length;
        live = live || row % params.block_length < state[SEQUENCES + sequence * SEQUENCE_WORDS + LIVE];
    }
    return live;
}

// A candidate row: its number, its place in the answer, forwards so far.
struct Candidate { row: u32, answer_row: u32, forward: u32 }

fn candidate(row: u32) -> Candidate {
    let sequence = SEQUENCES + row / params.block_length * SEQUENCE_WORDS;
    return Candidate(row, rows[row] - state[sequence + ANSWER_ROW], state[sequence + NFE]);
}

// What is done with a column of this slab. Of a row it is asked once, not once for every logit.
const UNUSED: u32 = 0u;     // past the slab, or banned
const ALLOWED: u32 = 1u;    // may be the answer
const COUNTED: u32 = 2u;    // and is in the sum of the softmax

fn use_of(col: u32) -> u32 {
    let id = params.first_id + col;
    let allowed = select(COUNTED, ALLOWED, is_low_confidence(id));
    return select(allowed, UNUSED, col >= params.slab_rows || is_banned(id));
}

fn uses_of(cols: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(use_of(cols.x), use_of(cols.y), use_of(cols.z), use_of(cols.w));
}

// Four logits of a row, columns in ascending order.
fn partial_of(its: Candidate, cols: vec4<u32>, uses: vec4<u32>, logits: vec4<f32>) -> Partial {
    let counted = uses == vec4<u32>(COUNTED);
    let plain = select(vec4<f32>(-3.0e38), logits, counted);
    let top = max(max(plain.x, plain.y), max(plain.z, plain.w));
    let terms = select(vec4<f32>(0.0), exp(plain - vec4<f32>(top)), counted);
    var all = empty_partial();
    all.top = top;
    all.sum = terms.x + terms.y + terms.z + terms.w;
    for (var c = 0u; c < 4u; c++) {
        let id = params.first_id + cols[c];
        let score = select(-3.0e38, perturbed(logits[c], its.row, its.answer_row, its.forward, id), uses[c] != UNUSED);
        all.second = max(all.second, min(all.score, score));
        if (score > all.score) {
            all.score = score;
            all.id = id;
            all.logit = logits[c];
        }
    }
    return all;
}

fn store_partial(row: u32, group: u32, all: Partial) {
    let at = (row * params.n_groups + params.first_group + group) * 2u;
    partials[at] = vec4<u32>(bitcast<u32>(all.score), all.id, bitcast<u32>(all.logit), bitcast<u32>(all.second));
    partials[at + 1u] = vec4<u32>(bitcast<u32>(all.top), bitcast<u32>(all.sum), 0u, 0u);
}
