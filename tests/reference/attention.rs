//! out = softmax(q k^T / sqrt(head_dim)) v, per head, over all keys.

use diffa::ops::cases::{Case, Host};

use super::{Expected, as_multiplied, output_len};

pub fn attention(case: &Case, t: &[Host]) -> Vec<Expected> {
    let operands = [0, 1, 2].map(|i| as_multiplied(case, &t[i].data));
    let [q, k, v] = &operands;
    let [n_heads, n_kv_heads, d] = ["n_heads", "n_kv_heads", "head_dim"].map(|name| case.size(name));
    let mut out = Expected::untouched(output_len(case, 0));
    for row in 0..case.size("n_q") {
        for head in 0..n_heads {
            let kv_head = head * n_kv_heads / n_heads;
            let q_at = ((case.size("q_row0") + row) * n_heads + head) * d;
            let kv_at = |key: usize| ((case.size("kv_row0") + key) * n_kv_heads + kv_head) * d;
            let root = (d as f64).sqrt();
            let products = |key: usize| (0..d).map(move |i| q[q_at + i] * k[kv_at(key) + i] / root);
            let scores: Vec<f64> = (0..case.size("n_kv")).map(|key| products(key).sum()).collect();
            // A score is off in proportion to what was added to make it; its weight by as much, relatively.
            let sizes: Vec<f64> =
                (0..case.size("n_kv")).map(|key| products(key).map(f64::abs).sum()).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mean_size: f64 = weights.iter().zip(&sizes).map(|(p, size)| p / sum * size).sum();
            for i in 0..d {
                let parts =
                    || weights.iter().enumerate().map(|(key, p)| (p / sum * v[kv_at(key) + i], sizes[key]));
                let value = parts().map(|(part, _)| part).sum();
                let scale = parts().map(|(part, size)| part.abs() * (1.0 + size + mean_size)).sum();
                out.put(((case.size("out_row0") + row) * n_heads + head) * d + i, value, scale);
            }
        }
    }
    vec![out]
}
