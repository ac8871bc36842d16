//! What the tests of the journal share: records, folders, and the judge.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use estoppel_evidence::capture::StreamRoot;
use estoppel_evidence::entry::{
    BodyMode, CallRecord, Captured, ClientEnd, Evaluated, Facts, Identity, Looked, Outcome, PolicyRef,
    RequestSide, ResponseSide, Storage as BodyStorage, StreamRecord, Times, VerdictAction, VerdictMode,
    VerdictRecord,
};
use estoppel_evidence::{CallId, CaptureKey, Reason, RunCapture, Sha256, SoftKey};
use estoppel_journal::signer::fast;
use estoppel_journal::{
    Clock, Journal, JournalError, Keys, RunHandle, SEGMENT_BYTES_MIN, Settings, SystemClock,
};
use estoppel_verify::{
    Completeness, Externals, Input, JournalFiles, Options, Report, verify_bundle, verify_journal,
};

pub const INSTANCE: &str = "gw.test/main/1";
pub const POLICY: &[u8] = b"{\"policy\":\"test\"}";

pub fn keys() -> Keys {
    keys_from(1)
}

pub fn keys_from(seed: u8) -> Keys {
    Keys {
        receipt: fast(SoftKey::ed25519(&[seed; 32])),
        checkpoint: fast(SoftKey::ed25519(&[seed + 1; 32])),
        manifest: fast(SoftKey::ed25519(&[seed + 2; 32])),
        capture: CaptureKey::new([9; 32]),
    }
}

pub fn settings(dir: &Path) -> Settings {
    Settings {
        segment_bytes: SEGMENT_BYTES_MIN,
        queue_entries: 256,
        checkpoint_every: Duration::from_millis(20),
        stall_retry: Duration::from_millis(5),
        seal_wait: Duration::from_millis(200),
        policy: Sha256::of(POLICY),
        ..Settings::new(dir.into(), INSTANCE.parse().unwrap())
    }
}

pub fn open(settings: Settings) -> Result<Journal, JournalError> {
    Journal::open(settings, keys(), Arc::new(SystemClock::new()))
}

/// An open journal with its policy stored.
pub fn journal(dir: &Path) -> Journal {
    let journal = open(settings(dir)).unwrap();
    journal.store_policy(Sha256::of(POLICY), POLICY).unwrap();
    journal
}

pub const LONG: Duration = Duration::from_secs(60);

static CALLS: AtomicU64 = AtomicU64::new(1);

/// A call id that no other record of this process has.
pub fn call_id() -> CallId {
    let n = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    CallId::new(1_795_233_600_000, random)
}

pub fn record() -> Box<CallRecord> {
    let captured = Captured { bytes: 5, sha256: Some([5; 32]), stored: None };
    Box::new(CallRecord {
        call: call_id(),
        attempt: 1,
        storage: BodyStorage::default(),
        claims: None,
        destination: None,
        detection: None,
        dialect: Some("openai_chat"),
        downgrades: Vec::new(),
        evaluated_request: Evaluated { bytes: 5, state: Looked::Recognized, ..Evaluated::default() },
        evaluated_response: Evaluated { bytes: 5, state: Looked::Recognized, ..Evaluated::default() },
        facts: Facts { model: Some("m".into()), ..Facts::default() },
        identity: Identity::default(),
        identity_details: None,
        held: None,
        idempotency: None,
        judged: None,
        limits: Vec::new(),
        operation: "openai.chat.completions".into(),
        outcome: Outcome { client: ClientEnd::HandedOver, code: Reason::Ok, complete: true },
        policy: PolicyRef { hash: Sha256::of(POLICY), rule: Some("default".into()) },
        reask: None,
        request: RequestSide {
            body: captured,
            method: "POST".into(),
            route: Some("openai".into()),
            target: [6; 32],
            version: "1.1",
        },
        response: ResponseSide { client: captured, client_status: 200, upstream: Some((200, captured)) },
        shadow: Vec::new(),
        snapshot: None,
        stream: None,
        tenant: None,
        threat: None,
        time: Times { total_us: 1_234, ..Times::default() },
        trace: None,
        upstream: Some("stub".into()),
        upstream_request: Some("req_1".into()),
        verdict: VerdictRecord { action: VerdictAction::Allow, mode: VerdictMode::Enforce, reason: None },
    })
}

/// A record of a stream with that many units.
pub fn stream_record(capture: &RunCapture, units: u64) -> Box<CallRecord> {
    let mut record = record();
    let mut tree = capture.call(record.call).stream();
    for n in 0..units {
        tree.update(&n.to_be_bytes());
        tree.end_unit();
    }
    record.stream = Some(Box::new(StreamRecord {
        comments: 0,
        events: units,
        first_us: 1,
        last_us: 2,
        terminated: Some(true),
        tree: tree.finish(),
    }));
    record
}

/// A record that takes nearly half of the smallest segment.
pub fn big_record() -> Box<CallRecord> {
    static TREE: OnceLock<StreamRoot> = OnceLock::new();
    let tree = TREE.get_or_init(|| {
        let nodes: Vec<[u8; 32]> = (0..3_500u32).map(|n| Sha256::of(&n.to_be_bytes()).0).collect();
        StreamRoot { units: 3_500, level: 0, root: estoppel_evidence::tree::root(&nodes), nodes }
    });
    let mut record = record();
    record.stream = Some(Box::new(StreamRecord {
        comments: 0,
        events: 3_500,
        first_us: 1,
        last_us: 2,
        terminated: Some(true),
        tree: tree.clone(),
    }));
    record
}

