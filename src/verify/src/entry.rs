//! One entry line (SPEC section 4; steps L1 to L4 of section 11).

use crate::hash::Hash;
use crate::json::{admit, is_strict};
use crate::reason::Reason;
use crate::report::{Finding, Step};
use crate::schema::{Kind, Schemas, Slot, Slots};
use crate::view::View;

/// Bytes of a line without its line feed, SPEC section 15.
pub(crate) const LINE_BYTES_MAX: usize = 16_384;

/// A line that passed L1 to L4.
pub(crate) struct Entry<'a> {
    pub line: &'a [u8],
    pub kind: Kind,
    pub hash: Hash,
    slots: Slots,
}

impl<'a> Entry<'a> {
    /// Reads a line without its line feed.
    ///
    /// Good lines take one pass: the kind is guessed, and the schema of that kind is checked together with
    /// admission and canonical form. Only when that fails is the line read again, step by step, for the reason.
    pub(crate) fn read(line: &'a [u8]) -> Step<Entry<'a>> {
        if line.is_empty() || line.len() > LINE_BYTES_MAX {
            let detail = format!("expected a line of 1 to {LINE_BYTES_MAX} bytes, found {}", line.len());
            return Err(Finding::new(Reason::LineLength, detail));
        }
        let mut slots = Slots::default();
        if let Some(kind) = guess_kind(line)
            && Schemas::get().entry(kind).check(line, &mut slots).is_ok()
        {
            return Ok(Entry { line, kind, hash: Hash::leaf(line), slots });
        }
        Self::read_in_steps(line)
    }

    fn read_in_steps(line: &'a [u8]) -> Step<Entry<'a>> {
        admit(line).map_err(|fault| Finding::new(Reason::LineMalformed, fault.describe(line)))?;
        // From here on the line can be read, so a finding names the place that it states.
        let seq = View::of(line).member("seq").and_then(View::count);
        let refuse = |reason, detail: String| Finding { seq, ..Finding::new(reason, detail) };
        is_strict(line).map_err(|fault| refuse(Reason::LineNotCanonical, fault.describe(line)))?;
        let refuse = |detail: String| refuse(Reason::LineSchema, detail);
        let name = View::of(line).member("kind").and_then(View::text);
        let name = name.ok_or_else(|| refuse("expected a member `kind` that is a string".to_owned()))?;
        let kind = Kind::of(name.as_bytes()).ok_or_else(|| {
            refuse(format!(
                "`{}` is no kind of entry that this verifier knows; a newer verifier may know it",
                name.escape_debug()
            ))
        })?;
        let mut slots = Slots::default();
        match Schemas::get().entry(kind).check(line, &mut slots) {
            Ok(()) => Ok(Entry { line, kind, hash: Hash::leaf(line), slots }),
            Err(fault) => Err(refuse(fault.describe(line))),
        }
    }

    /// What stands in that member: without quotes, but not unescaped. Empty when it is absent.
    pub(crate) fn raw(&self, slot: Slot) -> &'a [u8] {
        self.slots.get(slot, self.line).unwrap_or_default()
    }

    /// The same, for members that may be absent.
    pub(crate) fn optional(&self, slot: Slot) -> Option<&'a [u8]> {
        self.slots.get(slot, self.line)
    }

    /// The number in that member.
    pub(crate) fn count(&self, slot: Slot) -> u64 {
        self.raw(slot)
            .iter()
            .fold(0, |sum: u64, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0'))))
    }

    pub(crate) fn seq(&self) -> u64 {
        self.count(Slot::Seq)
    }

    pub(crate) fn view(&self) -> View<'a> {
        View::of(self.line)
    }
}

/// The kind that a canonical entry has, found without reading it. A wrong guess costs time, nothing else.
fn guess_kind(line: &[u8]) -> Option<Kind> {
    if line.starts_with(b"{\"attempt\"") || line.starts_with(b"{\"approval\"") {
        return Some(Kind::Call);
    }
    const BEFORE: &[u8] = b",\"kind\":\"";
    line.windows(BEFORE.len()).enumerate().filter(|(_, window)| *window == BEFORE).find_map(|(at, _)| {
        let value = line.get(at + BEFORE.len()..)?;
        Kind::of(value.get(..value.iter().position(|byte| *byte == b'"')?)?)
    })
}

#[cfg(test)]
mod tests;
