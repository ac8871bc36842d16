//! Frames: what is known of each open container, and the way that most values take.
//!
//! A value that one node must pass, with no branches, is judged right here. A choice of objects waits for the member that
//! tells which it is. Every other value goes through [`super::super::task`].

mod choosing;
mod digest;
mod members;
mod shown;
mod values;

use std::sync::Arc;

use digest::{TAG_ARRAY, TAG_OBJECT};

use super::{
    super::{
        Cap, Cause, HashKey, Keyword, Schema,
        hash::Hash,
        node::{Keep, NodeId, Program, Seen, Types},
        scalar::{Failure, Scalar, type_is},
        sets::{Set, Sets},
        task::Tasks,
    },
    CheckLimits, STEPS_PER_BYTE,
};
use crate::json::{Capture, Container, Expected, Literal, Short, Visitor};

/// What judges a value.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Place {
    /// One node, which must pass.
    One(NodeId),
    /// The tasks that are pending.
    Many,
    /// The member that may tell a branch of the innermost frame's choice.
    Choice,
}

/// What judges an open container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum By {
    /// Its node alone.
    One,
    Tasks,
    /// Its node, a choice, of which no branch is told yet and nothing but the tag has come.
    Choice,
}

/// An open container.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Frame {
    pub container: Container,
    pub by: By,
    /// Some task wants the elements to be unique.
    pub unique: bool,
    pub node: NodeId,
    /// Index of its rules for such a container.
    rules: u32,
    /// Members or elements so far.
    pub count: u64,
    /// A bit for each known name seen, of the first 64.
    seen: u64,
    /// Where the bits of further ones start.
    seen_more: u32,
    /// The name that is expected next.
    next: u32,
    /// The name of the current member, if the node knows it.
    current: u32,
    /// Where the name of the current member starts, if the node does not know it.
    path: u32,
    /// Names that the node does not know; or elements, where they must be unique.
    set: Set,
    /// Of all members or elements so far.
    hash: u64,
    /// Of the name of the current member.
    name_hash: u64,
}

impl Frame {
    const EMPTY: Self = Self {
        container: Container::Object,
        by: By::One,
        unique: false,
        node: NodeId::TRUE,
        rules: 0,
        count: 0,
        seen: 0,
        seen_more: 0,
        next: 0,
        current: UNKNOWN,
        path: 0,
        set: Set::EMPTY,
        hash: 0,
        name_hash: 0,
    };
}

/// No name that the node knows.
const UNKNOWN: u32 = u32::MAX;

/// The first failure.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Found {
    pub cause: Cause,
    pub node: Option<NodeId>,
    /// The name of the node's that is not there.
    pub missing: Option<u32>,
    /// Steps of the path to the value.
    pub depth: usize,
}

/// What judges one text.
#[derive(Debug)]
pub(super) struct Machine {
    schema: Arc<Schema>,
    state: State,
}

/// Everything but the schema.
#[derive(Debug)]
pub(in super::super) struct State {
    pub limits: CheckLimits,
    pub key: HashKey,
    pub frames: Vec<Frame>,
    pub tasks: Tasks,
    pub found: Option<Found>,
    /// Frames whose elements must be unique.
    pub hashing: u32,
    /// Steps that names have not paid for.
    cost: u64,
    /// Known names seen, by frame.
    seen: Vec<u64>,
    /// Unknown names of members under way, by frame.
    path: Vec<u8>,
    names: Sets,
    items: Sets,
    string: StringState,
}

/// The string that is being read.
#[derive(Debug)]
struct StringState {
    keep: Keep,
    counts: bool,
    kept: Vec<u8>,
    bytes: u64,
    points: u64,
    hash: Hash,
}

impl Machine {
    pub(super) fn new(schema: Arc<Schema>, limits: CheckLimits, key: HashKey) -> Self {
        Self { schema, state: State::new(limits, key) }
    }

    pub(super) fn root(&self) -> Place {
        Place::One(self.schema.program.root)
    }

    pub(super) fn is_content(&self) -> bool {
        self.state.found.is_none()
    }

    pub(super) fn reset(&mut self) {
        self.state.reset();
    }

    #[cfg(test)]
    pub(super) fn task_bytes(&self) -> usize {
        self.state.tasks.held_bytes()
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let state = &self.state;
        state.frames.capacity() * size_of::<Frame>()
            + state.tasks.held_bytes()
            + state.seen.capacity() * 8
            + state.path.capacity()
            + state.names.held_bytes()
            + state.items.held_bytes()
            + state.string.kept.capacity()
    }
}

