//! How long the driver takes over each kernel: the time from a pipeline's creation to the end of its first
//! dispatch (software drivers compile then), less the time of a second run. Prints a table with each kernel's
//! slowest variant; fails if a variant takes longer than the budget. Run by `scripts/compile_budget.sh`,
//! which turns the driver's caches off.
//!
//! `cargo run --example compile_times -- [SECONDS] [KERNEL]`: the budget, and a part of the kernels' names.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use diffa::gpu::kernel::{Kernel, Variant};
use diffa::ops::REGISTRY;
use diffa::ops::cases::{Case, cases};
use diffa::{AdapterChoice, Gpu};
use indicatif::{ProgressBar, ProgressStyle};

/// An application that waits longer for one kernel looks hung.
const BUDGET_SECONDS: f64 = 20.0;

/// The compile times of one kernel's variants.
#[derive(Default)]
struct Times {
    variants: usize,
    total: Duration,
    slowest: Duration,
    which: String,
}

/// The case with the fewest elements.
fn smallest<'a>(all: &'a [Case], kernel: &Kernel, variant: &Variant) -> Option<&'a Case> {
    let elements = |case: &Case| -> usize {
        let inputs = case.inputs.iter().map(|i| i.shape.iter().product::<usize>());
        inputs.chain(case.outputs.iter().map(|o| o.shape.iter().product())).sum()
    };
    all.iter().filter(|c| c.kernel == kernel.name && c.variant == *variant).min_by_key(|c| elements(c))
}

fn run(gpu: &Gpu, case: &Case) -> diffa::Result<Duration> {
    let start = Instant::now();
    case.run(gpu, 1)?;
    Ok(start.elapsed())
}

fn main() -> Result<(), Box<dyn Error>> {
    let budget = std::env::args().nth(1).map_or(Ok(BUDGET_SECONDS), |text| text.parse())?;
    let part = std::env::args().nth(2).unwrap_or_default();
    let gpu = Gpu::open(&AdapterChoice::default())?;
    if gpu.caps().is_software() && std::env::var_os("MESA_SHADER_CACHE_DISABLE").is_none() {
        return Err("set MESA_SHADER_CACHE_DISABLE=true, or this measures Mesa's cache".into());
    }
    let all = cases();
    // From the end: a kernel that finishes another's work stands after it, and that other's case runs both.
    let variants: Vec<_> = REGISTRY
        .iter()
        .rev()
        .filter(|kernel| kernel.name.contains(&part))
        .flat_map(|kernel| kernel.variants().into_iter().map(move |variant| (*kernel, variant)))
        .collect();
    if variants.is_empty() {
        return Err(format!("no kernel has `{part}` in its name").into());
    }
    let style = ProgressStyle::with_template("{pos}/{len} [{bar:30}] {msg}")?;
    let bar = ProgressBar::new(variants.len() as u64).with_style(style);
    let mut kernels: BTreeMap<&str, Times> = BTreeMap::new();
    let (mut absent, mut over) = (Vec::new(), Vec::new());
    for (kernel, variant) in &variants {
        let label = format!("{} ({variant})", kernel.name);
        bar.set_message(label.clone());
        let case = smallest(&all, kernel, variant).ok_or_else(|| format!("{label}: no case"))?;
        if gpu.lacking(kernel, variant)?.is_empty() {
            let first = run(&gpu, case)?;
            let compile = first.saturating_sub(run(&gpu, case)?);
            let times = kernels.entry(kernel.name).or_default();
            times.variants += 1;
            times.total += compile;
            if compile >= times.slowest {
                (times.slowest, times.which) = (compile, variant.to_string());
            }
            if compile.as_secs_f64() > budget {
                over.push(format!("{label}: {:.1} s", compile.as_secs_f64()));
            }
        } else {
            absent.push(label);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    println!("{}\n", gpu.caps().describe());
    println!("| kernel | variants | slowest variant | its seconds | all, seconds |");
    println!("| --- | --- | --- | --- | --- |");
    for (kernel, Times { variants, total, slowest, which }) in &kernels {
        let (slowest, total) = (slowest.as_secs_f64(), total.as_secs_f64());
        println!("| `{kernel}` | {variants} | {which} | {slowest:.2} | {total:.2} |");
    }
    let count = kernels.values().map(|t| t.variants).sum::<usize>();
    let total = kernels.values().map(|t| t.total).sum::<Duration>().as_secs_f64();
    println!("\n{count} variants in {total:.0} s; not offered by this device: {}", absent.len());
    if over.is_empty() { Ok(()) } else { Err(format!("over {budget} s: {}", over.join("; ")).into()) }
}
