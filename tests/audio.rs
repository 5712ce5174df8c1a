//! Audio loading against the golden waveforms, on every supported format, and on damaged files.

use std::path::{Path, PathBuf};

use diffa::audio::{self, Waveform};
use diffa::error::Error;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tiny(name: &str) -> PathBuf {
    root().join("tests/fixtures/tiny").join(name)
}

fn demo(name: &str) -> PathBuf {
    root().join("assets/demo/audio").join(name)
}

fn small(name: &str) -> PathBuf {
    root().join("tests/fixtures/audio").join(name)
}

/// Writes `bytes` to a file and reads it as audio; the folder lives as long as the call.
fn read_bytes(name: &str, bytes: &[u8]) -> diffa::error::Result<Waveform> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    audio::read_native(&path)
}

/// The message of the [`Error::Audio`] that `bytes` must give.
fn refused(name: &str, bytes: &[u8]) -> String {
    match read_bytes(name, bytes) {
        Err(Error::Audio { reason, .. }) => reason,
        other => panic!("{name}: expected an audio error, got {other:?}"),
    }
}

/// A wav file with the given format chunk fields and data.
fn wav(tag: u16, channels: u16, rate: u32, bits: u16, block_align: u16, data: &[u8]) -> Vec<u8> {
    let mut w = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
    w.extend(tag.to_le_bytes());
    w.extend(channels.to_le_bytes());
    w.extend(rate.to_le_bytes());
    w.extend(rate.wrapping_mul(block_align.into()).to_le_bytes());
    w.extend(block_align.to_le_bytes());
    w.extend(bits.to_le_bytes());
    w.extend(b"data");
    w.extend((data.len() as u32).to_le_bytes());
    w.extend(data);
    let riff = w.len() as u32 - 8;
    w[4..8].copy_from_slice(&riff.to_le_bytes());
    w
}

