//! What an adapter does at best: bytes copied and operations multiplied per second.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::bench::{Clock, Timer, median};
use crate::error::Result;
use crate::gpu::plan::PlanBuilder;
use crate::gpu::{DType, Gpu, Tensor};
use crate::ops::peak::{PEAK_MULTIPLY, peak_copy, peak_multiply};
use crate::system;

/// Bytes of each of the two buffers copied, at most: beyond the caches of most adapters.
const COPY_BYTES: u64 = 128 << 20;
/// Lanes of the multiply kernel, enough for the widest GPU, and turns of its loop at first: many, so that
/// starting a lane does not count.
const LANES: usize = 1 << 18;
const FIRST_STEPS: usize = 64;
/// A multiplication run should last so long, so that starting it does not count.
const RUN_SECONDS: f64 = 0.05;

/// Measured peaks, by the clock that counts on the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
    /// Bytes per second, read and written both counted: the better of the next two.
    pub copy: f64,
    /// The same for the driver's buffer copy.
    pub copy_buffer: f64,
    /// The same for `shaders/peak_copy.wgsl`.
    pub copy_kernel: f64,
    /// f32 multiply-adds of `shaders/peak_multiply.wgsl`, two operations each, per second.
    pub multiply: f64,
}

impl Peaks {
    /// The most operations per second for a kernel of this many per byte: the roof.
    pub fn roof(&self, flop_per_byte: f64) -> f64 {
        self.multiply.min(self.copy * flop_per_byte)
    }

    /// Measures, taking about `budget` for each of the three.
    pub fn measure(gpu: &Gpu, budget: Duration) -> Result<Peaks> {
        let timer = Timer::new(gpu)?;
        let bytes = COPY_BYTES.min(gpu.caps().max_slab_bytes() / 16 * 16);
        let len = (bytes / 4) as usize;
        let (from, to) =
            (gpu.tensor("peak.x", DType::F32, &[len])?, gpu.tensor("peak.out", DType::F32, &[len])?);
        let mut plan = PlanBuilder::new(gpu, "peak_copy");
        peak_copy(&mut plan, &from, &to)?;
        let copied = timer.measure(&plan.freeze()?, budget)?;
        let copy_kernel = best(&copied, copied.cost.bytes);
        let copy_buffer = copy_buffer(gpu, (&from, &to), budget)?;

        let x: Vec<f32> = (0..LANES).map(|i| 0.5 + (i % 97) as f32 / 256.0).collect();
        let x = gpu.tensor_from("peak.x", DType::F32, &[LANES], &x)?;
        let out = gpu.tensor("peak.out", DType::F32, &[LANES])?;
        let multiplying = |n_steps, unroll| -> Result<_> {
            let mut plan = PlanBuilder::new(gpu, "peak_multiply");
            peak_multiply(&mut plan, &x, (n_steps, unroll), &out)?;
            plan.freeze()
        };
        let mut multiply: f64 = 0.0;
        // How far a loop is best unrolled is the compiler's affair; the best of all counts.
        for unroll in PEAK_MULTIPLY.consts.iter().flat_map(|constant| constant.choices) {
            let first = multiplying(FIRST_STEPS, *unroll)?;
            timer.sample(&first, 1)?;
            let seconds = timer.sample(&first, 1)?.wall.max(1e-6);
            let n_steps = (FIRST_STEPS as f64 * (RUN_SECONDS / seconds).clamp(1.0, 256.0)) as usize;
            let multiplied = timer.measure(&multiplying(n_steps, *unroll)?, budget / 2)?;
            multiply = multiply.max(best(&multiplied, multiplied.cost.flops));
        }
        Ok(Peaks { copy: copy_kernel.max(copy_buffer), copy_buffer, copy_kernel, multiply })
    }
}

/// A peak is what was reached once: the fastest sample.
fn best(measured: &super::Measurement, work: u64) -> f64 {
    let least = measured.samples.iter().map(|s| measured.clock.read(s)).fold(f64::INFINITY, f64::min);
    work as f64 / least
}

/// No timestamps here: they go round compute passes. Several copies to a wait, so that waiting does not count.
fn copy_buffer(gpu: &Gpu, (from, to): (&Tensor, &Tensor), budget: Duration) -> Result<f64> {
    const COPIES: u64 = 4;
    let start = Instant::now();
    let mut rates = Vec::new();
    while rates.len() < 3 || start.elapsed() < budget {
        let (cpu, at) = (system::cpu_seconds(), Instant::now());
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        for _ in 0..COPIES {
            encoder.copy_buffer_to_buffer(from.buffer(), 0, to.buffer(), 0, from.byte_len());
        }
        gpu.submit(encoder);
        gpu.wait()?;
        let wall = at.elapsed().as_secs_f64();
        let seconds = match (Clock::of(gpu), cpu.zip(system::cpu_seconds())) {
            (Clock::Cpu, Some((before, after))) => after - before,
            _ => wall,
        };
        rates.push((2 * COPIES * from.byte_len()) as f64 / seconds.max(1e-9));
    }
    Ok(median(rates))
}
