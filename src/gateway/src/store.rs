//! Stored bodies on their way to the disk (`body_storage: full`).
//!
//! Threads write them, because a disk blocks. All of one call goes to one thread in order, pieces of bodies first and the
//! record last, so that a record names a body only once that is durable. Whoever feeds a body waits while [`ROOM_BYTES`] of it
//! are not written yet.

mod redact;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::task::{Context, Poll};

use bytes::Bytes;
use estoppel_evidence::entry::{CallRecord, Captured, Downgrade};
use estoppel_evidence::{CallId, Reason, Sha256};
use estoppel_journal::encryption::DataKey;
use estoppel_journal::{BodyError, BodyStore, BodyWriter, DocumentStore, Promise};
use estoppel_policy::ValuePath;
use estoppel_snapshot::Schema;
use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;

pub(crate) use redact::Form;
use redact::Redacted;

const THREADS: usize = 2;
/// Bytes of one body that may wait for the disk, one chunk more at most.
const ROOM_BYTES: usize = 64 << 10;

/// Which body of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Side {
    Request,
    /// What the upstream answered.
    Upstream,
    /// What the client got, where that is not the upstream's answer.
    Client,
}

impl Side {
    const ALL: [Self; 3] = [Self::Request, Self::Upstream, Self::Client];

    fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Upstream => "upstream's answer",
            Self::Client => "answer",
        }
    }

    fn captured(self, record: &mut CallRecord) -> Option<&mut Captured> {
        match self {
            Self::Request => Some(&mut record.request.body),
            Self::Upstream => record.response.upstream.as_mut().map(|(_, captured)| captured),
            Self::Client => Some(&mut record.response.client),
        }
    }
}

/// How values of a body are redacted before it is stored.
#[derive(Clone)]
pub(crate) struct Redaction {
    pub(crate) paths: Arc<[ValuePath]>,
    /// A larger body is not stored, because it has to be read whole.
    pub(crate) bytes_max: u64,
}

/// A contract that a record names: the digest of its canonical bytes, and these.
pub(crate) type Contract = (Sha256, Bytes);

/// The threads that write bodies, contracts and snapshots.
pub(crate) struct Stores {
    threads: Vec<Sender<Job>>,
}

enum Job {
    Open {
        body: (CallId, Side),
        key: Option<Arc<DataKey>>,
        redaction: Option<(Redaction, Form)>,
    },
    Data {
        body: (CallId, Side),
        data: Bytes,
        room: Arc<Room>,
    },
    Commit {
        promise: Promise,
        record: Box<CallRecord>,
        contracts: Vec<Contract>,
        snapshots: Vec<Arc<Schema>>,
    },
    Forget {
        call: CallId,
    },
    Keep {
        schema: Arc<Schema>,
        kept: oneshot::Sender<bool>,
    },
}

/// How much of a body waits for the disk.
#[derive(Default)]
struct Room {
    waiting: AtomicUsize,
    waker: AtomicWaker,
}

/// Where one body's bytes go.
pub(crate) struct Feed {
    body: (CallId, Side),
    thread: Sender<Job>,
    room: Arc<Room>,
}

impl Stores {
    /// Starts the threads. They end when the last handle and the last [`Feed`] are gone.
    pub(crate) fn start(
        store: &BodyStore,
        contracts: &DocumentStore,
        snapshots: &DocumentStore,
    ) -> io::Result<Self> {
        let mut threads = Vec::with_capacity(THREADS);
        for n in 0..THREADS {
            let (sender, jobs) = channel();
            let keeper = Keeper {
                store: store.clone(),
                contracts: contracts.clone(),
                snapshots: snapshots.clone(),
                parts: HashMap::new(),
            };
            std::thread::Builder::new().name(format!("bodies-{n}")).spawn(move || keeper.serve(&jobs))?;
            threads.push(sender);
        }
        Ok(Self { threads })
    }

    fn thread(&self, call: CallId) -> &Sender<Job> {
        let low = u64::from_le_bytes(call.bytes()[8..].try_into().expect("a call id has sixteen bytes"));
        &self.threads[usize::try_from(low % THREADS as u64).unwrap_or(0)]
    }

