//! One function per kernel family: checks operands, picks a variant, appends dispatches to a plan.
//!
//! Row-major throughout; `rows` are sequence positions. An operand may be a range of rows of a larger
//! tensor: functions take the first row beside the tensor. Outputs are given by the caller, so that a
//! plan owns no hidden memory.

pub mod attention;
pub mod cases;
pub mod conv;
pub mod elementwise;
pub mod embed;
pub mod kept;
pub mod lm_head;
pub mod matmul;
pub mod mel;
pub mod norm;
pub mod peak;
pub mod rope;
pub mod rounding;
pub mod select;

use crate::gpu::kernel::Kernel;
pub use rounding::Rounding;

/// Up to so many workgroups, all parts counted, sharing the inner length of a product or the keys of an attention brings
/// idle units of a GPU to work.
pub(crate) const ENOUGH_GROUPS: usize = 256;

/// Every kernel of the engine.
pub static REGISTRY: &[&Kernel] = &[
    &mel::STFT_POWER,
    &mel::STFT_COLUMNS,
    &mel::STFT_ROWS,
    &mel::MEL_FILTER,
    &mel::CLIP_MAX,
    &mel::MEL_NORMALIZE,
    &conv::CONV1D_PATCHES,
    &matmul::MATMUL_NAIVE,
    &matmul::MATMUL_DIRECT,
    &matmul::MATMUL_SHUFFLE,
    &matmul::MATMUL_TILE,
    &matmul::MATMUL_GEMV,
    &matmul::MATMUL_COOP,
    &matmul::MATMUL_INT8,
    &matmul::QUANTIZE_ROWS,
    &matmul::MATMUL_SUM,
    &norm::LAYER_NORM,
    &norm::RMS_NORM,
    &rope::ROPE_QKV,
    &attention::ATTENTION_NAIVE,
    &attention::ATTENTION,
    &attention::ATTENTION_SHUFFLE,
    &attention::ATTENTION_TILE,
    &attention::ATTENTION_COOP,
    &attention::ATTENTION_MERGE,
    &elementwise::SILU_GATE,
    &elementwise::COPY_ROWS,
    &elementwise::GATHER_ROWS,
    &elementwise::QFORMER_MIX,
    &elementwise::GUIDANCE,
    &embed::EMBED,
    &lm_head::LM_HEAD,
    &lm_head::LM_HEAD_SHUFFLE,
    &lm_head::LM_HEAD_TILE,
    &lm_head::LM_HEAD_MERGE,
    &select::SELECT,
    &crate::gpu::plan::GATE,
    &peak::PEAK_COPY,
    &peak::PEAK_MULTIPLY,
];
