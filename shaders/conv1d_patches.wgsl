// conv1d_patches: out[t, c * kernel + j] = x[x_row0 + t * stride + j - pad, c], zero outside [0, t_in)
// Lays out the windows of a 1-D convolution so that its weight [out, c, kernel], flattened to
// [out, c * kernel], is applied by matmul. Dispatch: linear over ceil(t_out * channels * kernel / WG).
// @use grid

const WG: u32 = 64u;

struct Params { t_in: u32, t_out: u32, channels: u32, kernel: u32, stride: u32, pad: u32, x_row0: u32 }

@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read>       x:   array<f32>;   // [.., channels], time-major
@group(0) @binding(2) var<storage, read_write> out: array<f32>;   // [t_out, channels * kernel]

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group) * WG + lane;
    let width = params.channels * params.kernel;
    if (i >= params.t_out * width) { return; }
    let t = i / width;
    let channel = (i % width) / params.kernel;
    let at_t = t * params.stride + i % params.kernel;   // still shifted by `pad`
    var value = 0.0;
    if (at_t >= params.pad && at_t - params.pad < params.t_in) {
        value = x[(params.x_row0 + at_t - params.pad) * params.channels + channel];
    }
    out[i] = value;
}
