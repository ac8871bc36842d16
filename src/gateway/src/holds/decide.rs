//! What approvers say of a hold.

use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::entry::{Approval, ApprovalDecision, ApprovalStatement, Event};
use estoppel_evidence::envelope::from_base64;
use estoppel_evidence::{HoldId, KeyId, PublicKey, Reason};
use estoppel_journal::RunHandle;
use serde::Deserialize;

use super::{Decision, Hold, Holds, State};
use crate::serve::Shared;

/// Most characters of a comment.
const COMMENT_CHARS_MAX: usize = 256;

/// A decision with the signature of who made it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signed {
    pub(crate) signature: String,
    pub(crate) spki: String,
    pub(crate) statement: ApprovalStatement,
}

/// Why a decision does not count, and what is wrong with it.
pub(crate) type Objection = (Reason, Option<&'static str>);

/// Takes a decision. When this returns, it is in the journal.
///
/// # Errors
/// It does not count.
pub(crate) async fn decide(shared: &Arc<Shared>, id: HoldId, signed: Signed) -> Result<(), Objection> {
    let approver = shared.holds.reserve(shared, id, &signed)?;
    let approval = Approval {
        alg: approver.key.alg(),
        approver: approver.key.id(),
        signature: signed.signature,
        spki: signed.spki,
        statement: signed.statement,
    };
    let key = approval.approver;
    let ack = shared.journal.note(Some(&approver.run), Event::Approval(Box::new(approval)));
    let holding = shared.clone();
    // Whoever asked may leave; what is written counts all the same.
    let noted = tokio::spawn(async move {
        let noted = ack.await.map(drop).map_err(|error| error.reason());
        holding.holds.settle(id, key, noted.is_ok());
        noted
    });
    match tokio::time::timeout(Duration::from_millis(shared.server.evidence_ms), noted).await {
        Ok(Ok(noted)) => noted.map_err(|reason| (reason, None)),
        Ok(Err(_)) => Err((Reason::Internal, None)),
        Err(_) => Err((Reason::EvidenceLate, None)),
    }
}

/// Who decides, and the run in which that is written.
struct Reserved {
    key: PublicKey,
    run: RunHandle,
}

impl Holds {
    /// Checks a decision and takes the approver's one turn. From here on a denied call does not pass.
    fn reserve(&self, shared: &Shared, id: HoldId, signed: &Signed) -> Result<Reserved, Objection> {
        let now_us = shared.clock.unix_us();
        let mut table = self.table();
        self.expire(&mut table, id, now_us);
        let hold = table.holds.get_mut(&id).ok_or((Reason::HoldUnknown, None))?;
        let run = hold.open_run(signed.statement.decision)?;
        let key = check(hold, shared, id, signed, now_us)?;
        hold.decisions.push(Decision {
            approver: key.id(),
            nonce: signed.statement.nonce.clone(),
            decision: signed.statement.decision,
            noted: false,
        });
        if signed.statement.decision == ApprovalDecision::Deny {
            self.end(&mut table, id, State::Denied, now_us);
        }
        Ok(Reserved { key, run })
    }

    /// The decision is in the journal, or never will be.
    fn settle(&self, id: HoldId, approver: KeyId, noted: bool) {
        let mut table = self.table();
        let Some(hold) = table.holds.get_mut(&id) else { return };
        if !noted {
            hold.decisions.retain(|decision| decision.approver != approver);
            return;
        }
        let made = hold.decisions.iter_mut().filter(|decision| decision.approver == approver);
        made.for_each(|decision| decision.noted = true);
        if hold.state == State::Open && hold.approved().len() >= usize::from(hold.facts.needs) {
            hold.state = State::Approved;
            hold.changed.notify_one();
        }
    }
}

impl Hold {
    /// The run of a hold on which this can still be decided.
    fn open_run(&self, decision: ApprovalDecision) -> Result<RunHandle, Objection> {
        let reason = match (self.state, decision) {
            (State::Open, _) | (State::Approved, ApprovalDecision::Deny) => None,
            (State::Approved, ApprovalDecision::Approve) => Some(Reason::HoldDecided),
            (State::Opening, _) => Some(Reason::HoldUnknown),
            (State::Denied, _) => Some(Reason::HoldDenied),
            (State::Expired, _) => Some(Reason::HoldExpired),
            (State::Used | State::Left, _) => Some(Reason::HoldClosed),
        };
        match (reason, &self.run) {
            (None, Some(run)) => Ok(run.clone()),
            (reason, _) => Err((reason.unwrap_or(Reason::HoldClosed), None)),
        }
    }
}

/// Everything that a verifier will check, and what only the gateway knows.
fn check(
    hold: &Hold,
    shared: &Shared,
    id: HoldId,
    signed: &Signed,
    now_us: u64,
) -> Result<PublicKey, Objection> {
    let (facts, said) = (&hold.facts, &signed.statement);
    let wrong = |what| (Reason::DecisionInvalid, Some(what));
    let spki = from_base64(&signed.spki);
    let key =
        spki.and_then(|spki| PublicKey::from_spki(&spki).ok()).ok_or(wrong("`spki` is not a public key"))?;
    let approver = facts.approvers.iter().find(|(_, approver)| approver.key == key);
    let (name, _) = approver.ok_or(wrong("the key is of nobody who may decide on this call"))?;
    let same = said.hold == id
        && said.run == facts.run
        && said.payload == facts.kept.payload
        && said.policy == facts.policy
        && said.iss == *shared.journal.instance();
    if !same {
        return Err(wrong("hold, run, payload, policy or instance are not those of the hold"));
    }
    if said.expires > facts.expires || said.expires.0 <= now_us {
        return Err(wrong("`expires` is over, or after the hold's own"));
    }
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if said.nonce.len() != 32 || !said.nonce.bytes().all(is_hex) {
        return Err(wrong("`nonce` is not 32 lower-case hex digits"));
    }
    if said.by.as_ref().is_some_and(|by| by != name) {
        return Err(wrong("`by` is not what the policy calls the key's holder"));
    }
    if said.comment.as_ref().is_some_and(|text| text.chars().count() > COMMENT_CHARS_MAX) {
        return Err(wrong("`comment` is longer than 256 characters"));
    }
    let signature = from_base64(&signed.signature).and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
    if !signature.is_some_and(|signature| key.verifies(&said.message(), &signature)) {
        return Err(wrong("the signature is not one of this key over the statement"));
    }
    if hold.decisions.iter().any(|decision| decision.approver == key.id()) {
        return Err((Reason::HoldDecided, None));
    }
    if hold.decisions.iter().any(|decision| decision.nonce == said.nonce) {
        return Err(wrong("the nonce was used before"));
    }
    Ok(key)
}
