//! VoiceBench IFEval: prompts with instructions that a program can check, such as "at least three paragraphs".
//!
//! Each instruction is judged twice. Strictly, the response must follow it as it stands. Loosely, it is enough if
//! one of eight texts does: the response, without its first line, without its last, without both, and these four
//! without asterisks. A blank text never follows anything. The final number is the mean of four: the share of
//! prompts with every instruction followed and the share of all instructions, strict and loose.
//!
//! Kept from the published program: a response is found by the text of its prompt, so of two rows with the same
//! prompt the last response counts for both; a setting that is null, zero or empty is dropped, and a setting that
//! is missing is drawn at random there, which leaves the instruction without a verdict here.

mod checks;
mod language;
mod pattern;
mod punkt;
mod punkt_tables;
mod rules;
mod tokens;

use std::collections::HashMap;

use self::rules::Rule;
use super::input::Row;
use super::{Draw, Evaluator, InstructionVerdict, Metric, Scores, Table, Unit, Verdict, python};
use crate::error::Result;

/// What the published program scores of a response: turn and speaker marks are gone.
fn cleaned(response: &str) -> &str {
    python::without_user_mark(python::without_turn_mark(response))
}

/// The response of a row; blank, and so never right, where the question was not answered.
fn response_of(row: &Row) -> Result<&str> {
    if row.failure().is_some() { Ok("") } else { row.text("response").map(cleaned) }
}

