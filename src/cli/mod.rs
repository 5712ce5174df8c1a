//! From arguments to exit code. Every command is a function that returns the library's error type; only
//! this file prints errors and decides how the process ends.

mod answered;
mod args;
mod ask;
mod bench;
mod canvas;
mod devices;
#[cfg(test)]
mod documented;
mod eval;
mod facts;
mod generate;
mod interrupt;
mod judge;
mod load;
mod merge;
mod paths;
mod plan;
mod quantize;
mod report;
mod respond;
mod run;
mod score;
mod settings;
mod stages;
mod synth;
mod terminal;
mod trace;
mod tune;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use diffa::Error;

use args::{Cli, Command};
use terminal::Terminal;

/// Exit codes; 2 is also what clap uses for bad usage.
const FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;
const INCOMPLETE: u8 = 3;
const INTERRUPTED: u8 = 130;

/// `diffa completions`: a script for a shell.
fn completions(shell: clap_complete::Shell) -> diffa::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "diffa", &mut script);
    terminal::print(String::from_utf8_lossy(&script).trim_end())
}

/// Runs the command line.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version end up here too. A closed stdout or stderr is no reason to fail.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    interrupt::install();
    let term = Terminal::new(cli.global.quiet);
    let done = match &cli.command {
        Command::Ask(args) => ask::run(&term, &cli.global, args),
        Command::Generate(args) => generate::run(&term, &cli.global, args),
        Command::Stages(args) => stages::run(&term, &cli.global, args),
        Command::Devices(args) => devices::run(&cli.global, args),
        Command::Quantize(args) => quantize::run(&term, args),
        Command::Tune(args) => tune::run(&term, &cli.global, args),
        Command::Plan(args) => plan::run(&cli.global, args),
        Command::Synth(args) => synth::run(&term, args),
        Command::Score(args) => score::run(&term, args),
        Command::Report(args) => report::run(args),
        Command::Eval(args) => eval::run(&term, &cli.global, args),
        Command::Merge(args) => merge::run(args),
        Command::Bench(command) => bench::run(&term, &cli.global, command),
        Command::Completions { shell } => completions(*shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::error(&error);
            ExitCode::from(match error {
                Error::Interrupted => INTERRUPTED,
                Error::Incomplete(_) => INCOMPLETE,
                error if error.is_bad_input() => BAD_INPUT,
                _ => FAILED,
            })
        }
    }
}
