//! Every golden trace of the reference: positions, ids and confidences at every step, exact but for the
//! last digits of the confidences. No, prefix and dual cache; quota, threshold and factor rules; guidance,
//! early stop and id rules; short, long, silent and resampled clips.

mod common;

use common::{fixtures, gpu, read_json};
use diffa::ops::lm_head::IdRules;
use diffa::{Cache, DecodeOptions, Diffa, ModelPaths, Rule, audio, text};
use serde_json::Value;

const CONFIDENCE_TOLERANCE: f64 = 2e-3;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn options(run: &Value) -> DecodeOptions {
    let n = |key: &str| run[key].as_u64().unwrap() as usize;
    let rule = match (run["threshold"].as_f64(), run["factor"].as_f64()) {
        (_, Some(factor)) => Rule::Factor(factor as f32),
        (Some(threshold), None) => Rule::Threshold(threshold as f32),
        (None, None) => Rule::Quota,
    };
    DecodeOptions {
        cfg_scale: run["cfg_scale"].as_f64().unwrap() as f32,
        rule,
        cache: run["mode"].as_str().unwrap().parse::<Cache>().unwrap(),
        stop_ids: run["eos_stop"].as_u64().map(|id| id as u32).into_iter().collect(),
        id_rules: IdRules { banned: ids(&run["ban_ids"]), low_confidence: ids(&run["low_conf_ids"]) },
        ..DecodeOptions::new(n("steps"), n("block_length"), n("gen_length"))
    }
}

fn check_run(diffa: &Diffa, run: &Value) {
    let name = run["name"].as_str().unwrap();
    let prompts = read_json(&fixtures().join("expected/prompts.json"));
    let question = prompts["prompts"][run["prompt"].as_str().unwrap()]["text"].as_str().unwrap().to_string();
    let options = options(run);
    let answer = match run["audio"].as_str() {
        Some(wav) => {
            let wave = audio::read(&fixtures().join("wav").join(wav), 16_000).unwrap();
            let clip = diffa.hear(&wave.samples).unwrap();
            diffa.ask(&clip, &question, text::DEFAULT_SYSTEM, &options, |_, _| Ok(())).unwrap()
        }
        None => diffa.generate(&question, None, &options, |_, _| Ok(())).unwrap(),
    };
    let expected = run["trace"].as_array().unwrap();
    for (i, (want, got)) in expected.iter().zip(&answer.steps).enumerate() {
        assert_eq!(got.block as u64, want["block"].as_u64().unwrap(), "{name}, step {i}: block");
        assert_eq!(got.step as u64, want["step"].as_u64().unwrap(), "{name}, step {i}: step");
        let positions: Vec<u32> = got.commits.iter().map(|c| c.position as u32).collect();
        let tokens: Vec<u32> = got.commits.iter().map(|c| c.id).collect();
        assert_eq!(positions, ids(&want["positions"]), "{name}, step {i}: positions");
        assert_eq!(tokens, ids(&want["ids"]), "{name}, step {i}: ids");
        for (commit, confidence) in got.commits.iter().zip(want["confidences"].as_array().unwrap()) {
            let error = (f64::from(commit.confidence) - confidence.as_f64().unwrap()).abs();
            assert!(error <= CONFIDENCE_TOLERANCE, "{name}, step {i}: confidence is off by {error}");
        }
    }
    assert_eq!(answer.steps.len(), expected.len(), "{name}: number of steps");
    assert_eq!(answer.nfe as u64, run["nfe"].as_u64().unwrap(), "{name}: NFE");
    assert_eq!(answer.ids, ids(&run["ids"]), "{name}: final ids");
    assert_eq!(answer.text, run["text"].as_str().unwrap().trim(), "{name}: text");
}

/// The stored runs of one decoder, audio or text.
fn runs(mode: &str, audio: bool) -> Vec<Value> {
    let folder = fixtures().join("expected/traces");
    let mut runs: Vec<Value> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| read_json(&entry.unwrap().path()))
        .filter(|run| run["mode"] == mode && run["audio"].is_string() == audio)
        .collect();
    runs.sort_by_key(|run| run["name"].as_str().unwrap().to_string());
    runs
}

fn check_runs(mode: &str, audio: bool, at_least: usize) {
    let paths = ModelPaths { model: Some(fixtures()), ..Default::default() };
    let diffa = Diffa::load(&gpu(), &paths, &|_| Ok(())).unwrap();
    let runs = runs(mode, audio);
    assert!(runs.len() >= at_least, "only {} runs found", runs.len());
    for run in &runs {
        check_run(&diffa, run);
    }
}

#[test]
fn audio_traces_without_cache_are_reproduced() {
    check_runs("none", true, 20);
}

#[test]
fn text_traces_without_cache_are_reproduced() {
    check_runs("none", false, 10);
}

#[test]
fn audio_traces_with_prefix_cache_are_reproduced() {
    check_runs("prefix", true, 6);
}

#[test]
fn text_traces_with_prefix_cache_are_reproduced() {
    check_runs("prefix", false, 6);
}

#[test]
fn audio_traces_with_dual_cache_are_reproduced() {
    check_runs("dual", true, 7);
}

#[test]
fn text_traces_with_dual_cache_are_reproduced() {
    check_runs("dual", false, 7);
}
