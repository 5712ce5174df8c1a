//! Sizes of the three models, from their `config.json` files and, for the adapter, its tensor shapes.
//!
//! Input: the folders of a model, or their files' bytes. Output: plain structs, and for each model the
//! list of its tensors with their shapes. Invariant: a value that exists has been cross-checked, so that
//! code using it may divide by the sizes and multiply any three of them in 64 bits.
//!
//! The keys and their meaning follow Hugging Face's `WhisperConfig`, `WhisperFeatureExtractor` and LLaDA's
//! `configuration_llada.py`; options of the latter that LLaDA does not use are refused, not ignored.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// Names and shapes of a model's tensors.
pub type TensorList = Vec<(String, Vec<usize>)>;

/// Largest size accepted for any dimension, so that products cannot overflow.
const MAX_SIZE: usize = 1 << 20;

/// Most layers or layer prompts that an adapter is believed to have.
const MAX_LIST: usize = 1000;

/// Sampling rate that the filterbank and the resampler are made for, Hz.
const SAMPLING_RATE: usize = 16000;

/// Encoder rows per semantic row.
const SEMANTIC_RATE: usize = 4;

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

/// LLaDA, the mask predictor.
#[derive(Clone, Debug, PartialEq)]
pub struct LladaConfig {
    /// `config.json` the sizes come from, for messages.
    pub path: PathBuf,
    /// Width `D`.
    pub d_model: usize,
    /// Transformer blocks.
    pub n_layers: usize,
    /// Query heads; divides `d_model`.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head, even: `d_model / n_heads`.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub mlp_hidden_size: usize,
    /// Rows `V` of `wte` and of the output head (`embedding_size` if the file has one).
    pub vocab_size: usize,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Id of `<|mdm_mask|>`; below `vocab_size`, as the next two.
    pub mask_token_id: u32,
    /// Id of `<|endoftext|>`.
    pub eos_token_id: u32,
    /// Id that fills up training batches; `eos_token_id` if the file names none.
    pub pad_token_id: u32,
    /// True: logits use `wte` and there is no `ff_out`.
    pub weight_tying: bool,
    /// Longest sequence the model was trained for.
    pub max_sequence_length: usize,
}

