//! Whether a text that is not blank follows an instruction.

use std::sync::LazyLock;

use regex::Regex;

use super::super::json::Json;
use super::super::python::{self, SPACE_CLASS};
use super::rules::Rule;
use super::{language, pattern, punkt, tokens};

impl Rule {
    /// Whether `text` follows the rule; none if chance decides. The error is a pattern that cannot be run.
    pub(super) fn holds(&self, text: &str) -> Result<Option<bool>, String> {
        let count = |regex| pattern::count(regex, text);
        let found = |regex| pattern::found(regex, text);
        Ok(Some(match self {
            Rule::Drawn => return Ok(None),
            Rule::Existence(keywords) => {
                for keyword in keywords {
                    if !found(keyword)? {
                        return Ok(Some(false));
                    }
                }
                true
            }
            Rule::Frequency(keyword, amount) => amount.allows(count(keyword)?),
            Rule::ForbiddenWords(words) => {
                for word in words {
                    if found(word)? {
                        return Ok(Some(false));
                    }
                }
                true
            }
            Rule::LetterFrequency(letter, amount) => {
                amount.allows(text.to_lowercase().chars().filter(|c| c == letter).count())
            }
            Rule::ResponseLanguage(code) => return Ok(language::is_language(text, code)),
            Rule::Sentences(amount) => amount.allows(punkt::sentences(text).len()),
            Rule::Paragraphs(number) => paragraphs(text).is_some_and(|count| count as f64 == *number),
            Rule::Words(amount) => amount.allows(python::words(text).count()),
            Rule::NthParagraph { paragraphs, nth, first_word } => nth_paragraph(text, *nth)
                .is_some_and(|(count, word)| count as f64 == *paragraphs && word == *first_word),
            Rule::Placeholders(number) => placeholders(text) as f64 >= *number,
            Rule::Postscript(marker) => pattern::found(marker, &text.to_lowercase())?,
            Rule::BulletLists(number) => bullets(text) as f64 == *number,
            Rule::ConstrainedResponse => ["My answer is yes.", "My answer is no.", "My answer is maybe."]
                .iter()
                .any(|answer| text.contains(answer)),
            Rule::HighlightedSections(number) => highlights(text) as f64 >= *number,
            // A group inside the splitter adds pieces of its own when Python splits.
            Rule::MultipleSections(section, number) => {
                (count(section)? * section.captures_len()) as f64 >= *number
            }
            Rule::JsonFormat => is_json(text),
            Rule::Title => has_title(text),
            Rule::TwoResponses => has_two_responses(text),
            Rule::RepeatPrompt(prompt) => python::strip(text).to_lowercase().starts_with(prompt),
            Rule::EndChecker(phrase) => {
                python::strip(text).trim_matches('"').to_lowercase().ends_with(phrase)
            }
            Rule::Quotation => {
                let text = python::strip(text);
                text.chars().nth(1).is_some() && text.starts_with('"') && text.ends_with('"')
            }
            Rule::CapitalWords(amount) => {
                amount.allows(tokens::words(text).iter().filter(|word| python::is_upper(word)).count())
            }
            Rule::EnglishCapital if python::is_upper(text) => return Ok(language::is_language(text, "en")),
            Rule::EnglishLowercase if python::is_lower(text) => return Ok(language::is_language(text, "en")),
            Rule::EnglishCapital | Rule::EnglishLowercase => false,
            Rule::NoComma => !text.contains(','),
        }))
    }
}

/// Number of pieces between `***`, of which the outer ones may be blank; none if an inner one is.
fn paragraphs(text: &str) -> Option<usize> {
    static DIVIDER: LazyLock<Regex> =
        LazyLock::new(|| python::fixed(&format!(r"[{SPACE_CLASS}]?\*\*\*[{SPACE_CLASS}]?")));
    count_pieces(DIVIDER.split(text))
}

/// Number of pieces that are not blank; none if one that is neither first nor last is blank.
fn count_pieces<'a>(pieces: impl Iterator<Item = &'a str>) -> Option<usize> {
    let blank: Vec<bool> = pieces.map(python::is_blank).collect();
    let inner = blank.get(1..blank.len() - 1).unwrap_or_default();
    (!inner.contains(&true)).then(|| blank.iter().filter(|blank| !**blank).count())
}

