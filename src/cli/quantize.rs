//! `diffa quantize`: a smaller copy of a checkpoint.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use diffa::files::same_file;
use diffa::model::Part;
use diffa::quantize::{Quantized, input_bytes, quantize};
use diffa::{Error, Quantization, Result};
use indicatif::BinaryBytes;
use serde_json::json;

use super::terminal::{self, Terminal};
use super::{INTERRUPTED, interrupt};

pub(super) const HELP: &str = "\
q8 keeps 8 bits for each weight of the large matrices, q4 4 bits (8 for the embedding table and the output \
matrix), each with an f16 scale for 32 weights. LLaDA-8B shrinks from 16 GB to 8.5 GB (q8) or 5.0 GB (q4). The same \
can be done while loading with --quantize, without a copy.

Examples:
  diffa quantize LLADA_DIR OUT --to q4         then: diffa ask ... --model DIR --llm OUT
  diffa quantize MODEL_DIR OUT --to q8         MODEL_DIR holds llada/, whisper/ and diffa/; the latter are copied";

#[derive(Debug, Args)]
pub(super) struct QuantizeArgs {
    /// LLaDA folder, or a model folder with `llada/` in it.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Folder to write to; created if need be.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// How small.
    #[arg(long, value_parser = PossibleValuesParser::new(["q8", "q4"]))]
    to: String,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// The quantization of a name that clap has checked.
pub(super) fn parse(name: &str) -> Option<Quantization> {
    Quantization::ALL.into_iter().find(|known| known.name() == name)
}

/// Runs the command.
pub(super) fn run(term: &Terminal, args: &QuantizeArgs) -> Result<()> {
    let to = parse(&args.to).ok_or_else(|| Error::usage("--to", "must be q8 or q4"))?;
    let inside = args.input.join(Part::Llm.folder());
    let (input, output) = if inside.is_dir() {
        (inside, args.output.join(Part::Llm.folder()))
    } else {
        (args.input.clone(), args.output.clone())
    };
    if same_file(&input, &output) {
        return Err(Error::usage("OUT", "is the folder that is read; name another one"));
    }
    let bar = term.bytes("quantizing", input_bytes(&input)?);
    let done = quantize(&input, &output, to, &mut |bytes| {
        bar.inc(bytes);
        // The writer cannot be stopped half way; what it leaves has another name than a checkpoint.
        if interrupt::requested() {
            bar.finish_and_clear();
            terminal::error(&Error::Interrupted);
            std::process::exit(INTERRUPTED.into());
        }
    })?;
    bar.finish_and_clear();
    if input != args.input {
        for part in [Part::Whisper, Part::Adapters] {
            copy_folder(&args.input.join(part.folder()), &args.output.join(part.folder()))?;
        }
    }
    let Quantized { file, bytes: [before, after], matrices } = done;
    if args.json {
        let object = json!({ "file": file, "to": args.to, "bytes_before": before, "bytes_after": after,
                             "matrices": matrices });
        return terminal::print(&object.to_string());
    }
    terminal::print(&format!(
        "{}: {matrices} matrices quantized, {} -> {} ({:.2} of it)",
        file.display(),
        BinaryBytes(before),
        BinaryBytes(after),
        after as f64 / before.max(1) as f64
    ))
}

/// Copies the files of a folder, if there is one.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(to).map_err(Error::io("create", to))?;
    for entry in std::fs::read_dir(from).map_err(Error::io("read", from))? {
        let path = entry.map_err(Error::io("read", from))?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            std::fs::copy(&path, to.join(name)).map_err(Error::io("copy", &path))?;
        }
    }
    Ok(())
}
