//! The question texts of the benchmarks' evaluation scripts, to the letter; docs/MODEL.md 7. Each goes into the
//! chat template of [`crate::text::audio_prompt`].

use std::fmt::Write;

/// VoiceBench: the clip holds the instruction, the text is always this one.
pub const VOICEBENCH: &str = "\n### Instruction:\nNow, strictly follow my instructions: \n\
    1. Do not repeat what you hear. \n2. Write an answer to response the question in the audio.\n\n### Response:\n";

/// MMSU: a question with lettered choices; choices that are absent are skipped, without a gap in the letters.
pub fn mmsu<'a>(question: &str, choices: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = format!(
        "Choose the most suitable answer from options A, B, C, and D to respond the question in next line, \
         **you should only choose A or B or C or D.** Do not provide any additional explanations or content.\
         \n\nQuestion: {question}\n\n"
    );
    text += &lettered(choices);
    text
}

/// MMAU: a question with lettered choices, answered in words.
pub fn mmau<'a>(question: &str, choices: impl IntoIterator<Item = &'a str>) -> String {
    format!(
        "You are given the audio and a multiple-choice question. Choose the best answer based only on the \
         speech content and style.\n\nQuestion: {question}\n\nChoices:\n{}\nAnswer:",
        lettered(choices)
    )
}

/// `A. first`, `B. second`, ... one to a line.
fn lettered<'a>(choices: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for (letter, choice) in ('A'..='Z').zip(choices) {
        let separator = if text.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{letter}. {choice}");
    }
    text
}
