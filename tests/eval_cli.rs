//! `diffa eval` and `diffa merge` as users run them: interrupted in every way, cut into shards, over broken data.

#[path = "common/command.rs"]
mod command;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use command::{command, demo_clip, json_of, run, stderr, stdout_of, text};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A short decode of the demo model: these tests are about files.
const SHORT: [&str; 4] = ["--gen-length", "2", "--steps", "1"];

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")
}

/// `eval mmsu` on the demo's miniature.
fn mmsu(out: &Path, more: &[&str]) -> Vec<String> {
    eval("mmsu", &demo().join("bench/mini_mmsu.jsonl"), out, more)
}

fn eval(benchmark: &str, data: &Path, out: &Path, more: &[&str]) -> Vec<String> {
    let (data, out, root) = (text(data), text(out), text(&demo()));
    let args = ["eval", benchmark, "--data", &data, "--out", &out, "--audio-root", &root];
    args.iter().chain(&SHORT).chain(more).map(|arg| (*arg).to_owned()).collect()
}

fn rows(path: &Path) -> Vec<Value> {
    let content = fs::read_to_string(path).unwrap();
    match content.starts_with('[') {
        true => serde_json::from_str(&content).unwrap(),
        false => content.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
    }
}

/// Rows without what differs from run to run, or with the number of shards.
fn timeless(path: &Path) -> Vec<Value> {
    let mut rows = rows(path);
    for row in &mut rows {
        let record = row["diffa"].as_object_mut().unwrap();
        for key in ["seconds", "hear_seconds", "audio"] {
            record.remove(key);
        }
        record["run"]["shard"] = Value::Null;
    }
    rows
}

