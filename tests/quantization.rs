//! Quantized weights: files written and read again, logits against the dense model, and the memory plan
//! against what is really allocated.

#[path = "common/command.rs"]
mod command;
mod common;

use command::{json_of, text as arg};
use common::{fixtures, gpu};
use diffa::checkpoint::{Checkpoint, StoredDtype};
use diffa::gpu::DType;
use diffa::model::forward::Layout;
use diffa::model::memory::MemoryPlan;
use diffa::model::{Part, Quantization};
use diffa::quant::QuantFormat;
use diffa::quantize::{input_bytes, quantize};
use diffa::synth::{SynthParts, SynthShape, write_holes};
use diffa::{CacheDtype, DecodeOptions, Diffa, Error, ModelPaths, audio, text};

fn demo() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")
}

fn ask(paths: &ModelPaths) -> (Diffa, diffa::Answer) {
    let diffa = Diffa::load(&gpu(), paths, &|_| Ok(())).unwrap();
    let wave = audio::read(&demo().join("audio/01_command_woman1_medium.wav"), 16_000).unwrap();
    let clip = diffa.hear(&wave.samples).unwrap();
    let options = DecodeOptions::new(8, 8, 8);
    let question = "What does the speaker say?";
    let answer = diffa.ask(&clip, question, text::DEFAULT_SYSTEM, &options, |_, _| Ok(())).unwrap();
    (diffa, answer)
}

#[test]
fn a_quantized_file_is_the_same_model_as_one_quantized_while_loading() {
    for to in Quantization::ALL {
        let name = to.name();
        let out = tempfile::tempdir().unwrap();
        let input = demo().join("model/llada");
        let mut read = 0;
        let done = quantize(&input, out.path(), to, &mut |bytes| read += bytes).unwrap();
        assert_eq!(read, input_bytes(&input).unwrap());
        assert!(done.bytes[1] < done.bytes[0] * 6 / 10, "{name}: {done:?}");
        let loading = ModelPaths { quantize: Some(to), ..ModelPaths::default() };
        let file = ModelPaths {
            model: Some(demo().join("model")),
            llm: Some(out.path().into()),
            ..ModelPaths::default()
        };
        let ((loaded, a), (_, b)) = (ask(&loading), ask(&file));
        assert_eq!((&a.ids, &a.text), (&b.ids, &b.text), "{name}");
        assert_eq!(a.steps, b.steps, "{name}: confidences bit for bit");
        assert_eq!(loaded.llada().head().dtype, DType::Q(QuantFormat::Q8_0));
        // Once is enough: the second time would lose more and say nothing.
        let twice = quantize(out.path(), &out.path().join("again"), to, &mut |_| ()).unwrap_err();
        assert!(matches!(&twice, Error::Weights { reason, .. } if reason.contains("already")), "{twice}");
        let over = quantize(&input, out.path(), to, &mut |_| ()).unwrap_err();
        assert!(matches!(&over, Error::Usage { option, .. } if option == "OUT"), "{over}");
    }
}

#[test]
fn the_demo_model_answers_the_same_in_eight_bits() {
    let (_, dense) = ask(&ModelPaths::default());
    let (_, eight) = ask(&ModelPaths { quantize: Some(Quantization::Q8), ..ModelPaths::default() });
    assert_eq!(dense.text, eight.text);
    assert_ne!(dense.steps, eight.steps, "nothing was quantized");
}

#[test]
fn a_row_of_the_wrong_length_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![2, 33], &[0; 66]).unwrap();
    safetensors::serialize_to_file([("w.weight.q8_0", view)], None, &dir.path().join("model.safetensors"))
        .unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("w.weight.q8_0") && error.contains("33"), "{error}");
}

#[test]
fn a_quantized_tensor_is_found_under_its_plain_name() {
    let out = tempfile::tempdir().unwrap();
    quantize(&demo().join("model/llada"), out.path(), Quantization::Q4, &mut |_| ()).unwrap();
    let (old, new) =
        (Checkpoint::open(&demo().join("model/llada")).unwrap(), Checkpoint::open(out.path()).unwrap());
    assert_eq!(old.names().collect::<Vec<_>>(), new.names().collect::<Vec<_>>());
    for name in old.names() {
        let (a, b) = (old.get(name).unwrap(), new.get(name).unwrap());
        assert_eq!(a.shape, b.shape, "{name}");
        let (a_values, b_values) = (a.to_f32(), b.to_f32());
        match b.dtype {
            StoredDtype::Quantized(format) => {
                let steps = if format == QuantFormat::Q8_0 { 127.0 } else { 8.0 };
                for (a, b) in a_values.chunks(32).zip(b_values.chunks(32)) {
                    let step = a.iter().fold(0.0f32, |m, w| m.max(w.abs())) / steps;
                    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1.02 * step), "{name}");
                }
            }
            _ => assert_eq!(a_values, b_values, "{name}"),
        }
    }
}

