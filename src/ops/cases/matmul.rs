//! Cases of the matrix products: inputs x `[.., k]`, w `[n, k]` (in slabs), bias `[n]`, start of out `[.., n]`.

use super::{Case, Fill};
use crate::gpu::kernel::{Kernel, Variant};
use crate::gpu::{DType, Gpu};
use crate::ops::matmul::{
    Activation, CoopBlock, MATMUL_COOP, MATMUL_DIRECT, MATMUL_GEMV, MATMUL_INT8, MATMUL_NAIVE,
    MATMUL_SHUFFLE, MATMUL_SUM, MATMUL_TILE, Matmul, MatmulVariant, matmul, matmul_with, quantize_rows,
    weights_dtype,
};
use crate::ops::rounding::{Rounding, coop_needs};
use crate::quant::BLOCK;

const KERNELS: [&Kernel; 6] =
    [&MATMUL_NAIVE, &MATMUL_DIRECT, &MATMUL_SHUFFLE, &MATMUL_TILE, &MATMUL_GEMV, &MATMUL_COOP];

struct Shape {
    name: &'static str,
    m: usize,
    k: usize,
    slabs: &'static [usize],
    /// The columns that are computed, if not all.
    columns: Option<(usize, usize)>,
    bias: bool,
    activation: Activation,
    accumulate: bool,
    offsets: (usize, usize),
    fill: Fill,
    /// The variant, if the kernel of the case only ends it.
    split: Option<MatmulVariant>,
    /// What the weights are read by, if not by a fragment of the kernel of the case.
    weights: Option<&'static str>,
}

const PLAIN: Shape = Shape {
    name: "",
    m: 1,
    k: 8,
    slabs: &[1],
    columns: None,
    bias: false,
    activation: Activation::None,
    accumulate: false,
    offsets: (0, 0),
    fill: Fill::Normal(1.0),
    split: None,
    weights: None,
};

/// Shapes for every variant; `k` is a multiple of 8 and once not one of 16.
fn ragged() -> Vec<Shape> {
    vec![
        Shape { name: "one output", ..PLAIN },
        Shape { name: "one row, below a workgroup", k: 72, slabs: &[37], bias: true, ..PLAIN },
        Shape {
            name: "above a multiple, huge and tiny",
            m: 9,
            k: 296,
            slabs: &[65],
            fill: Fill::Mixed(1.0),
            ..PLAIN
        },
        Shape {
            name: "two slabs, offsets, gelu",
            m: 5,
            k: 40,
            slabs: &[64, 71],
            bias: true,
            activation: Activation::Gelu,
            offsets: (3, 2),
            ..PLAIN
        },
        Shape {
            name: "columns of two of three slabs",
            m: 9,
            k: 64,
            slabs: &[64, 64, 71],
            columns: Some((70, 137)),
            bias: true,
            accumulate: true,
            ..PLAIN
        },
        Shape {
            name: "three slabs, relu, accumulate",
            m: 67,
            k: 24,
            slabs: &[128, 64, 3],
            activation: Activation::Relu,
            accumulate: true,
            offsets: (0, 1),
            ..PLAIN
        },
        Shape { name: "the inner length of LLaDA-8B's ff_out", m: 2, k: 12_288, slabs: &[33], ..PLAIN },
        Shape {
            name: "bias, accumulate",
            m: 17,
            k: 16,
            slabs: &[520],
            bias: true,
            accumulate: true,
            ..PLAIN
        },
    ]
}

fn coop_block(variant: &Variant) -> CoopBlock {
    let named = |block: &CoopBlock| variant.fragments.contains(&block.fragment());
    CoopBlock::ALL.into_iter().find(named).unwrap_or(CoopBlock::ALL[0])
}

fn blocking(kernel: &Kernel, variant: &Variant) -> MatmulVariant {
    let number = |name: &str| variant.consts.iter().find(|(n, _)| *n == name).map_or(1, |(_, value)| *value);
    match kernel.name {
        "matmul_direct" => MatmulVariant::Direct { mr: number("MR"), nr: number("NR") },
        "matmul_shuffle" => MatmulVariant::Shuffle { groups: number("GROUPS") },
        "matmul_tile" => {
            let (rows, given) = (number("ROWS"), variant.consts.iter().find(|(name, _)| *name == "LANES_Y"));
            MatmulVariant::Tile { rows, lane_rows: rows / given.map_or(16, |(_, lanes)| *lanes), parts: 1 }
        }
        "matmul_gemv" => MatmulVariant::Gemv {
            mr: number("MR"),
            subgroups: variant.fragments.contains(&"reduce_subgroup"),
        },
        "matmul_coop" => MatmulVariant::Coop {
            edge: if variant.fragments.contains(&"coop_8") { 8 } else { 16 },
            block: coop_block(variant),
            lanes: number("LANES"),
            parts: 1,
        },
        "matmul_int8" => MatmulVariant::Int8 { mr: number("MR"), nr: number("NR") },
        _ => MatmulVariant::Naive,
    }
}