/// A record whose bodies are stored.
pub fn stored_record(digest: Sha256, bytes: u64) -> Box<CallRecord> {
    let mut record = record();
    record.storage = BodyStorage { mode: BodyMode::Full, reason: Some("test".into()), redacted: Vec::new() };
    record.request.body = Captured { bytes, sha256: Some(digest.0), stored: Some(digest.0) };
    record
}

/// Commits a record and waits until it is durable.
pub fn put(journal: &Journal, run: &RunHandle, record: Box<CallRecord>) -> CallId {
    let call = record.call;
    journal.admit().unwrap().commit(run, record).wait().unwrap();
    call
}

/// Commits `n` plain records to the run of that name.
pub fn fill(journal: &Journal, name: Option<&str>, n: usize) -> Vec<CallId> {
    let run = journal.run(name).unwrap();
    (0..n).map(|_| put(journal, &run, record())).collect()
}

/// Segment files with their content, in order.
pub fn segments(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(dir.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_str().unwrap().ends_with(".seg"))
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// What the independent verifier says of a journal's folder.
pub fn judge(dir: &Path) -> Report {
    let read = |name: &str| std::fs::read(dir.join(name)).ok();
    let (checkpoint, trust) = (read("checkpoint"), read("trust.json"));
    let beginning = read("beginning.json");
    let files = JournalFiles {
        checkpoint: checkpoint.as_deref(),
        trust: trust.as_deref(),
        beginning: beginning.as_deref(),
        against: None,
    };
    verify_journal(&mut segments(dir), files, &Options::default()).unwrap()
}

/// Every link, digest and signature of a journal's folder is right.
#[track_caller]
pub fn check_journal(dir: &Path) -> Report {
    let report = judge(dir);
    assert!(report.passed(), "{:?}", report.finding);
    report
}

/// Entries of a journal up to a torn frame, read as SPEC section 12 describes them.
pub fn entries(dir: &Path) -> Vec<serde_json::Value> {
    let mut out = Vec::new();
    for (_, bytes) in segments(dir) {
        let mut at = 256;
        while let Some(head) = bytes.get(at..at + 17) {
            let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
            if length == 0 {
                break;
            }
            let payload = &bytes[at + 17..at + 17 + length];
            let mut crc = crc32fast::Hasher::new();
            crc.update(&head[..13]);
            crc.update(payload);
            if crc.finalize().to_le_bytes() != head[13..] {
                break;
            }
            if head[4] == 1 {
                out.push(serde_json::from_slice(&payload[1 + usize::from(payload[0])..]).unwrap());
            }
            at += 17 + length;
        }
    }
    out
}

/// Call ids of all receipts with how often they are there.
pub fn receipts(dir: &Path) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for entry in entries(dir) {
        if entry["kind"] == "call" {
            *out.entry(entry["call"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    out
}

/// Every acknowledged call is there exactly once, and nothing that was not committed.
#[track_caller]
pub fn check_calls(dir: &Path, acknowledged: &[CallId], committed: &[CallId]) {
    let receipts = receipts(dir);
    for call in acknowledged {
        assert_eq!(receipts.get(&call.to_string()), Some(&1), "acknowledged {call}");
    }
    let committed: Vec<String> = committed.iter().map(ToString::to_string).collect();
    for (call, count) in &receipts {
        assert_eq!(*count, 1, "{call}");
        assert!(committed.contains(call), "{call} was never committed");
    }
}

/// Content beside a bundle.
pub struct Beside(pub PathBuf);

impl Externals for Beside {
    fn open(&mut self, name: &str) -> std::io::Result<Option<Box<dyn std::io::Read + '_>>> {
        match std::fs::File::open(self.0.join(name)) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The bundle passes every step, is complete and anchored, and its keys are those of the journal's trust document.
#[track_caller]
pub fn check_bundle(path: &Path) -> Report {
    let bytes = std::fs::read(path).unwrap();
    let trust = std::fs::read(path.parent().unwrap().parent().unwrap().join("trust.json")).unwrap();
    let mut beside = path.as_os_str().to_owned();
    beside.push(".d");
    let options = Options { trust: Some(&trust), ..Options::default() };
    let report = verify_bundle(Input::Zip(&bytes), &mut Beside(beside.into()), &options).unwrap();
    assert!(report.passed(), "{:?}", report.finding);
    assert_eq!(report.verdicts.completeness, Completeness::Complete);
    assert_eq!(report.verdicts.anchoring, estoppel_verify::Anchoring::Anchored);
    assert_eq!(report.verdicts.authenticity, estoppel_verify::Authenticity::Trusted);
    report
}

/// A folder in memory, where syncing costs nothing, if there is such a place.
pub fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies a folder as it is, as if the machine had stopped here.
pub fn copy(from: &Path) -> tempfile::TempDir {
    let to = quick_dir();
    copy_into(from, to.path());
    to
}

fn copy_into(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else {
            // Files that a journal writes anew have another name at first, which a copy of a live folder can see go.
            match std::fs::copy(entry.path(), target) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => assert!(copied.is_ok(), "{copied:?}"),
            }
        }
    }
}

/// A clock that stands where it is put.
#[derive(Default)]
pub struct ManualClock(pub AtomicU64);

impl ManualClock {
    pub fn at(us: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(us)))
    }

    pub fn pass(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_us(&self) -> u64 {
        1_795_233_600_000_000 + self.0.load(Ordering::SeqCst)
    }

    fn mono_us(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Waits until something is so; fails after a long while.
#[track_caller]
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(std::time::Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
