//! The decoder's promises beyond the golden traces: queueing ahead and batching change nothing, no row is
//! lost or committed twice under any schedule, a block of the fixed schedule needs one readback, and keys and
//! values in f16 take half the memory and hardly move an answer.

mod common;

use std::collections::HashMap;

use common::{demo, gpu, read_json};
use diffa::decode::{Prompt, StepReport};
use diffa::{
    Cache, CacheDtype, Clip, DecodeOptions, Diffa, ModelPaths, Remasking, Rule, Session, audio, text,
};

const CLIPS: [&str; 3] = ["01_command_woman1_medium.wav", "17_beeps_four.wav", "19_melody_up.wav"];
const QUESTIONS: [&str; 3] =
    ["What does the speaker say?", "How many beeps are there?", "Is the melody going up or down?"];

fn load() -> Diffa {
    Diffa::load(&gpu(), &ModelPaths::default(), &|_| Ok(())).unwrap()
}

fn hear(diffa: &Diffa, name: &str) -> Clip {
    diffa.hear(&audio::read(&demo().join("audio").join(name), 16_000).unwrap().samples).unwrap()
}

fn decoders() -> Vec<DecodeOptions> {
    let mut all = Vec::new();
    for cache in [Cache::None, Cache::Prefix, Cache::Dual] {
        for rule in [Rule::Quota, Rule::Threshold(0.9), Rule::Factor(1.0), Rule::Profile(0.75)] {
            all.push(DecodeOptions { cache, rule, ..DecodeOptions::new(16, 8, 16) });
        }
    }
    all
}

/// Every report of a decode, one step at a time.
fn step_by_step(mut session: Session<'_>) -> (Vec<u32>, Vec<StepReport>) {
    let mut reports = Vec::new();
    session
        .run(|_, report| {
            reports.push(report.clone());
            Ok(())
        })
        .unwrap();
    (session.ids().to_vec(), reports)
}

#[test]
fn queueing_ahead_gives_the_same_reports() {
    let diffa = load();
    let clip = hear(&diffa, CLIPS[0]);
    let prompt = diffa.audio_prompt(QUESTIONS[0], text::DEFAULT_SYSTEM).unwrap();
    for options in decoders() {
        let waiting = step_by_step(diffa.session(&prompt, Some(&clip), &options).unwrap());
        let mut session = diffa.session(&prompt, Some(&clip), &options).unwrap();
        let reports = session.run_ahead().unwrap();
        assert_eq!(reports, waiting.1, "{options:?}");
        assert_eq!(session.ids(), waiting.0, "{options:?}");
    }
}

#[test]
fn a_batch_answers_as_one_by_one() {
    let diffa = load();
    let clips: Vec<Clip> = CLIPS.iter().map(|name| hear(&diffa, name)).collect();
    let prompts: Vec<text::Prompt> =
        QUESTIONS.iter().map(|q| diffa.audio_prompt(q, text::DEFAULT_SYSTEM).unwrap()).collect();
    let rows: Vec<Prompt> = prompts
        .iter()
        .zip(&clips)
        .map(|(p, clip)| Prompt { ids: &p.ids, audio: Some((&clip.audio_embeds, p.audio_position.unwrap())) })
        .collect();
    let noisy = DecodeOptions { temperature: 0.7, seed: 5, ..DecodeOptions::new(16, 8, 16) };
    let guided = DecodeOptions { cfg_scale: 0.5, ..DecodeOptions::new(16, 8, 16) };
    let random = DecodeOptions { remasking: Remasking::Random, ..DecodeOptions::new(8, 8, 16) };
    let halves = [Cache::None, Cache::Prefix].map(|cache| DecodeOptions {
        cache,
        cache_dtype: CacheDtype::F16,
        ..DecodeOptions::new(16, 8, 16)
    });
    for options in decoders().into_iter().chain([noisy, guided, random]).chain(halves) {
        let mut batch = Session::new(diffa.gpu(), diffa.llada(), &rows, &options).unwrap();
        let mut batched: Vec<Vec<StepReport>> = vec![Vec::new(); rows.len()];
        while !batch.is_done() {
            for report in batch.advance(1).unwrap() {
                batched[report.sequence].push(report);
            }
        }
        for (i, prompt) in rows.iter().enumerate() {
            let alone = Session::new(diffa.gpu(), diffa.llada(), &[*prompt], &options).unwrap();
            let (ids, reports) = step_by_step(alone);
            assert_eq!(batch.ids_of(i), ids, "answer {i}, {options:?}");
            let commits = |reports: &[StepReport]| -> Vec<_> {
                reports.iter().filter(|r| !r.commits.is_empty()).map(|r| r.commits.clone()).collect()
            };
            assert_eq!(commits(&batched[i]), commits(&reports), "answer {i}, {options:?}");
            assert_eq!(batch.forwards_of(i), reports.last().unwrap().forwards, "answer {i}, {options:?}");
        }
    }
}

