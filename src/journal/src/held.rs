//! Calls that still wait for people, as they are found in a journal that is read back.

use std::collections::HashMap;

use estoppel_evidence::entry::{ApprovalDecision, VerdictAction};
use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{CallId, HoldId, RunId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::run::RunHandle;

/// Least holds at which, while a journal is read, those whose time was over are forgotten.
const PRUNE_AT: usize = 4_096;

/// A call that waited when its process ended: nobody has denied it, it was not let go, and its run goes on.
pub struct HeldCall {
    /// The run goes on while this exists.
    pub run: RunHandle,
    /// The `hold` entry.
    pub hold: Vec<u8>,
    /// The receipt of the call that was held. It was written before its client was told.
    pub call: Vec<u8>,
    /// The `approval` entries, in order.
    pub approvals: Vec<Vec<u8>>,
}

/// What [`HeldCall`] is made of.
pub(crate) struct Found {
    pub run: RunId,
    pub hold: Vec<u8>,
    pub call: Option<Vec<u8>>,
    pub approvals: Vec<Vec<u8>>,
    expires: UnixMicros,
}

/// Members that only entries about holds have.
#[derive(Deserialize)]
struct Members<'a> {
    approval: Option<ApprovalLine>,
    decision: Option<ApprovalDecision>,
    expires: Option<UnixMicros>,
    /// An id, or an object in a receipt.
    #[serde(default, borrow)]
    hold: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ApprovalLine {
    hold: HoldId,
}

/// Holds that nothing has ended yet, while entries pass by.
#[derive(Default)]
pub(crate) struct Holds {
    open: HashMap<HoldId, Found>,
    of_call: HashMap<CallId, HoldId>,
    /// Twice what was left the last time.
    prune_at: usize,
}

impl Holds {
    /// Takes over what an entry changes. `call` is the entry's own call, `action` the verdict of a receipt.
    pub fn follow(
        &mut self,
        kind: &str,
        (run, call, action): (RunId, Option<CallId>, Option<VerdictAction>),
        bytes: &[u8],
        now: UnixMicros,
    ) -> Result<(), serde_json::Error> {
        let is_about = matches!(kind, "hold" | "approval") || kind == "call" && !self.open.is_empty();
        if !is_about {
            return Ok(());
        }
        let members: Members<'_> = serde_json::from_slice(bytes)?;
        let id = || serde_json::from_str::<HoldId>(members.hold?.get()).ok();
        match (kind, call) {
            ("hold", Some(call)) => {
                let (Some(id), Some(expires)) = (id(), members.expires) else { return Ok(()) };
                let found = Found { run, hold: bytes.into(), call: None, approvals: Vec::new(), expires };
                self.of_call.insert(call, id);
                self.open.insert(id, found);
                if self.open.len() >= self.prune_at.max(PRUNE_AT) {
                    self.keep(|found| found.expires > now);
                    self.prune_at = self.open.len() * 2;
                }
            }
            ("approval", _) => {
                let Some(id) = id() else { return Ok(()) };
                if members.decision == Some(ApprovalDecision::Deny) {
                    self.open.remove(&id);
                } else if let Some(found) = self.open.get_mut(&id) {
                    found.approvals.push(bytes.into());
                }
            }
            ("call", Some(call)) => {
                if let Some(approval) = &members.approval {
                    self.open.remove(&approval.hold);
                }
                let waits = action == Some(VerdictAction::Hold);
                let id = self.of_call.remove(&call).filter(|_| waits);
                if let Some(found) = id.and_then(|id| self.open.get_mut(&id)) {
                    found.call = Some(bytes.into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The run gets no more entries.
    pub fn seal(&mut self, run: RunId) {
        if !self.open.is_empty() {
            self.keep(|found| found.run != run);
        }
    }

    fn keep(&mut self, keeps: impl Fn(&Found) -> bool) {
        self.open.retain(|_, found| keeps(found));
        let open = &self.open;
        self.of_call.retain(|_, id| open.contains_key(id));
    }

    /// Those whose clients were told, the oldest first.
    pub fn finish(self) -> Vec<Found> {
        let mut found: Vec<(HoldId, Found)> =
            self.open.into_iter().filter(|(_, found)| found.call.is_some()).collect();
        found.sort_by_key(|(id, _)| *id);
        found.into_iter().map(|(_, found)| found).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn call(n: usize) -> String {
        format!("01936a2b-0000-7000-8000-{n:012}")
    }

    fn follow(holds: &mut Holds, kind: &str, n: usize, more: Value, now: u64) {
        let mut line = json!({ "expires": "2026-11-21T04:00:00.000000Z" });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        let of = (call(900_000).parse().unwrap(), Some(call(n).parse().unwrap()), Some(VerdictAction::Hold));
        holds.follow(kind, of, line.to_string().as_bytes(), UnixMicros(now)).unwrap();
    }

    fn opened(holds: &mut Holds, n: usize) {
        follow(holds, "hold", n, json!({ "hold": call(n) }), 0);
        follow(holds, "call", n, json!({ "hold": null }), 0);
    }

    #[test]
    fn only_what_nothing_has_ended_is_left_with_its_decisions() {
        let mut holds = Holds::default();
        (0..4).for_each(|n| opened(&mut holds, n));
        follow(&mut holds, "hold", 4, json!({ "hold": call(4) }), 0); // its client was never told
        follow(&mut holds, "approval", 9, json!({ "hold": call(0), "decision": "approve" }), 0);
        follow(&mut holds, "approval", 9, json!({ "hold": call(1), "decision": "deny" }), 0);
        follow(
            &mut holds,
            "call",
            9,
            json!({ "approval": { "hold": call(2) }, "hold": { "id": call(2) } }),
            0,
        );
        let left: Vec<usize> = holds.finish().iter().map(|found| found.approvals.len()).collect();
        assert_eq!(left, [1, 0], "the approved one and the untouched one");
    }

    #[test]
    fn a_sealed_run_has_none() {
        let mut holds = Holds::default();
        opened(&mut holds, 1);
        holds.seal(call(900_000).parse().unwrap());
        assert!(holds.finish().is_empty());
    }

    #[test]
    fn those_whose_time_was_over_do_not_pile_up() {
        let late = UnixMicros::parse("2026-11-21T04:00:01.000000Z").unwrap().0;
        let mut holds = Holds::default();
        for n in 0..3 * PRUNE_AT {
            follow(&mut holds, "hold", n, json!({ "hold": call(n) }), late);
            assert!(holds.open.len() <= PRUNE_AT && holds.of_call.len() <= PRUNE_AT);
        }
    }
}