impl Visitor for Machine {
    type Place = Place;

    #[inline]
    fn is_done(&self) -> bool {
        self.state.found.is_some()
    }

    #[inline]
    fn member(&mut self, _: Place, key: &[u8]) -> Option<Place> {
        self.state.member(&self.schema.program, key)
    }

    #[inline(always)]
    fn expected(&self, _: Place) -> Option<&Expected> {
        let frame = self.state.frames.last()?;
        let rules = self.schema.program.objects.get(frame.rules as usize)?; // of no names, where tasks judge
        rules.names.get(frame.next)?.expected.as_ref()
    }

    #[inline(always)]
    fn expected_member(&mut self, _: Place) -> Option<Place> {
        self.state.expected_member(&self.schema.program)
    }

    #[inline(always)]
    fn element(&mut self, _: Place) -> Option<Place> {
        self.state.element(&self.schema.program)
    }

    #[inline]
    fn begin(&mut self, at: Place, container: Container) {
        self.state.begin(&self.schema.program, at, container);
    }

    #[inline]
    fn end(&mut self, _: Place, _: Container) {
        self.state.end(&self.schema.program);
    }

    #[inline]
    fn string(&mut self, at: Place) -> Capture {
        self.state.string(&self.schema.program, at)
    }

    #[inline]
    fn text(&mut self, _: Place, piece: &[u8]) {
        self.state.text(piece);
    }

    #[inline]
    fn string_end(&mut self, at: Place) {
        self.state.string_end(&self.schema.program, at);
    }

    #[inline(always)]
    fn whole_string(&mut self, at: Place, text: &[u8]) {
        self.state.whole_string(&self.schema.program, at, text);
    }

    #[inline(always)]
    fn short_number(&mut self, at: Place, text: &[u8], number: Short) {
        self.state.short_number(&self.schema.program, at, text, number);
    }

    #[inline]
    fn number(&mut self, at: Place, text: &[u8]) {
        self.state.scalar(&self.schema.program, at, Scalar::Number(text));
    }

    #[inline(always)]
    fn literal(&mut self, at: Place, literal: Literal) {
        self.state.literal(&self.schema.program, at, literal);
    }
}

impl State {
    fn new(limits: CheckLimits, key: HashKey) -> Self {
        Self {
            limits,
            key,
            frames: Vec::new(),
            tasks: Tasks::default(),
            found: None,
            hashing: 0,
            cost: 0,
            seen: Vec::new(),
            path: Vec::new(),
            names: Sets::new(limits.names_max),
            items: Sets::new(limits.unique_items_max),
            string: StringState {
                keep: Keep::Nothing,
                counts: false,
                kept: Vec::new(),
                bytes: 0,
                points: 0,
                hash: Hash::new(key),
            },
        }
    }

    fn reset(&mut self) {
        self.frames.clear();
        self.tasks.clear();
        self.found = None;
        self.hashing = 0;
        self.cost = 0;
        self.seen.clear();
        self.path.clear();
        self.names.clear();
        self.items.clear();
    }

    /// The text is refused; the first reason stays.
    #[cold]
    pub(in super::super) fn refuse(&mut self, cause: Cause, node: Option<NodeId>, depth: usize) {
        self.found.get_or_insert(Found { cause, node, missing: None, depth });
    }

    #[cold]
    pub(in super::super) fn refuse_by(&mut self, failure: Failure, depth: usize) {
        let Failure { node, keyword, missing } = failure;
        self.found.get_or_insert(Found { cause: Cause::Keyword(keyword), node: Some(node), missing, depth });
    }

    /// A member name is about to be put to so many patterns and tasks. `None`: refused.
    #[inline]
    pub(in super::super) fn spend(&mut self, puts: usize, key: &[u8]) -> Option<()> {
        let (puts, bytes) = (puts as u64, key.len() as u64); // `usize` has at most 64 bits
        let cost = self.cost.saturating_add(puts.saturating_mul(bytes + 1));
        self.cost = cost.saturating_sub(bytes * STEPS_PER_BYTE);
        if self.cost > self.limits.cost_max {
            let depth = self.frames.len();
            self.refuse(Cause::Cap(Cap::Cost), None, depth);
            return None;
        }
        Some(())
    }

