//! Values that several nodes judge at once.
//!
//! Each open container that needs it has a stretch of *tasks*: for every node that judges the container itself a
//! tree, the node first and then its branches, depth first. Every task is alive until it fails, and passes when its
//! container is whole. What becomes of a task is told to those that asked for it, its *subscribers*: the task
//! whose branch it is, or the tasks of the container around it. Nodes asked for twice work once.
//!
//! A task that nobody asked for must pass, and so must what it needs without a choice: the first failure there
//! is the violation.

mod evaluated;
mod judge;
mod tell;

use super::{
    Cap, Cause,
    check::machine::{By, Place, State},
    node::{Branch, Keep, NodeId, Program, Seen},
    scalar::{Failure, type_is},
};
use crate::json::Container;
use evaluated::Note;

/// What a task means to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It must pass.
    All,
    /// A branch of the subscriber's node: which one, and as what.
    Choice(u16),
    Not(u16),
    When(u16),
    Then(u16),
    Otherwise(u16),
    Dependent(u16),
    /// An element that may be the one that `contains` asks for.
    Contains,
    /// A member or element in case that nothing else evaluates it.
    Unevaluated,
}

#[derive(Clone, Copy, Debug)]
struct Subscriber {
    task: u32,
    role: Role,
    /// The next one in the list.
    next: Link,
}

/// Index of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link(u32);

impl Link {
    const NONE: Self = Self(u32::MAX);
}

#[derive(Clone, Copy, Debug)]
struct Task {
    node: NodeId,
    subscribers: Link,
    /// Its failure is the violation.
    must: bool,
    alive: bool,
    passed: bool,
    /// It is one of those whose evaluations count for an `unevaluated…` around it.
    notes: bool,
    /// Tasks of its tree, itself included; not final while the tree is built.
    span: u32,
    /// The frame of its container.
    frame: u32,
    groups: u32,
    seen: u32,
    /// The name that is expected next.
    next: u32,
    contained: u64,
}

/// The state of one branch of a task's node.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Alternatives that have not failed.
    alive: u32,
    passed: u32,
    /// How `if` ended.
    when: Option<bool>,
    /// `then` or `dependentSchemas` failed, which may not matter.
    then: Option<Failure>,
    otherwise: Option<Failure>,
}

/// A node that is to judge the value that comes next.
#[derive(Clone, Copy, Debug)]
struct Pending {
    node: NodeId,
    subscribers: Link,
}

/// A failure on its way to the subscribers.
#[derive(Clone, Copy, Debug)]
struct Fall {
    task: u32,
    failure: Failure,
    depth: usize,
}

/// All tasks of all open containers; each container has the end of each list.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tasks: Vec<Task>,
    subscribers: Vec<Subscriber>,
    groups: Vec<Group>,
    seen: Vec<u64>,
    notes: Vec<Note>,
    pending: Vec<Pending>,
    /// Where the subscribers of what is pending start.
    pending_from: u32,
    starts: Vec<Starts>,
    falls: Vec<Fall>,
    scratch: evaluated::Scratch,
}

/// Where the lists of one container start.
#[derive(Clone, Copy, Debug)]
struct Starts {
    tasks: u32,
    subscribers: u32,
    groups: u32,
    seen: u32,
    notes: u32,
}

fn index(length: usize) -> u32 {
    length as u32 // tasks, and what they have, are limited far below
}

impl Tasks {
    pub(super) fn clear(&mut self) {
        self.tasks.clear();
        self.subscribers.clear();
        self.groups.clear();
        self.seen.clear();
        self.notes.clear();
        self.pending.clear();
        self.starts.clear();
        self.falls.clear();
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.tasks.capacity() * size_of::<Task>()
            + self.subscribers.capacity() * size_of::<Subscriber>()
            + self.groups.capacity() * size_of::<Group>()
            + self.seen.capacity() * 8
            + self.notes.capacity() * size_of::<Note>()
            + self.pending.capacity() * size_of::<Pending>()
            + self.starts.capacity() * size_of::<Starts>()
            + self.falls.capacity() * size_of::<Fall>()
    }

    /// The next value must pass all of these.
    pub(super) fn pend_musts(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.begin_pending();
        self.pending.extend(nodes.into_iter().map(|node| Pending { node, subscribers: Link::NONE }));
    }

