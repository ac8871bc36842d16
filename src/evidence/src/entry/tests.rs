use proptest::prelude::*;

use super::*;
use crate::capture::CaptureKey;
use crate::hash::Sha256;
use crate::id::CallId;
use crate::reason::Reason;
use crate::{HoldId, Tag};

fn instance() -> Instance {
    "gw.local/main/1".parse().unwrap()
}

fn run() -> RunId {
    RunId::new(1_795_233_600_000, [1; 10])
}

fn link(iss: &Instance, seq: u64) -> Link<'_> {
    let prev = (seq > 0).then_some(Leaf([3; 32]));
    Link {
        iss,
        kid: KeyId([4; 32]),
        run: run(),
        seq,
        prev,
        ts: UnixMicros(1_795_233_600_000_000),
        mono_us: 17,
    }
}

/// A receipt with every member present.
pub(crate) fn full_record() -> CallRecord {
    let captured = |n| Captured { bytes: n, sha256: Some([n as u8; 32]), stored: None };
    let mut tree = CaptureKey::new([7; 32]).run(run()).call(CallId::new(1, [2; 10])).stream();
    tree.update(b"data: x\n\n");
    tree.end_unit();
    CallRecord {
        call: CallId::new(1, [2; 10]),
        attempt: 1,
        storage: Storage { mode: BodyMode::Hmac, ..Storage::default() },
        claims: Some(Box::new(Claims { job_id: Some("nightly".into()), ..Claims::default() })),
        destination: None,
        detection: Some(Box::new(Detection {
            classes: vec!["secret.aws_key".into()],
            detectors: vec![DetectorRun {
                id: "secrets".into(),
                outcome: DetectorOutcome::Found,
                us: Some(7),
            }],
            findings: vec![Finding {
                at: 3,
                bytes: 20,
                confidence: "high".into(),
                detector: "secrets".into(),
                enforced: false,
                place: "/messages/0/content".into(),
                rule: "secret.aws_key".into(),
                severity: "critical".into(),
                surface: "request".into(),
                sha256: Sha256([9; 32]),
            }],
            more: 1,
        })),
        dialect: Some("openai_chat"),
        downgrades: vec![Downgrade { code: Reason::NotEvaluated, detail: Some("gzip".into()) }],
        evaluated_request: Evaluated { bytes: 10, state: Looked::Recognized, ..Evaluated::default() },
        evaluated_response: Evaluated {
            bytes: 20,
            events: 1,
            state: Looked::Recognized,
            ..Evaluated::default()
        },
        facts: Facts {
            finish: vec!["stop".into()],
            model: Some("m".into()),
            tools_offered: vec!["t".into()],
            usage: Usage { input: Some(1), output: Some(2), ..Usage::default() },
            ..Facts::default()
        },
        held: Some(Box::new(Held {
            hold: HoldRecord {
                expires: UnixMicros(1_795_233_700_000_000),
                id: HoldId::new(1, [3; 10]),
                outcome: HoldOutcome::Approved,
                us: 3_000,
            },
            approval: Some(ApprovalRecord {
                approved: vec![KeyId([9; 32])],
                call_tag: Some(tag()),
                hold: HoldId::new(1, [3; 10]),
                leaf: Some(Leaf([1; 32])),
            }),
        })),
        idempotency: Some(IdempotencyRecord {
            decision: IdempotencyDecision::Stored,
            first: Some(CallId::new(1, [4; 10])),
        }),
        identity: Identity::default(),
        identity_details: Some(Box::new(IdentityDetails {
            actors: vec!["svc-a".into()],
            certificate: Some("edge.test".into()),
            issuer: Some("corp".into()),
        })),
        judged: Some(Box::new(Judged {
            request: None,
            response: Some(ContractRef {
                digest: Sha256([8; 32]),
                id: Some("t".into()),
                source: ContractSource::Request,
            }),
            repair: Some(Repair {
                applied: true,
                edits: vec![Edit { at: 3, del: 1, op: "trailing_comma".into() }],
                lossy: false,
                strategy: "r1".into(),
            }),
        })),
        limits: vec![LimitRecord {
            counted: Some(3),
            left: Some(7),
            reserved: 4,
            rule: "tokens".into(),
            state: LimitState::Counted,
            unit: "tokens".into(),
        }],
        operation: "openai.chat.completions".into(),
        outcome: Outcome { client: ClientEnd::HandedOver, code: Reason::Ok, complete: true },
        policy: PolicyRef { hash: Sha256([5; 32]), rule: Some("default".into()) },
        reask: Some(Reask::Of(CallId::new(1, [3; 10]))),
        request: RequestSide {
            body: captured(10),
            method: "POST".into(),
            route: Some("openai".into()),
            target: [6; 32],
            version: "1.1",
        },
        response: ResponseSide {
            client: captured(20),
            client_status: 200,
            upstream: Some((200, captured(20))),
        },
        shadow: vec![ShadowRecord {
            policy: Sha256([6; 32]),
            reason: Some("TOOL_DENIED".into()),
            rule: Some("no-shell".into()),
            state: ShadowState::Judged,
            verdict: Some(VerdictAction::Block),
        }],
        snapshot: Some(Box::new(SnapshotRecord {
            lag_bytes: Some(7),
            post: Some(SnapshotSide {
                code: Some(Reason::LsnMissing),
                digest: Some(Sha256([7; 32])),
                lsn: None,
            }),
            pre: Some(SnapshotSide {
                code: None,
                digest: Some(Sha256([6; 32])),
                lsn: Some("16/B374D848".into()),
            }),
            source: "shop".into(),
            writes: vec![TableWrites {
                more: true,
                rows: Some(10_000),
                table: "public.orders".into(),
                ..TableWrites::default()
            }],
        })),
        stream: Some(Box::new(StreamRecord {
            comments: 0,
            events: 1,
            first_us: 5,
            last_us: 6,
            terminated: Some(true),
            tree: tree.finish(),
        })),
        tenant: Some("acme".into()),
        threat: Some(std::sync::Arc::new(Threat {
            ids: vec!["owasp_llm:2025/LLM06".into()],
            severity: Some("high".into()),
        })),
        time: Times { total_us: 100, upstream_us: Some(50), ..Times::default() },
        trace: Some(Box::new(TraceContext {
            parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
            state: Some("congo=t61rcWkgMzE".into()),
        })),
        upstream: Some("openai".into()),
        upstream_request: Some("req_1".into()),
        verdict: VerdictRecord { action: VerdictAction::Allow, mode: VerdictMode::Enforce, reason: None },
    }
}

