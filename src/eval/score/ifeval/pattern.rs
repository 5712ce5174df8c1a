//! Patterns in Python's regular-expression dialect.
//!
//! IFEval uses keywords, markers and section names of the data set as patterns without escaping them, so they
//! have to mean here what they mean there. Translated are: `\w \W \s \S \b \B` with Python's classes, `$` and `\Z`,
//! `{` and `[` where Python takes them literally, and, when case is ignored, the dotted and dotless i.

use fancy_regex::{Regex, RegexBuilder};

use super::super::python::{SPACE_CLASS, WORD_CLASS};

/// Compiles `pattern`; the error says what is wrong with it.
pub(super) fn compile(pattern: &str, ignore_case: bool) -> Result<Regex, String> {
    let translated = translate(pattern, ignore_case);
    let flags = if ignore_case { "(?i)" } else { "" };
    RegexBuilder::new(&format!("{flags}{translated}"))
        .build()
        .map_err(|error| format!("`{pattern}` is no usable regular expression: {error}"))
}

/// Whether the pattern occurs.
pub(super) fn found(regex: &Regex, text: &str) -> Result<bool, String> {
    regex.is_match(text).map_err(|error| gave_up(regex, &error))
}

fn gave_up(regex: &Regex, error: &fancy_regex::Error) -> String {
    format!("the regular expression `{}` gives up: {error}", regex.as_str())
}

/// Number of matches that do not overlap.
pub(super) fn count(regex: &Regex, text: &str) -> Result<usize, String> {
    let mut matches = 0;
    for found in regex.find_iter(text) {
        found.map_err(|error| gave_up(regex, &error))?;
        matches += 1;
    }
    Ok(matches)
}

/// The pattern in the dialect of the regular-expression library.
pub(super) fn translate(pattern: &str, ignore_case: bool) -> String {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '\\' => {
                let escaped = chars.get(at + 1).copied();
                out.push_str(&outside_escape(escaped));
                at += 2;
            }
            '[' => at = class(&chars, at, &mut out),
            '{' => at = brace(&chars, at, &mut out),
            '}' => {
                out.push_str(r"\}");
                at += 1;
            }
            '$' => {
                out.push_str(r"(?=\n?\z)");
                at += 1;
            }
            'i' | 'I' if ignore_case && !(at > 0 && is_group_name(&chars, at)) => {
                out.push_str("[iıİ]");
                at += 1;
            }
            c => {
                out.push(c);
                at += 1;
            }
        }
    }
    out
}

/// True inside the head of a group such as `(?i)` or `(?P<name>`.
fn is_group_name(chars: &[char], at: usize) -> bool {
    let head = chars[..at].iter().rev().take_while(|c| c.is_alphanumeric() || matches!(c, '<' | '_' | '-'));
    let before = at - head.count();
    before >= 2 && chars[before - 1] == '?' && chars[before - 2] == '('
}

fn outside_escape(escaped: Option<char>) -> String {
    let bound = format!("(?:(?<=[{WORD_CLASS}])(?![{WORD_CLASS}])|(?<![{WORD_CLASS}])(?=[{WORD_CLASS}]))");
    match escaped {
        Some('w') => format!("[{WORD_CLASS}]"),
        Some('W') => format!("[^{WORD_CLASS}]"),
        Some('s') => format!("[{SPACE_CLASS}]"),
        Some('S') => format!("[^{SPACE_CLASS}]"),
        Some('b') => bound,
        Some('B') => format!("(?!{bound})"),
        Some('Z') => r"\z".to_owned(),
        Some(c) if c.is_ascii() => format!("\\{c}"),
        Some(c) => c.to_string(),
        None => "\\".to_owned(),
    }
}

/// Copies the class that opens at `at`; returns where it ends. Python knows no nested classes and no set operators.
fn class(chars: &[char], at: usize, out: &mut String) -> usize {
    let mut next = at + 1;
    out.push('[');
    if chars.get(next) == Some(&'^') {
        out.push('^');
        next += 1;
    }
    if chars.get(next) == Some(&']') {
        out.push_str(r"\]");
        next += 1;
    }
    while let Some(c) = chars.get(next) {
        next += 1;
        match c {
            ']' => {
                out.push(']');
                return next;
            }
            '\\' => {
                match chars.get(next) {
                    Some('w') => out.push_str(WORD_CLASS),
                    Some('s') => out.push_str(SPACE_CLASS),
                    Some('b') => out.push_str(r"\x08"),
                    Some(c) if c.is_ascii() => out.extend(['\\', *c]),
                    Some(c) => out.push(*c),
                    None => {}
                }
                next += 1;
            }
            '[' | '&' | '~' => out.extend(['\\', *c]),
            '-' if chars.get(next) == Some(&'-') => out.push_str(r"\-"),
            c => out.push(*c),
        }
    }
    next
}

/// Copies a repeat count such as `{2}`, `{,3}`, or makes a brace literal that is none.
fn brace(chars: &[char], at: usize, out: &mut String) -> usize {
    if let Some(length) = chars[at + 1..].iter().position(|c| *c == '}') {
        let inner: String = chars[at + 1..at + 1 + length].iter().collect();
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        let is_repeat = match inner.split_once(',') {
            None => !inner.is_empty() && digits(&inner),
            Some((low, high)) => digits(low) && digits(high),
        };
        if is_repeat && at > 0 {
            let from = if inner.starts_with(',') { "0" } else { "" };
            out.push_str(&format!("{{{from}{inner}}}"));
            return at + length + 2;
        }
    }
    out.push_str(r"\{");
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> bool {
        compile(pattern, true).unwrap().is_match(text).unwrap()
    }

    #[test]
    fn patterns_mean_what_they_mean_in_python() {
        assert!(found("a.c", "ABC") && !found("a.c", "a\nc"));
        assert!(found(r"\bco-op\b", "The CO-OP shop") && !found(r"\b_x\b", "a_x b"));
        assert!(found("{name}", "{NAME}") && found("[[x]", "[") && found("x{,2}y", "y"));
        assert!(found("end$", "the end\n") && !found("end$", "the end\n\n"));
        assert!(found("i", "İ") && !found("straße", "STRASSE"));
        assert!(compile("a**", true).is_err() && compile("(", true).is_err());
    }

    #[test]
    fn matches_do_not_overlap() {
        assert_eq!(count(&compile("aa", true).unwrap(), "aaa"), Ok(1));
    }
}
