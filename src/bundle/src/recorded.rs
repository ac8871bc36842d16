//! The calls of a run as they were recorded: their receipts in order, the bodies that are in the bundle, and the units of streams.
//!
//! Nothing is judged here. A body is compared with its digest when it is read, as everything that a [`Bundle`] gives.

use estoppel_evidence::entry::BodyMode;
use estoppel_evidence::{CallId, Sha256, Tag};
use serde::Deserialize;
use serde_json::Value;

use crate::layout::{BundlePath, EXTERNAL_BYTES_MIN};
use crate::open::{Bundle, Entries, OpenError, Source};

/// A receipt, with what says where its bodies are.
#[derive(Clone, Debug)]
pub struct RecordedCall {
    pub seq: u64,
    pub call: CallId,
    pub mode: BodyMode,
    pub request: Side,
    /// What came from the upstream, if anything did.
    pub upstream: Option<Side>,
    pub client: Side,
    /// The whole receipt.
    pub receipt: Value,
}

/// One body, as its receipt has it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Side {
    pub bytes: u64,
    #[serde(default)]
    pub status: Option<u16>,
    /// Keyed tag of the bytes that passed; none with body mode `none`.
    #[serde(default)]
    pub tag: Option<Tag>,
    /// Digest of what was stored, if the policy stores bodies.
    #[serde(default)]
    pub sha256: Option<Sha256>,
}

#[derive(Deserialize)]
struct Receipt {
    call: CallId,
    body: Body,
    request: Side,
    response: Response,
}

#[derive(Deserialize)]
struct Body {
    mode: BodyMode,
}

#[derive(Deserialize)]
struct Response {
    client: Side,
    #[serde(default)]
    upstream: Option<Side>,
}

/// Streams the entries of a run; one is in memory at a time.
pub struct Recorded<'a>(Entries<'a>);

/// An entry of a run.
#[derive(Clone, Debug)]
pub enum RecordedEntry {
    Call(Box<RecordedCall>),
    /// An entry of another kind.
    Other(Value),
}

impl<S: Source> Bundle<S> {
    /// The entries in order.
    ///
    /// # Errors
    /// As [`Bundle::entries`].
    pub fn recorded(&self) -> Result<Recorded<'_>, OpenError> {
        self.entries().map(Recorded)
    }

    /// The bytes of a body, if they were stored and are in the bundle: beside it are those over 25 MiB. With body mode `redacted` they
    /// are what redaction left.
    ///
    /// # Errors
    /// As [`Bundle::read`].
    pub fn body(&self, side: &Side) -> Result<Option<Vec<u8>>, OpenError> {
        let Some(digest) = side.sha256 else { return Ok(None) };
        match self.read(&BundlePath::body(digest), EXTERNAL_BYTES_MIN - 1) {
            Err(OpenError::Missing { .. }) => Ok(None),
            read => read.map(Some),
        }
    }
}

impl Recorded<'_> {
    /// The next entry; `None` after the last.
    ///
    /// # Errors
    /// [`OpenError::Line`] for a line that is no entry, and as [`Entries::next`].
    #[expect(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<RecordedEntry>, OpenError> {
        let Some(entry) = self.0.next()? else { return Ok(None) };
        let seq = entry.seq;
        let broken = |_| OpenError::Line { seq };
        let value: Value = serde_json::from_slice(entry.line).map_err(broken)?;
        if value.get("kind").and_then(Value::as_str) != Some("call") {
            return Ok(Some(RecordedEntry::Other(value)));
        }
        let Receipt { call, body, request, response } = Receipt::deserialize(&value).map_err(broken)?;
        Ok(Some(RecordedEntry::Call(Box::new(RecordedCall {
            seq,
            call,
            mode: body.mode,
            request,
            upstream: response.upstream,
            client: response.client,
            receipt: value,
        }))))
    }
}

/// Where each unit of an event stream ends (SPEC section 7).
pub fn unit_ends(stream: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let start = if stream.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let (mut is_line_empty, mut after_cr) = (true, false);
    for (at, byte) in stream.iter().enumerate().skip(start) {
        let belongs_to_cr = std::mem::take(&mut after_cr) && *byte == b'\n';
        match byte {
            _ if belongs_to_cr => {}
            b'\n' | b'\r' => {
                if is_line_empty {
                    ends.push(at + 1);
                }
                is_line_empty = true;
                after_cr = *byte == b'\r';
            }
            _ => is_line_empty = false,
        }
    }
    if ends.last().copied().unwrap_or_default() < stream.len() {
        ends.push(stream.len());
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{BODY, Plan, Run};

    fn bundle() -> Bundle<crate::Archive<Vec<u8>>> {
        Bundle::from_zip(Run::of(&Plan::default()).zip()).unwrap()
    }

    #[test]
    fn calls_come_in_order_with_the_bodies_that_were_stored() {
        let bundle = bundle();
        let mut entries = bundle.recorded().unwrap();
        let (mut seqs, mut bodies, mut others) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(entry) = entries.next().unwrap() {
            match entry {
                RecordedEntry::Call(call) => {
                    assert_eq!(call.receipt["seq"], call.seq);
                    assert_eq!(call.receipt["call"], call.call.to_string());
                    seqs.push(call.seq);
                    bodies.push(bundle.body(&call.request).unwrap());
                }
                RecordedEntry::Other(entry) => others.push(entry["kind"].clone()),
            }
        }
        assert_eq!(seqs, [1, 2, 3]);
        assert_eq!(others, ["run.open", "interrupted", "run.seal"]);
        assert!(bodies.iter().flatten().any(|body| body == BODY), "one body is stored");
        assert!(bodies.iter().any(Option::is_none), "and others are not");
    }

    #[test]
    fn a_body_that_is_beside_the_bundle_is_absent() {
        let beside = Side { sha256: Some(Sha256::of(b"elsewhere")), ..Side::default() };
        assert_eq!(bundle().body(&beside).unwrap(), None);
    }

    #[test]
    fn units_end_after_blank_lines() {
        let check = |stream: &str, units: &[&str]| {
            let ends = unit_ends(stream.as_bytes());
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let cut: Vec<&str> = starts.zip(&ends).map(|(from, to)| &stream[from..*to]).collect();
            assert_eq!(cut, units, "{stream:?}");
        };
        check("", &[]);
        check("data: 1\n\ndata: 2\n\n", &["data: 1\n\n", "data: 2\n\n"]);
        check("data: 1\r\n\r\ndata: 2", &["data: 1\r\n\r", "\ndata: 2"]);
        check("data: 1\r\rdata: 2\r", &["data: 1\r\r", "data: 2\r"]);
        check("\n\n: c", &["\n", "\n", ": c"]);
        check("\u{feff}\ndata: 1\n", &["\u{feff}\n", "data: 1\n"]);
    }
}