fn fails(args: &[String], code: i32, words: &[&str]) {
    let output = run(args);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// SplitMix64.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

fn start(args: &[String]) -> Child {
    command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn lines(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Waits until the file has this many lines; false if the program ends before.
fn wait_for_lines(child: &mut Child, path: &Path, wanted: usize) -> bool {
    let deadline = Instant::now() + Duration::from_secs(120);
    while lines(path) < wanted {
        assert!(Instant::now() < deadline, "no progress");
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        sleep(Duration::from_millis(2));
    }
    true
}

#[test]
fn killed_twenty_times_and_resumed_the_file_is_that_of_an_undisturbed_run() {
    let folder = folder();
    let [calm, rough] = ["calm.jsonl", "rough.jsonl"].map(|name| folder.path().join(name));
    let begin = Instant::now();
    stdout_of(&mmsu(&calm, &[]));
    let item = begin.elapsed() / 61;

    let mut chance = 20_241_124;
    let args = mmsu(&rough, &["--resume"]);
    for kill in 0..20 {
        let had = lines(&rough);
        let mut child = start(&args);
        // None, one or two more answers, then somewhere within loading or the next one.
        let more = random(&mut chance, 3) as usize;
        assert!(wait_for_lines(&mut child, &rough, had + more), "kill {kill}: the run ended before it");
        let within = if more == 0 { 6 } else { 1 };
        sleep(item.mul_f64(within as f64 * random(&mut chance, 1000) as f64 / 1000.0));
        assert_eq!(child.try_wait().unwrap(), None, "kill {kill}: the run ended before it");
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
    assert!((10..61).contains(&lines(&rough)), "{} lines after 20 kills", lines(&rough));
    stdout_of(&args);
    assert_eq!(timeless(&rough).len(), 61);
    assert_eq!(timeless(&rough), timeless(&calm));

    // All is done: nothing is loaded, nothing changes.
    let before = fs::read(&rough).unwrap();
    let output = run(&args);
    assert_eq!(output.status.code(), Some(0));
    assert!(!stderr(&output).contains("using "), "{}", stderr(&output));
    assert_eq!(fs::read(&rough).unwrap(), before);
}

#[test]
fn half_a_line_is_cut_off_and_answered_again() {
    let folder = folder();
    let [whole, torn] = ["whole.jsonl", "torn.jsonl"].map(|name| folder.path().join(name));
    stdout_of(&mmsu(&whole, &["--limit", "5"]));
    let content = fs::read_to_string(&whole).unwrap();
    let third: usize = content.split_inclusive('\n').take(2).map(str::len).sum();
    for cut in [third + 1, third + 40, content.len() - 1] {
        fs::write(&torn, &content[..cut]).unwrap();
        stdout_of(&mmsu(&torn, &["--limit", "5", "--resume"]));
        assert_eq!(timeless(&torn), timeless(&whole), "cut at {cut}");
    }

    // Damage before the end is no torn line; it is named and left as it is.
    let damaged = content.replacen("\"id\"", "id", 1);
    fs::write(&torn, &damaged).unwrap();
    fails(&mmsu(&torn, &["--limit", "5", "--resume"]), 2, &["torn.jsonl", "line 1"]);
    assert_eq!(fs::read_to_string(&torn).unwrap(), damaged);
}

#[test]
fn shards_merge_to_the_whole() {
    let folder = folder();
    let whole = folder.path().join("whole.json");
    let data = demo().join("bench/mini_mmau.json");
    let limit = ["--limit", "7"];
    stdout_of(&eval("mmau", &data, &whole, &limit));
    let shards: Vec<PathBuf> = (0..3).map(|i| folder.path().join(format!("{i}.json"))).collect();
    for (i, shard) in shards.iter().enumerate() {
        let part = format!("{i}/3");
        stdout_of(&eval("mmau", &data, shard, &[&limit[..], &["--shard", &part, "--resume"]].concat()));
    }
    assert_eq!(shards.iter().map(|path| rows(path).len()).collect::<Vec<_>>(), [2, 2, 3]);
    let out = folder.path().join("merged.json");
    let merge = |out: &Path, parts: &[&PathBuf]| -> Vec<String> {
        ["merge".to_owned(), text(out)].into_iter().chain(parts.iter().map(|path| text(path))).collect()
    };
    stdout_of(&merge(&out, &[&shards[2], &shards[0], &shards[1]]));
    assert!(fs::read_to_string(&out).unwrap().starts_with("[\n{"));
    assert_eq!(timeless(&out), timeless(&whole));
    // A complete array resumes to itself, and is scored as it stands.
    stdout_of(&eval("mmau", &data, &whole, &[&limit[..], &["--resume"]].concat()));
    assert_eq!(timeless(&whole), timeless(&out));
    let scores = json_of(&["score", "mmau", &text(&out), "--json"]);
    assert_eq!(scores["answers"], 7);

    fails(&merge(&out, &[&shards[0]]), 2, &["merged.json", "exists"]);
    let new = folder.path().join("new.json");
    fails(&merge(&new, &[&shards[0], &shards[2]]), 2, &["2 of 7", "2-3", "shard 1/3"]);
    fails(&merge(&new, &[&shards[0], &shards[1], &shards[2], &shards[1]]), 2, &["item 2", "1.json", "once"]);
    let changed = folder.path().join("changed.json");
    let mut other = rows(&shards[1]);
    other[0]["model_prediction"] = json!("something else");
    fs::write(&changed, json!(other).to_string()).unwrap();
    fails(&merge(&new, &[&shards[1], &changed]), 2, &["item 2", "changed.json", "another"]);
    other[0]["diffa"]["run"]["settings"]["seed"] = json!(5);
    fs::write(&changed, json!(other).to_string()).unwrap();
    fails(&merge(&new, &[&shards[0], &changed, &shards[2]]), 2, &["settings.seed", "different runs"]);
    fails(&merge(&new, &[&data]), 2, &["row 1", "diffa eval"]);
    assert!(!new.exists());
}

#[test]
fn filter_shuffle_and_limit_choose_the_items() {
    let folder = folder();
    let out = |name: &str| folder.path().join(name);
    let ids = |path: &Path| -> Vec<u64> {
        rows(path).iter().map(|row| row["diffa"]["index"].as_u64().unwrap()).collect()
    };
    stdout_of(&mmsu(&out("a"), &["--filter", "task_name=whisper_recognition", "--limit", "3"]));
    assert!(rows(&out("a")).iter().all(|row| row["task_name"] == "whisper_recognition"));
    assert_eq!(rows(&out("a")).len(), 3);
    for name in ["b", "c"] {
        stdout_of(&mmsu(&out(name), &["--shuffle", "7", "--limit", "4"]));
    }
    assert_eq!(ids(&out("b")), ids(&out("c")));
    assert!(!ids(&out("b")).is_sorted(), "{:?}", ids(&out("b")));
    stdout_of(&mmsu(&out("d"), &["--shuffle", "8", "--limit", "4"]));
    assert_ne!(ids(&out("b")), ids(&out("d")));
    // Values of one field are alternatives, fields must all fit.
    let both = [
        "--filter",
        "choice_d=clicks",
        "--filter",
        "choice_d=",
        "--filter",
        "choice_a=woman",
        "--limit",
        "2",
    ];
    stdout_of(&mmsu(&out("e"), &both));
    assert!(rows(&out("e")).iter().all(|row| row["choice_a"] == "woman" && row["choice_d"].is_null()));
    fails(&mmsu(&out("f"), &["--filter", "tusk=x"]), 2, &["--filter", "tusk", "task_name"]);
    fails(&mmsu(&out("f"), &["--filter", "category=x"]), 2, &["--filter", "no item"]);
    fails(&mmsu(&out("f"), &["--filter", "category"]), 2, &["--filter", "FIELD=VALUE"]);
    fails(&mmsu(&out("f"), &["--shard", "3/3"]), 2, &["--shard", "2/3"]);
    fails(&mmsu(&out("f"), &["--limit", "0"]), 2, &["--limit"]);
}

#[test]
fn broken_items_are_recorded_and_strict_stops_at_them() {
    let folder = folder();
    let clip = demo_clip("24_siren.wav");
    let cut = folder.path().join("cut.wav");
    fs::write(&cut, &fs::read(&clip).unwrap()[..30]).unwrap();
    let item = |audio: &str, reference: &str| json!({"audio": audio, "prompt": "p", "reference": reference});
    let data = folder.path().join("openbookqa.jsonl");
    let items = [item(&clip, "A"), item("absent.wav", "A"), item("cut.wav", "A"), item(&clip, "B")];
    fs::write(&data, items.iter().map(|item| format!("{item}\n")).collect::<String>()).unwrap();
    let root = text(folder.path());
    let args = |out: &Path, more: &[&str]| {
        let mut args =
            vec!["eval", "voicebench", "--data"].into_iter().map(str::to_owned).collect::<Vec<_>>();
        args.extend([text(&data), "--out".into(), text(out), "--json".into()]);
        args.extend(SHORT.iter().chain(more).map(|arg| (*arg).to_owned()));
        args
    };
    let out = folder.path().join("out.jsonl");
    let output = run(&args(&out, &[]));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 of 4 items"), "{}", stderr(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["items"], &summary["errors"]), (&json!(4), &json!(2)));
    let written = rows(&out);
    let errors: Vec<Option<&str>> = written.iter().map(|row| row["diffa"]["error"].as_str()).collect();
    assert!(errors[0].is_none() && errors[3].is_none(), "{errors:?}");
    assert!(
        errors[1].unwrap().contains("absent.wav") && errors[2].unwrap().contains("cut.wav"),
        "{errors:?}"
    );
    // The official program would draw a letter for the empty answers; here they are wrong, and it is said.
    let scores = json_of(&["score", "mcq", &text(&out), "--json"]);
    let verdicts: Vec<&Value> =
        scores["verdicts"].as_array().unwrap().iter().map(|v| &v["correct"]).collect();
    assert_eq!((verdicts[1], verdicts[2]), (&json!(false), &json!(false)));
    assert!(scores["notes"].to_string().contains("2 questions have an error"), "{}", scores["notes"]);
    // A refusal is the right answer in advbench; an error is none.
    let adv = folder.path().join("advbench.jsonl");
    fs::copy(&out, &adv).unwrap();
    let renamed = fs::read_to_string(&adv).unwrap().replace("openbookqa", "advbench");
    fs::write(&adv, renamed).unwrap();
    let scores = json_of(&["score", "harm", &text(&adv), "--json"]);
    assert_eq!(scores["verdicts"][1]["correct"], json!(false));

    // Mended, an item is tried again if that is asked for; the others stay.
    fs::copy(&clip, folder.path().join("absent.wav")).unwrap();
    json_of(&args(&out, &["--resume"]));
    assert_eq!(rows(&out), written);
    let summary = json_of(&args(&out, &["--resume", "--retry"]));
    assert_eq!((&summary["items"], &summary["errors"]), (&json!(4), &json!(1)));
    assert_eq!(rows(&out)[..2], [written[0].clone(), written[3].clone()]);

    let strict = folder.path().join("strict.jsonl");
    fails(&args(&strict, &["--strict"]), 2, &["cut.wav", "2 of 4", "--resume"]);
    assert_eq!(rows(&strict).len(), 2);
    fs::remove_file(folder.path().join("absent.wav")).unwrap();
    let lost =
        [&args(&folder.path().join("x"), &[])[..], &["--audio-root".into(), format!("{root}/no")]].concat();
    fails(
        &[&lost[..], &["--filter".into(), "audio=absent.wav".into()]].concat(),
        2,
        &["--audio-root", "absent.wav"],
    );
}

#[test]
fn files_of_other_runs_are_not_continued() {
    let folder = folder();
    let out = folder.path().join("out.jsonl");
    stdout_of(&mmsu(&out, &["--limit", "2"]));
    let content = fs::read(&out).unwrap();
    fails(&mmsu(&out, &["--limit", "2"]), 2, &["--out", "out.jsonl", "--resume"]);
    let other = |more: &[&str], words: &[&str]| fails(&mmsu(&out, &[&["--resume"], more].concat()), 2, words);
    other(
        &["--limit", "2", "--temperature", "0.5"],
        &["settings.temperature is 0.0 there and 0.5 here", "--out"],
    );
    other(&["--limit", "2", "--preset", "balanced"], &["settings.preset"]);
    // f32 is not noted: earlier versions had nothing else.
    other(
        &["--limit", "2", "--cache-dtype", "f16"],
        &["settings.cache_dtype is null there and \"f16\" here"],
    );
    other(&["--limit", "3"], &["selection.limit is 2 there and 3 here"]);
    other(&["--limit", "2", "--shard", "0/2"], &["shard"]);
    // Other data under the same options.
    let data = folder.path().join("data.jsonl");
    let swapped =
        fs::read_to_string(demo().join("bench/mini_mmsu.jsonl")).unwrap().replacen("normal", "shouted", 1);
    fs::write(&data, swapped).unwrap();
    fails(&eval("mmsu", &data, &out, &["--limit", "2", "--resume"]), 2, &["row 1", "item 0", "data"]);
    let foreign = folder.path().join("foreign.jsonl");
    fs::write(&foreign, "{\"id\": \"x\", \"response\": \"A\"}\n").unwrap();
    fails(&mmsu(&foreign, &["--resume"]), 2, &["row 1", "not written by diffa eval"]);
    assert_eq!(fs::read(&out).unwrap(), content);
    fails(&mmsu(&folder.path().join("none/out.jsonl"), &[]), 2, &["--out", "none"]);
    fails(
        &eval("mmsu", &folder.path().join("no.jsonl"), &foreign.with_extension("y"), &[]),
        2,
        &["no.jsonl"],
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_a_clean_file_and_says_how_to_go_on() {
    let folder = folder();
    let out = folder.path().join("out.jsonl");
    let mut child = start(&mmsu(&out, &[]));
    assert!(wait_for_lines(&mut child, &out, 2));
    // A second process keeps its hands off the file.
    fails(&mmsu(&out, &["--resume"]), 2, &["another process", "out.jsonl"]);
    let interrupted =
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(
        stderr(&output).contains("of 61 items") && stderr(&output).contains("--resume"),
        "{}",
        stderr(&output)
    );
    assert!((2..61).contains(&rows(&out).len()));
    assert!(fs::read(&out).unwrap().ends_with(b"\n"));
}

#[test]
fn a_shard_without_items_says_so() {
    let folder = folder();
    let out = folder.path().join("out.jsonl");
    let said = stdout_of(&mmsu(&out, &["--shard", "0/1000"]));
    assert!(
        said.contains("shard 0/1000 is empty") && said.contains("61 items") && !said.contains("judge"),
        "{said}"
    );
    let summary = json_of(&mmsu(&out, &["--shard", "0/1000", "--json"]));
    assert_eq!(summary["items"], 0);
    assert!(summary["empty"].as_str().unwrap().contains("0/1000"), "{summary}");
}

#[test]
fn data_of_another_benchmark_are_named_as_such() {
    let folder = folder();
    let out = folder.path().join("out");
    let bench = demo().join("bench");
    let mmau = bench.join("mini_mmau.json");
    let words = ["--data", "mini_mmau.json", "`audio_path`", "`audio_id`", "`diffa eval mmau`"];
    fails(&eval("mmsu", &mmau, &out, &[]), 2, &words);
    let words = ["--data", "mini_mmsu.jsonl", "`audio`", "`audio_path`", "`diffa eval mmsu`"];
    fails(&eval("voicebench", &bench, &out, &[]), 2, &words);
    let data = folder.path().join("data.jsonl");
    fs::write(&data, "{\"question\": \"q\", \"audio_path\": null}\n").unwrap();
    fails(&eval("mmsu", &data, &out, &[]), 2, &["--data", "data.jsonl", "`audio_path`"]);
    assert!(!out.exists());
}

#[test]
fn answers_go_neither_to_standard_output_nor_over_the_data() {
    let folder = folder();
    fails(&mmsu(Path::new("-"), &[]), 2, &["--out", "standard output"]);
    assert!(!Path::new("-").exists());
    let data = folder.path().join("data.jsonl");
    // Without its line end, the last line would be cut off as torn.
    let content = fs::read_to_string(demo().join("bench/mini_mmsu.jsonl")).unwrap();
    fs::write(&data, content.trim_end()).unwrap();
    fails(&eval("mmsu", &data, &data, &["--resume"]), 2, &["--out", "data.jsonl", "overwritten"]);
    assert_eq!(fs::read_to_string(&data).unwrap(), content.trim_end());
}
