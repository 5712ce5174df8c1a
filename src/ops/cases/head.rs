//! Cases of the output head: inputs h `[n_rows, k]`, w `[vocab, k]` (in slabs), state, rows, id rules,
//! noise `[n_rows, vocab]`; output predictions `[n_rows, 4]` of lm_head and lm_head_merge together. The
//! merge has cases of its own, on partial results.

use super::{Case, Fill, Random};
use crate::gpu::DType;
use crate::gpu::kernel::{Kernel, Variant};
use crate::gpu::plan::Cost;
use crate::ops::lm_head::{
    IdRules, LM_HEAD, LM_HEAD_MERGE, LM_HEAD_SHUFFLE, LM_HEAD_TILE, LmHead, LmHeadBuffers, LmHeadMergeParams,
    LmHeadVariant, Noise, lm_head,
};
use crate::ops::matmul::{direct_block, weights_dtype, weights_fragment};
use crate::quant::{BLOCK, QuantFormat};

/// Types of the words of a prediction: id, confidence, gap, 0.
const PREDICTION: &[DType] = &[DType::U32, DType::F32, DType::F32, DType::U32];
const BATCH_WORDS: usize = 16;
const SEQUENCE_WORDS: usize = 16;

const KERNELS: [&Kernel; 3] = [&LM_HEAD, &LM_HEAD_SHUFFLE, &LM_HEAD_TILE];

fn blocking(kernel: &Kernel, variant: &Variant) -> LmHeadVariant {
    let number = |name: &str| variant.consts.iter().find(|(n, _)| *n == name).map_or(1, |(_, value)| *value);
    match kernel.name {
        "lm_head_shuffle" => LmHeadVariant::Shuffle { groups: number("GROUPS") },
        "lm_head_tile" => LmHeadVariant::Tile,
        _ => LmHeadVariant::Direct { mr: number("MR"), nr: number("NR") },
    }
}

/// How ids are drawn in a case.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadNoise {
    /// Largest logit.
    None,
    /// Temperature and seed.
    Gumbel(f32, u32),
    /// Temperature and Gumbel variates `[n_rows, vocab]`.
    Given(f32, Vec<f32>),
}

/// A case of the head.
#[derive(Debug, Clone)]
pub struct Head {
    /// What is special about it.
    pub name: String,
    /// Hidden states.
    pub hidden: Fill,
    /// Output matrix.
    pub weight: Fill,
    /// Its type.
    pub dtype: DType,
    /// Its slabs.
    pub slabs: Vec<usize>,
    /// Inner length.
    pub k: usize,
    /// Candidate rows per sequence.
    pub block_length: usize,
    /// Masked rows of each sequence.
    pub live: Vec<usize>,
    /// Forwards that each sequence has had.
    pub forwards: Vec<u32>,
    /// How ids are drawn.
    pub noise: HeadNoise,
    /// Special ids.
    pub rules: IdRules,
    /// Which kernel; `None`: the op picks.
    pub how: Option<LmHeadVariant>,
}

impl Default for Head {
    fn default() -> Head {
        Head {
            name: String::new(),
            hidden: Fill::Eighths,
            weight: Fill::Eighths,
            dtype: DType::F32,
            slabs: vec![5],
            k: 8,
            block_length: 1,
            live: vec![1],
            forwards: vec![0],
            noise: HeadNoise::None,
            rules: IdRules::default(),
            how: Some(LmHeadVariant::Direct { mr: 8, nr: 8 }),
        }
    }
}

