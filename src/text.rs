//! Tokenizer and prompts.
//!
//! Input: LLaDA's `tokenizer.json` and the user's text. Output: the token ids of a chat prompt, with the place
//! where the audio rows go, and answer ids turned back into text. Invariant: the ids are those of the
//! reference (`build_prompt`, `build_text_prompt`), character for character of its template.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The system turn that DIFFA was trained with.
pub const DEFAULT_SYSTEM: &str = "You are a helpful voice assistant.";

/// Special tokens the chat template consists of.
const TEMPLATE_TOKENS: [&str; 4] =
    ["<|startoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];

/// A `tokenizer.json` pipeline, used as it stands.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
}

impl Tokenizer {
    /// Loads `tokenizer.json` from a LLaDA folder.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Tokenizer`] if it is not a tokenizer.
    pub fn from_dir(llada_dir: &Path) -> Result<Self> {
        let path = llada_dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        Tokenizer::from_bytes(&bytes, &path)
    }

    /// Loads a tokenizer from the content of a `tokenizer.json`; `name` stands for it in messages.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the content is not a tokenizer.
    pub fn from_bytes(bytes: &[u8], name: &Path) -> Result<Self> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| Error::Tokenizer {
            path: name.into(),
            reason: format!("this is not a usable Hugging Face tokenizer ({e}); download the file again"),
        })?;
        Ok(Tokenizer { inner, path: name.into() })
    }

    /// Token ids of `text`. Special tokens in it are recognised and the post-processor is applied.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer has no token for some character.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, true);
        let encoding = encoding.map_err(|e| self.error(format!("the text cannot be encoded ({e})")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of `ids` without the special tokens; ids that are not in the vocabulary decode to nothing (the
    /// model has more rows than the tokenizer has tokens). Bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        // Only decoders that can reject a token sequence fail; there is no text in that case.
        self.inner.decode(ids, true).unwrap_or_default()
    }

    /// [`Tokenizer::decode`] without white space at both ends: the answer as the benchmarks score it.
    pub fn answer_text(&self, ids: &[u32]) -> String {
        strip(&self.decode(ids)).to_string()
    }

    /// Id of a token by its exact name in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One token for display: a special token by its name, any other as text (U+FFFD for a part of a
    /// character). `None` if the id is not in the vocabulary.
    pub fn token_text(&self, id: u32) -> Option<String> {
        let token = self.inner.id_to_token(id)?;
        if self.inner.get_added_vocabulary().is_special_token(&token) {
            return Some(token);
        }
        self.inner.decode(&[id], false).ok()
    }

    /// Id of a special token that the caller cannot do without.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer does not have it as a special token.
    pub fn special(&self, name: &str) -> Result<u32> {
        match self.token_id(name) {
            Some(id) if self.inner.get_added_vocabulary().is_special_token(name) => Ok(id),
            _ => Err(self.error(format!(
                "the special token {name} is missing; use the tokenizer.json of LLaDA-8B-Instruct"
            ))),
        }
    }

    fn error(&self, reason: String) -> Error {
        Error::Tokenizer { path: self.path.clone(), reason }
    }
}

/// Strips what Python's `str.strip` strips: Unicode white space and the four information separators.
fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}

/// Token ids of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// `[p]` ids up to and including the assistant header.
    pub ids: Vec<u32>,
    /// Number of prompt rows in front of the audio rows; `None` without audio.
    pub audio_position: Option<usize>,
}

/// Prompt for a question about a clip (docs/MODEL.md section 6.1).
///
/// `max_length` is the model's `max_sequence_length`. The reference cuts longer prompts there; since the
/// assistant header comes last, every cut would remove it and leave the model without a turn to answer in, so
/// a prompt that is too long is refused instead. Shorter prompts are not affected.
///
/// # Errors
/// [`Error::Usage`] if the prompt is longer than `max_length`, [`Error::Tokenizer`] if the tokenizer lacks a
/// token of the template.
pub fn audio_prompt(tok: &Tokenizer, text: &str, system: &str, max_length: usize) -> Result<Prompt> {
    // The literal "<audio>. " stays in the text: it is ordinary characters, not a token that gets replaced.
    let head = format!("<|startoftext|>{}{}This is the audio: ", turn("system", system), header("user"));
    let ids =
        encode_prompt(tok, &format!("{head}<audio>. {text}<|eot_id|>{}", header("assistant")), max_length)?;
    // The head's last token is its final space, which in the full prompt belongs to " <"; hence minus one.
    let position = tok.encode(&head)?.len().saturating_sub(1);
    if position > ids.len() {
        return Err(
            tok.error("the audio position lies outside the prompt; use the tokenizer.json of LLaDA".into())
        );
    }
    Ok(Prompt { ids, audio_position: Some(position) })
}

/// Prompt without audio, plain LLaDA chat. An empty `system` is the same as none.
///
/// # Errors
/// As [`audio_prompt`].
pub fn text_prompt(tok: &Tokenizer, text: &str, system: Option<&str>, max_length: usize) -> Result<Prompt> {
    let system = system.filter(|s| !s.is_empty()).map(|s| turn("system", s)).unwrap_or_default();
    let prompt = format!("<|startoftext|>{system}{}{}", turn("user", text), header("assistant"));
    Ok(Prompt { ids: encode_prompt(tok, &prompt, max_length)?, audio_position: None })
}

fn header(role: &str) -> String {
    format!("<|start_header_id|>{role}<|end_header_id|>\n\n")
}

fn turn(role: &str, text: &str) -> String {
    format!("{}{text}<|eot_id|>", header(role))
}

fn encode_prompt(tok: &Tokenizer, prompt: &str, max_length: usize) -> Result<Vec<u32>> {
    // Without this check a missing token would silently be spelled out in letters.
    for token in TEMPLATE_TOKENS {
        tok.special(token)?;
    }
    let ids = tok.encode(prompt)?;
    if ids.len() > max_length {
        let (n, over) = (ids.len(), ids.len() - max_length);
        let reason = format!(
            "the prompt has {n} tokens but the model reads at most {max_length}; \
             shorten the question or the system text by {over} tokens or more"
        );
        return Err(Error::usage("question", reason));
    }
    Ok(ids)
}
