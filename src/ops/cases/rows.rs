//! Cases of the kernels that treat rows or elements alone: norms, rotation, copies, gates, embedding.

use super::{Case, Fill, Random};
use crate::gpu::DType;
use crate::gpu::kernel::Variant;
use crate::gpu::plan::{Cost, GATE, GateParams, linear_grid};
use crate::ops::elementwise::{copy_rows, gather_rows, guidance, qformer_mix, silu_gate};
use crate::ops::embed::{EMBED, embed};
use crate::ops::matmul::weights_dtype;
use crate::ops::norm::{
    LAYER_NORM, LayerNormParams, LayerNormWeights, RMS_NORM, RmsNormParams, layer_norm, rms_norm,
};
use crate::ops::rope::{Heads, ROPE_QKV, RopeQkv, rope_qkv_with};
use crate::quant::BLOCK;

/// `through_op`: by the function of src/ops, which picks its variant; else with exactly this variant.
fn layer(
    variant: &Variant,
    rows: usize,
    cols: usize,
    (x_row0, out_row0): (usize, usize),
    through_op: bool,
) -> Case {
    let name = format!(
        "[{rows}, {cols}] at {x_row0}, {out_row0}{}",
        if through_op { " through the op" } else { "" }
    );
    let chosen = variant.clone();
    Case::new("layer_norm", variant.clone(), name)
        .input("x", DType::F32, &[x_row0 + rows, cols], Fill::Mixed(1.0))
        .input("weight", DType::F32, &[cols], Fill::AroundOne)
        .input("bias", DType::F32, &[cols], Fill::Normal(0.1))
        .output("out", &[out_row0 + rows + 1, cols])
        .sizes(&[("rows", rows), ("x_row0", x_row0), ("out_row0", out_row0)])
        .set("eps", 1e-5f32)
        .tolerance(2e-7, 2e-6)
        .dispatching(move |plan, o| {
            let (x, weight, bias, out) = (o.input(0), o.input(1), o.input(2), o.output(0));
            if through_op {
                let norm = LayerNormWeights { weight: weight.clone(), bias: bias.clone(), eps: 1e-5 };
                return layer_norm(plan, (x, x_row0), rows, &norm, (out, out_row0));
            }
            let params = LayerNormParams {
                n_rows: rows as u32,
                n_cols: cols as u32,
                x_row0: x_row0 as u32,
                out_row0: out_row0 as u32,
                eps: 1e-5,
            };
            let cost = Cost { flops: 8 * (rows * cols) as u64, bytes: 8 * (rows * cols) as u64 };
            plan.dispatch(
                &LAYER_NORM,
                chosen.clone(),
                params,
                &[x, weight, bias, out],
                linear_grid(rows),
                cost,
            )
        })
}

fn rms(variant: &Variant, rows: usize, cols: usize, row0: usize, through_op: bool) -> Case {
    let name = format!("[{rows}, {cols}] at {row0}{}", if through_op { " through the op" } else { "" });
    let chosen = variant.clone();
    Case::new("rms_norm", variant.clone(), name)
        .input("x", DType::F32, &[row0 + rows, cols], Fill::Mixed(1.0))
        .input("weight", DType::F32, &[cols], Fill::AroundOne)
        .output("out", &[row0 + rows + 1, cols])
        .sizes(&[("rows", rows), ("row0", row0)])
        .set("eps", 1e-5f32)
        .tolerance(1e-9, 2e-6)
        .dispatching(move |plan, o| {
            let (x, weight, out) = (o.input(0), o.input(1), o.output(0));
            if through_op {
                return rms_norm(plan, x, (row0, rows), weight, 1e-5, out);
            }
            let params =
                RmsNormParams { n_rows: rows as u32, n_cols: cols as u32, row0: row0 as u32, eps: 1e-5 };
            let cost = Cost { flops: 4 * (rows * cols) as u64, bytes: 8 * (rows * cols) as u64 };
            plan.dispatch(&RMS_NORM, chosen.clone(), params, &[x, weight, out], linear_grid(rows), cost)
        })
}

