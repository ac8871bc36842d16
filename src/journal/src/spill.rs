//! The spill file: records that found no slot in the queue, durable until the journal takes them.
//!
//! The file is preallocated and filled from its start in *generations*: once the journal has taken every record of one,
//! the next begins at the start again. A record is a header, its form in `record`, and a CRC over both. The header
//! names the generation, and where its batch began: a batch is durable before the next begins, so what cannot be read
//! before a record of a later batch was durable once.
//!
//! A record is handed to the thread "spill", which makes whole batches durable and acknowledges them; the writer reads
//! them back and adds them to the log. Nothing marks a record as taken: after a crash the file may hold records that are
//! entries already, and recovery knows them by their call. Damage matters only where a record behind it is no entry yet.
//!
//! Locks: `queue` is held for a push or a take only, `positions` for arithmetic only.

mod record;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, RunId};

use crate::admit::{AckError, Acknowledge, Item, Recorded, Shared, locked};
use crate::error::JournalError;
use crate::run::Run;
use crate::settings::SpillSettings;
use crate::storage::{Storage, StorageFile, read_full};

use record::{Spilled, SpilledCall, SpilledRun, What};

/// Most bytes that one call takes in the spill file: a receipt with the most stream nodes that there may be, and its
/// intent.
pub const RECORD_BYTES_MAX: u64 = (2 << 20) + (256 << 10);
/// Most records that are made durable at once, and that are read back at once.
const BATCH_MAX: usize = 64;
/// Most bytes of one record without its nodes. A receipt has bounded names; a longer one is shortened.
const JSON_BYTES_MAX: usize = 192 << 10;
const MAGIC: &[u8; 4] = b"SPL0";
const HEADER_BYTES: usize = 32;
/// Bytes that are looked through at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What makes a spilled record recognizable among entries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SpillKey {
    kind: u8,
    call: CallId,
    attempt: u32,
}

impl SpillKey {
    /// The key of an entry; none for kinds that are never spilled.
    pub fn of_line(kind: &str, call: Option<CallId>, attempt: Option<u32>) -> Option<Self> {
        let (kind, attempt) = match kind {
            "call" => (0, attempt?),
            "intent" => (1, 0),
            "interrupted" => (2, 0),
            _ => return None,
        };
        Some(Self { kind, call: call?, attempt })
    }

    fn of(what: &What) -> Self {
        match what {
            What::Call(call) => {
                let (call, attempt) = call.key();
                Self { kind: 0, call, attempt }
            }
            What::Intent { call, .. } => Self { kind: 1, call: *call, attempt: 0 },
            What::Interrupted { call, .. } => Self { kind: 2, call: *call, attempt: 0 },
        }
    }
}

/// The spill file and its queue.
pub(crate) struct Spill {
    file: Box<dyn StorageFile>,
    path: PathBuf,
    bytes_max: u64,
    /// Bytes that are taken or set aside.
    reserved: AtomicU64,
    /// A write failed: no more slots are given out.
    broken: AtomicBool,
    queue: Mutex<Queue>,
    wake: Condvar,
    positions: Mutex<Positions>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    shut: Option<AckError>,
}

/// Where things are in the file.
#[derive(Default)]
struct Positions {
    generation: u64,
    /// Records before this are entries.
    read: u64,
    /// Records before this are durable.
    written: u64,
    /// Records between the two.
    records: u64,
    /// Bytes that this generation's records count in `reserved`.
    charged: u64,
    /// A batch is being written behind `written`.
    busy: bool,
}

/// Records that were read back, and where the next ones start.
pub(crate) struct Drained {
    pub items: Vec<Item>,
    pub runs: Vec<Arc<Run>>,
    end: u64,
}

/// A record of a file that was left over.
struct Left {
    key: SpillKey,
    offset: u64,
    base: u64,
}

/// What an earlier process left in the file: records of the newest generation.
#[derive(Default)]
pub(crate) struct LeftOver {
    records: Vec<Left>,
    /// Where the first byte stands that is no record.
    gap: u64,
}

