//! Entries as documents of the Elastic Common Schema 9. What it has no field for is under `estoppel`, the one custom
//! object. `docs/siem.md` lists every field.

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Reason, Sha256};
use estoppel_journal::Entry;
use serde_json::{Value, json};

use crate::document::present;
use crate::finding::{Finding, HIGH, severity};
use crate::ocsf::trace_ids;
use crate::own::{self, is_stored, merge};
use crate::read::Line;

const VERSION: &str = "9.4.0";

/// The document of an entry and its severity; none for kinds that say nothing to operators.
pub(crate) fn entry(entry: &Entry, line: &Line) -> Option<(u8, Value)> {
    match line.kind.as_str() {
        "call" => Some(call(entry, line)),
        "policy.load" => {
            let active = line.state.as_deref() == Some("active");
            Some(changed(
                entry,
                line,
                if active { 2 } else { HIGH },
                active,
                json!({ "policy": line.policy_hash() }),
            ))
        }
        "key.rotate" => {
            let key = json!({ "use": line.use_, "old": line.old, "new": line.new });
            Some(changed(entry, line, 2, true, json!({ "key": key })))
        }
        "hold" | "approval" | "act" => Some(acted(entry, line)),
        "run.open" if line.class.as_deref() == Some("instance") => Some(lifecycle(entry, line, "start")),
        "run.seal" if line.reason.as_deref() == Some("shutdown") => Some(lifecycle(entry, line, "end")),
        _ => None,
    }
}

fn call(entry: &Entry, line: &Line) -> (u8, Value) {
    let decided = match line.verdict.action.as_str() {
        _ if line.is_shadow() => "info",
        "block" | "hold" => "denied",
        "allow" | "repair" => "allowed",
        _ => "info",
    };
    let severity = severity(
        line,
        match line.verdict.action.as_str() {
            "block" => 3,
            "hold" | "repair" => 2,
            _ if !line.went_well() => 2,
            _ => 1,
        },
    );
    let alert = line.verdict.action == "block" && severity >= HIGH;
    let mut document =
        base(entry, line, severity, (if alert { "alert" } else { "event" }, "api", &["access", decided]));
    let ids = trace_ids(entry, line);
    let provider = line.provider();
    let status = line.response.client.status.or(line.response.upstream.as_ref().and_then(|side| side.status));
    let started = line.ts_us().saturating_sub(line.time.total_us);
    if let Some(event) = document.get_mut("event") {
        merge(
            event,
            json!({
                "action": line.operation,
                "code": line.outcome.code,
                "outcome": if line.went_well() { "success" } else { "failure" },
                "reason": line.verdict.reason.as_deref().or_else(|| Reason::parse(&line.outcome.code).map(Reason::text)),
                "start": UnixMicros(started).to_string(),
                "end": line.ts,
                "duration": line.time.total_us.saturating_mul(1_000),
                "risk_score": line.risk,
            }),
        );
    }
    merge(
        &mut document,
        json!({
            "trace": { "id": ids.as_ref().map(|ids| &ids.trace) },
            "span": { "id": ids.as_ref().map(|ids| &ids.span) },
            "user": { "name": line.identity.subject },
            "related": { "user": line.identity.subject.iter().collect::<Vec<_>>(), "hash": [entry.leaf.to_string()] },
            "organization": { "id": line.tenant },
            "service": { "name": line.upstream.as_deref().or(line.request.route.as_deref()) },
            "rule": {
                "name": line.policy_member("rule"),
                "ruleset": line.policy_hash(),
                "version": line.policy_member("version"),
            },
            "threat": threat(line),
            "http": {
                "version": line.request.version,
                "request": { "id": line.call, "method": line.request.method, "body": { "bytes": line.request.bytes } },
                "response": { "status_code": status, "body": { "bytes": line.response.client.bytes } },
            },
            "gen_ai": {
                "operation": { "name": operation(line) },
                "system": provider,
                "request": { "model": provider.and(line.facts.model.as_deref()) },
                "response": { "model": provider.and(line.facts.model_served.as_deref()) },
                "usage": {
                    "input_tokens": provider.and(line.facts.usage.input),
                    "output_tokens": provider.and(line.facts.usage.output),
                },
                "tool": { "name": line.mcp_method().and(line.facts.tools_called.first()) },
            },
            "error": { "code": (!line.went_well()).then_some(&line.outcome.code), "type": line.facts.error },
        }),
    );
    (severity, present(document))
}

/// The name of what a model or a tool was asked for, as OpenTelemetry has it.
pub(crate) fn operation(line: &Line) -> Option<&'static str> {
    match (line.provider(), line.mcp_method()) {
        (Some("google"), _) => Some("generate_content"),
        (Some(_), _) => Some("chat"),
        (_, Some("tools/call")) => Some("execute_tool"),
        _ => None,
    }
}

