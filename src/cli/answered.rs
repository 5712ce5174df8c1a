//! Answers with their questions: as JSON fields, as events, as lines of figures.

use std::time::Duration;

use diffa::Answer;
use diffa::decode::StepReport;
use diffa::text::Tokenizer;
use serde_json::{Value, json};

use super::facts::{Object, number};

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

/// The fields of one answer. `realtime` is the time that went by before the question was asked, loading
/// aside, and the seconds of audio heard in it.
pub(super) fn answer(asked: &str, answered: &Answered, realtime: Option<(Duration, f64)>) -> Object {
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
pub(super) fn merge(shared: Object, mut answers: Vec<Object>) -> Object {
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

pub(super) fn timings<const N: usize>(all: [(&str, Duration); N]) -> Object {
    all.into_iter().map(|(name, time)| (name.to_string(), json!(time.as_micros() as f64 / 1e3))).collect()
}

pub(super) fn committed(answer: &Answer) -> usize {
    answer.steps.iter().map(|step| step.commits.len()).sum()
}

/// Committed tokens over the time of the denoising steps; nothing of the prompt counts.
pub(super) fn tokens_per_second(answer: &Answer) -> f64 {
    let seconds = answer.denoising.as_secs_f64();
    if seconds > 0.0 { committed(answer) as f64 / seconds } else { 0.0 }
}

/// Four digits after the point: all that a measured time is good for.
fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}
