//! `diffa ask`: hear a clip, answer questions about it.

use std::ops::Range;
use std::time::{Duration, Instant};

use diffa::audio::Waveform;
use diffa::model::config::WhisperConfig;
use diffa::model::hearing;
use diffa::{Clip, Diffa, Error, Result};

use super::answered::{Heard, answer_event, summary};
use super::args::{AskArgs, Global};
use super::respond::Respondent;
use super::run::Run;
use super::terminal::{self, Terminal};
use super::{interrupt, load, settings};

/// Runs the command.
pub(super) fn run(term: &Terminal, global: &Global, args: &AskArgs) -> Result<()> {
    for question in &args.questions {
        if question.trim().is_empty() {
            return Err(Error::usage("QUESTION", "is empty; ask something, for example \"What is said?\""));
        }
    }
    let paths = args.model.paths();
    let mut options = settings::decode_options(&args.decode, paths.is_demo())?;
    if let Some(path) = &args.output.trace {
        load::check_target("--trace", path, Some(&args.audio))?;
    }
    let config = paths.whisper_config()?;
    let (wave, decode_audio) = load::audio(&args.audio, &config)?;
    let windows = windows(term, args, &wave, &config)?;

    let gpu = load::open(term, global)?;
    let (diffa, load) = load::model(term, &gpu, &paths, true, &options)?;
    settings::add_end_tokens(&args.decode, diffa.stop_ids(), &mut options);
    let system = args.decode.system.as_deref();
    let respondent = Respondent { term, diffa: &diffa, options: &options, system, output: &args.output };

    let mut heard = Vec::new();
    'windows: for window in windows {
        let (clip, hear) = hear(term, &diffa, args, &wave.samples[window.clone()])?;
        let start = window.start as f64 / f64::from(wave.sample_rate);
        let seconds = clip.valid.samples as f64 / f64::from(wave.sample_rate);
        heard.push(Heard { start, seconds, hear, answers: Vec::new() });
        for question in &args.questions {
            if interrupt::requested() || terminal::stdout_closed() {
                break 'windows;
            }
            let answered = respondent.respond(Some(&clip), question)?;
            let answer = &answered.answer;
            if args.output.events {
                terminal::print(&answer_event(&answered))?;
            } else if !args.output.json {
                let span = match args.long.as_str() {
                    "window" => format!("[{start:.1}-{:.1} s] ", start + seconds),
                    _ => String::new(),
                };
                terminal::print(&format!("{span}{}", answer.text))?;
            }
            if args.output.stats {
                term.figures(&answered.stats(Some((seconds, hear))));
            } else if term.is_live() {
                term.note(&summary(answer, Some((seconds, hear))));
            }
            if let Some(heard) = heard.last_mut() {
                heard.answers.push(answered);
            }
        }
    }

    let tokenizer = diffa.tokenizer();
    let report = Run { gpu: &gpu, options: &options, system, paths: &paths, load, tokenizer };
    if let Some(path) = &args.output.trace {
        report.write_trace(path, Some(&args.audio), heard.iter().flat_map(|heard| &heard.answers))?;
    }
    if args.output.json {
        let by_window = args.long == "window";
        terminal::print(&report.ask(&args.audio, wave.duration_s(), decode_audio, &heard, by_window))?;
    }
    interrupt::check()
}

/// The parts of the clip to answer about; the only one holds everything if just the first window counts.
fn windows(
    term: &Terminal,
    args: &AskArgs,
    wave: &Waveform,
    config: &WhisperConfig,
) -> Result<Vec<Range<usize>>> {
    let n = wave.samples.len();
    hearing::check_length(config, n).map_err(|e| load::about_clip(e, &args.audio))?;
    if args.long != "window" {
        let remedy = "; --long window answers about all of it";
        load::warn_if_long(term, &args.audio, n, config, remedy);
        return Ok(std::iter::once(0..n).collect());
    }
    let all = (0..n).step_by(config.n_samples).map(|start| start..n.min(start + config.n_samples));
    let (windows, short): (Vec<_>, Vec<_>) =
        all.partition(|window| window.len() >= hearing::min_samples(config));
    for window in short {
        let seconds = window.len() as f64 / config.sampling_rate as f64;
        term.note(&format!(
            "the last {seconds:.2} s are too short to be heard on their own; they are skipped"
        ));
    }
    Ok(windows)
}

fn hear(term: &Terminal, diffa: &Diffa, args: &AskArgs, samples: &[f32]) -> Result<(Clip, Duration)> {
    let spinner = term.spinner("hearing");
    let start = Instant::now();
    let clip = diffa.hear(samples).map_err(|e| load::about_clip(e, &args.audio));
    spinner.finish_and_clear();
    Ok((clip?, start.elapsed()))
}
