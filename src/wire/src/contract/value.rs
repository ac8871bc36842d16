//! One JSON text that is there whole: judged, repaired once, judged again.

use std::sync::Arc;

use crate::repair::{self, Class, Profile, Repaired, Scalar, Want, coerce};
use crate::schema::{Cause, Check, CheckLimits, HashKey, Keyword, Schema, Violation};

/// What became of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Valid,
    /// It was malformed, or had scalars of another type than the contract wants; the repaired text is valid.
    Repaired(Repaired),
    Refused(Violation),
}

/// Judges `text`. It is repaired for what is malformed and for the coercions that the profile grants; a repaired text that is
/// not valid is refused for that.
pub fn judge_value(schema: &Arc<Schema>, key: HashKey, repair: Option<&Profile>, text: &[u8]) -> Verdict {
    let mut check = Check::new(schema.clone(), CheckLimits::default(), key);
    match judge(&mut check, text) {
        Ok(()) => Verdict::Valid,
        Err(violation) => mended(&mut check, violation, repair, text),
    }
}

/// Repairs what broke `violation`, and judges it with the same check.
pub(super) fn mended(
    check: &mut Check,
    violation: Violation,
    repair: Option<&Profile>,
    text: &[u8],
) -> Verdict {
    let Some(profile) = repair.filter(|profile| is_mendable(profile, &violation)) else {
        return Verdict::Refused(violation);
    };
    let Ok(first) = repair::repair(profile, text) else { return Verdict::Refused(violation) };
    let mut outcome = first.clone();
    let mut wants = Vec::new();
    loop {
        let value = match &outcome {
            repair::Outcome::Intact => text,
            repair::Outcome::Repaired(repaired) => &repaired.bytes,
        };
        let Err(violation) = judge(check, value) else { break };
        let coerced = (!is_malformed(&violation)
            && is_mendable(profile, &violation)
            && wants.len() < profile.edits_max)
            .then(|| coerced(profile, text, &first, &mut wants, &violation));
        match coerced.flatten() {
            Some(next) if next != outcome => outcome = next,
            _ => return Verdict::Refused(violation),
        }
    }
    match outcome {
        repair::Outcome::Intact => Verdict::Refused(violation),
        repair::Outcome::Repaired(repaired) => Verdict::Repaired(repaired),
    }
}

fn judge(check: &mut Check, text: &[u8]) -> Result<(), Violation> {
    check.reset();
    check.feed(text).and_then(|()| check.finish())
}

/// The text with one more scalar as its contract wants it.
fn coerced(
    profile: &Profile,
    text: &[u8],
    first: &repair::Outcome,
    wants: &mut Vec<Want>,
    violation: &Violation,
) -> Option<repair::Outcome> {
    for scalar in [Scalar::Integer, Scalar::Boolean] {
        wants.push(Want { pointer: violation.instance.to_string(), scalar });
        match coerce(profile, text, first.clone(), wants) {
            Ok(outcome) => return Some(outcome),
            Err(_) => drop(wants.pop()),
        }
    }
    None
}

/// Whether a repair could help.
pub(super) fn is_mendable(profile: &Profile, violation: &Violation) -> bool {
    const COERCIONS: [Class; 3] = [Class::StringToInteger, Class::StringToBoolean, Class::FractionToInteger];
    let coerces = COERCIONS.into_iter().any(|class| profile.classes.has(class));
    is_malformed(violation) || coerces && violation.cause == Cause::Keyword(Keyword::Type)
}

fn is_malformed(violation: &Violation) -> bool {
    matches!(violation.cause, Cause::Json(_))
}
