//! The file of `--trace`: every step of every answer, as JSON or as a page that replays them.

use std::fs;
use std::path::Path;

use diffa::{Error, Result};
use serde_json::{Value, json};

use super::answered::{Answered, committed, tokens_per_second};
use super::facts::{Object, number, settings};
use super::run::Run;

impl Run<'_> {
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
