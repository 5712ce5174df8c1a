//! Answers as JSON: the object that `--json` prints and the file that `--trace` writes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use diffa::decode::StepReport;
use diffa::gpu::caps;
use diffa::text::{DEFAULT_SYSTEM, Tokenizer};
use diffa::{Answer, Cache, DecodeOptions, Error, Gpu, ModelPaths, Quantization, Remasking, Result, Rule};
use serde_json::{Map, Value, json};

use super::interrupt;

type Object = Map<String, Value>;

/// A question with its answer.
pub(super) struct Answered {
    pub(super) question: String,
    pub(super) answer: Answer,
    /// The exact decoder's answer, if a comparison was asked for.
    pub(super) exact: Option<Answer>,
}

impl Answered {
    /// How far the answer agrees with the exact decoder's, and what the work was.
    pub(super) fn comparison(&self) -> Option<Value> {
        let (a, b) = (&self.answer, self.exact.as_ref()?);
        let same = a.ids.iter().zip(&b.ids).filter(|(x, y)| x == y).count();
        let ratio = |exact: f64, own: f64| if own > 0.0 { exact / own } else { 0.0 };
        Some(json!({
            "with": "exact",
            "same_text": a.text == b.text,
            "exact_text": b.text,
            "identical_tokens": same,
            "tokens": b.ids.len(),
            "first_difference": a.ids.iter().zip(&b.ids).position(|(x, y)| x != y),
            "exact_nfe": b.nfe,
            "nfe_ratio": ratio(b.nfe as f64, a.nfe as f64),
            "work_ratio": ratio(b.flops as f64, a.flops as f64),
            "time_ratio": ratio(b.denoising.as_secs_f64(), a.denoising.as_secs_f64()),
        }))
    }

    /// The figures of `--stats`, one to a line.
    pub(super) fn stats(&self, heard: Option<(f64, Duration)>) -> String {
        let a = &self.answer;
        let rows_per_forward = a.rows_computed as f64 / a.nfe.max(1) as f64;
        let tokens = committed(a);
        let mut lines = vec![
            format!("prompt           {} tokens, {} audio rows", a.prompt_tokens, a.audio_rows),
            format!("forwards (NFE)   {}", a.nfe),
            format!("rows computed    {} ({rows_per_forward:.1} per forward)", a.rows_computed),
            format!("work             {:.3} GFLOP", a.flops as f64 / 1e9),
            format!("tokens           {tokens} ({:.2} per forward)", tokens as f64 / a.nfe.max(1) as f64),
            format!("first token      {:.3} s", a.first_token.as_secs_f64()),
            format!("planning         {:.3} s", a.planning.as_secs_f64()),
            format!(
                "denoising        {:.3} s, {:.1} tokens/s",
                a.denoising.as_secs_f64(),
                tokens_per_second(a)
            ),
        ];
        if let Some((seconds, hear)) = heard {
            let spent = (hear + a.planning + a.denoising).as_secs_f64();
            lines.push(format!("hearing          {:.3} s for {seconds:.2} s of audio", hear.as_secs_f64()));
            lines.push(format!("real-time factor {:.3}", spent / seconds));
        }
        if let Some(compared) = self.comparison() {
            lines.push(format!(
                "against exact    {} of {} tokens identical, same text: {}; work {:.2}x, time {:.2}x less",
                compared["identical_tokens"],
                compared["tokens"],
                compared["same_text"],
                compared["work_ratio"].as_f64().unwrap_or_default(),
                compared["time_ratio"].as_f64().unwrap_or_default(),
            ));
        }
        lines.join("\n")
    }
}

/// The JSON line of one denoising step.
pub(super) fn step_event(question: &str, step: &StepReport, tokenizer: &Tokenizer) -> String {
    let token = |id: u32| tokenizer.token_text(id).unwrap_or_default();
    json!({
        "event": "step",
        "question": question,
        "block": step.block,
        "step": step.step,
        "forwards": step.forwards,
        "masked": step.masked,
        "positions": step.commits.iter().map(|c| c.position).collect::<Vec<_>>(),
        "ids": step.commits.iter().map(|c| c.id).collect::<Vec<_>>(),
        "tokens": step.commits.iter().map(|c| token(c.id)).collect::<Vec<_>>(),
        "confidences": step.commits.iter().map(|c| number(c.confidence)).collect::<Vec<_>>(),
        "done": step.done,
    })
    .to_string()
}

/// The JSON line of a finished answer.
pub(super) fn answer_event(answered: &Answered) -> String {
    let mut object = answer("question", answered, None);
    let mut event = Object::new();
    event.insert("event".into(), "answer".into());
    event.append(&mut object);
    Value::Object(event).to_string()
}

/// A part of a clip that was heard at once.
pub(super) struct Heard {
    /// Seconds from the start of the file.
    pub(super) start: f64,
    /// Seconds heard.
    pub(super) seconds: f64,
    /// Time of encoder and adapters.
    pub(super) hear: Duration,
    pub(super) answers: Vec<Answered>,
}

