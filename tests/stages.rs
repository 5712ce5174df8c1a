//! Every stage against the stored arrays of the PyTorch reference: log-mel, encoder, connectors, the layers
//! of the language model, logits. The first wrong stage is named by the first test that fails.
//!
//! Inputs are the fixtures' clips and ids; tolerances are the ones the fixtures' README states, and each
//! test prints its worst error as a share of its tolerance (`cargo test --test stages -- --nocapture`).
//! A clip goes through the device once; mel, encoder and connector tests look at what it left there.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use common::{fixtures, gpu, read_json};
use diffa::checkpoint::Checkpoint;
use diffa::decode::Prompt;
use diffa::gpu::plan::PlanBuilder;
use diffa::model::forward::{Answers, Forward, ForwardBuffers, Layout};
use diffa::model::{Hearing, Llada, Part};
use diffa::ops::embed::embed;
use diffa::ops::select::{SelectArgs, SelectBuffers, SelectRule};
use diffa::{Cache, CacheDtype, DecodeOptions, Diffa, ModelPaths, Session, audio, text};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

const MEL_TOLERANCE: f64 = 2e-4;
const MEL_RESAMPLED_TOLERANCE: f64 = 2e-3;
const MEL_FLOOR_TOLERANCE: f64 = 1e-3;
const HIDDEN_TOLERANCE: f64 = 2e-3;
const CONNECTOR_TOLERANCE: f64 = 3e-3;
const LOGIT_TOLERANCE: f64 = 3e-3;
const GUIDED_LOGIT_TOLERANCE: f64 = 6e-3;

/// A stored array, as f32 (ids as exact small floats).
struct Array {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Array {
    fn rows(&self, range: std::ops::Range<usize>) -> &[f32] {
        &self.data[range.start * self.shape[1]..range.end * self.shape[1]]
    }
}

fn arrays(name: &str) -> BTreeMap<String, Array> {
    let bytes = std::fs::read(fixtures().join("expected").join(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| {
            let data = match view.dtype() {
                Dtype::F32 => view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::I64 => {
                    view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect()
                }
                other => panic!("{name}: {other:?}"),
            };
            (name.to_string(), Array { shape: view.shape().to_vec(), data })
        })
        .collect()
}

/// The largest error of a stage so far.
struct Worst {
    stage: &'static str,
    tolerance: f64,
    error: f64,
    at: String,
    compared: usize,
}

impl Worst {
    fn new(stage: &'static str, tolerance: f64) -> Worst {
        Worst { stage, tolerance, error: 0.0, at: "nowhere".into(), compared: 0 }
    }

    /// Compares rows of `columns` elements.
    fn check(&mut self, name: &str, got: &[f32], want: &[f32], columns: usize) {
        assert_eq!(got.len(), want.len(), "{}: {name}: number of elements", self.stage);
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let error = (f64::from(*got) - f64::from(*want)).abs();
            let at = || format!("{name} [{}, {}]", i / columns, i % columns);
            // Written so that a NaN fails.
            let within = error <= self.tolerance;
            assert!(within, "{}: {}: got {got}, expected {want}", self.stage, at());
            if error > self.error {
                (self.error, self.at) = (error, at());
            }
        }
        self.compared += got.len();
    }
}

impl Drop for Worst {
    fn drop(&mut self) {
        let share = self.error / self.tolerance;
        let Worst { stage, tolerance, error, at, compared } = self;
        println!(
            "{stage}: worst error {error:.1e} = {share:.3} of tolerance {tolerance:.0e} at {at}; {compared} values"
        );
    }
}

/// What one clip left on the device, read back.
struct Heard {
    name: String,
    /// Log-mel `[n_frames, n_mels]`.
    mel: Vec<f32>,
    n_mels: usize,
    /// Every hidden state `[max_source_positions, d]`.
    hidden: Vec<Vec<f32>>,
    d: usize,
    /// Audio rows `[rows, d_model]`: acoustic, then semantic.
    embeds: Vec<f32>,
    d_model: usize,
    acoustic_rows: usize,
    /// Valid frames and encoder rows.
    frames: usize,
    encoder_rows: usize,
    /// The wave is the library's own reading of a file at another rate.
    resampled: bool,
}

impl Heard {
    fn acoustic(&self) -> &[f32] {
        &self.embeds[..self.acoustic_rows * self.d_model]
    }

