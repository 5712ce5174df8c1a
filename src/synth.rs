//! Writes complete model folders with random weights, for measurements and tests without a download.
//!
//! Input: a shape and a seed. Output: `llada/`, `whisper/` and `diffa/` in the layouts of the released
//! checkpoints (docs/MODEL.md 1). Invariant: each tensor's values depend on the seed and its name alone, so the
//! same seed gives the same bytes whichever parts are written; memory use stays at a few megabytes.
//!
//! Values are about normal. LLaDA's projections are N(0, 1/fan_in), q and k doubled so that attention has
//! peaks, those that write to the residual stream scaled by 2/sqrt(2 layers); embeddings N(0, 1); the head
//! has gain 8, so that the confidence of mask rows spreads over (0, 1). Texts are gibberish.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use half::f16;
use serde_json::{Map, Value, json};

use crate::checkpoint::StoredDtype;
use crate::error::{Error, Result};
use crate::fnv::fnv1a;
use crate::model::config::{AdapterConfig, LladaConfig, TensorList, WhisperConfig};

/// Sizes of a synthetic model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynthShape {
    /// 1.3 MB, for tests: LLaDA width 64 with grouped queries, Whisper width 48 with a window of 2 s.
    Tiny,
    /// 0.2 GB: LLaDA width 512, 8 layers; whisper-base.
    S,
    /// 0.9 GB: LLaDA width 1024, 12 layers; whisper-small.
    M,
    /// 16.5 GB: the released sizes, LLaDA-8B and whisper-small.
    EightB,
}

/// Which folders to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthParts {
    /// `llada/`: BF16 shards with index, tokenizer.
    pub llada: bool,
    /// `whisper/`: F32.
    pub whisper: bool,
    /// `diffa/`: F32 adapter.
    pub adapter: bool,
}

impl SynthParts {
    /// All three.
    pub const ALL: SynthParts = SynthParts { llada: true, whisper: true, adapter: true };
}

/// LLaDA's special tokens: distance of the id from the end of the vocabulary, as in the released tokenizer.
const SPECIAL: [(&str, usize); 8] = [
    ("<|startoftext|>", 384),
    ("<|endoftext|>", 383),
    ("[CLS]", 382),
    ("[gMASK]", 381),
    ("<|mdm_mask|>", 128),
    ("<|start_header_id|>", 118),
    ("<|end_header_id|>", 117),
    ("<|eot_id|>", 116),
];

/// Elements per write.
const CHUNK: usize = 1 << 18;

struct Sizes {
    /// LLaDA: width, layers, heads, key heads, feed-forward width, vocabulary.
    llada: [usize; 6],
    /// Whisper: width, layers, heads, feed-forward width, encoder rows.
    whisper: [usize; 5],
    /// Adapter: targets, acoustic rows, Q-former feed-forward width.
    adapter: [usize; 3],
    /// Most bytes of tensors in a LLaDA shard.
    shard_bytes: u64,
}

impl SynthShape {
    fn sizes(self) -> Sizes {
        let small = [768, 12, 12, 3072, 1500];
        let (llada, whisper, adapter, shard_bytes) = match self {
            SynthShape::Tiny => ([64, 2, 4, 2, 160, 704], [48, 4, 4, 160, 100], [2, 16, 96], 120_000),
            SynthShape::S => ([512, 8, 8, 8, 1536, 8192], [512, 6, 8, 2048, 1500], [4, 64, 3072], 40_000_000),
            SynthShape::M => ([1024, 12, 16, 16, 3072, 32768], small, [4, 64, 3072], 200_000_000),
            SynthShape::EightB => ([4096, 32, 32, 32, 12288, 126_464], small, [4, 64, 3072], 5_000_000_000),
        };
        Sizes { llada, whisper, adapter, shard_bytes }
    }

    /// Bytes of tensor data that [`write()`] will write.
    ///
    /// # Errors
    /// None for the shapes there are; their configurations pass the same checks as any other.
    pub fn total_bytes(self, parts: SynthParts) -> Result<u64> {
        let plan = Plan::new(self, parts, Path::new(""))?;
        Ok(plan.files.iter().map(|f| f.tensors.iter().map(|t| t.bytes(f.dtype)).sum::<u64>()).sum())
    }
}