    /// Begins a body. `key` is needed where bodies are encrypted.
    pub(crate) fn body(
        &self,
        call: CallId,
        side: Side,
        key: Option<Arc<DataKey>>,
        redaction: Option<(Redaction, Form)>,
    ) -> Feed {
        let thread = self.thread(call).clone();
        let body = (call, side);
        let _ = thread.send(Job::Open { body, key, redaction }); // a thread that is gone is noticed at the commit
        Feed { body, thread, room: Arc::default() }
    }

    /// Whether a snapshot is durable that came after the record of its call.
    pub(crate) async fn keep(&self, call: CallId, schema: Arc<Schema>) -> bool {
        let (kept, answer) = oneshot::channel();
        let sent = self.thread(call).send(Job::Keep { schema, kept });
        sent.is_ok() && answer.await.unwrap_or(false)
    }

    /// Drops what has been stored of a call that is not committed yet, and what still comes.
    pub(crate) fn forget(&self, call: CallId) {
        let _ = self.thread(call).send(Job::Forget { call }); // a thread that is gone stores nothing
    }

    /// Hands the record over once the call's bodies, its contracts and its snapshots are durable or given up.
    pub(crate) fn commit(
        &self,
        promise: Promise,
        record: Box<CallRecord>,
        contracts: Vec<Contract>,
        snapshots: Vec<Arc<Schema>>,
    ) {
        let thread = self.thread(record.call);
        if let Err(SendError(Job::Commit { promise, mut record, .. })) =
            thread.send(Job::Commit { promise, record, contracts, snapshots })
        {
            unname(&mut record);
            unname_snapshots(&mut record);
            record.downgrades.push(not_stored("the thread that stores bodies is gone".into()));
            promise.commit(record);
        }
    }
}

impl Feed {
    /// Ready when the body has room for more.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let has_room = || self.room.waiting.load(Ordering::Acquire) < ROOM_BYTES;
        if has_room() {
            return Poll::Ready(());
        }
        self.room.waker.register(cx.waker());
        if has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Adds bytes; for whoever cannot wait, whatever the room.
    pub(crate) fn push(&self, data: Bytes) {
        self.room.waiting.fetch_add(data.len(), Ordering::AcqRel);
        let room = self.room.clone();
        if self.thread.send(Job::Data { body: self.body, data, room }).is_err() {
            self.room.waiting.store(0, Ordering::Release);
        }
    }
}

/// One thread's bodies.
struct Keeper {
    store: BodyStore,
    contracts: DocumentStore,
    snapshots: DocumentStore,
    parts: HashMap<(CallId, Side), Part>,
}

enum Part {
    Empty {
        key: Option<Arc<DataKey>>,
    },
    Writing(Box<BodyWriter>),
    /// Read whole first, because values of it are redacted.
    Held {
        bytes: Vec<u8>,
        key: Option<Arc<DataKey>>,
        redaction: Redaction,
        form: Form,
    },
    Failed(String),
}

