//! Calls of the operations of a plain API. Evidence has no paths, so somebody names them; the receipt's tag says whether it was that one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::str::FromStr;

use estoppel_bundle::{Bundle, RecordedCall, Side, Source};
use estoppel_evidence::capture::Label;
use estoppel_evidence::{RunCapture, Sha256};

use super::{Answer, Request, Step, Terms, Then};
use crate::code::Code;
use crate::stored::{Stored, Verdict, absent};

/// Longest name of an operation, and longest method.
const NAME_CHARS_MAX: usize = 128;
const METHOD_CHARS_MAX: usize = 32;
/// Longest target.
const TARGET_BYTES_MAX: usize = 65_536;
/// What receipts call whatever no policy lists.
const UNLISTED: [&str; 2] = ["http", "json"];

/// Why a text names no operation, or no target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OperationError {
    #[error("expected the `operation` of a receipt, or a method and a path: `POST /v1/orders`")]
    Name,
    #[error("all calls are named so that no policy lists: say method and path, `POST /v1/orders`")]
    Unlisted,
    #[error(
        "expected a path with its query, as the gateway got it: ASCII without blanks and `#`, from `/` on, {TARGET_BYTES_MAX} bytes at most"
    )]
    Target,
}

/// Path and query of a request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Target(String);

impl Target {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn tag(&self, capture: &RunCapture) -> String {
        capture.tag(Label::RequestTarget, &Sha256::of(self.0.as_bytes()).0).to_string()
    }
}

impl FromStr for Target {
    type Err = OperationError;

    fn from_str(text: &str) -> Result<Self, OperationError> {
        let is_target = text.starts_with('/')
            && text.len() <= TARGET_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if is_target { Ok(Self(text.to_owned())) } else { Err(OperationError::Target) }
    }
}

/// One that may be called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// As receipts name it, whatever its method and target.
    Named(String),
    /// Every call of this method and target.
    Line { method: String, target: Target },
}

impl Operation {
    /// None of one that is allowed by name.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Named(_) => None,
            Self::Line { target, .. } => Some(target),
        }
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Line { method, target } => write!(f, "{method} {}", target.0),
        }
    }
}

impl FromStr for Operation {
    type Err = OperationError;

    fn from_str(text: &str) -> Result<Self, OperationError> {
        if let Some((method, target)) = text.split_once(' ') {
            let is_method = (1..=METHOD_CHARS_MAX).contains(&method.len())
                && method.bytes().all(|byte| byte.is_ascii_uppercase());
            let method = if is_method { method.to_owned() } else { return Err(OperationError::Name) };
            return Ok(Self::Line { method, target: target.parse()? });
        }
        if UNLISTED.contains(&text) {
            return Err(OperationError::Unlisted);
        }
        let is_name = (1..=NAME_CHARS_MAX).contains(&text.chars().count())
            && text.chars().all(|char| !char.is_whitespace() && !char.is_control() && char != '/');
        if is_name { Ok(Self::Named(text.to_owned())) } else { Err(OperationError::Name) }
    }
}

/// What may be called, and where.
#[derive(Debug)]
pub struct Operations {
    /// As certificates name them.
    names: BTreeSet<String>,
    /// By their tags.
    targets: BTreeMap<String, Target>,
}

impl Operations {
    /// `targets` are further ones, of operations that are allowed by name.
    pub fn new(capture: &RunCapture, allowed: &[Operation], targets: &[Target]) -> Self {
        let tagged = |target: &Target| (target.tag(capture), target.clone());
        Self {
            names: allowed
                .iter()
                .map(|operation| match operation {
                    Operation::Named(name) => name.clone(),
                    Operation::Line { method, target } => format!("{method} {}", target.tag(capture)),
                })
                .collect(),
            targets: allowed.iter().filter_map(Operation::target).chain(targets).map(tagged).collect(),
        }
    }

    pub(super) fn names(self) -> BTreeSet<String> {
        self.names
    }

    fn allows(&self, call: &RecordedCall) -> bool {
        let (method, tag) = line_of(call);
        let operation = call.receipt["operation"].as_str().unwrap_or_default();
        self.names.contains(operation) || self.names.contains(&format!("{method} {tag}"))
    }

    /// Whether it is allowed, and nobody named its target.
    pub(super) fn is_unnamed(&self, call: &RecordedCall) -> bool {
        self.allows(call) && !self.targets.contains_key(line_of(call).1)
    }

