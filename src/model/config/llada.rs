//! LLaDA: its `config.json`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json::{Json, read_config};
use super::tensors::{Surplus, Tensors, check_all, find_prefix};
use super::{MAX_SIZE, TensorList};
use crate::checkpoint::Checkpoint;
use crate::error::Result;

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
    /// [`Error::Io`](crate::Error::Io) if the file cannot be read, [`Error::Config`](crate::Error::Config) for a
    /// value that is missing, unsupported, or contradicts another.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::from_json_bytes(&read_config(dir)?, dir)
    }

    /// The same from the file's content; `dir` stands for its folder in messages.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) as for [`LladaConfig::read`].
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
    /// [`Error::Weights`](crate::Error::Weights) if the checkpoint is no LLaDA.
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
    /// [`Error::Weights`](crate::Error::Weights) for the first that is missing or wrong.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<&'static str> {
        check_all(checkpoint, Self::prefix(checkpoint)?, &self.tensors(), Surplus::Refused)
    }
}
