//! What is measured: the operations of a model whose kernel can be chosen, each with operands of real sizes.

use super::check::{self, Out};
use crate::error::Result;
use crate::gpu::plan::{Plan, PlanBuilder};
use crate::gpu::{Caps, DType, Gpu, Matrix, Tensor};
use crate::model::{Hearing, Llada};
use crate::ops::Rounding;
use crate::ops::attention::{Attention, AttentionShape, AttentionVariant, attention_with};
use crate::ops::lm_head::{IdRules, LmHead, LmHeadBuffers, LmHeadVariant, Noise, lm_head};
use crate::ops::matmul::{Matmul, MatmulVariant, matmul_with};
use crate::ops::select::all_masked;

/// Columns of a product that are measured at most on a software adapter: its few threads take one group of columns
/// after another. A GPU runs many at a time, and how many there are decides what is fast.
const SAMPLE_COLUMNS: usize = 4096;
/// Rows, in the same way.
const SAMPLE_ROWS: usize = 256;
/// Ids of a head that are measured at most, for the same reason.
const SAMPLE_IDS: usize = 16_384;
/// Up to so many rows, reading the weights takes much of a product's time: they are measured as a model has them,
/// out of the caches.
const COLD_ROWS: usize = 64;
/// Bytes of weights that no cache keeps until they are needed again: of a processor, and of a GPU, whose last one may
/// hold a hundred megabytes.
const COLD_BYTES: usize = 64 << 20;
const COLD_GPU_BYTES: usize = 256 << 20;
/// Matrices that are read in turn at most.
const MOST_COPIES: usize = 16;
/// Smaller matrices are those of small models, which stay in the caches in earnest.
const SMALL_BYTES: usize = 256 << 10;
/// Keys that a block attends to at least: a 30 s clip and a question.
const CONTEXT: usize = 512;
/// Candidate rows of a head at most: a few blocks.
const MOST_CANDIDATES: usize = 128;

/// One product of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Product {
    /// Type of the weights.
    pub dtype: DType,
    /// Rows of the activations.
    pub rows: usize,
    /// Columns of the result.
    pub n: usize,
    /// Inner length.
    pub k: usize,
}

/// The output head of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Output {
    /// Type of the weights.
    pub dtype: DType,
    /// Candidate rows.
    pub rows: usize,
    /// Ids.
    pub vocab: usize,
    /// Inner length.
    pub k: usize,
}

/// An operation whose kernel can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// A matrix product.
    Product(Product),
    /// An attention.
    Attention(AttentionShape),
    /// The output head.
    Head(Output),
}

/// The works of a model at these numbers of rows, each once: those of the language model at all of `rows` (its head
/// at no more than a few blocks) and at those that their kernels are chosen by if they are candidates, those of the
/// encoder at its one window.
pub fn works(llada: &Llada, hearing: Option<&Hearing>, rows: &[usize]) -> Vec<Work> {
    let mut all = Vec::new();
    let config = llada.config();
    let caps = llada.gpu().caps();
    let usual = rows.iter().filter(|rows| **rows <= MOST_CANDIDATES).map(|rows| caps.usual_candidates(*rows));
    for rows in rows.iter().copied().chain(usual) {
        all.extend(llada.products().map(|(dtype, n, k)| Work::Product(Product { dtype, rows, n, k })));
        all.push(Work::Attention(AttentionShape {
            n_q: rows,
            n_kv: rows.max(CONTEXT),
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
        }));
        let head = llada.head();
        if rows <= MOST_CANDIDATES {
            all.push(Work::Head(Output { dtype: head.dtype, rows, vocab: head.rows, k: head.cols }));
        }
    }
    if let Some(hearing) = hearing {
        let config = hearing.encoder().config();
        let rows = config.max_source_positions;
        let products = hearing.encoder().products().iter();
        all.extend(products.map(|&(dtype, n, k)| Work::Product(Product { dtype, rows, n, k })));
        let (n_heads, head_dim) = (config.n_heads, config.head_dim());
        let shape = AttentionShape { n_q: rows, n_kv: rows, n_heads, n_kv_heads: n_heads, head_dim };
        all.push(Work::Attention(shape));
    }
    all.sort();
    let mut known = std::collections::BTreeSet::new();
    all.retain(|work| known.insert(work.key()));
    all
}

