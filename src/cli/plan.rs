//! `diffa plan`: how much memory a model needs, before anything is loaded.

use clap::Args;
use clap::builder::PossibleValuesParser;
use diffa::gpu::AdapterChoice;
use diffa::gpu::Caps;
use diffa::gpu::adapter::{list, matching};
use diffa::model::Part;
use diffa::model::forward::Layout;
use diffa::model::memory::MemoryPlan;
use diffa::{Cache, CacheDtype, ModelPaths, Quantization, Result};
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use super::args::{Global, ModelArgs};
use super::terminal;

pub(super) const HELP: &str = "\
Reads the headers of the files, and of f32 matrices the values: those that f16 or bf16 hold exactly are kept so. \
Weights are exact; the buffers of a request are estimated for the rows and lengths given. Memory is \
what a Vulkan driver reports as its own (other backends do not tell), of a software adapter what the machine has \
available.

Examples:
  diffa plan
  diffa synth --shape 8b --holes --out DIR   (the released sizes, without a download, then:)
  diffa plan --model DIR --rows 450 --gen-length 128 --json";

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Rows of the prompt, text and audio.
    #[arg(long, value_name = "N", default_value_t = 450)]
    rows: usize,
    /// Length of the answer in tokens; the block is taken as long.
    #[arg(long, value_name = "N", default_value_t = 128)]
    gen_length: usize,
    /// Keys and values kept within a block, as for `diffa ask`: `prefix` and `dual` keep those of every layer.
    #[arg(long, default_value = "none", value_parser = PossibleValuesParser::new(["none", "prefix", "dual"]))]
    cache: String,
    /// Type of keys and values, as for `diffa ask`.
    #[arg(long, default_value = "f32", value_parser = PossibleValuesParser::new(["f32", "f16"]))]
    cache_dtype: String,
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Weights as stored (or as --quantize says), then quantized.
fn plans(paths: &ModelPaths, args: &PlanArgs) -> Result<Vec<(&'static str, MemoryPlan)>> {
    let layout =
        Layout { prompt_rows: vec![args.rows], gen_length: args.gen_length, candidates: args.gen_length };
    let parts: &[Part] = match (&paths.model, &paths.llm, &paths.whisper) {
        (None, Some(_), None) => &[Part::Llm],
        _ => &[Part::Whisper, Part::Adapters, Part::Llm],
    };
    let cached = args.cache.parse::<Cache>()? != Cache::None;
    let kept: CacheDtype = args.cache_dtype.parse()?;
    let choices = [("as stored", None)].into_iter();
    let choices = choices.chain(Quantization::ALL.into_iter().map(|to| (to.name(), Some(to))));
    choices
        .filter(|(_, to)| paths.quantize.is_none() || *to == paths.quantize)
        .map(|(name, to)| {
            let paths = ModelPaths { quantize: to, ..paths.clone() };
            Ok((name, MemoryPlan::new(&paths, parts, &layout, cached, kept)?))
        })
        .collect()
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &PlanArgs) -> Result<()> {
    let backend = global.backend.as_deref().map(AdapterChoice::parse_backend).transpose()?;
    let plans = plans(&args.model.paths(), args)?;
    let mut adapters: Vec<(String, Option<u64>)> = list(backend)
        .iter()
        .map(Caps::of_adapter)
        .map(|caps| (caps.describe(), caps.usable_memory()))
        .collect();
    if let Some(wanted) = &global.adapter {
        let names: Vec<String> = adapters.iter().map(|(name, _)| name.clone()).collect();
        adapters = matching(&names, wanted)?.into_iter().map(|i| adapters[i].clone()).collect();
    }
    if args.json {
        let plan = |(name, plan): &(&str, MemoryPlan)| {
            let fits: Vec<Value> = adapters
                .iter()
                .map(|(adapter, memory)| json!({ "adapter": adapter, "fits": memory.map(|m| plan.total() <= m) }))
                .collect();
            json!({ "weights": name, "items": plan.items, "total": plan.total(), "adapters": fits })
        };
        let adapters: Vec<Value> =
            adapters.iter().map(|(name, memory)| json!({ "name": name, "memory": memory })).collect();
        let object = json!({ "plans": plans.iter().map(plan).collect::<Vec<_>>(), "adapters": adapters });
        return terminal::print(&object.to_string());
    }
    for (name, plan) in &plans {
        terminal::print(&format!("{} in all, weights {name}", BinaryBytes(plan.total())))?;
        for item in &plan.items {
            let bytes = BinaryBytes(item.bytes).to_string();
            terminal::print(&format!("  {:<18} {:<6} {bytes:>12}", item.name, item.dtype))?;
        }
    }
    for (adapter, memory) in &adapters {
        let Some(memory) = memory else {
            terminal::print(&format!("{adapter}: does not tell how much memory it has"))?;
            continue;
        };
        let fitting: Vec<&str> =
            plans.iter().filter(|(_, plan)| plan.total() <= *memory).map(|(name, _)| *name).collect();
        let fitting =
            if fitting.is_empty() { "nothing fits".into() } else { format!("fits: {}", fitting.join(", ")) };
        terminal::print(&format!("{adapter}: {} of memory; {fitting}", BinaryBytes(*memory)))?;
    }
    Ok(())
}