fn case(kernel: &'static Kernel, variant: &Variant, shape: Shape) -> Case {
    let Shape { m, bias, activation, accumulate, offsets: (x_row0, out_row0), .. } = shape;
    let dtype = weights_dtype(variant.fragments.first().copied().or(shape.weights).unwrap_or_default());
    // Quantized rows are whole blocks.
    let k = if matches!(dtype, DType::Q(_)) { shape.k.next_multiple_of(BLOCK) } else { shape.k };
    let n = shape.slabs.iter().sum();
    let columns = shape.columns.unwrap_or((0, n));
    let blocking = shape.split.unwrap_or_else(|| blocking(kernel, variant));
    let out_rows = out_row0 + m + 1;
    let case = Case::new(kernel.name, variant.clone(), format!("{m} x {n} x {k}: {}", shape.name));
    let case = Case { parts: blocking.parts(), ..case }
        .input("x", DType::F32, &[x_row0 + m, k], shape.fill)
        .matrix(dtype, [n, k], Fill::Normal(0.5), shape.slabs)
        .input("bias", DType::F32, &[n], Fill::Normal(1.0))
        .input("start", DType::F32, &[out_rows, n], Fill::Normal(1.0))
        .sizes(&[("m", m), ("x_row0", x_row0), ("out_row0", out_row0), ("activation", activation as usize)])
        .sizes(&[("bias", bias.into()), ("accumulate", accumulate.into())])
        .sizes(&[("first_column", columns.0), ("end_column", columns.1)])
        .sizes(&[("f16", (blocking.rounding() == Rounding::F16).into())])
        .tolerance(2e-7, 2e-6);
    let case =
        if accumulate { case.in_place("out", &[out_rows, n], 3) } else { case.output("out", &[out_rows, n]) };
    case.dispatching(move |plan, o| {
        let args = Matmul {
            x_row0,
            out_row0,
            columns,
            bias: bias.then(|| o.input(2)),
            activation,
            accumulate,
            ..Matmul::new(o.input(0), m, o.matrix(1), o.output(0))
        };
        matmul_with(plan, blocking, args)
    })
}

/// Real products: rows, inner length, columns, weight type, and where they occur.
const REAL: &[(usize, usize, &[usize], &str, &str)] = &[
    (64, 192, &[512], "weights_bf16", "demo ff_proj"),
    (64, 128, &[512], "weights_f32", "demo whisper fc1"),
    (1500, 768, &[3072], "weights_f32", "whisper-small fc1"),
    (32, 4096, &[4096], "weights_bf16", "LLaDA-8B q_proj, one block"),
    (32, 4096, &[4096], "weights_q8", "LLaDA-8B q_proj, one block"),
    (32, 4096, &[4096], "weights_q4", "LLaDA-8B q_proj, one block"),
    (224, 4096, &[4096], "weights_bf16", "LLaDA-8B q_proj, whole sequence"),
    (224, 4096, &[4096], "weights_q8", "LLaDA-8B q_proj, whole sequence"),
    (224, 4096, &[4096], "weights_q4", "LLaDA-8B q_proj, whole sequence"),
    (32, 4096, &[12_288], "weights_bf16", "LLaDA-8B ff_proj, one block"),
    (32, 12_288, &[4096], "weights_bf16", "LLaDA-8B ff_out, one block"),
];

/// A plain product through the op, which picks its variant, and in every variant that reads weights by the
/// fragment `weights`; with the inner length in parts where that may pay on the device.
pub(super) fn product(
    gpu: &Gpu,
    m: usize,
    k: usize,
    slabs: &'static [usize],
    weights: &'static str,
) -> (Case, Vec<Case>) {
    let (dtype, n) = (weights_dtype(weights), slabs.iter().sum());
    let shape = |split| Shape { m, k, slabs, split, ..PLAIN };
    let reads = |variant: &Variant| weights_dtype(variant.fragments[0]) == dtype;
    let op = case(&MATMUL_NAIVE, &Variant::fragments(&[weights]), shape(None));
    let op = Case { parts: MatmulVariant::choose(gpu, dtype, m, n, k).parts(), ..op }
        .dispatching(move |plan, o| matmul(plan, Matmul::new(o.input(0), m, o.matrix(1), o.output(0))));
    let worthwhile =
        MatmulVariant::candidates(gpu.caps(), dtype, [m, n, k], &[Rounding::F16, Rounding::Int8]);
    let mut all = Vec::new();
    for kernel in KERNELS.into_iter().chain([&MATMUL_INT8]) {
        for variant in kernel.variants().into_iter().filter(reads) {
            let whole = blocking(kernel, &variant);
            let in_parts = worthwhile.iter().filter(|how| how.parts() > 1 && how.with_whole_inner() == whole);
            let splits = std::iter::once(None).chain(in_parts.copied().map(Some));
            all.extend(splits.map(|split| case(kernel, &variant, shape(split))));
        }
    }
    (op, all)
}

