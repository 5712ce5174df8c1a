//! `diffa score`: the official scorers' numbers for files of answers.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use diffa::eval::html::{self, Clips, Section};
use diffa::eval::score::{
    self, Answers, Comparison, Incomplete, Rules, Scores, compare, incomplete, repeated_ids,
};
use diffa::files::same_file;
use diffa::{Error, Result};
use serde_json::Value;

use super::judge::{self, JudgeArgs};
use super::paths::check_output;
use super::terminal::{self, Terminal};

pub(super) const HELP: &str = "\
VoiceBench: `voicebench` picks the evaluator by subset: from the field `subset` of the rows, or from an official \
file name (MODEL-SUBSET-SPLIT-MODALITY.jsonl), or --subset. alpacaeval, alpacaeval_full, commoneval, wildvoice: open; \
sd-qa: qa; openbookqa, mmsu: mcq; bbh: bbh; advbench: harm; ifeval: ifeval. The evaluators' names are accepted too. \
open and qa read a judge's scores from the file, or ask one with --judge; subsets that have no scores are listed \
without a number while others have one. PEDANT is out of scope. Where the official \
program draws at random, floor, expected value and ceiling are given. Rows with an `error` and no answer count as \
wrong, and are left out of a judge's average.

Files of diffa eval are checked: answers to another benchmark and items that are there twice are refused, and a \
warning says so if the run is not finished or a shard is missing (with --json: `incomplete`).

--judge writes FILE with the ending .judged.jsonl: each answer with its three votes as soon as they come in. Run \
again, it asks only for what is missing. If votes are still missing at the end, the scores are those of the others \
and the exit code is 3.

