//! Every kernel in every variant against an f64 reference: ragged shapes, offsets, slabs, in-place
//! operands, poisoned outputs, guard words, two replays; then the decision, the sampling and the random
//! numbers against stored data and statistics.

mod common;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{fixtures, gpu, read_json};
use diffa::gpu::needs::Need;
use diffa::gpu::plan::PlanBuilder;
use diffa::gpu::{DType, Tensor};
use diffa::ops::REGISTRY;
use diffa::ops::attention::{Attention, attention};
use diffa::ops::cases::{
    Case, Fill, Found, Head, HeadNoise, Outcome, SENTINEL, cases, head_case, random_select, select_step,
};
use diffa::ops::lm_head::LmHeadVariant;
use diffa::ops::select::{SelectArgs, SelectBuffers, SelectRule};
use diffa::wgpu::Features;
use diffa::{AdapterChoice, Gpu};
use reference::{ANY, Expected};

/// The largest error of a kernel as a share of its tolerance, and where it was.
#[derive(Default)]
struct Worst {
    share: f64,
    place: String,
    cases: usize,
}

fn index_of(mut at: usize, shape: &[usize]) -> String {
    let mut index: Vec<String> = Vec::new();
    for size in shape.iter().rev() {
        index.push((at % size).to_string());
        at /= size;
    }
    index.reverse();
    format!("[{}]", index.join(", "))
}

fn value(word: u32, dtype: DType) -> f64 {
    if dtype == DType::U32 { f64::from(word) } else { f64::from(f32::from_bits(word)) }
}

/// Error as a share of the tolerance; above 1 is a failure, and so is anything that is no number.
fn share(case: &Case, word: u32, dtype: DType, expected: f64, scale: f64) -> f64 {
    if expected == ANY {
        return 0.0;
    }
    if expected.is_nan() {
        return if word == SENTINEL { 0.0 } else { f64::INFINITY };
    }
    let error = (value(word, dtype) - expected).abs();
    let allowed = if dtype == DType::U32 { 0.0 } else { case.atol + case.rtol * scale };
    if error == 0.0 {
        0.0
    } else if error <= allowed {
        error / allowed
    } else if error.is_nan() || allowed == 0.0 {
        f64::INFINITY
    } else {
        error / allowed
    }
}

fn check_output(
    case: &Case,
    index: usize,
    found: &Found,
    expected: &Expected,
) -> Result<(f64, String), String> {
    let output = &case.outputs[index];
    let place = |at: usize| format!("{} {} of {case}", output.name, index_of(at, &output.shape));
    if found.words.len() != expected.values.len() {
        return Err(format!("{case}: the reference has {} elements", expected.values.len()));
    }
    if !found.guards_intact {
        return Err(format!("{case}: wrote past the end of {}", output.name));
    }
    let mut worst = (0.0, String::new());
    for (at, (word, wanted)) in found.words.iter().zip(&expected.values).enumerate() {
        let dtype = output.words[at % output.words.len()];
        let scale = expected.scales.get(at).copied().unwrap_or(wanted.abs());
        let share = share(case, *word, dtype, *wanted, scale);
        if share > 1.0 {
            let found = value(*word, dtype);
            return Err(format!(
                "{}: {found} ({word:#x}), expected {wanted}: {share} of tolerance",
                place(at)
            ));
        }
        if share > worst.0 {
            worst = (share, place(at));
        }
    }
    Ok(worst)
}

fn check(case: &Case, outcome: &Outcome, worst: &mut BTreeMap<&'static str, Worst>) -> Result<(), String> {
    if !outcome.kernels.contains(&case.kernel) {
        return Err(format!("{case}: dispatched {:?}", outcome.kernels));
    }
    if !outcome.repeatable {
        return Err(format!("{case}: a second replay gave something else"));
    }
    let reference = reference::reference(case.kernel).ok_or(format!("{}: no reference", case.kernel))?;
    let expected = reference(case, &outcome.inputs);
    assert_eq!(expected.len(), outcome.outputs.len(), "{case}");
    let entry = worst.entry(case.kernel).or_default();
    entry.cases += 1;
    for (index, (found, expected)) in outcome.outputs.iter().zip(&expected).enumerate() {
        let (share, place) = check_output(case, index, found, expected)?;
        if share > entry.share {
            (entry.share, entry.place) = (share, place);
        }
    }
    Ok(())
}

