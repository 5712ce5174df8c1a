//! The command line as users see it: answers, JSON, traces, devices, synthetic models, signals.

#[path = "common/command.rs"]
mod command;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use command::{
    command, demo_clip, golden_question, json_of, read_json, run, stderr, stdout_of, text, tiny, tiny_clip,
    write_wav,
};
use serde_json::Value;

const ROOM: &str = "What room does the speaker mention?";
const EXACT: [&str; 2] = ["--preset", "exact"];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn has_keys(value: &Value, expected: &[&str]) {
    for key in expected {
        assert!(value.get(key).is_some(), "no `{key}` in {:?}", keys(value));
    }
}

#[test]
fn clips_of_every_kind_are_answered() {
    let clips = [
        "01_command_woman1_medium.mp3",
        "02_command_44k1_stereo.wav",
        "06_number_8k.wav",
        "09_day_woman1_slow.flac",
        "19_melody_up.ogg",
    ];
    for clip in clips {
        let answer =
            stdout_of(&["ask", &demo_clip(clip), "What kind of sound is this?", "--gen-length", "4"]);
        assert_eq!(answer.lines().count(), 1, "{clip}: {answer}");
        assert!(!answer.trim().is_empty(), "{clip}");
    }
}

#[test]
fn a_clip_may_come_in_on_standard_input() {
    let clip = demo_clip("19_melody_up.ogg");
    let mut child = command(&["ask", "-", "What kind of sound is this?"]);
    let child = child.stdin(std::fs::File::open(&clip).unwrap()).output().unwrap();
    assert_eq!(
        String::from_utf8(child.stdout).unwrap(),
        stdout_of(&["ask", &clip, "What kind of sound is this?"])
    );
}

#[test]
fn the_exact_preset_answers_as_the_reference_does() {
    let clip = demo_clip("01_command_woman1_medium.wav");
    let answers = stdout_of(&[&["ask", &clip, "Write down what you hear.", ROOM], &EXACT[..]].concat());
    assert_eq!(answers, "Close the door in the office.\ngarage\n");
}

#[test]
fn json_of_one_question_is_flat() {
    let clip = demo_clip("01_command_woman1_medium.wav");
    let json = json_of(&[&["ask", &clip, ROOM, "--json"], &EXACT[..]].concat());
    assert_eq!((json["text"].as_str(), json["nfe"].as_u64()), (Some("garage"), Some(16)));
    assert_eq!((json["question"].as_str(), json["audio_rows"].as_u64()), (Some(ROOM), Some(40)));
    assert_eq!(json["ids"].as_array().unwrap().len(), 16);
    assert_eq!(json["interrupted"], false);
    has_keys(&json, &["prompt_tokens", "rtf", "tokens_per_second", "audio"]);
    has_keys(&json["timings_ms"], &["load", "decode_audio", "hear", "plan", "denoise", "first_token"]);
    has_keys(&json["adapter"], &["name", "backend", "driver", "device_type", "why"]);
    let settings = &json["settings"];
    has_keys(
        settings,
        &["temperature", "cfg_scale", "remasking", "rule", "mode", "stop_ids", "seed", "system"],
    );
    assert_eq!((&settings["model"], &settings["cache_dtype"]), (&"demo".into(), &"f32".into()));
    assert_eq!(
        [&settings["steps"], &settings["block_length"], &settings["gen_length"]].map(Value::as_u64),
        [Some(16); 3]
    );
}

