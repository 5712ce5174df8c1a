//! What the user sees: results on stdout, everything else on stderr, progress only on a terminal.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diffa::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Writes one result and a line end to stdout. A reader that has gone away (`diffa ... | head -1`) is no
/// error; see [`stdout_closed`].
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {
            STDOUT_CLOSED.store(true, Ordering::Relaxed);
            Ok(())
        }
        done => done.map_err(Error::io("write", "standard output")),
    }
}

/// True once nobody reads the results any more.
pub(super) fn stdout_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}

/// Prints an error as one paragraph.
pub(super) fn error(error: &Error) {
    stderr("error", &error.to_string());
}

/// A line on stderr; drivers put line breaks into their messages. If stderr is closed there is nobody to tell.
fn stderr(kind: &str, text: &str) {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(std::io::stderr(), "{kind}: {text}");
}

/// The user's terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    quiet: bool,
    live: bool,
}

impl Terminal {
    /// `quiet` leaves warnings and errors.
    pub(super) fn new(quiet: bool) -> Terminal {
        Terminal { quiet, live: !quiet && std::io::stderr().is_terminal() }
    }

    /// True if somebody watches.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// Something good to know.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            stderr("note", text);
        }
    }

    /// Lines the user asked for beside the result.
    pub(super) fn figures(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// Something that changes the result.
    pub(super) fn warn(&self, text: &str) {
        stderr("warning", text);
    }

    /// A bar that counts bytes.
    pub(super) fn bytes(&self, doing: &str, total: u64) -> ProgressBar {
        self.bar(
            doing,
            total,
            "{prefix:>9} {bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left",
        )
    }

    /// A bar that counts tokens; with a canvas, its message is the answer so far, below.
    pub(super) fn tokens(&self, doing: &str, total: usize, canvas: bool) -> ProgressBar {
        let bar = "{prefix:>9} {bar:30} {pos}/{len} tokens, {elapsed}";
        self.bar(
            doing,
            total as u64,
            if canvas { "{prefix:>9} {bar:30} {pos}/{len} tokens, {elapsed}\n{msg}" } else { bar },
        )
    }

    /// A bar that counts items, `done` of which an earlier run did; its message follows the rest.
    pub(super) fn items(&self, doing: &str, done: usize, total: usize) -> ProgressBar {
        let template = "{prefix:>9} {bar:30} {pos}/{len}, {per_sec}, {eta} left{msg}";
        let bar = self.bar(doing, total as u64, template).with_position(done as u64);
        bar.reset_eta();
        bar
    }

    /// A bar that counts cases; its message is the one at hand.
    pub(super) fn cases(&self, doing: &str) -> ProgressBar {
        self.bar(doing, 0, "{prefix:>9} {bar:30} {pos}/{len}, {elapsed}: {wide_msg}")
    }

    /// A sign of life for work of unknown length.
    pub(super) fn spinner(&self, doing: &str) -> ProgressBar {
        let bar = self.bar(doing, 1, "{prefix:>9} {spinner} {elapsed}");
        if self.live {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        bar
    }

    fn bar(&self, doing: &str, total: u64, template: &str) -> ProgressBar {
        if !self.live {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(total).with_style(style.progress_chars("█▉▊▋▌▍▎▏ ")).with_prefix(doing.to_string())
    }
}