/// What the case's kernel needs beyond core WGSL and the device lacks, in words. Where the device has what is
/// widespread, only cooperative matrices and, on
/// narrow adapters, subgroups of eight may be missing.
fn lacking(gpu: &Gpu, case: &Case) -> Vec<String> {
    let lacking: Vec<_> = case.needs().into_iter().filter(|need| !need.is_met(gpu.caps())).collect();
    if gpu.caps().features.contains(Features::SUBGROUP | Features::SHADER_F16) {
        let narrow = gpu.caps().info.subgroup_min_size < 8;
        let rare =
            |need: &Need| matches!(need, Need::CooperativeMatrix(_)) || (*need == Need::Subgroup8 && narrow);
        assert!(lacking.iter().all(rare), "{case}: {lacking:?}");
    }
    lacking.iter().map(|need| need.to_string()).collect()
}

/// Runs and checks all; panics with every failure at the end.
fn check_all(gpu: &Gpu, replays: usize, all: impl Iterator<Item = Case>) {
    let mut worst = BTreeMap::new();
    let mut failures = Vec::new();
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    for case in all {
        let lacking = lacking(gpu, &case);
        if !lacking.is_empty() {
            *left_out.entry(format!("{} for want of {}", case.kernel, lacking.join(", "))).or_default() += 1;
            continue;
        }
        let outcome = case.run(gpu, replays).map_err(|e| format!("{case}: {e}"));
        if let Err(failure) = outcome.and_then(|outcome| check(&case, &outcome, &mut worst)) {
            failures.push(failure);
        }
    }
    println!("{}", gpu.caps().describe());
    for (kernel, Worst { share, place, cases }) in &worst {
        println!(
            "{kernel}: {cases} cases, worst = {share:.2} of tolerance{}{place}",
            if place.is_empty() { "" } else { " at " }
        );
    }
    for (what, cases) in &left_out {
        println!("not on this device: {cases} cases of {what}");
    }
    let n = failures.len();
    failures.truncate(20);
    assert!(n == 0, "{n} failures\n{}", failures.join("\n"));
}

fn tested(kernels: &'static [&'static str], yes: bool) -> impl Iterator<Item = Case> {
    cases().into_iter().filter(move |case| !case.bench_only && kernels.contains(&case.kernel) == yes)
}

/// Half of the pipelines, so that two test threads share the compiling.
const PRODUCTS: &[&str] = &[
    "matmul_naive",
    "matmul_direct",
    "matmul_shuffle",
    "matmul_tile",
    "matmul_gemv",
    "matmul_coop",
    "matmul_int8",
    "matmul_sum",
    "quantize_rows",
];

#[test]
fn every_kernel_has_a_reference_and_every_variant_a_case() {
    let all = cases();
    let has_case =
        |kernel: &str, variant: &_| all.iter().any(|c| c.kernel == kernel && c.variant == *variant);
    for kernel in REGISTRY {
        assert!(reference::reference(kernel.name).is_some(), "{}: no reference", kernel.name);
        for variant in kernel.variants() {
            assert!(has_case(kernel.name, &variant), "{} ({variant}): no case", kernel.name);
        }
        let timed = all.iter().any(|c| c.kernel == kernel.name && c.benched);
        assert!(timed, "{}: no case to time", kernel.name);
    }
    let names: BTreeSet<String> = all.iter().map(|case| case.to_string()).collect();
    assert_eq!(names.len(), all.len(), "names of cases are unique");
}

