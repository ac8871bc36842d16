//! Entries as events of OCSF 1.8: API Activity 6003 where a model or a tool is called, HTTP Activity 4002 for plain traffic,
//! Entity Management 3004 for policies and keys, Application Lifecycle 6002 for starts and stops, Detection Finding 2004.
//!
//! OCSF 1.8 has no place for attestations; the object that 1.9 will have (`record_integrity`) is under `unmapped`.
//! `docs/siem.md` lists every field.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use estoppel_evidence::Reason;
use estoppel_journal::Entry;
use serde_json::{Value, json};

use crate::document::present;
use crate::finding::{CRITICAL, Finding, HIGH, severity};
use crate::own::{self, is_stored, merge};
use crate::read::Line;

const VERSION: &str = "1.8.0";

/// The event of an entry and its severity; none for kinds that say nothing to operators.
pub(crate) fn entry(entry: &Entry, line: &Line) -> Option<(u8, Value)> {
    match line.kind.as_str() {
        "call" if is_plain(line) => Some(http_activity(entry, line)),
        "call" => Some(api_activity(entry, line)),
        "policy.load" => Some(policy_loaded(entry, line)),
        "key.rotate" => Some(key_rotated(entry, line)),
        "hold" | "approval" | "act" => Some(acted(entry, line)),
        "run.open" if line.class.as_deref() == Some("instance") => Some(lifecycle(entry, line, 3, "Start")),
        "run.seal" if line.reason.as_deref() == Some("shutdown") => Some(lifecycle(entry, line, 4, "Stop")),
        _ => None,
    }
}

/// Nothing but HTTP is known of the call.
fn is_plain(line: &Line) -> bool {
    matches!(line.dialect.as_deref(), None | Some("json" | "bytes"))
}

fn api_activity(entry: &Entry, line: &Line) -> (u8, Value) {
    let (activity, name) = match (line.mcp_method(), line.request.method.as_str()) {
        (Some(method), _)
            if method.ends_with("/list") || method.ends_with("/get") || method.ends_with("/read") =>
        {
            (2, "Read")
        }
        (None, "GET" | "HEAD") => (2, "Read"),
        (None, "DELETE") => (4, "Delete"),
        _ => (99, "Invoke"),
    };
    let model = line.provider().and_then(|provider| {
        let model = line.model()?;
        Some(json!({ "name": model, "ai_provider": provider }))
    });
    let speaks = model.is_some();
    let tokens = &line.facts.usage;
    let counted = tokens.input.or(tokens.output).or(tokens.total).is_some();
    let context = (speaks && counted).then(|| {
        json!({
            "service": { "name": line.upstream.as_deref().unwrap_or("none") },
            "prompt_tokens": tokens.input,
            "completion_tokens": tokens.output,
            "total_tokens": tokens.total,
        })
    });
    let profiles: &[&str] =
        if speaks { &["security_control", "ai_operation", "trace"] } else { &["security_control", "trace"] };
    let severity = call_severity(line);
    let mut event = call(entry, line, 6003, (activity, name), profiles, severity);
    merge(
        &mut event,
        json!({
            "class_name": "API Activity",
            "category_uid": 6,
            "category_name": "Application Activity",
            "api": {
                "operation": line.operation.as_deref().unwrap_or("unknown"),
                "service": { "name": line.upstream.as_deref().or(line.request.route.as_deref()).unwrap_or("none") },
                "group": line.request.route.as_deref().map(|route| json!({ "name": route })),
            },
            "actor": actor(line),
            "resources": line.facts.tools_called.iter().map(|tool| json!({ "name": tool, "type": "tool" })).collect::<Vec<_>>(),
            "ai_model": model,
            "message_context": context,
        }),
    );
    (severity, present(event))
}

fn http_activity(entry: &Entry, line: &Line) -> (u8, Value) {
    let (activity, name) = match line.request.method.as_str() {
        "CONNECT" => (1, "Connect"),
        "DELETE" => (2, "Delete"),
        "GET" => (3, "Get"),
        "HEAD" => (4, "Head"),
        "OPTIONS" => (5, "Options"),
        "POST" => (6, "Post"),
        "PUT" => (7, "Put"),
        "TRACE" => (8, "Trace"),
        "PATCH" => (9, "Patch"),
        other => (99, other),
    };
    let severity = call_severity(line);
    let mut event = call(entry, line, 4002, (activity, name), &["security_control", "trace"], severity);
    merge(
        &mut event,
        json!({ "class_name": "HTTP Activity", "category_uid": 4, "category_name": "Network Activity" }),
    );
    (severity, present(event))
}

