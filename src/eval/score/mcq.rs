//! VoiceBench multiple choice: the letter is found by an ordered list of phrases.
//!
//! The first phrase that occurs anywhere in the lower-cased response wins, whatever else the response says, and
//! within one phrase the lowest letter wins. Phrases know no word boundaries, so "the answer is clearly D" reads as
//! C; this is how the published program reads it. A response without any phrase gets a random letter there.

use std::sync::LazyLock;

use super::input::Row;
use super::{Chance, Evaluator, Metric, Scores, Unit, Verdict, drawn_accuracy, python};
use crate::error::Result;

const LETTERS: [char; 4] = ['a', 'b', 'c', 'd'];
/// Stands for the letter in the phrases below, all of which are in small letters.
const SLOT: char = 'X';

/// Phrases in order. Where a phrase lists endings, each of them makes a phrase of its own, in the order given.
const PHRASES: &[(&str, &[&str])] = &[
    // 1: Chinese
    ("答案是X", &[""]),
    ("答案是 X", &[""]),
    ("答案应该是X", &[""]),
    ("答案应该是 X", &[""]),
    ("答案是选项X", &[""]),
    ("答案就是选项X", &[""]),
    ("答案是‘X", &[""]),
    ("是X：", &[""]),
    ("答案选X", &[""]),
    ("X是正确", &[""]),
    ("选项X是最合适的", &[""]),
    // 2: the answer in bold or in quotes
    ("answer is **X", &[""]),
    ("answer is: **X", &[""]),
    ("answer to the question is: **X", &[""]),
    ("answer to the multiple-choice question is **X", &[""]),
    ("the answer is 'X'", &[""]),
    // 3 to 6: plain statements
    ("X is the best answer", &[""]),
    ("the answer is X", &[""]),
    ("the correct answer is X", &[""]),
    ("would select X", &[""]),
    ("would choose X", &[""]),
    ("would select option X", &[""]),
    ("would choose option X", &[""]),
    // 7: double quotes
    ("is \"X", &["\"", "."]),
    // 8: bold
    ("is **X", &[",", ":", ")", "."]),
    ("is: **X", &[")", ".", ":", "**"]),
    ("be **X", &[",", ")", ":"]),
    ("is: \n\n**X", &[")", "**"]),
    ("is likely **X**", &[""]),
    ("is option **X**", &[""]),
    ("is:\n**X.", &[""]),
    ("is:\n\n**X.", &[""]),
    ("is **X (", &[""]),
    ("as **X:", &[""]),
    ("be option **X:", &[""]),
    ("is therefore option **X:", &[""]),
    ("suggests **X)", &[""]),
    ("with **X)", &[""]),
    ("be to **X)", &[""]),
    ("is: \n\nX)", &[""]),
    ("is typically \"X)", &[""]),
    // 9: would be
    ("would be X", &[""]),
    ("would be option X", &[""]),
    ("would be (X)", &[""]),
    ("would be option (X)", &[""]),
    // 10: comma
    ("is X,", &[""]),
    ("is typically X", &[",", "."]),
    ("i'd say X.", &[""]),
    // 11: option and punctuation
    ("option X", &[".", ":", ","]),
    ("the answer is:\n**X", &[""]),
    ("is X", &[":", "."]),
    ("is: X.", &[""]),
    ("is (X)", &[""]),
    ("is:\n**X)", &[""]),
    ("is likely **X:", &[""]),
    ("is the **X)", &[""]),
    // 12: colon and line break
    (":\nX", &[".", ")", ","]),
    (":\n\nX", &[".", ")", ","]),
    (": \nX.", &[""]),
    (":  \nX.", &[""]),
    (": \n\nX.", &[""]),
    // 13
    ("is most likely **X:", &[""]),
    ("(X) would be", &[""]),
    ("is X)", &[""]),
    ("is: X)", &[""]),
    ("is:\n\nX:", &[""]),
    ("is: **X,", &[""]),
    ("(option X)", &[""]),
    ("select option \"X\"", &[""]),
    ("is: X", &[""]),
    // 14: rarer wrappers
    ("is typically **X", &[",", ":", ")", "."]),
    ("is most likely **X", &[",", ":", ")", "."]),
    ("is often **X", &[",", ":", ")", "."]),
    ("is likely: **X", &[",", ":", ")", "."]),
    ("is **X**", &[""]),
    ("be **X**", &[""]),
    ("would be: **X**.", &[""]),
    ("question is **X**", &[""]),
    ("was option **X**", &[""]),
    ("is option **X**", &[""]),
    ("corresponds to option **X**", &[""]),
    ("closest to option **X**", &[""]),
    ("is option **X ", &[""]),
    ("is the **X** ", &[""]),
    ("is:\n**X", &[":", " "]),
    ("is:  \n**X:", &[""]),
    ("is:\n  \n**X:", &[""]),
    ("is:\n\n**X", &[""]),
    ("is:  \nX)", &[""]),
    ("be: \n\nX)", &[""]),
    ("corresponds to:\n- **X:", &[""]),
    ("is likely 'X'", &[""]),
    ("is option 'X'", &[""]),
    ("would be 'X'", &[""]),
    ("known as 'X'", &[""]),
    ("the answer to the question is 'X'", &[""]),
    ("is 'X)", &[""]),
    ("is \"X)", &[""]),
    ("is likely \"X)", &[""]),
    ("question is X (", &[""]),
    ("option **X:", &[""]),
];

