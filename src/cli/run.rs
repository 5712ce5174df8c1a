//! A run of `diffa ask` or `diffa generate` as the object that `--json` prints.

use std::path::Path;
use std::time::Duration;

use diffa::text::{DEFAULT_SYSTEM, Tokenizer};
use diffa::{DecodeOptions, Gpu, ModelPaths, Quantization};
use serde_json::{Value, json};

use super::answered::{Answered, Heard, answer, merge, timings};
use super::facts::{Object, adapter, settings};
use super::interrupt;

/// What all answers of a run have in common.
pub(super) struct Run<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) options: &'a DecodeOptions,
    pub(super) system: Option<&'a str>,
    pub(super) paths: &'a ModelPaths,
    pub(super) load: Duration,
    pub(super) tokenizer: &'a Tokenizer,
}

impl Run<'_> {
    /// The object of `diffa ask`.
    pub(super) fn ask(
        &self,
        audio: &Path,
        seconds: f64,
        decode_audio: Duration,
        heard: &[Heard],
        by_window: bool,
    ) -> String {
        let mut shared = timings([("load", self.load), ("decode_audio", decode_audio)]);
        let answers = |heard: &Heard, before: Duration| -> Vec<Object> {
            let realtime = (before + heard.hear, heard.seconds);
            heard.answers.iter().map(|a| answer("question", a, Some(realtime))).collect()
        };
        let mut object = Object::new();
        if by_window {
            // Reading the file belongs to all windows, each by its share.
            let share = |part: &Heard| decode_audio.mul_f64((part.seconds / seconds.max(1e-9)).min(1.0));
            let windows = heard.iter().map(|part| {
                let mut window = Object::new();
                window.insert("start".into(), json!(part.start));
                window.insert("end".into(), json!(part.start + part.seconds));
                window.extend(merge(timings([("hear", part.hear)]), answers(part, share(part))));
                Value::Object(window)
            });
            object.insert("windows".into(), windows.collect());
            object.insert("timings_ms".into(), shared.into());
        } else if let Some(only) = heard.first() {
            shared.extend(timings([("hear", only.hear)]));
            object.extend(merge(shared, answers(only, decode_audio)));
        }
        let heard_seconds: f64 = heard.iter().map(|part| part.seconds).sum();
        let clip = json!({
            "path": audio.to_string_lossy(), "seconds": seconds, "heard_seconds": heard_seconds,
        });
        object.insert("audio".into(), clip);
        self.finish(object, true)
    }

    /// The object of `diffa generate`.
    pub(super) fn generate(&self, answered: &Answered) -> String {
        let object = merge(timings([("load", self.load)]), vec![answer("prompt", answered, None)]);
        self.finish(object, false)
    }

    fn finish(&self, mut object: Object, with_audio: bool) -> String {
        object.insert("interrupted".into(), interrupt::requested().into());
        object.insert("adapter".into(), adapter(&self.gpu.caps().info, self.gpu.reason()));
        let mut all = settings(self.options);
        all.insert("system".into(), self.system_of(with_audio).into());
        all.insert("model".into(), self.model());
        object.insert("settings".into(), all.into());
        Value::Object(object).to_string()
    }

    pub(super) fn system_of(&self, with_audio: bool) -> Option<&str> {
        self.system.or(with_audio.then_some(DEFAULT_SYSTEM))
    }

    fn model(&self) -> Value {
        let folder =
            |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.to_string_lossy().to_string());
        let ModelPaths { model, llm, whisper, adapters, quantize } = self.paths;
        let quantize = quantize.map(Quantization::name);
        match self.paths.is_demo() {
            true if quantize.is_none() => json!("demo"),
            true => json!({ "demo": true, "quantize": quantize }),
            false => json!({
                "model": folder(model), "llm": folder(llm), "whisper": folder(whisper), "adapters": folder(adapters),
                "quantize": quantize,
            }),
        }
    }
}
