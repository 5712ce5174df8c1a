//! Statistics of right and wrong answers: how sure an accuracy is, and whether two runs differ.
//!
//! The interval is Wilson's score interval. Two runs over the same questions are compared with McNemar's test,
//! which looks only at the questions that one run got right and the other did not.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF, StudentsT};

use super::{Evaluator, Scores, Unit};
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

    /// Student's 95 % interval of the mean of `values`; none for fewer than two of them.
    pub fn of_mean(values: &[f64]) -> Option<Interval> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(0.975);
        let half = t * (variance / n).sqrt();
        half.is_finite().then_some(Interval { low: mean - half, high: mean + half })
    }

    /// The interval on another scale.
    pub(in crate::eval) fn scaled(self, scale: f64) -> Interval {
        Interval { low: scale * self.low, high: scale * self.high }
    }
}

/// Two runs over the same questions. The second is measured against the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Questions that both runs answered.
    pub pairs: usize,
    /// Questions that only one of the runs has; they are left out.
    pub unpaired: usize,
    /// The second run minus the first, over the pairs.
    pub difference: Difference,
    /// Right and wrong, counted in pairs; none where a judge gives points.
    #[serde(flatten)]
    pub outcomes: Option<Outcomes>,
    /// The questions that the first run answers better.
    pub first_better: Vec<String>,
    /// The questions that the second run answers better.
    pub second_better: Vec<String>,
}

/// How far two runs are apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Scale of the numbers.
    pub unit: Unit,
    /// The second run minus the first.
    pub value: f64,
    /// 95 % interval of it: Agresti and Min's for paired shares, Student's for points; none for a single pair of
    /// points.
    pub interval: Option<Interval>,
}

/// How the pairs fall.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcomes {
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
/// Questions are matched by id. Where a judge gives points, means are compared, and answers without a score are
/// left out; everywhere else right and wrong, where a verdict that the official program would draw counts as
/// wrong. Both runs must come from the same evaluator, and no id may occur twice in a run.
pub fn compare(first: &Scores, second: &Scores) -> Result<Comparison> {
    if first.evaluator != second.evaluator {
        let reason =
            format!("{} scores cannot be compared with {} scores", first.evaluator, second.evaluator);
        return Err(Error::usage("compare", reason));
    }
    let (ours, theirs) = (outcomes(first)?, outcomes(second)?);
    let mut pairs = Vec::new();
    for verdict in &first.verdicts {
        let id = verdict.id.as_str();
        if let (Some(one), Some(other)) = (ours.get(id), theirs.get(id)) {
            pairs.push((id, *one, *other));
        }
    }
    if pairs.is_empty() {
        return Err(Error::usage("compare", "the two runs have no question in common"));
    }
    let ids = |better: fn(f64, f64) -> bool| {
        pairs.iter().filter(|(_, a, b)| better(*a, *b)).map(|(id, ..)| (*id).to_owned()).collect::<Vec<_>>()
    };
    let count = |one: f64, other: f64| pairs.iter().filter(|(_, a, b)| (*a, *b) == (one, other)).count();
    let is_judged = first.evaluator == Evaluator::Open;
    let (difference, outcomes) = if is_judged {
        (Difference::of_points(&pairs.iter().map(|(_, a, b)| b - a).collect::<Vec<_>>()), None)
    } else {
        let (only_first, only_second) = (count(1.0, 0.0), count(0.0, 1.0));
        let mcnemar = McNemar::new(only_first, only_second);
        let (both, neither) = (count(1.0, 1.0), count(0.0, 0.0));
        let unit = first.metrics.first().map_or(Unit::Fraction, |metric| metric.unit);
        let difference = Difference::of_shares(unit, only_first, only_second, pairs.len());
        (difference, Some(Outcomes { both, only_first, only_second, neither, mcnemar }))
    };
    Ok(Comparison {
        pairs: pairs.len(),
        unpaired: ours.len() + theirs.len() - 2 * pairs.len(),
        difference,
        outcomes,
        first_better: ids(|a, b| a > b),
        second_better: ids(|a, b| b > a),
    })
}

impl Difference {
    /// The difference of two paired shares, from the counts of pairs right in one run only.
    ///
    /// Agresti and Min (2005): half a pair is added to each of the four cells, which keeps the interval honest
    /// where few pairs differ.
    fn of_shares(unit: Unit, only_first: usize, only_second: usize, pairs: usize) -> Difference {
        let (first, second, n) = (only_first as f64 + 0.5, only_second as f64 + 0.5, pairs as f64 + 2.0);
        let centre = (second - first) / n;
        let half = Z_95 * (first + second - (second - first).powi(2) / n).sqrt() / n;
        let interval = Interval { low: (centre - half).max(-1.0), high: (centre + half).min(1.0) };
        Difference {
            unit,
            value: unit.scale() * (only_second as f64 - only_first as f64) / pairs as f64,
            interval: Some(interval.scaled(unit.scale())),
        }
    }

    /// The mean of paired differences in points.
    fn of_points(differences: &[f64]) -> Difference {
        let interval = Interval::of_mean(differences);
        let value = differences.iter().sum::<f64>() / differences.len() as f64;
        Difference { unit: Unit::Points, value, interval }
    }
}

/// What each question counts: 1 and 0 for right and wrong, or a judge's mean.
fn outcomes(scores: &Scores) -> Result<HashMap<&str, f64>> {
    let mut outcomes = HashMap::new();
    for verdict in &scores.verdicts {
        let value = match scores.evaluator {
            Evaluator::Open => verdict.score,
            _ => Some(f64::from(u8::from(verdict.correct == Some(true)))),
        };
        let Some(value) = value else { continue };
        if outcomes.insert(verdict.id.as_str(), value).is_some() {
            let reason = format!("the id `{}` occurs twice, so the runs cannot be paired", verdict.id);
            return Err(Error::usage("compare", reason));
        }
    }
    Ok(outcomes)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = |value: f64| format!("{}{}", if value > 0.0 { "+" } else { "" }, self.unit.show(value));
        write!(f, "{}", signed(self.value))?;
        match self.interval {
            Some(interval) => write!(f, " [{} .. {}]", signed(interval.low), signed(interval.high)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "paired comparison ({} questions, {} unpaired left out)", self.pairs, self.unpaired)?;
        writeln!(f, "  second minus first {}", self.difference)?;
        let Some(outcomes) = &self.outcomes else {
            let (first, second) = (self.first_better.len(), self.second_better.len());
            return writeln!(f, "  better in the first run {first}, in the second {second}");
        };
        writeln!(f, "                 second right  second wrong")?;
        writeln!(f, "  first right    {:>12}  {:>12}", outcomes.both, outcomes.only_first)?;
        writeln!(f, "  first wrong    {:>12}  {:>12}", outcomes.only_second, outcomes.neither)?;
        let test = &outcomes.mcnemar;
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
    fn the_difference_matches_hand_calculation() {
        // 1.5 and 9.5 of 22: centre 8/22, half 1.96 sqrt(11 - 64/22) / 22
        let found = Difference::of_shares(Unit::Fraction, 1, 9, 20);
        let interval = found.interval.unwrap();
        assert!(close(found.value, 0.4), "{found:?}");
        assert!(close(interval.low, 0.11023) && close(interval.high, 0.61705), "{interval:?}");
        // t(0.975, 2) = 4.30265, standard error 1 / sqrt(3)
        let mean = Interval::of_mean(&[1.0, 2.0, 3.0]).unwrap();
        assert!(close(mean.low, -0.48414) && close(mean.high, 4.48414), "{mean:?}");
        assert!(Interval::of_mean(&[1.0]).is_none());
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
