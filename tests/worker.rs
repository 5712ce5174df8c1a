//! `diffa bench worker` through its protocol, on tiny synthetic models, against the library's own stages.

#[path = "common/command.rs"]
mod command;
mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use command::{command, text};
use common::gpu;
use diffa::decode::Prompt;
use diffa::model::encoder::Encoder;
use diffa::model::{Llada, Part};
use diffa::synth::{SynthParts, SynthShape, write};
use diffa::{DecodeOptions, ModelPaths, Session};
use serde_json::Value;

/// A worker under test; ends with the test.
struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    ready: Value,
}

impl Peer {
    fn start(option: &str, folder: &Path) -> Peer {
        let mut command = command(&["bench", "worker", option, &text(folder), "--quiet"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut peer = Peer { child, to, from, ready: Value::Null };
        let line = peer.line();
        peer.ready =
            serde_json::from_str(line.strip_prefix("ready ").unwrap_or_else(|| panic!("{line}"))).unwrap();
        peer
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line
    }

    fn ask(&mut self, request: &str) -> Value {
        writeln!(self.to, "{request}").unwrap();
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{request}: {e}: {line}"))
    }

    /// Evidence of a work.
    fn show(&mut self, work: &str) -> Value {
        let reply = self.ask(&format!("show {work}"));
        assert_eq!(reply["ok"], true, "{work}: {reply}");
        reply["evidence"].clone()
    }

    /// Closes its input, upon which it must end well.
    fn end(mut self) {
        drop(self.to);
        assert!(self.child.wait().unwrap().success());
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn close(found: &[f64], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let expected = f64::from(*expected);
        assert!(
            (found - expected).abs() <= 1e-3 + 1e-3 * expected.abs(),
            "{what}: {found}, expected {expected}"
        );
    }
}

fn best(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

#[test]
fn a_language_model_shows_the_logits_of_the_library() {
    let dir = tempfile::tempdir().unwrap();
    let parts = SynthParts { llada: true, whisper: false, adapter: false };
    write(SynthShape::Tiny, dir.path(), 5, parts, &mut |_, _| {}).unwrap();
    let folder = dir.path().join("llada");
    let mut peer = Peer::start("--llm", &folder);
    for work in ["fwd", "blk16", "blk32"] {
        assert!(peer.ready["gflop"][work].as_f64().unwrap() > 0.0, "{work}: {}", peer.ready);
    }

    // The same rows through a decode: 536 spread ids and 48 or 32 masks as prompt, the rest as answer.
    let paths = ModelPaths { llm: Some(folder), ..Default::default() };
    let config = paths.llada_config().unwrap();
    let llada = Llada::load(&gpu(), &paths.checkpoint(Part::Llm).unwrap(), &config, &|_| Ok(())).unwrap();
    assert_eq!(config.mask_token_id as usize, config.vocab_size - 128, "the works mask with this id");
    let logits = |n: usize| {
        let spread = (0..536).map(|i| ((i * 7919 + 13) % (config.vocab_size - 400)) as u32);
        let ids: Vec<u32> = spread.chain(std::iter::repeat(config.mask_token_id)).take(600 - n).collect();
        let prompt = Prompt { ids: &ids, audio: None };
        let mut session = Session::new(&gpu(), &llada, &[prompt], &DecodeOptions::new(n, n, n)).unwrap();
        session.step().unwrap();
        session.logits().unwrap()
    };
    for (work, n) in [("fwd", 16), ("blk16", 16), ("blk32", 32)] {
        let (shown, expected) = (peer.show(work), logits(n));
        let argmax: Vec<usize> = expected.iter().map(|row| best(row)).collect();
        assert_eq!(numbers(&shown["argmax"]), argmax.iter().map(|i| *i as f64).collect::<Vec<_>>(), "{work}");
        close(&numbers(&shown["v"]), &expected[n - 1][..4], work);
    }
    // Works leave nothing behind that changes the next one.
    let before = peer.show("blk16");
    for request in ["fwd 2", "blk32 1", "blk16", "fwd"] {
        assert_eq!(peer.ask(request)["ok"], true, "{request}");
    }
    assert_eq!(peer.show("blk16"), before);
    for wrong in ["enc 1", "show enc", "fwd -1", "fwd x", "", "show"] {
        let reply = peer.ask(wrong);
        assert_eq!(reply["ok"], false, "`{wrong}`: {reply}");
        assert!(!reply["why"].as_str().unwrap().is_empty());
    }
    peer.end();
}

#[test]
fn an_encoder_shows_what_the_library_hears() {
    let dir = tempfile::tempdir().unwrap();
    let parts = SynthParts { llada: false, whisper: true, adapter: false };
    write(SynthShape::Tiny, dir.path(), 5, parts, &mut |_, _| {}).unwrap();
    let folder = dir.path().join("whisper");
    let mut peer = Peer::start("--whisper", &folder);
    for work in ["mel", "enc", "both"] {
        assert!(peer.ready["gflop"][work].as_f64().unwrap() > 0.0, "{work}: {}", peer.ready);
        assert_eq!(peer.ask(&format!("{work} 2"))["ok"], true);
    }
    let paths = ModelPaths { whisper: Some(folder), ..Default::default() };
    let config = paths.whisper_config().unwrap();
    let checkpoint = paths.checkpoint(Part::Whisper).unwrap();
    let encoder = Encoder::load(&gpu(), &checkpoint, &config, &[], &|_| Ok(())).unwrap();
    let tone = |i: usize| {
        let t = i as f64 / config.sampling_rate as f64;
        (0.3 * (std::f64::consts::TAU * (200.0 + 20.0 * t) * t).sin()) as f32
    };
    let samples: Vec<f32> = (0..config.n_samples).map(tone).collect();
    encoder.run(&gpu(), &samples).unwrap();
    let mel: Vec<f32> = gpu().read(&encoder.mel).unwrap();
    // Mel bins outermost, as in `input_features` of the reference.
    let of = |i: usize| mel[i % config.n_frames * config.n_mels + i / config.n_frames];
    close(&numbers(&peer.show("mel")["v"]), &[1000, 1001, 1002, 1003, 1004, 1005].map(of), "mel");
    let hidden: Vec<f32> = gpu().read(encoder.hidden(config.n_layers).unwrap()).unwrap();
    close(&numbers(&peer.show("enc")["v"]), &hidden[1000..1006], "enc");
    assert_eq!(peer.show("both"), peer.show("enc"));
    peer.end();
}
