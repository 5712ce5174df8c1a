//! Measuring: kernels, models, loads and decodes, and the reports that hold what was found.
//!
//! Every rate is formed with one clock, named in the report's head: device timestamps on a GPU that has them;
//! process CPU time on a software adapter, whose cores are shared with whatever else runs; else wall time. The
//! other clocks stand beside it. [`peak`] measures what the adapter can do at best, so that rates are shares.

mod check;
pub mod decode;
pub mod kernels;
pub mod load;
pub mod model;
pub mod peak;
pub mod report;
pub mod worker;

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::plan::{Cost, Plan};
use crate::gpu::timing::Timestamps;
use crate::ops::cases::{Case, Prepared};
use crate::system;

/// Submits of a sample that carry timestamps, at most.
const MAX_TIMED: usize = 512;

/// Samples taken of something, at least and at most.
const LEAST_SAMPLES: usize = 2;
const MAX_SAMPLES: usize = 15;

/// What takes so many times as long as the fastest is no rival of it.
const BEHIND: f64 = 1.5;

/// Seconds of one run by each clock there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// From the first submit to the end of the last run, per run.
    pub wall: f64,
    /// Of the whole process, per run.
    pub cpu: Option<f64>,
    /// On the device, per run.
    pub device: Option<f64>,
}

/// Which of the clocks rates are formed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Timestamps of the device.
    Device,
    /// CPU time of this process.
    Cpu,
    /// Wall time.
    Wall,
}

impl Clock {
    /// The clock for a device.
    pub fn of(gpu: &Gpu) -> Clock {
        if gpu.caps().is_software() && system::cpu_seconds().is_some() {
            Clock::Cpu
        } else if gpu.caps().has_timestamps() {
            Clock::Device
        } else {
            Clock::Wall
        }
    }

    /// What it is, as a phrase for a report's head.
    pub fn name(self) -> &'static str {
        match self {
            Clock::Device => "device timestamps",
            Clock::Cpu => "CPU time of the process, all threads",
            Clock::Wall => "wall time",
        }
    }

    fn read(self, sample: &Sample) -> f64 {
        let chosen = match self {
            Clock::Device => sample.device,
            Clock::Cpu => sample.cpu,
            Clock::Wall => None,
        };
        chosen.unwrap_or(sample.wall).max(1e-9)
    }
}

/// Samples of one thing and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// In the order they were taken; never empty.
    pub samples: Vec<Sample>,
    /// The clock that counts.
    pub clock: Clock,
    /// Work of one run.
    pub cost: Cost,
}

impl Measurement {
    /// Median seconds of one run by the clock that counts.
    pub fn seconds(&self) -> f64 {
        median(self.samples.iter().map(|s| self.clock.read(s)).collect())
    }

    /// Median wall seconds of one run.
    pub fn wall(&self) -> f64 {
        median(self.samples.iter().map(|s| s.wall).collect())
    }

    /// Largest minus smallest sample, over the median.
    pub fn spread(&self) -> f64 {
        let seconds = || self.samples.iter().map(|s| self.clock.read(s));
        let (least, most) = (seconds().fold(f64::INFINITY, f64::min), seconds().fold(0.0, f64::max));
        (most - least) / self.seconds()
    }

    /// Floating-point operations per second.
    pub fn flop_per_s(&self) -> f64 {
        self.cost.flops as f64 / self.seconds()
    }

    /// Bytes per second, of those that must move at least.
    pub fn byte_per_s(&self) -> f64 {
        self.cost.bytes as f64 / self.seconds()
    }
}

/// The middle of some numbers, or the mean of the middle two; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Replays plans and times them.
#[derive(Debug)]
pub struct Timer {
    gpu: Gpu,
    clock: Clock,
    timestamps: Option<Timestamps>,
}

impl Timer {
    /// A timer for one device.
    pub fn new(gpu: &Gpu) -> Result<Timer> {
        let timestamps = Timestamps::new(gpu, MAX_TIMED)?;
        Ok(Timer { gpu: gpu.clone(), clock: Clock::of(gpu), timestamps })
    }

