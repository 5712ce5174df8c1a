//! A test: every command that the documents and `--help` show is one that this program takes.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::args::Cli;

/// The words of a command as a shell would split them, up to a comment, a pipe, a redirection or, after two spaces, an
/// explanation.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    let mut before = ' ';
    for c in line.trim().chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '#' | '|' | '>' | ';' if !is_quoted && (before == ' ' || c == ';') => break,
            ' ' if !is_quoted && before == ' ' => break,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The part of a line that starts this program, if it does.
fn command(line: &str) -> Option<&str> {
    let line = line.trim();
    let started = ["cargo run --release -- ", "scripts/mesa.sh diffa "]
        .into_iter()
        .find_map(|start| line.strip_prefix(start));
    let piped = || line.split_once("| diffa ").map(|(_, command)| command);
    started.or_else(|| line.strip_prefix("diffa ")).or_else(piped)
}

/// Commands of a Markdown file: the lines of its fenced blocks, and what its sentences mention, which may leave out what
/// does not matter there.
#[derive(Default)]
struct Commands {
    whole: Vec<String>,
    mentioned: Vec<String>,
}

impl Commands {
    fn of_markdown(&mut self, text: &str) {
        let mut is_fenced = false;
        for line in text.lines() {
            if line.starts_with("```") {
                is_fenced = !is_fenced;
            } else if is_fenced {
                self.whole.extend(command(line).map(str::to_string));
            } else {
                let spans = line.split('`').skip(1).step_by(2).filter_map(|span| span.strip_prefix("diffa "));
                let is_pattern = |span: &str| ["|", "...", "[", "\\"].iter().any(|sign| span.contains(sign));
                let commands = spans.filter(|span| span.contains(" --") && !is_pattern(span));
                self.mentioned.extend(commands.map(str::to_string));
            }
        }
    }

    /// The texts below the options of a command and those below it.
    fn of_help(&mut self, described: &clap::Command) {
        let text = described.get_after_help().map(ToString::to_string).unwrap_or_default();
        self.whole.extend(text.lines().filter_map(command).map(str::to_string));
        described.get_subcommands().for_each(|below| self.of_help(below));
    }
}

/// What the program says to a command that it does not take.
fn refusal(line: &str) -> Option<clap::Error> {
    let parsed = Cli::try_parse_from(std::iter::once("diffa".to_string()).chain(words(line)));
    parsed.err().filter(clap::Error::use_stderr)
}

#[test]
fn every_documented_command_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut commands = Commands::default();
    commands.of_help(&Cli::command());
    assert!(commands.whole.len() > 30, "examples of --help: {}", commands.whole.len());
    let mut files: Vec<PathBuf> = vec![root.join("README.md"), root.join("assets/demo/README.md")];
    files.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for file in files {
        commands.of_markdown(&std::fs::read_to_string(file).unwrap());
    }
    let whole = commands.whole.iter().filter_map(|line| Some((line, refusal(line)?)));
    let mentioned = commands.mentioned.iter().filter_map(|line| {
        let error = refusal(line).filter(|error| error.kind() != ErrorKind::MissingRequiredArgument)?;
        Some((line, error))
    });
    let wrong: Vec<String> = whole.chain(mentioned).map(|(line, error)| format!("{line}\n{error}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn words_end_where_the_shell_or_an_explanation_begins() {
    assert_eq!(
        words(r#"ask a.wav "What  is #1?" --json    answers"#),
        ["ask", "a.wav", "What  is #1?", "--json"]
    );
    assert_eq!(words("merge a.json > b.md"), ["merge", "a.json"]);
    assert_eq!(words("plan; diffa plan"), ["plan"]);
    assert_eq!(command("printf x | diffa bench worker"), Some("bench worker"));
}
