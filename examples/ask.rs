//! The library at its shortest: a question about a clip, answered by the demo model inside the program.
//!
//! `cargo run --release --example ask [AUDIO [QUESTION]]`

use diffa::{AdapterChoice, DecodeOptions, Diffa, Gpu, ModelPaths, audio, text};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().unwrap_or("assets/demo/audio/19_melody_up.ogg".into());
    let question = args.next().unwrap_or("Describe the audio.".into());

    let gpu = Gpu::open(&AdapterChoice::default())?;
    let diffa = Diffa::load(&gpu, &ModelPaths::default(), &|_bytes| Ok(()))?;
    let clip = diffa.hear(&audio::read(file.as_ref(), 16_000)?.samples)?;
    let options = DecodeOptions::new(16, 16, 16);
    let answer = diffa.ask(&clip, &question, text::DEFAULT_SYSTEM, &options, |_session, step| {
        eprintln!("step {}: {} tokens committed", step.step, step.commits.len());
        Ok(())
    })?;
    println!("{}", answer.text);
    Ok(())
}
