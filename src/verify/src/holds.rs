//! Holds of a run and the decisions on them (SPEC section 4; steps L13 and L14 of section 11).

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::Entry;
use crate::keys::{PublicKey, base64_decode, pae};
use crate::schema::{Kind, Slot};
use crate::view::View;

/// The PAE type of the decision inside an `approval`.
const APPROVAL_TYPE: &str = "application/vnd.estoppel.pef.approval.v0+json";
/// Members that an approver signs, in canonical order.
const SIGNED: [&str; 10] =
    ["by", "comment", "decision", "expires", "hold", "iss", "nonce", "payload", "policy", "run"];

/// The holds of one run, by their id.
#[derive(Default)]
pub(crate) struct Holds(BTreeMap<String, Hold>);

struct Hold {
    leaf: String,
    payload: String,
    /// The payload is that of what the request asks for, not of its body.
    of_call: bool,
    policy: String,
    expires: String,
    needs: u64,
    approvers: BTreeSet<String>,
    approved: BTreeSet<String>,
    decided: BTreeSet<String>,
    nonces: BTreeSet<String>,
    denied: bool,
    used: bool,
}

impl Holds {
    /// L13 and L14. Says what is wrong with the entry.
    pub(crate) fn take(&mut self, entry: &Entry<'_>) -> Result<(), String> {
        match entry.kind {
            Kind::Hold => self.open(entry),
            Kind::Approval => self.decide(entry.view()),
            Kind::Call => match entry.optional(Slot::Approval) {
                Some(_) => self.use_up(entry.view()),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn open(&mut self, entry: &Entry<'_>) -> Result<(), String> {
        let view = entry.view();
        let id = view.text_of("hold").into_owned();
        let approvers = texts(view, "approvers");
        let needs = view.member("needs").and_then(View::count).unwrap_or(u64::MAX);
        if count(view, "approvers") != approvers.len() || needs > approvers.len() as u64 {
            return Err(format!("the hold needs {needs} approvals of {} approvers", approvers.len()));
        }
        if self.0.contains_key(&id) {
            return Err(format!("there is a hold `{id}` already"));
        }
        let hold = Hold {
            leaf: format!("leaf:{}", entry.hash.hex()),
            payload: view.text_of("payload").into_owned(),
            of_call: view.member("of").is_some(),
            policy: view.text_of("policy").into_owned(),
            expires: view.text_of("expires").into_owned(),
            needs,
            approvers,
            approved: BTreeSet::new(),
            decided: BTreeSet::new(),
            nonces: BTreeSet::new(),
            denied: false,
            used: false,
        };
        self.0.insert(id, hold);
        Ok(())
    }

    fn decide(&mut self, view: View<'_>) -> Result<(), String> {
        let id = view.text_of("hold");
        let hold = self.0.get_mut(&*id).ok_or_else(|| format!("no hold `{id}` comes before its approval"))?;
        let approver = view.text_of("approver").into_owned();
        if view.text_of("payload") != hold.payload || view.text_of("policy") != hold.policy {
            return Err("the decision is on another payload, or under another policy, than the hold".into());
        }
        if !hold.approvers.contains(&approver) {
            return Err(format!("`{approver}` is no approver of the hold"));
        }
        if !hold.decided.insert(approver.clone()) {
            return Err(format!("`{approver}` has decided already"));
        }
        if !hold.nonces.insert(view.text_of("nonce").into_owned()) {
            return Err("the nonce was used before".into());
        }
        let expires = view.text_of("expires");
        if view.text_of("ts") > expires || *expires > *hold.expires {
            return Err("the decision came after it expired, or expires after the hold".into());
        }
        check_signature(view, &approver)?;
        if view.text_of("decision") == "approve" {
            hold.approved.insert(approver);
        } else {
            hold.denied = true;
        }
        Ok(())
    }

    fn use_up(&mut self, view: View<'_>) -> Result<(), String> {
        let approval = view.member("approval").ok_or("`approval` is unreadable")?;
        let id = approval.text_of("hold");
        let hold = self.0.get_mut(&*id).ok_or_else(|| format!("no hold `{id}` comes before the call"))?;
        if std::mem::replace(&mut hold.used, true) {
            return Err(format!("the hold `{id}` let a call pass before"));
        }
        let tag = match (hold.of_call, approval.member("call_tag").and_then(View::text)) {
            (true, tag) => tag.unwrap_or_default(),
            (false, None) => view.member("request").map(|request| request.text_of("tag")).unwrap_or_default(),
            (false, Some(_)) => {
                return Err("the hold is of the request's body, not of what it asks for".into());
            }
        };
        let policy = view.member("policy").map(|policy| policy.text_of("hash")).unwrap_or_default();
        if tag != hold.payload || policy != hold.policy {
            return Err("the call has another payload or policy than the one that was approved".into());
        }
        if approval.member("leaf").and_then(View::text).is_some_and(|leaf| leaf != hold.leaf) {
            return Err("`approval.leaf` is not the hash of the hold".into());
        }
        let listed = texts(approval, "approved");
        if count(approval, "approved") != listed.len()
            || (listed.len() as u64) < hold.needs
            || !listed.is_subset(&hold.approved)
        {
            return Err(format!("the hold needs {} approvals, and they are not all there", hold.needs));
        }
        if hold.denied {
            return Err("an approver denied the call".into());
        }
        Ok(())
    }
}

fn count(view: View<'_>, name: &str) -> usize {
    view.member(name).map_or(0, |list| list.items().count())
}

fn texts(view: View<'_>, name: &str) -> BTreeSet<String> {
    view.member(name)
        .into_iter()
        .flat_map(View::items)
        .filter_map(View::text)
        .map(std::borrow::Cow::into_owned)
        .collect()
}

/// The approver is the key, and the key signed this decision.
fn check_signature(view: View<'_>, approver: &str) -> Result<(), String> {
    let key = base64_decode(&view.text_of("spki"))
        .and_then(|spki| PublicKey::of_spki(&spki))
        .filter(|key| key.id().hex() == approver && key.algorithm().name() == view.text_of("alg"))
        .ok_or_else(|| format!("`spki` or `alg` is not that of the approver `{approver}`"))?;
    let mut statement = b"{".to_vec();
    for name in SIGNED {
        let Some(value) = view.member(name) else { continue };
        let comma = if statement.len() > 1 { "," } else { "" };
        statement.extend_from_slice(format!("{comma}\"{name}\":").as_bytes());
        statement.extend_from_slice(value.raw());
    }
    statement.push(b'}');
    let signature = base64_decode(&view.text_of("signature")).and_then(|bytes| bytes.try_into().ok());
    let message = pae(APPROVAL_TYPE, &statement);
    if !signature.is_some_and(|signature| key.verifies(&message, &signature)) {
        return Err(format!("the decision does not verify with the key of `{approver}`"));
    }
    Ok(())
}
