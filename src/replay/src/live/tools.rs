//! Calls of MCP tools.

use std::collections::BTreeSet;

use estoppel_bundle::{Bundle, RecordedCall, Source};
use estoppel_evidence::RunCapture;
use serde_json::Value;

use super::{Answer, Message, Request, Step, Terms, Then};
use crate::code::Code;
use crate::messages::message_to;
use crate::stored::{Stored, Verdict, absent};

/// The tool that a call of MCP calls.
pub(super) fn tool_of(call: &RecordedCall) -> Option<&str> {
    let receipt = &call.receipt;
    let is_mcp = receipt["dialect"] == "mcp";
    receipt["facts"]["tools_called"][0].as_str().filter(|_| is_mcp)
}

pub(super) fn step<S: Source>(
    allowed: &BTreeSet<String>,
    bundle: &Bundle<S>,
    capture: Option<&RunCapture>,
    call: &RecordedCall,
) -> Result<Step, Verdict> {
    let tool = tool_of(call).filter(|tool| allowed.contains(*tool));
    let tool = tool.ok_or(Verdict::Skipped(Code::ToolNotAllowed))?;
    if call.receipt["outcome"]["complete"] != true {
        return Err(Verdict::Truncated);
    }
    let stored = Stored::of(bundle, capture, call)?;
    let (Some(request), Some(answer)) = (stored.request, stored.upstream) else {
        return Err(Verdict::Skipped(absent(call)));
    };
    let message: Value = serde_json::from_slice(&request).map_err(|_| Verdict::Skipped(Code::Undecided))?;
    // The name that was allowed has to be the one that the tool's server will read.
    let is_it = message["method"] == "tools/call" && message["params"]["name"] == tool;
    let then = message_to(&message["id"], &answer).filter(|_| is_it);
    let then = then.ok_or(Verdict::Skipped(Code::Undecided))?;
    Ok(Step { request: Request::Message(request), then: Then::Message(message["id"].clone(), then) })
}

/// What came before an answer broke off may hold the message.
pub(super) fn judge(
    id: &Value,
    (then, then_bytes): Message,
    answer: Option<Answer>,
    terms: Terms<'_>,
) -> Verdict {
    let Some((now, now_bytes)) = answer.and_then(|answer| message_to(id, &answer.body)) else {
        return Verdict::drifted(Code::StatusDrift);
    };
    let failed = |message: &Value| message.get("error").is_some() || message["result"]["isError"] == true;
    if failed(&then) != failed(&now) {
        return Verdict::drifted(Code::StatusDrift);
    }
    terms.compare(&then_bytes, &now_bytes)
}
