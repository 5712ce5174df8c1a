//! Benchmarks through the library: questions, answers and scores against the stored ones of the reference.

mod common;

use std::path::{Path, PathBuf};

use common::{demo, fixtures, gpu, read_json};
use diffa::eval::answers::AnswerFile;
use diffa::eval::benchmark::Benchmark;
use diffa::eval::record::{RECORD, Run};
use diffa::eval::runner::{self, Job, Tally};
use diffa::eval::select::{Selected, Selection};
use diffa::eval::{Object, dataset};
use diffa::{Cache, DecodeOptions, Diffa, ModelPaths, Rule, text};
use serde_json::Value;

fn tiny() -> Diffa {
    let paths = ModelPaths { model: Some(fixtures()), ..Default::default() };
    Diffa::load(&gpu(), &paths, &|_| Ok(())).unwrap()
}

fn select(benchmark: Benchmark, data: &Path, audio_root: &Path) -> Selected {
    Selection::default().apply(dataset::read(benchmark, data, Some(audio_root)).unwrap()).unwrap()
}

/// Answers everything and returns the file's content.
fn answer(
    diffa: &Diffa,
    benchmark: Benchmark,
    selected: &Selected,
    options: &DecodeOptions,
) -> (String, Tally) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("answers");
    let mut file = AnswerFile::create(&out, benchmark).unwrap();
    let run = Run::new(benchmark, Object::new(), &Selection::default(), selected);
    let system = text::DEFAULT_SYSTEM;
    let job = Job { diffa, benchmark, options, system, strict: true, run: &run, device: "test" };
    let mut tally = Tally::default();
    runner::run(&job, &selected.due, &mut file, &mut |event| {
        if let runner::Event::Finished(row) = event {
            tally.add(benchmark, row);
        }
        Ok(())
    })
    .unwrap();
    file.finish().unwrap();
    (std::fs::read_to_string(out).unwrap(), tally)
}

/// The rows as official programs know them.
fn published(content: &str) -> Vec<Object> {
    let mut rows: Vec<Object> = match content.starts_with('[') {
        true => serde_json::from_str(content).unwrap(),
        false => content.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
    };
    for row in &mut rows {
        assert!(row.remove(RECORD).is_some());
    }
    rows
}

/// Their text, in which the order of the keys counts.
fn texts(rows: &[Object]) -> Vec<String> {
    rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect()
}

#[test]
fn questions_and_their_token_ids_are_the_reference_s() {
    let diffa = tiny();
    let prompts = &read_json(&fixtures().join("expected/prompts.json"))["prompts"];
    for (benchmark, file) in [
        (Benchmark::Mmsu, "mmsu.jsonl"),
        (Benchmark::Mmau, "mmau.json"),
        (Benchmark::Voicebench, "voicebench.jsonl"),
    ] {
        let selected = select(benchmark, &fixtures().join("bench").join(file), &fixtures());
        let question = benchmark.question(&selected.due[0].item.fields).unwrap();
        let golden = &prompts[benchmark.name()];
        assert_eq!(question, golden["text"].as_str().unwrap(), "{benchmark}");
        let ids: Vec<u32> = serde_json::from_value(golden["ids"].clone()).unwrap();
        assert_eq!(diffa.audio_prompt(&question, text::DEFAULT_SYSTEM).unwrap().ids, ids, "{benchmark}");
    }
}

#[test]
fn answer_files_of_the_tiny_model_are_the_reference_s() {
    let diffa = tiny();
    let bench = fixtures().join("bench");
    for (benchmark, data, expected) in [
        (Benchmark::Mmsu, "mmsu.jsonl", "mmsu.expected.jsonl"),
        (Benchmark::Mmau, "mmau.json", "mmau.expected.json"),
        (Benchmark::Voicebench, "voicebench.jsonl", "voicebench.expected.jsonl"),
    ] {
        let selected = select(benchmark, &bench.join(data), &fixtures());
        let (content, _) = answer(&diffa, benchmark, &selected, &benchmark.decode_options());
        assert_eq!(content.starts_with('['), benchmark == Benchmark::Mmau);
        let golden = std::fs::read_to_string(bench.join(expected)).unwrap();
        let golden: Vec<Object> = match benchmark {
            Benchmark::Mmau => serde_json::from_str(&golden).unwrap(),
            _ => golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        };
        assert!(golden.len() >= 2);
        assert_eq!(texts(&published(&content)), texts(&golden), "{benchmark}");
    }
}

/// The demo's miniature of a benchmark, all answers and the score, with a stored decoder.
fn check_demo(benchmark: Benchmark, data: &str, name: &str, decoder: &str) {
    let diffa = Diffa::load(&gpu(), &ModelPaths::default(), &|_| Ok(())).unwrap();
    let mut options = benchmark.decode_options();
    if decoder == "dual_threshold" {
        (options.cache, options.rule) = (Cache::Dual, Rule::Threshold(0.9));
    }
    let bench = demo().join("bench");
    let (content, tally) =
        answer(&diffa, benchmark, &select(benchmark, &bench.join(data), &demo()), &options);
    let golden = &read_json(&bench.join("expected_scores.json"))["scores"][name];
    let key = if decoder == "vanilla" { "response" } else { "dual_threshold_response" };
    let ours = published(&content);
    let theirs = golden["responses"].as_array().unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours["id"], theirs["id"]);
        assert_eq!(ours[benchmark.answer_field()], theirs[key], "{} with {decoder}", theirs["id"]);
    }
    let count = |key: &str| golden[decoder][key].as_u64().unwrap() as usize;
    assert_eq!(
        (tally.right, tally.items, tally.failed),
        (count("correct"), count("total"), 0),
        "{name}, {decoder}"
    );
    assert_eq!(tally.judged, tally.items);
}