fn pcm16(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

/// Amplitude of the component at `hz`.
fn level(w: &Waveform, hz: f64) -> f64 {
    let step = 2.0 * std::f64::consts::PI * hz / f64::from(w.sample_rate);
    let (mut re, mut im) = (0.0, 0.0);
    for (i, s) in w.samples.iter().enumerate() {
        re += f64::from(*s) * (step * i as f64).cos();
        im += f64::from(*s) * (step * i as f64).sin();
    }
    2.0 * re.hypot(im) / w.samples.len() as f64
}

#[test]
fn golden_waveforms_are_met_within_2e_6() {
    let bytes = std::fs::read(tiny("expected/wave_16k.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.len() >= 5);
    for (name, tensor) in file.iter() {
        let want: Vec<f32> =
            tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let got = audio::read(&tiny(&format!("wav/{name}.wav")), 16000).unwrap();
        assert_eq!(got.sample_rate, 16000);
        assert_eq!(got.samples.len(), want.len(), "{name}");
        let worst = got.samples.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: {worst:e}");
        assert!(worst <= 2e-6, "{name}: {worst}");
    }
}

#[test]
fn sample_counts_are_the_reference_s() {
    let json = std::fs::read(tiny("expected/audio.json")).unwrap();
    let clips: serde_json::Value = serde_json::from_slice(&json).unwrap();
    for (name, clip) in clips.as_object().unwrap() {
        let w = audio::read(&tiny(&format!("wav/{name}.wav")), 16000).unwrap();
        assert_eq!(w.samples.len() as u64, clip["samples_16k"].as_u64().unwrap(), "{name}");
    }
}

#[test]
fn integer_formats_scale_by_their_full_range() {
    let ok = |bytes: Vec<u8>| read_bytes("x.wav", &bytes).unwrap().samples;
    let s16 = pcm16(&[-32768, -1, 0, 1, 32767]);
    let step = 1.0 / 32768.0;
    assert_eq!(ok(wav(1, 1, 16000, 16, 2, &s16)), [-1.0, -step, 0.0, step, 1.0 - step]);
    assert_eq!(ok(wav(1, 1, 16000, 8, 1, &[0, 127, 128, 255])), [-1.0, -1.0 / 128.0, 0.0, 127.0 / 128.0]);
    assert_eq!(ok(wav(1, 1, 16000, 24, 3, &[0, 0, 0x80, 1, 0, 0])), [-1.0, 1.0 / 8_388_608.0]);
    let s32: Vec<u8> = [i32::MIN, 1 << 30].iter().flat_map(|s| s.to_le_bytes()).collect();
    assert_eq!(ok(wav(1, 1, 16000, 32, 4, &s32)), [-1.0, 0.5]);
    let f32s: Vec<u8> = [1.5f32, -0.25].iter().flat_map(|s| s.to_le_bytes()).collect();
    assert_eq!(ok(wav(3, 1, 16000, 32, 4, &f32s)), [1.5, -0.25]);
    let f64s: Vec<u8> = [1.5f64, -0.25].iter().flat_map(|s| s.to_le_bytes()).collect();
    assert_eq!(ok(wav(3, 1, 16000, 64, 8, &f64s)), [1.5, -0.25]);
}

#[test]
fn extensible_samples_in_a_wider_container_are_left_aligned() {
    let mut w = wav(0xfffe, 1, 16000, 32, 4, &[]);
    w.truncate(36);
    w[16] = 40;
    w.extend([22, 0, 24, 0, 4, 0, 0, 0]);
    w.extend(b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
    w.extend(b"data\x08\0\0\0\0\0\0\x40\0\0\0\xc0");
    assert_eq!(read_bytes("x.wav", &w).unwrap().samples, [0.5, -0.5]);
}

#[test]
fn channels_are_averaged() {
    let mix = read_bytes("x.wav", &wav(1, 2, 8000, 16, 4, &pcm16(&[16384, 0, -16384, 8192]))).unwrap();
    assert_eq!(mix.samples, [0.25, -0.125]);
    assert_eq!((mix.sample_rate, mix.duration_s()), (8000, 2.0 / 8000.0));
}

#[test]
fn the_name_does_not_matter() {
    let bytes = std::fs::read(demo("09_day_woman1_slow.flac")).unwrap();
    assert_eq!(
        read_bytes("x.wav", &bytes).unwrap(),
        audio::read_native(&demo("09_day_woman1_slow.wav")).unwrap()
    );
}

#[test]
fn flac_equals_wav_and_lossy_formats_have_its_length() {
    let wav = audio::read_native(&demo("09_day_woman1_slow.wav")).unwrap();
    assert_eq!(audio::read_native(&demo("09_day_woman1_slow.flac")).unwrap(), wav);
    for (lossy, original) in [
        ("01_command_woman1_medium.mp3", "01_command_woman1_medium.wav"),
        ("19_melody_up.ogg", "19_melody_up.wav"),
    ] {
        let want = audio::read(&demo(original), 16000).unwrap();
        let got = audio::read(&demo(lossy), 16000).unwrap();
        // The encoder delay must be gone: correlation without any shift.
        let n = want.samples.len().min(got.samples.len());
        println!("{lossy}: {} samples, original {}", got.samples.len(), want.samples.len());
        assert!(want.samples.len().abs_diff(got.samples.len()) <= 2, "{lossy}");
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
        let (a, b) = (&want.samples[..n], &got.samples[..n]);
        assert!(dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() > 0.97, "{lossy}");
    }
}

#[test]
fn small_tones_of_every_codec() {
    for (name, rate, seconds, tones) in [
        ("stereo_48k.flac", 48000, 0.4, 2),
        ("stereo_48k.mp3", 48000, 0.4, 2),
        ("stereo_48k.ogg", 48000, 0.4, 2),
        ("tone.m4a", 22050, 0.5, 1),
        ("tone.aac", 22050, 0.3, 1),
        ("ima_adpcm.wav", 16000, 0.3, 1),
        ("alaw_8k.wav", 8000, 0.2, 1),
    ] {
        let w = audio::read_native(&small(name)).unwrap();
        println!("{name}: {} samples, 440 Hz {}", w.samples.len(), level(&w, 440.0));
        assert_eq!(w.sample_rate, rate, "{name}");
        // AAC keeps its lead-in and the padding of the last frame, ADPCM that of the last block.
        let slack = if name.starts_with("tone") {
            0.14
        } else if name.starts_with("ima") {
            0.09
        } else {
            0.001
        };
        assert!((0.0..=slack).contains(&(w.duration_s() - seconds)), "{name}: {} s", w.duration_s());
        // ffmpeg's sine has amplitude 1/8; two channels with one tone each leave half of it.
        let want = if tones == 2 { 1.0 / 16.0 } else { 1.0 / 8.0 };
        assert!((level(&w, 440.0) - want).abs() < 0.25 * want, "{name}: {}", level(&w, 440.0));
        assert!(level(&w, 660.0) < 0.02, "{name}");
    }
}

#[test]
fn a_wav_of_unknown_length_is_read_to_its_end() {
    let mut w = wav(1, 1, 16000, 16, 2, &pcm16(&[100, 200, 300]));
    w[4..8].fill(0xff);
    w[40..44].fill(0xff);
    assert_eq!(read_bytes("x.wav", &w).unwrap().samples.len(), 3);
}

#[test]
fn unusual_chunks_are_passed_over() {
    let plain = wav(1, 1, 16000, 16, 2, &pcm16(&[100, 200]));
    let mut w = plain[..12].to_vec();
    w.extend(b"note\x03\0\0\0abc\0"); // odd length, and a RIFF size that is now stale
    w.extend(&plain[12..]);
    w.extend(b"tail\x02\0\0\0ab");
    assert_eq!(read_bytes("x.wav", &w).unwrap().samples.len(), 2);
}

#[test]
fn missing_files_and_folders() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(audio::read(&dir.path().join("no.wav"), 16000), Err(Error::Io { .. })));
    let e = audio::read(dir.path(), 16000).unwrap_err();
    assert!(matches!(&e, Error::Audio { reason, .. } if reason.contains("folder")), "{e}");
    assert!(matches!(audio::read(&tiny("wav/speech_a_16k.wav"), 0), Err(Error::Usage { .. })));
}

#[test]
fn files_that_are_not_audio() {
    for (name, bytes, word) in [
        ("a.wav", &b""[..], "empty"),
        ("a.wav", b"<!DOCTYPE html><p>404", "text"),
        ("a.mp3", "日本語".as_bytes(), "text"),
        ("a.wav", b"\xff\xfeh\0i\0", "text"),
        ("a.wav", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.wav", b"\x89PNG\r\n\x1a\n\0\0\xff\xfb\x90\x00", "PNG"),
        ("a.wav", b"RIFF\x04\0\0\0AVI ", "RIFF"),
        ("a.aiff", b"FORM\0\0\0\0AIFF", "AIFF"),
        ("a.bin", &[0, 1, 2, 3, 200, 201], "not a known audio format"),
        ("a.mp2", b"\xff\xfd\x90\x00\0\0\0", "layer II"),
        ("a.mp3", &[b"ID3\x03\0\0\0\0\0\0".as_slice(), &[1; 600]].concat(), ""),
    ] {
        let reason = refused(name, bytes);
        assert!(reason.contains(word), "{name}: {reason}");
    }
}

#[test]
fn damaged_wav_headers() {
    let good = wav(1, 1, 16000, 16, 2, &pcm16(&[1, 2, 3, 4]));
    for n in 4..44 {
        let reason = refused("a.wav", &good[..n]);
        assert!(reason.contains("incomplete"), "{n}: {reason}");
    }
    let reason = refused("a.wav", &good[..44]);
    assert!(reason.contains("truncated: 0 of 4"), "{reason}");
    let reason = refused("a.wav", &good[..49]);
    assert!(reason.contains("truncated: 2 of 4 samples"), "{reason}");
    for (bytes, word) in [
        (wav(1, 1, 16000, 16, 2, &[]), "no audio samples"),
        (wav(1, 0, 16000, 16, 2, &[0; 4]), "zero channels"),
        (wav(1, 1, 0, 16, 2, &[0; 4]), "rate of 0 Hz"),
        (wav(1, 1, 7, 16, 2, &[0; 4]), "rate of 7 Hz"),
        (wav(1, 1, 16000, 16, 0, &[0; 4]), "zero bytes"),
        (wav(1, 1, 16000, 40, 5, &[0; 10]), "PCM wav"),
        (wav(0x31, 1, 8000, 0, 65, &[0; 65]), "GSM 6.10"),
        (wav(0x1234, 1, 8000, 0, 65, &[0; 65]), "0x1234"),
    ] {
        let reason = refused("a.wav", &bytes);
        assert!(reason.contains(word), "{reason}");
    }
    // A declared size of nearly 4 GiB must neither be believed nor allocated.
    let mut huge = good.clone();
    huge[40..44].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    assert!(refused("a.wav", &huge).contains("truncated: 4 of 2147483640"));
    let mut skip = good;
    skip[12..16].copy_from_slice(b"junk");
    skip[16..20].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    assert!(refused("a.wav", &skip).contains("incomplete"));
}

#[test]
fn unusable_float_samples_are_named() {
    for value in [f32::NAN, f32::INFINITY] {
        let data: Vec<u8> = [0.5f32, 0.5, 0.5, value].iter().flat_map(|s| s.to_le_bytes()).collect();
        let reason = refused("a.wav", &wav(3, 2, 16000, 32, 8, &data));
        assert!(reason.contains("sample 1 of channel 1 is"), "{reason}");
    }
}

#[test]
fn unsupported_codecs_are_named() {
    let e = audio::read_native(&small("opus.ogg")).unwrap_err().to_string();
    assert!(e.contains("Opus") && e.contains("ffmpeg"), "{e}");
}

#[test]
fn a_damaged_mp3_frame_is_left_out() {
    let mut bytes = std::fs::read(demo("01_command_woman1_medium.mp3")).unwrap();
    let whole = read_bytes("a.mp3", &bytes).unwrap().samples.len();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 300].fill(0xaa);
    let rest = read_bytes("a.mp3", &bytes).unwrap().samples.len();
    assert!(rest > whole - 8 * 1152 && rest <= whole, "{rest} of {whole}");
    let head = bytes.len() / 8;
    bytes[head..].fill(0x55);
    assert!(read_bytes("a.mp3", &bytes).is_ok_and(|w| w.samples.len() < whole / 2));
    assert!(!refused("a.mp3", &bytes[..100]).is_empty());
}

#[test]
fn truncated_compressed_files() {
    let flac = std::fs::read(small("stereo_48k.flac")).unwrap();
    let reason = refused("a.flac", &flac[..flac.len() / 2]);
    assert!(reason.contains("truncated"), "{reason}");
    let m4a = std::fs::read(small("tone.m4a")).unwrap();
    assert!(refused("a.m4a", &m4a[..m4a.len() / 2]).len() > 20);
    let ogg = std::fs::read(small("stereo_48k.ogg")).unwrap();
    assert!(!refused("a.ogg", &ogg[..60]).is_empty());
}

#[test]
fn damage_anywhere_is_survived() {
    for name in
        ["stereo_48k.flac", "stereo_48k.mp3", "stereo_48k.ogg", "tone.m4a", "ima_adpcm.wav", "alaw_8k.wav"]
    {
        let good = std::fs::read(small(name)).unwrap();
        let mut state = 7u32;
        let mut random = move |n: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % n
        };
        for round in 0..60 {
            let mut bytes = good.clone();
            // The headers at the start are where one byte does most.
            let reach = if round % 2 == 0 { good.len().min(400) } else { good.len() };
            for _ in 0..3 {
                bytes[random(reach)] = random(256) as u8;
            }
            bytes.truncate(good.len() - random(good.len() / 4));
            if let Ok(w) = read_bytes(name, &bytes) {
                assert!(!w.samples.is_empty() && w.samples.iter().all(|s| s.is_finite()));
            }
        }
    }
}

#[test]
fn hours_resample_in_bounded_time() {
    let ten_minutes = Waveform { samples: vec![0.25; 600 * 44101], sample_rate: 44101 };
    let out = ten_minutes.resampled(16000);
    assert_eq!((out.sample_rate, out.samples.len()), (16000, 600 * 16000));
    assert!((out.samples[8_000_000] - 0.25).abs() < 1e-3);
}

#[test]
fn every_demo_clip_opens() {
    for entry in std::fs::read_dir(demo("")).unwrap() {
        let path: &Path = &entry.unwrap().path();
        let w = audio::read(path, 16000).unwrap();
        assert!(w.duration_s() > 0.1, "{}", path.display());
    }
}