/// One line about an answer and, if there was audio, its seconds and the time it took to hear them.
pub(super) fn summary(answer: &Answer, heard: Option<(f64, Duration)>) -> String {
    let heard = heard.map(|(seconds, time)| format!("heard {seconds:.1} s in {:.2} s, ", time.as_secs_f64()));
    format!(
        "{}{} tokens in {} steps and {:.2} s, {:.1} tokens/s",
        heard.unwrap_or_default(),
        committed(answer),
        answer.nfe,
        (answer.planning + answer.denoising).as_secs_f64(),
        tokens_per_second(answer)
    )
}

/// What all answers of a run have in common.
pub(super) struct Report<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) options: &'a DecodeOptions,
    pub(super) system: Option<&'a str>,
    pub(super) paths: &'a ModelPaths,
    pub(super) load: Duration,
    pub(super) tokenizer: &'a Tokenizer,
}

impl Report<'_> {
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

    fn system_of(&self, with_audio: bool) -> Option<&str> {
        self.system.or(with_audio.then_some(DEFAULT_SYSTEM))
    }

    fn model(&self) -> Value {
        let folder =
            |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.to_string_lossy().to_string());
        let ModelPaths { model, llm, whisper, adapters, quantize } = self.paths;
        let quantize =
            Quantization::ALL.iter().find(|(_, known)| Some(*known) == *quantize).map(|(name, _)| name);
        match self.paths.is_demo() {
            true if quantize.is_none() => json!("demo"),
            true => json!({ "demo": true, "quantize": quantize }),
            false => json!({
                "model": folder(model), "llm": folder(llm), "whisper": folder(whisper), "adapters": folder(adapters),
                "quantize": quantize,
            }),
        }
    }

    /// Writes the trace of the only answer, or `{"runs": [...]}` of several.
    pub(super) fn write_trace<'a>(
        &self,
        path: &Path,
        audio: Option<&Path>,
        answers: impl Iterator<Item = &'a Answered>,
    ) -> Result<()> {
        let mut runs: Vec<Value> = answers.map(|answered| self.trace(audio, answered)).collect();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("html")) {
            return fs::write(path, replay_page(runs)).map_err(Error::io("write", path));
        }
        let content = match runs.pop() {
            Some(only) if runs.is_empty() => only,
            last => json!({ "runs": runs.into_iter().chain(last).collect::<Vec<_>>() }),
        };
        fs::write(path, format!("{content:#}\n")).map_err(Error::io("write", path))
    }

    fn token(&self, id: u32) -> String {
        self.tokenizer.token_text(id).unwrap_or_default()
    }

    fn figures(&self, answered: &Answered) -> Value {
        let a = &answered.answer;
        json!({
            "forwards": a.nfe,
            "rows computed": a.rows_computed,
            "tokens per forward": committed(a) as f64 / a.nfe.max(1) as f64,
            "denoising, ms": a.denoising.as_secs_f64() * 1e3,
            "tokens per second": tokens_per_second(a),
            "adapter": self.gpu.caps().describe(),
            "compared": answered.comparison(),
        })
    }

    fn trace(&self, audio: Option<&Path>, answered: &Answered) -> Value {
        let Answered { question, answer, .. } = answered;
        let mut run = Object::new();
        run.insert("audio".into(), audio.map(|path| path.to_string_lossy()).into());
        run.insert("prompt".into(), question.as_str().into());
        run.insert("system".into(), self.system_of(audio.is_some()).into());
        run.extend(settings(self.options));
        run.insert("nfe".into(), answer.nfe.into());
        run.insert("ids".into(), json!(answer.ids));
        run.insert("text".into(), answer.text.as_str().into());
        let steps = answer.steps.iter().map(|step| {
            json!({
                "block": step.block,
                "step": step.step,
                "positions": step.commits.iter().map(|c| c.position).collect::<Vec<_>>(),
                "ids": step.commits.iter().map(|c| c.id).collect::<Vec<_>>(),
                "tokens": step.commits.iter().map(|c| self.token(c.id)).collect::<Vec<_>>(),
                "confidences": step.commits.iter().map(|c| number(c.confidence)).collect::<Vec<_>>(),
            })
        });
        run.insert("trace".into(), steps.collect());
        run.insert("figures".into(), self.figures(answered));
        run.into()
    }
}

/// The self-contained page that replays these runs.
fn replay_page(runs: Vec<Value>) -> String {
    // `</` would end the script element that the data stand in.
    let data = json!({ "runs": runs }).to_string().replace("</", "<\\/");
    include_str!("replay.html").replace("__DATA__", &data)
}

