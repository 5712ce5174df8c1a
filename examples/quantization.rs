//! What quantized weights, activations in 8 bits and operands in f16 change on the demo model: the logits of the
//! first forward, and the answers to the clips' open questions. Prints the table of `docs/BENCHMARKS.md`.
//!
//! `cargo run --release --example quantization`

mod demo_questions;

use demo_questions::Failure;
use diffa::gpu::DType;
use diffa::ops::Rounding;
use diffa::ops::matmul::MatmulVariant;
use diffa::{Clip, DecodeOptions, Diffa, Gpu, ModelPaths, Preset, Quantization, text, tune};

/// What one model says, question by question.
struct Run {
    texts: Vec<String>,
    /// Logits of the first forward, `[16, vocabulary]` for each question.
    logits: Vec<Vec<f32>>,
    weight_bytes: u64,
}

fn first_logits(
    diffa: &Diffa,
    prompt: &text::Prompt,
    clip: &Clip,
    options: &DecodeOptions,
) -> Result<Vec<f32>, Failure> {
    let mut session = diffa.session(prompt, Some(clip), options)?;
    session.step()?;
    Ok(session.logits()?.concat())
}

/// Every product of the language model by the variant of this name; none: as built in.
fn choose(gpu: &Gpu, diffa: &Diffa, variant: Option<&str>) {
    let rows: Vec<usize> = (0..=10).map(|i| 1 << i).collect();
    let works = tune::works(diffa.llada(), None, &rows);
    let products = || works.iter().filter(|work| matches!(work, tune::Work::Product(_)));
    let choices =
        variant.iter().flat_map(|variant| products().map(move |work| (work.key(), variant.to_string())));
    gpu.set_choices(choices.collect());
}

fn run(gpu: &Gpu, quantize: Option<Quantization>, variant: Option<&str>) -> Result<Run, Failure> {
    let diffa = Diffa::load(gpu, &ModelPaths { quantize, ..ModelPaths::default() }, &|_| Ok(()))?;
    choose(gpu, &diffa, variant);
    let mut run = Run { texts: Vec::new(), logits: Vec::new(), weight_bytes: diffa.llada().weight_bytes() };
    let mut options = DecodeOptions::new(16, 16, 16);
    Preset::Balanced.apply(&mut options, &diffa.stop_ids());
    demo_questions::for_each(&diffa, |clip, question| {
        let prompt = diffa.audio_prompt(question, text::DEFAULT_SYSTEM)?;
        run.logits.push(first_logits(&diffa, &prompt, clip, &options)?);
        let answer = diffa.ask(clip, question, text::DEFAULT_SYSTEM, &options, |_, _| Ok(()))?;
        run.texts.push(answer.text);
        Ok(())
    })?;
    Ok(run)
}

fn main() -> Result<(), Failure> {
    let gpu = Gpu::open(&Default::default())?;
    println!("{}\n", gpu.caps().describe());
    println!("| weights | MB of matrices | same answer | largest logit error | relative to their norm |");
    println!("| --- | --- | --- | --- | --- |");
    let exact = run(&gpu, None, None)?;
    let mut runs = vec![("as stored".to_string(), None, None)];
    for to in Quantization::ALL {
        let name = to.name();
        runs.push((name.to_string(), Some(to), None));
        runs.push((format!("{name}, activations int8"), Some(to), Some("int8 16x8".to_string())));
    }
    // Cooperative matrices, where there are any.
    let f16 = MatmulVariant::candidates(gpu.caps(), DType::Bf16, [64, 192, 192], &[Rounding::F16]);
    if let Some(variant) = f16.into_iter().find(|variant| variant.rounding() == Rounding::F16) {
        runs.push((format!("as stored, operands f16 ({variant})"), None, Some(variant.to_string())));
    }
    for (name, to, variant) in runs {
        let found = run(&gpu, to, variant.as_deref())?;
        let same = found.texts.iter().zip(&exact.texts).filter(|(a, b)| a == b).count();
        let pairs = || found.logits.iter().flatten().zip(exact.logits.iter().flatten());
        let largest = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let error: f64 = pairs().map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let norm: f64 = pairs().map(|(_, b)| f64::from(*b).powi(2)).sum();
        println!(
            "| {name} | {:.2} | {same}/{} | {largest:.3} | {:.4} |",
            found.weight_bytes as f64 / 1e6,
            exact.texts.len(),
            (error / norm).sqrt()
        );
    }
    Ok(())
}
