//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` again and again until it answers, and returns the answer.
///
/// # Panics
/// When `patience` is used up: `what` is part of the text.
#[track_caller]
pub fn until<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    match poll(patience, &mut probe) {
        Some(found) => found,
        None => panic!("{what}: not so after {patience:?}"),
    }
}

/// As [`until`], but `None` when `patience` is used up. Probes at least once.
pub(crate) fn poll<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_the_probe_found() {
        let mut asked = 0;
        let found = until("third time", Duration::from_secs(5), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "the moon is green: not so after 5ms")]
    fn says_what_it_waited_for_when_patience_ends() {
        until("the moon is green", Duration::from_millis(5), || None::<()>);
    }

    #[test]
    fn probes_once_even_without_patience() {
        assert_eq!(poll(Duration::ZERO, || Some(1)), Some(1));
    }
}
