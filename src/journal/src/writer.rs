//! The one thread that writes: it orders records, chains and signs them, and makes a whole batch durable with one
//! write and one fdatasync.
//!
//! A batch is what waits, at most [`BATCH_MAX`]; nobody waits for it to fill. Acknowledgements are given only after the
//! batch is durable as the settings say. An error of a write or of fdatasync, or a key that does not sign, ends
//! everything: what is on disk is then unknown until the journal is read back, so nothing is tried again. The one
//! exception is a full disk while the next segment is made: nothing of ours depends on that file yet, so the writer
//! waits and tries again, and callers are refused once queue and spill are full.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use estoppel_evidence::entry::{
    BodyMode, CallRecord, Counters, Durability, Event, Gap, Interrupted, JournalRecover, KeyRotate,
    LINE_BYTES_MAX, LineTooLong, PolicyLoad, RunClass, RunOpen, RunSeal, SealReason, Sign,
};
use estoppel_evidence::envelope::{ENTRY_TYPE, base64, pae_into};
use estoppel_evidence::hash::Leaf;
use estoppel_evidence::key::KeyError;
use estoppel_evidence::note::Checkpoint;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, Reason, RunId, Sha256, Signer, Use};

use crate::admit::{AckError, Acknowledge, Failure, Item, Recorded, Shared, locked};
use crate::chain::{Chain, Place};
use crate::checkpoint::{Checkpoints, PublishError};
use crate::control::{Answer, Control, Rotated};
use crate::error::{JournalError, chain, io_reason};
use crate::index::HashIndex;
use crate::keys::{KeptKey, RotateError, forget};
use crate::layout::Layout;
use crate::run::{Run, RunState, RunSummary};
use crate::seal::{Again, BUNDLES_MAX, SealError, SealJob, SealedRun, Sealer};
use crate::segment::{self, FrameKind, Header, SIGNATURE_BYTES, Segment, encode, frame_bytes};
use crate::settings::Keys;
use crate::spill::{LeftOver, SpillKey};
use crate::start::may_go_on;
use crate::stats::{add, set};
use crate::storage::{Directory, Storage, is_full, write_whole};
use crate::trust::TrustDocument;

/// Most items of one batch.
pub const BATCH_MAX: usize = 1_024;
/// Most seals that wait for calls in flight or for their bundle.
pub const SEALS_MAX: usize = 64;
/// Bytes of left-over records that are made durable at once.
const LEFT_BYTES_MAX: usize = 1 << 20;
/// How long the writer sleeps at most while there is nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// How long it sleeps at most while the journal is being closed.
const CLOSING: Duration = Duration::from_millis(10);
/// A refusal is written as a `gap` once none has followed it for this long.
const GAP_QUIET_US: u64 = 1_000_000;
/// An approval is refused this long before it expires, so that its entry's own time is not after that.
const APPROVAL_MARGIN_US: u64 = 100_000;
/// Bytes that one entry needs at most besides its blob.
const ENTRY_ROOM: u64 = segment_room();

const fn segment_room() -> u64 {
    (segment::FRAME_BYTES + 1 + SIGNATURE_BYTES + LINE_BYTES_MAX) as u64
}

