//! Timing of kernel cases: record once, warm up, replay n times, wait once.
//!
//! Used by `benches/kernels.rs` and the command line; the numbers of a software adapter say nothing about
//! a GPU, so print [`crate::gpu::Caps::describe`] beside them.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::plan::{Cost, Plan};
use crate::ops::cases::{Case, Prepared};

/// Replays that carry timestamps, at most.
const MAX_TIMED: u32 = 64;

/// Time and cost of one run of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// Wall time per run, from the first submit to the end of the last run.
    pub wall: Duration,
    /// Time on the device per run, if it has timestamps.
    pub gpu: Option<Duration>,
    /// Floating-point operations of one run.
    pub flops: u64,
    /// Bytes that one run must move at least.
    pub bytes: u64,
}

impl Measurement {
    /// Device time if known, else wall time, in seconds.
    pub fn seconds(&self) -> f64 {
        self.gpu.unwrap_or(self.wall).as_secs_f64().max(1e-9)
    }

    /// 1e9 floating-point operations per second.
    pub fn gflop_per_s(&self) -> f64 {
        self.flops as f64 / self.seconds() / 1e9
    }

    /// 1e9 bytes per second.
    pub fn gbyte_per_s(&self) -> f64 {
        self.bytes as f64 / self.seconds() / 1e9
    }
}

/// A case on the device, compiled and warm.
pub struct Runner {
    gpu: Gpu,
    prepared: Prepared,
    timestamps: Option<Timestamps>,
}

impl Runner {
    /// Uploads the operands and runs the case once, so that drivers that compile at the first dispatch
    /// are done with it.
    pub fn new(gpu: &Gpu, case: &Case) -> Result<Runner> {
        let prepared = case.prepare(gpu)?;
        prepared.reset(gpu);
        prepared.plan.run(gpu)?;
        let timed = gpu.caps().features.contains(wgpu::Features::TIMESTAMP_QUERY);
        let timestamps = if timed { Some(Timestamps::new(gpu)?) } else { None };
        Ok(Runner { gpu: gpu.clone(), prepared, timestamps })
    }

    /// Runs the case `n` times (at least once). Operands updated in place are not set back between runs.
    pub fn measure(&self, n: u32) -> Result<Measurement> {
        let n = n.max(1);
        let Prepared { plan, .. } = &self.prepared;
        let start = Instant::now();
        for i in 0..n {
            match &self.timestamps {
                Some(timestamps) if i < MAX_TIMED => timestamps.submit(&self.gpu, plan, i),
                _ => {
                    self.gpu.submit(plan.replay(&self.gpu));
                }
            }
        }
        self.gpu.wait()?;
        let wall = start.elapsed() / n;
        let gpu = match &self.timestamps {
            Some(timestamps) => Some(timestamps.mean(&self.gpu, n.min(MAX_TIMED))?),
            None => None,
        };
        let Cost { flops, bytes } = plan.cost();
        Ok(Measurement { wall, gpu, flops, bytes })
    }
}

/// Prepares, warms up and measures a case: `n` runs.
pub fn run_case(gpu: &Gpu, case: &Case, n: u32) -> Result<Measurement> {
    Runner::new(gpu, case)?.measure(n)
}

/// Begin and end of up to [`MAX_TIMED`] replays.
struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl Timestamps {
    fn new(gpu: &Gpu) -> Result<Timestamps> {
        let count = 2 * MAX_TIMED;
        let buffer = |usage| {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("diffa.timestamps"),
                size: u64::from(count) * 8,
                usage,
                mapped_at_creation: false,
            })
        };
        gpu.scoped("creating timestamp queries", || Timestamps {
            queries: gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("diffa.timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            }),
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
        })
    }

    fn submit(&self, gpu: &Gpu, plan: &Plan, i: u32) {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("diffa.bench"),
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &self.queries,
                    beginning_of_pass_write_index: Some(2 * i),
                    end_of_pass_write_index: Some(2 * i + 1),
                }),
            });
            plan.encode(&mut pass, 0..plan.len());
        }
        gpu.submit(encoder);
    }

    /// Mean of the first `n` intervals.
    fn mean(&self, gpu: &Gpu, n: u32) -> Result<Duration> {
        let bytes = u64::from(n) * 16;
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        encoder.resolve_query_set(&self.queries, 0..2 * n, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, bytes);
        gpu.submit(encoder);
        let mut ticks: Vec<u64> = Vec::new();
        gpu.map_wait(&self.staging, bytes, |view| ticks = bytemuck::pod_collect_to_vec(view))?;
        let total: u64 = ticks.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0])).sum();
        let nanoseconds = total as f64 * f64::from(gpu.queue().get_timestamp_period()) / f64::from(n);
        Ok(Duration::from_nanos(nanoseconds as u64))
    }
}
