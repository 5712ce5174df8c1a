//! Where the three checkpoints come from: folders on disk, or the demo model inside the binary.

use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::config::{AdapterConfig, LladaConfig, WhisperConfig};
use crate::model::llada::Quantization;
use crate::text::Tokenizer;

/// One of the three checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Language model and tokenizer.
    Llm,
    /// Audio encoder.
    Whisper,
    /// Semantic and acoustic connectors.
    Adapters,
}

impl Part {
    /// Folder name inside a model folder.
    pub const fn folder(self) -> &'static str {
        match self {
            Part::Llm => "llada",
            Part::Whisper => "whisper",
            Part::Adapters => "diffa",
        }
    }

    /// The option that gives this folder alone.
    const fn option(self) -> &'static str {
        match self {
            Part::Llm => "--llm",
            Part::Whisper => "--whisper",
            Part::Adapters => "--adapters",
        }
    }
}

/// Folders of the checkpoints, and how to load them; a part without one comes from the embedded demo model if none was given at all.
#[derive(Debug, Clone, Default)]
pub struct ModelPaths {
    /// Folder with `llada/`, `whisper/` and `diffa/`.
    pub model: Option<PathBuf>,
    /// LLaDA folder.
    pub llm: Option<PathBuf>,
    /// Whisper folder.
    pub whisper: Option<PathBuf>,
    /// DIFFA adapter folder.
    pub adapters: Option<PathBuf>,
    /// Quantize the language model's large matrices while loading.
    pub quantize: Option<Quantization>,
}

/// A file of the demo model. Builds without it have none and never ask.
#[cfg(feature = "demo")]
macro_rules! demo_file {
    ($path:literal) => {
        include_bytes!(concat!("../../assets/demo/model/", $path))
    };
}
#[cfg(not(feature = "demo"))]
macro_rules! demo_file {
    ($path:literal) => {
        &[]
    };
}

impl ModelPaths {
    /// True if nothing was given, so that the embedded demo model answers; never in builds without it.
    pub fn is_demo(&self) -> bool {
        cfg!(feature = "demo") && self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.model.is_none() && self.llm.is_none() && self.whisper.is_none() && self.adapters.is_none()
    }

    /// The folder of one part. Errors if other parts were given but not this one.
    fn folder(&self, part: Part) -> Result<PathBuf> {
        let own = match part {
            Part::Llm => &self.llm,
            Part::Whisper => &self.whisper,
            Part::Adapters => &self.adapters,
        };
        match (own, &self.model) {
            (Some(folder), _) => Ok(folder.clone()),
            (None, Some(model)) => {
                let folder = model.join(part.folder());
                if !folder.exists() && model.join("config.json").exists() {
                    let reason = format!(
                        "{} is the folder of one part; give it with --llm, --whisper or --adapters, or the folder with {}/ in it",
                        model.display(),
                        part.folder()
                    );
                    return Err(Error::usage("--model", reason));
                }
                Ok(folder)
            }
            (None, None) if self.is_empty() => Err(Error::usage(
                "--model",
                "no folder was given, and this build has no demo model inside (feature `demo`)",
            )),
            (None, None) => Err(Error::usage(
                part.option(),
                format!("is needed beside the folders given; or give --model with {}/ in it", part.folder()),
            )),
        }
    }

    /// Opens the checkpoint of one part.
    pub fn checkpoint(&self, part: Part) -> Result<Checkpoint> {
        if self.is_demo() {
            let weights: &'static [u8] = match part {
                Part::Llm => demo_file!("llada/model.safetensors"),
                Part::Whisper => demo_file!("whisper/model.safetensors"),
                Part::Adapters => demo_file!("diffa/model.safetensors"),
            };
            return Checkpoint::from_static(&[("model.safetensors", weights)], &demo_folder(part));
        }
        Checkpoint::open(&self.folder(part)?)
    }

    /// Reads the language model's configuration.
    pub fn llada_config(&self) -> Result<LladaConfig> {
        if self.is_demo() {
            return LladaConfig::from_json_bytes(demo_file!("llada/config.json"), &demo_folder(Part::Llm));
        }
        LladaConfig::read(&self.folder(Part::Llm)?)
    }

    /// Reads the encoder's configuration.
    pub fn whisper_config(&self) -> Result<WhisperConfig> {
        if self.is_demo() {
            let preprocessor: &[u8] = demo_file!("whisper/preprocessor_config.json");
            let config = demo_file!("whisper/config.json");
            return WhisperConfig::from_json_bytes(config, Some(preprocessor), &demo_folder(Part::Whisper));
        }
        WhisperConfig::read(&self.folder(Part::Whisper)?)
    }

    /// Checks the checkpoints of these parts against their configurations, touching no tensor data, and
    /// returns the bytes of all tensors that belong to them: what a load progress counts up to.
    pub fn load_bytes(&self, parts: &[Part]) -> Result<u64> {
        let mut total = 0;
        for part in parts {
            let checkpoint = self.checkpoint(*part)?;
            let (prefix, tensors) = match part {
                Part::Llm => {
                    let config = self.llada_config()?;
                    (config.check(&checkpoint)?, config.tensors())
                }
                Part::Whisper => {
                    let config = self.whisper_config()?;
                    (config.check(&checkpoint)?, config.tensors())
                }
                Part::Adapters => {
                    let (whisper, llada) = (self.whisper_config()?, self.llada_config()?);
                    let config = AdapterConfig::from_checkpoint(&checkpoint, &whisper, &llada)?;
                    (config.prefix, config.tensors())
                }
            };
            total += tensors
                .iter()
                .filter_map(|(name, _)| checkpoint.byte_len(&format!("{prefix}{name}")))
                .sum::<u64>();
        }
        Ok(total)
    }

    /// Reads the tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        if self.is_demo() {
            let name = demo_folder(Part::Llm).join("tokenizer.json");
            return Tokenizer::from_bytes(demo_file!("llada/tokenizer.json"), &name);
        }
        Tokenizer::from_dir(&self.folder(Part::Llm)?)
    }
}

/// Name of an embedded folder in messages.
fn demo_folder(part: Part) -> PathBuf {
    Path::new("(embedded demo model)").join(part.folder())
}