fn line(record: &CallRecord) -> Vec<u8> {
    let iss = instance();
    let capture = CaptureKey::new([7; 32]).run(run());
    let mut out = Vec::new();
    record.write(&mut out, &link(&iss, 1), &capture, Some(Sha256([8; 32]))).unwrap();
    out
}

fn assert_canonical(line: &[u8]) {
    let canonical = crate::canonical::foreign(line).unwrap();
    assert_eq!(String::from_utf8_lossy(line), String::from_utf8_lossy(&canonical));
}

#[test]
fn a_receipt_with_every_member_is_canonical() {
    assert_canonical(&line(&full_record()));
}

#[test]
fn every_event_is_canonical() {
    let iss = instance();
    let counters = Counters { calls: 1, allow: 1, ..Counters::default() };
    let build = Build { digest: Some(Sha256([1; 32])), name: "estoppeld".into(), version: "0.1.0".into() };
    let events = [
        Event::RunOpen(RunOpen {
            build,
            capture: ("00".repeat(8), crate::hash::Commit([2; 32])),
            class: RunClass::Caller,
            config: Sha256([3; 32]),
            durability: Durability::Group,
            name: Some("nightly".into()),
            policy: Sha256([4; 32]),
            previous_seal: Some(Leaf([5; 32])),
            sign: Sign::Each,
        }),
        Event::Intent(Intent {
            call: CallId::new(1, [2; 10]),
            operation: "json".into(),
            policy: Sha256([4; 32]),
        }),
        Event::Interrupted(Interrupted {
            call: CallId::new(1, [2; 10]),
            intent: Some(Leaf([5; 32])),
            reason: Reason::Interrupted,
        }),
        Event::KeyRotate(KeyRotate {
            alg: crate::key::Alg::Ed25519,
            new: KeyId([1; 32]),
            old: KeyId([2; 32]),
            possession: "AA==".into(),
            spki: "AA==".into(),
            use_: crate::key::Use::Receipt,
        }),
        Event::JournalRecover(JournalRecover {
            dropped_bytes: 7,
            dropped_sha256: Some(Sha256([1; 32])),
            last_index: Some(4),
            segment: Some("x".into()),
        }),
        Event::PolicyLoad(PolicyLoad { policy: Some(Sha256([1; 32])), refused: Some(Reason::PolicyInvalid) }),
        Event::Gap(Gap { from: UnixMicros(1), reason: Reason::DiskFull, refused: 3, to: UnixMicros(2) }),
        Event::Hold(Hold {
            approvers: vec![KeyId([1; 32]), KeyId([2; 32])],
            call: CallId::new(1, [2; 10]),
            expires: UnixMicros(9),
            hold: HoldId::new(1, [3; 10]),
            needs: 2,
            of: HoldOf::Call,
            operation: Some("mcp.tools/call".into()),
            payload: tag(),
            policy: Sha256([4; 32]),
            requester: Some("agent".into()),
            rule: Some("big-transfer".into()),
            tool: Some("transfer".into()),
        }),
        Event::Approval(Box::new(Approval {
            alg: crate::key::Alg::Ed25519,
            approver: KeyId([1; 32]),
            signature: "AA==".into(),
            spki: "AA==".into(),
            statement: statement(),
        })),
        Event::Bypass(Bypass {
            at: Some(UnixMicros(3)),
            comment: Some("in the bill".into()),
            count: Some(2),
            reason: Reason::Internal,
            reference: Some("req_1".into()),
            source: BypassSource::ProviderLog,
            upstream: Some("openai".into()),
        }),
        Event::Act(Act {
            act: "kill",
            by: "ops".into(),
            comment: Some("drill".into()),
            on: Some("tool:transfer".into()),
            reason: None,
        }),
        Event::Snapshot(LateSnapshot {
            call: CallId::new(1, [2; 10]),
            code: Some(Reason::LsnMissing),
            digest: Sha256([8; 32]),
            lsn: Some("0/16B6C50".into()),
            source: "shop".into(),
        }),
        Event::RunSeal(RunSeal {
            count: 2,
            counters,
            head: Leaf([6; 32]),
            reason: SealReason::CrashRecovered,
            root: crate::hash::Root([7; 32]),
        }),
    ];
    let mut out = Vec::new();
    for event in events {
        event.write(&mut out, &link(&iss, u64::from(!matches!(event, Event::RunOpen(_))))).unwrap();
        assert_canonical(&out);
    }
}