    fn semantic(&self) -> &[f32] {
        &self.embeds[self.acoustic_rows * self.d_model..]
    }
}

fn model() -> ModelPaths {
    ModelPaths { model: Some(fixtures()), ..Default::default() }
}

/// All clips, from the fixtures' 16 kHz waves where stored and from our own reading of every file.
fn heard() -> &'static [Heard] {
    static HEARD: OnceLock<Vec<Heard>> = OnceLock::new();
    HEARD.get_or_init(|| {
        let (gpu, paths) = (gpu(), model());
        let (whisper, config) = (paths.checkpoint(Part::Whisper).unwrap(), paths.whisper_config().unwrap());
        let adapters = paths.checkpoint(Part::Adapters).unwrap();
        let llada = paths.llada_config().unwrap();
        let hearing = Hearing::load(&gpu, (&whisper, &config), &adapters, &llada, true, &|_| Ok(())).unwrap();
        let mut waves = Vec::new();
        for (name, wave) in arrays("wave_16k.safetensors") {
            waves.push((name, wave.data, false));
        }
        for name in read_json(&fixtures().join("expected/audio.json")).as_object().unwrap().keys() {
            let path = fixtures().join(format!("wav/{name}.wav"));
            let resampled = audio::read_native(&path).unwrap().sample_rate != 16_000;
            waves.push((name.clone(), audio::read(&path, 16_000).unwrap().samples, resampled));
        }
        let hear = |(name, wave, resampled): (String, Vec<f32>, bool)| {
            let clip = hearing.hear(&wave).unwrap();
            let encoder = hearing.encoder();
            let hidden = |i| gpu.read(encoder.hidden(i).unwrap()).unwrap();
            Heard {
                name,
                mel: gpu.read(&encoder.mel).unwrap(),
                n_mels: config.n_mels,
                hidden: (0..=config.n_layers).map(hidden).collect(),
                d: config.d_model,
                embeds: gpu.read(&clip.audio_embeds).unwrap(),
                d_model: llada.d_model,
                acoustic_rows: hearing.acoustic_rows(),
                frames: clip.valid.frames,
                encoder_rows: clip.valid.rows,
                resampled,
            }
        };
        waves.into_iter().map(hear).collect()
    })
}

#[test]
fn lengths_match_for_every_clip() {
    let expected = read_json(&fixtures().join("expected/audio.json"));
    for clip in heard() {
        let want = &expected[&clip.name];
        let semantic = clip.semantic().len() / clip.d_model;
        let got = [clip.frames, clip.encoder_rows, semantic, clip.acoustic_rows + semantic];
        let keys = ["frames", "encoder_length", "semantic_rows", "audio_rows"];
        for (key, got) in keys.into_iter().zip(got) {
            assert_eq!(got as u64, want[key].as_u64().unwrap(), "{}: {key}", clip.name);
        }
    }
}

#[test]
fn mel_matches() {
    let expected = arrays("mel.safetensors");
    let floors = read_json(&fixtures().join("expected/audio.json"));
    let mut given = Worst::new("mel", MEL_TOLERANCE);
    let mut resampled = Worst::new("mel through the resampler", MEL_RESAMPLED_TOLERANCE);
    let mut floor = Worst::new("mel beyond the clip", MEL_FLOOR_TOLERANCE);
    let mut seen = HashMap::new();
    for clip in heard() {
        let n_frames = clip.mel.len() / clip.n_mels;
        for (key, first) in [(clip.name.clone(), 0), (format!("{}.end", clip.name), n_frames - 100)] {
            let Some(want) = expected.get(&key) else { continue };
            // Stored band by band, computed frame by frame.
            let n = want.shape[1];
            let got: Vec<f32> = (0..clip.n_mels)
                .flat_map(|m| (first..first + n).map(move |f| clip.mel[f * clip.n_mels + m]))
                .collect();
            let worst = if clip.resampled { &mut resampled } else { &mut given };
            worst.check(&key, &got, &want.data, n);
            *seen.entry(key).or_insert(0) += 1;
        }
        if clip.frames + 4 < n_frames {
            let constant = floors[&clip.name]["mel_floor"].as_f64().unwrap() as f32;
            let got = &clip.mel[(clip.frames + 4) * clip.n_mels..];
            floor.check(&clip.name, got, &vec![constant; got.len()], clip.n_mels);
        }
    }
    assert!(
        expected.keys().all(|key| seen.contains_key(key)),
        "not compared: {expected:?}",
        expected = { expected.keys().filter(|key| !seen.contains_key(*key)).collect::<Vec<_>>() }
    );
}

