//! A case on the device: its operands, its plan, and what a run leaves behind.
//!
//! Outputs start as [`SENTINEL`] and are followed by it, inputs are followed by another word; both are NaN in every
//! float type. A kernel that reads past an operand spreads NaN, one that writes past an output leaves a mark, one
//! that skips an element leaves the poison.

use half::{bf16, f16};

use super::Case;
use super::fill::{Fill, Random};
use crate::error::Result;
use crate::fnv::fnv1a;
use crate::gpu::memory::Upload;
use crate::gpu::plan::{Plan, PlanBuilder};
use crate::gpu::{DType, Gpu, Matrix, Slab, Tensor};

/// Poison and guard word: NaN as f32, as two f16 and as two bf16; no valid index.
pub const SENTINEL: u32 = 0x7fff_7fff;
/// Guard word behind inputs; not the same, because a NaN keeps its bits on the way to an output.
const INPUT_GUARD: u32 = 0x7fc1_7fc1;
/// Guard words after every tensor.
const GUARD_WORDS: usize = 64;

/// An operand as the reference sees it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// The values as stored on the device, widened.
    pub data: Vec<f64>,
}

/// One output after a run.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its words; of halves, each widened to a float of its own ([`SENTINEL`] where it is the poison's half).
    pub words: Vec<u32>,
    /// False if a guard word behind it changed.
    pub guards_intact: bool,
}

/// What a run of a case left behind.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The inputs.
    pub inputs: Vec<Host>,
    /// The outputs after the last replay.
    pub outputs: Vec<Found>,
    /// True if all replays left the same words.
    pub repeatable: bool,
    /// Kernels that the plan dispatched, in order.
    pub kernels: Vec<&'static str>,
}

/// Operands on the device.
#[derive(Debug)]
pub(crate) struct Operands {
    inputs: Vec<Matrix>,
    outputs: Vec<Tensor>,
}

impl Operands {
    /// Input `i` as a tensor (its first slab).
    pub(crate) fn input(&self, i: usize) -> &Tensor {
        &self.inputs[i].slabs[0].tensor
    }

    /// Input `i` as a matrix.
    pub(crate) fn matrix(&self, i: usize) -> &Matrix {
        &self.inputs[i]
    }

    /// Output `i`.
    pub(crate) fn output(&self, i: usize) -> &Tensor {
        &self.outputs[i]
    }
}

/// A case with everything on the device.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) operands: Operands,
    starts: Vec<Option<Vec<u8>>>,
}

impl Case {
    fn content(&self, index: usize) -> Vec<u8> {
        let input = &self.inputs[index];
        // Of the names: content does not depend on the order of cases.
        let seed = fnv1a(self.to_string().bytes().chain(input.name.bytes()));
        let len: usize = input.shape.iter().product();
        match (&input.fill, input.dtype) {
            (Fill::Words(words), _) => bytemuck::cast_slice(words).to_vec(),
            (Fill::Below(bound), _) => {
                let mut random = Random::new(seed);
                (0..len).flat_map(|_| random.below(*bound).to_ne_bytes()).collect()
            }
            (fill, DType::F16) => {
                fill.floats(len, seed).iter().flat_map(|v| f16::from_f32(*v).to_ne_bytes()).collect()
            }
            (fill, DType::Bf16) => {
                fill.floats(len, seed).iter().flat_map(|v| bf16::from_f32(*v).to_ne_bytes()).collect()
            }
            (fill, DType::Q(format)) => {
                let cols: usize = input.shape[1..].iter().product();
                let mut bytes = vec![0; input.dtype.bytes(&input.shape)];
                let rows = bytes.chunks_exact_mut(format.row_bytes(cols));
                rows.zip(fill.floats(len, seed).chunks_exact(cols))
                    .for_each(|(out, row)| format.quantize_row(row, out));
                bytes
            }
            (fill, DType::F32 | DType::U32) => bytemuck::cast_slice(&fill.floats(len, seed)).to_vec(),
        }
    }

    /// Puts the operands on the device and records the plan.
    pub(crate) fn prepare(&self, gpu: &Gpu) -> Result<Prepared> {
        let mut inputs = Vec::new();
        for (index, input) in self.inputs.iter().enumerate() {
            let bytes = self.content(index);
            let row = input.dtype.row_bytes(input.shape[1..].iter().product());
            let slab_rows = if input.slabs.is_empty() { vec![input.shape[0]] } else { input.slabs.clone() };
            let mut slabs = Vec::new();
            let mut first_row = 0;
            for rows in slab_rows {
                let mut shape = input.shape.clone();
                shape[0] = rows;
                let part = &bytes[first_row * row..(first_row + rows) * row];
                slabs.push(Slab {
                    first_row,
                    tensor: guarded(gpu, input.name, input.dtype, &shape, Some(part))?,
                });
                first_row += rows;
            }
            let cols = input.shape[1..].iter().product();
            inputs.push(Matrix {
                name: input.name.into(),
                dtype: input.dtype,
                rows: input.shape[0],
                cols,
                slabs,
            });
        }
        let outputs = self
            .outputs
            .iter()
            .map(|o| guarded(gpu, o.name, o.words[0], &o.shape, None))
            .collect::<Result<Vec<_>>>()?;
        let starts = self.outputs.iter().map(|o| o.start.map(|index| self.content(index))).collect();
        let operands = Operands { inputs, outputs };
        let mut builder = PlanBuilder::new(gpu, self.kernel);
        (self.record)(&mut builder, &operands)?;
        Ok(Prepared { plan: builder.freeze()?, operands, starts })
    }

