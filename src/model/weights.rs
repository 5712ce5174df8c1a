//! From checkpoint to device: a named cursor that checks shapes, streams bytes and splits large matrices.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::checkpoint::{Blocks, Checkpoint, Narrow, StoredDtype, StoredTensor};
use crate::error::{Error, Result};
use crate::gpu::memory::{Source, Upload};
use crate::gpu::{DType, Gpu, Matrix, Slab, Tensor};
use crate::ops::norm::LayerNormWeights;
use crate::quant::QuantFormat;

/// Called with the bytes of each tensor once it is on the device. An error stops the load.
/// Several threads call it.
pub type LoadProgress<'a> = &'a (dyn Fn(u64) -> Result<()> + Sync);

/// Threads that load at a time: one waits for the disk while another takes bytes in.
const LOADERS: usize = 4;

/// Reads tensors of one checkpoint under a name prefix. Matrices keep their stored type, or take the narrowest one
/// that holds all their values exactly; vectors are widened to f32 (exact for f16 and bf16).
#[derive(Clone)]
pub struct WeightReader<'a> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    prefix: String,
    progress: LoadProgress<'a>,
    quantize: Option<QuantFormat>,
    upload: Rc<RefCell<Upload<'a>>>,
    /// Memory for files that are read past the page cache, if that is how they are read.
    blocks: Option<Rc<RefCell<Blocks>>>,
}

impl<'a> WeightReader<'a> {
    /// A cursor at `prefix` (empty, or ending in a dot).
    pub fn new(gpu: &'a Gpu, checkpoint: &'a Checkpoint, prefix: &str, progress: LoadProgress<'a>) -> Self {
        // A copy in main memory stays there beside the files.
        let copies = if gpu.caps().is_in_main_memory() { 2 } else { 1 };
        let past_cache = !gpu.is_sketch() && checkpoint.is_read_past_cache(copies);
        WeightReader::reading(gpu, checkpoint, prefix, progress, past_cache)
    }

