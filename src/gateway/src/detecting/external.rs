//! Detectors that are asked over HTTP (spec/detector.schema.json): in line, where a call waits for the answer, or beside it,
//! where nothing does.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::{CallId, Reason};
use estoppel_policy::{Confidence, DetectorMode, DetectorTerms};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::body::{Room, UpstreamBody};
use crate::settings::{Http2, Upstream};
use crate::upstream::{Pool, Target};

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most findings of an answer.
const FINDINGS_MAX: usize = 64;
/// Most questions of one detector that wait to be asked beside the calls, and most KiB of bodies in them.
const TAPPED_MAX: usize = 64;
const TAPPED_KIB_MAX: usize = 16 << 10;
/// A second, in microseconds.
const WINDOW_US: u64 = 1_000_000;

/// One external detector.
#[derive(Debug)]
pub(crate) struct External {
    name: String,
    asker: Arc<Asker>,
    in_line: bool,
    min_confidence: Confidence,
    quota: Mutex<Quota>,
    per_second: u64,
    /// Where questions wait that no call waits for; made with the first.
    tap: OnceLock<mpsc::Sender<Tapped>>,
    /// KiB that may wait there.
    waiting: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Quota {
    since_us: u64,
    asked: u64,
}

struct Asker {
    pool: Arc<Pool>,
    path: http::Uri,
    room: Semaphore,
    timeout: Duration,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a detector is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question(Bytes);

/// What a detector is told of a call that does not wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) call: CallId,
    pub(crate) route: Arc<str>,
    pub(crate) dialect: &'static str,
    pub(crate) surface: &'static str,
    pub(crate) unit: Vec<Bytes>,
}

struct Tapped {
    told: Told,
    _room: OwnedSemaphorePermit,
}

#[derive(Serialize)]
struct Asked<'a> {
    v: u8,
    call: &'a str,
    route: &'a str,
    dialect: &'a str,
    surface: &'a str,
    unit: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    findings: Vec<Said>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    confidence: Word,
    #[serde(rename = "rule")]
    _rule: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Low,
    Medium,
    High,
}

/// How asking ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    Clear,
    /// It found something; whether that is sure enough to block.
    Found(bool),
    Timeout,
    Failed,
}

impl External {
    pub(crate) fn new(terms: &DetectorTerms) -> Result<Option<Self>, String> {
        let Some(external) = &terms.external else { return Ok(None) };
        let in_flight = usize::try_from(external.in_flight_max()).unwrap_or(usize::MAX);
        let upstream = Upstream {
            credential: None,
            url: external.url.clone(),
            ca: None,
            client: None,
            http2: Http2::Never,
            connections_max: in_flight,
            idle_ms: 30_000,
        };
        let wrong = |problem: &dyn std::fmt::Display| format!("detector `{}`: {problem}", terms.name);
        let target = Target::new(&terms.name, &upstream).map_err(|error| wrong(&error))?;
        let base = target.origin.base.clone();
        let path = if base.is_empty() { "/".parse() } else { base.parse() }.map_err(|error| wrong(&error))?;
        Ok(Some(Self {
            name: terms.name.clone(),
            asker: Arc::new(Asker {
                pool: Pool::new(target),
                path,
                room: Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS)),
                timeout: Duration::from_millis(external.timeout_ms()),
            }),
            in_line: terms.mode == DetectorMode::Enforce,
            min_confidence: terms.min_confidence,
            quota: Mutex::default(),
            per_second: external.per_second(),
            tap: OnceLock::new(),
            waiting: Arc::new(Semaphore::new(TAPPED_KIB_MAX)),
        }))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether calls wait for it.
    pub(crate) fn is_in_line(&self) -> bool {
        self.in_line
    }

    /// Asks, and waits for the answer, at most as long as the policy says.
    pub(crate) async fn ask(&self, question: Question, now_us: u64) -> Ended {
        if !self.has_quota(now_us) {
            return Ended::Timeout;
        }
        let Ok(_permit) = self.asker.room.try_acquire() else { return Ended::Timeout };
        match tokio::time::timeout(self.asker.timeout, self.asker.ask(question)).await {
            Err(_) => Ended::Timeout,
            Ok(None) => Ended::Failed,
            Ok(Some(said)) if said.is_empty() => Ended::Clear,
            Ok(Some(said)) => Ended::Found(said.iter().any(|one| *one >= self.min_confidence)),
        }
    }

    /// Has it asked by and by. `false`: there is no room, and it is not asked.
    pub(crate) fn tap(&self, told: Told, now_us: u64, found: &prometheus::IntCounter) -> bool {
        // A call may end after its runtime.
        let Ok(runtime) = Handle::try_current() else { return false };
        let tap = self.tap.get_or_init(|| {
            let (sender, receiver) = mpsc::channel(TAPPED_MAX);
            // Ends when the sender is dropped with the policy that it belongs to.
            runtime.spawn(worker(self.asker.clone(), receiver, found.clone()));
            sender
        });
        let bytes: usize = told.unit.iter().map(Bytes::len).sum();
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        if !self.has_quota(now_us) {
            return false;
        }
        let Ok(room) = self.waiting.clone().try_acquire_many_owned(kib) else { return false };
        tap.try_send(Tapped { told, _room: room }).is_ok()
    }

    fn has_quota(&self, now_us: u64) -> bool {
        let mut quota = self.quota.lock().unwrap_or_else(PoisonError::into_inner);
        if now_us.saturating_sub(quota.since_us) >= WINDOW_US {
            *quota = Quota { since_us: now_us, asked: 0 };
        }
        quota.asked += 1;
        quota.asked <= self.per_second
    }
}

