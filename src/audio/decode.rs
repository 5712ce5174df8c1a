//! Decoding: an open audio file to mono samples at the file's own rate.
//!
//! Integer PCM and 32-bit float wav files go through hound; all other codecs, and the wav variants hound does
//! not know (A-law, µ-law, ADPCM, 64-bit float), through symphonia. A wav header is read here first, because
//! neither library tells a truncated file from a damaged one; both then see the plainest equivalent header.
//! Invariant: memory grows with what was really decoded, never with a size some header declares.
//!
//! The encoder delay is cut from mp3 (LAME tag) and ogg; symphonia ignores the edit list of m4a files, so
//! AAC keeps its lead-in of 1024 to 2112 samples of near silence.

use std::io::{self, BufReader, Cursor, Read, SeekFrom};
use std::path::Path;

use symphonia::core::codecs::audio::{AudioCodecId, AudioDecoder, AudioDecoderOptions, well_known as codec};
use symphonia::core::errors::Error as CodecError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, ReadOnlySource};

use super::Waveform;
use crate::error::{Error, Result};

/// Rates outside this range are damage, and a tiny one would make a resampled clip enormous.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;
/// Limit on decoded frames (4 GiB of samples, 18 hours at 16 kHz): a few bytes of FLAC can encode any silence.
const MAX_FRAMES: usize = 1 << 30;
/// The remedy for what cannot be read here.
pub(super) const CONVERT: &str = "convert it first, for example with `ffmpeg -i INPUT output.wav`";

/// A wav file's format and where its samples are.
struct WavLayout {
    /// `WAVE_FORMAT_*` tag; for the extensible format the one inside its sub-format.
    tag: u16,
    /// Content of the format chunk, at least 16 bytes.
    fmt: Vec<u8>,
    channels: u16,
    rate: u32,
    /// Bytes of one sample of all channels, or of one block of a compressed codec.
    block_align: u16,
    /// Samples per channel that the fact chunk declares; a codec's last block is padded beyond them.
    fact: Option<u32>,
    data_at: u64,
    /// Bytes of audio data, whole blocks only.
    data_len: u32,
}

impl WavLayout {
    /// Bits that one PCM sample takes up. Fewer valid bits are left-aligned in it by the standard, so that it
    /// can be read as a sample of that many bits.
    fn container_bits(&self) -> u16 {
        if self.block_align.is_multiple_of(self.channels) {
            (self.block_align / self.channels).saturating_mul(8)
        } else {
            0
        }
    }

    /// The plainest header that says the same: real ones have odd chunks, stale sizes and padded format
    /// chunks that one library or the other refuses.
    fn header(&self) -> Vec<u8> {
        let mut fmt = self.fmt.clone();
        if matches!(self.tag, 1 | 3 | 6 | 7) {
            fmt.truncate(16);
            fmt[..2].copy_from_slice(&self.tag.to_le_bytes());
            let bytes_per_second = self.rate.saturating_mul(self.block_align.into());
            fmt[8..12].copy_from_slice(&bytes_per_second.to_le_bytes());
            fmt[14..16].copy_from_slice(&self.container_bits().to_le_bytes());
            if self.tag > 3 {
                fmt.extend([0, 0]); // the companded formats need the size of their (empty) extension
            }
        }
        let fmt_len = fmt.len() as u32;
        let parts: [&[u8]; 8] = [
            b"RIFF",
            &self.data_len.saturating_add(fmt_len + 20).to_le_bytes(),
            b"WAVEfmt ",
            &fmt_len.to_le_bytes(),
            &fmt,
            if fmt_len % 2 == 1 { b"\0" } else { b"" },
            b"data",
            &self.data_len.to_le_bytes(),
        ];
        parts.concat()
    }
}

/// A RIFF/WAVE file of `file_len` bytes.
pub(super) fn decode_wav(
    path: &Path,
    mut file: impl MediaSource + 'static,
    file_len: u64,
) -> Result<Waveform> {
    let wav = wav_layout(path, &mut file, file_len)?;
    file.seek(SeekFrom::Start(wav.data_at)).map_err(Error::io("read", path))?;
    let source = Cursor::new(wav.header()).chain(file.take(wav.data_len.into()));
    if matches!((wav.tag, wav.container_bits()), (1, 8 | 16 | 24 | 32) | (3, 32)) {
        return decode_pcm(path, BufReader::new(source));
    }
    let mut wave = decode_coded(path, Box::new(ReadOnlySource::new(source)), Some(wav.tag))?;
    if let Some(n) = wav.fact.filter(|&n| n > 0 && !matches!(wav.tag, 1 | 3)) {
        wave.samples.truncate(n as usize);
    }
    Ok(wave)
}