impl LladaConfig {
    /// Reads `config.json` of a LLaDA folder.
    ///
    /// Null or absent: `n_kv_heads` is `n_heads` (1 with `multi_query_attention`), `mlp_hidden_size` is
    /// `mlp_ratio * d_model`, `embedding_size` is `vocab_size`, `pad_token_id` is `eos_token_id`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Config`] for a value that is missing, unsupported,
    /// or contradicts another.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::from_json_bytes(&read_config(dir)?, dir)
    }

    /// The same from the file's content; `dir` stands for its folder in messages.
    ///
    /// # Errors
    /// [`Error::Config`] as for [`LladaConfig::read`].
    pub fn from_json_bytes(config: &[u8], dir: &Path) -> Result<Self> {
        let json = Json::parse(config, dir.join("config.json"))?;
        for (key, value) in [("block_type", "llama"), ("activation_type", "silu"), ("layer_norm_type", "rms")]
        {
            json.only(key, &Value::from(value))?;
        }
        for key in [
            "include_bias",
            "include_qkv_bias",
            "bias_for_layer_norm",
            "attention_layer_norm",
            "alibi",
            "scale_logits",
            "input_emb_norm",
        ] {
            json.only(key, &Value::from(false))?;
        }
        json.only("rope", &Value::from(true))?;
        json.only("layer_norm_with_affine", &Value::from(true))?;

        let d_model = json.size("d_model")?;
        let n_heads = json.size("n_heads")?;
        json.divides("n_heads", n_heads, "d_model", d_model)?;
        let head_dim = d_model / n_heads;
        if head_dim % 2 != 0 {
            return Err(json.error("n_heads", format!("gives heads of {head_dim}, expected an even size")));
        }
        let multi_query = json.flag("multi_query_attention")?;
        let n_kv_heads = json.size_or("n_kv_heads", if multi_query { 1 } else { n_heads })?;
        json.divides("n_kv_heads", n_kv_heads, "n_heads", n_heads)?;
        let mlp_hidden_size = match json.size_opt("mlp_hidden_size")? {
            Some(size) => size,
            None => json.size_or("mlp_ratio", 4)? * d_model,
        };
        if mlp_hidden_size > MAX_SIZE {
            let reason =
                format!("gives a feed-forward layer of {mlp_hidden_size}, expected at most {MAX_SIZE}");
            return Err(json.error("mlp_ratio", reason));
        }
        let tokens = json.size("vocab_size")?;
        let vocab_size = json.size_or("embedding_size", tokens)?;
        if vocab_size < tokens {
            return Err(
                json.error("embedding_size", format!("is {vocab_size}, less than vocab_size {tokens}"))
            );
        }
        let id = |key: &str, value: Option<usize>| match value {
            Some(id) if id < vocab_size => Ok(id as u32),
            Some(id) => Err(json.error(key, format!("is {id}, but the vocabulary has {vocab_size} entries"))),
            None => Err(json.error(key, "is missing")),
        };
        let mask_token_id = id("mask_token_id", json.natural_opt("mask_token_id")?)?;
        let eos_token_id = id("eos_token_id", json.natural_opt("eos_token_id")?)?;
        let pad_token_id =
            id("pad_token_id", json.natural_opt("pad_token_id")?.or(Some(eos_token_id as usize)))?;
        if mask_token_id == eos_token_id {
            return Err(json.error("mask_token_id", format!("is {mask_token_id}, the same as eos_token_id")));
        }
        Ok(Self {
            d_model,
            n_layers: json.size("n_layers")?,
            n_heads,
            n_kv_heads,
            head_dim,
            mlp_hidden_size,
            vocab_size,
            rope_theta: json.positive_or("rope_theta", 10000.0)?,
            rms_norm_eps: json.positive_or("rms_norm_eps", 1e-5)?,
            mask_token_id,
            eos_token_id,
            pad_token_id,
            weight_tying: json.flag("weight_tying")?,
            max_sequence_length: json.size_or("max_sequence_length", 4096)?,
            path: json.path,
        })
    }

    /// What stands before the names of [`LladaConfig::tensors`]: `model.transformer.` or `transformer.`.
    ///
    /// # Errors
    /// [`Error::Weights`] if the checkpoint is no LLaDA.
    pub fn prefix(checkpoint: &Checkpoint) -> Result<&'static str> {
        find_prefix(checkpoint, &["model.transformer.", "transformer."], "wte.weight", "LLaDA model")
    }

    /// The model's tensors, names without [`LladaConfig::prefix`]; linear weights are `[out, in]`.
    pub fn tensors(&self) -> TensorList {
        let (d, mlp, v) = (self.d_model, self.mlp_hidden_size, self.vocab_size);
        let kv = self.n_kv_heads * self.head_dim;
        let mut all = Tensors::default();
        all.weight("wte", &[v, d]);
        for i in 0..self.n_layers {
            all.at(&format!("blocks.{i}."));
            all.weight("attn_norm", &[d]);
            all.weight("q_proj", &[d, d]);
            all.weight("k_proj", &[kv, d]);
            all.weight("v_proj", &[kv, d]);
            all.weight("attn_out", &[d, d]);
            all.weight("ff_norm", &[d]);
            all.weight("ff_proj", &[mlp, d]);
            all.weight("up_proj", &[mlp, d]);
            all.weight("ff_out", &[d, mlp]);
        }
        all.at("");
        all.weight("ln_f", &[d]);
        if !self.weight_tying {
            all.weight("ff_out", &[v, d]);
        }
        all.list
    }

    /// Checks that the checkpoint has every tensor of [`LladaConfig::tensors`] in the right shape; returns
    /// the prefix of their names.
    ///
    /// # Errors
    /// [`Error::Weights`] for the first that is missing or wrong.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<&'static str> {
        check_all(checkpoint, Self::prefix(checkpoint)?, &self.tensors(), Surplus::Refused)
    }
}

