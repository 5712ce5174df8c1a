//! VoiceBench BBH: four families of two-way questions, each read by an ordered list of phrases.
//!
//! The response is normalised first: small letters, turn marks gone, `: ** " - , .` turned into spaces, blanks
//! collapsed. Apostrophes stay, so a rule for "haven t" only fires on a text written without one. Rules match
//! anywhere and without word boundaries unless they are anchored: "the answer is not clear" reads as no. Slips of
//! the published program are kept and marked. A response that no rule reads gets a random side there.

use std::sync::LazyLock;

use regex::Regex;

use super::input::Row;
use super::{Chance, Evaluator, Scores, Table, Verdict, drawn_accuracy, python};
use crate::error::Result;

/// The task families, in the order in which an id is tested for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Sports,
    Hyperbaton,
    Navigate,
    Lies,
}

const FAMILIES: [(&str, Family); 4] = [
    ("sports_understanding", Family::Sports),
    ("hyperbaton", Family::Hyperbaton),
    ("navigate", Family::Navigate),
    ("web_of_lies", Family::Lies),
];

/// A pattern and what it says: false for no, 0 or (a), true for yes, 1 or (b).
type Rule = (bool, &'static str);

/// Leads into a yes or a no. Each is tried with both words before the next one.
const YES_NO_LEADS: &[&str] = &[
    "answer is ",
    "the answer ",
    "final answer ",
    "i would answer ",
    "the answer is without any modification ",
    "the answer to the question is ",
];
const LATE_YES_NO_LEADS: &[&str] = &["i will provide the answer as ", "prefix answer ", "conclusion "];

const TAIL: &[Rule] = &[(false, "^no"), (true, "^yes"), (false, "no$"), (true, "yes$")];

const LIES: &[Rule] = &[
    (false, "the prefix no applies to the statement"),
    (true, "the answer is the truth"),
    (false, "answer is .+ (?:tells a lie|lies|says lie|(?:does not|doesn t|didn t) tell the truth)"),
    (true, "answer is .+ (?:tells|does tell) the truth"),
    (false, "answer to the question .+ is no"),
    (true, "answer to the question .+ is yes"),
    (true, "from the above steps we can conclude that .+ tells the truth"),
    (false, "(?:does not tell the truth|cannot be telling the truth|is lying|tells the lie)$"),
    (true, "(?:(?:is also|must be) telling the truth|tells the truth)$"),
    (true, "must be lying$"), // a slip, kept
    (false, "lies$"),
];

const NAVIGATE: &[Rule] = &[
    (false, "you (?:do not return to|are not at|haven t moved back to|cannot return to) the starting point"),
    (true, "you return to the starting point"),
    (
        false,
        "you (?:are not facing|haven t returned to|are not back at|will not return to) the starting point",
    ),
    (true, "(?:you|we|i ll) end up back at the starting point"),
    (true, "yes following these instructions"),
    (true, "indeed (?:returns us|bring us back|return|return you) to the starting point"),
    (
        true,
        "(?:we ve now|we have now|i ve) returned to the starting point|i have returned to the starting position",
    ),
    (true, "you ll end up (?:right )?back where you started|i will end up back where i started"),
    (true, "i ll be back where i started"),
    (true, "we are back at the starting point!|we are now back at the starting point"),
    (true, ".instructions we return to the starting point|.will always return us to the starting point"),
    (true, "the answer is the starting point"),
    (
        false,
        "final position is not directly at the starting point|did not return to the exact starting point",
    ),
    (
        false,
        "(?:does not|doesn t) return us to the starting point|does not lead you back to your original starting point",
    ),
];

const SPORTS: &[Rule] = &[
    (false, "(?:the|no the original) sentence is not (?:particularly |entirely )?plausible"),
    (false, "the sentence is not entirely (?:possible|accurate)"),
    (false, "no the sentence is not possible|the answer is it is not possible"),
    (false, "it s not (?:a|entirely) plausible|to answer your original question no"),
    (false, "making it (?:implausible|an implausible statement)|therefore not plausible"),
    (false, "the following sentence is not plausible|i would say it s unlikely|it seems unlikely"),
    (false, "modification of answer not possible|considering these points the sentence is unlikely."),
    (true, "final answer the sentence is plausible|the answer is (?:the sentence is )?plausible"),
    (true, "the answer is directly yes|yes the sentence is (?:structurally )?plausible|making it plausible"),
    (
        true,
        "it is indeed a plausible sentence|i would say (?:that )?the sentence is (?:generally )?plausible",
    ),
    (true, "the sentence appears to be a plausible"),
    (true, "LEAD the sentence (?:is plausible|seems plausible|(?:is )?likely true|seems to be a plausible)"),
    (false, "^not plausible$"),
    (
        true,
        "LEAD the sentence .+ (?:is plausible|(?:seems|appears) (?:to be )?plausible|seems to be a possible|is grammatically correct and makes sense)",
    ),
    (false, "LEAD the sentence .+ is unlikely"),
    (false, "the sentence .+ is not very plausible"),
    (true, "the sentence .+ is flexible and realistic"),
    (false, "considering these points the sentence .+ is not a plausible statement"),
    (true, "the sentence .+ is not plausible"), // a slip, kept
    (false, "^no"),
    (true, "^yes|^the following sentence is plausible"),
];

/// What `LEAD` stands for in the rules above.
const LEAD: &str = "(?:considering these (?:points|factors|elements)|given (?:the context|these points|this analysis)|based on this analysis)";

/// Patterns of hyperbaton; `X` is tried as `a`, then as `b`.
const HYPERBATON: &[&str] = &[
    r"the answer is \(X\)",
    r"(?:correct|right|proper) (?:(?:adjective|adjectival|grammatical|object|objective|adverb|sentence|answer) )?(?:order|sentence|option|answer|one)(?: of adjectives)?(?: in the sentence)?(?: with the adjective order)?(?: option)? (?:is|would be)(?: in| found in| provided in)?(?: the phrase of)?(?: option| sentence| the)? (?:X|\(X\))",
    r"correct adjectiv(?:e)?s (?:is|are) (?:X|\(X\))",
    r"(?:closest correct order|most logical order) is option X",
    r"answer (?:is|directly is|is without any modification) (?:(?:option |sentence )?X|\[(?:option )?X\]|(?:option )?\(X\))",
    r"final answer (?:should be )?X|the final answer is \(X\)",
    r"(?:option|sentence) (?:X|\(X\)) (?:is|would be|has|follows|uses|seems to follow) (?:a |the |more |slightly |grammatically |most )*(?:correct|accurate|closest|closer|better|logical|typical|standard|general)",
    r"sentence X .+ ?seems to have a more logical",
    r"the adjectives in option X are in the correct order|in option X the adjectives are ",
];

const HYPERBATON_LAST: &[Rule] = &[
    (
        false,
        "correct adjective order is (?:.+ )?(?:in )?the first option|following the typical order is the first option",
    ),
    (
        true,
        "correct adjective order is (?:.+ )?(?:in )?the second option|following the typical order is the second option",
    ),
    (true, "option a is incorrect and option b is correct"),
    (false, r"^a[ )]"),
    (true, r"^b[ )]"),
];

/// The compiled rules of one family, in order.
struct Rules(Vec<(bool, Regex)>);

impl Rules {
    fn new(patterns: impl Iterator<Item = (bool, String)>) -> Rules {
        Rules(patterns.map(|(verdict, pattern)| (verdict, python::fixed(&pattern))).collect())
    }

    fn read(&self, text: &str) -> Option<bool> {
        self.0.iter().find(|(_, pattern)| pattern.is_match(text)).map(|(verdict, _)| *verdict)
    }
}

fn owned(rules: &[Rule]) -> impl Iterator<Item = (bool, String)> {
    rules.iter().map(|(verdict, pattern)| (*verdict, pattern.replace("LEAD", LEAD)))
}

/// The yes/no rules that come first in three of the families.
fn yes_no() -> Vec<(bool, String)> {
    let mut rules = Vec::new();
    let mut pair = |lead: &str, words: [&str; 2]| {
        rules.push((false, format!("{lead}{}", regex::escape(words[0]))));
        rules.push((true, format!("{lead}{}", regex::escape(words[1]))));
    };
    for lead in YES_NO_LEADS {
        pair(lead, ["no", "yes"]);
    }
    for lead in ["the answer is ", "answer "] {
        pair(lead, ["false", "true"]);
    }
    pair("the answer is ", [r"\boxed{no}", r"\boxed{yes}"]);
    pair("the answer is ", [r"\boxed{\text{no}}", r"\boxed{\text{yes}}"]);
    pair("the answer is ", [r"\boxed{false}", r"\boxed{true}"]);
    pair("the answer is ", [r"\boxed{\text{false}}", r"\boxed{\text{true}}"]);
    pair("the answer is ", [r"$\boxed{false}$", r"$\boxed{true}$"]);
    pair("the answer is ", [r"$\boxed{\text{false}}$", r"$\boxed{\text{true}}$"]);
    for lead in LATE_YES_NO_LEADS {
        pair(lead, ["no", "yes"]);
    }
    rules
}

static LIES_RULES: LazyLock<Rules> =
    LazyLock::new(|| Rules::new(yes_no().into_iter().chain(owned(LIES)).chain(owned(TAIL))));
static NAVIGATE_RULES: LazyLock<Rules> =
    LazyLock::new(|| Rules::new(yes_no().into_iter().chain(owned(NAVIGATE)).chain(owned(TAIL))));
static SPORTS_RULES: LazyLock<Rules> =
    LazyLock::new(|| Rules::new(yes_no().into_iter().chain(owned(SPORTS)).chain(owned(TAIL))));
static HYPERBATON_RULES: LazyLock<Rules> = LazyLock::new(|| {
    let whole = [(false, "^[ab]$".to_owned())]; // "b" alone reads as (a): a slip, kept
    let letters =
        HYPERBATON.iter().flat_map(|rule| [(false, rule.replace('X', "a")), (true, rule.replace('X', "b"))]);
    Rules::new(whole.into_iter().chain(letters).chain(owned(HYPERBATON_LAST)))
});

fn normalised(response: &str) -> String {
    let lower = response.to_lowercase();
    let text = python::without_turn_mark(python::without_user_mark(&lower));
    let mut text = text.replace("<|turn_end|>", "");
    for mark in [":", "**", "\"", "-", ",", ".", "："] {
        text = text.replace(mark, " ");
    }
    python::split(&text).collect::<Vec<_>>().join(" ")
}

fn read(family: Family, response: &str) -> Option<bool> {
    let text = normalised(response);
    match family {
        Family::Sports => SPORTS_RULES.read(&text),
        Family::Hyperbaton => HYPERBATON_RULES.read(&text),
        Family::Navigate => NAVIGATE_RULES.read(&text),
        Family::Lies => LIES_RULES.read(&text),
    }
}

/// Scores BBH responses; a percentage, as published.
pub(super) fn score(rows: &[Row<'_>], chance: &mut Chance) -> Result<Scores> {
    let mut by_family = Table::new("family");
    let mut verdicts = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.text("id")?;
        let Some((name, family)) = FAMILIES.iter().find(|(name, _)| id.contains(name)) else {
            let known = FAMILIES.map(|(name, _)| name).join(", ");
            return Err(row.error(format!("the id `{id}` names none of the task families {known}")));
        };
        let reference = row.text("reference")?;
        let wanted = match reference.to_lowercase().as_str() {
            "yes" | "(b)" => true,
            "no" | "(a)" => false,
            _ => {
                return Err(
                    row.error(format!("`reference` is `{reference}`, but must be yes, no, (A) or (B)"))
                );
            }
        };
        if let Some(reason) = row.failure() {
            by_family.count(name, Some(false));
            verdicts.push(Verdict::failed(row, reason));
            continue;
        }
        let side = read(*family, row.text("response")?);
        let correct = side.map(|side| side == wanted);
        by_family.count(name, correct);
        let words = if *family == Family::Hyperbaton { ["(A)", "(B)"] } else { ["no", "yes"] };
        let read_as = side.map(|side| words[usize::from(side)].to_owned());
        verdicts.push(Verdict { read_as, ..Verdict::new(row, correct) });
    }
    let fails = verdicts.iter().filter(|verdict| verdict.correct.is_none()).count();
    Ok(Scores {
        evaluator: Evaluator::Bbh,
        answers: rows.len(),
        metrics: vec![
            drawn_accuracy(&verdicts, 2, chance),
            super::Metric::share("fail", super::Unit::Percent, fails, rows.len()),
        ],
        tables: vec![by_family],
        notes: Vec::new(),
        verdicts,
    })
}