impl LeftOver {
    /// Keys of all records.
    pub fn keys(&self) -> HashSet<SpillKey> {
        self.records.iter().map(|left| left.key).collect()
    }
}

impl Spill {
    /// Opens the file, sets its space aside and looks at what is in it. `now_us` makes generations differ.
    pub fn open(
        storage: &dyn Storage,
        settings: &SpillSettings,
        now_us: u64,
    ) -> Result<(Self, LeftOver), JournalError> {
        let path = &settings.path;
        let io = |what: &'static str| move |source| JournalError::io(what, path, source);
        let file = storage.open_write(path).map_err(io("open"))?;
        if file.len().map_err(io("look at"))? < settings.bytes_max {
            file.allocate(settings.bytes_max).map_err(io("set space aside for"))?;
            file.sync_all().map_err(io("sync"))?;
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            storage.open_dir(folder).and_then(|dir| dir.sync()).map_err(io("sync the folder of"))?;
        }
        let (generation, left) = look(&*file, path)?;
        let spill = Self {
            file,
            path: path.clone(),
            bytes_max: settings.bytes_max,
            reserved: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            queue: Mutex::default(),
            wake: Condvar::new(),
            positions: Mutex::new(Positions {
                generation: now_us.max(generation + 1),
                ..Positions::default()
            }),
        };
        Ok((spill, left))
    }

