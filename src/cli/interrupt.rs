//! Ctrl-C: the first one asks the work to stop at the next step, the second one ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

use diffa::{Error, Result};

use super::INTERRUPTED;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Takes over SIGINT, SIGTERM and SIGHUP. Without a handler they end the process at once, which is no
/// worse than not running at all; hence a failure to install one is ignored.
pub(super) fn install() {
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        // A forward of a large model on a slow adapter takes a while.
        eprintln!("\nstopping after this step; once more to end at once");
    });
}

/// True once the user asked to stop.
pub(super) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// An error once the user asked to stop.
pub(super) fn check() -> Result<()> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}