/// Rows of a fused projection and where they go: to `list`, rows of a forward with `table_rows` rows per sequence.
#[derive(Clone, Copy)]
struct Projection<'a> {
    heads: [usize; 2],
    half: usize,
    parts: Heads,
    x_row0: usize,
    q_row0: usize,
    list0: usize,
    table_rows: usize,
    list: &'a [u32],
}

/// `scale`: of the projection; large ones go beyond the range of f16.
fn heads_apart(variant: &Variant, shape: Projection<'_>, scale: f32) -> Case {
    let Projection { heads: [n_heads, n_kv_heads], half, parts, x_row0, q_row0, list0, table_rows, list } =
        shape;
    let table: Vec<f32> = (0..table_rows * half)
        .flat_map(|i| {
            let angle = (i / half) as f64 * 500_000f64.powf(-((i % half) as f64) / half as f64);
            [angle.cos() as f32, angle.sin() as f32]
        })
        .collect();
    let rows = list.len();
    let forward_rows = list.iter().max().map_or(0, |row| *row as usize + 2);
    let kept = [forward_rows, n_kv_heads * 2 * half];
    let (first_head, end_head) = parts.range(n_heads, n_kv_heads);
    let places: Vec<u32> = std::iter::repeat_n(7, list0).chain(list.iter().copied()).collect();
    let lanes = variant.consts[0].1;
    let is_f16 = variant.fragments[0] == "kept_f16";
    let words: &[DType] = if is_f16 { &[DType::F16] } else { &[DType::F32] };
    Case::new(
        "rope_qkv",
        variant.clone(),
        format!(
            "{rows} rows at {x_row0} to {q_row0}, {parts:?} of {n_heads} + 2 x {n_kv_heads} heads of {}, list at {list0}, scale {scale}",
            2 * half
        ),
    )
    .input("qkv", DType::F32, &[x_row0 + rows, (n_heads + 2 * n_kv_heads) * 2 * half], Fill::Mixed(scale))
    .input("table", DType::F32, &[table_rows, half, 2], Fill::Values(table))
    .words("list", places)
    .output("q", &[q_row0 + rows + 1, n_heads * 2 * half])
    .output_words("k", &kept, words, None)
    .output_words("v", &kept, words, None)
    .sizes(&[("rows", rows), ("heads", n_heads), ("kv_heads", n_kv_heads), ("half", half)])
    .sizes(&[("first_head", first_head), ("end_head", end_head), ("x_row0", x_row0), ("q_row0", q_row0)])
    .sizes(&[("list0", list0), ("table_rows", table_rows)])
    .tolerance(0.0, 2e-7)
    .dispatching(move |plan, o| {
        let args = RopeQkv {
            qkv: (o.input(0), x_row0),
            rows,
            heads: parts,
            n_heads,
            n_kv_heads,
            table: o.input(1),
            list: (o.input(2), list0),
            q: (o.output(0), q_row0),
            k: o.output(1),
            v: o.output(2),
        };
        rope_qkv_with(plan, lanes, args)
    })
}

fn silu(rows: usize, cols: usize, scale: f32) -> Case {
    Case::new("silu_gate", Variant::default(), format!("[{rows}, {cols}], scale {scale}"))
        .input("gate_up", DType::F32, &[rows + 1, 2 * cols], Fill::Mixed(scale))
        .output("out", &[rows + 1, cols])
        .sizes(&[("rows", rows)])
        .tolerance(1e-9, 4e-6)
        .dispatching(move |plan, o| silu_gate(plan, o.input(0), rows, o.output(0)))
}

fn copy(rows: usize, cols: usize, x_row0: usize, out_row0: usize) -> Case {
    Case::new("copy_rows", Variant::default(), format!("[{rows}, {cols}] from {x_row0} to {out_row0}"))
        .input("x", DType::F32, &[x_row0 + rows + 1, cols], Fill::Mixed(1.0))
        .output("out", &[out_row0 + rows + 2, cols])
        .sizes(&[("rows", rows), ("x_row0", x_row0), ("out_row0", out_row0)])
        .dispatching(move |plan, o| copy_rows(plan, (o.input(0), x_row0), rows, (o.output(0), out_row0)))
}

