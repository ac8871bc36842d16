//! What controls count: across calls, restarts and gateways.
//!
//! | type | is |
//! |---|---|
//! | [`Claim`] | so much of a counter that a call wants, and the limit it may not pass |
//! | [`Store`] | where counters and flags are kept: in this process and its file ([`Local`]), or in a Redis that gateways share |
//! | [`Tally`] | counters for calls that are over, kept nowhere |
//! | [`Keyed`] | a key that stands for one call: the first to bring it goes on, all others learn what became of that call |
//! | [`Reservation`] | what a call holds of its counters, until it is known how much it used |
//!
//! What this crate promises:
//!
//! - Of several claims all are granted or none, at once for everybody who shares the store.
//! - What is granted never passes a limit, whatever process is killed when. What a call *used* may: it is known
//!   only afterwards, and counted then ([`Reservation::settle`]).
//! - Of all calls with one key one goes on, whatever process is killed when, until it is known that nothing was sent.
//! - A reservation that is dropped gives back what it holds.
//! - Nothing here waits without an end: a store that does not answer in time is a [`StoreError`].
//!
//! Left to others: what is counted, under which name, and what becomes of a call whose store is down (gateway).

mod answers;
mod counter;
mod local;
mod redis;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use answers::{ANSWERS_BYTES_MAX, Began, Claimed, KEYS_MAX, Keyed, Known, Progress};
pub use counter::{Claim, CounterKey, SLOTS, Span};
pub use local::{BLOCKS, COUNTERS_MAX, DURABLE_SECONDS, Local, Tally};
pub use redis::{Redis, RedisSettings, RedisTask};

/// Flags by name: what has been switched, with a text that says why.
pub type Flags = BTreeMap<String, String>;

/// Why a store did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the file of counters cannot be used")]
    Disk(#[from] rusqlite::Error),
    #[error("the file of counters could not be written")]
    Unwritten,
    #[error("{COUNTERS_MAX} counters are in use")]
    Full,
    #[error("{KEYS_MAX} keys of calls are in use")]
    KeysFull,
    #[error("too much waits for the store")]
    Busy,
    #[error("the store is closed")]
    Closed,
    #[error("Redis cannot be reached")]
    Connect(#[source] ::redis::RedisError),
    #[error("Redis did not do as it was asked")]
    Redis(#[source] ::redis::RedisError),
    #[error("Redis did not answer in time, or is not there")]
    Down,
    #[error("cannot start the thread of the store: {0}")]
    Thread(std::io::Error),
}

/// Why a claim was refused. Nothing was counted, for any claim of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of the claims, the first of those that cannot be granted.
    pub claim: usize,
    /// What is left of its limit.
    pub left: u64,
    /// When so much may be free that it can be granted, if nobody else takes it, in microseconds from now; none if it is
    /// more than the limit.
    pub wait_us: Option<u64>,
}

/// What became of a call's claims.
#[derive(Debug)]
pub enum Reserved {
    Granted(Reservation),
    Refused(Refused),
}

/// One claim that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub counter: CounterKey,
    pub span: Span,
    /// The part of the span in which it was counted.
    pub slot: u64,
    pub amount: u64,
    /// What was counted, where that counts once.
    pub member: Option<CounterKey>,
    /// What was left of the limit afterwards.
    pub left: u64,
}

/// Counters and flags. Cheap to clone; all clones are one store.
#[derive(Clone, Debug)]
pub enum Store {
    Local(Local),
    Redis(Redis),
}

impl Store {
    /// Counts all `claims`, or none of them. No counter may stand in two claims of one call, but with different members.
    ///
    /// `now_us` is the time since 1970-01-01T00:00:00Z; a Redis goes by its own, so that gateways agree.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is counted, except that a Redis which answers too late may have counted it.
    pub async fn reserve(&self, now_us: u64, claims: Vec<Claim>) -> Result<Reserved, StoreError> {
        match self {
            Self::Local(local) => local.reserve(now_us, &claims).await,
            Self::Redis(redis) => redis.reserve(claims).await,
        }
    }

    /// Takes a key for a call, unless a call has it.
    ///
    /// # Errors
    /// [`StoreError`]; a Redis that answers too late may have taken it, so that it stands for a call without an answer.
    pub async fn begin(&self, now_us: u64, keyed: Keyed) -> Result<Began, StoreError> {
        let began = match self {
            Self::Local(local) => local.begin(now_us, &keyed, true).await?,
            Self::Redis(redis) => redis.begin(keyed, true).await?,
        };
        began.ok_or(StoreError::Closed)
    }

    /// The call that has a key, if one does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn known(&self, now_us: u64, keyed: Keyed) -> Result<Option<Known>, StoreError> {
        let began = match self {
            Self::Local(local) => local.begin(now_us, &keyed, false).await?,
            Self::Redis(redis) => redis.begin(keyed, false).await?,
        };
        Ok(match began {
            Some(Began::Known(known)) => Some(known),
            Some(Began::First(_)) | None => None,
        })
    }

    /// The flags that are set.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn flags(&self) -> Result<Arc<Flags>, StoreError> {
        match self {
            Self::Local(local) => Ok(local.flags()),
            Self::Redis(redis) => redis.flags().await,
        }
    }

    /// Sets a flag, or takes it away. It stays until it is changed again, over restarts.
    ///
    /// # Errors
    /// [`StoreError`]; a Redis that answers too late may have done it.
    pub async fn set_flag(&self, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        match self {
            Self::Local(local) => local.set_flag(name, value).await,
            Self::Redis(redis) => redis.set_flag(name, value).await,
        }
    }

    /// Writes what is not written yet. Nothing may be reserved afterwards.
    pub async fn close(&self) {
        match self {
            Self::Local(local) => local.close().await,
            Self::Redis(redis) => redis.close().await,
        }
    }

    fn settle(&self, settlements: Vec<Settlement>) {
        match self {
            Self::Local(local) => local.settle(&settlements),
            Self::Redis(redis) => redis.settle(settlements),
        }
    }
}

/// A grant, and how much of it was used in the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settlement {
    pub grant: Grant,
    pub used: u64,
}

/// What one call holds. Dropped, it gives everything back.
#[derive(Debug)]
pub struct Reservation {
    store: Store,
    grants: Vec<Grant>,
}

impl Reservation {
    pub(crate) fn new(store: Store, grants: Vec<Grant>) -> Self {
        Self { store, grants }
    }

    /// What was granted, in the order of the claims.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Counts what was used in the place of what was reserved, in the order of the claims; of a claim beyond the end of
    /// `used`, what was reserved stays counted. Does not wait: a Redis is told soon, and where too much waits for it
    /// already, what was reserved stays counted.
    pub fn settle(mut self, used: &[u64]) {
        let grants = std::mem::take(&mut self.grants);
        let settlements = grants.iter().zip(used).filter(|(grant, used)| grant.amount != **used);
        let settlements: Vec<_> =
            settlements.map(|(grant, used)| Settlement { grant: *grant, used: *used }).collect();
        if !settlements.is_empty() {
            self.store.settle(settlements);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.grants.is_empty() {
            let grants = self.grants.drain(..);
            let settlements = grants.map(|grant| Settlement { grant, used: 0 }).collect();
            self.store.settle(settlements);
        }
    }
}

#[cfg(test)]
mod tests;
