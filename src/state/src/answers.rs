//! Keys that stand for one call each, and what it was answered: who comes first with a key goes on, and everybody after it is
//! told what became of that call.

use bytes::Bytes;

use crate::{CounterKey, Store};

/// Most keys at a time in one process. When it is reached, and none of them is over, further ones are
/// [`crate::StoreError::KeysFull`].
pub const KEYS_MAX: usize = 1 << 16;
/// Most bytes of answers at a time in one process, and on their way to a Redis. An answer beyond it is not kept.
pub const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// A key that a call comes with.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// Name of the key.
    pub key: CounterKey,
    /// Digest of what the call asks for.
    pub payload: [u8; 32],
    /// Name of the call; no other call has it. At most 64 bytes.
    pub call: String,
    /// For how long the call may run, in microseconds from now.
    pub run_us: u64,
    /// For how long the key stands for it, in microseconds from now.
    pub keep_us: u64,
}

/// What became of a key.
#[derive(Debug)]
pub enum Began {
    /// Nobody had it. Now this call does, also over `kill -9`.
    First(Claimed),
    /// A call has it.
    Known(Known),
}

/// The call that has a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// As in [`Keyed`].
    pub payload: [u8; 32],
    /// As in [`Keyed`].
    pub call: String,
    /// How far it is.
    pub state: Progress,
}

/// How far a call is that has a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It may run for so long still.
    Running {
        /// In microseconds.
        left_us: u64,
    },
    /// It may have been done, and there is no answer of it.
    Unanswered,
    /// It was answered with this.
    Answered(Bytes),
}

/// A key that a call has, until it is known what became of the call. Dropped, the key is free again if the call was not
/// [sent](Claimed::sent), and else stands for a call without an answer.
#[derive(Debug)]
pub struct Claimed {
    store: Store,
    key: CounterKey,
    call: String,
    sent: bool,
    over: bool,
}

/// What is said of a key in the end.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Free,
    Unanswered,
    Answered(Bytes),
}

impl Claimed {
    pub(crate) fn new(store: Store, keyed: &Keyed) -> Self {
        Self { store, key: keyed.key, call: keyed.call.clone(), sent: false, over: false }
    }

    /// Something of the call may have reached whoever does it; with `false`, nothing has after all.
    pub fn sent(&mut self, sent: bool) {
        self.sent = sent;
    }

    /// Keeps the answer. Does not wait; where there is no room for it, the key stands for a call without one.
    pub fn answer(mut self, answer: Bytes) {
        self.end(Fate::Answered(answer));
    }

    /// The call was not done, whatever was sent.
    pub fn free(mut self) {
        self.end(Fate::Free);
    }

    fn end(&mut self, fate: Fate) {
        self.over = true;
        match &self.store {
            Store::Local(local) => local.end(self.key, &self.call, fate),
            Store::Redis(redis) => redis.end(self.key, &self.call, fate),
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if !self.over {
            self.end(if self.sent { Fate::Unanswered } else { Fate::Free });
        }
    }
}

#[cfg(test)]
mod tests;
