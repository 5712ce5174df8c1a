//! The loop over the denoising steps of a [`Session`].
//!
//! The device decides everything: which rows are committed, when a block is over, what comes next. The
//! CPU only queues forwards, one or a whole block of them ahead, and reads reports. Which forward comes
//! next it predicts; a forward queued at the wrong moment finds its gate closed and costs nothing.

use crate::decode::options::Rule;
use crate::decode::report::{StepReport, impossible, parse};
use crate::decode::session::Session;
use crate::error::Result;
use crate::gpu::SubmissionIndex;
use crate::gpu::plan::Plan;
use crate::ops::select::{COMMIT_WORDS, REPORT_HEADER_WORDS};

/// Forwards queued ahead when a rule decides how long a block lasts.
pub(super) const RULE_BURST: usize = 4;

/// Forwards that were queued with a copy of their reports.
#[derive(Debug)]
pub(super) struct Queued {
    /// Block and step that were expected for the first of them.
    at: (usize, usize),
    /// How many.
    n: usize,
    /// Index of the readback that gets the reports.
    readback: usize,
    /// The submit with the copy.
    submission: SubmissionIndex,
}

impl<'m> Session<'m> {
    /// One denoising step of the first answer: a forward, a decision, a report of a few dozen bytes. `None`
    /// once it is finished.
    pub fn step(&mut self) -> Result<Option<StepReport>> {
        Ok(self.advance(1)?.into_iter().find(|report| report.sequence == 0))
    }

    /// Queues up to `n` denoising steps, waits once, and returns what they did, in order. Fewer are done
    /// if the block or the answer ended before, or if an interrupted [`Session::run`] left one queued. Empty once
    /// everything is finished.
    pub fn advance(&mut self, n: usize) -> Result<Vec<StepReport>> {
        if self.done {
            return Ok(Vec::new());
        }
        let queued = self.next(n);
        self.take_in(queued)
    }

