//! How long to wait before the next try.

use std::time::Duration;

/// Longest wait that a collector can ask for.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Waits that double from `min` to `max`, each between its half and its whole by chance, so that many gateways do not come
/// back at one moment.
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    tries: u32,
    chance: u64,
}

impl Backoff {
    /// `chance` seeds the jitter.
    pub fn new(min_ms: u64, max_ms: u64, chance: u64) -> Self {
        let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
        Self { min, max, tries: 0, chance: chance | 1 }
    }

    /// The wait after one more failure; not less than the collector asked for.
    pub fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let whole = self.min.saturating_mul(1 << self.tries.min(20)).min(self.max);
        self.tries = self.tries.saturating_add(1);
        // xorshift64
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let part = u32::try_from(self.chance % 1_024).unwrap_or(0);
        let wait = whole / 2 + whole / 2 * part / 1_024;
        wait.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }

    /// A try went well.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_are_never_less_than_asked() {
        for seed in [0, 1, 7, u64::MAX] {
            let mut backoff = Backoff::new(100, 1_000, seed);
            for whole in [100, 200, 400, 800, 1_000, 1_000] {
                let wait = backoff.next(None);
                let whole = Duration::from_millis(whole);
                assert!(wait >= whole / 2 && wait <= whole, "{wait:?} {whole:?}");
            }
            assert_eq!(backoff.next(Some(Duration::from_secs(5))), Duration::from_secs(5));
            assert_eq!(backoff.next(Some(Duration::MAX)), RETRY_AFTER_MAX);
            backoff.reset();
            assert!(backoff.next(None) <= Duration::from_millis(100));
        }
    }
}
