//! Cases of the decision kernel: inputs predictions, state, ids, rows, row ids (updated in place) and an
//! empty report ring; outputs the same buffers and the scratch list.

use super::{Case, Random};
use crate::gpu::DType;
use crate::gpu::kernel::Variant;
use crate::gpu::plan::Cost;
use crate::ops::select::{COMMIT_WORDS, REPORT_HEADER_WORDS, SELECT, SelectArgs, SelectParams, SelectRule};

const BATCH_WORDS: usize = 16;
const SEQUENCE_WORDS: usize = 16;
const NO_ID: u32 = u32::MAX;

/// The buffers before a decision.
struct Before {
    predictions: Vec<u32>,
    state: Vec<u32>,
    ids: Vec<u32>,
    rows: Vec<u32>,
    row_ids: Vec<u32>,
}

fn case(name: String, args: &SelectArgs, n_sequences: usize, before: Before) -> Case {
    let (rule, rule_value) = match args.rule {
        SelectRule::Quota => (0, 0.0),
        SelectRule::Threshold(value) => (1, value),
        SelectRule::Factor(value) => (2, value),
        SelectRule::Profile(value) => (3, value),
    };
    let gaps = args.settled_gaps.unwrap_or([-1.0; 3]);
    let stops = [0, 1].map(|i| args.stop_ids.get(i).copied().unwrap_or(NO_ID));
    let params = SelectParams {
        gen_length: args.gen_length as u32,
        block_length: args.block_length as u32,
        steps_per_block: args.steps_per_block as u32,
        until_empty: args.until_empty.into(),
        rule,
        rule_value,
        random: args.random.into(),
        seed: args.seed,
        mask_id: args.mask_id,
        stop_id: stops[0],
        other_stop_id: stops[1],
        gap_early: gaps[0],
        gap_middle: gaps[1],
        gap_late: gaps[2],
        n_branches: args.n_branches as u32,
        branch_rows: args.branch_rows as u32,
        n_sequences: n_sequences as u32,
        ring: args.ring as u32,
    };
    let word = &[DType::U32];
    let length = args.block_length;
    let report = [args.ring * n_sequences, REPORT_HEADER_WORDS + COMMIT_WORDS * length];
    let (n_state, n_ids) = (before.state.len(), before.ids.len());
    let (n_rows, n_row_ids) = (before.rows.len(), before.row_ids.len());
    Case::new("select", Variant::default(), name)
        .words("predictions", before.predictions)
        .words("state", before.state)
        .words("ids", before.ids)
        .words("rows", before.rows)
        .words("row_ids", before.row_ids)
        .output_words("state", &[n_state], word, Some(1))
        .output_words("ids", &[n_ids], word, Some(2))
        .output_words("rows", &[n_rows], word, Some(3))
        .output_words("row_ids", &[n_row_ids], word, Some(4))
        .output_words("scratch", &[n_sequences * 2 * length], word, None)
        .output_words("report", &report, word, None)
        .sizes(&[("gen_length", args.gen_length), ("block_length", length), ("sequences", n_sequences)])
        .sizes(&[("steps_per_block", args.steps_per_block), ("until_empty", args.until_empty.into())])
        .sizes(&[("random", args.random.into()), ("branches", args.n_branches), ("ring", args.ring)])
        .sizes(&[("branch_rows", args.branch_rows), ("rule", rule as usize), ("seed", args.seed as usize)])
        .set("rule_value", rule_value)
        .set("mask_id", args.mask_id)
        .set("stop_id", stops[0])
        .set("other_stop_id", stops[1])
        .set("gap_early", gaps[0])
        .set("gap_middle", gaps[1])
        .set("gap_late", gaps[2])
        .dispatching(move |plan, o| {
            let outputs = [o.output(0), o.output(1), o.output(2), o.output(3), o.output(4), o.output(5)];
            let [state, ids, rows, row_ids, scratch, report] = outputs;
            let bindings = [o.input(0), state, ids, rows, row_ids, scratch, report];
            plan.dispatch(&SELECT, Variant::default(), params, &bindings, [1, 1, 1], Cost::default())
        })
}

/// The first decision of a single answer whose first block is all masked: `predictions[r]` is the id,
/// confidence and gap of row r.
pub fn select_step(name: &str, args: &SelectArgs, predictions: &[(u32, f32, f32)]) -> Case {
    let length = args.block_length as u32;
    let mut state = vec![0u32; BATCH_WORDS + SEQUENCE_WORDS];
    state[4] = args.n_branches as u32 * length;
    (state[16], state[17], state[20]) = (length, length, 11);
    let rows = (0..args.n_branches as u32).flat_map(|b| (0..length).map(move |r| (b, r)));
    let before = Before {
        predictions: predictions.iter().flat_map(|p| [p.0, p.1.to_bits(), p.2.to_bits(), 0]).collect(),
        state,
        ids: vec![args.mask_id; args.gen_length],
        rows: rows.map(|(b, r)| 11 + b * args.branch_rows as u32 + r).collect(),
        row_ids: vec![args.mask_id; args.block_length],
    };
    case(name.into(), args, 1, before)
}

