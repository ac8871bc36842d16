//! The data keys that stored bodies are encrypted with: one at a time, made before it is needed and replaced in time.
//!
//! A thread of its own asks the hook, so that no call waits for one. A key serves for a time; a new one is asked for from half
//! of it on, so that a hook that is down for less than that is not noticed. After that time no body is encrypted any more,
//! and who stores bodies is told so.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use estoppel_evidence::Reason;
use zeroize::Zeroizing;

use super::{DataKey, EncryptionError, KeyHook, Wrapped};
use crate::admit::locked;
use crate::clock::{Clock, SystemClock};
use crate::stats::add;

/// Most unwrapped keys that are remembered, so that reading many bodies asks the hook few times.
const OPENED_MAX: usize = 256;
/// Shortest and longest wait before a hook that failed is asked again.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Shortest time that a data key serves.
pub const DATA_KEY_MIN: Duration = Duration::from_secs(10);

/// What becomes of calls whose bodies are to be stored while there is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnKeyFailure {
    /// They are answered 503 `KEY_HOOK_FAILED`, and nothing is sent upstream.
    #[default]
    Refuse,
    /// They go on; receipts have tags in the place of bodies, and say why.
    Hmac,
}

/// One reading of how the keys are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyKeyStats {
    /// There is a key to encrypt with.
    pub usable: bool,
    /// How often the hook failed to give one.
    pub failures: u64,
    /// Whether calls are refused without one.
    pub refuses: bool,
}

/// Gives data keys to encrypt with, and opens those that others made. Reads with every hook that it is given, writes with the
/// first.
pub struct BodyKeys {
    hooks: Vec<Box<dyn KeyHook>>,
    on_failure: OnKeyFailure,
    period: Duration,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Current>>,
    failures: AtomicU64,
    opened: Mutex<HashMap<Vec<u8>, Zeroizing<[u8; 32]>>>,
    /// Ends the thread when it is dropped.
    thread: Mutex<Option<Sender<()>>>,
}

struct Current {
    key: Arc<DataKey>,
    made_us: u64,
}

impl BodyKeys {
    /// Keys to read with. `hooks` are asked in their order until one knows the key.
    pub fn to_read(hooks: Vec<Box<dyn KeyHook>>, clock: Arc<dyn Clock>) -> Self {
        Self::new(hooks, OnKeyFailure::Refuse, DATA_KEY_MIN, clock)
    }

    /// No keys: what is encrypted is not read.
    pub fn none() -> Self {
        Self::to_read(Vec::new(), Arc::new(SystemClock::new()))
    }