impl Keeper {
    fn serve(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Open { body, key, redaction } => {
                    let part = match redaction {
                        None => Part::Empty { key },
                        Some((redaction, form)) => Part::Held { bytes: Vec::new(), key, redaction, form },
                    };
                    self.parts.insert(body, part);
                }
                Job::Data { body, data, room } => {
                    if let Some(part) = self.parts.get_mut(&body) {
                        part.add(&self.store, &data);
                    }
                    room.waiting.fetch_sub(data.len(), Ordering::AcqRel);
                    room.waker.wake();
                }
                Job::Forget { call } => Side::ALL.into_iter().for_each(|side| {
                    self.parts.remove(&(call, side));
                }),
                Job::Keep { schema, kept } => {
                    let done = self.keep(&schema);
                    if let Err(error) = &done {
                        tracing::warn!(%error, "a snapshot was not stored");
                    }
                    let _ = kept.send(done.is_ok()); // who asked may be gone
                }
                Job::Commit { promise, mut record, contracts, snapshots } => {
                    self.finish(&promise, &mut record);
                    let kept = |(digest, canonical): &Contract| self.contracts.keep(*digest, canonical);
                    if let Err(error) = contracts.iter().try_for_each(kept) {
                        tracing::warn!(call = %record.call, %error, "a contract was not stored");
                        unname(&mut record);
                        record.downgrades.push(not_stored("contract".into()));
                    }
                    if let Err(error) = snapshots.iter().try_for_each(|schema| self.keep(schema)) {
                        tracing::warn!(call = %record.call, %error, "a snapshot was not stored");
                        unname_snapshots(&mut record);
                        record.downgrades.push(not_stored("snapshot".into()));
                    }
                    promise.commit(record);
                }
            }
        }
    }

    fn keep(&self, schema: &Schema) -> io::Result<()> {
        let digest = schema.digest().0;
        if self.snapshots.has(digest) { Ok(()) } else { self.snapshots.keep(digest, schema.bytes()) }
    }

    fn finish(&mut self, promise: &Promise, record: &mut CallRecord) {
        let relayed = record.response.upstream.map(|(_, captured)| captured) == Some(record.response.client);
        let mut met = 0;
        for side in Side::ALL {
            let Some(part) = self.parts.remove(&(record.call, side)) else { continue };
            match part.finish(&self.store, promise) {
                Ok(None) => {}
                Ok(Some(stored)) => {
                    met |= stored.met;
                    if let Some(captured) = side.captured(record) {
                        captured.stored = Some(stored.digest);
                    }
                    if let (Side::Upstream, true) = (side, relayed) {
                        record.response.client.stored = Some(stored.digest);
                    }
                }
                Err(cause) => {
                    let side = side.name();
                    tracing::warn!(call = %record.call, side, %cause, "a body was not stored");
                    record.downgrades.push(not_stored(format!("{side}: {cause}")));
                }
            }
        }
        let redacted = &mut record.storage.redacted;
        let mut at = 0..;
        redacted.retain(|_| at.next().is_some_and(|at: u32| met & 1 << at != 0));
    }
}

struct Stored {
    digest: [u8; 32],
    /// One bit for each path that met a value.
    met: u64,
}

impl Part {
    fn add(&mut self, store: &BodyStore, data: &[u8]) {
        if let Self::Empty { key } = self {
            *self = store
                .create(key.as_deref())
                .map_or_else(|error| Self::failed(&error), |writer| Self::Writing(Box::new(writer)));
        }
        match self {
            Self::Writing(writer) => {
                if let Err(error) = writer.write(data) {
                    *self = Self::failed(&error);
                }
            }
            Self::Held { bytes, redaction, .. }
                if (bytes.len() + data.len()) as u64 > redaction.bytes_max =>
            {
                let limit = redaction.bytes_max;
                *self = Self::Failed(format!("larger than {limit} bytes, so that it cannot be redacted"));
            }
            Self::Held { bytes, .. } => bytes.extend_from_slice(data),
            Self::Empty { .. } | Self::Failed(_) => {}
        }
    }

    fn failed(error: &BodyError) -> Self {
        Self::Failed(error.reason().code().to_string())
    }

    fn finish(self, store: &BodyStore, promise: &Promise) -> Result<Option<Stored>, String> {
        let failed = |error: BodyError| error.reason().code().to_string();
        match self {
            Self::Empty { .. } => Ok(None),
            Self::Held { bytes, .. } if bytes.is_empty() => Ok(None),
            Self::Failed(cause) => Err(cause),
            Self::Writing(writer) => {
                let (digest, _) = writer.finish().map_err(failed)?;
                Ok(Some(Stored { digest: digest.0, met: 0 }))
            }
            Self::Held { bytes, key, redaction, form } => {
                let Redacted { bytes, met } =
                    redact::redact(form, &bytes, &redaction.paths, promise.run().capture())
                        .ok_or("not JSON, so that it cannot be redacted")?;
                let mut writer = store.create(key.as_deref()).map_err(failed)?;
                writer.write(&bytes).map_err(failed)?;
                let (digest, _) = writer.finish().map_err(failed)?;
                Ok(Some(Stored { digest: digest.0, met }))
            }
        }
    }
}

/// A record names no contract that is not there.
fn unname(record: &mut CallRecord) {
    if let Some(judged) = &mut record.judged {
        (judged.request, judged.response) = (None, None);
    }
}

/// Nor a snapshot.
fn unname_snapshots(record: &mut CallRecord) {
    if let Some(snapshot) = &mut record.snapshot {
        snapshot.pre.iter_mut().chain(&mut snapshot.post).for_each(|side| side.digest = None);
    }
}

pub(crate) fn not_stored(cause: String) -> Downgrade {
    Downgrade { code: Reason::BodyNotStored, detail: Some(cause.into()) }
}
