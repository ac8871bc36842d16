//! Entries and findings as log records of OpenTelemetry: whatever OCSF and ECS tell.

use estoppel_journal::Entry;
use serde_json::{Map, Value, json};

use super::{attributes, nanos, span_attributes};
use crate::document::present;
use crate::ecs;
use crate::finding::Finding;
use crate::ocsf::trace_ids;
use crate::read::Line;

/// The record of an entry and its severity; none for kinds that say nothing to operators.
pub(crate) fn entry(entry: &Entry, line: &Line) -> Option<(u8, Value)> {
    let (severity, _) = ecs::entry(entry, line)?;
    let mut members = of_entry(entry, line);
    members.insert("log.record.uid".into(), entry.leaf.to_string().into());
    Some((severity, record(entry, line, severity, (&line.kind, line.summary()), members)))
}

/// The record of a finding.
pub(crate) fn finding(entry: &Entry, line: &Line, finding: &Finding) -> Value {
    let mut members = of_entry(entry, line);
    let own = json!({ "class": finding.class, "title": finding.title, "detail": finding.detail });
    flatten("estoppel.finding", own, &mut members);
    if let Some((id, version)) = &finding.detector {
        flatten("estoppel.detector", json!({ "id": id, "version": version }), &mut members);
    }
    members.insert("log.record.uid".into(), finding.uid.as_str().into());
    let text = match &finding.detail {
        Some(detail) => format!("{}: {detail}", finding.title),
        None => finding.title.to_owned(),
    };
    record(entry, line, finding.severity, (&format!("finding.{}", finding.class), text), members)
}

fn of_entry(entry: &Entry, line: &Line) -> Map<String, Value> {
    let mut members = match line.kind.as_str() {
        "call" => span_attributes(entry, line),
        _ => Map::new(),
    };
    let more = json!({
        "kind": line.kind,
        "run": line.run,
        "call": line.call,
        "receipt": crate::own::is_stored(line).then(|| entry.leaf.to_string()),
        "state": line.state,
        "reason": line.reason.as_ref().or(line.verdict.reason.as_ref()),
        "policy": { "hash": line.policy_hash() },
        "key": { "use": line.use_, "old": line.old, "new": line.new },
        "user": line.identity.subject.as_ref().or(line.by.as_ref()).or(line.requester.as_ref()),
    });
    flatten("estoppel", more, &mut members);
    if line.kind != "call" {
        flatten("estoppel", line.particulars(), &mut members);
    }
    members
}

/// `event` is its name and its text.
fn record(
    entry: &Entry,
    line: &Line,
    severity: u8,
    event: (&str, String),
    members: Map<String, Value>,
) -> Value {
    let (name, text) = event;
    let ids = trace_ids(entry, line).filter(|_| line.kind == "call");
    let (number, word) = severity_of(severity);
    present(json!({
        "timeUnixNano": nanos(line.ts_us()),
        "observedTimeUnixNano": nanos(line.ts_us()),
        "severityNumber": number,
        "severityText": word,
        "eventName": format!("estoppel.{name}"),
        "body": { "stringValue": text },
        "attributes": attributes(members),
        "traceId": ids.as_ref().map(|ids| &ids.trace),
        "spanId": ids.as_ref().map(|ids| &ids.span),
    }))
}

/// The first number of each range of the log data model, by OCSF's severities.
fn severity_of(severity: u8) -> (u8, &'static str) {
    match severity {
        0 | 1 => (9, "INFO"),
        2 => (10, "INFO2"),
        3 => (13, "WARN"),
        4 => (17, "ERROR"),
        _ => (21, "FATAL"),
    }
}

/// Members of objects under names with dots.
fn flatten(name: &str, value: Value, into: &mut Map<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (member, value) in members {
                flatten(&format!("{name}.{member}"), value, into);
            }
        }
        value => {
            into.insert(name.to_owned(), value);
        }
    }
}
