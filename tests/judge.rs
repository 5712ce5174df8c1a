//! The judge's client against an endpoint that is slow, fails, limits its rate, sends garbage, breaks off and hangs:
//! nothing is lost, what is missing is named, and a second run asks for that alone.

#[path = "common/command.rs"]
mod command;
#[path = "common/endpoint.rs"]
mod endpoint;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use diffa::Error;
use diffa::eval::judge::{Judged, Patience, Progress, Settings, judge};
use diffa::eval::score::{Answers, Evaluator, Rules};
use endpoint::{Endpoint, Reaction};
use serde_json::{Value, json};

/// Prompts that the endpoint can take apart.
const OPEN: &str = "{prompt}|{response}";
const QA: &str = "{prompt}|{reference}|{response}";

fn patient() -> Patience {
    Patience {
        attempts: 4,
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(20),
        timeout: Duration::from_millis(400),
        ..Patience::default()
    }
}

fn settings(endpoint: &Endpoint) -> Settings {
    let mut settings = Settings::new(endpoint.url(), "judge-1");
    (settings.open_prompt, settings.qa_prompt) = (OPEN.to_owned(), QA.to_owned());
    settings.patience = patient();
    settings
}

/// Answers q0, q1, ... in a file of their own.
fn write_answers(folder: &Path, count: usize) -> PathBuf {
    let path = folder.join("m-alpacaeval-test.jsonl");
    let line =
        |n: usize| json!({"id": format!("id{n}"), "prompt": format!("q{n}"), "response": "r"}).to_string();
    fs::write(&path, (0..count).map(|n| line(n) + "\n").collect::<String>()).unwrap();
    path
}

fn read(path: &Path) -> Vec<Answers> {
    Answers::read(path, Rules::One(Evaluator::Open), None).unwrap()
}

fn run(answers: &Path, settings: &Settings) -> Judged {
    judge(&read(answers), &judged_path(answers), settings, &mut |_| Ok(())).unwrap()
}

