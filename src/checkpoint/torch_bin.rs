//! torch's zip format (`pytorch_model.bin`): `NAME/data.pkl` describes the tensors, `NAME/data/KEY` are
//! the raw storages.
//!
//! Input: a whole file. Output: name, type, shape and place of each tensor. Storages that are stored and
//! read contiguously, which is what `torch.save` writes, are used in place; compressed or strided ones are
//! copied when asked for. Nothing in the file is executed (see `pickle`).

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Storage};
use super::{Bytes, Found, Kind, Place, byte_count};

/// Longest `data.pkl` accepted, bytes. That of a model with thousands of tensors has a few hundred thousand.
const MAX_PICKLE: u64 = 16 << 20;

/// Deflate cannot expand by more than this factor, so a larger claim is a lie.
const MAX_DEFLATE_RATIO: u64 = 1040;

/// The first bytes of torch's format before 1.6: a pickled magic number.
const OLD_MAGIC: [u8; 14] =
    [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

type Archive = ZipArchive<Cursor<Bytes>>;

/// A tensor whose bytes have to be produced: inflated, or gathered from a strided storage.
pub(super) struct View {
    storage: Record,
    /// In elements.
    offset: usize,
    /// In elements; `None` if contiguous.
    strides: Option<Vec<usize>>,
}

/// One record of the archive.
#[derive(Clone)]
struct Record {
    /// Its bytes in the file, compressed or not.
    range: Range<usize>,
    /// Size when inflated.
    n_bytes: usize,
    /// For compressed records, the archive and the number of the record in it.
    deflated: Option<(Archive, usize)>,
}

pub(super) fn read(bytes: &Bytes) -> Result<Vec<(String, Found)>, String> {
    let data = bytes.as_ref();
    if data.starts_with(&OLD_MAGIC) {
        return Err("is in torch's format from before 1.6; load it in Python and save it again: \
                    torch.save(torch.load(FILE, map_location='cpu'), FILE)"
            .into());
    }
    if !data.starts_with(b"PK\x03\x04") {
        return Err("is not a torch checkpoint: it does not begin like a zip archive".into());
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes.clone()))
        .map_err(|e| format!("is not a readable zip archive ({e}); the download may be incomplete"))?;
    let records = list(&mut archive, data.len())?;
    let mut pickles = records.keys().filter_map(|name| name.strip_suffix("/data.pkl"));
    let root = match (pickles.next(), pickles.next()) {
        (Some(root), None) => root.to_string(),
        (None, _) => return Err("is a zip archive without a `data.pkl`, so no torch checkpoint".into()),
        (Some(_), Some(_)) => return Err("holds more than one `data.pkl`".into()),
    };
    if let Some(order) = records.get(&format!("{root}/byteorder")) {
        let order = order.read(data, 16)?;
        if order.trim_ascii() != b"little" {
            let order = String::from_utf8_lossy(&order).into_owned();
            return Err(format!("its numbers are {order}-endian; only little-endian files are supported"));
        }
    }
    let pickle = records[&format!("{root}/data.pkl")].read(data, MAX_PICKLE)?;
    let mut found = vec![];
    for tensor in pickle::read(&pickle)? {
        let name = tensor.name.to_string();
        let one = place(&tensor, &records, &root).map_err(|reason| format!("tensor `{name}`: {reason}"))?;
        found.push((name, one));
    }
    Ok(found)
}

fn list(archive: &mut Archive, file_bytes: usize) -> Result<HashMap<String, Record>, String> {
    let shared = archive.clone();
    let mut records = HashMap::new();
    for i in 0..archive.len() {
        let file = archive.by_index_raw(i).map_err(|e| format!("zip record {i}: {e}"))?;
        let name = file.name().map_err(|e| format!("zip record {i}: {e}"))?.into_owned();
        let fail = |reason: &str| format!("record `{name}` {reason}");
        if file.encrypted() {
            return Err(fail("is encrypted"));
        }
        let start = file.data_start().ok_or_else(|| fail("has no data"))?;
        let end = start.checked_add(file.compressed_size()).filter(|&end| end <= file_bytes as u64);
        let end = end.ok_or_else(|| fail("reaches past the end of the file"))?;
        let deflated = match file.compression() {
            CompressionMethod::Stored if file.size() == file.compressed_size() => None,
            CompressionMethod::Stored => return Err(fail("is stored, but with two different sizes")),
            CompressionMethod::Deflated => Some((shared.clone(), i)),
            other => return Err(fail(&format!("is compressed by {other}, expected stored or deflated"))),
        };
        if file.size() > file.compressed_size().saturating_mul(MAX_DEFLATE_RATIO) {
            return Err(fail("claims an impossible compression ratio"));
        }
        let n_bytes = usize::try_from(file.size()).map_err(|_| fail("is too large"))?;
        records.insert(name, Record { range: start as usize..end as usize, n_bytes, deflated });
    }
    Ok(records)
}

