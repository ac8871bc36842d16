//! Recorded calls of MCP tools, made again for real: those of tools that were allowed by name, one after the other.
//!
//! What is sent is decided here; who sends it is the caller, and so is the interlock.

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
use crate::messages::message_to;
use crate::stored::{Stored, Verdict, absent, as_begun};
use crate::tolerance::{Found, Part};
use crate::{Connections, Normalizers, ReplayError, Tally};

pub use crate::messages::answer_to;

/// Most calls of one replay.
pub const CALLS_MAX: usize = 10_000;

/// The member `live` of a certificate.
#[derive(Clone, Debug, Serialize)]
pub struct LiveReplay {
    sent: u64,
    tools: BTreeSet<String>,
    upstream: String,
}

/// What a replay needs to know beside the bundle.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Calls of no other tool are made.
    pub tools: BTreeSet<String>,
    /// Scheme, host and port.
    pub upstream: String,
    /// Values of messages that may differ.
    pub normalizers: Option<&'a Normalizers>,
    pub capture: Option<&'a RunCapture>,
    pub classes: &'a mut Classes,
}

/// Makes the calls again by `ask`, which gives the body of the answer if there was one. After the first that comes to something
/// else no more are made.
///
/// # Errors
/// [`ReplayError`]; what is wrong with a step is in the tally.
pub fn replay<S: Source>(
    bundle: &Bundle<S>,
    plan: Plan<'_>,
    ask: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
    tally: &mut Tally,
    connections: &mut Connections,
) -> Result<LiveReplay, ReplayError> {
    let is_step = |call: &RecordedCall| call.upstream.is_some() && tool_of(call).is_some();
    let steps = as_begun(bundle, CALLS_MAX, is_step)?.ok_or(ReplayError::Steps)?;
    let (mut sent, mut has_diverged) = (0, false);
    for call in &steps {
        connections.look().map_err(ReplayError::Connections)?;
        let verdict = match request(bundle, &plan, call) {
            Err(verdict) => verdict,
            Ok(_) if has_diverged => Verdict::Skipped(Code::Undecided),
            Ok((request, then)) => {
                sent += 1;
                let class = plan.classes.of(bundle, &call.receipt);
                compare(&request, then, ask(&request), (class.as_deref(), plan.normalizers))
            }
        };
        has_diverged |= matches!(verdict, Verdict::Drifted(..) | Verdict::Beyond(..));
        verdict.count(call, tally);
    }
    connections.look().map_err(ReplayError::Connections)?;
    Ok(LiveReplay { sent, tools: plan.tools, upstream: plan.upstream })
}

/// The tool that a call of MCP calls.
fn tool_of(call: &RecordedCall) -> Option<&str> {
    let receipt = &call.receipt;
    let is_mcp = receipt["dialect"] == "mcp";
    receipt["facts"]["tools_called"][0].as_str().filter(|_| is_mcp)
}

/// A message and its bytes.
type Message = (Value, Vec<u8>);

/// What is sent, and what it came to.
fn request<S: Source>(
    bundle: &Bundle<S>,
    plan: &Plan<'_>,
    call: &RecordedCall,
) -> Result<(Vec<u8>, Message), Verdict> {
    let tool = tool_of(call).filter(|tool| plan.tools.contains(*tool));
    let tool = tool.ok_or(Verdict::Skipped(Code::ToolNotAllowed))?;
    if call.receipt["outcome"]["complete"] != true {
        return Err(Verdict::Truncated);
    }
    let stored = Stored::of(bundle, plan.capture, call)?;
    let (Some(request), Some(answer)) = (stored.request, stored.upstream) else {
        return Err(Verdict::Skipped(absent(call)));
    };
    let message: Value = serde_json::from_slice(&request).map_err(|_| Verdict::Skipped(Code::Undecided))?;
    // The name that was allowed has to be the one that the tool's server will read.
    let is_it = message["method"] == "tools/call" && message["params"]["name"] == tool;
    let then = message_to(&message["id"], &answer).filter(|_| is_it);
    then.map(|then| (request, then)).ok_or(Verdict::Skipped(Code::Undecided))
}

fn compare(
    request: &[u8],
    (mut then, then_bytes): Message,
    answer: Option<Vec<u8>>,
    (class, normalizers): (Option<&Determinism>, Option<&Normalizers>),
) -> Verdict {
    let id = serde_json::from_slice::<Value>(request).map(|message| message["id"].clone());
    let now = match (answer, id) {
        (Some(answer), Ok(id)) => message_to(&id, &answer),
        _ => None,
    };
    let Some((mut now, now_bytes)) = now else { return Verdict::drifted(Code::StatusDrift) };
    let failed = |message: &Value| message.get("error").is_some() || message["result"]["isError"] == true;
    if failed(&then) != failed(&now) {
        return Verdict::drifted(Code::StatusDrift);
    }
    if let Some(class) = class {
        return match (Exact::read(&then_bytes), Exact::read(&now_bytes)) {
            (Some(then), Some(now)) => {
                let found = Found::of(&then, &now, rules(class, Part::Answer));
                Verdict::of(Part::Answer, Code::AnswerDrift, found)
            }
            _ if then_bytes == now_bytes => Verdict::Matched,
            _ => Verdict::drifted(Code::AnswerDrift),
        };
    }
    if let Some(normalizers) = normalizers {
        normalizers.apply(&mut then);
        normalizers.apply(&mut now);
    }
    let differs = Difference::of(&then, &now);
    if differs.at.is_empty() { Verdict::Matched } else { Verdict::Drifted(Code::AnswerDrift, differs.at) }
}
