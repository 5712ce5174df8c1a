//! Cases of attention: inputs q `[.., n_heads head_dim]`, k and v `[.., n_kv_heads head_dim]`, f32 or f16.

use super::{Case, Fill};
use crate::gpu::kernel::{Kernel, Variant};
use crate::gpu::needs::Need;
use crate::gpu::{DType, Gpu};
use crate::ops::attention::{
    ATTENTION, ATTENTION_COOP, ATTENTION_MERGE, ATTENTION_NAIVE, ATTENTION_SHUFFLE, ATTENTION_TILE,
    Attention, AttentionShape, AttentionVariant, attention, attention_with,
};
use crate::ops::rounding::{Rounding, coop_needs};

/// Kernels that keep an online softmax, for some head sizes.
const FUSED: [&Kernel; 4] = [&ATTENTION, &ATTENTION_SHUFFLE, &ATTENTION_TILE, &ATTENTION_COOP];

#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    n_q: usize,
    n_kv: usize,
    heads: (usize, usize),
    offsets: (usize, usize, usize),
    sharpness: f32,
    /// Keys and values in f16, where the variant does not say.
    f16: bool,
}

const PLAIN: Shape =
    Shape { name: "", n_q: 1, n_kv: 1, heads: (1, 1), offsets: (0, 0, 0), sharpness: 1.0, f16: false };

const RAGGED: &[Shape] = &[
    Shape { name: "one query, one key", ..PLAIN },
    Shape { name: "fewer queries than a workgroup, ragged keys", n_q: 5, n_kv: 11, heads: (2, 2), ..PLAIN },
    Shape { name: "grouped heads, offsets", n_q: 33, n_kv: 16, heads: (4, 2), offsets: (3, 5, 2), ..PLAIN },
    Shape { name: "sharp: one key takes all", n_q: 35, n_kv: 41, heads: (1, 1), sharpness: 20.0, ..PLAIN },
    Shape { name: "several tiles of keys", n_q: 19, n_kv: 97, heads: (3, 1), ..PLAIN },
    Shape { name: "the keys of the longest sequence", n_q: 2, n_kv: 4096, ..PLAIN },
];

/// Enough for keys and values in f16, which differ from those in f32 in how they are read and in nothing else.
const RAGGED_F16: &[Shape] = &[
    Shape { name: "fewer queries than a workgroup, ragged keys", n_q: 5, n_kv: 11, heads: (2, 2), ..PLAIN },
    Shape { name: "grouped heads, offsets", n_q: 33, n_kv: 70, heads: (4, 2), offsets: (3, 5, 2), ..PLAIN },
];

fn kept_dtype(variant: &Variant) -> DType {
    if variant.fragments.contains(&"kept_f16") { DType::F16 } else { DType::F32 }
}

fn ragged(variant: &Variant) -> &'static [Shape] {
    if kept_dtype(variant) == DType::F16 { RAGGED_F16 } else { RAGGED }
}

fn blocking(kernel: &Kernel, variant: &Variant) -> AttentionVariant {
    let number = |name: &str| variant.consts.iter().find(|(n, _)| *n == name).map_or(1, |(_, value)| *value);
    match kernel.name {
        "attention" => AttentionVariant::Fused { qb: number("QB") },
        "attention_shuffle" => AttentionVariant::Shuffle,
        "attention_tile" => {
            let subgroups = variant.fragments.contains(&"octets_subgroup");
            AttentionVariant::Tile { rows: number("ROWS"), subgroups, parts: 1 }
        }
        "attention_coop" => AttentionVariant::Coop {
            edge: if variant.fragments.contains(&"coop_8") { 8 } else { 16 },
            lanes: number("LANES"),
            parts: 1,
        },
        _ => AttentionVariant::Naive,
    }
}

fn case(kernel: &'static Kernel, variant: &Variant, head_dim: usize, shape: Shape) -> Case {
    case_of(kernel, variant, blocking(kernel, variant), head_dim, shape)
}

