//! `diffa stages`: every array against the golden data.

#[path = "common/command.rs"]
mod command;

use command::{golden_question, stdout_of, text, tiny, tiny_clip};
use safetensors::SafeTensors;

/// Rows and columns of an array, and its values.
fn array(file: &[u8], name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let view = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (view.shape().to_vec(), values)
}

fn check_close(name: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{name}");
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{name} is off by {worst}");
}

#[test]
fn stages_equal_the_golden_ones() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("stages.safetensors");
    let (clip, model) = (tiny_clip("speech_a_16k.wav"), text(&tiny()));
    let args = ["stages", &clip, "--out", &text(&out), "--model", &model];
    stdout_of(&[&args[..], &["--stages", "mel,encoder,connectors"]].concat());
    let got = std::fs::read(&out).unwrap();
    let expected = |file: &str| std::fs::read(tiny().join("expected").join(file)).unwrap();

    // The golden spectrogram holds the first frames only.
    let (shape, mel) = array(&got, "mel");
    let (part, want) = array(&expected("mel.safetensors"), "speech_a_16k");
    assert_eq!((shape[0], shape[1]), (part[0], 3000));
    let first: Vec<f32> = mel.chunks(shape[1]).flat_map(|row| &row[..part[1]]).copied().collect();
    check_close("mel", &first, &want, 2e-4);

    for index in 0..=4 {
        let (shape, got) = array(&got, &format!("encoder.hidden.{index}"));
        let (_, want) = array(&expected("encoder.safetensors"), &format!("speech_a_16k.hidden.{index}"));
        let rows = 160 * shape[1];
        check_close("encoder", &got[..rows], &want[..rows], 2e-3);
    }
    for name in ["acoustic", "semantic"] {
        let (_, got) = array(&got, &format!("connectors.{name}"));
        let (_, want) = array(&expected("connectors.safetensors"), &format!("speech_a_16k.{name}"));
        check_close(name, &got, &want, 3e-3);
    }
    let (_, header) = SafeTensors::read_metadata(&got).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["valid_frames"], "226");
}

#[test]
fn logits_of_the_first_forward_equal_the_golden_ones() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("logits.safetensors");
    let (clip, model, run) = (tiny_clip("speech_b_16k.wav"), text(&tiny()), "audio_vanilla_g24_b8_s9");
    let args =
        ["stages", &clip, "--out", &text(&out), "--model", &model, "--question", &golden_question(run)];
    // Masked rows are predicted alike whatever the block; one block of all rows shows them all.
    stdout_of(&[&args[..], &["--stages", "logits", "--gen-length", "24", "--block-length", "24"]].concat());
    let (shape, got) = array(&std::fs::read(&out).unwrap(), "logits");
    let expected = std::fs::read(tiny().join("expected/logits.safetensors")).unwrap();
    let (want_shape, want) = array(&expected, &format!("{run}.first"));
    assert_eq!(shape, want_shape);
    check_close("logits", &got, &want, 3e-3);
}

#[test]
fn stages_of_the_encoder_need_its_folder_alone() {
    let dir = tempfile::tempdir().unwrap();
    let out = text(&dir.path().join("stages.safetensors"));
    let whisper = text(&tiny().join("whisper"));
    stdout_of(&["stages", &tiny_clip("short_100ms_16k.wav"), "--out", &out, "--whisper", &whisper]);
    let file = std::fs::read(&out).unwrap();
    let mut names =
        SafeTensors::deserialize(&file).unwrap().names().into_iter().map(String::from).collect::<Vec<_>>();
    names.sort();
    let mut expected: Vec<String> = (0..=4).map(|i| format!("encoder.hidden.{i}")).collect();
    expected.push("mel".into());
    assert_eq!(names, expected);
}