/// The two connectors, as their tensors' shapes tell; the adapter's own `config.json` repeats the configs
/// of the two models and is not needed.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// What stands before the names of [`AdapterConfig::tensors`] in the checkpoint, usually nothing.
    pub prefix: &'static str,
    /// Whisper's width `d`.
    pub d_audio: usize,
    /// LLaDA's width `D`.
    pub d_model: usize,
    /// Encoder states that the acoustic connector reads; at most Whisper's layers.
    pub n_targets: usize,
    /// Acoustic rows.
    pub prompt_size: usize,
    /// Q-former blocks, shared by all targets.
    pub n_blocks: usize,
    /// Q-former attention heads: Whisper's.
    pub n_heads: usize,
    /// Width of the Q-former's feed-forward layer.
    pub ffn_dim: usize,
    /// Kernel sizes of the semantic connector's two convolutions; always 3 (padding 1).
    pub conv_kernels: [usize; 2],
    /// Rows of `trainable_prompts` (stage 1 only), 0 if the checkpoint has none.
    pub n_trainable_prompts: usize,
}

impl AdapterConfig {
    /// Derives the sizes from the tensors of an adapter checkpoint and checks every tensor against them and
    /// against the two models.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing, or if the adapter was made for other models.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        whisper: &WhisperConfig,
        llada: &LladaConfig,
    ) -> Result<Self> {
        let prefixes = ["", "model.", "module.", "module.model.", "base_model.model."];
        let prefix = find_prefix(checkpoint, &prefixes, "semantic_connector.conv.0.weight", "DIFFA adapter")?;
        let shape = |name: &str, rank: usize| -> Result<&[usize]> {
            let name = format!("{prefix}{name}");
            match checkpoint.shape(&name) {
                Some(shape) if shape.len() == rank => Ok(shape),
                Some(shape) => {
                    let reason = format!("tensor `{name}` has shape {shape:?}, expected {rank} dimensions");
                    Err(Error::Weights { path: checkpoint.file_of(&name).into(), reason })
                }
                None => Err(checkpoint.missing(&name)),
            }
        };
        // One more than the highest index that follows `list` in any name, so that a tensor lost from the
        // last block is missed and does not make the adapter smaller.
        let count = |list: &str| {
            let list = format!("{prefix}{list}");
            let index = |name: &str| -> Option<usize> {
                let digits = name.strip_prefix(&list)?.split('.').next()?;
                digits.parse().ok().filter(|&i| i < MAX_LIST)
            };
            checkpoint.names().filter_map(index).max().map_or(0, |i| i + 1)
        };
        let fail = |name: &str, reason: String| {
            let path = checkpoint.file_of(&format!("{prefix}{name}")).into();
            Error::Weights { path, reason: format!("tensor `{prefix}{name}`: {reason}") }
        };

        let first = "semantic_connector.conv.0.weight";
        let (d_audio, kernel_0) = (shape(first, 3)?[1], shape(first, 3)?[2]);
        if d_audio != whisper.d_model {
            let (found, file) = (whisper.d_model, whisper.path.display());
            return Err(fail(
                first,
                format!("adapter expects Whisper width {d_audio} but {file} has {found}"),
            ));
        }
        let second = "semantic_connector.conv.2.weight";
        let conv_kernels = [kernel_0, shape(second, 3)?[2]];
        if conv_kernels != [3, 3] {
            let reason = format!("convolution kernels of sizes {conv_kernels:?}, expected [3, 3]");
            return Err(fail(if kernel_0 == 3 { second } else { first }, reason));
        }
        let last = "semantic_connector.linear_connector.2.weight";
        let d_model = shape(last, 2)?[0];
        if d_model != llada.d_model {
            let (found, file) = (llada.d_model, llada.path.display());
            return Err(fail(last, format!("adapter expects LLaDA width {d_model} but {file} has {found}")));
        }
        let prompts = "acoustic_connector.layer_prompts.0";
        let prompt_size = shape(prompts, 3)?[1];
        let mix = "acoustic_connector.layer_weights";
        let n_targets = shape(mix, 2)?[1].max(count("acoustic_connector.layer_prompts."));
        if n_targets > whisper.n_layers {
            let (layers, file) = (whisper.n_layers, whisper.path.display());
            let reason = format!("{n_targets} layer prompts, but {file} has {layers} encoder layers");
            return Err(fail(prompts, reason));
        }
        let intermediate = "acoustic_connector.qformer.layer.0.intermediate.dense.weight";
        let ffn_dim = shape(intermediate, 2)?[0];
        let trainable = "trainable_prompts.weight";
        let this = Self {
            prefix,
            d_audio,
            d_model,
            n_targets,
            prompt_size,
            n_blocks: count("acoustic_connector.qformer.layer."),
            n_heads: whisper.n_heads,
            ffn_dim,
            conv_kernels,
            n_trainable_prompts: match checkpoint.contains(&format!("{prefix}{trainable}")) {
                true => shape(trainable, 2)?[0],
                false => 0,
            },
        };
        for (name, size) in [(mix, n_targets), (prompts, prompt_size), (intermediate, ffn_dim)] {
            if size == 0 || size > MAX_SIZE {
                return Err(fail(name, format!("the impossible size {size}")));
            }
        }
        check_all(checkpoint, prefix, &this.tensors(), Surplus::Skipped)?;
        Ok(this)
    }

    /// The hidden states that the acoustic connector reads: `(i + 1) * n_layers / n_targets - 1`, where 0
    /// is the input of the first encoder layer (model.md 4.2).
    pub fn target_layers(&self, n_layers: usize) -> Vec<usize> {
        (1..=self.n_targets).map(|i| (i * n_layers / self.n_targets).saturating_sub(1)).collect()
    }

    /// The adapter's tensors, names without `prefix`; linear weights are `[out, in]`.
    pub fn tensors(&self) -> TensorList {
        let (d, big, ffn) = (self.d_audio, self.d_model, self.ffn_dim);
        let wide = SEMANTIC_RATE * d;
        let mut all = Tensors::default();
        if self.n_trainable_prompts > 0 {
            all.weight("trainable_prompts", &[self.n_trainable_prompts, big]);
        }
        all.at("semantic_connector.");
        all.with_bias("conv.0", &[d, d, self.conv_kernels[0]]);
        all.with_bias("conv.2", &[wide, d, self.conv_kernels[1]]);
        all.with_bias("linear_connector.0", &[d, wide]);
        all.with_bias("linear_connector.2", &[big, d]);
        all.norm("layernorm", big);
        all.at("acoustic_connector.");
        all.push("layer_weights", &[self.prompt_size, self.n_targets]);
        for t in 0..self.n_targets {
            all.push(&format!("layer_prompts.{t}"), &[1, self.prompt_size, d]);
        }
        for b in 0..self.n_blocks {
            for attention in ["attention", "crossattention"] {
                all.at(&format!("acoustic_connector.qformer.layer.{b}.{attention}."));
                for name in ["self.query", "self.key", "self.value", "output.dense"] {
                    all.with_bias(name, &[d, d]);
                }
                all.norm("output.LayerNorm", d);
            }
            all.at(&format!("acoustic_connector.qformer.layer.{b}."));
            all.with_bias("intermediate.dense", &[ffn, d]);
            all.with_bias("output.dense", &[d, ffn]);
            all.norm("output.LayerNorm", d);
        }
        all.at("acoustic_connector.");
        all.norm("proj.0", d);
        all.with_bias("proj.1", &[big, d]);
        all.list
    }
}