fn tag() -> Tag {
    format!("hmac-sha256:{}:{}", "0a".repeat(8), "0b".repeat(32)).parse().unwrap()
}

fn statement() -> ApprovalStatement {
    ApprovalStatement {
        by: Some("J\u{f6}rg \"the\" approver".into()),
        comment: Some("a\tb".into()),
        decision: ApprovalDecision::Approve,
        expires: UnixMicros(9),
        hold: HoldId::new(1, [3; 10]),
        iss: instance(),
        nonce: "00".repeat(16),
        payload: tag(),
        policy: Sha256([4; 32]),
        run: run(),
    }
}

#[test]
fn what_an_approver_signs_is_canonical_and_reads_back() {
    let text = serde_json::to_vec(&statement()).unwrap();
    assert_canonical(&text);
    assert_eq!(serde_json::from_slice::<ApprovalStatement>(&text).unwrap(), statement());
}

#[test]
fn tags_read_back_and_other_spellings_do_not() {
    assert_eq!(tag().to_string().parse(), Ok(tag()));
    let text = tag().to_string();
    for wrong in
        [text.to_uppercase(), text.replace("hmac", "HMAC"), text.clone() + "0", text.replacen(':', "", 1)]
    {
        assert!(wrong.parse::<Tag>().is_err(), "{wrong}");
    }
}

