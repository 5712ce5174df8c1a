//! The facade: load a model, hear a clip, ask about it.

use std::time::{Duration, Instant};

use crate::decode::{DecodeOptions, Prompt, Session, StepReport};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::config::LladaConfig;
use crate::model::weights::LoadProgress;
use crate::model::{Clip, Hearing, Llada, ModelPaths, Part};
use crate::text::{self, Tokenizer};

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
        let mut diffa = Diffa::load_text_only(gpu, paths, progress)?;
        diffa.hearing = Some(load_hearing(gpu, paths, diffa.llada.config(), progress)?);
        Ok(diffa)
    }

    /// Loads the language model and its tokenizer alone.
    pub fn load_text_only(gpu: &Gpu, paths: &ModelPaths, progress: LoadProgress<'_>) -> Result<Diffa> {
        let config = paths.llada_config()?;
        let tokenizer = paths.tokenizer()?;
        let llada = Llada::load(gpu, &paths.checkpoint(Part::Llm)?, &config, paths.quantize, progress)?;
        Ok(Diffa { gpu: gpu.clone(), tokenizer, llada, hearing: None })
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
        let planning = start.elapsed();
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

fn load_hearing(
    gpu: &Gpu,
    paths: &ModelPaths,
    llada: &LladaConfig,
    progress: LoadProgress<'_>,
) -> Result<Hearing> {
    let config = paths.whisper_config()?;
    let whisper = paths.checkpoint(Part::Whisper)?;
    let adapters = paths.checkpoint(Part::Adapters)?;
    Hearing::load(gpu, (&whisper, &config), &adapters, llada, false, progress)
}