    /// Runs all remaining steps; `on_step` sees every report as soon as it is made and may stop the decode
    /// with an error. The device does not wait meanwhile: the forward that is expected next is queued before a
    /// report is waited for.
    pub fn run(&mut self, mut on_step: impl FnMut(&Session<'m>, &StepReport) -> Result<()>) -> Result<()> {
        while !self.done {
            let queued = self.next(1);
            self.ahead = self.expected_after(self.at).map(|at| self.queue(at, 1, self.forwards + 1));
            for report in self.take_in(queued)? {
                on_step(self, &report)?;
            }
        }
        Ok(())
    }

    /// Runs all remaining steps without waiting for the device within a block of the fixed schedule, and
    /// only now and then within one that a rule decides. Returns all reports.
    pub fn run_ahead(&mut self) -> Result<Vec<StepReport>> {
        let mut reports = Vec::new();
        while !self.done {
            let burst = match self.options.rule {
                Rule::Quota => {
                    self.options.steps_per_block() - self.at.1.min(self.options.steps_per_block() - 1)
                }
                _ => RULE_BURST,
            };
            reports.extend(self.advance(burst)?);
        }
        Ok(reports)
    }

    pub(super) fn plan_at(&self, block: usize, step: usize) -> &Plan {
        match self.cached.len() {
            0 => &self.full,
            _ if step == 0 => &self.full,
            1 => &self.cached[0],
            _ => &self.cached[block],
        }
    }

    /// What comes after a forward if its block lasts as long as can be foreseen.
    fn expected_after(&self, (block, step): (usize, usize)) -> Option<(usize, usize)> {
        let steps = match self.options.rule {
            Rule::Quota => self.options.steps_per_block(),
            _ => self.options.max_steps_per_block(),
        };
        let next = if step + 1 < steps { (block, step + 1) } else { (block + 1, 0) };
        (next.0 < self.options.n_blocks()).then_some(next)
    }

    /// The forwards whose reports come next: the one that is queued already if it is its turn, else `n`.
    fn next(&mut self, n: usize) -> Queued {
        let queued = self.ahead.take();
        let turn = self.plan_at(self.at.0, self.at.1);
        match queued {
            Some(queued) if self.plan_at(queued.at.0, queued.at.1).is_same(turn) => queued,
            // One that was not to come found its gate closed, and its report is of no interest.
            _ => self.queue(self.at, n.clamp(1, self.ring), self.forwards),
        }
    }

    /// Queues `n` forwards of one block, of which the first is the forward after `before` others.
    fn queue(&self, at: (usize, usize), n: usize, before: usize) -> Queued {
        for step in at.1..at.1 + n - 1 {
            self.gpu.submit(self.plan_at(at.0, step).replay(&self.gpu));
        }
        let mut encoder = self.plan_at(at.0, at.1 + n - 1).replay(&self.gpu);
        let (bytes, stride) = (self.report_bytes(n), self.select.report_stride_bytes());
        let readback = before % self.readbacks.len();
        for i in 0..n {
            let slot = (before + i) % self.ring;
            let source = (&self.select.report, slot as u64 * stride);
            self.readbacks[readback].copy(&mut encoder, source, i as u64 * bytes, bytes);
        }
        Queued { at, n, readback, submission: self.gpu.submit(encoder) }
    }

    /// Waits for queued forwards and takes in their reports.
    fn take_in(&mut self, queued: Queued) -> Result<Vec<StepReport>> {
        let bytes = self.report_bytes(queued.n);
        let readback = &self.readbacks[queued.readback];
        let words = readback.words(&self.gpu, queued.submission, queued.n as u64 * bytes)?;
        let mut reports = Vec::new();
        for slot in words.chunks_exact(bytes as usize / 4) {
            reports.extend(self.read_slot(slot)?);
        }
        if self.done {
            self.ahead = None; // its gate is closed
        }
        Ok(reports)
    }

    /// Bytes of a report that are read: for a single step of a single answer, no more than it can hold.
    fn report_bytes(&self, n: usize) -> u64 {
        if n == 1 && self.answers.len() == 1 {
            return 4 * (REPORT_HEADER_WORDS + COMMIT_WORDS * self.options.max_commits()) as u64;
        }
        self.select.report_stride_bytes()
    }

    /// Takes in the reports of one forward; none if the forward did not run.
    pub(super) fn read_slot(&mut self, words: &[u32]) -> Result<Vec<StepReport>> {
        let each = words.len() / self.answers.len();
        let mut reports = Vec::new();
        for (sequence, words) in words.chunks_exact(each).enumerate() {
            let report = parse(sequence, words)?;
            if report.number != self.forwards + 1 {
                return Ok(Vec::new()); // its gate was closed; the slot holds an older report
            }
            reports.push(report);
        }
        self.rows_computed += self.rows_at(self.at);
        self.flops += self.plan_at(self.at.0, self.at.1).cost().flops;
        self.forwards += 1;
        let mut kept = Vec::new();
        let mut block_over = true;
        for report in reports {
            block_over &= report.masked == 0;
            self.at = (report.block, report.step + 1);
            let answer = &mut self.answers[report.sequence];
            if answer.done {
                continue;
            }
            for commit in &report.commits {
                match answer.ids.get_mut(commit.position) {
                    Some(id) => *id = commit.id,
                    None => return Err(impossible(format!("row {}", commit.position))),
                }
            }
            if report.stopped {
                fill_after_stop(
                    &mut answer.ids,
                    report.block * self.options.block_length,
                    &self.options.stop_ids,
                );
            }
            let waited = report.forwards == answer.forwards;
            (answer.forwards, answer.done) = (report.forwards, report.done);
            if !waited || report.done {
                kept.push(report);
            }
        }
        if block_over || self.at.1 >= self.options.max_steps_per_block() {
            self.at = (self.at.0 + 1, 0);
        }
        self.done = self.answers.iter().all(|answer| answer.done);
        Ok(kept)
    }
}

/// After an early end everything behind the stop token becomes the first of the stop tokens.
fn fill_after_stop(ids: &mut [u32], from: usize, stop_ids: &[u32]) {
    if let Some(at) = ids[from..].iter().position(|id| stop_ids.contains(id)) {
        ids[from + at + 1..].fill(stop_ids[0]);
    }
}