#[test]
fn equal_client_and_upstream_bytes_show_equal_tags() {
    let text = String::from_utf8(line(&full_record())).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["response"]["client"]["tag"], value["response"]["upstream"]["tag"]);
    assert_ne!(value["request"]["tag"], value["response"]["client"]["tag"]);
    assert!(value["request"].get("sha256").is_none(), "no plain digest of a private body");
}

#[test]
fn body_mode_none_leaves_sizes_only() {
    let mut record = full_record();
    record.storage.mode = BodyMode::None;
    let value: serde_json::Value = serde_json::from_slice(&line(&record)).unwrap();
    assert_eq!(value["request"]["bytes"], 10);
    for member in ["tag", "commit", "sha256", "target_tag"] {
        assert!(value["request"].get(member).is_none(), "{member}");
    }
}

#[test]
fn the_longest_record_fits_once_it_is_shortened() {
    let mut record = full_record();
    let long: Box<str> = "\u{1f600}".repeat(128).into();
    let list = vec![long.clone(); 32];
    record.facts = Facts {
        error: Some(long.clone()),
        finish: list.clone(),
        model: Some(long.clone()),
        model_served: Some(long.clone()),
        rpc_id: Some(long.clone()),
        tools_called: list.clone(),
        tools_offered: list,
        ..record.facts
    };
    let mut claims = Claims::default();
    for (name, _) in Claims::default().fields() {
        *claims.field_mut(name).unwrap() = Some(long.clone());
    }
    record.claims = Some(Box::new(claims));
    record.trace.as_mut().unwrap().state = Some(format!("a={}", "\\".repeat(510)).into());
    let limit = LimitRecord {
        counted: Some(u64::MAX >> 11),
        left: Some(u64::MAX >> 11),
        reserved: u64::MAX >> 11,
        rule: "r".repeat(64).into(),
        state: LimitState::LocalBudget,
        unit: "tokens".into(),
    };
    record.limits = vec![limit; 32];
    let shadow = ShadowRecord {
        reason: Some("R".repeat(64).into()),
        rule: Some("r".repeat(128).into()),
        ..record.shadow[0].clone()
    };
    record.shadow = vec![shadow; SHADOWS_MAX];
    let side = SnapshotSide {
        code: Some(Reason::ReplicaLag),
        digest: Some(Sha256([6; 32])),
        lsn: Some("FFFFFFFF/FFFFFFFF".into()),
    };
    record.snapshot = Some(Box::new(SnapshotRecord {
        lag_bytes: Some(u64::MAX >> 11),
        post: Some(side.clone()),
        pre: Some(side),
        source: "s".repeat(64).into(),
        writes: vec![
            TableWrites {
                cause: Some("c".repeat(17).into()),
                hint: Some("h".repeat(16).into()),
                more: true,
                rows: Some(10_000),
                table: "t".repeat(127).into(),
            };
            8
        ],
    }));
    let held = record.held.as_mut().unwrap();
    held.approval.as_mut().unwrap().approved = vec![KeyId([9; 32]); 16];
    record.tenant = Some(long.clone().into());
    record.upstream_request = Some("r".repeat(128).into());
    record.identity_details = Some(Box::new(IdentityDetails {
        actors: vec![long.clone(); 4],
        certificate: Some("d".repeat(128).into()),
        issuer: Some("i".repeat(64).into()),
    }));
    let iss = instance();
    let capture = CaptureKey::new([7; 32]).run(run());
    for is_held in [true, false] {
        let mut record = record.clone();
        record.held = record.held.filter(|_| is_held);
        let mut out = Vec::new();
        assert!(record.write(&mut out, &link(&iss, 1), &capture, None).is_err());
        record.shorten();
        record.write(&mut out, &link(&iss, 1), &capture, None).unwrap();
        assert_eq!(record.facts.more, 93);
        assert_eq!(record.trace.as_ref().unwrap().state, None);
        assert!(record.snapshot.as_ref().unwrap().writes.is_empty());
        assert_eq!(record.downgrades.last().unwrap().code, Reason::LineageMissing);
        assert_canonical(&out);
    }
}

