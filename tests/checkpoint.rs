//! Checkpoint folders, configurations and synthetic models: what loads, and what each defect is called.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use diffa::checkpoint::{Blocks, Checkpoint, StoredDtype};
use diffa::error::Error;
use diffa::model::config::{AdapterConfig, LladaConfig, WhisperConfig};
use diffa::synth::{self, SynthParts, SynthShape};
use tempfile::TempDir;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tiny(part: &str) -> PathBuf {
    root().join("tests/fixtures/tiny").join(part)
}

fn demo(part: &str) -> PathBuf {
    root().join("assets/demo/model").join(part)
}

fn leak(path: &Path) -> &'static [u8] {
    Box::leak(fs::read(path).unwrap().into_boxed_slice())
}

// ------------------------------------------------------------------------------------------ file builders

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

/// A safetensors file from its header text and data.
fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A well-formed safetensors file of F32 tensors.
fn floats(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let (mut header, mut at, mut data) = (serde_json::Map::new(), 0, vec![]);
    for (name, shape) in tensors {
        let n = shape.iter().product::<usize>();
        let info = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * n]});
        header.insert((*name).into(), info);
        data.extend((0..n).flat_map(|i| (i as f32).to_le_bytes()));
        at += 4 * n;
    }
    raw(&serde_json::Value::from(header).to_string(), &data)
}

fn info(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

fn int(n: i32) -> Vec<u8> {
    [b"J", &n.to_le_bytes()[..]].concat()
}

fn ints(numbers: &[i32]) -> Vec<u8> {
    [b"(".to_vec(), numbers.iter().flat_map(|n| int(*n)).collect(), b"t".to_vec()].concat()
}

/// Pickle of one tensor: `storage` is torch's class name.
fn tensor(storage: &str, key: &str, n: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let id =
        [b"(".to_vec(), text("storage"), global("torch", storage), text(key), text("cpu"), int(n)].concat();
    let hooks = [&global("collections", "OrderedDict")[..], b")R"].concat();
    let args =
        [id, b"tQ".to_vec(), int(offset), ints(shape), ints(strides), b"\x89".to_vec(), hooks].concat();
    [&global("torch._utils", "_rebuild_tensor_v2")[..], b"(", &args, b"tR"].concat()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|(k, v)| [text(k), v.clone()].concat()).collect();
    [b"}(", &items[..], b"u"].concat()
}

