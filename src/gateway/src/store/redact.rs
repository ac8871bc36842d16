//! Values of JSON replaced by keyed digests (SPEC section 6). Everything else keeps its text.

use estoppel_evidence::capture::{Label, RunCapture};
use estoppel_policy::{Reach, ValuePath};
use estoppel_wire::sse;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::members::Members;

/// What a body is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// One JSON text.
    Json,
    /// An event stream whose data are JSON texts.
    Sse,
}

/// Levels of nesting that are followed; as many as serde_json reads.
const DEPTH_MAX: usize = 127;
/// What ends OpenAI's streams; the one data that is not JSON and needs no redaction.
const DONE: &[u8] = b"[DONE]";

pub(super) struct Redacted {
    pub(super) bytes: Vec<u8>,
    /// One bit for each path that met a value.
    pub(super) met: u64,
}

/// `None` if the body is not what `form` says, so that nothing can be said of what is in it.
///
/// Of an event stream names, ids and data are kept; comments and what follows the last event are not, and data that is not
/// JSON is replaced as a whole.
pub(super) fn redact(form: Form, body: &[u8], paths: &[ValuePath], capture: &RunCapture) -> Option<Redacted> {
    let mut out = Vec::with_capacity(body.len());
    let mut walk = Walk { paths, capture, met: 0 };
    match form {
        Form::Json => walk.document(body, &mut out)?,
        Form::Sse => walk.stream(body, &mut out),
    }
    Some(Redacted { bytes: out, met: walk.met })
}

struct Walk<'a> {
    paths: &'a [ValuePath],
    capture: &'a RunCapture,
    met: u64,
}

impl Walk<'_> {
    fn document(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let value: &RawValue = serde_json::from_slice(text).ok()?;
        let reach: Vec<Reach> = self.paths.iter().map(ValuePath::root).collect();
        self.value(value, &reach, DEPTH_MAX, out)
    }

    fn stream(&mut self, body: &[u8], out: &mut Vec<u8>) {
        let limits = sse::Limits { event_bytes_max: body.len(), overflow: sse::Overflow::PassOver };
        let mut framer = sse::Framer::new(limits);
        let mut rest = body;
        while !rest.is_empty() {
            let (step, taken) = framer.feed(rest);
            rest = &rest[taken..];
            if let sse::Step::Event(event) = step {
                self.event(&event, out);
            }
        }
    }

    fn event(&mut self, event: &sse::Event<'_>, out: &mut Vec<u8>) {
        let sse::Content::Data(data) = event.content else { return };
        if !event.name.is_empty() {
            field(out, b"event", event.name);
        }
        if let Some(id) = event.id {
            field(out, b"id", id);
        }
        let begin = out.len();
        out.extend_from_slice(b"data: ");
        if data == DONE {
            out.extend_from_slice(DONE);
        } else if self.document(data, out).is_none() {
            out.truncate(begin);
            out.extend_from_slice(b"data: ");
            self.replace(data, "text", out);
        }
        out.extend_from_slice(b"\n\n");
    }

    fn value(&mut self, value: &RawValue, reach: &[Reach], depth: usize, out: &mut Vec<u8>) -> Option<()> {
        let text = value.get();
        let met = self.paths.iter().zip(reach).enumerate().filter(|(_, (path, reach))| path.is_met(**reach));
        let met = met.fold(0, |met, (at, _)| met | 1 << at);
        if met != 0 {
            self.met |= met;
            self.replace(text.as_bytes(), kind(text), out);
            return Some(());
        }
        let step = |token: &str| -> Vec<Reach> {
            self.paths.iter().zip(reach).map(|(path, reach)| path.step(*reach, token)).collect()
        };
        match text.as_bytes().first()? {
            _ if reach.iter().all(|reach| ValuePath::is_over(*reach)) => {
                out.extend_from_slice(text.as_bytes())
            }
            b'{' => {
                let members: Members<'_> = serde_json::from_str(text).ok()?;
                let depth = depth.checked_sub(1)?;
                out.push(b'{');
                for (at, (name, value)) in members.0.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    serde_json::to_writer(&mut *out, name).ok()?;
                    out.push(b':');
                    self.value(value, &step(name), depth, out)?;
                }
                out.push(b'}');
            }
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let depth = depth.checked_sub(1)?;
                out.push(b'[');
                for (at, value) in elements.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    self.value(value, &step(&at.to_string()), depth, out)?;
                }
                out.push(b']');
            }
            _ => out.extend_from_slice(text.as_bytes()),
        }
        Some(())
    }

    fn replace(&self, text: &[u8], kind: &str, out: &mut Vec<u8>) {
        let tag = self.capture.tag(Label::RedactedValue, &Sha256::digest(text).into());
        let bytes = text.len();
        out.extend_from_slice(
            format!(r#"{{"$redacted":{{"bytes":{bytes},"tag":"{tag}","type":"{kind}"}}}}"#).as_bytes(),
        );
    }
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\n"] {
        out.extend_from_slice(part);
    }
}

