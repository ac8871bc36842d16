//! A small run for tests: every part that a bundle can have, from fixed keys and times.

use std::collections::BTreeMap;

use estoppel_evidence::entry::{
    BodyMode, Build, CallRecord, Captured, Claims, ClientEnd, Durability, Evaluated, Event, Facts, Identity,
    Interrupted, KeyRotate, Link, Outcome, PolicyRef, RequestSide, ResponseSide, RunClass, RunOpen, RunSeal,
    SealReason, Sign, SnapshotRecord, SnapshotSide, Storage, StreamRecord, Times, VerdictAction, VerdictMode,
    VerdictRecord,
};
use estoppel_evidence::note::{Checkpoint, tlog_proof};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{
    CallId, CaptureKey, Instance, Leaf, Reason, RunId, Sha256, Signer as _, SoftKey, Use, envelope,
};

use crate::facts::RunFacts;
use crate::layout::BundlePath;
use crate::manifest::KeyRow;
use crate::write::{MemoryStaging, Parts, Sealed, Staging, WriteError};

pub(crate) const POLICY: &[u8] = b"{\"rules\":[],\"version\":1}";
pub(crate) const SNAPSHOT: &[u8] = b"{\"format\":\"estoppel-schema/1\"}";
/// How far the replica is behind at first.
pub(crate) const LAG_BYTES: u64 = 56;
pub(crate) const BODY: &[u8] = b"{\"question\":\"stored, as the policy says\"}";

/// What the run is like.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Last byte of the run id.
    pub run: u8,
    pub calls: u64,
    pub sign: Sign,
    pub p256: bool,
    /// The second call's body is stored beside the bundle and has this digest.
    pub external: Option<Sha256>,
    pub anchored: bool,
    /// The receipt key is replaced before the last call.
    pub rotated: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            run: 1,
            calls: 3,
            sign: Sign::Each,
            p256: false,
            external: None,
            anchored: true,
            rotated: false,
        }
    }
}

pub(crate) fn receipt_key(plan: &Plan) -> SoftKey {
    if plan.p256 { SoftKey::p256(&[1; 32]).unwrap() } else { SoftKey::ed25519(&[1; 32]) }
}

/// The receipt key after the rotation.
pub(crate) fn second_key() -> SoftKey {
    SoftKey::ed25519(&[4; 32])
}

pub(crate) fn checkpoint_key() -> SoftKey {
    SoftKey::ed25519(&[2; 32])
}

pub(crate) fn manifest_key() -> SoftKey {
    SoftKey::ed25519(&[3; 32])
}

pub(crate) fn keys() -> Vec<KeyRow> {
    keys_of(&Plan::default())
}

pub(crate) fn keys_of(plan: &Plan) -> Vec<KeyRow> {
    let mut keys = vec![
        KeyRow::new(receipt_key(plan).public(), Use::Receipt),
        KeyRow::new(checkpoint_key().public(), Use::Checkpoint),
        KeyRow::new(manifest_key().public(), Use::Manifest),
    ];
    if plan.rotated {
        keys.push(KeyRow::new(second_key().public(), Use::Receipt));
    }
    keys
}

/// A sealed run with what its bundle holds.
pub(crate) struct Run {
    pub plan: Plan,
    pub lines: Vec<Vec<u8>>,
    pub files: BTreeMap<BundlePath, Vec<u8>>,
}

impl Run {
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut writer = Writer::new(plan);
        writer.event(&Event::RunOpen(writer.run_open()));
        for n in 0..plan.calls {
            if plan.rotated && n + 1 == plan.calls {
                writer.rotate();
            }
            writer.call(n);
        }
        let reason = Reason::Interrupted;
        writer.event(&Event::Interrupted(Interrupted {
            call: CallId::new(9, [9; 10]),
            intent: None,
            reason,
        }));
        writer.event(&Event::RunSeal(RunSeal {
            count: writer.facts.entries(),
            counters: writer.facts.counters(),
            head: writer.facts.head().unwrap(),
            reason: SealReason::Clean,
            root: writer.facts.frontier().root(),
        }));
        writer.finish()
    }

    pub(crate) fn facts(&self) -> crate::ManifestFacts {
        let mut facts = RunFacts::new();
        for line in &self.lines {
            facts.push(line).unwrap();
        }
        facts.finish(keys_of(&self.plan)).unwrap()
    }

    pub(crate) fn parts<S: Staging>(&self, staging: S) -> Parts<S> {
        let mut parts = Parts::new(staging);
        for (path, content) in &self.files {
            parts.add(path.clone(), content).unwrap();
        }
        if let Some(digest) = self.plan.external {
            parts.external(digest, crate::EXTERNAL_BYTES_MIN).unwrap();
        }
        parts
    }

    pub(crate) fn seal(&self) -> Result<Sealed<MemoryStaging>, WriteError> {
        self.seal_with(self.facts())
    }

    pub(crate) fn seal_with(&self, facts: crate::ManifestFacts) -> Result<Sealed<MemoryStaging>, WriteError> {
        self.parts(MemoryStaging::default()).seal(facts, &manifest_key())
    }

    pub(crate) fn zip(&self) -> Vec<u8> {
        self.seal().unwrap().write_zip(Vec::new()).unwrap()
    }
}

