//! The device layer: the only place that talks to wgpu.
//!
//! [`Gpu`] opens an adapter of its own or adopts a host's device; after that there is no difference.
//! [`plan`] records dispatches once and replays them; [`kernel`] declares what can be dispatched.

pub mod adapter;
pub mod caps;
pub mod counters;
pub mod kernel;
pub mod memory;
pub mod needs;
pub mod plan;
pub mod readback;
pub mod shader;
pub mod tensor;
pub mod timing;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

pub use adapter::AdapterChoice;
pub use caps::{Caps, Requirements};
pub use tensor::{DType, Matrix, Slab, Tensor};

use crate::error::{Error, Result};
use counters::Counters;
use kernel::{Access, Kernel, Variant};
use needs::Need;

/// A host's command encoder, as [`crate::Session::record_step`] takes it.
pub type CommandEncoder = wgpu::CommandEncoder;

/// Names of kernel variants by what they are for, as the operations spell both.
pub type Choices = BTreeMap<String, String>;

/// A compiled kernel with the layout of its single bind group.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    caps: Caps,
    reason: String,
    pipelines: Mutex<HashMap<(&'static str, Variant), Pipeline>>,
    unused: OnceLock<Tensor>,
    counters: Counters,
    flops_per_submit: AtomicU64,
    choices: RwLock<Choices>,
    /// First error that no scope caught; set by the handlers of a device we own.
    failure: Arc<Mutex<Option<Failure>>>,
}

/// An error that no scope caught.
#[derive(Debug, Clone)]
struct Failure {
    is_lost: bool,
    message: String,
}

impl Failure {
    fn keep(slot: &Mutex<Option<Failure>>, is_lost: bool, message: String) {
        slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(Failure { is_lost, message });
    }
}

/// A device and its queue, with everything compiled for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