/// Why nothing can be written any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("could not {what} the segment: {source}")]
    Segment { what: &'static str, source: io::Error },
    #[error("could not make the next segment: {0}")]
    Next(#[source] io::Error),
    #[error("an entry could not be signed: {0}")]
    Sign(#[source] KeyError),
    #[error("an entry does not fit: {0}")]
    Line(#[from] LineTooLong),
    #[error("the spill file cannot be read back: {0}")]
    Spill(#[source] io::Error),
    #[error("the key of run {0} is not there")]
    Key(RunId),
    #[error("someone else writes this log: {0}")]
    Fork(PublishError),
    #[error("an entry for run {0}, which is sealed")]
    Sealed(RunId),
    #[error("the journal's folder is gone")]
    Gone,
    #[error("closed while the disk was full")]
    Closed,
}

impl WriteError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Segment { source, .. } | Self::Next(source) | Self::Spill(source) => io_reason(source),
            Self::Sign(_) | Self::Key(_) => Reason::KeyInvalid,
            Self::Line(_) | Self::Sealed(_) => Reason::Internal,
            Self::Gone => Reason::DirectoryMissing,
            Self::Fork(_) => Reason::JournalFork,
            Self::Closed => Reason::DiskFull,
        }
    }
}

/// An open run: its chain, and what the data plane shares of it.
pub(crate) struct OpenRun {
    pub chain: Chain,
    pub run: Arc<Run>,
}

/// What an entry is made from.
enum Content<'a> {
    Call(&'a mut CallRecord),
    Event(&'a Event),
}

/// A seal that waits until its run is idle.
struct PendingSeal {
    run: Arc<Run>,
    reason: SealReason,
    /// When, on the monotonic clock, waiting ends; never for runs that callers no longer get.
    by_us: Option<u64>,
    /// Items that must be written first, known once the run can get no more.
    after: Option<u64>,
    answer: Option<Answer<Result<SealedRun, SealError>>>,
}

/// What the writer works with.
pub(crate) struct Parts {
    pub shared: Arc<Shared>,
    pub storage: Arc<dyn Storage>,
    pub layout: Arc<Layout>,
    pub keys: Keys,
    pub trust: TrustDocument,
    pub checkpoints: Checkpoints,
    pub index: HashIndex,
    pub runs: HashMap<RunId, OpenRun>,
    pub instance: Option<Arc<Run>>,
    pub segment: Segment,
    /// Which segment of the journal that is, counted from 0.
    pub ordinal: usize,
    pub segments_dir: Box<dyn Directory>,
    pub last_leaf: Option<Leaf>,
    pub last_seal: Option<Leaf>,
    pub checkpoint_size: u64,
    pub sealer: Sealer,
}

/// The writer.
pub(crate) struct Writer {
    parts: Parts,
    ts: UnixMicros,
    mono_us: u64,
    /// Items taken from the queue and not written yet.
    taken: VecDeque<Item>,
    /// Items ever pushed before the last take.
    pushed: u64,
    /// Frames that are not in the segment yet.
    frames: Vec<u8>,
    line: Vec<u8>,
    message: Vec<u8>,
    /// The segment holds bytes that are not durable.
    unsynced: bool,
    acks: Vec<(Acknowledge, Leaf)>,
    slots: usize,
    batch_entries: u64,
    seals: Vec<PendingSeal>,
    /// Runs that must be sealed before they outgrow their bundle.
    full: Vec<Arc<Run>>,
    /// Sealed runs whose seal no checkpoint covers yet.
    unanchored: Vec<SealJob>,
    checkpoint_us: u64,
    swept_us: u64,
    wanted: Vec<Answer<Result<u64, AckError>>>,
    cpu_us: u64,
    /// Room for the next segment, laid out in advance, so that a full disk is noticed while this segment still has
    /// room for every call in flight.
    spare: Option<Box<dyn crate::storage::StorageFile>>,
    spare_tried_us: Option<u64>,
}

impl Writer {
    pub fn new(parts: Parts) -> Self {
        let mono_us = parts.shared.clock.mono_us();
        Self {
            ts: UnixMicros(parts.shared.clock.unix_us()),
            mono_us,
            taken: VecDeque::new(),
            pushed: 0,
            frames: Vec::new(),
            line: Vec::new(),
            message: Vec::new(),
            unsynced: false,
            acks: Vec::new(),
            slots: 0,
            batch_entries: 0,
            seals: Vec::new(),
            full: Vec::new(),
            unanchored: Vec::new(),
            checkpoint_us: mono_us,
            swept_us: mono_us,
            wanted: Vec::new(),
            cpu_us: 0,
            spare: None,
            spare_tried_us: None,
            parts,
        }
    }

    /// Keys that were replaced while no journal was open are rotated in the runs that they sign.
    pub fn settle_keys(&mut self, kept: Vec<KeptKey>) -> Result<(), JournalError> {
        let failed = |error: WriteError| JournalError::Failed { what: chain(&error) };
        for KeptKey { use_, signer: old } in kept {
            let new = self.parts.keys.of(use_).clone();
            let old_id = old.public().id();
            if old_id != new.public().id() {
                let mut runs: Vec<RunId> = self.parts.runs.keys().copied().collect();
                if use_ == Use::Receipt {
                    runs.retain(|run| self.parts.runs.get(run).is_some_and(|open| open.chain.kid == old_id));
                }
                let known = self.rotations(use_, runs, &*old, &*new);
                let events = known.map_err(|error| JournalError::Failed { what: chain(&error) })?;
                if use_ == Use::Receipt {
                    self.parts.keys.receipt = old;
                }
                self.write_rotations(use_, &new, events).map_err(failed)?;
            }
            forget(&self.parts.layout.keys_dir(), use_, old_id)?;
        }
        let id = self.parts.keys.receipt.public().id();
        match self.parts.runs.values().find(|open| open.chain.kid != id) {
            Some(open) => Err(JournalError::KeyMissing { run: open.chain.run, wanted: open.chain.kid }),
            None => Ok(()),
        }
    }

    /// Asks for bundles that an earlier process may not have written.
    pub fn write_bundles(&self, runs: Vec<RunId>) {
        if runs.len() >= BUNDLES_MAX {
            self.parts.sealer.incomplete();
        }
        for run in runs {
            if self.parts.storage.open(&self.parts.layout.bundle(run)).is_err() {
                let (keys, rows) = (self.parts.keys.clone(), self.parts.trust.keys.clone());
                self.parts.sealer.again(run, keys, rows, Again::Started);
            }
        }
    }

    /// Records what was cut off a torn tail.
    pub fn recovered(&mut self, cut: JournalRecover) -> Result<(), WriteError> {
        self.instance_event(&Event::JournalRecover(cut)).map(drop)
    }

    /// Records that an earlier process left in the spill file become entries.
    pub fn take_left_over(
        &mut self,
        left: &LeftOver,
        seen: &HashSet<SpillKey>,
        sealed: &HashSet<RunId>,
    ) -> Result<(), JournalError> {
        let shared = self.parts.shared.clone();
        let Some(spill) = &shared.spill else { return Ok(()) };
        let failed = |error: WriteError| JournalError::Failed { what: chain(&error) };
        let count = spill.left(left, seen, &shared, |item, run| {
            if sealed.contains(&run) {
                let path = shared.settings.spill.as_ref().map(|spill| spill.path.clone()).unwrap_or_default();
                let what = format!("it holds records of run {run}, which was sealed without them");
                return Err(JournalError::Spill { path, what });
            }
            if self.frames.len() > LEFT_BYTES_MAX {
                self.commit(true).map_err(failed)?;
            }
            tracing::debug!(%run, "a spilled record becomes an entry");
            self.item(item).map_err(failed)
        })?;
        if count > 0 {
            tracing::info!(count, "records of the spill file were taken into the journal");
        }
        self.commit(true).map_err(failed)
    }

    /// What a start records before the first call: calls that a crash left without a receipt, runs
    /// that cannot go on, and a checkpoint over it all.
    pub fn settle(&mut self) -> Result<(), WriteError> {
        let mut left: Vec<(Arc<Run>, CallId)> = Vec::new();
        for open in self.parts.runs.values() {
            left.extend(open.chain.intents.keys().map(|call| (open.run.clone(), *call)));
        }
        left.sort_by_key(|(run, call)| (run.id, *call));
        for (run, call) in left {
            self.interrupted(&run, call, Reason::Interrupted)?;
        }
        let durability = self.parts.shared.settings.durability;
        let ended: Vec<Arc<Run>> = self
            .parts
            .runs
            .values()
            .filter(|open| !may_go_on(&open.chain, &open.run, durability))
            .map(|open| open.run.clone())
            .collect();
        for run in ended {
            tracing::warn!(run = %run.id, "the run was opened with another capture key or a stronger durability; it is sealed");
            self.parts.shared.runs().remove(&run);
            if self.parts.instance.as_ref().is_some_and(|instance| instance.id == run.id) {
                self.parts.instance = None;
            }
            let reason = SealReason::CrashRecovered;
            self.seal(PendingSeal { run, reason, by_us: None, after: None, answer: None })?;
        }
        self.commit(true)?;
        if self.parts.index.size() > self.parts.checkpoint_size { self.checkpoint() } else { Ok(()) }
    }

    /// Writes until the journal is closed. `seal` decides whether closing seals the instance run.
    pub fn run(mut self, seal_instance: &dyn Fn() -> bool) -> Result<(), Failure> {
        loop {
            match self.turn() {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) => return Err(self.fail(&error)),
            }
        }
        match self.finish(seal_instance()) {
            Ok(()) => {
                self.parts.shared.shut(None);
                self.drop_waiting(AckError::Closed);
                Ok(())
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// One batch and what is due. Whether it was the last.
    fn turn(&mut self) -> Result<bool, WriteError> {
        if self.taken.is_empty() {
            let wait = self.wait();
            self.pushed = self.parts.shared.take(&mut self.taken, wait);
        }
        self.read_clocks();
        self.batch()?;
        self.drain_spill()?;
        self.process_seals()?;
        self.due()?;
        Ok(self.may_end())
    }

    /// How long the writer may sleep.
    fn wait(&self) -> Duration {
        if self.parts.shared.is_closing() {
            return CLOSING;
        }
        if !self.taken.is_empty() || self.parts.index.size() > self.parts.checkpoint_size {
            let since = Duration::from_micros(self.mono_us.saturating_sub(self.checkpoint_us));
            return self
                .parts
                .shared
                .settings
                .checkpoint_every
                .saturating_sub(since)
                .clamp(Duration::from_millis(1), IDLE);
        }
        IDLE
    }

    fn read_clocks(&mut self) {
        self.ts = UnixMicros(self.parts.shared.clock.unix_us());
        self.mono_us = self.parts.shared.clock.mono_us().max(self.mono_us);
    }

    fn may_end(&self) -> bool {
        let shared = &self.parts.shared;
        if !shared.is_closing() || !self.taken.is_empty() || shared.queued() > 0 {
            return false;
        }
        let late = self.mono_us >= shared.close_by_us.load(Ordering::SeqCst);
        let spilled = shared.spill.as_ref().is_some_and(|spill| !spill.is_idle());
        late || (!spilled && shared.all_free() && self.seals.iter().all(|seal| seal.answer.is_none()))
    }

    fn batch(&mut self) -> Result<(), WriteError> {
        for _ in 0..BATCH_MAX {
            let Some(item) = self.taken.pop_front() else { break };
            let freed = item.frees_slot();
            self.item(item)?;
            self.slots += usize::from(freed);
        }
        self.commit(false)
    }

    /// Takes what waits in the spill file.
    fn drain_spill(&mut self) -> Result<(), WriteError> {
        let shared = self.parts.shared.clone();
        let Some(spill) = &shared.spill else { return Ok(()) };
        let Some(mut drained) = spill.drain(&shared).map_err(WriteError::Spill)? else { return Ok(()) };
        for item in drained.items.drain(..) {
            self.item(item)?; // holds no slot of the queue
        }
        // The records are durable in the spill file; they must be so here before that is forgotten.
        self.commit(true)?;
        spill.drained(&drained);
        shared.nudge();
        Ok(())
    }

    fn item(&mut self, item: Item) -> Result<(), WriteError> {
        match item {
            Item::Call { run, mut record, ack } => {
                let leaf = self.append(&run, Content::Call(&mut record))?;
                self.acks.extend(ack.map(|ack| (ack, leaf)));
            }
            Item::Intent { run, intent, ack } => {
                let call = intent.call;
                let leaf = self.append(&run, Content::Event(&Event::Intent(intent)))?;
                if let Some(open) = self.parts.runs.get_mut(&run.id) {
                    open.chain.intents.insert(call, leaf);
                }
                self.acks.extend(ack.map(|ack| (ack, leaf)));
            }
            Item::Interrupted { run, call, reason } => self.interrupted(&run, call, reason)?,
            Item::Control(control) => self.control(*control)?,
        }
        Ok(())
    }

    fn interrupted(&mut self, run: &Arc<Run>, call: CallId, reason: Reason) -> Result<(), WriteError> {
        let intent = self.parts.runs.get_mut(&run.id).and_then(|open| open.chain.intents.remove(&call));
        self.append(run, Content::Event(&Event::Interrupted(Interrupted { call, intent, reason })))?;
        if let Some(open) = self.parts.runs.get_mut(&run.id) {
            open.chain.counters.interrupted += 1;
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), WriteError> {
        match control {
            Control::Seal { run, reason, answer } => self.ask_seal(run, reason, answer),
            Control::Export { run, only_missing, answer } => {
                let why = if only_missing { Again::Missing(answer) } else { Again::Asked(answer) };
                self.parts.sealer.again(run, self.parts.keys.clone(), self.parts.trust.keys.clone(), why);
            }
            Control::Rotate { use_, new, answer } => self.rotate(use_, new, answer)?,
            Control::PolicyLoaded { policy, refused } => {
                self.instance_event(&Event::PolicyLoad(PolicyLoad { policy, refused }))?;
            }
            Control::Note { event, ack, .. } if self.comes_late(&event) => ack.give(Err(AckError::Late)),
            Control::Note { run, event, ack } => {
                let leaf = match run {
                    Some(run) => self.append(run.run(), Content::Event(&event))?,
                    None => self.instance_event(&event)?,
                };
                self.acks.push((ack, leaf));
            }
            Control::Checkpoint { answer } => self.wanted.push(answer),
        }
        Ok(())
    }

    /// Whether an approval would not be valid any more when it is written.
    fn comes_late(&self, event: &Event) -> bool {
        let Event::Approval(approval) = event else { return false };
        let by_us = approval.statement.expires.0.saturating_sub(APPROVAL_MARGIN_US);
        self.parts.shared.clock.unix_us() > by_us
    }

    /// Adds one entry of `run` to the batch; opens the run if this is its first.
    fn append(&mut self, run: &Arc<Run>, content: Content<'_>) -> Result<Leaf, WriteError> {
        if !self.parts.runs.contains_key(&run.id) {
            self.open_run(run)?;
        }
        self.append_open(run.id, content)
    }

    fn open_run(&mut self, run: &Arc<Run>) -> Result<(), WriteError> {
        if run.sealed.load(Ordering::SeqCst) {
            return Err(WriteError::Sealed(run.id));
        }
        let settings = &self.parts.shared.settings;
        let open = Event::RunOpen(RunOpen {
            build: settings.build.clone(),
            capture: (run.capture.id(), run.capture.commitment()),
            class: run.class,
            config: settings.config,
            durability: settings.durability,
            name: run.name.as_deref().map(Into::into),
            policy: run.policy,
            previous_seal: self.parts.last_seal,
            sign: settings.sign,
        });
        let mut chain =
            Chain::new(run.id, run.class, run.name.clone(), self.parts.keys.receipt.public().id());
        chain.sign = settings.sign;
        chain.durability = settings.durability;
        chain.commitment = run.capture.commitment();
        chain.start(self.ts, self.mono_us);
        self.parts.runs.insert(run.id, OpenRun { chain, run: run.clone() });
        self.append_open(run.id, Content::Event(&open)).map(drop)
    }

    fn append_open(&mut self, id: RunId, content: Content<'_>) -> Result<Leaf, WriteError> {
        let nodes = match &content {
            Content::Call(record) if record.storage.mode != BodyMode::None => {
                record.stream.as_ref().map(|stream| stream.tree.file())
            }
            _ => None,
        };
        let blob = nodes.as_ref().map_or(0, |nodes| frame_bytes(32 + nodes.len()));
        self.make_room(blob + ENTRY_ROOM)?;
        let before = self.frames.len();
        let shared = &self.parts.shared;
        let index = self.parts.index.size();
        let place = Place::new(self.parts.ordinal, self.parts.segment.offset + self.frames.len() as u64);
        let Some(open) = self.parts.runs.get_mut(&id) else { return Err(WriteError::Key(id)) };
        let link = open.chain.link(&shared.settings.instance, self.ts, self.mono_us);
        let mono_us = link.mono_us;
        let digest = nodes.as_deref().map(Sha256::of);
        match content {
            Content::Event(event) => {
                event.write(&mut self.line, &link)?;
                match event {
                    Event::KeyRotate(rotate) => open.chain.keys.extend([rotate.old, rotate.new]),
                    Event::PolicyLoad(load) => open.chain.policies.extend(load.policy),
                    Event::RunOpen(opened) => drop(open.chain.policies.insert(opened.policy)),
                    _ => {}
                }
            }
            Content::Call(record) => {
                if record.write(&mut self.line, &link, &open.run.capture, digest).is_err() {
                    record.shorten();
                    record.write(&mut self.line, &link, &open.run.capture, digest)?;
                }
                open.chain.count(record);
                open.chain.policies.insert(record.policy.hash);
                open.chain.policies.extend(record.shadow.iter().map(|shadow| shadow.policy));
                open.chain.weigh(0, nodes.is_some(), stored(record));
                add(&open.run.calls, 1);
            }
        }
        let leaf = Leaf::of(&self.line);
        if let (Some(nodes), Some(digest)) = (&nodes, digest) {
            encode(&mut self.frames, FrameKind::Blob, index, &[&digest.0, nodes]);
        }
        match open.chain.sign {
            Sign::Checkpoint => encode(&mut self.frames, FrameKind::Entry, index, &[&[0], &self.line]),
            Sign::Each => {
                let key = &self.parts.keys.receipt;
                if key.public().id() != open.chain.kid {
                    return Err(WriteError::Key(id));
                }
                pae_into(&mut self.message, ENTRY_TYPE, &self.line);
                let signature = key.sign(&self.message).map_err(WriteError::Sign)?;
                let length = [SIGNATURE_BYTES as u8]; // 64
                encode(&mut self.frames, FrameKind::Entry, index, &[&length, &signature, &self.line]);
            }
        }
        open.chain.advance(leaf, self.ts, mono_us, place);
        open.chain.weigh((self.frames.len() - before) as u64, false, std::iter::empty()); // a length fits
        if open.chain.is_full(&shared.settings) {
            self.full.push(open.run.clone());
        }
        add(&open.run.entries, 1);
        self.parts.index.push(leaf);
        self.parts.last_leaf = Some(leaf);
        self.batch_entries += 1;
        Ok(leaf)
    }

    fn instance_event(&mut self, event: &Event) -> Result<Leaf, WriteError> {
        let run = match &self.parts.instance {
            Some(run) => run.clone(),
            None => self.new_instance_run(),
        };
        let leaf = self.append(&run, Content::Event(event))?;
        if self.parts.runs.get(&run.id).is_some_and(|open| open.chain.is_full(&self.parts.shared.settings)) {
            self.seal_instance(SealReason::Clean)?;
        }
        Ok(leaf)
    }

    /// Seals the run of the instance's own events; the next of them opens another.
    fn seal_instance(&mut self, reason: SealReason) -> Result<(), WriteError> {
        let Some(run) = self.parts.instance.take() else { return Ok(()) };
        self.parts.shared.runs().remove(&run);
        self.seal(PendingSeal { run, reason, by_us: None, after: None, answer: None })
    }

    fn new_instance_run(&mut self) -> Arc<Run> {
        let run = self.parts.shared.new_run(RunClass::Instance, None);
        self.parts.shared.runs().insert(run.clone());
        self.parts.instance = Some(run.clone());
        run
    }

    /// Opens the run of the instance's own events, if it is not open.
    pub fn open_instance_run(&mut self) -> Result<(), WriteError> {
        if self.parts.instance.is_none() {
            let run = self.new_instance_run();
            self.open_run(&run)?;
        }
        Ok(())
    }

    /// Makes sure that frames of that size fit into the segment.
    fn make_room(&mut self, bytes: u64) -> Result<(), WriteError> {
        if self.parts.segment.room() >= self.frames.len() as u64 + bytes {
            return Ok(());
        }
        // What is in hand is made durable first: making the next segment may take long.
        self.commit(false)?;
        if self.parts.segment.room() < bytes { self.next_segment(bytes) } else { Ok(()) }
    }

    /// Makes the next segment: as large as the settings say, or larger when what comes next needs that.
    fn next_segment(&mut self, needed: u64) -> Result<(), WriteError> {
        let bytes = self.parts.shared.settings.segment_bytes.max(segment::bytes_for(needed));
        let first = self.parts.index.size();
        let header = Header {
            first,
            previous: self.parts.last_leaf,
            instance: self.parts.shared.settings.instance.clone(),
        };
        let mut spare = self.spare.take().map(|file| (file, self.parts.layout.spare()));
        let prepared = loop {
            match Segment::prepare(
                &*self.parts.storage,
                &self.parts.layout.segments_dir(),
                &header,
                bytes,
                spare.take(),
            ) {
                Ok(prepared) => break prepared,
                Err(error) => self.stall(error)?,
            }
        };
        let failed = |what| move |source| WriteError::Segment { what, source };
        let mut end = Vec::new();
        encode(&mut end, FrameKind::End, first, &[&[0]]);
        self.parts.segment.append(&end).map_err(failed("end"))?;
        self.parts.segment.sync().map_err(failed("sync"))?;
        self.unsynced = false;
        let mut publish = prepared.publish(&*self.parts.storage, &*self.parts.segments_dir);
        self.parts.segment = loop {
            match publish {
                Ok(segment) => break segment,
                Err((prepared, error)) => {
                    self.stall(error)?;
                    publish = prepared.publish(&*self.parts.storage, &*self.parts.segments_dir);
                }
            }
        };
        self.parts.layout.add_segment(first);
        self.parts.ordinal += 1;
        set_stalled(&self.parts.shared, false);
        self.spare_tried_us = None;
        self.lay_out_spare();
        Ok(())
    }

    /// Lays out room for the next segment if there is none. While that fails, admission gives out no queue slots: what
    /// is in flight still fits into this segment, and nothing that goes upstream is left without a place.
    fn lay_out_spare(&mut self) {
        let retry = u64::try_from(self.parts.shared.settings.stall_retry.as_micros()).unwrap_or(u64::MAX);
        let tried = self.spare_tried_us.is_some_and(|tried| self.mono_us.saturating_sub(tried) < retry);
        if self.spare.is_some() || tried {
            return;
        }
        self.spare_tried_us = Some(self.mono_us);
        let path = self.parts.layout.spare();
        let (storage, bytes) = (&*self.parts.storage, self.parts.shared.settings.segment_bytes);
        match segment::lay_out(storage, &path, bytes) {
            Ok(file) => {
                self.spare = Some(file);
                set_stalled(&self.parts.shared, false);
            }
            Err(error) => {
                tracing::error!(%error, "there is no room for the next segment; calls are refused until there is");
                set_stalled(&self.parts.shared, true);
            }
        }
    }

    /// Waits for room on the disk, or gives up when that is not what is wrong.
    fn stall(&mut self, error: io::Error) -> Result<(), WriteError> {
        if !is_full(&error) {
            return Err(WriteError::Next(error));
        }
        set_stalled(&self.parts.shared, true);
        tracing::error!(%error, "the next segment cannot be made; waiting for room on the disk");
        self.parts.shared.pause(self.parts.shared.settings.stall_retry);
        let shared = &self.parts.shared;
        let late = shared.clock.mono_us() >= shared.close_by_us.load(Ordering::SeqCst);
        if shared.is_closing() && late { Err(WriteError::Closed) } else { Ok(()) }
    }

    /// Writes the batch, makes it durable and tells whoever waits. `force` syncs whatever the settings say.
    fn commit(&mut self, force: bool) -> Result<(), WriteError> {
        let shared = self.parts.shared.clone();
        if !self.frames.is_empty() {
            let failed = |source| WriteError::Segment { what: "write", source };
            self.parts.segment.append(&self.frames).map_err(failed)?;
            add(&shared.gauges.bytes, self.frames.len() as u64);
            add(&shared.gauges.batches, 1);
            add(&shared.gauges.batch_entries, self.batch_entries);
            self.batch_entries = 0;
            self.frames.clear();
            self.parts.index.flush_many();
            self.unsynced = true;
        }
        if self.unsynced && (force || shared.settings.durability != Durability::Memory) {
            self.sync()?;
        }
        shared.written(self.parts.index.size());
        shared.release(std::mem::take(&mut self.slots));
        for (ack, leaf) in self.acks.drain(..) {
            ack.give(Ok(Recorded::Journal(leaf)));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        let gauges = &self.parts.shared.gauges;
        let before = self.parts.shared.clock.mono_us();
        self.parts.segment.sync().map_err(|source| WriteError::Segment { what: "sync", source })?;
        self.unsynced = false;
        let took = self.parts.shared.clock.mono_us().saturating_sub(before);
        add(&gauges.sync_us, took);
        add(&gauges.syncs, 1);
        gauges.sync_us_max.fetch_max(took, Ordering::Relaxed);
        Ok(())
    }

    fn measure_cpu(&mut self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let us = u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000
            + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000;
        add(&self.parts.shared.gauges.writer_cpu_us, us.saturating_sub(self.cpu_us));
        self.cpu_us = us;
    }

    /// Takes a seal into the waiting list, or says why not.
    fn ask_seal(&mut self, run: Arc<Run>, reason: SealReason, answer: Answer<Result<SealedRun, SealError>>) {
        let by_us = match run.class {
            // No further call gets this run, so waiting ends by itself.
            RunClass::Ambient => {
                self.parts.shared.runs().detach(&run);
                None
            }
            RunClass::Caller | RunClass::Instance => {
                let wait = self.parts.shared.settings.seal_wait.as_micros();
                Some(self.mono_us.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX)))
            }
        };
        let full = self.seals.len() >= SEALS_MAX;
        match self.seals.iter_mut().find(|seal| seal.run.id == run.id) {
            Some(PendingSeal { answer: Some(_), .. }) => answer.give(Err(SealError::Busy)),
            Some(seal) => seal.answer = Some(answer),
            None if full => answer.give(Err(SealError::Queue)),
            None => {
                run.sealing.store(true, Ordering::SeqCst);
                self.seals.push(PendingSeal { run, reason, by_us, after: None, answer: Some(answer) });
            }
        }
    }

    fn process_seals(&mut self) -> Result<(), WriteError> {
        for run in std::mem::take(&mut self.full) {
            if self.parts.instance.as_ref().is_some_and(|instance| instance.id == run.id) {
                self.seal_instance(SealReason::Clean)?;
                continue;
            }
            self.parts.shared.runs().detach(&run);
            self.seal_when_idle(run, SealReason::Clean);
        }
        let mut at = 0;
        let mut sealed = false;
        while at < self.seals.len() {
            self.try_detach(at);
            let Some(seal) = self.seals.get(at) else { break };
            let written = seal.after.is_some_and(|after| self.taken.is_empty() && self.pushed >= after);
            let late = seal.after.is_none() && seal.by_us.is_some_and(|by_us| self.mono_us >= by_us);
            if written {
                let seal = self.seals.swap_remove(at);
                self.seal(seal)?;
                sealed = true;
            } else if late {
                let seal = self.seals.swap_remove(at);
                seal.run.sealing.store(false, Ordering::SeqCst);
                if let Some(answer) = seal.answer {
                    answer.give(Err(SealError::Busy));
                }
            } else {
                at += 1;
            }
        }
        if sealed { self.checkpoint() } else { Ok(()) }
    }

    /// Takes an idle run off the table, so that it gets no more calls.
    fn try_detach(&mut self, at: usize) {
        let Some(seal) = self.seals.get_mut(at).filter(|seal| seal.after.is_none()) else { return };
        let mut runs = self.parts.shared.runs();
        if seal.run.is_idle() {
            runs.remove(&seal.run);
            drop(runs);
            let after = self.parts.shared.pushed();
            seal.after = Some(after);
            if self.pushed < after {
                self.parts.shared.nudge();
            }
        }
    }

    fn seal(&mut self, seal: PendingSeal) -> Result<(), WriteError> {
        let PendingSeal { run, reason, answer, .. } = seal;
        if !self.parts.runs.contains_key(&run.id) {
            self.open_run(&run)?;
        }
        let Some(open) = self.parts.runs.get(&run.id) else { return Ok(()) };
        let chain = &open.chain;
        let Some(head) = chain.head else { return Ok(()) };
        let event = Event::RunSeal(RunSeal {
            count: chain.seq(),
            counters: chain.counters,
            head,
            reason,
            root: chain.frontier.root(),
        });
        let index = self.parts.index.size();
        let leaf = self.append_open(run.id, Content::Event(&event))?;
        self.parts.last_seal = Some(leaf);
        let Some(open) = self.parts.runs.remove(&run.id) else { return Ok(()) };
        run.sealed.store(true, Ordering::SeqCst);
        if self.parts.instance.as_ref().is_some_and(|instance| instance.id == run.id) {
            self.parts.instance = None;
        }
        self.remember(&open, RunState::Sealed);
        self.unanchored.push(SealJob::new(open.chain, index, reason, answer));
        Ok(())
    }

    fn remember(&self, open: &OpenRun, state: RunState) {
        let counters: Counters = open.chain.counters;
        self.parts.shared.runs().remember(RunSummary {
            id: open.run.id,
            name: open.run.name.as_deref().map(Into::into),
            class: open.run.class,
            state,
            opened_us: open.chain.opened.0,
            entries: open.chain.seq(),
            calls: counters.calls,
            bundle: Some(self.parts.layout.bundle_told(open.run.id)),
        });
    }

    /// What time brings: checkpoints, ambient runs that are old enough, idle runs, gaps.
    fn due(&mut self) -> Result<(), WriteError> {
        self.lay_out_spare();
        let shared = self.parts.shared.clone();
        let settings = &shared.settings;
        let every = u64::try_from(settings.checkpoint_every.as_micros()).unwrap_or(u64::MAX);
        let since = self.mono_us.saturating_sub(self.checkpoint_us);
        let grown = self.parts.index.size() - self.parts.checkpoint_size;
        let waited_for = !self.wanted.is_empty() || !self.unanchored.is_empty();
        if grown >= settings.checkpoint_entries
            || since >= every && (grown > 0 || waited_for)
            || !self.wanted.is_empty()
        {
            self.checkpoint()?;
        }
        if self.mono_us.saturating_sub(self.swept_us) >= sweep_us(settings) {
            self.swept_us = self.mono_us;
            self.still_there()?;
            self.sweep();
            self.gap()?;
        }
        Ok(())
    }

    /// A segment without a name is lost when this process ends.
    fn still_there(&self) -> Result<(), WriteError> {
        let failed = |source| WriteError::Segment { what: "look at", source };
        match self.parts.segment.is_named().map_err(failed)? {
            true => Ok(()),
            false => Err(WriteError::Gone),
        }
    }

    /// Starts to seal the ambient run when it is old or long enough, runs that callers left, and runs that no call can get
    /// any more.
    fn sweep(&mut self) {
        let shared = self.parts.shared.clone();
        let mut runs = shared.runs();
        let mut due = Vec::new();
        if let Some(ambient) = runs.ambient.clone().filter(|run| self.is_old(run)) {
            runs.detach(&ambient);
            due.push((ambient, SealReason::Clean));
        }
        let left: Vec<_> =
            runs.named.values().filter(|run| self.is_left(run)).take(SEALS_MAX).cloned().collect();
        for run in left {
            match self.parts.runs.contains_key(&run.id) {
                true => due.push((run, SealReason::Timeout)),
                false => runs.remove(&run), // nothing was ever recorded in it
            }
        }
        due.extend(runs.detached().map(|run| (run.clone(), SealReason::Clean)));
        drop(runs);
        for (run, reason) in due {
            self.seal_when_idle(run, reason);
        }
    }

    fn is_old(&self, ambient: &Run) -> bool {
        let settings = &self.parts.shared.settings;
        let entries = ambient.entries.load(Ordering::Relaxed);
        let age = self.ts.0.saturating_sub(ambient.opened.0);
        entries >= settings.ambient_entries || age >= micros(settings.ambient_every) && entries > 0
    }

    fn is_left(&self, run: &Run) -> bool {
        let unused = self.mono_us.saturating_sub(run.used_us.load(Ordering::Relaxed));
        run.is_idle() && unused >= micros(self.parts.shared.settings.run_idle)
    }

    /// Seals a run once none of its calls is in flight, however long that takes.
    fn seal_when_idle(&mut self, run: Arc<Run>, reason: SealReason) {
        if self.parts.runs.contains_key(&run.id) && !run.sealing.swap(true, Ordering::SeqCst) {
            self.seals.push(PendingSeal { run, reason, by_us: None, after: None, answer: None });
            self.parts.shared.nudge();
        }
    }

    /// Says for which time calls were refused, once that is over.
    fn gap(&mut self) -> Result<(), WriteError> {
        let over = {
            let mut gap = locked(&self.parts.shared.gap);
            let quiet = gap.is_some_and(|(_, to, _)| self.ts.0.saturating_sub(to.0) >= GAP_QUIET_US);
            if quiet || self.parts.shared.is_closing() { gap.take() } else { None }
        };
        if let Some((from, to, refused)) = over {
            self.instance_event(&Event::Gap(Gap { from, reason: Reason::EvidenceFull, refused, to }))?;
            self.commit(false)?;
        }
        Ok(())
    }

    /// Signs the tree as it is, makes that durable, then publishes it.
    fn checkpoint(&mut self) -> Result<(), WriteError> {
        self.checkpoint_us = self.mono_us;
        self.still_there()?;
        let size = self.parts.index.size();
        let iss = self.parts.shared.settings.instance.as_str();
        let checkpoint = Checkpoint { origin: iss.into(), size, root: self.parts.index.root() };
        let note = match checkpoint.sign(iss, &*self.parts.keys.checkpoint) {
            Ok(note) => note,
            Err(error) => {
                add(&self.parts.shared.gauges.checkpoints_failed, 1);
                tracing::error!(%error, size, "the checkpoint could not be signed; it is tried again");
                self.commit(true)?;
                return Ok(());
            }
        };
        self.make_room(frame_bytes(note.len()))?;
        encode(&mut self.frames, FrameKind::Checkpoint, size, &[note.as_bytes()]);
        self.commit(true)?;
        self.parts.index.flush();
        self.measure_cpu();
        self.anchor(size, &note);
        match self.parts.checkpoints.publish(&*self.parts.storage, &note) {
            Ok(()) => {
                self.parts.checkpoint_size = size;
                set(&self.parts.shared.gauges.checkpoint_size, size);
                self.wanted.drain(..).for_each(|answer| answer.give(Ok(size)));
                Ok(())
            }
            Err(error @ PublishError::Changed { .. }) => Err(WriteError::Fork(error)),
            Err(error) if self.parts.layout.is_gone(&error) => {
                tracing::error!(error = %chain(&error), size, "the checkpoint could not be published");
                Err(WriteError::Gone)
            }
            Err(error) => {
                add(&self.parts.shared.gauges.checkpoints_failed, 1);
                tracing::error!(error = %chain(&error), size, "the checkpoint could not be published; it is tried again");
                Ok(())
            }
        }
    }

    /// Hands sealed runs to the thread that makes bundles: this checkpoint covers their seals.
    fn anchor(&mut self, size: u64, note: &str) {
        for job in self.unanchored.drain(..) {
            let rows = self.parts.trust.keys.clone();
            self.parts.sealer.send(job.anchored(size, note.into(), self.parts.keys.clone(), rows));
        }
    }

    fn rotate(
        &mut self,
        use_: Use,
        new: Arc<dyn Signer>,
        answer: Answer<Result<Rotated, RotateError>>,
    ) -> Result<(), WriteError> {
        let old = self.parts.keys.of(use_).clone();
        match self.may_rotate(use_, &*new).and_then(|()| self.rotations(use_, self.open_ids(), &*old, &*new))
        {
            Err(error) => answer.give(Err(error)),
            Ok(events) => {
                let runs = events.len();
                self.write_rotations(use_, &new, events)?;
                let (old, new) = (old.public().id(), new.public().id());
                if let Err(error) = forget(&self.parts.layout.keys_dir(), use_, old) {
                    tracing::error!(error = %chain(&error), "the replaced key could not be removed; remove it by hand");
                }
                answer.give(Ok(Rotated { use_, old, new, runs }));
            }
        }
        Ok(())
    }

    fn open_ids(&self) -> Vec<RunId> {
        self.parts.runs.keys().copied().collect()
    }

    /// Makes the new key known to readers before anything is signed with it.
    fn may_rotate(&mut self, use_: Use, new: &dyn Signer) -> Result<(), RotateError> {
        if let Some(open) = self.parts.runs.values().find(|open| !open.chain.takes_key()) {
            return Err(RotateError::Run { run: open.chain.run });
        }
        let key = new.public();
        if use_ == Use::Checkpoint && key.ed25519_bytes().is_none() {
            let (wanted, found) = (estoppel_evidence::Alg::Ed25519, key.alg());
            return Err(RotateError::Key(KeyError::WrongAlgorithm { wanted, found }));
        }
        let mut trust = self.parts.trust.clone();
        if !trust.add(&self.parts.shared.settings.instance, key, use_)? {
            return Err(RotateError::Known { id: key.id() });
        }
        write_whole(&*self.parts.storage, &self.parts.layout.trust(), &trust.to_bytes())
            .map_err(RotateError::Trust)?;
        self.parts.trust = trust;
        Ok(())
    }

    /// The `key.rotate` entry of each open run.
    fn rotations(
        &self,
        use_: Use,
        mut ids: Vec<RunId>,
        old: &dyn Signer,
        new: &dyn Signer,
    ) -> Result<Vec<(RunId, Event)>, RotateError> {
        let iss = &self.parts.shared.settings.instance;
        ids.sort_unstable();
        let event = |run: RunId| {
            let (old, key) = (old.public().id(), new.public());
            let message = KeyRotate::possession_message(iss, run, old, key.id(), use_);
            let possession = base64(&new.sign(&message).map_err(RotateError::Key)?);
            let spki = base64(key.spki());
            Ok((
                run,
                Event::KeyRotate(KeyRotate { alg: key.alg(), new: key.id(), old, possession, spki, use_ }),
            ))
        };
        ids.into_iter().map(event).collect()
    }

    /// Writes the entries with the old key; from then on the new one signs.
    fn write_rotations(
        &mut self,
        use_: Use,
        new: &Arc<dyn Signer>,
        events: Vec<(RunId, Event)>,
    ) -> Result<(), WriteError> {
        for (run, event) in &events {
            self.append_open(*run, Content::Event(event))?;
        }
        let id = new.public().id();
        if use_ == Use::Receipt {
            self.parts.runs.values_mut().for_each(|open| open.chain.kid = id);
        }
        self.parts.keys.replace(use_, new.clone());
        self.commit(true)
    }

    /// The last entries before the journal is closed.
    fn finish(&mut self, seal_instance: bool) -> Result<(), WriteError> {
        self.read_clocks();
        self.gap()?;
        if seal_instance {
            self.seal_instance(SealReason::Shutdown)?;
        }
        if self.parts.index.size() > self.parts.checkpoint_size || !self.wanted.is_empty() {
            self.checkpoint()?;
        }
        self.commit(true)
    }

    fn fail(&mut self, error: &WriteError) -> Failure {
        tracing::error!(error = %chain(error), "evidence cannot be written; nothing is forwarded until a restart");
        let failure = Failure { reason: error.reason(), text: chain(error) };
        self.parts.shared.shut(Some(failure.clone()));
        self.drop_waiting(AckError::Failed);
        failure
    }

    /// Tells everyone who still waits that nothing comes.
    fn drop_waiting(&mut self, error: AckError) {
        self.acks.drain(..).for_each(|(ack, _)| ack.give(Err(error)));
        self.taken.drain(..).for_each(|item| item.refuse(error));
        self.wanted.drain(..).for_each(|answer| answer.give(Err(error)));
        let seals = self.seals.drain(..).filter_map(|seal| seal.answer);
        seals.for_each(|answer| answer.give(Err(SealError::Journal(error))));
        self.unanchored.drain(..).for_each(|job| job.refuse(error));
    }
}

/// Sizes of the bodies that a receipt names as stored.
fn stored(record: &CallRecord) -> impl Iterator<Item = u64> {
    let answer = record.response.upstream.as_ref().map(|(_, captured)| captured);
    let bodies = [Some(&record.request.body), Some(&record.response.client), answer];
    bodies.into_iter().flatten().filter(|captured| captured.stored.is_some()).map(|captured| captured.bytes)
}

fn set_stalled(shared: &Shared, stalled: bool) {
    shared.gauges.stalled.store(usize::from(stalled), Ordering::Relaxed);
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How often runs are looked through.
fn sweep_us(settings: &crate::settings::Settings) -> u64 {
    let shortest = settings.run_idle.min(settings.ambient_every).min(Duration::from_secs(4));
    micros(shortest / 4)
}
