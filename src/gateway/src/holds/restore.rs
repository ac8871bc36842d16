//! Holds that the journal knows of from the process before this one.

use std::sync::Arc;

use estoppel_evidence::capture::Tag;
use estoppel_evidence::entry::{ApprovalDecision, ClientEnd, HoldOf};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, HoldId, KeyId, Leaf, Reason, Sha256};
use estoppel_journal::HeldCall;
use estoppel_policy::HoldMode;
use serde::Deserialize;

use super::{Decision, Facts, Hold, Holds, Kept, State};
use crate::snapshot::Snapshot;

/// Of a `hold` entry.
#[derive(Deserialize)]
struct HoldLine {
    approvers: Vec<KeyId>,
    call: CallId,
    expires: UnixMicros,
    hold: HoldId,
    needs: u8,
    operation: Option<String>,
    #[serde(default)]
    of: HoldOf,
    payload: Tag,
    policy: Sha256,
    requester: Option<Box<str>>,
    rule: Option<String>,
    tool: Option<String>,
    ts: UnixMicros,
}

/// Of the receipt of a call that was held.
#[derive(Deserialize)]
struct CallLine {
    outcome: OutcomeLine,
    request: RequestLine,
}

#[derive(Deserialize)]
struct OutcomeLine {
    client: ClientEnd,
}

#[derive(Deserialize)]
struct RequestLine {
    bytes: u64,
    method: Box<str>,
    route: Box<str>,
    target_tag: Tag,
}

#[derive(Deserialize)]
struct ApprovalLine {
    approver: KeyId,
    decision: ApprovalDecision,
    nonce: String,
}

impl Holds {
    /// Takes over what waited. A hold that enough had approved may have been used already, so that it is over.
    pub(crate) fn restore(&self, held: Vec<HeldCall>, snapshot: &Snapshot, now_us: u64) {
        for held in held {
            let Some(hold) = read(held, snapshot) else { continue };
            let (id, approved) = (hold.facts.id, hold.approved().len() >= usize::from(hold.facts.needs));
            let end = match (approved, hold.facts.expires.0 <= now_us) {
                (true, _) => Some(State::Used),
                (false, true) => Some(State::Expired),
                (false, false) => None,
            };
            let mut table = self.table();
            if table.open >= self.max {
                tracing::warn!(hold = %id, code = Reason::HoldsMax.code(), "a hold was not taken over");
                continue;
            }
            table.open += 1;
            self.metrics.hold_restored();
            tracing::info!(hold = %id, rule = hold.facts.rule, state = end.unwrap_or(State::Open).as_str(), "a call waited");
            table.holds.insert(id, hold);
            if let Some(state) = end {
                self.end(&mut table, id, state, now_us);
            }
        }
    }
}

/// `None`: its client waited for it and is gone, or was told nothing; or its approvers are not this policy's.
fn read(held: HeldCall, snapshot: &Snapshot) -> Option<Hold> {
    let line: HoldLine = serde_json::from_slice(&held.hold).ok()?;
    let call: CallLine = serde_json::from_slice(&held.call).ok()?;
    if call.outcome.client != ClientEnd::Refused {
        return None;
    }
    let approver =
        |id: &KeyId| snapshot.policy.approver(*id).map(|(name, approver)| (name.into(), approver.clone()));
    let approvers = match line.policy == snapshot.policy_hash {
        true => line.approvers.iter().map(approver).collect::<Option<Vec<_>>>()?,
        // It cannot be approved any more; its client is told why.
        false => Vec::new(),
    };
    let decision = |line: &Vec<u8>| {
        let ApprovalLine { approver, decision, nonce } = serde_json::from_slice(line).ok()?;
        Some(Decision { approver, nonce, decision, noted: true })
    };
    let facts = Facts {
        id: line.hold,
        call: line.call,
        run: held.run.id(),
        kept: Kept {
            route: call.request.route,
            method: call.request.method,
            target: call.request.target_tag,
            payload: line.payload,
            of: line.of,
            requester: line.requester,
        },
        bytes: call.request.bytes,
        body: None,
        rule: line.rule,
        tool: line.tool,
        operation: line.operation.unwrap_or_default(),
        policy: line.policy,
        approvers,
        needs: line.needs,
        mode: HoldMode::Accepted,
        opened: line.ts,
        expires: line.expires,
    };
    Some(Hold {
        facts: Arc::new(facts),
        asked: None,
        state: State::Open,
        leaf: Some(Leaf::of(&held.hold)),
        run: Some(held.run),
        decisions: held.approvals.iter().map(decision).collect::<Option<Vec<_>>>()?,
        changed: Arc::default(),
    })
}