    /// Runs the case `replays` times on fresh poison and returns everything a check needs.
    pub fn run(&self, gpu: &Gpu, replays: usize) -> Result<Outcome> {
        let prepared = self.prepare(gpu)?;
        let mut outputs = Vec::new();
        let mut repeatable = true;
        for replay in 0..replays {
            prepared.reset(gpu);
            prepared.plan.run(gpu)?;
            let found = prepared.found(gpu)?;
            let same = |(a, b): (&Found, &Found)| a.words == b.words;
            repeatable &= replay == 0 || outputs.iter().zip(&found).all(same);
            outputs = found;
        }
        Ok(Outcome {
            inputs: (0..self.inputs.len()).map(|i| self.host(i)).collect(),
            outputs,
            repeatable,
            kernels: prepared.plan.kernels().collect(),
        })
    }

    fn host(&self, index: usize) -> Host {
        let input = &self.inputs[index];
        let bytes = self.content(index);
        let data = match input.dtype {
            DType::F32 => {
                bytemuck::pod_collect_to_vec::<_, f32>(&bytes).iter().map(|v| f64::from(*v)).collect()
            }
            DType::U32 => {
                bytemuck::pod_collect_to_vec::<_, u32>(&bytes).iter().map(|v| f64::from(*v)).collect()
            }
            DType::F16 => bytemuck::pod_collect_to_vec::<_, f16>(&bytes).iter().map(|v| v.to_f64()).collect(),
            DType::Bf16 => {
                bytemuck::pod_collect_to_vec::<_, bf16>(&bytes).iter().map(|v| v.to_f64()).collect()
            }
            DType::Q(format) => {
                let mut row = vec![0.0; input.shape[1..].iter().product()];
                let rows = bytes.chunks_exact(format.row_bytes(row.len()));
                rows.flat_map(|bytes| {
                    format.dequantize_row(bytes, &mut row);
                    row.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()
                })
                .collect()
            }
        };
        Host { shape: input.shape.clone(), data }
    }
}

impl Prepared {
    /// Poisons the outputs, or gives them their starting content.
    pub(crate) fn reset(&self, gpu: &Gpu) {
        for (tensor, start) in self.operands.outputs.iter().zip(&self.starts) {
            let words = (tensor.buffer().size() / 4) as usize;
            gpu.write(tensor, &vec![SENTINEL; words]);
            if let Some(bytes) = start {
                gpu.write(tensor, bytes);
            }
        }
    }

    fn found(&self, gpu: &Gpu) -> Result<Vec<Found>> {
        let read = |tensor: &Tensor| {
            let shape = vec![(tensor.buffer().size() / 4) as usize];
            let all = Tensor { dtype: DType::U32, shape, ..tensor.clone() };
            let mut words: Vec<u32> = gpu.read(&all)?;
            let len = tensor.byte_len() as usize / 4;
            let guards_intact = words[len..].iter().all(|word| *word == SENTINEL);
            words.truncate(len);
            if tensor.dtype == DType::F16 {
                words =
                    words.iter().flat_map(|word| [*word as u16, (word >> 16) as u16].map(widened)).collect();
            }
            Ok(Found { words, guards_intact })
        };
        self.operands.outputs.iter().map(read).collect()
    }
}

/// A half as an f32 of the same value; that of the poison as the whole of it.
fn widened(half: u16) -> u32 {
    if half == SENTINEL as u16 { SENTINEL } else { f16::from_bits(half).to_f32().to_bits() }
}

/// A tensor with guard words behind it that its shape does not show.
fn guarded(gpu: &Gpu, name: &str, dtype: DType, shape: &[usize], bytes: Option<&[u8]>) -> Result<Tensor> {
    let len = dtype.bytes(shape);
    // Whole vec4s, as buffers are, so that the guard reaches the end.
    let words = (len.div_ceil(4) + GUARD_WORDS).next_multiple_of(4);
    let tensor = gpu.tensor(name, DType::U32, &[words])?;
    if let Some(bytes) = bytes {
        let guard = INPUT_GUARD.to_ne_bytes();
        let mut data = bytes.to_vec();
        data.extend((data.len()..words * 4).map(|i| guard[i % 4]));
        // In two pieces, as the parts of stacked matrices come.
        let (head, tail) = data.split_at(data.len() / 8 * 4);
        let mut upload = Upload::new(gpu);
        upload.write(&tensor, 0, head)?;
        upload.write(&tensor, head.len(), tail)?;
    }
    Ok(Tensor { dtype, shape: shape.to_vec(), ..tensor })
}