#[test]
fn matrix_products_agree_with_the_reference() {
    check_all(&gpu(), 2, tested(PRODUCTS, true));
}

#[test]
fn other_kernels_agree_with_the_reference() {
    check_all(&gpu(), 2, tested(PRODUCTS, false));
}

#[test]
fn kernels_agree_on_a_device_with_default_limits() {
    let gpu = Gpu::open_with_default_limits(&AdapterChoice::default()).unwrap();
    check_all(&gpu, 1, cases().into_iter().filter(|case| !case.bench_only));
}

/// Dispatches of a case that fits a submit and of the same case where hardly anything does, with equal results; `None`
/// where the device lacks something.
fn run_whole_and_split(gpu: &Gpu, case: &Case) -> Option<[usize; 2]> {
    if !lacking(gpu, case).is_empty() {
        return None;
    }
    gpu.limit_submits(1e15, Duration::from_secs(1));
    let whole = case.run(gpu, 1).unwrap();
    gpu.limit_submits(1e9, Duration::from_millis(1));
    let parts = case.run(gpu, 1).unwrap();
    assert_eq!(whole.outputs.len(), parts.outputs.len(), "{case}");
    for (whole, parts) in whole.outputs.iter().zip(&parts.outputs) {
        assert!(parts.guards_intact, "{case}");
        assert_eq!(whole.words, parts.words, "{case}");
    }
    Some([whole, parts].map(|run| run.kernels.len()))
}

#[test]
fn attentions_longer_than_a_submit_are_split_and_stay_the_same() {
    let gpu = Gpu::open(&AdapterChoice::default()).unwrap();
    let mut split = BTreeSet::new();
    let is_long = |case: &Case| {
        ["Q-Former cross attention", "rows in two submits"].map(|name| case.name.contains(name))
    };
    for case in cases().into_iter().filter(|case| is_long(case).contains(&true)) {
        let Some([whole, parts]) = run_whole_and_split(&gpu, &case) else { continue };
        // Where workgroups share the keys, each half of the rows is merged before the next uses the same memory.
        let merges = if case.kernel == "attention_merge" { 2 } else { 1 };
        assert_eq!((whole, parts), (merges, 2 * merges), "{case}");
        split.insert(case.kernel);
    }
    assert!(split.is_superset(&["attention", "attention_tile", "attention_merge"].into()), "{split:?}");
}

#[test]
fn products_and_heads_longer_than_a_submit_are_split_by_columns_and_stay_the_same() {
    let gpu = Gpu::open(&AdapterChoice::default()).unwrap();
    let mut split = BTreeSet::new();
    let is_wide = |case: &Case| case.name.contains("demo ff_proj") || case.kernel.starts_with("lm_head");
    for case in cases().into_iter().filter(|case| is_wide(case) && case.name.contains("demo")) {
        let Some([whole, parts]) = run_whole_and_split(&gpu, &case) else { continue };
        assert!(parts > whole, "{case}: {whole} dispatches, {parts} of them when split");
        split.insert(case.kernel);
    }
    let expected = ["matmul_naive", "matmul_direct", "matmul_tile", "matmul_gemv", "lm_head", "lm_head_tile"];
    assert!(split.is_superset(&expected.into()), "{split:?}");
}

#[test]
fn decisions_agree_with_the_reference_on_random_states() {
    check_all(&gpu(), 2, (100..500).map(random_select));
}

/// A greedy schedule over one block of `length` rows.
fn one_block(length: usize, rule: SelectRule) -> SelectArgs {
    SelectArgs {
        gen_length: length,
        block_length: length,
        steps_per_block: 1,
        until_empty: true,
        rule,
        random: false,
        seed: 0,
        mask_id: 99,
        stop_ids: Vec::new(),
        settled_gaps: None,
        n_branches: 1,
        branch_rows: 0,
        ring: 1,
    }
}

