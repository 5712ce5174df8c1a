// kept_f32: keys and values of a decode as 32-bit floats.
alias Kept4 = vec4<f32>;    // four elements of a head
alias Kept = f32;           // a word
const PER_WORD: u32 = 1u;   // neighbours in it

fn kept4(x: Kept4) -> vec4<f32> { return x; }

// Element `i`, which is in the word `i / PER_WORD`.
fn kept(x: Kept, i: u32) -> f32 { return x; }

// One element; the next is in a word of its own.
fn to_kept(x: f32, next: f32) -> Kept { return x; }
