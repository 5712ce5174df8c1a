//! The run: a few requests at a time, their votes written as they come in.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::client::{Client, Trouble};
use super::pace::Pace;
use super::prompt::Kind;
use super::record::Record;
use super::{Missing, Progress, Report, Settings, VOTES, check_address};
use crate::error::{Error, Result};
use crate::eval::score::Answers;
use crate::eval::score::input::Row;
use crate::eval::score::json::Json;

/// How often the observer is called while nothing comes in.
const OBSERVED_EVERY: Duration = Duration::from_millis(100);

/// A run's outcome.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The answers with their votes in `score`; missing ones are left out.
    pub answers: Vec<Answers>,
    /// What happened.
    pub report: Report,
}

/// An answer to ask about: its position among all rows, and the user message.
struct Question {
    at: usize,
    kind: Kind,
    prompt: String,
}

/// What became of a question. `NotAsked` if the run ended before its turn.
enum Outcome {
    Votes(Vec<String>),
    Failed(String),
    Refused(String),
    NotAsked,
}

/// Judges the `open` and `qa` answers among `parts`, the content of one answer file, into the file `out`.
///
/// Votes that `out` already holds are kept. Rows that need no votes, and rows with an error instead of an answer,
/// are copied. `observe` is called about ten times a second; an error from it ends the run, after the requests
/// under way have been answered and written, and is returned.
///
/// # Errors
/// The address is none, a row lacks its question or answer, a prompt lacks a place, or `out` cannot be written or belongs to other
/// answers or to another judge. Trouble with the endpoint is no error; see [`Report::missing`].
pub fn judge(
    parts: &[Answers],
    out: &Path,
    settings: &Settings,
    observe: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<Judged> {
    check_address(&settings.url)?;
    let rows: Vec<&Row> = parts.iter().flat_map(|part| &part.rows).collect();
    let kinds: Vec<Option<Kind>> =
        parts.iter().flat_map(|part| part.rows.iter().map(|_| Kind::of(part.evaluator))).collect();
    let mut questions = Vec::new();
    let mut unanswered = 0;
    for (at, (row, kind)) in rows.iter().zip(&kinds).enumerate() {
        let Some(kind) = *kind else { continue };
        match row.failure() {
            Some(_) => unanswered += 1,
            None => questions.push(Question { at, kind, prompt: kind.ask(row, settings)? }),
        }
    }
    let total = questions.len();
    let needs_votes: Vec<bool> =
        rows.iter().zip(&kinds).map(|(row, kind)| kind.is_some() && row.failure().is_none()).collect();
    let (mut record, mut votes) = Record::open(out, &settings.model, &rows)?;
    questions.retain(|question| votes[question.at].is_none());
    let resumed = total - questions.len();

    let run = Run {
        client: Client::new(settings),
        pace: Pace::new(settings.patience),
        settings,
        next: AtomicUsize::new(0),
        retries: AtomicUsize::new(0),
        trouble: Mutex::new(None),
        one_by_one: AtomicBool::new(false),
    };
    let mut ended =
        Ended { failures: vec![None; rows.len()], stopped: None, error: None, failed: 0, judged: 0 };
    std::thread::scope(|scope| {
        let (sender, outcomes) = mpsc::channel();
        for _ in 0..settings.jobs.clamp(1, questions.len().max(1)) {
            let (sender, run, questions) = (sender.clone(), &run, &questions);
            scope.spawn(move || run.work(questions, &sender));
        }
        drop(sender);
        let mut in_vain = 0;
        loop {
            let progress = Progress {
                judged: resumed + ended.judged,
                missing: ended.failed,
                total,
                retries: run.retries.load(Ordering::Relaxed),
                trouble: run.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            };
            if let Err(error) = observe(progress) {
                ended.error.get_or_insert(error);
                run.pace.stop();
            }
            match outcomes.recv_timeout(OBSERVED_EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Ok((at, Outcome::Votes(replies))) => {
                    in_vain = 0;
                    let replies = Json::List(replies.into_iter().map(Json::Text).collect());
                    if let Err(error) = record.add(rows[at], &replies) {
                        ended.error.get_or_insert(error);
                        run.pace.stop();
                    }
                    ended.judged += 1;
                    votes[at] = Some(replies);
                }
                Ok((at, Outcome::Failed(reason))) => {
                    in_vain += 1;
                    ended.failed += 1;
                    ended.failures[at] = Some(reason);
                    if in_vain >= settings.patience.give_up_after {
                        let reason = format!("{in_vain} answers in a row came to nothing");
                        ended.stopped.get_or_insert(reason);
                        run.pace.stop();
                    }
                }
                Ok((at, Outcome::Refused(reason))) => {
                    ended.failed += 1;
                    ended.failures[at] = Some(reason.clone());
                    ended.stopped.get_or_insert(reason);
                }
                Ok((_, Outcome::NotAsked)) => {}
            }
        }
    });
    if let Some(error) = ended.error {
        return Err(error);
    }
    record.finish(&rows, &votes, |at| !needs_votes[at])?;
    let missing = rows.iter().enumerate().filter(|(at, _)| needs_votes[*at] && votes[*at].is_none());
    let missing = missing.map(|(at, row)| Missing {
        row: row.number,
        id: row.name(),
        reason: ended.failures[at].take().unwrap_or_else(|| "not asked".to_owned()),
    });
    let report = Report {
        path: out.to_path_buf(),
        total,
        resumed,
        judged: ended.judged,
        unanswered,
        retries: run.retries.into_inner(),
        missing: missing.collect(),
        stopped: ended.stopped,
    };
    Ok(Judged { answers: with_votes(parts, &votes, &needs_votes), report })
}

/// How the run went, as far as the report needs it.
struct Ended {
    failures: Vec<Option<String>>,
    stopped: Option<String>,
    error: Option<Error>,
    failed: usize,
    judged: usize,
}

/// The answers with their votes; those that need some and have none are left out.
fn with_votes(parts: &[Answers], votes: &[Option<Json>], needs_votes: &[bool]) -> Vec<Answers> {
    let mut at = 0;
    let mut voted = |row: &Row| {
        let here = at;
        at += 1;
        match &votes[here] {
            Some(votes) => Some(row.with("score", votes.clone())),
            None => (!needs_votes[here]).then(|| row.clone()),
        }
    };
    let mut judged = Vec::with_capacity(parts.len());
    for part in parts {
        let rows = part.rows.iter().filter_map(&mut voted).collect();
        judged.push(Answers { rows, ..part.clone() });
    }
    judged
}

/// What the requests share.
struct Run<'a> {
    client: Client,
    pace: Pace,
    settings: &'a Settings,
    next: AtomicUsize,
    retries: AtomicUsize,
    /// What the last failure was that a request is repeated for.
    trouble: Mutex<Option<String>>,
    /// The endpoint refuses to sample several replies at once.
    one_by_one: AtomicBool,
}

