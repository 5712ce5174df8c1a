//! The facade: load a model, hear a clip, ask about it.

use std::time::{Duration, Instant};

use crate::checkpoint::Checkpoint;
use crate::decode::{DecodeOptions, Prompt, Session, StepReport};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Wanted};
use crate::model::config::{LladaConfig, WhisperConfig};
use crate::model::weights::LoadProgress;
use crate::model::{Clip, Hearing, Llada, ModelPaths, Part, Quantization};
use crate::text::{self, Tokenizer};

/// Tokens of a question with the words round it, for planning before there is one.
const TYPICAL_PROMPT: usize = 64;

/// A loaded model on a device.
pub struct Diffa {
    gpu: Gpu,
    tokenizer: Tokenizer,
    llada: Llada,
    hearing: Option<Hearing>,
}

/// An answer and what it took.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Decoded text, special tokens left out, whitespace at both ends removed.
    pub text: String,
    /// All answer ids.
    pub ids: Vec<u32>,
    /// Every denoising step.
    pub steps: Vec<StepReport>,
    /// Forwards (number of function evaluations).
    pub nfe: usize,
    /// Rows fed to the transformer, over all forwards.
    pub rows_computed: usize,
    /// Floating-point operations of the denoising, counting every dispatch at its full grid.
    pub flops: u64,
    /// Prompt tokens.
    pub prompt_tokens: usize,
    /// Audio rows in the prompt.
    pub audio_rows: usize,
    /// Time to plan the request: buffers, bind groups, first use of a kernel.
    pub planning: Duration,
    /// Time of the denoising steps.
    pub denoising: Duration,
    /// From the request to the first committed token.
    pub first_token: Duration,
}

impl Diffa {
    /// Loads all three checkpoints. `progress` is called with the bytes of each tensor loaded.
    pub fn load(gpu: &Gpu, paths: &ModelPaths, progress: LoadProgress<'_>) -> Result<Diffa> {
        Diffa::load_for(gpu, paths, true, &DecodeOptions::default(), progress)
    }

    /// Loads the language model and its tokenizer alone.
    pub fn load_text_only(gpu: &Gpu, paths: &ModelPaths, progress: LoadProgress<'_>) -> Result<Diffa> {
        Diffa::load_for(gpu, paths, false, &DecodeOptions::default(), progress)
    }