    fn begin_pending(&mut self) {
        self.pending.clear();
        self.pending_from = index(self.subscribers.len());
    }

    /// The next value is to be judged by `node` for `task`.
    fn pend(&mut self, node: NodeId, task: u32, role: Role) {
        let link = Link(index(self.subscribers.len()));
        match self.pending.iter_mut().find(|pending| pending.node == node) {
            Some(pending) => {
                self.subscribers.push(Subscriber { task, role, next: pending.subscribers });
                pending.subscribers = link;
            }
            None => {
                self.subscribers.push(Subscriber { task, role, next: Link::NONE });
                self.pending.push(Pending { node, subscribers: link });
            }
        }
    }

    /// How the next value is judged: by one node alone, if that must pass and nobody wants to know when it does.
    fn place(&mut self) -> Place {
        let place = match self.pending.as_slice() {
            [] => Place::One(NodeId::TRUE),
            [one] if self.list(one.subscribers).all(|by| by.role == Role::All && self.must(by.task)) => {
                Place::One(one.node)
            }
            _ => return Place::Many,
        };
        self.subscribers.truncate(self.pending_from as usize);
        place
    }

    fn must(&self, task: u32) -> bool {
        self.tasks.get(task as usize).is_some_and(|task| task.must)
    }

    fn list(&self, link: Link) -> impl Iterator<Item = Subscriber> {
        let mut at = link;
        std::iter::from_fn(move || {
            let subscriber = *self.subscribers.get(at.0 as usize)?;
            at = subscriber.next;
            Some(subscriber)
        })
    }

    /// What the pending nodes keep and count of a string.
    pub(super) fn wants_of_text(&self, program: &Program) -> (Keep, bool) {
        let nodes = self.pending.iter().map(|pending| program.node(pending.node));
        nodes.fold((Keep::Nothing, false), |(keep, counts), node| (keep.max(node.keep), counts | node.counts))
    }

    fn get(&self, task: u32) -> Option<&Task> {
        self.tasks.get(task as usize)
    }

    fn group(&mut self, task: u32, branch: u16) -> Option<&mut Group> {
        let first = self.get(task)?.groups as usize;
        self.groups.get_mut(first + usize::from(branch))
    }

    fn saw(&self, task: &Task, name: u32) -> bool {
        Seen::of(self.seen.get(task.seen as usize..).unwrap_or_default()).has(name)
    }

    /// The innermost container is done with.
    fn close(&mut self) {
        let Some(starts) = self.starts.pop() else { return };
        self.tasks.truncate(starts.tasks as usize);
        self.subscribers.truncate(starts.subscribers as usize);
        self.groups.truncate(starts.groups as usize);
        self.seen.truncate(starts.seen as usize);
        self.forget_notes(starts);
    }

    /// The tasks of the innermost container.
    fn range(&self) -> std::ops::Range<u32> {
        let start = self.starts.last().map_or(0, |starts| starts.tasks);
        start..index(self.tasks.len())
    }
}

impl State {
    pub(super) fn open_tasks(&mut self, program: &Program, container: Container) {
        if let Some(frame) = self.open_frame(container) {
            frame.by = By::Tasks;
        }
        self.start_tasks(program, container);
    }

    /// Sets what is pending to work on the innermost container, of which nothing has come yet.
    pub(super) fn start_tasks(&mut self, program: &Program, container: Container) {
        let tasks = &mut self.tasks;
        tasks.starts.push(Starts {
            tasks: index(tasks.tasks.len()),
            subscribers: tasks.pending_from,
            groups: index(tasks.groups.len()),
            seen: index(tasks.seen.len()),
            notes: index(tasks.notes.len()),
        });
        for at in 0..self.tasks.pending.len() {
            if let Some(Pending { node, subscribers }) = self.tasks.pending.get(at).copied() {
                let must = subscribers == Link::NONE;
                self.spawn(program, node, subscribers, Seed { container, must, notes: false });
            }
        }
        self.tasks.pending.clear();
        let unique = |task: &Task| task.alive && program.array(task.node).unique;
        let range = self.tasks.range();
        let any = range.filter_map(|at| self.tasks.get(at)).any(unique);
        if let Some(frame) = self.frames.last_mut()
            && container == Container::Array
            && any
        {
            frame.unique = true;
            self.hashing += 1;
        }
    }