/// Writes the chosen folders of a synthetic model below `out`, which is created if need be; files of the
/// same names are replaced.
///
/// `progress` is called every megabyte or so with the bytes of tensor data written and to be written.
///
/// # Errors
/// [`Error::Io`] if something cannot be written, for instance for lack of space.
pub fn write(
    shape: SynthShape,
    out: &Path,
    seed: u64,
    parts: SynthParts,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let plan = Plan::new(shape, parts, out)?;
    for (folder, name, content) in &plan.documents {
        let dir = out.join(folder);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let path = dir.join(name);
        fs::write(&path, format!("{content:#}\n")).map_err(Error::io("write", &path))?;
    }
    let total = shape.total_bytes(parts)?;
    let mut done = 0;
    for file in &plan.files {
        let path = out.join(file.folder).join(&file.name);
        write_file(file, &path, seed, &mut |n| {
            done += n;
            progress(done, total);
        })
        .map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// Everything that will be written.
struct Plan {
    /// Folder, file name, content.
    documents: Vec<(&'static str, &'static str, Value)>,
    files: Vec<WeightFile>,
}

struct WeightFile {
    folder: &'static str,
    name: String,
    dtype: StoredDtype,
    tensors: Vec<Random>,
}

/// A tensor to draw.
struct Random {
    name: String,
    shape: Vec<usize>,
    std: f32,
    mean: f32,
}

impl Random {
    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self, dtype: StoredDtype) -> u64 {
        dtype.row_bytes(self.count()) as u64
    }
}

impl Plan {
    fn new(shape: SynthShape, parts: SynthParts, out: &Path) -> Result<Self> {
        let sizes = shape.sizes();
        let llada_json = llada_config(sizes.llada);
        let llada = LladaConfig::from_json_bytes(llada_json.to_string().as_bytes(), &out.join("llada"))?;
        let (whisper_json, preprocessor) = whisper_config(sizes.whisper);
        let whisper = WhisperConfig::from_json_bytes(
            whisper_json.to_string().as_bytes(),
            Some(preprocessor.to_string().as_bytes()),
            &out.join("whisper"),
        )?;
        let [n_targets, prompt_size, ffn_dim] = sizes.adapter;
        let adapter = AdapterConfig {
            prefix: "",
            d_audio: whisper.d_model,
            d_model: llada.d_model,
            n_targets,
            prompt_size,
            n_blocks: 2,
            n_heads: whisper.n_heads,
            ffn_dim,
            conv_kernels: [3, 3],
            n_trainable_prompts: 20,
        };
        let mut plan = Plan { documents: vec![], files: vec![] };
        if parts.llada {
            let tensors = random("model.transformer.", llada.tensors(), llada_law(&llada));
            plan.add_shards(tensors, sizes.shard_bytes);
            let [config, map] = tokenizer_documents();
            plan.documents.extend([
                ("llada", "config.json", llada_json.clone()),
                ("llada", "tokenizer.json", tokenizer(llada.vocab_size)),
                ("llada", "tokenizer_config.json", config),
                ("llada", "special_tokens_map.json", map),
            ]);
        }
        if parts.whisper {
            plan.add_single(
                "whisper",
                random("model.encoder.", whisper.tensors(), audio_law(whisper.n_layers)),
            );
            plan.documents.push(("whisper", "config.json", whisper_json.clone()));
            plan.documents.push(("whisper", "preprocessor_config.json", preprocessor));
        }
        if parts.adapter {
            plan.add_single("diffa", random("", adapter.tensors(), audio_law(1)));
            let config = json!({
                "architectures": ["DIFFAModel"], "llm_config": llada_json, "model_type": "",
                "prompt_size": prompt_size, "torch_dtype": "float32", "whisper_config": whisper_json,
                "whisper_model_id": "whisper",
            });
            plan.documents.push(("diffa", "config.json", config));
        }
        Ok(plan)
    }

    fn add_single(&mut self, folder: &'static str, tensors: Vec<Random>) {
        let name = "model.safetensors".to_string();
        self.files.push(WeightFile { folder, name, dtype: StoredDtype::F32, tensors });
    }

    /// Deals LLaDA's tensors out to shards of at most `limit` bytes and adds the index.
    fn add_shards(&mut self, tensors: Vec<Random>, limit: u64) {
        let dtype = StoredDtype::BF16;
        let (mut groups, mut size, mut total) = (vec![vec![]], 0, 0);
        for tensor in tensors {
            let bytes = tensor.bytes(dtype);
            if size > 0 && size + bytes > limit {
                groups.push(vec![]);
                size = 0;
            }
            size += bytes;
            total += bytes;
            if let Some(group) = groups.last_mut() {
                group.push(tensor);
            }
        }
        let n = groups.len();
        let mut map = Map::new();
        for (i, tensors) in groups.into_iter().enumerate() {
            let name = format!("model-{:05}-of-{n:05}.safetensors", i + 1);
            map.extend(tensors.iter().map(|t: &Random| (t.name.clone(), Value::from(name.as_str()))));
            self.files.push(WeightFile { folder: "llada", name, dtype, tensors });
        }
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        self.documents.push(("llada", "model.safetensors.index.json", index));
    }
}

fn random(prefix: &str, tensors: TensorList, law: impl Fn(&str, &[usize]) -> (f32, f32)) -> Vec<Random> {
    let one = |(name, shape): (String, Vec<usize>)| {
        let (std, mean) = law(&name, &shape);
        Random { name: format!("{prefix}{name}"), shape, std, mean }
    };
    tensors.into_iter().map(one).collect()
}

/// Standard deviation and mean of LLaDA's tensors, names without prefix.
fn llada_law(config: &LladaConfig) -> impl Fn(&str, &[usize]) -> (f32, f32) + use<> {
    let residual = 2.0 / (2.0 * config.n_layers as f32).sqrt();
    move |name, shape| {
        let unit = (shape[shape.len() - 1] as f32).sqrt().recip();
        match name.trim_end_matches(".weight").rsplit('.').next().unwrap_or_default() {
            "attn_norm" | "ff_norm" | "ln_f" => (0.05, 1.0),
            "wte" => (1.0, 0.0),
            "q_proj" | "k_proj" => (2.0 * unit, 0.0),
            "attn_out" => (residual * unit, 0.0),
            "ff_out" if name.starts_with("blocks.") => (residual * unit, 0.0),
            "ff_out" => (8.0 * unit, 0.0),
            _ => (unit, 0.0),
        }
    }
}

/// The same for the Whisper encoder and the adapter.
fn audio_law(n_layers: usize) -> impl Fn(&str, &[usize]) -> (f32, f32) {
    let residual = 2.0 / (2.0 * n_layers as f32).sqrt();
    move |name, shape| {
        let is_norm = ["norm.", "LayerNorm.", "proj.0."].iter().any(|part| name.contains(part));
        let fan_in: usize = shape[1..].iter().product();
        let unit = (fan_in as f32).sqrt().recip();
        if name.ends_with(".bias") {
            (0.02, 0.0)
        } else if is_norm {
            (0.05, 1.0)
        } else if name.contains("layer_prompts") || name.starts_with("trainable_prompts") {
            (1.0, 0.0)
        } else if name.ends_with("layer_weights") {
            (0.5, 0.0)
        } else if name.starts_with("embed_positions") {
            (0.1, 0.0)
        } else if name.contains("out_proj") || name.contains("fc2") {
            (residual * unit, 0.0)
        } else {
            (unit, 0.0)
        }
    }
}

/// Streams one safetensors file.
fn write_file(
    file: &WeightFile,
    path: &Path,
    seed: u64,
    progress: &mut dyn FnMut(u64),
) -> std::io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut offset = 0;
    for tensor in &file.tensors {
        let end = offset + tensor.bytes(file.dtype);
        let info = json!({
            "dtype": file.dtype.to_string(), "shape": tensor.shape, "data_offsets": [offset, end],
        });
        header.insert(tensor.name.clone(), info);
        offset = end;
    }
    let mut header = Value::Object(header).to_string();
    // The format wants the data aligned to eight bytes.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut out = File::create(path)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    let mut buffer = vec![0; CHUNK * 4];
    for tensor in &file.tensors {
        let mut rng = Rng::new(seed, &tensor.name);
        let mut left = tensor.count();
        while left > 0 {
            let n = left.min(CHUNK);
            let bytes = &mut buffer[..file.dtype.row_bytes(n)];
            let mut draw = || rng.normal() * tensor.std + tensor.mean;
            match file.dtype {
                StoredDtype::F32 => {
                    bytes.as_chunks_mut().0.iter_mut().for_each(|b| *b = draw().to_le_bytes());
                }
                StoredDtype::F16 => {
                    let half = |x: f32| f16::from_f32(x).to_le_bytes();
                    bytes.as_chunks_mut().0.iter_mut().for_each(|b| *b = half(draw()));
                }
                // Files of random weights are dense.
                StoredDtype::BF16 | StoredDtype::Quantized(_) => {
                    // Rounds halves up, which is faster than to even and as good for noise.
                    let narrow = |x: f32| (((x.to_bits() + 0x8000) >> 16) as u16).to_le_bytes();
                    bytes.as_chunks_mut().0.iter_mut().for_each(|b| *b = narrow(draw()));
                }
            }
            out.write_all(bytes)?;
            progress(bytes.len() as u64);
            left -= n;
        }
    }
    out.flush()
}