/// After [`latex`]: the last resort, before the bare letter.
const LAST_RESORT: &[(&str, &[&str])] = &[
    (" X", &[".", ",", ":", ")"]),
    ("**X", &[".", ")"]),
    ("\"X", &[".", ",", ":"]),
    ("(X)", &[""]),
    ("\"X\"", &[""]),
];

/// Group 15: an opening bracket of LaTeX after "is", an optional command, the letter, and its ending.
fn latex() -> Vec<String> {
    let mut phrases = Vec::new();
    for lead in ["is ", "is: ", "is:\n", "is:\n\n"] {
        for open in ["\\( ", "\\[ "] {
            for command in ["", "\\boxed{", "\\text{", "\\boxed{\\text{", "\\textbf{", "\\mathbf{"] {
                phrases
                    .extend([" ", "}", ")", ".", ":"].map(|end| format!("{lead}{open}{command}{SLOT}{end}")));
            }
        }
        phrases.push(format!("{lead}\\({SLOT}\\)"));
        phrases.push(format!("{lead}\\(\\text{{{SLOT}."));
    }
    phrases.push(format!("is }} \\mathbf{{{SLOT}.")); // a misprint of the published list
    phrases
}

/// Every phrase, for every letter, in the order of the search.
static SEARCH: LazyLock<Vec<(String, char)>> = LazyLock::new(|| {
    let expand = |table: &[(&str, &[&str])]| -> Vec<String> {
        table.iter().flat_map(|(stem, ends)| ends.iter().map(move |end| format!("{stem}{end}"))).collect()
    };
    let phrases = expand(PHRASES).into_iter().chain(latex()).chain(expand(LAST_RESORT));
    phrases
        .flat_map(|phrase| {
            LETTERS.map(|letter| (phrase.replace(SLOT, letter.encode_utf8(&mut [0; 4])), letter))
        })
        .collect()
});

/// The letter a response is read as, as a capital; none where the published program draws one.
fn letter(response: &str) -> Option<char> {
    let lower = response.to_lowercase();
    let text = python::without_turn_mark(&lower);
    if let Some((_, letter)) = SEARCH.iter().find(|(phrase, _)| text.contains(phrase)) {
        return Some(letter.to_ascii_uppercase());
    }
    let mut chars = text.chars();
    let first = chars.next().filter(|c| LETTERS.contains(c))?;
    matches!(chars.next(), None | Some('.' | ',' | ':' | ')')).then(|| first.to_ascii_uppercase())
}

/// Scores multiple-choice responses; percentages, as published.
pub(super) fn score(rows: &[Row<'_>], chance: &mut Chance) -> Result<Scores> {
    let mut verdicts = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(reason) = row.failure() {
            verdicts.push(Verdict::failed(row, reason));
            continue;
        }
        let reference = row.text("reference")?;
        let read_as = letter(row.text("response")?).map(String::from);
        let correct = read_as.as_deref().map(|letter| letter == reference);
        verdicts.push(Verdict { read_as, ..Verdict::new(row, correct) });
    }
    let fails = verdicts.iter().filter(|verdict| verdict.correct.is_none()).count();
    Ok(Scores {
        evaluator: Evaluator::Mcq,
        answers: rows.len(),
        metrics: vec![
            drawn_accuracy(&verdicts, 4, chance),
            Metric::share("fail", Unit::Percent, fails, rows.len()),
        ],
        tables: Vec::new(),
        notes: Vec::new(),
        verdicts,
    })
}

#[cfg(test)]
mod tests {
    use super::letter;

    #[test]
    fn order_decides_and_words_have_no_bounds() {
        let cases = [
            ("The answer is clearly D", Some('C')),
            ("the correct answer is D, but the answer is B", Some('B')),
            ("it is D, no, it is C.", Some('D')),
            ("B ", None),
            ("b. text", Some('B')),
            ("<2> \nD", Some('D')),
            ("is \\(\\boxed{C}", None),
            ("I would choose any", Some('A')),
        ];
        for (response, expected) in cases {
            assert_eq!(letter(response), expected, "{response}");
        }
    }
}
