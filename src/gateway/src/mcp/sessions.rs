//! What was asked in sessions of MCP servers, so that an answer which comes in another stream than the one of its request is
//! held against what its request was. Until 2025-11-25 a client may leave a stream and have the rest in a new one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use estoppel_wire::dialect::mcp::Id;
use http::HeaderMap;

use crate::judging::mcp::Asked;

/// Most requests of one route that are remembered; the oldest is forgotten first, and what answers it then is refused.
const ASKED_MAX: usize = 4_096;
/// Longest id of a session, bytes. Requests of sessions with longer ones are not remembered.
const SESSION_BYTES_MAX: usize = 256;

/// The requests of one route's sessions.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Known>);

#[derive(Default)]
struct Known {
    asked: HashMap<Key, Arc<Asked>>,
    /// Each key of `asked` once, oldest first.
    order: VecDeque<Key>,
}

type Key = (Box<str>, Id);

/// A request of the same id waits for its answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Waits;

/// The session that a request names.
pub(crate) fn session(headers: &HeaderMap) -> Option<Box<str>> {
    let mut named = headers.get_all("mcp-session-id").iter();
    let (first, second) = (named.next()?, named.next());
    let session = first.to_str().ok()?;
    let fits = second.is_none() && (1..=SESSION_BYTES_MAX).contains(&session.len());
    fits.then(|| session.into())
}

impl Sessions {
    pub(crate) fn remember<'a>(&self, session: &str, asked: impl IntoIterator<Item = &'a (Id, Arc<Asked>)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, asked) in asked {
            let key: Key = (session.into(), id.clone());
            if known.asked.insert(key.clone(), asked.clone()).is_none() {
                known.order.push_back(key);
            }
            if known.order.len() > ASKED_MAX
                && let Some(oldest) = known.order.pop_front()
            {
                known.asked.remove(&oldest);
            }
        }
    }

    /// The same of requests whose answers come in one stream, where no two that wait may have one id.
    ///
    /// # Errors
    /// Another one waits.
    pub(crate) fn begin(&self, session: &str, asked: &[(Id, Arc<Asked>)]) -> Result<(), Waits> {
        if asked.iter().any(|(id, _)| self.asked(session, id).is_some()) {
            return Err(Waits);
        }
        self.remember(session, asked);
        Ok(())
    }

    /// The answer has come: its id may be used again.
    pub(crate) fn end(&self, session: &str, id: &Id) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key: Key = (session.into(), id.clone());
        if known.asked.remove(&key).is_some() {
            known.order.retain(|other| *other != key);
        }
    }

    /// The stream of a session begins: nothing is asked in it yet.
    pub(crate) fn clear(&self, session: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.asked.retain(|(other, _), _| **other != *session);
        known.order.retain(|(other, _)| **other != *session);
    }

    pub(crate) fn asked(&self, session: &str, id: &Id) -> Option<Arc<Asked>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.asked.get(&(session.into(), id.clone())).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Id {
        Id::Number(number.to_string())
    }

    #[test]
    fn a_request_is_known_in_its_own_session_until_too_many_came_after_it() {
        let sessions = Sessions::default();
        let one = |number| [(id(number), Arc::new(Asked::Other))];
        sessions.remember("a", &one(0));
        assert!(sessions.asked("a", &id(0)).is_some());
        assert!(sessions.asked("b", &id(0)).is_none() && sessions.asked("a", &id(1)).is_none());
        for number in 1..ASKED_MAX {
            sessions.remember("a", &one(number));
            sessions.remember("a", &one(number));
        }
        assert!(sessions.asked("a", &id(0)).is_some());
        sessions.remember("b", &one(0));
        assert!(sessions.asked("a", &id(0)).is_none() && sessions.asked("b", &id(0)).is_some());
        assert_eq!(sessions.0.lock().unwrap().asked.len(), ASKED_MAX);
    }

    #[test]
    fn an_id_waits_for_its_answer_and_a_new_stream_forgets_the_old() {
        let sessions = Sessions::default();
        let one = |number| [(id(number), Arc::new(Asked::Other))];
        assert_eq!(sessions.begin("a", &one(1)), Ok(()));
        assert_eq!(sessions.begin("a", &one(1)), Err(Waits));
        assert_eq!(sessions.begin("b", &one(1)), Ok(()));
        sessions.end("a", &id(1));
        assert_eq!(sessions.begin("a", &one(1)), Ok(()));
        sessions.clear("a");
        assert!(sessions.asked("a", &id(1)).is_none() && sessions.asked("b", &id(1)).is_some());
        assert_eq!(sessions.0.lock().unwrap().order.len(), 1);
    }

    #[test]
    fn a_session_is_one_short_header() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| {
                headers.append("mcp-session-id", value.parse().unwrap());
            });
            session(&headers)
        };
        assert_eq!(of(&["s1"]).as_deref(), Some("s1"));
        assert!([of(&[]), of(&[""]), of(&["a", "a"]), of(&[&"x".repeat(257)])].iter().all(Option::is_none));
    }
}
