//! Decoding inside a host's frames: record a bounded number of dispatches into the host's own command
//! encoder, never submit, never wait; look for results whenever convenient.
//!
//! A *round* is one full forward and one cached forward, of which the device runs those whose turn it is.
//! At the end of a round the reports are copied out, and the next round begins once they were read.

use crate::decode::report::StepReport;
use crate::decode::session::Session;
use crate::error::Result;
use crate::gpu::CommandEncoder;

/// Where the recording of a session stands.
#[derive(Debug, Default)]
pub(super) struct HostState {
    /// Plan within the round, and dispatch within the plan.
    cursor: (usize, usize),
    /// A round is recorded completely and its reports are not yet read.
    round_recorded: bool,
}

/// What [`Session::record_step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// The budget is used up; more of the round remains.
    Partial,
    /// The round is complete: submit, then call [`Session::progress`] until it returns reports.
    Round,
    /// Nothing was recorded, because the reports of the last round have not been read yet.
    Waiting,
    /// Nothing was recorded, because the answer is complete.
    Done,
}

impl Session<'_> {
    /// Records at most `budget` dispatches (at least one) into the host's encoder. Never submits, polls or
    /// waits; never creates anything on the device.
    pub fn record_step(&mut self, encoder: &mut CommandEncoder, budget: usize) -> Recorded {
        if self.is_done() {
            return Recorded::Done;
        }
        if self.host.round_recorded {
            return Recorded::Waiting;
        }
        // The ring of reports is read as a whole, with that of a forward that was queued ahead.
        self.ahead = None;
        let steps_of_round = if self.plan_at(self.at.0, 1).is_same(&self.full) { 1 } else { 2 };
        let mut budget = budget.max(1);
        while budget > 0 && self.host.cursor.0 < steps_of_round {
            let (index, from) = self.host.cursor;
            let plan = self.plan_at(self.at.0, index);
            let to = plan.len().min(from + budget);
            plan.encode_into(encoder, from..to);
            budget -= to - from;
            self.host.cursor = if to == plan.len() { (index + 1, 0) } else { (index, to) };
        }
        if self.host.cursor.0 < steps_of_round {
            return Recorded::Partial;
        }
        let bytes = self.select.report_stride_bytes() * self.ring as u64;
        self.readbacks[0].copy(encoder, (&self.select.report, 0), 0, bytes);
        self.host = HostState { cursor: (0, 0), round_recorded: true };
        Recorded::Round
    }

    /// Reports of the last recorded round, if they have arrived; empty if not. Never blocks. Call it only
    /// after the encoder of the round was submitted.
    pub fn progress(&mut self) -> Result<Vec<StepReport>> {
        if !self.host.round_recorded {
            return Ok(Vec::new());
        }
        let stride = self.select.report_stride_bytes();
        self.readbacks[0].start(&self.gpu, stride * self.ring as u64);
        self.gpu.poll()?;
        let Some(words) = self.readbacks[0].try_words(&self.gpu)? else { return Ok(Vec::new()) };
        self.host.round_recorded = false;
        let mut reports = Vec::new();
        loop {
            let slot = self.forwards % self.ring * stride as usize / 4;
            let more = self.read_slot(&words[slot..slot + stride as usize / 4])?;
            if more.is_empty() {
                return Ok(reports);
            }
            reports.extend(more);
        }
    }
}
