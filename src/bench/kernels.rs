//! Every kernel on real shapes: `diffa bench kernels` and `benches/kernels.rs`.
//!
//! The products, attentions and heads of models are measured through their op, which picks a variant, and in
//! every variant there is; all other kernels on the shapes of their cases. Smallest shapes come first, and what
//! a variant reached there foretells how long it takes on the larger ones, so that no case runs away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::Runner;
use crate::bench::check;
use crate::bench::peak::Peaks;
use crate::bench::report::{Row, Skipped};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::ops::cases::{Case, cases, shapes};
use crate::system;

/// What to measure and for how long.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Rows of the language models' operations.
    pub rows: Vec<usize>,
    /// Only cases and variants whose names together hold this text.
    pub filter: Option<String>,
    /// Also the whole head of LLaDA-8B, and everything however long it takes.
    pub all: bool,
    /// Seconds for each case.
    pub seconds: f64,
    /// Start nothing after so many seconds.
    pub total: f64,
    /// Compare sampled outputs with f64.
    pub check: bool,
}

impl Selection {
    /// Rows that are measured if none are asked for: few on a software adapter.
    pub fn default_rows(gpu: &Gpu) -> Vec<usize> {
        if gpu.caps().is_software() { vec![32] } else { vec![1, 16, 32, 64, 224, 512, 1500] }
    }
}

/// A case in its place.
#[derive(Debug)]
pub struct Planned {
    /// Operation and sizes; the same for all variants side by side.
    pub name: String,
    /// Operations of one run, if they are known beforehand.
    pub flops: Option<u64>,
    /// True if the case goes through the op, which picks the variant.
    pub through_op: bool,
    /// The case.
    pub case: Case,
}

impl Planned {
    /// The variant as it is shown, or `(as chosen)`.
    pub fn variant(&self) -> String {
        if self.through_op {
            "(as chosen)".into()
        } else {
            shown(self.case.kernel, &self.case.variant.to_string(), self.case.parts)
        }
    }

    /// What `--filter` looks into.
    pub fn matches(&self, filter: Option<&str>) -> bool {
        let text = format!("{} {}", self.name, self.variant());
        filter.is_none_or(|filter| text.to_lowercase().contains(&filter.to_lowercase()))
    }
}

fn shown(kernel: &str, variant: &str, parts: u32) -> String {
    let variant = if variant == "default" { String::new() } else { format!(" {variant}") };
    let shared = if kernel.starts_with("attention") { "keys" } else { "k" };
    let parts = if parts == 1 { String::new() } else { format!(", {shared} in {parts}") };
    format!("{kernel}{variant}{parts}")
}

/// Everything there is to measure, in order.
pub fn planned(gpu: &Gpu, rows: &[usize], whole_head: bool) -> Vec<Planned> {
    let shapes = shapes(gpu, rows, whole_head);
    let by_shape: BTreeSet<&str> =
        shapes.iter().flat_map(|shape| shape.variants.iter().map(|case| case.kernel)).collect();
    let others = cases().into_iter().filter(|case| case.benched && !by_shape.contains(case.kernel));
    let mut all: Vec<Planned> = others
        .map(|case| {
            let name = format!("{} {}", case.kernel, case.name);
            Planned { name, flops: None, through_op: false, case }
        })
        .collect();
    for shape in shapes {
        let (name, flops) = (shape.name, Some(shape.flops));
        let place = |through_op, case| Planned { name: name.clone(), flops, through_op, case };
        all.push(place(true, shape.op));
        all.extend(shape.variants.into_iter().map(|case| place(false, case)));
    }
    all
}