/// xoshiro256++ (Blackman and Vigna), seeded through splitmix64.
struct Rng([u64; 4]);

impl Rng {
    /// The stream of one tensor: the seed mixed with the hash of its name.
    fn new(seed: u64, name: &str) -> Self {
        let mut state = seed ^ fnv1a(name.bytes());
        Self([(); 4].map(|()| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c2, d2) = (c ^ a, d ^ b);
        self.0 = [a ^ d2, b ^ c2, c2 ^ b << 17, d2.rotate_left(45)];
        out
    }

    /// Mean 0, variance 1, within ±3.47: the sum of four 16-bit uniform numbers, one draw per value.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // Mean 4·65535/2, variance 4·65536²/12.
        (sum as f32 - 131_070.0) * (3f32.sqrt() / 65536.0)
    }
}

fn llada_config([d, layers, heads, kv_heads, mlp, vocab]: [usize; 6]) -> Value {
    let eos = vocab - 383;
    json!({
        "activation_type": "silu", "alibi": false, "architectures": ["LLaDAModelLM"], "attention_dropout": 0.0,
        "attention_layer_norm": false, "bias_for_layer_norm": false, "block_group_size": 1, "block_type": "llama",
        "d_model": d, "embedding_dropout": 0.0, "embedding_size": vocab, "eos_token_id": eos,
        "include_bias": false, "include_qkv_bias": false, "input_emb_norm": false, "layer_norm_type": "rms",
        "layer_norm_with_affine": true, "mask_token_id": vocab - 128, "max_sequence_length": 4096,
        "mlp_hidden_size": mlp, "mlp_ratio": 4, "model_type": "llada", "multi_query_attention": null,
        "n_heads": heads, "n_kv_heads": kv_heads, "n_layers": layers, "pad_token_id": eos,
        "precision": "amp_bf16", "residual_dropout": 0.0, "rms_norm_eps": 1e-5, "rope": true,
        "rope_full_precision": true, "rope_theta": 500_000.0, "scale_logits": false, "torch_dtype": "bfloat16",
        "use_cache": false, "vocab_size": vocab, "weight_tying": false,
    })
}

