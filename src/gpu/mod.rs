//! The device layer: the only place that talks to wgpu.
//!
//! [`Gpu`] opens an adapter of its own or adopts a host's device; after that there is no difference.
//! [`plan`] records dispatches once and replays them; [`kernel`] declares what can be dispatched.

pub mod adapter;
pub mod caps;
pub mod counters;
mod driver_cache;
mod in_place;
pub mod kernel;
pub mod memory;
pub mod needs;
mod pipelines;
pub mod plan;
pub mod readback;
pub mod shader;
mod sketch;
pub mod tensor;
pub mod timing;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

pub use adapter::AdapterChoice;
pub use caps::{Caps, Requirements};
pub(crate) use pipelines::Wanted;
pub use tensor::{DType, Matrix, Slab, Tensor};

use crate::error::{Error, Result};
use counters::Counters;
use kernel::{Kernel, Variant};
use needs::Need;
use pipelines::Pipelines;
use sketch::Sketch;

/// A host's command encoder, as [`crate::Session::record_step`] takes it.
pub type CommandEncoder = wgpu::CommandEncoder;

/// A submit that can be waited for.
pub(crate) type SubmissionIndex = wgpu::SubmissionIndex;

/// Names of kernel variants by what they are for, as the operations spell both.
pub type Choices = BTreeMap<String, String>;

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    caps: Caps,
    reason: String,
    pipelines: Pipelines,
    unused: OnceLock<Tensor>,
    counters: Counters,
    flops_per_submit: AtomicU64,
    choices: RwLock<Choices>,
    /// The first error of a call without a result.
    failure: Arc<Mutex<Option<Failure>>>,
}

/// What went wrong in a call that has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Lost,
    OutOfMemory,
    Other,
}

/// An error that nobody has been told of yet.
#[derive(Debug, Clone)]
struct Failure {
    trouble: Trouble,
    message: String,
}

impl Failure {
    /// Keeps the first failure for [`Gpu::check`].
    fn keep(self, slot: &Mutex<Option<Failure>>) {
        slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(self);
    }

    fn into_error(self, doing: &str) -> Error {
        let (doing, message) = (doing.to_string(), self.message);
        match self.trouble {
            Trouble::Lost => Error::DeviceLost { doing, message },
            Trouble::OutOfMemory => Error::OutOfMemory { doing, message },
            Trouble::Other => Error::Gpu { doing, message },
        }
    }
}

