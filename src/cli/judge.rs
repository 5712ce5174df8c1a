//! The judge of `diffa score`: its options, its progress, and what is said if votes are missing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use diffa::eval::judge::{self, Judged, Patience, Progress, Report, Settings};
use diffa::eval::score::{Answers, Evaluator};
use diffa::{Error, Result};

use super::interrupt;
use super::terminal::Terminal;

/// Where the key is by default; OpenAI's own programs read it too.
const KEY_VARIABLE: &str = "OPENAI_API_KEY";
/// Reasons for missing votes that are listed one by one.
const LISTED: usize = 5;

#[derive(Debug, Args)]
#[command(next_help_heading = "Judge")]
pub(super) struct JudgeArgs {
    /// Ask this OpenAI-compatible endpoint about open and qa answers, for example https://api.openai.com/v1.
    #[arg(long, value_name = "URL", requires = "judge_model")]
    judge: Option<String>,
    /// Model to ask; the published scores are gpt-4o-mini's.
    #[arg(long, value_name = "NAME", requires = "judge")]
    judge_model: Option<String>,
    /// Environment variable with the key. Without one no key is sent, as local endpoints like it.
    #[arg(long, value_name = "NAME", requires = "judge", default_value = KEY_VARIABLE)]
    judge_key_env: String,
    /// Requests at the same time.
    #[arg(long, value_name = "N", requires = "judge", default_value_t = 4,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    judge_jobs: usize,
    /// Text to ask with instead of the built-in one, which follows the published one in content but not word for
    /// word. It has the places {prompt} and {response}, for qa {reference} too.
    #[arg(long, value_name = "FILE", requires = "judge")]
    judge_prompt: Option<PathBuf>,
    /// File for the answers with their votes, if there is one FILE; FILE with the ending .judged.jsonl if not given.
    #[arg(long, value_name = "OUT", requires = "judge")]
    judged: Option<PathBuf>,
    /// Failed requests until an answer is given up.
    #[arg(long, value_name = "N", requires = "judge", hide = true, default_value_t = 8)]
    judge_attempts: u32,
    /// First pause after a failure.
    #[arg(long, value_name = "S", requires = "judge", hide = true, default_value_t = 1.0, value_parser = seconds)]
    judge_wait: f64,
    /// Time for one request.
    #[arg(long, value_name = "S", requires = "judge", hide = true, default_value_t = 120.0, value_parser = seconds)]
    judge_timeout: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be seconds from 0.001 to 86400".to_owned()),
    }
}

impl JudgeArgs {
    /// Refuses options that do not fit the files, and an address that is none.
    pub(super) fn check(&self, files: &[PathBuf]) -> Result<()> {
        if let Some(url) = &self.judge {
            judge::check_address(url)?;
        }
        match (&self.judged, files) {
            (Some(_), [_, _, ..]) => Err(Error::usage("--judged", "takes the votes of one FILE only")),
            _ => Ok(()),
        }
    }

    /// Where the votes for the answers of `file` go; none if nobody is asked.
    pub(super) fn output(&self, file: &Path) -> Option<PathBuf> {
        self.judge.as_ref()?;
        Some(self.judged.clone().unwrap_or_else(|| file.with_extension("judged.jsonl")))
    }

    /// The file with the text to ask with.
    pub(super) fn prompt_file(&self) -> Option<&Path> {
        self.judge_prompt.as_deref()
    }

    /// Asks the judge about the answers of `file`; none if nobody is to be asked or there is nothing to ask about.
    pub(super) fn ask(&self, term: &Terminal, file: &Path, answers: &[Answers]) -> Result<Option<Judged>> {
        let judged = |part: &Answers| matches!(part.evaluator, Evaluator::Open | Evaluator::Qa);
        let (Some(url), Some(model), Some(out)) = (&self.judge, &self.judge_model, self.output(file)) else {
            return Ok(None);
        };
        if !answers.iter().any(judged) {
            term.note(&format!("{} needs no judge", file.display()));
            return Ok(None);
        }
        let mut settings = Settings::new(url, model);
        settings.key = self.key(term)?;
        settings.jobs = self.judge_jobs;
        settings.patience = Patience {
            attempts: self.judge_attempts,
            first_wait: Duration::from_secs_f64(self.judge_wait),
            timeout: Duration::from_secs_f64(self.judge_timeout),
            ..Patience::default()
        };
        if let Some(path) = &self.judge_prompt {
            let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
            let text = text.trim().to_owned();
            (settings.open_prompt, settings.qa_prompt) = (text.clone(), text);
        }
        let bar = term.items("judging", 0, 0);
        let (mut resumed, mut noted) = (None, 0);
        let mut observe = |progress: Progress| {
            if let Some(trouble) =
                progress.trouble.as_deref().filter(|_| progress.retries >= 1.max(2 * noted))
            {
                noted = progress.retries;
                let times = if noted == 1 { "once".to_owned() } else { format!("{noted} times") };
                bar.suspend(|| {
                    term.note(&format!("the judge has failed {times} and is asked again: {trouble}"))
                });
            }
            if resumed.is_none() {
                // The rate and the time left are those of this run.
                bar.set_position(*resumed.insert(progress.judged as u64));
                bar.reset_eta();
            }
            bar.set_length(progress.total as u64);
            bar.set_position((progress.judged + progress.missing) as u64);
            if progress.missing + progress.retries > 0 {
                bar.set_message(format!(", {} retries, {} missing", progress.retries, progress.missing));
            }
            interrupt::check()
        };
        let judged = judge::judge(answers, &out, &settings, &mut observe);
        bar.finish_and_clear();
        if matches!(judged, Err(Error::Interrupted)) {
            term.note(&format!(
                "{} keeps the votes so far; the same command goes on from there",
                out.display()
            ));
        }
        judged.map(Some)
    }

    fn key(&self, term: &Terminal) -> Result<Option<String>> {
        let name = &self.judge_key_env;
        match std::env::var(name) {
            Ok(key) if key.chars().all(|c| c.is_ascii_graphic()) && !key.is_empty() => Ok(Some(key)),
            Ok(_) => Err(Error::usage(
                "--judge-key-env",
                format!("{name} is empty, or has blanks or line breaks in it"),
            )),
            Err(_) if name == KEY_VARIABLE => {
                term.note(&format!("{name} is not set: the judge is asked without a key"));
                Ok(None)
            }
            Err(_) => Err(Error::usage("--judge-key-env", format!("{name} is not set"))),
        }
    }
}

/// Says what the judge did, and returns the error to end with if votes are missing.
pub(super) fn complaint(term: &Terminal, file: &Path, report: &Report) -> Option<Error> {
    let Report { total, resumed, judged, retries, missing, .. } = report;
    let path = report.path.display();
    let earlier = if *resumed > 0 { format!(", {resumed} of them earlier") } else { String::new() };
    term.note(&format!(
        "{}/{total} answers judged{earlier}; {retries} retries; votes in {path}",
        resumed + judged
    ));
    if missing.is_empty() {
        return None;
    }
    for answer in missing.iter().take(LISTED) {
        term.warn(&format!("no votes for {} (line {}): {}", answer.id, answer.row, answer.reason));
    }
    if missing.len() > LISTED {
        term.warn(&format!("no votes for {} more", missing.len() - LISTED));
    }
    let stopped =
        report.stopped.as_ref().map(|why| format!(" The run was ended early: {why}.")).unwrap_or_default();
    Some(Error::Incomplete(format!(
        "{}: {} of {total} answers have no votes and are not in the scores.{stopped} The same command asks for \
         them again, and only for them.",
        file.display(),
        missing.len()
    )))
}
