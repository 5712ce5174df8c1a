//! The output head: logits in full, then the rules of docs/MODEL.md 6.2 and 6.6 on them.

use diffa::ops::cases::{Case, Host};

use super::{ANY, Expected};

/// Random words as a function of four others (pcg4d).
pub fn pcg4d(key: [u32; 4]) -> [u32; 4] {
    let [mut x, mut y, mut z, mut w] = key.map(|v| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    for round in 0..2 {
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
        if round == 0 {
            [x, y, z, w] = [x, y, z, w].map(|v| v ^ (v >> 16));
        }
    }
    [x, y, z, w]
}

/// The uniform number in (0, 1) of a random word.
pub fn uniform(word: u32) -> f64 {
    (f64::from(word >> 9) + 0.5) / f64::from(1 << 23)
}

/// One prediction: id, softmax probability, gap; errors relative to the probability and to the scores.
fn predict(scores: &[f64], logits: &[f64], banned: &[usize], low: &[usize]) -> ([f64; 4], [f64; 4]) {
    let allowed = || (0..logits.len()).filter(|id| !banned.contains(id));
    // `max_by` keeps the last of equals, so go down: the lower id wins.
    let best =
        allowed().rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).expect("an id that is not banned");
    let second = allowed().filter(|id| *id != best).map(|id| scores[id]).fold(f64::NEG_INFINITY, f64::max);
    let counted = || allowed().filter(|id| !low.contains(id));
    let top = counted().map(|id| logits[id]).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = counted().map(|id| (logits[id] - top).exp()).sum();
    let confidence = if low.contains(&best) { 0.0 } else { (logits[best] - top).exp() / sum };
    let gap = if second == f64::NEG_INFINITY { ANY } else { scores[best] - second };
    ([best as f64, confidence, gap, 0.0], [0.0, confidence, scores[best].abs() + second.abs() + 1.0, 0.0])
}

fn list(rules: &Host) -> (Vec<usize>, Vec<usize>) {
    let words: Vec<usize> = rules.data.iter().map(|v| *v as usize).collect();
    let (banned, low) = words[2..].split_at(words[0]);
    assert_eq!(low.len(), words[1]);
    (banned.to_vec(), low.to_vec())
}

pub fn lm_head(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (h, w, state, rows, noise) = (&t[0].data, &t[1].data, &t[2].data, &t[3].data, &t[5].data);
    let (vocab, k) = (t[1].shape[0], t[1].shape[1]);
    let (banned, low) = list(&t[4]);
    let block_length = case.size("block_length");
    let mut out = Expected { values: Vec::new(), scales: Vec::new() };
    for row in 0..t[0].shape[0] {
        let sequence = &state[16 + row / block_length * 16..][..16];
        let (live, forwards, first) = (sequence[0] as usize, sequence[3] as u32, sequence[4] as u32);
        if row % block_length >= live {
            out.values.extend([ANY; 4]);
            out.scales.extend([0.0; 4]);
            continue;
        }
        let logit = |id: usize| (0..k).map(|i| h[row * k + i] * w[id * k + i]).sum::<f64>();
        let logits: Vec<f64> = (0..vocab).map(logit).collect();
        let temperature = case.attribute("temperature");
        let score = |(id, logit): (usize, &f64)| {
            if case.attribute("gumbel") != 0.0 {
                let key = [case.size("seed") as u32, forwards, rows[row] as u32 - first, id as u32];
                logit - temperature * (-uniform(pcg4d(key)[0]).ln()).ln()
            } else if temperature > 0.0 {
                logit + temperature * noise[row * vocab + id]
            } else {
                *logit
            }
        };
        let scores: Vec<f64> = logits.iter().enumerate().map(score).collect();
        let (values, scales) = predict(&scores, &logits, &banned, &low);
        out.values.extend(values);
        out.scales.extend(scales);
    }
    vec![out]
}

pub fn lm_head_merge(case: &Case, t: &[Host]) -> Vec<Expected> {
    if t.len() == 6 {
        return lm_head(case, t); // the whole head through its op
    }
    let float = |word: f64| f64::from(f32::from_bits(word as u32));
    let (_, low) = list(&t[1]);
    let mut out = Expected { values: Vec::new(), scales: Vec::new() };
    for groups in t[0].data.chunks(8 * case.size("n_groups")) {
        let groups: Vec<&[f64]> = groups.chunks(8).collect();
        let better =
            |a: &&&[f64], b: &&&[f64]| float(a[0]).total_cmp(&float(b[0])).then(b[1].total_cmp(&a[1]));
        let best = groups.iter().max_by(better).expect("a group");
        let others = groups.iter().filter(|g| g[1] != best[1]).map(|g| float(g[0]));
        let second = others.chain(groups.iter().map(|g| float(g[3]))).fold(f64::NEG_INFINITY, f64::max);
        let top = groups.iter().map(|g| float(g[4])).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = groups.iter().map(|g| float(g[5]) * (float(g[4]) - top).exp()).sum();
        let is_low = low.contains(&(best[1] as usize));
        let confidence = if is_low { 0.0 } else { (float(best[2]) - top).exp() / sum };
        out.values.extend([best[1], confidence, float(best[0]) - second, 0.0]);
        out.scales.extend([0.0, confidence, float(best[0]).abs() + second.abs(), 0.0]);
    }
    vec![out]
}

#[test]
fn random_words_are_spread() {
    let mean = (0..4000).map(|i| uniform(pcg4d([1, 2, 3, i])[0])).sum::<f64>() / 4000.0;
    assert!((mean - 0.5).abs() < 0.02, "{mean}");
}
