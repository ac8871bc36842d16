//! What happens in a container is put to each of its tasks.

use super::{
    super::{
        Keyword,
        check::machine::{Place, State},
        node::{ArrayRules, NodeId, ObjectRules, Program, Seen},
        scalar::{Failure, Scalar, Text},
    },
    Pending, Role, Task,
};
use crate::json::Container;

impl State {
    /// A member of the innermost container.
    pub(in super::super) fn task_member(&mut self, program: &Program, key: &[u8]) -> Option<Place> {
        let count = self.frames.last()?.count;
        self.tasks.begin_pending();
        let alive = self.tasks.range().filter_map(|at| self.tasks.get(at)).filter(|task| task.alive);
        let puts = alive.map(|task| 1 + program.object(task.node).patterns.len()).sum();
        self.spend(puts, key)?;
        for at in self.tasks.range() {
            let Some(task) = self.tasks.get(at).filter(|task| task.alive).copied() else { continue };
            let rules = program.object(task.node);
            if rules.max.is_some_and(|max| count > max) {
                let failure = Failure::new(task.node, Keyword::MaxProperties);
                self.fail(program, at, failure, task.frame as usize);
            } else if let Err(failure) = self.task_name(program, at, task, rules, key) {
                self.fail(program, at, failure, task.frame as usize + 1);
            }
            if self.found.is_some() {
                return None;
            }
        }
        Some(self.tasks.place())
    }

    /// Puts a member to one task, which then asks for the nodes that must judge its value.
    fn task_name(
        &mut self,
        program: &Program,
        at: u32,
        task: Task,
        rules: &ObjectRules,
        key: &[u8],
    ) -> Result<(), Failure> {
        if rules.property_names != NodeId::TRUE {
            program.scalar(rules.property_names, Scalar::Text(Text::whole(key)))?;
        }
        let mut evaluated = false;
        if let Some((index, name)) = rules.names.find(key, task.next) {
            if let Some(word) = self.tasks.seen.get_mut(task.seen as usize + index as usize / 64) {
                *word |= 1 << (index % 64);
            }
            if let Some(task) = self.tasks.tasks.get_mut(at as usize) {
                task.next = index + 1;
            }
            self.ask(program, name.child, at, Role::All)?;
            evaluated = name.evaluated;
        } else {
            for (_, node) in rules.patterns.iter().filter(|(pattern, _)| pattern.matches(key)) {
                self.ask(program, *node, at, Role::All)?;
                evaluated = true;
            }
            if !evaluated {
                self.ask(program, rules.rest, at, Role::All)?;
            }
        }
        if rules.rest_evaluates || !task.notes {
            return Ok(());
        }
        if evaluated {
            self.note_good(at);
        } else if let Some(node) = rules.unevaluated {
            self.ask(program, node, at, Role::Unevaluated)?;
        }
        Ok(())
    }

    /// The next value must be judged by `node` for `task`.
    fn ask(&mut self, program: &Program, node: NodeId, task: u32, role: Role) -> Result<(), Failure> {
        if node == NodeId::TRUE && role != Role::Contains {
            return Ok(());
        }
        if program.node(node).is_never() {
            return match role {
                Role::All => Err(Failure::new(node, Keyword::False)),
                _ => Ok(()), // that it fails is known at the end, see `evaluated`
            };
        }
        self.tasks.pend(node, task, role);
        Ok(())
    }

    /// An element of the innermost container.
    pub(in super::super) fn task_element(&mut self, program: &Program, index: u64) -> Option<Place> {
        self.tasks.begin_pending();
        for at in self.tasks.range() {
            let Some(task) = self.tasks.get(at).filter(|task| task.alive).copied() else { continue };
            let rules = program.array(task.node);
            if rules.max.is_some_and(|max| index >= max) {
                let failure = Failure::new(task.node, Keyword::MaxItems);
                self.fail(program, at, failure, task.frame as usize);
            } else if let Err(failure) = self.task_item(program, at, rules, index) {
                self.fail(program, at, failure, task.frame as usize + 1);
            }
            if self.found.is_some() {
                return None;
            }
        }
        Some(self.tasks.place())
    }

    fn task_item(
        &mut self,
        program: &Program,
        at: u32,
        rules: &ArrayRules,
        index: u64,
    ) -> Result<(), Failure> {
        self.ask(program, rules.child(index), at, Role::All)?;
        if let Some(contains) = rules.contains {
            self.ask(program, contains.node, at, Role::Contains)?;
        }
        match rules.unevaluated {
            Some(node) if !rules.rest_evaluates && index >= rules.prefix.len() as u64 => {
                self.ask(program, node, at, Role::Unevaluated)
            }
            _ => Ok(()),
        }
    }

    /// A value that holds no others is put to the pending nodes.
    pub(in super::super) fn task_scalar(&mut self, program: &Program, value: Scalar<'_>) {
        let depth = self.frames.len();
        for at in 0..self.tasks.pending.len() {
            let Some(Pending { node, subscribers }) = self.tasks.pending.get(at).copied() else { break };
            match program.scalar(node, value) {
                Ok(()) => self.passed(program, subscribers),
                Err(failure) if subscribers == super::Link::NONE => self.refuse_by(failure, depth),
                Err(failure) => self.refused_scalar(program, subscribers, failure, depth),
            }
            if self.found.is_some() {
                break;
            }
        }
        self.tasks.pending.clear();
        self.tasks.subscribers.truncate(self.tasks.pending_from as usize);
    }

    /// Two elements of the innermost array are equal.
    #[cold]
    pub(in super::super) fn task_twice(&mut self, program: &Program) {
        for at in self.tasks.range() {
            let Some(task) = self.tasks.get(at).filter(|task| task.alive).copied() else { continue };
            if program.array(task.node).unique {
                let failure = Failure::new(task.node, Keyword::UniqueItems);
                self.fail(program, at, failure, task.frame as usize);
            }
        }
    }

    /// The innermost container is whole: its tasks pass or fail, branches before what they belong to.
    pub(in super::super) fn close_tasks(&mut self, program: &Program) {
        let Some(frame) = self.frames.last().copied() else { return };
        for at in self.tasks.range().rev() {
            let Some(task) = self.tasks.get(at).filter(|task| task.alive).copied() else { continue };
            match self.task_whole(program, at, &task, frame.container, frame.count) {
                Err(failure) => self.fail(program, at, failure, task.frame as usize),
                Ok(()) => {
                    if let Some(task) = self.tasks.tasks.get_mut(at as usize) {
                        task.passed = true;
                    }
                    self.passed(program, task.subscribers);
                }
            }
            if self.found.is_some() {
                return;
            }
        }
        self.tasks.close();
    }

    fn task_whole(
        &mut self,
        program: &Program,
        at: u32,
        task: &Task,
        container: Container,
        count: u64,
    ) -> Result<(), Failure> {
        let own = |keyword| Failure::new(task.node, keyword);
        match container {
            Container::Object => {
                let seen = self.tasks.seen.get(task.seen as usize..).unwrap_or_default();
                program.object(task.node).whole(task.node, Seen::of(seen), count)?;
            }
            Container::Array => {
                let rules = program.array(task.node);
                if count < rules.min {
                    return Err(own(Keyword::MinItems));
                }
                if let Some(contains) = rules.contains
                    && task.contained < contains.min
                {
                    let keyword = if contains.min == 1 { Keyword::Contains } else { Keyword::MinContains };
                    return Err(own(keyword));
                }
            }
        }
        self.task_branches(program, at, task)?;
        self.evaluated(program, at, task, container, count)
    }
}
