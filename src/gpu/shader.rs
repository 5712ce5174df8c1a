//! Turns a kernel's `.wgsl` file and a variant into one WGSL module.
//!
//! Two mechanisms, both keeping every file valid WGSL to read: a *constant* is a line
//! `const NAME: u32 = 8u;` whose number the variant replaces; a *fragment* is a file of
//! `shaders/lib/` appended at the end (module scope is order-free, so line numbers stay true).
//! Kernels (and fragments) name fixed fragments with `// @use reduce` and interchangeable ones with
//! `// @slot weights`, filled by the variant. Loops that end their first line with `// @unroll` are written out. A line `// @needs subgroup` names what the device must have
//! beyond core WGSL.

use crate::gpu::kernel::{Kernel, Variant};
use crate::gpu::needs::Need;

macro_rules! fragments {
    ($($name:literal),* $(,)?) => {
        /// Shared WGSL by name: `shaders/lib/NAME.wgsl`.
        pub(crate) const FRAGMENTS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../shaders/lib/", $name, ".wgsl")))),*];
    };
}

fragments!(
    "activation",
    "block_1x8",
    "block_2x8",
    "block_4x4",
    "block_8x8",
    "coop_16",
    "coop_8",
    "direct_block",
    "epilogue",
    "grid",
    "head",
    "kept_f32",
    "kept_f16",
    "octets",
    "octets_subgroup",
    "partial",
    "random",
    "quants_q4",
    "quants_q8",
    "reduce",
    "reduce_subgroup",
    "weights_f32",
    "weights_f16",
    "weights_bf16",
    "scales",
    "shuffle",
    "shuffle_block",
    "store_block",
    "tile",
    "weights_q8",
    "weights_q4",
    "noise_none",
    "noise_gumbel",
    "noise_given",
);

fn fragment(name: &str) -> Result<&'static str, String> {
    let found = FRAGMENTS.iter().find(|(n, _)| *n == name);
    found.map(|(_, text)| *text).ok_or_else(|| format!("unknown fragment `{name}`"))
}

/// The complete module text of `kernel` in `variant`. Unknown fragments, unfilled slots and
/// constants without a line to replace are errors.
pub fn compose(kernel: &Kernel, variant: &Variant) -> Result<String, String> {
    let mut text = kernel.source.to_string();
    for (name, value) in &variant.consts {
        let head = format!("const {name}: u32 = ");
        let start = text.find(&head).ok_or_else(|| format!("no line `{head}…` to replace"))? + head.len();
        let end = text[start..].find(';').ok_or("constant without `;`")? + start;
        text.replace_range(start..end, &format!("{value}u"));
    }
    let mut names: Vec<&str> = Vec::new();
    for line in kernel.source.lines() {
        if let Some(list) = line.strip_prefix("// @use ") {
            names.extend(list.split(',').map(str::trim));
        } else if let Some(slot) = line.strip_prefix("// @slot ") {
            let index = kernel
                .slots
                .iter()
                .position(|s| s.name == slot.trim())
                .ok_or_else(|| format!("slot `{slot}` is not declared"))?;
            names.push(variant.fragments.get(index).ok_or_else(|| format!("slot `{slot}` is not filled"))?);
        }
    }
    let mut at = 0;
    while let Some(name) = names.get(at) {
        let shared = fragment(name)?;
        text.push('\n');
        text.push_str(shared);
        names.extend(shared.lines().filter_map(|line| line.strip_prefix("// @use ")));
        at += 1;
    }
    unroll(&text)
}

/// Writes out the loops marked `// @unroll`, whose heads are `for (var i = 0u; i < NAME; i++) {` with a constant that
/// is a number; loops inside them, too. Drivers unroll by themselves up to a size that large blocks exceed.
fn unroll(text: &str) -> Result<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let constant = |name: &str| -> Result<u32, String> {
        let head = format!("const {name}: u32 = ");
        let number = lines.iter().find_map(|line| line.strip_prefix(&head)?.split("u;").next()?.parse().ok());
        number.ok_or_else(|| format!("no line `{head}…` for a loop to unroll"))
    };
    let mut out = String::with_capacity(text.len());
    unroll_lines(&lines, &constant, &mut out)?;
    Ok(out)
}

fn unroll_lines(
    lines: &[&str],
    constant: &dyn Fn(&str) -> Result<u32, String>,
    out: &mut String,
) -> Result<(), String> {
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let Some(head) = line.trim_end().strip_suffix("// @unroll") else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        let malformed = || format!("cannot unroll `{}`", line.trim());
        let head = head.trim().strip_prefix("for (var ").ok_or_else(malformed)?;
        let (name, rest) = head.split_once(" = 0u; ").ok_or_else(malformed)?;
        let bound =
            rest.strip_prefix(name).and_then(|rest| rest.strip_prefix(" < ")).ok_or_else(malformed)?;
        let bound = bound.strip_suffix(&format!("; {name}++) {{")).ok_or_else(malformed)?;
        let mut depth = 1;
        let body = at;
        while depth > 0 {
            let line = lines.get(at).ok_or_else(malformed)?;
            depth += line.matches('{').count();
            depth -= line.matches('}').count().min(depth);
            at += 1;
        }
        for i in 0..constant(bound)? {
            out.push_str(&format!("{{ let {name} = {i}u;\n"));
            unroll_lines(&lines[body..at - 1], constant, out)?;
            out.push_str("}\n");
        }
    }
    Ok(())
}

/// What `kernel` in `variant` needs beyond core WGSL, each once. The same errors as [`compose`], and words
/// after `// @needs` that mean nothing.
pub fn needs(kernel: &Kernel, variant: &Variant) -> Result<Vec<Need>, String> {
    let text = compose(kernel, variant)?;
    let words =
        text.lines().filter_map(|line| line.strip_prefix("// @needs ")).flat_map(|list| list.split(','));
    let mut needs = words
        .map(|word| Need::parse(word.trim()).ok_or_else(|| format!("unknown need `{}`", word.trim())))
        .collect::<Result<Vec<_>, _>>()?;
    needs.sort();
    needs.dedup();
    Ok(needs)
}
