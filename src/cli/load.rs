//! What every command does before its work: open the adapter, read the audio, load the model.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diffa::audio::Waveform;
use diffa::gpu::DType;
use diffa::model::Part;
use diffa::model::config::WhisperConfig;
use diffa::model::forward::Layout;
use diffa::model::memory::MemoryPlan;
use diffa::ops::rounding::has_matrix_units;
use diffa::tune::{Tuning, limit_submits};
use diffa::{AdapterChoice, Cache, DecodeOptions, Diffa, Error, Gpu, ModelPaths, Result, audio};
use indicatif::ProgressBar;

use super::args::Global;
use super::interrupt;
use super::paths::check_output;
use super::terminal::Terminal;

/// The adapter with the kernels that were measured for it.
pub(super) fn open(term: &Terminal, global: &Global) -> Result<Gpu> {
    let gpu = open_untuned(term, global)?;
    let adapter = gpu.caps().describe();
    let Some(path) = tuning_path(global, &adapter) else { return Ok(gpu) };
    match Tuning::read(&path, &adapter)? {
        Some(tuning) => gpu.set_choices(tuning.choices()),
        None if global.tuning.is_none() => {
            if let Some(advice) = advice(gpu.caps().is_software(), has_matrix_units(gpu.caps())) {
                term.note(&advice);
            }
        }
        None if !path.exists() => {
            let reason =
                format!("there is no {0}; `diffa tune --tuning {0}` measures and writes it", path.display());
            return Err(Error::usage("--tuning", reason));
        }
        None => term.warn(&format!(
            "{} is of another adapter, driver or version of diffa and has no effect; run `diffa tune` again",
            path.display()
        )),
    }
    Ok(gpu)
}

/// What a user of a GPU whose kernels were never measured may gain, once. Software adapters gain little.
fn advice(is_software: bool, has_matrices: bool) -> Option<String> {
    let matrices = if has_matrices {
        "; with --allow f16 it tries the matrix units, which are not used otherwise"
    } else {
        ""
    };
    let measure = "`diffa tune --model DIR` measures once which kernels are fastest on this adapter";
    (!is_software).then(|| format!("{measure}{matrices}"))
}

/// The adapter the user asked for, or the best one; says which and why.
pub(super) fn open_untuned(term: &Terminal, global: &Global) -> Result<Gpu> {
    let backend = global.backend.as_deref().map(AdapterChoice::parse_backend).transpose()?;
    let gpu = Gpu::open(&AdapterChoice { adapter: global.adapter.clone(), backend })?;
    let verb = if gpu.reason().starts_with("asked") { "was" } else { "is" };
    term.note(&format!("using {} because it {verb} {}", gpu.caps().describe(), gpu.reason()));
    if let Some(path) = pipeline_file(global, &gpu) {
        gpu.keep_pipelines(&path)?;
    }
    limit_submits(&gpu, DType::Bf16, Duration::from_millis(global.max_submit_ms))?;
    Ok(gpu)
}

/// The file with the measured choices for an adapter, if they are wanted.
pub(super) fn tuning_path(global: &Global, adapter: &str) -> Option<PathBuf> {
    match &global.tuning {
        Some(path) if path.as_os_str() == "off" => None,
        Some(path) => Some(path.clone()),
        None => Tuning::path(adapter),
    }
}

/// The file with the driver's compiled kernels, if it is wanted and there can be one.
fn pipeline_file(global: &Global, gpu: &Gpu) -> Option<PathBuf> {
    match &global.pipeline_cache {
        Some(path) if path.as_os_str() == "off" => None,
        Some(path) => Some(path.clone()),
        None => gpu.pipeline_file(),
    }
}

/// Stands for standard input in place of a clip.
const STDIN: &str = "-";

