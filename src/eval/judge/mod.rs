//! Asks a judge model for its opinion of answers, as VoiceBench's `open` and `qa` evaluators need it.
//!
//! Any endpoint that speaks OpenAI's chat completions will do. Each answer gets three independent votes, sampled
//! with the published parameters, and is written with its votes to the judged file at once; see [`judge`]. A run
//! that is stopped, or whose endpoint fails, continues where it ended: what the judged file holds is not asked
//! again. An answer whose votes could not be had is *missing*: it is not in the file, and the report names it.
//!
//! `qa` has a second published number, PEDANT. It is a trained classifier of its own and out of scope here.

mod client;
mod pace;
mod prompt;
mod record;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use ureq::http::Uri;

use crate::error::{Error, Result};
pub use prompt::{OPEN, QA};
pub use run::{Judged, judge};

/// Votes per answer in the published program.
pub const VOTES: usize = 3;

/// The judge and how to ask it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base address, for example `https://api.openai.com/v1`; `/chat/completions` is added if it is not there.
    pub url: String,
    /// Name of the model at that endpoint; the published scores are `gpt-4o-mini`'s.
    pub model: String,
    /// Sent as a bearer token; local endpoints need none.
    pub key: Option<String>,
    /// Text to ask about `open` answers, with `{prompt}` and `{response}` in it.
    pub open_prompt: String,
    /// Text to ask about `qa` answers, with `{prompt}`, `{reference}` and `{response}` in it.
    pub qa_prompt: String,
    /// Requests under way at the same time.
    pub jobs: usize,
    /// What to put up with.
    pub patience: Patience,
}

/// How long a judge may take and how often it may fail.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Failed requests until an answer counts as missing.
    pub attempts: u32,
    /// Pause after the first failure; it doubles with every further one, and up to half of it is left to chance.
    pub first_wait: Duration,
    /// The longest such pause. A pause that the endpoint itself asks for may be longer.
    pub longest_wait: Duration,
    /// The longest pause an endpoint may ask for; beyond it the run ends, to be resumed later.
    pub longest_request: Duration,
    /// Time for one request, connection included.
    pub timeout: Duration,
    /// Answers in a row that come to nothing until the run ends.
    pub give_up_after: usize,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            attempts: 8,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            longest_request: Duration::from_secs(600),
            timeout: Duration::from_secs(120),
            give_up_after: 20,
        }
    }
}

impl Settings {
    /// The published prompts' stand-ins, four requests at a time.
    pub fn new(url: impl Into<String>, model: impl Into<String>) -> Settings {
        Settings {
            url: url.into(),
            model: model.into(),
            key: None,
            open_prompt: OPEN.to_owned(),
            qa_prompt: QA.to_owned(),
            jobs: 4,
            patience: Patience::default(),
        }
    }
}

/// Refuses an address that no request can be sent to, before there is anything to send.
///
/// # Errors
/// [`Error::Usage`]: it is not an http or https address with a host.
pub fn check_address(url: &str) -> Result<()> {
    let parsed = url.parse::<Uri>().ok();
    let is_web = parsed.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    match is_web {
        true => Ok(()),
        false => Err(Error::usage(
            "--judge",
            format!("`{url}` is no http or https address; one is http://localhost:8000/v1"),
        )),
    }
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Answers that have their votes, those of earlier runs included.
    pub judged: usize,
    /// Answers given up in this run.
    pub missing: usize,
    /// Answers that need votes.
    pub total: usize,
    /// Requests that failed and were repeated.
    pub retries: usize,
    /// Why the last of them failed.
    pub trouble: Option<String>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The judged file.
    pub path: PathBuf,
    /// Answers that need votes.
    pub total: usize,
    /// Answers that had their votes from earlier runs.
    pub resumed: usize,
    /// Answers that got their votes now.
    pub judged: usize,
    /// Rows with an error instead of an answer, of which there is nothing to ask.
    pub unanswered: usize,
    /// Requests that failed and were repeated.
    pub retries: usize,
    /// Why the run ended early, if it did.
    pub stopped: Option<String>,
    /// Answers without votes, in file order.
    pub missing: Vec<Missing>,
}

/// An answer whose votes could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Line in the answer file, counted from 1.
    pub row: usize,
    /// The answer's id.
    pub id: String,
    /// What went wrong the last time it was asked about.
    pub reason: String,
}
