//! Word tokens as NLTK's `word_tokenize` finds them: Punkt sentences, each cut by the Penn Treebank rules.
//!
//! The rules put blanks around what is to stand alone, one after the other, and split at blanks in the end. So
//! "DON'T" becomes "DO" and "N'T", brackets and quotes stand alone, and a word with a hyphen stays whole. Only the
//! full stop that ends a sentence leaves its word.

use std::sync::LazyLock;

use fancy_regex::{Captures, Regex};

use super::super::python;
use super::{pattern, punkt};

/// A pattern of Python's dialect, whether it ignores case, and what replaces its matches.
type Step = (&'static str, bool, &'static str);

const STEPS: &[Step] = &[
    // opening quotes
    ("[«“‘„]|[`]+", false, " $0 "),
    ("^\"", false, "``"),
    ("``", false, " $0 "),
    (r#"([ \(\[{<])("|'{2})"#, false, "$1 `` "),
    (r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", true, "$0 "),
    // punctuation
    (r#"([^.])(\.)([\]\)}>"'»”’ ]*)\s*$"#, false, "$1 $2 $3 "),
    (r"([:,])([^\d])", false, " $1 $2"),
    (r"[:,]$", false, " $0 "),
    (r"\.{2,}", false, " $0 "),
    ("[;@#$%&]", false, " $0 "),
    ("[\u{2012}-\u{2015}]", false, " $0 "),
    (r#"([^.])(\.)([\]\)}>"']*)\s*$"#, false, "$1 $2$3 "),
    ("[?!]", false, " $0 "),
    ("([^'])' ", false, "$1 ' "),
    (r"[*]", false, " $0 "),
    (r"[\]\[\(\)\{\}\<\>]", false, " $0 "),
    ("--", false, " $0 "),
];

/// Applied after a blank was added at both ends.
const LATE_STEPS: &[Step] = &[
    // closing quotes
    ("[»”’]", false, " $0 "),
    ("''", false, " $0 "),
    ("\"", false, " '' "),
    (r"\s+", false, " "),
    (r"([^' ])('[sS]|'[mM]|'[dD]|') ", false, "$1 $2 "),
    (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", false, "$1 $2 "),
    // contractions
    (r"\b(can)(not)\b", true, " $1 $2 "),
    (r"\b(d)('ye)\b", true, " $1 $2 "),
    (r"\b(gim)(me)\b", true, " $1 $2 "),
    (r"\b(gon)(na)\b", true, " $1 $2 "),
    (r"\b(got)(ta)\b", true, " $1 $2 "),
    (r"\b(lem)(me)\b", true, " $1 $2 "),
    (r"\b(more)('n)\b", true, " $1 $2 "),
    (r"\b(wan)(na)(?=\s)", true, " $1 $2 "),
    (r" ('t)(is)\b", true, " $1 $2 "),
    (r" ('t)(was)\b", true, " $1 $2 "),
];

type Compiled = Vec<(Regex, &'static str)>;

fn compiled(steps: &[Step]) -> Compiled {
    let compile = |(source, ignore_case, replacement): &Step| {
        let regex = pattern::compile(source, *ignore_case);
        debug_assert!(regex.is_ok(), "{regex:?}");
        regex.ok().map(|regex| (regex, *replacement))
    };
    steps.iter().filter_map(compile).collect()
}

/// The replacement with `$0` to `$3` filled in.
fn fill(template: &str, found: &Captures<'_>) -> String {
    let mut out = String::new();
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next().and_then(|digit| digit.to_digit(10))) {
            ('$', Some(group)) => {
                chars.next();
                out.push_str(found.get(group as usize).map_or("", |group| group.as_str()));
            }
            _ => out.push(c),
        }
    }
    out
}

fn apply(steps: &Compiled, mut text: String) -> String {
    for (regex, template) in steps {
        text = regex.replace_all(&text, |found: &Captures<'_>| fill(template, found)).into_owned();
    }
    text
}

/// The word tokens of a text.
pub(super) fn words(text: &str) -> Vec<String> {
    static EARLY: LazyLock<Compiled> = LazyLock::new(|| compiled(STEPS));
    static LATE: LazyLock<Compiled> = LazyLock::new(|| compiled(LATE_STEPS));
    let mut words = Vec::new();
    for sentence in punkt::sentences(text) {
        let spaced = apply(&EARLY, sentence.to_owned());
        let spaced = apply(&LATE, format!(" {spaced} "));
        words.extend(python::split(&spaced).map(str::to_owned));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn treebank_rules() {
        assert_eq!(words("DON'T STOP"), ["DO", "N'T", "STOP"]);
        assert_eq!(
            words("I'M WELL-KNOWN (\"X\")."),
            ["I", "'M", "WELL-KNOWN", "(", "``", "X", "''", ")", "."]
        );
        assert_eq!(words("U.S.A. and COVID-19"), ["U.S.A.", "and", "COVID-19"]);
        assert_eq!(
            words("CANNOT, 3,000: **OK**"),
            ["CAN", "NOT", ",", "3,000", ":", "*", "*", "OK", "*", "*"]
        );
    }
}
