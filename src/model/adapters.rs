//! The two adapters that turn hidden states into rows of the language model.
//!
//! Semantic: convolutional downsampler over the valid rows of the last hidden state. Acoustic: layer-wise
//! Q-Former over several whole hidden states. Reference: `semantic_connector` and `acoustic_connector`
//! of the PyTorch reference; docs/MODEL.md 4.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::gpu::plan::{Plan, PlanBuilder};
use crate::gpu::{DType, Gpu, Tensor};
use crate::model::config::{AdapterConfig, SEMANTIC_RATE};
use crate::model::encoder::Encoder;
use crate::model::weights::{Linear, LoadProgress, WeightReader};
use crate::ops::attention::{Attention, attention};
use crate::ops::conv::{Conv1d, conv1d};
use crate::ops::elementwise::{copy_rows, qformer_mix};
use crate::ops::matmul::{Activation, Matmul, matmul};
use crate::ops::norm::{LayerNormWeights, layer_norm};

const LAYER_NORM_EPS: f32 = 1e-5;
/// BERT's epsilon, which the Q-Former layers keep.
const QFORMER_NORM_EPS: f32 = 1e-12;

#[derive(Debug)]
struct SemanticConnector {
    conv0: Conv1d,
    conv2: Conv1d,
    linear0: Linear,
    linear2: Linear,
    layernorm: LayerNormWeights,
}

#[derive(Debug)]
struct QFormerAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    norm: LayerNormWeights,
}

#[derive(Debug)]
struct QFormerLayer {
    attention: QFormerAttention,
    crossattention: QFormerAttention,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNormWeights,
}

#[derive(Debug)]
struct AcousticConnector {
    /// Prompts of all targets, stacked `[n_targets * prompt_size, d_audio]`.
    layer_prompts: Tensor,
    layer_weights: Tensor,
    layers: Vec<QFormerLayer>,
    proj_norm: LayerNormWeights,
    proj: Linear,
}

/// Both adapters, loaded, with the acoustic plan frozen against an encoder's hidden states.
#[derive(Debug)]
pub struct Adapters {
    config: AdapterConfig,
    semantic: SemanticConnector,
    acoustic_plan: Plan,
    /// Result of the acoustic plan `[prompt_size, d_model]`.
    acoustic_rows: Tensor,
}

impl Adapters {
    /// Loads the adapter tensors; `encoder` must keep the target hidden states.
    pub fn load(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        config: &AdapterConfig,
        encoder: &Encoder,
        progress: LoadProgress<'_>,
    ) -> Result<Adapters> {
        let at = WeightReader::new(gpu, checkpoint, config.prefix, progress);
        let semantic = read_semantic(&at.at("semantic_connector"), config)?;
        let acoustic = read_acoustic(&at.at("acoustic_connector"), config)?;
        let acoustic_rows = gpu.tensor("acoustic", DType::F32, &[config.prompt_size, config.d_model])?;
        let mut targets = Vec::new();
        for index in config.target_layers(encoder.config().n_layers) {
            targets.push(encoder.hidden(index)?);
        }
        let mut plan = PlanBuilder::new(gpu, "acoustic");
        record_acoustic(&mut plan, config, &acoustic, &targets, &acoustic_rows)?;
        Ok(Adapters { config: config.clone(), semantic, acoustic_plan: plan.freeze()?, acoustic_rows })
    }

    /// Number of audio rows for `valid_rows` encoder rows: acoustic prompts, then a quarter of the rows.
    pub fn audio_rows(&self, valid_rows: usize) -> usize {
        self.config.prompt_size + valid_rows / SEMANTIC_RATE
    }

    /// Rows that come from the acoustic adapter.
    pub fn acoustic_rows(&self) -> usize {
        self.config.prompt_size
    }

    /// Runs both adapters on what the encoder just heard: `[audio_rows(valid_rows), d_model]` f32,
    /// acoustic rows first.
    ///
    /// Errors: fewer than four valid rows (the published code crashes there).
    pub fn run(&self, gpu: &Gpu, encoder: &Encoder, valid_rows: usize) -> Result<Tensor> {
        let rows = self.audio_rows(valid_rows);
        let out = gpu.tensor("audio_embeds", DType::F32, &[rows, self.config.d_model])?;
        let mut plan = PlanBuilder::new(gpu, "semantic");
        let last = encoder.hidden(encoder.config().n_layers)?;
        record_semantic(&mut plan, &self.semantic, last, valid_rows, (&out, self.config.prompt_size))?;
        copy_rows(&mut plan, (&self.acoustic_rows, 0), self.config.prompt_size, (&out, 0))?;
        let plan = plan.freeze()?;
        gpu.submit(self.acoustic_plan.replay(gpu));
        plan.run(gpu)?;
        Ok(out)
    }
}

