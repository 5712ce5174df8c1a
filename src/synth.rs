//! Writes complete model folders with random weights, for measurements and tests without a download.
//!
//! Input: a shape and a seed. Output: `llada/`, `whisper/` and `diffa/` in the layouts of the released
//! checkpoints (docs/MODEL.md 1). Invariant: each tensor's values depend on the seed and its name alone, so the
//! same seed gives the same bytes whichever parts are written; memory use stays at a few megabytes.
//!
//! Values are about normal. LLaDA's projections are N(0, 1/fan_in), q and k doubled so that attention has
//! peaks, those that write to the residual stream scaled by 2/sqrt(2 layers); embeddings N(0, 1); the head
//! has gain 8, so that the confidence of mask rows spreads over (0, 1). Texts are gibberish.

mod documents;
mod rng;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use half::f16;
use serde_json::{Map, Value, json};

use crate::checkpoint::StoredDtype;
use crate::error::{Error, Result};
use crate::model::config::{AdapterConfig, LladaConfig, TensorList, WhisperConfig};
use documents::{llada_config, tokenizer, tokenizer_documents, whisper_config};
use rng::Rng;

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
        Ok(plan.files.iter().map(WeightFile::bytes).sum())
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
    let total = shape.total_bytes(parts)?;
    let mut done = 0;
    write_folders(shape, out, parts, &mut |file, path| {
        write_file(file, path, seed, &mut |n| {
            done += n;
            progress(done, total);
        })
    })
}

/// Writes the same folders with holes in place of the values: files of the full size that read as zeros and take no
/// room where the file system knows holes. Enough for whatever reads headers only, such as memory plans.
///
/// # Errors
/// [`Error::Io`] if something cannot be written.
pub fn write_holes(shape: SynthShape, out: &Path, parts: SynthParts) -> Result<()> {
    write_folders(shape, out, parts, &mut |file, path| {
        let (out, header_bytes) = create_file(file, path)?;
        out.set_len(header_bytes + file.bytes())
    })
}

/// Writes the documents of the chosen folders, and each file of weights by `write`.
fn write_folders(
    shape: SynthShape,
    out: &Path,
    parts: SynthParts,
    write: &mut dyn FnMut(&WeightFile, &Path) -> std::io::Result<()>,
) -> Result<()> {
    let plan = Plan::new(shape, parts, out)?;
    for (folder, name, content) in &plan.documents {
        let dir = out.join(folder);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let path = dir.join(name);
        fs::write(&path, format!("{content:#}\n")).map_err(Error::io("write", &path))?;
    }
    for file in &plan.files {
        let path = out.join(file.folder).join(&file.name);
        write(file, &path).map_err(Error::io("write", &path))?;
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
    /// Values are numbers of this type: Whisper's are published as f32, but were trained as f16.
    precision: StoredDtype,
    tensors: Vec<Random>,
}

impl WeightFile {
    /// Bytes of the tensors' data.
    fn bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes(self.dtype)).sum()
    }
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
            let tensors = random("model.encoder.", whisper.tensors(), audio_law(whisper.n_layers));
            plan.add_single("whisper", StoredDtype::F16, tensors);
            plan.documents.push(("whisper", "config.json", whisper_json.clone()));
            plan.documents.push(("whisper", "preprocessor_config.json", preprocessor));
        }
        if parts.adapter {
            plan.add_single("diffa", StoredDtype::F32, random("", adapter.tensors(), audio_law(1)));
            let config = json!({
                "architectures": ["DIFFAModel"], "llm_config": llada_json, "model_type": "",
                "prompt_size": prompt_size, "torch_dtype": "float32", "whisper_config": whisper_json,
                "whisper_model_id": "whisper",
            });
            plan.documents.push(("diffa", "config.json", config));
        }
        Ok(plan)
    }

    fn add_single(&mut self, folder: &'static str, precision: StoredDtype, tensors: Vec<Random>) {
        let name = "model.safetensors".to_string();
        self.files.push(WeightFile { folder, name, dtype: StoredDtype::F32, precision, tensors });
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
            self.files.push(WeightFile { folder: "llada", name, dtype, precision: dtype, tensors });
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

/// Begins a safetensors file: the file behind its header, and the header's bytes.
fn create_file(file: &WeightFile, path: &Path) -> std::io::Result<(File, u64)> {
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
    Ok((out, 8 + header.len() as u64))
}

/// Streams one safetensors file of random values.
fn write_file(
    file: &WeightFile,
    path: &Path,
    seed: u64,
    progress: &mut dyn FnMut(u64),
) -> std::io::Result<()> {
    let (mut out, _) = create_file(file, path)?;
    let mut buffer = vec![0; CHUNK * 4];
    for tensor in &file.tensors {
        let mut rng = Rng::new(seed, &tensor.name);
        let mut left = tensor.count();
        while left > 0 {
            let n = left.min(CHUNK);
            let bytes = &mut buffer[..file.dtype.row_bytes(n)];
            let mut draw = || {
                let value = rng.normal() * tensor.std + tensor.mean;
                if file.precision == StoredDtype::F16 { f16::from_f32(value).to_f32() } else { value }
            };
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
