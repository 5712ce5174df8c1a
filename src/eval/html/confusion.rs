//! Which letter was said where which was right.

use maud::{Markup, html};

use super::item::Item;
use crate::eval::score::Evaluator;
use crate::eval::score::json::Json;

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// Counts `[right letter][letter said]`, the last column for answers that read as no letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confusion([[usize; 5]; 4]);

impl Confusion {
    /// The counts of a letter benchmark; none for the others.
    pub(super) fn of(items: &[Item<'_>], evaluator: Evaluator) -> Option<Confusion> {
        let mut counts = [[0; 5]; 4];
        for item in items {
            let right = match evaluator {
                Evaluator::Mcq => item.row.label("reference"),
                Evaluator::Mmsu => right_choice(item)?.to_owned(),
                _ => return None,
            };
            let Some(right) = LETTERS.iter().position(|letter| *letter == right) else { continue };
            let said = item.verdict.read_as.as_deref();
            let said = LETTERS.iter().position(|letter| Some(*letter) == said).unwrap_or(LETTERS.len());
            counts[right][said] += 1;
        }
        Some(Confusion(counts))
    }

    /// A table with the counts, shaded by their share of the row.
    pub(super) fn render(&self) -> Markup {
        html! {
            h3 { "Confusion" }
            table.confusion {
                tr { th { "right" } @for letter in LETTERS { th { (letter) } } th { "none" } }
                @for (right, counts) in self.0.iter().enumerate() {
                    @let total = counts.iter().sum::<usize>().max(1) as f64;
                    tr {
                        th { (LETTERS[right]) }
                        @for (said, count) in counts.iter().enumerate() {
                            td.same[said == right] style=(format!("--share:{:.3}", *count as f64 / total)) { (count) }
                        }
                    }
                }
            }
            p.note { "Rows: the right letter; columns: the letter the answer was read as." }
        }
    }
}

/// The letter of the choice that is the answer; empty if none is.
fn right_choice(item: &Item<'_>) -> Option<&'static str> {
    let answer = item.row.get("answer_gt").filter(|answer| **answer != Json::Null);
    let is_answer = |letter: &&&str| {
        let key = format!("choice_{}", letter.to_ascii_lowercase());
        answer.is_some_and(|answer| item.row.get(&key).is_some_and(|choice| choice.same_as(answer)))
    };
    Some(LETTERS.iter().find(is_answer).copied().unwrap_or_default())
}
