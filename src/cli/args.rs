//! The arguments of every command, as clap reads them and `--help` shows them.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use clap::{Args, Parser, Subcommand};
use diffa::ModelPaths;

use super::bench::BenchCommand;
use super::eval::{self, EvalArgs};
use super::merge::{self, MergeArgs};
use super::{report, score};

const EXAMPLES: &str = "\
Examples:
  diffa ask clip.wav \"What does the speaker say?\"             the built-in demo model answers
  diffa ask clip.mp3 \"Who speaks?\" \"What is said?\"            heard once, asked twice
  diffa ask call.flac \"Summarise.\" --model DIR --json         DIR holds llada/, whisper/ and diffa/
  diffa generate \"Name three colours.\" --model DIR
  diffa stages clip.wav --out stages.safetensors              intermediate results, for comparison
  diffa devices                                               which GPUs there are
  diffa synth --shape s --out DIR                             random weights, for measurements
  diffa bench kernels --html kernels.html                     how fast this adapter is, kernel by kernel

Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 incomplete (a judge that failed), 130 interrupted (Ctrl-C).";

const LENGTHS: &str = "\
Lengths: --gen-length is the length of the answer in tokens, --block-length how many of them are denoised \
together (it must divide the answer), --steps the number of denoising steps in total (each block gets the \
same share). Given none of the three, a checkpoint uses 128 steps, blocks of 32 and 128 tokens, the demo model \
16, 16 and 16. What is left out follows from what is given: the answer is the usual one, rounded up to whole \
blocks; the block is the divisor of the answer nearest to the usual block; there is a step for each token. So \
`--gen-length 4` alone means 4 steps and a block of 4.";

const ASK_HELP: &str = "\
Examples:
  diffa ask clip.wav \"What does the speaker say?\"
  diffa ask clip.wav \"Is it a man or a woman?\" --gen-length 4 --json
  diffa ask talk.mp3 \"What is said?\" --long window            an answer for every window
  diffa ask clip.wav \"What is said?\" --model DIR --preset fast --compare exact --stats
  diffa ask clip.wav \"What is said?\" --preset exact --cache dual --rule threshold=0.9   (Fast-dLLM's decoder)
  diffa ask clip.wav \"What is said?\" --trace answer.html     a page that replays the denoising
  ffmpeg -i film.mkv -f wav - | diffa ask - \"What is said?\"   a clip on standard input

The answer goes to stdout, one line per question (and window); everything else to stderr. --json prints one \
object: the answer's fields at top level, or in `answers` if there are several questions, or in `windows` \
with --long window. In it `rtf` is the time from reading the file to the answer, loading aside, divided by \
the seconds heard; `tokens_per_second` counts the committed tokens over the denoising alone.";

const GENERATE_HELP: &str = "\
Examples:
  diffa generate \"Name three colours.\" --model DIR
  diffa generate \"Hello\" --llm LLADA_DIR --system \"Answer in French.\" --gen-length 64 --json";

const STAGES_HELP: &str = "\
Examples:
  diffa stages clip.wav --out mel.safetensors --stages mel
  diffa stages clip.wav --out encoder.safetensors --whisper WHISPER_DIR
  diffa stages clip.wav --out all.safetensors --model DIR --question \"What is said?\"

Arrays, all f32: mel [mels, frames]; encoder.hidden.I [positions, width] for every I, 0 being the input of the \
first layer and the last one the final norm's output; connectors.acoustic [prompts, width] and \
connectors.semantic [rows, width]; logits [block length, vocabulary] of the first block's rows at the very first \
forward (with --block-length equal to --gen-length those of all answer rows). Left out, --stages is all that \
the folders and a --question allow.";

const DEVICES_HELP: &str = "\
Examples:
  diffa devices
  diffa devices --backend vulkan --json
  diffa --adapter radeon devices                              only those whose name has `radeon` in it";

const SYNTH_HELP: &str = "\
Shapes: tiny 1.3 MB, s 0.2 GB, m 0.9 GB, 8b 16.5 GB (the released sizes). The same seed gives the same bytes.

Examples:
  diffa synth --shape tiny --out /tmp/tiny
  diffa synth --shape 8b --out /data/synthetic --parts llm";

