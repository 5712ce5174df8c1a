//! Bad usage and bad input: exit code 2 and one paragraph that names the option, file or tensor at fault.

#[path = "common/command.rs"]
mod command;

use std::fs;
use std::path::{Path, PathBuf};

use command::{demo_clip, run, stderr, text, tiny, tiny_clip, write_wav};
use serde_json::Value;

/// The command must fail with exit code 2, and its message must have all of `parts`.
fn bad(args: &[&str], parts: &[&str]) {
    let output = run(args);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
    let error = message.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert!(!error.is_empty(), "{args:?}: no error in {message}");
    for part in parts {
        assert!(message.contains(part), "{args:?}: no `{part}` in {message}");
    }
    // Debug output of an error value.
    for leak in ["Usage {", "Io {", "Weights {", "Os {", "stack backtrace"] {
        assert!(!message.contains(leak), "{args:?}: {message}");
    }
    assert!(output.stdout.is_empty(), "{args:?}: {:?}", String::from_utf8_lossy(&output.stdout));
}

fn ask(clip: &str, more: &[&str], parts: &[&str]) {
    bad(&[&["ask", clip, "What is said?"], more].concat(), parts);
}

/// A file with that content, as an argument.
fn file_in(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    text(&path)
}

#[test]
fn audio() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| file_in(dir.path(), name, content);
    let wav = fs::read(demo_clip("16_beeps_two.wav")).unwrap();
    let mut foreign = wav.clone();
    foreign[20] = 0x55; // format tag: MPEG layer III inside wav
    let short = dir.path().join("short.wav");
    write_wav(&short, &[0.1; 500]);
    let cases = [
        (text(&dir.path().join("absent.wav")), "absent.wav"),
        (text(dir.path()), "folder"),
        (file("empty.wav", b""), "empty.wav"),
        (file("notes.wav", b"This is no sound at all.\n"), "text file"),
        (file("picture.mp3", b"\x89PNG\r\n\x1a\n0000"), "PNG"),
        (file("header.wav", &wav[..30]), "header.wav"),
        (file("cut.wav", &wav[..wav.len() / 2]), "cut.wav"),
        (file("cut.flac", &fs::read(demo_clip("09_day_woman1_slow.flac")).unwrap()[..300]), "cut.flac"),
        (file("codec.wav", &foreign), "codec.wav"),
        (text(&short), "short.wav"),
    ];
    for (clip, part) in &cases {
        ask(clip, &[], &[part]);
        bad(&["stages", clip, "--out", &text(&dir.path().join("out"))], &[part]);
    }
    assert!(!dir.path().join("out").exists());
    ask(&text(&short), &["--long", "window"], &["short.wav", "at least"]);
}

#[test]
fn questions_and_prompts() {
    let clip = demo_clip("16_beeps_two.wav");
    bad(&["ask", &clip], &["QUESTION"]);
    bad(&["ask", &clip, " "], &["QUESTION", "empty"]);
    bad(&["ask", &clip, "What?", ""], &["QUESTION", "empty"]);
    bad(&["generate", ""], &["PROMPT", "empty"]);
    bad(&["ask"], &["AUDIO"]);
    bad(&["answer", &clip], &["answer"]);
    bad(&["generate", &"word ".repeat(5000), "--gen-length", "4"], &["tokens", "at most"]);
}

#[test]
fn decode_options() {
    let clip = demo_clip("16_beeps_two.wav");
    let cases: &[(&[&str], &str)] = &[
        (&["--gen-length", "16", "--block-length", "5"], "--block-length"),
        (&["--gen-length", "16", "--block-length", "8", "--steps", "7"], "--steps"),
        (&["--steps", "0"], "--steps"),
        (&["--gen-length", "-1"], "--gen-length"),
        (&["--gen-length", "many"], "--gen-length"),
        (&["--gen-length", "99999999"], "--gen-length"),
        (&["--block-length", "0"], "--block-length"),
        (&["--remasking", "high_confidence"], "--remasking"),
        (&["--rule", "greedy"], "--rule"),
        (&["--rule", "threshold"], "--rule"),
        (&["--rule", "threshold=high"], "--rule"),
        (&["--rule", "threshold=1.5"], "threshold"),
        (&["--rule", "factor=-1"], "factor"),
        (&["--rule", "factor=nan"], "factor"),
        (&["--temperature", "nan"], "--temperature"),
        (&["--temperature", "-0.5"], "--temperature"),
        (&["--temperature", "warm"], "--temperature"),
        (&["--cfg-scale", "-1"], "--cfg-scale"),
        (&["--cfg-scale", "inf"], "--cfg-scale"),
        (&["--cfg-scale", "1", "--cache", "dual"], "--cfg-scale"),
        (&["--cache", "triple"], "--cache"),
        (&["--cache-dtype", "bf16"], "--cache-dtype"),
        (&["--stop", "never"], "--stop"),
        (&["--settled-gaps", "1,2"], "--settled-gaps"),
        (&["--preset", "fastest"], "--preset"),
        (&["--seed", "-1"], "--seed"),
        (&["--long", "all"], "--long"),
        (&["--json", "--events"], "--events"),
        (&["--volume", "11"], "--volume"),
    ];
    for (options, part) in cases {
        ask(&clip, options, &[part]);
    }
    bad(&["generate", "Hello", "--steps", "0"], &["--steps"]);
    bad(&["generate", "Hello", "--whisper", "x"], &["--whisper"]);
}