#[test]
fn mini_mmsu_scores_as_stored() {
    check_demo(Benchmark::Mmsu, "mini_mmsu.jsonl", "mini_mmsu", "vanilla");
    check_demo(Benchmark::Mmsu, "mini_mmsu.jsonl", "mini_mmsu", "dual_threshold");
}

#[test]
fn mini_mmau_scores_as_stored() {
    check_demo(Benchmark::Mmau, "mini_mmau.json", "mini_mmau", "vanilla");
    check_demo(Benchmark::Mmau, "mini_mmau.json", "mini_mmau", "dual_threshold");
}

#[test]
fn mini_voicebench_scores_as_stored() {
    for subset in ["sd-qa", "openqa"] {
        for decoder in ["vanilla", "dual_threshold"] {
            let file = format!("mini_voicebench/{subset}");
            check_demo(Benchmark::Voicebench, &format!("{file}.jsonl"), &file, decoder);
        }
    }
}

fn hub() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/voicebench_hf")
}

#[test]
fn parquet_files_of_the_hub_are_read() {
    let items = dataset::read(Benchmark::Voicebench, &hub(), None).unwrap();
    let place = |item: &dataset::Item| (item.subset.clone().unwrap(), item.split.clone().unwrap());
    let places: Vec<_> = items.iter().map(place).collect();
    let expected = [("ifeval", "test", 1), ("openbookqa", "test", 3), ("sd-qa", "usa", 4)];
    let expected: Vec<_> =
        expected.iter().flat_map(|(a, b, n)| vec![(a.to_string(), b.to_string()); *n]).collect();
    assert_eq!(places, expected);
    assert_eq!(items.iter().map(|item| item.index).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    let text = |item: &dataset::Item| serde_json::to_string(&item.fields).unwrap();
    assert_eq!(text(&items[4]), r#"{"prompt":"Which animal says meow?","reference":"Cat"}"#);
    // Nested columns, absent values as null, whole numbers as such: what IFEval's scorer reads.
    assert_eq!(items[0].fields["key"], 1000);
    assert_eq!(items[0].fields["kwargs"][0]["num_words"], 30);
    assert_eq!(items[0].fields["kwargs"][1]["num_words"], Value::Null);

    // One file alone belongs to the subset of its folder.
    let one =
        dataset::read(Benchmark::Voicebench, &hub().join("sd-qa/usa-00001-of-00002.parquet"), None).unwrap();
    assert_eq!((one.len(), one[0].subset.as_deref()), (1, Some("sd-qa")));
}

#[test]
fn embedded_clips_are_heard_in_any_order_and_a_broken_one_is_recorded() {
    let diffa = Diffa::load(&gpu(), &ModelPaths::default(), &|_| Ok(())).unwrap();
    let benchmark = Benchmark::Voicebench;
    let options = DecodeOptions::new(1, 2, 2);
    let answers = |shuffle: Option<u64>| {
        let selection = Selection { shuffle, ..Default::default() };
        let selected = selection.apply(dataset::read(benchmark, &hub(), None).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("answers.jsonl");
        let mut file = AnswerFile::create(&out, benchmark).unwrap();
        let run = Run::new(benchmark, Object::new(), &selection, &selected);
        let (diffa, options, system) = (&diffa, &options, text::DEFAULT_SYSTEM);
        let job = Job { diffa, benchmark, options, system, strict: false, run: &run, device: "test" };
        runner::run(&job, &selected.due, &mut file, &mut |_| Ok(())).unwrap();
        let content = std::fs::read_to_string(out).unwrap();
        let mut rows: Vec<Value> = content.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        rows.sort_by_key(|row| row[RECORD]["index"].as_u64());
        rows
    };
    let [plain, mixed] = [None, Some(3)].map(answers);
    for (a, b) in plain.iter().zip(&mixed) {
        assert_eq!((&a["prompt"], &a["response"]), (&b["prompt"], &b["response"]));
        assert_eq!(a[RECORD]["audio_seconds"], b[RECORD]["audio_seconds"]);
    }
    for (i, row) in plain.iter().enumerate() {
        if i == 2 {
            let error = row[RECORD]["error"].as_str().unwrap();
            assert!(error.contains("test-00000-of-00001.parquet#1"), "{error}");
            assert_eq!(row["response"], "");
        } else {
            assert_eq!(row[RECORD]["audio_seconds"], 0.15, "{row}");
            assert_eq!(row[RECORD].get("error"), None);
        }
    }
}

#[test]
fn questions_about_one_clip_share_its_hearing() {
    let diffa = tiny();
    let selected = select(Benchmark::Mmsu, &fixtures().join("bench/mmsu.jsonl"), &fixtures());
    let (content, _) = answer(&diffa, Benchmark::Mmsu, &selected, &DecodeOptions::new(1, 1, 1));
    let heard: Vec<bool> = content
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()[RECORD]["hear_seconds"].as_f64().unwrap() > 0.0
        })
        .collect();
    assert_eq!(heard, [true, false, false]);
}