/// Products whose inner length workgroups share, on exact and on rounded operands; the last part is shorter, or
/// everything but the last is.
fn split_cases() -> Vec<Case> {
    let coop = |block, parts| MatmulVariant::Coop { edge: 8, block, lanes: 128, parts };
    let sum = |name, split, weights| {
        let slabs: &[usize] = &[100, 37];
        let shape = Shape { name, m: 71, k: 136, slabs, bias: true, split: Some(split), ..PLAIN };
        let shape = Shape { activation: Activation::Gelu, accumulate: true, offsets: (2, 1), ..shape };
        case(&MATMUL_SUM, &Variant::default(), Shape { weights: Some(weights), ..shape })
    };
    vec![
        sum("tile, k in 2", MatmulVariant::Tile { rows: 64, lane_rows: 8, parts: 2 }, "weights_bf16")
            .bench(false),
        sum("tile, k in 4", MatmulVariant::Tile { rows: 16, lane_rows: 1, parts: 4 }, "weights_f32"),
        Case {
            more_needs: coop_needs(8).to_vec(),
            ..sum("coop, k in 2", coop(CoopBlock::Of4x4, 2), "weights_f32")
        },
        // Parts that end within a step.
        Case {
            more_needs: coop_needs(8).to_vec(),
            ..sum("flat coop, k in 2", coop(CoopBlock::Of2x8, 2), "weights_bf16")
        },
    ]
}

/// Rows to quantize: ordinary ones, and blocks of zeros, of one value, of huge and of tiny ones.
fn quantize_case(name: &str, (rows, k, row0): (usize, usize, usize), fill: Fill) -> Case {
    Case::new("quantize_rows", Variant::default(), format!("{rows} x {k}: {name}"))
        .input("x", DType::F32, &[row0 + rows, k], fill)
        .sizes(&[("n_rows", rows), ("k", k), ("row0", row0)])
        .output_words("quants", &[rows, k / 4], &[DType::U32], None)
        .output("scales", &[rows, k / BLOCK])
        .tolerance(0.0, 1e-6)
        .dispatching(move |plan, o| {
            quantize_rows(plan, (o.input(0), row0, rows), k, (o.output(0), o.output(1)))
        })
}

/// The integer kernel on f32 rows that bytes hold exactly: in every block whole numbers up to 127.
fn int8_case(variant: &Variant, shape: Shape) -> Case {
    let (rows, k) = (shape.offsets.0 + shape.m, shape.k.next_multiple_of(BLOCK));
    let whole = |i: usize| if i.is_multiple_of(BLOCK) { 127.0 } else { (i * 89 % 255) as f32 - 127.0 };
    let fill = Fill::Values((0..rows * k).map(whole).collect());
    case(&MATMUL_INT8, variant, Shape { fill, ..shape })
}

/// Cases of all kernels of one product.
pub(super) fn cases() -> Vec<Case> {
    let mut all = split_cases();
    all.push(quantize_case("below a workgroup", (3, 32, 1), Fill::Normal(1.0)));
    all.push(quantize_case("above a workgroup", (2, 2080, 0), Fill::Normal(3.0)).bench(false));
    all.push(quantize_case("zeros", (1, 64, 0), Fill::Values(vec![0.0; 64])));
    for variant in MATMUL_INT8.variants() {
        let exact = ragged().into_iter().filter(|shape| !matches!(shape.fill, Fill::Mixed(_)));
        all.extend(exact.map(|shape| int8_case(&variant, shape)));
        let shape = Shape { name: "LLaDA-8B q_proj, one block", m: 32, k: 4096, slabs: &[4096], ..PLAIN };
        all.push(int8_case(&variant, shape).bench(true));
    }
    for kernel in KERNELS {
        for variant in kernel.variants() {
            all.extend(ragged().into_iter().map(|shape| case(kernel, &variant, shape)));
            if kernel.name == MATMUL_NAIVE.name {
                if matches!(weights_dtype(variant.fragments[0]), DType::Q(_)) {
                    continue;
                }
                let odd =
                    Shape { name: "odd inner length", m: 3, k: 7, slabs: &[64, 13], bias: true, ..PLAIN };
                all.push(case(kernel, &variant, odd));
            }
        }
        for (m, k, slabs, weights, name) in REAL {
            let others = kernel.slots.iter().skip(1).map(|slot| slot.choices[0]);
            let fragments: Vec<&str> = std::iter::once(*weights).chain(others).collect();
            let mut variant = Variant::fragments(&fragments);
            for constant in kernel.consts {
                variant = variant.with(constant.name, constant.choices[0]);
            }
            let shape =
                Shape { name, m: *m, k: *k, slabs, bias: true, activation: Activation::Gelu, ..PLAIN };
            let heavy = m * k * slabs[0] > 10_000_000;
            if !(heavy && kernel.name == MATMUL_NAIVE.name) {
                all.push(case(kernel, &variant, shape).bench(heavy));
            }
        }
    }
    all
}
