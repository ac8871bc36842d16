//! One JSON text that is there whole: judged, repaired once, judged again.

use std::sync::Arc;

use crate::repair::{self, Profile, Repaired};
use crate::schema::{Cause, Check, CheckLimits, HashKey, Schema, Violation};

/// What became of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Valid,
    /// It was malformed; the repaired text is valid.
    Repaired(Repaired),
    Refused(Violation),
}

/// Judges `text`. Only what is malformed is repaired, and a repaired text that is not valid is refused for that.
pub fn judge_value(schema: &Arc<Schema>, key: HashKey, repair: Option<&Profile>, text: &[u8]) -> Verdict {
    let mut check = Check::new(schema.clone(), CheckLimits::default(), key);
    let Err(violation) = check.feed(text).and_then(|()| check.finish()) else { return Verdict::Valid };
    mended(&mut check, violation, repair, text)
}

/// Repairs what broke `violation`, and judges it with the same check.
pub(super) fn mended(
    check: &mut Check,
    violation: Violation,
    repair: Option<&Profile>,
    text: &[u8],
) -> Verdict {
    let Some(profile) = repair.filter(|_| is_malformed(&violation)) else {
        return Verdict::Refused(violation);
    };
    let Ok(repair::Outcome::Repaired(repaired)) = repair::repair(profile, text) else {
        return Verdict::Refused(violation);
    };
    check.reset();
    match check.feed(&repaired.bytes).and_then(|()| check.finish()) {
        Ok(()) => Verdict::Repaired(repaired),
        Err(violation) => Verdict::Refused(violation),
    }
}

/// Whether a repair could help.
pub(super) fn is_malformed(violation: &Violation) -> bool {
    matches!(violation.cause, Cause::Json(_))
}
