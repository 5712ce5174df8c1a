//! The demo model's answers to all questions of `assets/demo/expected.json`, against those of the PyTorch
//! reference: prompt ids, answer ids, text and number of forwards, with each of the stored decoders.
//!
//! A stored run tells how close its nearest tie was. Once an answer has ended, its end-of-text rows all have
//! a confidence of nearly 1, so most runs hold ties in the order of their last rows; such a tie may fall
//! either way and rarely changes a token. Runs without a near tie must be equal; of the others, hardly any
//! may differ.

mod common;

use std::collections::HashMap;

use common::{demo, gpu, read_json};
use diffa::{Answer, Cache, Clip, DecodeOptions, Diffa, ModelPaths, Rule, audio, text};
use serde_json::Value;

/// Distances below this count as a near tie: what different orders of summation do to a logit or a
/// confidence.
const NEAR_TIE: f64 = 1e-3;
/// One run in so many may differ, if it holds a near tie.
const RUNS_PER_FLIP: usize = 100;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn options(run: &Value) -> DecodeOptions {
    let options = &run["options"];
    let n = |key: &str| options[key].as_u64().unwrap() as usize;
    assert_eq!((options["temperature"].as_f64(), options["cfg_scale"].as_f64()), (Some(0.0), Some(0.0)));
    DecodeOptions {
        cache: options["mode"].as_str().unwrap().parse::<Cache>().unwrap(),
        rule: options["threshold"].as_f64().map_or(Rule::Quota, |value| Rule::Threshold(value as f32)),
        ..DecodeOptions::new(n("steps"), n("block_length"), n("gen_length"))
    }
}

fn hear(diffa: &Diffa, item: &Value) -> Clip {
    let path = demo().join(item["audio"].as_str().unwrap());
    diffa.hear(&audio::read(&path, 16_000).unwrap().samples).unwrap()
}

fn ask(diffa: &Diffa, clip: &Clip, item: &Value, run: &Value) -> Answer {
    let question = item["question"].as_str().unwrap();
    diffa.ask(clip, question, text::DEFAULT_SYSTEM, &options(run), |_, _| Ok(())).unwrap()
}

fn items() -> Vec<Value> {
    let expected = read_json(&demo().join("expected.json"));
    expected["items"].as_array().unwrap().clone()
}

/// Checks every `every`-th question with one decoder.
fn check_answers(decoder: &str, every: usize) {
    let diffa = Diffa::load(&gpu(), &ModelPaths::default(), &|_| Ok(())).unwrap();
    let mut clips: HashMap<String, Clip> = HashMap::new();
    let (mut runs, mut ties, mut flips) = (0, 0, Vec::new());
    for item in items().iter().step_by(every) {
        let id = item["id"].as_str().unwrap();
        let audio = item["audio"].as_str().unwrap().to_string();
        let clip = clips.entry(audio).or_insert_with(|| hear(&diffa, item));
        assert_eq!(clip.rows() as u64, item["audio_rows"].as_u64().unwrap(), "{id}: audio rows");
        assert_eq!(clip.valid.frames as u64, item["frames"].as_u64().unwrap(), "{id}: frames");
        let question = item["question"].as_str().unwrap();
        let prompt = diffa.audio_prompt(question, text::DEFAULT_SYSTEM).unwrap();
        assert_eq!(prompt.ids, ids(&item["prompt_ids"]), "{id}: prompt ids");
        assert_eq!(prompt.audio_position.map(|p| p as u64), item["audio_pos"].as_u64(), "{id}: position");

        let run = &item[decoder];
        let answer = ask(&diffa, clip, item, run);
        let (want, text) = (ids(&run["ids"]), run["text"].as_str().unwrap().trim());
        let nfe = run["nfe"].as_u64().unwrap() as usize;
        let is_equal = answer.ids == want && answer.text == text && answer.nfe == nfe;
        let near = |key: &str| run[key].as_f64().unwrap() < NEAR_TIE;
        let is_tie = near("min_logit_margin") || near("min_confidence_gap");
        runs += 1;
        ties += usize::from(is_tie);
        if !is_equal {
            let flip = format!("{id}: `{}` {:?}, not `{text}` {want:?}", answer.text, answer.ids);
            assert!(is_tie, "{decoder}: {flip}");
            flips.push(flip);
        }
    }
    println!("{decoder}: {runs} answers, {ties} of them with a near tie; {} differ {flips:#?}", flips.len());
    assert!(runs >= 110 / every, "only {runs} stored answers found");
    assert!(flips.len() <= runs.div_ceil(RUNS_PER_FLIP), "too many differ, even for near ties: {flips:#?}");
}

#[test]
fn plain_answers_are_the_reference_s() {
    check_answers("vanilla", 1);
}

#[test]
fn cached_answers_with_a_threshold_are_the_reference_s() {
    check_answers("dual_threshold", 1);
}

#[test]
fn some_answers_in_blocks_of_four_are_the_reference_s() {
    check_answers("vanilla_block4", 5);
}

#[test]
#[ignore = "a minute more for the rest of a decoder tested above; run it with `cargo test --test demo -- --ignored`"]
fn all_answers_in_blocks_of_four_are_the_reference_s() {
    check_answers("vanilla_block4", 1);
}

#[test]
fn the_model_folder_gives_the_same_answers_as_the_embedded_copy() {
    let folder = ModelPaths { model: Some(demo().join("model")), ..Default::default() };
    let [embedded, loaded] =
        [ModelPaths::default(), folder].map(|paths| Diffa::load(&gpu(), &paths, &|_| Ok(())).unwrap());
    // The weights are the same bytes, so a question here and there is enough.
    for item in items().iter().step_by(11) {
        let [ours, theirs] =
            [&embedded, &loaded].map(|diffa| ask(diffa, &hear(diffa, item), item, &item["vanilla"]));
        assert_eq!(ours.steps, theirs.steps, "{}: every step, confidences bit for bit", item["id"]);
        assert_eq!((ours.ids, ours.text), (theirs.ids, theirs.text));
    }
}
