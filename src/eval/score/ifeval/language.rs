//! The language of a text, as the langdetect library sees it.
//!
//! That library walks at random through the character sequences of a text, and the published program does not seed
//! it. The walk is therefore done with seven seeds; a verdict that is not the same for all of them is left to
//! chance. Text without any usable letter has no language.

use langdetect::{DetectorFactory, Seed};

/// Seeds tried; what they do not agree on is open.
const SEEDS: u64 = 7;

/// Whether the language of `text` is `code`. Text without a language counts as being in it; none if chance decides.
pub(super) fn is_language(text: &str, code: &str) -> Option<bool> {
    let factory = DetectorFactory::builtin();
    let mut verdict = None;
    for seed in 0..SEEDS {
        let Ok(mut detector) = factory.create() else { return None };
        detector.seed = Seed::Int(seed.into());
        detector.append(text);
        let agrees = detector.detect().map_or(true, |language| language == code);
        if verdict.is_some_and(|verdict| verdict != agrees) {
            return None;
        }
        verdict = Some(agrees);
    }
    verdict
}