#[test]
fn the_factor_rule_accepts_what_the_golden_data_says() {
    let gpu = gpu();
    let golden = read_json(&fixtures().join("expected/factor_counts.json"));
    for (i, entry) in golden.as_array().unwrap().iter().enumerate() {
        let confidences = entry["confidences"].as_array().unwrap();
        if confidences.is_empty() {
            continue; // a block without candidates is not decided
        }
        let predictions: Vec<(u32, f32, f32)> =
            confidences.iter().map(|c| (1, c.as_f64().unwrap() as f32, 0.0)).collect();
        let rule = SelectRule::Factor(entry["factor"].as_f64().unwrap() as f32);
        let case = select_step("golden", &one_block(confidences.len(), rule), &predictions);
        let report = &case.run(&gpu, 1).unwrap().outputs[5].words;
        assert_eq!(u64::from(report[2]), entry["accepted"].as_u64().unwrap(), "entry {i}: {entry}");
    }
}

/// An f32 or f64 tensor of a fixture file.
fn stored(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f64>) {
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let data = match view.dtype() {
        safetensors::Dtype::F32 => {
            view.data().chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        }
        safetensors::Dtype::F64 => {
            view.data().chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
        }
        safetensors::Dtype::I64 => {
            view.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
        }
        other => panic!("{name}: {other:?}"),
    };
    (view.shape().to_vec(), data)
}

#[test]
fn keys_and_values_of_types_that_do_not_fit_are_refused() {
    let gpu = gpu();
    // Nothing is run, so any buffers will do.
    let state = SelectBuffers::new(&gpu, &one_block(1, SelectRule::Quota), 1).unwrap();
    let refusal = |[k, v]: [DType; 2], head_dim: usize| {
        let tensor = |name: &str, dtype: DType, any: &Tensor| {
            let mut tensor = any.clone();
            (tensor.name, tensor.dtype, tensor.shape) = (name.into(), dtype, vec![4, head_dim]);
            tensor
        };
        let (q, out) = (tensor("q", DType::F32, &state.ids), tensor("out", DType::F32, &state.rows));
        let (k, v) = (tensor("k", k, &state.ids), tensor("v", v, &state.ids));
        let (q, out, kv_rows, n_heads) = ((&q, 0, 4), (&out, 0), (0, 4), 1);
        let args = Attention { q, k: &k, v: &v, kv_rows, n_heads, n_kv_heads: n_heads, head_dim, out };
        attention(&mut PlanBuilder::new(&gpu, "refused"), args).err().map(|error| error.to_string())
    };
    assert_eq!(refusal([DType::F16; 2], 12), None);
    assert_eq!(refusal([DType::F32; 2], 6), None);
    let cases = [
        ([DType::F16, DType::F32], 12, "operand `v`", "f16 as `k`, not f32"),
        ([DType::F16; 2], 6, "operand `k`", "heads of a multiple of 4 for f16, not of 6"),
        ([DType::Bf16; 2], 12, "operand `k`", "f32 or f16, not bf16"),
    ];
    for (types, head_dim, operand, wanted) in cases {
        let message = refusal(types, head_dim).unwrap();
        assert!(message.contains(operand) && message.contains(wanted), "{message}");
    }
}

