//! `diffa generate`: a plain chat turn, without audio.

use diffa::{Error, Result};

use super::answered::{answer_event, summary};
use super::args::{GenerateArgs, Global};
use super::respond::Respondent;
use super::run::Run;
use super::terminal::{self, Terminal};
use super::{interrupt, load, settings};

/// Runs the command.
pub(super) fn run(term: &Terminal, global: &Global, args: &GenerateArgs) -> Result<()> {
    if args.prompt.trim().is_empty() {
        return Err(Error::usage("PROMPT", "is empty; say something, for example \"Name three colours.\""));
    }
    let paths = args.llm.paths();
    let mut options = settings::decode_options(&args.decode, paths.is_demo())?;
    if let Some(path) = &args.output.trace {
        load::check_target("--trace", path, None)?;
    }
    paths.llada_config()?;
    let gpu = load::open(term, global)?;
    let (diffa, load) = load::model(term, &gpu, &paths, false, &options)?;
    settings::add_end_tokens(&args.decode, diffa.stop_ids(), &mut options);

    let system = args.decode.system.as_deref();
    let respondent = Respondent { term, diffa: &diffa, options: &options, system, output: &args.output };
    let answered = respondent.respond(None, &args.prompt)?;
    if args.output.events {
        terminal::print(&answer_event(&answered))?;
    } else if !args.output.json {
        terminal::print(&answered.answer.text)?;
    }
    if args.output.stats {
        term.figures(&answered.stats(None));
    } else if term.is_live() {
        term.note(&summary(&answered.answer, None));
    }
    let tokenizer = diffa.tokenizer();
    let report = Run { gpu: &gpu, options: &options, system, paths: &paths, load, tokenizer };
    if let Some(path) = &args.output.trace {
        report.write_trace(path, None, std::iter::once(&answered))?;
    }
    if args.output.json {
        terminal::print(&report.generate(&answered))?;
    }
    interrupt::check()
}
