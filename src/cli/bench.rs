//! `diffa bench decode`: every decoder on one checkpoint, as ratios against the exact one in the same run.

use std::time::Duration;

use diffa::decode::Prompt;
use diffa::decode::measure::{Measured, measure};
use diffa::{Cache, DecodeOptions, Diffa, Error, Preset, Result, Rule};
use serde_json::{Value, json};

use super::args::{BenchDecodeArgs, Global};
use super::terminal::{self, Terminal};
use super::{interrupt, load, report};

/// Steps, block length, answer length: MMSU, MMAU and VoiceBench, `generate()`, long.
const SETTINGS: &str = "4/4/4,16/16/16,128/32/128,1024/32/1024";

/// A decoder by name.
struct Decoder {
    name: &'static str,
    options: DecodeOptions,
}

fn decoders(lengths: [usize; 3], stop_ids: &[u32]) -> Vec<Decoder> {
    let plain = DecodeOptions::new(lengths[0], lengths[1], lengths[2]);
    let with = |cache, rule| DecodeOptions { cache, rule, ..plain.clone() };
    let preset = |preset: Preset| {
        let mut options = plain.clone();
        preset.apply(&mut options, stop_ids);
        Decoder { name: preset.name(), options }
    };
    vec![
        preset(Preset::Exact),
        Decoder { name: "prefix cache, quota", options: with(Cache::Prefix, Rule::Quota) },
        Decoder { name: "dual cache, quota", options: with(Cache::Dual, Rule::Quota) },
        Decoder { name: "dual cache, threshold 0.9", options: with(Cache::Dual, Rule::Threshold(0.9)) },
        Decoder { name: "dual cache, factor 1", options: with(Cache::Dual, Rule::Factor(1.0)) },
        preset(Preset::Balanced),
        preset(Preset::Fast),
    ]
}

/// Runs the command.
pub(super) fn decode(term: &Terminal, global: &Global, args: &BenchDecodeArgs) -> Result<()> {
    let settings = args.settings.as_deref().unwrap_or(SETTINGS);
    let settings = settings.split(',').map(lengths).collect::<Result<Vec<_>>>()?;
    let budget = Duration::try_from_secs_f64(args.seconds)
        .map_err(|_| Error::usage("--seconds", format!("{} is no time to measure for", args.seconds)))?;
    let paths = diffa::ModelPaths { model: args.model.clone(), llm: args.llm.clone(), ..Default::default() };
    let gpu = load::open(term, global)?;
    let (diffa, _) = load::model(term, &gpu, &paths, false)?;
    let prompt = prompt_ids(&diffa, args.rows);
    let mut rows = Vec::new();
    for lengths in settings {
        let mut exact: Option<Measured> = None;
        for Decoder { name, options } in decoders(lengths, &diffa.stop_ids()) {
            interrupt::check()?;
            options.validate()?;
            let prompt = Prompt { ids: &prompt, audio: None };
            let found = measure(&gpu, diffa.llada(), prompt, &options, budget)?;
            let row = row(lengths, name, &found, exact.as_ref().unwrap_or(&found));
            if !args.json {
                if exact.is_none() {
                    terminal::print(&heading(lengths, args.rows))?;
                }
                terminal::print(&line(&row))?;
            }
            rows.push(row);
            exact.get_or_insert(found);
        }
    }
    if args.json {
        let adapter = report::adapter(&gpu.caps().info, gpu.reason());
        let object = json!({ "adapter": adapter, "version": env!("CARGO_PKG_VERSION"), "context_rows": args.rows, "rows": rows });
        terminal::print(&object.to_string())?;
    }
    Ok(())
}

/// Ordinary tokens, spread over the vocabulary; what they say does not matter for the time they take.
fn prompt_ids(diffa: &Diffa, rows: usize) -> Vec<u32> {
    let vocab = diffa.llada().config().vocab_size;
    let ordinary = vocab.saturating_sub(64).max(1);
    (0..rows).map(|i| ((i * 7919 + 13) % ordinary) as u32).collect()
}

fn lengths(text: &str) -> Result<[usize; 3]> {
    let parts: Option<Vec<usize>> = text.trim().split('/').map(|part| part.parse().ok()).collect();
    let Some(&[steps, block_length, gen_length]) = parts.as_deref() else {
        let reason = format!("`{text}` is not STEPS/BLOCK/LENGTH, for example 16/16/16");
        return Err(Error::usage("--settings", reason));
    };
    DecodeOptions::new(steps, block_length, gen_length).validate()?;
    Ok([steps, block_length, gen_length])
}

fn row(lengths: [usize; 3], name: &str, found: &Measured, exact: &Measured) -> Value {
    let ratio = |exact: f64, own: f64| if own > 0.0 { exact / own } else { 0.0 };
    json!({
        "steps": lengths[0], "block_length": lengths[1], "gen_length": lengths[2],
        "decoder": name,
        "nfe": found.forwards,
        "rows": found.rows,
        "gflop": found.flops as f64 / 1e9,
        "seconds": found.seconds,
        "tokens": found.tokens,
        "tokens_per_forward": found.tokens as f64 / found.forwards.max(1) as f64,
        "work_ratio": ratio(exact.flops as f64, found.flops as f64),
        "time_ratio": ratio(exact.seconds, found.seconds),
        "gflop_per_second": found.flops as f64 / 1e9 / found.seconds.max(1e-9),
        "extrapolated": found.extrapolated,
    })
}

fn heading([steps, block, length]: [usize; 3], rows: usize) -> String {
    format!(
        "\n{steps} steps, blocks of {block}, {length} tokens, {rows} context rows\n{:26} {:>5} {:>8} {:>9} {:>9} {:>6} {:>7} {:>7} {:>7} {:>8}",
        "decoder", "NFE", "rows", "GFLOP", "s", "tokens", "tok/fwd", "work x", "time x", "GFLOP/s"
    )
}

fn line(row: &Value) -> String {
    let number = |key: &str| row[key].as_f64().unwrap_or_default();
    format!(
        "{:26} {:>5} {:>8} {:>9.2} {:>8.2}{} {:>6} {:>7.2} {:>7.2} {:>7.2} {:>8.1}",
        row["decoder"].as_str().unwrap_or_default(),
        row["nfe"].as_u64().unwrap_or_default(),
        row["rows"].as_u64().unwrap_or_default(),
        number("gflop"),
        number("seconds"),
        if row["extrapolated"] == true { "~" } else { " " },
        row["tokens"].as_u64().unwrap_or_default(),
        number("tokens_per_forward"),
        number("work_ratio"),
        number("time_ratio"),
        number("gflop_per_second"),
    )
}
