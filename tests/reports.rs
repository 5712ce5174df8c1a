//! Scores of VoiceBench subsets, the page about a run, and the table of several runs, against values found by hand.

#[path = "common/command.rs"]
mod command;

use std::fs;
use std::path::{Path, PathBuf};

use command::{json_of, run, stderr, stdout_of, text};
use scraper::{ElementRef, Html, Selector};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn write(folder: &Path, name: &str, rows: &[Value]) -> String {
    let path = folder.join(name);
    fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    text(&path)
}

fn close(value: &Value, expected: f64) {
    let found = value.as_f64().unwrap_or_else(|| panic!("{value} is no number, but should be {expected}"));
    assert!((found - expected).abs() < 1e-4, "{found} should be {expected}");
}

#[test]
fn voicebench_picks_the_rules_by_subset() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let path = folder.path().join(to);
        fs::copy(fixture(&format!("voicebench/{from}.jsonl")), &path).unwrap();
        text(&path)
    };
    let files = [
        ("mcq", copy("mcq", "myModel-mmsu-law.jsonl")),
        ("mcq", copy("mcq", "myModel-mmsu-physics.jsonl")),
        ("bbh", copy("bbh", "myModel-bbh-test-audio.jsonl")),
        ("harm", copy("harm", "result-myModel-advbench-test.jsonl")),
        ("qa", copy("qa", "myModel-sd-qa-usa.jsonl")),
        ("open", copy("open", "myModel-alpacaeval_full-test.jsonl")),
        ("ifeval", copy("ifeval", "myModel-ifeval-test.jsonl")),
    ];
    let paths = files.iter().map(|(_, path)| path.as_str());
    let args: Vec<&str> = ["score", "voicebench"].into_iter().chain(paths).collect();
    let scored = json_of(&[&args[..], &["--json"]].concat());
    for (part, (evaluator, path)) in scored.as_array().unwrap().iter().zip(&files) {
        assert_eq!(
            (part["evaluator"].as_str(), part["file"].as_str()),
            (Some(*evaluator), Some(path.as_str()))
        );
        let alone = json_of(&["score", evaluator, path, "--json"]);
        assert_eq!(part["metrics"], alone["metrics"], "{path}");
    }
    assert_eq!((&scored[4]["subset"], &scored[4]["split"]), (&json!("sd-qa"), &json!("usa")));
    let table = stdout_of(&args);
    assert_eq!(table.lines().count(), 1 + 7 + 1, "{table}");
    assert!(
        table.contains("mmsu law ")
            && table.lines().any(|l| l.starts_with("mmsu (all)") && l.contains(" 598 "))
    );

    let unnamed = copy("harm", "answers.jsonl");
    let output = run(&["score", "voicebench", &unnamed]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("--subset") && stderr(&output).contains("advbench"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        json_of(&["score", "voicebench", &unnamed, "--subset", "advbench", "--json"])["evaluator"],
        "harm"
    );
    assert_eq!(run(&["score", "mmau", &unnamed, "--subset", "bbh"]).status.code(), Some(2));

    // One file with rows of two subsets.
    let rows = [
        json!({"subset": "advbench", "split": "test", "response": "I cannot do that."}),
        json!({"subset": "openbookqa", "split": "test", "response": "B.", "reference": "B"}),
        json!({"subset": "advbench", "split": "test", "response": "Sure!"}),
    ];
    let mixed = write(folder.path(), "all.jsonl", &rows);
    let scored = json_of(&["score", "voicebench", &mixed, "--json"]);
    assert_eq!((&scored[0]["answers"], &scored[1]["answers"]), (&json!(2), &json!(1)));
    close(&scored[0]["metrics"][0]["value"], 0.5);
}

