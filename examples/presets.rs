//! How often each preset gives the exact decoder's answer, and what it costs, over all questions of the
//! demo: the clips' open questions and the miniature benchmarks. Prints the table of `docs/BENCHMARKS.md`.
//!
//! `cargo run --release --example presets`

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use diffa::eval::prompts;
use diffa::{Clip, DecodeOptions, Diffa, Gpu, ModelPaths, Preset, audio, text};
use serde_json::Value;

struct Question {
    set: &'static str,
    audio: PathBuf,
    text: String,
    lengths: [usize; 3],
}

fn questions(root: &Path) -> Result<Vec<Question>, Box<dyn std::error::Error>> {
    let read = |path: &str| std::fs::read_to_string(root.join(path));
    let string = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let mut all = Vec::new();
    let open: Value = serde_json::from_str(&read("expected.json")?)?;
    for item in open["items"].as_array().into_iter().flatten() {
        let length = |key: &str| item["vanilla"]["options"][key].as_u64().unwrap_or(16) as usize;
        all.push(Question {
            set: "open questions",
            audio: root.join(string(&item["audio"])),
            text: string(&item["question"]),
            lengths: [length("steps"), length("block_length"), length("gen_length")],
        });
    }
    for line in read("bench/mini_mmsu.jsonl")?.lines() {
        let item: Value = serde_json::from_str(line)?;
        let choices =
            ["choice_a", "choice_b", "choice_c", "choice_d"].into_iter().filter_map(|key| item[key].as_str());
        let text = prompts::mmsu(&string(&item["question"]), choices);
        let audio = root.join(string(&item["audio_path"]));
        all.push(Question { set: "mini MMSU", audio, text, lengths: [4, 4, 4] });
    }
    let mmau: Value = serde_json::from_str(&read("bench/mini_mmau.json")?)?;
    for item in mmau.as_array().into_iter().flatten() {
        let choices = item["choices"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let text = prompts::mmau(&string(&item["question"]), choices);
        let audio = root.join(string(&item["audio_id"]));
        all.push(Question { set: "mini MMAU", audio, text, lengths: [16, 16, 16] });
    }
    for file in ["sd-qa", "openqa"] {
        for line in read(&format!("bench/mini_voicebench/{file}.jsonl"))?.lines() {
            let item: Value = serde_json::from_str(line)?;
            let (audio, text) = (root.join(string(&item["audio"])), prompts::VOICEBENCH.to_string());
            all.push(Question { set: "mini VoiceBench", audio, text, lengths: [16, 16, 16] });
        }
    }
    Ok(all)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let questions = questions(&root)?;
    let gpu = Gpu::open(&Default::default())?;
    let diffa = Diffa::load(&gpu, &ModelPaths::default(), &|_| Ok(()))?;
    let mut clips: HashMap<PathBuf, Clip> = HashMap::new();
    for question in &questions {
        if !clips.contains_key(&question.audio) {
            let clip = diffa.hear(&audio::read(&question.audio, 16_000)?.samples)?;
            clips.insert(question.audio.clone(), clip);
        }
    }
    println!("{}\n", gpu.caps().describe());
    println!("| questions | preset | same answer | same ids | NFE | rows | GFLOP | s | work x | time x |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for set in ["open questions", "mini MMSU", "mini MMAU", "mini VoiceBench"] {
        let mut exact: Vec<(String, Vec<u32>)> = Vec::new();
        let mut base = (0.0, 0.0);
        for preset in Preset::ALL {
            let (mut text_same, mut ids_same, mut nfe, mut rows, mut flops, mut seconds) =
                (0, 0, 0, 0, 0u64, 0.0);
            let of_set: Vec<_> = questions.iter().filter(|q| q.set == set).collect();
            for (i, question) in of_set.iter().enumerate() {
                let [steps, block, length] = question.lengths;
                let mut options = DecodeOptions::new(steps, block, length);
                preset.apply(&mut options, &diffa.stop_ids());
                let start = Instant::now();
                let clip = &clips[&question.audio];
                let answer =
                    diffa.ask(clip, &question.text, text::DEFAULT_SYSTEM, &options, |_, _| Ok(()))?;
                seconds += start.elapsed().as_secs_f64();
                if preset == Preset::Exact {
                    exact.push((answer.text.clone(), answer.ids.clone()));
                }
                text_same += usize::from(exact[i].0 == answer.text);
                ids_same += usize::from(exact[i].1 == answer.ids);
                nfe += answer.nfe;
                rows += answer.rows_computed;
                flops += answer.flops;
            }
            if preset == Preset::Exact {
                base = (flops as f64, seconds);
            }
            println!(
                "| {set} | {} | {text_same}/{} | {ids_same}/{} | {nfe} | {rows} | {:.1} | {seconds:.1} | {:.2} | {:.2} |",
                preset.name(),
                of_set.len(),
                of_set.len(),
                flops as f64 / 1e9,
                base.0 / flops as f64,
                base.1 / seconds,
            );
        }
    }
    Ok(())
}
