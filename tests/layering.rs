//! The layers of the library, as its sources name each other: a module uses only what its row of the table
//! allows, and wgpu is named where devices are handled. A new edge is a decision, made in this table.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Module, and the modules it may use. Lowest first; an edge never points down the list.
const LAYERS: [(&str, &[&str]); 19] = [
    ("error", &[]),
    ("quant", &[]),
    ("fnv", &[]),
    ("files", &["error"]),
    ("system", &["error"]),
    ("gpu", &["error", "quant", "fnv", "files", "system"]),
    ("ops", &["error", "quant", "fnv", "gpu"]),
    // Files, sounds, words and scores know nothing of the device.
    ("checkpoint", &["error", "quant", "system"]),
    ("audio", &["error"]),
    ("text", &["error"]),
    ("model", &["error", "quant", "gpu", "ops", "checkpoint", "text"]),
    // Writes files in the sizes that configurations describe.
    ("synth", &["error", "fnv", "checkpoint", "model"]),
    ("quantize", &["error", "quant", "checkpoint", "model"]),
    ("decode", &["error", "gpu", "ops", "model"]),
    // Times all of the above, on plans of its own.
    ("bench", &["error", "system", "gpu", "ops", "checkpoint", "model", "decode"]),
    ("tune", &["error", "fnv", "files", "gpu", "ops", "model", "bench"]),
    // Opens the checkpoints once, for sketching and for loading.
    ("engine", &["error", "gpu", "checkpoint", "model", "decode", "text"]),
    // Benchmarks: answered through the facade, scored by rules that know nothing of the model (see below).
    ("eval", &["error", "files", "audio", "model", "decode", "engine"]),
    ("lib", &["error", "gpu", "model", "decode", "engine"]),
];

/// Narrower than the table: files and folders that must not know what their module otherwise may.
const PURE: [(&str, &[&str]); 4] = [
    // Settings and reports are data: the device's side of them is in `ops` constants and types alone.
    ("decode/options.rs", &["error", "ops", "decode"]),
    ("decode/report.rs", &["error", "ops"]),
    ("model/config/", &["error", "checkpoint"]),
    ("eval/score/", &["error"]),
];

/// Files outside `gpu/` that name wgpu, and why.
const WGPU_ALLOWED: [(&str, &str); 3] = [
    ("lib.rs", "re-exports it for hosts"),
    ("cli/devices.rs", "lists adapters with their limits and features"),
    ("cli/facts.rs", "writes the adapter's facts into reports"),
];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// A source file: path below `src/` with forward slashes, and its code without comments.
struct Source {
    path: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files(&src(), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        // No string of the sources holds `//` except addresses, in which no module is named.
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        let path = path.strip_prefix(src()).unwrap().to_str().unwrap().replace('\\', "/");
        Source { path, code: code.join("\n") }
    };
    paths.into_iter().map(read).collect()
}

impl Source {
    /// The top-level module the file belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The binary and its command line are no part of the library.
    fn is_binary(&self) -> bool {
        self.module() == "main" || self.module() == "cli"
    }

    /// Modules named after `crate::`, the file's own left out.
    fn uses(&self) -> BTreeSet<String> {
        let word = |text: &str| -> String {
            text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        let mut found = BTreeSet::new();
        for rest in self.code.split("crate::").skip(1) {
            match rest.strip_prefix('{') {
                // `use crate::{a, b::c}`: names at the first level of the braces.
                Some(list) => {
                    let (mut depth, mut item) = (0, String::new());
                    for c in list.chars() {
                        match c {
                            '{' => depth += 1,
                            '}' if depth == 0 => break,
                            '}' => depth -= 1,
                            ',' if depth == 0 => found.extend([word(std::mem::take(&mut item).trim())]),
                            c if depth == 0 => item.push(c),
                            _ => {}
                        }
                    }
                    found.insert(word(item.trim()));
                }
                None => _ = found.insert(word(rest)),
            }
        }
        found.remove("");
        found.remove(self.module());
        found
    }
}

#[test]
fn modules_use_lower_layers_only() {
    for source in sources().iter().filter(|source| !source.is_binary()) {
        let (path, module) = (&source.path, source.module());
        let row = LAYERS.iter().find(|(name, _)| *name == module);
        let (_, allowed) =
            row.unwrap_or_else(|| panic!("src/{path}: `{module}` has no row in the table of layers"));
        for used in source.uses() {
            assert!(allowed.contains(&used.as_str()), "src/{path}: `{module}` must not use `{used}`");
        }
        if let Some((_, allowed)) = PURE.iter().find(|(pure, _)| path.starts_with(pure)) {
            for used in source.uses() {
                assert!(allowed.contains(&used.as_str()), "src/{path} must not use `{used}`");
            }
        }
    }
}

#[test]
fn the_table_has_no_upward_edge_and_no_idle_row() {
    let sources = sources();
    for (i, (module, allowed)) in LAYERS.iter().enumerate() {
        for used in *allowed {
            let at = LAYERS.iter().position(|(name, _)| name == used);
            assert!(at.is_some_and(|at| at < i), "`{module}` may use `{used}`, which is no lower layer");
            let is_used = sources.iter().any(|s| s.module() == *module && s.uses().contains(*used));
            // `lib.rs` names modules without `crate::`.
            assert!(
                is_used || *module == "lib",
                "`{module}` does not use `{used}`: take it out of the table"
            );
        }
    }
    for path in PURE.iter().map(|(path, _)| path).chain(WGPU_ALLOWED.iter().map(|(path, _)| path)) {
        assert!(
            sources.iter().any(|source| source.path.starts_with(path)),
            "src/{path} is in a table but not there"
        );
    }
}

#[test]
fn wgpu_is_named_in_the_device_layer_only() {
    for source in sources() {
        let names_it = source.code.contains("wgpu::") || source.code.contains("use wgpu");
        let allowed = source.module() == "gpu" || WGPU_ALLOWED.iter().any(|(path, _)| source.path == *path);
        assert!(!names_it || allowed, "src/{} names wgpu; put what it needs into src/gpu", source.path);
    }
}

#[test]
fn the_library_does_not_know_its_command_line() {
    for source in sources().iter().filter(|source| !source.is_binary()) {
        for name in ["clap::", "indicatif::", "ctrlc::", "std::process::"] {
            assert!(!source.code.contains(name), "src/{}: {name} belongs to the command line", source.path);
        }
        assert!(!source.code.contains("std::env::"), "src/{} reads the environment", source.path);
    }
}
