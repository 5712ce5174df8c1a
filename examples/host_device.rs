//! diffa inside an application that already has a wgpu device: one device, one queue, two users.
//!
//! `cargo run --release --example host_device [AUDIO [QUESTION]]`

use diffa::gpu::Requirements;
use diffa::{Cache, DecodeOptions, Diffa, Gpu, ModelPaths, Rule, audio, text, wgpu};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let clip = args.next().unwrap_or("assets/demo/audio/01_command_woman1_medium.wav".into());
    let question = args.next().unwrap_or("What does the speaker say?".into());

    // The host's own set-up. It asks for what it needs itself, here nothing, and for what diffa wants: the
    // adapter's limits, so that large matrices stay in one piece. Plain default limits work as well.
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // By default wgpu checks every indirect dispatch with one of its own; a decode step has hundreds of them.
    descriptor.flags.remove(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL);
    let instance = wgpu::Instance::new(descriptor);
    let adapter = pollster::block_on(instance.request_adapter(&Default::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("host"),
        required_features: Requirements::wanted_features(&adapter),
        required_limits: Requirements::wanted_limits(&adapter),
        ..Default::default()
    }))?;

    // diffa adopts clones of the handles; the host goes on using its own. If a limit is too small, the
    // error lists all that are.
    let gpu = Gpu::from_wgpu(device.clone(), queue.clone())?;
    let diffa = Diffa::load(&gpu, &ModelPaths::default(), &|_| Ok(()))?;

    let wave = audio::read(clip.as_ref(), 16_000)?;
    let clip = diffa.hear(&wave.samples)?;
    let options =
        DecodeOptions { cache: Cache::Dual, rule: Rule::Threshold(0.9), ..DecodeOptions::new(16, 16, 16) };
    let answer = diffa.ask(&clip, &question, text::DEFAULT_SYSTEM, &options, |session, _step| {
        // Between two denoising steps the queue is the host's: draw a frame, show `session.ids()`.
        let mut frame = device.create_command_encoder(&Default::default());
        frame.insert_debug_marker("the host draws here");
        queue.submit([frame.finish()]);
        eprintln!("{}", diffa.tokenizer().answer_text(session.ids()));
        Ok(())
    })?;
    println!("{}", answer.text);
    Ok(())
}