/// Which adapter works, and why it.
pub(super) fn adapter(info: &wgpu::AdapterInfo, why: &str) -> Value {
    json!({
        "name": info.name,
        "backend": info.backend.to_string(),
        "driver": caps::driver(info),
        "device_type": caps::kind(info),
        "why": why,
    })
}

/// All decode settings, by the names that the reference's traces use where they have them.
pub(super) fn settings(options: &DecodeOptions) -> Object {
    let (mut threshold, mut factor, mut profile) = (Value::Null, Value::Null, Value::Null);
    let rule = match options.rule {
        Rule::Quota => "quota",
        Rule::Threshold(value) => {
            threshold = number(value);
            "threshold"
        }
        Rule::Factor(value) => {
            factor = number(value);
            "factor"
        }
        Rule::Profile(value) => {
            profile = number(value);
            "profile"
        }
    };
    let mode = match options.cache {
        Cache::None => "none",
        Cache::Prefix => "prefix",
        Cache::Dual => "dual",
    };
    let remasking = match options.remasking {
        Remasking::LowConfidence => "low_confidence",
        Remasking::Random => "random",
    };
    let all = [
        ("mode", mode.into()),
        ("cache_dtype", options.cache_dtype.name().into()),
        ("steps", options.steps.into()),
        ("gen_length", options.gen_length.into()),
        ("block_length", options.block_length.into()),
        ("temperature", number(options.temperature)),
        ("cfg_scale", number(options.cfg_scale)),
        ("remasking", remasking.into()),
        ("rule", rule.into()),
        ("threshold", threshold),
        ("factor", factor),
        ("profile", profile),
        ("settled_gaps", options.settled_gaps.map(|gaps| gaps.map(number).to_vec()).into()),
        ("stop_ids", json!(options.stop_ids)),
        ("ban_ids", json!(options.id_rules.banned)),
        ("low_conf_ids", json!(options.id_rules.low_confidence)),
        ("seed", options.seed.into()),
    ];
    all.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}

/// The fields of one answer. `realtime` is the time that went by before the question was asked, loading
/// aside, and the seconds of audio heard in it.
fn answer(asked: &str, answered: &Answered, realtime: Option<(Duration, f64)>) -> Object {
    let Answered { question, answer, .. } = answered;
    let mut object = Object::new();
    object.insert("text".into(), answer.text.as_str().into());
    object.insert("ids".into(), json!(answer.ids));
    object.insert("nfe".into(), answer.nfe.into());
    object.insert(asked.into(), question.as_str().into());
    object.insert("prompt_tokens".into(), answer.prompt_tokens.into());
    if let Some((before, seconds)) = realtime {
        object.insert("audio_rows".into(), answer.audio_rows.into());
        let spent = (before + answer.planning + answer.denoising).as_secs_f64();
        object.insert("rtf".into(), json!(round(spent / seconds)));
    }
    object.insert("tokens".into(), committed(answer).into());
    object.insert("rows_computed".into(), answer.rows_computed.into());
    object.insert("flops".into(), answer.flops.into());
    object.insert("tokens_per_forward".into(), json!(committed(answer) as f64 / answer.nfe.max(1) as f64));
    object.insert("tokens_per_second".into(), json!(round(tokens_per_second(answer))));
    let own = [("plan", answer.planning), ("denoise", answer.denoising), ("first_token", answer.first_token)];
    object.insert("timings_ms".into(), timings(own).into());
    if let Some(compared) = answered.comparison() {
        object.insert("compare".into(), compared);
    }
    object
}

/// A single answer takes in the shared timings; several go into a list beside them.
fn merge(shared: Object, mut answers: Vec<Object>) -> Object {
    let mut object = Object::new();
    if answers.len() == 1 {
        object.extend(answers.remove(0));
        let mut all = shared;
        if let Some(Value::Object(own)) = object.remove("timings_ms") {
            all.extend(own);
        }
        object.insert("timings_ms".into(), all.into());
    } else {
        object.insert("answers".into(), answers.into_iter().map(Value::from).collect());
        object.insert("timings_ms".into(), shared.into());
    }
    object
}

fn timings<const N: usize>(all: [(&str, Duration); N]) -> Object {
    all.into_iter().map(|(name, time)| (name.to_string(), json!(time.as_micros() as f64 / 1e3))).collect()
}

fn committed(answer: &Answer) -> usize {
    answer.steps.iter().map(|step| step.commits.len()).sum()
}

/// Committed tokens over the time of the denoising steps; nothing of the prompt counts.
fn tokens_per_second(answer: &Answer) -> f64 {
    let seconds = answer.denoising.as_secs_f64();
    if seconds > 0.0 { committed(answer) as f64 / seconds } else { 0.0 }
}

/// Four digits after the point: all that a measured time is good for.
fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

/// An f32 with the digits it has, not those of its f64 neighbour.
fn number(x: f32) -> Value {
    json!(x.to_string().parse::<f64>().unwrap_or(f64::from(x)))
}
