//! Admission: room for a receipt is taken before a call may go on, and a record never waits to be taken.
//!
//! A [`Slot`] is one place in the bounded queue. It is held while the call is in flight, turned into a record by
//! [`Slot::commit`], and free again when that record is durable. A slot may announce its call with one intent, so the
//! queue holds at most two items per slot, and [`CONTROLS_MAX`] others.
//!
//! Locks: `queue` is held for a push or a swap only; `runs` for a look-up only. Neither is held while the other, or
//! any file, is waited for.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use estoppel_evidence::entry::{CallRecord, Intent, RunClass};
use estoppel_evidence::hash::Leaf;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, CaptureKey, Reason, RunId, Sha256};

use crate::clock::Clock;
use crate::control::Control;
use crate::run::{Run, RunHandle, RunTable};
use crate::settings::Settings;
use crate::spill::Spill;
use crate::stats::{Gauges, add, set};

/// Most requests other than records that wait in the queue: seals, rotations, policy loads.
pub const CONTROLS_MAX: usize = 256;
/// When a refused caller may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a call was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    #[error("the evidence queue, its spill file or the table of runs is full; try again after {} s", .retry_after.as_secs())]
    Full { retry_after: Duration },
    #[error("evidence cannot be written ({0}); restart once the cause is mended")]
    Failed(Reason),
    #[error("the journal is closed")]
    Closed,
}

impl Refused {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Full { .. } => Reason::EvidenceFull,
            Self::Failed(_) => Reason::EvidenceFailed,
            Self::Closed => Reason::Shutdown,
        }
    }
}

/// Where a record is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// In the journal, as the entry with this hash.
    Journal(Leaf),
    /// In the spill file: it will become an entry, also after a crash, but its place and hash are not known yet.
    Spill,
    /// Nowhere: evidence is off.
    Off,
}

impl Recorded {
    /// The entry hash, if the record is an entry already.
    pub fn leaf(self) -> Option<Leaf> {
        match self {
            Self::Journal(leaf) => Some(leaf),
            Self::Spill | Self::Off => None,
        }
    }
}

/// Why a record did not become durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AckError {
    #[error("evidence cannot be written")]
    Failed,
    #[error("the journal was closed before the record was written")]
    Closed,
    #[error("the slot announced its call already")]
    Twice,
    #[error("the decision came too late to be recorded before it expires")]
    Late,
}

impl AckError {
    /// The stable code.
    pub fn reason(self) -> Reason {
        match self {
            Self::Failed => Reason::EvidenceFailed,
            Self::Closed => Reason::Shutdown,
            Self::Twice => Reason::Internal,
            Self::Late => Reason::HoldExpired,
        }
    }
}

/// Resolves when a record is durable as the settings say. Dropping it never cancels the record.
#[derive(Debug)]
#[must_use = "a record counts as recorded when its acknowledgement has come"]
pub struct Ack(oneshot::Receiver<Result<Recorded, AckError>>);

/// The writing side of an [`Ack`].
#[derive(Debug)]
pub(crate) struct Acknowledge(oneshot::Sender<Result<Recorded, AckError>>);

impl Ack {
    pub(crate) fn channel() -> (Acknowledge, Self) {
        let (sender, receiver) = oneshot::channel();
        (Acknowledge(sender), Self(receiver))
    }

    fn refused(error: AckError) -> Self {
        let (sender, ack) = Self::channel();
        sender.give(Err(error));
        ack
    }

    /// Waits on this thread. Not for use inside a runtime.
    pub fn wait(self) -> Result<Recorded, AckError> {
        self.0.blocking_recv().unwrap_or(Err(AckError::Failed))
    }
}

impl Future for Ack {
    type Output = Result<Recorded, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(AckError::Failed)))
    }
}

impl Acknowledge {
    pub fn give(self, answer: Result<Recorded, AckError>) {
        let _ = self.0.send(answer); // whoever asked may have left
    }
}

