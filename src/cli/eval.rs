//! `diffa eval`: a public benchmark, answered into a file that survives any interruption.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::PossibleValuesParser;
use diffa::eval::answers::AnswerFile;
use diffa::eval::benchmark::Benchmark;
use diffa::eval::record::{self, Run};
use diffa::eval::runner::{self, Event, Job, Tally};
use diffa::eval::select::{Selected, Selection};
use diffa::eval::{Object, dataset};
use diffa::model::Part;
use diffa::text::DEFAULT_SYSTEM;
use diffa::{CacheDtype, DecodeOptions, Error, ModelPaths, Quantization, Result};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::args::{DecodeArgs, Global, ModelArgs};
use super::terminal::{self, Terminal};
use super::{facts, interrupt, load, paths, settings};

pub(super) const HELP: &str = "\
MMSU is read from its jsonl, MMAU from its json, VoiceBench from a Parquet file of the Hugging Face hub, a jsonl with \
an `audio` path per line, or a folder of such files (`--filter subset=openbookqa` takes one subset).

Lengths: steps, block and answer are the published ones (mmsu 4/4/4, mmau and voicebench 16/16/16) unless given; \
what is left out follows from what is given, as for `diffa ask`. The preset is `exact` unless given.

Each answer is written at once: after a crash or Ctrl-C the same command with --resume goes on, and --resume starts \
a file that is not there. The file holds the fields of the official one and a field `diffa`: which item it is, \
seconds, forwards, settings, or the error of an item that could not be answered, which counts as wrong (the \
published MMSU program leaves out items without a clip instead). MMAU's is one JSON array once it is \
complete, and lines until then. Several machines: --shard, then `diffa merge`; see docs/CLUSTER.md.

Examples:
  diffa eval mmsu --data mmsu.jsonl --out mmsu.answers.jsonl --model DIR
  diffa eval mmau --data mmau-test-mini.json --out mmau.json --model DIR --preset fast --resume
  diffa eval voicebench --data voicebench/openbookqa --out openbookqa.jsonl --model DIR --shard 0/4
  diffa eval mmsu --data mmsu.jsonl --out some.jsonl --filter category=Perception --shuffle 1 --limit 100

Exit codes: 0 all items have a row (errors are counted in the summary), 1 failed, 2 bad usage or input, \
130 interrupted.";

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Which benchmark.
    #[arg(value_name = "BENCHMARK", value_parser = PossibleValuesParser::new(["mmsu", "mmau", "voicebench"]))]
    benchmark: String,
    /// The benchmark's data as it is published: a file, or for VoiceBench a folder.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// File of answers.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where relative audio paths start; at the folder of the data file if not given.
    #[arg(long, value_name = "DIR")]
    audio_root: Option<PathBuf>,
    /// Go on with a file that an earlier run left, with the same options; no item is answered twice.
    #[arg(long)]
    resume: bool,
    /// With --resume: try the items again that ended with an error.
    #[arg(long, requires = "resume")]
    retry: bool,
    /// Stop at the first item that cannot be answered, instead of recording its error.
    #[arg(long)]
    strict: bool,
    /// Only items with this value; several for one field: any of them, for several fields: all.
    #[arg(long, value_name = "FIELD=VALUE", help_heading = "Selection")]
    filter: Vec<String>,
    /// A random order.
    #[arg(long, value_name = "SEED", help_heading = "Selection")]
    shuffle: Option<u64>,
    /// At most this many, after filter and shuffle.
    #[arg(long, value_name = "N", help_heading = "Selection")]
    limit: Option<usize>,
    /// Only part I of N of what is left, counted from 0: contiguous parts of equal size.
    #[arg(long, value_name = "I/N", help_heading = "Selection")]
    shard: Option<String>,
    /// One JSON object on stdout instead of a sentence.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    decode: DecodeArgs,
}

