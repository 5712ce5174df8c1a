//! The layouts a checkpoint may come in: one file, shards with an index, torch's format, other name
//! prefixes, tied weights, grouped heads. What describes the same model gives the same decode, confidences
//! bit for bit.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{demo, fixtures, gpu, read_json};
use diffa::model::Part;
use diffa::model::forward::Layout;
use diffa::model::memory::MemoryPlan;
use diffa::synth::{SynthParts, SynthShape};
use diffa::{Answer, Cache, CacheDtype, DecodeOptions, Diffa, ModelPaths, Quantization, audio, text};
use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

/// Type, shape, content.
type Stored = (Dtype, Vec<usize>, Vec<u8>);
/// The tensors of a folder by name, as stored.
type Tensors = BTreeMap<String, Stored>;

const HEAD: &str = "model.transformer.ff_out.weight";
const TABLE: &str = "model.transformer.wte.weight";

/// Every safetensors file of a folder, merged.
fn tensors(dir: &Path) -> Tensors {
    let mut all = Tensors::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let bytes = std::fs::read(&path).unwrap();
            for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
                all.insert(name.into(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
            }
        }
    }
    all
}

fn write(tensors: &Tensors, path: &Path) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// A copy of a checkpoint folder without its weights.
struct Folder(tempfile::TempDir);

impl Folder {
    fn without_weights(original: &Path) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        for entry in std::fs::read_dir(original).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".json") && !name.ends_with(".index.json") {
                std::fs::copy(&path, folder.path().join(name)).unwrap();
            }
        }
        folder
    }

    fn with_tensors(original: &Path, tensors: &Tensors) -> Folder {
        let folder = Folder::without_weights(original);
        write(tensors, &folder.path().join("model.safetensors"));
        folder
    }

    fn set(&self, key: &str, value: Value) {
        let path = self.path().join("config.json");
        let mut config = read_json(&path);
        config[key] = value;
        std::fs::write(path, config.to_string()).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }
}

/// A short decode that goes through every part of the model, with a full and with cached forwards.
fn answer(paths: &ModelPaths) -> Answer {
    let diffa = Diffa::load(&gpu(), paths, &|_| Ok(())).unwrap();
    let wave = audio::read(&fixtures().join("wav/speech_c_8k.wav"), 16_000).unwrap();
    let clip = diffa.hear(&wave.samples).unwrap();
    let options = DecodeOptions { cache: Cache::Dual, ..DecodeOptions::new(4, 8, 16) };
    let answer = diffa.ask(&clip, "What is it?", text::DEFAULT_SYSTEM, &options, |_, _| Ok(())).unwrap();
    let mask = diffa.llada().config().mask_token_id;
    assert!(!answer.ids.contains(&mask), "{:?}", answer.ids);
    assert_eq!(answer.ids.len(), options.gen_length);
    answer
}

fn assert_same(name: &str, answer: &Answer, expected: &Answer) {
    let bits = |answer: &Answer| -> Vec<u32> {
        answer.steps.iter().flat_map(|s| &s.commits).map(|c| c.confidence.to_bits()).collect()
    };
    assert_eq!(answer.ids, expected.ids, "{name}: ids");
    assert_eq!(bits(answer), bits(expected), "{name}: confidences");
    assert_eq!(answer.steps, expected.steps, "{name}: steps");
    assert_eq!(answer.text, expected.text, "{name}: text");
}

fn fixture_paths() -> ModelPaths {
    ModelPaths { model: Some(fixtures()), ..Default::default() }
}

#[test]
fn layouts_of_the_adapters_are_equivalent() {
    let original = fixtures().join("diffa");
    let expected = answer(&fixture_paths());
    let bin = original.join("pytorch_model.bin");

    let torch = Folder::without_weights(&original);
    std::fs::copy(&bin, torch.path().join("pytorch_model.bin")).unwrap();

    let indexed = Folder::without_weights(&original);
    let shard = "pytorch_model-00001-of-00001.bin";
    std::fs::copy(&bin, indexed.path().join(shard)).unwrap();
    let map: BTreeMap<String, &str> = tensors(&original).into_keys().map(|name| (name, shard)).collect();
    let index = json!({ "metadata": {}, "weight_map": map }).to_string();
    std::fs::write(indexed.path().join("pytorch_model.bin.index.json"), index).unwrap();

    let single = Folder::with_tensors(&original, &tensors(&original));
    for (name, folder) in [("torch", &torch), ("torch with index", &indexed), ("safetensors", &single)] {
        let paths = ModelPaths { adapters: Some(folder.path()), ..fixture_paths() };
        assert_same(name, &answer(&paths), &expected);
    }
}

