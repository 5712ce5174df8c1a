//! `diffa score` on files that are not what they seem: of another benchmark, not complete, with an item twice, without
//! votes or clips, or named as output too.

#[path = "common/command.rs"]
mod command;

use std::fs;
use std::path::{Path, PathBuf};

use command::{json_of, run, stderr, stdout_of, text};
use serde_json::{Value, json};

fn fixture(name: &str) -> String {
    text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name))
}

fn write(folder: &Path, name: &str, rows: &[Value]) -> String {
    let path = folder.join(name);
    fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    text(&path)
}

/// A right MMSU answer as `diffa eval` writes it: item `place` of a run of four.
fn row(place: usize, shard: Option<&str>) -> Value {
    json!({
        "id": format!("m{place}"), "audio_path": format!("{place}.wav"), "choice_a": "x", "choice_b": "y",
        "answer_gt": "x", "response": "A", "category": "C", "sub-category": "S", "sub-sub-category": "T",
        "diffa": {"index": place, "place": place, "audio": format!("no/such/{place}.wav"), "run": {
            "benchmark": "mmsu", "settings": {"steps": 4}, "selection": {"filter": [], "items": 4}, "shard": shard,
        }},
    })
}

fn rows(places: &[usize], shard: Option<&str>) -> Vec<Value> {
    places.iter().map(|place| row(*place, shard)).collect()
}

/// Runs `diffa score` and returns what it says on stderr, after success or as an error without any result.
fn says(args: &[&str], code: i32) -> String {
    let output = run(&[&["score"], args].concat());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
    assert_eq!(output.stdout.is_empty(), code == 2, "{args:?}");
    stderr(&output)
}

fn holds(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
}

#[test]
fn answers_to_another_benchmark_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mmsu = write(folder.path(), "a.jsonl", &rows(&[0, 1, 2, 3], None));
    for benchmark in ["mmau", "voicebench", "harm", "mcq"] {
        let command = format!("`diffa score mmsu {mmsu}`");
        let wanted = if benchmark == "mmau" { "mmau" } else { "voicebench" };
        holds(&says(&[benchmark, &mmsu], 2), &["answers of mmsu", &format!("not of {wanted}"), &command]);
    }
    holds(&says(&["mmsu", &mmsu, "--compare", &fixture("tiny/bench/score_mmau.json")], 2), &["mmau"]);
    let mut mixed = rows(&[0, 1], None);
    mixed[1]["diffa"]["run"]["benchmark"] = "mmau".into();
    holds(&says(&["mmsu", &write(folder.path(), "b.jsonl", &mixed)], 2), &["line 2", "answer of mmau"]);
    // Other programs' files are told by their fields.
    let [mmau, mmsu] = ["tiny/bench/score_mmau.json", "tiny/bench/score_mmsu.jsonl"].map(fixture);
    holds(&says(&["mmsu", &mmau], 2), &["fields of mmau", "`diffa score mmau "]);
    holds(&says(&["mmau", &mmsu], 2), &["fields of mmsu", "`diffa score mmsu "]);
}

#[test]
fn an_unfinished_run_is_no_complete_one() {
    let folder = tempfile::tempdir().unwrap();
    let complete = write(folder.path(), "all.jsonl", &rows(&[3, 1, 0, 2], None));
    assert_eq!(says(&["mmsu", &complete], 0), "");
    assert_eq!(json_of(&["score", "mmsu", &complete, "--json"]).get("incomplete"), None);

    let part = write(folder.path(), "part.jsonl", &rows(&[0, 2, 3], None));
    holds(&says(&["mmsu", &part], 0), &["warning: ", "part.jsonl: 3 of the run's 4 items", "--resume"]);
    let scores = json_of(&["score", "mmsu", &part, "--json"]);
    let gap = &scores["incomplete"];
    assert_eq!((&gap["answered"], &gap["expected"]), (&json!(3), &json!(4)));
    let page = text(&folder.path().join("page.html"));
    assert!(stdout_of(&["score", "mmsu", &part, "--html", &page]).contains("note: 3 of the run's 4 items"));
    assert!(fs::read_to_string(&page).unwrap().contains("3 of the run's 4 items"));

    // One shard is a part, both are the whole.
    let first = write(folder.path(), "0.jsonl", &rows(&[0, 1], Some("0/2")));
    let second = write(folder.path(), "1.jsonl", &rows(&[2, 3], Some("1/2")));
    holds(&says(&["mmsu", &first], 0), &["2 of the run's 4 items", "shard 1/2", "diffa merge"]);
    assert_eq!(says(&["mmsu", &first, &second], 0), "");
    let both = json_of(&["score", "mmsu", &first, &second, "--json"]);
    assert_eq!(both[1]["incomplete"]["missing_shards"], json!(["0/2"]));
    // Not even a file that says so has this many shards listed.
    let many = write(folder.path(), "many.jsonl", &rows(&[0], Some("0/18446744073709551615")));
    holds(&says(&["mmsu", &many], 0), &["1 of the run's 4 items"]);
}

