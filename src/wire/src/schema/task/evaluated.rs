//! `unevaluatedProperties` and `unevaluatedItems`: what no other keyword spoke of.
//!
//! While a container is open, tasks below one with such a keyword note which members they evaluate, and that one
//! which members would fail its keyword. At the end the notes of the tasks that passed are added up.

use super::{
    super::{
        Cap, Cause, Keyword,
        check::machine::State,
        node::{Branch, NodeId, Program},
        scalar::Failure,
    },
    Role, Starts, Task, Tasks, index,
};
use crate::json::Container;

/// One member or element, as one task sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    task: u32,
    member: u64,
    /// It fails the schema for what is not evaluated. Otherwise: it is evaluated.
    bad: bool,
}

/// Kept between uses.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// By task of the tree: its notes count.
    counts: Vec<bool>,
    /// Evaluated members, sorted.
    members: Vec<u64>,
}

impl Tasks {
    /// A container closes. What was noted meanwhile for those around it stays.
    pub(super) fn forget_notes(&mut self, starts: Starts) {
        let start = starts.notes as usize;
        let mut kept = start;
        for at in start..self.notes.len() {
            if self.notes.get(at).is_some_and(|note| note.task < starts.tasks) {
                self.notes.swap(kept, at);
                kept += 1;
            }
        }
        self.notes.truncate(kept);
    }
}

impl State {
    pub(super) fn note_good(&mut self, task: u32) {
        self.note(task, false);
    }

    pub(super) fn note_bad(&mut self, task: u32) {
        self.note(task, true);
    }

    /// Notes the current member of the container of `task`.
    fn note(&mut self, task: u32, bad: bool) {
        let Some(frame) = self.tasks.get(task).map(|task| task.frame as usize) else { return };
        let Some(count) = self.frames.get(frame).map(|frame| frame.count) else { return };
        if self.tasks.notes.len() >= self.limits.evaluated_max {
            return self.refuse(Cause::Cap(Cap::Evaluated), None, frame);
        }
        self.tasks.notes.push(Note { task, member: count.saturating_sub(1), bad });
    }

    /// The task's own `unevaluated…`, now that its branches are settled.
    pub(super) fn evaluated(
        &mut self,
        program: &Program,
        at: u32,
        task: &Task,
        container: Container,
        count: u64,
    ) -> Result<(), Failure> {
        let (node, rest, keyword) = match container {
            Container::Object => {
                let rules = program.object(task.node);
                (rules.unevaluated, rules.rest_evaluates, Keyword::UnevaluatedProperties)
            }
            Container::Array => {
                let rules = program.array(task.node);
                (rules.unevaluated, rules.rest_evaluates, Keyword::UnevaluatedItems)
            }
        };
        let Some(node) = node.filter(|node| *node != NodeId::TRUE && !rest) else { return Ok(()) };
        let mut scratch = std::mem::take(&mut self.tasks.scratch);
        let from = self.count_tree(program, at, task, container, &mut scratch);
        let holds = from.is_none_or(|from| {
            self.sum_up(at, &mut scratch);
            if program.node(node).is_never() {
                let noted = scratch.members.iter().filter(|member| **member >= from).count() as u64;
                noted >= count.saturating_sub(from)
            } else {
                let own = |note: &&Note| note.task == at && note.bad && note.member >= from;
                self.own_notes()
                    .iter()
                    .filter(own)
                    .all(|note| scratch.members.binary_search(&note.member).is_ok())
            }
        });
        self.tasks.scratch = scratch;
        if holds { Ok(()) } else { Err(Failure::new(task.node, keyword)) }
    }

    /// Finds the tasks of the tree whose notes count. Gives the first index that is not evaluated by rule; `None`:
    /// all are.
    fn count_tree(
        &self,
        program: &Program,
        at: u32,
        task: &Task,
        container: Container,
        scratch: &mut Scratch,
    ) -> Option<u64> {
        let end = index(self.tasks.tasks.len()).min(at.saturating_add(task.span));
        scratch.counts.clear();
        let mut from = 0;
        for own in at..end {
            let tree = self.tasks.get(own)?;
            let counts = own == at || self.counts(program, at, tree, &scratch.counts);
            scratch.counts.push(counts);
            if !counts {
                continue;
            }
            let (all, prefix) = match container {
                Container::Object => {
                    let rules = program.object(tree.node);
                    (rules.rest_evaluates || (own != at && rules.unevaluated.is_some()), 0)
                }
                Container::Array => {
                    let rules = program.array(tree.node);
                    let all = rules.rest_evaluates || (own != at && rules.unevaluated.is_some());
                    (all, rules.prefix.len() as u64)
                }
            };
            if all {
                return None;
            }
            from = from.max(prefix);
        }
        Some(from)
    }

    /// A task of the tree passed, in a role in which that says something.
    fn counts(&self, program: &Program, root: u32, task: &Task, counted: &[bool]) -> bool {
        let Some(by) = self.tasks.list(task.subscribers).next() else { return false };
        let Some(owner) = self.tasks.get(by.task) else { return false };
        let above = counted.get((by.task - root) as usize).copied().unwrap_or_default();
        let group = |branch: u16| self.tasks.groups.get(owner.groups as usize + usize::from(branch));
        // `const` and `enum` evaluate nothing, though they are taken apart into members here.
        above
            && task.passed
            && program.node(task.node).stands_for.is_none()
            && match by.role {
                Role::All | Role::Choice(_) | Role::When(_) => true,
                Role::Then(branch) => group(branch).is_some_and(|group| group.when == Some(true)),
                Role::Otherwise(branch) => group(branch).is_some_and(|group| group.when == Some(false)),
                Role::Dependent(branch) => match program.node(owner.node).branches.get(usize::from(branch)) {
                    Some(Branch::Dependent { name, .. }) => self.tasks.saw(owner, *name),
                    _ => false,
                },
                Role::Not(_) | Role::Contains | Role::Unevaluated => false,
            }
    }

    fn own_notes(&self) -> &[Note] {
        let start = self.tasks.starts.last().map_or(0, |starts| starts.notes as usize);
        self.tasks.notes.get(start..).unwrap_or_default()
    }

    /// The members that the tasks counted have noted as evaluated.
    fn sum_up(&self, root: u32, scratch: &mut Scratch) {
        let counted = |task: u32| {
            let at = task.checked_sub(root).map(|at| at as usize);
            at.and_then(|at| scratch.counts.get(at)).copied().unwrap_or_default()
        };
        scratch.members.clear();
        let good = self.own_notes().iter().filter(|note| !note.bad && counted(note.task));
        scratch.members.extend(good.map(|note| note.member));
        scratch.members.sort_unstable();
        scratch.members.dedup();
    }
}
