//! `diffa bench decode`: every decoder on one checkpoint, as ratios against the exact one in the same run.

use clap::Args;
use clap::builder::PossibleValuesParser;
use diffa::bench::decode::{Measured, measure};
use diffa::bench::model::spread_ids;
use diffa::bench::report::{Report, Row};
use diffa::bench::{Clock, median};
use diffa::decode::Prompt;
use diffa::{Cache, CacheDtype, DecodeOptions, Error, Preset, Result, Rule};
use serde_json::{Value, json};

use super::output::{Output, OutputArgs};
use super::{name, seconds};
use crate::cli::args::{Global, LlmArgs, length};
use crate::cli::terminal::Terminal;
use crate::cli::{interrupt, load};

pub(super) const HELP: &str = "\
Columns: NFE forwards; rows fed to the transformer; GFLOP of all dispatches; wall seconds of all steps; tokens \
committed per forward; work and time as ratios against the exact decoder in the same run. Of several rounds each \
decoder's median counts.

Examples:
  diffa bench decode
  diffa bench decode --llm DIR --settings 16/16/16 --seconds 60 --json
  diffa bench decode --filter dual --settings 64/32/64 --rounds 5     on a machine that others use, too";

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
    /// Times that all decoders are measured, in turn.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Only decoders with this text in their name, beside the exact one.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
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
    // Before a long load.
    chosen(&DecodeOptions::default(), &[], args.filter.as_deref())?;
    let paths = args.llm.paths();
    let gpu = load::open(term, global)?;
    let (diffa, _) =
        load::model(term, &gpu, &paths, false, &DecodeOptions { cache_dtype, ..Default::default() })?;
    let about = json!({
        "model": name(&paths), "context_rows": args.rows, "seconds": args.seconds, "cache_dtype": cache_dtype.name(),
        "rounds": args.rounds, "filter": args.filter,
    });
    let mut report = Report::new("decode", &gpu, about);
    // Whole decodes, with what the processor does between their steps.
    report.head.clock = Clock::Wall.name().into();
    output.head(&report)?;
    for lengths in settings {
        output.text(&heading(lengths, args.rows))?;
        let [steps, block_length, gen_length] = lengths;
        let plain = DecodeOptions { cache_dtype, ..DecodeOptions::new(steps, block_length, gen_length) };
        let chosen = chosen(&plain, &diffa.stop_ids(), args.filter.as_deref())?;
        let prompt = spread_ids(diffa.llada(), args.rows);
        let once = |decoder: &Decoder| {
            interrupt::check()?;
            let prompt = Prompt { ids: &prompt, audio: None };
            measure(&gpu, diffa.llada(), prompt, &decoder.options, budget)
        };
        let mut rounds: Vec<Vec<Measured>> = vec![Vec::new(); chosen.len()];
        for round in 1..=args.rounds {
            for (i, decoder) in chosen.iter().enumerate() {
                rounds[i].push(once(decoder)?);
                // In the last round as soon as it is known.
                if round == args.rounds {
                    let row = row(&plain, args.rows, decoder.name, &rounds[i], &rounds[0]);
                    output.text(&line(&row))?;
                    report.rows.push(row);
                }
            }
        }
    }
    output.finish(&report)
}

/// The exact decoder, and those others with `filter` in their names.
///
/// Errors: lengths that a decoder cannot have, a filter that leaves none.
fn chosen(plain: &DecodeOptions, stop_ids: &[u32], filter: Option<&str>) -> Result<Vec<Decoder>> {
    let all = decoders(plain, stop_ids);
    let filter = filter.unwrap_or_default().to_lowercase();
    if !all.iter().any(|decoder| decoder.name.contains(&filter)) {
        let names: Vec<&str> = all.iter().map(|decoder| decoder.name).collect();
        return Err(Error::usage("--filter", format!("`{filter}` is in none of: {}", names.join("; "))));
    }
    all.iter().try_for_each(|decoder| decoder.options.validate())?;
    let is_exact = |decoder: &Decoder| decoder.name == Preset::Exact.name();
    Ok(all.into_iter().filter(|decoder| is_exact(decoder) || decoder.name.contains(&filter)).collect())
}

/// The run in the middle with the median of all times, and the longest less the shortest as a share of it.
fn middle(rounds: &[Measured]) -> (Measured, f64) {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let seconds = median(rounds.iter().map(|round| round.seconds).collect());
    let spread = sorted[sorted.len() - 1].seconds - sorted[0].seconds;
    (Measured { seconds, ..sorted.swap_remove(sorted.len() / 2) }, spread / seconds.max(1e-9))
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

/// `rounds` of one decoder, beside those of the exact one.
fn row(plain: &DecodeOptions, rows: usize, name: &str, rounds: &[Measured], exact: &[Measured]) -> Row {
    let ((found, spread), (exact, _)) = (middle(rounds), middle(exact));
    let (steps, block, length) = (plain.steps, plain.block_length, plain.gen_length);
    let ratio = |exact: f64, own: f64| if own > 0.0 { exact / own } else { 0.0 };
    let case = format!("{steps} steps, blocks of {block}, {length} tokens, {rows} context rows");
    let mut row = Row::new(&case, name, found.seconds, spread);
    // One sample has none.
    row.spread = row.spread.filter(|_| rounds.len() > 1);
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