/// A device and its queue, with everything compiled for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
    sketch: Option<Arc<Sketch>>,
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
            let is_memory = matches!(error, wgpu::Error::OutOfMemory { .. });
            let trouble = if is_memory { Trouble::OutOfMemory } else { Trouble::Other };
            Failure { trouble, message: error.to_string() }.keep(&slot);
        }));
        let slot = gpu.inner.failure.clone();
        gpu.device().set_device_lost_callback(move |why, message| {
            if why != wgpu::DeviceLostReason::Destroyed {
                Failure { trouble: Trouble::Lost, message }.keep(&slot);
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

    /// The same for a host that still has the device's adapter. Only an adapter tells how much memory it has and the
    /// sizes of its cooperative matrices, which kernels may then use if the host's device has the feature.
    ///
    /// Errors: those of [`Gpu::from_wgpu`]; [`Error::Adapter`] if the device is another adapter's.
    pub fn from_wgpu_on(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Result<Gpu> {
        let (of_device, of_adapter) = (device.adapter_info(), adapter.get_info());
        if of_device != of_adapter {
            let (device, adapter) = (caps::describe(&of_device), caps::describe(&of_adapter));
            return Err(Error::Adapter(format!(
                "the host's device is one of {device}, not of {adapter}; give the adapter that it was requested from"
            )));
        }
        Gpu::adopt(device, queue, "the host's device".into(), Some(adapter))
    }

    fn adopt(
        device: wgpu::Device,
        queue: wgpu::Queue,
        reason: String,
        adapter: Option<&wgpu::Adapter>,
    ) -> Result<Gpu> {
        let (info, limits, features) = (device.adapter_info(), device.limits(), device.features());
        let has_cooperative = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        let cooperative_edges: Vec<u32> =
            adapter.filter(|_| has_cooperative).map(adapter::cooperative_edges).unwrap_or_default();
        let caps = Caps {
            info: caps::with_known_subgroups(info, &cooperative_edges),
            limits,
            features,
            memory_bytes: adapter.and_then(adapter::memory_bytes),
            cooperative_edges,
        };
        Requirements::check(&caps.limits)?;
        let assumed = caps.assumed_flops_per_submit();
        Ok(Gpu {
            inner: Arc::new(Inner {
                device,
                queue,
                caps,
                reason,
                pipelines: Pipelines::default(),
                unused: OnceLock::new(),
                counters: Counters::default(),
                flops_per_submit: AtomicU64::new(assumed),
                choices: RwLock::default(),
                failure: Arc::new(Mutex::new(None)),
            }),
            sketch: None,
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
        if self.is_sketch() {
            return Ok(tensor);
        }
        Ok(self.inner.unused.get_or_init(|| tensor).clone())
    }

    /// Runs `work` inside error scopes: no error of it reaches a host's handler.
    fn watched<T>(&self, work: impl FnOnce() -> T) -> (T, Option<Failure>) {
        let validation = self.device().push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.device().push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let value = work();
        let memory = pollster::block_on(memory.pop()).map(|e| (Trouble::OutOfMemory, e));
        let validation = pollster::block_on(validation.pop()).map(|e| (Trouble::Other, e));
        let failure = memory.or(validation);
        (value, failure.map(|(trouble, error)| Failure { trouble, message: error.to_string() }))
    }

    /// Runs `work`, whose device errors come back as [`Error::Gpu`] or [`Error::OutOfMemory`].
    pub(crate) fn scoped<T>(&self, doing: &str, work: impl FnOnce() -> T) -> Result<T> {
        match self.watched(work) {
            (value, None) => Ok(value),
            (_, Some(failure)) => Err(failure.into_error(doing)),
        }
    }

    /// Runs `work` that nobody waits for: its device errors come back from the next [`Gpu::check`].
    pub(crate) fn deferred<T>(&self, work: impl FnOnce() -> T) -> T {
        let (value, failure) = self.watched(work);
        if let Some(failure) = failure {
            failure.keep(&self.inner.failure);
        }
        value
    }

    /// The first error of calls without a result, if any: told once, but a lost device stays lost.
    pub(crate) fn check(&self, doing: &str) -> Result<()> {
        let mut slot = self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = match &*slot {
            Some(lost) if lost.trouble == Trouble::Lost => Some(lost.clone()),
            _ => slot.take(),
        };
        failure.map_or(Ok(()), |failure| Err(failure.into_error(doing)))
    }

    /// Submits finished commands and counts the submit.
    pub(crate) fn submit(&self, encoder: wgpu::CommandEncoder) -> SubmissionIndex {
        Counters::add(&self.inner.counters.submits, 1);
        self.deferred(|| self.queue().submit([encoder.finish()]))
    }

    /// Blocks until everything submitted so far is done.
    pub fn wait(&self) -> Result<()> {
        self.poll_device("waiting for the device", wgpu::PollType::wait_indefinitely())
    }

    /// Lets finished work call back, without waiting for any.
    pub(crate) fn poll(&self) -> Result<()> {
        self.poll_device("polling the device", wgpu::PollType::Poll)
    }

    /// Polls the device, then checks.
    pub(crate) fn poll_device(&self, doing: &str, how: wgpu::PollType) -> Result<()> {
        // wgpu panics when a wait finds that the device was lost (a watchdog's reset shows first there).
        match catch_unwind(AssertUnwindSafe(|| self.device().poll(how))) {
            Ok(polled) => {
                self.check(doing)?;
                let fail = |e: wgpu::PollError| Error::Gpu { doing: doing.into(), message: e.to_string() };
                polled.map(|_| ()).map_err(fail)
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let message = text.unwrap_or_else(|| "the device failed while it was waited for".into());
                Failure { trouble: Trouble::Lost, message }.keep(&self.inner.failure);
                self.check(doing)
            }
        }
    }

    /// What `kernel` in `variant` needs and this device lacks.
    pub fn lacking(&self, kernel: &Kernel, variant: &Variant) -> std::result::Result<Vec<Need>, String> {
        let needs = shader::needs(kernel, variant)?;
        Ok(needs.into_iter().filter(|need| !need.is_met(self.caps())).collect())
    }
}
