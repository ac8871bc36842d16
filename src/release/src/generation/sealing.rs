//! What the ledger is told of a generation: that it is sealed, amended or given up.

use std::collections::BTreeMap;

use estoppel_evidence::Sha256;

use super::{Amendment, Generation, Stage, StageName};
use crate::code::{Code, Refusal, demand_reason};
use crate::ledger::{Body, Contracted, GenerationAbandoned, Ledger, State};
use crate::version::Version;

fn refused(detail: String) -> Refusal {
    Refusal::new(Code::StateInvalid, detail)
}

fn stand(ledger: &Ledger, version: &Version) -> &'static str {
    ledger.state(version).map_or("a draft", State::as_str)
}

/// Fixes the contract of a draft.
///
/// # Errors
/// `STATE_INVALID`: it is none any more, or a hotfix of what was not promoted. `STAGES_UNSUPPORTED`.
pub fn seal(ledger: &Ledger, generation: &Generation) -> Result<Body, Refusal> {
    let version = &generation.version;
    climbs_nothing(generation)?;
    if ledger.state(version).is_some() {
        let stand = stand(ledger, version);
        return Err(refused(format!("{version} is {stand}; what is sealed is amended, with a reason")));
    }
    if let Some(hotfix) =
        generation.hotfix.as_ref().filter(|h| ledger.state(&h.base) != Some(State::Promoted))
    {
        let stand = stand(ledger, &hotfix.base);
        return Err(refused(format!("a hotfix mends what was promoted, and {} is {stand}", hotfix.base)));
    }
    Ok(Body::GenerationSealed(Box::new(contracted(generation, None))))
}

/// Puts another contract in the place of the one that is sealed.
///
/// # Errors
/// `REASON_MISSING`. `STATE_INVALID`: the version is not sealed, or nothing differs. `STAGES_UNSUPPORTED`.
pub fn amend(ledger: &Ledger, generation: &Generation, reason: &str) -> Result<(Body, Amendment), Refusal> {
    demand_reason(reason)?;
    let version = &generation.version;
    climbs_nothing(generation)?;
    let sealed = ledger.contract(version).filter(|_| ledger.state(version) == Some(State::Sealed));
    let Some((_, sealed)) = sealed else {
        let stand = stand(ledger, version);
        return Err(refused(format!("{version} is {stand}, and only what is sealed is amended")));
    };
    if sealed.contract == generation.digest() {
        return Err(refused(format!("the file of {version} is the contract that is sealed")));
    }
    let before = Generation::from_document(sealed.document.clone()).map_err(|_| {
        Refusal::new(Code::LedgerEventInvalid, format!("the contract of {version} is not one"))
    })?;
    let amendment = Amendment::between(&before, generation);
    let body = contracted(generation, Some((sealed.contract, reason.to_owned())));
    Ok((Body::GenerationAmended(Box::new(body)), amendment))
}

/// Says that a version will not be promoted.
///
/// # Errors
/// `REASON_MISSING`. `STATE_INVALID`: it is not sealed.
pub fn abandon(ledger: &Ledger, version: &Version, reason: &str) -> Result<Body, Refusal> {
    demand_reason(reason)?;
    if ledger.state(version) != Some(State::Sealed) {
        let stand = stand(ledger, version);
        return Err(refused(format!("{version} is {stand}, and only what is sealed is abandoned")));
    }
    Ok(Body::GenerationAbandoned(GenerationAbandoned { reason: reason.to_owned(), version: version.clone() }))
}

/// No gate evaluates stages yet, and a contract promises nothing that nobody holds it to.
fn climbs_nothing(generation: &Generation) -> Result<(), Refusal> {
    let asks = |stage: &Stage| stage.stage != StageName::Final || stage.soak_hours > 0;
    if generation.stages.iter().any(asks) {
        let said = format!(
            "{} has stages before the release or hours to wait in them, and no gate looks at those yet; leave `stages` out",
            generation.version
        );
        return Err(Refusal::new(Code::StagesUnsupported, said));
    }
    Ok(())
}

fn contracted(generation: &Generation, before: Option<(Sha256, String)>) -> Contracted {
    let changes = generation.changes.iter();
    let changes: BTreeMap<String, Sha256> =
        changes.map(|change| (change.id.to_string(), generation.change_digest(change))).collect();
    let (from, reason) = before.unzip();
    Contracted {
        changes,
        contract: generation.digest(),
        document: generation.document().clone(),
        from,
        reason,
        version: generation.version.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::scene::{Scene, document};

    fn with_stages(version: &str, stages: Value) -> Generation {
        let mut wanted = document(version, "true", "true");
        wanted["stages"] = stages;
        Generation::from_document(wanted).unwrap()
    }

    #[test]
    fn a_ladder_that_nothing_would_hold_a_promotion_to_is_not_sealed() {
        let scene = Scene::new();
        scene.seal(document("1.0.0", "true", "true"));
        let ledger = scene.store().read().unwrap();
        for stages in [
            json!([{ "stage": "final", "soak_hours": 24 }]),
            json!([{ "stage": "rc" }, { "stage": "final" }]),
        ] {
            let refused = seal(&ledger, &with_stages("2.0.0", stages.clone())).unwrap_err();
            assert_eq!(refused.code, Code::StagesUnsupported, "{stages}");
            let refused = amend(&ledger, &with_stages("1.0.0", stages.clone()), "because").unwrap_err();
            assert_eq!(refused.code, Code::StagesUnsupported, "{stages}");
        }
        assert!(seal(&ledger, &with_stages("2.0.0", json!([{ "stage": "final" }]))).is_ok());
    }
}
