//! Tells the program which commit it was built from, for the heads of measurements. Without git, or outside of
//! a repository, it is unknown and nothing fails.

use std::path::Path;
use std::process::Command;

fn main() {
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).map_or("unknown".into(), |commit| {
        let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
        if changed { format!("{commit} with changes") } else { commit }
    });
    println!("cargo:rustc-env=DIFFA_COMMIT={commit}");
    for watched in ["build.rs", "src", "shaders", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={watched}");
    }
    // The log grows with every commit and checkout; a path that is not there would run this every time.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    if let Some(log) = log.filter(|log| Path::new(log).exists()) {
        println!("cargo:rerun-if-changed={log}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}
