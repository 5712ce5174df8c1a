//! Two measurements of the same cases: ratios, and which of them are more than noise.

use serde::Serialize;

use super::{Report, Row};

/// Changes below this are noise however steady the samples were: clocks and caches differ from run to run.
const ALWAYS_NOISE: f64 = 0.05;

/// One case in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// As in [`Row`].
    pub case: String,
    /// As in [`Row`].
    pub variant: String,
    /// Seconds before.
    pub old_seconds: f64,
    /// Seconds now.
    pub new_seconds: f64,
    /// New over old: below 1 is faster.
    pub ratio: f64,
    /// The ratio may be off 1 by so much without meaning anything: the larger spread of the two.
    pub noise: f64,
    /// `faster`, `slower`, or `same` within the noise.
    pub verdict: &'static str,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Cases that both have.
    pub changes: Vec<Change>,
    /// Cases that only the old one has.
    pub gone: Vec<String>,
    /// Cases that only the new one has.
    pub added: Vec<String>,
    /// What makes the two differ besides the code: adapter, driver, clock, build.
    pub differences: Vec<String>,
}

/// Compares by case and variant.
pub fn compare(old: &Report, new: &Report) -> Comparison {
    let same = |a: &Row, b: &Row| a.case == b.case && a.variant == b.variant;
    let name = |row: &Row| format!("{} {}", row.case, row.variant).trim().to_string();
    let missing = |from: &Report, other: &Report| -> Vec<String> {
        from.rows.iter().filter(|row| !other.rows.iter().any(|r| same(r, row))).map(name).collect()
    };
    let changes = new.rows.iter().filter_map(|row| {
        let before = old.rows.iter().find(|r| same(r, row))?;
        Some(change(before, row))
    });
    let heads = [
        ("adapter", &old.head.adapter, &new.head.adapter),
        ("driver", &old.head.driver, &new.head.driver),
        ("clock", &old.head.clock, &new.head.clock),
        ("build", &old.head.build, &new.head.build),
    ];
    let differences =
        heads.iter().filter(|(_, a, b)| a != b).map(|(n, a, b)| format!("{n}: {a} before, {b} now"));
    Comparison {
        changes: changes.collect(),
        gone: missing(old, new),
        added: missing(new, old),
        differences: differences.collect(),
    }
}

fn change(old: &Row, new: &Row) -> Change {
    let ratio = new.seconds / old.seconds.max(1e-12);
    let noise = old.spread.unwrap_or(0.0).max(new.spread.unwrap_or(0.0)).max(ALWAYS_NOISE);
    // A ratio of r is as far from 1 as one of 1/r.
    let verdict = match ratio {
        r if r > 1.0 + noise => "slower",
        r if 1.0 / r > 1.0 + noise => "faster",
        _ => "same",
    };
    Change {
        case: new.case.clone(),
        variant: new.variant.clone(),
        old_seconds: old.seconds,
        new_seconds: new.seconds,
        ratio,
        noise,
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_exceeds_both_spreads_is_a_change() {
        let verdict = |old: (f64, f64), new: (f64, f64)| {
            change(&Row::new("a", "", old.0, old.1), &Row::new("a", "", new.0, new.1)).verdict
        };
        assert_eq!(verdict((1.0, 0.01), (1.04, 0.01)), "same");
        assert_eq!(verdict((1.0, 0.01), (1.10, 0.01)), "slower");
        assert_eq!(verdict((1.0, 0.20), (1.10, 0.01)), "same");
        assert_eq!(verdict((1.0, 0.01), (0.90, 0.02)), "faster");
        assert_eq!(verdict((1.0, 0.01), (0.90, 0.30)), "same");
    }
}