fn gather(x_rows: u32, rows: usize, cols: usize) -> Case {
    Case::new("gather_rows", Variant::default(), format!("{rows} of {x_rows} rows of {cols}"))
        .input("x", DType::F32, &[x_rows as usize, cols], Fill::Mixed(1.0))
        .input("rows", DType::U32, &[rows + 3], Fill::Below(x_rows))
        .output("out", &[rows + 1, cols])
        .sizes(&[("rows", rows)])
        .dispatching(move |plan, o| gather_rows(plan, o.input(0), o.input(1), rows, o.output(0)))
}

fn mix(targets: usize, prompts: usize, cols: usize) -> Case {
    Case::new("qformer_mix", Variant::default(), format!("{targets} targets, {prompts} prompts of {cols}"))
        .input("y", DType::F32, &[targets * prompts, cols], Fill::Mixed(1.0))
        .input("layer_weights", DType::F32, &[prompts, targets], Fill::Normal(3.0))
        .output("out", &[prompts, cols])
        .tolerance(1e-9, 4e-6)
        .dispatching(|plan, o| qformer_mix(plan, o.input(0), o.input(1), o.output(0)))
}

fn guide(rows: usize, cols: usize, scale: f32) -> Case {
    let shape = [2 * rows + 1, cols];
    Case::new("guidance", Variant::default(), format!("[{rows}, {cols}], scale {scale}"))
        .input("h", DType::F32, &shape, Fill::Mixed(1.0))
        .in_place("h", &shape, 0)
        .sizes(&[("rows", rows)])
        .set("scale", scale)
        .tolerance(0.0, 3e-7)
        .dispatching(move |plan, o| guidance(plan, o.output(0), rows, scale))
}

fn table(variant: &Variant, rows: usize, cols: usize, slabs: &[usize], id0: usize, out_row0: usize) -> Case {
    let dtype = weights_dtype(variant.fragments[0]);
    let cols = if matches!(dtype, DType::Q(_)) { cols.next_multiple_of(BLOCK) } else { cols };
    let vocab: usize = slabs.iter().sum();
    Case::new("embed", variant.clone(), format!("{rows} ids of {vocab}, {cols} wide, {} slabs", slabs.len()))
        // Ids one past the table leave their row alone.
        .input("ids", DType::U32, &[id0 + rows], Fill::Below(vocab as u32 + 1))
        .matrix(dtype, [vocab, cols], Fill::Mixed(1.0), slabs)
        .output("out", &[out_row0 + rows + 1, cols])
        .sizes(&[("rows", rows), ("id0", id0), ("out_row0", out_row0)])
        .dispatching(move |plan, o| {
            embed(plan, (o.input(0), id0), rows, o.matrix(1), (o.output(0), out_row0))
        })
}

/// The gate of a plan of `n_steps` dispatches.
fn gate(n_steps: usize, wanted: u32, block: u32, state: [u32; 5]) -> Case {
    let mut random = Random::new(n_steps as u64);
    let grids = (0..n_steps).flat_map(|i| {
        let rows_per_group = [0, 1, 8, 64][i % 4];
        [1 + random.below(1000), 1 + random.below(9), 1 + random.below(3), rows_per_group]
    });
    Case::new(
        "gate",
        Variant::default(),
        format!("{n_steps} dispatches, wanted {wanted} in {block}, state {state:?}"),
    )
    .words("state", state.to_vec())
    .words("grids", grids.collect())
    .output_words("out", &[n_steps, 3], &[DType::U32], None)
    .set("wanted", wanted)
    .set("block", block)
    .dispatching(move |plan, o| {
        let params = GateParams { n_steps: n_steps as u32, wanted, block };
        let groups = [n_steps.div_ceil(64) as u32, 1, 1];
        let bindings = [o.input(0), o.input(1), o.output(0)];
        plan.dispatch(&GATE, Variant::default(), params, &bindings, groups, Cost::default())
    })
}

