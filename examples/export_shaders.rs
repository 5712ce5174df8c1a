//! Writes every kernel of the registry in every variant, as WGSL and as HLSL, with a list of what naga
//! says of each and what is left to judge: the input of `scripts/portability.sh`. Needs no GPU.
//!
//! `cargo run --example export_shaders -- FOLDER`

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use diffa::gpu::kernel::Variant;
use diffa::gpu::shader::compose;
use diffa::ops::REGISTRY;
use naga::Module;
use naga::back::hlsl::ShaderModel;
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use serde_json::{Map, Value, json};

/// What a kernel may ask for beyond core WGSL, by the name the table uses.
const OPTIONAL: &[(&str, Capabilities)] = &[
    ("cooperative matrix", Capabilities::COOPERATIVE_MATRIX),
    ("f16", Capabilities::SHADER_FLOAT16),
    ("subgroup", Capabilities::SUBGROUP),
    ("subgroup barrier", Capabilities::SUBGROUP_BARRIER),
];

/// Features that a target's language lacks. naga has no cooperative matrices for HLSL, and WebGPU none at all.
const NOT_IN_WEBGPU: &[&str] = &["cooperative matrix", "subgroup barrier"];
const NOT_IN_DXC: &[&str] = &["cooperative matrix", "subgroup barrier"];
const NOT_IN_FXC: &[&str] = &["cooperative matrix", "subgroup barrier", "f16", "subgroup"];

/// Sums of a lane above which the engine takes no block on Direct3D, because FXC gives up.
const MOST_SUMS: u32 = 128;

/// Core WGSL. `unpack2x16float` is part of it, but old GL lacks it, so naga names it as a capability.
const CORE: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

/// The shortest list of optional features with which the module is valid.
fn needs(module: &Module) -> Result<(Vec<&'static str>, ModuleInfo), String> {
    let valid = |capabilities| {
        let result = Validator::new(ValidationFlags::all(), capabilities).validate(module);
        result.map_err(|e| format!("{:?}", e.into_inner()))
    };
    let mut enough = OPTIONAL.iter().fold(CORE, |all, (_, capability)| all | *capability);
    let mut info = valid(enough)?;
    for (_, capability) in OPTIONAL {
        if let Ok(less) = valid(enough - *capability) {
            (enough, info) = (enough - *capability, less);
        }
    }
    let names = OPTIONAL.iter().filter(|(_, c)| enough.contains(*c)).map(|(name, _)| *name).collect();
    Ok((names, info))
}

/// Runs a writer of naga, some of which panic over what they lack.
fn write<T>(writer: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(writer)).unwrap_or_else(|_| Err("naga panicked".into()))
}

fn spirv(module: &Module, info: &ModuleInfo, lang_version: (u8, u8)) -> Result<(), String> {
    let options = spv::Options {
        lang_version,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..Default::default()
    };
    write(|| spv::write_vec(module, info, &options, None).map(|_| ()).map_err(|e| e.to_string()))
}

fn metal(module: &Module, info: &ModuleInfo, lang_version: (u8, u8)) -> Result<(), String> {
    let options = msl::Options {
        lang_version,
        fake_missing_bindings: true,
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: false,
        ..Default::default()
    };
    write(|| {
        msl::write_string(module, info, &options, &Default::default()).map(|_| ()).map_err(|e| e.to_string())
    })
}

/// HLSL as wgpu hands it to the compiler when the engine makes a pipeline: checked accesses, but
/// workgroup memory not zeroed and loops not counted.
fn direct3d(module: &Module, info: &ModuleInfo, shader_model: ShaderModel) -> Result<String, String> {
    let options = hlsl::Options {
        shader_model,
        fake_missing_bindings: true,
        special_constants_binding: Some(hlsl::BindTarget { space: 1, ..Default::default() }),
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: false,
        ..Default::default()
    };
    write(|| {
        let mut text = String::new();
        let pipeline = hlsl::PipelineOptions::default();
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(module, info, None)
            .map_err(|e| e.to_string())?;
        Ok(text)
    })
}

