//! From checkpoint to device: a named cursor that checks shapes, streams bytes and splits large matrices.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::checkpoint::{Checkpoint, StoredDtype, StoredTensor};
use crate::error::{Error, Result};
use crate::gpu::memory::Upload;
use crate::gpu::{DType, Gpu, Matrix, Slab, Tensor};
use crate::ops::norm::LayerNormWeights;
use crate::quant::QuantFormat;

/// Called with the bytes of each tensor once it is on the device. An error stops the load.
/// Several threads call it.
pub type LoadProgress<'a> = &'a (dyn Fn(u64) -> Result<()> + Sync);

/// Threads that load at a time: one waits for the disk while another takes bytes in.
const LOADERS: usize = 4;

/// Reads tensors of one checkpoint under a name prefix. Matrices keep their stored type; vectors are
/// widened to f32 (exact for f16 and bf16).
#[derive(Clone)]
pub struct WeightReader<'a> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    prefix: String,
    progress: LoadProgress<'a>,
    quantize: Option<QuantFormat>,
    upload: Rc<RefCell<Upload<'a>>>,
}

impl<'a> WeightReader<'a> {
    /// A cursor at `prefix` (empty, or ending in a dot).
    pub fn new(gpu: &'a Gpu, checkpoint: &'a Checkpoint, prefix: &str, progress: LoadProgress<'a>) -> Self {
        let upload = Rc::new(RefCell::new(Upload::new(gpu)));
        WeightReader { gpu, checkpoint, prefix: prefix.into(), progress, quantize: None, upload }
    }