    #[inline]
    fn begin(&mut self, program: &Program, at: Place, container: Container) {
        let at = match at {
            Place::Choice => self.give_up(program),
            _ => Some(at),
        };
        let Some(at) = at else { return };
        let Place::One(mut id) = at else { return self.open_tasks(program, container) };
        if !program.node(id).simple {
            let choice = program.node(id).choice.as_ref();
            let sole = choice.and_then(|choice| choice.sole(container));
            let tag = choice.and_then(|choice| choice.tag(container));
            match (sole, tag) {
                (Some(sole), _) => id = sole,
                (None, Some(tag)) if self.can_wait(tag) => return self.open_choice(id),
                _ => {
                    self.tasks.pend_musts([id]);
                    return self.open_tasks(program, container);
                }
            }
        }
        let node = program.node(id);
        let fits = type_is(node, container.types())
            .and_then(|()| node.allowed.as_ref().map_or(Ok(()), |allowed| Err(allowed.keyword)));
        if let Err(keyword) = fits {
            let depth = self.frames.len();
            return self.refuse_by(Failure::new(id, keyword), depth);
        }
        self.open_frame(container);
        self.stand_alone(program, id, container);
    }

    /// The innermost frame is judged by one node.
    #[inline(always)]
    fn stand_alone(&mut self, program: &Program, id: NodeId, container: Container) {
        let Some(frame) = self.frames.last_mut() else { return };
        let node = program.node(id);
        (frame.by, frame.node) = (By::One, id);
        frame.rules = match container {
            Container::Array => node.array,
            Container::Object => node.object,
        };
        if container == Container::Object {
            let words = program.object(id).names.words();
            if words > 1 {
                self.seen.resize(self.seen.len() + words - 1, 0);
            }
        }
    }

    /// Pushes a frame, filled in where it lies: copying one together is what opening would mostly cost.
    #[inline(always)]
    pub(in super::super) fn open_frame(&mut self, container: Container) -> Option<&mut Frame> {
        self.frames.push(Frame::EMPTY);
        let frame = self.frames.last_mut()?;
        frame.container = container;
        frame.seen_more = self.seen.len() as u32; // a bit for each name, by depth: far below
        frame.path = self.path.len() as u32; // at most a shown name for each frame
        frame.set = match container {
            Container::Object => self.names.open(),
            Container::Array => self.items.open(),
        };
        Some(frame)
    }

    #[inline]
    fn end(&mut self, program: &Program) {
        if self.frames.last().is_some_and(|frame| frame.by == By::Choice) {
            self.set_to_work(program); // it is empty
        }
        let Some(frame) = self.frames.last().copied() else { return };
        let depth = self.frames.len() - 1;
        if frame.by == By::Tasks {
            self.close_tasks(program);
            if self.found.is_some() {
                return;
            }
        } else if let Err(failure) = self.whole(program, &frame) {
            return self.refuse_by(failure, depth);
        }
        self.frames.pop();
        self.seen.truncate(frame.seen_more as usize);
        self.path.truncate(frame.path as usize);
        match frame.container {
            Container::Object => self.names.close(frame.set),
            Container::Array => self.items.close(frame.set),
        }
        if frame.unique {
            self.hashing -= 1;
        }
        if self.hashing > 0 {
            let mut hash = Hash::new(self.key);
            hash.word(if frame.container == Container::Object { TAG_OBJECT } else { TAG_ARRAY });
            hash.word(frame.count);
            hash.word(frame.hash);
            self.add_hash(program, hash.finish());
        }
    }

    /// What is to be said of a simple container at its end.
    #[inline]
    fn whole(&self, program: &Program, frame: &Frame) -> Result<(), Failure> {
        match frame.container {
            Container::Object => {
                let more = self.seen.get(frame.seen_more as usize..).unwrap_or_default();
                let seen = Seen { first: frame.seen, more };
                program.object(frame.node).whole(frame.node, seen, frame.count)
            }
            Container::Array if frame.count < program.array(frame.node).min => {
                Err(Failure::new(frame.node, Keyword::MinItems))
            }
            Container::Array => Ok(()),
        }
    }
}

impl Container {
    #[inline]
    pub(in super::super) fn types(self) -> Types {
        match self {
            Self::Object => Types::OBJECT,
            Self::Array => Types::ARRAY,
        }
    }
}