/// A variant to be timed.
pub(super) struct Candidate {
    pub(super) variant: String,
    /// The error if the device cannot have it.
    pub(super) plan: Result<Plan>,
    /// How often the plan does the work.
    pub(super) runs: usize,
    /// What it does to its operands.
    pub(super) rounding: Rounding,
    /// Its results, in the same place as those of the other candidates.
    pub(super) out: Out,
}

impl Work {
    /// The key of the choice.
    pub fn key(&self) -> String {
        match *self {
            Work::Product(Product { dtype, rows, n, k }) => MatmulVariant::key(dtype, rows, n, k),
            Work::Attention(shape) => AttentionVariant::key(shape),
            Work::Head(Output { dtype, rows, vocab, k }) => LmHeadVariant::key(dtype, rows, vocab, k),
        }
    }

    /// Name of the built-in choice.
    pub fn built_in(&self, caps: &Caps) -> String {
        match *self {
            Work::Product(Product { rows, n, k, .. }) => {
                MatmulVariant::default_for(caps, rows, n, k).to_string()
            }
            Work::Attention(shape) => AttentionVariant::default_for(caps, shape).to_string(),
            Work::Head(Output { rows, .. }) => LmHeadVariant::default_for(caps, rows).to_string(),
        }
    }

    /// A plan for every candidate; of the variants that round, those in `allowed`.
    pub(super) fn plans(&self, gpu: &Gpu, allowed: &[Rounding]) -> Result<Vec<Candidate>> {
        match self {
            Work::Product(product) => product.plans(gpu, allowed),
            Work::Attention(shape) => attention_plans(gpu, *shape, allowed),
            Work::Head(output) => output.plans(gpu),
        }
    }
}

/// Rows of a matrix that fit one binding, at most `n`.
fn fitting(gpu: &Gpu, dtype: DType, n: usize, k: usize) -> usize {
    let fit = gpu.caps().max_slab_bytes() / dtype.row_bytes(k).max(1) as u64;
    n.min(fit as usize).max(1)
}

/// Zeros of the shapes of one product, of several matrices where it matters whether their weights come from caches.
pub(super) struct Factors {
    x: Tensor,
    weights: Vec<Matrix>,
    out: Tensor,
    rows: usize,
}

impl Factors {
    /// Operands of `copies` products.
    pub(super) fn new(gpu: &Gpu, Product { dtype, rows, n, k }: Product, copies: usize) -> Result<Factors> {
        let matrix = |_| Matrix::from_tensor(gpu.tensor("tune.w", dtype, &[n, k])?);
        Ok(Factors {
            x: gpu.tensor("tune.x", DType::F32, &[rows, k])?,
            weights: (0..copies).map(matrix).collect::<Result<_>>()?,
            out: gpu.tensor("tune.out", DType::F32, &[rows, n])?,
            rows,
        })
    }

    /// Numbers for the last product, whose results stay.
    fn fill(&self, gpu: &Gpu) {
        let last = self.weights.last().into_iter().flat_map(|weight| &weight.slabs).map(|slab| &slab.tensor);
        last.chain([&self.x]).for_each(|tensor| check::fill(gpu, tensor));
    }

    pub(super) fn plan(&self, gpu: &Gpu, variant: MatmulVariant) -> Result<Plan> {
        let mut plan = PlanBuilder::new(gpu, "tune");
        for weight in &self.weights {
            matmul_with(&mut plan, variant, Matmul::new(&self.x, self.rows, weight, &self.out))?;
        }
        plan.freeze()
    }
}

impl Product {
    /// The same with no more columns than one binding holds.
    pub(super) fn fitting(self, gpu: &Gpu) -> Product {
        Product { n: fitting(gpu, self.dtype, self.n, self.k), ..self }
    }