    fn reading(
        gpu: &'a Gpu,
        checkpoint: &'a Checkpoint,
        prefix: &str,
        progress: LoadProgress<'a>,
        past_cache: bool,
    ) -> Self {
        let upload = Rc::new(RefCell::new(Upload::new(gpu)));
        let blocks = past_cache.then(Default::default);
        WeightReader { gpu, checkpoint, prefix: prefix.into(), progress, quantize: None, upload, blocks }
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
        // Decided before memory filled up.
        let past_cache = self.blocks.is_some();
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let run = || {
            let at =
                WeightReader::reading(gpu, checkpoint, prefix, progress, past_cache).quantizing(quantize);
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
        self.matrix_of(&[(name, &[rows, cols])], cols)
    }

    /// Matrices `(NAME, rows)` over the same `cols`, one below the other: their products are one.
    ///
    /// Errors: those of [`WeightReader::matrix`], and matrices some of which are quantized.
    pub fn matrix_stack(&self, parts: &[(&str, usize)], cols: usize) -> Result<Matrix> {
        let shapes: Vec<[usize; 2]> = parts.iter().map(|(_, rows)| [*rows, cols]).collect();
        let parts: Vec<_> = parts.iter().zip(&shapes).map(|((name, _), shape)| (*name, &shape[..])).collect();
        self.matrix_of(&parts, cols)
    }

    /// The convolution weight `NAME` `[out, in, kernel]` as a matrix `[out, in * kernel]`.
    pub fn conv_matrix(&self, name: &str, shape: [usize; 3]) -> Result<Matrix> {
        self.matrix_of(&[(name, &shape)], shape[1] * shape[2])
    }

    fn matrix_of(&self, parts: &[(&str, &[usize])], cols: usize) -> Result<Matrix> {
        let names: Vec<String> = parts.iter().map(|(name, _)| format!("{}{name}", self.prefix)).collect();
        for (name, (_, shape)) in names.iter().zip(parts) {
            self.checkpoint.check(name, shape)?;
        }
        let to = self.common_dtype(&names, cols)?;
        let dtype = on_device(to);
        let rows: usize = parts.iter().map(|(_, shape)| shape[0]).sum();
        let name = parts.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("+");
        let mut matrix =
            Matrix { name: format!("{}{name}", self.prefix), dtype, rows, cols, slabs: Vec::new() };
        let ranges = Matrix::slab_rows(rows, dtype.row_bytes(cols), self.gpu.caps().max_slab_bytes())?;
        if self.gpu.is_sketch() {
            for (first_row, n) in ranges {
                let tensor = self.gpu.tensor(&matrix.name, dtype, &[n, cols])?;
                matrix.slabs.push(Slab { first_row, tensor });
            }
            return Ok(matrix);
        }
        let stored = names.iter().map(|name| self.checkpoint.get(name)).collect::<Result<Vec<_>>>()?;
        for (first_row, n) in ranges {
            let pieces = rows_of(&stored, cols, first_row, first_row + n);
            let sources = pieces.iter().map(|piece| match piece.converted(to) {
                Some(bytes) => Bytes::Converted(bytes),
                None => Bytes::Stored { checkpoint: self.checkpoint, blocks: self.blocks.as_deref(), piece },
            });
            let sources = sources.collect::<Vec<_>>();
            let tensor = self.upload.borrow_mut().tensor(&matrix.name, dtype, &[n, cols], &sources)?;
            // Slab by slab, so that no more of a 1 GB matrix stays resident in the file map than one slab.
            pieces.iter().try_for_each(|piece| self.done(&piece.tensor()))?;
            matrix.slabs.push(Slab { first_row, tensor });
        }
        Ok(matrix)
    }

    /// The type on the device of matrices that are stacked: the narrowest that holds all of them exactly.
    fn common_dtype(&self, names: &[String], cols: usize) -> Result<StoredDtype> {
        let format_of = |name: &String| match (self.checkpoint.dtype(name), self.quantize) {
            (Some(StoredDtype::Quantized(format)), _) => Some(format),
            (_, to) => to.filter(|format| format.fits(cols)),
        };
        let format = names.first().and_then(format_of);
        if let Some(other) = names.iter().find(|name| format_of(name) != format) {
            let word = |format: Option<QuantFormat>| format.map_or("not quantized", QuantFormat::name);
            return Err(Error::Weights {
                path: self.checkpoint.file_of(other).to_path_buf(),
                reason: format!(
                    "`{other}` is {}, but `{}`, which is multiplied in one go with it, is {}; quantize the whole model again",
                    word(format_of(other)),
                    names[0],
                    word(format)
                ),
            });
        }
        if let Some(format) = format {
            return Ok(StoredDtype::Quantized(format));
        }
        let mut narrow: Option<Narrow> = None;
        for name in names {
            let its = self.checkpoint.narrow(name)?;
            narrow = Some(narrow.map_or(its, |narrow| narrow & its));
        }
        Ok(narrow.map_or(StoredDtype::F32, Narrow::dtype))
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

/// The type of a matrix on the device whose values are of this type.
fn on_device(dtype: StoredDtype) -> DType {
    match dtype {
        StoredDtype::F32 => DType::F32,
        StoredDtype::F16 => DType::F16,
        StoredDtype::BF16 => DType::Bf16,
        StoredDtype::Quantized(format) => DType::Q(format),
    }
}

/// Some rows of a stored tensor.
struct Piece<'s> {
    stored: &'s StoredTensor<'s>,
    shape: [usize; 2],
    /// Where they lie in it.
    range: Range<usize>,
}

/// The rows as the device takes them.
enum Bytes<'s> {
    Converted(Vec<u8>),
    Stored { checkpoint: &'s Checkpoint, blocks: Option<&'s RefCell<Blocks>>, piece: &'s Piece<'s> },
}

impl Source for Bytes<'_> {
    fn byte_len(&self) -> usize {
        match self {
            Bytes::Converted(bytes) => bytes.len(),
            Bytes::Stored { piece, .. } => piece.range.len(),
        }
    }

    fn chunks(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self {
            Bytes::Converted(bytes) => take(bytes),
            Bytes::Stored { checkpoint, blocks, piece } => {
                let mut blocks = blocks.map(RefCell::borrow_mut);
                checkpoint.chunks(piece.stored, piece.range.clone(), blocks.as_deref_mut(), take)
            }
        }
    }
}

impl Piece<'_> {
    fn tensor(&self) -> StoredTensor<'_> {
        let StoredTensor { name, dtype, file, .. } = *self.stored;
        StoredTensor {
            name,
            dtype,
            shape: &self.shape,
            bytes: Cow::Borrowed(&self.stored.bytes[self.range.clone()]),
            file,
        }
    }

    /// The rows in the type that they have on the device, or `None` if that is how they lie in the file.
    fn converted(&self, to: StoredDtype) -> Option<Vec<u8>> {
        match to {
            StoredDtype::Quantized(format) => self.tensor().quantized(format),
            dense => (self.stored.dtype != dense).then(|| self.tensor().to_dtype(dense)),
        }
    }
}

/// Rows `first..end` of tensors of `cols` columns that lie one below the other.
fn rows_of<'s>(stack: &'s [StoredTensor<'_>], cols: usize, first: usize, end: usize) -> Vec<Piece<'s>> {
    let (mut at, mut pieces) = (0, Vec::new());
    for stored in stack {
        let (rows, row) = (stored.shape[0], stored.dtype.row_bytes(cols));
        let (from, to) = (first.clamp(at, at + rows) - at, end.clamp(at, at + rows) - at);
        if from < to {
            pieces.push(Piece { stored, shape: [to - from, cols], range: from * row..to * row });
        }
        at += rows;
    }
    pieces
}

/// A linear layer `y = x W^T (+ b)`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`, as stored.
    pub weight: Matrix,
    /// `[out]` f32.
    pub bias: Option<Tensor>,
}
