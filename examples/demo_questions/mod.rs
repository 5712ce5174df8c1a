//! The open questions about the demo's clips, for the examples that ask them all.

use std::path::Path;

use diffa::{Clip, Diffa, audio};
use serde_json::Value;

pub type Failure = Box<dyn std::error::Error>;

/// Hands every question with its clip to `ask`; a clip is heard once for the questions that follow each other.
pub fn for_each(
    diffa: &Diffa,
    mut ask: impl FnMut(&Clip, &str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(root.join("expected.json"))?)?;
    let mut heard: Option<(String, Clip)> = None;
    for item in expected["items"].as_array().into_iter().flatten() {
        let path = item["audio"].as_str().unwrap_or_default();
        if heard.as_ref().is_none_or(|(before, _)| before != path) {
            let samples = audio::read(&root.join(path), 16_000)?.samples;
            heard = Some((path.to_string(), diffa.hear(&samples)?));
        }
        let Some((_, clip)) = &heard else { continue };
        ask(clip, item["question"].as_str().unwrap_or_default())?;
    }
    Ok(())
}
