//! Answers the items of a benchmark, one after the other, into an [`AnswerFile`].
//!
//! Consecutive items about one clip share its hearing, and the next clips are decoded meanwhile. Items are not
//! batched: see [`run`].

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{collections::HashMap, thread};

use serde_json::Value;

use crate::audio::Waveform;
use crate::decode::DecodeOptions;
use crate::engine::Diffa;
use crate::error::{Error, Result};
use crate::eval::answers::AnswerFile;
use crate::eval::benchmark::Benchmark;
use crate::eval::record::{self, Figures, RECORD, Run};
use crate::eval::score::{self, Evaluator};
use crate::eval::select::{Due, Selected};
use crate::eval::{Object, ahead};
use crate::model::{Clip, hearing};

/// How often the caller hears of a run that waits for a clip.
const TICK: Duration = Duration::from_millis(100);

/// Everything that is the same for all items.
pub struct Job<'a> {
    /// The model, with its ears.
    pub diffa: &'a Diffa,
    /// Which benchmark.
    pub benchmark: Benchmark,
    /// How to decode.
    pub options: &'a DecodeOptions,
    /// System turn of the prompt.
    pub system: &'a str,
    /// Stop at the first item that cannot be answered, instead of recording its error.
    pub strict: bool,
    /// What goes into every record.
    pub run: &'a Run,
    /// Name of the GPU, for the records.
    pub device: &'a str,
}

/// What happens during a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step of an answer was made, or a moment of waiting passed.
    Working,
    /// A row was written.
    Finished(&'a Object),
}

/// What a run has brought so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Rows, with or without an answer.
    pub items: usize,
    /// Rows without an answer, because of an error.
    pub failed: usize,
    /// Answers that a rule can judge: all but those that need a judge model or a draw of the official program.
    pub judged: usize,
    /// Of those, right ones. Where the published verdict needs a judge model (`sd-qa`) or there is no published
    /// one, an answer counts that contains the reference.
    pub right: usize,
    /// Seconds of all answers.
    pub seconds: f64,
    /// Forwards of all answers.
    pub forwards: usize,
}

impl Tally {
    /// Counts one more row.
    pub fn add(&mut self, benchmark: Benchmark, row: &Object) {
        let record = record::of(row);
        let subset = record.and_then(|record| record.get("subset")?.as_str());
        let right = match record::failure(row) {
            Some(_) => Some(false),
            None => match benchmark.evaluator(subset) {
                Some(Evaluator::Qa) | None => holds_reference(benchmark, row),
                Some(evaluator) => score::verdict(evaluator, row),
            },
        };
        self.items += 1;
        self.failed += usize::from(record::failure(row).is_some());
        self.judged += usize::from(right.is_some());
        self.right += usize::from(right == Some(true));
        self.seconds += record.and_then(|record| record.get("seconds")?.as_f64()).unwrap_or(0.0);
        self.forwards += record::number(row, "nfe").unwrap_or(0);
    }

    /// Right answers among the judged ones; none if nothing could be judged.
    pub fn accuracy(&self) -> Option<f64> {
        (self.judged > 0).then(|| self.right as f64 / self.judged as f64)
    }
}

fn holds_reference(benchmark: Benchmark, row: &Object) -> Option<bool> {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    Some(score::holds_reference(text(benchmark.answer_field())?, text("reference")?))
}

/// The items that have no row yet.
///
/// # Errors
/// [`Error::Usage`] if a row was made with other settings or from other data, or by another program.
pub fn pending(benchmark: Benchmark, run: &Run, selected: &Selected, rows: &[Object]) -> Result<Vec<Due>> {
    let mut open: HashMap<usize, &Due> = selected.due.iter().map(|due| (due.item.index, due)).collect();
    for (i, row) in rows.iter().enumerate() {
        let refuse = |reason: String| Error::usage("--resume", format!("row {} of the file {reason}", i + 1));
        let record = record::of(row).ok_or_else(|| refuse("was not written by diffa eval".into()))?;
        if let Some(difference) = run.difference(record.get("run").unwrap_or(&Value::Null)) {
            return Err(refuse(format!(
                "was made otherwise: {difference}; give the same options, or another --out"
            )));
        }
        let due = record::number(row, "index").and_then(|index| open.remove(&index));
        let due = due.ok_or_else(|| refuse("is there twice, or is not among the items".into()))?;
        let answer = row.get(benchmark.answer_field()).and_then(Value::as_str).unwrap_or_default();
        let mut published = row.clone();
        published.remove(RECORD);
        if published != benchmark.row(&due.item.fields, answer) {
            return Err(refuse(format!(
                "is not about item {} of the data, which must be the same as before; name another --out",
                due.item.index
            )));
        }
    }
    Ok(selected.due.iter().filter(|due| open.contains_key(&due.item.index)).cloned().collect())
}

