//! What a stub received, and how each answer ended. This is what tests assert on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::request::{Head, RequestBody};
use crate::script::Remember;

/// Most paths that are counted by themselves; further ones are counted as [`OTHER_PATHS`].
const PATHS_MAX: usize = 1024;
/// Longest path that is counted by itself.
const PATH_BYTES_MAX: usize = 1024;
const OTHER_PATHS: &str = "(other)";

/// A handle to the record of one stub; clones share it, and it outlives the stub.
#[derive(Clone, Debug)]
pub struct Hits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    record: Mutex<Record>,
    changed: Condvar,
    changed_async: Notify,
}

#[derive(Debug)]
struct Record {
    remember: Remember,
    total: u64,
    refused: u64,
    ended: u64,
    connections: u64,
    by_path: BTreeMap<String, u64>,
    last: VecDeque<Seen>,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// 1 for the first connection of the stub: tells whether two requests came over one connection.
    pub connection: u64,
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// The exact bytes of the head, blank line included. Over HTTP/2 it is written as HTTP/1.1 would be.
    pub head: Bytes,
    /// The body without its framing, cut at [`Remember::body_bytes`].
    pub body: Bytes,
    /// The body as it was on the wire, chunk sizes and trailers included, cut likewise. Over HTTP/2 the
    /// same as `body`.
    pub body_wire: Bytes,
    /// The size of the body before it was cut.
    pub body_bytes: u64,
    headers: Vec<(Bytes, Bytes)>,
    progress: Arc<Progress>,
}

/// How an answer ended at the stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not ended yet.
    Answering,
    /// Every byte was handed to the socket.
    Sent,
    /// The peer closed, or reset, before that.
    PeerGone,
    /// The script ended it: reset, truncated, closed.
    CutByScript,
    /// The request was malformed or never became whole; no rule has seen it.
    Refused,
}

/// Follows one answer while it is being sent.
#[derive(Debug)]
pub(crate) struct Progress {
    sent: AtomicU64,
    outcome: AtomicU8,
    record: Arc<Shared>,
}

impl Hits {
    pub(crate) fn new(remember: Remember) -> Self {
        let record = Record {
            remember,
            total: 0,
            refused: 0,
            ended: 0,
            connections: 0,
            by_path: BTreeMap::new(),
            last: VecDeque::new(),
        };
        Self(Arc::new(Shared {
            record: Mutex::new(record),
            changed: Condvar::new(),
            changed_async: Notify::new(),
        }))
    }

