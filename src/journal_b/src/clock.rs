//! Time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time. Injected, so that tests can say what it is.
pub trait Clock: Send + Sync {
    /// Wall clock, microseconds since 1970. May step.
    fn unix_us(&self) -> u64;
    /// Microseconds since some moment. Never steps back.
    fn mono_us(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Counts from now.
    #[expect(clippy::new_without_default, reason = "the moment matters")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn unix_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn mono_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
