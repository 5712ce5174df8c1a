//! The one error type of the crate.
//!
//! Every message is a whole sentence that names the file, tensor, operand or option at fault and,
//! where there is one, the remedy. Library calls return it and never panic on user input.

use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong, from a mistyped option to a lost device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option or argument has a value that cannot be used.
    #[error("{option}: {reason}")]
    Usage {
        /// The option as a user writes it, for example `--block-length`.
        option: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A file could not be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, `create`, `map` ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// An audio file is missing content, damaged, or in a form that is not supported.
    #[error("{}: {reason}", path.display())]
    Audio {
        /// The audio file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A `config.json` or `preprocessor_config.json` has a missing, impossible or unsupported value.
    #[error("{}: {key}: {reason}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The key in that file.
        key: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A checkpoint file is damaged, incomplete, or does not match its configuration.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The weight file, or the checkpoint folder when no single file is at fault.
        path: PathBuf,
        /// What is wrong; names the tensor, and what was expected.
        reason: String,
    },
    /// `tokenizer.json` is unusable or lacks a special token that the prompt needs.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The tokenizer file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// No adapter could be opened.
    #[error("{0}")]
    Adapter(String),
    /// A device, the caller's or our own, lacks something that no kernel, or the kernel asked for, can do without.
    #[error(
        "this device lacks what is asked of it: {}; `diffa devices` shows what there is to choose from with --adapter \
         and --backend",
        missing.join(", ")
    )]
    Unsupported {
        /// Every missing feature or limit, each with the value needed and the value found.
        missing: Vec<String>,
    },
    /// The device has less memory than the model needs; found before anything is loaded.
    #[error(
        "the model needs {:.1} GB of memory and the adapter can give {:.1} GB; `diffa plan` shows what needs it, \
         --quantize q8 or q4 makes the language model smaller, --adapter picks another adapter",
        *needed as f64 / 1e9, *available as f64 / 1e9
    )]
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// The device ran out of memory.
    #[error(
        "out of device memory while {doing} ({message}); close other programs, use --quantize q8 or q4, or \
         pick another --adapter"
    )]
    OutOfMemory {
        /// What was being done.
        doing: String,
        /// The driver's message.
        message: String,
    },
    /// The driver gave the device up: a crash, a watchdog, or a GPU that was unplugged.
    #[error("the device was lost while {doing} ({message}); run again, or try another --adapter")]
    DeviceLost {
        /// What was being done.
        doing: String,
        /// The driver's message.
        message: String,
    },
    /// An operand does not fit the operation.
    #[error("{op}: operand `{operand}` has shape {got:?}, expected {expected}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// Name of the operand.
        operand: String,
        /// The shape or condition required.
        expected: String,
        /// The shape found.
        got: Vec<usize>,
    },
    /// A kernel does not compile. Always a defect of this crate or of a driver.
    #[error(
        "kernel `{kernel}` ({variant}) does not compile on this adapter: {message}; this is a defect of diffa or of the \
         driver: try --tuning off, another --backend or a newer driver, and please report it with what `diffa devices \
         --json` prints"
    )]
    Shader {
        /// Kernel name, which is also its file name under `shaders/`.
        kernel: &'static str,
        /// The variant's fragments and constants.
        variant: String,
        /// The compiler's message.
        message: String,
    },
    /// The device reported an error: out of memory, lost, or a validation failure.
    #[error(
        "GPU error while {doing}: {message}; this is a defect of diffa or of the driver: try --tuning off, another \
         --backend or a newer driver, and please report it with what `diffa devices --json` prints"
    )]
    Gpu {
        /// What the engine was doing.
        doing: String,
        /// The device's message.
        message: String,
    },
    /// The work is done as far as it could be; part of it is missing (exit code 3 of the command line).
    #[error("{0}")]
    Incomplete(String),
    /// Answer files that are to be joined lack items.
    #[error("{missing} of {total} items have no answer in these files (numbers {places}); {remedy}")]
    MissingAnswers {
        /// Items without an answer.
        missing: usize,
        /// Items of the run.
        total: usize,
        /// Their places in the run, from 0; the first few.
        places: String,
        /// What to do.
        remedy: String,
    },
    /// Answer files that are to be joined both have the same answer to an item.
    #[error("item {index} is in {} and again in {}; give each file once", first.display(), second.display())]
    Duplicate {
        /// Position of the item in the data, from 0.
        index: usize,
        /// A file that has it.
        first: PathBuf,
        /// The other, or the same.
        second: PathBuf,
    },
    /// Answer files that are to be joined have different answers to an item.
    #[error(
        "item {index} has one answer in {} and another in {}; leave one of the files out",
        first.display(), second.display()
    )]
    Conflict {
        /// Position of the item in the data, from 0.
        index: usize,
        /// A file that has it.
        first: PathBuf,
        /// The other, or the same.
        second: PathBuf,
    },
    /// The user asked to stop (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// True if the user can mend it by another argument or another file (exit code 2 of the command line).
    pub fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Error::Usage { .. }
                | Error::Io { .. }
                | Error::Audio { .. }
                | Error::Config { .. }
                | Error::Weights { .. }
                | Error::Tokenizer { .. }
                | Error::MissingAnswers { .. }
                | Error::Duplicate { .. }
                | Error::Conflict { .. }
        )
    }

    /// Shorthand for [`Error::Io`], for use in `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// Shorthand for [`Error::Usage`].
    pub fn usage(option: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Usage { option: option.into(), reason: reason.into() }
    }
}
