//! How a decision came about, told by the decision itself: the judge reports each step to a [`Trace`], and on
//! the path of a call the trace is `()`.

use std::fmt;

use crate::document::{RuleId, Verdict};
use crate::facts::Condition;
use crate::policy::Decision;

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
        failed: Option<Condition>,
    },
    /// A rule that blocks without naming models was not tried on a served model.
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

/// Takes the steps of a judgement.
pub(crate) trait Trace<'p, 'f> {
    fn step(&mut self, step: Step<'p, 'f>);
}

impl<'p, 'f> Trace<'p, 'f> for () {
    fn step(&mut self, _: Step<'p, 'f>) {}
}

impl<'p, 'f> Trace<'p, 'f> for Vec<Step<'p, 'f>> {
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
            Self::Rule { subject, rule, failed: Some(condition) } => {
                write!(f, "{subject}: rule `{rule}` does not hold, because of `{condition}`")
            }
            Self::Rule { subject, rule, failed: None } => write!(f, "{subject}: rule `{rule}` decides"),
            Self::PassedOver { subject, rule } => {
                write!(f, "{subject}: rule `{rule}` is passed over, it names no model")
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
