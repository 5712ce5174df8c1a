//! Measured kernel choices: what the file says is what runs, and neither it nor the bound on submits changes
//! an answer.

#[path = "common/command.rs"]
mod command;

use std::path::Path;
use std::time::Duration;

use command::{demo_clip, json_of, run, stderr, text as arg};
use diffa::gpu::DType;
use diffa::ops::Rounding;
use diffa::ops::attention::{AttentionShape, AttentionVariant};
use diffa::ops::lm_head::LmHeadVariant;
use diffa::ops::matmul::MatmulVariant;
use diffa::quant::QuantFormat;
use diffa::tune::{Output, Product, Tuner, Tuning, Work, limit_submits, works};
use diffa::{AdapterChoice, DecodeOptions, Diffa, Gpu, ModelPaths, audio, text, wgpu};

fn answer(gpu: &Gpu) -> (diffa::Answer, u64) {
    let diffa = Diffa::load(gpu, &ModelPaths::default(), &|_| Ok(())).unwrap();
    let wave = audio::read(Path::new(&demo_clip("01_command_woman1_medium.wav")), 16_000).unwrap();
    let clip = diffa.hear(&wave.samples).unwrap();
    let options = DecodeOptions::new(4, 4, 4);
    let before = gpu.counters().snapshot().submits;
    let answer = diffa
        .ask(&clip, "What does the speaker say?", text::DEFAULT_SYSTEM, &options, |_, _| Ok(()))
        .unwrap();
    (answer, gpu.counters().snapshot().submits - before)
}

fn open() -> Gpu {
    Gpu::open(&AdapterChoice::default()).unwrap()
}

/// All operations of the demo's language model with a choice of kernels, at all numbers of rows that choices tell
/// apart.
fn demo_works(gpu: &Gpu) -> Vec<Work> {
    let diffa = Diffa::load(gpu, &ModelPaths::default(), &|_| Ok(())).unwrap();
    let rows: Vec<usize> = (0..=10).map(|i| 1usize << i).collect();
    works(diffa.llada(), None, &rows)
}

/// What the device takes for a work now.
fn chosen(gpu: &Gpu, work: Work) -> String {
    match work {
        Work::Product(Product { dtype, rows, n, k }) => {
            MatmulVariant::choose(gpu, dtype, rows, n, k).to_string()
        }
        Work::Attention(shape) => AttentionVariant::choose(gpu, shape).to_string(),
        Work::Head(Output { dtype, rows, vocab, k }) => {
            LmHeadVariant::choose(gpu, dtype, rows, vocab, k).to_string()
        }
    }
}

/// What a session looks up for the candidate rows of a block is measured with the block.
#[test]
fn kernels_of_candidates_are_tuned_too() {
    let gpu = open();
    let diffa = Diffa::load(&gpu, &ModelPaths::default(), &|_| Ok(())).unwrap();
    let keys: Vec<String> = works(diffa.llada(), None, &[32]).iter().map(Work::key).collect();
    let head = diffa.llada().head();
    for rows in [32, gpu.caps().usual_candidates(32)] {
        let key = LmHeadVariant::key(head.dtype, rows, head.rows, head.cols);
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
        assert!(keys.iter().any(|key| key.starts_with("matmul") && key.ends_with(&format!("rows {rows}"))));
    }
}

#[test]
fn what_is_built_in_for_gpus_gives_the_same_answer() {
    let gpu = open();
    let (plain, _) = answer(&gpu);
    // The adapter at hand as if it were hardware: with all it has, and without subgroups.
    let mut whole = gpu.caps().clone();
    whole.info.device_type = wgpu::DeviceType::DiscreteGpu;
    let mut bare = whole.clone();
    bare.features.remove(wgpu::Features::SUBGROUP);
    for (caps, has_subgroups) in [(&whole, whole.features.contains(wgpu::Features::SUBGROUP)), (&bare, false)]
    {
        let works = demo_works(&gpu);
        let choices: diffa::gpu::Choices = works.iter().map(|w| (w.key(), w.built_in(caps))).collect();
        let names: Vec<&str> = choices.values().map(String::as_str).collect();
        let is_named = |part: &str| names.iter().any(|name| name.contains(part));
        // Workgroups share the keys of few queries; no matrix here is long enough to share its inner length.
        assert!(["gemv", "tile 16x64", "tile 64x64", "keys in 8"].into_iter().all(is_named), "{names:?}");
        assert!(!is_named("shuffle") && !is_named("direct"), "{names:?}");
        assert_eq!(is_named("subgroups"), has_subgroups, "{names:?}");
        let gpu = open();
        gpu.set_choices(choices.clone());
        for work in works {
            let name = &choices[&work.key()];
            assert_eq!(*name, chosen(&gpu, work), "{work:?}");
        }
        let (other, _) = answer(&gpu);
        assert_eq!((&plain.ids, &plain.text), (&other.ids, &other.text), "{names:?}");
    }
}

