//! English sentence splitting by the Punkt method (Kiss and Strunk, Computational Linguistics 32, 2006).
//!
//! A `.`, `?` or `!` before a blank or a closing mark may end a sentence. Whether it does is decided on the word
//! before it and the word after it: known abbreviations, initials, numbers and ellipses do not end one unless the
//! next word looks like a beginning, which is known from how words were written in the training text. Closing quotes
//! and brackets after the stop go with the sentence that they close. The decisions are those of NLTK 3.10 with its
//! English model, whose tables are in `punkt_tables.rs` and `punkt_en.txt`.

use std::sync::LazyLock;

use regex::Regex;

use super::super::python;
use super::punkt_tables::{self as tables, Writing};

/// Blanks as NLTK's patterns know them, which are Unicode's and not Python's.
fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// Marks that cannot be inside a word, the full stop aside.
fn is_outside_word(c: char) -> bool {
    matches!(c, ')' | '"' | ';' | '}' | ']' | '*' | ':' | '@' | '\'' | '(' | '{' | '[' | '!' | '?')
        || matches!(c, '‘' | '’' | '“' | '”' | '«' | '»')
}

/// Marks that cannot begin a word.
fn is_no_word_start(c: char) -> bool {
    matches!(c, '(' | '"' | '`' | '{' | '[' | ':' | ';' | '&' | '#' | '*' | '@' | ')' | '}' | ']' | '-' | ',')
}

/// Closing marks that belong to the sentence before them.
fn is_closing(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '}' | '‘' | '’' | '“' | '”' | '«' | '»')
}

/// The sentences of a text, without the blanks between them.
pub(super) fn sentences(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let spans = realigned(&chars, &split_points(&chars));
    spans.into_iter().map(|(from, to)| chars[from..to].iter().collect()).collect()
}

/// A place where a sentence may end.
struct Candidate {
    /// Position of the `.`, `?` or `!`.
    mark: usize,
    /// Start of the word before it.
    word: usize,
    /// Start of the next word if a blank follows the mark.
    next: Option<usize>,
    /// End of what follows and has a say: the next word, or one closing mark.
    end: usize,
}

fn end_of_word(chars: &[char], from: usize) -> usize {
    (from..chars.len()).find(|at| is_space(chars[*at])).unwrap_or(chars.len())
}

/// Every candidate; of several marks after one word only the last counts.
fn candidates(chars: &[char]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let (mut from, mut to) = (0, 0);
    for mark in (0..chars.len()).filter(|at| matches!(chars[*at], '.' | '?' | '!')) {
        let after = mark + 1;
        let (next, end) = match chars.get(after) {
            Some(c) if is_outside_word(*c) => (None, after + 1),
            Some(c) if is_space(*c) => match (after..chars.len()).find(|at| !is_space(chars[*at])) {
                Some(next) => (Some(next), end_of_word(chars, next)),
                None => continue,
            },
            _ => continue,
        };
        // The word before begins after the last blank since the mark before; a blank in the very first place is
        // overlooked, as in the original.
        let blank = (to..mark).rev().find(|at| matches!(chars[*at], ' ' | '\t'..='\r')).filter(|at| *at > to);
        let word = blank.map_or(from, |at| at + 1);
        if word < to {
            found.pop();
        }
        found.push(Candidate { mark, word, next, end });
        (from, to) = (word, mark);
    }
    found
}

/// Start and end of every sentence before closing marks are moved.
fn split_points(chars: &[char]) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    let mut start = 0;
    for candidate in candidates(chars) {
        if ends_sentence(&chars[candidate.word..candidate.end]) {
            spans.push((start, candidate.mark + 1));
            start = candidate.next.unwrap_or(candidate.mark + 1);
        }
    }
    let end = chars.iter().rposition(|c| !python::is_space(*c)).map_or(0, |at| at + 1);
    spans.push((start, end.max(start)));
    spans
}

