//! Time of every kernel on real and realistic shapes: `cargo bench --bench kernels [-- FILTER]`.
//!
//! The adapter is named first, and rates are printed after each kernel (device time where there are
//! timestamps). With `--test`, as in CI, the shapes that a software adapter runs quickly run once.

use std::time::Duration;

use criterion::Criterion;
use diffa::bench::Runner;
use diffa::ops::cases::cases;
use diffa::{AdapterChoice, Gpu};

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
    for case in cases().into_iter().filter(|case| case.benched) {
        // Workgroup tiles of this size take minutes on a CPU.
        let too_slow = case.bench_only && (once || software && case.kernel == "matmul_tile");
        if too_slow {
            continue;
        }
        let mut runner = None;
        let mut last = None;
        criterion.bench_function(&case.to_string(), |bencher| {
            // Only here is it known that the filter lets the case through.
            let runner = runner.get_or_insert_with(|| Runner::new(&gpu, &case).expect("the case runs"));
            bencher.iter_custom(|n| {
                let n = u32::try_from(n).unwrap_or(u32::MAX);
                let measured = runner.measure(n).expect("the case runs");
                last = Some(measured);
                measured.wall * n
            });
        });
        if let Some(measured) = last {
            let (flops, bytes) = (measured.gflop_per_s(), measured.gbyte_per_s());
            println!(
                "    {:?} per run, {flops:.2} GFLOP/s, {bytes:.2} GB/s",
                measured.gpu.unwrap_or(measured.wall)
            );
        }
    }
    criterion.final_summary();
}
