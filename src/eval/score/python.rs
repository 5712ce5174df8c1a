//! Text operations with the meaning they have in Python, in which the published evaluators are written.
//!
//! Rust's own differ in small ways that change verdicts: Python's blanks include U+001C to U+001F, and its word
//! characters are letters, numbers and `_`, without the vowel signs of Indic scripts.

use std::sync::LazyLock;

use regex::Regex;

/// The members of Python's `\w`, for use inside the brackets of a character class.
pub(super) const WORD_CLASS: &str = r"\p{L}\p{N}_";
/// The members of Python's `\s`, for use inside the brackets of a character class.
pub(super) const SPACE_CLASS: &str = r"\s\x1c-\x1f";

/// Compiles a pattern that is fixed in the source.
///
/// The unit tests build every such pattern, so that the empty expression never replaces one.
pub(super) fn fixed(pattern: &str) -> Regex {
    let compiled = Regex::new(pattern);
    debug_assert!(compiled.is_ok(), "{pattern}");
    compiled.unwrap_or_else(|_| Regex::new("").unwrap_or_else(|_| unreachable!("the empty pattern is valid")))
}

/// `str.isspace` of one character.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `\w`.
pub(super) fn is_word(c: char) -> bool {
    static WORD: LazyLock<Regex> = LazyLock::new(|| fixed(&format!("^[{WORD_CLASS}]$")));
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    WORD.is_match(c.encode_utf8(&mut [0; 4]))
}

/// `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split()`.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|piece| !piece.is_empty())
}

/// True if nothing is left after stripping.
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(is_space)
}

/// All matches of `\w+`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| fixed(&format!("[{WORD_CLASS}]+")));
    WORDS.find_iter(text).map(|found| found.as_str())
}

/// Title-case letters such as `ǅ`: neither upper nor lower in Python, and they spoil both.
fn is_title(c: char) -> bool {
    matches!(c, '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}' | '\u{1f88}'..='\u{1f8f}' | '\u{1f98}'..='\u{1f9f}'
        | '\u{1fa8}'..='\u{1faf}' | '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}')
}

/// `str.isupper`: at least one capital, no small and no title-case letter.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_title(c))
}

/// `str.islower`: at least one small letter, no capital and no title-case letter.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_title(c))
}

/// The value of a decimal digit of any script.
pub(super) fn decimal_digit(c: char) -> Option<char> {
    static DIGIT: LazyLock<Regex> = LazyLock::new(|| fixed(r"^\p{Nd}$"));
    if c.is_ascii() {
        return c.is_ascii_digit().then_some(c);
    }
    let is_digit = |c: char| DIGIT.is_match(c.encode_utf8(&mut [0; 4]));
    if !is_digit(c) {
        return None;
    }
    // Every script's digits lie in one run 0 to 9, so the distance to the start of the run is the value. Two runs
    // may touch (the mathematical digits), hence the remainder.
    let below = (1..).take_while(|step| char::from_u32(u32::from(c) - step).is_some_and(is_digit)).count();
    char::from_digit(below as u32 % 10, 10)
}

/// `float(text)` for a text: a decimal number with optional blanks around it, sign, exponent, single `_` between
/// digits, digits of any script, and the names of infinity and not-a-number.
pub(super) fn float(text: &str) -> Option<f64> {
    let text: String = strip(text).chars().map(|c| decimal_digit(c).unwrap_or(c)).collect();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
    match unsigned.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => {
            return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    static DECIMAL: LazyLock<Regex> = LazyLock::new(|| {
        let digits = "[0-9](?:_?[0-9])*";
        fixed(&format!(r"^(?:{digits}\.?(?:{digits})?|\.{digits})(?:[eE][+-]?{digits})?$"))
    });
    DECIMAL.is_match(unsigned).then(|| text.replace('_', "")).and_then(|text| text.parse().ok())
}

/// Drops a leading `<1>`, `<2>` or `<3>` and, if it was there, strips the rest.
pub(super) fn without_turn_mark(text: &str) -> &str {
    ["<1>", "<2>", "<3>"].iter().find_map(|mark| text.strip_prefix(mark)).map_or(text, strip)
}

/// Drops a trailing `<|user|>` and, if it was there, strips the rest.
pub(super) fn without_user_mark(text: &str) -> &str {
    text.strip_suffix("<|user|>").map_or(text, strip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_leave_out_vowel_signs_and_keep_underscores() {
        assert_eq!(words("snake_case don't 你好").collect::<Vec<_>>(), ["snake_case", "don", "t", "你好"]);
        assert_eq!(words("हिन्दी").count(), 3);
        assert!(is_word('é') && is_word('²') && !is_word('\u{94d}') && !is_word('-'));
    }

    #[test]
    fn case_tests_need_a_cased_letter() {
        assert!(is_upper("A-1") && !is_upper("123") && !is_upper("ǅ") && !is_upper("AªB"));
        assert!(is_lower("straße 5") && !is_lower("5") && !is_lower("aB"));
    }

    #[test]
    fn floats_are_read_as_python_reads_them() {
        let cases = [
            ("4_0", 40.0),
            (" 4 \n", 4.0),
            ("５", 5.0),
            ("٤.٥", 4.5),
            ("5.", 5.0),
            (".5", 0.5),
            ("+1e1", 10.0),
        ];
        for (text, value) in cases {
            assert_eq!(float(text), Some(value), "{text}");
        }
        for text in ["", ".", "4__0", "_4", "4/5", "0x4", "1,5", "e5", "1e", "[[4]]"] {
            assert_eq!(float(text), None, "{text}");
        }
        assert_eq!(float("-Infinity"), Some(f64::NEG_INFINITY));
        assert!(float("nan").is_some_and(f64::is_nan));
        assert_eq!(float("𝟗"), Some(9.0));
    }
}
