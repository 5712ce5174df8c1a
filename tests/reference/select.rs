//! One decision, written from docs/MODEL.md 6.2-6.6 and the reference's `count_factor`, on lists instead of
//! slots and ranks.

use diffa::ops::cases::{Case, Host};

use super::{ANY, Expected, UNTOUCHED, pcg4d, uniform};

/// How many of the confidences, sorted descending, the factor rule accepts.
pub fn count_factor(sorted: &[f64], factor: f64) -> usize {
    let n = sorted.len();
    let mut i = 0;
    for (j, confidence) in sorted.iter().enumerate() {
        i = j;
        if j > 0 && *confidence < 1.0 - factor / (j + 2) as f64 {
            break;
        }
    }
    if i == 0 || i + 1 == n { i + 1 } else { i }
}

/// Largest n so that the doubts of the n best and once more that of the n-th stay below the bar; at least 1.
fn count_profile(sorted: &[f64], bar: f64) -> usize {
    let fits = |n: &usize| {
        let doubts: f64 = sorted[..*n].iter().map(|c| 1.0 - c).sum();
        doubts + (1.0 - sorted[n - 1]) < bar
    };
    (1..=sorted.len()).take_while(fits).count().max(1)
}

struct Answer {
    ids: Vec<u32>,
    first_row: u32,
    block_masked: usize,
    finished: bool,
    forwards: u32,
    live: usize,
    stopped: bool,
    /// Row, id, confidence of this step.
    commits: Vec<(usize, u32, f64)>,
}

struct Step<'a> {
    case: &'a Case,
    block: usize,
    step: usize,
    mask: u32,
}

impl Step<'_> {
    fn rows(&self, block: usize) -> std::ops::Range<usize> {
        let length = self.case.size("block_length");
        block * length..(block + 1) * length
    }

    fn masked(&self, answer: &Answer, block: usize) -> Vec<usize> {
        self.rows(block).filter(|r| answer.ids[*r] == self.mask).collect()
    }

    /// `candidates`: (row, id, confidence, gap), in row order.
    fn choose(&self, answer: &Answer, candidates: &[(usize, u32, f64, f64)]) -> Vec<usize> {
        let case = self.case;
        let n = candidates.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| candidates[*b].2.total_cmp(&candidates[*a].2)); // stable: lower row first
        let sorted: Vec<f64> = order.iter().map(|i| candidates[*i].2).collect();
        let value = case.attribute("rule_value");
        let spb = case.size("steps_per_block");
        let length = case.size("block_length") as f64;
        let committed = (length - n as f64) / length;
        let bar = match committed {
            c if c < 1.0 / 3.0 - 1e-9 => "gap_early",
            c if c < 2.0 / 3.0 - 1e-9 => "gap_middle",
            _ => "gap_late",
        };
        let mean_gap = candidates.iter().map(|c| c.3).sum::<f64>() / n as f64;
        let settled = case.attribute("gap_late") >= 0.0 && mean_gap >= case.attribute(bar);
        let count = if settled {
            n
        } else {
            match case.size("rule") {
                1 => sorted.iter().filter(|c| **c >= value).count().max(1),
                2 => count_factor(&sorted, value),
                3 => count_profile(&sorted, value),
                _ if self.step >= spb => 0,
                _ => {
                    let plan: Vec<usize> = (0..spb)
                        .map(|s| answer.block_masked / spb + usize::from(s < answer.block_masked % spb))
                        .collect();
                    plan[self.step].min(n)
                }
            }
        };
        let mut chosen = order[..count].to_vec();
        chosen.sort_unstable();
        chosen
    }

    fn decide(&self, answer: &mut Answer, predictions: &[f64]) {
        let case = self.case;
        let rows = self.masked(answer, self.block);
        if answer.finished || answer.live == 0 {
            return;
        }
        assert_eq!(rows.len(), answer.live, "the state is consistent");
        let float = |word: f64| f64::from(f32::from_bits(word as u32));
        let candidate = |(slot, row): (usize, &usize)| {
            let confidence = if case.attribute("random") != 0.0 {
                let key = [case.size("seed") as u32, answer.forwards, *row as u32, 0x7261_6e64];
                uniform(pcg4d(key)[0])
            } else {
                let c = float(predictions[4 * slot + 1]);
                if c > 0.0 { c } else { 0.0 }
            };
            (*row, predictions[4 * slot] as u32, confidence, float(predictions[4 * slot + 2]))
        };
        let candidates: Vec<_> = rows.iter().enumerate().map(candidate).collect();
        for i in self.choose(answer, &candidates) {
            let (row, id, confidence, _) = candidates[i];
            answer.ids[row] = id;
            answer.commits.push((row, id, confidence));
        }
        answer.forwards += 1;
        let stops = [case.attribute("stop_id"), case.attribute("other_stop_id")];
        let is_stop = |r: &usize| stops.contains(&f64::from(answer.ids[*r])) && answer.ids[*r] != u32::MAX;
        let stop = self.rows(self.block).take_while(|r| answer.ids[*r] != self.mask).find(is_stop);
        if let Some(row) = stop {
            answer.ids[row + 1..].fill(stops[0] as u32);
            (answer.finished, answer.stopped) = (true, true);
        }
        answer.live = if answer.stopped { 0 } else { self.masked(answer, self.block).len() };
    }
}

