//! What several outputs say alike: the adapter and the settings of a decode, as JSON.

use diffa::gpu::caps;
use diffa::{Cache, DecodeOptions, Remasking, Rule};
use serde_json::{Map, Value, json};

pub(super) type Object = Map<String, Value>;

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

/// An f32 with the digits it has, not those of its f64 neighbour.
pub(super) fn number(x: f32) -> Value {
    json!(x.to_string().parse::<f64>().unwrap_or(f64::from(x)))
}
