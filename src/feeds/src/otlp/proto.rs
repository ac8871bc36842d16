//! Messages of OTLP 1, as far as requests and answers here have them. Names and numbers are those of
//! `open-telemetry/opentelemetry-proto`; a member that is in a request's JSON and not here is refused.

use estoppel_evidence::hash::from_hex;
use serde::{Deserialize, Deserializer, de::Error};

macro_rules! messages {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* $(,)? })*) => { $(
        #[derive(Clone, PartialEq, Deserialize, prost::Message)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub struct $name { $($(#[$attribute])* pub $field: $type),* }
    )* };
}

messages! {
    TraceRequest { #[prost(message, repeated, tag = "1")] resource_spans: Vec<ResourceSpans> }
    ResourceSpans {
        #[prost(message, optional, tag = "1")] resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")] scope_spans: Vec<ScopeSpans>,
    }
    ScopeSpans {
        #[prost(message, optional, tag = "1")] scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")] spans: Vec<Span>,
    }
    Span {
        #[prost(bytes = "vec", tag = "1")] #[serde(deserialize_with = "id::<_, 16>")] trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")] #[serde(deserialize_with = "id::<_, 8>")] span_id: Vec<u8>,
        #[prost(string, tag = "3")] trace_state: String,
        #[prost(bytes = "vec", tag = "4")] #[serde(deserialize_with = "id::<_, 8>")] parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")] name: String,
        #[prost(int32, tag = "6")] kind: i32,
        #[prost(fixed64, tag = "7")] #[serde(deserialize_with = "number")] start_time_unix_nano: u64,
        #[prost(fixed64, tag = "8")] #[serde(deserialize_with = "number")] end_time_unix_nano: u64,
        #[prost(message, repeated, tag = "9")] attributes: Vec<Attribute>,
        #[prost(message, optional, tag = "15")] status: Option<Status>,
        #[prost(fixed32, tag = "16")] flags: u32,
    }
    Status {
        #[prost(string, tag = "2")] message: String,
        #[prost(int32, tag = "3")] code: i32,
    }

    MetricsRequest { #[prost(message, repeated, tag = "1")] resource_metrics: Vec<ResourceMetrics> }
    ResourceMetrics {
        #[prost(message, optional, tag = "1")] resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")] scope_metrics: Vec<ScopeMetrics>,
    }
    ScopeMetrics {
        #[prost(message, optional, tag = "1")] scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")] metrics: Vec<Metric>,
    }
    Metric {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, tag = "3")] unit: String,
        #[prost(message, optional, tag = "9")] histogram: Option<Histogram>,
    }
    Histogram {
        #[prost(message, repeated, tag = "1")] data_points: Vec<HistogramDataPoint>,
        #[prost(int32, tag = "2")] aggregation_temporality: i32,
    }
    HistogramDataPoint {
        #[prost(fixed64, tag = "2")] #[serde(deserialize_with = "number")] start_time_unix_nano: u64,
        #[prost(fixed64, tag = "3")] #[serde(deserialize_with = "number")] time_unix_nano: u64,
        #[prost(fixed64, tag = "4")] #[serde(deserialize_with = "number")] count: u64,
        #[prost(double, optional, tag = "5")] sum: Option<f64>,
        #[prost(fixed64, repeated, tag = "6")] #[serde(deserialize_with = "numbers")] bucket_counts: Vec<u64>,
        #[prost(double, repeated, tag = "7")] explicit_bounds: Vec<f64>,
        #[prost(message, repeated, tag = "9")] attributes: Vec<Attribute>,
    }

    LogsRequest { #[prost(message, repeated, tag = "1")] resource_logs: Vec<ResourceLogs> }
    ResourceLogs {
        #[prost(message, optional, tag = "1")] resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")] scope_logs: Vec<ScopeLogs>,
    }
    ScopeLogs {
        #[prost(message, optional, tag = "1")] scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")] log_records: Vec<LogRecord>,
    }
    LogRecord {
        #[prost(fixed64, tag = "1")] #[serde(deserialize_with = "number")] time_unix_nano: u64,
        #[prost(int32, tag = "2")] severity_number: i32,
        #[prost(string, tag = "3")] severity_text: String,
        #[prost(message, optional, tag = "5")] body: Option<AnyValue>,
        #[prost(message, repeated, tag = "6")] attributes: Vec<Attribute>,
        #[prost(bytes = "vec", tag = "9")] #[serde(deserialize_with = "id::<_, 16>")] trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "10")] #[serde(deserialize_with = "id::<_, 8>")] span_id: Vec<u8>,
        #[prost(fixed64, tag = "11")] #[serde(deserialize_with = "number")] observed_time_unix_nano: u64,
        #[prost(string, tag = "12")] event_name: String,
    }

    Resource { #[prost(message, repeated, tag = "1")] attributes: Vec<Attribute> }
    Scope {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, tag = "2")] version: String,
    }
    Attribute {
        #[prost(string, tag = "1")] key: String,
        #[prost(message, optional, tag = "2")] value: Option<AnyValue>,
    }
    ArrayValue { #[prost(message, repeated, tag = "1")] values: Vec<AnyValue> }

    // Of all three kinds: `rejected_spans`, `rejected_data_points` and `rejected_log_records` have one number.
    Answer { #[prost(message, optional, tag = "1")] partial_success: Option<PartialSuccess> }
    PartialSuccess { #[prost(int64, tag = "1")] rejected: i64 }
}

#[derive(Clone, PartialEq, Deserialize, prost::Message)]
#[serde(from = "Kind")]
pub struct AnyValue {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 5")]
    pub kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Deserialize, prost::Oneof)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::enum_variant_names, reason = "the names that the protocol has")]
pub enum Kind {
    #[prost(string, tag = "1")]
    StringValue(String),
    #[prost(bool, tag = "2")]
    BoolValue(bool),
    #[prost(int64, tag = "3")]
    #[serde(deserialize_with = "number")]
    IntValue(i64),
    #[prost(message, tag = "5")]
    ArrayValue(ArrayValue),
}

impl From<Kind> for AnyValue {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

/// 64-bit integers are strings in OTLP's JSON.
fn number<'de, D: Deserializer<'de>, N: std::str::FromStr>(from: D) -> Result<N, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| D::Error::custom("a number is none"))
}

fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| text.parse().map_err(|_| D::Error::custom("a number is none"))).collect()
}

/// Ids are hexadecimal in OTLP's JSON.
fn id<'de, D: Deserializer<'de>, const N: usize>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    from_hex::<N>(&text).map(Vec::from).ok_or_else(|| D::Error::custom("an id is none"))
}
