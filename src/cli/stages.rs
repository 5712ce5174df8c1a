//! `diffa stages`: the intermediate results for a clip, as named arrays in a safetensors file.

use std::collections::HashMap;

use diffa::audio::Waveform;
use diffa::decode::Prompt;
use diffa::engine::end_ids;
use diffa::model::config::WhisperConfig;
use diffa::model::encoder::Encoder;
use diffa::model::weights::LoadProgress;
use diffa::model::{Hearing, Llada, Part, hearing};
use diffa::text::{DEFAULT_SYSTEM, audio_prompt};
use diffa::{Clip, DecodeOptions, Error, Gpu, ModelPaths, Result, Session};
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::args::{Global, StagesArgs};
use super::terminal::Terminal;
use super::{interrupt, load, settings};

/// Which stages to write.
#[derive(Debug, Default, Clone, Copy)]
struct Wanted {
    mel: bool,
    encoder: bool,
    connectors: bool,
    logits: bool,
}

impl Wanted {
    /// Reads `--stages`; without it everything that the folders and the question allow.
    fn new(args: &StagesArgs, paths: &ModelPaths) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        for stage in &args.stages {
            match stage.trim() {
                "mel" => wanted.mel = true,
                "encoder" => wanted.encoder = true,
                "connectors" => wanted.connectors = true,
                "logits" => wanted.logits = true,
                other => {
                    let reason = format!("`{other}` is not one of mel, encoder, connectors, logits");
                    return Err(Error::usage("--stages", reason));
                }
            }
        }
        if args.stages.is_empty() {
            let given = [&paths.llm, &paths.adapters].iter().all(|folder| folder.is_some());
            let connectors = paths.is_demo() || paths.model.is_some() || given;
            wanted = Wanted {
                mel: true,
                encoder: true,
                connectors,
                logits: connectors && args.question.is_some(),
            };
        }
        if wanted.logits && args.question.as_deref().is_none_or(|question| question.trim().is_empty()) {
            return Err(Error::usage(
                "--question",
                "is needed for the logits, for example \"What is said?\"",
            ));
        }
        Ok(wanted)
    }

    fn parts(self) -> &'static [Part] {
        match (self.connectors || self.logits, self.logits) {
            (_, true) => &[Part::Whisper, Part::Adapters, Part::Llm],
            (true, false) => &[Part::Whisper, Part::Adapters],
            (false, false) => &[Part::Whisper],
        }
    }
}

/// The encoder, alone or with the adapters behind it.
enum Ears {
    Encoder(Box<Encoder>),
    Hearing(Box<Hearing>),
}

impl Ears {
    fn encoder(&self) -> &Encoder {
        match self {
            Ears::Encoder(encoder) => encoder,
            Ears::Hearing(hearing) => hearing.encoder(),
        }
    }
}

/// Arrays by name.
#[derive(Default)]
struct Arrays(Vec<(String, Vec<usize>, Vec<u8>)>);

impl Arrays {
    fn push(&mut self, name: impl Into<String>, shape: [usize; 2], values: impl IntoIterator<Item = f32>) {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.0.push((name.into(), shape.to_vec(), bytes));
    }

