//! Declarations of the kernels of one attention. All take the same parameters.

use crate::gpu::kernel::kernel;

kernel! {
    /// out = softmax(q k^T scale) v per head, one workgroup per query and head, any head size
    ATTENTION_NAIVE = "attention_naive" {
        params: AttentionParams {
            n_q: u32, n_kv: u32, q_row0: u32, kv_row0: u32, out_row0: u32,
            n_heads: u32, n_kv_heads: u32, head_dim: u32, scale: f32, keys_per_part: u32,
        },
        bindings: [read q, read k, read v, write out],
        slots: [kept: "kept_f32" | "kept_f16"],
        consts: [],
    }
}

kernel! {
    /// out = softmax(q k^T scale) v per head, fused with an online softmax over blocks of keys
    ATTENTION = "attention" {
        params: AttentionParams,
        bindings: [read q, read k, read v, write out],
        slots: [kept: "kept_f32" | "kept_f16"],
        consts: [HEAD_DIM: 64 | 12 | 16 | 32 | 128, QB: 4 | 1],
    }
}

kernel! {
    /// out = softmax(q k^T scale) v per head, fused, four queries a lane; keys and values pass between lanes by shuffles
    ATTENTION_SHUFFLE = "attention_shuffle" {
        params: AttentionParams,
        bindings: [read q, read k, read v, write out],
        slots: [kept: "kept_f32" | "kept_f16"],
        consts: [HEAD_DIM: 64 | 12 | 16 | 32 | 128],
    }
}

kernel! {
    /// out = softmax(q k^T scale) v per head, fused, tiles of 8 ROWS queries and 32 keys in workgroup memory
    ATTENTION_TILE = "attention_tile" {
        params: AttentionParams,
        bindings: [read q, read k, read v, write out],
        slots: [octets: "octets" | "octets_subgroup", kept: "kept_f32" | "kept_f16"],
        consts: [HEAD_DIM: 64 | 32 | 128, ROWS: 4 | 2],
    }
}

kernel! {
    /// out = softmax(q k^T scale) v per head, in two passes over cooperative matrices of f16 with f32 sums
    ATTENTION_COOP = "attention_coop" {
        params: AttentionParams,
        bindings: [read q, read k, read v, write out],
        slots: [matrices: "coop_8" | "coop_16", kept: "kept_f32" | "kept_f16"],
        consts: [HEAD_DIM: 64 | 128, LANES: 128 | 256],
    }
}

kernel! {
    /// out = the parts of an attention whose keys were shared by workgroups, put together in order
    ATTENTION_MERGE = "attention_merge" {
        params: AttentionParams,
        bindings: [read partials, write out],
        slots: [],
        consts: [],
    }
}
