//! Gates that events alone decide are counted again: no row says `pass` of one where the count is another.

use estoppel_evidence::time::UnixMicros;
use serde::Deserialize as _;
use serde_json::Value;

use super::{Contracted, Event, Past, list};
use crate::generation::FreezeWindow;
use crate::ledger::in_force::{followed, following};
use crate::ledger::{Body, EvolutionFinished, Outcome};
use crate::version::Version;

impl Past<'_> {
    /// Whether the events bear out that a gate passed. Of gates that look at what lies outside of them nothing is said.
    pub(super) fn check_count(&self, contract: &Contracted, gate: &str) -> Result<(), String> {
        match gate {
            "no_failed" => self.check_no_failed(contract),
            "min_evolutions" => self.check_min_evolutions(contract),
            "freeze_window" => self.check_freeze(contract),
            "soak" => self.check_soak(contract),
            "hotfix_base" => self.check_hotfix_base(contract),
            _ => Ok(()),
        }
    }

    /// Of `latest` it is asked that the latest run of each change passed, whoever may answer for what.
    fn check_no_failed(&self, contract: &Contracted) -> Result<(), String> {
        let scope = contract.document.pointer("/gates/no_failed/scope").and_then(Value::as_str);
        let failed = self.finished().find(|(_, run)| run.result == Outcome::Failed);
        match failed.filter(|_| scope == Some("ever")) {
            Some((_, run)) => Err(format!("evolution {} failed", run.evolution)),
            None => Ok(()),
        }
    }

    fn check_min_evolutions(&self, contract: &Contracted) -> Result<(), String> {
        let count = contract.document.pointer("/gates/min_evolutions/count").and_then(Value::as_u64);
        let is_of_contract =
            |run: &&EvolutionFinished| run.contract == self.promotion.contract && self.in_force.has_run(run);
        let of_contract = self.passed().filter(is_of_contract).count();
        match count.filter(|count| u64::try_from(of_contract).is_ok_and(|has| has < *count)) {
            Some(count) => Err(format!("{of_contract} of {count} evolutions passed")),
            None => Ok(()),
        }
    }

    fn check_freeze(&self, contract: &Contracted) -> Result<(), String> {
        for window in list(contract, "/gates/freeze_window/windows") {
            let times = FreezeWindow::deserialize(window).ok().and_then(|window| window.times());
            let times = times.ok_or("a frozen time of its contract is no time")?;
            if times.contains(&self.promotion.at) {
                return Err(format!("nothing is promoted from {} to {}", times.start, times.end));
            }
        }
        Ok(())
    }

    fn check_hotfix_base(&self, contract: &Contracted) -> Result<(), String> {
        let base = contract.document.pointer("/hotfix/base").and_then(Value::as_str);
        let Some(base) = base.and_then(|text| text.parse::<Version>().ok()) else {
            return Err("it is no hotfix of a version".into());
        };
        let version = self.promotion.version;
        if !version.is_later_patch_of(&base) {
            return Err(format!("{version} is no later patch of {base}"));
        }
        let is_promoted = self
            .events
            .iter()
            .any(|event| matches!(&event.body, Body::PromotionFinished(body) if body.version == base));
        if is_promoted { Ok(()) } else { Err(format!("{base} was not promoted")) }
    }
}

/// Since when an event was known to all who wrote later: the latest of its own time, and of those of events beside it, so that
/// neither follows the other. `events` are in an order in which each follows its parents.
pub(in crate::ledger) fn known_since(events: &[&Event], of: &Event) -> UnixMicros {
    let (later, earlier) = (following(events, of.id), followed(events, of));
    let beside = events.iter().filter(|event| !later.contains(&event.id) && !earlier.contains(&event.id));
    beside.map(|event| event.at).fold(of.at, UnixMicros::max)
}