/// Collects a [`TensorList`].
#[derive(Default)]
struct Tensors {
    list: TensorList,
    at: String,
}

impl Tensors {
    fn at(&mut self, prefix: &str) {
        self.at = prefix.to_string();
    }

    fn push(&mut self, name: &str, shape: &[usize]) {
        self.list.push((format!("{}{name}", self.at), shape.to_vec()));
    }

    fn weight(&mut self, name: &str, shape: &[usize]) {
        self.push(&format!("{name}.weight"), shape);
    }

    fn with_bias(&mut self, name: &str, shape: &[usize]) {
        self.weight(name, shape);
        self.push(&format!("{name}.bias"), &shape[..1]);
    }

    fn norm(&mut self, name: &str, d: usize) {
        self.with_bias(name, &[d]);
    }
}

fn find_prefix(
    checkpoint: &Checkpoint,
    prefixes: &[&'static str],
    tensor: &str,
    what: &str,
) -> Result<&'static str> {
    checkpoint.prefix_of(prefixes, tensor).ok_or_else(|| {
        let names: Vec<_> = prefixes.iter().map(|p| format!("`{p}{tensor}`")).collect();
        let has: Vec<_> = checkpoint.names().take(3).map(|n| format!("`{n}`")).collect();
        let reason =
            format!("holds no {what}: it has no tensor {}, but {} ...", names.join(" or "), has.join(", "));
        Error::Weights { path: checkpoint.dir().into(), reason }
    })
}