struct Writer {
    plan: Plan,
    iss: Instance,
    run: RunId,
    key: SoftKey,
    facts: RunFacts,
    lines: Vec<Vec<u8>>,
    files: BTreeMap<BundlePath, Vec<u8>>,
}

impl Writer {
    fn new(plan: &Plan) -> Self {
        Self {
            plan: *plan,
            iss: "gw.local/main/1".parse().unwrap(),
            run: RunId::new(1_795_233_600_000, [plan.run; 10]),
            key: receipt_key(plan),
            facts: RunFacts::new(),
            lines: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    fn run_open(&self) -> RunOpen {
        let capture = CaptureKey::new([7; 32]).run(self.run);
        RunOpen {
            build: Build { digest: None, name: "estoppeld".into(), version: "0.1.0".into() },
            capture: (capture.id(), capture.commitment()),
            class: RunClass::Caller,
            config: Sha256::of(b"config"),
            durability: Durability::Group,
            name: Some("nightly".into()),
            policy: Sha256::of(POLICY),
            previous_seal: None,
            sign: self.plan.sign,
        }
    }

    fn rotate(&mut self) {
        let (old, new) = (self.key.public().id(), second_key());
        let message =
            KeyRotate::possession_message(&self.iss, self.run, old, new.public().id(), Use::Receipt);
        self.event(&Event::KeyRotate(KeyRotate {
            alg: new.public().alg(),
            new: new.public().id(),
            old,
            possession: envelope::base64(&new.sign(&message).unwrap()),
            spki: envelope::base64(new.public().spki()),
            use_: Use::Receipt,
        }));
        self.key = new;
    }

    fn event(&mut self, event: &Event) {
        let mut line = Vec::new();
        event.write(&mut line, &self.link(&self.iss)).unwrap();
        self.line(line);
    }

    fn link<'a>(&self, iss: &'a Instance) -> Link<'a> {
        let seq = self.facts.entries();
        Link {
            iss,
            kid: self.key.public().id(),
            run: self.run,
            seq,
            prev: self.facts.head(),
            ts: UnixMicros(1_795_233_600_000_000 + seq),
            mono_us: seq,
        }
    }

    fn line(&mut self, line: Vec<u8>) {
        self.facts.push(&line).unwrap();
        if self.plan.sign == Sign::Each {
            let signature = self.key.sign(&envelope::pae(envelope::ENTRY_TYPE, &line)).unwrap();
            self.files.entry(BundlePath::signatures()).or_default().extend(signature);
        }
        let entries = self.files.entry(BundlePath::entries()).or_default();
        entries.extend_from_slice(&line);
        entries.push(b'\n');
        self.lines.push(line);
    }

