//! Measuring which kernel variant is fastest on this adapter, and keeping the result.
//!
//! [`products`] lists the matrix products of a model, [`Tuner`] times every candidate of one on zeros of the
//! real inner length, and [`Tuning`] is the file: valid for one adapter, driver and state of the shaders.
//! Without it the built-in choices hold. Variants that round operands are tried only where the caller allows
//! it; the others differ in the order of f32 sums at most.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bench::Timer;
use crate::error::{Error, Result};
use crate::gpu::plan::{Plan, PlanBuilder};
use crate::gpu::{Choices, DType, Gpu, Matrix, Tensor};
use crate::model::{Hearing, Llada};
use crate::ops::matmul::{Matmul, MatmulVariant, matmul_with};
use crate::ops::{REGISTRY, Rounding};

/// Columns that are measured at most: groups of columns do not depend on each other.
const SAMPLE_COLUMNS: usize = 4096;
/// Time for finding the adapter's speed, when a program starts.
const CALIBRATION: Duration = Duration::from_millis(20);

/// One product of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Product {
    /// Type of the weights.
    pub dtype: DType,
    /// Rows of the activations.
    pub rows: usize,
    /// Columns of the result.
    pub n: usize,
    /// Inner length.
    pub k: usize,
}

/// The products of a model at these numbers of rows, each once: those of the language model at all of `rows`,
/// those of the encoder at its one window.
pub fn products(llada: &Llada, hearing: Option<&Hearing>, rows: &[usize]) -> Vec<Product> {
    let mut all = Vec::new();
    for matrix in llada.block_matrices() {
        let product =
            |rows: &usize| Product { dtype: matrix.dtype, rows: *rows, n: matrix.rows, k: matrix.cols };
        all.extend(rows.iter().map(product));
    }
    if let Some(hearing) = hearing {
        let rows = hearing.encoder().config().max_source_positions;
        let (dtype, shapes) = hearing.encoder().matrix_shapes();
        all.extend(shapes.map(|[n, k]| Product { dtype, rows, n, k }));
    }
    all.sort();
    let key = |p: &Product| MatmulVariant::key(p.dtype, p.rows, p.n, p.k);
    all.dedup_by_key(|product| key(product));
    all
}

/// A candidate and its time.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Trial {
    /// Name of the variant.
    pub variant: String,
    /// Seconds of one run, the median of several; processor time on software adapters.
    pub seconds: f64,
}

/// What was found for one product.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Entry {
    /// [`MatmulVariant::key`].
    pub key: String,
    /// All candidates, fastest first.
    pub trials: Vec<Trial>,
    /// The built-in choice.
    pub built_in: String,
}

impl Entry {
    /// Time of the built-in choice over that of the fastest.
    pub fn gain(&self) -> Option<f64> {
        let built_in = self.trials.iter().find(|trial| trial.variant == self.built_in)?;
        Some(built_in.seconds / self.trials.first()?.seconds)
    }
}

/// Times products on one adapter.
#[derive(Debug)]
pub struct Tuner<'a> {
    gpu: &'a Gpu,
    timer: Timer,
    /// Time to spend on repeats of one candidate.
    budget: Duration,
    allowed: Vec<Rounding>,
}

impl<'a> Tuner<'a> {
    /// A tuner that repeats every candidate for about `budget`, and tries variants that round their operands only
    /// as `allowed`.
    ///
    /// Errors: device errors.
    pub fn new(gpu: &'a Gpu, budget: Duration, allowed: &[Rounding]) -> Result<Tuner<'a>> {
        Ok(Tuner { gpu, timer: Timer::new(gpu)?, budget, allowed: allowed.to_vec() })
    }

    /// Times every candidate of a product.
    ///
    /// Errors: device errors.
    pub fn product(&self, product: Product) -> Result<Entry> {
        let Product { dtype, rows, n, k } = product;
        let operands = Operands::new(self.gpu, dtype, rows, n.min(SAMPLE_COLUMNS), k)?;
        let mut trials: Vec<Trial> = Vec::new();
        let caps = self.gpu.caps();
        for variant in MatmulVariant::candidates(caps, dtype, [rows, n, k], &self.allowed) {
            let plan = operands.plan(self.gpu, variant)?;
            // Many drivers compile at the first dispatch.
            plan.run(self.gpu)?;
            let seconds = self.timer.measure(&plan, self.budget)?.seconds();
            trials.push(Trial { variant: variant.to_string(), seconds });
        }
        trials.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let built_in = MatmulVariant::default_for(caps, rows, n, k).to_string();
        Ok(Entry { key: MatmulVariant::key(dtype, rows, n, k), trials, built_in })
    }
}

/// Zeros of the shapes of one product.
struct Operands {
    x: Tensor,
    weight: Matrix,
    out: Tensor,
    rows: usize,
}

impl Operands {
    fn new(gpu: &Gpu, dtype: DType, rows: usize, n: usize, k: usize) -> Result<Operands> {
        let fit = (gpu.caps().max_slab_bytes() / dtype.row_bytes(k).max(1) as u64) as usize;
        let n = n.min(fit).max(1);
        Ok(Operands {
            x: gpu.tensor("tune.x", DType::F32, &[rows, k])?,
            weight: Matrix::from_tensor(gpu.tensor("tune.w", dtype, &[n, k])?)?,
            out: gpu.tensor("tune.out", DType::F32, &[rows, n])?,
            rows,
        })
    }

