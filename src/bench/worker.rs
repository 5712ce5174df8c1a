//! The engine as one of several that a driver sets side by side under its own clocks: `diffa bench worker`.
//!
//! A worker prints `ready {json}` once it is loaded. Then, for each input line, `WORK REPS` does the work that
//! often, results in host memory, and answers `{"ok":true}`; `show WORK` does it once and answers with evidence
//! to compare with others. Anything else is answered `{"ok":false,"why":...}`. It ends with its input.

use std::io::{BufRead, Write};

use serde_json::{Map, Value, json};

use crate::bench::model::{Forwards, sweep};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::config::{LladaConfig, WhisperConfig};
use crate::model::encoder::Encoder;
use crate::model::llada::Llada;

/// Token rows of the language model's works, and how many of the last ones hold the mask token.
const ROWS: usize = 600;
const MASKS: usize = 64;

/// A piece of work by name: what it does, how many operations it is counted as, and what it leaves.
struct Work<'a> {
    name: &'static str,
    gflop: f64,
    run: Run<'a>,
    show: Show<'a>,
}

type Run<'a> = Box<dyn Fn() -> Result<Vec<f32>> + 'a>;
type Show<'a> = Box<dyn Fn(&[f32]) -> Value + 'a>;

/// A loaded model with its works.
pub struct Worker<'a> {
    what: String,
    works: Vec<Work<'a>>,
}

impl<'a> Worker<'a> {
    /// `fwd`: one forward over 600 rows, logits of the last 16. `blk16`, `blk32`: the last rows against kept keys
    /// and values of the others, logits of those rows.
    ///
    /// Errors: a vocabulary too small for the rows, device errors.
    pub fn llada(gpu: &Gpu, llada: &Llada) -> Result<Worker<'a>> {
        let config = llada.config().clone();
        let ids = token_rows(&config)?;
        let vocab = config.vocab_size;
        let mut works = Vec::new();
        let [blk16, blk32] = [Forwards::new(gpu, llada, &ids, 16)?, Forwards::new(gpu, llada, &ids, 32)?];
        let blk16 = std::rc::Rc::new(blk16);
        let fwd = blk16.clone();
        let mut add = |name, rows: [usize; 2], run: Run<'a>| {
            let show = Box::new(move |logits: &[f32]| logits_evidence(logits, vocab));
            works.push(Work { name, gflop: llada_gflop(&config, rows), run, show });
        };
        add("fwd", [ROWS, 16], Box::new(move || fwd.forward()));
        add("blk16", [16, 16], Box::new(move || blk16.block()));
        add("blk32", [32, 32], Box::new(move || blk32.block()));
        Ok(Worker { what: what(gpu), works })
    }

    /// `mel`: samples to log-mel; `enc`: log-mel to encoder output; `both`. The samples are a rising tone over the
    /// whole window if none are given.
    pub fn whisper(gpu: &'a Gpu, encoder: &'a Encoder, samples: Option<Vec<f32>>) -> Result<Worker<'a>> {
        let config = encoder.config();
        let samples = samples.unwrap_or_else(|| sweep(encoder));
        encoder.run(gpu, &samples)?;
        let last = config.n_layers;
        let mel_gflop = 2.0 * config.n_frames as f64 * mel_operations(config) / 1e9;
        let enc_gflop = whisper_gflop(config);
        let (frames, mels) = (config.n_frames, config.n_mels);
        let flat = |values: &[f32], from: usize| {
            let some: Vec<f64> = values.iter().skip(from).take(6).map(|v| rounded(*v)).collect();
            json!({ "v": some })
        };
        // Other engines keep the mel bins outermost.
        let show_mel = move |mel: &[f32]| {
            let transposed: Vec<f32> =
                (0..frames * mels).map(|i| mel[i % frames * mels + i / frames]).collect();
            flat(&transposed, 1000)
        };
        let mel_samples = samples.clone();
        let works = vec![
            Work {
                name: "mel",
                gflop: mel_gflop,
                run: Box::new(move || {
                    encoder.hear(gpu, &mel_samples)?;
                    gpu.read(&encoder.mel)
                }),
                show: Box::new(show_mel),
            },
            Work {
                name: "enc",
                gflop: enc_gflop,
                run: Box::new(move || {
                    encoder.encode(gpu)?;
                    gpu.read(encoder.hidden(last)?)
                }),
                show: Box::new(move |values| flat(values, 1000)),
            },
            Work {
                name: "both",
                gflop: mel_gflop + enc_gflop,
                run: Box::new(move || {
                    encoder.run(gpu, &samples)?;
                    gpu.read(encoder.hidden(last)?)
                }),
                show: Box::new(move |values| flat(values, 1000)),
            },
        ];
        Ok(Worker { what: what(gpu), works })
    }

    /// Serves until the input ends.
    ///
    /// Errors: device errors, and [`Error::Io`] if nobody reads the answers.
    pub fn serve(&self, input: impl BufRead, mut output: impl Write) -> Result<()> {
        let mut say = |text: String| {
            let done = writeln!(output, "{text}").and_then(|()| output.flush());
            done.map_err(Error::io("write", "standard output"))
        };
        let gflop: Map<String, Value> =
            self.works.iter().map(|work| (work.name.to_string(), json!(work.gflop))).collect();
        say(format!("ready {}", json!({ "peer": self.what, "gflop": gflop })))?;
        for line in input.lines() {
            let line = line.map_err(Error::io("read", "standard input"))?;
            say(self.answer(&line)?.to_string())?;
        }
        Ok(())
    }

    fn answer(&self, line: &str) -> Result<Value> {
        let (verb, argument) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let work = |name: &str| self.works.iter().find(|work| work.name == name);
        if let ("show", Some(work)) = (verb, work(argument)) {
            return Ok(json!({ "ok": true, "evidence": (work.show)(&(work.run)()?) }));
        }
        let Some(work) = work(verb) else { return Ok(json!({ "ok": false, "why": "no such work" })) };
        let n = if argument.is_empty() { Ok(1) } else { argument.parse::<u32>() };
        let Ok(n) = n else {
            return Ok(json!({ "ok": false, "why": format!("`{argument}` is no number of runs") }));
        };
        for _ in 0..n {
            (work.run)()?;
        }
        Ok(json!({ "ok": true }))
    }
}

