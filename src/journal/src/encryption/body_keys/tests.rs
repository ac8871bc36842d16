use std::sync::atomic::AtomicBool;

use super::*;
use crate::encryption::FileHook;

/// A clock that tests move.
#[derive(Default)]
struct Hand(AtomicU64);

impl Hand {
    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn unix_us(&self) -> u64 {
        self.mono_us()
    }

    fn mono_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A key that can be taken away, and counts how often it is asked.
struct Switched {
    hook: FileHook,
    works: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl KeyHook for Switched {
    fn wrap(&self, key: &[u8; 32]) -> Result<Wrapped, EncryptionError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.works.load(Ordering::Relaxed) {
            true => self.hook.wrap(key),
            false => Err(EncryptionError::Hook { what: "it is off".into() }),
        }
    }

    fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<[u8; 32]>, EncryptionError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.hook.unwrap(wrapped)
    }
}

fn file_hook(byte: u8) -> FileHook {
    FileHook::new(Zeroizing::new([byte; 32]))
}

struct Bench {
    keys: BodyKeys,
    clock: Arc<Hand>,
    works: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

fn bench() -> Bench {
    let (clock, works) = (Arc::new(Hand::default()), Arc::new(AtomicBool::new(true)));
    let asked = Arc::new(AtomicU64::new(0));
    let hook = Switched { hook: file_hook(1), works: works.clone(), asked: asked.clone() };
    let keys =
        BodyKeys::new(vec![Box::new(hook)], OnKeyFailure::Refuse, Duration::from_secs(100), clock.clone());
    Bench { keys, clock, works, asked }
}

#[test]
fn a_key_is_replaced_at_half_of_its_time_and_a_hook_that_is_down_shorter_is_not_noticed() {
    let Bench { keys, clock, works, .. } = bench();
    assert!(keys.current().is_none(), "nothing was asked yet");
    assert_eq!(keys.renew_and_wait(RETRY_MIN), Duration::from_secs(50));
    let first = keys.current().unwrap();
    clock.pass(49);
    assert_eq!(keys.renew_and_wait(RETRY_MIN), Duration::from_secs(1));
    assert!(Arc::ptr_eq(&first, &keys.current().unwrap()), "not yet");
    works.store(false, Ordering::Relaxed);
    clock.pass(1);
    assert!(keys.renew_and_wait(RETRY_MIN) <= RETRY_MAX);
    assert!(Arc::ptr_eq(&first, &keys.current().unwrap()), "the one before serves on");
    assert_eq!(keys.stats(), BodyKeyStats { usable: true, failures: 1, refuses: true });
    works.store(true, Ordering::Relaxed);
    keys.renew_and_wait(RETRY_MIN);
    assert!(!Arc::ptr_eq(&first, &keys.current().unwrap()));
}

#[test]
fn after_its_time_a_key_encrypts_nothing_any_more() {
    let Bench { keys, clock, works, .. } = bench();
    keys.renew().unwrap();
    works.store(false, Ordering::Relaxed);
    clock.pass(100);
    assert!(keys.current().is_none());
    assert_eq!(keys.stats().refusal(), Some(Reason::KeyHookFailed));
    assert!(keys.renew_and_wait(RETRY_MAX) <= RETRY_MAX);
    works.store(true, Ordering::Relaxed);
    keys.renew_and_wait(RETRY_MIN);
    assert_eq!(keys.stats().refusal(), None);
}

#[test]
fn many_bodies_of_one_key_are_read_with_one_question() {
    let Bench { keys, asked, .. } = bench();
    keys.renew().unwrap();
    let wrapped = keys.wrap(&[7; 32]).unwrap();
    let before = asked.load(Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(*keys.unwrap(&wrapped).unwrap(), [7; 32]);
    }
    assert_eq!(asked.load(Ordering::Relaxed), before + 1);
    // Another id on the same bytes is another question, which that key refuses.
    let other = Wrapped { id: "other".into(), ..wrapped };
    assert!(matches!(keys.unwrap(&other), Err(EncryptionError::Key { .. })));
}

#[test]
fn earlier_keys_read_and_the_newest_writes() {
    let clock = Arc::new(Hand::default());
    let old = file_hook(1);
    let wrapped = old.wrap(&[7; 32]).unwrap();
    let keys = |bytes: &[u8]| {
        let hooks = bytes.iter().map(|byte| Box::new(file_hook(*byte)) as Box<dyn KeyHook>).collect();
        BodyKeys::to_read(hooks, clock.clone())
    };
    assert_eq!(*keys(&[2, 1]).unwrap(&wrapped).unwrap(), [7; 32]);
    assert_eq!(keys(&[2, 1]).wrap(&[7; 32]).unwrap().id, file_hook(2).wrap(&[7; 32]).unwrap().id);
    assert!(
        matches!(keys(&[2, 3]).unwrap(&wrapped), Err(EncryptionError::Key { wanted, .. }) if wanted == wrapped.id)
    );
    let refused = keys(&[]).unwrap(&wrapped).unwrap_err();
    assert!(matches!(&refused, EncryptionError::NoKey { wanted } if *wanted == wrapped.id));
    assert_eq!(refused.reason(), Reason::EncryptionKey);
}

/// Gives back something else than it was given, or nothing that fits.
struct Forgetful(fn(&[u8; 32]) -> Wrapped);

impl KeyHook for Forgetful {
    fn wrap(&self, key: &[u8; 32]) -> Result<Wrapped, EncryptionError> {
        Ok((self.0)(key))
    }

    fn unwrap(&self, _: &Wrapped) -> Result<Zeroizing<[u8; 32]>, EncryptionError> {
        Ok(Zeroizing::new([9; 32]))
    }
}

#[test]
fn a_hook_that_cannot_give_back_what_it_wrapped_is_not_used() {
    let garbage: [fn(&[u8; 32]) -> Wrapped; 2] = [
        |_| Wrapped { id: "x".into(), bytes: vec![0; 8] },
        |_| Wrapped { id: "x".into(), bytes: vec![0; 4_000] },
    ];
    for hook in garbage {
        let hooks: Vec<Box<dyn KeyHook>> = vec![Box::new(Forgetful(hook))];
        let keys = BodyKeys::to_read(hooks, Arc::new(Hand::default()));
        assert!(matches!(keys.renew(), Err(EncryptionError::Hook { .. })));
        assert!(keys.current().is_none());
    }
}

#[test]
fn the_thread_ends_with_the_last_handle() {
    let Bench { keys, .. } = bench();
    let keys = Arc::new(keys);
    keys.start().unwrap();
    assert!(keys.current().is_some());
    let weak = Arc::downgrade(&keys);
    drop(keys);
    assert!(weak.upgrade().is_none());
}