    /// Keys to write with, too: the first hook wraps. Each data key serves for `period`. Nothing is asked yet.
    pub fn new(
        hooks: Vec<Box<dyn KeyHook>>,
        on_failure: OnKeyFailure,
        period: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            hooks,
            on_failure,
            period: period.max(DATA_KEY_MIN),
            clock,
            current: Mutex::default(),
            failures: AtomicU64::new(0),
            opened: Mutex::default(),
            thread: Mutex::default(),
        }
    }

    /// Asks for the first key unless there is one, and starts the thread that asks for the next ones. It ends with the last handle. A
    /// hook that fails is asked again. Blocks on the hook.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let (stop, stopped) = channel::<()>();
        self.tell();
        let mut wait = self.renew_and_wait(RETRY_MIN);
        let weak: Weak<Self> = Arc::downgrade(self);
        std::thread::Builder::new().name("body-keys".into()).spawn(move || {
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                let Some(keys) = weak.upgrade() else { return };
                wait = keys.renew_and_wait(wait);
            }
        })?;
        *locked(&self.thread) = Some(stop);
        Ok(())
    }

    fn tell(&self) {
        if let Some(key) = self.current() {
            tracing::info!(key = %key.id(), "a new key for stored bodies");
        }
    }

    /// Makes the next key if it is time. Gives how long until it is looked again.
    fn renew_and_wait(&self, waited: Duration) -> Duration {
        let half_us = self.period_us() / 2;
        let age_us = self.age_us();
        if let Some(left) = age_us.and_then(|age| half_us.checked_sub(age)).filter(|left| *left > 0) {
            return Duration::from_micros(left);
        }
        match self.renew() {
            Ok(()) => {
                self.tell();
                Duration::from_micros(half_us)
            }
            Err(error) => {
                tracing::error!(code = %error.reason(), %error, usable = self.current().is_some(), "no key for stored bodies");
                (waited * 2).clamp(RETRY_MIN, RETRY_MAX)
            }
        }
    }

    /// Makes the next key, whatever the time. Blocks on the hook.
    ///
    /// # Errors
    /// [`EncryptionError`]; the key before stays as long as it may.
    pub fn renew(&self) -> Result<(), EncryptionError> {
        let made_us = self.clock.mono_us();
        let made = DataKey::new(self);
        let key = made.inspect_err(|_| add(&self.failures, 1))?;
        *locked(&self.current) = Some(Current { key: Arc::new(key), made_us });
        Ok(())
    }

    /// The key to encrypt with; none while the hook gives none.
    pub fn current(&self) -> Option<Arc<DataKey>> {
        let now_us = self.clock.mono_us();
        let current = locked(&self.current);
        let current = current.as_ref().filter(|it| now_us.saturating_sub(it.made_us) < self.period_us());
        current.map(|it| it.key.clone())
    }

    /// What becomes of calls while there is none.
    pub fn on_failure(&self) -> OnKeyFailure {
        self.on_failure
    }

    /// One reading.
    pub fn stats(&self) -> BodyKeyStats {
        BodyKeyStats {
            usable: self.current().is_some(),
            failures: self.failures.load(Ordering::Relaxed),
            refuses: self.on_failure == OnKeyFailure::Refuse,
        }
    }

    fn period_us(&self) -> u64 {
        u64::try_from(self.period.as_micros()).unwrap_or(u64::MAX)
    }

    /// Of the key that there is.
    fn age_us(&self) -> Option<u64> {
        let now_us = self.clock.mono_us();
        locked(&self.current).as_ref().map(|it| now_us.saturating_sub(it.made_us))
    }

    fn remember(&self, wrapped: &Wrapped, key: &Zeroizing<[u8; 32]>) {
        let mut opened = locked(&self.opened);
        if opened.len() >= OPENED_MAX {
            opened.clear();
        }
        opened.insert(known_by(wrapped), key.clone());
    }
}

/// The id is not part of what a program need check, so it is part of what a key is known by.
fn known_by(wrapped: &Wrapped) -> Vec<u8> {
    [wrapped.id.as_bytes(), &[0], &wrapped.bytes].concat()
}

impl KeyHook for BodyKeys {
    fn wrap(&self, key: &[u8; 32]) -> Result<Wrapped, EncryptionError> {
        let hook = self.hooks.first().ok_or(EncryptionError::Hook { what: "there is none".into() })?;
        hook.wrap(key)
    }

    fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<[u8; 32]>, EncryptionError> {
        if let Some(key) = locked(&self.opened).get(&known_by(wrapped)) {
            return Ok(key.clone());
        }
        let mut refused = EncryptionError::NoKey { wanted: wrapped.id.clone() };
        for hook in &self.hooks {
            match hook.unwrap(wrapped) {
                Ok(key) => {
                    self.remember(wrapped, &key);
                    return Ok(key);
                }
                // A key that is another one says less than what the others say.
                Err(error @ EncryptionError::Key { .. })
                    if !matches!(refused, EncryptionError::NoKey { .. }) =>
                {
                    drop(error);
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

impl fmt::Debug for BodyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyKeys").field("on_failure", &self.on_failure).finish_non_exhaustive()
    }
}

impl BodyKeyStats {
    /// Why calls that store bodies are refused, if they are.
    pub fn refusal(self) -> Option<Reason> {
        (self.refuses && !self.usable).then_some(Reason::KeyHookFailed)
    }
}

#[cfg(test)]
mod tests;
