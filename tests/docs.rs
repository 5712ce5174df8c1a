//! `docs/KERNELS.md` is the registry, written out. To renew it: `DIFFA_BLESS=1 cargo test --test docs`.

use std::fmt::Write;
use std::path::Path;

use diffa::gpu::kernel::Access;
use diffa::ops::REGISTRY;

fn kernel_table() -> String {
    let mut text = String::from(
        "# Kernels\n\nGenerated from the registry (`src/ops/mod.rs`) by `tests/docs.rs`; do not edit.\n\
         Each kernel is one file of `shaders/`; operands marked `=` are written.\n\n\
         | kernel | computes | operands | variants |\n| --- | --- | --- | --- |\n",
    );
    for kernel in REGISTRY {
        let operands: Vec<String> = kernel
            .bindings
            .iter()
            .map(|b| format!("{}{}", b.name, if b.access == Access::Write { "=" } else { "" }))
            .collect();
        let slots = kernel.slots.iter().map(|s| s.choices.join(" \\| "));
        let consts = kernel.consts.iter().map(|c| {
            let values: Vec<String> = c.choices.iter().map(u32::to_string).collect();
            format!("{} {}", c.name, values.join(" \\| "))
        });
        let also = kernel.also.iter().map(|numbers| {
            let numbers: Vec<String> =
                numbers.iter().map(|(name, value)| format!("{name} {value}")).collect();
            format!("or {}", numbers.join(" "))
        });
        let variants: Vec<String> = slots.chain(consts).chain(also).collect();
        let summary = kernel.summary.replace('|', "\\|");
        let _ = writeln!(
            text,
            "| `{}` | {summary} | {} | {} |",
            kernel.name,
            operands.join(", "),
            if variants.is_empty() { "one".into() } else { variants.join("; ") }
        );
    }
    text
}

#[test]
fn kernel_table_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/KERNELS.md");
    let expected = kernel_table();
    if std::env::var_os("DIFFA_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/KERNELS.md is out of date; renew it with DIFFA_BLESS=1 cargo test --test docs"
    );
}
