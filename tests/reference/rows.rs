//! Kernels that treat rows or elements alone.

use diffa::gpu::DType;
use diffa::ops::cases::{Case, Host};

use super::{Expected, UNTOUCHED, clipped, output_len};

pub fn layer_norm(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (x, weight, bias, cols) = (&t[0].data, &t[1].data, &t[2].data, t[0].shape[1]);
    let mut out = Expected::untouched(output_len(case, 0));
    for r in 0..case.size("rows") {
        let row = &x[(case.size("x_row0") + r) * cols..][..cols];
        let n = cols as f64;
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let size = row.iter().map(|v| v.abs()).sum::<f64>() / n;
        let scale = 1.0 / (variance + case.attribute("eps")).sqrt();
        for c in 0..cols {
            let value = (row[c] - mean) * scale * weight[c] + bias[c];
            // The mean carries an error in proportion to the sizes it was made of.
            let error = (row[c].abs() + size) * scale * weight[c].abs() + bias[c].abs();
            out.put((case.size("out_row0") + r) * cols + c, value, error);
        }
    }
    vec![out]
}

pub fn rms_norm(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (x, weight, cols) = (&t[0].data, &t[1].data, t[0].shape[1]);
    let mut out = Expected::untouched(output_len(case, 0));
    for r in case.size("row0")..case.size("row0") + case.size("rows") {
        let row = &x[r * cols..][..cols];
        let mean_sq = row.iter().map(|v| v * v).sum::<f64>() / cols as f64;
        for c in 0..cols {
            let value = row[c] / (mean_sq + case.attribute("eps")).sqrt() * weight[c];
            out.put(r * cols + c, value, value.abs());
        }
    }
    vec![out]
}

pub fn rope_qkv(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (qkv, table, list) = (&t[0].data, &t[1].data, &t[2].data);
    let [heads, kv_heads, half, table_rows] =
        ["heads", "kv_heads", "half", "table_rows"].map(|name| case.size(name));
    let [x_row0, q_row0, list0] = ["x_row0", "q_row0", "list0"].map(|name| case.size(name));
    let mut out: Vec<Expected> = (0..3).map(|i| Expected::untouched(output_len(case, i))).collect();
    for r in 0..case.size("rows") {
        let row = list[list0 + r] as usize;
        let position = row % table_rows;
        for head in case.size("first_head")..case.size("end_head") {
            // Which of the three, its row and head there.
            let (which, to_row, to_head, n) = match head {
                h if h < heads => (0, q_row0 + r, h, heads),
                h if h < heads + kv_heads => (1, row, h - heads, kv_heads),
                h => (2, row, h - heads - kv_heads, kv_heads),
            };
            for i in 0..half {
                let lo = qkv[((x_row0 + r) * (heads + 2 * kv_heads) + head) * 2 * half + i];
                let hi = qkv[((x_row0 + r) * (heads + 2 * kv_heads) + head) * 2 * half + half + i];
                let (cos, sin) = match which {
                    2 => (1.0, 0.0),
                    _ => (table[(position * half + i) * 2], table[(position * half + i) * 2 + 1]),
                };
                let to = (to_row * n + to_head) * 2 * half + i;
                let size = lo.abs().max(hi.abs()) * 1.5;
                let is_f16 = case.outputs[which].words[0] == DType::F16;
                for (to, value) in [(to, lo * cos - hi * sin), (to + half, hi * cos + lo * sin)] {
                    match is_f16 {
                        true => {
                            out[which].put(to, clipped(value), size + half_unit(clipped(value)) / case.rtol)
                        }
                        false => out[which].put(to, value, size),
                    }
                }
            }
        }
    }
    out
}

/// Half of a unit in the last place of an f16; of subnormal ones, which a device may flush, all.
fn half_unit(value: f64) -> f64 {
    let smallest = 2f64.powi(-14);
    if value.abs() < smallest { smallest } else { 2f64.powi(value.abs().log2().floor() as i32 - 11) }
}

