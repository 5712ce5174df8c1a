//! Statistics of right and wrong answers: how sure an accuracy is, and whether two runs differ.
//!
//! The interval is Wilson's score interval. Two runs over the same questions are compared with McNemar's test,
//! which looks only at the questions that one run got right and the other did not.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF};

use super::Scores;
use crate::error::{Error, Result};

/// The 0.975 quantile of the normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Wilson's 95 % interval of the share `correct / total`, or none without any trial.
    ///
    /// `correct` may be an expected number, and then need not be whole.
    pub fn wilson(correct: f64, total: f64) -> Option<Interval> {
        if total <= 0.0 || !(0.0..=total).contains(&correct) {
            return None;
        }
        let share = correct / total;
        let z2 = Z_95 * Z_95;
        let centre = (share + z2 / (2.0 * total)) / (1.0 + z2 / total);
        let half =
            Z_95 / (1.0 + z2 / total) * (share * (1.0 - share) / total + z2 / (4.0 * total * total)).sqrt();
        Some(Interval { low: (centre - half).max(0.0), high: (centre + half).min(1.0) })
    }

    /// The interval on another scale.
    pub(super) fn scaled(self, scale: f64) -> Interval {
        Interval { low: scale * self.low, high: scale * self.high }
    }
}

/// Two runs over the same questions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Questions that both runs answered.
    pub pairs: usize,
    /// Questions that only one of the runs has; they are left out.
    pub unpaired: usize,
    /// Right in both runs.
    pub both: usize,
    /// Right in the first run only.
    pub only_first: usize,
    /// Right in the second run only.
    pub only_second: usize,
    /// Wrong in both runs.
    pub neither: usize,
    /// McNemar's test.
    pub mcnemar: McNemar,
}

/// McNemar's test of two discordant counts: how surprising they are if the runs are equally good.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// Two-sided p-value of the exact (binomial) test.
    pub exact_p: f64,
    /// Chi-squared statistic with continuity correction, one degree of freedom.
    pub chi_squared: f64,
    /// Its p-value.
    pub corrected_p: f64,
}

impl McNemar {
    /// The test of `first` against `second`: the questions right in one run only, for either run.
    pub fn new(first: usize, second: usize) -> McNemar {
        let discordant = first + second;
        if discordant == 0 {
            return McNemar { exact_p: 1.0, chi_squared: 0.0, corrected_p: 1.0 };
        }
        let tail =
            Binomial::new(0.5, discordant as u64).map_or(f64::NAN, |b| b.cdf(first.min(second) as u64));
        let distance = (first.abs_diff(second) as f64 - 1.0).max(0.0);
        let chi_squared = distance * distance / discordant as f64;
        let corrected_p = ChiSquared::new(1.0).map_or(f64::NAN, |chi| chi.sf(chi_squared));
        McNemar { exact_p: (2.0 * tail).min(1.0), chi_squared, corrected_p }
    }
}

/// Compares two scored runs question by question.
///
/// Questions are matched by id. A verdict that the official program would draw counts as wrong. Both runs must
/// come from the same evaluator, and no id may occur twice in a run.
pub fn compare(first: &Scores, second: &Scores) -> Result<Comparison> {
    if first.evaluator != second.evaluator {
        let reason =
            format!("{} scores cannot be compared with {} scores", first.evaluator, second.evaluator);
        return Err(Error::usage("compare", reason));
    }
    let (first, second) = (outcomes(first)?, outcomes(second)?);
    let mut table = [[0_usize; 2]; 2];
    let mut pairs = 0;
    for (id, right) in &first {
        if let Some(other) = second.get(id) {
            table[usize::from(*right)][usize::from(*other)] += 1;
            pairs += 1;
        }
    }
    if pairs == 0 {
        return Err(Error::usage("compare", "the two runs have no question in common"));
    }
    let [[neither, only_second], [only_first, both]] = table;
    let unpaired = first.len() + second.len() - 2 * pairs;
    Ok(Comparison {
        pairs,
        unpaired,
        both,
        only_first,
        only_second,
        neither,
        mcnemar: McNemar::new(only_first, only_second),
    })
}

fn outcomes(scores: &Scores) -> Result<HashMap<&str, bool>> {
    let mut outcomes = HashMap::new();
    for verdict in &scores.verdicts {
        if outcomes.insert(verdict.id.as_str(), verdict.correct == Some(true)).is_some() {
            let reason = format!("the id `{}` occurs twice, so the runs cannot be paired", verdict.id);
            return Err(Error::usage("compare", reason));
        }
    }
    Ok(outcomes)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "paired comparison ({} questions, {} unpaired left out)", self.pairs, self.unpaired)?;
        writeln!(f, "                 second right  second wrong")?;
        writeln!(f, "  first right    {:>12}  {:>12}", self.both, self.only_first)?;
        writeln!(f, "  first wrong    {:>12}  {:>12}", self.only_second, self.neither)?;
        let test = &self.mcnemar;
        writeln!(f, "  McNemar exact p = {:.4}", test.exact_p)?;
        writeln!(f, "  McNemar corrected chi2 = {:.3}, p = {:.4}", test.chi_squared, test.corrected_p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 5e-5
    }

    #[test]
    fn wilson_matches_published_values() {
        let interval = Interval::wilson(81.0, 263.0).unwrap(); // Newcombe 1998, table I
        assert!(close(interval.low, 0.2553) && close(interval.high, 0.3662), "{interval:?}");
        let none = Interval::wilson(0.0, 20.0).unwrap();
        assert!(close(none.low, 0.0) && close(none.high, 0.1611), "{none:?}");
        assert!(Interval::wilson(0.0, 0.0).is_none());
    }

    #[test]
    fn mcnemar_matches_hand_calculation() {
        let test = McNemar::new(1, 9); // exact: 2 * (1 + 10) / 1024
        assert!(close(test.exact_p, 22.0 / 1024.0), "{test:?}");
        assert!(close(test.chi_squared, 4.9) && close(test.corrected_p, 0.02686), "{test:?}");
        assert_eq!(McNemar::new(3, 3).exact_p, 1.0);
        assert_eq!(McNemar::new(0, 0).corrected_p, 1.0);
    }
}