#[test]
fn errors_count_as_wrong_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mmau = |extra: Value| {
        let mut row = json!({"audio_id": "a.wav", "choices": ["dog", "cat"], "answer": "dog", "task": "sound",
                             "difficulty": "easy"});
        row.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        row
    };
    let cases = [
        (
            "mmsu",
            json!({"choice_a": "x", "answer_gt": "x", "response": "A"}),
            json!({"choice_a": "x", "answer_gt": "x"}),
        ),
        ("mmau", mmau(json!({"model_prediction": "dog"})), mmau(json!({}))),
        ("mcq", json!({"reference": "A", "response": "A"}), json!({"reference": "A"})),
        (
            "bbh",
            json!({"id": "navigate", "reference": "no", "response": "no"}),
            json!({"id": "navigate", "reference": "no"}),
        ),
        ("harm", json!({"response": ""}), json!({"prompt": "p"})),
    ];
    for (evaluator, good, mut broken) in cases {
        broken["error"] = "clip.wav: truncated".into();
        let file = write(folder.path(), "answers.jsonl", &[good, broken.clone()]);
        let scores = json_of(&["score", evaluator, &file, "--json"]);
        assert_eq!((&scores["answers"], &scores["errors"]), (&json!(2), &json!(1)), "{evaluator}");
        let half = if scores["metrics"][0]["unit"] == "percent" { 50.0 } else { 0.5 };
        close(&scores["metrics"][0]["value"], half);
        assert_eq!(scores["verdicts"][1]["error"], "clip.wav: truncated");
        assert_eq!(scores["verdicts"][1]["correct"], false);
        assert!(stdout_of(&["score", evaluator, &file]).contains("(2 answers, 1 errors)"));
    }
    // A null in place of an answer is the same; an error beside an answer is somebody else's.
    let rows = [
        json!({"reference": "A", "response": null, "error": "gone"}),
        json!({"reference": "A", "response": "A", "error": "of the judge"}),
    ];
    let scores = json_of(&["score", "mcq", &write(folder.path(), "nulls.jsonl", &rows), "--json"]);
    assert_eq!((&scores["errors"], &scores["metrics"][0]["value"]), (&json!(1), &json!(50.0)));
}

/// Ten MMSU answers in file order: which are right, what each cost, which preset.
fn mmsu(folder: &Path, preset: &str, right: &str, seconds: f64, nfe: u64) -> String {
    let row = |(n, right): (usize, char)| {
        let mut row = json!({
            "id": format!("m{n}"), "question": "Which?", "choice_a": "x", "choice_b": "y", "answer_gt": "x",
            "category": "C", "sub-category": "S", "sub-sub-category": "T", "preset": preset,
        });
        let object = row.as_object_mut().unwrap();
        match right {
            'e' => _ = object.insert("error".into(), "broken".into()),
            right => {
                object.insert("response".into(), if right == '1' { "A" } else { "B" }.into());
                object.insert("seconds".into(), (seconds * (n + 1) as f64).into());
                object.insert("nfe".into(), nfe.into());
                object.insert("settings".into(), json!({"steps": nfe}));
            }
        }
        row
    };
    write(folder, &format!("{preset}.jsonl"), &right.chars().enumerate().map(row).collect::<Vec<_>>())
}

#[test]
fn the_table_of_runs_matches_hand_calculation() {
    let folder = tempfile::tempdir().unwrap();
    let exact = mmsu(folder.path(), "exact", "1111111100", 1.0, 16);
    let fast = mmsu(folder.path(), "fast", "111100010e", 0.5, 4);
    let report = json_of(&["report", &exact, &fast, "--json"]);
    assert_eq!((&report["subset"], &report["baseline"]), (&json!("mmsu"), &json!("exact")));
    let [first, second] = [&report["runs"][0], &report["runs"][1]];
    assert_eq!((&first["name"], &second["name"]), (&json!("exact"), &json!("fast")));
    assert_eq!((&second["answers"], &second["errors"]), (&json!(10), &json!(1)));
    // 8 and 5 of 10; Wilson's interval of 0.8 and 10: (0.8 + 0.19207 +- 0.27722) / 1.38415.
    close(&first["score"]["value"], 0.8);
    close(&second["score"]["value"], 0.5);
    close(&first["score"]["interval"]["low"], 0.4902);
    close(&first["score"]["interval"]["high"], 0.9433);
    // Seconds 1 to 10 and 0.5 to 4.5; the broken item has no cost.
    close(&first["seconds"]["mean"], 5.5);
    close(&second["seconds"]["mean"], 2.5);
    close(&second["seconds"]["median"], 2.5);
    close(&first["seconds"]["median"], 5.5);
    close(&second["seconds"]["total"], 22.5);
    assert_eq!((&first["nfe"]["mean"], &second["nfe"]["mean"]), (&json!(16.0), &json!(4.0)));
    assert_eq!((&second["nfe"]["items"], &second["rtf"]), (&json!(9), &Value::Null));
    assert_eq!(second["settings"], "{\"steps\": 4}");
    // exact only: m4 m5 m6, fast only: none, both: m0-m3 m7, neither: m8 m9.
    assert_eq!(first["versus_baseline"], Value::Null);
    let versus = &second["versus_baseline"];
    let counts = ["both", "only_first", "only_second", "neither"].map(|key| versus[key].as_u64().unwrap());
    assert_eq!(counts, [5, 3, 0, 2]);
    assert_eq!(versus["first_better"], json!(["m4", "m5", "m6"]));
    close(&versus["mcnemar"]["exact_p"], 0.25); // 2 / 2^3
    close(&versus["difference"]["value"], -0.3);
    // Agresti and Min: 3.5 and 0.5 of 12; -0.25 +- 1.96 sqrt(4 - 9 / 12) / 12.
    close(&versus["difference"]["interval"]["low"], -0.5445);
    close(&versus["difference"]["interval"]["high"], 0.0445);

    let table = stdout_of(&["report", &exact, &fast]);
    assert!(table.contains("against exact") && table.contains("-0.3000 [-0.5444 .. +0.0444]"), "{table}");
    let table = stdout_of(&["report", &exact, &fast, "--baseline", &fast, "--markdown"]);
    let rows: Vec<&str> = table.lines().collect();
    assert!(
        rows.len() == 4 && rows[1].starts_with("|--") && rows.iter().all(|row| row.ends_with('|')),
        "{table}"
    );
    assert!(
        rows[2].contains("+0.3000") && rows[2].contains("0.2500") && rows[3].contains("|      1 |"),
        "{table}"
    );
}

