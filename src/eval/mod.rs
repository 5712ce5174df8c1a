//! The public benchmarks that DIFFA is judged by: MMSU, MMAU, VoiceBench.

pub mod html;
pub mod judge;
pub mod prompts;
pub mod runs;
pub mod score;