/// `config.json` and `preprocessor_config.json`.
fn whisper_config([d, layers, heads, ffn, positions]: [usize; 5]) -> (Value, Value) {
    let config = json!({
        "activation_function": "gelu", "architectures": ["WhisperForConditionalGeneration"], "d_model": d,
        "encoder_attention_heads": heads, "encoder_ffn_dim": ffn, "encoder_layers": layers,
        "max_source_positions": positions, "model_type": "whisper", "num_hidden_layers": layers,
        "num_mel_bins": 80, "scale_embedding": false, "torch_dtype": "float32",
    });
    let (samples, frames) = (2 * positions * 160, 2 * positions);
    let preprocessor = json!({
        "chunk_length": samples / 16000, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80,
        "hop_length": 160, "n_fft": 400, "n_samples": samples, "nb_max_frames": frames, "padding_side": "right",
        "padding_value": 0.0, "return_attention_mask": false, "sampling_rate": 16000,
    });
    (config, preprocessor)
}

/// Byte-level BPE without merges: 256 byte tokens, then the special tokens at their released distances from
/// the end of the vocabulary. The ids between have no token and decode to nothing.
fn tokenizer(vocab: usize) -> Value {
    // Byte-level BPE writes unprintable bytes as the characters from U+0100 on.
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut other = 256..;
    let mut table = Map::new();
    for byte in 0..256u32 {
        let code = if printable(byte) { Some(byte) } else { other.next() };
        let name = code.and_then(char::from_u32).unwrap_or_default();
        table.insert(name.to_string(), Value::from(byte));
    }
    let mut added = vec![];
    for (name, from_end) in SPECIAL {
        // The loader gives added tokens the ids of the model's vocabulary, so they must be in it as well.
        table.insert(name.to_string(), Value::from(vocab - from_end));
        added.push(json!({
            "id": vocab - from_end, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
    }
    let level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": table, "merges": [],
        },
    })
}

/// `tokenizer_config.json` and `special_tokens_map.json`.
fn tokenizer_documents() -> [Value; 2] {
    let map = json!({
        "bos_token": "<|startoftext|>", "cls_token": "[CLS]", "eos_token": "<|endoftext|>",
        "gmask_token": "[gMASK]", "pad_token": "<|endoftext|>",
    });
    let mut config = map.clone();
    config["add_bos_token"] = false.into();
    config["add_eos_token"] = false.into();
    config["clean_up_tokenization_spaces"] = false.into();
    config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
    [config, map]
}
