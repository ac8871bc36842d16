//! What the ledger is told of a generation: that it is sealed, amended or given up.

use std::collections::BTreeMap;

use estoppel_evidence::Sha256;

use super::{Amendment, Generation};
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
/// `STATE_INVALID`: it is none any more, or a hotfix of what was not promoted.
pub fn seal(ledger: &Ledger, generation: &Generation) -> Result<Body, Refusal> {
    let version = &generation.version;
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
/// `REASON_MISSING`. `STATE_INVALID`: the version is not sealed, or nothing differs.
pub fn amend(ledger: &Ledger, generation: &Generation, reason: &str) -> Result<(Body, Amendment), Refusal> {
    demand_reason(reason)?;
    let version = &generation.version;
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
