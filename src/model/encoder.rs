//! The Whisper encoder: samples -> log-mel -> hidden states, as two frozen plans.
//!
//! Reference: `whisper_encoder` of the PyTorch reference and Hugging Face's `WhisperEncoder`; docs/MODEL.md 2, 3.
//! All positions of the window are computed and attended, padding included, whatever the clip's length.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::gpu::plan::{Plan, PlanBuilder};
use crate::gpu::{DType, Gpu, Tensor};
use crate::model::config::WhisperConfig;
use crate::model::weights::{Linear, LoadProgress, WeightReader};
use crate::ops::attention::{Attention, attention};
use crate::ops::conv::{Conv1d, conv1d};
use crate::ops::elementwise::copy_rows;
use crate::ops::matmul::{Activation, Matmul, matmul};
use crate::ops::mel::{MelTables, log_mel};
use crate::ops::norm::{LayerNormWeights, layer_norm};

const LAYER_NORM_EPS: f32 = 1e-5;

#[derive(Debug)]
struct EncoderLayer {
    self_attn_layer_norm: LayerNormWeights,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    final_layer_norm: LayerNormWeights,
    fc1: Linear,
    fc2: Linear,
}

impl EncoderLayer {
    fn products(&self) -> [(DType, usize, usize); 6] {
        [&self.q_proj, &self.k_proj, &self.v_proj, &self.out_proj, &self.fc1, &self.fc2]
            .map(|linear| (linear.weight.dtype, linear.weight.rows, linear.weight.cols))
    }
}

#[derive(Debug)]
struct EncoderWeights {
    conv1: Conv1d,
    conv2: Conv1d,
    embed_positions: Tensor,
    layers: Vec<EncoderLayer>,
    layer_norm: LayerNormWeights,
}

/// A loaded encoder with its buffers and plans. One clip at a time.
#[derive(Debug)]
pub struct Encoder {
    config: WhisperConfig,
    products: Vec<(DType, usize, usize)>,
    samples: Tensor,
    mel_plan: Plan,
    plan: Plan,
    /// Log-mel `[n_frames, n_mels]`, time-major.
    pub mel: Tensor,
    /// Kept hidden states `(index, [max_source_positions, d_model])`. Index i < n_layers is the *input*
    /// of layer i; index n_layers is the final norm's output.
    pub hidden_states: Vec<(usize, Tensor)>,
}

/// How much of a window a clip fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidLengths {
    /// Samples used (at most one window).
    pub samples: usize,
    /// Mel frames with sound: `ceil(samples / hop_length)`.
    pub frames: usize,
    /// Encoder rows with sound: `(frames - 1) / 2 + 1`.
    pub rows: usize,
}

impl Encoder {
    /// Loads the encoder of a Whisper checkpoint and keeps the hidden states listed in `taps`; the final
    /// one, index n_layers, is always kept.
    pub fn load(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        config: &WhisperConfig,
        taps: &[usize],
        progress: LoadProgress<'_>,
    ) -> Result<Encoder> {
        let prefix = config.check(checkpoint)?;
        let weights = read_weights(&WeightReader::new(gpu, checkpoint, prefix, progress), config)?;
        let mut products: Vec<_> = weights.layers.iter().flat_map(EncoderLayer::products).collect();
        products.sort_unstable();
        products.dedup();
        let tables =
            MelTables::new(gpu, config.n_fft, config.hop_length, config.n_mels, config.sampling_rate)?;

        let rows = config.max_source_positions;
        let samples = gpu.tensor("encoder.samples", DType::F32, &[config.n_samples])?;
        let power = gpu.tensor("mel.power", DType::F32, &[config.n_frames, config.n_fft / 2 + 1])?;
        let top = gpu.tensor("mel.top", DType::F32, &[1])?;
        let mel = gpu.tensor("mel", DType::F32, &[config.n_frames, config.n_mels])?;
        let mut hidden_states = Vec::new();
        for index in taps.iter().copied().filter(|i| *i < config.n_layers).chain([config.n_layers]) {
            let name = format!("encoder.hidden.{index}");
            hidden_states.push((index, gpu.tensor(&name, DType::F32, &[rows, config.d_model])?));
        }

        let mut mel_plan = PlanBuilder::new(gpu, "mel");
        log_mel(&mut mel_plan, &samples, &tables, &power, &top, &mel)?;
        let mut plan = PlanBuilder::new(gpu, "encoder");
        record_encoder(&mut plan, config, &weights, &mel, &hidden_states)?;
        let (mel_plan, plan) = (mel_plan.freeze()?, plan.freeze()?);
        Ok(Encoder { config: config.clone(), products, samples, mel_plan, plan, mel, hidden_states })
    }

