//! The journal's handle: opening, what others may ask of it, closing.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use estoppel_evidence::entry::{Event, RunClass, SealReason};
use estoppel_evidence::{CaptureKey, Instance, Reason, RunId, Sha256, Signer, Use};

use crate::admit::{Ack, Failure, Item, Refused, Shared, Slot, locked};
use crate::bodies::BodyStore;
use crate::clock::Clock;
use crate::control::{Control, Pending, Rotated};
use crate::documents::DocumentStore;
use crate::encryption::BodyKeys;
use crate::error::{CloseError, JournalError, StorePolicyError};
use crate::follow::{Follower, Position};
use crate::held::{Found, HeldCall};
use crate::keys::RotateError;
use crate::killed::KilledTarget;
use crate::layout::Layout;
use crate::run::{RunHandle, RunState, RunSummary};
use crate::seal::{SealError, SealedRun, check_keys};
use crate::segment::{HEADER_BYTES, Header, first_of};
use crate::settings::{CopyOf, Keys, Settings};
use crate::start::{Started, start};
use crate::stats::{Stats, get};
use crate::storage::{FileSystem, Lock, Storage, read_full, read_small, write_whole};

/// Largest policy document that is stored.
const POLICY_BYTES_MAX: u64 = 16 << 20;

/// An open journal. Cloning gives another handle to the same one; the last handle that goes away stops the writer
/// without sealing anything.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    layout: Arc<Layout>,
    threads: Mutex<Threads>,
    /// Closing seals the instance run.
    seal_instance: Arc<AtomicBool>,
    bodies: BodyStore,
    contracts: DocumentStore,
    snapshots: DocumentStore,
    /// Taken once.
    held: Mutex<Vec<Found>>,
    before: Before,
}

/// What a journal had when it was opened.
#[derive(Clone, Debug)]
pub struct Before {
    /// No entry.
    pub is_new: bool,
    /// What operators have stopped and not let go on.
    pub killed: Vec<KilledTarget>,
}

/// The thread and how it ended.
type WriterThread = (JoinHandle<()>, Receiver<Result<(), Failure>>);

/// What is joined when the journal is closed.
#[derive(Default)]
struct Threads {
    writer: Option<WriterThread>,
    others: Vec<JoinHandle<()>>,
    lock: Option<Box<dyn Lock>>,
}

impl Journal {
    /// Takes the journal's lock, reads it back, and starts to write.
    ///
    /// # Errors
    /// [`JournalError`]; nothing runs then.
    pub fn open(settings: Settings, keys: Keys, clock: Arc<dyn Clock>) -> Result<Self, JournalError> {
        Self::open_on(Arc::new(FileSystem), settings, keys, clock)
    }

