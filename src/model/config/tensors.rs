//! Lists of a model's tensors, and checking a checkpoint against one.

use std::collections::HashSet;

use super::TensorList;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// Collects a [`TensorList`].
#[derive(Default)]
pub(super) struct Tensors {
    pub(super) list: TensorList,
    at: String,
}

impl Tensors {
    pub(super) fn at(&mut self, prefix: &str) {
        self.at = prefix.to_string();
    }

    pub(super) fn push(&mut self, name: &str, shape: &[usize]) {
        self.list.push((format!("{}{name}", self.at), shape.to_vec()));
    }

    pub(super) fn weight(&mut self, name: &str, shape: &[usize]) {
        self.push(&format!("{name}.weight"), shape);
    }

    pub(super) fn with_bias(&mut self, name: &str, shape: &[usize]) {
        self.weight(name, shape);
        self.push(&format!("{name}.bias"), &shape[..1]);
    }

    pub(super) fn norm(&mut self, name: &str, d: usize) {
        self.with_bias(name, &[d]);
    }
}

pub(super) fn find_prefix(
    checkpoint: &Checkpoint,
    prefixes: &[&'static str],
    tensor: &str,
    what: &str,
) -> Result<&'static str> {
    checkpoint.prefix_of(prefixes, tensor).ok_or_else(|| {
        let names: Vec<_> = prefixes.iter().map(|p| format!("`{p}{tensor}`")).collect();
        let has: Vec<_> = checkpoint.names().take(3).map(|n| format!("`{n}`")).collect();
        let reason =
            format!("holds no {what}: it has no tensor {}, but {} ...", names.join(" or "), has.join(", "));
        Error::Weights { path: checkpoint.dir().into(), reason }
    })
}

/// What to do with tensors under the prefix that the configuration does not call for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Surplus {
    /// A layer too many means that configuration and weights do not match.
    Refused,
    /// Adapter releases carry copies of other models and leftovers of training.
    Skipped,
}

/// Checks that all of `tensors` are there in their shapes, and nothing else where that is refused.
pub(super) fn check_all(
    checkpoint: &Checkpoint,
    prefix: &'static str,
    tensors: &TensorList,
    surplus: Surplus,
) -> Result<&'static str> {
    for (name, shape) in tensors {
        checkpoint.check(&format!("{prefix}{name}"), shape)?;
    }
    if surplus == Surplus::Skipped {
        return Ok(prefix);
    }
    let known: HashSet<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    // Some exports carry RoPE tables, or the output matrix beside tied weights; both are harmless.
    let harmless = |rest: &str| rest.ends_with("inv_freq") || rest == "ff_out.weight";
    let is_surplus =
        |name: &&str| name.strip_prefix(prefix).is_some_and(|rest| !known.contains(rest) && !harmless(rest));
    match checkpoint.names().find(is_surplus) {
        None => Ok(prefix),
        Some(name) => Err(Error::Weights {
            path: checkpoint.file_of(name).into(),
            reason: format!(
                "tensor `{name}` is surplus: the configuration describes a model without it, so the files do not match"
            ),
        }),
    }
}
