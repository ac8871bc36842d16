//! Recorded calls made again for real, one after the other: those of the MCP tools, or of the operations of a plain API, that were
//! allowed by name.
//!
//! What is sent is decided here; who sends it is the caller, and so is the interlock.

mod operations;
mod tools;

use std::collections::BTreeSet;

use estoppel_bundle::{Bundle, RecordedCall, Source};
use estoppel_evidence::RunCapture;
use estoppel_policy::Determinism;
use serde::Serialize;
use serde_json::Value;

use crate::classes::{Classes, rules};
use crate::code::Code;
use crate::difference::Difference;
use crate::exact::Exact;
use crate::stored::{Verdict, as_begun};
use crate::tolerance::{Found, Part};
use crate::{Connections, Normalizers, ReplayError, Tally};

pub use self::operations::{Operation, OperationError, Operations, Target};
pub use crate::messages::answer_to;

/// Most calls of one replay.
pub const CALLS_MAX: usize = 10_000;

/// The member `live` of a certificate.
#[derive(Clone, Debug, Serialize)]
pub struct LiveReplay {
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<BTreeSet<String>>,
    sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<BTreeSet<String>>,
    #[serde(skip)]
    unnamed: u64,
    upstream: String,
}

impl LiveReplay {
    /// How many calls of allowed operations were not made, because nobody named their target.
    pub fn unnamed(&self) -> u64 {
        self.unnamed
    }
}

/// Whose calls are made; no others are.
#[derive(Debug)]
pub enum Allowed {
    /// Of a plain API.
    Operations(Operations),
    /// Of an MCP server, by name.
    Tools(BTreeSet<String>),
}

impl Allowed {
    fn is_step(&self, call: &RecordedCall) -> bool {
        let is_kind = match self {
            Self::Operations(_) => call.receipt["dialect"] == "json",
            Self::Tools(_) => tools::tool_of(call).is_some(),
        };
        call.upstream.is_some() && is_kind
    }

    /// What is sent, and what it came to; or why it is not.
    fn step<S: Source>(
        &self,
        bundle: &Bundle<S>,
        capture: Option<&RunCapture>,
        call: &RecordedCall,
    ) -> Result<Step, Verdict> {
        match self {
            Self::Operations(operations) => operations.step(bundle, capture, call),
            Self::Tools(allowed) => tools::step(allowed, bundle, capture, call),
        }
    }

    fn is_unnamed(&self, call: &RecordedCall) -> bool {
        matches!(self, Self::Operations(operations) if operations.is_unnamed(call))
    }
}

/// What a replay needs to know beside the bundle.
#[derive(Debug)]
pub struct Plan<'a> {
    pub allowed: Allowed,
    /// Scheme, host and port.
    pub upstream: String,
    /// Values of answers that may differ.
    pub normalizers: Option<&'a Normalizers>,
    pub capture: Option<&'a RunCapture>,
    pub classes: &'a mut Classes,
}

/// What is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// A message of MCP.
    Message(Vec<u8>),
    /// To a plain API.
    Plain {
        method: String,
        target: Target,
        /// Empty where there was none.
        body: Vec<u8>,
    },
}

/// What came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub is_whole: bool,
}

/// A recorded call that can be made again.
struct Step {
    request: Request,
    then: Then,
}

/// What it came to.
enum Then {
    /// The message that answered the one with this id.
    Message(Value, Message),
    Plain {
        status: u16,
        body: Vec<u8>,
    },
}

/// A message and its bytes.
type Message = (Value, Vec<u8>);

impl Then {
    fn judge(self, answer: Option<Answer>, terms: Terms<'_>) -> Verdict {
        match self {
            Self::Message(id, then) => tools::judge(&id, then, answer, terms),
            Self::Plain { status, body } => operations::judge(status, &body, answer, terms),
        }
    }
}

/// By what answers are compared.
#[derive(Clone, Copy)]
struct Terms<'a> {
    class: Option<&'a Determinism>,
    normalizers: Option<&'a Normalizers>,
}

impl Terms<'_> {
    /// As JSON, where both are.
    fn compare(self, then: &[u8], now: &[u8]) -> Verdict {
        if then == now {
            return Verdict::Matched;
        }
        if let Some(class) = self.class {
            return match (Exact::read(then), Exact::read(now)) {
                (Some(then), Some(now)) => {
                    let found = Found::of(&then, &now, rules(class, Part::Answer));
                    Verdict::of(Part::Answer, Code::AnswerDrift, found)
                }
                _ => Verdict::drifted(Code::AnswerDrift),
            };
        }
        let (Ok(mut then), Ok(mut now)) = (serde_json::from_slice(then), serde_json::from_slice(now)) else {
            return Verdict::drifted(Code::AnswerDrift);
        };
        if let Some(normalizers) = self.normalizers {
            normalizers.apply(&mut then);
            normalizers.apply(&mut now);
        }
        let differs = Difference::of(&then, &now);
        if differs.at.is_empty() { Verdict::Matched } else { Verdict::Drifted(Code::AnswerDrift, differs.at) }
    }
}

/// Makes the calls again by `ask`, which gives the answer if there was one. After the first that comes to something else no more are
/// made.
///
/// # Errors
/// [`ReplayError`]; what is wrong with a step is in the tally.
pub fn replay<S: Source>(
    bundle: &Bundle<S>,
    plan: Plan<'_>,
    ask: &mut dyn FnMut(&Request) -> Option<Answer>,
    tally: &mut Tally,
    connections: &mut Connections,
) -> Result<LiveReplay, ReplayError> {
    let steps = as_begun(bundle, CALLS_MAX, |call| plan.allowed.is_step(call))?.ok_or(ReplayError::Steps)?;
    let (mut sent, mut unnamed, mut has_diverged) = (0, 0, false);
    for call in &steps {
        connections.look().map_err(ReplayError::Connections)?;
        unnamed += u64::from(plan.allowed.is_unnamed(call));
        let verdict = match plan.allowed.step(bundle, plan.capture, call) {
            Err(verdict) => verdict,
            Ok(_) if has_diverged => Verdict::Skipped(Code::Undecided),
            Ok(step) => {
                sent += 1;
                let class = plan.classes.of(bundle, &call.receipt);
                let terms = Terms { class: class.as_deref(), normalizers: plan.normalizers };
                step.then.judge(ask(&step.request), terms)
            }
        };
        has_diverged |= matches!(verdict, Verdict::Drifted(..) | Verdict::Beyond(..));
        verdict.count(call, tally);
    }
    connections.look().map_err(ReplayError::Connections)?;
    let (operations, tools) = match plan.allowed {
        Allowed::Operations(operations) => (Some(operations.names()), None),
        Allowed::Tools(tools) => (None, Some(tools)),
    };
    Ok(LiveReplay { operations, sent, tools, unnamed, upstream: plan.upstream })
}
