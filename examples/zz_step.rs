use diffa::gpu::{DType, Gpu, Matrix};
use diffa::gpu::plan::PlanBuilder;
use diffa::ops::matmul::{Matmul, matmul};
use std::time::Instant;
fn main() {
    let gpu = Gpu::open(&Default::default()).unwrap();
    let time = |name: &str, n: usize, f: &dyn Fn(&mut PlanBuilder, usize)| {
        let mut p = PlanBuilder::new(&gpu, "x");
        for i in 0..n { f(&mut p, i); }
        let plan = p.freeze().unwrap();
        plan.run(&gpu).unwrap();
        let mut v: Vec<f64> = (0..7).map(|_| { let t = Instant::now(); plan.run(&gpu).unwrap(); t.elapsed().as_secs_f64() / n as f64 * 1e6 }).collect();
        v.sort_by(|a, b| a.total_cmp(b));
        println!("{name:40} {:8.1} us (min {:.1})", v[3], v[0]);
    };
    let data = |n: usize, amp: f32| -> Vec<f32> { let mut s = 1u32; (0..n).map(|_| { s = s.wrapping_mul(1664525).wrapping_add(1013904223); ((s >> 8) as f32 / 8388608.0 - 1.0) * amp }).collect() };
    for amp in [0.0f32, 1.0] {
        let t = |r: usize, c: usize| gpu.tensor_from("t", DType::F32, &[r, c], &data(r * c, amp)).unwrap();
        let (x, y) = (t(600, 512), t(600, 1536));
        let h = t(600, 512);
        let (x5, y5, h5) = (t(600, 512), t(600, 1536), t(600, 512));
        let _ = (&x5, &y5, &h5);
        let w = |n: usize, k: usize| { let d: Vec<u16> = data(n * k, amp).iter().map(|v| (v.to_bits() >> 16) as u16).collect(); Matrix::from_tensor(gpu.tensor_from("w", DType::Bf16, &[n, k], &d).unwrap()).unwrap() };
        let small: Vec<Matrix> = (0..10).map(|_| w(512, 512)).collect();
        let wide: Vec<Matrix> = (0..10).map(|_| w(1536, 512)).collect();
        let tall: Vec<Matrix> = (0..10).map(|_| w(512, 1536)).collect();
        for m in [32, 512, 514] {
            let n = if m == 32 { 100 } else { 10 };
            time(&format!("{amp} {m}x512x512 add"), n, &|p, i| matmul(p, Matmul { accumulate: true, ..Matmul::new(&x, m, &small[i % 10], &h) }).unwrap());
            time(&format!("{amp} {m}x512x512"), n, &|p, i| matmul(p, Matmul::new(&x, m, &small[i % 10], &h)).unwrap());
            time(&format!("{amp} {m}x512x1536"), n, &|p, i| matmul(p, Matmul::new(&x, m, &wide[i % 10], &y)).unwrap());
            time(&format!("{amp} {m}x1536x512"), n, &|p, i| matmul(p, Matmul::new(&y, m, &tall[i % 10], &h)).unwrap());
        }
    }
}
