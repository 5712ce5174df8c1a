use diffa::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let gpu = Gpu::open(&Default::default()).unwrap();
    let t = std::time::Instant::now();
    let done = std::cell::Cell::new(0u64);
    let d = Diffa::load_text_only(
        &gpu,
        &ModelPaths { llm: Some(a[1].clone().into()), ..Default::default() },
        &|b| {
            done.set(done.get() + b);
            Ok(())
        },
    )
    .unwrap();
    println!("load {:?} {} MB", t.elapsed(), done.get() >> 20);
    if let Ok(s) = std::fs::read_to_string("/proc/self/status") {
        for l in s.lines().filter(|l| l.starts_with("VmHWM") || l.starts_with("Rss")) {
            println!("{l}");
        }
    }
    println!(
        "weights {} kB buffers {} kB",
        d.llada().weight_bytes() >> 10,
        gpu.counters().snapshot().buffer_bytes >> 10
    );
    let n: usize = a[2].parse().unwrap();
    let g: usize = a[3].parse().unwrap();
    let prompt = text::Prompt { ids: (0..n as u32).map(|i| 10 + i % 200).collect(), audio_position: None };
    for (name, cache) in [("none", Cache::None), ("dual", Cache::Dual)] {
        let o = DecodeOptions { cache, ..DecodeOptions::new(g, g.min(32), g) };
        let t = std::time::Instant::now();
        let mut s = d.session(&prompt, None, &o).unwrap();
        println!("{name} plan {:?} costs {:?}", t.elapsed(), s.step_costs());
        for i in 0..a[4].parse().unwrap() {
            let t = std::time::Instant::now();
            let r = s.step().unwrap();
            println!("step {i} {:?} {:?}", t.elapsed(), r.map(|r| r.commits.len()));
        }
    }
    if let Ok(s) = std::fs::read_to_string("/proc/self/status") {
        for l in s.lines().filter(|l| l.starts_with("VmHWM") || l.starts_with("Rss")) {
            println!("{l}");
        }
    }
}
