//! Whether a schema changed while no call was there that could have done it.
//!
//! Between two moments in which no call was inside, the schema has to be the same. Where calls overlap nothing is claimed: what
//! one of them did may be seen by the snapshot of another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use estoppel_snapshot::Schema;

/// What is known of one database.
#[derive(Default)]
pub(crate) struct Watch {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Calls that may change the database.
    inside: usize,
    /// How many have ever entered.
    entered: u64,
    /// The schema when the last of them left. None while one is inside, and where it is not known.
    last: Option<Arc<Schema>>,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no call is inside.
    pub(super) fn is_idle(&self) -> bool {
        self.state().inside == 0
    }

    /// A call that may change the database begins.
    pub(super) fn enter(self: &Arc<Self>) -> Inside {
        let mut state = self.state();
        let base = state.last.take().filter(|_| state.inside == 0);
        state.inside += 1;
        state.entered += 1;
        let alone = Alone((state.inside == 1).then_some(state.entered));
        drop(state);
        Inside { watch: self.clone(), base, alone }
    }
}

/// Since when a call is the only one inside, if it is.
#[derive(Clone, Copy)]
pub(crate) struct Alone(Option<u64>);

/// A call that may change the database. Dropping it ends that, and leaves unknown what the schema is.
pub(crate) struct Inside {
    watch: Arc<Watch>,
    /// The schema before it entered, if that is known.
    base: Option<Arc<Schema>>,
    alone: Alone,
}

impl Inside {
    /// What the schema was when the last call had left, if this is another. `now` has to be of a snapshot that began after this
    /// entered, and before it did anything.
    pub(crate) fn changed(&self, now: &Schema) -> Option<&Arc<Schema>> {
        self.base.as_ref().filter(|base| base.schema_digest() != now.schema_digest())
    }

    /// Whether it is the only one, for a snapshot that begins now.
    pub(super) fn alone(&self) -> Alone {
        let state = self.watch.state();
        Alone((state.inside == 1).then_some(state.entered))
    }

    /// Ends with a snapshot that began when it was `alone`.
    pub(super) fn leave(self, alone: Alone, schema: &Arc<Schema>) {
        let mut state = self.watch.state();
        if state.inside == 1 && alone.0 == Some(state.entered) {
            state.last = Some(schema.clone());
        }
    }

    /// Ends without having done anything. `seen` is of a snapshot that was taken meanwhile, if there is one.
    pub(crate) fn undone(self, seen: Option<&Arc<Schema>>) {
        if let Some(schema) = seen.cloned().or_else(|| self.base.clone()) {
            let alone = self.alone;
            self.leave(alone, &schema);
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.watch.state().inside -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(name: &str) -> Arc<Schema> {
        let parts = [
            "columns",
            "constraints",
            "extensions",
            "functions",
            "indexes",
            "namespaces",
            "policies",
            "relations",
            "rules",
            "sequences",
            "triggers",
            "types",
            "views",
        ];
        let parts: Vec<String> = parts.iter().map(|part| format!("\"{part}\":{{}}")).collect();
        let text = format!(
            "{{\"format\":\"estoppel-schema/1\",\"parts\":{{{}}},\"uncovered\":{{\"{name}\":1}}}}",
            parts.join(",")
        );
        Arc::new(Schema::parse(text.as_bytes()).unwrap())
    }

    /// A call that sees `before` and leaves `after`; gives whether somebody else changed something before it.
    fn call(watch: &Arc<Watch>, before: &Arc<Schema>, after: &Arc<Schema>) -> bool {
        let inside = watch.enter();
        let changed = inside.changed(before).is_some();
        let alone = inside.alone();
        inside.leave(alone, after);
        changed
    }

    #[test]
    fn only_a_change_between_calls_is_one() {
        let (watch, a, b) = (Arc::<Watch>::default(), schema("a"), schema("b"));
        assert!(!call(&watch, &a, &b), "nothing is known at first");
        assert!(!call(&watch, &b, &b));
        assert!(call(&watch, &a, &a));
        assert!(!call(&watch, &a, &a));
    }

    #[test]
    fn nothing_is_claimed_where_calls_overlap_or_a_snapshot_is_missing() {
        let (watch, a, b) = (Arc::<Watch>::default(), schema("a"), schema("b"));
        call(&watch, &a, &a);
        let one = watch.enter();
        let other = watch.enter();
        assert!(other.changed(&b).is_none(), "the first may have done it");
        let alone = other.alone();
        other.leave(alone, &a);
        let alone = one.alone();
        let third = watch.enter();
        one.leave(alone, &a);
        assert!(!watch.is_idle());
        drop(third);
        assert!(watch.is_idle() && !call(&watch, &b, &b), "the third may have done it");
        assert!(call(&watch, &a, &a));
    }

    #[test]
    fn a_call_that_did_nothing_leaves_what_was_known() {
        let (watch, a, b) = (Arc::<Watch>::default(), schema("a"), schema("b"));
        call(&watch, &a, &a);
        watch.enter().undone(None);
        assert!(call(&watch, &b, &b));
        watch.enter().undone(Some(&a));
        assert!(call(&watch, &b, &b));
    }
}
