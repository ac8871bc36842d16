//! How the end of a task is told, from task to task, up to where nobody asks.

use super::{
    super::{
        Keyword,
        check::machine::State,
        node::{Branch, Program},
        scalar::Failure,
    },
    Fall, Link, Role, Subscriber, Task,
};

impl State {
    /// A task fails, and what depends on it may.
    pub(super) fn fail(&mut self, program: &Program, task: u32, failure: Failure, depth: usize) {
        self.tasks.falls.push(Fall { task, failure, depth });
        self.fall(program);
    }

    fn fall(&mut self, program: &Program) {
        while let Some(Fall { task: at, failure, depth }) = self.tasks.falls.pop() {
            let end = self.tasks.tasks.len();
            let Some(task) = self.tasks.tasks.get_mut(at as usize).filter(|task| task.alive) else {
                continue;
            };
            if task.must {
                self.refuse_by(failure, depth);
                self.tasks.falls.clear();
                return;
            }
            let (subscribers, span) = (task.subscribers, task.span);
            let tree = at as usize..end.min((at as usize).saturating_add(span as usize));
            self.tasks.tasks.get_mut(tree).into_iter().flatten().for_each(|task| task.alive = false);
            self.refused(program, subscribers, failure, depth);
        }
    }

    /// A value that holds no others failed what `link` subscribed to.
    pub(super) fn refused_scalar(&mut self, program: &Program, link: Link, failure: Failure, depth: usize) {
        self.refused(program, link, failure, depth);
        self.fall(program);
    }

    /// What the branches of a task come to at the end.
    pub(super) fn task_branches(&mut self, program: &Program, at: u32, task: &Task) -> Result<(), Failure> {
        let own = |keyword| Err(Failure::new(task.node, keyword));
        for (branch, kind) in program.node(task.node).branches.iter().enumerate() {
            let Some(group) = self.tasks.group(at, branch as u16) else { break }; // see `spawn`
            match kind {
                Branch::Any(_) if group.passed == 0 => return own(Keyword::AnyOf),
                Branch::One(_) if group.passed != 1 => return own(Keyword::OneOf),
                Branch::Dependent { name, .. } => {
                    if let Some(failure) = group.then
                        && self.tasks.saw(task, *name)
                    {
                        return Err(failure);
                    }
                }
                Branch::All(_) | Branch::Any(_) | Branch::One(_) | Branch::Not(_) | Branch::If { .. } => {}
            }
        }
        Ok(())
    }

    /// Tells subscribers that what they asked for failed. Those that fail of it are put on the heap of falls.
    fn refused(&mut self, program: &Program, link: Link, failure: Failure, depth: usize) {
        let mut at = link;
        while let Some(Subscriber { task: owner, role, next }) =
            self.tasks.subscribers.get(at.0 as usize).copied()
        {
            at = next;
            let Some(task) = self.tasks.get(owner).filter(|task| task.alive).copied() else { continue };
            let mut fall = |failure, depth| self.tasks.falls.push(Fall { task: owner, failure, depth });
            match role {
                Role::All => fall(failure, depth),
                Role::Choice(branch) => {
                    let Some(group) = self.tasks.group(owner, branch) else { continue };
                    group.alive = group.alive.saturating_sub(1);
                    let (alive, passed) = (group.alive, group.passed);
                    if alive == 0 && passed == 0 {
                        let keyword = match program.node(task.node).branches.get(usize::from(branch)) {
                            Some(Branch::One(_)) => Keyword::OneOf,
                            _ => Keyword::AnyOf,
                        };
                        let failure = Failure::new(task.node, keyword);
                        self.tasks.falls.push(Fall { task: owner, failure, depth: task.frame as usize });
                    } else if alive == 1 && passed == 0 && task.must {
                        self.force(owner, branch);
                    }
                }
                Role::When(branch) => {
                    let Some(group) = self.tasks.group(owner, branch) else { continue };
                    group.when = Some(false);
                    if let Some(failure) = group.otherwise {
                        self.tasks.falls.push(Fall { task: owner, failure, depth: task.frame as usize });
                    }
                }
                Role::Then(branch) | Role::Dependent(branch) => {
                    let Some(group) = self.tasks.group(owner, branch) else { continue };
                    group.then = Some(failure);
                    if group.when == Some(true) {
                        self.tasks.falls.push(Fall { task: owner, failure, depth });
                    }
                }
                Role::Otherwise(branch) => {
                    let Some(group) = self.tasks.group(owner, branch) else { continue };
                    group.otherwise = Some(failure);
                    if group.when == Some(false) {
                        self.tasks.falls.push(Fall { task: owner, failure, depth });
                    }
                }
                Role::Not(_) | Role::Contains => {}
                Role::Unevaluated => self.note_bad(owner),
            }
        }
    }

    /// Of the alternatives of a task that must pass, one is left: it must pass.
    fn force(&mut self, owner: u32, branch: u16) {
        let Some(span) = self.tasks.get(owner).map(|task| task.span) else { return };
        let end = super::index(self.tasks.tasks.len()).min(owner.saturating_add(span));
        for at in owner + 1..end {
            let Some(task) = self.tasks.get(at).filter(|task| task.alive).copied() else { continue };
            let Some(by) = self.tasks.list(task.subscribers).next() else { continue };
            let chosen = by.task == owner && by.role == Role::Choice(branch);
            let needed = by.task > owner && by.role == Role::All && self.tasks.must(by.task);
            if (chosen || needed)
                && let Some(task) = self.tasks.tasks.get_mut(at as usize)
            {
                task.must = true;
            }
        }
    }

    /// Tells subscribers that what they asked for passed.
    pub(super) fn passed(&mut self, program: &Program, link: Link) {
        let mut at = link;
        while let Some(Subscriber { task: owner, role, next }) =
            self.tasks.subscribers.get(at.0 as usize).copied()
        {
            at = next;
            let Some(task) = self.tasks.get(owner).filter(|task| task.alive).copied() else { continue };
            let depth = task.frame as usize;
            let own = |keyword| Failure::new(task.node, keyword);
            match role {
                Role::All | Role::Then(_) | Role::Otherwise(_) | Role::Dependent(_) | Role::Unevaluated => {}
                Role::Choice(branch) => {
                    let Some(group) = self.tasks.group(owner, branch) else { continue };
                    group.passed += 1;
                    let twice = group.passed > 1;
                    if twice
                        && let Some(Branch::One(_)) =
                            program.node(task.node).branches.get(usize::from(branch))
                    {
                        self.fail(program, owner, own(Keyword::OneOf), depth);
                    }
                }
                Role::Not(_) => self.fail(program, owner, own(Keyword::Not), depth),
                Role::When(branch) => {
                    let Some(group) = self.tasks.group(owner, branch) else { continue };
                    group.when = Some(true);
                    if let Some(failure) = group.then {
                        self.fail(program, owner, failure, depth);
                    }
                }
                Role::Contains => {
                    let rules = program.array(task.node);
                    let max = rules.contains.and_then(|contains| contains.max);
                    let Some(task) = self.tasks.tasks.get_mut(owner as usize) else { continue };
                    task.contained += 1;
                    if max.is_some_and(|max| task.contained > max) {
                        self.fail(program, owner, own(Keyword::MaxContains), depth);
                    } else if task.notes && !rules.rest_evaluates {
                        self.note_good(owner);
                    }
                }
            }
        }
    }
}
