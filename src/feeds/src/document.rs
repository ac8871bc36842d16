//! One entry as documents of a format.

use estoppel_journal::Entry;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::event::{Event, is_wanted};
use crate::finding::{Finding, findings};
use crate::read::Line;
use crate::{ecs, notice, ocsf, otlp};

/// Most characters of one text. Receipts have at most 512; what is longer is cut here.
pub const TEXT_CHARS_MAX: usize = 512;
/// No document is larger: an entry has at most 16 KiB, and no part of one is told more than a few times.
pub const DOCUMENT_BYTES_MAX: usize = 128 << 10;

/// Kinds of entries that are known here. Those of later versions are told as what could not be read.
const KINDS: [&str; 12] = [
    "call",
    "act",
    "approval",
    "bypass",
    "hold",
    "gap",
    "interrupted",
    "journal.recover",
    "key.rotate",
    "policy.load",
    "run.open",
    "run.seal",
];
/// Known as well: a `call` or an `interrupted` entry follows it.
const INTENT: &str = "intent";

/// How entries are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Open Cybersecurity Schema Framework 1.8.
    Ocsf,
    /// Elastic Common Schema 9.
    Ecs,
    /// A short message for people, of what they may want to be told.
    Notice,
    /// One span of OpenTelemetry for each call.
    OtlpTraces,
    /// Durations and tokens of calls, summed up for each delivery.
    OtlpMetrics,
    /// Entries and findings as log records of OpenTelemetry.
    OtlpLogs,
}

impl Format {
    /// Its name in configuration and source types.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ocsf => "ocsf",
            Self::Ecs => "ecs",
            Self::Notice => "notice",
            Self::OtlpTraces => "otlp_traces",
            Self::OtlpMetrics => "otlp_metrics",
            Self::OtlpLogs => "otlp_logs",
        }
    }

    /// Whether requests are those of OTLP.
    pub(crate) fn is_otlp(self) -> bool {
        matches!(self, Self::OtlpTraces | Self::OtlpMetrics | Self::OtlpLogs)
    }

    /// Whether it has no form for findings and for entries other than calls.
    pub(crate) fn tells_calls_alone(self) -> bool {
        matches!(self, Self::OtlpTraces | Self::OtlpMetrics)
    }
}

/// One line for a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The key by which copies are known: the entry's hash, with a suffix for findings in it.
    pub uid: String,
    /// Whose log it is of.
    pub instance: String,
    /// When it happened, microseconds since 1970.
    pub time_us: u64,
    /// Severity as in OCSF: 1 informational to 5 critical.
    pub severity: u8,
    /// One line of JSON, without the line feed.
    pub json: Vec<u8>,
}

/// What an entry is told as: none for kinds that say nothing to operators, otherwise itself and the findings in it.
pub fn documents(format: Format, entry: &Entry) -> Vec<Document> {
    chosen(format, None, entry)
}

/// As [`documents`], of `events` alone. What could not be read is told always: it may be one of them.
pub(crate) fn chosen(format: Format, events: Option<&[Event]>, entry: &Entry) -> Vec<Document> {
    let line = match serde_json::from_slice::<Line>(&entry.line) {
        Ok(line) if line.kind == INTENT || KINDS.contains(&line.kind.as_str()) => line,
        _ if format.tells_calls_alone() => return Vec::new(),
        read => {
            let kind = read.ok().map(|line| line.kind).filter(|kind| !kind.is_empty());
            let unread = Line { kind: kind.unwrap_or_else(|| "unread".into()), ..Line::default() };
            return vec![told(format, entry, &unread, &Finding::unread(entry))];
        }
    };
    let uid = entry.leaf.to_string();
    let itself = match format {
        _ if !is_wanted(events, Event::of(&line)) => None,
        Format::Notice => notice::entry(entry, &line),
        Format::Ocsf => ocsf::entry(entry, &line),
        Format::Ecs => ecs::entry(entry, &line),
        Format::OtlpLogs => otlp::logs::entry(entry, &line),
        Format::OtlpTraces => {
            let span = otlp::span(entry, &line).map(|span| document(uid, &line, 1, span));
            return span.into_iter().collect();
        }
        Format::OtlpMetrics => {
            let each = otlp::measurements(&line).into_iter().zip(0..);
            return each.map(|(value, at)| document(format!("{uid}#{at}"), &line, 1, value)).collect();
        }
    };
    let mut documents: Vec<Document> =
        itself.map(|(severity, value)| document(uid, &line, severity, value)).into_iter().collect();
    let found = findings(entry, &line);
    let found = found.iter().filter(|finding| is_wanted(events, Some(Event::of_finding(finding))));
    documents.extend(found.map(|finding| told(format, entry, &line, finding)));
    documents
}

/// A finding as a document. Spans and measurements have none; nobody asks for one.
pub(crate) fn told(format: Format, entry: &Entry, line: &Line, finding: &Finding) -> Document {
    let value = match format {
        Format::Ocsf => ocsf::finding(entry, line, finding),
        Format::OtlpLogs => otlp::logs::finding(entry, line, finding),
        Format::Notice => notice::finding(line, finding),
        Format::Ecs | Format::OtlpTraces | Format::OtlpMetrics => ecs::finding(entry, line, finding),
    };
    document(finding.uid.clone(), line, finding.severity, value)
}

fn document(uid: String, line: &Line, severity: u8, value: Value) -> Document {
    Document { uid, instance: line.iss.clone(), time_us: line.ts_us(), severity, json: written(value) }
}

/// The bytes of a document.
pub(crate) fn written(value: Value) -> Vec<u8> {
    plain(&bounded(value).to_string()).into_bytes()
}

/// JSON in which characters that end a line, or turn its direction, are escaped: what a caller wrote looks like one line
/// to every reader, also to those that know more line ends than JSON does.
fn plain(json: &str) -> String {
    let turns = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match turns(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

/// The value with every text cut to [`TEXT_CHARS_MAX`].
fn bounded(value: Value) -> Value {
    match value {
        Value::String(text) => match text.char_indices().nth(TEXT_CHARS_MAX) {
            Some((end, _)) => Value::String(text.get(..end).unwrap_or_default().to_owned()),
            None => Value::String(text),
        },
        Value::Array(values) => Value::Array(values.into_iter().map(bounded).collect()),
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (name, bounded(value))).collect())
        }
        other => other,
    }
}

/// An object without the members that are null, and without objects that are empty then.
pub(crate) fn present(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members: Map<String, Value> = members
                .into_iter()
                .map(|(name, value)| (name, present(value)))
                .filter(|(_, value)| match value {
                    Value::Null => false,
                    Value::Object(members) => !members.is_empty(),
                    Value::Array(values) => !values.is_empty(),
                    _ => true,
                })
                .collect();
            Value::Object(members)
        }
        other => other,
    }
}