proptest! {
    #[test]
    fn any_text_gives_a_canonical_line(text in "\\PC*|[\\x00-\\x7f]*", n in 0u64..(1 << 53)) {
        let mut record = full_record();
        let name: Box<str> = crate::text::name(&text).into();
        record.facts.model = Some(name.clone());
        record.facts.tools_called = vec![name.clone()];
        record.operation = name.to_string().into();
        record.time.total_us = n;
        assert_canonical(&line(&record));
    }

    #[test]
    fn any_count_gives_an_admitted_line(ns in proptest::collection::vec(counts(), 16)) {
        let mut record = full_record();
        let mut n = ns.iter().copied().cycle();
        let mut next = || n.next().unwrap();
        let captured = Captured { bytes: next(), ..record.request.body };
        record.request.body = captured;
        record.response.client = Captured { bytes: next(), ..captured };
        record.response.upstream = Some((200, Captured { bytes: next(), ..captured }));
        for evaluated in [&mut record.evaluated_request, &mut record.evaluated_response] {
            (evaluated.bytes, evaluated.events, evaluated.skipped) = (next(), next(), next());
        }
        record.facts.more = next();
        record.facts.usage = Usage {
            cached_input: Some(next()),
            input: Some(next()),
            output: Some(next()),
            reasoning: Some(next()),
            total: Some(next()),
        };
        record.limits[0].counted = Some(next());
        record.limits[0].left = Some(next());
        record.limits[0].reserved = next();
        let stream = record.stream.as_mut().unwrap();
        (stream.comments, stream.events, stream.first_us, stream.last_us) = (next(), next(), next(), next());
        record.time = Times {
            connect_us: Some(next()),
            first_byte_us: Some(next()),
            hold_us: Some(next()),
            queue_us: Some(next()),
            total_us: next(),
            upstream_us: Some(next()),
        };
        let detection = record.detection.as_mut().unwrap();
        (detection.more, detection.detectors[0].us) = (next(), Some(next()));
        (detection.findings[0].at, detection.findings[0].bytes) = (next(), next());
        let repair = record.judged.as_mut().unwrap().repair.as_mut().unwrap();
        (repair.edits[0].at, repair.edits[0].del) = (next(), next());
        let line = line(&record);
        assert_canonical(&line);
        let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_integers_are_admitted(&read);
        let usage = &read["facts"]["usage"];
        let kept = record.facts.usage.input.map(|n| n.min(9_007_199_254_740_991));
        prop_assert_eq!(usage["input"].as_u64(), kept);
    }
}

/// Of every size, and around the largest that an entry holds.
fn counts() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..10u64, (1u64 << 53) - 2..(1u64 << 53) + 3, Just(u64::MAX)]
}

fn assert_integers_are_admitted(value: &serde_json::Value) {
    match value {
        serde_json::Value::Number(n) => {
            assert!(n.as_u64().is_some_and(|n| n <= 9_007_199_254_740_991), "{n}");
        }
        serde_json::Value::Array(items) => items.iter().for_each(assert_integers_are_admitted),
        serde_json::Value::Object(members) => members.values().for_each(assert_integers_are_admitted),
        _ => {}
    }
}

#[test]
fn any_count_of_an_event_gives_an_admitted_line() {
    let iss = instance();
    let count = u64::MAX;
    let counters = Counters { allow: count, block: count, calls: count, ..Counters::default() };
    let (head, root) = (Leaf([6; 32]), crate::hash::Root([7; 32]));
    for event in [
        Event::Gap(Gap { from: UnixMicros(1), reason: Reason::DiskFull, refused: count, to: UnixMicros(2) }),
        Event::JournalRecover(JournalRecover {
            dropped_bytes: count,
            dropped_sha256: None,
            last_index: Some(count),
            segment: None,
        }),
        Event::RunSeal(RunSeal { count, counters, head, reason: SealReason::Clean, root }),
    ] {
        let mut out = Vec::new();
        event.write(&mut out, &Link { mono_us: count, ..link(&iss, count) }).unwrap();
        assert_canonical(&out);
        assert_integers_are_admitted(&serde_json::from_slice(&out).unwrap());
    }
}
