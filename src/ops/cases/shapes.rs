//! The products, attentions and heads of real models, each through its op and in every variant: what
//! [`crate::bench`] sets side by side. A new variant of a kernel appears here by its declaration alone.

use super::{Case, attention, head, matmul};
use crate::gpu::Gpu;

/// One operation of a model at one size.
#[derive(Debug)]
pub struct Shape {
    /// Model, matrix, sizes.
    pub name: String,
    /// Floating-point operations of one run.
    pub flops: u64,
    /// As the engine would run it on the adapter at hand.
    pub op: Case,
    /// The same operands in every variant that can take them.
    pub variants: Vec<Case>,
}

/// Slabs of LLaDA's output matrix (126464 x 4096, bf16) under the usual binding limit of 128 MiB.
const HEAD: [usize; 8] = [15_808; 8];

/// A model's matrix products: name, inner length, columns.
type Products = &'static [(&'static str, usize, &'static [usize])];

const LLADA: Products =
    &[("q_proj", 4096, &[4096]), ("ff_proj", 4096, &[12_288]), ("ff_out", 12_288, &[4096])];
const WHISPER: Products = &[("q_proj", 768, &[768]), ("fc1", 768, &[3072]), ("fc2", 3072, &[768])];
const DEMO: Products = &[("q_proj", 192, &[192]), ("ff_proj", 192, &[512]), ("ff_out", 512, &[192])];

/// Keys that a block attends to when it is fed alone: a 30 s clip, a question, an answer.
const CONTEXT: usize = 565;

/// Positions of Whisper's encoder.
const POSITIONS: usize = 1500;

/// Operations of LLaDA-8B and the demo model with `rows` rows each, and of Whisper-small's encoder; smallest
/// first. LLaDA's head is whole only with `whole_head`, otherwise an eighth of it.
pub fn shapes(gpu: &Gpu, rows: &[usize], whole_head: bool) -> Vec<Shape> {
    let mut all = Vec::new();
    // Published as f32, loaded as the f16 that its numbers are.
    for precision in ["weights_f16", "weights_f32"] {
        products(&mut all, gpu, "whisper-small", POSITIONS, WHISPER, precision);
    }
    attend(&mut all, gpu, "whisper-small", [POSITIONS, POSITIONS], [12, 64], false);
    for &n in rows {
        products(&mut all, gpu, "demo", n, DEMO, "weights_bf16");
        products(&mut all, gpu, "LLaDA-8B", n, LLADA, "weights_bf16");
        for quantized in ["weights_q8", "weights_q4"] {
            products(&mut all, gpu, "LLaDA-8B", n, &LLADA[..1], quantized);
        }
        for (model, heads, head_dim) in [("demo", 6, 32), ("LLaDA-8B", 32, 128)] {
            attend(&mut all, gpu, model, [n, n.max(CONTEXT)], [heads, head_dim], true);
        }
        head_of(&mut all, "demo head", n, 192, &[1484]);
        let slabs = if whole_head { &HEAD[..] } else { &HEAD[..1] };
        let name = if whole_head { "LLaDA-8B head" } else { "LLaDA-8B head, an eighth" };
        head_of(&mut all, name, n, 4096, slabs);
    }
    all.sort_by_key(|shape| shape.flops);
    all
}

fn products(
    all: &mut Vec<Shape>,
    gpu: &Gpu,
    model: &str,
    m: usize,
    matrices: Products,
    weights: &'static str,
) {
    for (matrix, k, slabs) in matrices {
        let n: usize = slabs.iter().sum();
        let (op, variants) = matmul::product(gpu, m, *k, slabs, weights);
        let kind = weights.trim_start_matches("weights_");
        all.push(Shape {
            name: format!("{model} {matrix} {m} x {k} x {n} {kind}"),
            flops: 2 * (m * k * n) as u64,
            op,
            variants,
        });
    }
}

fn attend(
    all: &mut Vec<Shape>,
    gpu: &Gpu,
    model: &str,
    rows: [usize; 2],
    heads: [usize; 2],
    is_decode: bool,
) {
    let (op, variants) = attention::attending(gpu, rows, heads, is_decode);
    let ([n_q, n_kv], [heads, head_dim]) = (rows, heads);
    all.push(Shape {
        name: format!("{model} attention {n_q} to {n_kv}, {heads} x {head_dim}"),
        flops: 4 * (n_q * n_kv * heads * head_dim) as u64,
        op,
        variants,
    });
}

fn head_of(all: &mut Vec<Shape>, name: &str, m: usize, k: usize, slabs: &[usize]) {
    let n: usize = slabs.iter().sum();
    let (op, variants) = head::output(m, k, slabs);
    let name = format!("{name} {m} x {k} x {n} bf16");
    all.push(Shape { name, flops: 2 * (m * k * n) as u64, op, variants });
}
