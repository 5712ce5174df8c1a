// noise_none: temperature 0, the logit itself.
fn perturbed(logit: f32, row: u32, answer_row: u32, forward: u32, id: u32) -> f32 {
    return logit;
}
