//! `diffa devices`: every adapter, what it offers, and the kernels it would get.

use diffa::Result;
use diffa::gpu::adapter::{list, matching, none_found};
use diffa::gpu::caps::{Caps, describe};
use diffa::gpu::{AdapterChoice, Requirements};
use diffa::ops::attention::{AttentionShape, AttentionVariant};
use diffa::ops::lm_head::LmHeadVariant;
use diffa::ops::matmul::MatmulVariant;
use diffa::tune::Tuning;
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use super::args::{DevicesArgs, Global};
use super::{facts, load, terminal};

/// Rows and columns of the product that the matmul kernel is shown for: a projection of LLaDA-8B.
const TYPICAL_MATMUL: [usize; 3] = [128, 4096, 4096];
/// What the attention kernel is shown for: Whisper-small's encoder, and a block of LLaDA-8B.
const TYPICAL_ATTENTION: [AttentionShape; 2] = [
    AttentionShape { n_q: 1500, n_kv: 1500, n_heads: 12, n_kv_heads: 12, head_dim: 64 },
    AttentionShape { n_q: 32, n_kv: 565, n_heads: 32, n_kv_heads: 32, head_dim: 128 },
];

/// Runs the command.
pub(super) fn run(global: &Global, args: &DevicesArgs) -> Result<()> {
    let backend = global.backend.as_deref().map(AdapterChoice::parse_backend).transpose()?;
    let all = list(backend);
    let default = all.iter().position(|adapter| Requirements::missing(&adapter.limits()).is_empty());
    let mut shown: Vec<Device> =
        all.iter().enumerate().map(|(i, adapter)| Device::new(i, adapter, default == Some(i))).collect();
    for device in &mut shown {
        device.tuned = tuned(global, &describe(&device.info))?;
    }
    if let Some(wanted) = global.adapter.as_ref().filter(|_| !shown.is_empty()) {
        let names: Vec<String> = all.iter().map(|adapter| describe(&adapter.get_info())).collect();
        let found = matching(&names, wanted)?;
        shown.retain(|device| found.contains(&device.index));
    }
    if args.json {
        let adapters: Vec<Value> = shown.iter().map(Device::json).collect();
        terminal::print(&json!({ "adapters": adapters, "default": default }).to_string())?;
    }
    if shown.is_empty() {
        return Err(none_found());
    }
    for device in shown.iter().filter(|_| !args.json) {
        terminal::print(&device.text())?;
    }
    Ok(())
}

/// What there is to say about an adapter.
struct Device {
    index: usize,
    info: wgpu::AdapterInfo,
    limits: wgpu::Limits,
    features: wgpu::Features,
    /// One line per shape: `M x N x K, types`.
    cooperative: Vec<String>,
    missing: Vec<String>,
    is_default: bool,
    /// Key and fastest variant of every product that was measured.
    tuned: Vec<(String, String)>,
    matmul: String,
    /// For each of [`TYPICAL_ATTENTION`].
    attention: [String; 2],
    /// For a block of 32 rows.
    head: String,
}

impl Device {
    fn new(index: usize, adapter: &wgpu::Adapter, is_default: bool) -> Device {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let [rows, n, k] = TYPICAL_MATMUL;
        let caps = Caps::of_adapter(adapter);
        let mut cooperative: Vec<String> = adapter
            .cooperative_matrix_properties()
            .iter()
            .map(|p| {
                format!("{}x{}x{} {:?}->{:?}", p.m_size, p.n_size, p.k_size, p.ab_type, p.cr_type)
                    .to_lowercase()
            })
            .collect();
        cooperative.dedup();
        Device {
            index,
            features: adapter.features(),
            missing: Requirements::missing(&limits),
            matmul: MatmulVariant::default_for(&caps, rows, n, k).to_string(),
            attention: TYPICAL_ATTENTION.map(|shape| AttentionVariant::default_for(&caps, shape).to_string()),
            head: LmHeadVariant::default_for(&caps, caps.usual_candidates(32)).to_string(),
            info,
            limits,
            cooperative,
            is_default,
            tuned: Vec::new(),
        }
    }

    fn has(&self, feature: wgpu::Features) -> bool {
        self.features.contains(feature)
    }