impl Gpu {
    /// Opens the best adapter, or the one asked for.
    ///
    /// Errors: no adapter, no match, or an adapter below [`Requirements`].
    pub fn open(choice: &AdapterChoice) -> Result<Gpu> {
        let (adapter, reason) = adapter::choose(choice)?;
        let mut required_features = Requirements::wanted_features(&adapter);
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if !adapter::cooperative_edges(&adapter).is_empty() {
            required_features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            // SAFETY: experimental features may have bugs that reach undefined behaviour. The kernels that use
            // this one run only where a tuning file or a caller asks for them by name.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("diffa"),
            required_features,
            experimental_features,
            required_limits: Requirements::wanted_limits(&adapter),
            // Large weights in dedicated allocations: pooling them wastes a tenth of a 16 GB model.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        Gpu::open_with(&adapter, &descriptor, reason)
    }

    /// Opens `adapter` with nothing beyond WebGPU's default limits: the cheapest portability check.
    pub fn open_with_default_limits(choice: &AdapterChoice) -> Result<Gpu> {
        let (adapter, reason) = adapter::choose(choice)?;
        Gpu::open_with(&adapter, &wgpu::DeviceDescriptor::default(), reason)
    }

    fn open_with(
        adapter: &wgpu::Adapter,
        descriptor: &wgpu::DeviceDescriptor<'_>,
        reason: String,
    ) -> Result<Gpu> {
        let (device, queue) = pollster::block_on(adapter.request_device(descriptor)).map_err(|e| {
            Error::Adapter(format!("{} refused to open: {e}", caps::describe(&adapter.get_info())))
        })?;
        let gpu = Gpu::adopt(device, queue, reason, Some(adapter))?;
        let slot = gpu.inner.failure.clone();
        gpu.device().on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            Failure::keep(&slot, false, error.to_string());
        }));
        let slot = gpu.inner.failure.clone();
        gpu.device().set_device_lost_callback(move |why, message| {
            if why != wgpu::DeviceLostReason::Destroyed {
                Failure::keep(&slot, true, message);
            }
        });
        Ok(gpu)
    }

    /// Adopts a host's device and queue. Nothing is requested from them beyond what they have; error
    /// handlers and the device-lost callback stay the host's.
    ///
    /// Errors: [`Error::Unsupported`], listing every limit that is too small.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Gpu> {
        Gpu::adopt(device, queue, "the host's device".into(), None)
    }

    fn adopt(
        device: wgpu::Device,
        queue: wgpu::Queue,
        reason: String,
        adapter: Option<&wgpu::Adapter>,
    ) -> Result<Gpu> {
        let (info, limits, features) = (device.adapter_info(), device.limits(), device.features());
        let has_cooperative = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        let caps = Caps {
            info,
            limits,
            features,
            memory_bytes: adapter.and_then(adapter::memory_bytes),
            cooperative_edges: adapter
                .filter(|_| has_cooperative)
                .map(adapter::cooperative_edges)
                .unwrap_or_default(),
        };
        Requirements::check(&caps.limits)?;
        let assumed = caps.assumed_flops_per_submit();
        Ok(Gpu {
            inner: Arc::new(Inner {
                device,
                queue,
                caps,
                reason,
                pipelines: Mutex::new(HashMap::new()),
                unused: OnceLock::new(),
                counters: Counters::default(),
                flops_per_submit: AtomicU64::new(assumed),
                choices: RwLock::default(),
                failure: Arc::new(Mutex::new(None)),
            }),
        })
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// The wgpu queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// True for clones of one another. Tensors of one device mean nothing to another, and wgpu cannot always
    /// tell: buffers of two instances may have equal ids.
    pub(crate) fn is_same(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// What the device offers.
    pub fn caps(&self) -> &Caps {
        &self.inner.caps
    }

    /// Why this adapter was taken, as a phrase.
    pub fn reason(&self) -> &str {
        &self.inner.reason
    }

    /// Counts of submits, buffers, bind groups, pipelines and maps since the device was opened.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Floating-point operations that one submit, and where it can be split one dispatch, may hold: driver
    /// watchdogs (about 2 s on Windows) must not fire, and Ctrl-C must be heard.
    pub fn flops_per_submit(&self) -> u64 {
        self.inner.flops_per_submit.load(Ordering::Relaxed)
    }

    /// Bounds the submits of plans made from now on to `time` at `flops_per_second`; see
    /// [`crate::tune::limit_submits`], which measures that.
    pub fn limit_submits(&self, flops_per_second: f64, time: Duration) {
        let flops = (flops_per_second * time.as_secs_f64()).max(1e6);
        self.inner.flops_per_submit.store(flops as u64, Ordering::Relaxed);
    }

    /// Gives the measured choices of kernel variants, by key; plans made from now on follow them.
    pub fn set_choices(&self, choices: Choices) {
        *self.inner.choices.write().unwrap_or_else(PoisonError::into_inner) = choices;
    }

    /// The measured choice under `key`, if there is one.
    pub(crate) fn choice(&self, key: &str) -> Option<String> {
        let choices = self.inner.choices.read().unwrap_or_else(PoisonError::into_inner);
        choices.get(key).cloned()
    }

    /// A tensor of one element, bound where an optional operand is absent.
    pub(crate) fn unused(&self) -> Result<Tensor> {
        if let Some(tensor) = self.inner.unused.get() {
            return Ok(tensor.clone());
        }
        let tensor = self.tensor("unused", DType::F32, &[1])?;
        Ok(self.inner.unused.get_or_init(|| tensor).clone())
    }

    /// Runs `work` inside error scopes, so that device errors come back as [`Error::Gpu`] and never
    /// reach a host's handler.
    pub(crate) fn scoped<T>(&self, doing: &str, work: impl FnOnce() -> T) -> Result<T> {
        let validation = self.device().push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.device().push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let value = work();
        let memory = pollster::block_on(memory.pop());
        let validation = pollster::block_on(validation.pop());
        let doing = doing.to_string();
        match (memory, validation) {
            (Some(error), _) => Err(Error::OutOfMemory { doing, message: error.to_string() }),
            (None, Some(error)) => Err(Error::Gpu { doing, message: error.to_string() }),
            (None, None) => Ok(value),
        }
    }

    /// The first error that reached no scope, if any (device lost, for example).
    pub(crate) fn check(&self, doing: &str) -> Result<()> {
        match self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(Failure { is_lost: true, message }) => {
                Err(Error::DeviceLost { doing: doing.into(), message })
            }
            Some(Failure { message, .. }) => Err(Error::Gpu { doing: doing.into(), message }),
            None => Ok(()),
        }
    }

    /// Submits finished commands and counts the submit.
    pub(crate) fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        Counters::add(&self.inner.counters.submits, 1);
        self.queue().submit([encoder.finish()])
    }

    /// Blocks until everything submitted so far is done.
    pub fn wait(&self) -> Result<()> {
        self.device()
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| Error::Gpu { doing: "waiting for the device".into(), message: e.to_string() })?;
        self.check("waiting for the device")
    }

    /// Lets finished work call back, without waiting for any.
    pub(crate) fn poll(&self) -> Result<()> {
        self.device()
            .poll(wgpu::PollType::Poll)
            .map_err(|e| Error::Gpu { doing: "polling the device".into(), message: e.to_string() })?;
        self.check("polling the device")
    }

    /// The pipeline of `kernel` in `variant`, compiled on first use.
    pub(crate) fn pipeline(&self, kernel: &'static Kernel, variant: &Variant) -> Result<Pipeline> {
        let key = (kernel.name, variant.clone());
        if let Some(found) = self.pipelines().get(&key) {
            return Ok(found.clone());
        }
        let made = self.compile(kernel, variant)?;
        self.pipelines().insert(key, made.clone());
        Ok(made)
    }

    /// What `kernel` in `variant` needs and this device lacks.
    pub fn lacking(&self, kernel: &Kernel, variant: &Variant) -> std::result::Result<Vec<Need>, String> {
        let needs = shader::needs(kernel, variant)?;
        Ok(needs.into_iter().filter(|need| !need.is_met(self.caps())).collect())
    }

    fn pipelines(&self) -> std::sync::MutexGuard<'_, HashMap<(&'static str, Variant), Pipeline>> {
        self.inner.pipelines.lock().unwrap_or_else(PoisonError::into_inner)
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
                cache: None,
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