const COMPLETIONS_HELP: &str = "\
Examples:
  diffa completions bash > ~/.local/share/bash-completion/completions/diffa
  diffa completions zsh > ~/.zfunc/_diffa";

/// Release and commit.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("DIFFA_COMMIT"), ")");

/// Answers questions about audio with a diffusion language model, on any GPU.
#[derive(Debug, Parser)]
#[command(name = "diffa", version = VERSION, after_help = EXAMPLES, max_term_width = 110, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Heading of the options that every command takes, also those that need no GPU.
const DEVICE: &str = "Device (for commands that use one)";

/// Options of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// GPU to use: its index in `diffa devices` or a part of its name.
    #[arg(long, global = true, help_heading = DEVICE, value_name = "NAME|INDEX")]
    pub(super) adapter: Option<String>,
    /// Graphics API to look for GPUs in; all of them if not given.
    #[arg(long, global = true, help_heading = DEVICE,
          value_parser = PossibleValuesParser::new(["vulkan", "metal", "dx12", "gl"]))]
    pub(super) backend: Option<String>,
    /// Measured kernel choices: a file that `diffa tune` wrote, or `off`; the one in the user's cache folder if
    /// not given.
    #[arg(long, global = true, help_heading = DEVICE, value_name = "FILE|off")]
    pub(super) tuning: Option<PathBuf>,
    /// Compiled kernels, where the driver lets programs keep them: a file, or `off`; one in the user's cache
    /// folder if not given.
    #[arg(long, global = true, help_heading = DEVICE, value_name = "FILE|off")]
    pub(super) pipeline_cache: Option<PathBuf>,
    /// Longest time one submit to the GPU should take, in milliseconds; drivers give up after about 2000.
    #[arg(long, global = true, help_heading = DEVICE, value_name = "MS", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(super) max_submit_ms: u64,
    /// No progress and no notes; warnings and errors remain.
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Answers questions about an audio file.
    #[command(after_help = ASK_HELP, after_long_help = format!("{LENGTHS}\n\n{ASK_HELP}"))]
    Ask(Box<AskArgs>),
    /// Answers a prompt without audio; only the language model is loaded.
    #[command(after_help = GENERATE_HELP, after_long_help = format!("{LENGTHS}\n\n{GENERATE_HELP}"))]
    Generate(Box<GenerateArgs>),
    /// Writes the intermediate results for an audio file to a safetensors file.
    #[command(after_help = STAGES_HELP, after_long_help = format!("{LENGTHS}\n\n{STAGES_HELP}"))]
    Stages(Box<StagesArgs>),
    /// Lists the GPUs, what they offer and which kernels they would get.
    #[command(after_help = DEVICES_HELP)]
    Devices(DevicesArgs),
    /// Writes a smaller copy of a model: large matrices of the language model in 8 or 4 bits.
    #[command(after_help = super::quantize::HELP)]
    Quantize(super::quantize::QuantizeArgs),
    /// Finds the fastest kernels for a model on this adapter.
    #[command(after_help = super::tune::HELP)]
    Tune(super::tune::TuneArgs),
    /// Tells how much memory a model needs, as stored and quantized, and which adapters have it.
    #[command(after_help = super::plan::HELP)]
    Plan(super::plan::PlanArgs),
    /// Writes a model with random weights: complete folders for measurements and tests, its answers gibberish.
    #[command(after_help = SYNTH_HELP)]
    Synth(SynthArgs),
    /// Answers a public benchmark into a file that can be scored.
    #[command(after_help = eval::HELP, mut_arg("preset", |preset| preset.default_value("exact")))]
    Eval(Box<EvalArgs>),
    /// Joins the answers of several shards of a benchmark run.
    #[command(after_help = merge::HELP)]
    Merge(MergeArgs),
    /// Scores a file of benchmark answers as the official programs do.
    #[command(after_help = score::HELP)]
    Score(Box<score::ScoreArgs>),
    /// Several runs of one benchmark in one table: accuracy, seconds and forwards for an answer.
    #[command(after_help = report::HELP)]
    Report(report::ReportArgs),
    /// Measures kernels, models, loads and decodes, and compares measurements.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Prints what a shell needs to complete this program's commands and options.
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// Audio file: wav, flac, mp3, ogg (Vorbis), m4a or aac, any rate and number of channels.
    pub(super) audio: PathBuf,
    /// What to ask about it. Several questions hear the clip only once.
    #[arg(required = true, value_name = "QUESTION")]
    pub(super) questions: Vec<String>,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// What to do with audio longer than the model's window: answer about the `first` one, or about every
    /// `window` in turn.
    #[arg(long, default_value = "first", help_heading = "Output",
          value_parser = PossibleValuesParser::new(["first", "window"]))]
    pub(super) long: String,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    #[command(flatten)]
    pub(super) decode: DecodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// What to answer.
    pub(super) prompt: String,
    #[command(flatten)]
    pub(super) llm: LlmArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    #[command(flatten)]
    pub(super) decode: DecodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct StagesArgs {
    /// Audio file, as for `diffa ask`.
    pub(super) audio: PathBuf,
    /// File to write.
    #[arg(long, value_name = "FILE.safetensors")]
    pub(super) out: PathBuf,
    /// Which stages, separated by commas: mel, encoder, connectors, logits.
    #[arg(long, value_delimiter = ',', value_name = "STAGE")]
    pub(super) stages: Vec<String>,
    /// Question for the logits.
    #[arg(long, value_name = "TEXT")]
    pub(super) question: Option<String>,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) decode: DecodeArgs,
}

