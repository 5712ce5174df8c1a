//! What the decode loop may do to the device, by the device's own counts: nothing is created after planning,
//! one small map per step, few submits; and a decode is repeatable to the last bit.
//!
//! Each test opens a device of its own, so that its counts are its own.

mod common;

use common::demo;
use diffa::decode::Recorded;
use diffa::gpu::counters::Counts;
use diffa::{
    Cache, Clip, DecodeOptions, Diffa, Error, Gpu, ModelPaths, Result, Rule, Session, StepReport, audio, text,
};

const QUESTION: &str = "What does the speaker say?";
const HEADER_BYTES: u64 = 32;
const COMMIT_BYTES: u64 = 12;

fn open() -> (Diffa, Clip) {
    let gpu = Gpu::open(&Default::default()).unwrap();
    let diffa = Diffa::load(&gpu, &ModelPaths::default(), &|_| Ok(())).unwrap();
    let wave = audio::read(&demo().join("audio/03_command_man3_medium.wav"), 16_000).unwrap();
    let clip = diffa.hear(&wave.samples).unwrap();
    (diffa, clip)
}

/// The decoders there are, in short runs.
fn decoders() -> Vec<DecodeOptions> {
    let quota = DecodeOptions::new(8, 8, 16);
    vec![
        quota.clone(),
        DecodeOptions { cfg_scale: 1.0, ..quota.clone() },
        DecodeOptions { rule: Rule::Threshold(0.9), ..quota.clone() },
        DecodeOptions { rule: Rule::Factor(1.0), cache: Cache::Dual, ..quota.clone() },
        DecodeOptions { rule: Rule::Profile(0.75), cache: Cache::Prefix, ..quota.clone() },
        DecodeOptions { temperature: 0.7, cache: Cache::Dual, ..quota },
    ]
}

fn counts(diffa: &Diffa) -> Counts {
    diffa.gpu().counters().snapshot()
}

fn start<'m>(diffa: &'m Diffa, clip: &Clip, options: &DecodeOptions) -> Session<'m> {
    let prompt = diffa.audio_prompt(QUESTION, text::DEFAULT_SYSTEM).unwrap();
    diffa.session(&prompt, Some(clip), options).unwrap()
}

/// Decodes step by step and hands out what each step cost.
fn decode(
    diffa: &Diffa,
    clip: &Clip,
    options: &DecodeOptions,
    mut on_step: impl FnMut(&StepReport, Counts),
) -> Vec<StepReport> {
    let mut session = start(diffa, clip, options);
    let mut reports = Vec::new();
    loop {
        let before = counts(diffa);
        let Some(report) = session.step().unwrap() else {
            assert_eq!(counts(diffa), before, "a finished decode does nothing");
            return reports;
        };
        on_step(&report, counts(diffa).since(&before));
        reports.push(report);
    }
}

#[test]
fn a_step_creates_nothing_and_reads_one_small_report() {
    let (diffa, clip) = open();
    for options in decoders() {
        let max_bytes = HEADER_BYTES + COMMIT_BYTES * options.max_commits() as u64;
        let reports = decode(&diffa, &clip, &options, |report, used| {
            let at = format!("{options:?}, block {}, step {}", report.block, report.step);
            assert_eq!((used.buffers, used.bind_groups, used.pipelines), (0, 0, 0), "{at}");
            assert_eq!(used.maps, 1, "{at}: one readback");
            assert!(used.mapped_bytes <= max_bytes, "{at}: {} bytes were read", used.mapped_bytes);
            // This model's forward is far below what one submit may hold.
            assert!(used.submits <= 2, "{at}: {} submits", used.submits);
        });
        let committed: usize = reports.iter().map(|report| report.commits.len()).sum();
        assert_eq!(committed, options.gen_length, "{options:?}");
    }
}

#[test]
fn a_burst_reads_once_for_all_its_steps() {
    let (diffa, clip) = open();
    let options = DecodeOptions::new(16, 8, 16);
    let step_by_step = decode(&diffa, &clip, &options, |_, _| {});
    let mut session = start(&diffa, &clip, &options);
    let before = counts(&diffa);
    let reports = session.run_ahead().unwrap();
    let used = counts(&diffa).since(&before);
    assert_eq!(reports, step_by_step);
    assert_eq!((used.buffers, used.bind_groups, used.pipelines), (0, 0, 0));
    assert_eq!(used.maps, options.n_blocks() as u64, "one readback per block");
    assert!(used.submits <= 2 * options.steps as u64, "{} submits", used.submits);
}

