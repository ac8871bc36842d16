//! The handle that everyone but the writer holds.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use estoppel_evidence::entry::{RunClass, SealReason};
use estoppel_evidence::{CaptureKey, Reason, RunId, Sha256, Signer, Use};
use rustix::fs::{FlockOperation, flock};

use crate::ack::{Ack, AckSender};
use crate::clock::Clock;
use crate::error::{JournalError, Refused, SealError};
use crate::handle::{Registry, RunHandle, RunSummary, Slot, refused_ack};
use crate::keys::Keys;
use crate::seal::SealedRun;
use crate::settings::Settings;
use crate::stats::{Gauges, Stats};
use crate::storage::{Files, Storage};
use crate::writer::{Command, Writer};

/// Commands that are not records (seals, rotations, policy loads) and may wait beside the slots.
const CONTROL_MAX: usize = 1_024;

/// A journal that is being written. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) capture: CaptureKey,
    pub(crate) registry: Registry,
    pub(crate) gauges: Gauges,
    sender: SyncSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held for as long as the journal is open.
    _lock: File,
}

impl Inner {
    /// Queues a command with an acknowledgement. There is room, because a slot or the control share stands for it.
    pub(crate) fn push(&self, make: impl FnOnce(AckSender) -> Command) -> Ack {
        if let Some(reason) = self.gauges.poisoned() {
            return refused_ack(reason);
        }
        let (sender, ack) = Ack::pair();
        match self.sender.try_send(make(sender)) {
            Ok(()) => ack,
            Err(TrySendError::Full(_)) => refused_ack(Reason::EvidenceFull),
            Err(TrySendError::Disconnected(_)) => refused_ack(Reason::EvidenceFailed),
        }
    }

    pub(crate) fn new_run(&self, name: Option<&str>, class: RunClass) -> RunHandle {
        let run = RunHandle::new(self.new_id(), name.map(str::to_string), class, &self.capture);
        run.0.used_us.store(self.clock.mono_us(), Ordering::Relaxed);
        run
    }

    fn new_id(&self) -> RunId {
        let mut random = [0; 10];
        // Without random bytes the time alone tells runs apart; the capture keys stay secret either way.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        RunId::new(self.clock.unix_us() / 1000, random)
    }
}

impl Journal {
    /// Recovers the journal in `settings.dir`, or begins one, and starts its writer.
    ///
    /// # Errors
    /// [`JournalError`] says what stands in the way and what to do. Nothing is changed on disk when the journal is
    /// damaged, rolled back or forked.
    pub fn open(settings: Settings, keys: Keys, clock: Arc<dyn Clock>) -> Result<Self, JournalError> {
        Self::open_on(Arc::new(Files), settings, keys, clock)
    }