/// A small deterministic generator for schedules.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n
    }
}

#[test]
fn any_schedule_commits_every_row_once_and_in_block_order() {
    let diffa = load();
    let mask = diffa.llada().config().mask_token_id;
    let prompt = diffa.text_prompt("What colour is it?", None).unwrap();
    let mut draw = Draw(11);
    for _ in 0..24 {
        let block_length = 1 + draw.below(12);
        let blocks = 1 + draw.below(3);
        let steps = blocks * (1 + draw.below(block_length + 2));
        let rule = match draw.below(4) {
            0 => Rule::Quota,
            1 => Rule::Threshold(draw.below(11) as f32 / 10.0),
            2 => Rule::Factor(draw.below(20) as f32 / 10.0),
            _ => Rule::Profile(draw.below(11) as f32 / 10.0),
        };
        let options = DecodeOptions {
            cache: [Cache::None, Cache::Prefix, Cache::Dual][draw.below(3)],
            rule,
            remasking: [Remasking::LowConfidence, Remasking::Random][draw.below(2)],
            temperature: draw.below(2) as f32,
            seed: draw.below(1000) as u32,
            ..DecodeOptions::new(steps, block_length, block_length * blocks)
        };
        let session = diffa.session(&prompt, None, &options).unwrap();
        let (ids, reports) = step_by_step(session);
        assert!(reports.last().unwrap().done, "{options:?}");
        let mut taken = vec![None; options.gen_length];
        let mut block = 0;
        for report in &reports {
            assert!(report.block == block || report.block == block + 1, "{options:?}");
            block = report.block;
            assert!(report.step < options.max_steps_per_block(), "{options:?}");
            for commit in &report.commits {
                assert_eq!(commit.position / block_length, block, "{options:?}");
                // A row may come up again only if it was given the mask token itself.
                let before = taken[commit.position].replace(commit.id);
                assert!(before.is_none() || before == Some(mask), "{options:?}: row {}", commit.position);
            }
        }
        let committed: Vec<u32> = taken.iter().map(|id| id.unwrap_or(mask)).collect();
        assert_eq!(ids, committed, "{options:?}");
    }
}

#[test]
fn a_block_of_the_fixed_schedule_needs_one_readback() {
    let own = diffa::Gpu::open(&Default::default()).unwrap(); // its counters see nothing but this test
    let diffa = Diffa::load_text_only(&own, &ModelPaths::default(), &|_| Ok(())).unwrap();
    let prompt = diffa.text_prompt("What colour is it?", None).unwrap();
    for cache in [Cache::None, Cache::Prefix, Cache::Dual] {
        let options = DecodeOptions { cache, ..DecodeOptions::new(16, 8, 16) };
        let mut session = diffa.session(&prompt, None, &options).unwrap();
        let before = own.counters().snapshot();
        let reports = session.run_ahead().unwrap();
        let used = own.counters().snapshot().since(&before);
        assert_eq!(reports.len(), 16);
        assert_eq!(used.maps, 2, "one for each block");
        assert_eq!((used.buffers, used.bind_groups, used.pipelines), (0, 0, 0));
    }
}