/// The case for a head. Sequence `s` begins at row `100 + 1000 s` of the forward, and its r-th candidate is
/// its answer row `2 r`.
pub fn head_case(head: Head) -> Case {
    let vocab: usize = head.slabs.iter().sum();
    let n_rows = head.live.len() * head.block_length;
    let mut state = vec![0u32; BATCH_WORDS];
    let mut rows = Vec::new();
    for (s, live) in head.live.iter().enumerate() {
        let mut words = [0u32; SEQUENCE_WORDS];
        (words[0], words[3], words[4]) = (*live as u32, head.forwards[s], 100 + 1000 * s as u32);
        state.extend(words);
        rows.extend((0..head.block_length).map(|r| words[4] + 2 * r as u32));
    }
    let weights = weights_fragment(head.dtype);
    let (fragment, temperature, seed, gumbel) = match head.noise {
        HeadNoise::None => ("noise_none", 0.0, 0, vec![0.0]),
        HeadNoise::Gumbel(temperature, seed) => ("noise_gumbel", temperature, seed, vec![0.0]),
        HeadNoise::Given(temperature, values) => ("noise_given", temperature, 0, values),
    };
    let mut rules = vec![head.rules.banned.len() as u32, head.rules.low_confidence.len() as u32];
    rules.extend(head.rules.banned.iter().chain(&head.rules.low_confidence));
    let fragments = Variant::fragments(&[weights, fragment]);
    let (kernel, variant) = match head.how {
        Some(LmHeadVariant::Direct { mr, nr }) => ("lm_head", direct_block(fragments, mr, nr)),
        Some(LmHeadVariant::Shuffle { groups }) => ("lm_head_shuffle", fragments.with("GROUPS", groups)),
        Some(LmHeadVariant::Tile) => ("lm_head_tile", fragments),
        // Whichever the op picks, the merge ends it.
        None => ("lm_head_merge", Variant::default()),
    };
    let name = format!("{n_rows} x {vocab} x {}: {}", head.k, head.name);
    let (how, block_length, k) = (head.how, head.block_length, head.k);
    let noise_shape = if fragment == "noise_given" { [n_rows, vocab] } else { [1, 1] };
    Case::new(kernel, variant, name)
        .input("h", DType::F32, &[n_rows, k], head.hidden)
        .matrix(head.dtype, [vocab, k], head.weight, &head.slabs)
        .words("state", state)
        .words("rows", rows)
        .words("id_rules", rules)
        .input("noise", DType::F32, &noise_shape, Fill::Values(gumbel))
        .output_words("predictions", &[n_rows, 4], PREDICTION, None)
        .sizes(&[("block_length", block_length), ("seed", seed as usize)])
        .set("temperature", temperature)
        .set("gumbel", f64::from(u8::from(fragment == "noise_gumbel")))
        .tolerance(1e-6, 2e-5)
        .dispatching(move |plan, o| {
            let weight = o.matrix(1);
            let noise = match fragment {
                "noise_gumbel" => Noise::Gumbel { temperature, seed },
                "noise_given" => Noise::Given { temperature, gumbel: o.input(5) },
                _ => Noise::None,
            };
            let mut buffers = match how {
                Some(how) => LmHeadBuffers::with(plan.gpu(), how, n_rows, weight)?,
                None => LmHeadBuffers::new(plan.gpu(), n_rows, weight)?,
            };
            buffers.predictions = o.output(0).clone();
            let args = LmHead {
                hidden: o.input(0),
                n_rows,
                weight,
                state: o.input(2),
                rows: o.input(3),
                id_rules: o.input(4),
                block_length,
                noise,
            };
            lm_head(plan, args, &buffers)
        })
}

/// Random partial results `[n_rows, n_groups, 8]`, some of groups whose ids are all banned.
fn merge_case(n_rows: usize, n_groups: usize) -> Case {
    let mut random = Random::new((n_rows * 1000 + n_groups) as u64);
    let mut words = Vec::new();
    for _ in 0..n_rows {
        for group in 0..n_groups as u32 {
            if group > 0 && random.below(8) == 0 {
                let none = [(-3.0e38f32).to_bits(), u32::MAX, 0, (-3.0e38f32).to_bits()];
                words.extend(none.into_iter().chain([(-3.0e38f32).to_bits(), 0, 0, 0]));
                continue;
            }
            // Few distinct scores, so that groups tie.
            let score = random.below(12) as f32 / 4.0;
            let second = score - random.below(5) as f32 / 8.0;
            let (top, sum) = (score + 0.125, 1.0 + random.below(400) as f32 / 64.0);
            let id = (n_groups as u32 - 1 - group) * 64 + random.below(64);
            words.extend([score.to_bits(), id, (score - 0.25).to_bits(), second.to_bits()]);
            words.extend([top.to_bits(), sum.to_bits(), 0, 0]);
        }
    }
    let low: Vec<u32> = (0..64).map(|i| i * 3).collect();
    let rules = [vec![1, low.len() as u32, 9999], low].concat();
    Case::new("lm_head_merge", Variant::default(), format!("{n_rows} rows of {n_groups} groups"))
        .words("partials", words)
        .words("id_rules", rules)
        .output_words("predictions", &[n_rows, 4], PREDICTION, None)
        .sizes(&[("n_groups", n_groups)])
        .tolerance(1e-7, 1e-5)
        .dispatching(move |plan, o| {
            let params = LmHeadMergeParams { n_groups: n_groups as u32 };
            let bindings = [o.input(0), o.input(1), o.output(0)];
            let cost = Cost { flops: 0, bytes: o.input(0).byte_len() };
            plan.dispatch(&LM_HEAD_MERGE, Variant::default(), params, &bindings, [n_rows as u32, 1, 1], cost)
        })
}

fn gumbel(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut next = || -(-((random.below(1 << 24) as f64 + 0.5) / f64::from(1 << 24)).ln()).ln();
    (0..n).map(|_| next() as f32).collect()
}

