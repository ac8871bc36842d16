//! The one thread that orders, chains, signs and writes.
//!
//! A batch is everything that waits, at most [`BATCH_MAX`] commands: lines are made, frames gathered in one buffer, the
//! buffer written and synced once, then every acknowledgement given. There is no lingering: while one batch is being
//! synced the next gathers by itself.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use estoppel_evidence::entry::{
    BodyMode, CallRecord, Counters, Durability, Event, Intent, Interrupted, KeyRotate, Link, PolicyLoad,
    RunClass, RunOpen, RunSeal, SealReason, Sign,
};
use estoppel_evidence::envelope::{ENTRY_TYPE, base64, pae_into};
use estoppel_evidence::note::Checkpoint;
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::tree::Frontier;
use estoppel_evidence::{Leaf, PublicKey, Reason, RunId, Sha256, Signer, Use};
use tokio::sync::oneshot;

use crate::ack::{AckError, AckSender, Recorded};
use crate::chain::{Chain, Place};
use crate::checkpoint::Published;
use crate::error::{JournalError, SealError, disk_reason};
use crate::frame::{self, Kind};
use crate::handle::{RunHandle, Slot};
use crate::journal::Inner;
use crate::keys::{self, Keys};
use crate::recover;
use crate::seal::{self, SealWork, SealedRun};
use crate::segment::Segments;
use crate::storage::Storage;

/// Most commands of one batch.
const BATCH_MAX: usize = 1_024;
/// How often things that time brings about are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long a seal waits for calls of its run that are in flight.
const SEAL_WAIT: Duration = Duration::from_secs(10);

pub(crate) type SealReply = oneshot::Sender<Result<SealedRun, SealError>>;

/// What the writer is asked to do.
pub(crate) enum Command {
    Call { run: RunHandle, record: Box<CallRecord>, ack: AckSender, slot: Slot },
    Intent { run: RunHandle, intent: Intent, ack: AckSender },
    Seal { run: RunHandle, reason: SealReason, reply: Option<SealReply> },
    Rotate { use_: Use, new: Arc<dyn Signer>, ack: AckSender },
    Policy { policy: Option<Sha256>, refused: Option<Reason> },
    Close,
}

struct Waiting {
    ack: AckSender,
    leaf: Leaf,
}

struct PendingSeal {
    run: RunHandle,
    reason: SealReason,
    reply: Option<SealReply>,
    until: Instant,
}

/// Everything that the thread owns.
pub(crate) struct Writer {
    inner: Arc<Inner>,
    keys: Keys,
    /// Every key that signed anything in an open run, for bundles.
    known: Vec<(Use, PublicKey)>,
    storage: Arc<dyn Storage>,
    segments: Segments,
    published: Published,
    chains: HashMap<RunId, Chain>,
    instance_run: RunId,
    tree: Frontier,
    last: Option<Leaf>,
    previous_seal: Option<Leaf>,
    policy: Sha256,
    /// Frames of this batch.
    buffer: Vec<u8>,
    line: Vec<u8>,
    signed: Vec<u8>,
    waiting: Vec<Waiting>,
    slots: Vec<Slot>,
    sealing: Vec<PendingSeal>,
    checkpoint_size: u64,
    checkpoint_at: Instant,
    unsynced: bool,
    synced_at: Instant,
    expired_at: Instant,
}

