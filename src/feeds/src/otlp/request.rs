//! Requests to collectors of OpenTelemetry, in both encodings of OTLP, and what their answers say.

use prost::Message as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::proto::{Answer, LogsRequest, MetricsRequest, TraceRequest};
use crate::document::{Document, Format};
use crate::otlp;
use crate::settings::Encoding;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

pub(crate) fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Protobuf => PROTOBUF,
        Encoding::Json => JSON,
    }
}

/// The body of a request.
///
/// # Errors
/// When the documents are not of OTLP: a fault in this program.
pub(crate) fn body(
    format: Format,
    encoding: Encoding,
    documents: &[Document],
) -> Result<Vec<u8>, serde_json::Error> {
    let request = request(format, documents)?;
    match (encoding, format) {
        (Encoding::Json, _) => Ok(request.to_string().into_bytes()),
        (Encoding::Protobuf, Format::OtlpMetrics) => {
            Ok(MetricsRequest::deserialize(request)?.encode_to_vec())
        }
        (Encoding::Protobuf, Format::OtlpLogs) => Ok(LogsRequest::deserialize(request)?.encode_to_vec()),
        (Encoding::Protobuf, _) => Ok(TraceRequest::deserialize(request)?.encode_to_vec()),
    }
}

/// All documents of one feed are of one instance.
fn request(format: Format, documents: &[Document]) -> Result<Value, serde_json::Error> {
    let values: Vec<Value> =
        documents.iter().map(|document| serde_json::from_slice(&document.json)).collect::<Result<_, _>>()?;
    let resource = otlp::resource(documents.first().map_or("", |document| &document.instance));
    let scope = otlp::scope();
    Ok(match format {
        Format::OtlpMetrics => json!({ "resourceMetrics": [{
            "resource": resource, "scopeMetrics": [{ "scope": scope, "metrics": otlp::histograms(&values) }],
        }] }),
        Format::OtlpLogs => json!({ "resourceLogs": [{
            "resource": resource, "scopeLogs": [{ "scope": scope, "logRecords": values }],
        }] }),
        _ => json!({ "resourceSpans": [{
            "resource": resource, "scopeSpans": [{ "scope": scope, "spans": values }],
        }] }),
    })
}

