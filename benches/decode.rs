//! Whole decodes of the demo model under criterion: the same code as `diffa bench decode`.
//! `cargo bench --bench decode`; in test mode each decode runs once.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use diffa::bench::decode::measure;
use diffa::decode::Prompt;
use diffa::{Cache, DecodeOptions, Diffa, Gpu, ModelPaths, Preset, Rule};

/// Rows before the answer; a 30 s clip and a short question are about 450, less keeps the bench short.
const CONTEXT_ROWS: usize = 120;

fn decodes(criterion: &mut Criterion) {
    let gpu = match Gpu::open(&Default::default()) {
        Ok(gpu) => gpu,
        Err(error) => panic!("the bench needs an adapter: {error}"),
    };
    let diffa = match Diffa::load_text_only(&gpu, &ModelPaths::default(), &|_| Ok(())) {
        Ok(diffa) => diffa,
        Err(error) => panic!("the demo model does not load: {error}"),
    };
    let ids: Vec<u32> = (0..CONTEXT_ROWS as u32).map(|i| i * 7919 % 1400).collect();
    let plain = DecodeOptions::new(16, 16, 16);
    let mut decoders = vec![
        ("dual cache quota".to_string(), DecodeOptions { cache: Cache::Dual, ..plain.clone() }),
        (
            "dual cache threshold 0.9".to_string(),
            DecodeOptions { cache: Cache::Dual, rule: Rule::Threshold(0.9), ..plain.clone() },
        ),
    ];
    for preset in Preset::ALL {
        let mut options = plain.clone();
        preset.apply(&mut options, &diffa.stop_ids());
        decoders.push((preset.name().to_string(), options));
    }
    let mut group = criterion.benchmark_group("decode 16/16/16");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (name, options) in decoders {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|n| {
                let prompt = Prompt { ids: &ids, audio: None };
                let budget = Duration::from_secs(60);
                (0..n)
                    .map(|_| match measure(&gpu, diffa.llada(), prompt, &options, budget) {
                        Ok(measured) => Duration::from_secs_f64(measured.seconds),
                        Err(error) => panic!("{error}"),
                    })
                    .sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decodes);
criterion_main!(benches);