impl EvalArgs {
    /// Refuses what cannot be the file of answers.
    fn check_out(&self) -> Result<()> {
        paths::check_output("--out", &self.out, [self.data.as_path()])?;
        load::check_target("--out", &self.out, None)
    }

    fn selection(&self) -> Result<Selection> {
        if self.limit == Some(0) {
            return Err(Error::usage("--limit", "must be at least 1"));
        }
        Ok(Selection {
            filters: self.filter.iter().map(|text| text.parse()).collect::<Result<_>>()?,
            shuffle: self.shuffle,
            limit: self.limit,
            shard: self.shard.as_deref().map(str::parse).transpose()?,
        })
    }
}

/// Runs the command.
pub(super) fn run(term: &Terminal, global: &Global, args: &EvalArgs) -> Result<()> {
    let benchmark: Benchmark = args.benchmark.parse()?;
    let paths = args.model.paths();
    let mut options = settings::decode_options_from(&args.decode, &benchmark.decode_options())?;
    let ends = diffa::engine::end_ids(&paths.llada_config()?, &paths.tokenizer()?);
    settings::add_end_tokens(&args.decode, ends, &mut options);
    let selection = args.selection()?;
    args.check_out()?;
    let items = dataset::read(benchmark, &args.data, args.audio_root.as_deref())?;
    let selected = selection.apply(items)?;
    check_audio(term, &selected)?;
    let system = args.decode.system.as_deref().unwrap_or(DEFAULT_SYSTEM);
    let run = Run::new(
        benchmark,
        run_settings(&paths, &args.decode.preset, &options, system)?,
        &selection,
        &selected,
    );

    let (mut file, mut rows) = match args.resume {
        true => AnswerFile::resume(&args.out, benchmark)?,
        false => (AnswerFile::create(&args.out, benchmark)?, Vec::new()),
    };
    if args.retry && rows.iter().any(|row| record::failure(row).is_some()) {
        rows.retain(|row| record::failure(row).is_none());
        file.replace(&rows)?;
    }
    let due = runner::pending(benchmark, &run, &selected, &rows)?;
    let mut tally = Tally::default();
    rows.iter().for_each(|row| tally.add(benchmark, row));
    if !rows.is_empty() {
        term.note(&format!("{} of {} items have their row already", rows.len(), selected.due.len()));
    }

    let start = Instant::now();
    if !due.is_empty() {
        let gpu = load::open(term, global)?;
        let (diffa, _) = load::model(term, &gpu, &paths, true, &options)?;
        let device = gpu.caps().describe();
        let strict = args.strict;
        let job =
            Job { diffa: &diffa, benchmark, options: &options, system, strict, run: &run, device: &device };
        let bar = term.items(benchmark.name(), rows.len(), selected.due.len());
        let done = runner::run(&job, &due, &mut file, &mut |event| {
            if let Event::Finished(row) = event {
                tally.add(benchmark, row);
                if let Some(reason) = record::failure(row) {
                    bar.suspend(|| term.warn(reason));
                }
                advance(&bar, &tally);
            }
            interrupt::check()
        });
        bar.finish_and_clear();
        if let Err(error) = done {
            term.warn(&format!(
                "stopped with {} of {} items in {}; the same command with --resume goes on from there",
                tally.items,
                selected.due.len(),
                args.out.display()
            ));
            return Err(error);
        }
    }
    file.finish()?;
    let empty = selection.shard.filter(|_| selected.due.is_empty()).map(|shard| {
        format!(
            "shard {shard} is empty, as there are only {} items for {} shards",
            selected.total, shard.count
        )
    });
    let summary = Summary { benchmark, tally, elapsed: start.elapsed(), out: &args.out, empty };
    terminal::print(&if args.json { summary.json() } else { summary.sentence() })
}