#[test]
fn no_item_counts_twice() {
    let folder = tempfile::tempdir().unwrap();
    let one = write(folder.path(), "one.jsonl", &rows(&[0, 1, 0], None));
    holds(&says(&["mmsu", &one], 2), &["one.jsonl: line 3", "item 0", "line 1"]);
    let a = write(folder.path(), "a.jsonl", &rows(&[0, 1], None));
    let b = write(folder.path(), "b.jsonl", &rows(&[1, 2], None));
    holds(&says(&["mmsu", &a, &b], 2), &["item 1 is in ", "a.jsonl and again in ", "b.jsonl"]);
    let mut other = rows(&[1, 2], None);
    other[0]["response"] = "B".into();
    let c = write(folder.path(), "c.jsonl", &other);
    holds(&says(&["mmsu", &a, &c], 2), &["item 1 has one answer in ", "another in "]);
    let again = text(&folder.path().join(".").join("a.jsonl"));
    holds(&says(&["mmsu", &a, &again], 2), &["FILE", "a.jsonl is given twice"]);
    // Two runs of the same items may stand in one table, but have no sum.
    let mut fast = rows(&[0, 1], None);
    fast.iter_mut().for_each(|row| row["diffa"]["run"]["settings"]["steps"] = 1.into());
    let fast = write(folder.path(), "fast.jsonl", &fast);
    let table = stdout_of(&["score", "mmsu", &a, &fast]);
    assert!(!table.contains("(all)"), "{table}");
    let joined = folder.path().join("joined.jsonl");
    fs::write(&joined, fs::read_to_string(&a).unwrap() + &fs::read_to_string(&fast).unwrap()).unwrap();
    holds(&says(&["mmsu", &text(&joined)], 0), &["different settings"]);
    // Other programs' rows may have reasons of their own.
    let mut foreign = rows(&[0, 1, 0, 1], None);
    foreign.iter_mut().for_each(|row| _ = row.as_object_mut().unwrap().remove("diffa"));
    let foreign = write(folder.path(), "foreign.jsonl", &foreign);
    holds(&says(&["mmsu", &foreign], 0), &["2 rows repeat the id of another one, for example m0"]);
}

#[test]
fn a_subset_without_votes_does_not_hold_up_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mcq = json!({"subset": "openbookqa", "split": "test", "response": "B.", "reference": "B"});
    let qa = json!({"subset": "sd-qa", "split": "usa", "prompt": "p", "response": "r", "reference": "r"});
    let file = write(folder.path(), "all.jsonl", &[mcq.clone(), qa.clone(), qa.clone()]);
    holds(&says(&["voicebench", &file], 0), &["warning: no scores for sd-qa usa", "--judge URL"]);
    let page = text(&folder.path().join("page.html"));
    let table = stdout_of(&["score", "voicebench", &file, "--html", &page]);
    assert!(table.contains("100.00 %"), "{table}");
    assert!(table.lines().any(|l| l.starts_with("sd-qa usa") && l.ends_with("needs --judge")), "{table}");
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("<td>needs --judge</td>") && html.contains("without a judge"), "{html}");
    let scores = json_of(&["score", "voicebench", &file, "--json"]);
    assert_eq!((scores[0].get("needs_judge"), &scores[0]["metrics"][0]["value"]), (None, &json!(100.0)));
    assert_eq!((&scores[1]["needs_judge"], &scores[1]["answers"]), (&json!(true), &json!(2)));
    assert_eq!(scores[1]["metrics"], json!([]));
    // Where there is nothing else to show, it is an error; and so are votes that are there in part.
    let alone = write(folder.path(), "alone.jsonl", std::slice::from_ref(&qa));
    holds(&says(&["voicebench", &alone], 2), &["line 1: `score` is missing", "--judge"]);
    let mut voted = qa.clone();
    voted["score"] = json!(["yes"]);
    let partly = write(folder.path(), "partly.jsonl", &[mcq, voted, qa]);
    holds(&says(&["voicebench", &partly], 2), &["line 3: `score` is missing", "--judge"]);
}