#[test]
fn json_of_several_questions_has_answers() {
    let clip = demo_clip("01_command_woman1_medium.wav");
    let json =
        json_of(&["ask", &clip, ROOM, "Is the speaker a man or a woman?", "--json", "--gen-length", "4"]);
    let answers = json["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0]["question"], ROOM);
    for answer in answers {
        has_keys(answer, &["text", "ids", "nfe", "prompt_tokens", "audio_rows", "rtf", "tokens_per_second"]);
        has_keys(&answer["timings_ms"], &["plan", "denoise", "first_token"]);
        // Lengths that were not given follow from the one that was.
        assert_eq!(answer["ids"].as_array().unwrap().len(), 4);
    }
    has_keys(&json["timings_ms"], &["load", "decode_audio", "hear"]);
    assert_eq!(json["settings"]["block_length"], 4);
}

#[test]
fn long_audio_is_cut_with_a_warning_or_heard_window_by_window() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.wav");
    // Two windows of the demo model, and a rest that is too short.
    write_wav(&path, &(0..128_300).map(|i| (i as f32 * 0.2).sin() * 0.3).collect::<Vec<_>>());
    let path = text(&path);

    let first = run(&["ask", &path, "What kind of sound is this?", "--gen-length", "4"]);
    assert_eq!(first.status.code(), Some(0));
    assert!(
        stderr(&first).contains("warning:") && stderr(&first).contains("4.0 s were not heard"),
        "{}",
        stderr(&first)
    );

    let args = ["ask", &path, "What kind of sound is this?", "--gen-length", "4", "--long", "window"];
    let windows = run(&args);
    let lines = String::from_utf8(windows.stdout.clone()).unwrap();
    let spans: Vec<&str> =
        lines.lines().filter_map(|line| line.split_once("] ")).map(|(span, _)| span).collect();
    assert_eq!(spans, ["[0.0-4.0 s", "[4.0-8.0 s"]);
    assert!(stderr(&windows).contains("too short"), "{}", stderr(&windows));

    let json = json_of(&[&args[..], &["--json"]].concat());
    let windows = json["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 2);
    assert_eq!((windows[1]["start"].as_f64(), windows[1]["end"].as_f64()), (Some(4.0), Some(8.0)));
    has_keys(&windows[1], &["text", "ids", "nfe", "question"]);
    has_keys(&windows[1]["timings_ms"], &["hear", "plan", "denoise", "first_token"]);
}

/// Runs the command with a trace and compares it with a golden one.
fn check_trace(name: &str, args: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = text(&dir.path().join("trace.json"));
    let model = text(&tiny());
    let more = ["--model", &model, "--preset", "exact", "--trace", &path, "--quiet"];
    let answer = stdout_of(&[args, &more].concat());
    let (got, want) =
        (read_json(Path::new(&path)), read_json(&tiny().join(format!("expected/traces/{name}.json"))));
    for key in
        ["ids", "nfe", "steps", "gen_length", "block_length", "mode", "threshold", "factor", "cfg_scale"]
    {
        assert_eq!(got[key], want[key], "{name}: {key}");
    }
    assert_eq!(got["text"].as_str().unwrap(), want["text"].as_str().unwrap().trim(), "{name}");
    assert_eq!(answer.trim_end_matches('\n'), got["text"].as_str().unwrap());
    let (got, want) = (got["trace"].as_array().unwrap(), want["trace"].as_array().unwrap());
    assert_eq!(got.len(), want.len(), "{name}");
    for (got, want) in got.iter().zip(want) {
        for key in ["block", "step", "positions", "ids"] {
            assert_eq!(got[key], want[key], "{name}: {key}");
        }
        let confidences = |step: &Value| -> Vec<f64> {
            step["confidences"].as_array().unwrap().iter().map(|c| c.as_f64().unwrap()).collect()
        };
        for (a, b) in confidences(got).iter().zip(confidences(want)) {
            assert!((a - b).abs() < 2e-3, "{name}: confidence {a}, expected {b}");
        }
    }
}

#[test]
fn traces_equal_the_golden_ones() {
    let name = "audio_vanilla_g24_b8_s9";
    let lengths = ["--steps", "9", "--block-length", "8", "--gen-length", "24"];
    check_trace(
        name,
        &[&["ask", &tiny_clip("speech_b_16k.wav"), &golden_question(name)], &lengths[..]].concat(),
    );

    let name = "audio_dual_threshold0.3_g32_b16";
    let run = read_json(&tiny().join(format!("expected/traces/{name}.json")));
    let clip = tiny_clip(run["audio"].as_str().unwrap());
    let steps = run["steps"].to_string();
    let options = [
        "--steps",
        &steps,
        "--block-length",
        "16",
        "--gen-length",
        "32",
        "--cache",
        "dual",
        "--rule",
        "threshold=0.3",
    ];
    check_trace(name, &[&["ask", &clip, &golden_question(name)], &options[..]].concat());

    let name = "text_vanilla_g21_b7_s6";
    let lengths = ["--steps", "6", "--block-length", "7", "--gen-length", "21"];
    check_trace(name, &[&["generate", &golden_question(name)], &lengths[..]].concat());
}

#[test]
fn a_trace_of_several_answers_has_runs_and_a_page_is_self_contained() {
    let dir = tempfile::tempdir().unwrap();
    let (clip, model) = (demo_clip("16_beeps_two.wav"), "--quiet");
    let path = text(&dir.path().join("trace.json"));
    stdout_of(&[
        "ask",
        &clip,
        "How many beeps?",
        "Is it speech?",
        "--gen-length",
        "4",
        "--trace",
        &path,
        model,
    ]);
    let runs = read_json(Path::new(&path));
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2);
    assert_eq!(runs["runs"][1]["prompt"], "Is it speech?");

    let path = text(&dir.path().join("trace.html"));
    stdout_of(&["ask", &clip, "</script><b>How many?", "--gen-length", "4", "--trace", &path, model]);
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page.contains("How many?") && !page.contains("</script><b>") && !page.contains("__DATA__"));
    assert!(!page.contains("http://") && !page.contains("https://"));
}

