//! Declarations of the kernels of one product. All of one family take the same parameters.

use crate::gpu::DType;
use crate::gpu::kernel::kernel;
use crate::quant::QuantFormat;

kernel! {
    /// out = act(x W^T + bias) (+ out): one lane per output, any inner length
    MATMUL_NAIVE = "matmul_naive" {
        params: MatmulParams {
            m: u32, n: u32, k: u32, slab_cols: u32, col0: u32, w_row0: u32, x_row0: u32, out_row0: u32,
            has_bias: u32, activation: u32, accumulate: u32, k_part: u32,
        },
        bindings: [read x, read w, read bias, write out],
        slots: [weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4"],
        consts: [],
    }
}

kernel! {
    /// out = act(x W^T + bias) (+ out): register blocks of MR x NR outputs per lane, no workgroup memory
    MATMUL_DIRECT = "matmul_direct" {
        params: MatmulParams,
        bindings: [read x, read w, read bias, write out],
        slots: [weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4"],
        consts: [MR: 8 | 4, NR: 8 | 4 | 2 | 1],
        also: [
            [MR: 16, NR: 8, BARRIER: 1, WG: 8],
            [MR: 32, NR: 4, BARRIER: 1, WG: 8],
            [MR: 32, NR: 8, BARRIER: 1, WG: 8],
        ],
    }
}

kernel! {
    /// out = act(x W^T + bias) (+ out): 8 GROUPS rows x 4 columns per lane, rows passed between lanes by shuffles
    MATMUL_SHUFFLE = "matmul_shuffle" {
        params: MatmulParams,
        bindings: [read x, read w, read bias, write out],
        slots: [weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4"],
        consts: [GROUPS: 4 | 2 | 1],
    }
}

kernel! {
    /// out = act(x W^T + bias) (+ out): ROWS x 64 tiles staged in workgroup memory, also over a part of k
    MATMUL_TILE = "matmul_tile" {
        params: MatmulParams,
        bindings: [read x, read w, read bias, write out],
        slots: [weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4"],
        consts: [ROWS: 64 | 32 | 16],
        also: [[ROWS: 64, LANES_Y: 8], [ROWS: 32, LANES_Y: 8], [ROWS: 16, LANES_Y: 4]],
    }
}

kernel! {
    /// out = act(x W^T + bias) (+ out) for few rows: the lanes of a workgroup share k and add up at the end
    MATMUL_GEMV = "matmul_gemv" {
        params: MatmulParams,
        bindings: [read x, read w, read bias, write out],
        slots: [
            weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4",
            sums: "reduce" | "reduce_subgroup",
        ],
        consts: [MR: 4 | 1],
    }
}

kernel! {
    /// out = act(f16(x) f16(W)^T + bias) (+ out): cooperative matrices with f32 sums, also over a part of k
    MATMUL_COOP = "matmul_coop" {
        params: MatmulParams,
        bindings: [read x, read w, read bias, write out],
        slots: [
            weights: "weights_f32" | "weights_f16" | "weights_bf16" | "weights_q8" | "weights_q4",
            matrices: "coop_8" | "coop_16",
            block: "block_4x4" | "block_8x8" | "block_2x8" | "block_1x8",
        ],
        consts: [LANES: 128 | 256],
    }
}

kernel! {
    /// quants, scale = round(x / scale), max |x| / 127 of every 32 neighbours in a row
    QUANTIZE_ROWS = "quantize_rows" {
        params: QuantizeRowsParams { n_rows: u32, k: u32, row0: u32 },
        bindings: [read x, write quants, write scales],
        slots: [],
        consts: [],
    }
}

kernel! {
    /// out = act(x W^T + bias) (+ out) of quantized rows: integer products of 32 neighbours, scaled and added in f32
    MATMUL_INT8 = "matmul_int8" {
        params: MatmulParams,
        bindings: [read x, read scales, read w, read bias, write out],
        slots: [quants: "quants_q8" | "quants_q4"],
        consts: [MR: 16, NR: 8],
        also: [[MR: 8, NR: 4], [MR: 32, NR: 4, BARRIER: 1]],
    }
}

kernel! {
    /// out = act(sum of partial products + bias) (+ out), in order: ends a product split over k
    MATMUL_SUM = "matmul_sum" {
        params: MatmulParams,
        bindings: [read partials, read bias, write out],
        slots: [],
        consts: [],
    }
}

/// The fragment that reads weights of a type.
pub(crate) fn weights_fragment(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "weights_f16",
        DType::Bf16 => "weights_bf16",
        DType::Q(QuantFormat::Q8_0) => "weights_q8",
        DType::Q(QuantFormat::Q4_0) => "weights_q4",
        DType::F32 | DType::U32 => "weights_f32",
    }
}

/// The type that a fragment reads, one of [`weights_fragment`] or of the integer kernel.
pub(crate) fn weights_dtype(fragment: &str) -> DType {
    match fragment {
        "weights_f16" => DType::F16,
        "weights_bf16" => DType::Bf16,
        "weights_q8" | "quants_q8" => DType::Q(QuantFormat::Q8_0),
        "weights_q4" | "quants_q4" => DType::Q(QuantFormat::Q4_0),
        _ => DType::F32,
    }
}
