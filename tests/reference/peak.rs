//! The peak kernels.

use diffa::ops::cases::{Case, Host};

use super::Expected;

pub fn peak_copy(_: &Case, t: &[Host]) -> Vec<Expected> {
    vec![Expected::new(t[0].data.clone())]
}

pub fn peak_multiply(case: &Case, t: &[Host]) -> Vec<Expected> {
    let chains = |a: &f64| {
        (0..8).map(|start| 1.0 + (f64::from(start) - 1.0) * a.powi(case.size("steps") as i32)).sum()
    };
    let values: Vec<f64> = t[0].data.iter().map(chains).collect();
    let scales = values.iter().map(|v: &f64| v.abs() + 8.0).collect();
    vec![Expected { values, scales }]
}
