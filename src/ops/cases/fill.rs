//! Seeded content of operands: the same on every machine, whatever the order of cases.

/// Seeded content of an operand.
#[derive(Debug, Clone)]
pub enum Fill {
    /// Bell-shaped with this standard deviation.
    Normal(f32),
    /// Like `Normal`, with about one element in 50 around 1e4 times as large and one around 1e-6.
    Mixed(f32),
    /// Around 1 within 20 %, as scales of norms are.
    AroundOne,
    /// Non-negative over twelve decades, some zeros; for spectra.
    Powers,
    /// Multiples of 1/8 in [-2, 2], so that products sum without rounding and ties occur.
    Eighths,
    /// `Eighths`, the first so many elements over and over; rows of a matrix that tie.
    Repeated(usize),
    /// Indices below this bound.
    Below(u32),
    /// These words.
    Words(Vec<u32>),
    /// These numbers.
    Values(Vec<f32>),
}

/// Splitmix64.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u32) -> u32 {
        (self.bits() % u64::from(bound)) as u32
    }

    /// Sum of four uniforms, scaled to variance 1.
    fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
        (sum as f32 / 65_536.0 - 2.0) * 1.732_050_8
    }
}

impl Fill {
    /// The first `len` numbers.
    pub(super) fn floats(&self, len: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        let next = |_| match self {
            Fill::Normal(scale) => random.normal() * scale,
            Fill::Mixed(scale) => match random.below(100) {
                0 | 1 => random.normal() * scale * 1e4,
                2 | 3 => random.normal() * scale * 1e-6,
                _ => random.normal() * scale,
            },
            Fill::AroundOne => 1.0 + 0.1 * random.normal(),
            Fill::Powers => match random.below(20) {
                0 => 0.0,
                _ => 10f32.powf(random.below(1200) as f32 / 100.0 - 8.0),
            },
            Fill::Eighths | Fill::Repeated(_) => (random.below(33) as f32 - 16.0) / 8.0,
            Fill::Below(_) | Fill::Words(_) | Fill::Values(_) => 0.0,
        };
        match self {
            Fill::Values(values) => values.clone(),
            Fill::Repeated(period) => {
                let start: Vec<f32> = (0..*period).map(next).collect();
                start.into_iter().cycle().take(len).collect()
            }
            _ => (0..len).map(next).collect(),
        }
    }
}
