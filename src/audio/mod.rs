//! Audio files to mono samples at the rate the model wants.
//!
//! Input: any wav, flac, mp3, ogg/vorbis, m4a/aac file. Output: one [`Waveform`]. The format is decided by
//! the file's first bytes, never by its name. Channels are averaged before the rate is changed, as the
//! reference does (`to_mono`, then `resample`). Invariant: every sample that a file gives is finite,
//! and what [`read_native`] returns has at least one of them and a rate that is not zero.

mod decode;
mod resample;

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::Path;

use symphonia::core::io::MediaSource;

use self::decode::{CONVERT, bad};
use crate::error::{Error, Result};

/// Mono samples at a known rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Waveform {
    /// `[n]` amplitudes. Integer formats span \[−1, 1); float files are taken as they are.
    pub samples: Vec<f32>,
    /// Samples per second.
    pub sample_rate: u32,
}

impl Waveform {
    /// Length in seconds; 0 for a waveform without a rate.
    pub fn duration_s(&self) -> f64 {
        if self.sample_rate == 0 { 0.0 } else { self.samples.len() as f64 / f64::from(self.sample_rate) }
    }

    /// The same sound at `rate` samples per second: `ceil(n · rate / sample_rate)` samples.
    ///
    /// torchaudio's default resampler (windowed sinc, Hann window, width 6, roll-off 0.99), so that features
    /// match the reference. Returns the input untouched if it already has that rate, and no samples if either
    /// rate is zero.
    pub fn resampled(self, rate: u32) -> Waveform {
        if rate == self.sample_rate {
            return self;
        }
        Waveform { samples: resample::resample(&self.samples, self.sample_rate, rate), sample_rate: rate }
    }
}

/// Reads any supported file as mono at `sample_rate` samples per second.
///
/// # Errors
/// [`Error::Usage`] if `sample_rate` is zero, otherwise those of [`read_native`].
pub fn read(path: &Path, sample_rate: u32) -> Result<Waveform> {
    if sample_rate == 0 {
        return Err(Error::usage("sample_rate", "the target rate must be at least 1 Hz"));
    }
    Ok(read_native(path)?.resampled(sample_rate))
}

/// Reads any supported file as mono at the file's own rate.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened or read; [`Error::Audio`] if it is a folder, empty, truncated,
/// damaged, not audio, in an unsupported codec, without samples, or holds NaN or infinite samples.
pub fn read_native(path: &Path) -> Result<Waveform> {
    // Asked by name before opening: opening a folder fails differently on each system, and a pipe would block.
    let meta = fs::metadata(path).map_err(Error::io("read", path))?;
    if meta.is_dir() {
        return bad(path, "this is a folder; name an audio file inside it");
    }
    if !meta.is_file() {
        return bad(path, "this is not a regular file; save the audio to a file first");
    }
    if meta.len() == 0 {
        return bad(path, "the file is empty; export or download it again");
    }
    decode_any(path, File::open(path).map_err(Error::io("read", path))?, meta.len())
}

/// Reads the bytes of any supported file, for example audio embedded in a table, as mono at `sample_rate`
/// samples per second. `name` stands for the file in messages.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(name: &Path, bytes: Vec<u8>, sample_rate: u32) -> Result<Waveform> {
    if sample_rate == 0 {
        return Err(Error::usage("sample_rate", "the target rate must be at least 1 Hz"));
    }
    if bytes.is_empty() {
        return bad(name, "the audio is empty; export or download it again");
    }
    let len = bytes.len() as u64;
    Ok(decode_any(name, Cursor::new(bytes), len)?.resampled(sample_rate))
}

fn decode_any(path: &Path, mut source: impl MediaSource + 'static, len: u64) -> Result<Waveform> {
    let mut head = Vec::with_capacity(1024);
    Read::by_ref(&mut source).take(1024).read_to_end(&mut head).map_err(Error::io("read", path))?;
    source.rewind().map_err(Error::io("read", path))?;
    match sniff(&head) {
        Kind::Wav => decode::decode_wav(path, source, len),
        Kind::Coded => decode::decode_coded(path, Box::new(source), None),
        Kind::Foreign(what) => bad(path, format!("this is {what}, which is not supported; {CONVERT}")),
        Kind::NotAudio(what) => bad(path, format!("this is {what}, not audio; name an audio file")),
        Kind::Text => bad(path, "this is a text file, not audio; check that the download or path is right"),
        Kind::LfsPointer => bad(path, "this is a Git LFS pointer; run `git lfs pull` to fetch the audio"),
        Kind::Unknown => bad(path, format!("this is not a known audio format; if it is audio, {CONVERT}")),
    }
}

/// What the first bytes of a file say it is.
enum Kind {
    Wav,
    Coded,
    /// Audio that nothing here decodes.
    Foreign(&'static str),
    NotAudio(&'static str),
    Text,
    LfsPointer,
    Unknown,
}

/// Magic bytes of formats that cannot be read, with the name to show.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"RF64", "a 64-bit (RF64) wav file"),
    (b"riff", "a Wave64 file"),
    (b"FORM", "an AIFF file"),
    (b"caff", "a Core Audio (CAF) file"),
    (b".snd", "a Sun audio (AU) file"),
    (b"#!AMR", "an AMR file"),
    (b"wvpk", "a WavPack file"),
    (b"MAC ", "a Monkey's Audio file"),
    (b"DSD ", "a DSD file"),
    (b"MThd", "a MIDI file"),
    (b"\x30\x26\xb2\x75", "a Windows Media (WMA) file"),
    (b"RIFF", "a RIFF file without WAVE content"),
];

/// Magic bytes of files that people mistake for audio.
const NOT_AUDIO: &[(&[u8], &str)] = &[
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
];

fn sniff(head: &[u8]) -> Kind {
    if head.starts_with(b"RIFF") && head.get(8..12).is_none_or(|form| form == b"WAVE") {
        return Kind::Wav;
    }
    if let Some((_, name)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Kind::Foreign(name);
    }
    if let Some((_, name)) = NOT_AUDIO.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Kind::NotAudio(name);
    }
    if head.starts_with(b"version https://git-lfs") {
        return Kind::LfsPointer;
    }
    let tagged: [&[u8]; 5] = [b"fLaC", b"OggS", b"ID3", b"APETAGEX", b"\x1a\x45\xdf\xa3"];
    if tagged.iter().any(|magic| head.starts_with(magic)) || head.get(4..8) == Some(b"ftyp") {
        return Kind::Coded;
    }
    match *head {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Kind::Text, // UTF-16 byte order mark
        // ADTS (raw AAC): 12 sync bits, version, layer 0, protection; profile, rate index below 13.
        [0xff, b, c, ..] if b & 0xf6 == 0xf0 && (c >> 2) & 15 < 13 => return Kind::Coded,
        // An MPEG frame: 11 sync bits, version, layer (1 = III, 2 = II), protection; bit rate, sample rate.
        [0xff, b, c, ..] if b & 0xe0 == 0xe0 && (b >> 3) & 3 != 1 && (c >> 2) & 3 != 3 && c >> 4 != 15 => {
            match (b >> 1) & 3 {
                1 => return Kind::Coded,
                2 => return Kind::Foreign("MPEG layer II audio"),
                _ => {}
            }
        }
        _ => {}
    }
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or(""),
        Err(_) => "",
    };
    let printable = |c: char| !c.is_control() || c.is_ascii_whitespace();
    if !text.is_empty() && text.chars().all(printable) { Kind::Text } else { Kind::Unknown }
}
