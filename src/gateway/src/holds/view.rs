//! Holds as operators and approvers see them.

use estoppel_evidence::entry::ApprovalDecision;
use estoppel_evidence::{HoldId, Instance};
use serde_json::{Value, json};

use super::{Asked, Hold, Holds};

impl Holds {
    /// All that are known, the newest first.
    pub(crate) fn list(&self, iss: &Instance, now_us: u64) -> Value {
        self.sweep(now_us);
        let table = self.table();
        let mut holds: Vec<&Hold> = table.holds.values().collect();
        holds.sort_by_key(|hold| std::cmp::Reverse((hold.facts.opened, hold.facts.id)));
        json!({ "holds": holds.into_iter().map(|hold| hold.view(iss, false)).collect::<Vec<_>>() })
    }

    /// One, with what its call says where that is stored.
    pub(crate) fn show(&self, id: HoldId, iss: &Instance, now_us: u64) -> Option<Value> {
        self.sweep(now_us);
        self.table().holds.get(&id).map(|hold| hold.view(iss, true))
    }
}

impl Hold {
    fn view(&self, iss: &Instance, with_content: bool) -> Value {
        let asked = self.asked.as_ref().filter(|_| with_content);
        let facts = &self.facts;
        let decision = |approver| {
            let mut made = self.decisions.iter().filter(|decision| decision.noted);
            made.find(|decision| decision.approver == approver).map(|made| match made.decision {
                ApprovalDecision::Approve => "approve",
                ApprovalDecision::Deny => "deny",
            })
        };
        let approvers = facts.approvers.iter().map(|(name, approver)| {
            json!({ "name": name, "kid": approver.id(), "decision": decision(approver.id()) })
        });
        json!({
            "id": facts.id,
            "state": self.state.as_str(),
            "iss": iss,
            "run": facts.run,
            "call": facts.call,
            "route": facts.kept.route,
            "method": facts.kept.method,
            "target": asked.and_then(|asked| asked.target.as_deref()),
            "content_type": asked.and_then(Asked::content_type),
            "credential": asked.map(Asked::has_credential),
            "operation": facts.operation,
            "tool": facts.tool,
            "rule": facts.rule,
            "requester": facts.kept.requester,
            "payload": facts.kept.payload,
            "bytes": facts.bytes,
            "policy": facts.policy,
            "needs": facts.needs,
            "approved": self.approved().len(),
            "approvers": approvers.collect::<Vec<_>>(),
            "mode": facts.mode.as_str(),
            "opened": facts.opened,
            "expires": facts.expires,
            "body": facts.body.as_deref().filter(|_| with_content),
        })
    }
}
