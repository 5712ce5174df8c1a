//! `diffa synth`: a model of random weights on disk.

use diffa::model::Part;
use diffa::synth::{SynthParts, SynthShape, write, write_holes};
use diffa::{Error, Result};
use indicatif::BinaryBytes;

use super::args::SynthArgs;
use super::terminal::{self, Terminal};
use super::{INTERRUPTED, interrupt};

/// Runs the command.
pub(super) fn run(term: &Terminal, args: &SynthArgs) -> Result<()> {
    let shape = match args.shape.as_str() {
        "s" => SynthShape::S,
        "m" => SynthShape::M,
        "8b" => SynthShape::EightB,
        _ => SynthShape::Tiny,
    };
    let wanted = |part: &str| args.parts.is_empty() || args.parts.iter().any(|p| p == part);
    let parts = SynthParts { llada: wanted("llm"), whisper: wanted("whisper"), adapter: wanted("adapters") };
    let all = [(parts.llada, Part::Llm), (parts.whisper, Part::Whisper), (parts.adapter, Part::Adapters)];
    let folders =
        all.iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, part)| args.out.join(part.folder()));
    if let Some(model) = folders.filter(|_| !args.force).find(|folder| folder.join("config.json").exists()) {
        let reason =
            format!("{} holds a model; name another folder, or replace it with --force", model.display());
        return Err(Error::usage("--out", reason));
    }
    let total = shape.total_bytes(parts)?;
    if args.holes {
        term.note(&format!("writing headers for {} to {}", BinaryBytes(total), args.out.display()));
        return write_holes(shape, &args.out, parts);
    }
    term.note(&format!("writing {} to {}", BinaryBytes(total), args.out.display()));
    let bar = term.bytes("writing", total);
    write(shape, &args.out, args.seed, parts, &mut |done, _| {
        bar.set_position(done);
        // The writer cannot be stopped half way, and there is nothing to bring to an end.
        if interrupt::requested() {
            bar.finish_and_clear();
            terminal::error(&Error::Interrupted);
            term.note(&format!("the files in {} are incomplete", args.out.display()));
            std::process::exit(INTERRUPTED.into());
        }
    })?;
    bar.finish_and_clear();
    Ok(())
}