/// Answers `due` in order, one at a time. `watch` may end the run with an error, which is returned; all rows until then stay.
///
/// A [`crate::decode::Session`] could decode several items at once, each as if alone. Tried on 16 items of the
/// demo's benchmarks and a software adapter, batches of 2 to 16 saved a fifth of the decoding at 4 steps, a tenth at
/// best at 16 and up to 70 % more was needed there, since prompts are padded to the longest. At the released size a
/// single clip gives the matrix kernels about 550 rows already. A batch would also lose more work to a crash.
/// Measure again where a GPU is left idle by one item.
///
/// # Errors
/// Those of the device and of writing the file; with `strict` also those of an item. Whatever is wrong with a
/// single item or its clip is recorded otherwise.
pub fn run(
    job: &Job<'_>,
    due: &[Due],
    file: &mut AnswerFile,
    watch: &mut dyn FnMut(Event<'_>) -> Result<()>,
) -> Result<()> {
    let rate = job.diffa.hearing()?.encoder().config().sampling_rate as u32;
    let groups: Vec<&[Due]> = due.chunk_by(|a, b| a.item.audio == b.item.audio).collect();
    let sources = groups.iter().map(|group| group[0].item.audio.clone()).collect();
    thread::scope(|scope| {
        let clips = ahead::decode(scope, sources, rate);
        for group in groups {
            let start = Instant::now();
            let wave = wait(&clips, watch)?;
            let waited = start.elapsed();
            let heard = wave.and_then(|wave| Ok((job.hear(&wave, &group[0])?, wave.duration_s())));
            let mut hear_time = start.elapsed() - waited;
            let heard = job.tolerate(heard)?;
            for due in group {
                let outcome = match &heard {
                    Ok((clip, seconds)) => {
                        let answered = job.answer(clip, due, watch);
                        job.tolerate(answered)?.map(|(text, figures)| {
                            let hear_seconds = hear_time.as_secs_f64();
                            let seconds_all = figures.seconds + hear_seconds;
                            (
                                text,
                                Figures {
                                    seconds: seconds_all,
                                    hear_seconds,
                                    audio_seconds: *seconds,
                                    ..figures
                                },
                            )
                        })
                    }
                    Err(reason) => Err(reason.clone()),
                };
                hear_time = Duration::ZERO;
                let (text, outcome) = match outcome {
                    Ok((text, figures)) => (text, Ok(figures)),
                    Err(reason) => (String::new(), Err(reason)),
                };
                let mut row = job.benchmark.row(&due.item.fields, &text);
                row.insert(RECORD.into(), record::record(due, job.run, job.device, &outcome).into());
                file.append(&row)?;
                watch(Event::Finished(&row))?;
            }
        }
        Ok(())
    })
}

/// The next clip; the outer error is the watcher's.
fn wait(
    clips: &Receiver<Result<Waveform>>,
    watch: &mut dyn FnMut(Event<'_>) -> Result<()>,
) -> Result<Result<Waveform>> {
    loop {
        match clips.recv_timeout(TICK) {
            Ok(wave) => return Ok(wave),
            Err(RecvTimeoutError::Timeout) => watch(Event::Working)?,
            Err(RecvTimeoutError::Disconnected) => {
                let message = "the thread that decodes audio has ended early".into();
                return Err(Error::Gpu { doing: "waiting for a clip".into(), message });
            }
        }
    }
}

impl Job<'_> {
    fn hear(&self, wave: &Waveform, due: &Due) -> Result<Clip> {
        let clip = || due.item.audio.name();
        hearing::check_length(self.diffa.hearing()?.encoder().config(), wave.samples.len()).map_err(|e| {
            match e {
                Error::Usage { reason, .. } => Error::Audio { path: clip(), reason },
                other => other,
            }
        })?;
        self.diffa.hear(&wave.samples)
    }

    fn answer(
        &self,
        clip: &Clip,
        due: &Due,
        watch: &mut dyn FnMut(Event<'_>) -> Result<()>,
    ) -> Result<(String, Figures)> {
        let question = self.benchmark.question(&due.item.fields).map_err(|reason| Error::Config {
            path: due.item.audio.name(),
            key: format!("item {}", due.item.index),
            reason,
        })?;
        let answer =
            self.diffa.ask(clip, &question, self.system, self.options, |_, _| watch(Event::Working))?;
        let seconds = (answer.planning + answer.denoising).as_secs_f64();
        Ok((
            answer.text,
            Figures { seconds, nfe: answer.nfe, rows: answer.rows_computed, ..Figures::default() },
        ))
    }

    /// Turns an error that concerns one item into its text; any other ends the run.
    fn tolerate<T>(&self, done: Result<T>) -> Result<Result<T, String>> {
        match done {
            Ok(value) => Ok(Ok(value)),
            Err(error) if error.is_bad_input() && !self.strict => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }
}
