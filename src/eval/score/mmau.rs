//! MMAU: a prediction is right if it holds every word of the answer and no word that only other choices have.
//!
//! Words are the lower-cased runs of word characters, as a set: "the the train" matches "the train", "Warm coat: a"
//! matches "a warm coat", and "coffee_and_cake" is one word. A row without `model_prediction` does not count at
//! all; a prediction that is null is an error, as it is in the published program.

use std::collections::HashSet;

use super::input::Row;
use super::json::Json;
use super::{Evaluator, Metric, Scores, Table, Unit, Verdict, python};
use crate::error::Result;

fn word_set(text: &str) -> HashSet<String> {
    python::words(&text.to_lowercase()).map(str::to_owned).collect()
}

fn matches(prediction: &str, answer: &str, choices: &[&str]) -> bool {
    let (said, wanted) = (word_set(prediction), word_set(answer));
    let is_foreign = |word: &String| !wanted.contains(word) && said.contains(word);
    !said.is_empty()
        && wanted.is_subset(&said)
        && !choices.iter().any(|choice| word_set(choice).iter().any(is_foreign))
}

/// Scores MMAU predictions; percentages, as published.
pub(super) fn score(rows: &[Row]) -> Result<Scores> {
    let tables = [("task", &["sound", "music", "speech"]), ("difficulty", &["easy", "hard", "medium"])];
    let mut counted: Vec<Table> = tables.iter().map(|(name, _)| Table::new(name)).collect();
    let mut by_subject = Table::new("sub-category");
    let mut verdicts = Vec::new();
    for row in rows {
        let failed = row.failure().is_some();
        if row.get("model_prediction").is_none() && !failed {
            continue;
        }
        let prediction = if failed { "" } else { row.text("model_prediction")? };
        let choices = row.list("choices")?.iter().map(Json::as_text).collect::<Option<Vec<_>>>();
        let choices = choices.ok_or_else(|| row.error("every entry of `choices` must be a text"))?;
        let right = matches(prediction, row.text("answer")?, &choices);
        for ((name, known), table) in tables.iter().zip(&mut counted) {
            let label = row.text(name)?;
            if !known.contains(&label) {
                return Err(
                    row.error(format!("`{name}` is `{label}`, but must be one of {}", known.join(", ")))
                );
            }
            table.count(label, Some(right));
        }
        if !matches!(row.get("sub-category"), None | Some(Json::Null)) {
            by_subject.count(&row.label("sub-category"), Some(right));
        }
        verdicts.push(Verdict::new(row, Some(right)));
    }
    for ((_, known), table) in tables.iter().zip(&mut counted) {
        table.rows.sort_by_key(|row| known.iter().position(|name| *name == row.label));
    }
    let right = verdicts.iter().filter(|verdict| verdict.correct == Some(true)).count();
    let left_out = rows.len() - verdicts.len();
    counted.push(by_subject);
    Ok(Scores {
        evaluator: Evaluator::Mmau,
        answers: verdicts.len(),
        errors: 0,
        metrics: vec![Metric::share("accuracy", Unit::Percent, right, verdicts.len())],
        tables: counted,
        notes: match left_out {
            0 => Vec::new(),
            n => vec![format!("{n} rows have no `model_prediction` and do not count")],
        },
        verdicts,
    })
}