pub fn silu_gate(case: &Case, t: &[Host]) -> Vec<Expected> {
    let cols = t[0].shape[1] / 2;
    let mut out = vec![UNTOUCHED; output_len(case, 0)];
    for r in 0..case.size("rows") {
        for c in 0..cols {
            let (g, u) = (t[0].data[r * 2 * cols + c], t[0].data[r * 2 * cols + cols + c]);
            out[r * cols + c] = g / (1.0 + (-g).exp()) * u;
        }
    }
    vec![Expected::new(out)]
}

/// Expected values where `rows[r]` of the output is row `from[r]` of `x`.
fn moved(case: &Case, x: &Host, pairs: impl Iterator<Item = (usize, usize)>) -> Vec<Expected> {
    let cols = x.shape[1];
    let mut out = vec![UNTOUCHED; output_len(case, 0)];
    for (to, from) in pairs {
        out[to * cols..][..cols].copy_from_slice(&x.data[from * cols..][..cols]);
    }
    vec![Expected::new(out)]
}

pub fn copy_rows(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (from, to) = (case.size("x_row0"), case.size("out_row0"));
    moved(case, &t[0], (0..case.size("rows")).map(|r| (to + r, from + r)))
}

pub fn gather_rows(case: &Case, t: &[Host]) -> Vec<Expected> {
    moved(case, &t[0], (0..case.size("rows")).map(|r| (r, t[1].data[r] as usize)))
}

pub fn embed(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (ids, vocab) = (&t[0].data, t[1].shape[0]);
    let (id0, to) = (case.size("id0"), case.size("out_row0"));
    let known = (0..case.size("rows")).map(|r| (to + r, ids[id0 + r] as usize)).filter(|(_, id)| *id < vocab);
    moved(case, &t[1], known)
}

pub fn qformer_mix(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (y, weights) = (&t[0].data, &t[1].data);
    let ([prompts, targets], cols) = ([t[1].shape[0], t[1].shape[1]], t[0].shape[1]);
    let mut out = Expected::untouched(output_len(case, 0));
    for p in 0..prompts {
        let mine: Vec<f64> = weights[p * targets..][..targets].iter().map(|w| w.exp()).collect();
        let sum: f64 = mine.iter().sum();
        for c in 0..cols {
            let parts = || mine.iter().enumerate().map(|(i, w)| w / sum * y[(i * prompts + p) * cols + c]);
            out.put(p * cols + c, parts().sum(), parts().map(f64::abs).sum());
        }
    }
    vec![out]
}

pub fn guidance(case: &Case, t: &[Host]) -> Vec<Expected> {
    let h = &t[0].data;
    let len = case.size("rows") * t[0].shape[1];
    let mut out = Expected { values: h.clone(), scales: vec![0.0; h.len()] };
    for i in 0..len {
        let factor = case.attribute("scale") + 1.0;
        let (with, without) = (h[i], h[len + i]);
        out.put(
            i,
            without + factor * (with - without),
            without.abs() + factor.abs() * (with.abs() + without.abs()),
        );
    }
    vec![out]
}

pub fn gate(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (state, grids) = (&t[0].data, &t[1].data);
    let (block, step, done, live_rows) = (state[0], state[1], state[2], state[4]);
    let in_turn = match case.size("wanted") {
        0 => step == 0.0,
        1 => step > 0.0,
        _ => true,
    };
    let in_block = case.attribute("block") == f64::from(u32::MAX) || case.attribute("block") == block;
    let open = done == 0.0 && in_turn && in_block;
    let mut out = Vec::new();
    for grid in grids.chunks(4) {
        let y = if grid[3] > 0.0 { grid[1].min((live_rows / grid[3]).ceil()) } else { grid[1] };
        out.extend([grid[0], y, grid[2]].map(|n| if open { n } else { 0.0 }));
    }
    vec![Expected::new(out)]
}
