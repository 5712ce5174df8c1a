//! When the next request may be sent: pauses after failures, and the end of the run.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Patience;

/// Shared by all requests of a run.
pub(super) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
    patience: Patience,
}

struct State {
    /// A rate limit holds for all requests, so nobody sends one before this.
    open_from: Instant,
    stopped: bool,
}

impl Pace {
    pub(super) fn new(patience: Patience) -> Pace {
        let state = State { open_from: Instant::now(), stopped: false };
        Pace { state: Mutex::new(state), changed: Condvar::new(), patience }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every pause, present and future.
    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    /// Holds all requests back for the pause that the endpoint asked for.
    pub(super) fn hold_all(&self, pause: Duration) {
        let mut state = self.state();
        state.open_from = state.open_from.max(Instant::now() + pause);
    }

    /// Waits until `pause` is over and nothing holds requests back; false if the run has ended instead.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let own = Instant::now() + pause;
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let left = own.max(state.open_from).saturating_duration_since(now);
            if state.stopped || left.is_zero() {
                return !state.stopped;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The pause after the `failures`th failure, counted from 1: doubled each time up to the longest, and drawn
    /// from its upper half, so that requests that failed together do not come back together.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let Patience { first_wait, longest_wait, .. } = self.patience;
        let doubled = first_wait.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(longest_wait).mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pace = Pace::new(Patience {
            first_wait: Duration::from_secs(2),
            longest_wait: Duration::from_secs(10),
            ..Patience::default()
        });
        for (failures, longest) in [(1, 2.0), (2, 4.0), (3, 8.0), (4, 10.0), (4_000, 10.0)] {
            for _ in 0..20 {
                let pause = pace.backoff(failures).as_secs_f64();
                assert!((longest / 2.0..=longest).contains(&pause), "{failures}: {pause}");
            }
        }
    }

    #[test]
    fn a_stop_ends_pauses() {
        let pace = Pace::new(Patience::default());
        assert!(pace.wait(Duration::from_millis(1)));
        pace.hold_all(Duration::from_secs(3600));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pace.wait(Duration::ZERO));
            pace.stop();
            assert!(!waiting.join().unwrap());
        });
    }
}