fn changed(entry: &Entry, line: &Line, severity: u8, well: bool, what: Value) -> (u8, Value) {
    let mut document = base(entry, line, severity, ("event", "configuration", &["change"]));
    if let Some(event) = document.get_mut("event") {
        merge(
            event,
            json!({
                "action": line.kind,
                "outcome": if well { "success" } else { "failure" },
                "code": line.reason,
            }),
        );
    }
    if let Some(own) = document.get_mut("estoppel") {
        merge(own, what);
    }
    (severity, present(document))
}

/// A call that waits for people, what they decide, and what operators do to the instance.
fn acted(entry: &Entry, line: &Line) -> (u8, Value) {
    let (category, what, severity) = match (line.kind.as_str(), line.decision.as_deref()) {
        ("hold", _) => ("api", "info", 2),
        ("approval", Some("approve")) => ("api", "allowed", 2),
        ("approval", _) => ("api", "denied", 2),
        _ => ("configuration", "change", 3),
    };
    let mut document = base(entry, line, severity, ("event", category, &[what]));
    if let Some(event) = document.get_mut("event") {
        let action = line.act.as_deref().unwrap_or(&line.kind);
        merge(event, json!({ "action": action, "outcome": "success", "code": line.reason }));
    }
    let who = line.by.as_deref().or(line.requester.as_deref());
    merge(&mut document, json!({ "user": { "name": who } }));
    (severity, present(document))
}

fn lifecycle(entry: &Entry, line: &Line, what: &str) -> (u8, Value) {
    let mut document = base(entry, line, 1, ("event", "process", &[what]));
    if let Some(event) = document.get_mut("event") {
        merge(event, json!({ "action": line.kind, "outcome": "success" }));
    }
    (1, present(document))
}

/// A finding as an alert.
pub(crate) fn finding(entry: &Entry, line: &Line, finding: &Finding) -> Value {
    let mut document = base(entry, line, finding.severity, ("alert", "intrusion_detection", &["info"]));
    if let Some(event) = document.get_mut("event") {
        merge(
            event,
            json!({
                "id": finding.uid,
                "dataset": "estoppel.finding",
                "action": finding.class,
                "outcome": "unknown",
                "reason": finding.detail,
            }),
        );
    }
    if let Some(own) = document.get_mut("estoppel") {
        merge(
            own,
            json!({ "finding": { "class": finding.class, "title": finding.title, "detail": finding.detail, "receipt": is_stored(line).then(|| entry.leaf.to_string()) } }),
        );
    }
    merge(
        &mut document,
        json!({
            "message": format!("{}: {}", finding.title, finding.detail.as_deref().unwrap_or(finding.class)),
            "rule": {
                "name": finding.detector.as_ref().map_or(finding.class, |(id, _)| id),
                "version": finding.detector.as_ref().and_then(|(_, version)| version.as_ref()),
            },
            "threat": threat(line),
            "gen_ai": { "tool": { "name": line.facts.tools_called.first() } },
        }),
    );
    present(document)
}

/// Techniques of one framework; other ids are under `estoppel.threat_ids`.
fn threat(line: &Line) -> Value {
    let techniques: Vec<&str> = line
        .threat
        .ids
        .iter()
        .filter(|id| id.starts_with("atlas:"))
        .filter_map(|id| Some(id.split_once('/')?.1))
        .collect();
    json!({ "framework": (!techniques.is_empty()).then_some("MITRE ATLAS"), "technique": { "id": techniques } })
}

/// What every document has. `is` is kind, category and types.
fn base(entry: &Entry, line: &Line, severity: u8, is: (&str, &str, &[&str])) -> Value {
    let (kind, category, types) = is;
    let mut document = json!({
        "@timestamp": line.ts,
        "ecs": { "version": VERSION },
        "message": line.summary(),
        "tags": ["estoppel"],
        "event": {
            "kind": kind,
            "category": [category],
            "type": types,
            "severity": severity,
            "id": entry.leaf.to_string(),
            "hash": is_stored(line).then(|| Sha256(entry.leaf.0).hex()),
            "sequence": line.seq,
            "module": "estoppel",
            "dataset": "estoppel.receipt",
            "provider": "estoppeld",
        },
        "observer": {
            "name": line.iss,
            "type": "gateway",
            "vendor": "Estoppel",
            "product": "estoppeld",
            "version": line.build.as_ref().map_or(env!("CARGO_PKG_VERSION"), |build| &build.version),
        },
        "estoppel": {
            "kind": line.kind,
            "run": line.run,
            "call": line.call,
            "kid": line.kid,
            "prev": line.prev,
            "signature": entry.signature.map(|signature| {
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signature)
            }),
            "route": line.request.route,
            "dialect": line.dialect,
            "tools_called": line.facts.tools_called,
            "policy_state": line.state,
            "reason": line.reason,
        },
    });
    if let Some(own) = document.get_mut("estoppel") {
        merge(own, own::members(entry, line));
    }
    document
}