#[test]
fn adapters() {
    bad(&["generate", "Hello", "--adapter", "abacus"], &["--adapter", "abacus"]);
    bad(&["generate", "Hello", "--backend", "glide"], &["--backend", "vulkan"]);
    bad(&["devices", "--adapter", "abacus"], &["--adapter", "abacus"]);
}

#[test]
fn targets() {
    let dir = tempfile::tempdir().unwrap();
    let clip = demo_clip("16_beeps_two.wav");
    let (folder, absent) = (text(dir.path()), text(&dir.path().join("absent/file")));
    let file = text(&dir.path().join("file"));
    fs::write(&file, "").unwrap();
    bad(&["stages", &clip], &["--out"]);
    bad(&["stages", &clip, "--out", &folder], &["--out", "folder"]);
    bad(&["stages", &clip, "--out", &absent], &["--out", "absent"]);
    bad(&["stages", &clip, "--out", &file, "--stages", "mel,magic"], &["--stages", "magic"]);
    bad(&["stages", &clip, "--out", &file, "--stages", "logits"], &["--question"]);
    ask(&clip, &["--trace", &absent], &["--trace", "absent"]);
    ask(&clip, &["--trace", &folder], &["--trace", "folder"]);
    bad(&["synth", "--shape", "huge", "--out", &absent], &["--shape"]);
    bad(&["synth", "--shape", "tiny"], &["--out"]);
    bad(&["synth", "--shape", "tiny", "--out", &absent, "--parts", "decoder"], &["--parts"]);
    bad(&["synth", "--shape", "tiny", "--out", &file], &["file"]);
    bad(&["bench", "decode", "--settings", "16/16"], &["--settings"]);
    bad(&["bench", "decode", "--settings", "16/0/16"], &["--block-length"]);
    bad(&["bench", "decode", "--seconds", "-1"], &["--seconds"]);
    bad(&["bench", "decode", "--seconds", "nan"], &["--seconds"]);
    bad(&["score", "mmsu", &absent], &["absent"]);
    bad(&["score", "guess", &file], &["guess", "mmsu"]);
}

/// A copy of the golden model, with one thing changed.
fn model(change: impl FnOnce(&Path)) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["llada", "whisper", "diffa"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        for entry in fs::read_dir(tiny().join(folder)).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            fs::copy(&path, dir.path().join(folder).join(path.file_name().unwrap())).unwrap();
        }
    }
    change(dir.path());
    let path = text(dir.path());
    (dir, path)
}

fn edit(path: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(json.as_object_mut().unwrap());
    fs::write(path, json.to_string()).unwrap();
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() * 3 / 4]).unwrap();
}

#[test]
fn model_folders() {
    let clip = tiny_clip("short_100ms_16k.wav");
    let broken = |change: &dyn Fn(&Path), parts: &[&str]| {
        let (_dir, folder) = model(change);
        ask(&clip, &["--model", &folder, "--gen-length", "4"], parts);
    };
    let remove = |path: PathBuf| {
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    };
    let shard = "llada/model-00002-of-00002.safetensors";
    broken(&|m| remove(m.join("llada")), &["llada"]);
    broken(&|m| remove(m.join("whisper")), &["whisper"]);
    broken(&|m| remove(m.join("diffa")), &["diffa"]);
    broken(&|m| remove(m.join(shard)), &["model-00002-of-00002.safetensors", "tensor"]);
    broken(&|m| truncate(&m.join(shard)), &["model-00002-of-00002.safetensors"]);
    broken(&|m| fs::write(m.join(shard), "not weights").unwrap(), &["model-00002-of-00002.safetensors"]);
    broken(&|m| truncate(&m.join("whisper/model.safetensors")), &["whisper", "model.safetensors"]);
    broken(&|m| remove(m.join("llada/config.json")), &["llada", "config.json"]);
    broken(&|m| fs::write(m.join("llada/config.json"), "{").unwrap(), &["llada", "config.json"]);
    broken(&|m| edit(&m.join("llada/config.json"), |c| _ = c.remove("d_model")), &["config.json", "d_model"]);
    broken(
        &|m| edit(&m.join("llada/config.json"), |c| _ = c.insert("block_type".into(), "mamba".into())),
        &["config.json", "block_type"],
    );
    broken(
        &|m| {
            edit(&m.join("llada/config.json"), |c| {
                c.insert("vocab_size".into(), 1008.into());
                c.insert("embedding_size".into(), 1008.into());
            })
        },
        &["wte.weight", "1000"],
    );
    broken(
        &|m| edit(&m.join("whisper/config.json"), |c| _ = c.insert("encoder_layers".into(), 5.into())),
        &["layers.4"],
    );
    broken(&|m| remove(m.join("llada/tokenizer.json")), &["tokenizer.json"]);
    broken(&|m| fs::write(m.join("llada/tokenizer.json"), "{}").unwrap(), &["tokenizer.json"]);
    broken(
        &|m| {
            for file in ["config.json", "preprocessor_config.json", "model.safetensors"] {
                let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model/whisper");
                fs::copy(demo.join(file), m.join("whisper").join(file)).unwrap();
            }
        },
        &["diffa"],
    );
}

