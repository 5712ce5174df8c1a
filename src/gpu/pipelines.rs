//! Compiled kernels: each variant once, by whichever thread asks first; the others wait for it.
//!
//! A plan asks when it is frozen. [`Gpu::compile_while`] asks earlier, on threads of its own, for what a
//! [sketch](crate::gpu::sketch) found to be needed, while the caller reads weights.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::gpu::counters::Counters;
use crate::gpu::driver_cache::DriverCache;
use crate::gpu::kernel::{Access, Kernel, Variant};
use crate::gpu::{Gpu, shader};

/// Threads that compile ahead. The loaders mostly wait for the disk meanwhile.
const COMPILERS: usize = 4;
/// Size of the buffers of a first dispatch, which touches none of them: more than any parameter struct and any
/// array element has.
const UNTOUCHED_BYTES: u64 = 1024;

/// A compiled kernel with the layout of its single bind group.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// A kernel in a variant, as a plan asks for it.
pub(crate) type Wanted = (&'static Kernel, Variant);

/// A place for one pipeline; holds `None` if its compilation failed.
type Slot = Arc<OnceLock<Option<Pipeline>>>;

/// All pipelines of a device.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    slots: Mutex<HashMap<(&'static str, Variant), Slot>>,
    /// What the driver remembers, if a file was given for it.
    pub(super) driver: OnceLock<DriverCache>,
}

impl Pipelines {
    fn slots(&self) -> MutexGuard<'_, HashMap<(&'static str, Variant), Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gpu {
    /// The pipeline of `kernel` in `variant`, compiled on first use. If another thread is compiling it, waits.
    ///
    /// Errors: [`Error::Unsupported`] for a variant that this device cannot have, [`Error::Shader`].
    pub(crate) fn pipeline(&self, kernel: &'static Kernel, variant: &Variant) -> Result<Pipeline> {
        let key = (kernel.name, variant.clone());
        let slot = self.inner.pipelines.slots().entry(key.clone()).or_default().clone();
        let mut failed = None;
        let made = slot.get_or_init(|| match self.compile(kernel, variant) {
            Ok(pipeline) => Some(pipeline),
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        match (made, failed) {
            (Some(pipeline), _) => Ok(pipeline.clone()),
            // The next to ask tries again: a device may have been out of memory.
            (None, Some(error)) => {
                self.inner.pipelines.slots().remove(&key);
                Err(error)
            }
            // It failed on another thread, which has the error.
            (None, None) => self.compile(kernel, variant),
        }
    }

    /// Does `work` while other threads compile `wanted`, in this order; returns when both are done. A failure to
    /// compile is left to the plan that will ask again; a failure of `work` ends the compiling.
    pub(crate) fn compile_while<T>(&self, wanted: &[Wanted], work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let compile = || {
            while !stopped.load(Ordering::Relaxed) {
                let Some((kernel, variant)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                if let Ok(pipeline) = self.pipeline(kernel, variant)
                    && self.caps().is_software()
                {
                    // An error here would be one of the real dispatch, too.
                    _ = self.dispatch_nothing(kernel, &pipeline);
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(COMPILERS);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(wanted.len()) {
                scope.spawn(compile);
            }
            let done = work();
            stopped.store(done.is_err(), Ordering::Relaxed);
            done
        })
    }

    /// Dispatches no workgroups: software drivers translate a pipeline to machine code at its first dispatch,
    /// however small.
    fn dispatch_nothing(&self, kernel: &Kernel, pipeline: &Pipeline) -> Result<()> {
        self.scoped("a first dispatch", || {
            let device = self.device();
            let untouched: Vec<wgpu::Buffer> = (0..=kernel.bindings.len())
                .map(|_| {
                    device.create_buffer(&wgpu::BufferDescriptor {
                        label: Some("diffa.untouched"),
                        size: UNTOUCHED_BYTES,
                        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM,
                        mapped_at_creation: false,
                    })
                })
                .collect();
            let entries: Vec<_> = (0..)
                .zip(&untouched)
                .map(|(binding, buffer)| wgpu::BindGroupEntry {
                    binding,
                    resource: buffer.as_entire_binding(),
                })
                .collect();
            let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(kernel.name),
                layout: &pipeline.layout,
                entries: &entries,
            });
            let mut encoder = device.create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                pass.set_pipeline(&pipeline.pipeline);
                pass.set_bind_group(0, &bind_group, &[]);
                pass.dispatch_workgroups(0, 0, 0);
            }
            self.submit(encoder);
        })
    }

    fn compile(&self, kernel: &'static Kernel, variant: &Variant) -> Result<Pipeline> {
        let fail =
            |message: String| Error::Shader { kernel: kernel.name, variant: variant.to_string(), message };
        let lacking = self.lacking(kernel, variant).map_err(fail)?;
        if !lacking.is_empty() {
            let missing = lacking.iter().map(|need| format!("{need}, for `{}` ({variant})", kernel.name));
            return Err(Error::Unsupported { missing: missing.collect() });
        }
        let text = shader::compose(kernel, variant).map_err(fail)?;
        let label = format!("diffa.{}", kernel.name);
        let entry = |index: usize, ty: wgpu::BufferBindingType| wgpu::BindGroupLayoutEntry {
            binding: index as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
        for (i, binding) in kernel.bindings.iter().enumerate() {
            let read_only = binding.access == Access::Read;
            entries.push(entry(i + 1, wgpu::BufferBindingType::Storage { read_only }));
        }
        Counters::add(&self.inner.counters.pipelines, 1);
        self.scoped("compiling a kernel", || {
            let device = self.device();
            let module = trusted_module(device, &label, text);
            let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(&label),
                entries: &entries,
            });
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // Every kernel writes workgroup memory before it reads it; zeroing it makes FXC
                    // compile for minutes and costs time on every launch.
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: self.inner.pipelines.driver.get().map(DriverCache::handle),
            });
            Pipeline { pipeline, layout }
        })
        .map_err(|e| fail(e.to_string()))
    }
}

/// A module without naga's loop counters, which keep drivers from unrolling the register tiles
/// (7.7 instead of 12.8 GFLOP/s per core for the matmul on lavapipe). Bounds checks stay on.
fn trusted_module(device: &wgpu::Device, label: &str, text: String) -> wgpu::ShaderModule {
    let mut checks = wgpu::ShaderRuntimeChecks::checked();
    checks.force_loop_bounding = false;
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(text.into()) };
    // SAFETY: the only check turned off is the bound on loop iterations. Every loop in `shaders/` counts
    // up to a constant or to a size from the parameters, so all of them end.
    unsafe { device.create_shader_module_trusted(descriptor, checks) }
}