/// What the writer is asked to write.
pub(crate) enum Item {
    Call { run: Arc<Run>, record: Box<CallRecord>, ack: Option<Acknowledge> },
    Intent { run: Arc<Run>, intent: Intent, ack: Option<Acknowledge> },
    Interrupted { run: Arc<Run>, call: CallId, reason: Reason },
    Control(Box<Control>),
}

impl Item {
    /// Whether a slot is free again once this is written.
    pub fn frees_slot(&self) -> bool {
        matches!(self, Self::Call { .. } | Self::Interrupted { .. })
    }

    /// The run that it belongs to.
    pub fn run(&self) -> Option<&Arc<Run>> {
        match self {
            Self::Call { run, .. } | Self::Intent { run, .. } | Self::Interrupted { run, .. } => Some(run),
            Self::Control(_) => None,
        }
    }

    /// Evidence is off: the record is gone, and nobody has to wait for it.
    fn pass(self) {
        match self {
            Self::Call { ack: Some(ack), .. } | Self::Intent { ack: Some(ack), .. } => {
                ack.give(Ok(Recorded::Off))
            }
            Self::Call { .. } | Self::Intent { .. } | Self::Interrupted { .. } => {}
            Self::Control(control) => match *control {
                Control::Note { ack, .. } => ack.give(Ok(Recorded::Off)),
                control => control.refuse(AckError::Closed),
            },
        }
    }

    /// Tells whoever waits that this will not be written.
    pub fn refuse(self, error: AckError) {
        match self {
            Self::Call { ack, .. } | Self::Intent { ack, .. } => {
                if let Some(ack) = ack {
                    ack.give(Err(error));
                }
            }
            Self::Interrupted { .. } => {}
            Self::Control(control) => control.refuse(error),
        }
    }
}

/// Why evidence cannot be written any more. Set once.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub reason: Reason,
    pub text: String,
}

const OPEN: u8 = 0;
/// No new slots; records of slots that exist are taken.
const CLOSING: u8 = 1;
const SHUT: u8 = 2;

/// What waits for the writer.
#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Items ever pushed.
    pushed: u64,
    controls: usize,
    asleep: bool,
    nudged: bool,
    /// Why nothing is taken any more.
    shut: Option<AckError>,
}

/// What the handles and the writer share.
pub(crate) struct Shared {
    pub settings: Settings,
    /// Nothing is recorded, and what is handed over is acknowledged at once.
    pub off: bool,
    pub clock: Arc<dyn Clock>,
    pub capture: CaptureKey,
    pub gauges: Gauges,
    /// Entries that are durable, for those who read along.
    pub durable: watch::Sender<u64>,
    pub spill: Option<Arc<Spill>>,
    runs: Mutex<RunTable>,
    queue: Mutex<Queue>,
    wake: Condvar,
    free: AtomicUsize,
    gate: AtomicU8,
    failure: OnceLock<Failure>,
    /// When, on the monotonic clock, closing no longer waits.
    pub close_by_us: AtomicU64,
    /// The policy that new runs name.
    policy: Mutex<Sha256>,
    /// First and last refusal that no `gap` entry speaks of, and how many there were.
    pub gap: Mutex<Option<(UnixMicros, UnixMicros, u64)>>,
}