    /// As [`Journal::open`], on a storage of the caller's.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        settings: Settings,
        keys: Keys,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JournalError> {
        let lock = prepare(&settings)?;
        let (sender, receiver) = sync_channel(settings.queue_entries + settings.queue_entries + CONTROL_MAX);
        let inner = Arc::new(Inner {
            capture: keys.capture.clone(),
            registry: Registry::new(),
            gauges: Gauges::default(),
            sender,
            thread: Mutex::new(None),
            clock,
            settings,
            _lock: lock,
        });
        let writer = Writer::open(storage, &inner, keys)?;
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&receiver))
            .map_err(|source| JournalError::Folder { path: inner.settings.dir.clone(), source })?;
        *inner.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Self { inner })
    }

    /// Opens the journal in `dir` with default settings for work without a daemon, such as sealing.
    ///
    /// # Errors
    /// As [`Journal::open`]; [`JournalError::Locked`] while a daemon runs.
    pub fn open_offline(dir: &Path, keys: Keys, clock: Arc<dyn Clock>) -> Result<Self, JournalError> {
        let instance = crate::recover::instance_of(dir)?;
        Self::open(Settings::new(dir.to_path_buf(), instance), keys, clock)
    }

    /// Reserves a place for one record. Never blocks.
    ///
    /// # Errors
    /// [`Refused`]: nothing may be done that would have to be recorded.
    pub fn admit(&self) -> Result<Slot, Refused> {
        let gauges = &self.inner.gauges;
        if let Some(reason) = gauges.failure() {
            return Err(Refused::Failed(reason));
        }
        if gauges.closed.load(Ordering::Acquire) {
            return Err(Refused::Closed);
        }
        if gauges.slots.fetch_add(1, Ordering::AcqRel) >= self.inner.settings.queue_entries {
            gauges.slots.fetch_sub(1, Ordering::AcqRel);
            return Err(Refused::Full { retry_after: Duration::from_secs(1) });
        }
        Ok(Slot { inner: self.inner.clone() })
    }

    /// The open run of that name, or the one of calls that name none; opened on first use.
    ///
    /// # Errors
    /// [`Refused::Full`] when too many runs are open.
    pub fn run(&self, name: Option<&str>) -> Result<RunHandle, Refused> {
        let class = if name.is_some() { RunClass::Caller } else { RunClass::Ambient };
        let run = self
            .inner
            .registry
            .get(name, self.inner.settings.runs_max, || self.inner.new_run(name, class))?;
        run.0.used_us.store(self.inner.clock.mono_us(), Ordering::Relaxed);
        Ok(run)
    }

    /// Open runs, then recently sealed ones.
    pub fn runs(&self) -> Vec<RunSummary> {
        self.inner.registry.list()
    }

    /// Gauges and counters.
    pub fn stats(&self) -> Stats {
        let gauges = &self.inner.gauges;
        Stats {
            queue: gauges.slots.load(Ordering::Relaxed),
            entries: gauges.entries.load(Ordering::Relaxed),
            runs_open: self.inner.registry.open(),
            spilled: gauges.spilled.load(Ordering::Relaxed),
            batches: gauges.batches.load(Ordering::Relaxed),
            batched: gauges.batched.load(Ordering::Relaxed),
            sync_us: gauges.sync_us.load(Ordering::Relaxed),
            stalled: gauges.failure().is_some() && gauges.poisoned().is_none(),
            failed: gauges.failure(),
            checkpoint_size: gauges.checkpoint_size.load(Ordering::Relaxed),
        }
    }

    /// Seals a run, by id or name, and writes its bundle. Waits up to ten seconds for calls in flight.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn seal(&self, which: &str, reason: SealReason) -> Result<SealedRun, SealError> {
        let receiver = self.begin_seal(which, reason)?;
        receiver.await.unwrap_or(Err(SealError::Failed(Reason::EvidenceFailed)))
    }

    /// As [`Journal::seal`], on the calling thread.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_blocking(&self, which: &str, reason: SealReason) -> Result<SealedRun, SealError> {
        let receiver = self.begin_seal(which, reason)?;
        receiver.blocking_recv().unwrap_or(Err(SealError::Failed(Reason::EvidenceFailed)))
    }

    fn begin_seal(
        &self,
        which: &str,
        reason: SealReason,
    ) -> Result<tokio::sync::oneshot::Receiver<Result<SealedRun, SealError>>, SealError> {
        let Some(run) = self.inner.registry.take(which) else {
            return Err(SealError::Unknown(which.to_string()));
        };
        let (reply, receiver) = tokio::sync::oneshot::channel();
        self.control(Command::Seal { run, reason, reply: Some(reply) }).map_err(SealError::Failed)?;
        Ok(receiver)
    }

    /// From now on the key of `use_` is `new`: a `key.rotate` entry in every open run says so.
    ///
    /// # Errors
    /// The journal has failed.
    pub fn rotate(&self, use_: Use, new: Arc<dyn Signer>) -> Result<(), JournalError> {
        let (sender, ack) = Ack::pair();
        self.control(Command::Rotate { use_, new, ack: sender }).map_err(JournalError::Failed)?;
        ack.wait().map(drop).map_err(|error| JournalError::Failed(error.0))
    }

    /// Keeps a policy's canonical bytes, for the bundles of the runs that it judges.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn store_policy(&self, hash: Sha256, canonical: &[u8]) -> Result<(), JournalError> {
        let path = policy_path(&self.inner.settings.dir, hash);
        if path.exists() {
            return Ok(());
        }
        Files.replace(&path, canonical).map_err(|source| JournalError::Folder { path, source })
    }

    /// Records that a policy is in force, or that one was refused.
    pub fn policy_loaded(&self, policy: Option<Sha256>, refused: Option<Reason>) {
        if let Err(reason) = self.control(Command::Policy { policy, refused }) {
            tracing::error!(code = %reason, "a policy load was not recorded");
        }
    }

    fn control(&self, command: Command) -> Result<(), Reason> {
        if let Some(reason) = self.inner.gauges.poisoned() {
            return Err(reason);
        }
        self.inner.sender.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Reason::EvidenceFull,
            TrySendError::Disconnected(_) => Reason::EvidenceFailed,
        })
    }

    /// Writes what is queued, seals the instance's own run, publishes a checkpoint and ends the writer. Other runs
    /// stay open and go on at the next start.
    ///
    /// # Errors
    /// The journal had failed, or the writer did not end within `deadline`.
    pub fn close(&self, deadline: Duration) -> Result<(), JournalError> {
        self.inner.gauges.closed.store(true, Ordering::Release);
        let until = Instant::now() + deadline;
        let mut command = Command::Close;
        while let Err(TrySendError::Full(back)) = self.inner.sender.try_send(command) {
            if Instant::now() > until {
                return Err(JournalError::Stuck);
            }
            command = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        while !thread.is_finished() {
            if Instant::now() > until {
                return Err(JournalError::Stuck);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // The writer does not panic; if it did, its batch was not acknowledged.
        let _ = thread.join();
        self.inner.gauges.poisoned().map_or(Ok(()), |reason| Err(JournalError::Failed(reason)))
    }
}

/// Where a policy's canonical bytes are kept.
pub(crate) fn policy_path(dir: &Path, hash: Sha256) -> std::path::PathBuf {
    dir.join("policies").join(format!("{}.json", hash.hex()))
}

/// Makes the folders and takes the lock.
fn prepare(settings: &Settings) -> Result<File, JournalError> {
    let dir = &settings.dir;
    let folder = |path: &Path| {
        let path = path.to_path_buf();
        move |source| JournalError::Folder { path, source }
    };
    if !dir.exists() {
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(JournalError::Parent(parent.to_path_buf()));
        }
        std::fs::create_dir(dir).map_err(folder(dir))?;
    }
    for name in ["segments", "policies", "bundles", "bodies"] {
        let path = dir.join(name);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(folder(&path)(error));
            }
            _ => {}
        }
    }
    let path = dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(folder(&path))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| JournalError::Locked(dir.clone()))?;
    Ok(lock)
}