    /// As [`Journal::open`], on another file system.
    pub fn open_on(
        storage: Arc<dyn Storage>,
        settings: Settings,
        keys: Keys,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JournalError> {
        Self::begin(storage, settings, keys, clock, true)
    }

    /// Opens a journal that no daemon has open, to seal or export its runs. Nothing is written until asked for. `body_keys` are
    /// needed where stored bodies are encrypted; `copy_of` is [`Settings::copy_of`].
    ///
    /// # Errors
    /// As [`Journal::open`], and when the folder holds no journal.
    pub fn open_offline(
        dir: &Path,
        keys: Keys,
        body_keys: Option<Arc<BodyKeys>>,
        copy_of: Option<CopyOf>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JournalError> {
        let storage = Arc::new(FileSystem);
        let instance = instance_of(&*storage, dir)?;
        let settings = Settings { body_keys, copy_of, ..Settings::new(dir.into(), instance) };
        Self::begin(storage, settings, keys, clock, false)
    }

    /// A journal that records nothing: calls are admitted and acknowledged, no file is touched, no run can be sealed.
    pub fn off(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let storage: Arc<dyn Storage> = Arc::new(FileSystem);
        let layout = Arc::new(Layout::new(&settings.dir, None));
        let bodies = BodyStore::new(storage.clone(), layout.bodies_dir(), 0, None);
        let contracts = DocumentStore::new(storage.clone(), layout.contracts_dir());
        let snapshots = DocumentStore::new(storage.clone(), layout.snapshots_dir());
        let mut shared = Shared::new(settings, clock, CaptureKey::new([0; 32]), None);
        shared.off = true;
        let shared = Arc::new(shared);
        let (threads, seal_instance) = (Mutex::default(), Arc::default());
        Self {
            inner: Arc::new(Inner {
                shared,
                storage,
                layout,
                threads,
                seal_instance,
                bodies,
                contracts,
                snapshots,
                held: Mutex::default(),
                before: Before { is_new: true, killed: Vec::new() },
            }),
        }
    }

    /// Whether this journal records nothing.
    pub fn is_off(&self) -> bool {
        self.inner.shared.off
    }

    fn begin(
        storage: Arc<dyn Storage>,
        settings: Settings,
        keys: Keys,
        clock: Arc<dyn Clock>,
        online: bool,
    ) -> Result<Self, JournalError> {
        if let Some(what) = settings.wrong() {
            return Err(JournalError::Settings { what });
        }
        let layout = Arc::new(Layout::new(&settings.dir, settings.keys_dir.as_deref()));
        let bodies = BodyStore::new(
            storage.clone(),
            layout.bodies_dir(),
            settings.body_bytes_max,
            settings.body_keys.clone(),
        );
        let contracts = DocumentStore::new(storage.clone(), layout.contracts_dir());
        let snapshots = DocumentStore::new(storage.clone(), layout.snapshots_dir());
        let Started { shared, writer, sealer, spill, lock, held, before } =
            start(storage.clone(), layout.clone(), settings, keys, clock, online)?;
        let seal_instance = Arc::new(AtomicBool::new(false));
        let (done, result) = channel();
        let seal = seal_instance.clone();
        let run = move || {
            let ended = writer.run(&|| seal.load(Ordering::SeqCst));
            drop(done.send(ended)); // nobody may be waiting
        };
        let spawned = std::thread::Builder::new().name("journal".into()).spawn(run);
        let writer = spawned
            .map_err(|source| JournalError::io("start a thread for", layout.lock().as_path(), source))?;
        let others = [Some(sealer), spill].into_iter().flatten().collect();
        let threads = Mutex::new(Threads { writer: Some((writer, result)), others, lock: Some(lock) });
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                storage,
                layout,
                threads,
                seal_instance,
                bodies,
                contracts,
                snapshots,
                held: Mutex::new(held),
                before,
            }),
        })
    }

    /// Reserves room for one call's evidence. Never blocks.
    ///
    /// # Errors
    /// [`Refused`]: the call must not go on.
    pub fn admit(&self) -> Result<Slot, Refused> {
        self.inner.shared.admit()
    }

    /// The open caller run of that name, opened on first use, or the ambient run for `None`. The run cannot be sealed
    /// while the handle exists. The ambient run is never refused.
    ///
    /// # Errors
    /// [`Refused::Full`] when too many runs are open.
    pub fn run(&self, name: Option<&str>) -> Result<RunHandle, Refused> {
        self.inner.shared.run(name)
    }

    /// What it had when it was opened.
    pub fn before(&self) -> &Before {
        &self.inner.before
    }

    /// Calls that waited for people when the process before this one ended, and whose runs go on. Given once.
    pub fn held(&self) -> Vec<HeldCall> {
        let found = std::mem::take(&mut *self.inner.held.lock().unwrap_or_else(PoisonError::into_inner));
        let shared = &self.inner.shared;
        let one = |found: Found| {
            let run = shared.runs().open.get(&found.run).cloned()?;
            let (hold, approvals) = (found.hold, found.approvals);
            Some(HeldCall { run: RunHandle::new(run, shared.clone()), hold, call: found.call?, approvals })
        };
        found.into_iter().filter_map(one).collect()
    }

    /// A reader of what is durable, from `position` on.
    pub fn follow(&self, position: Position) -> Follower {
        let Inner { shared, storage, layout, .. } = &*self.inner;
        Follower::new(storage.clone(), layout.clone(), shared.durable.subscribe(), position)
    }

    /// One reading of the counters.
    pub fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        let gauges = &shared.gauges;
        let (spilled, spill_bytes) = shared.spill.as_ref().map_or((0, 0), |spill| spill.gauges());
        Stats {
            off: shared.off,
            queue: shared.queued(),
            slots: shared.settings.queue_entries.saturating_sub(shared.free()),
            entries: get(&gauges.entries),
            bytes: get(&gauges.bytes),
            batches: get(&gauges.batches),
            batch_entries: get(&gauges.batch_entries),
            sync_us: get(&gauges.sync_us),
            syncs: get(&gauges.syncs),
            sync_us_max: get(&gauges.sync_us_max),
            writer_cpu_us: get(&gauges.writer_cpu_us),
            spilled,
            spill_bytes,
            refused: get(&gauges.refused),
            runs_open: shared.runs().open.len(),
            bundles: get(&gauges.bundles),
            bundles_failed: get(&gauges.bundles_failed),
            checkpoint_size: get(&gauges.checkpoint_size),
            checkpoints_failed: get(&gauges.checkpoints_failed),
            stalled: gauges.stalled.load(Ordering::Relaxed) > 0,
            failed: shared.failure().map(|failure| failure.reason),
            body_keys: shared.settings.body_keys.as_ref().map(|keys| keys.stats()),
        }
    }

    /// Open runs, then those that were sealed last, the newest first.
    pub fn runs(&self) -> Vec<RunSummary> {
        if self.is_off() {
            return Vec::new();
        }
        let runs = self.inner.shared.runs();
        let mut open: Vec<RunSummary> = runs
            .open
            .values()
            .map(|run| RunSummary {
                id: run.id,
                name: run.name.as_deref().map(Into::into),
                class: run.class,
                state: if run.sealing.load(Ordering::Relaxed) { RunState::Sealing } else { RunState::Open },
                opened_us: run.opened.0,
                entries: get(&run.entries),
                calls: get(&run.calls),
                bundle: None,
            })
            .collect();
        open.sort_by_key(|run| run.id);
        open.extend(runs.sealed.iter().rev().cloned());
        open
    }

    /// Seals the open run of that name or id and writes its bundle. Waits, for a bounded time, until none of its calls
    /// is in flight. Of a run that is sealed, also long ago if `run` is an id, the bundle is written again if it is not
    /// there, and with the same keys has the same bytes; if it is there, that is [`SealError::Done`].
    pub fn seal(&self, run: &str, reason: SealReason) -> Pending<Result<SealedRun, SealError>> {
        if self.is_off() {
            return Pending::ready(Err(SealError::Off));
        }
        let runs = self.inner.shared.runs();
        let found = runs.find(run).cloned();
        let is_it =
            |sealed: &&RunSummary| sealed.id.to_string() == run || sealed.name.as_deref() == Some(run);
        let sealed = runs.sealed.iter().rev().find(is_it).map(|sealed| sealed.id);
        drop(runs);
        match (found, sealed.or_else(|| run.parse().ok())) {
            (Some(run), _) if run.class == RunClass::Instance => Pending::ready(Err(SealError::Own)),
            (Some(run), _) => self.ask(|answer| Control::Seal { run, reason, answer }),
            (None, Some(run)) => self.ask(|answer| Control::Export { run, only_missing: true, answer }),
            (None, None) => Pending::ready(Err(SealError::Unknown)),
        }
    }

    /// Whether the keys that were given open the stored bodies of a run. Asked before it is sealed, since a bundle holds bodies as
    /// they passed. Blocks on what holds the keys.
    ///
    /// # Errors
    /// [`SealError::Unread`]: a key is another one, or is not given.
    pub fn check_body_keys(&self, run: RunId) -> Result<(), SealError> {
        let Inner { storage, layout, shared, .. } = &*self.inner;
        check_keys(&**storage, layout, shared.settings.body_keys.as_deref(), run)
    }

    /// As [`Journal::seal`], on this thread. Not for use inside a runtime.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_blocking(&self, run: &str, reason: SealReason) -> Result<SealedRun, SealError> {
        self.seal(run, reason).wait()
    }

    /// Writes the bundle of a sealed run again, unless retention has deleted it. With the same keys it has the same bytes.
    pub fn export(&self, run: RunId) -> Pending<Result<SealedRun, SealError>> {
        self.ask(|answer| Control::Export { run, only_missing: false, answer })
    }

    /// Puts a new key in the place of the one for `use_`: a `key.rotate` entry goes into every open run.
    pub fn rotate(&self, use_: Use, new: Arc<dyn Signer>) -> Pending<Result<Rotated, RotateError>> {
        self.ask(|answer| Control::Rotate { use_, new, answer })
    }

    /// Resolves when everything recorded so far is covered by a published checkpoint; gives its size.
    pub fn checkpoint(&self) -> Pending<Result<u64, crate::admit::AckError>> {
        self.ask(|answer| Control::Checkpoint { answer })
    }

    fn ask<T>(&self, control: impl FnOnce(crate::control::Answer<T>) -> Control) -> Pending<T>
    where
        T: crate::control::Lost,
    {
        let (answer, pending) = Pending::channel();
        match self.inner.shared.push(Item::Control(Box::new(control(answer)))) {
            Ok(_) => pending,
            Err((item, error)) => {
                item.refuse(error);
                pending
            }
        }
    }

    /// The instance that writes.
    pub fn instance(&self) -> &Instance {
        &self.inner.shared.settings.instance
    }

    /// Records an event of a run, or of the instance itself. The run cannot be sealed before it is written.
    ///
    /// Texts of the event must be within what `journal_event.schema.json` allows them.
    pub fn note(&self, run: Option<&RunHandle>, event: Event) -> Ack {
        let (ack, pending) = Ack::channel();
        let note = Control::Note { run: run.cloned(), event: Box::new(event), ack };
        if let Err((item, error)) = self.inner.shared.push(Item::Control(Box::new(note))) {
            item.refuse(error);
        }
        pending
    }

    /// Records that a policy judges from now on, or that one was refused. New runs name the active one.
    pub fn policy_loaded(&self, policy: Option<Sha256>, refused: Option<Reason>) {
        if let (Some(policy), None) = (policy, refused) {
            self.inner.shared.set_policy(policy);
        }
        let item = Item::Control(Box::new(Control::PolicyLoaded { policy, refused }));
        if self.inner.shared.push(item).is_err() {
            tracing::error!("a policy load could not be recorded");
        }
    }

    /// Keeps a policy document, so that bundles can hold it. Must come before the first receipt that names it.
    ///
    /// # Errors
    /// The bytes are not what the hash names, or cannot be written.
    pub fn store_policy(&self, hash: Sha256, canonical: &[u8]) -> Result<(), StorePolicyError> {
        if Sha256::of(canonical) != hash {
            return Err(StorePolicyError::Digest);
        }
        if self.is_off() {
            return Ok(());
        }
        let (storage, path) = (&*self.inner.storage, self.inner.layout.policy(hash));
        if let Ok(Some(found)) = read_small(storage, &path, POLICY_BYTES_MAX)
            && found == canonical
        {
            return Ok(());
        }
        write_whole(storage, &path, canonical).map_err(StorePolicyError::Io)
    }

    /// Where contracts are kept that receipts name.
    pub fn contracts(&self) -> &DocumentStore {
        &self.inner.contracts
    }

    /// Where snapshots of databases are kept that receipts name.
    pub fn snapshots(&self) -> &DocumentStore {
        &self.inner.snapshots
    }

    /// Where bodies are stored in capture mode `full`.
    pub fn bodies(&self) -> &BodyStore {
        &self.inner.bodies
    }

    /// Takes no new calls, writes what is on its way, seals the instance run, and publishes a checkpoint. Other runs stay
    /// open and go on after the next start.
    ///
    /// # Errors
    /// [`CloseError`]. The journal is closed in any case.
    pub fn close(&self, deadline: Duration) -> Result<(), CloseError> {
        self.inner.seal_instance.store(true, Ordering::SeqCst);
        self.inner.stop(deadline)
    }
}