async fn worker(asker: Arc<Asker>, mut calls: mpsc::Receiver<Tapped>, found: prometheus::IntCounter) {
    while let Some(Tapped { told, _room }) = calls.recv().await {
        let Some(question) = told.question() else { continue };
        if let Ok(Some(said)) = tokio::time::timeout(asker.timeout, asker.ask(question)).await {
            found.inc_by(said.len() as u64);
        }
    }
}

impl Asker {
    /// How sure each finding is; none if there is no answer that can be read.
    async fn ask(&self, Question(body): Question) -> Option<Vec<Confidence>> {
        let mut request = Request::new(UpstreamBody::held(vec![body.clone()], Room::default()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.pool.target.authority.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, body.len().into());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let bound = self.timeout * 2; // whoever asks stops before
        let mut answered = self.pool.send(request, bound, bound, None).await.ok()?;
        if answered.head.status != StatusCode::OK {
            return None;
        }
        let mut answer = Vec::new();
        while let Some(frame) = poll_fn(|cx| answered.relay.poll_frame(cx)).await {
            let Ok(data) = frame.ok()?.into_data() else { continue };
            if answer.len() + data.len() > ANSWER_BYTES_MAX {
                return None;
            }
            answer.extend_from_slice(&data);
        }
        answered.relay.release();
        let answer: Answered = serde_json::from_slice(&answer).ok()?;
        let sure = |said: &Said| match said.confidence {
            Word::Low => Confidence::Low,
            Word::Medium => Confidence::Medium,
            Word::High => Confidence::High,
        };
        (answer.findings.len() <= FINDINGS_MAX).then(|| answer.findings.iter().map(sure).collect())
    }
}

impl Told {
    /// Its bytes are copied and escaped here, where no call waits for it.
    fn question(&self) -> Option<Question> {
        let unit = self.unit.concat();
        Question::new(&self.call.to_string(), &self.route, self.dialect, self.surface, &unit)
    }
}

impl Question {
    pub(crate) fn new(call: &str, route: &str, dialect: &str, surface: &str, unit: &[u8]) -> Option<Self> {
        let unit = String::from_utf8_lossy(unit);
        let asked = Asked { v: 1, call, route, dialect, surface, unit: &unit };
        serde_json::to_vec(&asked).ok().map(|bytes| Self(bytes.into()))
    }
}

/// What a call ends with where the policy does not let it pass.
pub(crate) fn reason(ended: Ended) -> Option<Reason> {
    match ended {
        Ended::Found(true) => Some(Reason::DetectorFound),
        Ended::Timeout => Some(Reason::DetectorTimeout),
        Ended::Failed => Some(Reason::DetectorFailed),
        Ended::Clear | Ended::Found(false) => None,
    }
}
