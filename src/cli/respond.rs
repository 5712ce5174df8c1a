//! One question, one answer: the denoising with its progress, and what is left of it after Ctrl-C.

use diffa::decode::{Session, StepReport};
use diffa::text::DEFAULT_SYSTEM;
use diffa::{Answer, Clip, DecodeOptions, Diffa, Error, Result};
use std::time::{Duration, Instant};

use super::answered::{Answered, step_event};
use super::args::OutputArgs;
use super::canvas::Canvas;
use super::terminal::{self, Terminal};
use super::{interrupt, settings};

/// Everything that is the same for all questions.
pub(super) struct Respondent<'a> {
    pub(super) term: &'a Terminal,
    pub(super) diffa: &'a Diffa,
    pub(super) options: &'a DecodeOptions,
    pub(super) system: Option<&'a str>,
    pub(super) output: &'a OutputArgs,
}

impl Respondent<'_> {
    /// Answers a question about a clip, or a prompt without one, and compares with the exact decoder if that
    /// is wanted. After Ctrl-C the answer is what was committed so far; [`interrupt::requested`] tells.
    pub(super) fn respond(&self, clip: Option<&Clip>, question: &str) -> Result<Answered> {
        let answer = self.answer(clip, question, self.options, self.output.events)?;
        let exact = match (&self.output.compare, interrupt::requested()) {
            (Some(_), false) => Some(self.answer(clip, question, &settings::exact(self.options), false)?),
            _ => None,
        };
        Ok(Answered { question: question.to_string(), answer, exact })
    }

    fn answer(
        &self,
        clip: Option<&Clip>,
        question: &str,
        options: &DecodeOptions,
        events: bool,
    ) -> Result<Answer> {
        let Respondent { term, diffa, system, .. } = self;
        let bar = term.tokens("answering", options.gen_length, !self.output.no_canvas);
        let start = Instant::now();
        let mut partial = Partial::default();
        let mut canvas = Canvas::new(options.gen_length, options.block_length);
        let ends = diffa.stop_ids();
        let on_step = |session: &Session<'_>, report: &StepReport| {
            partial.take(session, report, start.elapsed());
            if events {
                terminal::print(&step_event(question, report, diffa.tokenizer()))?;
            }
            bar.set_position(partial.committed as u64);
            if term.is_live() && !self.output.no_canvas {
                canvas.take(report, diffa.tokenizer(), &ends);
                bar.set_message(canvas.render());
            }
            interrupt::check()
        };
        let answer = match clip {
            Some(clip) => diffa.ask(clip, question, system.unwrap_or(DEFAULT_SYSTEM), options, on_step),
            None => diffa.generate(question, *system, options, on_step),
        };
        bar.finish_and_clear();
        match answer {
            Err(Error::Interrupted) => {
                let prompt = match clip {
                    Some(_) => diffa.audio_prompt(question, system.unwrap_or(DEFAULT_SYSTEM))?,
                    None => diffa.text_prompt(question, *system)?,
                };
                let text = diffa.tokenizer().answer_text(&partial.ids);
                Ok(partial.into_answer(text, prompt.ids.len(), clip.map_or(0, Clip::rows)))
            }
            answer => answer,
        }
    }
}

/// The state of a decode at its latest step.
#[derive(Default)]
struct Partial {
    ids: Vec<u32>,
    steps: Vec<StepReport>,
    committed: usize,
    rows_computed: usize,
    flops: u64,
    nfe: usize,
    elapsed: Duration,
    first_token: Duration,
    planning: Duration,
}

impl Partial {
    fn take(&mut self, session: &Session<'_>, report: &StepReport, elapsed: Duration) {
        if self.steps.is_empty() {
            (self.first_token, self.planning) = (elapsed, session.planning());
        }
        self.ids = session.ids().to_vec();
        self.steps.push(report.clone());
        self.committed += report.commits.len();
        self.rows_computed = session.rows_computed();
        self.flops = session.flops();
        self.nfe = report.forwards;
        self.elapsed = elapsed;
    }

    fn into_answer(self, text: String, prompt_tokens: usize, audio_rows: usize) -> Answer {
        Answer {
            text,
            ids: self.ids,
            steps: self.steps,
            nfe: self.nfe,
            rows_computed: self.rows_computed,
            flops: self.flops,
            prompt_tokens,
            audio_rows,
            planning: self.planning,
            denoising: self.elapsed.saturating_sub(self.planning),
            first_token: self.first_token,
        }
    }
}
