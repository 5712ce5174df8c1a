//! Settings of a decode and their checks. Names and defaults are the reference's `generate()`; docs/MODEL.md 6.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::ops::kept::CacheDtype;
use crate::ops::lm_head::IdRules;

/// Which predictions stay masked after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Remasking {
    /// The least confident ones.
    #[default]
    LowConfidence,
    /// Random ones.
    Random,
}

impl FromStr for Remasking {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "low_confidence" => Ok(Remasking::LowConfidence),
            "random" => Ok(Remasking::Random),
            _ => Err(Error::usage("--remasking", format!("`{text}` is neither low_confidence nor random"))),
        }
    }
}

/// How many rows a step commits.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Rule {
    /// The fixed schedule: a block's masks, divided evenly among its steps.
    #[default]
    Quota,
    /// Every row at least this confident, at least one; until the block is full (Fast-dLLM, arXiv 2505.22618).
    Threshold(f32),
    /// The n best rows while the n-th has confidence >= 1 - factor / (n + 1); until the block is full (Fast-dLLM).
    Factor(f32),
    /// The n best rows while the doubts of all n, plus that of the n-th again, sum to less than the value;
    /// until the block is full (Fast-dLLM++, arXiv 2606.02955, with value = 1 - margin).
    Profile(f32),
}

/// Which keys and values are kept between the steps of a block (Fast-dLLM; docs/MODEL.md 6.4, 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cache {
    /// Every row is computed at every step: the reference's decoder, exact.
    #[default]
    None,
    /// Rows before the block are kept; the block and everything after it is computed. Approximate.
    Prefix,
    /// All rows but the block's own are kept. Approximate.
    Dual,
}

impl FromStr for Cache {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Cache::None),
            "prefix" => Ok(Cache::Prefix),
            "dual" => Ok(Cache::Dual),
            _ => Err(Error::usage("--cache", format!("`{text}` is not one of none, prefix, dual"))),
        }
    }
}

impl FromStr for CacheDtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [CacheDtype::F32, CacheDtype::F16]
            .into_iter()
            .find(|dtype| dtype.name() == text)
            .ok_or_else(|| Error::usage("--cache-dtype", format!("`{text}` is neither f32 nor f16")))
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let number = || {
            value.parse::<f32>().map_err(|_| {
                Error::usage("--rule", format!("`{text}` needs a number, for example {name}=0.9"))
            })
        };
        match name {
            "quota" if value.is_empty() => Ok(Rule::Quota),
            "threshold" => Ok(Rule::Threshold(number()?)),
            "factor" => Ok(Rule::Factor(number()?)),
            "profile" => Ok(Rule::Profile(number()?)),
            _ => Err(Error::usage(
                "--rule",
                format!("`{text}` is not one of quota, threshold=F, factor=F, profile=F"),
            )),
        }
    }
}

/// All settings of one decode.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeOptions {
    /// Denoising steps in total, divided evenly among the blocks.
    pub steps: usize,
    /// Answer rows.
    pub gen_length: usize,
    /// Rows denoised together, blocks going left to right.
    pub block_length: usize,
    /// Gumbel noise on the logits; 0 is greedy.
    pub temperature: f32,
    /// Classifier-free guidance; 0 is off.
    pub cfg_scale: f32,
    /// Which predictions stay masked.
    pub remasking: Remasking,
    /// How many are committed.
    pub rule: Rule,
    /// Ids never predicted, or predicted with confidence 0.
    pub id_rules: IdRules,
    /// Keys and values kept within a block.
    pub cache: Cache,
    /// Type of keys and values, kept or not: f16 takes half their memory and traffic and rounds them.
    pub cache_dtype: CacheDtype,
    /// End the answer once one of these ids (at most two) is committed with no mask before it in its block
    /// (the DIFFA-2 rule); the rest of the answer becomes the first of them.
    pub stop_ids: Vec<u32>,
    /// Commit all that is left of a block once the mean gap between the two best logits of its masked rows
    /// reaches the bar for the (first, second, last) third of the block (Prophet, arXiv 2508.19982).
    pub settled_gaps: Option<[f32; 3]>,
    /// Seed of noise and random remasking.
    pub seed: u32,
}

impl Default for DecodeOptions {
    /// The reference's `generate()`: 128 steps, 128 rows, blocks of 32, greedy.
    fn default() -> Self {
        DecodeOptions {
            steps: 128,
            gen_length: 128,
            block_length: 32,
            temperature: 0.0,
            cfg_scale: 0.0,
            remasking: Remasking::default(),
            rule: Rule::default(),
            id_rules: IdRules::default(),
            cache: Cache::default(),
            cache_dtype: CacheDtype::default(),
            stop_ids: Vec::new(),
            settled_gaps: None,
            seed: 0,
        }
    }
}

impl DecodeOptions {
    /// Options with the three lengths set and everything else at its default.
    pub fn new(steps: usize, block_length: usize, gen_length: usize) -> Self {
        DecodeOptions { steps, gen_length, block_length, ..Default::default() }
    }