#[test]
fn layouts_of_the_language_model_are_equivalent() {
    let original = fixtures().join("llada");
    let expected = answer(&fixture_paths());
    let merged = tensors(&original);
    let short = |(name, tensor): (String, _)| (name.strip_prefix("model.").unwrap().to_string(), tensor);
    let renamed: Tensors = merged.clone().into_iter().map(short).collect();
    for (name, tensors) in [("merged shards", merged), ("names without `model.`", renamed)] {
        let folder = Folder::with_tensors(&original, &tensors);
        let paths = ModelPaths { llm: Some(folder.path()), ..fixture_paths() };
        assert_same(name, &answer(&paths), &expected);
    }
}

#[test]
fn layouts_of_the_encoder_are_equivalent() {
    let original = fixtures().join("whisper");
    let expected = answer(&fixture_paths());
    let mut tensors = tensors(&original);
    tensors.retain(|name, _| name.starts_with("model.encoder."));
    let short = |(name, tensor): (String, _)| (name.strip_prefix("model.").unwrap().to_string(), tensor);
    let folder = Folder::with_tensors(&original, &tensors.into_iter().map(short).collect());
    let paths = ModelPaths { whisper: Some(folder.path()), ..fixture_paths() };
    assert_same("names without `model.`, no decoder", &answer(&paths), &expected);
}

/// A synthetic model: other sizes than the fixtures', a window of 2 s, grouped key heads.
fn synth() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    diffa::synth::write(SynthShape::Tiny, dir.path(), 7, SynthParts::ALL, &mut |_, _| {}).unwrap();
    dir
}

#[test]
fn grouped_key_heads_are_the_same_as_repeated_ones() {
    let dir = synth();
    let paths = ModelPaths { model: Some(dir.path().to_path_buf()), ..Default::default() };
    let grouped = answer(&paths);

    let config = paths.llada_config().unwrap();
    let (groups, head) = (config.n_heads / config.n_kv_heads, config.head_dim);
    assert!(groups > 1, "the synthetic model should have grouped heads");
    let original = dir.path().join("llada");
    let mut tensors = tensors(&original);
    for (name, (_, shape, bytes)) in &mut tensors {
        if name.ends_with("k_proj.weight") || name.ends_with("v_proj.weight") {
            let head_bytes = bytes.len() / shape[0] * head;
            *bytes = bytes.chunks(head_bytes).flat_map(|rows| rows.repeat(groups)).collect();
            shape[0] *= groups;
        }
    }
    let folder = Folder::with_tensors(&original, &tensors);
    folder.set("n_kv_heads", config.n_heads.into());
    let repeated = answer(&ModelPaths { llm: Some(folder.path()), ..paths });
    assert_same("repeated key heads", &repeated, &grouped);
}

/// The elements of a tensor as f32.
fn widen((dtype, _, bytes): &mut Stored) {
    let pairs = bytes.chunks(2).map(|b| [b[0], b[1]]);
    match dtype {
        Dtype::BF16 => *bytes = pairs.flat_map(|b| [0, 0, b[0], b[1]]).collect(),
        Dtype::F16 => *bytes = pairs.flat_map(|b| f16::from_le_bytes(b).to_f32().to_le_bytes()).collect(),
        _ => assert_eq!(*dtype, Dtype::F32),
    }
    *dtype = Dtype::F32;
}