#[test]
fn choices_are_followed_and_change_no_answer() {
    let gpu = open();
    let (plain, _) = answer(&gpu);
    let product = Product { dtype: DType::Bf16, rows: 4, n: 192, k: 192 };
    let entry = Tuner::new(&gpu, Duration::ZERO, &[]).unwrap().measure(Work::Product(product)).unwrap();
    let candidates = MatmulVariant::candidates(gpu.caps(), DType::Bf16, [3, 192, 192], &[]);
    assert_eq!(entry.trials.len(), candidates.len());
    assert!(entry.trials.windows(2).all(|pair| pair[0].seconds <= pair[1].seconds));
    assert!(entry.gain().is_some_and(|gain| gain >= 1.0), "{entry:?}");
    for candidate in candidates {
        // Every product of the language model in this variant.
        let mut tuning = Tuning::new(&gpu);
        for work in demo_works(&gpu).into_iter().filter(|work| matches!(work, Work::Product(_))) {
            let mut entry = entry.clone();
            entry.key = work.key();
            entry.trials.retain(|trial| trial.variant == candidate.to_string());
            tuning.insert(entry);
        }
        let gpu = open();
        gpu.set_choices(tuning.choices());
        assert_eq!(MatmulVariant::choose(&gpu, DType::Bf16, 3, 192, 192), candidate);
        let (tuned, _) = answer(&gpu);
        assert_eq!((&plain.ids, &plain.text), (&tuned.ids, &tuned.text), "{candidate}");
    }
}

#[test]
fn what_rounds_is_tried_only_if_allowed_and_what_the_device_lacks_is_not_chosen() {
    let gpu = open();
    let (caps, q8) = (gpu.caps(), DType::Q(QuantFormat::Q8_0));
    let rounds = |dtype, allowed: &[Rounding]| -> Vec<Rounding> {
        let all = MatmulVariant::candidates(caps, dtype, [32, 192, 192], allowed);
        all.into_iter().map(MatmulVariant::rounding).filter(|r| *r != Rounding::Exact).collect()
    };
    assert!(rounds(q8, &[]).is_empty() && rounds(DType::Bf16, &[Rounding::Int8]).is_empty());
    assert!(rounds(q8, &[Rounding::Int8]).len() > 1);
    let has_matrices = !caps.cooperative_edges.is_empty();
    assert_eq!(!rounds(DType::Bf16, &[Rounding::F16]).is_empty(), has_matrices);

    // A file of another device's names, of names of the future, and of names that do not fit the weights.
    let built_in = MatmulVariant::default_for(caps, 32, 192, 192);
    for name in ["coop 16 block 64x64 lanes 128", "coop 16 tiles 2x2 lanes 128", "warp 9", "int8 8x4"] {
        gpu.set_choices([(MatmulVariant::key(DType::Bf16, 32, 192, 192), name.to_string())].into());
        assert_eq!(MatmulVariant::choose(&gpu, DType::Bf16, 32, 192, 192), built_in, "{name}");
    }
    // All names are read as they are written.
    for dtype in [DType::Bf16, q8] {
        for variant in
            MatmulVariant::candidates(caps, dtype, [64, 4096, 4096], &[Rounding::F16, Rounding::Int8])
        {
            assert_eq!(MatmulVariant::parse(&variant.to_string()), Some(variant));
        }
    }
}

/// Of the demo model's six heads, to as many keys as the tuner takes here.
fn attending(n_q: usize, head_dim: usize) -> AttentionShape {
    AttentionShape { n_q, n_kv: 64, n_heads: 6, n_kv_heads: 6, head_dim }
}