/// What to do with tensors under the prefix that the configuration does not call for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Surplus {
    /// A layer too many means that configuration and weights do not match.
    Refused,
    /// Adapter releases carry copies of other models and leftovers of training.
    Skipped,
}

/// Checks that all of `tensors` are there in their shapes, and nothing else where that is refused.
fn check_all(
    checkpoint: &Checkpoint,
    prefix: &'static str,
    tensors: &TensorList,
    surplus: Surplus,
) -> Result<&'static str> {
    for (name, shape) in tensors {
        checkpoint.check(&format!("{prefix}{name}"), shape)?;
    }
    if surplus == Surplus::Skipped {
        return Ok(prefix);
    }
    let known: HashSet<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    // Some exports carry RoPE tables, or the output matrix beside tied weights; both are harmless.
    let harmless = |rest: &str| rest.ends_with("inv_freq") || rest == "ff_out.weight";
    let is_surplus =
        |name: &&str| name.strip_prefix(prefix).is_some_and(|rest| !known.contains(rest) && !harmless(rest));
    match checkpoint.names().find(is_surplus) {
        None => Ok(prefix),
        Some(name) => Err(Error::Weights {
            path: checkpoint.file_of(name).into(),
            reason: format!(
                "tensor `{name}` is surplus: the configuration describes a model without it, so the files do not match"
            ),
        }),
    }
}

fn read_config(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join("config.json");
    std::fs::read(&path).map_err(Error::io("read", &path))
}

/// A configuration file; null counts as absent.
struct Json {
    map: Map<String, Value>,
    path: PathBuf,
}

impl Json {
    fn parse(bytes: &[u8], path: PathBuf) -> Result<Self> {
        match serde_json::from_slice(bytes) {
            Ok(map) => Ok(Self { map, path }),
            Err(e) => Err(Error::Config { path, key: "JSON".into(), reason: format!("not an object: {e}") }),
        }
    }

    fn error(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::Config { path: self.path.clone(), key: key.into(), reason: reason.into() }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn natural_opt(&self, key: &str) -> Result<Option<usize>> {
        let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        match self.get(key) {
            None => Ok(None),
            Some(v) => match number(v) {
                Some(n) => Ok(Some(n)),
                None => Err(self.error(key, format!("is {v}, expected a whole number, not negative"))),
            },
        }
    }

    fn size_opt(&self, key: &str) -> Result<Option<usize>> {
        match self.natural_opt(key)? {
            Some(n) if n == 0 || n > MAX_SIZE => {
                Err(self.error(key, format!("is {n}, expected 1 to {MAX_SIZE}")))
            }
            n => Ok(n),
        }
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.size_opt(key)?.unwrap_or(default))
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.size_opt(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    fn number_opt(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => match v.as_f64() {
                Some(x) => Ok(Some(x)),
                None => Err(self.error(key, format!("is {v}, expected a number"))),
            },
        }
    }

    fn positive_or(&self, key: &str, default: f64) -> Result<f64> {
        let x = self.number_opt(key)?.unwrap_or(default);
        if x.is_finite() && x > 0.0 {
            Ok(x)
        } else {
            Err(self.error(key, format!("is {x}, expected a positive number")))
        }
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(b)) => Ok(*b),
            Some(v) => Err(self.error(key, format!("is {v}, expected true or false"))),
        }
    }

    /// Absent or equal to the one value that the engine implements.
    fn only(&self, key: &str, value: &Value) -> Result<()> {
        match self.get(key) {
            Some(v) if v != value => Err(self.error(key, format!("is {v}, only {value} is supported"))),
            _ => Ok(()),
        }
    }

    fn divides(&self, key: &str, part: usize, whole_key: &str, whole: usize) -> Result<()> {
        if whole.is_multiple_of(part) {
            Ok(())
        } else {
            Err(self.error(key, format!("is {part}, which does not divide {whole_key} {whole}")))
        }
    }
}