/// Walks the chunks up to `data` and checks that what they declare is possible.
fn wav_layout(path: &Path, file: &mut impl MediaSource, file_len: u64) -> Result<WavLayout> {
    let cut =
        || audio_error(path, "the wav header is incomplete: the file ends before its audio; copy it again");
    let (mut at, mut layout, mut fact) = (12u64, None, None);
    loop {
        let mut chunk = [0u8; 8];
        if at + 8 > file_len {
            return Err(cut());
        }
        file.seek(SeekFrom::Start(at)).map_err(Error::io("read", path))?;
        file.read_exact(&mut chunk).map_err(Error::io("read", path))?;
        let len = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
        let present = file_len - at - 8;
        match &chunk[..4] {
            b"fmt " => {
                // The longest known format chunk, of Microsoft ADPCM, has 50 bytes.
                let mut fmt = vec![0u8; len.min(256) as usize];
                if u64::from(len) > present {
                    return Err(cut());
                }
                file.read_exact(&mut fmt).map_err(Error::io("read", path))?;
                layout = Some(wav_format(path, fmt)?);
            }
            b"fact" if (4..=present).contains(&len.into()) => {
                let mut count = [0u8; 4];
                file.read_exact(&mut count).map_err(Error::io("read", path))?;
                fact = Some(u32::from_le_bytes(count));
            }
            b"data" => {
                let Some(wav) = layout else {
                    return bad(path, "the wav file has no format chunk before its data; export it again");
                };
                let unit = u64::from(wav.block_align);
                // Programs that write to a pipe mark the length as unknown: all that follows is audio.
                let declared = if len == u32::MAX { present } else { len.into() } / unit;
                let readable = present / unit;
                if declared == 0 {
                    return bad(path, "the wav file holds no audio samples");
                }
                if readable < declared {
                    let what = if matches!(wav.tag, 1 | 3 | 6 | 7) { "samples" } else { "blocks" };
                    let there = format!("{readable} of {declared} {what} per channel are there");
                    return bad(path, format!("the file is truncated: {there}; copy or download it again"));
                }
                let Ok(data_len) = u32::try_from(declared * unit) else {
                    return bad(path, "the wav file holds more than 4 GiB of audio; cut it into pieces");
                };
                return Ok(WavLayout { fact, data_at: at + 8, data_len, ..wav });
            }
            _ => {}
        }
        at += 8 + u64::from(len) + u64::from(len & 1);
    }
}

/// Reads the content of a format chunk; the fields about the data stay empty.
fn wav_format(path: &Path, fmt: Vec<u8>) -> Result<WavLayout> {
    if fmt.len() < 16 {
        return bad(path, format!("the wav format chunk has {} bytes instead of at least 16", fmt.len()));
    }
    let u16_at = |i: usize| u16::from_le_bytes([fmt[i], fmt[i + 1]]);
    // The sub-format of an extensible header is a GUID that starts with the tag proper.
    let tag = if u16_at(0) == 0xfffe && fmt.len() >= 26 { u16_at(24) } else { u16_at(0) };
    let (channels, block_align) = (u16_at(2), u16_at(12));
    let rate = u32::from_le_bytes([fmt[4], fmt[5], fmt[6], fmt[7]]);
    check_rate(path, rate)?;
    if channels == 0 || block_align == 0 {
        let what = if channels == 0 { "zero channels" } else { "a sample size of zero bytes" };
        return bad(path, format!("the wav header declares {what}; export the file again"));
    }
    Ok(WavLayout { tag, channels, rate, block_align, fmt, fact: None, data_at: 0, data_len: 0 })
}