#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    /// One JSON object instead of text.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SynthArgs {
    /// How large a model.
    #[arg(long, value_parser = PossibleValuesParser::new(["tiny", "s", "m", "8b"]))]
    pub(super) shape: String,
    /// Folder to write to.
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Replaces a model that is in the folder already.
    #[arg(long)]
    pub(super) force: bool,
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 0, value_name = "N", allow_negative_numbers = true)]
    pub(super) seed: u64,
    /// Which folders, separated by commas; all of them if not given.
    #[arg(long, value_delimiter = ',', value_name = "PART",
          value_parser = PossibleValuesParser::new(["llm", "whisper", "adapters"]))]
    pub(super) parts: Vec<String>,
    /// Zeros that take no room on the disk in place of random numbers: enough for `diffa plan`.
    #[arg(long, conflicts_with = "seed")]
    pub(super) holes: bool,
}

/// Where the language model is, and how it is loaded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct LlmArgs {
    /// Model folder with `llada/`, `whisper/` and `diffa/` in it, as far as they are needed. Without any folder the
    /// built-in demo model is taken.
    #[arg(long, value_name = "DIR")]
    pub(super) model: Option<PathBuf>,
    /// LLaDA folder, instead of the one in --model.
    #[arg(long, value_name = "DIR")]
    pub(super) llm: Option<PathBuf>,
    /// Quantize the language model's large matrices while loading: half (q8) or a third (q4) of the memory.
    #[arg(long, value_name = "q8|q4", value_parser = PossibleValuesParser::new(["q8", "q4"]))]
    quantize: Option<String>,
}

impl LlmArgs {
    pub(super) fn paths(&self) -> ModelPaths {
        ModelPaths {
            model: self.model.clone(),
            llm: self.llm.clone(),
            quantize: self.quantize.as_deref().and_then(super::quantize::parse),
            ..Default::default()
        }
    }
}

/// Where the checkpoints are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelArgs {
    #[command(flatten)]
    llm: LlmArgs,
    /// Whisper folder, instead of the one in --model.
    #[arg(long, value_name = "DIR")]
    pub(super) whisper: Option<PathBuf>,
    /// DIFFA adapter folder, instead of `diffa/` in --model.
    #[arg(long, value_name = "DIR")]
    pub(super) adapters: Option<PathBuf>,
}

impl ModelArgs {
    pub(super) fn paths(&self) -> ModelPaths {
        ModelPaths { whisper: self.whisper.clone(), adapters: self.adapters.clone(), ..self.llm.paths() }
    }
}

