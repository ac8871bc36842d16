//! Calls as spans and measurements of OpenTelemetry, and all that is told as its log records. They are made of receipts, after
//! the fact, so that a collector that is gone changes nothing. Here they have OTLP's JSON form; `request` encodes what is sent.
//!
//! Names are those of `open-telemetry/semantic-conventions-genai` (GenAI, MCP) as of November 2026, all still in development
//! there; they stand in this file and nowhere else. Attributes that would hold content are opt-in there, and are not here.

pub(crate) mod logs;
mod proto;
pub(crate) mod request;

use estoppel_journal::Entry;
use serde_json::{Map, Value, json};

use crate::ecs::operation;
use crate::ocsf::trace_ids;
use crate::read::Line;

/// What a call took, in seconds, by who asked whom.
const CALL_SECONDS: [(&str, Speaker); 2] =
    [("gen_ai.client.operation.duration", Speaker::Model), ("mcp.server.operation.duration", Speaker::Tool)];
const FIRST_CHUNK_SECONDS: &str = "gen_ai.client.operation.time_to_first_chunk";
const TOKENS: &str = "gen_ai.client.token.usage";

/// Bounds that the conventions advise for durations and for tokens.
pub(crate) const SECONDS_BOUNDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
pub(crate) const TOKEN_BOUNDS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Model,
    Tool,
}

/// The span of a call.
pub(crate) fn span(entry: &Entry, line: &Line) -> Option<Value> {
    if line.kind != "call" {
        return None;
    }
    let ids = trace_ids(entry, line)?;
    let (name, kind) = name(line);
    let started = line.ts_us().saturating_sub(line.time.total_us);
    let mut span = json!({
        "traceId": ids.trace,
        "spanId": ids.span,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": nanos(started),
        "endTimeUnixNano": nanos(line.ts_us()),
        "attributes": attributes(span_attributes(entry, line)),
        "status": if line.went_well() { json!({}) } else { json!({ "code": 2, "message": line.outcome.code }) },
    });
    if let (Some(parent), Some(span)) = (ids.parent, span.as_object_mut()) {
        span.insert("parentSpanId".into(), parent.into());
        if let Some(state) = line.ext.get("tracestate").filter(|state| state.is_string()) {
            span.insert("traceState".into(), state.clone());
        }
    }
    Some(span)
}

/// `chat gpt-5`, `tools/call search`, `POST main`; a client's span where a model or a tool is called, else a server's.
fn name(line: &Line) -> (String, u8) {
    let joined = |word: &str, of: Option<&str>| match of {
        Some(of) => format!("{word} {of}"),
        None => word.to_owned(),
    };
    match (line.mcp_method(), line.provider().and(operation(line))) {
        (Some(method), _) => (joined(method, tool(line).filter(|_| method == "tools/call")), 3),
        (_, Some(operation)) => (joined(operation, line.facts.model.as_deref()), 3),
        _ => (joined(&line.request.method, line.request.route.as_deref()), 2),
    }
}

fn tool(line: &Line) -> Option<&str> {
    line.facts.tools_called.first().map(String::as_str)
}

fn error_type(line: &Line) -> Option<&str> {
    (!line.went_well()).then_some(line.outcome.code.as_str())
}

/// What spans and measurements of one call share.
fn common(line: &Line) -> Map<String, Value> {
    let provider = line.provider();
    let of_model = json!({
        "gen_ai.operation.name": operation(line),
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": provider.and(line.facts.model.as_deref()),
        "gen_ai.response.model": provider.and(line.facts.model_served.as_deref()),
        "gen_ai.tool.name": line.mcp_method().and(tool(line)),
        "mcp.method.name": line.mcp_method(),
        "error.type": error_type(line),
    });
    let Value::Object(members) = of_model else { return Map::new() };
    members
}

