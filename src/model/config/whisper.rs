//! The Whisper encoder and its log-mel front end: `config.json` and `preprocessor_config.json`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json::{Json, read_config};
use super::tensors::{Surplus, Tensors, check_all, find_prefix};
use super::{MAX_SIZE, SAMPLING_RATE, TensorList};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// Whisper encoder and its log-mel front end.
#[derive(Clone, Debug, PartialEq)]
pub struct WhisperConfig {
    /// `config.json` the sizes come from, for messages.
    pub path: PathBuf,
    /// Width `d`.
    pub d_model: usize,
    /// Encoder layers.
    pub n_layers: usize,
    /// Attention heads; divides `d_model`.
    pub n_heads: usize,
    /// Width of the feed-forward layer.
    pub ffn_dim: usize,
    /// Mel bands.
    pub n_mels: usize,
    /// Encoder rows of a whole window; half of `n_frames`.
    pub max_source_positions: usize,
    /// STFT window, samples.
    pub n_fft: usize,
    /// STFT step, samples.
    pub hop_length: usize,
    /// Hz; always 16000.
    pub sampling_rate: usize,
    /// Window of audio that the encoder takes, seconds.
    pub chunk_length: f64,
    /// The same in samples.
    pub n_samples: usize,
    /// The same in mel frames: `n_samples / hop_length`.
    pub n_frames: usize,
}

impl WhisperConfig {
    /// Reads `config.json` and `preprocessor_config.json` of a Whisper folder.
    ///
    /// Without `preprocessor_config.json`: `n_fft` 400, `hop_length` 160, 16 kHz, and the window that
    /// `max_source_positions` implies (`2 * max_source_positions * 160` samples).
    ///
    /// # Errors
    /// [`Error::Io`] if `config.json` cannot be read, [`Error::Config`] for a value that is missing,
    /// unsupported, or contradicts another.
    pub fn read(dir: &Path) -> Result<Self> {
        let preprocessor = dir.join("preprocessor_config.json");
        let preprocessor = match preprocessor.exists() {
            true => Some(std::fs::read(&preprocessor).map_err(Error::io("read", &preprocessor))?),
            false => None,
        };
        Self::from_json_bytes(&read_config(dir)?, preprocessor.as_deref(), dir)
    }

    /// The same from the files' contents; `dir` stands for their folder in messages.
    ///
    /// # Errors
    /// [`Error::Config`] as for [`WhisperConfig::read`].
    pub fn from_json_bytes(config: &[u8], preprocessor: Option<&[u8]>, dir: &Path) -> Result<Self> {
        let json = Json::parse(config, dir.join("config.json"))?;
        json.only("activation_function", &Value::from("gelu"))?;
        json.only("scale_embedding", &Value::from(false))?;
        let d_model = json.size("d_model")?;
        let n_heads = json.size("encoder_attention_heads")?;
        json.divides("encoder_attention_heads", n_heads, "d_model", d_model)?;
        let n_mels = json.size("num_mel_bins")?;
        let max_source_positions = json.size("max_source_positions")?;

        let (mut n_fft, mut hop_length, mut n_samples) = (400, 160, 2 * max_source_positions * 160);
        if let Some(bytes) = preprocessor {
            let json = Json::parse(bytes, dir.join("preprocessor_config.json"))?;
            json.only("sampling_rate", &Value::from(SAMPLING_RATE))?;
            n_fft = json.size_or("n_fft", n_fft)?;
            hop_length = json.size_or("hop_length", hop_length)?;
            if n_fft % 2 != 0 || hop_length > n_fft {
                let reason = format!("must be even and at least hop_length {hop_length}, is {n_fft}");
                return Err(json.error("n_fft", reason));
            }
            if let Some(feature_size) = json.size_opt("feature_size")?
                && feature_size != n_mels
            {
                let reason = format!("is {feature_size}, but num_mel_bins in config.json is {n_mels}");
                return Err(json.error("feature_size", reason));
            }
            n_samples = 2 * max_source_positions * hop_length;
            if let Some(seconds) = json.number_opt("chunk_length")? {
                let samples = seconds * SAMPLING_RATE as f64;
                // The range check comes first: the cast saturates.
                if !(samples >= 1.0 && samples <= MAX_SIZE as f64 * 64.0) || samples.fract() != 0.0 {
                    return Err(json.error("chunk_length", format!("{seconds} s is no usable window")));
                }
                let n_frames = samples as usize / hop_length;
                if n_frames != 2 * max_source_positions {
                    let reason = format!(
                        "{seconds} s are {n_frames} frames, expected {} (twice the max_source_positions \
                         {max_source_positions} of config.json)",
                        2 * max_source_positions
                    );
                    return Err(json.error("chunk_length", reason));
                }
                n_samples = samples as usize;
            }
        }
        Ok(Self {
            d_model,
            n_layers: json.size("encoder_layers")?,
            n_heads,
            ffn_dim: json.size("encoder_ffn_dim")?,
            n_mels,
            max_source_positions,
            n_fft,
            hop_length,
            sampling_rate: SAMPLING_RATE,
            chunk_length: n_samples as f64 / SAMPLING_RATE as f64,
            n_samples,
            n_frames: n_samples / hop_length,
            path: json.path,
        })
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// What stands before the names of [`WhisperConfig::tensors`]: `model.encoder.` or `encoder.`.
    ///
    /// # Errors
    /// [`Error::Weights`] if the checkpoint has no Whisper encoder.
    pub fn prefix(checkpoint: &Checkpoint) -> Result<&'static str> {
        find_prefix(checkpoint, &["model.encoder.", "encoder."], "conv1.weight", "Whisper encoder")
    }

    /// The encoder's tensors, names without [`WhisperConfig::prefix`]; linear weights are `[out, in]`.
    pub fn tensors(&self) -> TensorList {
        let (d, ffn) = (self.d_model, self.ffn_dim);
        let mut all = Tensors::default();
        all.with_bias("conv1", &[d, self.n_mels, 3]);
        all.with_bias("conv2", &[d, d, 3]);
        all.weight("embed_positions", &[self.max_source_positions, d]);
        for i in 0..self.n_layers {
            all.at(&format!("layers.{i}."));
            all.norm("self_attn_layer_norm", d);
            all.with_bias("self_attn.q_proj", &[d, d]);
            all.weight("self_attn.k_proj", &[d, d]);
            all.with_bias("self_attn.v_proj", &[d, d]);
            all.with_bias("self_attn.out_proj", &[d, d]);
            all.norm("final_layer_norm", d);
            all.with_bias("fc1", &[ffn, d]);
            all.with_bias("fc2", &[d, ffn]);
        }
        all.at("");
        all.norm("layer_norm", d);
        all.list
    }

    /// Checks that the checkpoint has every tensor of [`WhisperConfig::tensors`] in the right shape;
    /// returns the prefix of their names.
    ///
    /// # Errors
    /// [`Error::Weights`] for the first that is missing or wrong.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<&'static str> {
        check_all(checkpoint, Self::prefix(checkpoint)?, &self.tensors(), Surplus::Refused)
    }
}