/// The texts of which one has to follow an instruction loosely; the first is the response itself.
fn loose_texts(response: &str) -> Vec<String> {
    let lines: Vec<&str> = response.split('\n').collect();
    let part = |from: usize, to: usize| {
        python::strip(&lines.get(from..to).unwrap_or_default().join("\n")).to_owned()
    };
    let end = lines.len();
    let mut texts = vec![response.to_owned(), part(1, end), part(0, end - 1), part(1, end - 1)];
    texts.extend(texts.clone().iter().map(|text| text.replace('*', "")));
    let mut seen = Vec::new();
    for text in texts {
        if !python::is_blank(&text) && !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen
}

/// Whether a text follows the rule; none if chance decides.
fn follows(rule: &Rule, text: &str) -> Result<Option<bool>, String> {
    if python::is_blank(text) { Ok(Some(false)) } else { rule.holds(text) }
}

/// Whether one of the texts follows the rule; none if that hangs on a text for which chance decides.
fn any_follows(rule: &Rule, texts: &[String]) -> Result<Option<bool>, String> {
    let mut verdict = Some(false);
    for text in texts {
        match follows(rule, text)? {
            Some(true) => return Ok(Some(true)),
            Some(false) => {}
            None => verdict = None,
        }
    }
    Ok(verdict)
}

fn judge(row: &Row, response: &str) -> Result<Vec<InstructionVerdict>> {
    let ids = row.list("instruction_id_list")?;
    let settings = row.list("kwargs")?;
    if settings.len() < ids.len() {
        return Err(row.error("`kwargs` must have an entry for every instruction"));
    }
    let texts = loose_texts(response);
    let mut verdicts = Vec::with_capacity(ids.len());
    for (id, settings) in ids.iter().zip(settings) {
        let id = id.as_text().ok_or_else(|| row.error("`instruction_id_list` must hold texts"))?;
        let in_instruction = |reason: String| row.error(format!("instruction `{id}`: {reason}"));
        let rule = Rule::new(id, settings).map_err(in_instruction)?;
        verdicts.push(InstructionVerdict {
            id: id.to_owned(),
            strict: follows(&rule, response).map_err(in_instruction)?,
            loose: any_follows(&rule, &texts).map_err(in_instruction)?,
        });
    }
    Ok(verdicts)
}

/// How many prompts and instructions were followed, in one of the two ways of judging.
#[derive(Default)]
struct Tally {
    prompts: usize,
    all_followed: usize,
    instructions: usize,
    followed: usize,
}

impl Tally {
    fn count(&mut self, verdicts: impl Iterator<Item = bool>) {
        let verdicts: Vec<bool> = verdicts.collect();
        self.prompts += 1;
        self.all_followed += usize::from(verdicts.iter().all(|followed| *followed));
        self.instructions += verdicts.len();
        self.followed += verdicts.iter().filter(|followed| **followed).count();
    }

    fn shares(&self) -> [f64; 2] {
        let share = |part: usize, whole: usize| part as f64 / (whole.max(1)) as f64;
        [share(self.all_followed, self.prompts), share(self.followed, self.instructions)]
    }
}

/// The five published numbers when open verdicts count as `open`: strict and loose, by prompt and by instruction.
fn five(rows: &[Verdict], open: bool) -> [f64; 5] {
    let (mut strict, mut loose) = (Tally::default(), Tally::default());
    for row in rows {
        strict.count(row.instructions.iter().map(|verdict| verdict.strict.unwrap_or(open)));
        loose.count(row.instructions.iter().map(|verdict| verdict.loose.unwrap_or(open)));
    }
    let ([a, b], [c, d]) = (strict.shares(), loose.shares());
    [a, b, c, d, (a + b + c + d) / 4.0]
}

/// Scores IFEval responses; fractions, as published.
pub(super) fn score(rows: &[Row]) -> Result<Scores> {
    let mut responses = HashMap::new();
    for row in rows {
        responses.insert(row.text("prompt")?, response_of(row)?);
    }
    let mut tables = [Table::new("strict"), Table::new("loose")];
    let mut verdicts = Vec::with_capacity(rows.len());
    for row in rows {
        let instructions = judge(row, responses.get(row.text("prompt")?).copied().unwrap_or_default())?;
        for verdict in &instructions {
            tables[0].count(&verdict.id, verdict.strict);
            tables[1].count(&verdict.id, verdict.loose);
        }
        let is_open = instructions.iter().any(|verdict| verdict.strict.is_none() || verdict.loose.is_none());
        let all = instructions.iter().all(|verdict| verdict.strict == Some(true));
        let note = is_open.then(|| "chance decides in the published program".to_owned());
        verdicts.push(Verdict { instructions, note, ..Verdict::new(row, (!is_open).then_some(all)) });
    }
    let decided: Vec<Verdict> =
        verdicts.iter().filter(|verdict| verdict.correct.is_some()).cloned().collect();
    let n_open = verdicts.len() - decided.len();
    let mut notes = Vec::new();
    if n_open > 0 {
        notes.push(format!("{n_open} prompts hang on chance in the published program; the values are over the others, floor and ceiling over all"));
    }
    Ok(Scores {
        evaluator: Evaluator::Ifeval,
        answers: rows.len(),
        errors: 0,
        metrics: metrics(&verdicts, &decided),
        tables: tables.into(),
        notes,
        verdicts,
    })
}

fn metrics(all: &[Verdict], decided: &[Verdict]) -> Vec<Metric> {
    let names = ["strict-prompt", "strict-instruction", "loose-prompt", "loose-instruction", "final"];
    let instructions: usize = decided.iter().map(|verdict| verdict.instructions.len()).sum();
    let trials = [decided.len(), instructions, decided.len(), instructions, 0];
    let (values, floors, ceilings) = (five(decided, false), five(all, false), five(all, true));
    let mut metrics: Vec<Metric> = (0..5)
        .map(|at| {
            let total = trials[at];
            let mut metric =
                Metric::share(names[at], Unit::Fraction, (values[at] * total as f64).round() as usize, total);
            metric.value = (!decided.is_empty()).then_some(values[at]);
            if all.len() > decided.len() {
                metric.draw = Some(Draw { floor: floors[at], ceiling: ceilings[at], sample: None });
            }
            metric
        })
        .collect();
    metrics.rotate_right(1);
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_texts_drop_lines_and_asterisks() {
        assert_eq!(
            loose_texts("a\n*b*\nc"),
            ["a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b"]
        );
        assert_eq!(loose_texts("one"), ["one"]);
        assert!(loose_texts(" ").is_empty());
    }

    #[test]
    fn marks_are_removed_in_order() {
        assert_eq!(cleaned("<2> text <|user|>"), "text");
        assert_eq!(cleaned(" text "), " text ");
        assert_eq!(cleaned("<|user|>"), "");
    }
}