#[test]
fn runs_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let exact = mmsu(folder.path(), "exact", "11", 1.0, 16);
    let mmau = text(&fixture("tiny/bench/score_mmau.json"));
    for (args, message) in [
        (vec!["report", &exact, &mmau], "one table is about one benchmark"),
        (vec!["report", &exact, "--baseline", &mmau], "is not one of the files"),
        (vec!["report", "no/such.jsonl"], "cannot read no/such.jsonl"),
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
    // Without any noted cost there is still a table, with the files' names.
    assert!(stdout_of(&["report", &mmau]).contains("score_mmau"));
}

#[test]
fn voicebench_runs_are_compared_in_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, points: [f64; 4]| {
        let row = |(n, points): (usize, &f64)| json!({"index": n, "score": [points.to_string()]});
        write(folder.path(), name, &points.iter().enumerate().map(row).collect::<Vec<_>>())
    };
    let (a, b) = (
        open("a-commoneval-test.jsonl", [1.0, 2.0, 3.0, 4.0]),
        open("b-commoneval-test.jsonl", [2.0, 4.0, 6.0, 4.0]),
    );
    let versus = &json_of(&["score", "voicebench", &a, "--compare", &b, "--json"])["comparison"];
    // Differences 1, 2, 3, 0: mean 1.5, t(0.975, 3) = 3.18245, standard error sqrt(5/3) / 2.
    close(&versus["difference"]["value"], 1.5);
    close(&versus["difference"]["interval"]["low"], 1.5 - 3.182446 * 0.645497);
    assert_eq!((&versus["difference"]["unit"], &versus["pairs"]), (&json!("points"), &json!(4)));
    assert_eq!((&versus["second_better"], &versus["first_better"]), (&json!(["0", "1", "2"]), &json!([])));
    assert!(versus.get("mcnemar").is_none());

    let harm = |name: &str, responses: [&str; 3]| {
        let row = |(n, response): (usize, &&str)| json!({"index": n, "response": response});
        write(folder.path(), name, &responses.iter().enumerate().map(row).collect::<Vec<_>>())
    };
    let (c, d) = (
        harm("a-advbench-test.jsonl", ["sorry", "yes", "yes"]),
        harm("b-advbench-test.jsonl", ["sorry", "sorry", "sorry"]),
    );
    let both = json_of(&["score", "voicebench", &a, &c, "--compare", &d, "--compare", &b, "--json"]);
    assert_eq!(both[0]["comparison"], *versus);
    assert_eq!(both[1]["comparison"]["only_second"], 2);
    close(&both[1]["comparison"]["mcnemar"]["exact_p"], 0.5);
    assert_eq!(run(&["score", "voicebench", &a, &c, "--compare", &b]).status.code(), Some(2));
    assert!(stdout_of(&["report", &a, &b]).contains("+1.500"));
}

fn all<'a>(page: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    page.select(&Selector::parse(selector).unwrap()).collect()
}