pub fn select(case: &Case, t: &[Host]) -> Vec<Expected> {
    let [gen_length, length, n, branches, ring] =
        ["gen_length", "block_length", "sequences", "branches", "ring"].map(|name| case.size(name));
    let before = &t[1].data;
    let step = Step {
        case,
        block: before[0] as usize,
        step: before[1] as usize,
        mask: case.attribute("mask_id") as u32,
    };
    let mut answers: Vec<Answer> = (0..n)
        .map(|s| {
            let words = &before[16 + 16 * s..][..16];
            Answer {
                ids: t[2].data[s * gen_length..][..gen_length].iter().map(|id| *id as u32).collect(),
                first_row: words[4] as u32,
                block_masked: words[1] as usize,
                finished: words[2] != 0.0,
                forwards: words[3] as u32,
                live: words[0] as usize,
                stopped: false,
                commits: Vec::new(),
            }
        })
        .collect();
    for (s, answer) in answers.iter_mut().enumerate() {
        step.decide(answer, &t[0].data[4 * s * length..][..4 * length]);
    }
    let spb = case.size("steps_per_block");
    let limit = if case.attribute("until_empty") != 0.0 { 4 * length.max(spb) } else { spb };
    let block_over = answers.iter().all(|a| a.live == 0) || step.step + 1 >= limit;
    let last_block = (step.block + 1) * length == gen_length;
    let done = answers.iter().all(|a| a.finished) || (block_over && last_block);
    let left_in_block: Vec<usize> = answers.iter().map(|a| a.live).collect();
    let moves_on = block_over && !done;
    let block = step.block + usize::from(moves_on);
    for answer in &mut answers {
        answer.finished |= done;
        if moves_on && !answer.finished {
            answer.live = step.masked(answer, block).len();
            answer.block_masked = answer.live;
        }
    }

    let forward = before[3];
    let mut state = before.clone();
    state[0] = block as f64;
    state[1] = if moves_on { 0.0 } else { step.step as f64 + 1.0 };
    state[2] = f64::from(u8::from(done));
    state[3] = forward + 1.0;
    let compact = branches * n == 1;
    state[4] = if compact { answers[0].live as f64 } else { (branches * n * length) as f64 };
    let (mut ids, mut lists, mut row_ids) = (Vec::new(), Vec::new(), Vec::new());
    let mut report = vec![UNTOUCHED; case.outputs[5].shape.iter().product()];
    let stride = case.outputs[5].shape[1];
    for (s, answer) in answers.iter().enumerate() {
        state[16 + 16 * s] = answer.live as f64;
        state[17 + 16 * s] = answer.block_masked as f64;
        state[18 + 16 * s] = f64::from(u8::from(answer.finished));
        state[19 + 16 * s] = f64::from(answer.forwards);
        ids.extend(answer.ids.iter().map(|id| f64::from(*id)));
        let is_masked = |r: &usize| answer.ids[*r] == step.mask;
        let (masked, rest): (Vec<usize>, Vec<usize>) = step.rows(block).partition(is_masked);
        let order: Vec<usize> = masked.into_iter().chain(rest).collect();
        row_ids.extend(order.iter().map(|r| f64::from(answer.ids[*r])));
        lists.extend(order.iter().map(|r| f64::from(answer.first_row) + *r as f64));
        let at = ((forward as usize % ring) * n + s) * stride;
        let header = [
            step.block as f64,
            step.step as f64,
            answer.commits.len() as f64,
            left_in_block[s] as f64,
            f64::from(u8::from(answer.finished)),
            f64::from(answer.forwards),
            f64::from(u8::from(answer.stopped)),
            forward + 1.0,
        ];
        report[at..at + 8].copy_from_slice(&header);
        for (i, (row, id, confidence)) in answer.commits.iter().enumerate() {
            let words = [*row as f64, f64::from(*id), f64::from((*confidence as f32).to_bits())];
            report[at + 8 + 3 * i..][..3].copy_from_slice(&words);
        }
    }
    let all_rows = |b: usize| lists.iter().map(move |r| r + (b as f64) * case.attribute("branch_rows"));
    let rows = (0..branches).flat_map(all_rows).collect();
    let scratch = vec![ANY; n * 2 * length];
    [state, ids, rows, row_ids, scratch, report].into_iter().map(Expected::new).collect()
}