/// What the run tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many of so many cases are done; the next one is this.
    Next(usize, usize, &'a Planned),
    /// Measured. What is left out comes with the result: one adapter's lacks would be told at every case.
    Row(&'a Row),
}

/// Measures a selection; `on` sees everything as it happens and may stop the run with an error.
pub fn run(
    gpu: &Gpu,
    selection: &Selection,
    peaks: &Peaks,
    on: &mut dyn FnMut(Event<'_>) -> Result<()>,
) -> Result<(Vec<Row>, Vec<Skipped>)> {
    let filter = selection.filter.as_deref();
    let all = planned(gpu, &selection.rows, selection.all);
    let all: Vec<Planned> = all.into_iter().filter(|planned| planned.matches(filter)).collect();
    let mut found = Found { selection, peaks, start: Instant::now(), rates: BTreeMap::new(), chosen: None };
    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    for (i, planned) in all.iter().enumerate() {
        on(Event::Next(i, all.len(), planned))?;
        match found.measure(gpu, planned) {
            Ok(Outcome::Row(row)) => {
                on(Event::Row(&row))?;
                rows.push(row);
            }
            Ok(Outcome::Same) => {}
            Ok(Outcome::Skipped(reason)) => {
                skipped.push(Skipped { case: planned.name.clone(), variant: planned.variant(), reason });
            }
            Err(error) => return Err(error),
        }
    }
    Ok((rows, skipped))
}

enum Outcome {
    Row(Row),
    /// The op chose this variant, so it is measured already.
    Same,
    Skipped(String),
}

struct Found<'a> {
    selection: &'a Selection,
    peaks: &'a Peaks,
    start: Instant,
    /// Operations per wall second that a variant reached last.
    rates: BTreeMap<String, f64>,
    /// Case and variant that an op chose last.
    chosen: Option<(String, String)>,
}

/// A run that takes so many times the seconds of a case is not started.
const PATIENCE: f64 = 4.0;

impl Found<'_> {
    fn measure(&mut self, gpu: &Gpu, planned: &Planned) -> Result<Outcome> {
        let variant = planned.variant();
        if self.chosen.as_ref().is_some_and(|(case, chosen)| *case == planned.name && *chosen == variant) {
            return Ok(Outcome::Same);
        }
        if let Some(reason) = self.reason_to_skip(gpu, planned, &variant) {
            return Ok(Outcome::Skipped(reason));
        }
        let runner = match Runner::new(gpu, &planned.case) {
            Ok(runner) => runner,
            // What an adapter lacks or its compiler refuses says nothing about the other cases.
            Err(error @ (Error::Unsupported { .. } | Error::Shader { .. })) => {
                return Ok(Outcome::Skipped(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let (kernel, chosen) = runner.chosen();
        let variant = if planned.through_op { shown(kernel, &chosen, planned.case.parts) } else { variant };
        let error =
            if self.selection.check { check::error(gpu, &planned.case, &runner.prepared)? } else { None };
        let measured = runner.measure(Duration::from_secs_f64(self.selection.seconds))?;
        if let Some(flops) = planned.flops {
            self.rates.insert(variant.clone(), flops as f64 / measured.wall().max(1e-9));
        }
        if planned.through_op {
            self.chosen = Some((planned.name.clone(), variant.clone()));
        }
        let (flops, bytes) = (measured.cost.flops as f64, measured.cost.bytes as f64);
        let mut row = Row::new(&planned.name, &variant, measured.seconds(), measured.spread());
        row.chosen = planned.through_op;
        row.set("wall_seconds", json!(measured.wall()));
        row.set("first_seconds", json!(runner.first.as_secs_f64()));
        row.set("gflop", json!(flops / 1e9));
        row.set("gbyte", json!(bytes / 1e9));
        row.set("gflop_per_second", json!(measured.flop_per_s() / 1e9));
        row.set("gbyte_per_second", json!(measured.byte_per_s() / 1e9));
        row.set("share_of_multiply_peak", json!(measured.flop_per_s() / self.peaks.multiply));
        row.set("share_of_copy_peak", json!(measured.byte_per_s() / self.peaks.copy));
        // Infinite or no number is worth knowing, and JSON has no word for it.
        row.set("error", json!(error.map(|e| if e.is_finite() { e } else { f64::MAX })));
        row.set("samples", json!(measured.samples.len()));
        Ok(Outcome::Row(row))
    }

    fn reason_to_skip(&self, gpu: &Gpu, planned: &Planned, variant: &str) -> Option<String> {
        let (selection, bytes) = (self.selection, planned.case.byte_len());
        // Operands are made in main memory, in f32 and as stored; on a software adapter they also stay there.
        let needed = bytes * if gpu.caps().is_software() { 4 } else { 3 };
        if let Some(available) = system::available_bytes().filter(|available| needed > *available) {
            return Some(format!(
                "needs about {:.1} GB of main memory to prepare, {:.1} GB are available",
                needed as f64 / 1e9,
                available as f64 / 1e9
            ));
        }
        if selection.all {
            return None;
        }
        if self.start.elapsed().as_secs_f64() > selection.total {
            return Some(format!("the {} s of --total are used up", selection.total));
        }
        let (flops, rate) = (planned.flops? as f64, *self.rates.get(variant)?);
        let seconds = flops / rate;
        (seconds > PATIENCE * selection.seconds).then(|| {
            format!(
                "one run would take about {seconds:.1} s: {:.2} GFLOP at the {:.2} GFLOP/s reached on a smaller \
                 shape; --all or --seconds measures it",
                flops / 1e9,
                rate / 1e9
            )
        })
    }
}