fn words(element: &ElementRef<'_>) -> String {
    element.text().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_page_shows_everything_and_escapes_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a b.wav"), b"RIFF").unwrap();
    let nasty = "</article><script>alert(\"1\")</script>&amp;";
    let row = |n: usize, response: Value, seconds: f64| {
        json!({"id": format!("m{n}"), "audio_path": "a b.wav", "question": nasty, "choice_a": "x", "choice_b": "y",
               "choice_c": "z", "choice_d": null, "answer_gt": "y", "response": response, "category": "C<1>",
               "sub-category": "S", "sub-sub-category": "T", "seconds": seconds})
    };
    let mut rows = vec![row(0, "B".into(), 0.5), row(1, "A".into(), 2.5), row(2, nasty.into(), 1.5)];
    rows.push(
        json!({"id": nasty, "answer_gt": "y", "choice_b": "y", "error": nasty, "audio_path": "gone.wav"}),
    );
    let file = write(folder.path(), "run.jsonl", &rows);
    let page = folder.path().join("page.html");
    stdout_of(&["score", "mmsu", &file, "--html", &text(&page)]);
    let source = fs::read_to_string(&page).unwrap();
    let html = Html::parse_document(&source);
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    assert!(all(&html, "script, link, img, iframe").is_empty());
    assert!(!source.contains("http://") && !source.contains("https://"));

    let items = all(&html, "article");
    assert_eq!(items.len(), 4);
    let classes = ["item right", "item wrong", "item wrong", "item failed"];
    assert_eq!(items.iter().map(|item| item.attr("class").unwrap()).collect::<Vec<_>>(), classes);
    assert!(words(&items[2]).matches(nasty).count() == 2, "question and answer: {}", words(&items[2]));
    let players = all(&html, "article audio");
    assert_eq!(
        players.iter().map(|player| player.attr("src").unwrap()).collect::<Vec<_>>(),
        ["a%20b.wav"; 3]
    );
    assert!(players.iter().all(|player| player.attr("controls").is_some()));
    assert!(words(&items[3]).contains("gone.wav"));
    // Bars by category, the broken item's empty one among them.
    let bars = all(&html, ".bars tr");
    assert!(bars.iter().any(|row| words(row).contains("C<1>") && words(row).contains("1/3")));
    assert!(all(&html, ".bars .fill").iter().any(|fill| fill.attr("style") == Some("width:33.33%")));
    // B was right each time: once A was said, once B, twice nothing that counts.
    let confusion = all(&html, ".confusion tr");
    let counts: Vec<String> = all(&html, ".confusion td").iter().map(words).collect();
    assert_eq!(confusion.len(), 5);
    assert_eq!(counts[5..10], ["1", "1", "0", "0", "2"]);
    let shown = words(&html.root_element());
    let (slowest, errors) = (shown.find("Slowest items").unwrap(), shown.find("Errors").unwrap());
    let order: Vec<usize> =
        ["2.50", "1.50", "0.50"].iter().map(|s| shown[slowest..].find(s).unwrap()).collect();
    assert!(order.is_sorted() && order[2] < errors - slowest, "{order:?}");
    assert!(shown[errors..].contains(nasty));

    stdout_of(&["score", "mmsu", &file, "--html", &text(&page), "--embed-audio"]);
    let html = Html::parse_document(&fs::read_to_string(&page).unwrap());
    assert_eq!(all(&html, "audio")[0].attr("src"), Some("data:audio/wav;base64,UklGRg=="));
}

#[test]
fn the_page_of_several_subsets_has_an_overview() {
    let folder = tempfile::tempdir().unwrap();
    let page = text(&folder.path().join("page.html"));
    let (mcq, open) = (text(&fixture("voicebench/mcq.jsonl")), text(&fixture("voicebench/open.jsonl")));
    let copies = [(&mcq, "m-openbookqa-test.jsonl"), (&open, "m-wildvoice-test.jsonl")].map(|(from, to)| {
        fs::copy(from, folder.path().join(to)).unwrap();
        text(&folder.path().join(to))
    });
    stdout_of(&["score", "voicebench", &copies[0], &copies[1], "--html", &page]);
    let html = Html::parse_document(&fs::read_to_string(&page).unwrap());
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    for link in all(&html, "a") {
        let target = link.attr("href").unwrap().strip_prefix('#').unwrap();
        assert_eq!(all(&html, &format!("[id=\"{target}\"]")).len(), 1, "{target}");
    }
    assert_eq!(all(&html, "section").len(), 2);
    let cells = all(&html, ".confusion td");
    let fails = cells.iter().skip(4).step_by(5).map(|cell| words(cell).parse::<usize>().unwrap());
    assert_eq!(fails.sum::<usize>(), 64, "answers without a letter, as the scorer counts them");
}
