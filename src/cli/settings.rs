//! From arguments to the library's decode options: lengths that follow from each other, end tokens by name.

use diffa::decode::preset::SETTLED_GAPS;
use diffa::{CacheDtype, DecodeOptions, Error, Preset, Result};

use super::args::DecodeArgs;

/// Options for these arguments, checked, but still without the end tokens (see [`add_end_tokens`]).
pub(super) fn decode_options(args: &DecodeArgs, is_demo: bool) -> Result<DecodeOptions> {
    let usual = if is_demo { DecodeOptions::new(16, 16, 16) } else { DecodeOptions::default() };
    decode_options_from(args, &usual)
}

/// The same for a request whose usual lengths are others.
pub(super) fn decode_options_from(args: &DecodeArgs, usual: &DecodeOptions) -> Result<DecodeOptions> {
    let mut options = DecodeOptions {
        temperature: args.temperature,
        cfg_scale: args.cfg_scale,
        remasking: args.remasking.parse()?,
        cache_dtype: args.cache_dtype.parse()?,
        seed: args.seed,
        ..with_lengths(args.steps, args.block_length, args.gen_length, usual)
    };
    preset(args)?.apply(&mut options, &[]);
    if let Some(rule) = &args.rule {
        options.rule = rule.parse()?;
    }
    if let Some(cache) = &args.cache {
        options.cache = cache.parse()?;
    }
    let given = args.settled_gaps.as_deref();
    if given.is_some() && args.stop.as_deref() != Some("answer") && options.settled_gaps.is_none() {
        return Err(Error::usage("--settled-gaps", "is for --stop answer, which was not asked for"));
    }
    let gaps = given.map_or(Ok(SETTLED_GAPS), gaps)?;
    match args.stop.as_deref() {
        Some("answer") => options.settled_gaps = Some(gaps),
        Some(_) => options.settled_gaps = None,
        None => options.settled_gaps = options.settled_gaps.map(|_| gaps),
    }
    options.validate()?;
    Ok(options)
}

fn preset(args: &DecodeArgs) -> Result<Preset> {
    args.preset.parse()
}

/// The same request for the exact decoder, which rounds nothing.
pub(super) fn exact(options: &DecodeOptions) -> DecodeOptions {
    let mut exact = DecodeOptions { cache_dtype: CacheDtype::F32, ..options.clone() };
    Preset::Exact.apply(&mut exact, &[]);
    exact
}

/// Fills in the lengths that were not given, as `--help` says.
fn with_lengths(
    steps: Option<usize>,
    block_length: Option<usize>,
    gen_length: Option<usize>,
    usual: &DecodeOptions,
) -> DecodeOptions {
    let gen_length = gen_length.unwrap_or_else(|| {
        usual.gen_length.next_multiple_of(block_length.unwrap_or(usual.block_length).max(1))
    });
    let block_length = block_length.unwrap_or_else(|| {
        let distance = |d: &usize| d.abs_diff(usual.block_length);
        // In reverse, so that the larger of two equally near divisors wins.
        (1..=gen_length).rev().filter(|d| gen_length.is_multiple_of(*d)).min_by_key(distance).unwrap_or(1)
    });
    let none_given = (gen_length, block_length) == (usual.gen_length, usual.block_length);
    let steps = steps.unwrap_or(if none_given { usual.steps } else { gen_length });
    DecodeOptions::new(steps, block_length, gen_length)
}

fn gaps(text: &str) -> Result<[f32; 3]> {
    let parsed: Option<Vec<f32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    match parsed.as_deref() {
        Some([a, b, c]) if [a, b, c].iter().all(|gap| gap.is_finite()) => Ok([*a, *b, *c]),
        _ => Err(Error::usage(
            "--settled-gaps",
            format!("`{text}` is not three numbers, for example 7.5,5,2.5"),
        )),
    }
}

/// Adds what depends on the model's end tokens: `--stop`, `--ban-eos`, `--late-eos`.
pub(super) fn add_end_tokens(args: &DecodeArgs, ends: Vec<u32>, options: &mut DecodeOptions) {
    if args.ban_eos {
        options.id_rules.banned = ends.first().copied().into_iter().collect();
    }
    if args.late_eos {
        options.id_rules.low_confidence = ends.clone();
    }
    let stops = match args.stop.as_deref() {
        Some(stop) => stop != "none",
        None => args.preset != Preset::Exact.name(),
    };
    if stops {
        options.stop_ids = ends;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(steps: Option<usize>, block: Option<usize>, answer: Option<usize>, demo: bool) -> [usize; 3] {
        let usual = if demo { DecodeOptions::new(16, 16, 16) } else { DecodeOptions::default() };
        let options = with_lengths(steps, block, answer, &usual);
        options.validate().unwrap();
        [options.steps, options.block_length, options.gen_length]
    }

    #[test]
    fn lengths_not_given_follow_from_the_others() {
        assert_eq!(lengths(None, None, None, true), [16, 16, 16]);
        assert_eq!(lengths(None, None, None, false), [128, 32, 128]);
        assert_eq!(lengths(None, None, Some(4), true), [4, 4, 4]);
        assert_eq!(lengths(None, None, Some(64), false), [64, 32, 64]);
        assert_eq!(lengths(None, None, Some(40), false), [40, 40, 40]);
        assert_eq!(lengths(None, None, Some(48), false), [48, 24, 48]);
        assert_eq!(lengths(None, None, Some(17), true), [17, 17, 17]);
        assert_eq!(lengths(None, Some(32), None, true), [32, 32, 32]);
        assert_eq!(lengths(None, Some(4), None, true), [16, 4, 16]);
        assert_eq!(lengths(None, Some(5), None, true), [20, 5, 20]);
        assert_eq!(lengths(Some(64), None, None, false), [64, 32, 128]);
        assert_eq!(lengths(Some(3), None, None, true), [3, 16, 16]);
        assert_eq!(lengths(Some(6), Some(7), Some(21), false), [6, 7, 21]);
    }

    #[test]
    fn gaps_are_three_numbers() {
        assert_eq!(gaps("7.5, 5,2.5").unwrap(), [7.5, 5.0, 2.5]);
        for bad in ["", "1,2", "1,2,3,4", "1,2,nan", "1,2,x"] {
            assert!(gaps(bad).unwrap_err().to_string().contains("--settled-gaps"), "{bad}");
        }
    }
}
