//! Random numbers of synthetic weights: fast, and the same for the same seed and tensor name.

use crate::fnv::fnv1a;

/// xoshiro256++ (Blackman and Vigna), seeded through splitmix64.
pub(super) struct Rng([u64; 4]);

impl Rng {
    /// The stream of one tensor: the seed mixed with the hash of its name.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let mut state = seed ^ fnv1a(name.bytes());
        Self([(); 4].map(|()| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c2, d2) = (c ^ a, d ^ b);
        self.0 = [a ^ d2, b ^ c2, c2 ^ b << 17, d2.rotate_left(45)];
        out
    }

    /// Mean 0, variance 1, within ±3.47: the sum of four 16-bit uniform numbers, one draw per value.
    pub(super) fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // Mean 4·65535/2, variance 4·65536²/12.
        (sum as f32 - 131_070.0) * (3f32.sqrt() / 65536.0)
    }
}
