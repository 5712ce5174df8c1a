//! VoiceBench `open` and `qa`: averages of what a judge model wrote into the file.
//!
//! `open` is the mean over all judge scores, not over answers. The published program prints nothing if one score
//! cannot be read; here such answers are left out, counted and marked. `qa` is the share of answers whose votes are
//! mostly "yes"; a tie falls to the order of a hash table there, so here it has no verdict. The second number of
//! `qa`, PEDANT, accepts an answer that contains the reference and asks a trained classifier otherwise; the
//! classifier is not part of this crate, so only the range is given.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::input::Row;
use super::json::Json;
use super::{Draw, Evaluator, Metric, Scores, Unit, Verdict, python};
use crate::error::Result;

/// One judge score: a number, or the first `[[digits]]` in a text.
pub(in crate::eval) fn judge_score(score: &Json) -> Result<f64, String> {
    static BRACKETS: LazyLock<Regex> = LazyLock::new(|| python::fixed(r"\[\[(\p{Nd}+)\]\]"));
    match score {
        Json::Text(text) => {
            let bracketed =
                || BRACKETS.captures(text).and_then(|found| python::float(found.get(1)?.as_str()));
            python::float(text)
                .or_else(bracketed)
                .ok_or_else(|| format!("the judge score `{text}` holds no number"))
        }
        other => other.as_number().ok_or_else(|| format!("the judge score {} is no number", other.label())),
    }
}

/// What a judge wrote into the row.
fn votes_of(row: &Row) -> Result<&[Json]> {
    if row.get("score").is_none() {
        let remedy = "`diffa score` asks a judge with --judge URL --judge-model NAME";
        return Err(row.error(format!("`score` is missing, which a judge writes; {remedy}")));
    }
    row.list("score")
}

/// Averages judge scores; points, as published.
pub(super) fn score_open(rows: &[Row]) -> Result<Scores> {
    let mut verdicts = Vec::with_capacity(rows.len());
    let (mut sum, mut count) = (0.0, 0_usize);
    let (mut failed, mut errors, mut unbounded) = (0_usize, 0_usize, 0_usize);
    for row in rows {
        if row.failure().is_some() {
            failed += 1;
            verdicts.push(Verdict::new(row, None));
            continue;
        }
        let scores = votes_of(row)?;
        let mut verdict = Verdict::new(row, None);
        match scores.iter().map(judge_score).collect::<Result<Vec<f64>, String>>() {
            Err(reason) => {
                errors += 1;
                verdict.note = Some(reason);
            }
            Ok(values) if !values.iter().all(|value| value.is_finite()) => {
                unbounded += 1;
                verdict.note = Some("a judge score is infinite or not a number".to_owned());
            }
            Ok(values) => {
                let total: f64 = values.iter().sum();
                verdict.score = (!values.is_empty()).then(|| total / values.len() as f64);
                sum += total;
                count += values.len();
            }
        }
        verdicts.push(verdict);
    }
    let mut notes = Vec::new();
    if errors > 0 {
        notes.push(format!("{errors} answers have a score that cannot be read and are left out; the published program prints nothing for such a file"));
    }
    if unbounded > 0 {
        notes.push(format!("{unbounded} answers have an infinite score or none in numbers and are left out; the published program prints inf or nan"));
    }
    Ok(Scores {
        evaluator: Evaluator::Open,
        answers: rows.len() - errors - unbounded - failed,
        errors: 0,
        metrics: vec![Metric::plain("gpt", Unit::Points, (count > 0).then(|| sum / count as f64))],
        tables: Vec::new(),
        notes,
        verdicts,
    })
}

/// Whether most votes are exactly "yes"; none if "yes" shares the first place.
fn vote(votes: &[String]) -> Option<bool> {
    let count = |wanted: &str| votes.iter().filter(|vote| *vote == wanted).count();
    let yes = count("yes");
    let others = votes.iter().filter(|vote| *vote != "yes").map(|vote| count(vote)).max().unwrap_or(0);
    (yes != others).then_some(yes > others)
}

