//! What the judge is asked.
//!
//! The texts say what the published ones say, in the same order and on the same scale, but are not theirs word for
//! word. A score that is to be quoted beside published ones should be taken with the published text
//! ([`super::Settings::open_prompt`], [`super::Settings::qa_prompt`]).

use super::Settings;
use crate::error::{Error, Result};
use crate::eval::score::Evaluator;
use crate::eval::score::input::Row;
use crate::eval::score::json::Json;
use crate::eval::score::open_qa::judge_score;

/// The system message.
pub(super) const SYSTEM: &str = "You are a helpful assistant.";

/// Points from 1 to 5 for an open answer.
pub const OPEN: &str = "\
You are rating a voice assistant. The user spoke to it, and it answered; both are given below as text. Rate how good \
the [Response] is as a reply to the [Instruction], with whole points from 1 to 5:
1: irrelevant, wrong, or does not deal with what the user wants.
2: relevant in part, but inaccurate or incomplete, or mixed with things that do not belong there.
3: relevant and mostly right, but wordier than necessary.
4: relevant, right and concise; a clear answer.
5: exactly what the user needs, right and to the point, in the most efficient form.

### [Instruction]: {prompt}
### [Response]: {response}

Reply with the number of points alone, without any explanation.";

/// Yes or no for an answer with a reference.
pub const QA: &str = "\
### Question
{prompt}

### Reference answer
{reference}

### Candidate answer
{response}

Judging by the question and the reference answer, is the candidate answer right?
Reply with one word, \"Yes\" or \"No\", and nothing else.";

/// The kinds of opinion a judge gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Points.
    Open,
    /// Yes or no.
    Qa,
}

impl Kind {
    /// What an evaluator asks for; none if it needs no judge.
    pub(super) fn of(evaluator: Evaluator) -> Option<Kind> {
        match evaluator {
            Evaluator::Open => Some(Kind::Open),
            Evaluator::Qa => Some(Kind::Qa),
            _ => None,
        }
    }

    /// Whether the scorer can make something of a reply. The published program stores anything, and then stops at
    /// points that are no number; here such a reply is asked for again.
    pub(super) fn reads(self, reply: &str) -> bool {
        match self {
            Kind::Open => judge_score(&Json::Text(reply.to_owned())).is_ok_and(|points| points.is_finite()),
            Kind::Qa => {
                let word = reply.split(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty());
                word.is_some_and(|word| word.eq_ignore_ascii_case("yes") || word.eq_ignore_ascii_case("no"))
            }
        }
    }

    /// The user message about one answer. Fields are replaced one after the other, as in the published program.
    pub(super) fn ask(self, row: &Row, settings: &Settings) -> Result<String> {
        let (template, fields): (&str, &[&str]) = match self {
            Kind::Open => (&settings.open_prompt, &["prompt", "response"]),
            Kind::Qa => (&settings.qa_prompt, &["prompt", "reference", "response"]),
        };
        let mut text = template.to_owned();
        for field in fields {
            let place = format!("{{{field}}}");
            if !template.contains(&place) {
                let reason = format!("the judge's prompt must have the place `{place}`");
                return Err(Error::usage("--judge-prompt", reason));
            }
            text = text.replace(&place, row.text(field)?);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_replies_are_told_from_garbage() {
        for (kind, reply, expected) in [
            (Kind::Open, "4", true),
            (Kind::Open, "Rating: [[5]]", true),
            (Kind::Open, "four", false),
            (Kind::Open, "nan", false),
            (Kind::Qa, "Yes", true),
            (Kind::Qa, "**no.**", true),
            (Kind::Qa, "nothing", false),
            (Kind::Qa, "", false),
        ] {
            assert_eq!(kind.reads(reply), expected, "{kind:?} {reply}");
        }
    }
}
