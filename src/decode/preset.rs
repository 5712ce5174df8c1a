//! Named decoders: good settings without knowing any of the parts. What each costs and how often it gives
//! the exact answer is measured in `docs/BENCHMARKS.md`.

use std::str::FromStr;

use crate::decode::options::{Cache, DecodeOptions, Rule};
use crate::error::{Error, Result};

/// A named choice of cache, commit rule and early end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// The reference's tokens at every step, with all redundant work removed.
    Exact,
    /// Commits every row the model is sure of; every forward sees all rows, nothing is stale. Ends at the
    /// end token.
    #[default]
    Balanced,
    /// The profile rule over a dual cache; ends at the end token or as soon as the answer is settled.
    Fast,
}

impl Preset {
    /// All presets, most faithful first.
    pub const ALL: [Preset; 3] = [Preset::Exact, Preset::Balanced, Preset::Fast];

    /// Name as a user writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Preset::Exact => "exact",
            Preset::Balanced => "balanced",
            Preset::Fast => "fast",
        }
    }

    /// Sets what the preset decides and leaves the rest. `stop_ids`: the model's end tokens, the one to
    /// fill with first.
    pub fn apply(self, options: &mut DecodeOptions, stop_ids: &[u32]) {
        let (cache, rule, stops, gaps) = match self {
            Preset::Exact => (Cache::None, Rule::Quota, false, None),
            Preset::Balanced => (Cache::None, Rule::Threshold(0.95), true, None),
            Preset::Fast => (Cache::Dual, Rule::Profile(0.75), true, Some(SETTLED_GAPS)),
        };
        options.cache = cache;
        options.rule = rule;
        options.stop_ids = if stops { stop_ids.to_vec() } else { Vec::new() };
        options.settled_gaps = gaps;
    }
}

/// Prophet's bars for the mean logit gap in the first, second and last third of a block.
pub const SETTLED_GAPS: [f32; 3] = [7.5, 5.0, 2.5];

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Preset::ALL
            .into_iter()
            .find(|p| p.name() == text)
            .ok_or_else(|| Error::usage("--preset", format!("`{text}` is not one of exact, balanced, fast")))
    }
}