/// A lock whose holder panicked is used all the same: every critical section here leaves its data whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        capture: CaptureKey,
        spill: Option<Arc<Spill>>,
    ) -> Self {
        let (free, policy) = (settings.queue_entries, settings.policy);
        Self {
            settings,
            off: false,
            clock,
            capture,
            gauges: Gauges::default(),
            durable: watch::Sender::new(0),
            spill,
            runs: Mutex::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            free: AtomicUsize::new(free),
            gate: AtomicU8::new(OPEN),
            failure: OnceLock::new(),
            close_by_us: AtomicU64::new(u64::MAX),
            policy: Mutex::new(policy),
            gap: Mutex::default(),
        }
    }

    /// So many entries of the log are as durable as the settings say.
    pub fn written(&self, entries: u64) {
        set(&self.gauges.entries, entries);
        self.durable.send_if_modified(|durable| std::mem::replace(durable, entries) != entries);
    }

    pub fn runs(&self) -> MutexGuard<'_, RunTable> {
        locked(&self.runs)
    }

    pub fn policy(&self) -> Sha256 {
        *locked(&self.policy)
    }

    pub fn set_policy(&self, policy: Sha256) {
        *locked(&self.policy) = policy;
    }

    pub fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// Slots that nobody holds.
    pub fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Items in the queue.
    pub fn queued(&self) -> usize {
        locked(&self.queue).items.len()
    }

    pub fn is_closing(&self) -> bool {
        self.gate.load(Ordering::SeqCst) != OPEN
    }

    /// Takes one slot.
    pub fn admit(self: &Arc<Self>) -> Result<Slot, Refused> {
        match self.gate.load(Ordering::Relaxed) {
            OPEN => {}
            _ => {
                return Err(self
                    .failure()
                    .map_or(Refused::Closed, |failure| Refused::Failed(failure.reason)));
            }
        }
        let stalled = self.gauges.stalled.load(Ordering::Relaxed) > 0;
        let taken = match stalled {
            true => Err(0),
            false => self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1)),
        };
        let room = match (taken, &self.spill) {
            (Ok(_), _) => Room::Queue,
            (Err(_), Some(spill)) if spill.reserve() => Room::Spill,
            _ => return Err(self.full()),
        };
        Ok(Slot { shared: self.clone(), room, intent: OnceLock::new(), done: AtomicBool::new(false) })
    }

    fn full(&self) -> Refused {
        add(&self.gauges.refused, 1);
        let now = UnixMicros(self.clock.unix_us());
        let mut gap = locked(&self.gap);
        let (from, _, count) = gap.unwrap_or((now, now, 0));
        *gap = Some((from, now, count + 1));
        Refused::Full { retry_after: RETRY_AFTER }
    }

    /// Gives slots back.
    pub fn release(&self, slots: usize) {
        self.free.fetch_add(slots, Ordering::Relaxed);
    }

    /// Hands an item to the writer; gives it back when nothing is taken any more.
    #[expect(clippy::result_large_err, reason = "the item goes back to its owner, once, when all is lost")]
    pub fn push(&self, item: Item) -> Result<u64, (Item, AckError)> {
        if self.off {
            self.release(usize::from(item.frees_slot()));
            item.pass();
            return Ok(0);
        }
        let mut queue = locked(&self.queue);
        if let Some(error) = queue.shut {
            return Err((item, error));
        }
        if matches!(item, Item::Control(_)) {
            if queue.controls == CONTROLS_MAX {
                return Err((item, AckError::Failed));
            }
            queue.controls += 1;
        }
        queue.items.push_back(item);
        queue.pushed += 1;
        let pushed = queue.pushed;
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            self.wake.notify_one();
        }
        Ok(pushed)
    }

    /// Makes the writer look around without an item.
    pub fn nudge(&self) {
        let mut queue = locked(&self.queue);
        queue.nudged = true;
        queue.asleep = false;
        drop(queue);
        self.wake.notify_one();
    }

    /// Items ever pushed: what is in the queue now is written once as many were taken.
    pub fn pushed(&self) -> u64 {
        locked(&self.queue).pushed
    }

    /// Swaps the queue's items for `taken`, which is empty. Waits at most `wait` when there are none. Returns how
    /// many items were ever pushed.
    pub fn take(&self, taken: &mut VecDeque<Item>, wait: Duration) -> u64 {
        let mut queue = locked(&self.queue);
        if queue.items.is_empty() && !queue.nudged && !wait.is_zero() {
            queue.asleep = true;
            queue = self.wake.wait_timeout(queue, wait).map_or_else(|e| e.into_inner().0, |(queue, _)| queue);
            queue.asleep = false;
        }
        queue.nudged = false;
        queue.controls = 0;
        std::mem::swap(&mut queue.items, taken);
        queue.pushed
    }

    /// Waits until nudged or `wait` has passed.
    pub fn pause(&self, wait: Duration) {
        let queue = locked(&self.queue);
        let (mut queue, _) = self
            .wake
            .wait_timeout_while(queue, wait, |queue| !queue.nudged)
            .unwrap_or_else(PoisonError::into_inner);
        queue.nudged = false;
    }

    /// No new slots from now on.
    pub fn begin_close(&self, by_us: u64) {
        self.close_by_us.store(by_us, Ordering::SeqCst);
        let _ = self.gate.compare_exchange(OPEN, CLOSING, Ordering::SeqCst, Ordering::SeqCst);
        self.nudge();
    }

    /// Nothing is taken from now on; whoever waits is told.
    pub fn shut(&self, failure: Option<Failure>) {
        let error = if failure.is_some() { AckError::Failed } else { AckError::Closed };
        if let Some(failure) = failure {
            drop(self.failure.set(failure)); // the first cause is the one to tell
        }
        self.gate.store(SHUT, Ordering::SeqCst);
        if let Some(spill) = &self.spill {
            spill.shut(error);
        }
        let items = {
            let mut queue = locked(&self.queue);
            queue.shut = Some(error);
            std::mem::take(&mut queue.items)
        };
        for item in items {
            let freed = item.frees_slot();
            item.refuse(error);
            self.release(usize::from(freed));
        }
    }

    /// The open run of that name, or the ambient run; made on first use.
    pub fn run(self: &Arc<Self>, name: Option<&str>) -> Result<RunHandle, Refused> {
        let name = name.map(estoppel_evidence::text::name).filter(|name| !name.is_empty() && !self.off);
        let mut runs = self.runs();
        let found = match &name {
            Some(name) => runs.named.get(&**name),
            None => runs.ambient.as_ref(),
        };
        let now = self.clock.mono_us();
        if let Some(run) = found {
            run.used_us.store(now, Ordering::Relaxed);
            return Ok(RunHandle::new(run.clone(), self.clone()));
        }
        if name.is_some() && runs.named.len() >= self.settings.runs_max {
            return Err(Refused::Full { retry_after: RETRY_AFTER });
        }
        let class = if name.is_some() { RunClass::Caller } else { RunClass::Ambient };
        let run = self.new_run(class, name.map(|name| name.into_owned().into()));
        runs.insert(run.clone());
        Ok(RunHandle::new(run, self.clone()))
    }

    /// A run with a fresh id.
    pub fn new_run(&self, class: RunClass, name: Option<Box<str>>) -> Arc<Run> {
        let now = self.clock.unix_us();
        let id = RunId::new(now / 1_000, random());
        self.make_run(id, class, name, UnixMicros(now), Some(self.clock.mono_us()))
    }

    /// A run whose id is known: read back from the journal or the spill file.
    pub fn known_run(
        &self,
        id: RunId,
        class: RunClass,
        name: Option<Box<str>>,
        opened: UnixMicros,
    ) -> Arc<Run> {
        self.make_run(id, class, name, opened, None)
    }

    fn make_run(
        &self,
        id: RunId,
        class: RunClass,
        name: Option<Box<str>>,
        opened: UnixMicros,
        opened_us: Option<u64>,
    ) -> Arc<Run> {
        Arc::new(Run {
            id,
            class,
            name,
            capture: self.capture.run(id),
            policy: self.policy(),
            opened,
            opened_us,
            in_flight: AtomicUsize::new(0),
            spilled: AtomicUsize::new(0),
            sealing: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            used_us: AtomicU64::new(self.clock.mono_us()),
        })
    }

    /// Whether every slot has been given back.
    pub fn all_free(&self) -> bool {
        self.free() >= self.settings.queue_entries
    }
}