Examples:
  diffa score mmsu answers.jsonl
  diffa score voicebench run/*.jsonl
  diffa score voicebench myModel-openbookqa-test.jsonl --json
  diffa score mmau exact.json --compare fast.json
  diffa score voicebench myModel-sd-qa-usa-audio.jsonl --judge https://api.openai.com/v1 --judge-model gpt-4o-mini
  diffa score open answers.jsonl --judge http://localhost:8000/v1 --judge-model qwen2.5-72b --judge-jobs 16";

#[derive(Debug, Args)]
pub(super) struct ScoreArgs {
    /// Benchmark, or the VoiceBench evaluator.
    #[arg(value_parser = PossibleValuesParser::new(
        ["mmsu", "mmau", "voicebench", "open", "qa", "mcq", "bbh", "harm", "ifeval"]))]
    benchmark: String,
    /// JSON lines or one JSON array, with the answers in the fields the benchmark's runner writes. Several files
    /// give one table.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// VoiceBench subset of all files, whatever their names and rows say.
    #[arg(long, value_name = "NAME")]
    subset: Option<String>,
    /// A second run of the same questions, for a paired comparison (McNemar, difference with its 95 % interval);
    /// given once for each FILE.
    #[arg(long, value_name = "FILE")]
    compare: Vec<PathBuf>,
    /// One JSON object instead of tables; with several subsets an array of them.
    #[arg(long)]
    json: bool,
    /// Also writes a page with bars by category, confusions, slowest items, errors, and every item with its clip.
    #[arg(long, value_name = "PAGE", help_heading = "Page")]
    html: Option<PathBuf>,
    /// Folder that the clips' paths are relative to; that of FILE if not given.
    #[arg(long, value_name = "DIR", requires = "html", help_heading = "Page")]
    audio_root: Option<PathBuf>,
    /// Puts the clips into the page instead of linking them: it can be sent around, and is a third larger than they.
    #[arg(long, requires = "html", help_heading = "Page")]
    embed_audio: bool,
    #[command(flatten)]
    judge: JudgeArgs,
}

impl ScoreArgs {
    /// Refuses to read a file twice or to write one that is read, before anything is read.
    fn check_paths(&self) -> Result<()> {
        for (at, file) in self.files.iter().enumerate() {
            if self.files[..at].iter().any(|earlier| same_file(earlier, file)) {
                return Err(Error::usage("FILE", format!("{} is given twice", file.display())));
            }
        }
        let read = self.files.iter().chain(&self.compare).map(PathBuf::as_path);
        let read: Vec<&Path> = read.chain(self.judge.prompt_file()).collect();
        let votes: Vec<PathBuf> = self.files.iter().filter_map(|file| self.judge.output(file)).collect();
        for output in &votes {
            check_output("--judged", output, read.iter().copied())?;
        }
        let Some(page) = &self.html else { return Ok(()) };
        if let Some(output) = votes.iter().find(|output| *output == page || same_file(output, page)) {
            return Err(Error::usage(
                "--html",
                format!("{} is for the votes; name another file", output.display()),
            ));
        }
        check_output("--html", page, read)
    }
}

/// A scored part of the input.
struct Scored {
    label: String,
    answers: Answers,
    scores: Scores,
    comparison: Option<Comparison>,
    /// What its file lacks of the run.
    incomplete: Option<Incomplete>,
}

/// Runs the command.
pub(super) fn run(term: &Terminal, args: &ScoreArgs) -> Result<()> {
    let rules: Rules = args.benchmark.parse()?;
    let subset = args.subset.as_deref();
    args.judge.check(&args.files)?;
    args.check_paths()?;
    let mut files = Vec::with_capacity(args.files.len());
    for file in &args.files {
        files.push((file, Answers::read(file, rules, subset)?));
    }
    let mut others = Vec::new();
    for file in &args.compare {
        for answers in Answers::read(file, rules, subset)? {
            others.push((answers.label(), answers));
        }
    }
    warn_of_rows(term, &files)?;
    let mut parts = Vec::new();
    let mut missing = None;
    for (file, answers) in files {
        let gap = incomplete(&answers)?.into_iter().next();
        let judged = args.judge.ask(term, file, &answers)?;
        if let Some(judged) = &judged {
            missing = missing.or(judge::complaint(term, file, &judged.report));
        }
        let answers = judged.map_or(answers, |judged| judged.answers);
        parts.extend(answers.into_iter().map(|answers| (answers, gap.clone())));
    }
    let scored = score_parts(term, parts, &others)?;
    if args.json {
        print_json(&scored)?
    } else {
        print_tables(&scored)?
    }
    if let Some(page) = &args.html {
        write_page(term, args, page, &scored)?;
        term.note(&format!("the page is {}", page.display()));
    }
    missing.map_or(Ok(()), Err)
}

/// Scores every part, and compares it with the other run of the same part.
fn score_parts(
    term: &Terminal,
    parts: Vec<(Answers, Option<Incomplete>)>,
    others: &[(String, Answers)],
) -> Result<Vec<Scored>> {
    let unjudged = unjudged(term, &parts);
    let mut scored = Vec::with_capacity(parts.len());
    for (answers, incomplete) in parts {
        let label = answers.label();
        let needs_judge = unjudged && answers.needs_judge();
        let mut scores = if needs_judge { answers.unjudged() } else { answers.score(0)? };
        let comparison = match others.iter().find(|(other, _)| *other == label) {
            _ if needs_judge || others.is_empty() => None,
            Some((_, other)) => Some(compare(&scores, &other.score(0)?)?),
            None => return Err(Error::usage("--compare", format!("there is no other run of {label}"))),
        };
        scores.notes.extend(incomplete.as_ref().map(Incomplete::to_string));
        scored.push(Scored { label, answers, scores, comparison, incomplete });
    }
    Ok(scored)
}

/// Warns of runs that are not complete, over all files together, and of rows that may count twice.
fn warn_of_rows(term: &Terminal, files: &[(&PathBuf, Vec<Answers>)]) -> Result<()> {
    for gap in incomplete(files.iter().flat_map(|(_, answers)| answers))? {
        let names: Vec<String> = gap.files.iter().map(|file| file.display().to_string()).collect();
        term.warn(&format!("{}: {gap}", names.join(", ")));
    }
    for (file, answers) in files {
        if answers.iter().any(|part| !are_of_one_run([part])) {
            let file = file.display();
            term.warn(&format!(
                "{file}: answers under different settings are scored as if they were of one run"
            ));
        }
        for (rows, id) in answers.iter().filter_map(repeated_ids) {
            let verb = if rows == 1 { "row repeats" } else { "rows repeat" };
            term.warn(&format!(
                "{}: {rows} {verb} the id of another one, for example {id}; every row counts",
                file.display()
            ));
        }
    }
    Ok(())
}

/// False if the rows say that they were made under different settings.
fn are_of_one_run<'a>(parts: impl IntoIterator<Item = &'a Answers>) -> bool {
    let noted: BTreeSet<String> = parts.into_iter().flat_map(score::settings).collect();
    noted.len() < 2
}

/// Names the parts that nobody has judged; true if the others have scores, so that there is something to show.
fn unjudged(term: &Terminal, parts: &[(Answers, Option<Incomplete>)]) -> bool {
    let open: Vec<String> =
        parts.iter().filter(|(part, _)| part.needs_judge()).map(|(part, _)| part.label()).collect();
    if open.is_empty() || open.len() == parts.len() {
        return false;
    }
    term.warn(&format!(
        "no scores for {}: a judge has to be asked, with --judge URL --judge-model NAME",
        open.join(", ")
    ));
    true
}

fn write_page(term: &Terminal, args: &ScoreArgs, page: &Path, scored: &[Scored]) -> Result<()> {
    let root = args.audio_root.as_deref().or_else(|| args.files.first()?.parent()).unwrap_or(Path::new(""));
    let clips = Clips::new(root, page, args.embed_audio)?;
    let sections: Vec<Section<'_>> =
        scored.iter().map(|part| Section { answers: &part.answers, scores: &part.scores }).collect();
    if let Some(lost) = html::missing_clips(&sections, &clips) {
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        term.warn(&format!(
            "{} of {} clips not found under {}, for example {}; --audio-root names the folder their paths start at",
            lost.missing,
            lost.total,
            root.display(),
            lost.example
        ));
    }
    let text = html::page(&format!("{} answers", args.benchmark), &sections, &clips);
    std::fs::write(page, text).map_err(Error::io("write", page))
}

fn print_json(scored: &[Scored]) -> Result<()> {
    let mut objects = Vec::with_capacity(scored.len());
    for part in scored {
        let fail =
            |e: serde_json::Error| Error::usage("--json", format!("the scores cannot be written: {e}"));
        let mut object = serde_json::to_value(&part.scores).map_err(fail)?;
        object["file"] = part.answers.path.to_string_lossy().into();
        object["subset"] = part.answers.subset.as_str().into();
        object["split"] = part.answers.split.as_deref().into();
        if part.scores.metrics.is_empty() {
            object["needs_judge"] = true.into();
        }
        if let Some(gap) = &part.incomplete {
            object["incomplete"] = serde_json::to_value(gap).map_err(fail)?;
        }
        if let Some(comparison) = &part.comparison {
            object["comparison"] = serde_json::to_value(comparison).map_err(fail)?;
        }
        objects.push(object);
    }
    let single = if objects.len() == 1 { objects.pop() } else { None };
    terminal::print(&single.unwrap_or(Value::Array(objects)).to_string())
}

/// One part in full, or a line for each of several.
fn print_tables(scored: &[Scored]) -> Result<()> {
    if let [only] = scored {
        terminal::print(only.scores.to_string().trim_end())?;
        return match &only.comparison {
            Some(comparison) => terminal::print(&format!("\n{comparison}")),
            None => Ok(()),
        };
    }
    terminal::print(&summary(scored)?)
}

/// A line for each part, and one for each subset that comes in several of one run.
fn summary(scored: &[Scored]) -> Result<String> {
    let parts: Vec<Answers> = scored.iter().map(|part| part.answers.clone()).collect();
    let mut lines: Vec<(String, Scores)> =
        scored.iter().map(|part| (part.label.clone(), part.scores.clone())).collect();
    for pool in Answers::pooled(&parts) {
        let here = || parts.iter().filter(|part| part.subset == pool.subset);
        if here().count() > 1 && !here().any(Answers::needs_judge) && are_of_one_run(here()) {
            lines.push((format!("{} (all)", pool.subset), pool.score(0)?));
        }
    }
    let width = lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0).max(6);
    let mut text =
        format!("{:<width$}  evaluator  answers  errors  metric                value  95 %", "subset");
    for (label, scores) in &lines {
        let name = scores.evaluator.name();
        let _ = write!(text, "\n{label:<width$}  {name:<9}  {:>7}  {:>6}", scores.answers, scores.errors);
        let Some(metric) = scores.metrics.first() else {
            text += "  needs --judge";
            continue;
        };
        let _ = write!(text, "  {:<14}  {:>11}", metric.name, metric.shown());
        if let Some(range) = metric.range() {
            let _ = write!(text, "  {range}");
        }
    }
    for part in scored {
        if let Some(comparison) = &part.comparison {
            let _ = write!(text, "\n\n{}: {}", part.label, comparison.to_string().trim_end());
        }
    }
    Ok(text)
}