    /// The device that tensors go to.
    pub fn gpu(&self) -> &'a Gpu {
        self.gpu
    }

    /// A cursor at `prefix + name + "."`.
    pub fn at(&self, name: impl std::fmt::Display) -> WeightReader<'a> {
        WeightReader { prefix: format!("{}{name}.", self.prefix), ..self.clone() }
    }

    /// A cursor that quantizes dense matrices whose rows divide into blocks.
    pub fn quantizing(&self, format: Option<QuantFormat>) -> WeightReader<'a> {
        WeightReader { quantize: format, ..self.clone() }
    }

    /// `load(reader, i)` for `i` in `0..n`, in order; several of them at a time.
    ///
    /// Errors: that of the lowest `i` that failed.
    pub fn each<T: Send>(
        &self,
        n: usize,
        load: impl Fn(&WeightReader<'a>, usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let WeightReader { gpu, checkpoint, ref prefix, progress, quantize, .. } = *self;
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let run = || {
            let at = WeightReader::new(gpu, checkpoint, prefix, progress).quantizing(quantize);
            let mut done = Vec::new();
            while !failed.load(Ordering::Relaxed) {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= n {
                    break;
                }
                let loaded = load(&at, i);
                failed.fetch_or(loaded.is_err(), Ordering::Relaxed);
                done.push((i, loaded));
            }
            done
        };
        let mut all = std::thread::scope(|scope| {
            let others: Vec<_> = (1..LOADERS).map(|_| scope.spawn(run)).collect();
            let mut all = run();
            for other in others {
                // A panic of a loader is one of this function.
                all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            all
        });
        all.sort_by_key(|(i, _)| *i);
        all.into_iter().map(|(_, loaded)| loaded).collect()
    }

    /// The matrix `NAME` of shape `[rows, cols]`.
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        self.matrix_of(name, &[rows, cols], rows, cols)
    }

    /// The convolution weight `NAME` `[out, in, kernel]` as a matrix `[out, in * kernel]`.
    pub fn conv_matrix(&self, name: &str, shape: [usize; 3]) -> Result<Matrix> {
        self.matrix_of(name, &shape, shape[0], shape[1] * shape[2])
    }

    fn matrix_of(&self, name: &str, shape: &[usize], rows: usize, cols: usize) -> Result<Matrix> {
        let name = format!("{}{name}", self.prefix);
        self.checkpoint.check(&name, shape)?;
        let dtype = match (self.checkpoint.dtype(&name), self.quantize) {
            (Some(StoredDtype::Quantized(format)), _) => DType::Q(format),
            (_, Some(format)) if format.fits(cols) => DType::Q(format),
            (Some(StoredDtype::F16), _) => DType::F16,
            (Some(StoredDtype::BF16), _) => DType::Bf16,
            (Some(StoredDtype::F32) | None, _) => DType::F32,
        };
        let ranges = Matrix::slab_rows(rows, dtype.row_bytes(cols), self.gpu.caps().max_slab_bytes())?;
        let mut slabs = Vec::new();
        if self.gpu.is_sketch() {
            for (first_row, n) in ranges {
                slabs.push(Slab { first_row, tensor: self.gpu.tensor(&name, dtype, &[n, cols])? });
            }
            return Ok(Matrix { name, dtype, rows, cols, slabs });
        }
        let stored = self.checkpoint.get(&name)?;
        let stored_row = stored.dtype.row_bytes(cols);
        for (first_row, n) in ranges {
            let bytes = Cow::Borrowed(&stored.bytes[first_row * stored_row..(first_row + n) * stored_row]);
            let part = StoredTensor {
                name: stored.name,
                dtype: stored.dtype,
                shape: &[n, cols],
                bytes,
                file: stored.file,
            };
            let quantized = self.quantize.and_then(|format| part.quantized(format));
            let bytes = quantized.as_deref().unwrap_or(&part.bytes);
            let tensor = self.upload.borrow_mut().tensor(&name, dtype, &[n, cols], bytes)?;
            // Slab by slab, so that no more of a 1 GB matrix stays resident in the file map than one slab.
            self.done(&part)?;
            slabs.push(Slab { first_row, tensor });
        }
        Ok(Matrix { name, dtype, rows, cols, slabs })
    }

    /// The vector `NAME` of `len` elements, as f32.
    pub fn vector(&self, name: &str, len: usize) -> Result<Tensor> {
        self.dense(name, &[len])
    }

    /// The tensor `NAME` of any shape, as f32; for small ones (positions, prompts, norms).
    pub fn dense(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let name = format!("{}{name}", self.prefix);
        if self.gpu.is_sketch() {
            return self.gpu.tensor(&name, DType::F32, shape);
        }
        let stored = self.checkpoint.expect(&name, shape)?;
        let tensor = self.gpu.tensor_from(&name, DType::F32, shape, &stored.to_f32())?;
        self.done(&stored)?;
        Ok(tensor)
    }

    /// `NAME.weight` and `NAME.bias` of a LayerNorm over `n` columns.
    pub fn layer_norm(&self, name: &str, n: usize, eps: f32) -> Result<LayerNormWeights> {
        let at = self.at(name);
        Ok(LayerNormWeights { weight: at.vector("weight", n)?, bias: at.vector("bias", n)?, eps })
    }

    /// `NAME.weight` `[rows, cols]` and `NAME.bias` `[rows]`.
    pub fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        let at = self.at(name);
        Ok(Linear { weight: at.matrix("weight", rows, cols)?, bias: Some(at.vector("bias", rows)?) })
    }

    /// `NAME.weight` `[rows, cols]` of a layer without bias.
    pub fn linear_no_bias(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        Ok(Linear { weight: self.at(name).matrix("weight", rows, cols)?, bias: None })
    }

    /// Several equally shaped tensors `NAME(i)`, stacked by rows into one f32 tensor `[n * rows, cols]`.
    pub fn stacked(
        &self,
        n: usize,
        name: impl Fn(usize) -> String,
        shape: &[usize],
        cols: usize,
    ) -> Result<Tensor> {
        let mut data = Vec::new();
        for i in 0..n {
            if self.gpu.is_sketch() {
                data.resize(data.len() + shape.iter().product::<usize>(), 0.0);
                continue;
            }
            let stored = self.checkpoint.expect(&format!("{}{}", self.prefix, name(i)), shape)?;
            data.extend(stored.to_f32());
            self.done(&stored)?;
        }
        if cols == 0 || data.len() % cols != 0 {
            return Err(Error::Weights {
                path: self.checkpoint.dir().to_path_buf(),
                reason: format!("`{}{}` does not divide into rows of {cols}", self.prefix, name(0)),
            });
        }
        self.gpu.tensor_from(&name(0), DType::F32, &[data.len() / cols, cols], &data)
    }

    fn done(&self, stored: &StoredTensor<'_>) -> Result<()> {
        self.checkpoint.release(stored);
        (self.progress)(stored.bytes.len() as u64)
    }
}

/// A linear layer `y = x W^T (+ b)`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`, as stored.
    pub weight: Matrix,
    /// `[out]` f32.
    pub bias: Option<Tensor>,
}
