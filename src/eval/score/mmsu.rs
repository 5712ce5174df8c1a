//! MMSU: a response is one letter, and right if the choice under it is the answer.
//!
//! Kept from the published program: line breaks are deleted after stripping; the first character counts if it is
//! A to D, so "Because" reads as B; otherwise the last but one ("(C)", "is C."); a small letter reads as nothing.
//! A response that is missing, null or no text is wrong, not an error. A choice that is missing equals an answer
//! that is missing. Every row counts.

use super::input::Row;
use super::json::Json;
use super::{Evaluator, Metric, Scores, Table, Unit, Verdict, python};

/// The letter a response is read as.
fn letter(response: &str) -> Option<char> {
    let text: Vec<char> = python::strip(response).chars().filter(|c| *c != '\n').collect();
    if text.iter().collect::<String>() == "None" {
        return None;
    }
    let is_choice = |c: &&char| matches!(c, 'A'..='D');
    let last_but_one = || text.len().checked_sub(2).and_then(|at| text.get(at)).filter(is_choice);
    text.first().filter(is_choice).or_else(last_but_one).copied()
}

fn is_right(row: &Row, letter: char) -> bool {
    let nothing = Json::Text(String::new());
    let key = format!("choice_{}", letter.to_ascii_lowercase());
    let choice = row.get(&key).unwrap_or(&nothing);
    choice.same_as(row.get("answer_gt").unwrap_or(&nothing))
}

/// Scores MMSU answers; fractions, as published.
pub(super) fn score(rows: &[Row]) -> Scores {
    let mut tables = ["category", "sub-category", "sub-sub-category"].map(Table::new);
    let mut verdicts = Vec::with_capacity(rows.len());
    for row in rows {
        let letter = row.get("response").and_then(Json::as_text).and_then(letter);
        let right = letter.is_some_and(|letter| is_right(row, letter));
        let mut path = String::new();
        for table in &mut tables {
            if !path.is_empty() || table.name != "category" {
                path.push_str(" / ");
            }
            path.push_str(&row.label(table.name));
            table.count(&path, Some(right));
        }
        verdicts.push(Verdict { read_as: letter.map(String::from), ..Verdict::new(row, Some(right)) });
    }
    let right = verdicts.iter().filter(|verdict| verdict.correct == Some(true)).count();
    let unread = verdicts.iter().filter(|verdict| verdict.read_as.is_none()).count();
    Scores {
        evaluator: Evaluator::Mmsu,
        answers: rows.len(),
        errors: 0,
        metrics: vec![
            Metric::share("accuracy", Unit::Fraction, right, rows.len()),
            Metric::share("unread", Unit::Fraction, unread, rows.len()),
        ],
        tables: tables.into(),
        notes: Vec::new(),
        verdicts,
    }
}

#[cfg(test)]
mod tests {
    use super::letter;

    #[test]
    fn first_or_last_but_one_character() {
        let cases =
            [("Because", Some('B')), ("(C)", Some('C')), ("is C.", Some('C')), ("b", None), ("-A", None)];
        for (response, expected) in cases {
            assert_eq!(letter(response), expected, "{response}");
        }
        assert_eq!(letter(" \n D\n"), Some('D'));
        assert_eq!(letter("the answer is B\n)"), Some('B'));
        assert_eq!(letter("None"), None);
        assert_eq!(letter(""), None);
    }
}
