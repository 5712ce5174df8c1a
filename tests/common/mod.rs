//! Shared by the tests: the adapter, the fixtures, comparisons.
#![allow(dead_code)] // each test file uses its part

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use diffa::{AdapterChoice, Gpu};
use serde_json::Value;

/// The adapter all tests of a file share. No adapter is a failure, never a skip. With
/// `DIFFA_TEST_LIMITS=default` it is opened without any feature and with WebGPU's default limits.
pub fn gpu() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    let open = match std::env::var("DIFFA_TEST_LIMITS").as_deref() {
        Ok("default") => Gpu::open_with_default_limits,
        Ok(other) => panic!("DIFFA_TEST_LIMITS is `{other}`; `default` is the only value"),
        Err(_) => Gpu::open,
    };
    GPU.get_or_init(|| match open(&AdapterChoice::default()) {
        Ok(gpu) => {
            // `scripts/mesa.sh` says which driver it brings: a fallback to another one is a failure too.
            let driver = std::env::var("DIFFA_TEST_DRIVER").unwrap_or_default();
            let found = gpu.caps().describe();
            assert!(found.contains(&driver), "expected the driver {driver}, not {found}");
            gpu
        }
        Err(error) => panic!("the tests need a GPU adapter, a software one will do: {error}"),
    })
    .clone()
}

/// The tiny golden data set, or another one made by `tests/fixtures/reference/make_fixtures.py` if
/// `DIFFA_FIXTURES` names its folder: nothing may depend on the stored one's sizes.
pub fn fixtures() -> PathBuf {
    match std::env::var_os("DIFFA_FIXTURES") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny"),
    }
}

/// The demo model's folder.
pub fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")
}

/// A JSON file.
pub fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