impl Record {
    /// The whole record; refuses more than `limit` bytes.
    fn read(&self, file: &[u8], limit: u64) -> Result<Vec<u8>, String> {
        if self.n_bytes as u64 > limit {
            return Err(format!("a record of {} bytes, expected at most {limit}", self.n_bytes));
        }
        let Some((archive, index)) = &self.deflated else {
            return Ok(file[self.range.clone()].to_vec());
        };
        let mut archive = archive.clone();
        let record = archive.by_index(*index).map_err(|e| e.to_string())?;
        let mut out = vec![];
        // One byte more than claimed shows a record that inflates to more.
        record
            .take(self.n_bytes as u64 + 1)
            .read_to_end(&mut out)
            .map_err(|e| format!("cannot inflate: {e}"))?;
        if out.len() != self.n_bytes {
            return Err(format!("inflates to another size than the {} bytes announced", self.n_bytes));
        }
        Ok(out)
    }
}

fn place(
    tensor: &pickle::Tensor<'_>,
    records: &HashMap<String, Record>,
    root: &str,
) -> Result<Found, String> {
    let pickle::Tensor { storage, key, n_elements, offset, shape, strides, .. } = tensor;
    let (kind, element) = match storage {
        Storage::Accepted(dtype) => (Kind::Accepted(*dtype), dtype.row_bytes(1)),
        Storage::Other(name, size) => (Kind::Other((*name).to_string()), *size),
    };
    let path = format!("{root}/data/{key}");
    let record = records.get(&path).ok_or_else(|| format!("its record `{path}` is missing"))?;
    let stored = n_elements.checked_mul(element).ok_or("an impossible storage size")?;
    if record.n_bytes < stored {
        return Err(format!("its record `{path}` has {} bytes, expected {stored}", record.n_bytes));
    }
    let impossible = || format!("the impossible shape {shape:?}");
    let n_bytes = byte_count(shape, element).ok_or_else(impossible)?;
    let count = n_bytes / element;
    // One past the last element that is read.
    let reach = if count == 0 {
        *offset
    } else {
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(*offset, |at, (&d, &s)| at.checked_add((d - 1).checked_mul(s)?));
        last.and_then(|last| last.checked_add(1)).ok_or_else(impossible)?
    };
    if reach > *n_elements || count > *n_elements {
        return Err(format!(
            "shape {shape:?} with strides {strides:?} at offset {offset} reaches beyond its storage of {n_elements} elements"
        ));
    }
    let contiguous = count == 0 || is_contiguous(shape, strides);
    let place = if contiguous && record.deflated.is_none() {
        let start = record.range.start + if count == 0 { 0 } else { offset * element };
        Place::Range(start..start + n_bytes)
    } else {
        // The stride of a dimension of size 1 is never used and may be anything.
        let used = shape.iter().zip(strides).map(|(&d, &s)| if d == 1 { 0 } else { s });
        let strides = if contiguous { None } else { Some(used.collect()) };
        Place::View(View { storage: record.clone(), offset: *offset, strides })
    };
    Ok(Found { kind, shape: shape.clone(), n_bytes, place })
}

/// Row-major without gaps; the stride of a dimension of size 1 does not matter.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&d, &s)| {
        let ok = d == 1 || s == expected;
        expected *= d;
        ok
    })
}

impl View {
    /// Bytes of the file that a read touches.
    pub(super) fn range(&self) -> &Range<usize> {
        &self.storage.range
    }

    /// The tensor's bytes, row-major.
    pub(super) fn read(&self, file: &[u8], shape: &[usize], element: usize) -> Result<Vec<u8>, String> {
        let inflated;
        let storage = if self.storage.deflated.is_some() {
            inflated = self.storage.read(file, u64::MAX)?;
            &inflated[..]
        } else {
            &file[self.storage.range.clone()]
        };
        let n_bytes = byte_count(shape, element).ok_or("an impossible shape")?;
        let Some(strides) = &self.strides else {
            let start = self.offset * element;
            return Ok(storage[start..start + n_bytes].to_vec());
        };
        let mut out = Vec::with_capacity(n_bytes);
        let mut index = vec![0; shape.len()];
        let mut at = self.offset;
        while out.len() < n_bytes {
            out.extend_from_slice(&storage[at * element..(at + 1) * element]);
            // Advance the innermost index; on overflow rewind it and carry.
            for d in (0..shape.len()).rev() {
                index[d] += 1;
                at += strides[d];
                if index[d] < shape[d] {
                    break;
                }
                at -= strides[d] * shape[d];
                index[d] = 0;
            }
        }
        Ok(out)
    }
}