    /// Time of `n` runs (at least one) of a plan, per run.
    pub fn sample(&self, plan: &Plan, n: u32) -> Result<Sample> {
        let n = n.max(1);
        // An interval for each submit of a run; none for a plan without any, or with more than there are intervals.
        let submits = plan.slices().len();
        let room = |t: &Timestamps| t.intervals().checked_div(submits).unwrap_or(0);
        let timed = self.timestamps.as_ref().map_or(0, room).min(n as usize);
        let cpu = system::cpu_seconds();
        let start = Instant::now();
        for i in 0..n as usize {
            match &self.timestamps {
                Some(timestamps) if i < timed => {
                    let mut first = 0;
                    for (slice, &end) in plan.slices().iter().enumerate() {
                        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
                        timestamps.encode(&mut encoder, plan, first..end, i * submits + slice);
                        self.gpu.submit(encoder);
                        first = end;
                    }
                }
                _ => _ = self.gpu.submit(plan.replay(&self.gpu)),
            }
        }
        self.gpu.wait()?;
        let wall = start.elapsed().as_secs_f64() / f64::from(n);
        let cpu = cpu.zip(system::cpu_seconds()).map(|(before, after)| (after - before) / f64::from(n));
        let device = match &self.timestamps {
            Some(timestamps) if timed > 0 => {
                Some(timestamps.seconds(&self.gpu, timed * submits)?.iter().sum::<f64>() / timed as f64)
            }
            _ => None,
        };
        Ok(Sample { wall, cpu, device })
    }

    /// Samples a plan for about `budget`, at least twice, after one run to warm up. A sample is as many runs as
    /// take a tenth of the budget.
    pub fn measure(&self, plan: &Plan, budget: Duration) -> Result<Measurement> {
        let mut sampling = Sampling::new(self, plan, budget)?;
        while sampling.wants_more() {
            sampling.step()?;
        }
        Ok(sampling.measured)
    }

    /// The same for several plans in turn, sample by sample, so that a machine whose speed drifts does so for all of
    /// them. Those that are well behind the fastest after two samples get no more.
    pub fn compare(&self, plans: &[&Plan], budget: Duration) -> Result<Vec<Measurement>> {
        let start = plans.iter().map(|plan| Sampling::new(self, plan, budget));
        let mut all = start.collect::<Result<Vec<_>>>()?;
        loop {
            let fastest = all.iter().map(|s| s.measured.seconds()).fold(f64::INFINITY, f64::min);
            let is_behind = |s: &Sampling<'_>| s.has_enough() && s.measured.seconds() > BEHIND * fastest;
            let mut is_done = true;
            for sampling in all.iter_mut().filter(|s| s.wants_more() && !is_behind(s)) {
                sampling.step()?;
                is_done = false;
            }
            if is_done {
                return Ok(all.into_iter().map(|sampling| sampling.measured).collect());
            }
        }
    }
}

/// A measurement under way.
struct Sampling<'t> {
    timer: &'t Timer,
    plan: &'t Plan,
    budget: f64,
    /// Runs of one sample.
    runs: u32,
    spent: f64,
    measured: Measurement,
}

impl<'t> Sampling<'t> {
    /// Runs the plan once.
    fn new(timer: &'t Timer, plan: &'t Plan, budget: Duration) -> Result<Sampling<'t>> {
        let budget = budget.as_secs_f64();
        let first = timer.sample(plan, 1)?.wall.max(1e-6);
        let runs = (budget / 10.0 / first).clamp(1.0, 1000.0) as u32;
        let measured = Measurement { samples: Vec::new(), clock: timer.clock, cost: plan.cost() };
        Ok(Sampling { timer, plan, budget, runs, spent: first, measured })
    }

    fn has_enough(&self) -> bool {
        self.measured.samples.len() >= LEAST_SAMPLES
    }

    fn wants_more(&self) -> bool {
        !self.has_enough() || self.measured.samples.len() < MAX_SAMPLES && self.spent < self.budget
    }

    fn step(&mut self) -> Result<()> {
        let sample = self.timer.sample(self.plan, self.runs)?;
        self.spent += sample.wall * f64::from(self.runs);
        self.measured.samples.push(sample);
        Ok(())
    }
}