/// Reads a clip, or what comes in on standard input, at the encoder's rate, and says how long that
/// took with decoding and resampling.
pub(super) fn audio(path: &Path, config: &WhisperConfig) -> Result<(Waveform, Duration)> {
    let start = Instant::now();
    let rate = u32::try_from(config.sampling_rate).map_err(|_| Error::Config {
        path: config.path.clone(),
        key: "sampling_rate".into(),
        reason: format!("{} is no sample rate", config.sampling_rate),
    })?;
    let wave = if path.as_os_str() == STDIN {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        audio::read_bytes(Path::new("(standard input)"), bytes, rate)?
    } else {
        audio::read(path, rate)?
    };
    Ok((wave, start.elapsed()))
}

/// Errors about the clip name its file.
pub(super) fn about_clip(error: Error, path: &Path) -> Error {
    match error {
        Error::Usage { option, reason } if option == "AUDIO" => Error::Audio { path: path.into(), reason },
        error => error,
    }
}

/// Warns if the model will not hear all of a clip.
pub(super) fn warn_if_long(term: &Terminal, path: &Path, n: usize, config: &WhisperConfig, remedy: &str) {
    let seconds = |samples: usize| samples as f64 / config.sampling_rate as f64;
    if n > config.n_samples {
        term.warn(&format!(
            "{} is {:.1} s long but the model hears {:.1} s; the last {:.1} s were not heard{remedy}",
            path.display(),
            seconds(n),
            seconds(config.n_samples),
            seconds(n - config.n_samples),
        ));
    }
}

/// Checks that a file can be written, before the work of which it is the result, and that it is not `input`, which
/// would be lost.
pub(super) fn check_target(option: &str, path: &Path, input: Option<&Path>) -> Result<()> {
    check_output(option, path, input)?;
    if path.is_dir() {
        return Err(Error::usage(option, format!("{} is a folder; name a file in it", path.display())));
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(Error::usage(option, format!("there is no folder {} to write to", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Prompt rows of a 30 s clip with a short question, for the check whether a model fits.
const TYPICAL_ROWS: usize = 450;

/// Progress of a load: the bytes so far, and the end of it if the user wants that.
pub(super) fn advance(bar: &ProgressBar) -> impl Fn(u64) -> Result<()> {
    let bar = bar.clone();
    move |bytes| {
        bar.inc(bytes);
        interrupt::check()
    }
}

/// Checks the folders and loads the model, with encoder and adapters if it shall hear, and compiles the kernels
/// that decoding with `options` needs.
pub(super) fn model(
    term: &Terminal,
    gpu: &Gpu,
    paths: &ModelPaths,
    with_hearing: bool,
    options: &DecodeOptions,
) -> Result<(Diffa, Duration)> {
    if paths.is_demo() {
        term.note("the built-in demo model answers, a very small one; use --model for another");
    }
    if paths.quantize.is_some() && paths.checkpoint(Part::Llm)?.is_quantized() {
        let reason = "the language model is stored quantized already; leave the option away, or quantize the original weights";
        return Err(Error::usage("--quantize", reason));
    }
    let start = Instant::now();
    let parts: &[Part] =
        if with_hearing { &[Part::Whisper, Part::Adapters, Part::Llm] } else { &[Part::Llm] };
    let total = paths.load_bytes(parts)?;
    let DecodeOptions { gen_length, block_length, cache, cache_dtype, .. } = *options;
    let layout = Layout { prompt_rows: vec![TYPICAL_ROWS], gen_length, candidates: block_length };
    let needed = MemoryPlan::new(paths, parts, &layout, cache != Cache::None, cache_dtype)?.total();
    if let Some(available) = gpu.caps().usable_memory().filter(|available| needed > *available) {
        return Err(Error::Memory { needed, available });
    }
    let bar = term.bytes("loading", total);
    let progress = advance(&bar);
    let diffa = Diffa::load_for(gpu, paths, with_hearing, options, &progress);
    bar.finish_and_clear();
    let diffa = diffa?;
    if let Err(error) = gpu.save_pipelines() {
        term.note(&format!("compiled kernels were not kept: {error}"));
    }
    Ok((diffa, start.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gpus_are_worth_advice_and_only_some_have_matrix_units() {
        assert_eq!(advice(true, true), None);
        assert!(!advice(false, false).unwrap().contains("--allow"));
        assert!(advice(false, true).unwrap().contains("--allow f16"));
    }
}
