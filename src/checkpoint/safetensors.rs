//! The safetensors format: 8 bytes header length, a JSON header, then the tensors' bytes.
//!
//! Input: a whole file. Output: name, type, shape and byte range of each tensor. As strict as the
//! reference implementation (tensors must fill the data part without gaps or overlaps), but each
//! complaint names the tensor and the numbers. Nothing is allocated by what the header claims.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use super::{Bytes, Found, Kind, Place, StoredDtype, byte_count};

/// Longest header accepted, bytes; the limit of the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

pub(super) fn read(bytes: &Bytes) -> Result<Vec<(String, Found)>, String> {
    let bytes = bytes.as_ref();
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("is no safetensors file: {} bytes are too few for a header", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(format!("is no safetensors file: it claims a header of {length} bytes"));
    }
    let header_length = usize::try_from(length).map_err(|e| e.to_string())?;
    let Some((header, data)) = rest.split_at_checked(header_length) else {
        return Err(format!(
            "is cut short: its header needs {} bytes, the file has {}; download it again",
            8 + header_length,
            bytes.len()
        ));
    };
    let Header(infos) = serde_json::from_slice(header)
        .map_err(|e| format!("its safetensors header is damaged or not JSON: {e}"))?;

    let start = 8 + header_length;
    let mut names = HashSet::new();
    for (name, info) in &infos {
        if !names.insert(name.as_str()) {
            return Err(format!("tensor `{name}` appears twice in the header"));
        }
        info.check(name)?;
    }
    let mut order: Vec<&(String, Info)> = infos.iter().collect();
    order.sort_by_key(|(_, info)| info.data_offsets);
    let (mut end, mut last) = (0, "the header");
    for (name, info) in order {
        let [from, to] = info.data_offsets;
        if from < end {
            return Err(format!("tensors `{last}` and `{name}` overlap at byte {from} of the data"));
        }
        if from > end {
            return Err(format!("tensor `{name}` starts at byte {from} of the data, expected {end}"));
        }
        if to > data.len() {
            return Err(format!(
                "is cut short: tensor `{name}` ends at byte {}, the file has {}; download it again",
                start.saturating_add(to),
                bytes.len()
            ));
        }
        (end, last) = (to, name);
    }
    if end < data.len() {
        return Err(format!("has {} bytes after the last tensor `{last}`", data.len() - end));
    }
    let found = infos.into_iter().map(|(name, info)| {
        let [from, to] = info.data_offsets;
        let kind = match info.dtype.as_str() {
            "F32" => Kind::Accepted(StoredDtype::F32),
            "F16" => Kind::Accepted(StoredDtype::F16),
            "BF16" => Kind::Accepted(StoredDtype::BF16),
            _ => Kind::Other(info.dtype),
        };
        let place = Place::Range(start + from..start + to);
        (name, Found { kind, shape: info.shape, n_bytes: to - from, place })
    });
    Ok(found.collect())
}

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl Info {
    /// Offsets in order, and shape times element size equal to the byte length where the type is known.
    fn check(&self, name: &str) -> Result<(), String> {
        let Info { dtype, shape, data_offsets: [from, to] } = self;
        let Some(length) = to.checked_sub(*from) else {
            return Err(format!("tensor `{name}` ends at byte {to}, before its start {from}"));
        };
        let element = match dtype.as_str() {
            "F64" | "I64" | "U64" | "C64" => 8,
            "F32" | "I32" | "U32" => 4,
            "F16" | "BF16" | "I16" | "U16" => 2,
            "I8" | "U8" | "BOOL" => 1,
            // Refused later, if anyone asks for it; its size is nobody's business.
            _ => return Ok(()),
        };
        match byte_count(shape, element) {
            Some(n) if n == length => Ok(()),
            Some(n) => Err(format!(
                "tensor `{name}` of shape {shape:?} and dtype {dtype} needs {n} bytes, its offsets span {length}"
            )),
            None => Err(format!("tensor `{name}` has the impossible shape {shape:?}")),
        }
    }
}

/// The header's entries in file order; a JSON map type would silently drop repeated names.
struct Header(Vec<(String, Info)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensor descriptions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut all = vec![];
                while let Some(name) = map.next_key::<String>()? {
                    let value: serde_json::Value = map.next_value()?;
                    if name != "__metadata__" {
                        let info = serde_json::from_value(value)
                            .map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?;
                        all.push((name, info));
                    }
                }
                Ok(Header(all))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
