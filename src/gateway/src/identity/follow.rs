//! Follows files and issuers beside the calls, and records what has changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::Reason;
use estoppel_evidence::entry::{Act, Event};
use futures_util::future::join_all;

use super::api_keys::ApiKeys;
use super::revocations::Revocations;
use super::{Callers, LOOK, Said};
use crate::serve::Shared;

/// How often it is looked whether an issuer's keys are due.
const DUE: Duration = Duration::from_millis(500);
/// Most changes of a file that are recorded one by one; of more there is one entry with their number.
const CHANGES_MAX: usize = 64;

/// Something that the journal has to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) act: &'static str,
    pub(super) on: String,
    pub(super) comment: Option<String>,
    pub(super) refused: bool,
}

/// Does so for as long as the gateway runs.
pub(crate) async fn follow(shared: Arc<Shared>) {
    futures_util::future::join(files(&shared), issuers(&shared)).await;
}

async fn files(shared: &Arc<Shared>) {
    let mut known: Option<Arc<Callers>> = None;
    loop {
        let callers = shared.snapshot.load().callers.clone();
        let is_known = known.as_ref().is_some_and(|known| Arc::ptr_eq(known, &callers));
        let changes = if is_known { look_again(&callers).await } else { callers.in_force() };
        known = Some(callers);
        for change in changes {
            record(shared, change);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look_again(callers: &Arc<Callers>) -> Vec<Change> {
    if !callers.has_files() {
        return Vec::new();
    }
    let callers = callers.clone();
    tokio::task::spawn_blocking(move || callers.look_again()).await.unwrap_or_default()
}

async fn issuers(shared: &Arc<Shared>) {
    loop {
        let callers = shared.snapshot.load().callers.clone();
        join_all(callers.issuers.iter().map(async |issuer| {
            let Some(fetched) = issuer.keys.refresh().await else { return };
            shared.metrics.issuer_asked(issuer.name(), fetched.is_ok());
            if let Err(problem) = fetched {
                tracing::warn!(issuer = issuer.name(), problem, "the issuer's keys cannot be fetched");
            }
        }))
        .await;
        tokio::time::sleep(DUE).await;
    }
}

fn record(shared: &Shared, change: Change) {
    let Change { act, on, comment, refused } = change;
    let said = comment.as_deref().unwrap_or_default();
    if refused {
        tracing::error!(on, "a file of identities cannot be used, what it said before holds: {said}");
    } else {
        tracing::info!(act, on, "{said}");
    }
    shared.metrics.identity_file_read(!refused);
    let name = |text: &str| estoppel_evidence::text::name(text).into_owned();
    let comment = comment.map(|comment| comment.chars().take(256).collect());
    let reason = refused.then_some(Reason::ConfigInvalid);
    let act = Act { act, by: "file".into(), comment, on: Some(name(&on)), reason };
    // Recorded with what comes next: what is refused is refused already.
    drop(shared.journal.note(None, Event::Act(act)));
}

impl Callers {
    fn has_files(&self) -> bool {
        self.keys.is_some()
            || self.revoked.is_some()
            || self.settings.jwt.iter().any(|jwt| jwt.jwks_file.is_some())
    }

    /// What its files say.
    fn in_force(&self) -> Vec<Change> {
        let keys = self.keys.iter().map(|keys| loaded("api_keys", &keys.now.load(), ApiKeys::len));
        let revoked = self.revoked.iter().map(|list| loaded("revoked", &list.now.load(), Revocations::len));
        keys.chain(revoked).collect()
    }

    /// Reads the files that have changed; gives what follows from that.
    fn look_again(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(keys) = &self.keys
            && let Some(read) = keys.look_again()
        {
            match read {
                Ok(before) => {
                    let now = keys.now.load();
                    changes.push(loaded("api_keys", &now, ApiKeys::len));
                    changes.extend(few("api_keys", key_changes(&before.what.states(), &now.what.states())));
                }
                Err(problem) => changes.push(refused("api_keys", problem)),
            }
        }
        if let Some(revoked) = &self.revoked
            && let Some(read) = revoked.look_again()
        {
            match read {
                Ok(before) => {
                    let now = revoked.now.load();
                    changes.push(loaded("revoked", &now, Revocations::len));
                    let (before, now) = (before.what.entries(), now.what.entries());
                    let new = now.difference(before).map(|entry| change("revoke", entry));
                    let gone = before.difference(now).map(|entry| change("restore", entry));
                    changes.extend(few("revoked", new.chain(gone).collect()));
                }
                Err(problem) => changes.push(refused("revoked", problem)),
            }
        }
        for issuer in &self.issuers {
            match issuer.keys.look_again() {
                None => {}
                Some(Ok(())) => changes.push(change("identity.load", issuer.name())),
                Some(Err(problem)) => changes.push(refused(issuer.name(), problem)),
            }
        }
        changes
    }
}

fn change(act: &'static str, on: &str) -> Change {
    Change { act, on: on.into(), comment: None, refused: false }
}

fn loaded<T>(on: &str, said: &Said<T>, len: fn(&T) -> usize) -> Change {
    let digest = said.digest.map(|digest| digest.to_string()).unwrap_or_default();
    Change { comment: Some(format!("{} entries, {digest}", len(&said.what))), ..change("identity.load", on) }
}

fn refused(on: &str, problem: String) -> Change {
    Change { comment: Some(problem), refused: true, ..change("identity.load", on) }
}

fn key_changes(before: &BTreeMap<String, bool>, after: &BTreeMap<String, bool>) -> Vec<Change> {
    let taken = |states: &BTreeMap<String, bool>, id: &String| states.get(id).copied().unwrap_or_default();
    let ids: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = ids.into_iter().filter_map(|id| match (taken(before, id), taken(after, id)) {
        (true, false) => Some(change("revoke", &format!("kid {id}"))),
        (false, true) => Some(change("restore", &format!("kid {id}"))),
        _ => None,
    });
    changed.collect()
}

/// No more of them than the journal should hold.
fn few(on: &str, changes: Vec<Change>) -> Vec<Change> {
    if changes.len() <= CHANGES_MAX {
        return changes;
    }
    let comment = Some(format!("{} changes at once, see the file", changes.len()));
    vec![Change { comment, ..change("revoke", on) }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_gone_is_revoked_and_one_that_comes_is_let_in() {
        let states = |list: &[(&str, bool)]| list.iter().map(|(id, on)| ((*id).into(), *on)).collect();
        let before = states(&[("a", true), ("b", true), ("c", false), ("d", true)]);
        let after = states(&[("b", false), ("c", true), ("d", true), ("e", true), ("f", false)]);
        let told: Vec<_> = key_changes(&before, &after).into_iter().map(|c| (c.act, c.on)).collect();
        let expected = [("revoke", "kid a"), ("revoke", "kid b"), ("restore", "kid c"), ("restore", "kid e")];
        assert_eq!(told, expected.map(|(act, on)| (act, on.to_owned())));
    }

    #[test]
    fn a_flood_of_changes_is_one_entry() {
        let many = (0..=CHANGES_MAX).map(|n| change("revoke", &n.to_string())).collect();
        let told = few("revoked", many);
        assert_eq!((told.len(), told[0].comment.as_deref()), (1, Some("65 changes at once, see the file")));
    }
}
