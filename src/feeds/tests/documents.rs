//! What entries are told as. `UPDATE_GOLDEN=1` rewrites the goldens, which the published schemas judge in
//! `test/feeds`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;

use estoppel_evidence::hash::Leaf;
use estoppel_feeds::{DOCUMENT_BYTES_MAX, Document, Format, TEXT_CHARS_MAX, documents};
use estoppel_journal::{Entry, Position};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn entry(index: u64, line: &str) -> Entry {
    let line = line.as_bytes().to_vec();
    Entry { index, leaf: Leaf::of(&line), line, signature: Some([7; 64]), after: Position::default() }
}

/// The fixtures, by what they are.
fn entries() -> Vec<Entry> {
    let text = std::fs::read_to_string(fixture("entries.ndjson")).unwrap();
    text.lines().zip(0..).map(|(line, index)| entry(index, line)).collect()
}

fn told(format: Format) -> Vec<Document> {
    entries().iter().flat_map(|entry| documents(format, entry)).collect()
}

fn check_golden(format: Format, name: &str) {
    let lines: Vec<String> =
        told(format).into_iter().map(|document| String::from_utf8(document.json).unwrap() + "\n").collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(fixture(name), lines.concat()).unwrap();
    }
    let golden = std::fs::read_to_string(fixture(name)).unwrap();
    assert_eq!(lines.concat(), golden, "UPDATE_GOLDEN=1 rewrites {name}");
}

#[test]
fn ocsf_events_are_as_they_were() {
    check_golden(Format::Ocsf, "ocsf.ndjson");
}

#[test]
fn ecs_documents_are_as_they_were() {
    check_golden(Format::Ecs, "ecs.ndjson");
}

#[test]
fn spans_and_measurements_are_as_they_were() {
    check_golden(Format::OtlpTraces, "otlp_traces.ndjson");
    check_golden(Format::OtlpMetrics, "otlp_metrics.ndjson");
    check_golden(Format::OtlpLogs, "otlp_logs.ndjson");
}

#[test]
fn a_span_is_joined_to_the_trace_that_the_receipt_names() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (traceparent, parent) in [
        (format!("00-{trace}-00f067aa0ba902b7-01"), Some("00f067aa0ba902b7")),
        (format!("00-{trace}-0000000000000000-01"), None),
        (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
        ("00-4BF92F-00f0-01".into(), None),
    ] {
        let line = json!({ "kind": "call", "call": "01936a2b-0000-7000-8000-000000000001",
            "ts": "2026-11-21T04:00:00.000000Z", "ext": { "traceparent": traceparent, "tracestate": "congo=t61" } });
        let told = documents(Format::OtlpTraces, &entry(0, &line.to_string()));
        let span: Value = serde_json::from_slice(&told[0].json).unwrap();
        assert_eq!(span.get("parentSpanId").and_then(Value::as_str), parent);
        assert_eq!(span["traceId"] == trace, parent.is_some(), "{traceparent}");
        assert_eq!(span.get("traceState").is_some(), parent.is_some(), "a state belongs to its parent");
    }
}

#[test]
fn open_telemetry_is_told_of_calls_and_of_nothing_else() {
    for format in [Format::OtlpTraces, Format::OtlpMetrics] {
        for entry in entries() {
            let call = String::from_utf8_lossy(&entry.line).contains(r#""kind":"call""#);
            assert!(call || documents(format, &entry).is_empty());
        }
        assert_eq!(documents(format, &entry(0, "{")), []);
    }
}

#[test]
fn only_what_a_detector_found_is_a_finding() {
    for (outcome, findings) in [
        ("found", 1),
        ("block", 1),
        ("anything_new", 1),
        ("clear", 0),
        ("unused", 0),
        ("tapped", 0),
        ("skipped", 0),
        ("timeout", 0),
        ("error", 0),
    ] {
        let line = json!({ "kind": "call", "ts": "2026-11-21T04:00:00.000000Z",
            "detectors": [{ "id": "secrets", "outcome": outcome }] });
        for (format, calls) in [(Format::Ocsf, 1), (Format::Ecs, 1), (Format::Notice, 0)] {
            assert_eq!(documents(format, &entry(0, &line.to_string())).len(), calls + findings, "{outcome}");
        }
    }
}

#[test]
fn each_document_has_a_key_of_its_own_that_names_its_entry() {
    for (format, key) in
        [(Format::Ocsf, "/metadata/uid"), (Format::Ecs, "/event/id"), (Format::Notice, "/data/uid")]
    {
        let mut keys = std::collections::BTreeSet::new();
        for entry in entries() {
            for document in documents(format, &entry) {
                let value: Value = serde_json::from_slice(&document.json).unwrap();
                assert_eq!(value.pointer(key), Some(&json!(document.uid)));
                assert!(document.uid.starts_with(&entry.leaf.to_string()));
                assert!(keys.insert(document.uid));
            }
        }
    }
}

#[test]
fn what_a_caller_writes_cannot_end_a_line_or_add_a_member() {
    for format in [Format::Ocsf, Format::Ecs, Format::Notice] {
        for document in told(format) {
            let text = std::str::from_utf8(&document.json).unwrap();
            assert!(
                !text.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}'))
            );
            let value: Value = serde_json::from_slice(&document.json).unwrap();
            assert!(value.get("fake").is_none() && value.get("admin").is_none());
        }
    }
}

#[test]
fn texts_and_documents_are_bounded() {
    for piece in ["\u{1F600}", "\u{1}", "\u{85}", "\"", "x"] {
        let long = piece.repeat(2_000);
        let tool = piece.repeat(128 / piece.len());
        let line = json!({
            "kind": "call", "iss": "a/b/1", "ts": "2026-11-21T04:00:00.000000Z", "operation": long, "upstream": tool,
            "identity": { "kind": "mtls", "subject": tool }, "claims": { "agent": tool }, "tenant": tool,
            "facts": { "tools_called": vec![&tool; 32] }, "threat": { "ids": [&tool, &tool] },
        });
        for format in [Format::Ocsf, Format::Ecs, Format::Notice] {
            for document in documents(format, &entry(0, &line.to_string())) {
                assert!(document.json.len() <= DOCUMENT_BYTES_MAX, "{}", document.json.len());
                check_texts(&serde_json::from_slice(&document.json).unwrap());
            }
        }
    }
}

fn check_texts(value: &Value) {
    match value {
        Value::String(text) => assert!(text.chars().count() <= TEXT_CHARS_MAX),
        Value::Array(values) => values.iter().for_each(check_texts),
        Value::Object(members) => members.values().for_each(check_texts),
        _ => {}
    }
}

#[test]
fn an_entry_that_cannot_be_read_is_told_and_not_dropped() {
    for line in ["", "{", "[]", r#"{"kind":7}"#, r#"{"kind":"hologram"}"#] {
        for format in [Format::Ocsf, Format::Ecs, Format::Notice] {
            let told = documents(format, &entry(5, line));
            assert_eq!(told.len(), 1, "{line}");
            assert!(told[0].uid.ends_with("#entry_unread"));
        }
    }
}

#[test]
fn notices_are_as_they_were() {
    check_golden(Format::Notice, "notice.ndjson");
}
