//! One counter: how much was taken in which part of its span. Pure arithmetic; time comes in.

use std::collections::VecDeque;

use sha2::{Digest as _, Sha256};

/// Into how many parts a window is cut. What is counted in a part counts until the window has passed since the end of
/// that part: in no window more than the limit is granted, and a call may count for up to 1/20 of the window too long.
pub const SLOTS: u64 = 20;

const DAY_US: u64 = 86_400_000_000;

/// Name of a counter: a digest, so that stores keep no names of callers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CounterKey(pub(crate) [u8; 32]);

impl CounterKey {
    /// Of the texts that tell one counter from others, in their order.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// The name of a member of this counter.
    #[must_use]
    pub fn member(&self, text: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update("member\0");
        hash.update(self.0);
        hash.update(text);
        Self(hash.finalize().into())
    }

    pub(crate) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// For how long what is counted counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Span {
    /// So many seconds, from whenever it was counted; at least one.
    Window { seconds: u32 },
    /// Until the day ends, UTC.
    Day,
    /// Until the month ends, UTC.
    Month,
}

impl Span {
    /// Length of a part in microseconds; none for months.
    fn width_us(self) -> Option<u64> {
        match self {
            Self::Window { seconds } => Some(u64::from(seconds.max(1)) * 1_000_000 / SLOTS),
            Self::Day => Some(DAY_US),
            Self::Month => None,
        }
    }

    /// Number of the part that a moment lies in.
    pub(crate) fn slot(self, now_us: u64) -> u64 {
        match self.width_us() {
            Some(width_us) => now_us / width_us,
            None => month(now_us / DAY_US),
        }
    }

    /// How many parts before the current one count still.
    fn slots_before(self) -> u64 {
        match self {
            Self::Window { .. } => SLOTS,
            Self::Day | Self::Month => 0,
        }
    }

    /// Whether what was counted in one part counts no more in another.
    pub(crate) fn is_over_by(self, slot: u64, later: u64) -> bool {
        slot.saturating_add(self.slots_before()) < later
    }

    /// When what was counted in `slot` counts no more.
    pub(crate) fn end_us(self, slot: u64) -> u64 {
        let after = slot.saturating_add(self.slots_before()).saturating_add(1);
        match self.width_us() {
            Some(width_us) => after.saturating_mul(width_us),
            None => first_day(after).saturating_mul(DAY_US),
        }
    }

    /// Its kind and, of a window, its seconds: what tells counters of different spans apart.
    pub fn code(self) -> (&'static str, u32) {
        match self {
            Self::Window { seconds } => ("window", seconds.max(1)),
            Self::Day => ("day", 0),
            Self::Month => ("month", 0),
        }
    }
}

/// Months since the year 0, of a day since 1970-01-01: <https://howardhinnant.github.io/date_algorithms.html>.
fn month(day: u64) -> u64 {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    // March is month 0 of these years, which begin with it.
    (era * 400 + year) * 12 + from_march + 2
}

/// First day of a month, since 1970-01-01.
fn first_day(month: u64) -> u64 {
    let from_march = month.saturating_sub(2);
    let (year, of_year) = (from_march / 12, from_march % 12);
    let (era, of_era) = (year / 400, year % 400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * of_year + 2) / 5;
    days.saturating_sub(719_468)
}

/// So much of a counter, if that leaves it within its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub counter: CounterKey,
    pub span: Span,
    pub amount: u64,
    pub limit: u64,
    /// What is counted once, however often it is claimed within the span; its name is of this counter alone. One that is
    /// counted is granted whatever the limit, and counts from then on; of a new one `amount` is 1.
    pub member: Option<CounterKey>,
}

/// What is counted, by part of the span, oldest first.
#[derive(Debug)]
pub(crate) struct Counter {
    pub span: Span,
    pub slots: VecDeque<Slot>,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub number: u64,
    pub used: u64,
    /// What a restart will find. INVARIANT: nothing is granted before this is at least `used`, where it is kept.
    pub durable: u64,
}

impl Counter {
    pub fn new(span: Span) -> Self {
        Self { span, slots: VecDeque::new() }
    }

    /// Forgets what counts no more, and gives the current part. A clock that steps back does not bring anything back.
    pub fn advance(&mut self, now_us: u64) -> u64 {
        let newest = self.slots.back().map_or(0, |slot| slot.number);
        let now = self.span.slot(now_us).max(newest);
        let before = self.span.slots_before();
        while self.slots.front().is_some_and(|slot| slot.number + before < now) {
            self.slots.pop_front();
        }
        now
    }

    pub fn used(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(slot.used))
    }

    /// When `amount` more may fit, as [`crate::Refused::wait_us`].
    pub fn wait_us(&self, now_us: u64, amount: u64, limit: u64) -> Option<u64> {
        let mut used = self.used();
        let room = limit.checked_sub(amount)?;
        let mut free_us = now_us;
        for slot in &self.slots {
            if used <= room {
                break;
            }
            used = used.saturating_sub(slot.used);
            free_us = self.span.end_us(slot.number);
        }
        Some(free_us.saturating_sub(now_us))
    }

    /// The part with that number, made if it is new. Must not be older than the newest.
    pub fn slot(&mut self, number: u64) -> &mut Slot {
        if self.slots.back().is_none_or(|slot| slot.number < number) {
            self.slots.push_back(Slot { number, used: 0, durable: 0 });
        }
        self.slots.back_mut().expect("one was pushed if there was none")
    }

    pub fn find(&mut self, number: u64) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.number == number)
    }

    /// Whether nothing in it counts any more.
    pub fn is_over(&self, now_us: u64) -> bool {
        self.slots.back().is_none_or(|slot| self.span.end_us(slot.number) <= now_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days since 1970 of a date, from the standard's own rule, one year and one month at a time.
    fn day(year: u64, of: u64) -> u64 {
        let leap =
            |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
        let february = if leap(year) { 29 } else { 28 };
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        years + lengths.iter().take(of as usize).sum::<u64>()
    }

    #[test]
    fn months_begin_on_their_first_day() {
        for year in 1970..2105 {
            for of in 0..12 {
                let (first, number) = (day(year, of), year * 12 + of);
                assert_eq!((month(first), first_day(number)), (number, first), "{year}-{}", of + 1);
                assert!(first == 0 || month(first - 1) == number - 1, "{year}-{}", of + 1);
            }
        }
    }

    #[test]
    fn what_was_counted_in_a_window_counts_for_all_of_it_and_little_longer() {
        let span = Span::Window { seconds: 20 };
        for at_us in [0, 999_999, 1_000_000, 7_300_000] {
            let held_us = span.end_us(span.slot(at_us)) - at_us;
            assert!((20_000_000..=21_000_000).contains(&held_us), "{at_us}: {held_us}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_frees_nothing() {
        let mut counter = Counter::new(Span::Day);
        let now = counter.advance(3 * DAY_US);
        counter.slot(now).used = 5;
        assert_eq!(counter.advance(DAY_US), 3);
        assert_eq!(counter.used(), 5);
        counter.advance(4 * DAY_US);
        assert_eq!(counter.used(), 0);
    }

    #[test]
    fn parts_of_a_name_do_not_run_together() {
        assert_ne!(CounterKey::of(["ab", "c"]), CounterKey::of(["a", "bc"]));
        assert_ne!(CounterKey::of(["a", ""]), CounterKey::of(["a"]));
    }
}
