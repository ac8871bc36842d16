//! The rows of a promotion: one of each gate that its contract asks at that stage, and none that refuses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Contracted, DECIDED, Past, holds, holds_from, is_generation, ladder, list};
use crate::generation::StageName;
use crate::ledger::{Body, Role};
use crate::version::Version;

/// Gates that hold whatever a contract says.
const ALWAYS: [&str; 5] =
    ["contract_sealed", "candidate", "all_changes_proven", "integration_at_candidate", "no_failed"];
/// Gates that a contract asks by their names, beside those of [`DECIDED`].
const SHOWN: [&str; 4] = ["evidence_bundle", "policy_hash", "regress", "replay_certificate"];
/// Gates that somebody may answer for, beside programs.
const WAIVABLE: [&str; 9] = [
    "freeze_window",
    "hotfix_forward_ported",
    "min_evolutions",
    "no_failed",
    "perf_budget",
    "proof_max_age",
    "regress",
    "replay_certificate",
    "soak",
];

impl Past<'_> {
    /// Nothing is promoted whose rows say otherwise, or say nothing of what the contract asks.
    pub(super) fn check_rows(&self, contract: &Contracted) -> Result<(), String> {
        if !is_generation(contract) {
            return Ok(());
        }
        let mut said = BTreeSet::new();
        for row in self.promotion.gates {
            let word = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
            let gate = word("gate");
            match word("state") {
                "pass" => {
                    let otherwise = |why| format!("says that {gate} passed, but {why}");
                    self.check_count(contract, gate).map_err(otherwise)?;
                }
                "waived" if self.is_waived(contract, gate) => {}
                _ => {
                    return Err(format!("its gate {gate} did not pass, and nobody who may answers for it"));
                }
            }
            said.insert(gate);
        }
        match self.asked(contract).into_iter().find(|gate| !said.contains(gate.as_str())) {
            Some(gate) => Err(format!("it says nothing of gate {gate}")),
            None => Ok(()),
        }
    }

    fn asked(&self, contract: &Contracted) -> Vec<String> {
        let stage = self.promotion.stage;
        let named = DECIDED.iter().chain(&SHOWN).filter(|gate| holds(contract, gate, stage));
        let mut asked: Vec<String> = ALWAYS.iter().chain(named).map(ToString::to_string).collect();
        let commands =
            list(contract, "/gates/commands").filter(|gate| holds_from(gate, StageName::Alpha, stage));
        let commands = commands.filter_map(|gate| gate.get("id")?.as_str());
        asked.extend(commands.map(|id| format!("command:{id}")));
        if let Some((_, soak_us)) = ladder(contract).into_iter().rfind(|(name, _)| *name < stage) {
            asked.push("stage_before".into());
            asked.extend((soak_us > 0).then(|| "soak".to_owned()));
        }
        if contract.document.get("hotfix").is_some() {
            asked.push("hotfix_base".into());
        }
        if self.has_hotfix_below() {
            asked.push("hotfix_forward_ported".into());
        }
        asked
    }

    /// Whether a hotfix of an earlier version was promoted, and not taken back.
    fn has_hotfix_below(&self) -> bool {
        let mut mended: BTreeSet<&Version> = BTreeSet::new();
        let mut hotfixes: BTreeSet<&Version> = BTreeSet::new();
        for event in &self.events {
            match &event.body {
                Body::GenerationSealed(body) | Body::GenerationAmended(body) => {
                    let is_hotfix = is_generation(body) && body.document.get("hotfix").is_some();
                    if is_hotfix {
                        hotfixes.insert(&body.version)
                    } else {
                        hotfixes.remove(&body.version)
                    };
                }
                Body::PromotionFinished(body) if hotfixes.contains(&body.version) => {
                    mended.insert(&body.version);
                }
                Body::RolledBack(body) => {
                    mended.remove(&body.from);
                }
                _ => {}
            }
        }
        mended.into_iter().any(|version| version < self.promotion.version)
    }

    /// Whether the contract of a hotfix leaves the gate out, or an approver answers for it.
    pub(super) fn is_waived(&self, contract: &Contracted, gate: &str) -> bool {
        if !WAIVABLE.contains(&gate) && !gate.starts_with("command:") {
            return false;
        }
        if list(contract, "/hotfix/skips").any(|skip| skip.as_str() == Some(gate)) {
            return true;
        }
        let (keys, names) = self.authors(contract);
        self.events.iter().any(|event| {
            let Body::Waived(waived) = &event.body else { return false };
            let name = self.roles().and_then(|roles| roles.name(event.actor));
            waived.gate == gate
                && self.is_of_this(&waived.version, waived.contract, &waived.commit)
                && self.in_force.has(event)
                && waived.expires > self.promotion.at
                && !keys.contains(&event.actor)
                && !name.is_some_and(|name| names.contains(name))
                && self.has(event.actor, Role::Approver)
        })
    }
}