    /// Runs the encoder on 16 kHz mono samples; what lies beyond the window is not heard. Results are in
    /// `mel` and `hidden_states`.
    ///
    /// Errors: device errors only; see [`Encoder::valid_lengths`] for clips that are too short.
    pub fn run(&self, gpu: &Gpu, samples: &[f32]) -> Result<()> {
        self.queue_mel(gpu, samples);
        self.encode(gpu)
    }

    /// Computes `mel` alone.
    pub fn hear(&self, gpu: &Gpu, samples: &[f32]) -> Result<()> {
        self.queue_mel(gpu, samples);
        gpu.wait()
    }

    /// Computes `hidden_states` from what is in `mel`.
    pub fn encode(&self, gpu: &Gpu) -> Result<()> {
        self.plan.run(gpu)
    }

    /// From samples to log-mel, and from there to the hidden states.
    pub(crate) fn plans(&self) -> (&Plan, &Plan) {
        (&self.mel_plan, &self.plan)
    }

    fn queue_mel(&self, gpu: &Gpu, samples: &[f32]) {
        let mut window = vec![0.0f32; self.config.n_samples];
        let n = samples.len().min(window.len());
        window[..n].copy_from_slice(&samples[..n]);
        gpu.write(&self.samples, &window);
        gpu.submit(self.mel_plan.replay(gpu));
    }

    /// Lengths for a clip of `n` samples.
    pub fn valid_lengths(&self, n: usize) -> ValidLengths {
        let samples = n.min(self.config.n_samples);
        let frames = samples.div_ceil(self.config.hop_length);
        let rows = if frames == 0 { 0 } else { (frames - 1) / 2 + 1 };
        ValidLengths { samples, frames, rows }
    }