    fn write(&self, path: &std::path::Path, metadata: HashMap<String, String>) -> Result<()> {
        let broken = |e: safetensors::SafeTensorError| Error::Weights {
            path: path.into(),
            reason: format!("the arrays cannot be stored: {e}"),
        };
        let views: Vec<(&str, TensorView<'_>)> = self
            .0
            .iter()
            .map(|(name, shape, bytes)| {
                Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
            })
            .collect::<Result<_, _>>()
            .map_err(broken)?;
        let file = serialize(views, Some(metadata)).map_err(broken)?;
        std::fs::write(path, file).map_err(Error::io("write", path))
    }
}

/// Runs the command.
pub(super) fn run(term: &Terminal, global: &Global, args: &StagesArgs) -> Result<()> {
    let paths = args.model.paths();
    let wanted = Wanted::new(args, &paths)?;
    let options = settings::decode_options(&args.decode, paths.is_demo())?;
    load::check_target("--out", &args.out, Some(&args.audio))?;
    let config = paths.whisper_config()?;
    let (wave, _) = load::audio(&args.audio, &config)?;
    let samples = &wave.samples;
    if wanted.connectors || wanted.logits {
        hearing::check_length(&config, samples.len()).map_err(|e| load::about_clip(e, &args.audio))?;
    }
    load::warn_if_long(term, &args.audio, samples.len(), &config, "");

    let gpu = load::open(term, global)?;
    let bar = term.bytes("loading", paths.load_bytes(wanted.parts())?);
    let progress = load::advance(&bar);
    let ears = load_ears(&gpu, &paths, &config, wanted, &progress)?;
    let llada = match wanted.logits {
        true => Some(Llada::load(
            &gpu,
            &paths.checkpoint(Part::Llm)?,
            &paths.llada_config()?,
            paths.quantize,
            &progress,
        )?),
        false => None,
    };
    bar.finish_and_clear();

    let spinner = term.spinner("hearing");
    let clip = match &ears {
        Ears::Encoder(encoder) => {
            encoder.run(&gpu, samples)?;
            None
        }
        Ears::Hearing(hearing) => Some(hearing.hear(samples)?),
    };
    let mut arrays = Arrays::default();
    push_encoder(&gpu, ears.encoder(), wanted, &mut arrays)?;
    if let (Ears::Hearing(hearing), Some(clip), true) = (&ears, &clip, wanted.connectors) {
        let [rows, width] = clip.audio_embeds.dims("stages")?;
        let values: Vec<f32> = gpu.read(&clip.audio_embeds)?;
        let acoustic = hearing.acoustic_rows();
        let (first, rest) = values.split_at(acoustic * width);
        arrays.push("connectors.acoustic", [acoustic, width], first.iter().copied());
        arrays.push("connectors.semantic", [rows - acoustic, width], rest.iter().copied());
    }
    spinner.finish_and_clear();
    if let (Some(llada), Some(clip)) = (&llada, &clip) {
        interrupt::check()?;
        push_logits(&gpu, llada, clip, &paths, args, options, &mut arrays)?;
    }
    interrupt::check()?;
    arrays.write(&args.out, metadata(args, &gpu, &wave, ears.encoder()))?;
    term.note(&format!("wrote {} arrays to {}", arrays.0.len(), args.out.display()));
    Ok(())
}

fn load_ears(
    gpu: &Gpu,
    paths: &ModelPaths,
    config: &WhisperConfig,
    wanted: Wanted,
    progress: LoadProgress<'_>,
) -> Result<Ears> {
    let whisper = paths.checkpoint(Part::Whisper)?;
    if wanted.connectors || wanted.logits {
        let adapters = paths.checkpoint(Part::Adapters)?;
        let llada = paths.llada_config()?;
        let hearing = Hearing::load(gpu, (&whisper, config), &adapters, &llada, true, progress)?;
        return Ok(Ears::Hearing(Box::new(hearing)));
    }
    let taps: Vec<usize> = (0..config.n_layers).collect();
    Ok(Ears::Encoder(Box::new(Encoder::load(gpu, &whisper, config, &taps, progress)?)))
}

fn push_encoder(gpu: &Gpu, encoder: &Encoder, wanted: Wanted, arrays: &mut Arrays) -> Result<()> {
    if wanted.mel {
        let [frames, mels] = encoder.mel.dims("stages")?;
        let values: Vec<f32> = gpu.read(&encoder.mel)?;
        // Time-major on the device, channels first everywhere else.
        arrays.push(
            "mel",
            [mels, frames],
            (0..mels).flat_map(|m| (0..frames).map(move |t| (t, m))).map(|(t, m)| values[t * mels + m]),
        );
    }
    if wanted.encoder {
        for (index, state) in &encoder.hidden_states {
            let values: Vec<f32> = gpu.read(state)?;
            arrays.push(format!("encoder.hidden.{index}"), state.dims("stages")?, values);
        }
    }
    Ok(())
}

/// Logits of the first block at the first forward, when all its rows are masked and their slots in order.
fn push_logits(
    gpu: &Gpu,
    llada: &Llada,
    clip: &Clip,
    paths: &ModelPaths,
    args: &StagesArgs,
    mut options: DecodeOptions,
    arrays: &mut Arrays,
) -> Result<()> {
    let tokenizer = paths.tokenizer()?;
    settings::add_end_tokens(&args.decode, end_ids(llada.config(), &tokenizer), &mut options);
    let question = args.question.as_deref().unwrap_or_default();
    let system = args.decode.system.as_deref().unwrap_or(DEFAULT_SYSTEM);
    let prompt = audio_prompt(&tokenizer, question, system, llada.config().max_sequence_length)?;
    let audio = prompt.audio_position.map(|position| (&clip.audio_embeds, position));
    let mut session = Session::new(gpu, llada, &[Prompt { ids: &prompt.ids, audio }], &options)?;
    session.step()?;
    let rows = session.logits()?;
    let shape = [rows.len(), llada.config().vocab_size];
    arrays.push("logits", shape, rows.into_iter().flatten());
    Ok(())
}

fn metadata(args: &StagesArgs, gpu: &Gpu, wave: &Waveform, encoder: &Encoder) -> HashMap<String, String> {
    let valid = encoder.valid_lengths(wave.samples.len());
    let mut metadata = HashMap::from([
        ("format", "diffa stages".to_string()),
        ("audio", args.audio.to_string_lossy().into()),
        ("sample_rate", wave.sample_rate.to_string()),
        ("samples", wave.samples.len().to_string()),
        ("samples_heard", valid.samples.to_string()),
        ("valid_frames", valid.frames.to_string()),
        ("valid_rows", valid.rows.to_string()),
        ("adapter", gpu.caps().describe()),
    ]);
    if let Some(question) = &args.question {
        metadata.insert("question", question.clone());
    }
    metadata.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}
