//! Prompts, tokenizing and decoding against the golden ids.

use std::path::{Path, PathBuf};

use diffa::error::Error;
use diffa::text::{DEFAULT_SYSTEM, Tokenizer, audio_prompt, text_prompt};
use serde_json::Value;

const MAX: usize = 4096;

fn root(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn tiny() -> Tokenizer {
    Tokenizer::from_dir(&root("tests/fixtures/tiny/llada")).unwrap()
}

#[test]
fn golden_prompts() {
    let tok = tiny();
    let golden = json(&root("tests/fixtures/tiny/expected/prompts.json"));
    for (name, id) in golden["special_ids"].as_object().unwrap() {
        assert_eq!(u64::from(tok.special(name).unwrap()), id.as_u64().unwrap(), "{name}");
        assert_eq!(tok.token_text(id.as_u64().unwrap() as u32).unwrap(), *name);
    }
    let prompts = golden["prompts"].as_object().unwrap();
    assert!(prompts.len() > 20);
    for (name, want) in prompts {
        let text = want["text"].as_str().unwrap();
        let got = audio_prompt(&tok, text, DEFAULT_SYSTEM, MAX).unwrap();
        assert_eq!(got.ids, ids(&want["ids"]), "{name}");
        assert_eq!(got.audio_position, Some(want["audio_pos"].as_u64().unwrap() as usize), "{name}");
        let got = text_prompt(&tok, text, None, MAX).unwrap();
        assert_eq!(got.ids, ids(&want["text_only_ids"]), "{name}");
        assert_eq!(got.audio_position, None);
    }
}

#[test]
fn golden_answers() {
    let tok = tiny();
    let mut n = 0;
    for entry in std::fs::read_dir(root("tests/fixtures/tiny/expected/traces")).unwrap() {
        let path = entry.unwrap().path();
        let run = json(&path);
        assert_eq!(tok.answer_text(&ids(&run["ids"])), run["text"].as_str().unwrap(), "{}", path.display());
        n += 1;
    }
    assert!(n > 50, "{n} runs");
}

#[test]
fn demo_prompts_and_answers() {
    let tok = Tokenizer::from_dir(&root("assets/demo/model/llada")).unwrap();
    let golden = json(&root("assets/demo/expected.json"));
    let items = golden["items"].as_array().unwrap();
    assert!(items.len() > 50);
    for item in items {
        let got = audio_prompt(&tok, item["question"].as_str().unwrap(), DEFAULT_SYSTEM, MAX).unwrap();
        assert_eq!(got.ids, ids(&item["prompt_ids"]), "{}", item["id"]);
        assert_eq!(got.audio_position, item["audio_pos"].as_u64().map(|a| a as usize), "{}", item["id"]);
        for run in item.as_object().unwrap().values().filter(|v| v["ids"].is_array()) {
            assert_eq!(tok.answer_text(&ids(&run["ids"])), run["text"].as_str().unwrap(), "{}", item["id"]);
        }
    }
}

#[test]
fn the_audio_goes_between_the_colon_and_its_label() {
    let tok = tiny();
    let p = audio_prompt(&tok, "Who?", DEFAULT_SYSTEM, MAX).unwrap();
    let (before, after) = p.ids.split_at(p.audio_position.unwrap());
    assert!(tok.decode(before).ends_with("This is the audio:"));
    assert!(tok.decode(after).starts_with(" <audio>. Who?"));
}

#[test]
fn an_empty_system_text_is_none_without_audio() {
    let tok = tiny();
    let none = text_prompt(&tok, "Hi", None, MAX).unwrap();
    assert_eq!(text_prompt(&tok, "Hi", Some(""), MAX).unwrap(), none);
    let some = text_prompt(&tok, "Hi", Some("Be brief."), MAX).unwrap();
    assert!(some.ids.len() > none.ids.len());
    assert!(tok.decode(&some.ids).contains("Be brief."));
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let tok = tiny();
    let n = audio_prompt(&tok, "Who?", DEFAULT_SYSTEM, MAX).unwrap().ids.len();
    assert!(audio_prompt(&tok, "Who?", DEFAULT_SYSTEM, n).is_ok());
    for limit in [0, 5, n - 1] {
        let e = audio_prompt(&tok, "Who?", DEFAULT_SYSTEM, limit).unwrap_err();
        assert!(matches!(e, Error::Usage { .. }), "{e}");
        assert!(e.to_string().contains(&format!("{n} tokens")), "{e}");
    }
    assert!(matches!(text_prompt(&tok, &"word ".repeat(5000), None, MAX), Err(Error::Usage { .. })));
}

#[test]
fn decoding_drops_special_and_unknown_ids_and_keeps_blanks() {
    let tok = tiny();
    let text = "  café 你好 😀 \n";
    let mut all = tok.encode(text).unwrap();
    assert_eq!(tok.decode(&all), text);
    assert_eq!(tok.answer_text(&all), text.trim());
    all.push(tok.special("<|eot_id|>").unwrap());
    all.extend([999, 126_463, u32::MAX]);
    assert_eq!(tok.decode(&all), text);
    assert_eq!(tok.decode(&[]), "");
    assert_eq!(tok.token_text(999), None);
    assert_eq!(tok.token_id("<|no_such|>"), None);
}

#[test]
fn single_tokens_for_display() {
    let tok = tiny();
    let whole: String =
        tok.encode("the audio").unwrap().iter().map(|id| tok.token_text(*id).unwrap()).collect();
    assert_eq!(whole, "the audio");
    // Four byte tokens of one character: each alone is not text.
    let emoji = tok.encode("😀").unwrap();
    assert!(emoji.len() == 1 || emoji.iter().all(|id| tok.token_text(*id).unwrap().contains('\u{fffd}')));
}

#[test]
fn special_tokens_in_the_question_are_recognised() {
    let tok = tiny();
    assert_eq!(tok.encode("<|eot_id|>").unwrap(), [tok.special("<|eot_id|>").unwrap()]);
}

#[test]
fn missing_and_damaged_tokenizers() {
    let dir = tempfile::tempdir().unwrap();
    let message = |r: diffa::error::Result<Tokenizer>| r.err().unwrap();
    let e = message(Tokenizer::from_dir(dir.path()));
    assert!(matches!(&e, Error::Io { path, .. } if path.ends_with("tokenizer.json")), "{e}");
    for bytes in [&b""[..], b"{}", b"version https://git-lfs", b"{\"model\":{\"type\":\"BPE\"", b"\xff\xfe"] {
        std::fs::write(dir.path().join("tokenizer.json"), bytes).unwrap();
        let e = message(Tokenizer::from_dir(dir.path()));
        assert!(matches!(&e, Error::Tokenizer { path, .. } if path.ends_with("tokenizer.json")), "{e}");
    }
}

#[test]
fn a_missing_special_token_is_named() {
    let mut file = json(&root("tests/fixtures/tiny/llada/tokenizer.json"));
    let added = file["added_tokens"].as_array_mut().unwrap();
    added.retain(|t| t["content"] != "<|eot_id|>");
    let tok =
        Tokenizer::from_bytes(&serde_json::to_vec(&file).unwrap(), Path::new("my/tokenizer.json")).unwrap();
    let e = audio_prompt(&tok, "Who?", DEFAULT_SYSTEM, MAX).unwrap_err();
    assert!(matches!(e, Error::Tokenizer { .. }));
    assert!(e.to_string().contains("<|eot_id|>") && e.to_string().contains("my/tokenizer.json"), "{e}");
    assert!(text_prompt(&tok, "Who?", None, MAX).is_err());
    assert!(tok.special("audio").is_err());
}