    /// Smallest and largest subgroup, if shaders can use subgroups.
    fn subgroups(&self) -> Option<[u32; 2]> {
        self.has(wgpu::Features::SUBGROUP)
            .then_some([self.info.subgroup_min_size, self.info.subgroup_max_size])
    }

    fn json(&self) -> Value {
        let why = if self.is_default { "default" } else { "" };
        let mut value = facts::adapter(&self.info, why);
        let more = json!({
            "index": self.index,
            "usable": self.missing.is_empty(),
            "missing": self.missing,
            "default": self.is_default,
            "tuned": self.tuned.len(),
            "limits": {
                "max_storage_buffer_binding_size": self.limits.max_storage_buffer_binding_size,
                "max_buffer_size": self.limits.max_buffer_size,
                "max_compute_workgroup_storage_size": self.limits.max_compute_workgroup_storage_size,
                "max_compute_invocations_per_workgroup": self.limits.max_compute_invocations_per_workgroup,
                "max_storage_buffers_per_shader_stage": self.limits.max_storage_buffers_per_shader_stage,
            },
            "features": {
                "shader_f16": self.has(wgpu::Features::SHADER_F16),
                "subgroups": self.subgroups(),
                "timestamps": self.has(wgpu::Features::TIMESTAMP_QUERY),
                "cooperative_matrices": self.cooperative,
            },
            "kernels": {
                "matmul": self.matmul,
                "attention_64": self.attention[0],
                "attention_128": self.attention[1],
                "lm_head": self.head,
                "tuned": self.tuned.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            },
        });
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.remove("why");
            value.extend(more);
        }
        value
    }

    fn text(&self) -> String {
        let yes = |feature| if self.has(feature) { "yes" } else { "no" };
        let subgroups = match self.subgroups() {
            Some([min, max]) if min == max => format!("of {min}"),
            Some([min, max]) => format!("of {min} to {max}"),
            None => "no".into(),
        };
        let cooperative =
            if self.cooperative.is_empty() { "none".into() } else { self.cooperative.join(", ") };
        let usable = if self.missing.is_empty() {
            "yes".to_string()
        } else {
            format!("no, it lacks {}", self.missing.join(", "))
        };
        let [encoder, block] = &self.attention;
        let [rows, n, k] = TYPICAL_MATMUL;
        let lines = [
            ("usable", usable),
            ("buffers", {
                let [binding, buffer] =
                    [self.limits.max_storage_buffer_binding_size, self.limits.max_buffer_size];
                format!("up to {}, bound up to {}", BinaryBytes(buffer), BinaryBytes(binding))
            }),
            (
                "workgroups",
                format!(
                    "up to {} invocations, {} of memory",
                    self.limits.max_compute_invocations_per_workgroup,
                    BinaryBytes(self.limits.max_compute_workgroup_storage_size.into())
                ),
            ),
            (
                "features",
                format!(
                    "f16 {}, subgroups {subgroups}, timestamps {}, cooperative matrices {cooperative}",
                    yes(wgpu::Features::SHADER_F16),
                    yes(wgpu::Features::TIMESTAMP_QUERY)
                ),
            ),
            ("matmul", {
                let built_in = format!("{} ({rows} x {n} x {k})", self.matmul);
                match self.tuned.len() {
                    0 => format!("{built_in}, the built-in choice; `diffa tune` measures"),
                    n => format!("{n} measured choices of `diffa tune`, else {built_in}"),
                }
            }),
            (
                "attention",
                format!("{encoder} (Whisper-small's encoder); {block} (a block of 32 rows of LLaDA-8B)"),
            ),
            ("head", self.head.clone()),
        ];
        let mark = if self.is_default { " - default" } else { "" };
        let mut text = format!("{}: {}{mark}", self.index, describe(&self.info));
        for (name, value) in lines {
            text += &format!("\n   {name:<12}{value}");
        }
        for (key, variant) in &self.tuned {
            text += &format!("\n               {key}: {variant}");
        }
        text
    }
}

/// The measured choices for an adapter, if there are any and they are wanted.
fn tuned(global: &Global, adapter: &str) -> Result<Vec<(String, String)>> {
    match load::tuning_path(global, adapter) {
        Some(path) => {
            Ok(Tuning::read(&path, adapter)?.map(|t| t.choices().into_iter().collect()).unwrap_or_default())
        }
        None => Ok(Vec::new()),
    }
}