/// A case of `kernel` that `how` is a way to run.
fn case_of(
    kernel: &'static Kernel,
    variant: &Variant,
    how: AttentionVariant,
    head_dim: usize,
    shape: Shape,
) -> Case {
    let Shape { n_q, n_kv, heads: (n_heads, n_kv_heads), offsets: (q_row0, kv_row0, out_row0), .. } = shape;
    let (width, kv_width) = (n_heads * head_dim, n_kv_heads * head_dim);
    let name = format!("{n_q} x {n_kv}, {n_heads} heads of {head_dim}: {}", shape.name);
    let kept = if shape.f16 { DType::F16 } else { kept_dtype(variant) };
    let case = Case::new(kernel.name, variant.clone(), name);
    Case { parts: how.parts(), ..case }
        .input("q", DType::F32, &[q_row0 + n_q, width], Fill::Normal(shape.sharpness))
        .input("k", kept, &[kv_row0 + n_kv, kv_width], Fill::Normal(1.0))
        .input("v", kept, &[kv_row0 + n_kv, kv_width], Fill::Mixed(1.0))
        .output("out", &[out_row0 + n_q + 1, width])
        .sizes(&[("n_q", n_q), ("n_kv", n_kv), ("q_row0", q_row0), ("kv_row0", kv_row0)])
        .sizes(&[
            ("out_row0", out_row0),
            ("n_heads", n_heads),
            ("n_kv_heads", n_kv_heads),
            ("head_dim", head_dim),
        ])
        .sizes(&[("f16", (how.rounding() == Rounding::F16).into())])
        // The weights of the softmax are rounded too, by half a unit in the last of 11 bits, and so is their sum.
        .tolerance(1e-7, if how.rounding() == Rounding::F16 { 1e-3 } else { 2e-6 })
        .dispatching(move |plan, o| {
            let args = Attention {
                q: (o.input(0), q_row0, n_q),
                k: o.input(1),
                v: o.input(2),
                kv_rows: (kv_row0, n_kv),
                n_heads,
                n_kv_heads,
                head_dim,
                out: (o.output(0), out_row0),
            };
            attention_with(plan, how, args)
        })
}

/// Attentions whose keys workgroups share, on exact and on rounded operands: the last part is shorter than the others
/// or than a block, one key takes all, heads are grouped and rows offset.
fn split_cases() -> Vec<Case> {
    let tile = |rows, parts| AttentionVariant::Tile { rows, subgroups: false, parts };
    let by_subgroups = |rows, parts| AttentionVariant::Tile { rows, subgroups: true, parts };
    let coop = |edge, parts| AttentionVariant::Coop { edge, lanes: 128, parts };
    let split = |how, head_dim, shape| {
        let needs = match how {
            AttentionVariant::Coop { edge, .. } => coop_needs(edge).to_vec(),
            AttentionVariant::Tile { subgroups: true, .. } => vec![Need::Subgroup8],
            _ => Vec::new(),
        };
        let case = case_of(&ATTENTION_MERGE, &Variant::default(), how, head_dim, shape);
        Case { more_needs: needs, ..case }
    };
    let grouped = Shape { n_q: 33, n_kv: 97, heads: (4, 2), offsets: (3, 5, 2), ..PLAIN };
    let sharp = Shape { n_q: 19, n_kv: 130, heads: (1, 1), sharpness: 20.0, ..PLAIN };
    let block = Shape { n_q: 32, n_kv: 565, heads: (8, 8), ..PLAIN };
    vec![
        split(tile(4, 2), 64, Shape { name: "tile, keys in 2, grouped heads, offsets", ..grouped }),
        split(tile(2, 8), 32, Shape { name: "tile, keys in 8, one key takes all", ..sharp }),
        split(tile(2, 4), 128, Shape { name: "tile, keys in 4, one block", ..block }).bench(false),
        split(
            by_subgroups(2, 4),
            64,
            Shape { name: "tile, keys in 4, in f16, offsets", f16: true, ..grouped },
        ),
        split(
            by_subgroups(4, 8),
            128,
            Shape { name: "tile, keys in 8, rows in two submits", n_q: 64, ..block },
        ),
        split(coop(8, 2), 64, Shape { name: "coop, keys in 2, grouped heads, offsets", ..grouped }),
        split(coop(8, 4), 128, Shape { name: "coop, keys in 4, one key takes all", ..sharp }),
        split(coop(16, 8), 128, Shape { name: "coop, keys in 8, one block", ..block }),
        too_few_keys(),
    ]
}

/// Parts asked for where one block holds all keys: nothing to merge.
fn too_few_keys() -> Case {
    let shape = Shape { name: "keys in 8 that one block holds", n_q: 33, n_kv: 32, heads: (4, 2), ..PLAIN };
    let how = AttentionVariant::Tile { rows: 2, subgroups: false, parts: 8 };
    let variant = Variant::fragments(&["octets", "kept_f32"]).with("HEAD_DIM", 32).with("ROWS", 2);
    case_of(&ATTENTION_TILE, &variant, how, 32, shape)
}