#[test]
fn models_of_half_precision_saved_in_single_take_the_same_memory_and_answer_the_same() {
    let original = demo().join("model");
    let [llm, whisper] = ["llada", "whisper"].map(|part| {
        let original = original.join(part);
        let mut tensors = tensors(&original);
        tensors.values_mut().for_each(widen);
        Folder::with_tensors(&original, &tensors)
    });
    let stored = ModelPaths { model: Some(original), ..Default::default() };
    let single = ModelPaths { llm: Some(llm.path()), whisper: Some(whisper.path()), ..stored.clone() };
    let allocated = |paths| {
        let gpu = diffa::Gpu::open(&Default::default()).unwrap();
        let before = gpu.counters().snapshot().buffer_bytes;
        let _diffa = Diffa::load(&gpu, paths, &|_| Ok(())).unwrap();
        gpu.counters().snapshot().buffer_bytes - before
    };
    assert_eq!(allocated(&single), allocated(&stored));
    assert_same("saved in single precision", &answer(&single), &answer(&stored));
    let plan = |paths| {
        let layout = Layout { prompt_rows: vec![60], gen_length: 16, candidates: 16 };
        MemoryPlan::new(paths, &[Part::Whisper, Part::Adapters, Part::Llm], &layout, false, CacheDtype::F32)
            .unwrap()
    };
    assert_eq!(plan(&single), plan(&stored));
}

#[test]
fn matrices_with_one_input_become_one_type_unless_some_are_quantized() {
    let dir = synth();
    let paths = ModelPaths { model: Some(dir.path().to_path_buf()), ..Default::default() };
    let original = dir.path().join("llada");
    let name = "model.transformer.blocks.1.up_proj.weight";
    let with = |change: &dyn Fn(&mut Stored)| {
        let mut tensors = tensors(&original);
        change(tensors.get_mut(name).unwrap());
        Folder::with_tensors(&original, &tensors)
    };
    let answer_of = |folder: &Folder| answer(&ModelPaths { llm: Some(folder.path()), ..paths.clone() });
    let stored = answer(&paths);
    assert_same("f32 that bf16 holds", &answer_of(&with(&widen)), &stored);

    // Neither of two halves holds the other: both become f32.
    let halves = |tensor: &mut Stored| {
        widen(tensor);
        let values = tensor.2.as_chunks::<4>().0.iter().map(|b| f16::from_f32(f32::from_le_bytes(*b)));
        tensor.2 = values.flat_map(f16::to_le_bytes).collect();
        tensor.0 = Dtype::F16;
    };
    let single = with(&|tensor| {
        halves(tensor);
        widen(tensor);
    });
    assert_same("f16 beside bf16", &answer_of(&with(&halves)), &answer_of(&single));

    // Quantized on the way they are of one type, the same as if both had been bf16.
    let quantize = Some(Quantization::Q8);
    let wide = with(&widen);
    let mixed = ModelPaths { llm: Some(wide.path()), quantize, ..paths.clone() };
    let expected = answer(&ModelPaths { quantize, ..paths.clone() });
    assert_same("quantized on the way", &answer(&mixed), &expected);

    // A stored one that is quantized beside one that is not has no common type.
    let out = tempfile::tempdir().unwrap();
    diffa::quantize::quantize(&original, out.path(), Quantization::Q8, &mut |_| ()).unwrap();
    let mut quantized = tensors(out.path());
    quantized.remove(&format!("{name}.q8_0")).unwrap();
    quantized.insert(name.into(), tensors(&original)[name].clone());
    let folder = Folder::with_tensors(&original, &quantized);
    let paths = ModelPaths { llm: Some(folder.path()), ..paths };
    let message = Diffa::load(&gpu(), &paths, &|_| Ok(())).err().unwrap().to_string();
    for part in [name, "is not quantized", "blocks.1.ff_proj.weight", "is q8_0", "again"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn tied_weights_are_the_same_as_equal_ones() {
    let dir = synth();
    let paths = ModelPaths { model: Some(dir.path().to_path_buf()), ..Default::default() };
    let original = dir.path().join("llada");
    let mut tensors = tensors(&original);

    // A random table predicts the mask wherever it sees one, for ever; not so with zeros for the mask.
    let mask = paths.llada_config().unwrap().mask_token_id as usize;
    let mut table = tensors[TABLE].clone();
    let row = table.2.len() / table.1[0];
    table.2[mask * row..(mask + 1) * row].fill(0);
    tensors.insert(TABLE.into(), table.clone());
    tensors.insert(HEAD.into(), table);
    let equal = Folder::with_tensors(&original, &tensors);
    let expected = answer(&ModelPaths { llm: Some(equal.path()), ..paths.clone() });

    tensors.remove(HEAD);
    let tied = Folder::with_tensors(&original, &tensors);
    tied.set("weight_tying", true.into());
    let got = answer(&ModelPaths { llm: Some(tied.path()), ..paths });
    assert_same("tied weights", &got, &expected);
}