/// Bits for a run id. Falls back on nothing: a machine without random numbers has no TLS either.
fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "no random numbers; run ids are unique by time only");
                break;
            }
        }
    }
    bytes
}

/// Where a slot's record will wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    Queue,
    Spill,
}

/// Room for one call's evidence. Dropping it without [`Slot::commit`] gives the room back; if the call was announced,
/// an `interrupted` entry says that no receipt follows.
#[must_use = "a slot that is dropped leaves no receipt"]
pub struct Slot {
    shared: Arc<Shared>,
    room: Room,
    intent: OnceLock<(RunHandle, CallId)>,
    /// The room is the writer's now.
    done: AtomicBool,
}

impl Slot {
    /// Hands the call's record over. Never blocks; the record cannot be lost from here on except by what fails the
    /// acknowledgement.
    pub fn commit(self, run: &RunHandle, record: Box<CallRecord>) -> Ack {
        let (sender, ack) = Ack::channel();
        self.hand_over(run, record, sender);
        ack
    }

    fn hand_over(self, run: &RunHandle, record: Box<CallRecord>, sender: Acknowledge) {
        self.put(Item::Call { run: run.run().clone(), record, ack: Some(sender) });
        self.done.store(true, Ordering::Relaxed);
    }

    /// As [`Slot::commit`] in two steps, for a record that has to wait for something: the acknowledgement now.
    pub fn promise(self, run: RunHandle) -> (Promise, Ack) {
        let (sender, ack) = Ack::channel();
        (Promise { slot: self, run, sender }, ack)
    }

