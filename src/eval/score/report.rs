//! What a scorer finds: metrics, tables, and one verdict per answer.
//!
//! The published programs replace an answer they cannot read by a random draw, so their numbers change from run to
//! run. Here such answers stay visible: a metric carries what the draws could make of it at worst and at best, and
//! its value is the expected one.

use std::fmt;

use serde::Serialize;

use super::Evaluator;
use super::stats::Interval;

/// The result of scoring one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// The rules used.
    pub evaluator: Evaluator,
    /// Answers that count.
    pub answers: usize,
    /// The numbers to quote, the most important first.
    pub metrics: Vec<Metric>,
    /// Counts by category; empty where the benchmark has none.
    pub tables: Vec<Table>,
    /// What a reader of the numbers has to know.
    pub notes: Vec<String>,
    /// One entry per answer, in file order.
    pub verdicts: Vec<Verdict>,
}

/// The scale of a metric, which is the scale its benchmark publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// From 0 to 1.
    Fraction,
    /// From 0 to 100.
    Percent,
    /// The judge's points.
    Points,
}

/// A number with what is known about its certainty.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Name in the published output.
    pub name: &'static str,
    /// Scale of all numbers of this metric.
    pub unit: Unit,
    /// The value; where answers are drawn, the expected value. None if no answer decides it.
    pub value: Option<f64>,
    /// 95 % Wilson interval of the underlying share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// What random draws do to the value; none if nothing is drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<Draw>,
}

/// The range of a metric that depends on random draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Draw {
    /// Every draw goes wrong.
    pub floor: f64,
    /// Every draw goes right.
    pub ceiling: f64,
    /// One run of draws with the seed asked for; none where the official draw cannot be imitated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<f64>,
}

/// Counts by category.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// Name of the category.
    pub name: &'static str,
    /// The categories in the order of their first answer.
    pub rows: Vec<TableRow>,
}

/// The counts of one category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableRow {
    /// The category.
    pub label: String,
    /// Answers that are right.
    pub correct: usize,
    /// Answers that the official program would draw.
    pub undecided: usize,
    /// All answers.
    pub total: usize,
}

/// What became of one answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Line in the file, or position in the array, counted from 1.
    pub row: usize,
    /// The answer's `id`, `audio_id` or `key`, or its row.
    pub id: String,
    /// What the answer was read as, for example `B`, `yes`, `refusal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_as: Option<String>,
    /// Whether it counts as right; none where the official program would draw at random.
    pub correct: Option<bool>,
    /// The judge's mean, where there is a judge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The instructions of this prompt, where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<InstructionVerdict>,
    /// Anything remarkable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Whether one instruction of a prompt was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstructionVerdict {
    /// The kind, for example `keywords:existence`.
    pub id: String,
    /// The answer as it stands follows it; none where chance decides.
    pub strict: Option<bool>,
    /// The answer or one of its seven reductions follows it; none where chance decides.
    pub loose: Option<bool>,
}

impl Scores {
    /// The metric called `name`.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    /// The table called `name`.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }
}

impl Metric {
    /// A metric without chance or interval.
    pub(super) fn plain(name: &'static str, unit: Unit, value: Option<f64>) -> Metric {
        Metric { name, unit, value, interval: None, draw: None }
    }

    /// The share `correct / total` with its interval.
    pub(super) fn share(name: &'static str, unit: Unit, correct: usize, total: usize) -> Metric {
        let scale = unit.scale();
        let value = (total > 0).then(|| scale * correct as f64 / total as f64);
        let interval = Interval::wilson(correct as f64, total as f64).map(|interval| interval.scaled(scale));
        Metric { name, unit, value, interval, draw: None }
    }
}

impl Unit {
    /// What a share of 1 is on this scale.
    pub(super) fn scale(self) -> f64 {
        match self {
            Unit::Percent => 100.0,
            Unit::Fraction | Unit::Points => 1.0,
        }
    }

    /// A number of this scale for reading.
    fn show(self, value: f64) -> String {
        match self {
            Unit::Percent => format!("{value:.2} %"),
            Unit::Fraction => format!("{value:.4}"),
            Unit::Points => format!("{value:.3}"),
        }
    }
}

impl Table {
    /// An empty table.
    pub(super) fn new(name: &'static str) -> Table {
        Table { name, rows: Vec::new() }
    }

    /// Counts one answer under `label`.
    pub(super) fn count(&mut self, label: &str, correct: Option<bool>) {
        let at = self.rows.iter().position(|row| row.label == label).unwrap_or_else(|| {
            self.rows.push(TableRow { label: label.to_owned(), correct: 0, undecided: 0, total: 0 });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        row.correct += usize::from(correct == Some(true));
        row.undecided += usize::from(correct.is_none());
        row.total += 1;
    }
}

impl Verdict {
    /// The verdict on an item that could not be answered.
    pub(super) fn failed(row: &super::input::Row<'_>, reason: &str) -> Verdict {
        Verdict { note: Some(reason.to_owned()), ..Verdict::new(row, Some(false)) }
    }

    /// A verdict with nothing but its place and outcome.
    pub(super) fn new(row: &super::input::Row<'_>, correct: Option<bool>) -> Verdict {
        Verdict {
            row: row.number,
            id: row.name(),
            read_as: None,
            correct,
            score: None,
            instructions: Vec::new(),
            note: None,
        }
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({} answers)", self.evaluator, self.answers)?;
        let width = self.metrics.iter().map(|metric| metric.name.chars().count()).max().unwrap_or(0);
        for metric in &self.metrics {
            let value = metric.value.map_or_else(|| "-".to_owned(), |value| metric.unit.show(value));
            write!(f, "  {:<width$}  {value:>9}", metric.name)?;
            if let Some(interval) = metric.interval {
                write!(f, "  [{} .. {}]", metric.unit.show(interval.low), metric.unit.show(interval.high))?;
            }
            if let Some(draw) = metric.draw {
                write!(
                    f,
                    "  floor {}, ceiling {}",
                    metric.unit.show(draw.floor),
                    metric.unit.show(draw.ceiling)
                )?;
                if let Some(sample) = draw.sample {
                    write!(f, ", one draw {}", metric.unit.show(sample))?;
                }
            }
            writeln!(f)?;
        }
        for table in &self.tables {
            write_table(f, table)?;
        }
        for note in &self.notes {
            writeln!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, table: &Table) -> fmt::Result {
    let labels = table.rows.iter().map(|row| row.label.chars().count());
    let width = labels.chain([table.name.chars().count()]).max().unwrap_or(0);
    let drawn = table.rows.iter().any(|row| row.undecided > 0);
    write!(f, "\n  {:<width$}  correct   total  accuracy", table.name)?;
    writeln!(f, "{}", if drawn { "  undecided" } else { "" })?;
    for row in &table.rows {
        write!(f, "  {:<width$}  {:>7} {:>7}", row.label, row.correct, row.total)?;
        match row.total {
            0 => write!(f, "  {:>8}", "-")?,
            total => write!(f, "  {:>6.2} %", 100.0 * row.correct as f64 / total as f64)?,
        }
        if drawn {
            write!(f, "  {:>9}", row.undecided)?;
        }
        writeln!(f)?;
    }
    Ok(())
}
