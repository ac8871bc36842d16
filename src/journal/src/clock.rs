//! Time, as it is handed in.

use std::time::{SystemTime, UNIX_EPOCH};

/// Two clocks: what people read, and what never steps back.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970-01-01T00:00:00Z. May step.
    fn unix_us(&self) -> u64;
    /// Microseconds since some fixed moment. Never steps back.
    fn mono_us(&self) -> u64;
}

/// The machine's clocks. All values of this type read the same ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The machine's clocks.
    pub fn new() -> Self {
        Self
    }
}

impl Clock for SystemClock {
    fn unix_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn mono_us(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_system_clocks_read_the_same_time() {
        let (one, two) = (SystemClock::new().mono_us(), SystemClock::new().mono_us());
        assert!(two >= one && two - one < 10_000_000);
    }
}
