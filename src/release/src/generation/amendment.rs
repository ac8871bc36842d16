//! What an amendment does to the proofs of a sealed generation.

use super::{ChangeId, Generation};

/// How the changes of a generation differ from those that were sealed. Only the proofs of `altered` and `removed` lapse.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Amendment {
    /// What was not there.
    pub added: Vec<ChangeId>,
    /// What has to be shown of them is no longer the same.
    pub altered: Vec<ChangeId>,
    /// What is no longer there.
    pub removed: Vec<ChangeId>,
    /// Their proofs stay.
    pub kept: Vec<ChangeId>,
}

impl Amendment {
    /// What differs between two forms of one generation.
    pub fn between(sealed: &Generation, amended: &Generation) -> Self {
        let mut amendment = Self::default();
        for change in &amended.changes {
            let group = match sealed.change(change.id.as_str()) {
                None => &mut amendment.added,
                Some(before) if sealed.change_digest(before) == amended.change_digest(change) => {
                    &mut amendment.kept
                }
                Some(_) => &mut amendment.altered,
            };
            group.push(change.id.clone());
        }
        let gone = sealed.changes.iter().filter(|change| amended.change(change.id.as_str()).is_none());
        amendment.removed = gone.map(|change| change.id.clone()).collect();
        amendment
    }
}
