//! What a measurement leaves behind: a head that says where it was taken, rows, and what was left out. As JSON it
//! can be read again, to be compared or merged with others.

pub mod compare;
pub mod html;
pub mod svg;
pub mod table;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::bench::Clock;
use crate::bench::peak::Peaks;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::caps;

/// Where and with what something was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Adapter name.
    pub adapter: String,
    /// Graphics API.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: String,
    /// Why this adapter was taken.
    pub why: String,
    /// Features of the device in use.
    pub features: Vec<String>,
    /// Limits of the device in use.
    pub limits: Map<String, Value>,
    /// Version of this crate.
    pub version: String,
    /// Commit it was built from.
    pub commit: String,
    /// `release` or `debug`: the part of the work that the CPU does depends on it.
    pub build: String,
    /// What seconds and rates are measured with.
    pub clock: String,
}

impl Head {
    /// The head for a device.
    pub fn of(gpu: &Gpu) -> Head {
        let found = gpu.caps();
        Head {
            adapter: found.info.name.clone(),
            backend: found.info.backend.to_string(),
            driver: caps::driver(&found.info),
            kind: caps::kind(&found.info).into(),
            why: gpu.reason().into(),
            features: found.feature_names(),
            limits: found.notable_limits().into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: env!("DIFFA_COMMIT").into(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.into(),
            clock: Clock::of(gpu).name().into(),
        }
    }

    /// The machine in one line.
    pub fn machine(&self) -> String {
        format!("{} ({}, {}, {})", self.adapter, self.backend, self.kind, self.driver)
    }

    /// Everything, one line each.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let limits: Vec<String> = self.limits.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let mut clock = self.clock.clone();
        if self.clock == Clock::Cpu.name() {
            clock += "; a software adapter shares its cores, so rates are for one core";
        }
        vec![
            ("adapter", self.machine()),
            ("features", if self.features.is_empty() { "none".into() } else { self.features.join(", ") }),
            ("limits", limits.join(", ")),
            ("diffa", format!("{}, commit {}, {} build", self.version, self.commit, self.build)),
            ("seconds", clock),
        ]
    }
}

/// One thing measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was done, with sizes; rows of the same case stand side by side.
    pub case: String,
    /// How it was done.
    pub variant: String,
    /// True for the variant that the engine itself takes on this adapter.
    #[serde(default)]
    pub chosen: bool,
    /// Median time of one run.
    pub seconds: f64,
    /// Largest minus smallest sample, over the median; `null` if there was one sample.
    pub spread: Option<f64>,
    /// Everything else, by name; names end in their unit.
    #[serde(flatten)]
    pub figures: Map<String, Value>,
}

impl Row {
    /// A row without further figures.
    pub fn new(case: &str, variant: &str, seconds: f64, spread: f64) -> Row {
        let (case, variant) = (case.into(), variant.into());
        Row { case, variant, chosen: false, seconds, spread: Some(spread), figures: Map::new() }
    }

    /// Adds a figure.
    pub fn set(&mut self, name: &str, value: Value) {
        self.figures.insert(name.into(), value);
    }

    /// A figure that is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.figures.get(name).and_then(Value::as_f64)
    }
}

/// One thing not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// As in [`Row`].
    pub case: String,
    /// As in [`Row`].
    pub variant: String,
    /// Why.
    pub reason: String,
}

/// A whole measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `kernels`, `model`, `load` or `decode`.
    pub kind: String,
    /// Where it was taken.
    pub head: Head,
    /// What was measured: model folder, rows, seconds given to each case.
    pub settings: Map<String, Value>,
    /// What the adapter does at best.
    pub peaks: Option<Peaks>,
    /// What was found.
    pub rows: Vec<Row>,
    /// What was left out.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
}

impl Report {
    /// An empty report.
    pub fn new(kind: &str, gpu: &Gpu, settings: Value) -> Report {
        let settings = if let Value::Object(settings) = settings { settings } else { Map::new() };
        Report {
            kind: kind.into(),
            head: Head::of(gpu),
            settings,
            peaks: None,
            rows: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// As one JSON object.
    pub fn json(&self) -> Value {
        json!(self)
    }

    /// Reads a report back.
    ///
    /// Errors: [`Error::Io`], and [`Error::Usage`] naming `option` if the file is no report.
    pub fn read(option: &str, path: &Path) -> Result<Report> {
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        serde_json::from_slice(&text).map_err(|e| {
            let reason = format!("{} is no report of `diffa bench ... --json`: {e}", path.display());
            Error::usage(option, reason)
        })
    }
}