#[test]
fn encoder_states_match() {
    let expected = arrays("encoder.safetensors");
    let mut taps = Worst::new("encoder, all states of a clip", HIDDEN_TOLERANCE);
    let mut last = Worst::new("encoder, last state of all clips", HIDDEN_TOLERANCE);
    let mut seen = 0;
    for clip in heard() {
        let rows = |state: &[f32], range: std::ops::Range<usize>| {
            state[range.start * clip.d..range.end * clip.d].to_vec()
        };
        for (i, state) in clip.hidden.iter().enumerate() {
            let key = format!("{}.hidden.{i}", clip.name);
            let Some(want) = expected.get(&key) else { continue };
            taps.check(&key, &rows(state, 0..160), want.rows(0..160), clip.d);
            // The window's end: rows of silence, which the connectors hear as well.
            taps.check(
                &format!("{key} from row 1460"),
                &rows(state, 1460..1500),
                want.rows(160..200),
                clip.d,
            );
            seen += 1;
        }
        let key = format!("{}.last", clip.name);
        let Some(want) = expected.get(&key) else { continue };
        let n = clip.encoder_rows.min(120);
        last.check(&key, &rows(clip.hidden.last().unwrap(), 0..n), &want.data, clip.d);
        // The resampled clips are here twice, with the stored wave and with ours.
        seen += usize::from(!clip.resampled);
    }
    assert_eq!(seen, expected.len(), "stored arrays that were compared");
}

#[test]
fn connectors_match() {
    let expected = arrays("connectors.safetensors");
    let mut acoustic = Worst::new("acoustic connector", CONNECTOR_TOLERANCE);
    let mut semantic = Worst::new("semantic connector", CONNECTOR_TOLERANCE);
    let mut seen = 0;
    for clip in heard() {
        let parts =
            [("acoustic", &mut acoustic, clip.acoustic()), ("semantic", &mut semantic, clip.semantic())];
        for (part, worst, got) in parts {
            let key = format!("{}.{part}", clip.name);
            let Some(want) = expected.get(&key) else { continue };
            worst.check(&key, got, &want.data, clip.d_model);
            seen += usize::from(!clip.resampled);
        }
        let key = format!("{}.stage1", clip.name);
        let Some(want) = expected.get(&key) else { continue };
        // Training stage 1 puts prompts of its own before the semantic rows; inference never does.
        let adapters = model().checkpoint(Part::Adapters).unwrap();
        let prompts = adapters.get("trainable_prompts.weight").unwrap().to_f32();
        let got = [prompts, clip.semantic().to_vec()].concat();
        semantic.check(&key, &got, &want.data, clip.d_model);
        seen += 1;
    }
    assert_eq!(seen, expected.len(), "stored arrays that were compared");
}

/// The language model with its first `depth` blocks only: a checkpoint without the others, because a loader
/// refuses surplus layers.
fn llada(depth: usize) -> Llada {
    let mut config = model().llada_config().unwrap();
    config.n_layers = depth;
    let whole = model().checkpoint(Part::Llm).unwrap();
    let is_kept = |name: &&str| {
        let block = name.strip_prefix("model.transformer.blocks.").and_then(|rest| rest.split('.').next());
        block.is_none_or(|index| index.parse::<usize>().unwrap() < depth)
    };
    let tensors: Vec<_> = whole.names().filter(is_kept).map(|name| whole.get(name).unwrap()).collect();
    let views = tensors.iter().map(|tensor| {
        let view = TensorView::new(Dtype::BF16, tensor.shape.to_vec(), &tensor.bytes).unwrap();
        (tensor.name, view)
    });
    let folder = tempfile::tempdir().unwrap();
    safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    let cut = Checkpoint::open(folder.path()).unwrap();
    Llada::load(&gpu(), &cut, &config, None, &|_| Ok(())).unwrap()
}