/// A random state in the middle of a decode, with ties, NaN, stop tokens and predicted masks.
pub fn random_select(seed: u64) -> Case {
    let mut random = Random::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut pick = |choices: &[u32]| choices[random.below(choices.len() as u32) as usize];
    let length = pick(&[1, 2, 4, 7, 16, 65]);
    let n_blocks = pick(&[1, 1, 2, 3]);
    let n_sequences = pick(&[1, 1, 1, 2, 3]);
    let until_empty = pick(&[0, 1]) == 1;
    let mask_id = 90;
    let args = SelectArgs {
        gen_length: (length * n_blocks) as usize,
        block_length: length as usize,
        steps_per_block: pick(&[1, 2, 3, length.max(1)]).min(length) as usize,
        until_empty,
        rule: match pick(&[0, 0, 1, 2, 3]) {
            0 => SelectRule::Quota,
            1 => SelectRule::Threshold(pick(&[1, 24, 32, 63, 64]) as f32 / 64.0),
            2 => SelectRule::Factor(pick(&[1, 4, 8, 12, 30]) as f32 / 8.0),
            _ => SelectRule::Profile(pick(&[5, 33, 101, 1001]) as f32 / 100.0),
        },
        random: pick(&[0, 0, 0, 1]) == 1,
        seed: pick(&[0, 1, 77]),
        mask_id,
        stop_ids: match pick(&[0, 1, 2]) {
            0 => vec![],
            1 => vec![3],
            _ => vec![3, 5],
        },
        settled_gaps: (pick(&[0, 0, 1]) == 1).then_some([3.01, 2.01, 1.01]),
        n_branches: pick(&[1, 1, 2]) as usize,
        branch_rows: 1000,
        ring: pick(&[1, 2, 5]) as usize,
    };
    let block = pick(&(0..n_blocks).collect::<Vec<_>>());
    let step = if until_empty {
        pick(&[0, 1, 2, 9])
    } else {
        pick(&(0..args.steps_per_block as u32).collect::<Vec<_>>())
    };
    let forwards = block * 3 + step;
    let mut state = vec![0u32; BATCH_WORDS];
    state[..4].copy_from_slice(&[block, step, 0, forwards]);
    state[4] = args.n_branches as u32 * n_sequences * length;
    let (mut ids, mut lists, mut row_ids, mut predictions) = (vec![], vec![], vec![], vec![]);
    let quiet = pick(&[0, 1]) == 1;
    for s in 0..n_sequences {
        let idle = n_sequences > 1 && pick(&[0, 0, 1]) == 1;
        let finished = idle && pick(&[0, 1]) == 1;
        let density = pick(&[1, 2, 4, 5]);
        let mut word = |row: u32| {
            let masked = match row / length {
                b if b == block => !idle && (pick(&[0, 1, 2, 3, 4]) < density || step == 0),
                b => b > block && !finished,
            };
            if masked { mask_id } else { pick(&[0, 1, 2, 4, 6, 8, 9]) }
        };
        let mine: Vec<u32> = (0..length * n_blocks).map(&mut word).collect();
        let inside = |r: &u32| mine[(block * length + r) as usize] == mask_id;
        let (masked, rest): (Vec<u32>, Vec<u32>) = (0..length).partition(inside);
        let answer_row = 20 + 300 * s;
        let mut words = [0u32; SEQUENCE_WORDS];
        words[0] = masked.len() as u32;
        words[1] = masked.len() as u32 + pick(&[0, 1, 2]);
        words[2] = finished.into();
        words[3] = forwards - pick(&[0, 1]).min(forwards);
        words[4] = answer_row;
        state.extend(words);
        let order: Vec<u32> = masked.into_iter().chain(rest).map(|r| block * length + r).collect();
        row_ids.extend(order.iter().map(|r| mine[*r as usize]));
        lists.push(order.iter().map(|r| answer_row + r).collect::<Vec<u32>>());
        ids.extend(mine);
        for _ in 0..length {
            let id = if quiet { pick(&[1, 2, 4]) } else { pick(&[1, 2, 3, 4, 5, 6, 7, 8, 9, mask_id]) };
            // Few values: ties are the rule. NaN and less than nothing count as 0.
            let confidence = match pick(&[0, 1, 1, 1, 1, 1, 1, 1]) {
                0 => [f32::NAN, -0.5, 0.0, 1.0][pick(&[0, 1, 2, 3]) as usize],
                _ => pick(&[2, 9, 17, 24, 31, 32, 33, 48, 60, 62, 63, 64]) as f32 / 64.0,
            };
            let gap = pick(&[1, 4, 8, 12, 16, 24, 32]) as f32 / 8.0;
            predictions.extend([id, confidence.to_bits(), gap.to_bits(), 0]);
        }
    }
    let branches = 0..args.n_branches as u32;
    let rows = branches.flat_map(|b| lists.iter().flatten().map(move |r| b * 1000 + r)).collect();
    let before = Before { predictions, state, ids, rows, row_ids };
    case(format!("random state {seed}"), &args, n_sequences as usize, before)
}

pub(super) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = (1..9).map(random_select).collect();
    let args = SelectArgs {
        gen_length: 128,
        block_length: 32,
        steps_per_block: 32,
        until_empty: true,
        rule: SelectRule::Factor(1.0),
        random: false,
        seed: 0,
        mask_id: 90,
        stop_ids: vec![3],
        settled_gaps: None,
        n_branches: 1,
        branch_rows: 0,
        ring: 4,
    };
    let predictions: Vec<(u32, f32, f32)> =
        (0..32).map(|r| (r, ((r * 37) % 32) as f32 / 32.0, 1.0)).collect();
    all.push(select_step("a block of 32", &args, &predictions).bench(false));
    all
}
