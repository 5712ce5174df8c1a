//! One question: what was asked, what was said, what would have been right, and the clip.

use maud::{Markup, html};

use super::Clips;
use super::clips::Name;
use crate::eval::score::input::Row;
use crate::eval::score::json::Json;
use crate::eval::score::{Answers, Scores, Verdict};

/// A row with its verdict.
pub(super) struct Item<'a> {
    pub(super) row: &'a Row,
    pub(super) verdict: &'a Verdict,
    /// Time for the answer.
    pub(super) seconds: Option<f64>,
    /// Forwards for the answer.
    pub(super) nfe: Option<f64>,
}

/// The scored rows in file order. Rows that the scorer leaves out are left out here too.
pub(super) fn items<'a>(answers: &'a Answers, scores: &'a Scores) -> Vec<Item<'a>> {
    let mut verdicts = scores.verdicts.iter().peekable();
    let mut items = Vec::with_capacity(scores.verdicts.len());
    for row in &answers.rows {
        let Some(verdict) = verdicts.next_if(|verdict| verdict.row == row.number) else { continue };
        items.push(Item { row, verdict, seconds: row.number_at("seconds"), nfe: row.number_at("nfe") });
    }
    items
}

impl Item<'_> {
    /// Name of the place in the page; `part` tells equal rows of several files apart.
    pub(super) fn anchor(&self, part: usize) -> String {
        format!("item-{part}-{}", self.verdict.row)
    }

    /// The first of `keys` that the row has, as text.
    fn first(&self, keys: &[&str]) -> Option<String> {
        let value = keys.iter().filter_map(|key| self.row.get(key)).find(|value| **value != Json::Null)?;
        Some(value.label())
    }

    /// The clip: a field of the data, and what `diffa eval` noted.
    pub(super) fn clip(&self) -> Name {
        let noted = self.row.recorded("audio").filter(|value| **value != Json::Null).map(Json::label);
        Name { given: self.first(&["audio_path", "audio", "audio_id"]), noted }
    }

    fn choices(&self) -> Vec<String> {
        if let Some(Json::List(choices)) = self.row.get("choices") {
            return choices.iter().map(Json::label).collect();
        }
        let lettered = ["choice_a", "choice_b", "choice_c", "choice_d"].map(|key| self.row.get(key));
        let last = lettered.iter().rposition(|choice| choice.is_some_and(|choice| *choice != Json::Null));
        let shown = |choice: &Option<&Json>| choice.filter(|choice| **choice != Json::Null).map(Json::label);
        lettered[..last.map_or(0, |at| at + 1)]
            .iter()
            .map(|choice| shown(choice).unwrap_or_default())
            .collect()
    }

    fn outcome(&self) -> (&'static str, &'static str) {
        match (&self.verdict.error, self.verdict.correct) {
            (Some(_), _) => ("failed", "error"),
            (None, Some(true)) => ("right", "right"),
            (None, Some(false)) => ("wrong", "wrong"),
            (None, None) if self.verdict.score.is_some() => ("judged", "judged"),
            (None, None) => ("open", "undecided"),
        }
    }

    /// The item as a box.
    pub(super) fn render(&self, part: usize, clips: &Clips) -> Markup {
        let verdict = self.verdict;
        let (class, outcome) = self.outcome();
        let choices = self.choices();
        let field = |name: &str, text: Option<String>| {
            html! { @if let Some(text) = text { dt { (name) } dd { (text) } } }
        };
        html! {
            article class={ "item " (class) } id=(self.anchor(part)) {
                header {
                    b { (verdict.id) }
                    span { (outcome) }
                    @if let Some(read_as) = &verdict.read_as { span { "read as " (read_as) } }
                    @if let Some(score) = verdict.score { span { (format!("{score:.2} points")) } }
                    @if let Some(seconds) = self.seconds { span { (format!("{seconds:.2} s")) } }
                    @if let Some(nfe) = self.nfe { span { (nfe) " forwards" } }
                    @if let Some(note) = &verdict.note { span { (note) } }
                }
                (clips.player(&self.clip()))
                dl {
                    (field("question", self.first(&["question", "prompt", "instruction"])))
                    @if !choices.is_empty() {
                        dt { "choices" }
                        dd { ol { @for choice in &choices { li { (choice) } } } }
                    }
                    (field("answer", self.first(&["response", "model_prediction"])))
                    (field("right", self.first(&["answer_gt", "answer", "reference"])))
                    (field("votes", self.first(&["score"])))
                    (field("error", verdict.error.clone()))
                    @if !verdict.instructions.is_empty() {
                        dt { "followed" }
                        dd {
                            @for instruction in &verdict.instructions {
                                (instruction.id) ": " (word(instruction.strict)) ", loosely " (word(instruction.loose)) "\n"
                            }
                        }
                    }
                }
            }
        }
    }
}

fn word(followed: Option<bool>) -> &'static str {
    match followed {
        Some(true) => "yes",
        Some(false) => "no",
        None => "by chance",
    }
}
