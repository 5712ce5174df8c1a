//! Time of every kernel on real shapes, the cases of `diffa bench kernels` under criterion: `cargo bench --bench kernels [-- FILTER]`.
//!
//! The adapter is named first, and rates are printed after each kernel (device time where there are
//! timestamps). With `--test`, as in CI, the shapes that a software adapter runs quickly run once.

use std::time::Duration;

use criterion::Criterion;
use diffa::bench::Runner;
use diffa::bench::kernels::{Selection, planned};
use diffa::{AdapterChoice, Gpu};

/// With `--test`, operations of a case that runs once, at most.
const ONCE_FLOPS: u64 = 100_000_000;

fn main() {
    let gpu = Gpu::open(&AdapterChoice::default()).expect("the benchmark needs a GPU adapter");
    println!("adapter: {}; features: {}", gpu.caps().describe(), gpu.caps().features);
    // As criterion decides it: `cargo bench` passes --bench, `cargo test --benches` does not.
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    let once = given("--test") || !given("--bench");
    let software = gpu.caps().is_software();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    let rows = Selection::default_rows(&gpu);
    for planned in planned(&gpu, &rows, false) {
        // Register tiles are fast everywhere; workgroup tiles of this size take minutes on a CPU.
        let too_slow = software && ["matmul_tile", "matmul_naive"].contains(&planned.case.kernel)
            || once && planned.flops.is_some_and(|flops| flops > ONCE_FLOPS);
        if planned.case.bench_only && once || planned.flops.is_some() && too_slow && !planned.through_op {
            continue;
        }
        let caps = gpu.caps();
        if let Some(need) = planned.case.needs().into_iter().find(|need| !need.is_met(caps)) {
            println!("{} / {}: not on this device, for want of {need}", planned.name, planned.variant());
            continue;
        }
        let mut runner = None;
        let mut last = None;
        criterion.bench_function(&format!("{} / {}", planned.name, planned.variant()), |bencher| {
            // Only here is it known that the filter lets the case through.
            let runner =
                runner.get_or_insert_with(|| Runner::new(&gpu, &planned.case).expect("the case runs"));
            bencher.iter_custom(|n| {
                let n = u32::try_from(n).unwrap_or(u32::MAX);
                let sample = runner.sample(n).expect("the case runs");
                last = Some((sample, runner.cost()));
                Duration::from_secs_f64(sample.wall) * n
            });
        });
        if let Some((sample, cost)) = last {
            let seconds = sample.device.unwrap_or(sample.wall).max(1e-9);
            let (flops, bytes) = (cost.flops as f64 / seconds / 1e9, cost.bytes as f64 / seconds / 1e9);
            println!(
                "    {:?} per run, {flops:.2} GFLOP/s, {bytes:.2} GB/s",
                Duration::from_secs_f64(seconds)
            );
        }
    }
    criterion.final_summary();
}