/// Attention of `n_q` rows to `n_kv` through the op, which picks its variant, and in every variant for heads of
/// this size, with the keys in parts where that may pay on the device; in f16 where a decode keeps keys and values.
pub(super) fn attending(
    gpu: &Gpu,
    [n_q, n_kv]: [usize; 2],
    [n_heads, head_dim]: [usize; 2],
    is_decode: bool,
) -> (Case, Vec<Case>) {
    let shape = Shape { n_q, n_kv, heads: (n_heads, n_heads), ..PLAIN };
    let fits = |variant: &Variant| {
        let of_size = variant.consts.contains(&("HEAD_DIM", head_dim as u32));
        of_size && (is_decode || kept_dtype(variant) == DType::F32)
    };
    let naive = &ATTENTION_NAIVE.variants()[0];
    let sizes = AttentionShape { n_q, n_kv, n_heads, n_kv_heads: n_heads, head_dim };
    let op = case(&ATTENTION_NAIVE, naive, head_dim, shape);
    let op =
        Case { parts: AttentionVariant::choose(gpu, sizes).parts(), ..op }.dispatching(move |plan, o| {
            let args = Attention {
                q: (o.input(0), 0, n_q),
                k: o.input(1),
                v: o.input(2),
                kv_rows: (0, n_kv),
                n_heads,
                n_kv_heads: n_heads,
                head_dim,
                out: (o.output(0), 0),
            };
            attention(plan, args)
        });
    let worthwhile = AttentionVariant::candidates(gpu.caps(), sizes, &[Rounding::F16]);
    let mut variants = vec![case(&ATTENTION_NAIVE, naive, head_dim, shape)];
    for kernel in FUSED {
        for variant in kernel.variants().into_iter().filter(fits) {
            let whole = blocking(kernel, &variant);
            variants.push(case(kernel, &variant, head_dim, shape));
            let in_parts = worthwhile.iter().filter(|how| how.parts() > 1 && how.with_all_keys() == whole);
            variants.extend(in_parts.map(|how| case_of(kernel, &variant, *how, head_dim, shape)));
        }
    }
    (op, variants)
}

/// Cases of all kernels.
pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for naive in ATTENTION_NAIVE.variants() {
        let served = |head_dim: &usize| kept_dtype(&naive) == DType::F32 || head_dim.is_multiple_of(4);
        for head_dim in [12, 7, 128, 160].into_iter().filter(served) {
            all.extend(ragged(&naive).iter().map(|shape| case(&ATTENTION_NAIVE, &naive, head_dim, *shape)));
        }
    }
    for kernel in FUSED {
        for variant in kernel.variants() {
            let head_dim = variant.consts[0].1 as usize;
            all.extend(ragged(&variant).iter().map(|shape| case(kernel, &variant, head_dim, *shape)));
        }
    }
    all.extend(split_cases());
    let real = [
        (32, Shape { name: "demo LLaDA", n_q: 16, n_kv: 160, heads: (6, 6), ..PLAIN }),
        (64, Shape { name: "Q-Former cross attention", n_q: 64, n_kv: 1500, heads: (12, 12), ..PLAIN }),
        (64, Shape { name: "whisper-small", n_q: 1500, n_kv: 1500, heads: (12, 12), ..PLAIN }),
        (128, Shape { name: "LLaDA-8B, one block", n_q: 32, n_kv: 224, heads: (32, 32), ..PLAIN }),
        (128, Shape { name: "LLaDA-8B, whole sequence", n_q: 224, n_kv: 224, heads: (32, 32), ..PLAIN }),
    ];
    for (head_dim, shape) in real {
        let heavy = shape.n_q * shape.n_kv * shape.heads.0 * head_dim > 2_000_000;
        // Only a decode keeps keys and values.
        let fits = |v: &Variant| kept_dtype(v) == DType::F32 || shape.name.contains("LLaDA");
        for kernel in FUSED {
            let of_size = kernel.variants().into_iter().filter(|v| v.consts[0].1 as usize == head_dim);
            let fitting = of_size.filter(fits);
            all.extend(fitting.map(|variant| case(kernel, &variant, head_dim, shape).bench(heavy)));
        }
        if !heavy {
            let variants = ATTENTION_NAIVE.variants().into_iter().filter(fits);
            all.extend(variants.map(|naive| case(&ATTENTION_NAIVE, &naive, head_dim, shape).bench(false)));
        }
    }
    all
}