/// One forward over a sequence without a prompt, every row of it a candidate: the embeddings and the final
/// normed states, both `[ids, d_model]`.
fn forward_states(llada: &Llada, ids: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let (gpu, n) = (gpu(), ids.len());
    let schedule = SelectArgs {
        gen_length: n,
        block_length: n,
        steps_per_block: 1,
        until_empty: false,
        rule: SelectRule::Quota,
        random: false,
        seed: 0,
        mask_id: llada.config().mask_token_id,
        stop_ids: vec![],
        settled_gaps: None,
        n_branches: 1,
        branch_rows: n,
        ring: 1,
    };
    let state = SelectBuffers::new(&gpu, &schedule, 1).unwrap();
    state.reset(&gpu, &schedule, &[0]);
    gpu.queue().write_buffer(state.ids.buffer(), 0, bytemuck::cast_slice(ids));
    let layout = Layout { prompt_rows: vec![0], gen_length: n, candidates: n };
    let buffers = ForwardBuffers::new(&gpu, llada.config(), &layout, false, CacheDtype::F32).unwrap();
    let answers = Answers { ids: &state.ids, rows: &state.rows, row_ids: &state.row_ids, branches: 1 };
    let mut plan = PlanBuilder::new(&gpu, "stage");
    Forward { llada, layout: &layout, buffers: &buffers, answers }.record_full(&mut plan).unwrap();
    embed(&mut plan, (&state.ids, 0), n, &llada.wte, (&buffers.context, 0)).unwrap();
    plan.freeze().unwrap().run(&gpu).unwrap();
    (gpu.read(&buffers.context).unwrap(), gpu.read(&buffers.candidate_h).unwrap())
}

#[test]
fn llada_layers_match() {
    let expected = arrays("logits.safetensors");
    let ids: Vec<u32> = expected["text_row.ids"].data.iter().map(|id| *id as u32).collect();
    let checkpoint = model().checkpoint(Part::Llm).unwrap();
    let weight = |name: &str| checkpoint.get(&format!("model.transformer.{name}.weight")).unwrap().to_f32();
    let (ln_f, head) = (weight("ln_f"), weight("ff_out"));
    let d = ln_f.len();
    let mut hidden = Worst::new("LLaDA hidden states", HIDDEN_TOLERANCE);
    let n_layers = model().llada_config().unwrap().n_layers;
    for depth in 1..=n_layers {
        let (embeddings, states) = forward_states(&llada(depth), &ids);
        hidden.check("text_row.hidden.0", &embeddings, &expected["text_row.hidden.0"].data, d);
        let key = format!("text_row.hidden.{depth}");
        let want = &expected[&key].data;
        if depth == n_layers {
            hidden.check(&key, &states, want, d);
            // Logits of all rows; `Session` computes those of candidates only.
            let mut logits = Worst::new("LLaDA logits of a text row", LOGIT_TOLERANCE);
            let dot = |a: &[f32], b: &[f32]| {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
            };
            let got: Vec<f32> =
                states.chunks(d).flat_map(|h| head.chunks(d).map(move |w| dot(h, w))).collect();
            logits.check("text_row.logits", &got, &expected["text_row.logits"].data, head.len() / d);
        } else {
            // The states between blocks are never normed in a whole forward; a model cut off at this depth
            // shows them through its final norm.
            let normed: Vec<f32> = want.chunks(d).flat_map(|row| rms_norm(row, &ln_f)).collect();
            hidden.check(&format!("{key} through ln_f"), &states, &normed, d);
        }
    }
}

#[test]
fn weights_read_past_the_page_cache_are_the_same() {
    let ids: Vec<u32> =
        arrays("logits.safetensors")["text_row.ids"].data.iter().map(|id| *id as u32).collect();
    let load = |past_cache| {
        let checkpoint = model().checkpoint(Part::Llm).unwrap().read_past_cache(past_cache);
        let config = model().llada_config().unwrap();
        Llada::load(&gpu(), &checkpoint, &config, None, &|_| Ok(())).unwrap()
    };
    assert_eq!(forward_states(&load(false), &ids), forward_states(&load(true), &ids));
}

fn rms_norm<'a>(row: &'a [f32], weight: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / row.len() as f64;
    let scale = 1.0 / (mean + 1e-5).sqrt();
    row.iter().zip(weight).map(move |(x, w)| (f64::from(*x) * scale * f64::from(*w)) as f32)
}

#[test]
fn logits_of_a_text_row_match_in_a_session() {
    let expected = arrays("logits.safetensors");
    let ids: Vec<u32> = expected["text_row.ids"].data.iter().map(|id| *id as u32).collect();
    let (gpu, llada) = (gpu(), llada(model().llada_config().unwrap().n_layers));
    let prompt = ids.iter().position(|id| *id == llada.config().mask_token_id).unwrap();
    let masks = ids.len() - prompt;
    let options = DecodeOptions::new(1, masks, masks);
    let question = Prompt { ids: &ids[..prompt], audio: None };
    let mut session = Session::new(&gpu, &llada, &[question], &options).unwrap();
    session.step().unwrap();
    let got = session.logits().unwrap().concat();
    let mut worst = Worst::new("logits of the masked text rows", LOGIT_TOLERANCE);
    let want = expected["text_row.logits"].rows(prompt..ids.len());
    worst.check("text_row.logits", &got, want, llada.config().vocab_size);
}

