//! Which calls rows of declared tables may name: those that were under way when the row was written.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use estoppel_evidence::CallId;

/// Most calls that are remembered after they ended.
const ENDED_MAX: usize = 65_536;

/// The calls of one database.
#[derive(Default)]
pub(crate) struct Calls {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many looks at rows have begun.
    looks: u64,
    inside: HashSet<CallId>,
    /// How many looks had begun when it ended.
    ended: HashMap<CallId, u64>,
    /// The same, in the order in which they ended.
    order: VecDeque<CallId>,
    /// How many looks had begun when the last call ended that is not remembered any more.
    forgotten: Option<u64>,
}

/// What a row names that was written since a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// A call that was under way.
    Call,
    /// No call.
    Nothing,
    /// A call that had ended before.
    Ended,
    /// Something else.
    Unknown,
    /// It may be one of the calls that are not remembered any more.
    Untold,
}

/// A call that rows may name. Dropping it ends that.
pub(crate) struct Named {
    calls: Arc<Calls>,
    call: CallId,
}

impl Calls {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on rows may name it.
    pub(super) fn name(self: &Arc<Self>, call: CallId) -> Named {
        self.state().inside.insert(call);
        Named { calls: self.clone(), call }
    }

    /// A look at rows begins. Gives its number.
    pub(super) fn look(&self) -> u64 {
        let mut state = self.state();
        state.looks += 1;
        state.looks
    }

    /// What a row with this key is, that was written after the look `since` began.
    pub(super) fn link(&self, key: Option<&str>, since: u64) -> Link {
        let Some(key) = key.filter(|key| !key.is_empty()) else { return Link::Nothing };
        let Ok(call) = key.parse::<CallId>() else { return Link::Unknown };
        let state = self.state();
        match state.ended.get(&call) {
            _ if state.inside.contains(&call) => Link::Call,
            Some(ended) if *ended >= since => Link::Call,
            Some(_) => Link::Ended,
            None if state.forgotten.is_some_and(|forgotten| forgotten >= since) => Link::Untold,
            None => Link::Unknown,
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let mut state = self.calls.state();
        state.inside.remove(&self.call);
        let looks = state.looks;
        state.ended.insert(self.call, looks);
        state.order.push_back(self.call);
        if state.order.len() > ENDED_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.forgotten = state.ended.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u64) -> CallId {
        CallId::new(n, [0xab; 10])
    }

    fn link(calls: &Calls, n: u64, since: u64) -> Link {
        calls.link(Some(&call(n).to_string()), since)
    }

    #[test]
    fn a_row_may_name_a_call_that_was_under_way_since_the_look_before() {
        let calls = Arc::<Calls>::default();
        let (before, during) = (calls.name(call(1)), calls.name(call(2)));
        drop(before);
        let first = calls.look();
        drop(during);
        let inside = calls.name(call(3));
        for (n, expected) in [(1, Link::Ended), (2, Link::Call), (3, Link::Call), (4, Link::Unknown)] {
            assert_eq!(link(&calls, n, first), expected, "{n}");
        }
        let second = calls.look();
        assert_eq!(link(&calls, 2, second), Link::Ended);
        assert_eq!(link(&calls, 3, second), Link::Call);
        drop(inside);
        assert_eq!(link(&calls, 3, second), Link::Call);
        let third = calls.look();
        assert_eq!(link(&calls, 3, third), Link::Ended);
    }

    #[test]
    fn what_is_no_call_is_none() {
        let calls = Arc::<Calls>::default();
        let _inside = calls.name(call(1));
        let look = calls.look();
        assert_eq!(calls.link(None, look), Link::Nothing);
        assert_eq!(calls.link(Some(""), look), Link::Nothing);
        for key in ["7", "nightly", &call(1).to_string().to_uppercase(), &format!(" {}", call(1))] {
            assert_eq!(calls.link(Some(key), look), Link::Unknown, "{key}");
        }
    }

    #[test]
    fn where_too_many_calls_ended_nothing_is_claimed_of_those_that_are_forgotten() {
        let calls = Arc::<Calls>::default();
        let first = calls.look();
        for n in 0..=ENDED_MAX as u64 {
            drop(calls.name(call(n)));
        }
        assert_eq!(link(&calls, 0, first), Link::Untold);
        assert_eq!(link(&calls, 1, first), Link::Call);
        let second = calls.look();
        assert_eq!(link(&calls, 0, second), Link::Unknown, "it ended before");
        assert_eq!(calls.state().ended.len(), ENDED_MAX);
    }
}
