//! Scalars of the wrong type, where the right one is certain (spec/repair.md section 7).

use std::ops::Range;

use super::{
    Class, Edit, Outcome, Profile, Repaired, Unrepairable, check,
    edit::{Edits, apply},
    pointer::{self, Found},
};

/// The type that a contract wants of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scalar {
    Null,
    Boolean,
    Integer,
    Number,
    String,
}

/// One wish: the value at `pointer` (RFC 6901) should be a `scalar`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub pointer: String,
    pub scalar: Scalar,
}

/// Grants the wishes or none of them. `before` is what [`super::repair`] made of `original`; the edits of both
/// passes are one list over `original`.
pub fn coerce(
    profile: &Profile,
    original: &[u8],
    before: Outcome,
    wants: &[Want],
) -> Result<Outcome, Unrepairable> {
    let (value, first) = match &before {
        Outcome::Intact => (original, &[][..]),
        Outcome::Repaired(repaired) => (repaired.bytes.as_slice(), repaired.edits.as_slice()),
    };
    check::strict(value)?;
    if apply(original, first).ok().as_deref() != Some(value) {
        return Err(Unrepairable::CoercionTarget);
    }
    if wants.len() > profile.edits_max.min(super::EDITS_MOST) {
        return Err(Unrepairable::EditsMax);
    }
    let changes = changes(value, wants)?;
    if changes.is_empty() {
        return Ok(before);
    }
    let edits = merge(profile, first, changes)?;
    Repaired::check(original, edits).map(Outcome::Repaired)
}

/// A scalar to be written otherwise.
#[derive(Debug)]
struct Change {
    span: Range<usize>,
    class: Class,
    written: String,
}

fn changes(value: &[u8], wants: &[Want]) -> Result<Vec<Change>, Unrepairable> {
    let found = pointer::find(value, wants.iter().map(|want| want.pointer.as_str()));
    let mut targets = Vec::with_capacity(wants.len());
    for (want, found) in wants.iter().zip(found) {
        let Found::Scalar(span) = found else { return Err(Unrepairable::CoercionTarget) };
        targets.push((span.start, span.end, want.scalar));
    }
    targets.sort_unstable();
    targets.dedup();
    if targets.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
        return Err(Unrepairable::CoercionTarget);
    }
    let mut changes = Vec::new();
    for (start, end, scalar) in targets {
        let text = value.get(start..end).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default();
        if let Some((class, written)) = convert(text, scalar)? {
            changes.push(Change { span: start..end, class, written });
        }
    }
    Ok(changes)
}

/// How `text` is written as `scalar`; `None` if it is one.
fn convert(text: &str, scalar: Scalar) -> Result<Option<(Class, String)>, Unrepairable> {
    let content = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let (class, written) = match (scalar, content) {
        (Scalar::String, Some(_)) => return Ok(None),
        (Scalar::Null, None) if text == "null" => return Ok(None),
        (Scalar::Boolean, None) if matches!(text, "true" | "false") => return Ok(None),
        (Scalar::Number, None) if number => return Ok(None),
        (Scalar::Integer, None) if number && !text.contains(['.', 'e', 'E']) => return Ok(None),
        (Scalar::Integer | Scalar::Number, Some(content)) if is_exact_integer(content) => {
            (Class::StringToInteger, content)
        }
        (Scalar::Boolean, Some(content @ ("true" | "false"))) => (Class::StringToBoolean, content),
        (Scalar::Integer, None) => {
            (Class::FractionToInteger, whole(text).ok_or(Unrepairable::CoercionLossy)?)
        }
        _ => return Err(Unrepairable::CoercionLossy),
    };
    Ok(Some((class, written.to_string())))
}

/// Canonical text of an integer that every reader can hold (RFC 7493 section 2.2).
fn is_exact_integer(text: &str) -> bool {
    const MOST: i64 = (1 << 53) - 1;
    text.parse::<i64>().is_ok_and(|value| (-MOST..=MOST).contains(&value) && value.to_string() == text)
}

/// What stands before the point, if only zeros stand after it.
fn whole(text: &str) -> Option<&str> {
    let (whole, fraction) = text.split_once('.')?;
    let zeros = !fraction.is_empty() && fraction.bytes().all(|digit| digit == b'0');
    (zeros && is_exact_integer(whole)).then_some(whole)
}

/// One list over the original: `first` made the value whose `changes` come after.
fn merge(profile: &Profile, first: &[Edit], changes: Vec<Change>) -> Result<Vec<Edit>, Unrepairable> {
    let mut edits = Edits::new(profile);
    let mut first = first.iter().peekable();
    let (mut added, mut removed) = (0, 0);
    for Change { span, class, written } in changes {
        while let Some(edit) = first.next_if(|edit| edit_end(edit, added, removed) <= span.start) {
            added += edit.inserted.len();
            removed += edit.deleted;
            edits.push(edit.class, edit.offset, edit.deleted, edit.inserted.clone())?;
        }
        let start = span.start + removed - added;
        while let Some(edit) = first.next_if(|edit| edit.offset + added - removed < span.end) {
            if edit_end(edit, added, removed) > span.end || edit.offset < start {
                return Err(Unrepairable::CoercionTarget);
            }
            added += edit.inserted.len();
            removed += edit.deleted;
        }
        let end = span.end + removed - added;
        edits.push(class, start, end - start, written)?;
    }
    for edit in first {
        edits.push(edit.class, edit.offset, edit.deleted, edit.inserted.clone())?;
    }
    Ok(edits.into_list())
}

/// Where the inserted text of an edit ends in the repaired value.
fn edit_end(edit: &Edit, added: usize, removed: usize) -> usize {
    edit.offset + added - removed + edit.inserted.len()
}
