//! Sessions of clients until 2025-11-25: one with the gateway, and behind it one with each server.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use serde_json::Value;

/// Most sessions of one route; the one that was not used for longest goes first.
const SESSIONS_MAX: usize = 1_024;

#[derive(Default)]
pub(crate) struct Sessions(Mutex<Known>);

#[derive(Default)]
struct Known {
    open: HashMap<Box<str>, Entry>,
    uses: u64,
}

struct Entry {
    session: Arc<Session>,
    used: u64,
}

/// One client's session.
pub(crate) struct Session {
    identity: Option<Box<str>>,
    /// What the client said of itself when it began: the `params` for each server's `initialize`.
    pub(super) hello: Value,
    members: Mutex<HashMap<Box<str>, Member>>,
}

/// The session with one server.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) id: Option<HeaderValue>,
    /// What this server speaks; servers of one client may differ.
    pub(super) version: HeaderValue,
}

impl Sessions {
    /// Opens a session; its id is 128 random bits.
    pub(super) fn open(&self, session: Arc<Session>) -> io::Result<String> {
        let mut bytes = [0; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.open.len() >= SESSIONS_MAX {
            let oldest = known.open.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| known.open.remove(&oldest));
        }
        known.uses += 1;
        let used = known.uses;
        known.open.insert(id.as_str().into(), Entry { session, used });
        Ok(id)
    }

    /// The session of this id, if it is this caller's.
    pub(super) fn of(&self, id: &str, identity: Option<&str>) -> Option<Arc<Session>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.uses += 1;
        let used = known.uses;
        let entry = known.open.get_mut(id).filter(|entry| entry.session.identity.as_deref() == identity)?;
        entry.used = used;
        Some(entry.session.clone())
    }

    pub(super) fn close(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open.remove(id);
    }
}

impl Session {
    pub(super) fn new(identity: Option<&str>, hello: Value) -> Arc<Self> {
        Arc::new(Self { identity: identity.map(Into::into), hello, members: Mutex::default() })
    }

    pub(super) fn member(&self, server: &str) -> Option<Member> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).get(server).cloned()
    }

    pub(super) fn join(&self, server: &str, member: Member) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).insert(server.into(), member);
    }

    pub(super) fn lose(&self, server: &str) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_its_own_caller_s_until_it_is_closed_or_too_many_came_after_it() {
        let sessions = Sessions::default();
        let open = |identity| sessions.open(Session::new(identity, Value::Null)).unwrap();
        let first = open(Some("a"));
        assert_eq!(first.len(), 32);
        assert!(sessions.of(&first, None).is_none() && sessions.of(&first, Some("b")).is_none());
        let second = open(None);
        for _ in 2..SESSIONS_MAX {
            open(None);
        }
        assert!(sessions.of(&first, Some("a")).is_some());
        let last = open(None);
        assert!(sessions.of(&second, None).is_none(), "it was not used for longest");
        assert!(sessions.of(&first, Some("a")).is_some() && sessions.of(&last, None).is_some());
        sessions.close(&last);
        assert!(sessions.of(&last, None).is_none());
    }

    #[test]
    fn each_server_has_a_session_of_its_own() {
        let session = Session::new(None, Value::Null);
        let version = HeaderValue::from_static("2025-06-18");
        session.join("a", Member { id: None, version });
        assert!(session.member("a").is_some() && session.member("b").is_none());
        session.lose("a");
        assert!(session.member("a").is_none());
    }
}
