//! Kernels that treat rows or elements alone.

use diffa::ops::cases::{Case, Host};

use super::{Expected, UNTOUCHED, output_len};

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

pub fn rope(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (x, table, list) = (&t[0].data, &t[1].data, &t[2].data);
    let [heads, half, row0, list0, table_rows] =
        ["heads", "half", "row0", "list0", "table_rows"].map(|name| case.size(name));
    let mut out = Expected { values: x.clone(), scales: vec![0.0; x.len()] };
    for r in 0..case.size("rows") {
        let position = list[list0 + r] as usize % table_rows;
        for head in 0..heads {
            for i in 0..half {
                let (cos, sin) = (table[(position * half + i) * 2], table[(position * half + i) * 2 + 1]);
                let lo = ((row0 + r) * heads + head) * 2 * half + i;
                let hi = lo + half;
                let size = x[lo].abs().max(x[hi].abs()) * 1.5;
                out.put(lo, x[lo] * cos - x[hi] * sin, size);
                out.put(hi, x[hi] * cos + x[lo] * sin, size);
            }
        }
    }
    vec![out]
}

pub fn silu_gate(case: &Case, t: &[Host]) -> Vec<Expected> {
    let used = case.size("rows") * t[0].shape[1];
    let gated = |(i, (g, u)): (usize, (&f64, &f64))| {
        if i < used { g / (1.0 + (-g).exp()) * u } else { *g }
    };
    vec![Expected::new(t[0].data.iter().zip(&t[1].data).enumerate().map(gated).collect())]
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

pub fn scatter_rows(case: &Case, t: &[Host]) -> Vec<Expected> {
    let (from, list0) = (case.size("x_row0"), case.size("list0"));
    moved(case, &t[0], (0..case.size("rows")).map(|r| (t[1].data[list0 + r] as usize, from + r)))
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