    fn plan(&self, gpu: &Gpu, variant: MatmulVariant) -> Result<Plan> {
        let mut plan = PlanBuilder::new(gpu, "tune");
        matmul_with(&mut plan, variant, Matmul::new(&self.x, self.rows, &self.weight, &self.out))?;
        plan.freeze()
    }
}

/// Measures how fast the adapter multiplies and bounds its submits to `time`.
///
/// Errors: device errors.
pub fn limit_submits(gpu: &Gpu, dtype: DType, time: Duration) -> Result<()> {
    let (rows, n, k) = (64, 1024, 1024);
    let operands = Operands::new(gpu, dtype, rows, n, k)?;
    let plan = operands.plan(gpu, MatmulVariant::choose(gpu, dtype, rows, n, k))?;
    plan.run(gpu)?;
    // Watchdogs go by the clock on the wall.
    let seconds = Timer::new(gpu)?.measure(&plan, CALIBRATION)?.wall();
    gpu.limit_submits((2 * rows * n * k) as f64 / seconds.max(1e-9), time);
    Ok(())
}

/// The measured choices of one adapter.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Tuning {
    /// Adapter, backend, driver.
    pub adapter: String,
    /// Fingerprint of all kernels: other shaders need other choices.
    pub shaders: String,
    /// What was found.
    pub entries: Vec<Entry>,
}

impl Tuning {
    /// An empty tuning for an adapter.
    pub fn new(gpu: &Gpu) -> Tuning {
        Tuning { adapter: gpu.caps().describe(), shaders: shaders(), entries: Vec::new() }
    }

    /// Adds or replaces what is known of one product.
    pub fn insert(&mut self, entry: Entry) {
        self.entries.retain(|known| known.key != entry.key);
        self.entries.push(entry);
    }

    /// The fastest variants, for [`Gpu::set_choices`].
    pub fn choices(&self) -> Choices {
        let first = |entry: &Entry| Some((entry.key.clone(), entry.trials.first()?.variant.clone()));
        self.entries.iter().filter_map(first).collect()
    }

    /// Where the choices for an adapter are kept: `tune-ADAPTER.json` in the user's cache folder.
    /// `None` if the system knows no such folder.
    pub fn path(describe: &str) -> Option<PathBuf> {
        let name = format!("tune-{:016x}.json", fingerprint([describe]));
        Some(dirs::cache_dir()?.join("diffa").join(name))
    }

    /// Reads a file. `None` if there is none, or if it is about another adapter, driver or other shaders.
    ///
    /// Errors: a file that is damaged.
    pub fn read(path: &Path, describe: &str) -> Result<Option<Tuning>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let tuning: Tuning = serde_json::from_str(&text).map_err(|e| {
            let reason = format!("{} is damaged ({e}); delete it and run `diffa tune` again", path.display());
            Error::usage("--tuning", reason)
        })?;
        Ok(Some(tuning).filter(|tuning| tuning.adapter == describe && tuning.shaders == shaders()))
    }

    /// Writes the file, whole or not at all.
    ///
    /// Errors: a folder that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::usage("--tuning", e.to_string()))?;
        let part = path.with_extension("part");
        std::fs::write(&part, text).map_err(Error::io("write", &part))?;
        std::fs::rename(&part, path).map_err(Error::io("rename", &part))
    }
}

fn shaders() -> String {
    let fragments = crate::gpu::shader::FRAGMENTS.iter().map(|(_, text)| *text);
    format!("{:016x}", fingerprint(REGISTRY.iter().map(|kernel| kernel.source).chain(fragments)))
}

/// FNV-1a.
fn fingerprint<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let bytes = texts.into_iter().flat_map(str::bytes);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}