#[test]
fn early_commit_ends_sooner_and_never_leaves_masks() {
    let diffa = load();
    let clip = hear(&diffa, CLIPS[1]);
    let prompt = diffa.audio_prompt(QUESTIONS[1], text::DEFAULT_SYSTEM).unwrap();
    let plain = DecodeOptions::new(16, 16, 16);
    let eager = DecodeOptions { settled_gaps: Some([0.0; 3]), ..plain.clone() };
    let never = DecodeOptions { settled_gaps: Some([1e30; 3]), ..plain.clone() };
    let (ids, reports) = step_by_step(diffa.session(&prompt, Some(&clip), &eager).unwrap());
    assert_eq!(reports.len(), 1, "a gap of 0 settles at once");
    assert!(!ids.contains(&diffa.llada().config().mask_token_id));
    let (ids, reports) = step_by_step(diffa.session(&prompt, Some(&clip), &never).unwrap());
    let (exact, all) = step_by_step(diffa.session(&prompt, Some(&clip), &plain).unwrap());
    assert_eq!((ids, reports), (exact, all), "a gap never reached changes nothing");
}

/// The answer, and the logits of the first forward and of the one after it, which a cache shortens.
fn answer_and_logits(mut session: Session<'_>) -> (Vec<u32>, Vec<f32>) {
    let mut logits = Vec::new();
    for _ in 0..2 {
        session.advance(1).unwrap();
        logits.extend(session.logits().unwrap().concat());
    }
    session.run_ahead().unwrap();
    (session.ids().to_vec(), logits)
}

#[test]
fn keys_and_values_in_f16_hardly_move_an_answer() {
    let diffa = load();
    let expected = read_json(&demo().join("expected.json"));
    let mut clips: HashMap<&str, Clip> = HashMap::new();
    let mut largest = [0.0f32; 2];
    for item in expected["items"].as_array().unwrap().iter().step_by(22) {
        let name = item["audio"].as_str().unwrap().strip_prefix("audio/").unwrap();
        let clip = &*clips.entry(name).or_insert_with(|| hear(&diffa, name));
        let prompt = diffa.audio_prompt(item["question"].as_str().unwrap(), text::DEFAULT_SYSTEM).unwrap();
        for (largest, cache) in largest.iter_mut().zip([Cache::None, Cache::Dual]) {
            let [exact, rounded] = [CacheDtype::F32, CacheDtype::F16].map(|cache_dtype| {
                let options = DecodeOptions { cache, cache_dtype, ..DecodeOptions::new(8, 8, 8) };
                answer_and_logits(diffa.session(&prompt, Some(clip), &options).unwrap())
            });
            assert_eq!(rounded.0, exact.0, "{}, {cache:?}", item["id"]);
            let errors = rounded.1.iter().zip(&exact.1).map(|(a, b)| (a - b).abs());
            *largest = errors.fold(*largest, f32::max);
        }
    }
    println!("largest difference of a logit: {largest:?} without a cache, with a dual one");
    assert!(largest.iter().all(|error| (1e-4..0.1).contains(error)), "{largest:?}");
}

#[test]
fn keys_and_values_in_f16_take_half_the_memory() {
    let own = diffa::Gpu::open(&Default::default()).unwrap(); // its counters see nothing but this test
    let diffa = Diffa::load_text_only(&own, &ModelPaths::default(), &|_| Ok(())).unwrap();
    let prompt = diffa.text_prompt("What colour is it?", None).unwrap();
    let config = diffa.llada().config();
    diffa.session(&prompt, None, &DecodeOptions::default()).unwrap(); // what only the first one creates
    for (cache, layers) in
        [(Cache::None, 2), (Cache::Prefix, config.n_layers), (Cache::Dual, config.n_layers)]
    {
        let [single, half] = [CacheDtype::F32, CacheDtype::F16].map(|cache_dtype| {
            let options = DecodeOptions { cache, cache_dtype, ..DecodeOptions::new(16, 8, 16) };
            let before = own.counters().snapshot();
            diffa.session(&prompt, None, &options).unwrap();
            own.counters().snapshot().since(&before).buffer_bytes
        });
        let elements = 2 * layers * (prompt.ids.len() + 16) * config.n_kv_heads * config.head_dim;
        assert_eq!(single - half, 2 * elements as u64, "{cache:?}");
    }
}