    /// Loads the language model, and encoder and adapters if it shall hear. While weights are read, other threads
    /// compile the kernels that requests with `options` will need; others are compiled when first asked for.
    pub fn load_for(
        gpu: &Gpu,
        paths: &ModelPaths,
        with_hearing: bool,
        options: &DecodeOptions,
        progress: LoadProgress<'_>,
    ) -> Result<Diffa> {
        let files = Files::open(paths, with_hearing)?;
        // What is wrong with the files, loading says better.
        let wanted = files.kernels(gpu, options).unwrap_or_default();
        gpu.compile_while(&wanted, || {
            let tokenizer = paths.tokenizer()?;
            let (llada, hearing) = files.load(gpu, progress)?;
            gpu.wait()?;
            Ok(Diffa { gpu: gpu.clone(), tokenizer, llada, hearing })
        })
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The language model.
    pub fn llada(&self) -> &Llada {
        &self.llada
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The model's end tokens: `<|endoftext|>`, then `<|eot_id|>` if the tokenizer has it.
    pub fn stop_ids(&self) -> Vec<u32> {
        end_ids(self.llada.config(), &self.tokenizer)
    }

    /// Encoder and adapters. Errors if only the language model was loaded.
    pub fn hearing(&self) -> Result<&Hearing> {
        self.hearing.as_ref().ok_or_else(|| {
            Error::usage(
                "--whisper, --adapters",
                "are needed to hear audio; only the language model was loaded",
            )
        })
    }

    /// Hears the first window of mono samples at the encoder's rate (16 kHz).
    pub fn hear(&self, samples: &[f32]) -> Result<Clip> {
        self.hearing()?.hear(samples)
    }

    /// The prompt for a question about audio.
    pub fn audio_prompt(&self, question: &str, system: &str) -> Result<text::Prompt> {
        text::audio_prompt(&self.tokenizer, question, system, self.llada.config().max_sequence_length)
    }

    /// The prompt for a plain chat turn.
    pub fn text_prompt(&self, prompt: &str, system: Option<&str>) -> Result<text::Prompt> {
        text::text_prompt(&self.tokenizer, prompt, system, self.llada.config().max_sequence_length)
    }

    /// Plans a decode without running it.
    ///
    /// Errors: more rows than the model was made for; those of [`Session::new`].
    pub fn session(
        &self,
        prompt: &text::Prompt,
        clip: Option<&Clip>,
        options: &DecodeOptions,
    ) -> Result<Session<'_>> {
        if clip.is_some_and(|clip| !clip.gpu.is_same(&self.gpu)) {
            return Err(Error::usage(
                "AUDIO",
                "was heard on another device; hear it with the model that is asked",
            ));
        }
        let (prompt_rows, most) =
            (prompt.ids.len() + clip.map_or(0, Clip::rows), self.llada.config().max_sequence_length);
        if prompt_rows + options.gen_length > most {
            let reason = format!(
                "of {} makes {} rows with a prompt and clip of {prompt_rows}, but the model reads at most {most}; \
                 {} are left for the answer",
                options.gen_length,
                prompt_rows + options.gen_length,
                most.saturating_sub(prompt_rows)
            );
            return Err(Error::usage("--gen-length", reason));
        }
        let audio = match (clip, prompt.audio_position) {
            (Some(clip), Some(position)) => Some((&clip.audio_embeds, position)),
            _ => None,
        };
        Session::new(&self.gpu, &self.llada, &[Prompt { ids: &prompt.ids, audio }], options)
    }

    /// Answers a question about a clip. `on_step` sees every denoising step as it happens.
    pub fn ask(
        &self,
        clip: &Clip,
        question: &str,
        system: &str,
        options: &DecodeOptions,
        on_step: impl FnMut(&Session<'_>, &StepReport) -> Result<()>,
    ) -> Result<Answer> {
        let prompt = self.audio_prompt(question, system)?;
        self.answer(&prompt, Some(clip), options, on_step)
    }

    /// Answers a plain chat turn.
    pub fn generate(
        &self,
        prompt: &str,
        system: Option<&str>,
        options: &DecodeOptions,
        on_step: impl FnMut(&Session<'_>, &StepReport) -> Result<()>,
    ) -> Result<Answer> {
        let prompt = self.text_prompt(prompt, system)?;
        self.answer(&prompt, None, options, on_step)
    }

    fn answer(
        &self,
        prompt: &text::Prompt,
        clip: Option<&Clip>,
        options: &DecodeOptions,
        mut on_step: impl FnMut(&Session<'_>, &StepReport) -> Result<()>,
    ) -> Result<Answer> {
        let start = Instant::now();
        let mut session = self.session(prompt, clip, options)?;
        let planning = session.planning();
        let mut steps = Vec::new();
        let mut first_token = None;
        session.run(|session, report| {
            if !report.commits.is_empty() {
                first_token.get_or_insert_with(|| start.elapsed());
            }
            steps.push(report.clone());
            on_step(session, report)
        })?;
        let total = start.elapsed();
        Ok(Answer {
            text: self.tokenizer.answer_text(session.ids()),
            ids: session.ids().to_vec(),
            steps,
            nfe: session.forwards_of(0),
            rows_computed: session.rows_computed(),
            flops: session.flops(),
            prompt_tokens: prompt.ids.len(),
            audio_rows: clip.map_or(0, Clip::rows),
            planning,
            denoising: total - planning,
            first_token: first_token.unwrap_or(total),
        })
    }
}

/// End tokens of a model: `<|endoftext|>` as configured, then `<|eot_id|>` if the tokenizer has it.
pub fn end_ids(config: &LladaConfig, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut ids = vec![config.eos_token_id];
    ids.extend(tokenizer.token_id("<|eot_id|>").filter(|id| *id != config.eos_token_id));
    ids
}

/// Opened checkpoints and their configurations; no tensor is read yet.
struct Files {
    llm: (Checkpoint, LladaConfig),
    hearing: Option<(Checkpoint, WhisperConfig, Checkpoint)>,
    quantize: Option<Quantization>,
}

impl Files {
    fn open(paths: &ModelPaths, with_hearing: bool) -> Result<Files> {
        let config = paths.llada_config()?;
        let llm = (paths.checkpoint(Part::Llm)?, config);
        let hearing = match with_hearing {
            true => {
                let config = paths.whisper_config()?;
                Some((paths.checkpoint(Part::Whisper)?, config, paths.checkpoint(Part::Adapters)?))
            }
            false => None,
        };
        Ok(Files { llm, hearing, quantize: paths.quantize })
    }

    fn load(&self, gpu: &Gpu, progress: LoadProgress<'_>) -> Result<(Llada, Option<Hearing>)> {
        let (llm, config) = &self.llm;
        let hearing = match &self.hearing {
            Some((whisper, whisper_config, adapters)) => {
                Some(Hearing::load(gpu, (whisper, whisper_config), adapters, config, false, progress)?)
            }
            None => None,
        };
        Ok((Llada::load(gpu, llm, config, self.quantize, progress)?, hearing))
    }

    /// The kernels that loading, hearing and a request with `options` need, in the order in which they do.
    fn kernels(&self, gpu: &Gpu, options: &DecodeOptions) -> Result<Vec<Wanted>> {
        let sketch = gpu.sketch();
        let (llada, hearing) = self.load(&sketch, &|_| Ok(()))?;
        let clip = match &hearing {
            Some(hearing) => Some(hearing.hear(&vec![0.0; hearing.window_samples()])?),
            None => None,
        };
        // Any ids: what a prompt says decides no kernel. Its length may: by tuned choices, and on GPUs for attention.
        let room = llada.config().max_sequence_length.saturating_sub(options.gen_length);
        let ids = vec![0; TYPICAL_PROMPT.min(room)];
        let audio = clip.as_ref().map(|clip| (&clip.audio_embeds, ids.len() / 2));
        Session::new(&sketch, &llada, &[Prompt { ids: &ids, audio }], options)?;
        Ok(sketch.sketched_pipelines())
    }
}
