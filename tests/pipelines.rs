//! When kernels are compiled, by the device's own counts: while a model loads, each once however many threads
//! ask, and from the driver's file where there is one, whatever state that file is in.
//!
//! Each test opens a device of its own, so that its counts are its own.

mod common;

use std::path::Path;
use std::sync::Barrier;

use common::demo;
use diffa::ops::cases::{Case, cases};
use diffa::wgpu::Features;
use diffa::{Cache, DecodeOptions, Diffa, Gpu, ModelPaths, Rule, audio, text};

fn open() -> Gpu {
    Gpu::open(&Default::default()).unwrap()
}

fn compiled(gpu: &Gpu) -> u64 {
    gpu.counters().snapshot().pipelines
}

/// Settings that need different kernels.
fn settings() -> Vec<DecodeOptions> {
    let quota = DecodeOptions::new(8, 8, 16);
    vec![
        quota.clone(),
        DecodeOptions { rule: Rule::Threshold(0.9), cache: Cache::Dual, ..quota.clone() },
        DecodeOptions { cache: Cache::Prefix, temperature: 0.7, ..quota.clone() },
        DecodeOptions { cfg_scale: 1.0, ..quota },
    ]
}

/// Hears a clip and answers a question about it.
fn ask(diffa: &Diffa, options: &DecodeOptions) -> String {
    let wave = audio::read(&demo().join("audio/03_command_man3_medium.wav"), 16_000).unwrap();
    let clip = diffa.hear(&wave.samples).unwrap();
    let question = "What does the speaker say?";
    diffa.ask(&clip, question, text::DEFAULT_SYSTEM, options, |_, _| Ok(())).unwrap().text
}

#[test]
fn a_load_compiles_all_that_its_requests_need() {
    for options in settings() {
        let gpu = open();
        let diffa = Diffa::load_for(&gpu, &ModelPaths::default(), true, &options, &|_| Ok(())).unwrap();
        let after_load = compiled(&gpu);
        assert!(after_load > 10, "{after_load} kernels are compiled by a load");
        ask(&diffa, &options);
        assert_eq!(compiled(&gpu), after_load, "{options:?}: kernels were compiled after the load");
    }
}

#[test]
fn a_load_compiles_nothing_that_its_requests_do_not_need() {
    let gpu = open();
    let diffa = Diffa::load_for(&gpu, &ModelPaths::default(), true, &settings()[0], &|_| Ok(())).unwrap();
    ask(&diffa, &settings()[0]);
    // The same model, compiled by need alone: the other settings' kernels are asked for by their plans.
    let lazy = open();
    let plain = Diffa::load_for(&lazy, &ModelPaths::default(), true, &settings()[2], &|_| Ok(())).unwrap();
    ask(&plain, &settings()[2]);
    let first = compiled(&lazy);
    ask(&plain, &settings()[0]);
    ask(&diffa, &settings()[2]);
    assert_eq!(compiled(&gpu), compiled(&lazy), "the union of both settings' kernels, in either order");
    assert!(compiled(&lazy) > first, "the two settings need different kernels");
}

#[test]
fn a_failed_load_stops_compiling_and_says_why() {
    let gpu = open();
    let stop = |_| Err(diffa::Error::Interrupted);
    let failed = Diffa::load(&gpu, &ModelPaths::default(), &stop);
    assert!(matches!(failed, Err(diffa::Error::Interrupted)));
    // What was compiled until then serves the next load.
    let diffa = Diffa::load_for(&gpu, &ModelPaths::default(), true, &settings()[0], &|_| Ok(())).unwrap();
    assert!(!ask(&diffa, &settings()[0]).is_empty());
}

#[test]
fn threads_that_ask_for_one_kernel_compile_it_once() {
    let all = cases();
    // Some kernel with the smallest operands, so that compiling is most of the work.
    let elements =
        |case: &&Case| case.inputs.iter().map(|i| i.shape.iter().product::<usize>()).sum::<usize>();
    let case = all.iter().filter(|case| case.kernel == "rms_norm").min_by_key(elements).unwrap();
    let alone = open();
    case.run(&alone, 1).unwrap();
    let gpu = open();
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                case.run(&gpu, 1).unwrap();
            });
        }
    });
    assert_eq!(compiled(&gpu), compiled(&alone));
}

/// Loads and asks on a device that keeps its kernels in `path`; whether the file was written.
fn run_with_file(path: &Path) -> (String, bool) {
    let gpu = open();
    let keeps = gpu.keep_pipelines(path).unwrap();
    assert_eq!(keeps, gpu.caps().features.contains(Features::PIPELINE_CACHE));
    let diffa = Diffa::load_for(&gpu, &ModelPaths::default(), true, &settings()[0], &|_| Ok(())).unwrap();
    let answer = ask(&diffa, &settings()[0]);
    (answer, gpu.save_pipelines().unwrap())
}

#[test]
fn a_file_of_compiled_kernels_is_kept_a_damaged_one_ignored_and_another_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deeper/kernels");
    let (answer, written) = run_with_file(&path);
    assert_eq!(written, path.is_file());
    if !open().caps().features.contains(Features::PIPELINE_CACHE) {
        assert!(!written, "a device without the feature writes nothing");
        return;
    }
    assert!(written);
    let good = std::fs::read(&path).unwrap();
    let parts = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(parts, 1, "nothing but the file is left in its folder");

    assert_eq!(run_with_file(&path), (answer.clone(), false), "unchanged, so not written again");
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 0x55;
    for bad in [&b""[..], &good[..good.len() / 2], &damaged] {
        std::fs::write(&path, bad).unwrap();
        assert_eq!(run_with_file(&path), (answer.clone(), true), "replaced");
        assert!(std::fs::read(&path).unwrap().starts_with(&good[..8]));
    }
    // What was never such a file is left as it is.
    std::fs::write(&path, "my notes").unwrap();
    let refused = open().keep_pipelines(&path).unwrap_err().to_string();
    assert!(refused.contains("--pipeline-cache") && refused.contains("kernels"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), b"my notes");
}

#[test]
fn a_device_without_the_feature_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernels");
    let gpu = Gpu::open_with_default_limits(&Default::default()).unwrap();
    assert!(!gpu.keep_pipelines(&path).unwrap());
    Diffa::load(&gpu, &ModelPaths::default(), &|_| Ok(())).unwrap();
    assert!(!gpu.save_pipelines().unwrap());
    assert!(!path.exists());
}
