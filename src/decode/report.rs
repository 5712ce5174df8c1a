//! What a denoising step did, as the selection kernel reports it.

use crate::error::{Error, Result};
use crate::ops::select::{COMMIT_WORDS, REPORT_HEADER_WORDS};

/// One committed token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Commit {
    /// Answer row, counted from the start of the answer.
    pub position: usize,
    /// Token id.
    pub id: u32,
    /// Confidence it was committed with.
    pub confidence: f32,
}

/// What one denoising step did to one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Which answer of the batch.
    pub sequence: usize,
    /// Block worked on.
    pub block: usize,
    /// Step within the block.
    pub step: usize,
    /// Tokens committed, in row order.
    pub commits: Vec<Commit>,
    /// Masked rows left in the block.
    pub masked: usize,
    /// Forwards this answer needed so far (NFE).
    pub forwards: usize,
    /// True for the answer's last step.
    pub done: bool,
    /// True if the answer ended at a stop token.
    pub stopped: bool,
    /// Number of the forward in the whole batch, from 1.
    pub(crate) number: usize,
}

/// Reads the report of answer `sequence`. The words may end after the last commit.
pub(crate) fn parse(sequence: usize, words: &[u32]) -> Result<StepReport> {
    let header: [u32; REPORT_HEADER_WORDS] = words
        .get(..REPORT_HEADER_WORDS)
        .and_then(|header| header.try_into().ok())
        .ok_or_else(|| impossible(format!("{} words", words.len())))?;
    let [block, step, committed, masked, done, forwards, stopped, number] = header.map(|word| word as usize);
    let body = &words[REPORT_HEADER_WORDS..];
    if committed * COMMIT_WORDS > body.len() {
        return Err(impossible(format!("{committed} commits in {} words", body.len())));
    }
    let commits = body
        .chunks_exact(COMMIT_WORDS)
        .take(committed)
        .map(|c| Commit { position: c[0] as usize, id: c[1], confidence: f32::from_bits(c[2]) })
        .collect();
    Ok(StepReport {
        sequence,
        block,
        step,
        commits,
        masked,
        forwards,
        done: done != 0,
        stopped: stopped != 0,
        number,
    })
}

/// An error for a report that no kernel of ours writes: the device lost or mixed up memory.
pub(crate) fn impossible(found: String) -> Error {
    Error::Gpu { doing: "reading a step report".into(), message: format!("impossible content: {found}") }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reports_are_read_and_checked() {
        let words = [1, 2, 1, 3, 0, 6, 0, 9, 17, 42, 0.5f32.to_bits()];
        let report = parse(0, &words).unwrap();
        assert_eq!((report.block, report.step, report.masked, report.forwards), (1, 2, 3, 6));
        assert_eq!((report.commits[0].position, report.commits[0].id), (17, 42));
        assert!(parse(0, &words[..10]).is_err());
        assert!(parse(0, &words[..3]).is_err());
    }
}
