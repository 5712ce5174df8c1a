//! The public benchmarks that DIFFA is judged by: MMSU, MMAU, VoiceBench. Read, answered, scored.
//!
//! [`dataset`] reads the releases as they are published, [`select`] says which items are due, [`runner`] answers
//! them one by one into an [`answers`] file that survives any interruption, [`merge`] joins the files of several
//! machines, and [`score`] finds the published numbers.

pub mod answers;
pub mod benchmark;
pub mod dataset;
pub mod html;
pub mod judge;
pub mod merge;
pub mod prompts;
pub mod record;
pub mod runner;
pub mod runs;
pub mod score;
pub mod select;

mod ahead;

/// A JSON object, its keys in the order they were read or written.
pub type Object = serde_json::Map<String, serde_json::Value>;
