// partial: what is known of a row's logits after some of them: the best perturbed logit with its id and
// plain logit, the second best, and (max, sum of exp(logit - max)) of the plain ones.
struct Partial { score: f32, id: u32, logit: f32, second: f32, top: f32, sum: f32 }

// Of no logits at all. Finite, because WGSL need not honour infinities.
fn empty_partial() -> Partial {
    return Partial(-3.0e38, 0xffffffffu, 0.0, -3.0e38, -3.0e38, 0.0);
}

// Ties go to the lower id.
fn merge(a: Partial, b: Partial) -> Partial {
    var best = a;
    if (b.score > a.score || (b.score == a.score && b.id < a.id)) { best = b; }
    let top = max(a.top, b.top);
    let sum = a.sum * exp(a.top - top) + b.sum * exp(b.top - top);
    let second = max(min(a.score, b.score), max(a.second, b.second));
    return Partial(best.score, best.id, best.logit, second, top, sum);
}