/// Where answers go besides the terminal.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// One JSON object on stdout instead of text: answer, settings, timings, adapter.
    #[arg(long)]
    pub(super) json: bool,
    /// One JSON line on stdout for every denoising step and every answer, as they happen.
    #[arg(long, conflicts_with = "json")]
    pub(super) events: bool,
    /// Writes what was committed at every denoising step, with confidences: as JSON, or as one
    /// self-contained page that replays it if the name ends in .html.
    #[arg(long, value_name = "FILE.json|FILE.html")]
    pub(super) trace: Option<PathBuf>,
    /// Also decodes with the exact preset and reports how far the answers agree and what the work was.
    #[arg(long, value_parser = PossibleValuesParser::new(["exact"]))]
    pub(super) compare: Option<String>,
    /// Prints the figures of every answer: forwards, rows, tokens per forward, times.
    #[arg(long)]
    pub(super) stats: bool,
    /// No live view of the answer emerging, only a progress bar.
    #[arg(long)]
    pub(super) no_canvas: bool,
}

/// Longest answer; far beyond what the attention of any adapter can take in reasonable time.
const MAX_LENGTH: u64 = 65_536;

pub(super) fn length() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MAX_LENGTH)
}

/// How to denoise.
#[derive(Debug, Args)]
#[command(next_help_heading = "Decoding")]
pub(super) struct DecodeArgs {
    /// Denoising steps in total (see Lengths in --help).
    #[arg(long, value_name = "N", value_parser = length(), allow_negative_numbers = true)]
    pub(super) steps: Option<usize>,
    /// Tokens of the answer.
    #[arg(long, value_name = "N", value_parser = length(), allow_negative_numbers = true)]
    pub(super) gen_length: Option<usize>,
    /// Tokens denoised together; blocks go from left to right.
    #[arg(long, value_name = "N", value_parser = length(), allow_negative_numbers = true)]
    pub(super) block_length: Option<usize>,
    /// Gumbel noise on the logits; 0 is greedy.
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(super) temperature: f32,
    /// Classifier-free guidance: predictions move away from those for a masked prompt. 0 is off; anything
    /// else doubles the work.
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(super) cfg_scale: f32,
    /// Which predictions of a step stay masked.
    #[arg(long, default_value = "low_confidence",
          value_parser = PossibleValuesParser::new(["low_confidence", "random"]))]
    pub(super) remasking: String,
    /// Cache, rule and stop as one choice: `exact` gives the reference's tokens at every step, `balanced`
    /// commits what the model is sure of, `fast` also keeps keys and values. Options below override it.
    #[arg(long, default_value = "balanced", value_parser = PossibleValuesParser::new(["exact", "balanced", "fast"]))]
    pub(super) preset: String,
    /// How many predictions a step commits: `quota` divides the block evenly among its steps; `threshold=F`
    /// takes all at least that confident; `factor=F` and `profile=F` as many as are jointly sure enough.
    #[arg(long, value_name = "quota|threshold=F|factor=F|profile=F")]
    pub(super) rule: Option<String>,
    /// Keys and values kept within a block: `prefix` and `dual` compute fewer rows, approximately.
    #[arg(long, value_parser = PossibleValuesParser::new(["none", "prefix", "dual"]))]
    pub(super) cache: Option<String>,
    /// Type of keys and values, with any --cache: `f16` takes half their memory and traffic and rounds them.
    #[arg(long, default_value = "f32", value_parser = PossibleValuesParser::new(["f32", "f16"]))]
    pub(super) cache_dtype: String,
    /// `eos` ends the answer at the first end token that nothing masked precedes in its block; `answer` also
    /// commits the rest of a block at once when its predictions stand out (see --settled-gaps).
    #[arg(long, value_parser = PossibleValuesParser::new(["none", "eos", "answer"]))]
    pub(super) stop: Option<String>,
    /// For --stop answer: mean gaps between the best two logits for the first, second and last third of the
    /// block; 7.5,5,2.5 if not given.
    #[arg(long, value_name = "F,F,F")]
    pub(super) settled_gaps: Option<String>,
    /// Never predict the end-of-text token.
    #[arg(long)]
    pub(super) ban_eos: bool,
    /// Commit end tokens last: their confidence counts as 0.
    #[arg(long)]
    pub(super) late_eos: bool,
    /// Seed of the noise and of random remasking.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(super) seed: u32,
    /// System turn of the prompt. Questions about audio use the one DIFFA was trained with if not given.
    #[arg(long, value_name = "TEXT")]
    pub(super) system: Option<String>,
}