/// Integer and 32-bit float samples behind a plain header.
fn decode_pcm(path: &Path, source: impl Read) -> Result<Waveform> {
    let failed =
        |e: hound::Error| audio_error(path, format!("the wav data cannot be decoded ({e}); {CONVERT}"));
    let reader = hound::WavReader::new(source).map_err(failed)?;
    let spec = reader.spec();
    let mut mixer = Mixer::new(path);
    mixer.channels = spec.channels.into();
    match spec.sample_format {
        hound::SampleFormat::Float => {
            for sample in reader.into_samples::<f32>() {
                mixer.push(sample.map_err(failed)?)?;
            }
        }
        hound::SampleFormat::Int => {
            // hound turns unsigned 8-bit samples into signed ones, so one rule serves all widths.
            let scale = 1.0 / 2f32.powi(i32::from(spec.bits_per_sample) - 1);
            for sample in reader.into_samples::<i32>() {
                mixer.push(sample.map_err(failed)? as f32 * scale)?;
            }
        }
    }
    Ok(Waveform { samples: mixer.out, sample_rate: spec.sample_rate })
}

/// Demultiplexes and decodes with symphonia. `wav_tag`: the format tag if this is a wav file.
pub(super) fn decode_coded(
    path: &Path,
    source: Box<dyn MediaSource>,
    wav_tag: Option<u16>,
) -> Result<Waveform> {
    let stream = MediaSourceStream::new(source, Default::default());
    let probe = symphonia::default::get_probe();
    let mut format = probe
        .probe(&Hint::new(), stream, Default::default(), Default::default())
        .map_err(|e| explain(path, &wav_name(wav_tag), e))?;
    let (mut track, mut name, mut decoder) = open_track(path, format.as_ref())?;
    // Only FLAC promises an exact length; in other formats it is an estimate or may be stale.
    let promised = match format.default_track(TrackType::Audio) {
        Some(t) if name == "FLAC" => t.num_frames.unwrap_or(0),
        _ => 0,
    };
    let mut mixer = Mixer::new(path);
    let (mut rate, mut skipped, mut buffer) = (None, 0usize, Vec::<f32>::new());
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(CodecError::ResetRequired) => {
                // A chained ogg file: the next link has its own track and decoder.
                (track, name, decoder) = open_track(path, format.as_ref())?;
                continue;
            }
            Err(e) => return Err(explain(path, &name, e)),
        };
        if packet.track_id != track {
            continue;
        }
        let audio = match decoder.decode(&packet) {
            Ok(audio) => audio,
            // A damaged frame is left out and decoding goes on, as players do.
            Err(CodecError::DecodeError(_) | CodecError::IoError(_)) => {
                skipped += 1;
                continue;
            }
            Err(e) => return Err(explain(path, &name, e)),
        };
        if audio.frames() == 0 {
            continue;
        }
        let found = audio.spec().rate();
        match rate {
            None => check_rate(path, found)?,
            Some(r) if r != found => {
                return bad(
                    path,
                    format!("the sample rate changes from {r} to {found} Hz midway; {CONVERT}"),
                );
            }
            Some(_) => {}
        }
        rate = Some(found);
        mixer.channels = audio.spec().channels().count().max(1);
        audio.copy_to_vec_interleaved(&mut buffer);
        for &sample in &buffer {
            mixer.push(sample)?;
        }
    }
    let n = mixer.out.len() as u64;
    match rate {
        _ if n == 0 && skipped > 0 => {
            bad(path, format!("none of its {skipped} {name} frames can be decoded; the file is damaged"))
        }
        _ if n < promised => {
            let reason = format!("the file is truncated or damaged: {n} of {promised} samples can be read");
            bad(path, format!("{reason}; copy or download it again"))
        }
        Some(sample_rate) if n > 0 => Ok(Waveform { samples: mixer.out, sample_rate }),
        _ => bad(path, "the file holds no audio samples"),
    }
}

/// Id, codec name and decoder of the track to play.
fn open_track(path: &Path, format: &dyn FormatReader) -> Result<(u32, String, Box<dyn AudioDecoder>)> {
    let track = format.default_track(TrackType::Audio);
    let known = track.and_then(|t| Some((t.id, t.codec_params.as_ref()?.audio()?.clone())));
    let Some((id, params)) = known else {
        return bad(path, format!("the file has no audio track in a known codec; {CONVERT}"));
    };
    let registry = symphonia::default::get_codecs();
    let known = registry.get_audio_decoder(params.codec).map(|d| d.codec.info.short_name.to_uppercase());
    let name = known.unwrap_or_else(|| codec_name(params.codec));
    let decoder = registry
        .make_audio_decoder(&params, &AudioDecoderOptions::default())
        .map_err(|e| explain(path, &name, e))?;
    Ok((id, name, decoder))
}