fn gates() -> Vec<Case> {
    let any = u32::MAX;
    let mut all = Vec::new();
    for (wanted, block) in [(0, any), (1, any), (1, 2), (2, any)] {
        // Block, step, done, forwards, live rows.
        for state in [[0, 0, 0, 0, 32], [2, 3, 0, 9, 5], [1, 4, 0, 4, 0], [2, 1, 1, 7, 3]] {
            all.push(gate(67, wanted, block, state));
        }
    }
    all.push(gate(1, 2, any, [0, 0, 0, 0, 1]));
    all.push(gate(400, 1, any, [1, 1, 0, 9, 17]).bench(false));
    all
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = gates();
    for variant in LAYER_NORM.variants() {
        for (rows, cols, offsets) in [(1, 1, (0, 0)), (3, 65, (2, 1)), (7, 200, (0, 3)), (2, 1025, (0, 0))] {
            all.push(layer(&variant, rows, cols, offsets, false));
        }
        all.push(layer(&variant, 1500, 768, (0, 0), false).bench(false));
    }
    for variant in RMS_NORM.variants() {
        for (rows, cols, row0) in [(1, 1, 0), (3, 65, 2), (7, 200, 0), (2, 4096, 1)] {
            all.push(rms(&variant, rows, cols, row0, false));
        }
        all.push(rms(&variant, 224, 4096, 0, false).bench(false));
    }
    all.push(layer(&LAYER_NORM.variants()[0], 5, 72, (1, 2), true));
    all.push(rms(&RMS_NORM.variants()[0], 5, 192, 1, true));
    // More rows than workgroups fit in one dimension: the grid folds.
    all.push(rms(&RMS_NORM.variants()[0], 65_537, 2, 0, true));

    let plain = |heads, half, table_rows, list| Projection {
        heads,
        half,
        parts: Heads::All,
        x_row0: 0,
        q_row0: 0,
        list0: 0,
        table_rows,
        list,
    };
    let many: Vec<u32> = (0..224).collect();
    let scattered = Projection { x_row0: 2, q_row0: 1, list0: 1, ..plain([4, 2], 6, 40, &[39, 0, 17, 5, 6]) };
    for variant in ROPE_QKV.variants() {
        let heads_apart = |shape| heads_apart(&variant, shape, 1.0);
        if variant.fragments[0] == "kept_f32" {
            all.push(heads_apart(plain([1, 1], 1, 1, &[0])));
        } else {
            all.push(self::heads_apart(&variant, scattered, 30.0));
        }
        for parts in [Heads::All, Heads::Queries, Heads::KeysValues] {
            all.push(heads_apart(Projection { parts, ..scattered }));
        }
        // Three more sequences.
        all.push(heads_apart(plain([2, 2], 16, 9, &[3, 12, 21, 30, 8, 17, 26])));
        let late = Projection { list0: 3, ..plain([4, 1], 64, 4096, &[4095, 4000, 1234]) };
        all.push(heads_apart(late));
        all.push(heads_apart(plain([32, 32], 64, 224, &many)).bench(false));
    }

    all.extend([silu(1, 1, 1.0), silu(3, 21, 5.0), silu(5, 65, 0.01), silu(2, 129, 60.0)]);
    all.push(silu(224, 12_288, 1.0).bench(false));
    all.extend([copy(1, 1, 0, 0), copy(3, 21, 2, 1), copy(9, 65, 0, 4), copy(1500, 768, 0, 0).bench(false)]);
    all.extend([gather(1, 1, 1), gather(9, 5, 7), gather(40, 65, 33), gather(224, 32, 4096).bench(false)]);
    all.extend([mix(1, 1, 1), mix(4, 3, 21), mix(4, 64, 33), mix(4, 64, 768).bench(false)]);
    all.extend([guide(1, 1, 0.0), guide(3, 21, 1.5), guide(65, 3, 0.5), guide(32, 4096, 1.0).bench(false)]);
    for variant in EMBED.variants() {
        all.push(table(&variant, 1, 8, &[3], 0, 0));
        all.push(table(&variant, 5, 24, &[64, 64, 9], 2, 1));
        all.push(table(&variant, 67, 200, &[300], 0, 0));
        all.push(table(&variant, 9, 13, &[16], 1, 0));
        all.push(table(&variant, 224, 4096, &[2048], 0, 0).bench(true));
    }
    all
}
