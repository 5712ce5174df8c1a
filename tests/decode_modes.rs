//! The decoder's promises beyond the golden traces: queueing ahead and batching change nothing, no row is
//! lost or committed twice under any schedule, and a block of the fixed schedule needs one readback.

mod common;

use common::{demo, gpu};
use diffa::decode::{Prompt, StepReport};
use diffa::{Cache, Clip, DecodeOptions, Diffa, ModelPaths, Remasking, Rule, Session, audio, text};

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
    for options in decoders().into_iter().chain([noisy, guided, random]) {
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