fn span_attributes(entry: &Entry, line: &Line) -> Map<String, Value> {
    let mut members = common(line);
    let more = json!({
        "http.request.method": line.request.method,
        "http.response.status_code": line.response.client.status,
        "http.request.body.size": line.request.bytes,
        "http.response.body.size": line.response.client.bytes,
        "gen_ai.usage.input_tokens": line.provider().and(line.facts.usage.input),
        "gen_ai.usage.output_tokens": line.provider().and(line.facts.usage.output),
        "gen_ai.response.finish_reasons": line.provider().map(|_| &line.facts.finish).filter(|finish| !finish.is_empty()),
        "estoppel.receipt": entry.leaf.to_string(),
        "estoppel.call": line.call,
        "estoppel.run": line.run,
        "estoppel.route": line.request.route,
        "estoppel.upstream": line.upstream,
        "estoppel.operation": line.operation,
        "estoppel.verdict.action": line.verdict.action,
        "estoppel.verdict.mode": line.verdict.mode,
        "estoppel.outcome.code": line.outcome.code,
        "estoppel.policy.hash": line.policy_hash(),
        "estoppel.rule": line.policy_member("rule"),
    });
    if let Value::Object(more) = more {
        members.extend(more);
    }
    members
}

/// One measurement, before a batch of them is summed up.
pub(crate) fn measurements(line: &Line) -> Vec<Value> {
    if line.kind != "call" {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut add = |name: &str, unit: &str, value: f64, more: Option<(&str, &str)>| {
        let mut members = common(line);
        if let Some((key, value)) = more {
            members.insert(key.into(), value.into());
        }
        let us = line.ts_us();
        found.push(json!({
            "name": name, "unit": unit, "value": value, "us": us, "attributes": attributes(members),
        }));
    };
    let speaker = match (line.provider(), line.mcp_method()) {
        (Some(_), _) => Some(Speaker::Model),
        (_, Some(_)) => Some(Speaker::Tool),
        _ => None,
    };
    for (name, of) in CALL_SECONDS {
        if speaker == Some(of) {
            add(name, "s", seconds(line.time.total_us), None);
        }
    }
    if speaker == Some(Speaker::Model) {
        if let Some(first) = line.time.first_byte_us.filter(|_| line.facts.stream == Some(true)) {
            add(FIRST_CHUNK_SECONDS, "s", seconds(first), None);
        }
        for (kind, count) in [("input", line.facts.usage.input), ("output", line.facts.usage.output)] {
            if let Some(count) = count {
                add(TOKENS, "{token}", count as f64, Some(("gen_ai.token.type", kind))); // exact up to 2^53
            }
        }
    }
    found
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6 // rounding does not matter here
}

/// 64-bit integers are strings in OTLP's JSON.
fn nanos(us: u64) -> String {
    us.saturating_mul(1_000).to_string()
}

/// Members that are there, as OTLP has attributes. What has no form of its own there is told as text.
fn attributes(members: Map<String, Value>) -> Vec<Value> {
    let text = |value: &Value| json!({ "stringValue": value.as_str().map_or_else(|| value.to_string(), str::to_owned) });
    let value = |value: Value| match value {
        Value::String(text) => Some(json!({ "stringValue": text })),
        Value::Number(number) if number.is_i64() => Some(json!({ "intValue": number.to_string() })),
        number @ Value::Number(_) => Some(text(&number)),
        Value::Bool(truth) => Some(json!({ "boolValue": truth })),
        Value::Array(values) => {
            let texts: Vec<Value> = values.iter().map(text).collect();
            Some(json!({ "arrayValue": { "values": texts } }))
        }
        Value::Null | Value::Object(_) => None,
    };
    let pair = |(key, member)| Some(json!({ "key": key, "value": value(member)? }));
    members.into_iter().filter_map(pair).collect()
}

/// What all of a request's spans or measurements are of.
pub(crate) fn resource(instance: &str) -> Value {
    let members = json!({
        "service.name": "estoppeld",
        "service.version": env!("CARGO_PKG_VERSION"),
        "service.instance.id": instance,
    });
    let Value::Object(members) = members else { return Value::Null };
    json!({ "attributes": attributes(members) })
}

/// The scope of spans and measurements.
pub(crate) fn scope() -> Value {
    json!({ "name": "estoppel.feeds", "version": env!("CARGO_PKG_VERSION") })
}

/// Sums of measurements, one for each name and set of attributes: histograms of this batch alone (delta).
pub(crate) fn histograms(measured: &[Value]) -> Vec<Value> {
    let mut metrics: Vec<(String, Value, Vec<Sum>)> = Vec::new();
    for one in measured {
        let (Some(name), Some(value), Some(us)) =
            (one["name"].as_str(), one["value"].as_f64(), one["us"].as_u64())
        else {
            continue;
        };
        let at = metrics.iter().position(|(known, ..)| known == name).unwrap_or_else(|| {
            metrics.push((name.to_owned(), one["unit"].clone(), Vec::new()));
            metrics.len() - 1
        });
        let Some((.., sums)) = metrics.get_mut(at) else { continue };
        match sums.iter_mut().find(|sum| sum.attributes == one["attributes"]) {
            Some(sum) => sum.add(value, us),
            None => {
                let bounds = if name == TOKENS { TOKEN_BOUNDS } else { SECONDS_BOUNDS };
                let mut sum = Sum::new(one["attributes"].clone(), bounds);
                sum.add(value, us);
                sums.push(sum);
            }
        }
    }
    let histogram = |(name, unit, sums): (String, Value, Vec<Sum>)| {
        let points: Vec<Value> = sums.iter().map(Sum::point).collect();
        json!({ "name": name, "unit": unit, "histogram": { "aggregationTemporality": 1, "dataPoints": points } })
    };
    metrics.into_iter().map(histogram).collect()
}

struct Sum {
    attributes: Value,
    bounds: [f64; 14],
    counts: [u64; 15],
    total: f64,
    from_us: u64,
    to_us: u64,
}

impl Sum {
    fn new(attributes: Value, bounds: [f64; 14]) -> Self {
        Self { attributes, bounds, counts: [0; 15], total: 0.0, from_us: u64::MAX, to_us: 0 }
    }

    fn add(&mut self, value: f64, us: u64) {
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.total += value;
        self.from_us = self.from_us.min(us);
        self.to_us = self.to_us.max(us);
    }

    fn point(&self) -> Value {
        json!({
            "attributes": self.attributes,
            "startTimeUnixNano": nanos(self.from_us.saturating_sub(1)),
            "timeUnixNano": nanos(self.to_us),
            "count": self.counts.iter().sum::<u64>().to_string(),
            "sum": self.total,
            "bucketCounts": self.counts.iter().map(u64::to_string).collect::<Vec<_>>(),
            "explicitBounds": self.bounds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_of_a_batch_are_summed_by_name_and_attributes() {
        let one = |name: &str, value: f64, who: &str| json!({ "name": name, "unit": "s", "value": value, "us": 5, "attributes": [who] });
        let summed = histograms(&[
            one("a", 0.01, "x"),
            one("a", 0.3, "x"),
            one("a", 100.0, "y"),
            one(TOKENS, 5.0, "x"),
        ]);
        assert_eq!(summed.len(), 2);
        let points = summed[0]["histogram"]["dataPoints"].as_array().unwrap();
        assert_eq!((points.len(), &points[0]["count"], &points[0]["sum"]), (2, &json!("2"), &json!(0.31)));
        let counts = |point: &Value| -> Vec<u64> {
            point["bucketCounts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_str().unwrap().parse().unwrap())
                .collect()
        };
        assert_eq!(counts(&points[0])[..6], [1, 0, 0, 0, 0, 1], "a bound belongs to the bucket below it");
        assert_eq!(counts(&points[1])[14], 1);
        assert_eq!(counts(&summed[1]["histogram"]["dataPoints"][0])[2], 1);
    }
}