/// A case on the device, compiled and warm.
#[derive(Debug)]
pub struct Runner {
    timer: Timer,
    pub(crate) prepared: Prepared,
    /// Wall time of the first run, in which drivers compile.
    pub first: Duration,
}

impl Runner {
    /// Uploads the operands and runs the case once, so that drivers that compile at the first dispatch
    /// are done with it.
    pub fn new(gpu: &Gpu, case: &Case) -> Result<Runner> {
        let prepared = case.prepare(gpu)?;
        prepared.reset(gpu);
        gpu.wait()?;
        let start = Instant::now();
        prepared.plan.run(gpu)?;
        Ok(Runner { timer: Timer::new(gpu)?, prepared, first: start.elapsed() })
    }

    /// Kernel and variant of its first dispatch: what an op chose.
    pub fn chosen(&self) -> (&'static str, String) {
        let first = self.prepared.plan.dispatches().next();
        first.map_or(("nothing", String::new()), |(kernel, variant, _)| (kernel, variant.to_string()))
    }

    /// Operations and traffic of one run.
    pub fn cost(&self) -> Cost {
        self.prepared.plan.cost()
    }

    /// Runs the case `n` times (at least once). Operands updated in place are not set back between runs.
    pub fn sample(&self, n: u32) -> Result<Sample> {
        self.timer.sample(&self.prepared.plan, n)
    }

    /// Samples the case for about `budget`.
    pub fn measure(&self, budget: Duration) -> Result<Measurement> {
        self.timer.measure(&self.prepared.plan, budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::plan::PlanBuilder;
    use crate::gpu::{DType, Matrix};
    use crate::ops::matmul::{Matmul, matmul};

    #[test]
    fn a_plan_of_several_submits_is_timed_by_the_device() {
        let gpu = Gpu::open(&Default::default()).unwrap();
        gpu.limit_submits(1e9, Duration::from_millis(1));
        let tensor = |name, shape: &[usize]| gpu.tensor(name, DType::F32, shape).unwrap();
        let (x, out) = (tensor("x", &[64, 192]), tensor("out", &[64, 192]));
        let weight = Matrix::from_tensor(tensor("w", &[192, 192])).unwrap();
        let mut plan = PlanBuilder::new(&gpu, "timed");
        for _ in 0..4 {
            matmul(&mut plan, Matmul::new(&x, 64, &weight, &out)).unwrap();
        }
        let plan = plan.freeze().unwrap();
        assert!(plan.slices().len() >= 4);
        plan.run(&gpu).unwrap();
        let sample = Timer::new(&gpu).unwrap().sample(&plan, 2).unwrap();
        // Without timestamps the clock on the wall is used.
        assert_eq!(sample.device.is_some(), gpu.caps().has_timestamps(), "{sample:?}");
        assert!(sample.device.is_none_or(|seconds| seconds > 0.0 && seconds <= sample.wall), "{sample:?}");
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0]), 3.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn the_clock_that_counts_makes_seconds_and_spread() {
        let sample = |wall, cpu| Sample { wall, cpu: Some(cpu), device: None };
        let samples = vec![sample(1.0, 2.0), sample(9.0, 2.5), sample(1.5, 2.2)];
        let cost = Cost { flops: 44, bytes: 22 };
        let measured = Measurement { samples, clock: Clock::Cpu, cost };
        assert_eq!((measured.seconds(), measured.wall()), (2.2, 1.5));
        assert!((measured.spread() - 0.5 / 2.2).abs() < 1e-12);
        assert!((measured.flop_per_s() - 20.0).abs() < 1e-9 && (measured.byte_per_s() - 10.0).abs() < 1e-9);
    }
}
