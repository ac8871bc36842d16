//! How a decision came about, told by the decision itself: the judge reports each step to a [`Trace`], and on
//! the path of a call the trace is `()`.

use std::fmt;

use crate::document::{RuleId, Verdict};
use crate::facts::Condition;
use crate::policy::Decision;
use crate::predicate::{Predicate, ValueClass};

/// A decision and the steps to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation<'a> {
    /// What [`crate::Policy::request`] or [`crate::Policy::response`] says of the same facts.
    pub decision: Decision<'a>,
    /// What was tried, in order.
    pub steps: Vec<Step<'a, 'a>>,
}

/// What is judged at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject<'f> {
    /// The model asked for or served.
    pub model: Option<&'f str>,
    /// One tool.
    pub tool: Option<&'f str>,
}

/// One step of a judgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'p, 'f> {
    /// A rule was tried.
    Rule {
        /// On what.
        subject: Subject<'f>,
        /// Which.
        rule: &'p RuleId,
        /// The first condition that did not hold. None: the rule decided for the subject.
        failed: Option<Failed<'p>>,
    },
    /// A rule that would hold, if only something could be read. The call counts as not evaluated.
    Unknown {
        /// On what.
        subject: Subject<'f>,
        /// Which.
        rule: &'p RuleId,
        /// What could not be read.
        failed: Failed<'p>,
    },
    /// A rule that asks what a tool is called with, of which only that is not known yet.
    ToCome {
        /// On what.
        subject: Subject<'f>,
        /// Which.
        rule: &'p RuleId,
        /// What is done.
        then: Then,
    },
    /// A rule that blocks without naming what is judged now was not tried: models where one is served, data where
    /// something is said.
    PassedOver {
        /// On what.
        subject: Subject<'f>,
        /// Which.
        rule: &'p RuleId,
    },
    /// No rule held, and the route's default decided for the subject.
    Default {
        /// On what.
        subject: Subject<'f>,
        /// What it says.
        verdict: Verdict,
    },
    /// The bytes were not evaluated, or a fact was beyond its limit.
    NotEvaluated {
        /// What `on_not_evaluated` says. An allow does not lift a block.
        verdict: Verdict,
    },
}

/// What is done about a rule that asks for what has not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// It allows, and the tool is only offered: it decides, and the call is judged when it comes.
    Decides,
    /// It does not allow, and the tool is only offered: the next rule is tried.
    PassedOver,
    /// The tool is called: nothing is decided before the arguments have come.
    Waits,
}

/// Why a rule does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed<'p> {
    /// The condition that did not hold; none: all of those in `unless` did.
    pub condition: Option<Condition>,
    /// It is one of `unless`.
    pub unless: bool,
    /// The predicate that did not hold, and what it found there.
    pub predicate: Option<(&'p Predicate, ValueClass)>,
}

impl Failed<'_> {
    pub(crate) const UNLESS: Self = Self { condition: None, unless: true, predicate: None };

    pub(crate) fn of(condition: Condition) -> Self {
        Self { condition: Some(condition), unless: false, predicate: None }
    }
}

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.condition, self.unless) {
            (None, _) => f.write_str("`unless`")?,
            (Some(condition), true) => write!(f, "`unless` `{condition}`")?,
            (Some(condition), false) => write!(f, "`{condition}`")?,
        }
        match &self.predicate {
            Some((predicate, found)) => write!(f, ": {predicate}, found {}", found.as_str()),
            None => Ok(()),
        }
    }
}

/// Takes the steps of a judgement.
pub(crate) trait Trace<'p, 'f> {
    /// Whether anybody wants to know of rules that are not tried because they cannot hold.
    const WATCHES: bool;

    fn step(&mut self, step: Step<'p, 'f>);
}

impl<'p, 'f> Trace<'p, 'f> for () {
    const WATCHES: bool = false;

    fn step(&mut self, _: Step<'p, 'f>) {}
}

/// What rules that were tried asked for and could not be told, each time.
impl<'p, 'f> Trace<'p, 'f> for Vec<Condition> {
    const WATCHES: bool = false;

    fn step(&mut self, step: Step<'p, 'f>) {
        if let Step::Unknown { failed: Failed { condition: Some(condition), .. }, .. } = step {
            self.push(condition);
        }
    }
}

impl<'p, 'f> Trace<'p, 'f> for Vec<Step<'p, 'f>> {
    const WATCHES: bool = true;

    fn step(&mut self, step: Step<'p, 'f>) {
        self.push(step);
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.tool, self.model) {
            (Some(tool), Some(model)) => {
                write!(f, "tool `{}`, model `{}`", tool.escape_debug(), model.escape_debug())
            }
            (Some(tool), None) => write!(f, "tool `{}`", tool.escape_debug()),
            (None, Some(model)) => write!(f, "model `{}`", model.escape_debug()),
            (None, None) => f.write_str("the call"),
        }
    }
}

impl fmt::Display for Step<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { subject, rule, failed: Some(failed) } => {
                write!(f, "{subject}: rule `{rule}` does not hold, because of {failed}")
            }
            Self::Unknown { subject, rule, failed } => {
                write!(f, "{subject}: rule `{rule}` cannot be tried, because of {failed}")
            }
            Self::ToCome { subject, rule, then: Then::Decides } => {
                write!(
                    f,
                    "{subject}: rule `{rule}` decides about the offer; its call is judged when it comes"
                )
            }
            Self::ToCome { subject, rule, then: Then::PassedOver } => {
                write!(f, "{subject}: rule `{rule}` is passed over, it is about calls")
            }
            Self::ToCome { subject, rule, then: Then::Waits } => {
                write!(f, "{subject}: rule `{rule}` waits for the arguments")
            }
            Self::Rule { subject, rule, failed: None } => write!(f, "{subject}: rule `{rule}` decides"),
            Self::PassedOver { subject, rule } => {
                write!(f, "{subject}: rule `{rule}` is passed over, it names nothing that is judged now")
            }
            Self::Default { subject, verdict } => {
                write!(f, "{subject}: no rule holds, the default is {verdict}")
            }
            Self::NotEvaluated { verdict } => {
                write!(f, "not all was evaluated: {verdict} unless blocked before")
            }
        }
    }
}