#[test]
fn events_are_json_lines_that_end_with_the_answer() {
    let text = stdout_of(&[
        "ask",
        &demo_clip("16_beeps_two.wav"),
        "How many beeps?",
        "--gen-length",
        "4",
        "--events",
    ]);
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (answer, steps) = events.split_last().unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|event| event["event"] == "step"));
    assert_eq!(answer["event"], "answer");
    let committed: usize = steps.iter().map(|event| event["ids"].as_array().unwrap().len()).sum();
    assert_eq!(committed as u64, answer["tokens"].as_u64().unwrap());
}

#[test]
fn generate_needs_the_language_model_only() {
    let llm = text(&tiny().join("llada"));
    let args = ["generate", "Name three colours.", "--llm", &llm, "--gen-length", "8", "--json"];
    let json = json_of(&args);
    has_keys(&json, &["text", "ids", "nfe", "prompt", "prompt_tokens", "tokens_per_second", "adapter"]);
    has_keys(&json["timings_ms"], &["load", "plan", "denoise", "first_token"]);
    assert!(json.get("rtf").is_none() && json["settings"]["system"].is_null());
    let with_system = json_of(&[&args[..], &["--system", "Answer in French."]].concat());
    assert!(with_system["prompt_tokens"].as_u64() > json["prompt_tokens"].as_u64());
    let demo = stdout_of(&["generate", "Hello", "--gen-length", "4"]);
    assert_eq!(demo.lines().count(), 1);
}

#[test]
fn noise_depends_on_the_seed_alone() {
    // The demo model is too sure of its answers for noise to change them.
    let llm = text(&tiny().join("llada"));
    let ids = |seed: &str| {
        let args = ["generate", "Name three colours.", "--llm", &llm, "--temperature", "1", "--seed", seed];
        json_of(&[&args, &EXACT[..], &["--gen-length", "8", "--json"]].concat())["ids"].clone()
    };
    assert_eq!(ids("1"), ids("1"));
    assert_ne!(ids("1"), ids("2"));
}

#[test]
fn devices_are_listed_and_can_be_asked_for() {
    let json = json_of(&["devices", "--json"]);
    let adapters = json["adapters"].as_array().unwrap();
    let default = &adapters[json["default"].as_u64().unwrap() as usize];
    assert_eq!((&default["default"], &default["usable"]), (&Value::Bool(true), &Value::Bool(true)));
    has_keys(default, &["name", "backend", "driver", "device_type", "index", "missing"]);
    has_keys(&default["limits"], &["max_storage_buffer_binding_size", "max_compute_workgroup_storage_size"]);
    has_keys(&default["features"], &["shader_f16", "subgroups", "timestamps", "cooperative_matrices"]);
    has_keys(&default["kernels"], &["matmul", "attention_64", "attention_128"]);
    let name = default["name"].as_str().unwrap();
    assert!(stdout_of(&["devices"]).contains(name));

    let index = default["index"].to_string();
    let by_index = json_of(&["--adapter", &index, "generate", "Hello", "--gen-length", "4", "--json"]);
    let by_name =
        json_of(&["generate", "Hello", "--gen-length", "4", "--json", "--adapter", &name.to_uppercase()]);
    for json in [by_index, by_name] {
        assert_eq!(json["adapter"]["name"], name);
        assert!(json["adapter"]["why"].as_str().unwrap().contains("--adapter"));
    }
}