/// The entry of one judge: passed, not expressible there, failed, or a file for a judge outside.
fn verdict(result: Result<(), String>) -> Value {
    result.map_or_else(|error| json!({ "error": error }), |()| json!({ "ok": true }))
}

fn lacking(needs: &[&str], missing: &[&str]) -> Option<Value> {
    needs.iter().find(|need| missing.contains(need)).map(|need| json!({ "needs": need }))
}

/// Sums that a lane of this variant holds; 0 for kernels without such blocks.
fn sums(variant: &Variant) -> u32 {
    let number = |name: &str| variant.consts.iter().find(|(n, _)| *n == name).map_or(0, |(_, value)| *value);
    number("MR") * number("NR")
}

/// Writes one variant's files. Returns what it needs, and the judges' entries by column of the table.
fn export(folder: &Path, stem: &str, text: &str) -> Result<(Value, Map<String, Value>), Box<dyn Error>> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let (needs, info) = needs(&module)?;
    let mut columns = Map::new();
    columns.insert("SPIR-V 1.3".into(), verdict(spirv(&module, &info, (1, 3))));
    columns.insert("SPIR-V 1.6".into(), verdict(spirv(&module, &info, (1, 6))));
    columns.insert("MSL 2.3".into(), verdict(metal(&module, &info, (2, 3))));
    columns.insert("MSL 3.1".into(), verdict(metal(&module, &info, (3, 1))));

    // Tint wants subgroups enabled in the text, which naga 30 does not read yet.
    let enable = if needs.contains(&"subgroup") { "enable subgroups;\n" } else { "" };
    std::fs::write(folder.join(format!("{stem}.wgsl")), format!("{enable}{text}"))?;
    let tint = || json!({ "judge": "tint", "file": format!("{stem}.wgsl") });
    columns.insert("Tint".into(), lacking(&needs, NOT_IN_WEBGPU).unwrap_or_else(tint));

    // 16-bit types came with shader model 6.2; a device with f16 gets the switch for every shader.
    let oldest = if needs.contains(&"f16") { ShaderModel::V6_2 } else { ShaderModel::V6_0 };
    let targets = [
        ("HLSL 5.1", "FXC 5.1", "fxc", ShaderModel::V5_1, NOT_IN_FXC),
        ("HLSL 6.0", "DXC 6.0", "dxc", oldest, NOT_IN_DXC),
        ("HLSL 6.6", "DXC 6.6", "dxc", ShaderModel::V6_6, NOT_IN_DXC),
    ];
    for (translated, compiled, judge, model, missing) in targets {
        let written = match lacking(&needs, missing) {
            Some(lacking) => Err(lacking),
            None => direct3d(&module, &info, model).map_err(|e| json!({ "error": e })),
        };
        let (first, second) = match written {
            Ok(text) => {
                let file = format!("{stem}.{}.hlsl", model.to_str());
                std::fs::write(folder.join(&file), text)?;
                let profile = format!("cs_{}", model.to_str());
                (json!({ "ok": true }), json!({ "judge": judge, "file": file, "profile": profile }))
            }
            Err(entry) => (entry.clone(), entry),
        };
        columns.insert(translated.into(), first);
        columns.insert(compiled.into(), second);
    }
    Ok((json!(needs), columns))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: export_shaders FOLDER")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let mut list = Vec::new();
    for kernel in REGISTRY {
        for variant in kernel.variants() {
            let label = format!("{} ({variant})", kernel.name);
            let stem = format!("{}-{variant}", kernel.name).replace([' ', '='], "-");
            let text = compose(kernel, &variant).map_err(|e| format!("{label}: {e}"))?;
            let (needs, mut columns) = export(folder, &stem, &text).map_err(|e| format!("{label}: {e}"))?;
            if sums(&variant) > MOST_SUMS {
                columns.insert("FXC 5.1".into(), json!({ "needs": "fewer sums" }));
            }
            list.push(json!({
                "kernel": kernel.name, "variant": variant.to_string(), "needs": needs, "columns": columns,
            }));
        }
    }
    std::fs::write(folder.join("list.json"), serde_json::to_string_pretty(&list)?)?;
    println!("{} kernels, {} variants", REGISTRY.len(), list.len());
    Ok(())
}