    /// Requests that reached the script.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.lock().total
    }

    /// Of these requests those whose answer has ended, however it did.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.0.lock().ended
    }

    /// Requests that were malformed or never became whole.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.lock().refused
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.0.lock().connections
    }

    /// Requests for this path (without query) that reached the script.
    #[must_use]
    pub fn count(&self, path: &str) -> u64 {
        self.0.lock().by_path.get(path).copied().unwrap_or(0)
    }

    /// Requests that reached the script, by path without query. After 1024 paths, and for paths above
    /// 1 KiB, the key is `(other)`.
    #[must_use]
    pub fn by_path(&self) -> BTreeMap<String, u64> {
        self.0.lock().by_path.clone()
    }

    /// The remembered requests, oldest first, refused ones included.
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.0.lock().last.iter().cloned().collect()
    }

    #[must_use]
    pub fn last(&self) -> Option<Seen> {
        self.0.lock().last.back().cloned()
    }

    /// Forgets everything counted and remembered so far, except connections.
    pub fn clear(&self) {
        let mut record = self.0.lock();
        (record.total, record.refused, record.ended) = (0, 0, 0);
        record.by_path.clear();
        record.last.clear();
    }

    /// Blocks until `holds`, looking again at each arrival and each end of an answer. False when `patience`
    /// is used up first.
    pub fn wait(&self, patience: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if holds(self) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // A change between `holds` and this wait is not lost for long: the wait is short.
            let pause = left.min(Duration::from_millis(5));
            drop(self.0.changed.wait_timeout(self.0.lock(), pause).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// As [`Hits::wait`], for async callers. Needs a runtime with time enabled.
    pub async fn wait_async(&self, patience: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let waiting = async {
            loop {
                let changed = self.0.changed_async.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(patience, waiting).await.is_ok()
    }

    pub(crate) fn connected(&self) -> u64 {
        let mut record = self.0.lock();
        record.connections += 1;
        record.connections
    }

    /// A request that reaches the script.
    pub(crate) fn arrived(&self, connection: u64, head: &Head, body: &RequestBody) -> Arc<Progress> {
        let progress = self.progress(Outcome::Answering);
        let mut record = self.0.lock();
        record.total += 1;
        record.count_path(head.path());
        record.keep(|limit| Seen::new(connection, head, body, limit, &progress));
        drop(record);
        self.0.tell();
        progress
    }

    /// A request that does not: what is known of it.
    pub(crate) fn refuse(&self, connection: u64, head: &Head, body: &RequestBody) {
        let progress = self.progress(Outcome::Refused);
        let mut record = self.0.lock();
        record.refused += 1;
        record.keep(|limit| Seen::new(connection, head, body, limit, &progress));
        drop(record);
        self.0.tell();
    }

    fn progress(&self, outcome: Outcome) -> Arc<Progress> {
        let outcome = AtomicU8::new(outcome.number());
        Arc::new(Progress { sent: AtomicU64::new(0), outcome, record: Arc::clone(&self.0) })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Record> {
        // A panic while the lock is held leaves counters, nothing that could be half-done.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.notify_all();
        self.changed_async.notify_waiters();
    }
}

impl Record {
    fn count_path(&mut self, path: &str) {
        if let Some(count) = self.by_path.get_mut(path) {
            *count += 1;
            return;
        }
        let own = self.by_path.len() < PATHS_MAX && path.len() <= PATH_BYTES_MAX;
        *self.by_path.entry(if own { path } else { OTHER_PATHS }.to_owned()).or_default() += 1;
    }

    fn keep(&mut self, seen: impl FnOnce(usize) -> Seen) {
        if self.remember.requests == 0 {
            return;
        }
        if self.last.len() >= self.remember.requests {
            self.last.pop_front();
        }
        self.last.push_back(seen(self.remember.body_bytes));
    }
}

impl Seen {
    fn new(connection: u64, head: &Head, body: &RequestBody, limit: usize, progress: &Arc<Progress>) -> Self {
        let cut = |bytes: &Bytes| bytes.slice(..bytes.len().min(limit));
        Self {
            connection,
            method: head.method().to_owned(),
            target: head.target().to_owned(),
            head: head.wire.clone(),
            body: cut(&body.plain),
            body_wire: cut(&body.wire),
            body_bytes: body.plain.len() as u64,
            headers: head.headers().to_vec(),
            progress: Arc::clone(progress),
        }
    }

    /// The first value of this header, its name in any case. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers as sent: order, case and repetitions kept.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        self.headers.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// How the answer ended, or stands now.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome::of(self.progress.outcome.load(Ordering::Acquire))
    }

    /// Bytes of the answer handed to the socket so far, head and framing included; over HTTP/2, body bytes
    /// handed to the transport.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.progress.sent.load(Ordering::Acquire)
    }
}

impl Progress {
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Release);
    }

    /// The first end counts.
    pub fn end(&self, outcome: Outcome) {
        let (open, outcome) = (Outcome::Answering.number(), outcome.number());
        if self.outcome.compare_exchange(open, outcome, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.record.lock().ended += u64::from(outcome != Outcome::Refused.number());
            self.record.tell();
        }
    }
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Answering, Self::Sent, Self::PeerGone, Self::CutByScript, Self::Refused];

    fn number(self) -> u8 {
        self as u8 // Five variants.
    }

    fn of(number: u8) -> Self {
        Self::ALL[usize::from(number)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(hits: &Hits, target: &str, body: &str) -> Arc<Progress> {
        let head = Head::parse(format!("POST {target} HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\n\r\n").into()).unwrap();
        let body = Bytes::from(body.to_owned());
        hits.arrived(1, &head, &RequestBody { wire: body.clone(), plain: body })
    }

    #[test]
    fn keeps_the_last_requests_and_counts_all() {
        let hits = Hits::new(Remember { requests: 2, body_bytes: 3 });
        for (target, body) in [("/a", ""), ("/b?q", "long body"), ("/a?x", "abc")] {
            arrive(&hits, target, body);
        }
        assert_eq!((hits.total(), hits.count("/a"), hits.count("/b"), hits.count("/c")), (3, 2, 1, 0));
        let kept = hits.requests();
        let bodies: Vec<(&str, &[u8], u64)> =
            kept.iter().map(|seen| (&seen.target[..], &seen.body[..], seen.body_bytes)).collect();
        assert_eq!(bodies, [("/b?q", &b"lon"[..], 9), ("/a?x", b"abc", 3)]);
        assert_eq!(kept[0].header("X-a").as_deref(), Some("1"));
        assert_eq!(kept[0].headers()[1], ("x-a".to_owned(), "2".to_owned()));
        hits.clear();
        assert_eq!((hits.total(), hits.requests().len()), (0, 0));
    }

    #[test]
    fn the_number_of_counted_paths_is_bounded() {
        let hits = Hits::new(Remember { requests: 0, body_bytes: 0 });
        for number in 0..PATHS_MAX + 10 {
            arrive(&hits, &format!("/{number}"), "");
        }
        arrive(&hits, &format!("/{}", "x".repeat(PATH_BYTES_MAX)), "");
        assert_eq!((hits.by_path().len(), hits.count(OTHER_PATHS)), (PATHS_MAX + 1, 11));
        assert!(hits.last().is_none());
    }

    #[test]
    fn the_first_end_of_an_answer_counts() {
        let hits = Hits::new(Remember::default());
        let progress = arrive(&hits, "/", "");
        let seen = hits.last().unwrap();
        assert_eq!(seen.outcome(), Outcome::Answering);
        progress.sent(7);
        progress.end(Outcome::Sent);
        progress.end(Outcome::PeerGone);
        assert_eq!((seen.outcome(), seen.sent_bytes()), (Outcome::Sent, 7));
        assert!(Outcome::ALL.iter().all(|outcome| Outcome::of(outcome.number()) == *outcome));
    }

    #[test]
    fn waiting_ends_when_the_condition_holds_or_patience_ends() {
        let hits = Hits::new(Remember::default());
        let other = hits.clone();
        let arriving = std::thread::spawn(move || arrive(&other, "/", "").end(Outcome::Sent));
        assert!(hits.wait(Duration::from_secs(20), |hits| hits.total() == 1));
        arriving.join().unwrap();
        assert!(!hits.wait(Duration::from_millis(5), |hits| hits.total() == 2));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let ended = |hits: &Hits| hits.last().is_some_and(|seen| seen.outcome() == Outcome::Sent);
        assert!(runtime.block_on(hits.wait_async(Duration::from_secs(20), ended)));
        assert!(!runtime.block_on(hits.wait_async(Duration::from_millis(5), |hits| hits.refused() > 0)));
    }
}