    pub(super) fn step<S: Source>(
        &self,
        bundle: &Bundle<S>,
        capture: Option<&RunCapture>,
        call: &RecordedCall,
    ) -> Result<Step, Verdict> {
        if !self.allows(call) {
            return Err(Verdict::Skipped(Code::OperationNotAllowed));
        }
        if call.receipt["outcome"]["complete"] != true {
            return Err(Verdict::Truncated);
        }
        let (method, tag) = line_of(call);
        let target = self.targets.get(tag).cloned().ok_or(Verdict::Skipped(Code::Undecided))?;
        let stored = Stored::of(bundle, capture, call)?;
        let Some((upstream, status)) = call.upstream.as_ref().and_then(|side| Some((side, side.status?)))
        else {
            return Err(Verdict::Skipped(Code::Undecided));
        };
        let bodies = (whole(&call.request, stored.request), whole(upstream, stored.upstream));
        let (Some(request), Some(body)) = bodies else { return Err(Verdict::Skipped(absent(call))) };
        let request = Request::Plain { method: method.to_owned(), target, body: request };
        Ok(Step { request, then: Then::Plain { status, body } })
    }
}

/// Method, and tag of the target.
fn line_of(call: &RecordedCall) -> (&str, &str) {
    let text = |name: &str| call.receipt["request"][name].as_str().unwrap_or_default();
    (text("method"), text("target_tag"))
}

/// What had no bytes is not stored, and is known all the same.
fn whole(side: &Side, stored: Option<Vec<u8>>) -> Option<Vec<u8>> {
    stored.or_else(|| (side.bytes == 0).then(Vec::new))
}

pub(super) fn judge(status: u16, body: &[u8], answer: Option<Answer>, terms: Terms<'_>) -> Verdict {
    match answer.filter(|answer| answer.is_whole && answer.status == status) {
        Some(answer) => terms.compare(body, &answer.body),
        None => Verdict::drifted(Code::StatusDrift),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_called_is_named_or_is_a_method_with_a_path() {
        let line = |method: &str, target: &str| Operation::Line {
            method: method.into(),
            target: Target(target.into()),
        };
        for (text, expected) in [
            ("orders.create", Ok(Operation::Named("orders.create".into()))),
            ("POST /v1/orders?x=1", Ok(line("POST", "/v1/orders?x=1"))),
            ("json", Err(OperationError::Unlisted)),
            ("http", Err(OperationError::Unlisted)),
            ("", Err(OperationError::Name)),
            ("/v1/orders", Err(OperationError::Name)),
            ("post /v1/orders", Err(OperationError::Name)),
            (" /v1/orders", Err(OperationError::Name)),
            ("a\tb", Err(OperationError::Name)),
            ("POST http://elsewhere/", Err(OperationError::Target)),
            ("POST /a b", Err(OperationError::Target)),
            ("POST /a#b", Err(OperationError::Target)),
            ("POST /a\r\nb: c", Err(OperationError::Target)),
            ("POST /ä", Err(OperationError::Target)),
        ] {
            assert_eq!(text.parse(), expected, "{text:?}");
        }
        assert_eq!("/".repeat(TARGET_BYTES_MAX + 1).parse::<Target>(), Err(OperationError::Target));
    }

    #[test]
    fn another_status_and_half_an_answer_are_no_answer() {
        let terms = Terms { class: None, normalizers: None };
        let answer = |status, body: &str, is_whole| Some(Answer { status, body: body.into(), is_whole });
        let drifted = Verdict::drifted;
        for (answer, expected) in [
            (
                answer(200, r#"{"b":2, "a":1.0}"#, true),
                Verdict::Drifted(Code::AnswerDrift, vec!["/a".into()]),
            ),
            (answer(200, r#"{"b":2, "a":1}"#, true), Verdict::Matched),
            (answer(200, r#"{"a":1,"b":2}"#, false), drifted(Code::StatusDrift)),
            (answer(201, r#"{"a":1,"b":2}"#, true), drifted(Code::StatusDrift)),
            (answer(200, "other", true), drifted(Code::AnswerDrift)),
            (None, drifted(Code::StatusDrift)),
        ] {
            let text = format!("{answer:?}");
            assert_eq!(judge(200, br#"{"a":1,"b":2}"#, answer, terms), expected, "{text}");
        }
        assert_eq!(judge(200, b"text", answer(200, "text", true), terms), Verdict::Matched);
        assert_eq!(judge(204, b"", answer(204, "", true), terms), Verdict::Matched);
    }
}
