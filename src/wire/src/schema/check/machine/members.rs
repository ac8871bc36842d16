//! Members and elements: who judges them, and which must not be there.

use super::{
    super::super::{
        Cap, Cause, Keyword, hash,
        names::Name,
        node::{NodeId, ObjectRules, Program},
        scalar::{Failure, Scalar, Text},
        sets::Insert,
    },
    By, Place, State, UNKNOWN,
    shown::NAME_SHOWN,
};

impl State {
    pub(super) fn member(&mut self, program: &Program, key: &[u8]) -> Option<Place> {
        let frame = self.frames.last_mut()?;
        match frame.by {
            By::One => {}
            By::Choice => return self.choice_member(program, key),
            By::Tasks => {
                frame.count += 1;
                self.note_unknown(key)?;
                self.note_hash(key);
                return self.task_member(program, key);
            }
        }
        let rules = program.objects.get(frame.rules as usize)?;
        if let Some((index, name)) = rules.names.find(key, frame.next) {
            return self.known_member(program, rules, index, name);
        }
        frame.count += 1;
        self.note_unknown(key)?;
        let child = self.unknown(program, rules, key)?;
        if rules.counts {
            self.count(program, rules, key)?;
        }
        self.note_hash(key);
        Some(child)
    }

    /// The name that the innermost frame expects comes next.
    #[inline(always)]
    pub(super) fn expected_member(&mut self, program: &Program) -> Option<Place> {
        let frame = self.frames.last()?;
        let rules = program.objects.get(frame.rules as usize)?;
        self.known_member(program, rules, frame.next, rules.names.get(frame.next)?)
    }

    #[inline(always)]
    pub(super) fn known_member(
        &mut self,
        program: &Program,
        rules: &ObjectRules,
        index: u32,
        name: &Name,
    ) -> Option<Place> {
        let frame = self.frames.last_mut()?;
        frame.count += 1;
        (frame.current, frame.next) = (index, index + 1);
        let bit = 1 << (index % 64);
        let word = match index {
            0..64 => &mut frame.seen,
            _ => self.seen.get_mut(frame.seen_more as usize + index as usize / 64 - 1)?,
        };
        if *word & bit != 0 {
            return self.twice();
        }
        *word |= bit;
        if name.never {
            return self.never(name.child);
        }
        if rules.counts {
            self.count(program, rules, &name.text.bytes)?;
        }
        if self.hashing > 0 {
            self.note_hash(&name.text.bytes);
        }
        Some(Place::One(name.child))
    }

    /// What is to be said of each member, whatever it is.
    #[inline(never)]
    pub(super) fn count(&mut self, program: &Program, rules: &ObjectRules, key: &[u8]) -> Option<()> {
        let depth = self.frames.len();
        let frame = self.frames.last()?;
        if rules.max.is_some_and(|max| frame.count > max) {
            let failure = Failure::new(frame.node, Keyword::MaxProperties);
            self.refuse_by(failure, depth - 1);
        } else if let Err(failure) = program.scalar(rules.property_names, Scalar::Text(Text::whole(key))) {
            self.refuse_by(failure, depth);
        }
        self.found.is_none().then_some(())
    }

    #[cold]
    pub(super) fn twice(&mut self) -> Option<Place> {
        let depth = self.frames.len();
        self.refuse(Cause::DuplicateKey, None, depth);
        None
    }

    /// A member or element that must not be there.
    #[cold]
    pub(super) fn never(&mut self, node: NodeId) -> Option<Place> {
        let depth = self.frames.len();
        self.refuse_by(Failure::new(node, Keyword::False), depth);
        None
    }

    /// A member that the node of the frame has no name for.
    pub(super) fn unknown(&mut self, program: &Program, rules: &ObjectRules, key: &[u8]) -> Option<Place> {
        self.spend(rules.patterns.len(), key)?;
        let mut matching =
            rules.patterns.iter().filter(|(pattern, _)| pattern.matches(key)).map(|(_, node)| *node);
        let one = match (matching.next(), matching.next()) {
            (None, _) => rules.rest,
            (Some(one), None) => one,
            (Some(first), Some(second)) => {
                self.tasks.pend_musts([first, second].into_iter().chain(matching));
                return Some(Place::Many);
            }
        };
        if program.node(one).is_never() { self.never(one) } else { Some(Place::One(one)) }
    }

    /// Notes the name of the current member, which the node of the frame does not know.
    pub(super) fn note_path(&mut self, key: &[u8]) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.current = UNKNOWN;
        self.path.truncate(frame.path as usize);
        self.path.extend_from_slice(key.get(..=NAME_SHOWN).unwrap_or(key));
    }

    /// Notes a name that must not come again. `None`: refused.
    pub(super) fn note_unknown(&mut self, key: &[u8]) -> Option<()> {
        let depth = self.frames.len();
        self.note_path(key);
        let frame = self.frames.last_mut()?;
        let cause = match self.names.insert(&mut frame.set, hash::of(self.key, key)) {
            Insert::New => return Some(()),
            Insert::Twice => Cause::DuplicateKey,
            Insert::Full => Cause::Cap(Cap::Names),
        };
        self.refuse(cause, None, depth);
        None
    }

    #[inline(always)]
    pub(super) fn element(&mut self, program: &Program) -> Option<Place> {
        let frame = self.frames.last_mut()?;
        let index = frame.count;
        frame.count += 1;
        if frame.by == By::Tasks {
            return self.task_element(program, index);
        }
        let rules = program.arrays.get(frame.rules as usize)?;
        if rules.max.is_some_and(|max| index >= max) {
            let failure = Failure::new(frame.node, Keyword::MaxItems);
            let depth = self.frames.len() - 1;
            self.refuse_by(failure, depth);
            return None;
        }
        let child = rules.child(index);
        if program.node(child).is_never() { self.never(child) } else { Some(Place::One(child)) }
    }
}