/// JSON type of a value, by its first character.
fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

#[cfg(test)]
mod tests {
    use estoppel_evidence::RunId;
    use estoppel_evidence::capture::CaptureKey;

    use super::*;

    fn capture() -> RunCapture {
        CaptureKey::new([7; 32]).run(RunId::new(1, [2; 10]))
    }

    fn redacted(form: Form, body: &str, paths: &[&str]) -> Option<(String, u64)> {
        let paths: Vec<_> = paths.iter().map(|path| ValuePath::parse(path).unwrap()).collect();
        let done = redact(form, body.as_bytes(), &paths, &capture())?;
        Some((String::from_utf8(done.bytes).unwrap(), done.met))
    }

    fn mark(text: &str, kind: &str) -> String {
        let tag = capture().tag(Label::RedactedValue, &Sha256::digest(text).into());
        format!(r#"{{"$redacted":{{"bytes":{},"tag":"{tag}","type":"{kind}"}}}}"#, text.len())
    }

    #[test]
    fn values_that_are_met_are_replaced_and_nothing_else_changes() {
        let body = r#" {"a": [{"x": "sec\u0072et", "n": 1e400}, {"x": null}], "x": {"y": 1}, "x": "again", "é": "é"} "#;
        let (text, met) = redacted(Form::Json, body, &["/a/*/x", "/x", "/none"]).unwrap();
        let expected = format!(
            r#"{{"a":[{{"x":{},"n":1e400}},{{"x":{}}}],"x":{},"x":{},"é":"é"}}"#,
            mark(r#""sec\u0072et""#, "string"),
            mark("null", "null"),
            mark(r#"{"y": 1}"#, "object"),
            mark(r#""again""#, "string"),
        );
        assert_eq!((text, met), (expected, 0b011));
    }

    #[test]
    fn the_whole_and_any_depth_can_be_meant() {
        let (text, met) = redacted(Form::Json, "[1, 2]", &["/**"]).unwrap();
        assert_eq!((text, met), (mark("[1, 2]", "array"), 1));
        let (text, _) = redacted(Form::Json, r#"{"a":{"b":[{"c":true}]}}"#, &["/**/c"]).unwrap();
        assert_eq!(text, format!(r#"{{"a":{{"b":[{{"c":{}}}]}}}}"#, mark("true", "boolean")));
    }

    #[test]
    fn a_body_that_is_not_json_is_given_up() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for body in ["", "x", "{", r#"{"a":1} 2"#, r#"{"\ud800":1}"#, &deep] {
            assert_eq!(redacted(Form::Json, body, &["/**/a"]), None, "{body}");
        }
    }

    #[test]
    fn what_no_path_leads_to_is_taken_over_as_it_stands() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        let body = format!(r#"{{"a":{{ "x" : [1, 2] }},"b":{deep},"c":{{"x":1}}}}"#);
        let (text, met) = redacted(Form::Json, &body, &["/c/x", "/a/y/z"]).unwrap();
        let expected = format!(r#"{{"a":{{"x":[1, 2]}},"b":{deep},"c":{{"x":{}}}}}"#, mark("1", "number"));
        assert_eq!((text, met), (expected, 1));
    }

    #[test]
    fn each_event_is_redacted_and_what_cannot_be_read_goes() {
        let body = ": hidden\nevent: x\r\nid: 1\ndata: {\"t\":\ndata: \"s\"}\n\ndata: plain\n\ndata: [DONE]\n\ndata: {\"t\":\"cut\"}\n";
        let (text, met) = redacted(Form::Sse, body, &["/t"]).unwrap();
        let expected = format!(
            "event: x\nid: 1\ndata: {{\"t\":{}}}\n\ndata: {}\n\ndata: [DONE]\n\n",
            mark("\"s\"", "string"),
            mark("plain", "text")
        );
        assert_eq!((text, met), (expected, 1));
    }
}
