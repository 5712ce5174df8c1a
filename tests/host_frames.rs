//! A decode recorded into a host's own frames, a few dispatches each: same answer, and the library itself
//! neither submits, nor waits, nor allocates.

mod common;

use common::demo;
use diffa::decode::{Recorded, StepReport};
use diffa::{Cache, DecodeOptions, Diffa, Gpu, ModelPaths, Rule, audio, text};

#[test]
fn frames_of_any_budget_give_the_same_reports() {
    let own = Gpu::open(&Default::default()).unwrap(); // counts nothing but this test
    let diffa = Diffa::load(&own, &ModelPaths::default(), &|_| Ok(())).unwrap();
    let wave = audio::read(&demo().join("audio/17_beeps_four.wav"), 16_000).unwrap();
    let clip = diffa.hear(&wave.samples).unwrap();
    let prompt = diffa.audio_prompt("How many beeps are there?", text::DEFAULT_SYSTEM).unwrap();
    for (cache, rule, budget) in [
        (Cache::None, Rule::Quota, 1000),
        (Cache::None, Rule::Threshold(0.9), 17),
        (Cache::Dual, Rule::Quota, 50),
        (Cache::Dual, Rule::Factor(1.0), 7),
        (Cache::Prefix, Rule::Profile(0.75), 31),
    ] {
        let options = DecodeOptions { cache, rule, ..DecodeOptions::new(8, 8, 16) };
        let mut expected = Vec::new();
        let mut session = diffa.session(&prompt, Some(&clip), &options).unwrap();
        session
            .run(|_, report| {
                expected.push(report.clone());
                Ok(())
            })
            .unwrap();

        let mut session = diffa.session(&prompt, Some(&clip), &options).unwrap();
        let mut reports: Vec<StepReport> = Vec::new();
        let mut frames = 0;
        let before = own.counters().snapshot();
        loop {
            // The host's frame: its own encoder and submit, our dispatches somewhere in it.
            let mut encoder = own.device().create_command_encoder(&Default::default());
            let recorded = session.record_step(&mut encoder, budget);
            own.queue().submit([encoder.finish()]);
            frames += 1;
            assert!(frames < 10_000, "no end in sight");
            if recorded == Recorded::Done {
                break;
            }
            reports.extend(session.progress().unwrap());
        }
        let used = own.counters().snapshot().since(&before);
        assert_eq!((used.submits, used.buffers, used.bind_groups, used.pipelines), (0, 0, 0, 0));
        assert_eq!(reports, expected, "{cache:?} {rule:?} budget {budget}");
        assert!(frames > expected.len() / 2);
    }
}