fn judged_path(answers: &Path) -> PathBuf {
    answers.with_extension("judged.jsonl")
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The ids in a judged file.
fn ids(path: &Path) -> Vec<String> {
    lines(path).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

/// The questions asked, in order.
fn asked(endpoint: &Endpoint) -> Vec<String> {
    let question = |body: &Value| {
        let text = body["messages"][1]["content"].as_str().unwrap();
        text.split('|').next().unwrap().to_owned()
    };
    endpoint.requests().iter().map(|request| question(&request.body)).collect()
}

#[test]
fn the_request_is_the_published_one() {
    let endpoint = Endpoint::start(|_| Reaction::votes(["5", " 4\n", "[[3]]"]));
    let folder = tempfile::tempdir().unwrap();
    let answers = write_answers(folder.path(), 1);
    let mut settings = settings(&endpoint);
    settings.key = Some("secret-key".to_owned());
    let judged = run(&answers, &settings);
    let request = endpoint.requests().remove(0);
    assert_eq!(request.path, "/v1/chat/completions");
    assert_eq!(request.header("authorization"), Some("Bearer secret-key"));
    let body = &request.body;
    assert_eq!((body["model"].as_str(), body["n"].as_u64()), (Some("judge-1"), Some(3)));
    assert_eq!((body["temperature"].as_f64(), body["top_p"].as_f64()), (Some(0.5), Some(0.95)));
    assert_eq!(body["max_tokens"], 1024);
    assert_eq!((&body["frequency_penalty"], &body["presence_penalty"]), (&json!(0), &json!(0)));
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(
        (messages.len(), &messages[0]["role"], &messages[1]["role"]),
        (2, &json!("system"), &json!("user"))
    );
    assert_eq!(messages[1]["content"], "q0|r");
    // Replies are trimmed and kept in order; the row stays as it was.
    let line = lines(&judged_path(&answers)).remove(0);
    assert_eq!(line["score"], json!(["5", "4", "[[3]]"]));
    assert_eq!((&line["id"], &line["judge_model"]), (&json!("id0"), &json!("judge-1")));
    assert_eq!(judged.answers[0].score(0).unwrap().metrics[0].value, Some(4.0));
}

/// Judges those golden answers whose votes an endpoint can have given, with just these votes.
fn golden(evaluator: Evaluator, usable: impl Fn(&Value) -> bool, agrees: impl Fn(&Value, &Value)) -> usize {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/voicebench/{evaluator}.jsonl"));
    let is_vote = |vote: &Value| vote.as_str().is_some_and(|vote| vote == vote.trim() && !vote.is_empty());
    let voted =
        |line: &Value| line["score"].as_array().is_some_and(|v| v.len() == 3 && v.iter().all(is_vote));
    let rows: Vec<Value> = lines(&fixture).into_iter().filter(|line| voted(line) && usable(line)).collect();
    let field = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let mut votes: HashMap<String, Vec<Value>> = HashMap::new();
    for line in &rows {
        let mut parts = vec![field(line, "prompt"), field(line, "response")];
        if evaluator == Evaluator::Qa {
            parts.insert(1, field(line, "reference"));
        }
        votes.entry(parts.join("|")).or_default().push(line["score"].clone());
    }
    let votes = Mutex::new(votes);
    let endpoint = Endpoint::start(move |request| {
        let prompt = request.body["messages"][1]["content"].as_str().unwrap();
        let score = votes
            .lock()
            .unwrap()
            .get_mut(prompt)
            .and_then(|scores| if scores.is_empty() { None } else { Some(scores.remove(0)) });
        Reaction::votes(score.unwrap().as_array().unwrap().iter().map(|vote| vote.as_str().unwrap()))
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answers.jsonl");
    let bare = |line: &Value| {
        let mut line = line.clone();
        line.as_object_mut().unwrap().remove("score");
        line.to_string() + "\n"
    };
    fs::write(&file, rows.iter().map(bare).collect::<String>()).unwrap();
    let answers = Answers::read(&file, Rules::One(evaluator), None).unwrap();
    let mut settings = settings(&endpoint);
    settings.jobs = 1; // equal questions get their votes in order
    let judged = judge(&answers, &judged_path(&file), &settings, &mut |_| Ok(())).unwrap();
    assert!(judged.report.missing.is_empty(), "{:?}", judged.report);
    let scores = judged.answers[0].score(0).unwrap();
    assert_eq!(scores.verdicts.len(), rows.len());
    for (line, verdict) in rows.iter().zip(&scores.verdicts) {
        agrees(line, &serde_json::to_value(verdict).unwrap());
    }
    let written = lines(&judged_path(&file));
    assert!(rows.iter().zip(&written).all(|(golden, line)| golden["score"] == line["score"]));
    rows.len()
}

#[test]
fn open_scores_are_the_golden_ones() {
    let usable = |line: &Value| line["error"].is_null() && line["aggregate"] == true;
    let agrees = |line: &Value, verdict: &Value| {
        let (golden, here) = (line["mean"].as_f64().unwrap(), verdict["score"].as_f64().unwrap());
        assert!((golden - here).abs() < 1e-9, "{line}");
    };
    assert!(golden(Evaluator::Open, usable, agrees) >= 8);
}

#[test]
fn qa_votes_are_the_golden_ones() {
    let decides = |vote: &Value| {
        let vote = vote.as_str().unwrap().to_lowercase();
        vote.trim_end_matches('.') == "yes" || vote.trim_end_matches('.') == "no"
    };
    let usable = |line: &Value| line["score"].as_array().unwrap().iter().all(decides);
    let agrees = |line: &Value, verdict: &Value| assert_eq!(line["vote"], verdict["correct"], "{line}");
    assert!(golden(Evaluator::Qa, usable, agrees) >= 8);
}

/// What can go wrong once, by question.
fn trouble(kind: usize) -> Reaction {
    match kind {
        0 => Reaction::status(500, "{\"error\": {\"message\": \"overloaded\"}}"),
        1 => Reaction::status(429, "slow down").with("Retry-After", "0.05"),
        2 => Reaction::status(200, "<html>gateway</html>"),
        3 => Reaction::votes(["5", "5", "5"]).broken_off(),
        4 => Reaction::Hang(Duration::from_millis(900)),
        5 => Reaction::status(200, "{\"choices\": []}"),
        6 => Reaction::votes(["splendid", "", "no idea"]),
        7 => Reaction::status(503, ""),
        8 => Reaction::Close,
        _ => Reaction::votes(["4", "4", "4"]).after(Duration::from_millis(100)),
    }
}

#[test]
fn a_bad_endpoint_costs_time_but_no_answer() {
    let seen = Mutex::new(HashMap::<String, usize>::new());
    let endpoint = Endpoint::start(move |request| {
        let text = request.body["messages"][1]["content"].as_str().unwrap().to_owned();
        let number: usize = text[1..text.find('|').unwrap()].parse().unwrap();
        let times = *seen.lock().unwrap().entry(text).and_modify(|n| *n += 1).or_insert(1);
        match (number, times) {
            (10, _) => Reaction::votes(["what", "what", "what"]), // never mends
            (11, _) => Reaction::status(400, "{\"error\": {\"message\": \"filtered\"}}"),
            (_, 1) => trouble(number),
            _ => Reaction::votes(["4", "4", "4"]),
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let answers = write_answers(folder.path(), 12);
    let Judged { answers: scored, report } = run(&answers, &settings(&endpoint));
    assert_eq!((report.total, report.judged, report.resumed), (12, 10, 0));
    assert!(report.retries >= 9 + 3, "{report:?}");
    let missing: Vec<_> = report.missing.iter().map(|m| (m.row, m.id.as_str())).collect();
    assert_eq!(missing, [(11, "id10"), (12, "id11")]);
    assert!(report.missing[0].reason.contains("`what`"), "{}", report.missing[0].reason);
    assert!(report.missing[1].reason.contains("400") && report.missing[1].reason.contains("filtered"));
    assert_eq!(report.stopped, None);
    assert_eq!(scored[0].score(0).unwrap().answers, 10);
    let expected: Vec<String> = (0..10).map(|n| format!("id{n}")).collect();
    assert_eq!(ids(&judged_path(&answers)), expected, "in the order of the answers");

    // A second run asks for the missing two alone.
    let better = Endpoint::start(|_| Reaction::votes(["1", "2", "3"]));
    let report = run(&answers, &settings(&better)).report;
    let mut questions = asked(&better);
    questions.sort();
    assert_eq!(questions, ["q10", "q11"]);
    assert_eq!((report.total, report.judged, report.resumed, report.missing.len()), (12, 2, 10, 0));
    assert_eq!(ids(&judged_path(&answers)).len(), 12);
    // And a third asks nothing.
    let idle = Endpoint::start(|_| Reaction::status(500, ""));
    assert_eq!(run(&answers, &settings(&idle)).report.resumed, 12);
    assert!(idle.requests().is_empty());
}

#[test]
fn a_requested_pause_holds_for_every_request() {
    let first = Mutex::new(true);
    let endpoint = Endpoint::start(move |_| match std::mem::take(&mut *first.lock().unwrap()) {
        true => Reaction::status(429, "").with("Retry-After", "1"),
        false => Reaction::votes(["4", "4", "4"]),
    });
    let folder = tempfile::tempdir().unwrap();
    let answers = write_answers(folder.path(), 6);
    let mut settings = settings(&endpoint);
    settings.jobs = 1;
    let start = Instant::now();
    assert_eq!(run(&answers, &settings).report.judged, 6);
    assert!(start.elapsed() >= Duration::from_secs(1));
    let times: Vec<Instant> = endpoint.requests().iter().map(|request| request.at).collect();
    assert!(times[1..].iter().all(|at| at.duration_since(times[0]) >= Duration::from_millis(990)));

    // A pause of days is no pause: the run ends and says so.
    let closed = Endpoint::start(|_| Reaction::status(429, "quota").with("Retry-After", "86400"));
    let report =
        run(&write_answers(tempfile::tempdir().unwrap().keep().as_path(), 6), &self::settings(&closed))
            .report;
    assert!(report.stopped.unwrap().contains("86400"));
    assert_eq!(report.missing.len(), 6);
}

#[test]
fn endpoints_with_one_reply_at_a_time_are_asked_three_times() {
    // One ignores `n`, the other refuses it.
    let meek = Endpoint::start(|_| Reaction::votes(["5"]));
    let strict = Endpoint::start(|request| match request.body["n"].as_u64() {
        Some(1) => Reaction::votes(["5"]),
        _ => Reaction::status(422, "n must be 1"),
    });
    for (endpoint, requests) in [(&meek, 6), (&strict, 7)] {
        let folder = tempfile::tempdir().unwrap();
        let answers = write_answers(folder.path(), 2);
        let mut settings = settings(endpoint);
        settings.jobs = 1;
        assert_eq!(run(&answers, &settings).report.judged, 2);
        assert!(lines(&judged_path(&answers)).iter().all(|line| line["score"] == json!(["5", "5", "5"])));
        assert_eq!(endpoint.requests().len(), requests);
    }
}

#[test]
fn a_refused_key_ends_the_run_and_is_not_quoted() {
    let endpoint =
        Endpoint::start(|_| Reaction::status(401, "{\"error\": {\"message\": \"no such key: secret-key\"}}"));
    let folder = tempfile::tempdir().unwrap();
    let answers = write_answers(folder.path(), 40);
    let mut settings = settings(&endpoint);
    settings.key = Some("secret-key".to_owned());
    let report = run(&answers, &settings).report;
    assert!(endpoint.requests().len() <= settings.jobs, "{}", endpoint.requests().len());
    assert_eq!(report.missing.len(), 40);
    let stopped = report.stopped.unwrap();
    assert!(stopped.contains("401") && stopped.contains("no such key: (key)"), "{stopped}");
    assert!(report.missing.iter().any(|missing| missing.reason == "not asked"));
}

#[test]
fn an_endpoint_that_is_gone_is_given_up() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let answers = write_answers(folder.path(), 40);
    let mut settings = Settings::new(format!("http://{address}/v1"), "m");
    settings.patience = Patience { give_up_after: 5, attempts: 2, ..patient() };
    let report = run(&answers, &settings).report;
    assert!(report.stopped.unwrap().contains("in a row came to nothing"));
    assert_eq!((report.judged, report.missing.len()), (0, 40));
}

#[test]
fn a_stopped_run_goes_on_where_it_ended() {
    let endpoint = Endpoint::start(|_| Reaction::votes(["4", "4", "4"]).after(Duration::from_millis(5)));
    let folder = tempfile::tempdir().unwrap();
    let answers = write_answers(folder.path(), 20);
    let path = judged_path(&answers);
    let mut settings = settings(&endpoint);
    settings.jobs = 2;
    let mut stop = |progress: Progress| match progress.judged {
        0..=4 => Ok(()),
        _ => Err(Error::Interrupted),
    };
    let stopped = judge(&read(&answers), &path, &settings, &mut stop);
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let kept = ids(&path).len();
    assert!((5..=8).contains(&kept), "{kept}: the requests under way are kept too");
    // A crash in the middle of a line costs that line and no other.
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let report = run(&answers, &settings).report;
    assert_eq!((report.resumed, report.judged), (kept - 1, 21 - kept));
    assert_eq!(ids(&path), (0..20).map(|n| format!("id{n}")).collect::<Vec<_>>());
    assert_eq!(endpoint.requests().len(), 21);
    // A last line that is whole but for its line end is kept.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.trim_end()).unwrap();
    assert_eq!(run(&answers, &settings).report.resumed, 20);
}

#[test]
fn votes_for_other_answers_or_by_another_judge_are_refused() {
    let endpoint = Endpoint::start(|_| Reaction::votes(["4", "4", "4"]));
    let folder = tempfile::tempdir().unwrap();
    let answers = write_answers(folder.path(), 3);
    let first = settings(&endpoint);
    run(&answers, &first);
    let fails = |out: &Path, settings: &Settings| {
        judge(&read(&answers), out, settings, &mut |_| Ok(())).unwrap_err().to_string()
    };
    let other = Settings { model: "judge-2".to_owned(), ..first.clone() };
    assert!(fails(&judged_path(&answers), &other).contains("line 1 of"));
    assert!(fails(&answers, &first).contains("is the file of the answers"));
    fs::write(&answers, fs::read_to_string(&answers).unwrap().replace("\"q1\"", "\"changed\"")).unwrap();
    assert!(fails(&judged_path(&answers), &first).contains("1 of the lines"));
    let lacking = Settings { open_prompt: "{prompt}".to_owned(), ..first.clone() };
    assert!(fails(&folder.path().join("new.jsonl"), &lacking).contains("`{response}`"));
    assert_eq!(endpoint.requests().len(), 3);
}

#[test]
fn rows_with_an_error_are_not_asked_about() {
    let endpoint = Endpoint::start(|_| Reaction::votes(["2", "2", "2"]));
    let folder = tempfile::tempdir().unwrap();
    let answers = write_answers(folder.path(), 2);
    let text = fs::read_to_string(&answers).unwrap()
        + "{\"id\": \"id2\", \"prompt\": \"q2\", \"error\": \"no clip\"}\n";
    fs::write(&answers, text).unwrap();
    let judged = run(&answers, &settings(&endpoint));
    assert_eq!((judged.report.total, judged.report.unanswered), (2, 1));
    let scores = judged.answers[0].score(0).unwrap();
    assert_eq!((scores.answers, scores.errors), (2, 1));
    assert_eq!(ids(&judged_path(&answers)), ["id0", "id1", "id2"]);
    assert_eq!(run(&answers, &settings(&endpoint)).report.resumed, 2);
}

#[test]
fn the_command_says_what_is_missing_and_goes_on() {
    let seen = Mutex::new(0);
    let endpoint = Endpoint::start(move |request| {
        let text = request.body["messages"][1]["content"].as_str().unwrap();
        let mut seen = seen.lock().unwrap();
        *seen += usize::from(text.contains("q1\n"));
        if text.contains("q1\n") && *seen <= 2 {
            Reaction::status(500, "")
        } else {
            Reaction::votes(["5", "5", "5"])
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let answers = command::text(&write_answers(folder.path(), 3));
    let url = endpoint.url();
    let args =
        ["score", "voicebench", &answers, "--judge", &url, "--judge-model", "m", "--judge-attempts", "2"];
    let args = [&args[..], &["--judge-wait", "0.01", "--judge-key-env", "DIFFA_TEST_KEY", "--json"]].concat();
    let run = || command::command(&args).env("DIFFA_TEST_KEY", "k").output().unwrap();
    let output = run();
    let stderr = command::stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("no votes for id1 (line 2)") && stderr.contains("1 of 3 answers have no votes"),
        "{stderr}"
    );
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["answers"], 2);
    let output = run();
    assert_eq!(output.status.code(), Some(0), "{}", command::stderr(&output));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["answers"], 3);
    assert_eq!(endpoint.requests().len(), 5);
    assert_eq!(endpoint.requests()[0].header("authorization"), Some("Bearer k"));
    let output = command::run(&args);
    assert_eq!(output.status.code(), Some(2));
    assert!(command::stderr(&output).contains("DIFFA_TEST_KEY is not set"));
}

#[test]
fn a_killed_command_loses_nothing() {
    let endpoint = Endpoint::start(|_| Reaction::votes(["3", "3", "3"]).after(Duration::from_millis(30)));
    let folder = tempfile::tempdir().unwrap();
    let answers = write_answers(folder.path(), 12);
    let (file, url) = (command::text(&answers), endpoint.url());
    let args = ["score", "open", &file, "--judge", &url, "--judge-model", "m", "--judge-jobs", "1"];
    for kept in [2, 5] {
        let mut child = command::command(&args).stdout(std::process::Stdio::null()).spawn().unwrap();
        let written = || fs::read_to_string(judged_path(&answers)).unwrap_or_default().lines().count();
        while written() < kept {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(command::stdout_of(&args).contains("3.000"));
    assert_eq!(ids(&judged_path(&answers)), (0..12).map(|n| format!("id{n}")).collect::<Vec<_>>());
    // Each kill may have cost the one request under way.
    assert!(endpoint.requests().len() <= 14, "{}", endpoint.requests().len());
}

#[test]
fn an_address_that_is_none_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let answers = write_answers(folder.path(), 3);
    let file = command::text(&answers);
    for url in ["notaurl", "localhost:8000/v1", "ftp://localhost/v1", "http://", "http://a b/v1", ""] {
        let output = command::run(&["score", "open", &file, "--judge", url, "--judge-model", "m"]);
        let message = command::stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{url}: {message}");
        assert!(message.starts_with(&format!("error: --judge: `{url}` ")), "{message}");
        assert!(!judged_path(&answers).exists(), "{url}");
        let error = judge(&read(&answers), &judged_path(&answers), &Settings::new(url, "m"), &mut |_| Ok(()));
        assert!(error.unwrap_err().is_bad_input() && !judged_path(&answers).exists(), "{url}");
    }
}

#[test]
fn failures_are_told_while_they_are_repeated() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = command::text(&write_answers(folder.path(), 12));
    let url = format!("http://{address}/v1");
    let args = ["score", "open", &file, "--judge", &url, "--judge-model", "m", "--judge-wait", "0.05"];
    let output = command::run(&[&args[..], &["--judge-attempts", "5"]].concat());
    let message = command::stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{message}");
    // 48 repetitions: the first, then 2, 4, 8, 16 and 32 at the most.
    let told: Vec<&str> = message.lines().filter(|line| line.contains("is asked again")).collect();
    assert!((2..=6).contains(&told.len()), "{message}");
    assert!(told.iter().all(|line| line.starts_with("note: ") && line.contains(&url)), "{message}");
}