#[test]
fn attentions_and_heads_follow_their_choices() {
    let gpu = open();
    let caps = gpu.caps();
    let (plain, _) = answer(&gpu);
    let tuner = Tuner::new(&gpu, Duration::ZERO, &[]).unwrap();
    let attention = Work::Attention(attending(4, 32));
    let head = Work::Head(Output { dtype: DType::Bf16, rows: 4, vocab: 1484, k: 192 });
    let names = |all: &[String]| -> std::collections::BTreeSet<String> { all.iter().cloned().collect() };
    let attentions: Vec<String> =
        AttentionVariant::candidates(caps, attending(4, 32), &[]).iter().map(|v| v.to_string()).collect();
    let heads: Vec<String> = LmHeadVariant::candidates(caps, 4).iter().map(|v| v.to_string()).collect();
    for (work, candidates) in [(attention, &attentions), (head, &heads)] {
        let entry = tuner.measure(work).unwrap();
        let tried: Vec<String> = entry.trials.iter().map(|trial| trial.variant.clone()).collect();
        assert!(candidates.len() > 2 && names(&tried) == names(candidates), "{entry:?}");
        assert!(entry.gain().is_some_and(|gain| gain >= 1.0), "{entry:?}");
    }

    // Every candidate of either, in turn, for all attentions of the language model and its head.
    for i in 0..attentions.len().max(heads.len()) {
        let (attention, head) = (&attentions[i % attentions.len()], &heads[i % heads.len()]);
        let mut choices = diffa::gpu::Choices::new();
        for rows in (0..=10).map(|i| 1usize << i) {
            choices.insert(AttentionVariant::key(attending(rows, 32)), attention.clone());
            choices.insert(LmHeadVariant::key(DType::Bf16, rows, 1484, 192), head.clone());
        }
        let gpu = open();
        gpu.set_choices(choices);
        assert_eq!(AttentionVariant::choose(&gpu, attending(3, 32)).to_string(), *attention);
        assert_eq!(LmHeadVariant::choose(&gpu, DType::Bf16, 4, 1484, 192).to_string(), *head);
        let (tuned, _) = answer(&gpu);
        assert_eq!((&plain.ids, &plain.text), (&tuned.ids, &tuned.text), "{attention}, {head}");
    }

    // Names of another device, of the future, or of heads that do not fit.
    let key = AttentionVariant::key(attending(4, 12));
    for name in ["tile 4", "coop 16 lanes 128", "warp"] {
        gpu.set_choices([(key.clone(), name.to_string())].into());
        let built_in = AttentionVariant::default_for(gpu.caps(), attending(4, 12));
        assert_eq!(AttentionVariant::choose(&gpu, attending(4, 12)), built_in, "{name}");
    }

    // All names are read as they are written, those of GPUs too.
    let mut caps = gpu.caps().clone();
    caps.info.device_type = wgpu::DeviceType::DiscreteGpu;
    let block = AttentionShape { n_q: 32, n_kv: 565, n_heads: 32, n_kv_heads: 32, head_dim: 128 };
    let all = AttentionVariant::candidates(&caps, block, &[Rounding::F16]);
    assert!(all.iter().any(|variant| variant.parts() == 8), "{all:?}");
    for variant in all {
        assert_eq!(AttentionVariant::parse(&variant.to_string()), Some(variant));
    }
}

#[test]
fn shorter_submits_are_more_submits_and_the_same_answer() {
    let gpu = open();
    let (long, few) = answer(&gpu);
    gpu.limit_submits(1e9, Duration::from_millis(2));
    let (short, many) = answer(&gpu);
    assert!(many > few, "{few} submits, then {many}");
    assert_eq!(long.steps, short.steps, "confidences bit for bit");
    limit_submits(&gpu, DType::Bf16, Duration::from_millis(100)).unwrap();
    let limit = gpu.flops_per_submit();
    assert!((10_000_000..1_000_000_000_000_000).contains(&limit), "{limit} operations in 100 ms");
}

#[test]
fn files_of_another_adapter_or_other_shaders_are_ignored_and_damaged_ones_named() {
    let gpu = open();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/tune.json");
    let here = gpu.caps().describe();
    assert_eq!(Tuning::read(&path, &here).unwrap(), None);
    let tuning = Tuning::new(&gpu);
    tuning.write(&path).unwrap();
    assert_eq!(Tuning::read(&path, &here).unwrap(), Some(tuning.clone()));
    assert_eq!(Tuning::read(&path, "another adapter").unwrap(), None);
    Tuning { shaders: "0".into(), ..tuning }.write(&path).unwrap();
    assert_eq!(Tuning::read(&path, &here).unwrap(), None);
    std::fs::write(&path, "{").unwrap();
    let found = run(&["ask", &demo_clip("01_command_woman1_medium.wav"), "What?", "--tuning", &arg(&path)]);
    assert_eq!(found.status.code(), Some(2));
    assert!(
        stderr(&found).contains("damaged") && stderr(&found).contains("diffa tune"),
        "{}",
        stderr(&found)
    );
}

#[test]
fn the_command_keeps_what_it_measured() {
    let dir = tempfile::tempdir().unwrap();
    let path = arg(&dir.path().join("tune.json"));
    let found = json_of(&["tune", "--json", "--rows", "4", "--seconds", "0", "--tuning", &path]);
    let entries = found["entries"].as_array().unwrap();
    for key in ["matmul bf16 192x192 rows 4", "attention 6x32 rows 4", "head bf16 1484x192 rows 4"] {
        assert!(entries.iter().any(|entry| entry["key"] == key), "{key}: {found}");
    }
    // A second run adds to the first.
    json_of(&["tune", "--json", "--rows", "64", "--seconds", "0", "--tuning", &path]);
    let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert!(kept["entries"].as_array().unwrap().len() > entries.len());
    let devices = json_of(&["devices", "--json", "--tuning", &path]);
    let tuned = devices["adapters"].as_array().unwrap().iter().any(|a| a["tuned"].as_u64() > Some(0));
    assert!(tuned, "{devices}");
}