impl Writer {
    /// Recovers what is on disk and makes ready to write.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        inner: &Arc<Inner>,
        keys: Keys,
    ) -> Result<Self, JournalError> {
        let settings = &inner.settings;
        let mut published = Published::new(storage.clone(), &settings.dir, settings.checkpoint_store.clone());
        let heads = published.read()?;
        let recovered = recover::recover(&storage, inner, &heads)?;
        let trusted: Vec<(Use, &PublicKey)> =
            Use::ALL.iter().map(|use_| (*use_, keys.of(*use_).public())).collect();
        keys::trust(&settings.dir, &settings.instance, &trusted)?;
        let folder = settings.dir.join("segments");
        let failed = |source: io::Error| JournalError::Folder { path: folder.clone(), source };
        let size = recovered.tree.size();
        let segments = match recovered.tail {
            None => Segments::begin(
                storage.clone(),
                &folder,
                &settings.instance,
                settings.segment_bytes,
                size,
                recovered.last,
            ),
            Some((first, offset)) => Segments::resume(
                storage.clone(),
                &folder,
                &settings.instance,
                settings.segment_bytes,
                first,
                offset,
            ),
        }
        .map_err(failed)?;
        let now = Instant::now();
        let instance = inner.new_run(None, RunClass::Instance);
        let mut known: Vec<(Use, PublicKey)> = recovered.keys;
        for use_ in Use::ALL {
            note_key(&mut known, use_, keys.of(use_).public());
        }
        let mut writer = Self {
            inner: inner.clone(),
            keys,
            known,
            storage,
            segments,
            published,
            chains: recovered.chains,
            instance_run: instance.id(),
            tree: recovered.tree,
            last: recovered.last,
            previous_seal: recovered.previous_seal,
            policy: settings.policy,
            buffer: Vec::with_capacity(1 << 20),
            line: Vec::with_capacity(16 << 10),
            signed: Vec::with_capacity(17 << 10),
            waiting: Vec::with_capacity(BATCH_MAX),
            slots: Vec::with_capacity(BATCH_MAX),
            sealing: Vec::new(),
            checkpoint_size: heads.iter().map(|head| head.size).max().unwrap_or(0),
            checkpoint_at: now,
            unsynced: false,
            synced_at: now,
            expired_at: now,
        };
        writer.begin(&instance, recovered.cut)?;
        Ok(writer)
    }

    /// First entries of this process: what recovery did, and the instance's own run.
    fn begin(
        &mut self,
        instance: &RunHandle,
        cut: Option<estoppel_evidence::entry::JournalRecover>,
    ) -> Result<(), JournalError> {
        let failed = |reason: Reason| JournalError::Failed(reason);
        let old: Vec<RunId> = self
            .chains
            .values()
            .filter(|c| c.run.0.class == RunClass::Instance)
            .map(|c| c.run.id())
            .collect();
        let interrupted: Vec<(RunId, Vec<_>)> =
            self.chains.values().map(|c| (c.run.id(), c.intents.clone())).collect();
        for (run, intents) in interrupted {
            for (call, intent) in intents {
                let event = Event::Interrupted(Interrupted {
                    call,
                    intent: Some(intent),
                    reason: Reason::Interrupted,
                });
                self.event(run, &event).map_err(failed)?;
            }
        }
        self.open_run(instance.clone()).map_err(failed)?;
        if let Some(cut) = cut {
            self.event(self.instance_run, &Event::JournalRecover(cut)).map_err(failed)?;
        }
        for run in old {
            self.seal_entry(run, SealReason::CrashRecovered).map_err(failed)?;
            self.chains.remove(&run);
        }
        self.flush().map_err(failed)?;
        for chain in self.chains.values().filter(|c| c.run.0.class != RunClass::Instance) {
            self.inner.registry.restore(chain.run.clone());
        }
        self.checkpoint();
        Ok(())
    }

    /// The thread's life.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let first = match commands.recv_timeout(if self.sealing.is_empty() {
                TICK
            } else {
                Duration::from_millis(5)
            }) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut close = false;
            let rest = std::iter::from_fn(|| commands.try_recv().ok());
            for command in first.into_iter().chain(rest).take(BATCH_MAX) {
                if matches!(command, Command::Close) {
                    close = true;
                    break;
                }
                if let Err(reason) = self.take(command) {
                    self.poison(reason);
                    break;
                }
            }
            if let Err(reason) = self.flush() {
                self.poison(reason);
            }
            if self.inner.gauges.poisoned().is_some() {
                // Nothing more can be recorded; whoever waits is told so.
                while let Ok(command) = commands.recv_timeout(Duration::from_millis(50)) {
                    if matches!(command, Command::Close) {
                        return;
                    }
                    refuse(command, self.inner.gauges.poisoned().unwrap_or(Reason::EvidenceFailed));
                }
                if self.inner.gauges.closed.load(Ordering::Acquire) {
                    return;
                }
                continue;
            }
            self.tick();
            if close {
                break;
            }
        }
        self.close();
    }

    fn take(&mut self, command: Command) -> Result<(), Reason> {
        match command {
            Command::Call { run, record, ack, slot } => {
                self.slots.push(slot);
                let leaf = self.call(&run, *record)?;
                self.waiting.push(Waiting { ack, leaf });
            }
            Command::Intent { run, intent, ack } => {
                self.open_run(run.clone())?;
                let leaf = self.event(run.id(), &Event::Intent(intent))?;
                self.waiting.push(Waiting { ack, leaf });
            }
            Command::Seal { run, reason, reply } => {
                self.sealing.push(PendingSeal { run, reason, reply, until: Instant::now() + SEAL_WAIT });
            }
            Command::Rotate { use_, new, ack } => {
                let leaf = self.rotate(use_, new)?;
                self.waiting.push(Waiting { ack, leaf });
            }
            Command::Policy { policy, refused } => {
                if let (Some(policy), None) = (policy, refused) {
                    self.policy = policy;
                }
                self.event(self.instance_run, &Event::PolicyLoad(PolicyLoad { policy, refused }))?;
            }
            Command::Close => {}
        }
        Ok(())
    }

    /// Opens a run that has no entry yet.
    fn open_run(&mut self, run: RunHandle) -> Result<(), Reason> {
        if self.chains.contains_key(&run.id()) {
            return Ok(());
        }
        let settings = &self.inner.settings;
        let capture = run.capture();
        let open = Event::RunOpen(RunOpen {
            build: settings.build.clone(),
            capture: (capture.id(), capture.commitment()),
            class: run.0.class,
            config: settings.config,
            durability: settings.durability,
            name: run.0.name.clone(),
            policy: self.policy,
            previous_seal: self.previous_seal,
            sign: settings.sign,
        });
        run.0.opened_us.store(self.inner.clock.unix_us(), Ordering::Relaxed);
        run.0.opened.store(true, Ordering::Relaxed);
        let id = run.id();
        self.chains.insert(id, Chain::new(run, self.inner.clock.mono_us()));
        self.event(id, &open).map(drop)
    }

    fn call(&mut self, run: &RunHandle, mut record: CallRecord) -> Result<Leaf, Reason> {
        self.open_run(run.clone())?;
        let blob = match &record.stream {
            Some(stream) if record.storage.mode != BodyMode::None && stream.tree.units > 0 => {
                Some(stream.tree.file())
            }
            _ => None,
        };
        let nodes = blob.as_ref().map(|blob| Sha256::of(blob));
        if let (Some(blob), Some(digest)) = (&blob, nodes) {
            self.make_room(frame::FRAME_BYTES + 32 + blob.len() + frame::FRAME_BYTES + 65 + (16 << 10))?;
            frame::whole(&mut self.buffer, Kind::Blob, self.tree.size(), &[&digest.0, blob]);
        }
        let mut line = std::mem::take(&mut self.line);
        let chain = self.chains.get(&run.id()).ok_or(Reason::Internal)?;
        let (link, mono) = self.link(chain);
        if record.write(&mut line, &link, run.capture(), nodes).is_err() {
            record.shorten();
            record.write(&mut line, &link, run.capture(), nodes).map_err(|_| Reason::Internal)?;
        }
        let leaf = self.append(run.id(), &line, mono, nodes.is_some());
        self.line = line;
        let leaf = leaf?;
        let chain = self.chains.get_mut(&run.id()).ok_or(Reason::Internal)?;
        chain.count_call(record.call, record.verdict.action, record.outcome.complete);
        run.0.calls.fetch_add(1, Ordering::Relaxed);
        Ok(leaf)
    }

    fn event(&mut self, run: RunId, event: &Event) -> Result<Leaf, Reason> {
        let mut line = std::mem::take(&mut self.line);
        let chain = self.chains.get(&run).ok_or(Reason::Internal)?;
        let (link, mono) = self.link(chain);
        event.write(&mut line, &link).map_err(|_| Reason::Internal)?;
        let leaf = self.append(run, &line, mono, false);
        self.line = line;
        let leaf = leaf?;
        if let Some(chain) = self.chains.get_mut(&run) {
            chain.count_event(event, leaf);
        }
        Ok(leaf)
    }

    fn link<'a>(&'a self, chain: &Chain) -> (Link<'a>, u64) {
        let mono_us = if chain.seq == 0 { 0 } else { chain.mono(self.inner.clock.mono_us()) };
        let link = Link {
            iss: &self.inner.settings.instance,
            kid: self.keys.receipt.public().id(),
            run: chain.run.id(),
            seq: chain.seq,
            prev: chain.prev,
            ts: UnixMicros(self.inner.clock.unix_us()),
            mono_us,
        };
        (link, mono_us)
    }

    /// Chains, signs and frames one line.
    fn append(&mut self, run: RunId, line: &[u8], mono_us: u64, has_room: bool) -> Result<Leaf, Reason> {
        if !has_room {
            self.make_room(frame::FRAME_BYTES + 65 + line.len())?;
        }
        let leaf = Leaf::of(line);
        let signature = match self.inner.settings.sign {
            Sign::Checkpoint => None,
            Sign::Each => {
                pae_into(&mut self.signed, ENTRY_TYPE, line);
                Some(self.keys.receipt.sign(&self.signed).map_err(|error| {
                    tracing::error!(%error, "a receipt could not be signed");
                    Reason::KeyInvalid
                })?)
            }
        };
        let offset = self.segments.offset + self.buffer.len() as u64;
        let signature = signature.as_ref().map_or(&[][..], |s| &s[..]);
        let length = [signature.len() as u8]; // 0 or 64
        frame::whole(&mut self.buffer, Kind::Entry, self.tree.size(), &[&length, signature, line]);
        let place = Place { segment: self.segments.first_index, offset };
        self.tree.push(leaf);
        self.last = Some(leaf);
        let chain = self.chains.get_mut(&run).ok_or(Reason::Internal)?;
        chain.append(leaf, place, mono_us);
        chain.run.0.entries.store(chain.seq, Ordering::Relaxed);
        Ok(leaf)
    }

    /// Goes on in the next segment when `bytes` more do not fit.
    fn make_room(&mut self, bytes: usize) -> Result<(), Reason> {
        if self.segments.fits((self.buffer.len() + bytes) as u64) {
            return Ok(());
        }
        self.write_buffer()?;
        let settings = &self.inner.settings;
        self.segments
            .rotate(self.tree.size(), self.last, bytes as u64, settings.segment_bytes)
            .map_err(|error| self.lost(&error))?;
        self.lay_out();
        Ok(())
    }

    /// Makes the spare; without one admission stops until there is room again.
    fn lay_out(&mut self) {
        match self.segments.lay_out_spare() {
            Ok(()) => self.inner.gauges.stall(None),
            Err(error) => {
                tracing::error!(%error, "no room for the next segment, calls are refused until there is");
                self.inner.gauges.stall(Some(disk_reason(&error)));
            }
        }
    }

    fn write_buffer(&mut self) -> Result<(), Reason> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.segments.append(&self.buffer);
        self.buffer.clear();
        self.unsynced = true;
        written.map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &io::Error) -> Reason {
        tracing::error!(%error, "evidence cannot be written; calls are refused until the daemon is started again");
        disk_reason(error)
    }

    /// Writes, syncs, and acknowledges the batch.
    fn flush(&mut self) -> Result<(), Reason> {
        let entries = self.waiting.len();
        self.write_buffer()?;
        if self.unsynced && self.inner.settings.durability != Durability::Memory {
            self.sync()?;
        }
        let gauges = &self.inner.gauges;
        if entries > 0 {
            gauges.batches.fetch_add(1, Ordering::Relaxed);
            gauges.batched.fetch_add(entries as u64, Ordering::Relaxed);
        }
        gauges.entries.store(self.tree.size(), Ordering::Relaxed);
        self.slots.clear();
        for waiting in self.waiting.drain(..) {
            let _ = waiting.ack.send(Ok(Recorded::Journal(waiting.leaf))); // whoever asked may have left
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Reason> {
        let start = Instant::now();
        self.segments.sync().map_err(|error| self.lost(&error))?;
        let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.inner.gauges.sync_us.fetch_add(took, Ordering::Relaxed);
        self.unsynced = false;
        self.synced_at = start;
        Ok(())
    }

    fn poison(&mut self, reason: Reason) {
        self.inner.gauges.poison(reason);
        self.slots.clear();
        for waiting in self.waiting.drain(..) {
            let _ = waiting.ack.send(Err(AckError(Reason::EvidenceFailed)));
        }
        for pending in self.sealing.drain(..) {
            if let Some(reply) = pending.reply {
                let _ = reply.send(Err(SealError::Failed(reason)));
            }
        }
    }

    /// What time brings about.
    fn tick(&mut self) {
        if !self.segments.has_spare() {
            self.lay_out();
        }
        if self.unsynced && self.synced_at.elapsed() >= Duration::from_secs(1) {
            if let Err(reason) = self.sync() {
                return self.poison(reason);
            }
        }
        self.settle_seals();
        let settings = &self.inner.settings;
        let grown = self.tree.size() - self.checkpoint_size;
        if grown > 0
            && (self.checkpoint_at.elapsed() >= settings.checkpoint_every
                || grown >= settings.checkpoint_entries)
        {
            self.checkpoint();
        }
        if self.expired_at.elapsed() >= Duration::from_secs(1) {
            self.expired_at = Instant::now();
            self.expire();
        }
    }

    fn expire(&mut self) {
        let now = self.inner.clock.mono_us();
        let settings = &self.inner.settings;
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let (ambient, idle, entries) =
            (micros(settings.ambient_every), micros(settings.run_idle), settings.ambient_entries);
        let unix = self.inner.clock.unix_us();
        let stale = self.inner.registry.expire(|run| {
            if !run.0.opened.load(Ordering::Relaxed) {
                return false;
            }
            match run.0.class {
                RunClass::Ambient => {
                    unix.saturating_sub(run.0.opened_us.load(Ordering::Relaxed)) >= ambient
                        || run.0.entries.load(Ordering::Relaxed) >= entries
                }
                _ => now.saturating_sub(run.0.used_us.load(Ordering::Relaxed)) >= idle,
            }
        });
        for run in stale {
            self.sealing.push(PendingSeal {
                run,
                reason: SealReason::Timeout,
                reply: None,
                until: Instant::now() + Duration::from_secs(3_600),
            });
        }
    }

    /// Seals the runs whose calls have all ended.
    fn settle_seals(&mut self) {
        for pending in std::mem::take(&mut self.sealing) {
            // Held by the pending seal and, once it has an entry, by its chain.
            let own = 1 + usize::from(self.chains.contains_key(&pending.run.id()));
            if Arc::strong_count(&pending.run.0) > own {
                if Instant::now() < pending.until {
                    self.sealing.push(pending);
                } else {
                    self.inner.registry.restore(pending.run.clone());
                    if let Some(reply) = pending.reply {
                        let _ = reply.send(Err(SealError::Busy(pending.run.id().to_string())));
                    }
                }
                continue;
            }
            let sealed = self.seal(pending.run.clone(), pending.reason);
            match (&sealed, pending.reply) {
                (_, Some(reply)) => {
                    let _ = reply.send(sealed);
                }
                (Err(error), None) => tracing::error!(%error, "a run was not sealed"),
                (Ok(_), None) => {}
            }
        }
    }

    fn seal_entry(&mut self, run: RunId, reason: SealReason) -> Result<(), Reason> {
        let chain = self.chains.get(&run).ok_or(Reason::Internal)?;
        let seal = Event::RunSeal(RunSeal {
            count: chain.seq,
            counters: chain.counters,
            head: chain.prev.ok_or(Reason::Internal)?,
            reason,
            root: chain.tree.root(),
        });
        let leaf = self.event(run, &seal)?;
        self.previous_seal = Some(leaf);
        Ok(())
    }

    /// Seals a run: its last entry, a checkpoint that covers it, and its bundle.
    fn seal(&mut self, run: RunHandle, reason: SealReason) -> Result<SealedRun, SealError> {
        self.open_run(run.clone()).map_err(SealError::Failed)?;
        // The seal is the last leaf of the tree that the checkpoint covers, so its path is the frontier before it.
        let path = self.tree.next_path();
        let index = self.tree.size();
        let sealed = self.seal_entry(run.id(), reason).and_then(|()| self.flush()).and_then(|()| self.sync());
        if let Err(reason) = sealed {
            self.poison(reason);
            return Err(SealError::Failed(reason));
        }
        let note = self.checkpoint().ok_or(SealError::Failed(Reason::EvidenceFailed))?;
        let chain = self.chains.remove(&run.id()).ok_or(SealError::Failed(Reason::Internal))?;
        let work = SealWork {
            dir: &self.inner.settings.dir,
            instance: &self.inner.settings.instance,
            chain: &chain,
            keys: &self.keys,
            known: &self.known,
            anchor: estoppel_evidence::note::tlog_proof(index, &path, &note),
        };
        let bundle = seal::write(&work).map_err(|error| SealError::Bundle(error.to_string()));
        self.inner.registry.sealed(&run, bundle.as_ref().ok().map(|sealed| sealed.path.clone()));
        bundle
    }

    /// Signs and publishes a checkpoint over everything so far. Gives the note.
    fn checkpoint(&mut self) -> Option<String> {
        let head = Checkpoint {
            origin: self.inner.settings.instance.to_string(),
            size: self.tree.size(),
            root: self.tree.root(),
        };
        let note = match head.sign(self.inner.settings.instance.as_str(), &*self.keys.checkpoint) {
            Ok(note) => note,
            Err(error) => {
                tracing::error!(%error, "a checkpoint could not be signed");
                return None;
            }
        };
        let framed = self.make_room(frame::FRAME_BYTES + note.len()).and_then(|()| {
            frame::whole(&mut self.buffer, Kind::Checkpoint, head.size, &[note.as_bytes()]);
            self.write_buffer()?;
            self.sync()
        });
        if let Err(reason) = framed {
            self.poison(reason);
            return None;
        }
        self.checkpoint_at = Instant::now();
        self.checkpoint_size = head.size;
        match self.published.publish(&note) {
            Ok(()) => self.inner.gauges.checkpoint_size.store(head.size, Ordering::Relaxed),
            Err(error) => tracing::error!(%error, "a checkpoint could not be published"),
        }
        Some(note)
    }

    fn rotate(&mut self, use_: Use, new: Arc<dyn Signer>) -> Result<Leaf, Reason> {
        let old = self.keys.of(use_).public().id();
        let runs: Vec<RunId> = self.chains.keys().copied().collect();
        let mut last = None;
        let unsigned = |error: estoppel_evidence::key::KeyError| {
            tracing::error!(%error, "a key rotation could not be signed");
            Reason::KeyInvalid
        };
        for run in runs {
            let iss = &self.inner.settings.instance;
            let message = KeyRotate::possession_message(iss, run, old, new.public().id(), use_);
            let possession = new.sign(&message).map_err(unsigned)?;
            let rotate = Event::KeyRotate(KeyRotate {
                alg: new.public().alg(),
                new: new.public().id(),
                old,
                possession: base64(&possession),
                spki: base64(new.public().spki()),
                use_,
            });
            last = Some(self.event(run, &rotate)?);
        }
        note_key(&mut self.known, use_, new.public());
        let settings = &self.inner.settings;
        if let Err(error) = keys::trust(&settings.dir, &settings.instance, &[(use_, new.public())]) {
            tracing::error!(%error, "the trust document could not be written");
        }
        match use_ {
            Use::Receipt => self.keys.receipt = new,
            Use::Checkpoint => self.keys.checkpoint = new,
            Use::Manifest => self.keys.manifest = new,
        }
        last.ok_or(Reason::Internal)
    }

    /// The last things this process writes.
    fn close(&mut self) {
        for pending in &mut self.sealing {
            pending.until = Instant::now();
        }
        self.settle_seals();
        let run = self.instance_run;
        let done = self.seal_entry(run, SealReason::Shutdown).and_then(|()| self.flush());
        if let Err(reason) = done {
            return self.poison(reason);
        }
        self.chains.remove(&run);
        self.checkpoint();
        let _ = &self.storage;
    }
}

fn refuse(command: Command, reason: Reason) {
    match command {
        Command::Call { ack, .. } | Command::Intent { ack, .. } | Command::Rotate { ack, .. } => {
            let _ = ack.send(Err(AckError(Reason::EvidenceFailed)));
        }
        Command::Seal { reply: Some(reply), .. } => {
            let _ = reply.send(Err(SealError::Failed(reason)));
        }
        Command::Seal { .. } | Command::Policy { .. } | Command::Close => {}
    }
}

pub(crate) fn note_key(known: &mut Vec<(Use, PublicKey)>, use_: Use, key: &PublicKey) {
    if !known.iter().any(|(known_use, known)| *known_use == use_ && known.id() == key.id()) {
        known.push((use_, key.clone()));
    }
}

/// Counters start at zero.
pub(crate) const NO_COUNTERS: Counters =
    Counters { allow: 0, block: 0, calls: 0, hold: 0, incomplete: 0, interrupted: 0, repair: 0 };