fn rules(banned: &[u32], low_confidence: &[u32]) -> IdRules {
    IdRules { banned: banned.to_vec(), low_confidence: low_confidence.to_vec() }
}

/// The head over `n_rows` masked rows of one sequence, bf16, without noise: through the op, and in every variant.
pub(super) fn output(n_rows: usize, k: usize, slabs: &[usize]) -> (Case, Vec<Case>) {
    let head = |how| {
        head_case(Head {
            hidden: Fill::Normal(1.0),
            weight: Fill::Normal(0.05),
            dtype: DType::Bf16,
            slabs: slabs.to_vec(),
            k,
            block_length: n_rows,
            live: vec![n_rows],
            how,
            ..Head::default()
        })
    };
    let plain = Variant::fragments(&["weights_bf16", "noise_none"]).fragments;
    let variants = KERNELS.into_iter().flat_map(|kernel| {
        let fitting = kernel.variants().into_iter().filter(|variant| variant.fragments == plain);
        fitting.map(|variant| head(Some(blocking(kernel, &variant)))).collect::<Vec<_>>()
    });
    (head(None), variants.collect())
}

pub(super) fn cases() -> Vec<Case> {
    use LmHeadVariant::*;
    let mut all = Vec::new();
    let variants = |kernel: &'static Kernel| kernel.variants().into_iter().map(move |v| (kernel, v));
    for (kernel, variant) in KERNELS.into_iter().flat_map(variants) {
        let dtype = weights_dtype(variant.fragments[0]);
        let quantized = matches!(dtype, DType::Q(_));
        let k = |dense: usize| if quantized { dense.next_multiple_of(BLOCK) } else { dense };
        let how = Some(blocking(kernel, &variant));
        let noise = |n: usize| match variant.fragments[1] {
            "noise_gumbel" => HeadNoise::Gumbel(0.7, 1234),
            "noise_given" => HeadNoise::Given(0.7, gumbel(n, 5)),
            _ => HeadNoise::None,
        };
        let plain = Head { dtype, how, k: k(8), ..Head::default() };
        all.push(head_case(Head {
            name: "one row, fewer ids than a group".into(),
            noise: noise(5),
            ..plain.clone()
        }));
        all.push(head_case(Head {
            name: "ties and rules over three slabs".into(),
            weight: Fill::Repeated(40 * k(16)),
            slabs: vec![512, 64, 70],
            k: k(16),
            block_length: 11,
            live: vec![11],
            forwards: vec![3],
            noise: noise(11 * 646),
            rules: rules(&[0, 513], &[5, 7, 600]),
            ..plain.clone()
        }));
        all.push(head_case(Head {
            name: "sequences with few live rows".into(),
            hidden: Fill::Normal(1.0),
            weight: Fill::Normal(0.5),
            slabs: vec![300],
            k: k(40),
            block_length: 9,
            live: vec![4, 0, 9],
            forwards: vec![7, 2, 7],
            noise: noise(27 * 300),
            ..plain
        }));
    }
    for noise in [HeadNoise::None, HeadNoise::Gumbel(0.5, 9), HeadNoise::Given(0.5, gumbel(6 * 200, 6))] {
        all.push(head_case(Head {
            name: format!(
                "through the op, {}",
                match noise {
                    HeadNoise::None => "none",
                    HeadNoise::Gumbel(..) => "gumbel",
                    HeadNoise::Given(..) => "given",
                }
            ),
            slabs: vec![128, 72],
            block_length: 6,
            live: vec![6],
            noise,
            rules: rules(&[3], &[]),
            how: None,
            ..Head::default()
        }));
    }
    let real = |name: &str, dtype, slabs: &[usize], k, block_length: usize| Head {
        name: name.into(),
        hidden: Fill::Normal(1.0),
        weight: Fill::Normal(0.05),
        dtype,
        slabs: slabs.to_vec(),
        k,
        block_length,
        live: vec![block_length],
        ..Head::default()
    };
    for how in [Direct { mr: 8, nr: 8 }, Shuffle { groups: 2 }, Tile].map(Some) {
        all.push(head_case(Head { how, ..real("demo", DType::Bf16, &[1484], 192, 16) }).bench(false));
    }
    for dtype in [DType::Bf16, DType::Q(QuantFormat::Q8_0)] {
        all.push(head_case(real("an eighth of LLaDA-8B's", dtype, &[15_808], 4096, 32)).bench(true));
    }
    all.extend([merge_case(1, 1), merge_case(3, 7), merge_case(16, 65), merge_case(5, 200)]);
    all.push(merge_case(32, 247).bench(false));
    all
}
