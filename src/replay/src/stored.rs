//! The stored bodies of a step, held against what was recorded of them.

use estoppel_bundle::{Bundle, OpenError, RecordedCall, RecordedEntry, Side, Source};
use estoppel_evidence::capture::Label;
use estoppel_evidence::entry::BodyMode;
use estoppel_evidence::{RunCapture, Sha256};
use serde_json::Value;

use crate::code::Code;
use crate::tally::Tally;
use crate::tolerance::{Found, Part};

/// What became of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Matched,
    /// But for what is tolerated.
    Within(Part, Found),
    Truncated,
    Skipped(Code),
    /// And where.
    Drifted(Code, Vec<String>),
    /// And where, and how far, where a tolerance is declared.
    Beyond(Code, Found),
}

impl Verdict {
    pub fn drifted(code: Code) -> Self {
        Self::Drifted(code, Vec::new())
    }

    /// What differs of a part of which a class is declared: nothing, what is tolerated, or more.
    pub fn of(part: Part, drift: Code, found: Found) -> Self {
        match (found.is_within(), found.tolerated_count) {
            (true, 0) => Self::Matched,
            (true, _) => Self::Within(part, found),
            (false, _) => Self::Beyond(drift, found),
        }
    }

    pub fn count(self, call: &RecordedCall, tally: &mut Tally) {
        match self {
            Self::Matched => tally.matched(),
            Self::Within(part, found) => {
                tally.matched();
                tally.tolerated((call.seq, call.call), part, found);
            }
            Self::Beyond(code, found) => tally.drifted_beyond(code, (call.seq, call.call), found),
            Self::Truncated => tally.truncated(),
            Self::Skipped(code) => tally.skipped(code),
            Self::Drifted(code, at) => tally.drifted(code, (call.seq, call.call), at),
        }
    }
}

impl From<OpenError> for Verdict {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Changed { .. } => Self::drifted(Code::BodyDrift),
            _ => Self::Skipped(Code::BodyAbsent),
        }
    }
}

/// The bytes of a call, as they passed.
pub(crate) struct Stored {
    pub request: Option<Vec<u8>>,
    pub upstream: Option<Vec<u8>>,
    pub client: Option<Vec<u8>>,
}

impl Stored {
    /// `capture` is the run's key, by which bodies are held against the tags of what passed.
    pub fn of<S: Source>(
        bundle: &Bundle<S>,
        capture: Option<&RunCapture>,
        call: &RecordedCall,
    ) -> Result<Self, Verdict> {
        let body = |side: &Side, label: Label| -> Result<Option<Vec<u8>>, Verdict> {
            let body = bundle.body(side)?;
            if call.mode != BodyMode::Full {
                return Ok(None);
            }
            match (&body, capture, side.tag) {
                (Some(body), Some(capture), Some(tag)) if capture.tag(label, &Sha256::of(body).0) != tag => {
                    Err(Verdict::drifted(Code::BodyDrift))
                }
                _ => Ok(body),
            }
        };
        Ok(Self {
            request: body(&call.request, Label::RequestBody)?,
            upstream: match &call.upstream {
                Some(side) => body(side, Label::ResponseBody)?,
                None => None,
            },
            client: body(&call.client, Label::ResponseBody)?,
        })
    }
}

/// The calls that are steps, in the order in which they began; none where there are more than `most`.
pub(crate) fn as_begun<S: Source>(
    bundle: &Bundle<S>,
    most: usize,
    mut is_step: impl FnMut(&RecordedCall) -> bool,
) -> Result<Option<Vec<RecordedCall>>, OpenError> {
    let mut steps = Vec::new();
    let mut entries = bundle.recorded()?;
    while let Some(entry) = entries.next()? {
        let RecordedEntry::Call(call) = entry else { continue };
        if !is_step(&call) {
            continue;
        }
        if steps.len() == most {
            return Ok(None);
        }
        steps.push(*call);
    }
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let began = |call: &RecordedCall| {
        number(&call.receipt["mono_us"]).saturating_sub(number(&call.receipt["time"]["total_us"]))
    };
    steps.sort_by_key(|call| (began(call), call.seq));
    Ok(Some(steps))
}

/// Why a body that is needed is not there.
pub(crate) fn absent(call: &RecordedCall) -> Code {
    if call.mode == BodyMode::Redacted { Code::BodyRedacted } else { Code::BodyAbsent }
}
