//! Objects whose first member may tell which branch of a choice they are. Until it has, no task is set to work; if it
//! does not tell, all are, and are told what has come so far.

use super::{
    super::super::{
        choice::Tag,
        node::{NodeId, Program},
        scalar::{Scalar, Text},
    },
    By, Frame, Place, State,
};
use crate::json::Container;

impl State {
    /// A choice that an object with this tag can end before tasks are needed: none would run into a limit.
    pub(super) fn can_wait(&self, tag: &Tag) -> bool {
        self.hashing == 0 && tag.tasks <= self.limits.branches_max && self.names.has_room()
    }

    /// Opens an object of the choice `id`.
    pub(super) fn open_choice(&mut self, id: NodeId) {
        if let Some(frame) = self.open_frame(Container::Object) {
            (frame.by, frame.node) = (By::Choice, id);
        }
    }

    /// The first member of a choice.
    pub(super) fn choice_member(&mut self, program: &Program, key: &[u8]) -> Option<Place> {
        let frame = self.frames.last_mut()?;
        if frame.count == 0 && tag_of(program, frame).is_some_and(|tag| *tag.name.bytes == *key) {
            frame.count = 1;
            self.note_path(key);
            return Some(Place::Choice);
        }
        self.set_to_work(program);
        if self.found.is_some() { None } else { self.member(program, key) }
    }

    /// The value of the tag, if it holds no others.
    pub(super) fn choice_scalar(&mut self, program: &Program, value: Scalar<'_>) {
        if let Scalar::Text(text) = value
            && self.decide(program, text)
        {
            return;
        }
        if let Some(at) = self.give_up(program) {
            self.scalar(program, at, value);
        }
    }

    /// The branch is told, and stands alone from here on.
    fn decide(&mut self, program: &Program, text: Text<'_>) -> bool {
        let Some(frame) = self.frames.last() else { return false };
        let Some(tag) = tag_of(program, frame) else { return false };
        let whole = text.kept.len() as u64 == text.bytes; // `usize` has at most 64 bits
        let Some(told) = tag.tells(text.kept).filter(|_| whole) else { return false };
        self.stand_alone(program, told.node, Container::Object);
        if let Some(frame) = self.frames.last_mut() {
            frame.seen = 1 << told.index; // a tag is among the first 64
            (frame.current, frame.next) = (told.index, told.index + 1);
        }
        true
    }

    /// The tag tells no branch: the tasks begin, and get its name. Gives the place of its value.
    pub(super) fn give_up(&mut self, program: &Program) -> Option<Place> {
        let frame = self.frames.last_mut()?;
        let tag = tag_of(program, frame)?;
        frame.count = 0;
        self.set_to_work(program);
        if self.found.is_some() { None } else { self.member(program, &tag.name.bytes) }
    }

    /// Judges the innermost frame, of which nothing is known yet, by tasks.
    pub(super) fn set_to_work(&mut self, program: &Program) {
        let Some(frame) = self.frames.last_mut() else { return };
        let (node, container) = (frame.node, frame.container);
        (frame.by, frame.node) = (By::Tasks, NodeId::TRUE);
        self.tasks.pend_musts([node]);
        self.start_tasks(program, container);
    }

    /// Bytes to keep of the value of the tag.
    pub(super) fn longest_tag(&self, program: &Program) -> usize {
        let tag = self.frames.last().and_then(|frame| tag_of(program, frame));
        tag.map_or(0, |tag| tag.longest)
    }
}

fn tag_of<'a>(program: &'a Program, frame: &Frame) -> Option<&'a Tag> {
    program.node(frame.node).choice.as_ref()?.tag(frame.container)
}
