//! Edits: made in order, and applied by whoever checks them.

use std::borrow::Cow;

use thiserror::Error;

use super::{Class, Classes, Profile, Unrepairable};

/// Most edits that any profile can allow: what a receipt holds.
pub const EDITS_MOST: usize = 64;

/// One change of the original bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Where, counted in the original.
    pub offset: usize,
    pub class: Class,
    /// Bytes of the original that go, from `offset` on.
    pub deleted: usize,
    /// What comes in their place.
    pub inserted: Cow<'static, str>,
}

impl Edit {
    /// The first byte of the original that is kept again.
    pub(super) fn end(&self) -> usize {
        self.offset.saturating_add(self.deleted)
    }
}

/// Edits that were not made for these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("edit {index} lies outside of the bytes or before the end of the last one")]
pub struct Misfit {
    pub index: usize,
}

/// The original with the edits made. This is what an auditor replays.
pub fn apply(original: &[u8], edits: &[Edit]) -> Result<Vec<u8>, Misfit> {
    let mut bytes = Vec::with_capacity(original.len());
    let mut from = 0;
    for (index, edit) in edits.iter().enumerate() {
        let kept = original.get(from..edit.offset).filter(|_| edit.end() <= original.len());
        bytes.extend_from_slice(kept.ok_or(Misfit { index })?);
        bytes.extend_from_slice(edit.inserted.as_bytes());
        from = edit.end();
    }
    bytes.extend_from_slice(original.get(from..).unwrap_or_default());
    Ok(bytes)
}

/// A place to which an edit may still be added when later ones are known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    pub offset: usize,
    index: usize,
}

/// The edits so far, within what the profile grants.
#[derive(Debug)]
pub(super) struct Edits {
    classes: Classes,
    edits_max: usize,
    list: Vec<Edit>,
}

impl Edits {
    pub(super) fn new(profile: &Profile) -> Self {
        let edits_max = profile.edits_max.min(EDITS_MOST);
        Self { classes: profile.classes, edits_max, list: Vec::new() }
    }

    pub(super) fn grants(&self, class: Class) -> bool {
        self.classes.has(class)
    }

    pub(super) fn mark(&self, offset: usize) -> Mark {
        Mark { offset, index: self.list.len() }
    }

    pub(super) fn push(
        &mut self,
        class: Class,
        offset: usize,
        deleted: usize,
        inserted: impl Into<Cow<'static, str>>,
    ) -> Result<(), Unrepairable> {
        self.insert(self.mark(offset), class, deleted, inserted)
    }

    /// Adds an edit at a mark that was taken after the last edit before it.
    pub(super) fn insert(
        &mut self,
        mark: Mark,
        class: Class,
        deleted: usize,
        inserted: impl Into<Cow<'static, str>>,
    ) -> Result<(), Unrepairable> {
        if !self.grants(class) {
            return Err(Unrepairable::NotGranted(class));
        }
        if self.list.len() >= self.edits_max {
            return Err(Unrepairable::EditsMax);
        }
        let edit = Edit { offset: mark.offset, class, deleted, inserted: inserted.into() };
        self.list.insert(mark.index.min(self.list.len()), edit);
        Ok(())
    }

    pub(super) fn into_list(self) -> Vec<Edit> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(offset: usize, deleted: usize, inserted: &'static str) -> Edit {
        Edit { offset, class: Class::Comment, deleted, inserted: inserted.into() }
    }

    #[test]
    fn edits_are_applied_in_order() {
        let edits = [edit(0, 1, ""), edit(2, 0, "x"), edit(2, 1, "y"), edit(5, 0, "z")];
        assert_eq!(apply(b"abcde", &edits), Ok(b"bxydez".to_vec()));
    }

    #[test]
    fn edits_of_other_bytes_are_refused() {
        assert_eq!(apply(b"abc", &[edit(4, 0, "")]), Err(Misfit { index: 0 }));
        assert_eq!(apply(b"abc", &[edit(2, usize::MAX, "")]), Err(Misfit { index: 0 }));
        assert_eq!(apply(b"abc", &[edit(1, 2, ""), edit(2, 1, "")]), Err(Misfit { index: 1 }));
    }
}