/// What both classes of calls have.
fn call(
    entry: &Entry,
    line: &Line,
    class: u32,
    (activity, name): (u32, &str),
    profiles: &[&str],
    severity: u8,
) -> Value {
    let (action_id, action, disposition_id, disposition) = decided(line);
    let ended = line.ts_us() / 1_000;
    let started = line.ts_us().saturating_sub(line.time.total_us) / 1_000;
    let status = line.response.client.status.or(line.response.upstream.as_ref().and_then(|side| side.status));
    let mut event = base(entry, line, class, (activity, name), profiles, severity);
    let well = line.went_well();
    merge(
        &mut event,
        json!({
            "start_time": started,
            "end_time": ended,
            "duration": line.time.total_us / 1_000,
            "action_id": action_id,
            "action": action,
            "disposition_id": disposition_id,
            "disposition": disposition,
            "is_alert": (line.verdict.action == "block" && severity >= HIGH).then_some(true),
            "status_id": if well { 1 } else { 2 },
            "status": if well { "Success" } else { "Failure" },
            "status_code": line.outcome.code,
            "status_detail": Reason::parse(&line.outcome.code).map(Reason::text),
            "risk_score": line.risk,
            "policy": line.policy_hash().map(|hash| json!({
                "uid": hash,
                "version": line.policy_member("version"),
                "is_applied": !line.is_shadow(),
            })),
            "firewall_rule": line.policy_member("rule").map(|rule| json!({ "name": rule })),
            "attacks": attacks(line),
            "src_endpoint": source(line),
            "dst_endpoint": line.upstream.as_deref().map(|upstream| json!({ "name": upstream })),
            "http_request": {
                "uid": line.call,
                "http_method": known_method(line),
                "version": line.request.version,
                "body_length": line.request.bytes,
            },
            "http_response": status.map(|code| json!({
                "code": code,
                "body_length": line.response.client.bytes,
                "latency": line.time.upstream_us.map(|us| us / 1_000),
            })),
            "trace": trace(entry, line, started, ended),
        }),
    );
    event
}

/// The method, if it is one that OCSF has.
fn known_method(line: &Line) -> Option<&str> {
    let methods = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
    methods.into_iter().find(|method| *method == line.request.method)
}

/// Action and disposition, by number and name.
fn decided(line: &Line) -> (u8, &'static str, u8, &'static str) {
    if line.is_shadow() && line.verdict.action != "allow" {
        return (3, "Observed", 17, "Logged");
    }
    match (line.verdict.action.as_str(), line.outcome.code.as_str()) {
        (
            "block",
            "API_KEY_INVALID" | "CONTEXT_UNSIGNED" | "IDENTITY_REQUIRED" | "IDENTITY_REVOKED"
            | "SCOPE_MISSING" | "TOKEN_AUDIENCE" | "TOKEN_EXPIRED" | "TOKEN_INVALID",
        ) => (2, "Denied", 26, "Unauthorized"),
        ("block", code) if Reason::parse(code).is_some_and(is_callers) => (2, "Denied", 25, "Rejected"),
        ("block", _) => (2, "Denied", 2, "Blocked"),
        ("repair", _) => (4, "Modified", 11, "Corrected"),
        ("hold", _) => (2, "Denied", 14, "Delayed"),
        ("allow", _) => (1, "Allowed", 1, "Allowed"),
        _ => (0, "Unknown", 0, "Unknown"),
    }
}

/// Whether the request itself was refused, before any rule was asked.
fn is_callers(reason: Reason) -> bool {
    reason.fault() == estoppel_evidence::Fault::Client
}

fn call_severity(line: &Line) -> u8 {
    let otherwise = match line.verdict.action.as_str() {
        "block" => 3,
        "hold" | "repair" => 2,
        _ if !line.went_well() => 2,
        _ => 1,
    };
    severity(line, otherwise)
}

/// What the connection proved of the caller. A caller that proved nothing is `unidentified`.
fn actor(line: &Line) -> Value {
    match &line.identity.subject {
        Some(subject) => json!({ "user": { "name": subject, "type": line.identity.kind } }),
        None => json!({ "app_name": "unidentified" }),
    }
}

/// Receipts hold no addresses of callers: what is proven of one is its name.
fn source(line: &Line) -> Value {
    json!({ "name": line.identity.subject.as_deref().unwrap_or("unidentified") })
}

/// ATLAS and ATT&CK techniques; other ids have no place in OCSF.
fn attacks(line: &Line) -> Vec<Value> {
    let technique = |id: &String| {
        let (framework, technique) = id.split_once('/')?;
        let (name, edition) = framework.split_once(':')?;
        let known = matches!(name, "atlas" | "attack");
        known.then(|| json!({ "technique": { "uid": technique }, "version": edition }))
    };
    line.threat.ids.iter().filter_map(technique).collect()
}