#[test]
fn a_subset_without_rules_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [json!({"response": "r", "diffa": {"subset": "openqa"}})];
    let file = write(folder.path(), "vb.jsonl", &rows);
    let message = says(&["voicebench", &file], 2);
    holds(&message, &["--subset", "line 1", "vb.jsonl", "subset `openqa`", "sd-qa", "ifeval"]);
    says(&["voicebench", &file, "--subset", "advbench"], 0);
}

#[test]
fn clips_that_are_not_found_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let page = text(&folder.path().join("page.html"));
    let file = write(folder.path(), "a.jsonl", &rows(&[0, 1, 2, 3], None));
    let args = ["mmsu", &file, "--html", &page];
    let root = text(folder.path());
    let lost = says(&[&args[..], &["--embed-audio"]].concat(), 0);
    holds(&lost, &[&format!("4 of 4 clips not found under {root}, for example 0.wav"), "--audio-root"]);
    fs::write(folder.path().join("1.wav"), b"RIFF").unwrap();
    holds(&says(&args, 0), &["3 of 4 clips not found"]);
    holds(&says(&[&args[..], &["--audio-root", "no/such"]].concat(), 0), &["4 of 4", "under no/such"]);
    // Where the run found it, a clip is found without being told.
    let sounds = tempfile::tempdir().unwrap();
    let noted = sounds.path().join("x.wav");
    fs::write(&noted, b"RIFF").unwrap();
    let mut all = rows(&[0, 1, 2, 3], None);
    all.iter_mut().for_each(|row| row["diffa"]["audio"] = text(&noted).into());
    let file = write(folder.path(), "b.jsonl", &all);
    let message = says(&["mmsu", &file, "--html", &page, "--embed-audio"], 0);
    assert!(!message.contains("clips"), "{message}");
    assert_eq!(fs::read_to_string(&page).unwrap().matches("data:audio/wav;base64,").count(), 4);
}

#[test]
fn no_output_is_an_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let file = write(folder.path(), "a.jsonl", &rows(&[0, 1, 2, 3], None));
    let other = write(folder.path(), "b.jsonl", &rows(&[0, 1, 2, 3], None));
    let content = fs::read(&file).unwrap();
    fs::create_dir(path("d")).unwrap();
    let mut names: Vec<PathBuf> = vec![path("a.jsonl"), path("d/../a.jsonl")];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&file, path("soft")).unwrap();
        fs::hard_link(&file, path("hard")).unwrap();
        names.extend([path("soft"), path("hard")]);
    }
    for name in names {
        let name = text(&name);
        for args in
            [vec!["mmsu", &file, "--html", &name], vec!["mmsu", &other, "--compare", &file, "--html", &name]]
        {
            holds(&says(&args, 2), &["--html: ", &name, "overwritten"]);
        }
    }
    // Nothing is read before: neither are damaged files, nor is a judge asked.
    let damaged = path("damaged.jsonl");
    fs::write(&damaged, "{").unwrap();
    let damaged = text(&damaged);
    let judge = ["--judge", "http://127.0.0.1:9/v1", "--judge-model", "m"];
    holds(
        &says(&[&["open", &damaged, "--judged", &damaged], &judge[..]].concat(), 2),
        &["--judged: ", "overwritten"],
    );
    let votes = text(&path("damaged.judged.jsonl"));
    fs::write(&votes, "").unwrap();
    holds(&says(&[&["open", &damaged, &votes], &judge[..]].concat(), 2), &["--judged: ", &votes]);
    holds(&says(&[&["open", &damaged, "--html", &votes], &judge[..]].concat(), 2), &["--html: ", "votes"]);
    assert_eq!(fs::read(&file).unwrap(), content);
}
