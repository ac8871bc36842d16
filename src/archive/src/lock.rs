//! How long a version is kept, and from whom.

use estoppel_evidence::time::UnixMicros;
use serde::{Deserialize, Serialize};

/// Who may shorten a retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Whoever has the right to bypass governance.
    Governance,
    /// Nobody, the owner of the account included.
    Compliance,
}

impl Mode {
    /// As S3 writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Governance, Self::Compliance].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// The retention of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    pub mode: Mode,
    /// Whole seconds.
    pub until: UnixMicros,
    pub legal_hold: bool,
}

impl Lock {
    /// Whether a version with this lock is kept at least as `other` says.
    pub fn covers(&self, other: &Self) -> bool {
        self.mode >= other.mode && self.until >= other.until && (self.legal_hold || !other.legal_hold)
    }

    /// `2026-11-22T05:48:00Z`.
    pub fn until_second(&self) -> String {
        self.until.to_string().replace(".000000Z", "Z")
    }
}

/// What S3 answers: with or without a fraction, which is dropped.
pub(crate) fn moment(text: &str) -> Option<UnixMicros> {
    let seconds = text.get(..19)?;
    let rest = text.get(19..)?.strip_suffix('Z')?;
    let is_fraction = rest.strip_prefix('.').map_or(rest.is_empty(), |digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    is_fraction.then(|| UnixMicros::parse(&format!("{seconds}.000000Z"))).flatten()
}

/// A moment without its fraction of a second.
pub(crate) fn whole_second(moment: UnixMicros) -> UnixMicros {
    UnixMicros(moment.0 / 1_000_000 * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_covers_what_asks_for_no_more() {
        let lock = |mode, until, legal_hold| Lock { mode, until: UnixMicros(until), legal_hold };
        let asked = lock(Mode::Governance, 2_000_000, false);
        for (found, covers) in [
            (asked, true),
            (lock(Mode::Compliance, 2_000_000, true), true),
            (lock(Mode::Governance, 3_000_000, false), true),
            (lock(Mode::Compliance, 1_000_000, true), false),
        ] {
            assert_eq!(found.covers(&asked), covers, "{found:?}");
        }
        assert!(!asked.covers(&lock(Mode::Compliance, 0, false)));
        assert!(!asked.covers(&lock(Mode::Governance, 0, true)));
    }

    #[test]
    fn moments_come_with_and_without_a_fraction() {
        for text in ["2026-11-22T05:48:01Z", "2026-11-22T05:48:01.5Z", "2026-11-22T05:48:01.123456789Z"] {
            assert_eq!(moment(text).unwrap().to_string(), "2026-11-22T05:48:01.000000Z");
        }
        for text in ["", "2026-11-22T05:48:01", "2026-11-22T05:48:01.Z", "2026-11-22T05:48:01+01:00", "x"] {
            assert_eq!(moment(text), None, "{text}");
        }
        assert_eq!(whole_second(UnixMicros(1_999_999)), UnixMicros(1_000_000));
    }
}
