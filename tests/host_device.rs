//! The library inside a host application's own wgpu device: the same answers, the host's own work in
//! between on the same queue, and no error of ours in the host's handler.

mod common;

use std::sync::{Arc, Mutex};

use common::{demo, gpu};
use diffa::decode::Prompt;
use diffa::gpu::Requirements;
use diffa::ops::cases::{Case, cases};
use diffa::{Answer, Cache, DecodeOptions, Diffa, Error, Gpu, ModelPaths, Session, audio, text, wgpu};

const QUESTION: &str = "What does the speaker say?";

const HOST_SHADER: &str = "
@group(0) @binding(0) var<storage, read_write> frames: array<u32>;
@compute @workgroup_size(1) fn main() { frames[0] += 1; }
";

/// A host application: a device, a compute pass of its own, and a handler that collects errors.
struct Host {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
    frames: wgpu::Buffer,
    bind_group: wgpu::BindGroup,
    errors: Arc<Mutex<Vec<String>>>,
}

/// The adapter that `Gpu::open` takes, from an instance of the host's own.
fn host_adapter() -> wgpu::Adapter {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let wanted = gpu().caps().describe();
    let same = |adapter: &wgpu::Adapter| diffa::gpu::caps::describe(&adapter.get_info()) == wanted;
    adapters.into_iter().find(same).expect("the adapter that Gpu::open took")
}

fn open(
    adapter: &wgpu::Adapter,
    features: wgpu::Features,
    limits: wgpu::Limits,
) -> (wgpu::Device, wgpu::Queue) {
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("host"),
        required_features: features,
        required_limits: limits,
        ..Default::default()
    };
    pollster::block_on(adapter.request_device(&descriptor)).unwrap()
}

impl Host {
    fn new(adapter: &wgpu::Adapter, features: wgpu::Features, limits: wgpu::Limits) -> Host {
        let (device, queue) = open(adapter, features, limits);
        let errors = Arc::new(Mutex::new(Vec::new()));
        let slot = errors.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            slot.lock().unwrap().push(error.to_string());
        }));
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(HOST_SHADER.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let frames = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: frames.as_entire_binding() }],
        });
        Host { device, queue, pipeline, frames, bind_group, errors }
    }

    /// The host's own work: counts a frame on the device.
    fn draw(&self) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
        drop(pass);
        self.queue.submit([encoder.finish()]);
    }

    fn frames_drawn(&self) -> u32 {
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&self.frames, 0, &staging, 0, 4);
        self.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let view = staging.get_mapped_range(..).unwrap();
        bytemuck::pod_read_unaligned(&view)
    }

    fn diffa(&self) -> Diffa {
        let gpu = Gpu::from_wgpu(self.device.clone(), self.queue.clone()).unwrap();
        Diffa::load(&gpu, &ModelPaths::default(), &|_| Ok(())).unwrap()
    }

    fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }
}

fn samples() -> Vec<f32> {
    audio::read(&demo().join("audio/01_command_woman1_medium.wav"), 16_000).unwrap().samples
}

fn ask(diffa: &Diffa, mut on_step: impl FnMut()) -> Answer {
    let clip = diffa.hear(&samples()).unwrap();
    let options = DecodeOptions::new(8, 8, 16);
    let step = |_: &Session<'_>, _: &diffa::StepReport| {
        on_step();
        Ok(())
    };
    diffa.ask(&clip, QUESTION, text::DEFAULT_SYSTEM, &options, step).unwrap()
}

/// The answer on a device of the library's own.
fn own_answer() -> Answer {
    ask(&Diffa::load(&gpu(), &ModelPaths::default(), &|_| Ok(())).unwrap(), || {})
}

/// Loads, hears and asks on the host's device, with the host drawing before, between and after.
fn answer_between_frames(host: &Host) -> Answer {
    host.draw();
    let diffa = host.diffa();
    host.draw();
    let answer = ask(&diffa, || host.draw());
    host.draw();
    assert_eq!(host.frames_drawn() as usize, answer.steps.len() + 3, "the host's own work was done");
    assert_eq!(host.errors(), Vec::<String>::new());
    answer
}

#[test]
fn a_host_s_device_answers_like_our_own() {
    let adapter = host_adapter();
    // What a host is told to ask for, as far as our own device has it (`DIFFA_TEST_LIMITS`): other features mean
    // other kernels, which add in another order.
    let wanted = {
        let own = gpu();
        let features = Requirements::wanted_features(&adapter) & own.caps().features;
        Host::new(&adapter, features, own.caps().limits.clone())
    };
    let (ours, theirs) = (own_answer(), answer_between_frames(&wanted));
    assert_eq!(theirs.steps, ours.steps, "every step, confidences bit for bit");
    assert_eq!((theirs.text, theirs.ids), (ours.text, ours.ids));
}

