//! Times of replays on the device: timestamp queries round whole plans or round each dispatch.

use std::ops::Range;
use std::time::Instant;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::plan::Plan;

/// Intervals that one query set may hold (a set has at most 4096 queries).
const MAX_INTERVALS: u32 = 2048;

/// Begin and end of up to a fixed number of compute passes.
#[derive(Debug)]
pub(crate) struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    intervals: u32,
}

impl Timestamps {
    /// Room for `intervals` passes, at most 2048; `None` if the device has no timestamps.
    pub(crate) fn new(gpu: &Gpu, intervals: usize) -> Result<Option<Timestamps>> {
        if !gpu.caps().has_timestamps() {
            return Ok(None);
        }
        let intervals = (intervals.max(1) as u32).min(MAX_INTERVALS);
        let buffer = |usage| {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("diffa.timestamps"),
                size: u64::from(intervals) * 16,
                usage,
                mapped_at_creation: false,
            })
        };
        let made = gpu.scoped("creating timestamp queries", || Timestamps {
            queries: gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("diffa.timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * intervals,
            }),
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            intervals,
        })?;
        Ok(Some(made))
    }

    /// Passes it has room for.
    pub(crate) fn intervals(&self) -> usize {
        self.intervals as usize
    }

    /// Encodes dispatches `range` of `plan` in a pass of their own, timed as interval `i`.
    pub(crate) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        plan: &Plan,
        range: Range<usize>,
        i: usize,
    ) {
        let i = i as u32;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("diffa.timed"),
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set: &self.queries,
                beginning_of_pass_write_index: Some(2 * i),
                end_of_pass_write_index: Some(2 * i + 1),
            }),
        });
        plan.encode(&mut pass, range);
    }

    /// Waits, and returns the seconds of the first `n` intervals.
    pub(crate) fn seconds(&self, gpu: &Gpu, n: usize) -> Result<Vec<f64>> {
        let n = (n as u32).min(self.intervals);
        let bytes = u64::from(n) * 16;
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        encoder.resolve_query_set(&self.queries, 0..2 * n, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, bytes);
        gpu.submit(encoder);
        let mut ticks: Vec<u64> = Vec::new();
        gpu.map_wait(&self.staging, bytes, wgpu::PollType::wait_indefinitely(), |view| {
            ticks = bytemuck::pod_collect_to_vec(view)
        })?;
        let period = f64::from(gpu.queue().get_timestamp_period()) * 1e-9;
        Ok(ticks.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 * period).collect())
    }
}

/// Runs a plan once, dispatch by dispatch in its order, and returns the seconds of each: by timestamps round
/// each, or without them by waiting for each and taking off what an empty submit costs.
pub(crate) fn time_each(gpu: &Gpu, plan: &Plan) -> Result<Vec<f64>> {
    let Some(timestamps) = Timestamps::new(gpu, plan.len())? else { return wait_for_each(gpu, plan) };
    let mut seconds = Vec::with_capacity(plan.len());
    let mut start = 0;
    // The slices bound the work of a submit; the query set bounds how many dispatches it can tell apart.
    for &end in plan.slices() {
        while start < end {
            let stop = end.min(start + timestamps.intervals());
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            for i in start..stop {
                timestamps.encode(&mut encoder, plan, i..i + 1, i - start);
            }
            gpu.submit(encoder);
            seconds.extend(timestamps.seconds(gpu, stop - start)?);
            start = stop;
        }
    }
    Ok(seconds)
}

fn wait_for_each(gpu: &Gpu, plan: &Plan) -> Result<Vec<f64>> {
    let run = |range: Range<usize>| -> Result<f64> {
        let start = Instant::now();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        plan.encode_into(&mut encoder, range);
        gpu.submit(encoder);
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let mut empty = (0..9).map(|_| run(0..0)).collect::<Result<Vec<_>>>()?;
    empty.sort_by(f64::total_cmp);
    (0..plan.len()).map(|i| Ok((run(i..i + 1)? - empty[4]).max(0.0))).collect()
}
