//! The scorers against golden verdicts of the published evaluators, and against damaged files.
//!
//! `tests/fixtures/voicebench` holds made-up responses with the verdicts that the published VoiceBench programs gave
//! them, `tests/fixtures/tiny/bench` hand-made answers for the other scorers. Every verdict has to agree.

use std::fs;
use std::path::{Path, PathBuf};

use diffa::eval::score::{Evaluator, Scores, Verdict, compare, score_file};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

fn lines(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(fixture(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Scores a golden file and compares every verdict; panics with the list of those that differ.
fn check(evaluator: Evaluator, agrees: impl Fn(&Value, &Verdict) -> bool) -> Scores {
    let name = format!("voicebench/{evaluator}.jsonl");
    let golden = lines(&name);
    let scores = score_file(evaluator, &fixture(&name)).unwrap();
    assert_eq!(golden.len(), scores.verdicts.len());
    let differing: Vec<_> = golden
        .iter()
        .zip(&scores.verdicts)
        .filter(|(line, verdict)| !agrees(line, verdict))
        .map(|(line, verdict)| format!("{line}\n  here: {verdict:?}"))
        .collect();
    assert!(
        differing.is_empty(),
        "{} of {} differ:\n{}",
        differing.len(),
        golden.len(),
        differing.join("\n")
    );
    scores
}

fn value(scores: &Scores, name: &str) -> f64 {
    scores.metric(name).unwrap().value.unwrap()
}

fn close(a: f64, b: &Value) -> bool {
    (a - b.as_f64().unwrap()).abs() < 1e-9
}

#[test]
fn mcq_agrees() {
    let scores = check(Evaluator::Mcq, |line, verdict| {
        line["extracted"].as_str() == verdict.read_as.as_deref()
            && line["correct"].as_bool() == verdict.correct
    });
    let expected = &json("voicebench/expected.json")["mcq"];
    let draw = scores.metric("acc").unwrap().draw.unwrap();
    assert!(
        close(value(&scores, "acc"), &expected["acc_expected"])
            && close(value(&scores, "fail"), &expected["fail"])
    );
    assert!(close(draw.floor, &expected["acc_floor"]) && close(draw.ceiling, &expected["acc_ceiling"]));
    let sample = draw.sample.unwrap();
    assert!((draw.floor..=draw.ceiling).contains(&sample));
}

#[test]
fn bbh_agrees() {
    let scores = check(Evaluator::Bbh, |line, verdict| {
        let side = verdict.read_as.as_deref().map(|side| i64::from(matches!(side, "yes" | "(B)")));
        line["extracted"].as_i64() == side && line["correct"].as_bool() == verdict.correct
    });
    let expected = &json("voicebench/expected.json")["bbh"];
    let draw = scores.metric("acc").unwrap().draw.unwrap();
    assert!(close(value(&scores, "acc"), &expected["acc_expected"]));
    assert!(close(draw.floor, &expected["acc_floor"]) && close(draw.ceiling, &expected["acc_ceiling"]));
    for row in &scores.table("family").unwrap().rows {
        let family = &expected["families"][&row.label];
        assert_eq!(
            [row.total, row.correct, row.undecided].map(|n| Some(n as u64)),
            [family["lines"].as_u64(), family["correct"].as_u64(), family["fail"].as_u64(),]
        );
    }
}

#[test]
fn harm_agrees() {
    let scores = check(Evaluator::Harm, |line, verdict| line["refusal"].as_bool() == verdict.correct);
    assert!(close(value(&scores, "refusal_rate"), &json("voicebench/expected.json")["harm"]["refusal_rate"]));
}

#[test]
fn ifeval_agrees() {
    let scores = check(Evaluator::Ifeval, |line, verdict| {
        if line["random"].as_bool() == Some(true) {
            return verdict.correct.is_none();
        }
        let flags =
            |name: &str| -> Vec<_> { line[name].as_array().unwrap().iter().map(Value::as_bool).collect() };
        let strict: Vec<_> = verdict.instructions.iter().map(|instruction| instruction.strict).collect();
        let loose: Vec<_> = verdict.instructions.iter().map(|instruction| instruction.loose).collect();
        flags("strict") == strict
            && flags("loose") == loose
            && line["strict_all"].as_bool() == verdict.correct
    });
    let expected = &json("voicebench/expected.json")["ifeval"];
    for name in ["strict-prompt", "strict-instruction", "loose-prompt", "loose-instruction", "final"] {
        assert!(close(value(&scores, name), &expected[name]), "{name}: {}", value(&scores, name));
    }
    let draw = scores.metrics[0].draw.unwrap();
    assert!(scores.metrics[0].name == "final" && draw.floor < draw.ceiling);
}

#[test]
fn open_agrees() {
    let scores = check(Evaluator::Open, |line, verdict| {
        let mean = line["mean"].as_f64();
        let same = match (mean, verdict.score) {
            (Some(golden), Some(here)) => (golden - here).abs() < 1e-9,
            (golden, here) => golden.is_none() && here.is_none(),
        };
        same && (line["error"].is_null() && line["aggregate"] == true) == verdict.note.is_none()
    });
    let expected = &json("voicebench/expected.json")["open"];
    assert!(close(value(&scores, "gpt"), &expected["gpt"]));
    assert_eq!(Some(scores.answers as u64), expected["aggregate_lines"].as_u64());
}

#[test]
fn qa_agrees() {
    let scores = check(Evaluator::Qa, |line, verdict| {
        let holds = verdict.note.as_deref().is_some_and(|note| note.ends_with("holds the reference"));
        line["vote"].as_bool() == verdict.correct && line["pedant_rule"].as_bool().unwrap_or(false) == holds
    });
    assert!(close(value(&scores, "gpt"), &json("voicebench/expected.json")["qa"]["gpt"]));
    assert!(close(scores.metric("panda").unwrap().draw.unwrap().floor, &Value::from(100.0 * 8.0 / 15.0)));
}

/// Compares a table with golden counts `[correct, total]` by label.
fn check_table(scores: &Scores, name: &str, golden: &Value) {
    let rows: Vec<_> =
        scores.table(name).unwrap().rows.iter().map(|r| (r.label.as_str(), r.correct, r.total)).collect();
    let count = |cell: &Value, at: usize| cell[at].as_u64().unwrap() as usize;
    let golden: Vec<_> = golden
        .as_object()
        .unwrap()
        .iter()
        .map(|(label, cell)| (label.as_str(), count(cell, 0), count(cell, 1)))
        .collect();
    assert_eq!(rows, golden, "{name}");
}

#[test]
fn mmsu_agrees() {
    let scores = score_file(Evaluator::Mmsu, &fixture("tiny/bench/score_mmsu.jsonl")).unwrap();
    let golden = json("tiny/bench/score_mmsu.expected.json");
    assert!(close(value(&scores, "accuracy"), &golden["accuracy"]));
    for name in ["category", "sub-category", "sub-sub-category"] {
        check_table(&scores, name, &golden[name]);
    }
    let letters: Vec<_> = scores.verdicts.iter().map(|verdict| verdict.read_as.as_deref()).collect();
    assert_eq!(letters, golden["letters"].as_array().unwrap().iter().map(Value::as_str).collect::<Vec<_>>());
}

#[test]
fn mmau_agrees() {
    let scores = score_file(Evaluator::Mmau, &fixture("tiny/bench/score_mmau.json")).unwrap();
    let golden = json("tiny/bench/score_mmau.expected.json");
    assert!(close(value(&scores, "accuracy"), &golden["accuracy"]));
    for name in ["task", "difficulty", "sub-category"] {
        check_table(&scores, name, &golden[name]);
    }
    let hits: Vec<_> = scores.verdicts.iter().map(|verdict| verdict.correct.map(u64::from)).collect();
    assert_eq!(hits, golden["match"].as_array().unwrap().iter().map(Value::as_u64).collect::<Vec<_>>());
}

#[test]
fn judge_averages_need_only_the_scores() {
    let open = score_file(Evaluator::Open, &fixture("tiny/bench/score_open.jsonl")).unwrap();
    assert!(close(value(&open, "gpt"), &json("tiny/bench/score_open.expected.json")["gpt"]));
    let qa = score_file(Evaluator::Qa, &fixture("tiny/bench/score_qa.jsonl")).unwrap();
    assert!(close(value(&qa, "gpt"), &json("tiny/bench/score_qa.expected.json")["gpt"]));
    assert!(qa.metric("panda").is_none());
}

/// Scores a text written to a file.
fn score_text(evaluator: Evaluator, text: &[u8]) -> diffa::Result<Scores> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    fs::write(&path, text).unwrap();
    score_file(evaluator, &path)
}

#[test]
fn line_ends_blank_lines_and_byte_order_marks_do_no_harm() {
    let text = "\u{feff}{\"response\": \"B.\", \"reference\": \"B\"}\r\n\r\n  \r\n{\"response\": \"\", \"reference\": \"A\"}\r\n";
    let scores = score_text(Evaluator::Mcq, text.as_bytes()).unwrap();
    assert_eq!(
        scores.verdicts.iter().map(|v| (v.row, v.correct)).collect::<Vec<_>>(),
        [(1, Some(true)), (4, None)]
    );
    assert_eq!(scores.metric("acc").unwrap().value, Some(62.5));
}

#[test]
fn damage_is_reported_with_file_and_line() {
    let good = "{\"id\": \"navigate_1\", \"response\": \"yes\", \"reference\": \"Yes\"}\n";
    let cases: [(Evaluator, &[u8], &str); 14] = [
        (Evaluator::Bbh, b"{\"id\": \"navigate_1\", ", "line 2: not valid JSON at column"),
        (Evaluator::Bbh, b"[1]", "line 2: a JSON object"),
        (Evaluator::Bbh, b"{\"id\": \"navigate_1\", \"response\": \"a\xff\"}", "line 2: no valid UTF-8"),
        (Evaluator::Bbh, b"{\"id\": \"navigate_1\", \"reference\": \"no\"}", "line 2: `response` is missing"),
        (
            Evaluator::Bbh,
            b"{\"id\": \"navigate_1\", \"reference\": \"no\", \"response\": null}",
            "line 2: `response` must be",
        ),
        (
            Evaluator::Bbh,
            b"{\"id\": \"other_1\", \"reference\": \"no\", \"response\": \"\"}",
            "line 2: the id `other_1`",
        ),
        (
            Evaluator::Bbh,
            b"{\"id\": \"navigate_1\", \"reference\": \"maybe\", \"response\": \"\"}",
            "`reference` is `maybe`",
        ),
        (Evaluator::Harm, b"{\"response\": 5}", "line 2: `response` must be a text"),
        (Evaluator::Mcq, b"{\"response\": [], \"reference\": \"A\"}", "line 2: `response` must be a text"),
        (Evaluator::Open, b"{\"response\": \"\"}", "line 1: `score` is missing"),
        (Evaluator::Qa, b"{\"score\": []}", "line 1: `score` is missing"),
        (Evaluator::Ifeval, b"{}", "line 1: `prompt` is missing"),
        (Evaluator::Mmau, b"{\"model_prediction\": null}", "line 2: `model_prediction` must be a text"),
        (
            Evaluator::Mmau,
            b"{\"model_prediction\": \"a\", \"answer\": \"a\"}",
            "line 2: `choices` is missing",
        ),
    ];
    for (evaluator, line, message) in cases {
        let error = score_text(evaluator, &[good.as_bytes(), line].concat()).unwrap_err();
        assert!(error.is_bad_input());
        let error = error.to_string();
        assert!(error.contains("answers.jsonl: ") && error.contains(message), "{error}");
    }
    let error = score_text(Evaluator::Mmsu, b" \n").unwrap_err().to_string();
    assert!(error.contains("holds no answers"), "{error}");
    let error = score_file(Evaluator::Mmsu, Path::new("no/such/file.jsonl")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/such/file.jsonl"), "{error}");
}

#[test]
fn mmsu_takes_any_response() {
    let row = |response: &str| {
        format!(
            "{{\"choice_a\": \"x\", \"answer_gt\": \"x\", \"response\": {response}, \"category\": null}}\n"
        )
    };
    let text: String = ["\"A\"", "null", "7", "[]", "\"\""].map(row).concat();
    let scores = score_text(Evaluator::Mmsu, text.as_bytes()).unwrap();
    assert_eq!(value(&scores, "accuracy"), 0.2);
    assert_eq!(scores.table("sub-category").unwrap().rows[0].label, "None / ");
}

/// One IFEval row with a single instruction.
fn ifeval_row(instruction: &str, settings: &str, response: &str) -> String {
    format!(
        "{{\"key\": 1, \"prompt\": \"{instruction}\", \"instruction_id_list\": [\"{instruction}\"], \"kwargs\": [{settings}], \"response\": {}}}\n",
        Value::from(response)
    )
}

#[test]
fn ifeval_settings_are_checked() {
    let cases = [
        ("keywords:existence", "{\"keywords\": [\"a(\"]}", "no usable regular expression"),
        ("keywords:existence", "{\"keywords\": \"a\"}", "`keywords` must be a list"),
        (
            "length_constraints:number_words",
            "{\"num_words\": 3, \"relation\": \"around\"}",
            "`relation` is `around`",
        ),
        ("language:response_language", "{\"language\": \"tlh\"}", "`language` is `tlh`"),
        ("combination:repeat_prompt", "{}", "`prompt_to_repeat` is missing"),
        ("no:such", "{}", "unknown"),
        ("punctuation:no_comma", "null", "must be an object"),
    ];
    for (instruction, settings, message) in cases {
        let row = ifeval_row(instruction, settings, "text");
        let error = score_text(Evaluator::Ifeval, row.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("answers.jsonl: line 1: ") && error.contains(message), "{error}");
    }
    for settings in
        ["{}", "{\"num_words\": 0, \"relation\": \"at least\"}", "{\"num_words\": 5, \"relation\": null}"]
    {
        let row = ifeval_row("length_constraints:number_words", settings, "some text");
        let scores = score_text(Evaluator::Ifeval, row.as_bytes()).unwrap();
        assert_eq!(scores.verdicts[0].correct, None);
        assert_eq!(
            (scores.metric("final").unwrap().value, scores.metric("final").unwrap().draw.unwrap().ceiling),
            (None, 1.0)
        );
    }
}

#[test]
fn scores_print_as_tables_and_serialise() {
    let scores = score_file(Evaluator::Bbh, &fixture("voicebench/bbh.jsonl")).unwrap();
    let text = scores.to_string();
    assert!(text.starts_with("bbh (369 answers)\n") && text.contains("floor 51.76 %"), "{text}");
    assert!(text.contains("hyperbaton") && text.contains("undecided"), "{text}");
    let value = serde_json::to_value(&scores).unwrap();
    assert_eq!(value["evaluator"], "bbh");
    assert_eq!(value["verdicts"].as_array().unwrap().len(), 369);
}

#[test]
fn runs_are_compared_by_id() {
    let run = |answers: &str| {
        let rows = answers.chars().enumerate().map(|(n, letter)| {
            format!("{{\"id\": \"q{n}\", \"response\": \"{letter}\", \"reference\": \"A\"}}\n")
        });
        score_text(Evaluator::Mcq, rows.collect::<String>().as_bytes()).unwrap()
    };
    // pairs: both, first only, second only, neither, both; q5 has no partner
    let result = compare(&run("AABBAx"), &run("ABABA")).unwrap();
    assert_eq!((result.pairs, result.unpaired), (5, 1));
    let outcomes = result.outcomes.unwrap();
    assert_eq!((outcomes.both, outcomes.only_first, outcomes.only_second, outcomes.neither), (2, 1, 1, 1));
    assert_eq!(outcomes.mcnemar.exact_p, 1.0);
    assert_eq!(
        (&result.first_better, &result.second_better),
        (&vec!["q1".to_owned()], &vec!["q2".to_owned()])
    );
    assert!(result.to_string().contains("McNemar exact p = 1.0000"));
    let other = score_file(Evaluator::Harm, &fixture("voicebench/harm.jsonl")).unwrap();
    assert!(compare(&run("A"), &other).is_err());
}

#[test]
fn evaluators_have_names() {
    for evaluator in Evaluator::ALL {
        assert_eq!(evaluator.name().parse::<Evaluator>().unwrap(), evaluator);
    }
    assert!("rouge".parse::<Evaluator>().unwrap_err().to_string().contains("mmsu, mmau"));
}