impl Inner {
    fn stop(&self, deadline: Duration) -> Result<(), CloseError> {
        let deadline_us = u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX);
        self.shared.begin_close(self.shared.clock.mono_us().saturating_add(deadline_us));
        let mut threads = locked(&self.threads);
        let Some((writer, result)) = threads.writer.take() else { return Ok(()) };
        // The writer ends by itself at the deadline, except while the disk does not answer.
        let ended = match result.recv_timeout(deadline.saturating_add(Duration::from_secs(5))) {
            Ok(ended) => ended,
            Err(_) if writer.is_finished() => {
                Err(Failure { reason: Reason::Internal, text: "the writer thread panicked".into() })
            }
            Err(_) => return Err(CloseError::Late),
        };
        drop(writer.join());
        for thread in threads.others.drain(..) {
            drop(thread.join());
        }
        threads.lock = None;
        ended.map_err(|failure| CloseError::Failed { reason: failure.reason, what: failure.text })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.stop(Duration::ZERO) {
            tracing::error!(%error, "the journal did not stop cleanly");
        }
    }
}

/// The instance that a folder's journal belongs to.
pub(crate) fn instance_of(storage: &dyn Storage, dir: &Path) -> Result<Instance, JournalError> {
    let layout = Layout::new(dir, None);
    let folder = layout.segments_dir();
    let names = storage.list(&folder).map_err(|source| JournalError::io("list", &folder, source))?;
    let none = || JournalError::io("find a segment in", &folder, io::ErrorKind::NotFound.into());
    let first = names.iter().filter(|name| first_of(name).is_some()).min().ok_or_else(none)?;
    let path = folder.join(first);
    let mut header = [0; HEADER_BYTES];
    storage
        .open(&path)
        .and_then(|file| read_full(&*file, &mut header, 0))
        .map_err(|source| JournalError::io("read", &path, source))?;
    let damaged = || JournalError::Corrupt {
        path: path.clone(),
        offset: 0,
        index: 0,
        what: "no segment header".into(),
    };
    Ok(Header::decode(&header).ok_or_else(damaged)?.instance)
}
