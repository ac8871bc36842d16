//! Keys in memory; the file has them too.

use std::collections::HashMap;

use bytes::Bytes;

use super::disk::KeyRow;
use crate::answers::{ANSWERS_BYTES_MAX, Fate, KEYS_MAX, Keyed, Known, Progress};
use crate::{CounterKey, StoreError};

/// How often keys that are over are looked for.
const SWEEP_US: u64 = 10_000_000;

#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: HashMap<CounterKey, Entry>,
    /// Of all answers.
    bytes: usize,
    swept_us: u64,
}

#[derive(Debug)]
struct Entry {
    payload: [u8; 32],
    call: String,
    end_us: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Running { until_us: u64 },
    Unanswered,
    Answered(Bytes),
}

impl Keys {
    /// A call that ran when the process ended may have been done.
    pub fn take_up(&mut self, row: KeyRow) {
        let KeyRow { key, payload, call, end_us, answer } = row;
        self.bytes += answer.as_ref().map_or(0, Bytes::len);
        let state = answer.map_or(State::Unanswered, State::Answered);
        self.keys.insert(key, Entry { payload, call, end_us, state });
    }

    /// Whether keys have gone that the file has still.
    pub fn sweep(&mut self, now_us: u64) -> bool {
        if now_us.abs_diff(self.swept_us) < SWEEP_US {
            return false;
        }
        self.swept_us = now_us;
        let before = self.keys.len();
        self.keys.retain(|_, entry| entry.end_us > now_us);
        self.bytes = self.keys.values().map(Entry::bytes).sum();
        self.keys.len() < before
    }

    pub fn find(&mut self, now_us: u64, key: CounterKey) -> Option<Known> {
        let entry = self.keys.get(&key)?;
        if entry.end_us <= now_us {
            self.remove(key);
            return None;
        }
        let state = match &entry.state {
            State::Running { until_us } if *until_us > now_us => {
                Progress::Running { left_us: until_us - now_us }
            }
            State::Running { .. } | State::Unanswered => Progress::Unanswered,
            State::Answered(answer) => Progress::Answered(answer.clone()),
        };
        Some(Known { payload: entry.payload, call: entry.call.clone(), state })
    }

    pub fn insert(&mut self, now_us: u64, keyed: &Keyed) -> Result<KeyRow, StoreError> {
        if self.keys.len() >= KEYS_MAX {
            return Err(StoreError::KeysFull);
        }
        let end_us = now_us.saturating_add(keyed.keep_us);
        let state = State::Running { until_us: now_us.saturating_add(keyed.run_us) };
        let (payload, call) = (keyed.payload, keyed.call.clone());
        self.keys.insert(keyed.key, Entry { payload, call: call.clone(), end_us, state });
        Ok(KeyRow { key: keyed.key, payload, call, end_us, answer: None })
    }

    /// What has to be written of it.
    pub fn end(&mut self, key: CounterKey, call: &str, fate: Fate) -> Option<Change> {
        let room = ANSWERS_BYTES_MAX.saturating_sub(self.bytes);
        let entry = self.keys.get_mut(&key).filter(|entry| entry.call == call)?;
        match fate {
            Fate::Free => {
                self.remove(key);
                return Some(Change::Free);
            }
            Fate::Answered(answer) if answer.len() <= room => {
                self.bytes += answer.len();
                entry.state = State::Answered(answer.clone());
                return Some(Change::Answered(answer));
            }
            Fate::Unanswered | Fate::Answered(_) => entry.state = State::Unanswered,
        }
        None // as which a restart would take it up
    }

    fn remove(&mut self, key: CounterKey) {
        if let Some(entry) = self.keys.remove(&key) {
            self.bytes = self.bytes.saturating_sub(entry.bytes());
        }
    }
}

/// What the file has to be told of a key.
pub(super) enum Change {
    Free,
    Answered(Bytes),
}

impl Entry {
    fn bytes(&self) -> usize {
        match &self.state {
            State::Answered(answer) => answer.len(),
            State::Running { .. } | State::Unanswered => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_keys_until_some_are_over() {
        let keyed = |key: usize| Keyed {
            key: CounterKey::of([key.to_string().as_str()]),
            payload: [0; 32],
            call: "one".into(),
            run_us: 1,
            keep_us: SWEEP_US,
        };
        let mut keys = Keys::default();
        for key in 0..KEYS_MAX {
            keys.insert(1, &keyed(key)).unwrap();
        }
        assert!(matches!(keys.insert(1, &keyed(KEYS_MAX)), Err(StoreError::KeysFull)));
        assert!(keys.sweep(1 + SWEEP_US));
        keys.insert(1 + SWEEP_US, &keyed(KEYS_MAX)).unwrap();
    }
}