fn read_semantic(at: &WeightReader<'_>, config: &AdapterConfig) -> Result<SemanticConnector> {
    let d = config.d_audio;
    let conv = |name: &str, out: usize, kernel: usize, stride: usize| -> Result<Conv1d> {
        let at = at.at(name);
        let weight = at.conv_matrix("weight", [out, d, kernel])?;
        Ok(Conv1d { weight, bias: at.vector("bias", out)?, kernel, stride, pad: kernel / 2 })
    };
    Ok(SemanticConnector {
        conv0: conv("conv.0", d, config.conv_kernels[0], 1)?,
        conv2: conv("conv.2", 4 * d, config.conv_kernels[1], SEMANTIC_RATE)?,
        linear0: at.linear("linear_connector.0", d, 4 * d)?,
        linear2: at.linear("linear_connector.2", config.d_model, d)?,
        layernorm: at.layer_norm("layernorm", config.d_model, LAYER_NORM_EPS)?,
    })
}

fn read_acoustic(at: &WeightReader<'_>, config: &AdapterConfig) -> Result<AcousticConnector> {
    let d = config.d_audio;
    let attention = |at: WeightReader<'_>| -> Result<QFormerAttention> {
        Ok(QFormerAttention {
            query: at.linear("self.query", d, d)?,
            key: at.linear("self.key", d, d)?,
            value: at.linear("self.value", d, d)?,
            dense: at.linear("output.dense", d, d)?,
            norm: at.layer_norm("output.LayerNorm", d, QFORMER_NORM_EPS)?,
        })
    };
    let mut layers = Vec::with_capacity(config.n_blocks);
    for b in 0..config.n_blocks {
        let at = at.at(format!("qformer.layer.{b}"));
        layers.push(QFormerLayer {
            attention: attention(at.at("attention"))?,
            crossattention: attention(at.at("crossattention"))?,
            intermediate: at.linear("intermediate.dense", config.ffn_dim, d)?,
            output: at.linear("output.dense", d, config.ffn_dim)?,
            output_norm: at.layer_norm("output.LayerNorm", d, QFORMER_NORM_EPS)?,
        });
    }
    let prompt_shape = [1, config.prompt_size, d];
    Ok(AcousticConnector {
        layer_prompts: at.stacked(config.n_targets, |t| format!("layer_prompts.{t}"), &prompt_shape, d)?,
        layer_weights: at.dense("layer_weights", &[config.prompt_size, config.n_targets])?,
        layers,
        proj_norm: at.layer_norm("proj.0", d, LAYER_NORM_EPS)?,
        proj: at.linear("proj.1", config.d_model, d)?,
    })
}

/// `hidden[..valid_rows]` -> `out[row0 ..][..valid_rows / 4]`.
fn record_semantic(
    plan: &mut PlanBuilder,
    weights: &SemanticConnector,
    hidden: &Tensor,
    valid_rows: usize,
    (out, out_row0): (&Tensor, usize),
) -> Result<()> {
    let rows = valid_rows / SEMANTIC_RATE;
    if rows == 0 {
        return Err(Error::Shape {
            op: "semantic_connector",
            operand: hidden.name.clone(),
            expected: format!("at least {SEMANTIC_RATE} valid rows"),
            got: vec![valid_rows],
        });
    }
    // The surplus of up to three rows is cut first: convolutions do not see it.
    let used = rows * SEMANTIC_RATE;
    let gpu = plan.gpu().clone();
    let buffer = |name: &str, rows: usize, cols: usize| {
        gpu.tensor(&format!("semantic.{name}"), DType::F32, &[rows, cols])
    };
    let d = weights.conv0.weight.rows;
    let d_model = weights.linear2.weight.rows;
    let fine = buffer("conv0", used, d)?;
    let coarse = buffer("conv2", rows, weights.conv2.weight.rows)?;
    let inner = buffer("linear0", rows, d)?;
    let wide = buffer("linear2", rows, d_model)?;
    conv1d(plan, hidden, used, &weights.conv0, Activation::Gelu, false, &fine)?;
    conv1d(plan, &fine, used, &weights.conv2, Activation::None, false, &coarse)?;
    for (linear, x, out) in [(&weights.linear0, &coarse, &inner), (&weights.linear2, &inner, &wide)] {
        matmul(
            plan,
            Matmul {
                bias: linear.bias.as_ref(),
                activation: Activation::Relu,
                ..Matmul::new(x, rows, &linear.weight, out)
            },
        )?;
    }
    layer_norm(plan, (&wide, 0), rows, &weights.layernorm, (out, out_row0))
}

