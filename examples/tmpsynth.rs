fn main() {
    let a: Vec<String> = std::env::args().collect();
    let shape = match a[1].as_str() {
        "s" => diffa::synth::SynthShape::S,
        "m" => diffa::synth::SynthShape::M,
        "8b" => diffa::synth::SynthShape::EightB,
        _ => diffa::synth::SynthShape::Tiny,
    };
    diffa::synth::write(
        shape,
        a[2].as_ref(),
        1,
        diffa::synth::SynthParts { llada: true, whisper: a[1] != "8b", adapter: a[1] != "8b" },
        &mut |_, _| (),
    )
    .unwrap();
}
