//! An entry of the journal as a feed reads it: what the stored line says, and nothing that it does not say.
//!
//! Unknown members are passed over, so that receipts of a later minor version are told as far as they are known here.

use std::collections::BTreeMap;

use estoppel_evidence::time::UnixMicros;
use serde::Deserialize;
use serde_json::{Value, json};

/// Any entry. Members that only some kinds have are optional; `kind` says which are there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    pub kind: String,
    pub iss: String,
    pub kid: String,
    pub run: String,
    pub seq: u64,
    pub prev: Option<String>,
    pub ts: String,
    pub call: Option<String>,
    pub claims: BTreeMap<String, String>,
    pub contract: Option<Value>,
    pub data_class: Vec<String>,
    pub destination: Option<String>,
    pub detectors: Vec<Detector>,
    pub dialect: Option<String>,
    pub downgrades: Vec<Downgrade>,
    pub evaluated: Option<Value>,
    pub ext: BTreeMap<String, Value>,
    pub facts: Facts,
    pub identity: Identity,
    pub limits: Option<Value>,
    pub operation: Option<String>,
    pub outcome: Outcome,
    /// An object in a receipt, a digest in other kinds.
    pub policy: Option<Value>,
    pub repair: Option<Repair>,
    pub request: Request,
    pub response: Response,
    pub risk: Option<u64>,
    pub shadow: Vec<Shadow>,
    pub tenant: Option<String>,
    pub threat: Threat,
    pub time: Time,
    pub upstream: Option<String>,
    pub verdict: Verdict,
    pub attempt: u64,
    /// An id in a `hold` or an `approval`, an object in a receipt.
    pub hold: Option<Value>,
    pub approval: Option<Value>,
    pub decision: Option<String>,
    pub approver: Option<String>,
    pub approvers: Vec<String>,
    pub needs: Option<u64>,
    pub expires: Option<String>,
    pub requester: Option<String>,
    pub rule: Option<String>,
    pub tool: Option<String>,
    pub by: Option<String>,
    pub comment: Option<String>,
    pub act: Option<String>,
    pub on: Option<String>,
    pub source: Option<String>,
    pub count: Option<u64>,
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    pub class: Option<String>,
    pub build: Option<Build>,
    pub reason: Option<String>,
    pub state: Option<String>,
    pub refused: Option<u64>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub dropped_bytes: Option<u64>,
    pub last_index: Option<u64>,
    pub segment: Option<String>,
    pub new: Option<String>,
    pub old: Option<String>,
    #[serde(rename = "use")]
    pub use_: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Detector {
    pub id: String,
    pub outcome: String,
    pub version: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Downgrade {
    pub code: String,
    pub detail: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    pub error: Option<String>,
    pub finish: Vec<String>,
    pub model: Option<String>,
    pub model_served: Option<String>,
    pub stream: Option<bool>,
    pub tools_called: Vec<String>,
    pub usage: Usage,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub total: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Identity {
    pub kind: String,
    pub subject: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    pub client: String,
    pub code: String,
    pub complete: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Repair {
    pub applied: bool,
    pub strategy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    pub bytes: u64,
    pub method: String,
    pub route: Option<String>,
    pub version: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Response {
    pub client: Side,
    pub upstream: Option<Side>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Side {
    pub bytes: u64,
    pub status: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Shadow {
    pub policy: String,
    pub reason: Option<String>,
    pub rule: Option<String>,
    pub state: String,
    pub verdict: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Threat {
    pub class: Option<String>,
    pub ids: Vec<String>,
    pub severity: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Time {
    pub first_byte_us: Option<u64>,
    pub total_us: u64,
    pub upstream_us: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Verdict {
    pub action: String,
    pub mode: String,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Build {
    pub name: String,
    pub version: String,
}

impl Line {
    /// The policy's hash, wherever the kind has it.
    pub fn policy_hash(&self) -> Option<&str> {
        match self.policy.as_ref()? {
            Value::String(hash) => Some(hash),
            policy => policy.get("hash")?.as_str(),
        }
    }

    /// A member of a receipt's policy: `rule` or `version`.
    pub fn policy_member(&self, name: &str) -> Option<&str> {
        self.policy.as_ref()?.get(name)?.as_str()
    }

    /// Whether the call went through as it was meant to.
    pub fn went_well(&self) -> bool {
        self.outcome.code == "OK" && self.outcome.complete && self.verdict.action != "block"
    }

    /// The model that answered, or was asked for.
    pub fn model(&self) -> Option<&str> {
        self.facts.model_served.as_deref().or(self.facts.model.as_deref())
    }

    /// When it was written, in microseconds; 0 when the time cannot be read.
    pub fn ts_us(&self) -> u64 {
        UnixMicros::parse(&self.ts).map_or(0, |ts| ts.0)
    }

    /// Whether the verdict was only noted.
    pub fn is_shadow(&self) -> bool {
        self.verdict.mode == "shadow"
    }

    /// Whose models the dialect is of, for a call in which a model speaks.
    pub fn provider(&self) -> Option<&'static str> {
        match self.dialect.as_deref()? {
            "openai_chat" | "openai_responses" => Some("openai"),
            "anthropic_messages" => Some("anthropic"),
            "gemini" => Some("google"),
            _ => None,
        }
    }

    /// The method of an MCP call.
    pub fn mcp_method(&self) -> Option<&str> {
        self.operation.as_deref()?.strip_prefix("mcp.").filter(|_| self.dialect.as_deref() == Some("mcp"))
    }

    /// What only a `hold`, an `approval`, an `act` or a `bypass` says; of a receipt, the hold and the approval that it had.
    pub fn particulars(&self) -> Value {
        match self.kind.as_str() {
            "hold" => json!({ "hold": {
                "id": self.hold, "call": self.call, "operation": self.operation, "tool": self.tool, "rule": self.rule,
                "needs": self.needs, "expires": self.expires, "approvers": self.approvers,
            } }),
            "approval" => json!({ "approval": {
                "hold": self.hold, "decision": self.decision, "approver": self.approver, "comment": self.comment,
                "expires": self.expires,
            } }),
            "act" => json!({ "act": {
                "act": self.act, "on": self.on, "state": self.state, "reason": self.reason, "comment": self.comment,
            } }),
            "bypass" => json!({ "bypass": {
                "source": self.source, "upstream": self.upstream, "reason": self.reason, "count": self.count,
                "ref": self.reference, "comment": self.comment,
            } }),
            "call" => json!({ "hold": self.hold, "approval": self.approval, "reask": self.ext.get("reask") }),
            _ => Value::Null,
        }
    }

    /// What a person reads first: `block mcp.tools/call TOOL_DENIED`.
    pub fn summary(&self) -> String {
        match self.kind.as_str() {
            "call" => {
                let operation = self.operation.as_deref().unwrap_or("call");
                let code = self.verdict.reason.as_deref().filter(|_| self.outcome.code == "OK");
                format!("{} {operation} {}", self.verdict.action, code.unwrap_or(&self.outcome.code))
            }
            kind => {
                let detail = [&self.act, &self.decision, &self.state, &self.use_, &self.source, &self.reason]
                    .into_iter()
                    .flatten();
                detail.fold(kind.to_owned(), |text, word| format!("{text} {word}"))
            }
        }
    }
}