    /// Number of blocks.
    pub fn n_blocks(&self) -> usize {
        self.gen_length / self.block_length
    }

    /// Steps the fixed schedule gives each block.
    pub fn steps_per_block(&self) -> usize {
        self.steps / self.n_blocks()
    }

    /// True if a block lasts until it is full, however many steps that takes.
    pub fn is_until_empty(&self) -> bool {
        self.rule != Rule::Quota || self.cache != Cache::None
    }

    /// Steps after which a block is given up: a model may predict the mask token again and again.
    pub fn max_steps_per_block(&self) -> usize {
        match self.is_until_empty() {
            true => 4 * self.block_length.max(self.steps_per_block()),
            false => self.steps_per_block(),
        }
    }

    /// The most rows one step can commit.
    pub fn max_commits(&self) -> usize {
        match (self.rule, self.settled_gaps) {
            (Rule::Quota, None) => self.block_length.div_ceil(self.steps_per_block()),
            _ => self.block_length,
        }
    }

    /// Plans needed for cached steps: their rows depend on the block only with the prefix cache.
    pub(crate) fn cached_plans(&self) -> usize {
        match self.cache {
            Cache::None => 0,
            Cache::Dual => 1,
            Cache::Prefix => self.n_blocks(),
        }
    }

    /// Checks every setting and their combination. Errors name the option and a value that would do.
    pub fn validate(&self) -> Result<()> {
        let (g, bl) = (self.gen_length, self.block_length);
        if g == 0 {
            return Err(Error::usage("--gen-length", "must be at least 1"));
        }
        if bl == 0 || !g.is_multiple_of(bl) {
            let fit: Vec<String> =
                (1..=g).rev().filter(|n| g % n == 0).take(4).map(|n| n.to_string()).collect();
            return Err(Error::usage(
                "--block-length",
                format!("{bl} does not divide --gen-length {g}; {} would", fit.join(", ")),
            ));
        }
        let blocks = self.n_blocks();
        if self.steps == 0 || !self.steps.is_multiple_of(blocks) {
            let near = self.steps.div_ceil(blocks).max(1) * blocks;
            return Err(Error::usage(
                "--steps",
                format!("{} does not divide evenly among {blocks} blocks of {bl}; {near} would", self.steps),
            ));
        }
        let finite = |option: &str, value: f32| {
            if value.is_finite() && value >= 0.0 {
                Ok(())
            } else {
                Err(Error::usage(option, format!("{value} is not a number of at least 0")))
            }
        };
        finite("--temperature", self.temperature)?;
        finite("--cfg-scale", self.cfg_scale)?;
        match self.rule {
            Rule::Quota => Ok(()),
            Rule::Threshold(value) if (0.0..=1.0).contains(&value) => Ok(()),
            Rule::Threshold(value) => {
                Err(Error::usage("--rule threshold", format!("{value} is not between 0 and 1")))
            }
            Rule::Factor(value) => finite("--rule factor", value),
            Rule::Profile(value) => finite("--rule profile", value),
        }?;
        if self.cfg_scale > 0.0 && self.cache != Cache::None {
            return Err(Error::usage(
                "--cfg-scale",
                "guidance is defined without a cache only; use --cache none",
            ));
        }
        if self.stop_ids.len() > 2 {
            return Err(Error::usage("--stop", "at most two stop tokens are supported"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(options: DecodeOptions) -> String {
        options.validate().unwrap_err().to_string()
    }

    #[test]
    fn published_settings_are_valid() {
        for (steps, block, length) in [(128, 32, 128), (4, 4, 4), (16, 16, 16), (6, 7, 21), (9, 8, 24)] {
            DecodeOptions::new(steps, block, length).validate().unwrap();
        }
    }

    #[test]
    fn errors_name_the_option_and_a_remedy() {
        assert!(message(DecodeOptions::new(16, 5, 16)).contains("--block-length"));
        assert!(message(DecodeOptions::new(16, 0, 16)).contains("--block-length"));
        assert!(message(DecodeOptions::new(7, 8, 16)).contains("8 would"));
        assert!(message(DecodeOptions::new(0, 8, 16)).contains("--steps"));
        assert!(message(DecodeOptions::new(1, 1, 0)).contains("--gen-length"));
        let base = DecodeOptions::new(16, 16, 16);
        assert!(message(DecodeOptions { temperature: f32::NAN, ..base.clone() }).contains("--temperature"));
        assert!(message(DecodeOptions { cfg_scale: -1.0, ..base.clone() }).contains("--cfg-scale"));
        assert!(message(DecodeOptions { rule: Rule::Threshold(1.5), ..base.clone() }).contains("threshold"));
        assert!(message(DecodeOptions { rule: Rule::Factor(-1.0), ..base }).contains("factor"));
    }

    #[test]
    fn quota_bounds_the_commits_of_a_step() {
        assert_eq!(DecodeOptions::new(9, 8, 24).max_commits(), 3);
        assert_eq!(DecodeOptions::new(32, 8, 32).max_commits(), 1);
    }
}