    /// Calls with an even number are streams that pass; the others are blocked, and the first of those has its
    /// request stored. The first three look at a replica, which catches up.
    fn call(&mut self, n: u64) {
        let capture = CaptureKey::new([7; 32]).run(self.run);
        let call = CallId::new(1_795_233_600_000 + n, [4; 10]);
        let passes = n.is_multiple_of(2);
        let mut stream = capture.call(call).stream();
        for unit in 0..n + 1 {
            stream.update(format!("data: {unit}\n\n").as_bytes());
            stream.end_unit();
        }
        let tree = stream.finish();
        let nodes = tree.file();
        let digest = Sha256::of(&nodes);
        let stored = (n == 1).then(|| self.plan.external.unwrap_or(Sha256::of(BODY)));
        if stored == Some(Sha256::of(BODY)) {
            self.files.insert(BundlePath::body(Sha256::of(BODY)), BODY.to_vec());
        }
        let request = Captured {
            bytes: 41,
            sha256: Some(stored.map_or([5; 32], |d| d.0)),
            stored: stored.map(|d| d.0),
        };
        let mut record = record(call, passes, request, n);
        record.snapshot = (n < 3).then(|| {
            let digest = Sha256::of(SNAPSHOT);
            self.files.insert(BundlePath::snapshot(digest), SNAPSHOT.to_vec());
            let side = SnapshotSide { digest: Some(digest), ..SnapshotSide::default() };
            let (pre, post) = (Some(side.clone()), (n > 0).then_some(side));
            Box::new(SnapshotRecord {
                lag_bytes: Some(LAG_BYTES - n),
                post,
                pre,
                source: "shop".into(),
                writes: Vec::new(),
            })
        });
        record.stream = passes.then(|| {
            self.files.insert(BundlePath::stream(call), nodes);
            let (first_us, last_us) = (3, 4);
            Box::new(StreamRecord {
                comments: 0,
                events: n + 1,
                first_us,
                last_us,
                terminated: Some(true),
                tree,
            })
        });
        let mut line = Vec::new();
        record.write(&mut line, &self.link(&self.iss), &capture, passes.then_some(digest)).unwrap();
        self.line(line);
    }

    fn finish(mut self) -> Run {
        let root = self.facts.frontier().root();
        let size = self.facts.entries();
        let origin = format!("{}/run/{}", self.iss, self.run);
        let checkpoint =
            Checkpoint { origin, size, root }.sign(self.iss.as_str(), &checkpoint_key()).unwrap();
        self.files.insert(BundlePath::checkpoint(), checkpoint.into_bytes());
        self.files.insert(BundlePath::policy(Sha256::of(POLICY)), POLICY.to_vec());
        if self.plan.anchored {
            // The instance log of this fixture holds one other entry and then the run.
            let leaves: Vec<[u8; 32]> =
                std::iter::once(Leaf([8; 32]).0).chain(self.lines.iter().map(|l| Leaf::of(l).0)).collect();
            let root = estoppel_evidence::tree::root(&leaves);
            let note = Checkpoint { origin: self.iss.to_string(), size: leaves.len() as u64, root }
                .sign(self.iss.as_str(), &checkpoint_key())
                .unwrap();
            let index = leaves.len() - 1;
            let path = estoppel_evidence::tree::inclusion(&leaves, index).unwrap();
            let proof = tlog_proof(index as u64, &path, &note);
            self.files.insert(BundlePath::anchor(), proof.into_bytes());
        }
        Run { plan: self.plan, lines: self.lines, files: self.files }
    }
}

fn record(call: CallId, passes: bool, request: Captured, n: u64) -> CallRecord {
    let code = if passes { Reason::Ok } else { Reason::ToolDenied };
    let stored = request.stored.is_some();
    CallRecord {
        call,
        attempt: 1,
        storage: Storage {
            mode: if stored { BodyMode::Full } else { BodyMode::Hmac },
            reason: stored.then(|| "training".into()),
            redacted: Vec::new(),
        },
        claims: Some(Box::new(Claims { job_id: Some(format!("job-{n}").into()), ..Claims::default() })),
        destination: None,
        detection: None,
        dialect: None,
        downgrades: Vec::new(),
        evaluated_request: Evaluated { bytes: 41, ..Evaluated::default() },
        evaluated_response: Evaluated::default(),
        facts: Facts::default(),
        identity: Identity::default(),
        identity_details: None,
        held: None,
        idempotency: None,
        judged: None,
        limits: Vec::new(),
        operation: "json".into(),
        outcome: Outcome {
            client: if passes { ClientEnd::HandedOver } else { ClientEnd::Refused },
            code,
            complete: passes,
        },
        policy: PolicyRef { hash: Sha256::of(POLICY), rule: None },
        reask: None,
        request: RequestSide {
            body: request,
            method: "POST".into(),
            route: Some("main".into()),
            target: [6; 32],
            version: "1.1",
        },
        response: ResponseSide {
            client: Captured { bytes: 9, sha256: Some([9; 32]), stored: None },
            client_status: 200,
            upstream: None,
        },
        shadow: Vec::new(),
        snapshot: None,
        stream: None,
        tenant: None,
        threat: None,
        time: Times { total_us: 1000 - n, ..Times::default() },
        trace: None,
        upstream: None,
        upstream_request: None,
        verdict: VerdictRecord {
            action: if passes { VerdictAction::Allow } else { VerdictAction::Block },
            mode: VerdictMode::Enforce,
            reason: (!passes).then(|| code.code().into()),
        },
    }
}