#[test]
fn default_limits_without_any_feature_are_enough() {
    let plain = Host::new(&host_adapter(), wgpu::Features::empty(), wgpu::Limits::default());
    let (ours, theirs) = (own_answer(), answer_between_frames(&plain));
    assert_eq!((theirs.text, theirs.ids), (ours.text, ours.ids));
}

#[test]
fn bindings_smaller_than_a_matrix_split_it() {
    // The embedding table and the output matrix have 570 kB each.
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 512 << 10, ..Default::default() };
    let small = Host::new(&host_adapter(), wgpu::Features::empty(), limits);
    assert!(small.diffa().llada().head().slabs.len() > 1);
    let (ours, theirs) = (own_answer(), answer_between_frames(&small));
    assert_eq!((theirs.text, theirs.ids), (ours.text, ours.ids));
}

#[test]
fn bindings_smaller_than_projections_split_their_rows() {
    // Gate and up have 393 kB together, so that a slab ends within one of them; their results for 90 rows 369 kB.
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 256 << 10, ..Default::default() };
    let small = Host::new(&host_adapter(), wgpu::Features::empty(), limits);
    let theirs = Gpu::from_wgpu(small.device.clone(), small.queue.clone()).unwrap();
    let prompt = "which voices did you hear and in what order did they speak ".repeat(3);
    let answers = [&theirs, &gpu()].map(|gpu| {
        let diffa = Diffa::load_text_only(gpu, &ModelPaths::default(), &|_| Ok(())).unwrap();
        let rows = diffa.text_prompt(&prompt, None).unwrap().ids.len() + 32;
        assert!(rows > 90, "{rows} rows fit into one binding");
        let is_split = diffa.llada().block_matrices().any(|matrix| matrix.slabs.len() > 1);
        assert_eq!(is_split, gpu.caps().max_slab_bytes() < 393_216);
        let options = DecodeOptions { cache: Cache::Prefix, ..DecodeOptions::new(16, 8, 32) };
        let answer = diffa.generate(&prompt, None, &options, |_, _| Ok(())).unwrap();
        (answer.text, answer.ids)
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(small.errors(), Vec::<String>::new());
}

#[test]
fn a_device_with_too_small_limits_is_refused_with_all_of_them() {
    let limits = wgpu::Limits {
        max_storage_buffers_per_shader_stage: 4,
        max_compute_invocations_per_workgroup: 128,
        max_compute_workgroup_size_x: 64,
        max_compute_workgroup_storage_size: 8192,
        ..Default::default()
    };
    let (device, queue) = open(&host_adapter(), wgpu::Features::empty(), limits);
    let Err(Error::Unsupported { missing }) = Gpu::from_wgpu(device, queue) else {
        panic!("the device should have been refused");
    };
    let expected = [
        ("max_storage_buffers_per_shader_stage", "found 4"),
        ("max_compute_invocations_per_workgroup", "found 128"),
        ("max_compute_workgroup_size_x", "found 64"),
        ("max_compute_workgroup_storage_size", "found 8192"),
    ];
    assert_eq!(missing.len(), expected.len(), "{missing:?}");
    for (name, found) in expected {
        assert!(missing.iter().any(|m| m.contains(name) && m.contains(found)), "{name}: {missing:?}");
    }
}

#[test]
fn buffers_beyond_the_limits_are_an_error_of_ours_alone() {
    // Enough for every kernel, too little for the encoder's activations, which cannot be split.
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 64 << 10, ..Default::default() };
    let host = Host::new(&host_adapter(), wgpu::Features::empty(), limits);
    let gpu = Gpu::from_wgpu(host.device.clone(), host.queue.clone()).unwrap();
    match Diffa::load(&gpu, &ModelPaths::default(), &|_| Ok(())) {
        Err(Error::Unsupported { missing }) => {
            assert!(missing[0].contains("the limit is 65536"), "{missing:?}")
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the load should have failed"),
    }
    assert_eq!(host.errors(), Vec::<String>::new());
}

#[test]
fn our_validation_errors_never_reach_the_host_s_handler() {
    let adapter = host_adapter();
    let [host, other] =
        [(); 2].map(|_| Host::new(&adapter, wgpu::Features::empty(), wgpu::Limits::default()));
    let (diffa, elsewhere) = (host.diffa(), other.diffa());
    let foreign = elsewhere.hear(&samples()).unwrap();
    let options = DecodeOptions::new(8, 8, 16);
    let result = diffa.ask(&foreign, QUESTION, text::DEFAULT_SYSTEM, &options, |_, _| Ok(()));
    let Err(error @ Error::Usage { .. }) = result else { panic!("a clip of another device was accepted") };
    assert!(error.to_string().contains("another device"), "{error}");

    // The same mistake below the facade, where only wgpu can notice it.
    let prompt = diffa.audio_prompt(QUESTION, text::DEFAULT_SYSTEM).unwrap();
    let audio = Some((&foreign.audio_embeds, prompt.audio_position.unwrap()));
    let rows = Prompt { ids: &prompt.ids, audio };
    match Session::new(diffa.gpu(), diffa.llada(), &[rows], &options) {
        Err(Error::Gpu { .. }) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a tensor of another device was accepted"),
    }
    for side in [&host, &other] {
        assert_eq!(side.errors(), Vec::<String>::new());
    }

    // Nothing is broken by it, and the host's own mistakes still reach the host.
    assert_eq!(ask(&diffa, || {}).text, own_answer().text);
    let _ = host.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: u64::MAX,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    assert_eq!(host.errors().len(), 1);
}

/// Only the adapter tells the sizes of cooperative matrices: with it, a host's device has those that `Gpu::open`
/// would have, and their kernels run.
#[test]
fn a_host_s_adapter_tells_what_its_device_does_not() {
    let adapter = host_adapter();
    let own = gpu();
    let mut features = Requirements::wanted_features(&adapter);
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    let edges = own.caps().cooperative_edges.clone();
    if !edges.is_empty() {
        features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        // SAFETY: as in `Gpu::open`.
        experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    let descriptor = wgpu::DeviceDescriptor {
        required_features: features,
        required_limits: Requirements::wanted_limits(&adapter),
        experimental_features,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    let blind = Gpu::from_wgpu(device.clone(), queue.clone()).unwrap();
    assert_eq!((&blind.caps().cooperative_edges, blind.caps().memory_bytes), (&Vec::new(), None));
    let gpu = Gpu::from_wgpu_on(&adapter, device.clone(), queue.clone()).unwrap();
    assert_eq!(gpu.caps().cooperative_edges, edges);
    assert_eq!(gpu.caps().memory_bytes, own.caps().memory_bytes);

    let is_coop = |case: &Case| case.kernel == "matmul_coop" && !case.bench_only;
    let met = |case: &Case| case.needs().iter().all(|need| need.is_met(gpu.caps()));
    let runs: Vec<Case> = cases().into_iter().filter(is_coop).filter(met).take(4).collect();
    assert_eq!(runs.is_empty(), edges.is_empty(), "cooperative kernels for edges {edges:?}");
    for case in runs {
        let outcome = case.run(&gpu, 2).unwrap();
        assert!(outcome.repeatable && outcome.outputs.iter().all(|o| o.guards_intact), "{case}");
        let blind = case.run(&blind, 1);
        assert!(matches!(blind, Err(Error::Unsupported { .. })), "{case}: {blind:?}");
    }

    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let others = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    for other in others.iter().filter(|other| other.get_info() != adapter.get_info()) {
        let error = Gpu::from_wgpu_on(other, device.clone(), queue.clone()).unwrap_err();
        assert!(error.to_string().contains("requested from"), "{error}");
    }
}

#[test]
fn a_device_that_goes_away_ends_in_an_error() {
    let gpu = Gpu::open(&Default::default()).unwrap();
    let diffa = Diffa::load(&gpu, &ModelPaths::default(), &|_| Ok(())).unwrap();
    let samples = samples();
    let clip = diffa.hear(&samples).unwrap();
    gpu.device().destroy();
    let hearing = diffa.hear(&samples).err().map(|e| e.to_string());
    let asking =
        diffa.ask(&clip, QUESTION, text::DEFAULT_SYSTEM, &DecodeOptions::new(2, 4, 4), |_, _| Ok(()));
    let asking = asking.err().map(|e| e.to_string());
    println!("{hearing:?}\n{asking:?}");
    assert!(asking.is_some());
    assert!(gpu.wait().is_err() || hearing.is_some(), "nothing tells that the device is gone");
}