    /// Sets room for one call aside.
    pub fn reserve(&self) -> bool {
        let fits =
            |reserved: u64| reserved.checked_add(RECORD_BYTES_MAX).filter(|sum| *sum <= self.bytes_max);
        !self.broken.load(Ordering::Relaxed)
            && self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Gives the room of one call back.
    pub fn release(&self) {
        self.reserved.fetch_sub(RECORD_BYTES_MAX, Ordering::Relaxed);
    }

    /// Records that wait, and bytes that are taken or set aside.
    pub fn gauges(&self) -> (u64, u64) {
        (locked(&self.positions).records, self.reserved.load(Ordering::Relaxed))
    }

    /// Whether nothing is in the file and nobody may still put something there.
    pub fn is_idle(&self) -> bool {
        let positions = locked(&self.positions);
        !positions.busy
            && positions.read == positions.written
            && self.reserved.load(Ordering::Relaxed) == positions.charged
    }

    /// Hands a record to the spill thread; gives it back when nothing is taken any more.
    #[expect(clippy::result_large_err, reason = "the item goes back to its owner, once, when all is lost")]
    pub fn push(&self, item: Item) -> Result<(), (Item, AckError)> {
        let mut queue = locked(&self.queue);
        if let Some(error) = queue.shut {
            return Err((item, error));
        }
        if let Some(run) = item.run() {
            run.spilled.fetch_add(1, Ordering::SeqCst);
        }
        queue.items.push_back(item);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// Nothing is taken from now on; whoever waits is told.
    pub fn shut(&self, error: AckError) {
        let items = {
            let mut queue = locked(&self.queue);
            queue.shut.get_or_insert(error);
            std::mem::take(&mut queue.items)
        };
        self.wake.notify_all();
        items.into_iter().for_each(|item| self.refuse(item, error));
    }

    fn refuse(&self, item: Item, error: AckError) {
        if item.frees_slot() {
            self.release();
        }
        if let Some(run) = item.run() {
            run.spilled.fetch_sub(1, Ordering::SeqCst);
        }
        item.refuse(error);
    }

    /// Starts the thread that writes the file.
    pub fn start(self: &Arc<Self>, shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
        let spill = self.clone();
        std::thread::Builder::new().name("spill".into()).spawn(move || spill.serve(&shared))
    }

    fn serve(&self, shared: &Shared) {
        let mut frames = Vec::new();
        loop {
            let batch = self.take();
            if batch.is_empty() {
                return;
            }
            if let Err(error) = self.write(batch, &mut frames) {
                tracing::error!(%error, path = %self.path.display(), "the spill file cannot be written; it is not used any more");
                self.broken.store(true, Ordering::Relaxed);
                self.shut(AckError::Failed);
            }
            shared.nudge();
        }
    }

    /// Waits for records; none when the file is shut.
    fn take(&self) -> Vec<Item> {
        let queue = locked(&self.queue);
        let mut queue = self
            .wake
            .wait_while(queue, |queue| queue.items.is_empty() && queue.shut.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let n = queue.items.len().min(BATCH_MAX);
        queue.items.drain(..n).collect()
    }

    /// Makes a batch durable and acknowledges it.
    fn write(&self, batch: Vec<Item>, frames: &mut Vec<u8>) -> io::Result<()> {
        let (offset, generation) = self.begin();
        frames.clear();
        let mut acks: Vec<Acknowledge> = Vec::new();
        let mut slots = 0u64;
        let count = batch.len() as u64;
        let runs: Vec<Arc<Run>> = batch.iter().filter_map(|item| item.run().cloned()).collect();
        for item in batch {
            slots += u64::from(item.frees_slot());
            let Some((spilled, nodes, ack)) = spilled(item) else { continue };
            match encode(frames, generation, offset, spilled, &nodes) {
                true => acks.extend(ack),
                false => ack.into_iter().for_each(|ack| ack.give(Err(AckError::Failed))),
            }
        }
        let done = self.file.write_at(frames, offset).and_then(|()| self.file.sync_data());
        let bytes = frames.len() as u64;
        let mut positions = locked(&self.positions);
        positions.busy = false;
        if let Err(error) = done {
            drop(positions);
            self.reserved.fetch_sub(slots * RECORD_BYTES_MAX, Ordering::Relaxed);
            give_back(&runs);
            acks.into_iter().for_each(|ack| ack.give(Err(AckError::Failed)));
            return Err(error);
        }
        positions.written = offset + bytes;
        positions.records += count;
        positions.charged += bytes;
        // What was set aside for the calls becomes what they took.
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
        self.reserved.fetch_sub(slots * RECORD_BYTES_MAX, Ordering::Relaxed);
        drop(positions);
        acks.into_iter().for_each(|ack| ack.give(Ok(Recorded::Spill)));
        Ok(())
    }

    /// Where the next batch goes: behind the last, or at the start when the journal has taken everything.
    fn begin(&self) -> (u64, u64) {
        let mut positions = locked(&self.positions);
        if positions.read == positions.written && positions.written > 0 {
            self.reserved.fetch_sub(positions.charged, Ordering::Relaxed);
            *positions = Positions { generation: positions.generation + 1, ..Positions::default() };
        }
        positions.busy = true;
        (positions.written, positions.generation)
    }

    /// Reads the next records back, at most [`BATCH_MAX`].
    ///
    /// # Errors
    /// The file cannot be read, or does not hold what was written.
    pub fn drain(&self, shared: &Shared) -> io::Result<Option<Drained>> {
        let (mut at, end, generation) = {
            let positions = locked(&self.positions);
            (positions.read, positions.written, positions.generation)
        };
        if at == end {
            return Ok(None);
        }
        let mut drained = Drained { items: Vec::new(), runs: Vec::new(), end: at };
        while at < end && drained.items.len() < BATCH_MAX {
            let changed = || {
                io::Error::new(io::ErrorKind::InvalidData, "the spill file does not hold what was written")
            };
            let frame =
                read_frame(&*self.file, at)?.filter(|f| f.generation == generation).ok_or_else(changed)?;
            at += frame.bytes();
            drained.push(frame, shared).ok_or_else(changed)?;
            drained.end = at;
        }
        Ok(Some(drained))
    }

    /// The records are durable in the journal.
    pub fn drained(&self, drained: &Drained) {
        let mut positions = locked(&self.positions);
        positions.read = drained.end;
        positions.records = positions.records.saturating_sub(drained.runs.len() as u64);
        if positions.read == positions.written && !positions.busy {
            self.reserved.fetch_sub(positions.charged, Ordering::Relaxed);
            *positions = Positions { generation: positions.generation + 1, ..Positions::default() };
        }
        drop(positions);
        give_back(&drained.runs);
    }

    /// Reads left-over records that are no entries yet, in order.
    pub fn left(
        &self,
        left: &LeftOver,
        seen: &HashSet<SpillKey>,
        shared: &Shared,
        mut take: impl FnMut(Item, RunId) -> Result<(), JournalError>,
    ) -> Result<u64, JournalError> {
        let mut count = 0;
        let damaged = |what: &str| JournalError::Spill { path: self.path.clone(), what: what.into() };
        for record in left.records.iter().filter(|record| !seen.contains(&record.key)) {
            if record.base > left.gap {
                return Err(damaged(
                    "a record cannot be read, and those behind it are not in the journal yet",
                ));
            }
            let frame = read_frame(&*self.file, record.offset)
                .map_err(|source| JournalError::io("read", &self.path, source))?
                .ok_or_else(|| damaged("a record changed while it was read"))?;
            let mut drained = Drained { items: Vec::new(), runs: Vec::new(), end: 0 };
            drained.push(frame, shared).ok_or_else(|| damaged("a record that cannot be read"))?;
            for (item, run) in drained.items.into_iter().zip(drained.runs) {
                take(item, run.id)?;
                count += 1;
            }
        }
        Ok(count)
    }
}

impl Drained {
    fn push(&mut self, frame: Frame, shared: &Shared) -> Option<()> {
        let (Spilled { run, what }, nodes) = frame.decode()?;
        let run = open_run(shared, run);
        let item = match what {
            What::Call(call) => Item::Call { run: run.clone(), record: call.back(nodes)?, ack: None },
            What::Intent { call, operation, policy } => {
                let intent = estoppel_evidence::entry::Intent { call, operation, policy };
                Item::Intent { run: run.clone(), intent, ack: None }
            }
            What::Interrupted { call, reason } => Item::Interrupted { run: run.clone(), call, reason },
        };
        self.items.push(item);
        self.runs.push(run);
        Some(())
    }
}

/// The run of a record: it is open, or its `run.open` was still in a queue when the process stopped.
fn open_run(shared: &Shared, spilled: SpilledRun) -> Arc<Run> {
    let mut runs = shared.runs();
    if let Some(run) = runs.open.get(&spilled.id) {
        return run.clone();
    }
    let run = shared.known_run(spilled.id, spilled.class, spilled.name, UnixMicros(spilled.opened_us));
    runs.insert(run.clone());
    run
}

/// The runs have one record less in the file.
fn give_back(runs: &[Arc<Run>]) {
    for run in runs {
        run.spilled.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What of an item goes into the file; `None` for what is never put there.
fn spilled(item: Item) -> Option<(Spilled, Vec<[u8; 32]>, Option<Acknowledge>)> {
    let (run, what, nodes, ack) = match item {
        Item::Call { run, record, ack } => {
            let (call, nodes) = SpilledCall::of(*record);
            (run, What::Call(Box::new(call)), nodes, ack)
        }
        Item::Intent { run, intent, ack } => (run, What::intent(intent), Vec::new(), ack),
        Item::Interrupted { run, call, reason } => {
            (run, What::Interrupted { call, reason }, Vec::new(), None)
        }
        Item::Control(_) => return None,
    };
    let run = SpilledRun { id: run.id, class: run.class, name: run.name.clone(), opened_us: run.opened.0 };
    Some((Spilled { run, what }, nodes, ack))
}

/// Appends a record; one with too many names is shortened. False when it cannot be kept at all.
fn encode(out: &mut Vec<u8>, generation: u64, base: u64, spilled: Spilled, nodes: &[[u8; 32]]) -> bool {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    let mut json = to_json(out, &spilled);
    if json > JSON_BYTES_MAX {
        out.truncate(start + HEADER_BYTES);
        json = to_json(out, &spilled.shortened());
    }
    nodes.iter().for_each(|node| out.extend_from_slice(node));
    let payload = out.len() - start - HEADER_BYTES;
    if json > JSON_BYTES_MAX || (HEADER_BYTES + payload) as u64 > RECORD_BYTES_MAX {
        out.truncate(start);
        return false;
    }
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&(payload as u32).to_le_bytes()); // at most `RECORD_BYTES_MAX`
    header.extend_from_slice(&(json as u32).to_le_bytes()); // smaller still
    header.extend_from_slice(&generation.to_le_bytes());
    header.extend_from_slice(&base.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header);
    crc.update(out.get(start + HEADER_BYTES..).unwrap_or_default());
    header.extend_from_slice(&crc.finalize().to_le_bytes());
    if let Some(place) = out.get_mut(start..start + HEADER_BYTES) {
        place.copy_from_slice(&header);
    }
    true
}

fn to_json(out: &mut Vec<u8>, spilled: &Spilled) -> usize {
    let before = out.len();
    serde_json::to_writer(&mut *out, spilled)
        .expect("records hold strings, integers, booleans and lists of them");
    out.len() - before
}

/// A whole record with a right checksum.
struct Frame {
    generation: u64,
    /// Where the record's batch began.
    base: u64,
    json: usize,
    payload: Vec<u8>,
}

impl Frame {
    fn bytes(&self) -> u64 {
        (HEADER_BYTES + self.payload.len()) as u64 // bounded
    }

    fn decode(&self) -> Option<(Spilled, Vec<[u8; 32]>)> {
        let (json, nodes) = self.payload.split_at_checked(self.json)?;
        let (nodes, rest) = nodes.as_chunks::<32>();
        let spilled = serde_json::from_slice(json).ok()?;
        rest.is_empty().then(|| (spilled, nodes.to_vec()))
    }
}

/// The record at `offset`; `None` when there is none.
fn read_frame(file: &dyn StorageFile, offset: u64) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER_BYTES];
    if read_full(file, &mut header, offset)? < HEADER_BYTES {
        return Ok(None);
    }
    let (body, crc) = header.split_last_chunk::<4>().expect("the header has 32 bytes");
    let Some(fields) = body.strip_prefix(MAGIC) else { return Ok(None) };
    let number = |at: usize, bytes: usize| {
        fields.iter().skip(at).take(bytes).rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (generation, base) = (number(8, 8), number(16, 8));
    let (payload, json) = (number(0, 4) as usize, number(4, 4) as usize); // 32 bits each
    if payload as u64 > RECORD_BYTES_MAX || json > payload {
        return Ok(None);
    }
    let mut content = vec![0; payload];
    if read_full(file, &mut content, offset + HEADER_BYTES as u64)? < payload {
        return Ok(None);
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(&content);
    let right = hasher.finalize() == u32::from_le_bytes(*crc);
    Ok(right.then_some(Frame { generation, base, json, payload: content }))
}

/// The newest generation in a file, and its records.
fn look(file: &dyn StorageFile, path: &Path) -> Result<(u64, LeftOver), JournalError> {
    let io = |source| JournalError::io("read", path, source);
    let mut newest = 0;
    let mut left = LeftOver::default();
    let mut at = 0;
    while let Some(offset) = next_magic(file, at).map_err(io)? {
        at = offset + 1;
        let Some(frame) = read_frame(file, offset).map_err(io)? else { continue };
        let decoded = frame.decode();
        let (spilled, _) = decoded.ok_or_else(|| JournalError::Spill {
            path: path.into(),
            what: "a record that cannot be read".into(),
        })?;
        at = offset + frame.bytes();
        if frame.generation > newest {
            newest = frame.generation;
            left = LeftOver::default();
        }
        if frame.generation == newest {
            left.records.push(Left { key: SpillKey::of(&spilled.what), offset, base: frame.base });
            if left.gap == offset {
                left.gap = at;
            }
        }
    }
    Ok((newest, left))
}

/// Where a record may start, from `from` on.
fn next_magic(file: &dyn StorageFile, from: u64) -> io::Result<Option<u64>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = from;
    loop {
        let n = read_full(file, &mut chunk, at)?;
        let window = chunk.get(..n).unwrap_or_default();
        if let Some(skip) = window.windows(MAGIC.len()).position(|bytes| bytes == MAGIC) {
            return Ok(Some(at + skip as u64));
        }
        if n < chunk.len() {
            return Ok(None);
        }
        at += (n - (MAGIC.len() - 1)) as u64;
    }
}

#[cfg(test)]
mod tests;
