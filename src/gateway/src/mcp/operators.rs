//! What operators see of pinned tools and do about them. What they do leaves a receipt, as a call of the gateway's own.

use std::sync::Arc;

use estoppel_evidence::entry::{BodyMode, CallRecord, Captured, ClientEnd, Outcome, Storage, VerdictAction};
use estoppel_evidence::{Leaf, Reason, Sha256, text};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::pins::NotThere;
use crate::serve::Shared;

/// What an operator may say of one tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The definition with this digest, which was refused, counts from now on.
    Accept(Sha256),
    /// What its server says next counts.
    Forget,
}

/// The tool that is meant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Which {
    pub(crate) route: String,
    pub(crate) server: String,
    pub(crate) tool: String,
    pub(crate) definition: Option<Sha256>,
}

impl Which {
    /// Reads `route=…&server=…&tool=…&definition=…`. None if one is unknown, missing or comes twice.
    pub(crate) fn read(query: &str, decode: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let mut which = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=')?;
            let value = decode(value)?;
            let place = match key {
                "route" => &mut which.route,
                "server" => &mut which.server,
                "tool" => &mut which.tool,
                "definition" if which.definition.is_none() => {
                    which.definition = Some(Sha256::parse(&value)?);
                    continue;
                }
                _ => return None,
            };
            if !std::mem::replace(place, value).is_empty() {
                return None;
            }
        }
        let is_whole = [&which.route, &which.server, &which.tool].iter().all(|text| !text.is_empty());
        is_whole.then_some(which)
    }
}

/// Every pinned tool.
pub(crate) fn rows(shared: &Shared) -> Vec<Value> {
    let snapshot = shared.snapshot.load();
    snapshot.routes.iter().flat_map(|route| route.pins.rows(&route.name)).collect()
}

/// Does what an operator said, once a receipt has its place. Gives the receipt's id.
///
/// # Errors
/// There is no such tool or definition, or no receipt can be kept.
pub(crate) async fn say(shared: &Arc<Shared>, which: &Which, word: Word) -> Result<Option<Leaf>, Reason> {
    let slot = shared.journal.admit().map_err(|refused| refused.reason())?;
    let run = shared.journal.run(None).map_err(|refused| refused.reason())?;
    let snapshot = shared.snapshot.load_full();
    let route = snapshot.routes.iter().find(|route| *route.name == *which.route);
    let pins = route.map(|route| route.pins.clone()).ok_or(Reason::ToolUnknown)?;
    let done = match word {
        Word::Accept(definition) => pins.accept(&which.server, &which.tool, definition),
        Word::Forget => pins.forget(&which.server, &which.tool),
    };
    let mut record = record(shared, which, word, snapshot.policy_hash);
    if done == Err(NotThere) {
        record.outcome.code = Reason::ToolUnknown;
        record.response.client_status = Reason::ToolUnknown.status();
    }
    let kept = slot.commit(&run, record).await.map_err(|error| error.reason())?;
    tracing::info!(route = %which.route, tool = %which.tool.escape_debug(), ?word, ?done, "an operator's word on a pinned tool");
    done.map(|()| kept.leaf()).map_err(|NotThere| Reason::ToolUnknown)
}

fn record(shared: &Shared, which: &Which, word: Word, policy: Sha256) -> Box<CallRecord> {
    let mut record = shared.blank_record();
    record.call = shared.next_call();
    let (operation, definition) = match word {
        Word::Accept(definition) => ("estoppel.mcp.pins.accept", Some(definition.to_string())),
        Word::Forget => ("estoppel.mcp.pins.forget", None),
    };
    let said =
        json!({ "definition": definition, "route": which.route, "server": which.server, "tool": which.tool });
    let said = said.to_string();
    record.operation = operation.into();
    record.policy.hash = policy;
    record.request.method = "POST".into();
    record.request.route = Some(text::name(&which.route).into());
    record.request.target = sha2::Sha256::digest(said.as_bytes()).into();
    record.storage = Storage { mode: BodyMode::None, ..Storage::default() };
    record.request.body = Captured::default();
    record.facts.tools_called = vec![text::name(&which.tool).into()];
    record.verdict.action = VerdictAction::Allow;
    record.response.client_status = 200;
    record.outcome = Outcome { client: ClientEnd::HandedOver, code: Reason::Ok, complete: true };
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_named_whole_and_once() {
        let read = |query: &str| Which::read(query, |text| Some(text.to_owned()));
        let which = read("route=r&server=/mcp&tool=t").unwrap();
        assert_eq!((which.route.as_str(), which.server.as_str(), which.tool.as_str()), ("r", "/mcp", "t"));
        for wrong in ["", "route=r&tool=t", "route=r&server=s&tool=t&tool=u", "route=r&server=s&tool=t&x=1"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read("route=r&server=s&tool=t&definition=x"), None);
    }
}
