//! What no schema of others has a field for: the same members under `unmapped` of OCSF and `estoppel` of ECS.

use estoppel_journal::Entry;
use serde_json::{Value, json};

use crate::document::present;
use crate::read::{Line, Shadow};

/// What an entry says beside what both schemas have fields for.
pub(crate) fn members(entry: &Entry, line: &Line) -> Value {
    let call = line.kind == "call";
    let mut members = json!({
        "log_index": is_stored(line).then_some(entry.index),
        "verdict": call.then(|| json!({
            "action": line.verdict.action, "mode": line.verdict.mode, "reason": line.verdict.reason,
        })),
        "outcome": call.then(|| json!({ "client": line.outcome.client, "complete": line.outcome.complete })),
        "shadow_verdict": (!line.shadow.is_empty() || line.is_shadow()).then_some(true),
        "shadow": shadow(line),
        "claims": line.claims,
        "contract": line.contract,
        "data_class": line.data_class,
        "destination": line.destination,
        "detectors": line.detectors.iter().map(|d| json!({ "id": d.id, "outcome": d.outcome })).collect::<Vec<_>>(),
        "downgrades": line.downgrades.iter().map(|d| &d.code).collect::<Vec<_>>(),
        "evaluated": line.evaluated,
        "limits": line.limits,
        "repair": line.repair.as_ref().filter(|repair| repair.applied).map(|repair| json!({ "strategy": repair.strategy })),
        "threat_class": line.threat.class,
        "threat_ids": line.threat.ids,
        "gap": (line.kind == "gap").then(|| json!({ "from": line.from, "to": line.to, "refused": line.refused })),
        "recover": line.dropped_bytes.map(|bytes| json!({
            "dropped_bytes": bytes, "segment": line.segment, "last_index": line.last_index,
        })),
    });
    merge(&mut members, line.particulars());
    members
}

/// Verdicts of other policies, which changed nothing.
fn shadow(line: &Line) -> Vec<Value> {
    let one = |shadow: &Shadow| {
        present(json!({
            "policy": shadow.policy,
            "state": shadow.state,
            "verdict": shadow.verdict,
            "rule": shadow.rule,
            "reason": shadow.reason,
        }))
    };
    line.shadow.iter().map(one).collect()
}

/// Whether the line is an entry, and not what a feed says of itself.
pub(crate) fn is_stored(line: &Line) -> bool {
    line.kind != "feed"
}

/// Puts the members of `more` into `event`.
pub(crate) fn merge(event: &mut Value, more: Value) {
    if let (Value::Object(event), Value::Object(more)) = (event, more) {
        event.extend(more);
    }
}
