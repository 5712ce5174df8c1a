//! What differs between the benchmarks: lengths, question, fields of the data and of the answers.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::decode::DecodeOptions;
use crate::error::{Error, Result};
use crate::eval::score::Evaluator;
use crate::eval::{Object, prompts};

/// One of the public benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Benchmark {
    /// Spoken language understanding: four lettered choices, answered by a letter.
    Mmsu,
    /// Sound, music and speech: choices, answered in words.
    Mmau,
    /// Spoken instructions, in subsets with different scorers.
    Voicebench,
}

/// The fields of an MMSU answer, in the order of the published file.
const MMSU_FIELDS: [&str; 14] = [
    "id",
    "audio_path",
    "question",
    "choice_a",
    "choice_b",
    "choice_c",
    "choice_d",
    "answer_gt",
    "response",
    "task_name",
    "category",
    "sub-category",
    "sub-sub-category",
    "linguistics_sub_discipline",
];

/// VoiceBench's subsets and the rules they are scored by.
pub(in crate::eval) const SUBSETS: [(&str, Evaluator); 11] = [
    ("alpacaeval_full", Evaluator::Open),
    ("alpacaeval", Evaluator::Open),
    ("commoneval", Evaluator::Open),
    ("wildvoice", Evaluator::Open),
    ("mtbench", Evaluator::Open),
    ("openbookqa", Evaluator::Mcq),
    ("mmsu", Evaluator::Mcq),
    ("sd-qa", Evaluator::Qa),
    ("advbench", Evaluator::Harm),
    ("ifeval", Evaluator::Ifeval),
    ("bbh", Evaluator::Bbh),
];

impl Benchmark {
    /// All of them.
    pub const ALL: [Benchmark; 3] = [Benchmark::Mmsu, Benchmark::Mmau, Benchmark::Voicebench];

    /// The name as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Benchmark::Mmsu => "mmsu",
            Benchmark::Mmau => "mmau",
            Benchmark::Voicebench => "voicebench",
        }
    }

    /// The published lengths with the exact decoder (docs/MODEL.md, 6.6).
    pub fn decode_options(self) -> DecodeOptions {
        match self {
            Benchmark::Mmsu => DecodeOptions::new(4, 4, 4),
            Benchmark::Mmau | Benchmark::Voicebench => DecodeOptions::new(16, 16, 16),
        }
    }

    /// The field of the data that names the audio file.
    pub const fn audio_field(self) -> &'static str {
        match self {
            Benchmark::Mmsu => "audio_path",
            Benchmark::Mmau => "audio_id",
            Benchmark::Voicebench => "audio",
        }
    }

    /// The field of the answers that holds the answer.
    pub const fn answer_field(self) -> &'static str {
        match self {
            Benchmark::Mmau => "model_prediction",
            Benchmark::Mmsu | Benchmark::Voicebench => "response",
        }
    }

    /// True if the published answer file is one JSON array, not JSON Lines.
    pub const fn answers_are_an_array(self) -> bool {
        matches!(self, Benchmark::Mmau)
    }

    /// The question text for an item.
    ///
    /// # Errors
    /// What the item lacks.
    pub fn question(self, fields: &Object) -> Result<String, String> {
        let text = |key: &str| match fields.get(key) {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(other) => Err(format!("`{key}` must be a text, not {other}")),
            None => Err(format!("`{key}` is missing")),
        };
        match self {
            Benchmark::Mmsu => {
                let letters = ["choice_a", "choice_b", "choice_c", "choice_d"];
                let present =
                    letters.into_iter().filter(|key| !matches!(fields.get(*key), None | Some(Value::Null)));
                let choices = present.map(text).collect::<Result<Vec<_>, _>>()?;
                Ok(prompts::mmsu(text("question")?, choices))
            }
            Benchmark::Mmau => {
                let choices = fields.get("choices").and_then(Value::as_array);
                let choices = choices.ok_or("`choices` must be a list")?.iter().map(Value::as_str);
                let choices =
                    choices.collect::<Option<Vec<_>>>().ok_or("every one of `choices` must be a text")?;
                Ok(prompts::mmau(text("question")?, choices))
            }
            Benchmark::Voicebench => Ok(prompts::VOICEBENCH.to_owned()),
        }
    }

    /// The published answer row for an item.
    pub fn row(self, fields: &Object, answer: &str) -> Object {
        let mut row = match self {
            Benchmark::Mmsu => MMSU_FIELDS
                .map(|key| (key.to_owned(), fields.get(key).cloned().unwrap_or(Value::Null)))
                .into_iter()
                .collect(),
            Benchmark::Mmau => fields.clone(),
            Benchmark::Voicebench => {
                let kept = fields.iter().filter(|(key, _)| *key != self.audio_field());
                kept.map(|(key, value)| (key.clone(), value.clone())).collect::<Object>()
            }
        };
        row.insert(self.answer_field().to_owned(), answer.into());
        row
    }

    /// The rules by which the answers are scored; none for a VoiceBench subset that is not a published one.
    pub fn evaluator(self, subset: Option<&str>) -> Option<Evaluator> {
        match self {
            Benchmark::Mmsu => Some(Evaluator::Mmsu),
            Benchmark::Mmau => Some(Evaluator::Mmau),
            Benchmark::Voicebench => evaluator_of_subset(subset?),
        }
    }
}

/// The rules that a VoiceBench subset is scored by, if it is a published one.
pub fn evaluator_of_subset(subset: &str) -> Option<Evaluator> {
    SUBSETS.iter().find(|(name, _)| *name == subset).map(|(_, evaluator)| *evaluator)
}

/// The published VoiceBench subset that a file name begins with, and the rest of the name (`sd-qa-usa`).
pub(super) fn published_subset(stem: &str) -> Option<(&'static str, &str)> {
    SUBSETS.iter().find_map(|(name, _)| {
        let rest = stem.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with('-')).then(|| (*name, rest.trim_start_matches('-')))
    })
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Benchmark {
    type Err = Error;

    fn from_str(name: &str) -> Result<Benchmark> {
        Benchmark::ALL.into_iter().find(|benchmark| benchmark.name() == name).ok_or_else(|| {
            Error::usage("BENCHMARK", format!("`{name}` is not one of mmsu, mmau, voicebench"))
        })
    }
}