#[test]
fn the_memory_plan_is_what_gets_allocated() {
    let parts = [Part::Whisper, Part::Adapters, Part::Llm];
    let models = [
        ModelPaths::default(),
        ModelPaths { quantize: Some(Quantization::Q4), ..ModelPaths::default() },
        ModelPaths { model: Some(fixtures()), ..ModelPaths::default() },
    ];
    for paths in models {
        let layout = Layout { prompt_rows: vec![60], gen_length: 16, candidates: 16 };
        let plan = MemoryPlan::new(&paths, &parts, &layout, false, CacheDtype::F32).unwrap();
        let weights: u64 =
            plan.items.iter().filter(|item| !item.name.ends_with("buffers")).map(|item| item.bytes).sum();
        let gpu = diffa::Gpu::open(&Default::default()).unwrap();
        let before = gpu.counters().snapshot().buffer_bytes;
        let _diffa = Diffa::load(&gpu, &paths, &|_| Ok(())).unwrap();
        let loaded = gpu.counters().snapshot().buffer_bytes - before;
        let difference = (loaded as f64 - plan.total() as f64) / loaded as f64;
        assert!(weights <= loaded, "{weights} of weights, {loaded} allocated");
        assert!(difference.abs() < 0.35, "{loaded} allocated, {} planned: {plan:#?}", plan.total());
    }
}

#[test]
fn the_commands_quantize_and_plan() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("small");
    let model = demo().join("model");
    let done = json_of(&["quantize", "--to", "q8", "--json", &arg(&model), &arg(&out)]);
    assert!(done["bytes_after"].as_u64() < done["bytes_before"].as_u64());
    assert!(out.join("whisper/model.safetensors").is_file(), "the other parts are copied");
    let plan = json_of(&["plan", "--json", "--model", &arg(&out)]);
    let items = plan["plans"][0]["items"].as_array().unwrap();
    assert!(items.iter().any(|item| item["dtype"] == "q8_0"), "{plan}");
    assert!(plan["adapters"].as_array().is_some_and(|a| !a.is_empty()));

    // Headers are enough for a plan, and a cache keeps the keys and values of every layer: 32 instead of 2.
    let hollow = arg(&dir.path().join("hollow"));
    command::stdout_of(&["synth", "--shape", "8b", "--holes", "--out", &hollow]);
    let keys_and_values = |cache: &str, dtype: &str| {
        let options = ["--model", &hollow, "--cache", cache, "--cache-dtype", dtype];
        let plan = json_of(&[&["plan", "--json"], &options[..]].concat());
        let items = plan["plans"][0]["items"].as_array().unwrap().clone();
        let item = items.into_iter().find(|item| item["name"] == "keys and values").unwrap();
        assert_eq!(item["dtype"], dtype);
        item["bytes"].as_u64().unwrap()
    };
    assert_eq!(keys_and_values("dual", "f32"), 16 * keys_and_values("none", "f32"));
    assert_eq!(keys_and_values("dual", "f32"), 2 * keys_and_values("dual", "f16"));
}

/// The released sizes with no data behind them. The language model with its caches, or the whole model as it answers
/// about a 30 s clip unless told otherwise, fit a card of 6 GB.
#[test]
fn eight_billion_parameters_need_less_than_six_gigabytes_in_four_bits() {
    let dir = tempfile::tempdir().unwrap();
    write_holes(SynthShape::EightB, dir.path(), SynthParts::ALL).unwrap();
    let gigabytes = |parts: &[Part], quantize: Option<Quantization>, cached: bool, kept: CacheDtype| {
        let paths = ModelPaths { model: Some(dir.path().into()), quantize, ..ModelPaths::default() };
        let layout = Layout { prompt_rows: vec![450], gen_length: 128, candidates: 128 };
        MemoryPlan::new(&paths, parts, &layout, cached, kept).unwrap().total() as f64 / 1e9
    };
    let llm = |quantize| gigabytes(&[Part::Llm], quantize, true, CacheDtype::F32);
    assert!((16.0..17.0).contains(&llm(None)), "{}", llm(None));
    assert!((8.5..9.5).contains(&llm(Some(Quantization::Q8))), "{}", llm(Some(Quantization::Q8)));
    assert!((5.0..6.0).contains(&llm(Some(Quantization::Q4))), "{}", llm(Some(Quantization::Q4)));
    let all = [Part::Whisper, Part::Adapters, Part::Llm];
    let whole = |cached, kept| gigabytes(&all, Some(Quantization::Q4), cached, kept);
    let without_cache = whole(false, CacheDtype::F32);
    assert!((5.5..6.0).contains(&without_cache), "{without_cache}");
    // Keys and values of 32 layers and 578 rows, 4096 wide: 0.61 GB in f32, half of that in f16.
    let saved = whole(true, CacheDtype::F32) - whole(true, CacheDtype::F16);
    assert_eq!((saved * 1e9).round() as usize, 2 * 32 * 578 * 4096 * 2);
    assert!(whole(true, CacheDtype::F16) < 6.2, "{}", whole(true, CacheDtype::F16));
}
