//! Every kernel in every variant: parses, validates with core WGSL only, matches its declaration, and
//! translates to SPIR-V, MSL and HLSL. Needs no GPU.

use std::collections::BTreeSet;
use std::path::Path;

use diffa::gpu::kernel::{Access, Kernel, Variant};
use diffa::gpu::needs::Need;
use diffa::gpu::shader::{compose, needs};
use diffa::ops::REGISTRY;
use diffa::ops::matmul::CoopBlock;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{
    AddressSpace, Block, Expression, Handle, Module, ScalarKind, Statement, StorageAccess, TypeInner,
};

fn parse(kernel: &Kernel, variant: &Variant) -> (Module, ModuleInfo) {
    let text = compose(kernel, variant).unwrap_or_else(|e| panic!("{} ({variant}): {e}", kernel.name));
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|e| panic!("{} ({variant}): {}", kernel.name, e.emit_to_string(&text)));
    // `unpack2x16float` is core WGSL, but old GL lacks it, so naga names it as a capability.
    let core = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let allowed = needed(kernel, variant).into_iter().fold(core, |all, need| all | capability(need));
    let info = Validator::new(ValidationFlags::all(), allowed)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{} ({variant}): {}", kernel.name, e.emit_to_string(&text)));
    (module, info)
}

fn needed(kernel: &Kernel, variant: &Variant) -> Vec<Need> {
    needs(kernel, variant).unwrap_or_else(|e| panic!("{} ({variant}): {e}", kernel.name))
}

fn capability(need: Need) -> Capabilities {
    match need {
        Need::F16 => Capabilities::SHADER_FLOAT16,
        Need::Subgroup | Need::Subgroup8 => Capabilities::SUBGROUP,
        Need::CooperativeMatrix(_) => Capabilities::COOPERATIVE_MATRIX,
    }
}