/// How many of what was sent the collector rejects for good; it does not say which.
pub(crate) fn rejected(content_type: Option<&str>, answer: &[u8]) -> u64 {
    if content_type.is_some_and(|text| text.trim_start().to_ascii_lowercase().starts_with(JSON)) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let partial = &answer["partialSuccess"];
        let number = |name: &str| match &partial[name] {
            Value::String(text) => text.parse().unwrap_or(0),
            other => other.as_u64().unwrap_or(0),
        };
        return ["rejectedSpans", "rejectedDataPoints", "rejectedLogRecords"].into_iter().map(number).sum();
    }
    let partial = Answer::decode(answer).ok().and_then(|answer| answer.partial_success);
    partial.map_or(0, |partial| u64::try_from(partial.rejected).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> Vec<Document> {
        let path = format!("{}/fixtures/{name}.ndjson", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let one = |line: &str| Document {
            uid: String::new(),
            instance: "gw/main/1".into(),
            time_us: 0,
            severity: 1,
            json: line.into(),
        };
        text.lines().map(one).collect()
    }

    /// Unknown members are refused, so that a document that is encoded lost nothing.
    #[test]
    fn every_document_has_a_binary_form() {
        for format in [Format::OtlpTraces, Format::OtlpMetrics, Format::OtlpLogs] {
            let documents = golden(format.name());
            assert!(documents.len() > 5);
            let bytes = body(format, Encoding::Protobuf, &documents).unwrap();
            let told = match format {
                Format::OtlpTraces => {
                    TraceRequest::decode(&*bytes).unwrap().resource_spans[0].scope_spans[0].spans.len()
                }
                Format::OtlpLogs => {
                    LogsRequest::decode(&*bytes).unwrap().resource_logs[0].scope_logs[0].log_records.len()
                }
                _ => {
                    let request = MetricsRequest::decode(&*bytes).unwrap();
                    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
                    let points =
                        metrics.iter().flat_map(|metric| &metric.histogram.as_ref().unwrap().data_points);
                    usize::try_from(points.map(|point| point.count).sum::<u64>()).unwrap()
                }
            };
            assert_eq!(told, documents.len(), "{format:?}");
        }
    }

    /// A feed would wait for ever at a document that cannot be encoded, so no line of a journal may make one.
    #[test]
    fn whatever_a_line_says_has_a_binary_form() {
        let call = json!("01936a2b-0000-7000-8000-000000000001");
        for line in [
            json!({ "kind": "call", "call": "not an id", "facts": { "usage": { "input": u64::MAX } } }),
            json!({ "kind": "call", "call": "00000000-0000-0000-0000-000000000000" }),
            json!({ "kind": "call", "call": call, "dialect": "gemini", "time": { "total_us": u64::MAX },
                "request": { "bytes": u64::MAX }, "facts": { "usage": { "input": u64::MAX, "output": u64::MAX } } }),
            json!({ "kind": "call", "call": call, "ts": "9999-12-31T23:59:59.999999Z",
                "ext": { "traceparent": "00-ÿÿ-0-0", "tracestate": "é".repeat(900) } }),
            json!({ "kind": "hold", "hold": [1, { "a": [null] }, "x", 1.5], "needs": u64::MAX }),
            json!({ "kind": "approval", "hold": { "a": { "b": -1.5e300 } } }),
            json!({ "kind": "bypass", "count": u64::MAX, "ref": "\u{0}\u{202e}" }),
            json!({ "kind": "gap", "refused": u64::MAX }),
            json!({ "kind": "hologram" }),
            json!([]),
        ] {
            let line = line.to_string().into_bytes();
            let after = estoppel_journal::Position::default();
            let leaf = estoppel_evidence::hash::Leaf::of(&line);
            let entry = estoppel_journal::Entry { index: 0, leaf, line, signature: None, after };
            for format in [Format::OtlpTraces, Format::OtlpMetrics, Format::OtlpLogs] {
                let documents = crate::document::documents(format, &entry);
                let encoded = body(format, Encoding::Protobuf, &documents);
                assert!(encoded.is_ok(), "{format:?} {encoded:?} {}", String::from_utf8_lossy(&entry.line));
            }
        }
    }

    #[test]
    fn what_is_not_of_the_protocol_is_refused_and_not_left_out() {
        let mut documents = golden("otlp_traces");
        documents[1].json = br#"{"name":"x","colour":1}"#.into();
        assert!(body(Format::OtlpTraces, Encoding::Protobuf, &documents).is_err());
        documents[1].json = b"{".into();
        assert!(body(Format::OtlpTraces, Encoding::Json, &documents).is_err());
    }

    #[test]
    fn what_a_collector_rejects_is_read_from_both_kinds_of_answers() {
        for (content_type, answer, count) in [
            (JSON, &br#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#[..], 2),
            ("Application/JSON; charset=utf-8", br#"{"partialSuccess":{"rejectedDataPoints":3}}"#, 3),
            (JSON, br#"{"partialSuccess":{"rejectedLogRecords":"4"}}"#, 4),
            (JSON, br#"{"partialSuccess":{}}"#, 0),
            (PROTOBUF, b"\x0a\x09\x08\x05\x12\x05later", 5),
            (PROTOBUF, b"", 0),
            (PROTOBUF, b"{}", 0),
            ("text/html", b"<p>taken", 0),
        ] {
            assert_eq!(rejected(Some(content_type), answer), count, "{content_type}");
        }
        assert_eq!(rejected(None, b"\x0a\x02\x08\x07"), 7);
    }
}