    fn plans(&self, gpu: &Gpu, allowed: &[Rounding]) -> Result<Vec<Candidate>> {
        let Product { dtype, rows, n, k } = *self;
        let (most, cold_bytes) = match gpu.caps().is_software() {
            true => ((SAMPLE_ROWS, SAMPLE_COLUMNS), COLD_BYTES),
            false => ((rows, n), COLD_GPU_BYTES),
        };
        let sample = Product { rows: rows.min(most.0), n: n.min(most.1), ..*self }.fitting(gpu);
        let bytes = dtype.bytes(&[sample.n, k]);
        let is_cold = rows <= COLD_ROWS && bytes >= SMALL_BYTES;
        let copies = if is_cold { cold_bytes.div_ceil(bytes).min(MOST_COPIES) } else { 1 };
        let factors = Factors::new(gpu, sample, copies)?;
        factors.fill(gpu);
        let candidate = |v: MatmulVariant| Candidate {
            variant: v.to_string(),
            plan: factors.plan(gpu, v),
            runs: copies,
            rounding: v.rounding(),
            out: Out::Numbers(factors.out.clone()),
        };
        let candidates = MatmulVariant::candidates(gpu.caps(), dtype, [rows, n, k], allowed);
        Ok(candidates.into_iter().map(candidate).collect())
    }
}

impl Output {
    fn plans(&self, gpu: &Gpu) -> Result<Vec<Candidate>> {
        let Output { dtype, rows: n_rows, vocab, k } = *self;
        let most = if gpu.caps().is_software() { SAMPLE_IDS } else { vocab };
        let n = fitting(gpu, dtype, vocab.min(most), k);
        let weight = gpu.tensor("tune.w", dtype, &[n, k])?;
        let hidden = gpu.tensor("tune.hidden", DType::F32, &[n_rows, k])?;
        [&weight, &hidden].into_iter().for_each(|tensor| check::fill(gpu, tensor));
        let weight = Matrix::from_tensor(weight)?;
        let words = all_masked(n_rows);
        let state = gpu.tensor_from("tune.state", DType::U32, &[words.len()], &words)?;
        let rows = gpu.tensor("tune.rows", DType::U32, &[n_rows])?;
        let id_rules = IdRules::default().upload(gpu)?;
        let args = LmHead {
            hidden: &hidden,
            n_rows,
            weight: &weight,
            state: &state,
            rows: &rows,
            id_rules: &id_rules,
            block_length: n_rows,
            noise: Noise::None,
        };
        let candidate = |variant: LmHeadVariant| {
            let buffers = LmHeadBuffers::with(gpu, variant, n_rows, &weight)?;
            let mut plan = PlanBuilder::new(gpu, "tune");
            let plan = lm_head(&mut plan, args, &buffers).and_then(|()| plan.freeze());
            let out = Out::Predictions(buffers.predictions);
            Ok(Candidate { variant: variant.to_string(), plan, runs: 1, rounding: Rounding::Exact, out })
        };
        LmHeadVariant::candidates(gpu.caps(), n_rows).into_iter().map(candidate).collect()
    }
}

fn attention_plans(gpu: &Gpu, shape: AttentionShape, allowed: &[Rounding]) -> Result<Vec<Candidate>> {
    let AttentionShape { n_q: rows, n_kv: keys, n_heads, n_kv_heads, head_dim } = shape;
    let tensor = |name, rows, heads| gpu.tensor(name, DType::F32, &[rows, heads * head_dim]);
    let (q, out) = (tensor("tune.q", rows, n_heads)?, tensor("tune.out", rows, n_heads)?);
    let (k, v) = (tensor("tune.k", keys, n_kv_heads)?, tensor("tune.v", keys, n_kv_heads)?);
    [&q, &k, &v].into_iter().for_each(|tensor| check::fill(gpu, tensor));
    let (kv_rows, q, out) = ((0, keys), (&q, 0, rows), (&out, 0));
    let args = Attention { q, k: &k, v: &v, kv_rows, n_heads, n_kv_heads, head_dim, out };
    let candidates = AttentionVariant::candidates(gpu.caps(), shape, allowed);
    let plan = |variant: AttentionVariant| {
        let mut plan = PlanBuilder::new(gpu, "tune");
        let plan = attention_with(&mut plan, variant, args).and_then(|()| plan.freeze());
        let out = Out::Numbers(args.out.0.clone());
        Candidate { variant: variant.to_string(), plan, runs: 1, rounding: variant.rounding(), out }
    };
    Ok(candidates.into_iter().map(plan).collect())
}