    /// Sets a node to work on the innermost container, and its branches.
    fn spawn(&mut self, program: &Program, id: NodeId, subscribers: Link, seed: Seed) {
        let depth = self.frames.len() - 1;
        let range = self.tasks.range();
        if range.len() >= self.limits.branches_max {
            return self.refuse(Cause::Cap(Cap::Branches), None, depth);
        }
        let Seed { container, must, notes } = seed;
        let node = program.node(id);
        let unevaluated = match container {
            Container::Object => program.object(id).unevaluated.is_some(),
            Container::Array => program.array(id).unevaluated.is_some(),
        };
        let tasks = &mut self.tasks;
        let (own, seen, groups) = (range.end, index(tasks.seen.len()), index(tasks.groups.len()));
        let notes = notes || unevaluated;
        tasks.tasks.push(Task {
            node: id,
            subscribers,
            must,
            alive: true,
            passed: false,
            notes,
            span: u32::MAX,
            frame: index(depth),
            groups,
            seen,
            next: 0,
            contained: 0,
        });
        let fits = type_is(node, container.types())
            .and_then(|()| node.allowed.as_ref().map_or(Ok(()), |allowed| Err(allowed.keyword)));
        if let Err(keyword) = fits {
            self.fail(program, own, Failure::new(id, keyword), depth);
        } else {
            if container == Container::Object {
                tasks.seen.resize(tasks.seen.len() + program.object(id).names.words(), 0);
            }
            tasks.groups.extend(node.branches.iter().map(Group::of));
            for (at, branch) in node.branches.iter().enumerate() {
                let at = at as u16; // branches are limited to fewer
                self.spawn_branch(program, own, at, branch, Seed { container, must, notes });
            }
        }
        let end = index(self.tasks.tasks.len());
        if let Some(task) = self.tasks.tasks.get_mut(own as usize) {
            task.span = end - own;
        }
    }

    fn spawn_branch(&mut self, program: &Program, own: u32, at: u16, branch: &Branch, seed: Seed) {
        let mut one = |node: NodeId, role: Role| self.spawn_one(program, own, node, role, seed);
        match branch {
            Branch::All(node) => one(*node, Role::All),
            Branch::Any(nodes) | Branch::One(nodes) => {
                nodes.iter().for_each(|node| one(*node, Role::Choice(at)));
            }
            Branch::Not(node) => one(*node, Role::Not(at)),
            Branch::If { when, then, otherwise } => {
                one(*when, Role::When(at));
                one(*then, Role::Then(at));
                one(*otherwise, Role::Otherwise(at));
            }
            Branch::Dependent { node, .. } if seed.container == Container::Object => {
                one(*node, Role::Dependent(at));
            }
            Branch::Dependent { .. } => {}
        }
    }

    fn spawn_one(&mut self, program: &Program, own: u32, node: NodeId, role: Role, seed: Seed) {
        let Some(task) = self.tasks.get(own).copied() else { return };
        if self.found.is_some() || !task.alive {
            return;
        }
        let forced = match role {
            Role::All => true,
            Role::Choice(at) => self.tasks.group(own, at).is_some_and(|group| group.is_down_to_one()),
            _ => false,
        };
        let notes = seed.notes && !matches!(role, Role::Not(_));
        let link = Link(index(self.tasks.subscribers.len()));
        self.tasks.subscribers.push(Subscriber { task: own, role, next: Link::NONE });
        self.spawn(program, node, link, Seed { must: task.must && forced, notes, ..seed });
    }
}

/// What a task is born with.
#[derive(Clone, Copy, Debug)]
struct Seed {
    container: Container,
    must: bool,
    notes: bool,
}

impl Group {
    fn of(branch: &Branch) -> Self {
        let alive = match branch {
            Branch::Any(nodes) | Branch::One(nodes) => index(nodes.len()),
            _ => 0,
        };
        Self { alive, ..Self::default() }
    }

    /// One alternative is left, and none has passed: there is no choice any more.
    fn is_down_to_one(&self) -> bool {
        self.alive == 1 && self.passed == 0
    }
}
