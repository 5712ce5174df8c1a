//! Running the program itself, for the tests of the command line.
#![allow(dead_code)] // each test file uses its part

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The program, without the environment variable that keeps drivers quiet: users may lack it too.
pub fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diffa"));
    command.args(args).env_remove("XDG_RUNTIME_DIR");
    command
}

/// Runs it to its end. Whatever the arguments, it must not panic.
pub fn run<S: AsRef<OsStr>>(args: &[S]) -> Output {
    let output = command(args).output().unwrap();
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("XDG_RUNTIME_DIR"), "{}", stderr(&output));
    output
}

/// Runs it, expects success and returns what it printed.
pub fn stdout_of<S: AsRef<OsStr>>(args: &[S]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The same for JSON.
pub fn json_of<S: AsRef<OsStr>>(args: &[S]) -> Value {
    let text = stdout_of(args);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// What it said on stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into()
}

/// A clip of the demo model.
pub fn demo_clip(name: &str) -> String {
    text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/audio").join(name))
}

/// A clip of the golden data.
pub fn tiny_clip(name: &str) -> String {
    text(&tiny().join("wav").join(name))
}

/// The golden data set, which is a model folder too.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny")
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

/// A 16 kHz mono wav file.
pub fn write_wav(path: &Path, samples: &[f32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in samples {
        writer.write_sample((sample * 32767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// A JSON file.
pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What a golden run was asked.
pub fn golden_question(run: &str) -> String {
    let run = read_json(&tiny().join(format!("expected/traces/{run}.json")));
    let prompts = read_json(&tiny().join("expected/prompts.json"));
    prompts["prompts"][run["prompt"].as_str().unwrap()]["text"].as_str().unwrap().to_string()
}