/// Moves closing marks at the start of a sentence to the one before it.
fn realigned(chars: &[char], spans: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut moved = 0;
    for (index, (from, to)) in spans.iter().enumerate() {
        let from = from + moved;
        moved = 0;
        if let Some((next_from, next_to)) = spans.get(index + 1)
            && let Some((marks, skipped)) = closing_marks(&chars[*next_from..*next_to])
        {
            out.push((from, next_from + marks));
            moved = skipped;
        } else if from < *to {
            out.push((from, *to));
        }
    }
    out
}

/// Number of closing marks that begin a text, and the same with the blanks after them; none unless a blank, a dash
/// or the end of a line follows.
fn closing_marks(chars: &[char]) -> Option<(usize, usize)> {
    let most = chars.iter().take_while(|c| is_closing(**c)).count();
    (1..=most).find_map(|marks| {
        let rest = &chars[marks..];
        let blanks = rest.iter().take_while(|c| is_space(**c)).count();
        let ends = blanks > 0 || rest.is_empty() || rest.starts_with(&['-', '-']);
        ends.then_some((marks, marks + blanks))
    })
}

/// A word with what is known about it.
#[derive(Debug)]
struct Token {
    text: String,
    ends_sentence: bool,
    is_abbreviation: bool,
    is_ellipsis: bool,
}

impl Token {
    /// The first pass: what the word alone tells.
    fn new(text: String) -> Token {
        let mut token = Token { text, ends_sentence: false, is_abbreviation: false, is_ellipsis: false };
        let text = token.text.as_str();
        if matches!(text, "." | "?" | "!") {
            token.ends_sentence = true;
        } else if text.len() > 1 && text.chars().all(|c| c == '.') {
            token.is_ellipsis = true;
        } else if let Some(stem) = text.strip_suffix('.')
            && !stem.ends_with('.')
        {
            let stem = stem.to_lowercase();
            let last = stem.rsplit('-').next().unwrap_or_default();
            token.is_abbreviation = tables::is_abbreviation(&stem) || tables::is_abbreviation(last);
            token.ends_sentence = !token.is_abbreviation;
        }
        token
    }

    /// The small form under which the word is looked up; numbers are all alike.
    fn kind(&self) -> String {
        static NUMBER: LazyLock<Regex> = LazyLock::new(|| python::fixed(r"^-?[.,]?\p{Nd}[\p{Nd},.\-]*\.?$"));
        let lower = self.text.to_lowercase();
        if NUMBER.is_match(&lower) { "##number##".to_owned() } else { lower }
    }

    fn kind_without_stop(&self) -> String {
        let kind = self.kind();
        match kind.strip_suffix('.') {
            Some(stem) if !stem.is_empty() => stem.to_owned(),
            _ => kind,
        }
    }

    /// The small form; a stop that ends a sentence is no part of it.
    fn kind_as_next(&self) -> String {
        if self.ends_sentence { self.kind_without_stop() } else { self.kind() }
    }

    /// A letter and a stop, such as `J.`.
    fn is_initial(&self) -> bool {
        let mut chars = self.text.chars();
        let is_letter = |c: char| python::is_word(c) && python::decimal_digit(c).is_none();
        chars.next().is_some_and(is_letter) && chars.next() == Some('.') && chars.next().is_none()
    }

    fn starts_with(&self, case: fn(char) -> bool) -> bool {
        self.text.chars().next().is_some_and(case)
    }
}

/// Whether a word begins a sentence, by the way it is written here and in the training text; none if unsure.
fn begins_sentence(token: &Token) -> Option<bool> {
    if matches!(token.text.as_str(), ";" | ":" | "," | "." | "!" | "?") {
        return Some(false);
    }
    let kind = token.kind_as_next();
    let writing = tables::writing(&kind);
    if token.starts_with(char::is_uppercase) && writing == Writing::SmallInside {
        return Some(true);
    }
    let never_began_small = writing != Writing::SmallInside || !tables::began_small(&kind);
    if token.starts_with(char::is_lowercase) && never_began_small { Some(false) } else { None }
}