#[test]
fn a_synthetic_model_answers() {
    let dir = tempfile::tempdir().unwrap();
    let out = text(&dir.path().join("model"));
    stdout_of(&["synth", "--shape", "tiny", "--out", &out, "--seed", "3"]);
    let json = json_of(&["generate", "Hello", "--model", &out, "--gen-length", "8", "--json"]);
    assert_eq!(json["ids"].as_array().unwrap().len(), 8);
    stdout_of(&["ask", &tiny_clip("short_100ms_16k.wav"), "What?", "--model", &out, "--gen-length", "4"]);

    let llm = text(&dir.path().join("llm"));
    stdout_of(&["synth", "--shape", "tiny", "--out", &llm, "--seed", "3", "--parts", "llm"]);
    assert!(!Path::new(&llm).join("whisper").exists());
    let shard = |folder: &str| {
        std::fs::read(Path::new(folder).join("llada/model-00001-of-00004.safetensors")).unwrap()
    };
    assert_eq!(shard(&out), shard(&llm));

    // A model that is there is not replaced by accident.
    let again = ["synth", "--shape", "tiny", "--out", &llm, "--seed", "4", "--parts", "llm"];
    let refused = run(&again);
    assert!(!refused.status.success() && stderr(&refused).contains("--force"), "{}", stderr(&refused));
    assert_eq!(shard(&out), shard(&llm));
    stdout_of(&[&again[..], &["--force"]].concat());
    assert_ne!(shard(&out), shard(&llm));
}

#[test]
fn help_is_help_and_quiet_is_quiet() {
    for command in ["ask", "generate", "stages", "devices", "synth", "bench", "eval", "merge"] {
        let help = stdout_of(&[command, "--help"]);
        assert!(help.contains("Usage: diffa"), "{help}");
    }
    assert!(stdout_of(&["--help"]).contains("Exit codes"));
    assert!(stdout_of(&["completions", "bash"]).contains("--gen-length"));
    assert!(stdout_of(&["--version"]).starts_with("diffa "));
    let quiet = run(&["ask", &demo_clip("16_beeps_two.wav"), "How many beeps?", "--gen-length", "4", "-q"]);
    assert_eq!(stderr(&quiet), "");
    let plain = run(&["ask", &demo_clip("16_beeps_two.wav"), "How many beeps?", "--gen-length", "4"]);
    assert!(stderr(&plain).contains("because") && !stderr(&plain).contains('\x1b'), "{}", stderr(&plain));
}

#[cfg(target_os = "linux")]
#[test]
fn paths_need_not_be_text() {
    use std::os::unix::ffi::OsStringExt;
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join(std::ffi::OsString::from_vec(b"od\xffd".to_vec()));
    std::fs::create_dir(&odd).unwrap();
    let (clip, out) = (odd.join("clip.wav"), odd.join("out.safetensors"));
    std::fs::copy(demo_clip("16_beeps_two.wav"), &clip).unwrap();
    let args: [&std::ffi::OsStr; 6] = [
        "stages".as_ref(),
        clip.as_ref(),
        "--out".as_ref(),
        out.as_ref(),
        "--stages".as_ref(),
        "mel".as_ref(),
    ];
    stdout_of(&args);
    assert!(out.exists());
}

#[test]
fn a_closed_stdout_is_no_error() {
    let clip = demo_clip("16_beeps_two.wav");
    let mut command = command(&["ask", &clip, "How many beeps?", "Is it speech?", "--gen-length", "4"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_what_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let trace = text(&dir.path().join("trace.json"));
    let lengths = ["--steps", "512", "--gen-length", "512", "--block-length", "512", "--preset", "exact"];
    let args = [&["generate", "Hello", "--events", "--trace", &trace], &lengths[..]].concat();
    let mut child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    events.read_line(&mut first).unwrap();
    assert!(first.contains("\"step\""), "{first}");
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("error: interrupted"), "{}", stderr(&output));
    let answer: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert_eq!(answer["event"], "answer");
    let committed = answer["tokens"].as_u64().unwrap();
    assert!((1..512).contains(&committed), "{committed}");
    assert_eq!(read_json(Path::new(&trace))["nfe"], answer["nfe"]);
}
