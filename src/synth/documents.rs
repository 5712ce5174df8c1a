//! The JSON files of a synthetic model: configurations as the released ones have them, and a tokenizer of bytes.

use serde_json::{Map, Value, json};

/// LLaDA's special tokens: distance of the id from the end of the vocabulary, as in the released tokenizer.
const SPECIAL: [(&str, usize); 8] = [
    ("<|startoftext|>", 384),
    ("<|endoftext|>", 383),
    ("[CLS]", 382),
    ("[gMASK]", 381),
    ("<|mdm_mask|>", 128),
    ("<|start_header_id|>", 118),
    ("<|end_header_id|>", 117),
    ("<|eot_id|>", 116),
];

/// `config.json` of LLaDA: width, layers, heads, key heads, feed-forward width, vocabulary.
pub(super) fn llada_config([d, layers, heads, kv_heads, mlp, vocab]: [usize; 6]) -> Value {
    let eos = vocab - 383;
    json!({
        "activation_type": "silu", "alibi": false, "architectures": ["LLaDAModelLM"], "attention_dropout": 0.0,
        "attention_layer_norm": false, "bias_for_layer_norm": false, "block_group_size": 1, "block_type": "llama",
        "d_model": d, "embedding_dropout": 0.0, "embedding_size": vocab, "eos_token_id": eos,
        "include_bias": false, "include_qkv_bias": false, "input_emb_norm": false, "layer_norm_type": "rms",
        "layer_norm_with_affine": true, "mask_token_id": vocab - 128, "max_sequence_length": 4096,
        "mlp_hidden_size": mlp, "mlp_ratio": 4, "model_type": "llada", "multi_query_attention": null,
        "n_heads": heads, "n_kv_heads": kv_heads, "n_layers": layers, "pad_token_id": eos,
        "precision": "amp_bf16", "residual_dropout": 0.0, "rms_norm_eps": 1e-5, "rope": true,
        "rope_full_precision": true, "rope_theta": 500_000.0, "scale_logits": false, "torch_dtype": "bfloat16",
        "use_cache": false, "vocab_size": vocab, "weight_tying": false,
    })
}

/// `config.json` and `preprocessor_config.json` of Whisper: width, layers, heads, feed-forward width, encoder rows.
pub(super) fn whisper_config([d, layers, heads, ffn, positions]: [usize; 5]) -> (Value, Value) {
    let config = json!({
        "activation_function": "gelu", "architectures": ["WhisperForConditionalGeneration"], "d_model": d,
        "encoder_attention_heads": heads, "encoder_ffn_dim": ffn, "encoder_layers": layers,
        "max_source_positions": positions, "model_type": "whisper", "num_hidden_layers": layers,
        "num_mel_bins": 80, "scale_embedding": false, "torch_dtype": "float32",
    });
    let (samples, frames) = (2 * positions * 160, 2 * positions);
    let preprocessor = json!({
        "chunk_length": samples / 16000, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80,
        "hop_length": 160, "n_fft": 400, "n_samples": samples, "nb_max_frames": frames, "padding_side": "right",
        "padding_value": 0.0, "return_attention_mask": false, "sampling_rate": 16000,
    });
    (config, preprocessor)
}

/// Byte-level BPE without merges: 256 byte tokens, then the special tokens at their released distances from
/// the end of the vocabulary. The ids between have no token and decode to nothing.
pub(super) fn tokenizer(vocab: usize) -> Value {
    // Byte-level BPE writes unprintable bytes as the characters from U+0100 on.
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut other = 256..;
    let mut table = Map::new();
    for byte in 0..256u32 {
        let code = if printable(byte) { Some(byte) } else { other.next() };
        let name = code.and_then(char::from_u32).unwrap_or_default();
        table.insert(name.to_string(), Value::from(byte));
    }
    let mut added = vec![];
    for (name, from_end) in SPECIAL {
        // The loader gives added tokens the ids of the model's vocabulary, so they must be in it as well.
        table.insert(name.to_string(), Value::from(vocab - from_end));
        added.push(json!({
            "id": vocab - from_end, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
    }
    let level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": table, "merges": [],
        },
    })
}

/// `tokenizer_config.json` and `special_tokens_map.json`.
pub(super) fn tokenizer_documents() -> [Value; 2] {
    let map = json!({
        "bos_token": "<|startoftext|>", "cls_token": "[CLS]", "eos_token": "<|endoftext|>",
        "gmask_token": "[gMASK]", "pad_token": "<|endoftext|>",
    });
    let mut config = map.clone();
    config["add_bos_token"] = false.into();
    config["add_eos_token"] = false.into();
    config["clean_up_tokenization_spaces"] = false.into();
    config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
    [config, map]
}
