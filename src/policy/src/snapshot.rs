//! Whether a database is looked at around a call.

/// What a document says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Snapshotting {
    /// It is not looked at, whatever is said of more calls than these.
    None,
    /// It is.
    On(SnapshotSource),
}

/// Which database, and what it means for a call that it cannot be looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotSource {
    /// Its name in the configuration.
    pub source: String,
    pub mode: SnapshotMode,
}

/// What a snapshot means for its call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotMode {
    /// Without the one before, nothing is forwarded.
    Enforce,
    /// The call goes on, and its receipt says what is missing.
    Observe,
    /// None is taken, and the receipt says that the policy wants it so.
    Skip,
}

impl SnapshotMode {
    /// Those that a document can say; it says the other by `none`.
    pub(crate) const WRITTEN: [Self; 2] = [Self::Enforce, Self::Observe];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
            Self::Skip => "none",
        }
    }
}

/// What is in force where the narrowest of these says something. A `none` that takes away what a wider one asks for is a skip.
pub(crate) fn resolve<'s>(scopes: impl IntoIterator<Item = &'s Snapshotting>) -> Option<SnapshotSource> {
    let mut is_skipped = false;
    for said in scopes {
        match said {
            Snapshotting::None => is_skipped = true,
            Snapshotting::On(asked) if is_skipped => {
                return Some(SnapshotSource { mode: SnapshotMode::Skip, ..asked.clone() });
            }
            Snapshotting::On(asked) => return Some(asked.clone()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_word_counts_and_none_over_a_source_is_a_skip() {
        let on = |source: &str, mode| Snapshotting::On(SnapshotSource { source: source.into(), mode });
        let check = |scopes: &[Snapshotting], expected: Option<(&str, SnapshotMode)>| {
            let found = resolve(scopes);
            assert_eq!(found.as_ref().map(|found| (&*found.source, found.mode)), expected);
        };
        let (a, b) = (on("a", SnapshotMode::Observe), on("b", SnapshotMode::Enforce));
        check(&[], None);
        check(&[Snapshotting::None], None);
        check(&[a.clone(), b.clone()], Some(("a", SnapshotMode::Observe)));
        check(&[Snapshotting::None, b], Some(("b", SnapshotMode::Skip)));
        check(&[a, Snapshotting::None], Some(("a", SnapshotMode::Observe)));
    }
}