/// A torch archive around a pickled value.
fn torch(value: &[u8], records: &[(&str, &[u8])], deflate: bool) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    let method = if deflate { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let pickle = [b"\x80\x02", value, b"."].concat();
    for (name, content) in [("data.pkl", &pickle[..])].iter().chain(records) {
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn counting(n: usize) -> Vec<u8> {
    (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

// ------------------------------------------------------------------------------------------ what must load

#[test]
fn torch_file_equals_safetensors() {
    let safe = Checkpoint::open(&tiny("diffa")).unwrap();
    let bin = leak(&tiny("diffa/pytorch_model.bin"));
    let torch = Checkpoint::from_static(&[("pytorch_model.bin", bin)], Path::new("embedded")).unwrap();
    assert!(safe.file_of("trainable_prompts.weight").ends_with("model.safetensors"));
    assert!(safe.names().eq(torch.names()));
    assert_eq!(safe.names().count(), 74);
    for name in safe.names() {
        let (a, b) = (safe.get(name).unwrap(), torch.get(name).unwrap());
        assert_eq!((a.dtype, b.dtype), (StoredDtype::F32, StoredDtype::BF16), "{name}");
        assert_eq!(a.shape, b.shape, "{name}");
        assert!(matches!(b.bytes, std::borrow::Cow::Borrowed(_)), "{name} is copied");
        if !name.starts_with("whisper_model") && !name.starts_with("llm_model") {
            assert_eq!(a.to_f32(), b.to_f32(), "{name}");
        }
    }
}

#[test]
fn agrees_with_the_safetensors_crate() {
    for dir in [tiny("whisper"), tiny("diffa"), demo("llada"), demo("whisper"), demo("diffa")] {
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let ours = Checkpoint::open(&dir).unwrap();
        assert_eq!(ours.names().count(), theirs.len());
        for (name, view) in theirs.tensors() {
            let tensor = ours.expect(&name, view.shape()).unwrap();
            assert_eq!(&*tensor.bytes, view.data(), "{name}");
            assert!(tensor.to_f32().iter().all(|x| x.is_finite()));
            ours.release(&tensor);
            assert_eq!(&*tensor.bytes, view.data(), "{name} after release");
        }
    }
    let demo_types =
        [("llada", StoredDtype::BF16), ("whisper", StoredDtype::F16), ("diffa", StoredDtype::F16)];
    for (part, dtype) in demo_types {
        let checkpoint = Checkpoint::open(&demo(part)).unwrap();
        assert!(checkpoint.names().all(|n| checkpoint.get(n).unwrap().dtype == dtype));
    }
}

#[test]
fn shards_of_an_index() {
    let checkpoint = Checkpoint::open(&tiny("llada")).unwrap();
    assert_eq!(checkpoint.names().count(), 30);
    assert_eq!(checkpoint.total_bytes(), 1_699_584);
    let file = |name| checkpoint.get(name).unwrap().file.file_name().unwrap().to_str().unwrap();
    assert_eq!(file("model.transformer.blocks.1.q_proj.weight"), "model-00001-of-00002.safetensors");
    assert_eq!(file("model.transformer.blocks.1.ff_out.weight"), "model-00002-of-00002.safetensors");
    // torch's own index works the same way.
    let shard = |k: &str, v: f32| {
        let value = dict(&[(k, tensor("FloatStorage", "0", 1, 0, &[1], &[1]))]);
        torch(&value, &[("data/0", &v.to_le_bytes())], false)
    };
    let index = br#"{"weight_map": {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}}"#;
    let dir = folder(&[
        ("pytorch_model.bin.index.json", index),
        ("pytorch_model-1.bin", &shard("a", 1.5)),
        ("pytorch_model-2.bin", &shard("b", 2.5)),
    ]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.get("b").unwrap().to_f32(), [2.5]);
}

#[test]
fn configurations_of_fixtures_and_demo() {
    for (base, n_samples, prompts) in [(tiny as fn(&str) -> PathBuf, 480_000, 64), (demo, 64_000, 16)] {
        let whisper = WhisperConfig::read(&base("whisper")).unwrap();
        let llada = LladaConfig::read(&base("llada")).unwrap();
        assert_eq!((whisper.n_samples, whisper.n_frames), (n_samples, n_samples / 160));
        assert_eq!(whisper.check(&Checkpoint::open(&base("whisper")).unwrap()).unwrap(), "model.encoder.");
        assert_eq!(llada.check(&Checkpoint::open(&base("llada")).unwrap()).unwrap(), "model.transformer.");
        let diffa = Checkpoint::open(&base("diffa")).unwrap();
        let adapter = AdapterConfig::from_checkpoint(&diffa, &whisper, &llada).unwrap();
        assert_eq!((adapter.prompt_size, adapter.n_targets, adapter.n_blocks), (prompts, 4, 2));
        assert_eq!(adapter.tensors().len(), 72);
        assert_eq!(adapter.target_layers(12), [2, 5, 8, 11]);
        // Without preprocessor_config.json the window follows from the positions.
        let json = fs::read(base("whisper").join("config.json")).unwrap();
        assert_eq!(WhisperConfig::from_json_bytes(&json, None, &base("whisper")).unwrap(), whisper);
    }
}

#[test]
fn torch_variants() {
    let t = |offset, shape: &[i32], strides: &[i32]| tensor("FloatStorage", "0", 12, offset, shape, strides);
    let parameter = [
        &global("torch._utils", "_rebuild_parameter")[..],
        &[&b"("[..], &t(0, &[12], &[1]), b"\x88", &global("collections", "OrderedDict"), b")RtR"].concat(),
    ]
    .concat();
    let items = [
        ("plain", t(0, &[3, 4], &[4, 1])),
        ("offset", t(4, &[2, 4], &[4, 1])),
        ("transposed", t(0, &[4, 3], &[1, 4])),
        ("column", t(1, &[3, 1], &[4, 999])),
        ("scalar", t(7, &[], &[])),
        ("none", t(0, &[0, 5], &[5, 1])),
        ("parameter", parameter),
        ("epoch", int(3)),
        ("long", tensor("LongStorage", "1", 1, 0, &[1], &[1])),
    ];
    let metadata = [dict(&items), dict(&[("_metadata", dict(&[]))]), b"b".to_vec()].concat();
    let nested = dict(&[("state_dict", dict(&items)), ("step", int(-1))]);
    let records = [("data/0", &counting(12)[..]), ("data/1", &[0; 8]), ("byteorder", b"little")];
    for (value, deflate) in [(&metadata, false), (&metadata, true), (&nested, false), (&nested, true)] {
        let dir = folder(&[("pytorch_model.bin", &torch(value, &records, deflate))]);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.names().count(), 8);
        let get = |name| checkpoint.get(name).unwrap().to_f32();
        assert_eq!(get("plain"), (0..12).map(|i| i as f32).collect::<Vec<_>>());
        assert_eq!(get("parameter"), get("plain"));
        assert_eq!(get("offset"), [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(get("transposed"), [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
        assert_eq!(get("column"), [1.0, 5.0, 9.0]);
        assert_eq!(get("scalar"), [7.0]);
        assert!(get("none").is_empty());
        checkpoint.release(&checkpoint.get("transposed").unwrap());
        let message = checkpoint.get("long").unwrap_err().to_string();
        assert!(message.contains("`long`") && message.contains("I64"), "{message}");
    }
}

/// A checkpoint of one large tensor `big` behind one of an odd number of words, and where it lies.
fn large() -> (TempDir, Checkpoint) {
    // Beside the programs under test, since memory file systems may have no direct reads.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(dir.path().join("model.safetensors"), floats(&[("a", &[3]), ("big", &[1_500, 1_001])]))
        .unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, checkpoint)
}

/// True if files can be read past the page cache here, as the system tells.
fn can_read_directly(file: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::{FileExt, OpenOptionsExt};
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        let mut page = memmap2::MmapMut::map_anon(4096).unwrap();
        let opened = fs::File::options().read(true).custom_flags(flags).open(file);
        opened.and_then(|file| file.read_at(&mut page, 0)).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        false
    }
}

#[test]
fn bytes_read_past_the_page_cache() {
    let (dir, checkpoint) = large();
    let big = checkpoint.get("big").unwrap();
    let n = big.bytes.len();
    let mut blocks = Blocks::default();
    let megabyte = 1 << 20;
    // Nothing, within a block, across its edges, and more than one read with and without a rest.
    for range in [0..0, 5..6, 0..4, 1..4098, 4..n - 3, megabyte..5 * megabyte, 0..n] {
        for past_cache in [None, Some(&mut blocks)] {
            let is_direct = past_cache.is_some() && can_read_directly(&dir.path().join("model.safetensors"));
            let mut chunks: Vec<Vec<u8>> = Vec::new();
            let mut take = |chunk: &[u8]| {
                chunks.push(chunk.to_vec());
                Ok(())
            };
            checkpoint.chunks(&big, range.clone(), past_cache, &mut take).unwrap();
            assert!(chunks.concat() == big.bytes[range.clone()], "{range:?}");
            assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() % 4 == 0), "{range:?}");
            assert_eq!(chunks.len() > 1, is_direct && range.len() > 3 * megabyte, "{range:?}");
        }
    }
    // Whoever takes them may stop.
    let mut stop = |_: &[u8]| Err(Error::usage("--nothing", "is wanted"));
    assert!(checkpoint.chunks(&big, 0..n, Some(&mut blocks), &mut stop).is_err());
}

#[test]
fn prefixes() {
    let dir = folder(&[("model.safetensors", &floats(&[("encoder.conv1.weight", &[1]), ("z", &[1])]))]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.prefix(&["model.encoder.", "encoder."]), Some("encoder."));
    assert_eq!(checkpoint.prefix(&["model.", "y"]), None);
    assert_eq!(checkpoint.prefix_of(&["", "encoder."], "conv1.weight"), Some("encoder."));
    assert_eq!(WhisperConfig::prefix(&checkpoint).unwrap(), "encoder.");
    let message = LladaConfig::prefix(&checkpoint).unwrap_err().to_string();
    assert!(message.contains("LLaDA") && message.contains("`model.transformer.wte.weight`"), "{message}");

    // Everything under `module.`, as some trainers save it.
    let (whisper, llada) =
        (WhisperConfig::read(&tiny("whisper")).unwrap(), LladaConfig::read(&tiny("llada")).unwrap());
    let plain = Checkpoint::open(&tiny("diffa")).unwrap();
    let names: Vec<_> = plain.names().map(|n| (format!("module.{n}"), plain.shape(n).unwrap())).collect();
    let names: Vec<_> = names.iter().map(|(n, s)| (n.as_str(), *s)).collect();
    let dir = folder(&[("model.safetensors", &floats(&names))]);
    let wrapped = Checkpoint::open(dir.path()).unwrap();
    let adapter = AdapterConfig::from_checkpoint(&wrapped, &whisper, &llada).unwrap();
    assert_eq!(adapter.prefix, "module.");
}

// ------------------------------------------------------------------------------------- what must be refused

/// Opens a folder with these files; the message must contain every one of `wanted`.
#[track_caller]
fn refused(files: &[(&str, &[u8])], wanted: &[&str]) {
    let dir = folder(files);
    let error = Checkpoint::open(dir.path()).expect_err("opened a damaged checkpoint");
    assert!(error.is_bad_input());
    check_message(&error, wanted);
}

#[track_caller]
fn check_message(error: &Error, wanted: &[&str]) {
    let message = error.to_string();
    for part in wanted {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn damaged_folders() {
    check_message(&Checkpoint::open(Path::new("/no/where")).unwrap_err(), &["/no/where", "no such folder"]);
    let dir = folder(&[("x", b"y")]);
    check_message(&Checkpoint::open(&dir.path().join("x")).unwrap_err(), &["x", "is a file"]);
    refused(&[], &["no weight file", "model.safetensors.index.json", "pytorch_model.bin"]);
    refused(
        &[("model-00001-of-00002.safetensors", b"x")],
        &["no weight file", "model-00001-of-00002.safetensors"],
    );
    refused(&[("model.safetensors", b"")], &["model.safetensors", "empty"]);
    refused(
        &[("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n")],
        &["git-lfs", "git lfs pull"],
    );

    let index = "model.safetensors.index.json";
    let map = |m: &str| format!(r#"{{"weight_map": {m}}}"#).into_bytes();
    let a = floats(&[("a", &[2])]);
    refused(&[(index, b"{\"weight_map\": ")], &[index, "JSON"]);
    refused(&[(index, b"{\"map\": {}}")], &[index, "weight_map"]);
    refused(&[(index, &map("{}"))], &[index, "empty"]);
    refused(&[(index, &map(r#"{"t": "lost.safetensors"}"#))], &[index, "`lost.safetensors`", "`t`"]);
    refused(&[(index, &map(r#"{"t": "../lost.safetensors"}"#))], &[index, "`../lost.safetensors`", "`t`"]);
    let two = map(r#"{"a": "1.safetensors", "b": "1.safetensors"}"#);
    refused(&[(index, &two), ("1.safetensors", &a)], &["1.safetensors", "`b`", index]);
    let both = map(r#"{"a": "1.safetensors", "b": "2.safetensors"}"#);
    let ab = floats(&[("b", &[1]), ("a", &[2])]);
    refused(
        &[(index, &both), ("1.safetensors", &a), ("2.safetensors", &ab)],
        &["1.safetensors", "2.safetensors", "`a` is also"],
    );
}

#[test]
fn damaged_safetensors() {
    let bad = |content: &[u8], wanted: &[&str]| {
        refused(&[("model.safetensors", content)], &[&["model.safetensors"], wanted].concat());
    };
    let whole = floats(&[("x.weight", &[2, 3]), ("y.weight", &[4])]);
    bad(&whole[..whole.len() - 5], &["cut short", "`y.weight`", &whole.len().to_string()]);
    bad(&whole[..20], &["cut short", "20"]);
    bad(&whole[..7], &["7 bytes"]);
    bad(&[&whole[..], b"abc"].concat(), &["3 bytes after", "`y.weight`"]);
    bad(&[0xff; 64], &["header of 18446744073709551615 bytes"]);
    bad(&[&99_999_999u64.to_le_bytes()[..], b"{}"].concat(), &["cut short"]);
    bad(&raw("{\"x\": nonsense}", &[]), &["JSON"]);
    bad(&raw("[1, 2]", &[]), &["header"]);
    bad(&raw(r#"{"x.weight": {"dtype": "F32"}}"#, &[]), &["`x.weight`", "shape"]);
    bad(&raw(&format!("{{{}}}", "[".repeat(100_000)), &[]), &["JSON"]);
    let one = |i: &[String]| raw(&format!("{{{}}}", i.join(",")), &[0; 16]);
    bad(&one(&[info("p", "F32", "[4]", 0, 16), info("q", "F32", "[2]", 8, 16)]), &["`p`", "`q`", "overlap"]);
    bad(
        &one(&[info("p", "F32", "[2]", 0, 8), info("q", "F32", "[1]", 12, 16)]),
        &["`q`", "starts at byte 12"],
    );
    bad(&one(&[info("p", "F32", "[0]", 16, 12)]), &["`p`", "before its start"]);
    bad(&one(&[info("p", "F32", "[1000]", 0, 4000)]), &["`p`", "cut short"]);
    bad(&one(&[info("p", "F32", "[3]", 0, 16)]), &["`p`", "needs 12 bytes", "16"]);
    bad(&one(&[info("p", "F32", "[4294967296,4294967296,4]", 0, 16)]), &["`p`", "impossible shape"]);
    bad(&one(&[info("p", "F32", "[-4]", 0, 16)]), &["`p`", "-4"]);
    bad(&one(&[info("p", "F32", "[2]", 0, 8), info("p", "F32", "[2]", 8, 16)]), &["`p`", "twice"]);
    bad(&one(&[info("p", "F4", "[2]", 0, u64::MAX)]), &["`p`", "cut short"]);

    // Other types are refused when asked for, not before.
    let mixed = one(&[info("p", "I64", "[1]", 0, 8), info("q.weight", "F32", "[2]", 8, 16)]);
    let dir = folder(&[("model.safetensors", &mixed)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.get("q.weight").unwrap().to_f32(), [0.0, 0.0]);
    check_message(&checkpoint.get("p").unwrap_err(), &["model.safetensors", "`p`", "I64", "BF16"]);
    check_message(
        &checkpoint.expect("q.weight", &[3, 7]).unwrap_err(),
        &["model.safetensors", "`q.weight` has shape [2], expected [3, 7]", "config.json"],
    );
    check_message(
        &checkpoint.get("q.wieght").unwrap_err(),
        &["`q.wieght` is missing", "similar", "`q.weight`"],
    );
    check_message(&checkpoint.get("model.q.weight").unwrap_err(), &["similar", "`q.weight`"]);
    check_message(&checkpoint.get("nothing.of.the.sort").unwrap_err(), &["2 tensors", "`p`"]);
}

#[test]
fn damaged_torch_files() {
    let bad = |content: &[u8], wanted: &[&str]| {
        refused(&[("pytorch_model.bin", content)], &[&["pytorch_model.bin"], wanted].concat());
    };
    let pickle = |value: &[u8], wanted: &[&str]| bad(&torch(value, &[("data/0", &[0; 48])], false), wanted);
    let t = |n, offset, shape: &[i32], strides: &[i32]| {
        dict(&[("w", tensor("FloatStorage", "0", n, offset, shape, strides))])
    };
    bad(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02", &["before 1.6", "torch.save"]);
    bad(b"not a checkpoint at all", &["zip"]);
    let good = torch(&t(12, 0, &[12], &[1]), &[("data/0", &[0; 48])], false);
    bad(&good[..good.len() - 30], &["zip"]);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    zip.start_file("a/b", zip::write::SimpleFileOptions::default()).unwrap();
    bad(&zip.finish().unwrap().into_inner(), &["data.pkl"]);
    bad(&torch(&t(12, 0, &[12], &[1]), &[("byteorder", b"big")], false), &["big-endian"]);
    bad(&torch(&t(12, 0, &[12], &[1]), &[], false), &["`w`", "archive/data/0", "missing"]);
    pickle(&t(13, 0, &[12], &[1]), &["`w`", "48 bytes", "52"]);
    pickle(&t(12, 1, &[12], &[1]), &["`w`", "beyond its storage"]);
    pickle(&t(12, 0, &[2, 12], &[0, 1]), &["`w`", "beyond its storage"]);
    pickle(&t(12, 0, &[2, 2], &[i32::MAX, i32::MAX]), &["`w`", "beyond its storage"]);
    pickle(&t(12, 0, &[i32::MAX, i32::MAX, i32::MAX], &[1, 1, 1]), &["`w`", "impossible shape"]);
    pickle(&t(12, -1, &[12], &[1]), &["-1"]);
    pickle(&t(12, 0, &[-12], &[1]), &["-12"]);
    pickle(&t(12, 0, &[12], &[]), &["strides"]);
    pickle(&t(12, 0, &[1; 17], &[1; 17]), &["17 dimensions"]);
    pickle(&dict(&[("a", int(1))]), &["without tensors"]);
    pickle(&int(1), &["int", "state dict"]);
    pickle(b"R", &["REDUCE", "stack"]);
    pickle(b"}(K", &["damaged"]);
    pickle(b"h\x07", &["BINGET", "7"]);
    pickle(b"X\xff\xff\xff\xff", &["BINUNICODE", "too early"]);
    pickle(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", &["BINUNICODE8", "too early"]);
}

#[test]
fn malicious_pickles() {
    let refuse = |value: &[u8], wanted: &str| {
        let file = torch(value, &[], false);
        refused(&[("pytorch_model.bin", &file)], &["pytorch_model.bin", "refused", wanted]);
    };
    refuse(&[&global("os", "system")[..], &text("echo"), b"\x85R"].concat(), "would execute `os.system`");
    refuse(&[&global("builtins", "eval")[..], &text("1"), b"\x85R"].concat(), "`builtins.eval`");
    refuse(&global("torch.storage", "_load_from_bytes"), "`torch.storage._load_from_bytes`");
    refuse(&global("torch", "load"), "`torch.load`");
    refuse(&[&text("posix")[..], &text("system"), b"\x93"].concat(), "`posix.system`");
    refuse(b"(ios\nsystem\n", "INST");
    refuse(b"}}\x81", "NEWOBJ");
    refuse(b"\x82\x01", "EXT1");
    refuse(b"P1\n", "PERSID");
    refuse(b"}2", "DUP");
    refuse(&[&global("collections", "OrderedDict")[..], b"}b"].concat(), "state of a class");
    refuse(&[0xfe], "0xfe");

    // A doubling chain of shared containers, deep nesting and many marks cost only their own bytes.
    let mut bomb = b"}q\x00".to_vec();
    (0..200).for_each(|_| bomb.extend_from_slice(b"h\x00h\x00\x86q\x00"));
    let deep = [b")".to_vec(), b"\x85".repeat(1 << 20)].concat();
    for value in [bomb, deep, b"(".repeat(1 << 20), b"]".repeat(1 << 20)] {
        refused(&[("pytorch_model.bin", &torch(&value, &[], true))], &["pytorch_model.bin"]);
    }
    // 17 MB of pickle in a few kilobytes of archive.
    refused(&[("pytorch_model.bin", &torch(&vec![b'N'; 17 << 20], &[], true))], &["at most"]);
}

#[test]
fn random_damage_never_panics() {
    let value = dict(&[
        ("a", tensor("FloatStorage", "0", 12, 0, &[3, 4], &[4, 1])),
        ("b", tensor("HalfStorage", "1", 6, 0, &[2, 3], &[1, 2])),
        ("c", tensor("FloatStorage", "0", 12, 4, &[2, 2], &[4, 2])),
    ]);
    let records = [("data/0", &counting(12)[..]), ("data/1", &[7; 12]), ("byteorder", b"little")];
    let cases = [
        ("model.safetensors", floats(&[("x.weight", &[2, 3]), ("y.bias", &[4]), ("z", &[])])),
        ("pytorch_model.bin", torch(&value, &records, false)),
        ("pytorch_model.bin", torch(&value, &records, true)),
    ];
    let mut state = 1u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let dir = tempfile::tempdir().unwrap();
    for (name, good) in cases {
        let path = dir.path().join(name);
        let mut outcomes = [0, 0];
        for _ in 0..500 {
            let mut bytes = good.clone();
            for _ in 0..1 + random(4) {
                let at = random(bytes.len());
                match random(8) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes.insert(at, random(256) as u8),
                    2 => bytes[at] = [0, 0xff, b'.', b'('][random(4)],
                    3 => bytes[at] ^= 1 << random(8),
                    _ => bytes[at] = random(256) as u8,
                }
            }
            fs::write(&path, &bytes).unwrap();
            match Checkpoint::open(dir.path()) {
                Ok(checkpoint) => {
                    for tensor in checkpoint.names().filter_map(|n| checkpoint.get(n).ok()) {
                        let n = tensor.shape.iter().product::<usize>();
                        assert_eq!(tensor.bytes.len(), tensor.dtype.row_bytes(n));
                        assert_eq!(tensor.to_f32().len(), n);
                        checkpoint.release(&tensor);
                    }
                    outcomes[0] += 1;
                }
                Err(e) => {
                    assert!(e.to_string().contains(name), "{e}");
                    outcomes[1] += 1;
                }
            }
        }
        assert!(outcomes.iter().all(|n| *n > 20), "{name}: {outcomes:?}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn wrong_configurations() {
    let edit = |base: &str, key: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(tiny(base)).unwrap()).unwrap();
        json[key] = value;
        json.to_string().into_bytes()
    };
    let dir = Path::new("folder");
    let llada = |key: &str, value: serde_json::Value| {
        LladaConfig::from_json_bytes(&edit("llada/config.json", key, value), dir)
    };
    let null = serde_json::Value::Null;
    for (key, value, wanted) in [
        ("d_model", null.clone(), "missing"),
        ("d_model", 130.into(), "does not divide"),
        ("d_model", 0.into(), "expected 1 to"),
        ("d_model", "128".into(), "whole number"),
        ("n_layers", 1e9.into(), "whole number"),
        ("n_layers", 4_000_000_000u64.into(), "expected 1 to"),
        ("n_heads", 128.into(), "heads of 1"),
        ("n_kv_heads", 3.into(), "does not divide"),
        ("mask_token_id", 1000.into(), "vocabulary has 1000"),
        ("mask_token_id", null.clone(), "missing"),
        ("mask_token_id", 788.into(), "same as eos_token_id"),
        ("eos_token_id", (-1).into(), "not negative"),
        ("pad_token_id", 5000.into(), "vocabulary has 1000"),
        ("embedding_size", 999.into(), "less than vocab_size"),
        ("block_type", "sequential".into(), "\"llama\""),
        ("activation_type", "gelu".into(), "\"silu\""),
        ("layer_norm_type", "default".into(), "\"rms\""),
        ("include_bias", true.into(), "only false"),
        ("include_qkv_bias", true.into(), "only false"),
        ("attention_layer_norm", true.into(), "only false"),
        ("alibi", true.into(), "only false"),
        ("scale_logits", true.into(), "only false"),
        ("input_emb_norm", true.into(), "only false"),
        ("rope", false.into(), "only true"),
        ("rope_theta", 0.into(), "positive"),
        ("weight_tying", "no".into(), "true or false"),
    ] {
        let error = llada(key, value).expect_err(key);
        let named = if wanted == "does not divide" { "n_" } else { key };
        let named = if wanted == "heads of 1" { "n_heads" } else { named };
        check_message(&error, &["folder/config.json", named, wanted]);
    }
    let config = llada("n_kv_heads", null.clone()).unwrap();
    assert_eq!(config.n_kv_heads, 4);
    assert_eq!(llada("mlp_hidden_size", null.clone()).unwrap().mlp_hidden_size, 512);
    assert_eq!(llada("embedding_size", 1024.into()).unwrap().vocab_size, 1024);
    assert_eq!(llada("pad_token_id", null.clone()).unwrap().pad_token_id, 788);
    let tied = llada("weight_tying", true.into()).unwrap();
    assert!(!tied.tensors().iter().any(|(n, _)| n == "ff_out.weight"));
    check_message(&LladaConfig::from_json_bytes(b"[]", dir).unwrap_err(), &["folder/config.json", "object"]);

    let preprocessor = fs::read(tiny("whisper/preprocessor_config.json")).unwrap();
    for (key, value, wanted) in [
        ("d_model", 71.into(), "does not divide"),
        ("max_source_positions", 1000.into(), "max_source_positions"),
        ("num_mel_bins", 128.into(), "num_mel_bins"),
        ("activation_function", "relu".into(), "gelu"),
        ("scale_embedding", true.into(), "only false"),
        ("encoder_layers", null.clone(), "missing"),
    ] {
        let json = edit("whisper/config.json", key, value);
        let error = WhisperConfig::from_json_bytes(&json, Some(&preprocessor), dir).expect_err(key);
        check_message(&error, &["folder", wanted]);
    }
    let config = fs::read(tiny("whisper/config.json")).unwrap();
    for (key, value, wanted) in [
        ("sampling_rate", 8000.into(), "16000"),
        ("chunk_length", (-1e30).into(), "window"),
        ("n_fft", 401.into(), "even"),
        ("hop_length", 0.into(), "expected 1 to"),
    ] {
        let json = edit("whisper/preprocessor_config.json", key, value);
        let error = WhisperConfig::from_json_bytes(&config, Some(&json), dir).expect_err(key);
        check_message(&error, &["folder/preprocessor_config.json", key, wanted]);
    }
    let missing = LladaConfig::read(Path::new("/no/where")).unwrap_err();
    check_message(&missing, &["cannot read /no/where/config.json"]);
}

#[test]
fn adapter_of_another_model() {
    let whisper = WhisperConfig::read(&tiny("whisper")).unwrap();
    let llada = LladaConfig::read(&tiny("llada")).unwrap();
    let adapter = Checkpoint::open(&tiny("diffa")).unwrap();
    let error =
        AdapterConfig::from_checkpoint(&adapter, &WhisperConfig { d_model: 768, ..whisper.clone() }, &llada);
    check_message(&error.unwrap_err(), &["expects Whisper width 72 but", "whisper/config.json has 768"]);
    let error =
        AdapterConfig::from_checkpoint(&adapter, &whisper, &LladaConfig { d_model: 64, ..llada.clone() });
    check_message(&error.unwrap_err(), &["expects LLaDA width 128 but", "llada/config.json has 64"]);
    let error =
        AdapterConfig::from_checkpoint(&adapter, &WhisperConfig { n_layers: 3, ..whisper.clone() }, &llada);
    check_message(&error.unwrap_err(), &["layer_prompts", "3 encoder layers"]);

    // Each tensor in turn is left out, or has another shape.
    let all: Vec<_> = adapter.names().map(|n| (n, adapter.shape(n).unwrap().to_vec())).collect();
    let names = |f: &dyn Fn(usize, &mut Vec<usize>) -> bool| {
        let kept = all.iter().enumerate().filter_map(|(i, (n, shape))| {
            let mut shape = shape.clone();
            f(i, &mut shape).then_some((*n, shape))
        });
        let kept: Vec<_> = kept.collect();
        let kept: Vec<_> = kept.iter().map(|(n, s)| (*n, s.as_slice())).collect();
        let dir = folder(&[("model.safetensors", &floats(&kept))]);
        AdapterConfig::from_checkpoint(&Checkpoint::open(dir.path()).unwrap(), &whisper, &llada)
    };
    for (i, (name, _)) in all.iter().enumerate() {
        if name.contains("_model.") || *name == "trainable_prompts.weight" {
            continue;
        }
        let lost = names(&|k, _| k != i);
        let lost = lost.expect_err(name).to_string();
        assert!(lost.contains(&format!("`{name}`")), "{name} missing: {lost}");
        let changed = names(&|k, shape| {
            if k == i {
                shape[0] += 1;
            }
            true
        });
        let message = changed.expect_err(name).to_string();
        assert!(message.contains("model.safetensors") && message.contains('`'), "{message}");
    }
    let without = names(&|k, _| all[k].0 != "trainable_prompts.weight").unwrap();
    assert_eq!(without.n_trainable_prompts, 0);
}

// -------------------------------------------------------------------------------------------- synthetic models

#[test]
fn synthetic_tiny_model() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let (mut last, mut calls) = ((0, 0), 0);
    synth::write(SynthShape::Tiny, out, 7, SynthParts::ALL, &mut |done, total| {
        assert!(done > last.0);
        last = (done, total);
        calls += 1;
    })
    .unwrap();
    assert!(last.0 == last.1 && calls > 100, "{last:?} after {calls} calls");
    assert_eq!(last.1, SynthShape::Tiny.total_bytes(SynthParts::ALL).unwrap());

    let whisper = WhisperConfig::read(&out.join("whisper")).unwrap();
    let llada = LladaConfig::read(&out.join("llada")).unwrap();
    assert_eq!((whisper.d_model, whisper.n_samples), (48, 32_000));
    assert_eq!((llada.n_heads, llada.n_kv_heads, llada.vocab_size), (4, 2, 704));
    let open = |part: &str| Checkpoint::open(&out.join(part)).unwrap();
    let (w, l, d) = (open("whisper"), open("llada"), open("diffa"));
    whisper.check(&w).unwrap();
    llada.check(&l).unwrap();
    let adapter = AdapterConfig::from_checkpoint(&d, &whisper, &llada).unwrap();
    assert_eq!((adapter.n_targets, adapter.prompt_size, adapter.n_trainable_prompts), (2, 16, 20));
    assert_eq!(w.names().count(), whisper.tensors().len());
    assert_eq!(l.names().count(), llada.tensors().len());
    assert_eq!(d.names().count(), adapter.tensors().len());
    assert!(fs::read_dir(out.join("llada")).unwrap().count() > 6, "expected several shards");

    // Distribution of what was asked for, by tensor.
    let moments = |c: &Checkpoint, name: &str| {
        let x = c.get(name).unwrap().to_f32();
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        (mean, (x.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / x.len() as f32).sqrt())
    };
    let (mean, std) = moments(&l, "model.transformer.wte.weight");
    assert!(mean.abs() < 0.02 && (std - 1.0).abs() < 0.02, "{mean} {std}");
    let (mean, std) = moments(&l, "model.transformer.ln_f.weight");
    assert!((mean - 1.0).abs() < 0.03 && (std - 0.05).abs() < 0.02, "{mean} {std}");
    let (_, std) = moments(&w, "model.encoder.layers.1.fc1.weight");
    assert!((std - 48f32.sqrt().recip()).abs() < 0.01, "{std}");

    // The safetensors crate reads the files too, and the bytes depend on the seed and nothing else.
    let bytes = |out: &Path| -> BTreeMap<String, Vec<u8>> {
        let files = ["whisper", "llada", "diffa"].map(|p| fs::read_dir(out.join(p)));
        let files = files.into_iter().flatten().flatten().flatten();
        files
            .map(|f| (f.path().strip_prefix(out).unwrap().display().to_string(), fs::read(f.path()).unwrap()))
            .collect()
    };
    let first = bytes(out);
    for (_, content) in first.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        safetensors::SafeTensors::deserialize(content).unwrap();
    }
    let again = tempfile::tempdir().unwrap();
    let only = SynthParts { whisper: false, ..SynthParts::ALL };
    synth::write(SynthShape::Tiny, again.path(), 7, only, &mut |_, _| {}).unwrap();
    let second = bytes(again.path());
    assert_eq!(second.len(), first.len() - 3);
    assert!(second.iter().all(|(name, content)| first[name] == *content));
    synth::write(SynthShape::Tiny, again.path(), 8, only, &mut |_, _| {}).unwrap();
    assert_ne!(bytes(again.path())["diffa/model.safetensors"], first["diffa/model.safetensors"]);

    // With holes: the same files, with zeros behind the same headers.
    let hollow = tempfile::tempdir().unwrap();
    synth::write_holes(SynthShape::Tiny, hollow.path(), SynthParts::ALL).unwrap();
    let hollow = bytes(hollow.path());
    assert!(hollow.keys().eq(first.keys()));
    for (name, content) in &hollow {
        let data = match name.ends_with(".safetensors") {
            true => 8 + u64::from_le_bytes(content[..8].try_into().unwrap()) as usize,
            false => content.len(),
        };
        assert!(content.len() == first[name].len() && content[..data] == first[name][..data], "{name}");
        assert!(content[data..].iter().all(|byte| *byte == 0), "{name}");
    }
}

#[test]
fn synthetic_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let parts = SynthParts { llada: true, whisper: false, adapter: false };
    synth::write(SynthShape::Tiny, dir.path(), 1, parts, &mut |_, _| {}).unwrap();
    let config = LladaConfig::read(&dir.path().join("llada")).unwrap();
    let tokenizer = tokenizers::Tokenizer::from_file(dir.path().join("llada/tokenizer.json")).unwrap();
    let id = |name: &str| tokenizer.token_to_id(name).unwrap();
    assert_eq!(id("<|mdm_mask|>"), config.mask_token_id);
    assert_eq!(id("<|endoftext|>"), config.eos_token_id);
    // As in the released vocabulary of 126464: 126080, 126346, 126347, 126348.
    let shift = 126_464 - config.vocab_size as u32;
    let ids = ["<|startoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"].map(id);
    assert_eq!(ids.map(|i| i + shift), [126_080, 126_346, 126_347, 126_348]);
    let sample = "<|startoftext|>Hé, 世界\n\u{0}\u{7f}<|eot_id|>";
    let encoded = tokenizer.encode(sample, false).unwrap();
    assert_eq!(encoded.get_ids().len(), 2 + "Hé, 世界\n\u{0}\u{7f}".len());
    assert_eq!(tokenizer.decode(encoded.get_ids(), false).unwrap(), sample);
    assert_eq!(tokenizer.decode(&[72, 500, 301], true).unwrap(), "H");
}

#[test]
fn released_sizes() {
    let part = |llada, whisper, adapter| {
        SynthShape::EightB.total_bytes(SynthParts { llada, whisper, adapter }).unwrap()
    };
    assert_eq!(part(true, false, false), 2 * 8_015_581_184);
    assert_eq!(part(false, true, false) / 4 / 1_000_000, 88);
    let adapter = part(false, false, true) / 4;
    assert!((36_600_000..36_800_000).contains(&adapter), "{adapter}");
}

#[test]
fn a_layer_too_many_is_refused() {
    let config = std::fs::read_to_string(tiny("llada").join("config.json")).unwrap();
    let config = config.replace("\"n_layers\": 3", "\"n_layers\": 2");
    let config = LladaConfig::from_json_bytes(config.as_bytes(), &tiny("llada")).unwrap();
    let error = config.check(&Checkpoint::open(&tiny("llada")).unwrap()).unwrap_err();
    check_message(&error, &["blocks.2.", "surplus", "model-0000"]);
    let config = std::fs::read_to_string(tiny("whisper").join("config.json")).unwrap();
    let config = config.replace("\"encoder_layers\": 4", "\"encoder_layers\": 3");
    let config = WhisperConfig::from_json_bytes(config.as_bytes(), None, &tiny("whisper")).unwrap();
    let error = config.check(&Checkpoint::open(&tiny("whisper")).unwrap()).unwrap_err();
    check_message(&error, &["layers.3.", "surplus"]);
}
