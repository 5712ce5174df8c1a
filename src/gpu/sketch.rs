//! A device without memory: what is loaded and planned on it has shapes but no content, so that the kernels a
//! model will need are known before any of its weights are read.
//!
//! The same code as for the real thing decides: there is no second list of kernels that could be wrong.

use std::sync::{Arc, Mutex, PoisonError};

use crate::gpu::Gpu;
use crate::gpu::pipelines::Wanted;

/// What plans frozen on a sketch asked for.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    wanted: Mutex<Vec<Wanted>>,
}

impl Gpu {
    /// The same device for sketching: buffers are a few bytes whatever their shape, writes do nothing, and frozen
    /// plans are empty.
    pub(crate) fn sketch(&self) -> Gpu {
        Gpu { inner: self.inner.clone(), sketch: Some(Arc::default()) }
    }

    /// True for a device made by [`Gpu::sketch`].
    pub(crate) fn is_sketch(&self) -> bool {
        self.sketch.is_some()
    }

    /// Notes a kernel that a plan needs, each once.
    pub(super) fn sketch_pipeline(&self, wanted: Wanted) {
        let Some(sketch) = &self.sketch else { return };
        let mut all = sketch.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.iter().any(|(kernel, variant)| kernel.name == wanted.0.name && *variant == wanted.1) {
            all.push(wanted);
        }
    }

    /// The kernels that plans frozen on this sketch need, in the order of their first use.
    pub(crate) fn sketched_pipelines(&self) -> Vec<Wanted> {
        let all = self.sketch.as_ref().map(|sketch| sketch.wanted.lock());
        all.map_or_else(Vec::new, |all| all.unwrap_or_else(PoisonError::into_inner).clone())
    }
}