/// Hidden states of the targets, whole -> `out` `[prompt_size, d_model]`. The prompts of all targets go
/// through the shared layers as one stack of rows; only attention separates them.
fn record_acoustic(
    plan: &mut PlanBuilder,
    config: &AdapterConfig,
    weights: &AcousticConnector,
    targets: &[&Tensor],
    out: &Tensor,
) -> Result<()> {
    let gpu = plan.gpu().clone();
    let (d, p) = (config.d_audio, config.prompt_size);
    let rows = p * targets.len();
    let memory_rows = targets.first().map_or(0, |t| t.shape[0]);
    let buffer = |name: &str, rows: usize, cols: usize| {
        gpu.tensor(&format!("acoustic.{name}"), DType::F32, &[rows, cols])
    };
    let [x, sum, q, attn] =
        [buffer("x", rows, d)?, buffer("sum", rows, d)?, buffer("q", rows, d)?, buffer("attn", rows, d)?];
    let [k, v] = [buffer("k", rows.max(memory_rows), d)?, buffer("v", rows.max(memory_rows), d)?];
    let ffn = buffer("ffn", rows, config.ffn_dim)?;
    let [mixed, normed] = [buffer("mixed", p, d)?, buffer("normed", p, d)?];
    let head_dim = d / config.n_heads;

    let project = |plan: &mut PlanBuilder, linear: &Linear, x: &Tensor, rows: usize, out: &Tensor| {
        matmul(plan, Matmul { bias: linear.bias.as_ref(), ..Matmul::new(x, rows, &linear.weight, out) })
    };
    let attend = |plan: &mut PlanBuilder, target: usize, kv_rows: (usize, usize)| {
        attention(
            plan,
            Attention {
                q: (&q, target * p, p),
                k: &k,
                v: &v,
                kv_rows,
                n_heads: config.n_heads,
                n_kv_heads: config.n_heads,
                head_dim,
                out: (&attn, target * p),
            },
        )
    };
    // x = LN(dense(y) + x), the post-norm residual of BERT
    let close = |plan: &mut PlanBuilder, dense: &Linear, y: &Tensor, norm: &LayerNormWeights| -> Result<()> {
        copy_rows(plan, (&x, 0), rows, (&sum, 0))?;
        matmul(
            plan,
            Matmul {
                bias: dense.bias.as_ref(),
                accumulate: true,
                ..Matmul::new(y, rows, &dense.weight, &sum)
            },
        )?;
        layer_norm(plan, (&sum, 0), rows, norm, (&x, 0))
    };

    copy_rows(plan, (&weights.layer_prompts, 0), rows, (&x, 0))?;
    for layer in &weights.layers {
        let block = &layer.attention;
        for (linear, out) in [(&block.query, &q), (&block.key, &k), (&block.value, &v)] {
            project(plan, linear, &x, rows, out)?;
        }
        for target in 0..targets.len() {
            attend(plan, target, (target * p, p))?;
        }
        close(plan, &block.dense, &attn, &block.norm)?;

        let block = &layer.crossattention;
        project(plan, &block.query, &x, rows, &q)?;
        for (target, memory) in targets.iter().enumerate() {
            project(plan, &block.key, memory, memory_rows, &k)?;
            project(plan, &block.value, memory, memory_rows, &v)?;
            attend(plan, target, (0, memory_rows))?;
        }
        close(plan, &block.dense, &attn, &block.norm)?;

        let up = &layer.intermediate;
        matmul(
            plan,
            Matmul {
                bias: up.bias.as_ref(),
                activation: Activation::Gelu,
                ..Matmul::new(&x, rows, &up.weight, &ffn)
            },
        )?;
        close(plan, &layer.output, &ffn, &layer.output_norm)?;
    }
    qformer_mix(plan, &x, &weights.layer_weights, &mixed)?;
    layer_norm(plan, (&mixed, 0), p, &weights.proj_norm, (&normed, 0))?;
    project(plan, &weights.proj, &normed, p, out)
}