fn what(gpu: &Gpu) -> String {
    format!("diffa {} on {}", env!("CARGO_PKG_VERSION"), gpu.caps().describe())
}

/// 536 ids spread over the ordinary vocabulary, then 64 masks.
fn token_rows(config: &LladaConfig) -> Result<Vec<u32>> {
    let ordinary = config.vocab_size.checked_sub(400).filter(|n| *n > 0);
    let Some(ordinary) = ordinary else {
        let reason = format!(
            "{} ids are too few for the rows of this work: it needs more than 400",
            config.vocab_size
        );
        return Err(Error::Config { path: config.path.clone(), key: "embedding_size".into(), reason });
    };
    let mask = (config.vocab_size - 128) as u32;
    let id = |i: usize| if i < ROWS - MASKS { ((i * 7919 + 13) % ordinary) as u32 } else { mask };
    Ok((0..ROWS).map(id).collect())
}

/// Operations that every engine is counted with, whatever it leaves out: `[rows, rows with logits]`.
fn llada_gflop(config: &LladaConfig, [rows, logits]: [usize; 2]) -> f64 {
    let [d, layers, mlp, vocab] =
        [config.d_model, config.n_layers, config.mlp_hidden_size, config.vocab_size].map(|n| n as f64);
    let [t, logits, all] = [rows, logits, ROWS].map(|n| n as f64);
    (2.0 * t * layers * (4.0 * d * d + 3.0 * d * mlp) + 4.0 * t * all * d * layers + 2.0 * logits * d * vocab)
        / 1e9
}

fn whisper_gflop(config: &WhisperConfig) -> f64 {
    let [d, layers, ffn, mels, n] =
        [config.d_model, config.n_layers, config.ffn_dim, config.n_mels, config.max_source_positions]
            .map(|n| n as f64);
    let stem = 2.0 * (2.0 * n * 3.0 * mels * d + n * 3.0 * d * d);
    (stem + layers * (2.0 * n * (4.0 * d * d + 2.0 * d * ffn) + 4.0 * n * n * d)) / 1e9
}

/// Multiplications of one frame with a fast Fourier transform, only there to have a number.
fn mel_operations(config: &WhisperConfig) -> f64 {
    let bins = config.n_fft / 2 + 1;
    5.0 * config.n_fft as f64 * 9.0 / 2.0 + (bins * config.n_mels) as f64
}

/// Best id of each row, and the first logits of the last row.
fn logits_evidence(logits: &[f32], vocab: usize) -> Value {
    let best = |row: &[f32]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    let argmax: Vec<usize> = logits.chunks(vocab).map(best).collect();
    let last = logits.chunks(vocab).next_back().unwrap_or_default();
    json!({ "argmax": argmax, "v": last.iter().take(4).map(|v| rounded(*v)).collect::<Vec<_>>() })
}

fn rounded(value: f32) -> f64 {
    (f64::from(value) * 1e4).round() / 1e4
}
