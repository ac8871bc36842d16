//! What a feed can be limited to.

use serde::Deserialize;

use crate::finding::Finding;
use crate::read::Line;

/// Something that a person may want to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A call waits for people.
    Hold,
    /// Somebody decided on a call that waits.
    Decision,
    /// A call was refused by policy.
    Block,
    /// An operator did something: a kill switch, for one.
    Act,
    /// A policy was loaded, or refused.
    Policy,
    /// Traffic went round the gateway.
    Bypass,
    /// A share of calls left its bound (`[[alerts]]`).
    Alert,
    /// Any other finding.
    Finding,
}

impl Event {
    /// The event that an entry is.
    pub(crate) fn of(line: &Line) -> Option<Self> {
        match line.kind.as_str() {
            "hold" => Some(Self::Hold),
            "approval" => Some(Self::Decision),
            "act" => Some(Self::Act),
            "policy.load" => Some(Self::Policy),
            "call" if line.verdict.action == "block" && !line.is_shadow() => Some(Self::Block),
            _ => None,
        }
    }

    pub(crate) fn of_finding(finding: &Finding) -> Self {
        match finding.class {
            "bypass" => Self::Bypass,
            "alert" => Self::Alert,
            _ => Self::Finding,
        }
    }

    /// Its name in configuration and notices.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Decision => "decision",
            Self::Block => "block",
            Self::Act => "act",
            Self::Policy => "policy",
            Self::Bypass => "bypass",
            Self::Alert => "alert",
            Self::Finding => "finding",
        }
    }
}

/// Whether a feed that is limited to `events` tells this.
pub(crate) fn is_wanted(events: Option<&[Event]>, event: Option<Event>) -> bool {
    events.is_none_or(|events| event.is_some_and(|event| events.contains(&event)))
}