/// Stops a decode once it has made so many reports.
fn run_until(session: &mut Session<'_>, stop: usize, reports: &mut Vec<StepReport>) -> Result<()> {
    session.run(|_, report| {
        reports.push(report.clone());
        if reports.len() == stop { Err(Error::Interrupted) } else { Ok(()) }
    })
}

#[test]
fn a_run_reads_one_report_for_every_forward_while_the_next_is_queued() {
    let (diffa, clip) = open();
    for options in decoders() {
        let step_by_step = decode(&diffa, &clip, &options, |_, _| {});
        let mut session = start(&diffa, &clip, &options);
        let before = counts(&diffa);
        let mut reports = Vec::new();
        run_until(&mut session, usize::MAX, &mut reports).unwrap();
        let used = counts(&diffa).since(&before);
        assert_eq!(reports, step_by_step, "{options:?}");
        assert_eq!((used.buffers, used.bind_groups, used.pipelines), (0, 0, 0), "{options:?}");
        assert_eq!(used.maps, reports.len() as u64, "{options:?}");
        session.logits().expect("nothing is under way behind the last report");
        // One queued for nothing at the end of each block, at most.
        let queued = reports.len() + options.n_blocks();
        assert!(used.submits <= 2 * queued as u64, "{options:?}: {} submits", used.submits);
    }
}

#[test]
fn what_was_queued_ahead_of_a_stop_is_not_lost() {
    let (diffa, clip) = open();
    for options in decoders() {
        let step_by_step = decode(&diffa, &clip, &options, |_, _| {});
        for stop in [1, step_by_step.len() / 2] {
            let mut session = start(&diffa, &clip, &options);
            let mut reports = Vec::new();
            let stopped = run_until(&mut session, stop, &mut reports);
            assert!(matches!(stopped, Err(Error::Interrupted)), "{options:?}: {stopped:?}");
            assert!(session.logits().is_err(), "they may be of the next forward");
            // On by single steps, then by a run, in bursts, and within a host's frames.
            reports.extend(session.step().unwrap());
            let next = reports.len() + 1;
            if next < step_by_step.len() {
                run_until(&mut session, next, &mut reports).unwrap_err();
            }
            let mut encoder = diffa.gpu().device().create_command_encoder(&Default::default());
            if session.record_step(&mut encoder, usize::MAX) == Recorded::Round {
                diffa.gpu().queue().submit([encoder.finish()]);
                diffa.gpu().wait().unwrap();
                reports.extend(session.progress().unwrap());
            }
            reports.extend(session.run_ahead().unwrap());
            assert_eq!(reports, step_by_step, "{options:?}, stopped after {stop}");
        }
    }
}

#[test]
fn decodes_are_equal_bit_for_bit() {
    let (diffa, clip) = open();
    for options in decoders() {
        let run = || decode(&diffa, &clip, &options, |_, _| {});
        let (first, second) = (run(), run());
        assert_eq!(first, second, "{options:?}");
        let bits = |reports: &[StepReport]| -> Vec<u32> {
            reports.iter().flat_map(|r| &r.commits).map(|c| c.confidence.to_bits()).collect()
        };
        assert_eq!(bits(&first), bits(&second), "{options:?}");
    }
}

#[test]
fn a_second_request_compiles_nothing() {
    let (diffa, clip) = open();
    for options in decoders() {
        decode(&diffa, &clip, &options, |_, _| {});
        let before = counts(&diffa);
        decode(&diffa, &clip, &options, |_, _| {});
        assert_eq!(counts(&diffa).since(&before).pipelines, 0, "{options:?}");
    }
    // Nor does another clip of another length.
    let before = counts(&diffa);
    let wave = audio::read(&demo().join("audio/06_number_8k.wav"), 16_000).unwrap();
    let other = diffa.hear(&wave.samples).unwrap();
    decode(&diffa, &other, &decoders()[0], |_, _| {});
    assert_eq!(counts(&diffa).since(&before).pipelines, 0);
}