/// Warns of clips that are not there; if none is, their folder is wrong.
fn check_audio(term: &Terminal, selected: &Selected) -> Result<()> {
    let mut missing = selected.due.iter().map(|due| &due.item.audio).filter(|audio| !audio.may_exist());
    let Some(first) = missing.next() else { return Ok(()) };
    let (count, name) = (1 + missing.count(), first.name());
    if count == selected.due.len() {
        let reason =
            format!("no clip is there, for example {}; name the folder their paths start at", name.display());
        return Err(Error::usage("--audio-root", reason));
    }
    term.warn(&format!(
        "{count} of {} items have no clip, for example {}",
        selected.due.len(),
        name.display()
    ));
    Ok(())
}

/// Everything that the answers depend on besides the data.
fn run_settings(paths: &ModelPaths, preset: &str, options: &DecodeOptions, system: &str) -> Result<Object> {
    let mut all = Object::new();
    all.insert("model".into(), model(paths)?);
    all.insert("preset".into(), preset.into());
    all.extend(facts::settings(options));
    // Left out where it is what it always was, so that files of earlier versions are known as the same run.
    all.retain(|key, value| key != "cache_dtype" || *value != CacheDtype::F32.name());
    all.insert("system".into(), system.into());
    Ok(all)
}

/// What tells models apart, wherever on a machine they are: names of the folders given, size of the weights.
fn model(paths: &ModelPaths) -> Result<Value> {
    let quantize = paths.quantize.map(Quantization::name);
    if paths.is_demo() {
        return Ok(quantize.map_or("demo".into(), |name| format!("demo {name}").into()));
    }
    let name = |path: &Option<PathBuf>| {
        let full = path.as_ref().and_then(|path| path.canonicalize().ok());
        full.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
    };
    let bytes = paths.load_bytes(&[Part::Whisper, Part::Adapters, Part::Llm])?;
    let ModelPaths { model, llm, whisper, adapters, quantize: _ } = paths;
    Ok(json!({
        "model": name(model), "llm": name(llm), "whisper": name(whisper), "adapters": name(adapters), "bytes": bytes,
        "quantize": quantize,
    }))
}

fn advance(bar: &ProgressBar, tally: &Tally) {
    let right = tally.accuracy().map(|accuracy| format!(", {:.1} % right", 100.0 * accuracy));
    let failed = (tally.failed > 0).then(|| format!(", {} errors", tally.failed));
    bar.set_message(right.unwrap_or_default() + &failed.unwrap_or_default());
    bar.inc(1);
}

struct Summary<'a> {
    benchmark: Benchmark,
    tally: Tally,
    elapsed: Duration,
    out: &'a Path,
    /// Why there was nothing to answer.
    empty: Option<String>,
}

impl Summary<'_> {
    fn sentence(&self) -> String {
        let Tally { items, failed, judged, right, .. } = self.tally;
        if let Some(empty) = &self.empty {
            return format!("{}: {empty}: {}", self.benchmark, self.out.display());
        }
        let score = match self.tally.accuracy() {
            Some(accuracy) => format!("{right} of {judged} right ({:.2} %)", 100.0 * accuracy),
            None => "a judge decides".to_owned(),
        };
        let errors = if failed > 0 { format!(", {failed} errors among them") } else { String::new() };
        let elapsed = self.elapsed.as_secs_f64();
        format!(
            "{}: {items} items{errors}, {score}, in {elapsed:.1} s: {}",
            self.benchmark,
            self.out.display()
        )
    }

    fn json(&self) -> String {
        let Tally { items, failed, judged, right, seconds, forwards } = self.tally;
        let answered = (items - failed).max(1) as f64;
        json!({
            "benchmark": self.benchmark.name(),
            "out": self.out.to_string_lossy(),
            "items": items,
            "empty": self.empty,
            "errors": failed,
            "judged": judged,
            "right": right,
            "accuracy": self.tally.accuracy(),
            "seconds_per_item": seconds / answered,
            "nfe_per_item": forwards as f64 / answered,
            "elapsed_s": self.elapsed.as_secs_f64(),
        })
        .to_string()
    }
}