/// The ids under which OpenTelemetry knows the call, too: of the caller's `traceparent` if it was recorded, otherwise of the
/// call and the receipt themselves.
fn trace(entry: &Entry, line: &Line, started: u64, ended: u64) -> Option<Value> {
    let ids = trace_ids(entry, line)?;
    Some(json!({
        "uid": ids.trace,
        "span": {
            "uid": ids.span,
            "parent_uid": ids.parent,
            "operation": line.operation,
            "start_time": started,
            "end_time": ended,
        },
    }))
}

/// The ids of a call in a trace.
pub(crate) struct TraceIds {
    pub trace: String,
    pub span: String,
    pub parent: Option<String>,
}

/// See [`trace`].
pub(crate) fn trace_ids(entry: &Entry, line: &Line) -> Option<TraceIds> {
    let span: String = entry.leaf.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    if let Some((trace, parent)) = line.ext.get("traceparent").and_then(Value::as_str).and_then(traceparent) {
        return Some(TraceIds { trace, span, parent: Some(parent) });
    }
    let trace: String = line.call.as_deref()?.chars().filter(|c| *c != '-').collect();
    is_id(&trace, 32).then_some(())?;
    Some(TraceIds { trace, span, parent: None })
}

/// Trace and parent of a W3C `traceparent`.
fn traceparent(text: &str) -> Option<(String, String)> {
    let mut parts = text.split('-');
    let (_, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);
    (is_id(trace, 32) && is_id(parent, 16)).then(|| (trace.to_owned(), parent.to_owned()))
}

/// Lower-case hexadecimal digits that are not all 0.
fn is_id(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && text.bytes().any(|b| b != b'0')
}

fn policy_loaded(entry: &Entry, line: &Line) -> (u8, Value) {
    let active = line.state.as_deref() == Some("active");
    let severity = if active { 2 } else { HIGH };
    let mut event =
        base(entry, line, 3004, if active { (10, "Activate") } else { (99, "Refuse") }, &[], severity);
    merge(
        &mut event,
        json!({
            "class_name": "Entity Management",
            "category_uid": 3,
            "category_name": "Identity & Access Management",
            "entity": { "name": "policy", "type_id": 5, "type": "Policy", "uid": line.policy_hash() },
            "status_id": if active { 1 } else { 2 },
            "status": if active { "Success" } else { "Failure" },
            "status_code": line.reason,
        }),
    );
    (severity, present(event))
}

fn key_rotated(entry: &Entry, line: &Line) -> (u8, Value) {
    let mut event = base(entry, line, 3004, (3, "Update"), &[], 2);
    merge(
        &mut event,
        json!({
            "class_name": "Entity Management",
            "category_uid": 3,
            "category_name": "Identity & Access Management",
            "entity": { "name": line.use_.as_deref().unwrap_or("key"), "type_id": 99, "type": "Signing key", "uid": line.old },
            "entity_result": { "name": line.use_.as_deref().unwrap_or("key"), "type_id": 99, "type": "Signing key", "uid": line.new },
            "status_id": 1,
            "status": "Success",
        }),
    );
    (2, present(event))
}

/// A call that waits for people, what they decide, and what operators do to the instance.
fn acted(entry: &Entry, line: &Line) -> (u8, Value) {
    let (activity, name, kind, severity) = match (line.kind.as_str(), line.decision.as_deref()) {
        ("hold", _) => (12, "Suspend", "Held call", 2),
        ("approval", Some("approve")) => (13, "Resume", "Held call", 2),
        ("approval", _) => (99, "Deny", "Held call", 2),
        _ => (99, line.act.as_deref().unwrap_or("act"), "Instance", 3),
    };
    let who = line.by.as_deref().or(line.requester.as_deref());
    let uid = line.hold.as_ref().and_then(Value::as_str).or(line.on.as_deref());
    let mut event = base(entry, line, 3004, (activity, name), &[], severity);
    merge(
        &mut event,
        json!({
            "class_name": "Entity Management",
            "category_uid": 3,
            "category_name": "Identity & Access Management",
            "entity": { "name": line.kind, "type_id": 99, "type": kind, "uid": uid },
            "actor": { "user": { "name": who, "uid": line.approver } },
            "status_id": 1,
            "status": "Success",
        }),
    );
    (severity, present(event))
}

fn lifecycle(entry: &Entry, line: &Line, activity: u32, name: &str) -> (u8, Value) {
    let mut event = base(entry, line, 6002, (activity, name), &[], 1);
    merge(
        &mut event,
        json!({
            "class_name": "Application Lifecycle",
            "category_uid": 6,
            "category_name": "Application Activity",
            "app": product(line),
        }),
    );
    (1, present(event))
}