    /// Announces the call: for [`estoppel_evidence::entry::Durability::Sync`], before the upstream is contacted. Once
    /// per slot.
    pub fn intent(&self, run: &RunHandle, intent: Intent) -> Ack {
        let (sender, ack) = Ack::channel();
        if self.intent.set((run.clone(), intent.call)).is_err() {
            return Ack::refused(AckError::Twice);
        }
        self.put(Item::Intent { run: run.run().clone(), intent, ack: Some(sender) });
        ack
    }

    fn put(&self, item: Item) {
        let refused = match (self.room, &self.shared.spill) {
            (Room::Spill, Some(spill)) => spill.push(item).err(),
            _ => self.shared.push(item).err(),
        };
        if let Some((item, error)) = refused {
            let freed = item.frees_slot();
            item.refuse(error);
            if freed {
                self.give_back();
            }
        }
    }

    fn give_back(&self) {
        match (self.room, &self.shared.spill) {
            (Room::Spill, Some(spill)) => spill.release(),
            _ => self.shared.release(1),
        }
    }
}

/// A slot whose acknowledgement has been given out. Dropping it is dropping the slot: the acknowledgement fails.
#[derive(Debug)]
#[must_use = "a promise that is dropped leaves no receipt"]
pub struct Promise {
    slot: Slot,
    run: RunHandle,
    sender: Acknowledge,
}

impl Promise {
    /// The run that the record goes to.
    pub fn run(&self) -> &RunHandle {
        &self.run
    }

    /// Whether the record will be in the chain before what is noted once it was handed over: not where it waits in the spill file.
    pub fn keeps_order(&self) -> bool {
        self.slot.room == Room::Queue
    }

    /// Hands the record over, as [`Slot::commit`].
    pub fn commit(self, record: Box<CallRecord>) {
        self.slot.hand_over(&self.run, record, self.sender);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if *self.done.get_mut() {
            return;
        }
        match self.intent.take() {
            // The handle is dropped after the push, so that the run cannot be sealed in between.
            Some((run, call)) => {
                self.put(Item::Interrupted { run: run.run().clone(), call, reason: Reason::Interrupted });
            }
            None => self.give_back(),
        }
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({:?})", self.room)
    }
}