/// Number of paragraphs, and the first word of the one at `nth`, if there is one and it is not blank.
fn nth_paragraph(text: &str, nth: f64) -> Option<(usize, String)> {
    let pieces: Vec<&str> = text.split("\n\n").collect();
    let count = pieces.iter().filter(|piece| !python::is_blank(piece)).count();
    if nth > count as f64 {
        return None;
    }
    let word = python::split(pieces.get((nth as usize).checked_sub(1)?)?).next()?;
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let word = word.split(['.', ',', '?', '!', '\'', '"']).next().unwrap_or_default();
    Some((count, word.to_lowercase()))
}

fn placeholders(text: &str) -> usize {
    static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| python::fixed(r"\[.*?\]"));
    PLACEHOLDER.find_iter(text).count()
}

/// Lines that begin with a single asterisk, plus lines that begin with a hyphen.
fn bullets(text: &str) -> usize {
    static STARS: LazyLock<Regex> =
        LazyLock::new(|| python::fixed(&format!(r"(?m)^[{SPACE_CLASS}]*\*[^*].*$")));
    static HYPHENS: LazyLock<Regex> = LazyLock::new(|| python::fixed(&format!(r"(?m)^[{SPACE_CLASS}]*-.*$")));
    STARS.find_iter(text).count() + HYPHENS.find_iter(text).count()
}

/// `*one*` and `**two**`, both looked for in the whole text.
fn highlights(text: &str) -> usize {
    static SINGLE: LazyLock<Regex> = LazyLock::new(|| python::fixed(r"\*[^\n*]*\*"));
    static DOUBLE: LazyLock<Regex> = LazyLock::new(|| python::fixed(r"\*\*[^\n*]*\*\*"));
    let matches = SINGLE.find_iter(text).chain(DOUBLE.find_iter(text));
    matches.filter(|found| !python::is_blank(found.as_str().trim_matches('*'))).count()
}

/// A JSON value, with or without the fence of a code block around it.
fn is_json(text: &str) -> bool {
    let mut text = python::strip(text);
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    let text = text.strip_suffix("```").unwrap_or(text);
    Json::parse(python::strip(text)).is_ok()
}

fn has_title(text: &str) -> bool {
    static TITLE: LazyLock<Regex> = LazyLock::new(|| python::fixed(r"<<[^\n]+>>"));
    let inside = |title: &str| !python::is_blank(title.trim_start_matches('<').trim_end_matches('>'));
    TITLE.find_iter(text).any(|title| inside(title.as_str()))
}

fn has_two_responses(text: &str) -> bool {
    let pieces: Vec<&str> = text.split("******").collect();
    let filled: Vec<&str> =
        pieces.iter().map(|piece| python::strip(piece)).filter(|piece| !piece.is_empty()).collect();
    count_pieces(pieces.into_iter()) == Some(2) && filled[0] != filled[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_discount_blank_ends_only() {
        assert_eq!(paragraphs("a\n***\nb\n***\n"), Some(2));
        assert_eq!(paragraphs("a ****** b"), None);
        assert_eq!(paragraphs("***"), Some(0));
        assert_eq!(paragraphs("a"), Some(1));
    }

    #[test]
    fn nth_paragraph_keeps_markdown_and_blank_indices() {
        assert_eq!(nth_paragraph("one\n\n'\"Two, three", 2.0), Some((2, "two".to_owned())));
        assert_eq!(nth_paragraph("**Hello** x", 1.0), Some((1, "**hello**".to_owned())));
        assert_eq!(nth_paragraph("one\n\n\n\ntwo", 2.0), None);
    }

    #[test]
    fn highlights_count_both_ways() {
        assert_eq!(highlights("***x***"), 2);
        assert_eq!(highlights("* a * b"), 1);
        assert_eq!(highlights("**** *b*"), 1);
        assert_eq!(bullets("* a\n- b\n---\n*c*\n**d**\n• e\n1. f"), 4);
    }

    #[test]
    fn two_responses_must_differ() {
        assert!(has_two_responses("a\n******\nb") && !has_two_responses("a ****** a"));
        assert!(has_two_responses("******a******b******") && !has_two_responses("a************b"));
    }
}