fn every_variant(mut check: impl FnMut(&'static Kernel, &Variant)) {
    for kernel in REGISTRY {
        let variants = kernel.variants();
        assert!(!variants.is_empty(), "{}: no variants", kernel.name);
        for variant in &variants {
            check(kernel, variant);
        }
    }
}

#[test]
fn variants_match_their_declaration() {
    every_variant(|kernel, variant| {
        let (module, _) = parse(kernel, variant);
        let mut bindings = vec![None; kernel.bindings.len() + 1];
        for (_, global) in module.global_variables.iter() {
            let Some(binding) = &global.binding else { continue };
            assert_eq!(binding.group, 0, "{}", kernel.name);
            bindings[binding.binding as usize] =
                Some((global.name.clone().unwrap(), global.space, global.ty));
        }
        let (name, space, ty) = bindings[0].clone().expect("binding 0 holds the parameters");
        assert_eq!((name.as_str(), space), ("params", AddressSpace::Uniform), "{}", kernel.name);
        let TypeInner::Struct { members, .. } = &module.types[ty].inner else {
            panic!("{}: params is no struct", kernel.name)
        };
        let fields: Vec<(String, &str)> = members
            .iter()
            .map(|member| {
                let TypeInner::Scalar(scalar) = module.types[member.ty].inner else {
                    panic!("{}: field {:?} is no scalar", kernel.name, member.name)
                };
                let ty = match scalar.kind {
                    ScalarKind::Float => "f32",
                    ScalarKind::Uint => "u32",
                    _ => panic!("{}: field {:?} is neither f32 nor u32", kernel.name, member.name),
                };
                (member.name.clone().unwrap(), ty)
            })
            .collect();
        let declared: Vec<(String, &str)> = kernel.params.iter().map(|(n, t)| (n.to_string(), *t)).collect();
        assert_eq!(fields, declared, "{}: parameters differ from the declaration", kernel.name);
        for (declared, found) in kernel.bindings.iter().zip(&bindings[1..]) {
            let (name, space, _) =
                found.clone().unwrap_or_else(|| panic!("{}: gap in bindings", kernel.name));
            let access = match declared.access {
                Access::Read => StorageAccess::LOAD,
                Access::Write => StorageAccess::LOAD | StorageAccess::STORE,
            };
            assert_eq!(name, declared.name, "{}", kernel.name);
            assert_eq!(space, AddressSpace::Storage { access }, "{}.{name}", kernel.name);
        }
    });
}

#[test]
fn variants_name_exactly_what_they_need() {
    every_variant(|kernel, variant| {
        let text = compose(kernel, variant).unwrap();
        let module = naga::front::wgsl::parse_str(&text).unwrap();
        let all = needed(kernel, variant);
        for left_out in &all {
            let others = all.iter().filter(|need| *need != left_out);
            let allowed =
                others.fold(Capabilities::SHADER_FLOAT16_IN_FLOAT32, |all, need| all | capability(*need));
            let valid = Validator::new(ValidationFlags::all(), allowed).validate(&module).is_ok();
            assert!(!valid, "{} ({variant}) is valid without {left_out}", kernel.name);
        }
        // The core of every kernel is offered everywhere: what is needed has a variant without it, or another
        // kernel that does the same.
        let spared = all.is_empty() || kernel.variants().iter().any(|v| needed(kernel, v).is_empty());
        let elsewhere =
            ["matmul_coop", "matmul_shuffle", "attention_coop", "attention_shuffle", "lm_head_shuffle"];
        let replaced = elsewhere.contains(&kernel.name);
        assert!(spared || replaced, "{}: no variant for core WGSL", kernel.name);
    });
}

#[test]
fn kernels_stay_within_default_limits() {
    let limits = wgpu_default_limits();
    every_variant(|kernel, variant| {
        assert!(kernel.bindings.len() <= 7, "{}: Metal may want one of the eight slots", kernel.name);
        let (module, info) = parse(kernel, variant);
        let used = info.get_entry_point(0);
        let bytes: u32 = module
            .global_variables
            .iter()
            .filter(|(handle, g)| g.space == AddressSpace::WorkGroup && !used[*handle].is_empty())
            .map(|(_, g)| module.types[g.ty].inner.size(module.to_ctx()))
            .sum();
        let [x, y, z] = module.entry_points[0].workgroup_size;
        let most = coop_bytes(kernel, variant).unwrap_or(limits.1);
        assert!(bytes <= most, "{} ({variant}): {bytes} bytes of workgroup memory", kernel.name);
        assert!(x * y * z <= limits.0, "{} ({variant}): {} lanes", kernel.name, x * y * z);
    });
}

/// Workgroup memory that a product on cooperative matrices asks for before it is taken. Every device with such
/// matrices has 32 KiB.
fn coop_bytes(kernel: &Kernel, variant: &Variant) -> Option<u32> {
    let of_variant = |block: &CoopBlock| variant.fragments.contains(&block.fragment());
    let block = CoopBlock::ALL.into_iter().filter(|_| kernel.name == "matmul_coop").find(of_variant)?;
    let bytes = block.memory_bytes(if variant.fragments.contains(&"coop_8") { 8 } else { 16 });
    assert!(bytes <= 32 << 10, "{variant}: {bytes} bytes of workgroup memory");
    Some(bytes)
}

/// (lanes per workgroup, workgroup bytes) of WebGPU's default limits.
fn wgpu_default_limits() -> (u32, u32) {
    let limits = diffa::wgpu::Limits::default();
    (limits.max_compute_invocations_per_workgroup, limits.max_compute_workgroup_storage_size)
}

/// Metal and D3D may write a whole vector where WGSL stores one of its components, over what another lane has just
/// stored beside it. Lanes share memory of workgroups and buffers, so there only whole vectors are stored.
#[test]
fn no_lane_stores_one_component_of_a_shared_vector() {
    every_variant(|kernel, variant| {
        let (module, info) = parse(kernel, variant);
        let entry = module.entry_points.iter().enumerate();
        let entries = entry.map(|(i, entry)| (&entry.function, info.get_entry_point(i)));
        let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
        for (function, info) in entries.chain(functions) {
            for_each_store(&function.body, &mut |pointer| {
                let (Expression::Access { base, .. } | Expression::AccessIndex { base, .. }) =
                    function.expressions[pointer]
                else {
                    return;
                };
                let (is_vector, space) = match *info[base].ty.inner_with(&module.types) {
                    TypeInner::Pointer { base, space } => {
                        (matches!(module.types[base].inner, TypeInner::Vector { .. }), space)
                    }
                    TypeInner::ValuePointer { size, space, .. } => (size.is_some(), space),
                    _ => return,
                };
                let is_shared = matches!(space, AddressSpace::WorkGroup | AddressSpace::Storage { .. });
                assert!(!(is_vector && is_shared), "{} ({variant}) stores a component", kernel.name);
            });
        }
    });
}

/// Calls `found` with the pointer of every store.
fn for_each_store(block: &Block, found: &mut impl FnMut(Handle<Expression>)) {
    for statement in block.iter() {
        match statement {
            Statement::Store { pointer, .. } => found(*pointer),
            Statement::Block(block) => for_each_store(block, found),
            Statement::If { accept, reject, .. } => {
                for_each_store(accept, found);
                for_each_store(reject, found);
            }
            Statement::Switch { cases, .. } => {
                cases.iter().for_each(|case| for_each_store(&case.body, found));
            }
            Statement::Loop { body, continuing, .. } => {
                for_each_store(body, found);
                for_each_store(continuing, found);
            }
            _ => {}
        }
    }
}

#[test]
fn variants_translate_to_spirv_msl_and_hlsl() {
    every_variant(|kernel, variant| {
        let (module, info) = parse(kernel, variant);
        let fail =
            |target: &str, error: String| -> ! { panic!("{} ({variant}) to {target}: {error}", kernel.name) };

        let options = naga::back::spv::Options::default();
        if let Err(e) = naga::back::spv::write_vec(&module, &info, &options, None) {
            fail("SPIR-V", e.to_string());
        }
        let options = naga::back::msl::Options {
            lang_version: (2, 3),
            fake_missing_bindings: true,
            ..Default::default()
        };
        if let Err(e) = naga::back::msl::write_string(&module, &info, &options, &Default::default()) {
            fail("MSL", e.to_string());
        }
        // naga has no cooperative matrices for HLSL; half floats came with 6.2, subgroups with 6.0.
        use naga::back::hlsl::ShaderModel;
        let needs = needed(kernel, variant);
        let models: &[ShaderModel] = match needs.iter().max() {
            None => &[ShaderModel::V5_1, ShaderModel::V6_0],
            Some(Need::F16) => &[ShaderModel::V6_2],
            Some(Need::Subgroup | Need::Subgroup8) => &[ShaderModel::V6_2],
            Some(Need::CooperativeMatrix(_)) => &[],
        };
        for &shader_model in models {
            let options =
                naga::back::hlsl::Options { shader_model, fake_missing_bindings: true, ..Default::default() };
            let mut text = String::new();
            let pipeline = Default::default();
            let mut writer = naga::back::hlsl::Writer::new(&mut text, &options, &pipeline);
            if let Err(e) = writer.write(&module, &info, None) {
                fail("HLSL", e.to_string());
            }
        }
    });
}

#[test]
fn every_shader_file_is_in_the_registry() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "wgsl"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let declared: BTreeSet<String> = REGISTRY.iter().map(|k| k.name.to_string()).collect();
    assert_eq!(files, declared);
}

#[test]
fn composing_refuses_what_it_does_not_know() {
    let kernel = REGISTRY.iter().find(|k| k.name == "matmul_direct").unwrap();
    let good = kernel.variants().remove(0);
    assert!(compose(kernel, &good).is_ok());
    assert!(compose(kernel, &Variant::default()).unwrap_err().contains("not filled"));
    assert!(compose(kernel, &Variant::fragments(&["weights_q9"])).unwrap_err().contains("weights_q9"));
    assert!(compose(kernel, &good.with("NO_SUCH", 1)).unwrap_err().contains("NO_SUCH"));
}
