//! What keys and values in f16 change on the demo model: the answers to the clips' open questions, by decoder, and the
//! logits of each one's first forward and of the forward after it, which a cache shortens. Prints the table of
//! `docs/BENCHMARKS.md`.
//!
//! `cargo run --release --example cache_dtype`

mod demo_questions;

use demo_questions::Failure;
use diffa::{Cache, CacheDtype, Clip, DecodeOptions, Diffa, Gpu, ModelPaths, Preset, text};

/// What a model says to one question.
struct Said {
    ids: Vec<u32>,
    /// Logits of the first two forwards, `[16, vocabulary]` each; fewer if the answer ended before.
    logits: Vec<Vec<f32>>,
}

fn ask(diffa: &Diffa, clip: &Clip, question: &str, options: &DecodeOptions) -> Result<Said, Failure> {
    let prompt = diffa.audio_prompt(question, text::DEFAULT_SYSTEM)?;
    let mut session = diffa.session(&prompt, Some(clip), options)?;
    let mut logits = Vec::new();
    while logits.len() < 2 && !session.is_done() {
        session.advance(1)?;
        logits.push(session.logits()?.concat());
    }
    session.run_ahead()?;
    Ok(Said { ids: session.ids().to_vec(), logits })
}

/// How far the answers in f16 are from those in f32.
#[derive(Default)]
struct Found {
    answers: usize,
    same: usize,
    /// Of the first and the second forward.
    largest: [f32; 2],
    error: f64,
    norm: f64,
}

impl Found {
    fn add(&mut self, exact: &Said, rounded: &Said) {
        self.answers += 1;
        self.same += usize::from(exact.ids == rounded.ids);
        let pairs = exact.logits.iter().zip(&rounded.logits);
        for (largest, (exact, rounded)) in self.largest.iter_mut().zip(pairs) {
            for (a, b) in exact.iter().zip(rounded) {
                *largest = largest.max((a - b).abs());
                self.error += f64::from(a - b).powi(2);
                self.norm += f64::from(*a).powi(2);
            }
        }
    }
}

fn main() -> Result<(), Failure> {
    let gpu = Gpu::open(&Default::default())?;
    println!("{}\n", gpu.caps().describe());
    let diffa = Diffa::load(&gpu, &ModelPaths::default(), &|_| Ok(()))?;
    let plain = DecodeOptions::new(16, 16, 16);
    let mut fast = plain.clone();
    Preset::Fast.apply(&mut fast, &diffa.stop_ids());
    let decoders = [
        ("exact", plain.clone()),
        ("dual cache, quota", DecodeOptions { cache: Cache::Dual, ..plain }),
        ("fast", fast),
    ];
    let mut found: Vec<Found> = decoders.iter().map(|_| Found::default()).collect();
    demo_questions::for_each(&diffa, |clip, question| {
        for ((_, options), found) in decoders.iter().zip(&mut found) {
            let rounded = DecodeOptions { cache_dtype: CacheDtype::F16, ..options.clone() };
            found.add(&ask(&diffa, clip, question, options)?, &ask(&diffa, clip, question, &rounded)?);
        }
        Ok(())
    })?;
    println!("| decoder | same ids | largest logit error, first forward | second | relative to their norm |");
    println!("| --- | --- | --- | --- | --- |");
    for ((name, _), found) in decoders.iter().zip(found) {
        println!(
            "| {name} | {}/{} | {:.4} | {:.4} | {:.6} |",
            found.same,
            found.answers,
            found.largest[0],
            found.largest[1],
            (found.error / found.norm).sqrt()
        );
    }
    Ok(())
}