/// The second pass: corrects a token that ends in a stop by the one after it.
fn reconsider(token: &mut Token, next: &Token) {
    if !token.text.ends_with('.') {
        return;
    }
    let (kind, next_kind) = (token.kind_without_stop(), next.kind_as_next());
    if tables::is_collocation(&kind, &next_kind) {
        token.ends_sentence = false;
        token.is_abbreviation = true;
        return;
    }
    let is_initial = token.is_initial();
    if (token.is_abbreviation || token.is_ellipsis) && !is_initial {
        let starter = next.starts_with(char::is_uppercase) && tables::is_starter(&next_kind);
        if begins_sentence(next) == Some(true) || starter {
            token.ends_sentence = true;
            return;
        }
    }
    if is_initial || kind == "##number##" {
        let always_capital =
            || next.starts_with(char::is_uppercase) && tables::writing(&next_kind) == Writing::NeverSmall;
        let continues = match begins_sentence(next) {
            Some(begins) => !begins,
            None => is_initial && always_capital(),
        };
        if continues {
            token.ends_sentence = false;
            token.is_abbreviation = true;
        }
    }
}

/// Whether a context, the word with the mark and what follows it, holds the end of a sentence before its last token.
fn ends_sentence(context: &[char]) -> bool {
    let mut tokens: Vec<Token> = context.split(|c| *c == '\n').flat_map(tokenize).map(Token::new).collect();
    for at in 1..tokens.len() {
        let (before, after) = tokens.split_at_mut(at);
        reconsider(&mut before[at - 1], &after[0]);
    }
    tokens.iter().rev().skip(1).any(|token| token.ends_sentence)
}

/// Length of a run of hyphens, of stops, or of stops with single blanks between them; none if there is none here.
fn long_mark(line: &[char]) -> Option<usize> {
    for mark in ['-', '.'] {
        let run = line.iter().take_while(|c| **c == mark).count();
        if run >= 2 {
            return Some(run);
        }
    }
    let pairs = line.chunks_exact(2).take_while(|pair| pair[0] == '.' && is_space(pair[1])).count();
    let spaced = (2..=pairs).rev().find(|pairs| line.get(2 * pairs) == Some(&'.'));
    spaced.map(|pairs| 2 * pairs + 1)
}

/// True if a word ends before `at`.
fn word_ends(line: &[char], at: usize) -> bool {
    let ends = |at: usize| {
        line.get(at).is_none_or(|c| is_space(*c) || is_outside_word(*c)) || long_mark(&line[at..]).is_some()
    };
    ends(at) || (line[at] == ',' && ends(at + 1))
}

/// The words and marks of one line; stops stay with the word before them.
fn tokenize(line: &[char]) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < line.len() {
        if is_space(line[at]) {
            at += 1;
            continue;
        }
        let end = match long_mark(&line[at..]) {
            Some(length) => at + length,
            None if is_no_word_start(line[at]) => at + 1,
            None => (at + 1..=line.len()).find(|end| word_ends(line, *end)).unwrap_or(line.len()),
        };
        tokens.push(line[at..end].iter().collect());
        at = end;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::sentences;

    #[test]
    fn abbreviations_quotes_and_numbers() {
        let cases = [
            ("Dr. Lind moved to Oslo in Jan. 2019. She did!", 2),
            ("The U.S. economy grew. So did the U.K. economy.", 2),
            ("He said \"Go.\" Then he left.", 2),
            ("1. Boil water.\n2. Add tea.", 4),
            ("Wait... what? No! Yes.", 3),
            ("Well... I see.", 2),
            ("No space.Here it is", 1),
            ("Very bad acting!!! I promise.", 2),
            ("Written by J. Bach. It is old.", 2),
            ("(He left.) (She came.)", 2),
        ];
        for (text, count) in cases {
            assert_eq!(sentences(text).len(), count, "{text}: {:?}", sentences(text));
        }
    }

    #[test]
    fn blank_text_has_no_sentence() {
        assert!(sentences("").is_empty() && sentences(" \n").is_empty());
    }
}