    /// The products of the layers, `(type, n, k)`, each kind once.
    pub fn products(&self) -> &[(DType, usize, usize)] {
        &self.products
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &WhisperConfig {
        &self.config
    }

    /// The hidden state with this index.
    pub fn hidden(&self, index: usize) -> Result<&Tensor> {
        let found = self.hidden_states.iter().find(|(i, _)| *i == index);
        found.map(|(_, tensor)| tensor).ok_or_else(|| Error::Shape {
            op: "encoder",
            operand: format!("hidden state {index}"),
            expected: format!("one of {:?}", self.hidden_states.iter().map(|(i, _)| *i).collect::<Vec<_>>()),
            got: vec![index],
        })
    }
}

fn read_weights(at: &WeightReader<'_>, config: &WhisperConfig) -> Result<EncoderWeights> {
    let (d, ffn) = (config.d_model, config.ffn_dim);
    let conv = |name: &str, channels: usize, stride: usize| -> Result<Conv1d> {
        let at = at.at(name);
        let weight = at.conv_matrix("weight", [d, channels, 3])?;
        Ok(Conv1d { weight, bias: at.vector("bias", d)?, kernel: 3, stride, pad: 1 })
    };
    let mut layers = Vec::with_capacity(config.n_layers);
    for i in 0..config.n_layers {
        let at = at.at(format!("layers.{i}"));
        layers.push(EncoderLayer {
            self_attn_layer_norm: at.layer_norm("self_attn_layer_norm", d, LAYER_NORM_EPS)?,
            q_proj: at.linear("self_attn.q_proj", d, d)?,
            k_proj: at.linear_no_bias("self_attn.k_proj", d, d)?,
            v_proj: at.linear("self_attn.v_proj", d, d)?,
            out_proj: at.linear("self_attn.out_proj", d, d)?,
            final_layer_norm: at.layer_norm("final_layer_norm", d, LAYER_NORM_EPS)?,
            fc1: at.linear("fc1", ffn, d)?,
            fc2: at.linear("fc2", d, ffn)?,
        });
    }
    Ok(EncoderWeights {
        conv1: conv("conv1", config.n_mels, 1)?,
        conv2: conv("conv2", d, 2)?,
        embed_positions: at.dense("embed_positions.weight", &[config.max_source_positions, d])?,
        layers,
        layer_norm: at.layer_norm("layer_norm", d, LAYER_NORM_EPS)?,
    })
}

fn record_encoder(
    plan: &mut PlanBuilder,
    config: &WhisperConfig,
    weights: &EncoderWeights,
    mel: &Tensor,
    hidden_states: &[(usize, Tensor)],
) -> Result<()> {
    let gpu = plan.gpu().clone();
    let (rows, d) = (config.max_source_positions, config.d_model);
    let buffer = |name: &str, rows: usize, cols: usize| {
        gpu.tensor(&format!("encoder.{name}"), DType::F32, &[rows, cols])
    };
    let stem = buffer("stem", config.n_frames, d)?;
    let [x, h, q, k, v, attn] = [
        buffer("x", rows, d)?,
        buffer("h", rows, d)?,
        buffer("q", rows, d)?,
        buffer("k", rows, d)?,
        buffer("v", rows, d)?,
        buffer("attn", rows, d)?,
    ];
    let ffn = buffer("ffn", rows, config.ffn_dim)?;
    let tap = |index: usize| hidden_states.iter().find(|(i, _)| *i == index).map(|(_, tensor)| tensor);

    conv1d(plan, mel, config.n_frames, &weights.conv1, Activation::Gelu, false, &stem)?;
    // x = embed_positions + gelu(conv2(stem))
    copy_rows(plan, (&weights.embed_positions, 0), rows, (&x, 0))?;
    conv1d(plan, &stem, config.n_frames, &weights.conv2, Activation::Gelu, true, &x)?;

    for (i, layer) in weights.layers.iter().enumerate() {
        if let Some(tap) = tap(i) {
            copy_rows(plan, (&x, 0), rows, (tap, 0))?;
        }
        layer_norm(plan, (&x, 0), rows, &layer.self_attn_layer_norm, (&h, 0))?;
        for (linear, out) in [(&layer.q_proj, &q), (&layer.k_proj, &k), (&layer.v_proj, &v)] {
            matmul(
                plan,
                Matmul { bias: linear.bias.as_ref(), ..Matmul::new(&h, rows, &linear.weight, out) },
            )?;
        }
        let heads = (config.n_heads, config.head_dim());
        attention(
            plan,
            Attention {
                q: (&q, 0, rows),
                k: &k,
                v: &v,
                kv_rows: (0, rows),
                n_heads: heads.0,
                n_kv_heads: heads.0,
                head_dim: heads.1,
                out: (&attn, 0),
            },
        )?;
        let out_proj = &layer.out_proj;
        matmul(
            plan,
            Matmul {
                bias: out_proj.bias.as_ref(),
                accumulate: true,
                ..Matmul::new(&attn, rows, &out_proj.weight, &x)
            },
        )?;
        layer_norm(plan, (&x, 0), rows, &layer.final_layer_norm, (&h, 0))?;
        let (fc1, fc2) = (&layer.fc1, &layer.fc2);
        matmul(
            plan,
            Matmul {
                bias: fc1.bias.as_ref(),
                activation: Activation::Gelu,
                ..Matmul::new(&h, rows, &fc1.weight, &ffn)
            },
        )?;
        matmul(
            plan,
            Matmul { bias: fc2.bias.as_ref(), accumulate: true, ..Matmul::new(&ffn, rows, &fc2.weight, &x) },
        )?;
    }
    if let Some(last) = tap(config.n_layers) {
        layer_norm(plan, (&x, 0), rows, &weights.layer_norm, (last, 0))?;
    }
    Ok(())
}