/// PEDANT's normal form: small letters, no ASCII punctuation, no articles, single spaces.
fn normalised(text: &str) -> String {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| python::fixed(&format!("[{}]+", python::WORD_CLASS)));
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let text = WORDS.replace_all(&text, |word: &Captures<'_>| match &word[0] {
        "a" | "an" | "the" => " ".to_owned(),
        other => other.to_owned(),
    });
    python::split(&text).collect::<Vec<_>>().join(" ")
}

/// Whether PEDANT accepts a response without asking its classifier.
pub(in crate::eval) fn holds_reference(response: &str, reference: &str) -> bool {
    normalised(response).contains(&normalised(reference))
}

/// Counts judge votes; percentages, as published.
pub(super) fn score_qa(rows: &[Row]) -> Result<Scores> {
    let mut verdicts = Vec::with_capacity(rows.len());
    let (mut contained, mut compared, mut failed) = (0, 0, 0);
    for row in rows {
        if row.failure().is_some() {
            failed += 1;
            verdicts.push(Verdict::new(row, None));
            continue;
        }
        let votes = votes_of(row)?.iter().map(|vote| vote.as_text().map(str::to_lowercase));
        let votes = votes
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| row.error("every vote in `score` must be a text"))?;
        if votes.is_empty() {
            return Err(row.error("`score` holds no vote"));
        }
        let mut verdict = Verdict::new(row, vote(&votes));
        verdict.read_as = verdict.correct.map(|yes| if yes { "yes" } else { "no" }.to_owned());
        if verdict.correct.is_none() {
            verdict.note = Some("the votes are tied".to_owned());
        }
        if row.get("reference").is_some() && row.get("response").is_some() {
            compared += 1;
            if holds_reference(row.text("response")?, row.text("reference")?) {
                contained += 1;
                verdict.note =
                    Some(verdict.note.map_or_else(String::new, |note| note + "; ") + "holds the reference");
            }
        }
        verdicts.push(verdict);
    }
    let decided: Vec<bool> = verdicts.iter().filter_map(|verdict| verdict.correct).collect();
    let voted = rows.len() - failed;
    let (yes, ties) = (decided.iter().filter(|yes| **yes).count(), voted - decided.len());
    let mut gpt = Metric::share("gpt", Unit::Percent, yes, decided.len());
    let mut notes = Vec::new();
    if ties > 0 {
        let percent = |count: usize| 100.0 * count as f64 / voted as f64;
        gpt.draw = Some(Draw { floor: percent(yes), ceiling: percent(yes + ties), sample: None });
        notes.push(format!("{ties} answers have tied votes, which the published program settles by hash order; gpt is over the others, its floor and ceiling over all"));
    }
    let mut metrics = vec![gpt];
    if compared > 0 {
        let floor = 100.0 * contained as f64 / compared as f64;
        let draw = Some(Draw { floor, ceiling: 100.0, sample: None });
        metrics.push(Metric { draw, ..Metric::plain("panda", Unit::Percent, None) });
        notes.push(format!("PEDANT accepts {contained} of {compared} answers because they contain the reference; the others need its classifier, which is not run here"));
    }
    let tables = Vec::new();
    Ok(Scores { evaluator: Evaluator::Qa, answers: voted, errors: 0, metrics, tables, notes, verdicts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_with_yes_has_no_verdict() {
        let vote = |votes: &[&str]| vote(&votes.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
        assert_eq!(vote(&["yes", "yes", "no"]), Some(true));
        assert_eq!(vote(&["yes."]), Some(false));
        assert_eq!(vote(&["no", "no.", "maybe"]), Some(false));
        assert_eq!(vote(&["yes", "no", "maybe"]), None);
    }

    #[test]
    fn pedant_drops_articles_and_punctuation() {
        assert_eq!(normalised("The Nile-river,  an 1,984"), "nileriver 1984");
    }
}
