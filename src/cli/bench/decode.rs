//! `diffa bench decode`: every decoder on one checkpoint, as ratios against the exact one in the same run.

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use diffa::bench::Clock;
use diffa::bench::decode::{Measured, measure};
use diffa::bench::model::spread_ids;
use diffa::bench::report::{Report, Row};
use diffa::decode::Prompt;
use diffa::{Cache, CacheDtype, DecodeOptions, Diffa, Error, Gpu, Preset, Result, Rule};
use serde_json::{Value, json};

use super::output::{Output, OutputArgs};
use super::{name, seconds};
use crate::cli::args::{Global, LlmArgs, length};
use crate::cli::terminal::Terminal;
use crate::cli::{interrupt, load};

pub(super) const HELP: &str = "\
Columns: NFE forwards; rows fed to the transformer; GFLOP of all dispatches; wall seconds of all steps; tokens \
committed per forward; work and time as ratios against the exact decoder in the same run.

Examples:
  diffa bench decode
  diffa bench decode --llm DIR --settings 16/16/16 --seconds 60 --json";

#[derive(Debug, Args)]
pub(in crate::cli) struct DecodeArgs {
    /// Rows before the answer; a 30 s clip and a short question are about 450.
    #[arg(long, value_name = "N", default_value_t = 450, value_parser = length(), allow_negative_numbers = true)]
    rows: usize,
    /// Lengths to measure, separated by commas; the published ones and a long one if not given.
    #[arg(long, value_name = "STEPS/BLOCK/LENGTH")]
    settings: Option<String>,
    /// Type of keys and values in all decoders.
    #[arg(long, default_value = "f32", value_parser = PossibleValuesParser::new(["f32", "f16"]))]
    cache_dtype: String,
    /// Time for each decode; fixed schedules that take longer are extrapolated and marked with ~.
    #[arg(long, value_name = "S", default_value_t = 20.0, allow_negative_numbers = true)]
    seconds: f64,
    #[command(flatten)]
    llm: LlmArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Steps, block length, answer length: MMSU, MMAU and VoiceBench, `generate()`, long.
const SETTINGS: &str = "4/4/4,16/16/16,128/32/128,1024/32/1024";

/// A decoder by name.
struct Decoder {
    name: &'static str,
    options: DecodeOptions,
}

fn decoders(plain: &DecodeOptions, stop_ids: &[u32]) -> Vec<Decoder> {
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

pub(super) fn run(term: &Terminal, global: &Global, args: &DecodeArgs) -> Result<()> {
    let output = Output::new(&args.output, "decode")?;
    let settings = args.settings.as_deref().unwrap_or(SETTINGS);
    let settings = settings.split(',').map(lengths).collect::<Result<Vec<_>>>()?;
    let budget = seconds("--seconds", args.seconds)?;
    let cache_dtype: CacheDtype = args.cache_dtype.parse()?;
    let paths = args.llm.paths();
    let gpu = load::open(term, global)?;
    let (diffa, _) =
        load::model(term, &gpu, &paths, false, &DecodeOptions { cache_dtype, ..Default::default() })?;
    let about = json!({
        "model": name(&paths), "context_rows": args.rows, "seconds": args.seconds, "cache_dtype": cache_dtype.name(),
    });
    let mut report = Report::new("decode", &gpu, about);
    // Whole decodes, with what the processor does between their steps.
    report.head.clock = Clock::Wall.name().into();
    output.head(&report)?;
    for lengths in settings {
        output.text(&heading(lengths, args.rows))?;
        let [steps, block_length, gen_length] = lengths;
        let plain = DecodeOptions { cache_dtype, ..DecodeOptions::new(steps, block_length, gen_length) };
        decode_all(&gpu, &diffa, &plain, args.rows, budget, &mut |row| {
            output.text(&line(&row))?;
            report.rows.push(row);
            Ok(())
        })?;
    }
    output.finish(&report)
}

/// Every decoder with the lengths and the cache type of `plain`, the exact one first.
fn decode_all(
    gpu: &Gpu,
    diffa: &Diffa,
    plain: &DecodeOptions,
    rows: usize,
    budget: Duration,
    on_row: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<()> {
    let prompt = spread_ids(diffa.llada(), rows);
    let mut exact: Option<Measured> = None;
    for Decoder { name, options } in decoders(plain, &diffa.stop_ids()) {
        interrupt::check()?;
        options.validate()?;
        let prompt = Prompt { ids: &prompt, audio: None };
        let found = measure(gpu, diffa.llada(), prompt, &options, budget)?;
        on_row(row(plain, rows, name, &found, exact.as_ref().unwrap_or(&found)))?;
        exact.get_or_insert(found);
    }
    Ok(())
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

fn row(plain: &DecodeOptions, rows: usize, name: &str, found: &Measured, exact: &Measured) -> Row {
    let (steps, block, length) = (plain.steps, plain.block_length, plain.gen_length);
    let ratio = |exact: f64, own: f64| if own > 0.0 { exact / own } else { 0.0 };
    let case = format!("{steps} steps, blocks of {block}, {length} tokens, {rows} context rows");
    let mut row = Row::new(&case, name, found.seconds, 0.0);
    row.spread = None; // one sample
    let figures = json!({
        "steps": steps, "block_length": block, "gen_length": length,
        "nfe": found.forwards,
        "rows": found.rows,
        "gflop": found.flops as f64 / 1e9,
        "tokens": found.tokens,
        "tokens_per_forward": found.tokens as f64 / found.forwards.max(1) as f64,
        "work_ratio": ratio(exact.flops as f64, found.flops as f64),
        "time_ratio": ratio(exact.seconds, found.seconds),
        "gflop_per_second": found.flops as f64 / 1e9 / found.seconds.max(1e-9),
        "extrapolated": found.extrapolated,
    });
    if let Value::Object(figures) = figures {
        row.figures.extend(figures);
    }
    row
}

fn heading([steps, block, length]: [usize; 3], rows: usize) -> String {
    format!(
        "\n{steps} steps, blocks of {block}, {length} tokens, {rows} context rows\n{:26} {:>5} {:>8} {:>9} {:>9} {:>6} {:>7} {:>7} {:>7} {:>8}",
        "decoder", "NFE", "rows", "GFLOP", "s", "tokens", "tok/fwd", "work x", "time x", "GFLOP/s"
    )
}

fn line(row: &Row) -> String {
    let number = |key: &str| row.number(key).unwrap_or_default();
    format!(
        "{:26} {:>5} {:>8} {:>9.2} {:>8.2}{} {:>6} {:>7.2} {:>7.2} {:>7.2} {:>8.1}",
        row.variant,
        number("nfe"),
        number("rows"),
        number("gflop"),
        row.seconds,
        if row.figures.get("extrapolated") == Some(&Value::Bool(true)) { "~" } else { " " },
        number("tokens"),
        number("tokens_per_forward"),
        number("work_ratio"),
        number("time_ratio"),
        number("gflop_per_second"),
    )
}
