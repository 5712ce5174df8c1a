//! From samples to the rows the language model reads: encoder and adapters as one unit.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Tensor};
use crate::model::adapters::Adapters;
use crate::model::config::{AdapterConfig, LladaConfig, SEMANTIC_RATE, WhisperConfig};
use crate::model::encoder::{Encoder, ValidLengths};
use crate::model::weights::LoadProgress;

/// Whisper encoder and both adapters, loaded.
#[derive(Debug)]
pub struct Hearing {
    gpu: Gpu,
    encoder: Encoder,
    adapters: Adapters,
}

/// What was heard of one clip; stays on the device and serves any number of questions.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Audio rows `[audio_rows, d_model]` f32: acoustic, then semantic.
    pub audio_embeds: Tensor,
    /// Lengths of the part that was heard.
    pub valid: ValidLengths,
    /// Samples given.
    pub n_samples: usize,
    /// Sample rate of both.
    pub sample_rate: usize,
    /// The device that holds the rows.
    pub(crate) gpu: Gpu,
}

impl Clip {
    /// Rows the clip takes in the language model's sequence.
    pub fn rows(&self) -> usize {
        self.audio_embeds.shape[0]
    }

    /// Seconds of audio beyond the window, which were not heard.
    pub fn unheard_seconds(&self) -> f64 {
        (self.n_samples - self.valid.samples) as f64 / self.sample_rate as f64
    }
}

/// The fewest samples from which anything can be heard: those that give one semantic row.
pub fn min_samples(config: &WhisperConfig) -> usize {
    (2 * SEMANTIC_RATE - 2) * config.hop_length + 1
}

/// Checks that a clip of `n` samples is long enough to be heard.
pub fn check_length(config: &WhisperConfig, n: usize) -> Result<()> {
    let needed = min_samples(config);
    if n >= needed {
        return Ok(());
    }
    let rate = config.sampling_rate;
    Err(Error::usage(
        "AUDIO",
        format!(
            "the clip has {n} samples at {rate} Hz; the model needs at least {needed} ({:.2} s) to hear anything",
            needed as f64 / rate as f64
        ),
    ))
}

impl Hearing {
    /// Loads encoder and adapters; their configurations must fit each other and the language model.
    /// With `keep_all`, every hidden state is kept for inspection.
    pub fn load(
        gpu: &Gpu,
        whisper: (&Checkpoint, &WhisperConfig),
        adapters: &Checkpoint,
        llada: &LladaConfig,
        keep_all: bool,
        progress: LoadProgress<'_>,
    ) -> Result<Hearing> {
        let config = AdapterConfig::from_checkpoint(adapters, whisper.1, llada)?;
        let taps = if keep_all {
            (0..whisper.1.n_layers).collect()
        } else {
            config.target_layers(whisper.1.n_layers)
        };
        let encoder = Encoder::load(gpu, whisper.0, whisper.1, &taps, progress)?;
        let adapters = Adapters::load(gpu, adapters, &config, &encoder, progress)?;
        Ok(Hearing { gpu: gpu.clone(), encoder, adapters })
    }

    /// Hears the first window of `samples` (mono, at the encoder's rate).
    ///
    /// Errors: a clip too short to give one semantic row ([`Error::Usage`]), device errors.
    pub fn hear(&self, samples: &[f32]) -> Result<Clip> {
        let valid = self.encoder.valid_lengths(samples.len());
        let config = self.encoder.config();
        check_length(config, samples.len())?;
        self.encoder.run(&self.gpu, samples)?;
        let audio_embeds = self.adapters.run(&self.gpu, &self.encoder, valid.rows)?;
        Ok(Clip {
            audio_embeds,
            valid,
            n_samples: samples.len(),
            sample_rate: config.sampling_rate,
            gpu: self.gpu.clone(),
        })
    }

    /// The encoder, for inspecting what the last [`Hearing::hear`] left in it.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Rows that come from the acoustic adapter; the rest of a clip's rows are semantic.
    pub fn acoustic_rows(&self) -> usize {
        self.adapters.acoustic_rows()
    }

    /// Samples per window.
    pub fn window_samples(&self) -> usize {
        self.encoder.config().n_samples
    }

    /// Sample rate it expects.
    pub fn sample_rate(&self) -> usize {
        self.encoder.config().sampling_rate
    }
}