#[test]
fn given_noise_draws_the_golden_ids() {
    use LmHeadVariant::*;
    let gpu = gpu();
    let bytes = std::fs::read(fixtures().join("expected/sampling.safetensors")).unwrap();
    let (shape, logits) = stored(&bytes, "logits");
    let (_, uniform) = stored(&bytes, "uniform");
    let [rows, vocab] = shape[..] else { panic!("{shape:?}") };
    // Hidden states are the unit vectors and column r of the matrix holds the logits of row r, so every
    // product is exact.
    let hidden: Vec<f32> = (0..rows * rows).map(|i| f32::from(u8::from(i / rows == i % rows))).collect();
    let weight: Vec<f32> = (0..vocab * rows).map(|i| logits[i % rows * vocab + i / rows] as f32).collect();
    let gumbel: Vec<f32> = uniform.iter().map(|u| -(-u.ln()).ln() as f32).collect();
    for temperature in [0.3f32, 0.7, 1.0] {
        let head = Head {
            name: "golden".into(),
            hidden: Fill::Values(hidden.clone()),
            weight: Fill::Values(weight.clone()),
            slabs: vec![512, vocab - 512],
            k: rows,
            block_length: rows,
            live: vec![rows],
            noise: HeadNoise::Given(temperature, gumbel.clone()),
            ..Head::default()
        };
        let (_, ids) = stored(&bytes, &format!("ids.T{temperature:?}"));
        let direct = [(8, 4), (8, 8), (16, 8), (32, 4)].map(|(mr, nr)| Direct { mr, nr });
        let hows = [Shuffle { groups: 1 }, Shuffle { groups: 4 }, Tile].into_iter().chain(direct);
        let possible = hows.filter(|how| how.is_possible(gpu.caps()));
        for how in possible.map(Some).chain([None]) {
            let found = &head_case(Head { how, ..head.clone() }).run(&gpu, 1).unwrap().outputs[0].words;
            let drawn: Vec<f64> = found.chunks(4).map(|p| f64::from(p[0])).collect();
            assert_eq!(drawn, ids, "temperature {temperature}");
        }
    }
}

#[test]
fn gumbel_noise_draws_from_the_softmax() {
    let gpu = gpu();
    let logits = [0.0f32, 1.0, -1.5, 2.0, 0.5, 0.0, -4.0, 1.25, 0.75, -0.25, 2.0];
    let temperature = 0.8f32;
    // All rows see the same logits: hidden = e_0, column 0 of the matrix = logits.
    let (rows, sequences, k) = (1024, 3, 8);
    let hidden: Vec<f32> = (0..rows * sequences * k).map(|i| f32::from(u8::from(i % k == 0))).collect();
    let weight: Vec<f32> = logits.iter().flat_map(|l| [*l, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).collect();
    let head = |seed: u32, forwards: Vec<u32>| Head {
        name: "frequencies".into(),
        hidden: Fill::Values(hidden.clone()),
        weight: Fill::Values(weight.clone()),
        slabs: vec![logits.len()],
        k,
        block_length: rows,
        live: vec![rows; sequences],
        forwards,
        noise: HeadNoise::Gumbel(temperature, seed),
        ..Head::default()
    };
    let draw = |seed: u32, forwards: Vec<u32>| -> Vec<u32> {
        let outcome = head_case(head(seed, forwards)).run(&gpu, 2).unwrap();
        assert!(outcome.repeatable);
        outcome.outputs[0].words.chunks(4).map(|p| p[0]).collect()
    };
    let drawn: Vec<u32> = (0..10).flat_map(|seed| draw(seed, vec![seed, 40 + seed, 80 + seed])).collect();
    let n = drawn.len() as f64;
    let weights: Vec<f64> = logits.iter().map(|l| f64::from(*l / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    for (id, weight) in weights.iter().enumerate() {
        let p = weight / sum;
        let found = drawn.iter().filter(|d| **d as usize == id).count() as f64;
        let sigmas = (found - n * p) / (n * p * (1.0 - p)).sqrt();
        assert!(
            sigmas.abs() < 4.0,
            "id {id}: {found} of {n} draws at probability {p:.4} ({sigmas:.1} sigma)"
        );
    }
    // The noise depends on seed, forward and row, and on nothing else.
    let base = draw(1, vec![5, 6, 7]);
    assert_eq!(base, draw(1, vec![5, 6, 7]));
    assert_eq!(base[..rows], draw(1, vec![5, 9, 9])[..rows]);
    assert_ne!(base[..rows], draw(1, vec![6, 6, 7])[..rows]);
    assert_ne!(base[..rows], draw(2, vec![5, 6, 7])[..rows]);
    assert_ne!(base[..rows], base[rows..2 * rows]);
}
