//! What the model is asked, as rows of the language model.

use crate::error::{Error, Result};
use crate::gpu::plan::PlanBuilder;
use crate::gpu::{DType, Tensor};
use crate::model::forward::{ForwardBuffers, Layout};
use crate::model::llada::Llada;
use crate::ops::elementwise::copy_rows;
use crate::ops::embed::embed;

/// Token ids, and audio rows somewhere between them.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// Prompt token ids.
    pub ids: &'a [u32],
    /// Audio rows `[rows, d_model]` f32 and the token before which they go.
    pub audio: Option<(&'a Tensor, usize)>,
}

impl Prompt<'_> {
    /// Rows before the answer: prompt tokens and audio.
    pub fn rows(&self) -> usize {
        self.ids.len() + self.audio.map_or(0, |(rows, _)| rows.shape[0])
    }

    /// Checks ids and audio against the model.
    pub(crate) fn check(&self, llada: &Llada) -> Result<()> {
        let vocab = llada.config().vocab_size;
        if let Some(id) = self.ids.iter().find(|id| **id as usize >= vocab) {
            return Err(Error::Tokenizer {
                path: llada.config().path.with_file_name("tokenizer.json"),
                reason: format!(
                    "token id {id} is outside the model's vocabulary of {vocab}; the files do not match"
                ),
            });
        }
        if self.ids.is_empty() {
            return Err(Error::usage("PROMPT", "is empty"));
        }
        if let Some((audio, position)) = self.audio {
            audio.check_rows("prompt", 1, llada.config().d_model)?;
            if position > self.ids.len() {
                return Err(Error::Shape {
                    op: "prompt",
                    operand: audio.name.clone(),
                    expected: format!("an audio position within {} tokens", self.ids.len()),
                    got: vec![position],
                });
            }
        }
        Ok(())
    }
}

/// Records the embeddings of all prompt rows into `buffers.context`. With guidance a second set follows,
/// in which every prompt token is masked and the audio rows stay.
pub(crate) fn record_prompts(
    plan: &mut PlanBuilder,
    llada: &Llada,
    prompts: &[Prompt<'_>],
    layout: &Layout,
    buffers: &ForwardBuffers,
) -> Result<()> {
    let gpu = plan.gpu().clone();
    for sequence in 0..layout.sequences() {
        let prompt = &prompts[sequence % prompts.len()];
        let masked = vec![llada.config().mask_token_id; prompt.ids.len()];
        let ids = if sequence < prompts.len() { prompt.ids } else { &masked };
        let ids = gpu.tensor_from("prompt.ids", DType::U32, &[ids.len()], ids)?;
        let n = prompt.ids.len();
        let before = prompt.audio.map_or(n, |(_, position)| position);
        let row = sequence * layout.stride();
        embed(plan, (&ids, 0), before, &llada.wte, (&buffers.context, row))?;
        if let Some((audio, _)) = prompt.audio {
            let rows = audio.shape[0];
            copy_rows(plan, (audio, 0), rows, (&buffers.context, row + before))?;
            embed(plan, (&ids, before), n - before, &llada.wte, (&buffers.context, row + before + rows))?;
        }
    }
    Ok(())
}
