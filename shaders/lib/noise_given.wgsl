// noise_given: logit + temperature * noise[row, id]; used to check sampling against stored noise.
fn perturbed(logit: f32, row: u32, answer_row: u32, forward: u32, id: u32) -> f32 {
    return fma(params.temperature, noise[row * params.vocab + id], logit);
}