impl Run<'_> {
    /// Takes question after question until there is none, and sends what became of each.
    fn work(&self, questions: &[Question], outcomes: &mpsc::Sender<(usize, Outcome)>) {
        while let Some(question) = questions.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = self.ask(question);
            if matches!(outcome, Outcome::Refused(_)) {
                self.pace.stop(); // here, before anybody sends another request in vain
            }
            if outcomes.send((question.at, outcome)).is_err() {
                return;
            }
        }
    }

    /// Asks until all votes are there or patience is at its end.
    fn ask(&self, question: &Question) -> Outcome {
        let mut votes: Vec<String> = Vec::with_capacity(VOTES);
        let (mut failures, mut pause) = (0, Duration::ZERO);
        let mut single = self.one_by_one.load(Ordering::Relaxed);
        let mut last = "the run ended before it was answered".to_owned();
        loop {
            if !self.pace.wait(pause) {
                return if failures > 0 { Outcome::Failed(last) } else { Outcome::NotAsked };
            }
            let n = if single { 1 } else { VOTES - votes.len() };
            let asked_wait = match self.client.ask(&question.prompt, n) {
                Ok(replies) => {
                    // Only now is it clear that the number of replies was what the endpoint did not like.
                    self.one_by_one.fetch_or(single, Ordering::Relaxed);
                    let before = votes.len();
                    let garbage = replies.iter().find(|reply| !question.kind.reads(reply)).cloned();
                    votes.extend(replies.into_iter().filter(|reply| question.kind.reads(reply)));
                    votes.truncate(VOTES);
                    if votes.len() == VOTES {
                        return Outcome::Votes(votes);
                    }
                    pause = Duration::ZERO;
                    match garbage {
                        None if votes.len() > before => continue,
                        garbage => last = format!("the judge says `{}`", garbage.unwrap_or_default()),
                    }
                    None
                }
                Err(Trouble::Lasting(_)) if n > 1 => {
                    (single, pause) = (true, Duration::ZERO);
                    continue;
                }
                Err(Trouble::Lasting(reason)) => return Outcome::Failed(reason),
                Err(Trouble::Refused(reason)) => return Outcome::Refused(reason),
                Err(Trouble::Passing { reason, wait }) => {
                    last = reason;
                    wait
                }
            };
            failures += 1;
            if failures >= self.settings.patience.attempts {
                return Outcome::Failed(last);
            }
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(last.clone());
            self.retries.fetch_add(1, Ordering::Relaxed);
            pause = self.pace.backoff(failures);
            if let Some(wait) = asked_wait {
                if wait > self.settings.patience.longest_request {
                    return Outcome::Refused(format!("{last} (and asks to wait {} s)", wait.as_secs()));
                }
                self.pace.hold_all(wait);
            }
        }
    }
}
