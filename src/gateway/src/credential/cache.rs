//! Tokens until shortly before they expire. Calls that need the same one at a time wait for one that is being made.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{Failed, Minted};

/// Most tokens of one upstream. When there are more, the one that expires first is forgotten.
const TOKENS_MAX: usize = 4_096;
/// A token is not used any more this long before it expires; of short-lived ones the second half.
const SKEW: Duration = Duration::from_secs(30);

/// For whom a token is. Digests, so that clients' tokens are not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// For all calls.
    pub(super) fn common() -> Self {
        Self([0; 32])
    }

    /// For calls with this token.
    pub(super) fn of(subject: &str) -> Self {
        Self(Sha256::digest(subject.as_bytes()).into())
    }
}

type Made = Result<Minted, Failed>;
type Minting = Shared<BoxFuture<'static, Made>>;

enum Entry {
    Ready { token: HeaderValue, until: Instant },
    Minting(Minting),
}

#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<Key, Entry>>);

impl Cache {
    /// The token of `key`; made by `mint` if there is none.
    pub(super) async fn get(&self, key: Key, mint: BoxFuture<'static, Made>) -> Result<HeaderValue, Failed> {
        let minting = match self.known(key, mint) {
            Ok(token) => return Ok(token),
            Err(minting) => minting,
        };
        let made = minting.clone().await;
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = matches!(entries.get(&key), Some(Entry::Minting(other)) if other.ptr_eq(&minting));
        match made {
            Ok(Minted { token, lifetime }) => {
                if is_ours {
                    let until = Instant::now() + lifetime.saturating_sub(SKEW.min(lifetime / 2));
                    entries.insert(key, Entry::Ready { token: token.clone(), until });
                }
                Ok(token)
            }
            Err(failed) => {
                if is_ours {
                    entries.remove(&key);
                }
                Err(failed)
            }
        }
    }

    fn known(&self, key: Key, mint: BoxFuture<'static, Made>) -> Result<HeaderValue, Minting> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match entries.get(&key) {
            Some(Entry::Ready { token, until }) if *until > now => return Ok(token.clone()),
            Some(Entry::Minting(minting)) => return Err(minting.clone()),
            _ => {}
        }
        make_room(&mut entries, now);
        let minting = mint.shared();
        entries.insert(key, Entry::Minting(minting.clone()));
        Err(minting)
    }

    pub(super) fn forget(&self, key: Key) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(entries.get(&key), Some(Entry::Ready { .. })) {
            entries.remove(&key);
        }
    }
}

fn make_room(entries: &mut HashMap<Key, Entry>, now: Instant) {
    if entries.len() < TOKENS_MAX {
        return;
    }
    entries.retain(|_, entry| !matches!(entry, Entry::Ready { until, .. } if *until <= now));
    let expiry = |entry: &Entry| match entry {
        Entry::Ready { until, .. } => *until,
        Entry::Minting(_) => now, // nobody waits for the oldest of so many, or it is made again
    };
    while entries.len() >= TOKENS_MAX {
        let first = entries.iter().min_by_key(|(_, entry)| expiry(entry)).map(|(key, _)| *key);
        first.and_then(|key| entries.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn mint(count: &Arc<AtomicUsize>, made: Result<Duration, &'static str>) -> BoxFuture<'static, Made> {
        let count = count.clone();
        async move {
            tokio::task::yield_now().await;
            let number = count.fetch_add(1, Ordering::Relaxed);
            let token = HeaderValue::from_str(&format!("t{number}")).unwrap();
            made.map(|lifetime| Minted { token, lifetime }).map_err(Failed::new)
        }
        .boxed()
    }

    #[tokio::test]
    async fn calls_at_a_time_wait_for_one_token_and_later_ones_find_it() {
        let (cache, count) = (Cache::default(), Arc::default());
        let minute = Ok(Duration::from_secs(60));
        let key = Key::of("a");
        let both = tokio::join!(cache.get(key, mint(&count, minute)), cache.get(key, mint(&count, minute)));
        assert!(both.0.is_ok_and(|token| token == "t0") && both.1.is_ok_and(|token| token == "t0"));
        assert!(cache.get(key, mint(&count, minute)).await.is_ok_and(|token| token == "t0"));
        assert!(cache.get(Key::of("b"), mint(&count, minute)).await.is_ok_and(|token| token == "t1"));
        cache.forget(key);
        let expired = Ok(Duration::ZERO);
        assert!(cache.get(key, mint(&count, expired)).await.is_ok_and(|token| token == "t2"));
        assert!(cache.get(key, mint(&count, minute)).await.is_ok_and(|token| token == "t3"));
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_wait_and_not_remembered() {
        let (cache, count) = (Cache::default(), Arc::default());
        let key = Key::common();
        let failed = Err("no");
        let both = tokio::join!(cache.get(key, mint(&count, failed)), cache.get(key, mint(&count, failed)));
        assert!(both.0.is_err() && both.1.is_err());
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(cache.get(key, mint(&count, Ok(SKEW))).await.is_ok());
    }

    #[tokio::test]
    async fn there_are_never_too_many() {
        let (cache, count) = (Cache::default(), Arc::default());
        for number in 0..TOKENS_MAX + 9 {
            let key = Key::of(&number.to_string());
            assert!(cache.get(key, mint(&count, Ok(Duration::from_secs(600)))).await.is_ok());
        }
        assert_eq!(cache.0.lock().unwrap().len(), TOKENS_MAX);
    }
}