/// Names of codecs that containers can announce but nothing here decodes.
fn codec_name(id: AudioCodecId) -> String {
    let name = match id {
        codec::CODEC_ID_OPUS => "Opus",
        codec::CODEC_ID_SPEEX => "Speex",
        codec::CODEC_ID_ALAC => "Apple Lossless (ALAC)",
        codec::CODEC_ID_AC3 => "AC-3",
        codec::CODEC_ID_EAC3 => "E-AC-3",
        codec::CODEC_ID_DCA => "DTS",
        codec::CODEC_ID_MP2 => "MPEG layer II",
        other => return format!("unknown ({other})"),
    };
    name.into()
}

/// Names of wav format tags (`WAVE_FORMAT_*` of the Windows SDK) for messages.
fn wav_name(tag: Option<u16>) -> String {
    let name = match tag {
        None => return "audio".into(),
        Some(1) => "PCM",
        Some(2) => "Microsoft ADPCM",
        Some(3) => "float PCM",
        Some(6) => "A-law",
        Some(7) => "µ-law",
        Some(0x11) => "IMA ADPCM",
        Some(0x31) => "GSM 6.10",
        Some(0x50) => "MPEG layer I or II",
        Some(0x55) => "MP3",
        Some(other) => return format!("wav format 0x{other:04x}"),
    };
    format!("{name} wav")
}

/// Turns symphonia's error into a sentence. `name`: the codec or format.
fn explain(path: &Path, name: &str, e: CodecError) -> Error {
    match e {
        CodecError::IoError(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof) => audio_error(
            path,
            format!(
                "the {name} data ends too early: the file is truncated or damaged; copy or download it again"
            ),
        ),
        CodecError::IoError(e) => Error::io("read", path)(e),
        CodecError::Unsupported(what) => {
            audio_error(path, format!("the {name} codec of this file is not supported ({what}); {CONVERT}"))
        }
        other => audio_error(path, format!("the {name} data is damaged ({other}); {CONVERT}")),
    }
}

fn check_rate(path: &Path, rate: u32) -> Result<()> {
    if RATES.contains(&rate) {
        return Ok(());
    }
    let (lo, hi) = (RATES.start(), RATES.end());
    bad(path, format!("the file declares a sample rate of {rate} Hz; rates from {lo} to {hi} Hz can be read"))
}

/// Averages interleaved channels: in f32, first to last channel, as the reference's `to_mono` does.
struct Mixer<'a> {
    path: &'a Path,
    channels: usize,
    channel: usize,
    sum: f32,
    out: Vec<f32>,
}

impl<'a> Mixer<'a> {
    fn new(path: &'a Path) -> Self {
        Mixer { path, channels: 1, channel: 0, sum: 0.0, out: Vec::new() }
    }

    /// Takes the next interleaved sample.
    fn push(&mut self, sample: f32) -> Result<()> {
        self.sum += sample;
        if !self.sum.is_finite() {
            let (at, channel) = (self.out.len(), self.channel);
            return bad(
                self.path,
                format!("sample {at} of channel {channel} is {sample}, not a usable number; export it again"),
            );
        }
        self.channel += 1;
        if self.channel == self.channels {
            if self.out.len() == MAX_FRAMES {
                return bad(
                    self.path,
                    format!("the file has more than {MAX_FRAMES} samples; cut it into pieces"),
                );
            }
            self.out.push(self.sum / self.channels as f32);
            (self.channel, self.sum) = (0, 0.0);
        }
        Ok(())
    }
}

fn audio_error(path: &Path, reason: impl Into<String>) -> Error {
    Error::Audio { path: path.into(), reason: reason.into() }
}

/// An [`Error::Audio`] as a result.
pub(super) fn bad<T>(path: &Path, reason: impl Into<String>) -> Result<T> {
    Err(audio_error(path, reason))
}
