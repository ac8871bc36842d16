//! Evolutions that this clone began and whose program is gone: they get their end from the next one that begins here, so that no ledger
//! says of them for ever that they run.

use std::collections::{BTreeMap, BTreeSet};

use super::{logs, progress, sign, statement, unsigned};
use crate::code::{Code, Refusal};
use crate::ledger::{Body, Event, EvolutionFinished, EvolutionStarted, Hand, Ledger, Outcome, Store};

/// Most evolutions that are given an end at a time. The next start goes on.
const ENDED_MAX: usize = 64;

/// What the record of one says.
const WHY: &str = "it was cut off: the program that ran it is gone, and nobody knows what came of its steps";

/// Records the end of each.
///
/// Of those that the remote knows, nothing is recorded here alone: it may know their end, too.
///
/// # Errors
/// What keeps it from being recorded.
pub(super) fn record(store: &Store, hand: &Hand<'_>) -> Result<(), Refusal> {
    let ledger = match store.read() {
        // Whoever begins the next one may bring it from the remote.
        Err(refusal) if refusal.code == Code::LedgerMissing => return Ok(()),
        read => read?,
    };
    let gone = open(&ledger).filter(|(event, start)| {
        event.host == hand.host && progress::is_cut_off(&logs(store.git().private(), &start.evolution))
    });
    for (event, start) in gone.take(ENDED_MAX) {
        if store.remote().is_none() && store.is_told(event)? {
            continue;
        }
        // A commit that is gone keeps nobody from starting another one.
        let Ok(tree) = store.git().tree(&start.commit) else { continue };
        let said = statement::of(start, &tree, Outcome::Failed, &[]);
        let attestation = sign(&said, hand.signer).map_err(unsigned)?;
        let mut has_ended = false;
        let recorded = store.append(hand, &mut |known| {
            has_ended =
                known.ledger.events().iter().any(|event| end_of(event) == Some(start.evolution.as_str()));
            if has_ended {
                return Err(Refusal::new(Code::StateInvalid, "it has ended"));
            }
            let finished = EvolutionFinished {
                attestation: attestation.clone(),
                changes: unproven(known.ledger, start),
                commit: start.commit.clone(),
                contract: start.contract,
                evidence: BTreeMap::new(),
                evolution: start.evolution.clone(),
                hooks: Vec::new(),
                result: Outcome::Failed,
                steps: Vec::new(),
                tag: None,
                version: start.version.clone(),
                why: Some(WHY.to_owned()),
            };
            Ok(Body::EvolutionFinished(Box::new(finished)).into())
        });
        match recorded {
            Err(refusal) if !has_ended => return Err(refusal),
            _ => {}
        }
    }
    Ok(())
}

/// Evolutions that have begun and not ended.
fn open(ledger: &Ledger) -> impl Iterator<Item = (&Event, &EvolutionStarted)> {
    let ended: BTreeSet<&str> = ledger.events().iter().filter_map(end_of).collect();
    ledger.events().iter().filter_map(move |event| match &event.body {
        Body::EvolutionStarted(start) if !ended.contains(start.evolution.as_str()) => Some((event, start)),
        _ => None,
    })
}

/// The evolution whose end an event records.
fn end_of(event: &Event) -> Option<&str> {
    match &event.body {
        Body::EvolutionFinished(run) => Some(&run.evolution),
        _ => None,
    }
}

/// Those of its changes of which no other evolution has said anything since it began, each with the digest that it had.
fn unproven(ledger: &Ledger, start: &EvolutionStarted) -> super::ChangeDigests {
    let later = ledger.events().iter().skip_while(
        |event| !matches!(&event.body, Body::EvolutionStarted(run) if run.evolution == start.evolution),
    );
    let later: Vec<&EvolutionFinished> = later
        .filter_map(|event| match &event.body {
            Body::EvolutionFinished(run) if run.version == start.version => Some(run.as_ref()),
            _ => None,
        })
        .collect();
    let contract = ledger.contracts(&start.version).find(|(_, contract)| contract.contract == start.contract);
    let digests = contract.map(|(_, contract)| contract.changes.clone()).unwrap_or_default();
    let is_open =
        |id: &String| start.changes.contains(id) && !later.iter().any(|run| run.changes.contains_key(id));
    digests.into_iter().filter(|(id, _)| is_open(id)).collect()
}