/// A stored run with its prompt.
struct Run {
    name: String,
    prompt: text::Prompt,
    audio: Option<String>,
    options: DecodeOptions,
}

impl Run {
    fn read(diffa: &Diffa, name: &str) -> Run {
        let run = read_json(&fixtures().join(format!("expected/traces/{name}.json")));
        let prompts = read_json(&fixtures().join("expected/prompts.json"));
        let question = prompts["prompts"][run["prompt"].as_str().unwrap()]["text"].as_str().unwrap();
        let n = |key: &str| run[key].as_u64().unwrap() as usize;
        assert!(run["threshold"].is_null() && run["factor"].is_null(), "{name}: only quota runs are stored");
        let audio = run["audio"].as_str().map(str::to_string);
        Run {
            name: name.into(),
            prompt: match &audio {
                Some(_) => diffa.audio_prompt(question, text::DEFAULT_SYSTEM).unwrap(),
                None => diffa.text_prompt(question, None).unwrap(),
            },
            audio,
            options: DecodeOptions {
                cache: run["mode"].as_str().unwrap().parse::<Cache>().unwrap(),
                cfg_scale: run["cfg_scale"].as_f64().unwrap() as f32,
                ..DecodeOptions::new(n("steps"), n("block_length"), n("gen_length"))
            },
        }
    }

    fn session<'m>(&self, diffa: &'m Diffa, options: &DecodeOptions) -> Session<'m> {
        let clip = self.audio.as_ref().map(|wav| {
            let wave = audio::read(&fixtures().join("wav").join(wav), 16_000).unwrap();
            diffa.hear(&wave.samples).unwrap()
        });
        diffa.session(&self.prompt, clip.as_ref(), options).unwrap()
    }
}

#[test]
fn logits_of_decodes_match() {
    let expected = arrays("logits.safetensors");
    let diffa = Diffa::load(&gpu(), &model(), &|_| Ok(())).unwrap();
    let vocab = diffa.llada().config().vocab_size;
    let runs: Vec<Run> = expected
        .keys()
        .filter_map(|key| key.strip_suffix(".first"))
        .map(|name| Run::read(&diffa, name))
        .collect();
    assert!(runs.len() >= 5);
    let mut plain = Worst::new("logits of decodes", LOGIT_TOLERANCE);
    let mut guided = Worst::new("logits of decodes with guidance", GUIDED_LOGIT_TOLERANCE);
    let mut seen = 0;
    for run in &runs {
        let worst = if run.options.cfg_scale > 0.0 { &mut guided } else { &mut plain };
        let name = &run.name;

        // The first forward sees masks only, so it is the same with all answer rows in one block.
        let length = run.options.gen_length;
        let whole = DecodeOptions { block_length: length, steps: length, ..run.options.clone() };
        let mut session = run.session(&diffa, &whole);
        session.step().unwrap();
        let got = session.logits().unwrap().concat();
        worst.check(&format!("{name}.first"), &got, &expected[&format!("{name}.first")].data, vocab);
        seen += 1;

        let mut session = run.session(&diffa, &run.options);
        let mut masked = Vec::new();
        while let Some(report) = session.step().unwrap() {
            let first = report.block * run.options.block_length;
            match report.step {
                0 => {
                    let taken: Vec<usize> = report.commits.iter().map(|c| c.position).collect();
                    masked = (first..first + run.options.block_length)
                        .filter(|row| !taken.contains(row))
                        .collect();
                }
                1 => {
                    let key = format!("{name}.block{}.step1", report.block);
                    let Some(want) = expected.get(&key) else { continue };
                    // Rows masked before the step come first; the others' logits are never computed.
                    for (row, got) in masked.iter().zip(session.logits().unwrap()) {
                        let at = row - first;
                        worst.check(&format!("{key} row {at}"), &got, want.rows(at..at + 1), vocab);
                    }
                    seen += 1;
                }
                _ => {}
            }
        }
    }
    let stored = expected.keys().filter(|key| !key.starts_with("text_row")).count();
    assert_eq!(seen, stored, "stored arrays that were compared");
}