/// A finding of class 2004.
pub(crate) fn finding(entry: &Entry, line: &Line, finding: &Finding) -> Value {
    let profiles: &[&str] = if line.kind == "call" { &["security_control"] } else { &[] };
    let mut event = base(entry, line, 2004, (1, "Create"), profiles, finding.severity);
    let decided = (line.kind == "call").then(|| decided(line));
    let analytic = finding
        .detector
        .as_ref()
        .map(|(id, version)| json!({ "name": id, "type_id": 1, "type": "Rule", "version": version }));
    merge(
        &mut event,
        json!({
            "class_name": "Detection Finding",
            "category_uid": 2,
            "category_name": "Findings",
            "is_alert": finding.severity >= HIGH,
            "finding_info": {
                "uid": finding.uid,
                "title": finding.title,
                "desc": finding.detail,
                "types": [finding.class],
                "analytic": analytic,
                "attacks": attacks(line),
                "created_time": line.ts_us() / 1_000,
                "product": product(line),
            },
            "message": format!("{}: {}", finding.title, finding.detail.as_deref().unwrap_or(finding.class)),
            "status_id": 1,
            "status": "New",
            "action_id": decided.map(|decided| decided.0),
            "action": decided.map(|decided| decided.1),
            "disposition_id": decided.map(|decided| decided.2),
            "disposition": decided.map(|decided| decided.3),
            "resources": line.facts.tools_called.iter().map(|tool| json!({ "name": tool, "type": "tool" })).collect::<Vec<_>>(),
        }),
    );
    if let Some(metadata) = event.get_mut("metadata") {
        merge(
            metadata,
            json!({ "uid": finding.uid, "original_event_uid": is_stored(line).then(|| entry.leaf.to_string()) }),
        );
    }
    present(event)
}

/// What every event has.
fn base(
    entry: &Entry,
    line: &Line,
    class: u32,
    (activity, name): (u32, &str),
    profiles: &[&str],
    severity: u8,
) -> Value {
    let ms = line.ts_us() / 1_000;
    json!({
        "class_uid": class,
        "activity_id": activity,
        "activity_name": name,
        "type_uid": class * 100 + activity,
        "severity_id": severity,
        "severity": severity_name(severity),
        "time": ms,
        "message": line.summary(),
        "metadata": {
            "version": VERSION,
            "product": product(line),
            "profiles": profiles,
            "uid": entry.leaf.to_string(),
            "correlation_uid": line.run,
            "original_event_uid": line.call,
            "sequence": line.seq,
            "event_code": line.kind,
            "log_name": line.iss,
            "log_provider": "estoppel",
            "log_version": "pef/v0",
            "logged_time": ms,
            "tenant_uid": line.tenant,
        },
        "unmapped": unmapped(entry, line),
    })
}

fn product(line: &Line) -> Value {
    let build = line.build.as_ref();
    json!({
        "name": build.map_or("estoppeld", |build| &build.name),
        "vendor_name": "Estoppel",
        "version": build.map_or(env!("CARGO_PKG_VERSION"), |build| &build.version),
        "uid": line.iss,
    })
}

/// What OCSF 1.8 has no field for.
fn unmapped(entry: &Entry, line: &Line) -> Value {
    let call = line.kind == "call";
    let mut members = own::members(entry, line);
    let more = json!({
        "attestation_list": is_stored(line).then(|| [attestation(entry, line)]),
        "http_method": (call && known_method(line).is_none()).then_some(&line.request.method),
        "attempt": call.then_some(line.attempt),
        "finish": line.facts.finish,
        "upstream_error": line.facts.error,
        "stream": line.facts.stream,
    });
    merge(&mut members, more);
    members
}

/// An element of `record_integrity.attestation_list` of OCSF 1.9.
fn attestation(entry: &Entry, line: &Line) -> Value {
    let fingerprint = |leaf: &str| json!({ "algorithm_id": 3, "algorithm": "SHA-256", "serialization_id": 2, "value": leaf.trim_start_matches("leaf:") });
    present(json!({
        "uid": entry.leaf.to_string(),
        "authority_uid": line.kid,
        "chain_uid": line.run,
        "fingerprint": fingerprint(&entry.leaf.to_string()),
        "prev_event": line.prev.as_deref().map(|prev| json!({ "uid": prev, "fingerprint": fingerprint(prev) })),
        "signatures": entry.signature.map(|signature| json!([{
            "algorithm_id": 99, "serialization_id": 5, "value": STANDARD.encode(signature),
        }])),
    }))
}

fn severity_name(severity: u8) -> &'static str {
    match severity {
        1 => "Informational",
        2 => "Low",
        3 => "Medium",
        HIGH => "High",
        CRITICAL => "Critical",
        _ => "Unknown",
    }
}
