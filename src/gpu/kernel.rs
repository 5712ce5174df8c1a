//! One declaration per kernel: everything that pipelines, tests, benches and tables need to know.

use std::fmt;

/// How a dispatch uses one storage binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// One storage binding; its index is its position in the list plus one (0 is the parameters).
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// Read or read-write.
    pub access: Access,
    /// Name of the WGSL variable.
    pub name: &'static str,
}

/// A place in a kernel that is filled by one of several fragments with the same functions.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// Name after `// @slot`.
    pub name: &'static str,
    /// Fragments that fit.
    pub choices: &'static [&'static str],
}

/// A number the variant may choose.
#[derive(Debug, Clone, Copy)]
pub struct Const {
    /// Name of the WGSL constant.
    pub name: &'static str,
    /// Values that are tested; the first is the one in the file.
    pub choices: &'static [u32],
}

/// Static declaration of a kernel; made with the `kernel!` macro.
#[derive(Debug)]
pub struct Kernel {
    /// File name under `shaders/`, label, and key.
    pub name: &'static str,
    /// First line of documentation: the formula.
    pub summary: &'static str,
    /// The WGSL text.
    pub source: &'static str,
    /// Fields of the uniform `Params` struct: name and WGSL type (`u32`, `i32` or `f32`).
    pub params: &'static [(&'static str, &'static str)],
    /// Storage bindings in order.
    pub bindings: &'static [Binding],
    /// Fragment slots.
    pub slots: &'static [Slot],
    /// Tunable numbers, every choice of one with every choice of the others.
    pub consts: &'static [Const],
    /// Further sets of these numbers.
    pub also: &'static [&'static [(&'static str, u32)]],
}

/// A choice of fragments and constants for one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Variant {
    /// One fragment per slot.
    pub fragments: Vec<&'static str>,
    /// Replaced constants; those not named keep the number in the file.
    pub consts: Vec<(&'static str, u32)>,
}

impl Variant {
    /// A variant with these fragments, one per slot in order.
    pub fn fragments(names: &[&'static str]) -> Variant {
        Variant { fragments: names.to_vec(), consts: Vec::new() }
    }

    /// The same variant with a constant set.
    pub fn with(mut self, name: &'static str, value: u32) -> Variant {
        self.consts.push((name, value));
        self
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let consts = self.consts.iter().map(|(name, value)| format!("{name}={value}"));
        let parts: Vec<String> = self.fragments.iter().map(|s| s.to_string()).chain(consts).collect();
        write!(f, "{}", if parts.is_empty() { "default".into() } else { parts.join(" ") })
    }
}

impl Kernel {
    /// Every combination of the declared fragments and constants, then the further sets of constants with
    /// every combination of fragments.
    pub fn variants(&self) -> Vec<Variant> {
        let mut all = vec![Variant::default()];
        for slot in self.slots {
            all = all
                .into_iter()
                .flat_map(|v| {
                    slot.choices.iter().map(move |name| {
                        let mut next = v.clone();
                        next.fragments.push(name);
                        next
                    })
                })
                .collect();
        }
        let filled = all.clone();
        for constant in self.consts {
            all = all
                .into_iter()
                .flat_map(|v| constant.choices.iter().map(move |value| v.clone().with(constant.name, *value)))
                .collect();
        }
        for numbers in self.also {
            let with = |v: &Variant| numbers.iter().fold(v.clone(), |v, (name, value)| v.with(name, *value));
            all.extend(filled.iter().map(with));
        }
        all
    }
}

/// Declares a kernel: a `Params` struct that matches the shader's, and a static [`Kernel`]. A kernel
/// with the same parameters as another names the other's struct without fields.
///
/// ```text
/// kernel! {
///     /// out[r, c] = x[r, c] * rsqrt(mean_c(x[r, c]^2) + eps) * weight[c]
///     RMS_NORM = "rms_norm" {
///         params: RmsNormParams { n_rows: u32, n_cols: u32, eps: f32 },
///         bindings: [read x, read weight, write out],
///         slots: [],
///         consts: [WG: 64 | 256],
///     }
/// }
/// ```
macro_rules! kernel {
    (
        $(#[doc = $doc:literal])*
        $id:ident = $name:literal {
            params: $params:ident { $($field:ident: $ty:ident),* $(,)? },
            $($rest:tt)*
        }
    ) => {
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct $params { $(pub(crate) $field: $ty),* }

        impl $params {
            pub(crate) const FIELDS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($field), stringify!($ty))),*];
        }

        $crate::gpu::kernel::kernel! { $(#[doc = $doc])* $id = $name { params: $params, $($rest)* } }
    };
    (
        #[doc = $summary:literal]
        $(#[doc = $more:literal])*
        $id:ident = $name:literal {
            params: $params:ident,
            bindings: [$($access:ident $binding:ident),* $(,)?],
            slots: [$($slot:ident: $($choice:literal)|+),* $(,)?],
            consts: [$($const:ident: $($value:literal)|+),* $(,)?] $(,)?
            $(also: [$([$($also:ident: $number:literal),+]),+ $(,)?] $(,)?)?
        }
    ) => {
        // As text: an index in a formula is no link.
        #[doc = concat!("```text\n", $summary, "\n```")]
        $(#[doc = $more])*
        pub static $id: $crate::gpu::kernel::Kernel = $crate::gpu::kernel::Kernel {
            name: $name,
            summary: $summary.trim_ascii(),
            source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
            params: $params::FIELDS,
            bindings: &[$($crate::gpu::kernel::kernel!(@binding $access $binding)),*],
            slots: &[$($crate::gpu::kernel::Slot { name: stringify!($slot), choices: &[$($choice),+] }),*],
            consts: &[$($crate::gpu::kernel::Const { name: stringify!($const), choices: &[$($value),+] }),*],
            also: &[$($(&[$((stringify!($also), $number)),+]),+)?],
        };
    };
    (@binding read $name:ident) => {
        $crate::gpu::kernel::Binding { access: $crate::gpu::kernel::Access::Read, name: stringify!($name) }
    };
    (@binding write $name:ident) => {
        $crate::gpu::kernel::Binding { access: $crate::gpu::kernel::Access::Write, name: stringify!($name) }
    };
}
pub(crate) use kernel;