#[test]
fn heads_that_f16_cannot_keep_are_named_before_anything_is_loaded() {
    // 128 columns as 64 heads of 2.
    let (_dir, folder) = model(|m: &Path| {
        edit(&m.join("llada/config.json"), |c| {
            c.insert("n_heads".into(), 64.into());
            c.insert("n_kv_heads".into(), 64.into());
        });
    });
    let args = ["--model", &folder, "--cache-dtype", "f16"];
    let parts = ["--cache-dtype", "not of 2", "use f32"];
    bad(&[&["generate", "Hello"], &args[..]].concat(), &parts);
    bad(&[&["plan"], &args[..]].concat(), &parts);
}

#[test]
fn folder_options() {
    let clip = tiny_clip("short_100ms_16k.wav");
    let folder = |name: &str| text(&tiny().join(name));
    ask(&clip, &["--model", "/no/such/folder"], &["/no/such/folder"]);
    ask(&clip, &["--llm", &folder("llada")], &["--whisper"]);
    ask(&clip, &["--llm", &folder("llada"), "--whisper", &folder("whisper")], &["--adapters"]);
    ask(&clip, &["--whisper", &folder("whisper"), "--adapters", &folder("diffa")], &["--llm"]);
    ask(&clip, &["--model", &folder("llada/config.json")], &["config.json"]);
    // Folders taken for one another.
    ask(&clip, &["--model", &folder(""), "--llm", &folder("whisper")], &["whisper"]);
    ask(&clip, &["--model", &folder(""), "--adapters", &folder("llada")], &["llada"]);
    bad(&["generate", "Hello", "--model", &folder("wav")], &["llada"]);
    bad(&["generate", "Hello", "--model", &folder("llada")], &["--model", "--llm"]);
}

#[test]
fn files_that_are_not_ours_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| file_in(dir.path(), name, content);
    let wav = fs::read(demo_clip("16_beeps_two.wav")).unwrap();
    let (clip, notes) = (file("clip.wav", &wav), file("notes.txt", b"line one\nline two of my notes"));
    let link = text(&dir.path().join("./clip.wav"));
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let (data, root) = (text(&demo.join("bench/mini_mmsu.jsonl")), text(&demo));
    ask(&clip, &["--trace", &link], &["--trace", "overwritten"]);
    bad(&["stages", &clip, "--out", &link], &["--out", "overwritten"]);
    ask(&clip, &["--pipeline-cache", &notes], &["--pipeline-cache", "notes.txt"]);
    let eval = ["eval", "mmsu", "--data", &data, "--audio-root", &root, "--limit", "1"];
    for out in [&notes, &clip] {
        for resume in [&[][..], &["--resume"]] {
            let args = [&eval[..], &["--out", out], resume].concat();
            bad(&args, &["--out", "no answer file"]);
        }
    }
    assert_eq!(fs::read(&clip).unwrap(), wav);
    assert_eq!(fs::read(&notes).unwrap(), b"line one\nline two of my notes");
}

#[test]
fn settings_without_effect_are_refused() {
    let clip = demo_clip("16_beeps_two.wav");
    ask(&clip, &["--tuning", "/no/such/tuning.json"], &["--tuning", "diffa tune"]);
    ask(&clip, &["--settled-gaps", "1,2,3"], &["--settled-gaps", "--stop answer"]);
    ask(&clip, &["--gen-length", "2048", "--block-length", "4"], &["--gen-length", "at most 1024"]);
    let dir = tempfile::tempdir().unwrap();
    let out = text(&dir.path().join("small"));
    let done = run(&["quantize", "--to", "q8", &text(&tiny().join("llada")), &out]);
    assert!(done.status.success(), "{}", stderr(&done));
    bad(&["generate", "Hello", "--llm", &out, "--quantize", "q4"], &["--quantize", "already"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let mode = |path: PathBuf| fs::metadata(path).unwrap().mode();
        let original = tiny().join("llada/model-00001-of-00002.safetensors");
        assert_eq!(mode(Path::new(&out).join("model.safetensors")), mode(original));
    }
}
