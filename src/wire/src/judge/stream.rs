//! The events of one stream.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

use super::{Judge, Outcome, event, text};
use crate::{
    Dialect,
    dialect::{At, CallForm, Part, PartKind},
};

/// Most values that one stream may have open or remembered.
const VALUES_MAX: usize = 1024;

/// One judged value, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<R> {
    pub at: At,
    /// The tool that is called; none for a text.
    pub name: Option<Box<str>>,
    /// Bytes of the value as it came.
    pub bytes: u64,
    pub repair: Option<R>,
}

/// Why nothing more may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused<F> {
    /// The judge's own finding.
    Value { at: At, name: Option<Box<str>>, finding: F },
    /// What should be a string with JSON text is none.
    NotText,
    /// A call without a name.
    NoName,
    /// The value was said again in other words.
    SaidOtherwise { at: At },
    /// A value goes on after it was whole.
    GoesOn { at: At },
    /// The stream ended inside a value.
    Truncated,
    /// The text that was asked for is empty, and nothing was said in its place.
    Empty,
    /// More is held back than the limit allows.
    HeldBytesMax,
}

/// The second half of a line end that two chunks share, and a blank line.
pub(super) const LINE_FEED: &[u8] = b"\n";
const EMPTY: &[u8] = b"\"\"";

/// Which value of this stream, counted as they begin.
type Id = u64;

/// A value that is not whole.
struct Open {
    id: Id,
    place: Place,
    form: Option<CallForm>,
    name: Option<Box<str>>,
    text: Vec<u8>,
}

/// The answer's text and a call's arguments at one place are two values.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    at: At,
    is_text: bool,
}

/// A value that was judged, and may be said again or has pieces in held events.
struct Judged {
    id: Id,
    place: Place,
    form: Option<CallForm>,
    name: Option<Box<str>>,
    text: Vec<u8>,
    repaired: Option<Vec<u8>>,
    /// The first piece has left, with all of the repaired text.
    told: bool,
}

/// A piece of a value in the data of an event.
struct Piece {
    id: Id,
    /// It is all of the value.
    whole: bool,
    /// The value itself, not a string with its text.
    raw: bool,
    span: Range<usize>,
}

struct Held {
    block: Bytes,
    /// The stream begins with it.
    first: bool,
    pieces: Vec<Piece>,
}

/// Holds back the structured values of one stream.
pub struct Stream<J: Judge> {
    judge: J,
    dialect: Dialect,
    held_bytes_max: usize,
    held_bytes: usize,
    held_bytes_most: usize,
    queue: VecDeque<Held>,
    open: Vec<Open>,
    judged: Vec<Judged>,
    /// Places of calls that are not judged.
    passed: Vec<(At, Option<Box<str>>)>,
    /// What said something, see [`Self::speaker`]: a value, a call or a refusal.
    spoke: Vec<u64>,
    /// What gave a text that is empty.
    silent: Vec<u64>,
    values: Id,
    verdicts: Vec<Verdict<J::Repair>>,
    /// The last block was held back.
    held_last: bool,
    in_order: bool,
    begun: bool,
    refused: bool,
}

impl<J: Judge> Stream<J> {
    /// `held_bytes_max` bounds what is held back and what is remembered of it, in bytes.
    pub fn new(dialect: Dialect, judge: J, held_bytes_max: usize) -> Self {
        Self {
            judge,
            dialect,
            held_bytes_max,
            held_bytes: 0,
            held_bytes_most: 0,
            queue: VecDeque::new(),
            open: Vec::new(),
            judged: Vec::new(),
            passed: Vec::new(),
            spoke: Vec::new(),
            silent: Vec::new(),
            values: 0,
            verdicts: Vec::new(),
            held_last: false,
            in_order: false,
            begun: false,
            refused: false,
        }
    }

    /// Whether something is held back.
    pub fn holds(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Bytes that are held back or remembered.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Most of them at once so far.
    pub fn held_bytes_most(&self) -> usize {
        self.held_bytes_most
    }

    /// Keeps all events in their order, also text beside calls.
    #[must_use]
    pub fn in_order(self) -> Self {
        Self { in_order: true, ..self }
    }

    /// What judges, to be told something.
    pub fn judge_mut(&mut self) -> &mut J {
        &mut self.judge
    }

    /// What judges.
    pub fn judge(&self) -> &J {
        &self.judge
    }

    /// What was judged so far, in the order in which it was.
    pub fn verdicts(&self) -> &[Verdict<J::Repair>] {
        &self.verdicts
    }

    /// Takes the next block of the stream, whole, with its parts; `ends` if it is the one that ends the stream. Puts what
    /// may leave into `out`.
    ///
    /// # Errors
    /// [`Refused`]; nothing more may leave, and nothing more is taken.
    pub fn event(
        &mut self,
        block: Bytes,
        parts: &[Part],
        ends: bool,
        out: &mut Vec<Bytes>,
    ) -> Result<(), Refused<J::Finding>> {
        if self.refused {
            return Ok(());
        }
        let taken = self.take(block, parts, ends, out);
        self.refused = taken.is_err();
        taken
    }

    /// Takes the LF of a CRLF that was cut ([`super::Blocks::line_feed`]): it goes where its CR went.
    ///
    /// # Errors
    /// [`Refused::HeldBytesMax`]; nothing more may leave, and nothing more is taken.
    pub fn line_feed(&mut self, line_feed: Bytes, out: &mut Vec<Bytes>) -> Result<(), Refused<J::Finding>> {
        if self.refused {
            return Ok(());
        }
        let Some(last) = self.queue.back_mut().filter(|_| self.held_last) else {
            out.push(line_feed);
            return Ok(());
        };
        last.block = [&last.block[..], LINE_FEED].concat().into();
        let counted = self.count(LINE_FEED.len());
        self.refused = counted.is_err();
        counted
    }

    /// Judges the values of an answer that is one JSON body. Gives the body, with repaired values in their places.
    ///
    /// # Errors
    /// [`Refused`]; nothing may leave.
    pub fn whole(&mut self, body: Bytes, parts: &[Part]) -> Result<Bytes, Refused<J::Finding>> {
        let pieces = self.judge_parts(parts, &body, true)?;
        Ok(self.replaced(pieces, &body).map_or(body, Bytes::from))
    }

    /// The stream is over.
    ///
    /// # Errors
    /// [`Refused::Truncated`] if it ended inside a value.
    pub fn finish(&mut self) -> Result<(), Refused<J::Finding>> {
        if self.refused {
            return Ok(());
        }
        let ended = match self.open.is_empty() && self.queue.is_empty() {
            true => self.none_is_silent(),
            false => Err(Refused::Truncated),
        };
        self.refused = ended.is_err();
        ended
    }

    fn take(
        &mut self,
        block: Bytes,
        parts: &[Part],
        ends: bool,
        out: &mut Vec<Bytes>,
    ) -> Result<(), Refused<J::Finding>> {
        self.held_last = false;
        let first = !std::mem::replace(&mut self.begun, true);
        let wants_text = self.judge.wants_text();
        if !ends && !parts.iter().any(|part| wants_text || !part.kind.is_text()) {
            // In a chat, text goes on beside calls, and an error ends it; all else keeps its order.
            let has = |text: &str| memmem::find(&block, text.as_bytes()).is_some();
            let is_text = parts.iter().any(|part| part.kind.is_text()) && !has("_call");
            let is_error = parts.is_empty() && has("\"error\"") && !has("\"choices\"");
            let overtakes = self.dialect == Dialect::OpenAiChat
                && !self.in_order
                && self.holds()
                && (is_text || is_error);
            if overtakes || !self.holds() {
                out.push(block);
                return Ok(());
            }
            return self.hold(Held { block, first, pieces: Vec::new() });
        }
        let pieces = self.judge_parts(parts, &event::data(&block, first), ends)?;
        self.hold(Held { block, first, pieces })?;
        self.release(out);
        Ok(())
    }

    /// Takes the parts of one document, judges what is whole now, and gives the pieces.
    fn judge_parts(
        &mut self,
        parts: &[Part],
        data: &[u8],
        ends: bool,
    ) -> Result<Vec<Piece>, Refused<J::Finding>> {
        let wants_text = self.judge.wants_text();
        let (mut pieces, mut closed) = (Vec::new(), Vec::new());
        for part in parts.iter().filter(|part| wants_text || !part.kind.is_text()) {
            self.part(part, data, &mut pieces, &mut closed)?;
        }
        if ends {
            closed.append(&mut self.open);
        }
        let closes = !closed.is_empty();
        closed.into_iter().try_for_each(|value| self.close(value))?;
        if ends || closes && self.has_speakers() {
            self.none_is_silent()?;
        }
        Ok(pieces)
    }

    /// Choices and candidates are answers of their own; else all of the answer is one.
    fn has_speakers(&self) -> bool {
        matches!(self.dialect, Dialect::OpenAiChat | Dialect::Gemini)
    }

    fn speaker(&self, at: At) -> u64 {
        if self.has_speakers() { at.outer } else { 0 }
    }

    fn note_spoke(&mut self, at: At) -> Result<(), Refused<J::Finding>> {
        let speaker = self.speaker(at);
        if self.spoke.contains(&speaker) {
            return Ok(());
        }
        if self.spoke.len() == VALUES_MAX {
            return Err(Refused::HeldBytesMax);
        }
        self.spoke.push(speaker);
        Ok(())
    }

    /// Where a text was asked for, something was said.
    fn none_is_silent(&mut self) -> Result<(), Refused<J::Finding>> {
        match self.silent.drain(..).all(|speaker| self.spoke.contains(&speaker)) {
            true => Ok(()),
            false => Err(Refused::Empty),
        }
    }

    fn part(
        &mut self,
        part: &Part,
        data: &[u8],
        pieces: &mut Vec<Piece>,
        closed: &mut Vec<Open>,
    ) -> Result<(), Refused<J::Finding>> {
        let at = part.at;
        match part.kind {
            PartKind::Close => {
                closed.extend(self.open.extract_if(.., |value| value.place.at.outer == at.outer));
                return Ok(());
            }
            PartKind::Refusal if part.len() > EMPTY.len() as u64 => return self.note_spoke(at),
            PartKind::Refusal => return Ok(()),
            _ if self.passes(part)? => return self.note_spoke(at),
            _ => {}
        }
        let place = Place { at, is_text: part.kind.is_text() };
        let span = span(part, data).ok_or(Refused::NotText)?;
        let literal = data.get(span.clone()).unwrap_or_default();
        let again =
            matches!(part.kind, PartKind::ArgumentsAgain | PartKind::TextAgain | PartKind::ValueAgain);
        let raw = matches!(part.kind, PartKind::Value | PartKind::ValueAgain);
        let id = match self.open.iter().position(|value| value.place == place) {
            _ if part.kind == PartKind::Value => {
                let value = self.begin(place, part)?;
                closed.push(Open { text: literal.to_vec(), ..value });
                self.count(literal.len())?;
                self.values
            }
            Some(index) => {
                let mut value = self.open.remove(index);
                let id = value.id;
                let begun_again = part.kind == PartKind::Call && self.dialect == Dialect::AnthropicMessages;
                if begun_again || differ(&part.name, &value.name) || differ(&part.form, &value.form) {
                    return Err(Refused::SaidOtherwise { at });
                }
                value.name = value.name.or_else(|| part.name.clone());
                value.form = value.form.or(part.form);
                if again && !value.text.is_empty() {
                    if !says(part, literal, &value.text) {
                        return Err(Refused::SaidOtherwise { at });
                    }
                } else {
                    self.append(&mut value, part, literal)?;
                }
                self.open.insert(index, value);
                id
            }
            None => match self.judged.iter().rfind(|judged| judged.place == place) {
                Some(judged) if differ(&part.name, &judged.name) || differ(&part.form, &judged.form) => {
                    return Err(Refused::SaidOtherwise { at });
                }
                // Responses names a call again, with its arguments or without.
                Some(_) if part.kind == PartKind::Call && self.dialect == Dialect::OpenAiResponses => {
                    return Ok(());
                }
                Some(judged) if again && says(part, literal, &judged.text) => judged.id,
                Some(_) if again => return Err(Refused::SaidOtherwise { at }),
                Some(_) => return Err(Refused::GoesOn { at }),
                // Clients put blocks one after the other, whatever their index says.
                None if self.dialect == Dialect::AnthropicMessages && !self.open.is_empty() => {
                    return Err(Refused::SaidOtherwise { at });
                }
                None if self.dialect == Dialect::Gemini && part.kind == PartKind::Call => {
                    let value = self.begin(place, part)?;
                    closed.push(Open { text: b"{}".to_vec(), ..value });
                    return Ok(());
                }
                None => {
                    let mut value = self.begin(place, part)?;
                    self.append(&mut value, part, literal)?;
                    self.open.push(value);
                    self.values
                }
            },
        };
        pieces.push(Piece { id, whole: again || raw, raw, span });
        Ok(())
    }

    fn begin(&mut self, place: Place, part: &Part) -> Result<Open, Refused<J::Finding>> {
        self.has_room()?;
        self.values += 1;
        Ok(Open { id: self.values, place, form: part.form, name: part.name.clone(), text: Vec::new() })
    }

    /// Whether what `part` says is of a call that is not judged.
    fn passes(&mut self, part: &Part) -> Result<bool, Refused<J::Finding>> {
        let at = part.at;
        if part.kind.is_text() {
            return Ok(false);
        }
        let is_own = |form| matches!(form, CallForm::Function | CallForm::Custom);
        if let Some((_, name)) = self.passed.iter().find(|(passed, _)| *passed == at) {
            // Its pieces are nobody's business, another call in its place is.
            return match part.name.is_some() && (part.name != *name || part.form.is_none_or(is_own)) {
                true => Err(Refused::SaidOtherwise { at }),
                false => Ok(true),
            };
        }
        let (Some(form), Some(name)) = (part.form.filter(|form| !is_own(*form)), &part.name) else {
            return Ok(false);
        };
        let place = Place { at, is_text: false };
        let is_known = self.open.iter().any(|value| value.place == place)
            || self.judged.iter().any(|judged| judged.place == place);
        if is_known {
            return Ok(false);
        }
        let refused = |finding| Refused::Value { at, name: Some(name.clone()), finding };
        if self.judge.wants_call(form, name).map_err(refused)? {
            return Ok(false);
        }
        if self.dialect != Dialect::Gemini {
            self.has_room()?; // there a call comes whole
            self.passed.push((at, part.name.clone()));
        }
        Ok(true)
    }

    fn has_room(&self) -> Result<(), Refused<J::Finding>> {
        match self.open.len() + self.judged.len() + self.passed.len() < VALUES_MAX {
            true => Ok(()),
            false => Err(Refused::HeldBytesMax),
        }
    }

    fn append(&mut self, value: &mut Open, part: &Part, literal: &[u8]) -> Result<(), Refused<J::Finding>> {
        if part.is_empty() {
            return Ok(());
        }
        let before = value.text.len();
        let is_text = match part.kind {
            PartKind::Value | PartKind::ValueAgain => {
                value.text.extend_from_slice(literal);
                true
            }
            _ => text::decode(literal, &mut value.text),
        };
        match is_text {
            true => self.count(value.text.len() - before),
            false => Err(Refused::NotText),
        }
    }

    /// The value is whole.
    fn close(&mut self, value: Open) -> Result<(), Refused<J::Finding>> {
        let Open { id, place, form, name, text } = value;
        // A message gives no pieces of an input that is empty, and some calls say no more than that they are one.
        let may_be_empty = self.dialect == Dialect::AnthropicMessages || form == Some(CallForm::BuiltIn);
        let nothing = text.is_empty() && may_be_empty;
        let outcome = match &name {
            // Beside calls, or where the model refuses; see `none_is_silent`.
            _ if place.is_text && text.is_empty() => Outcome::Pass,
            _ if place.is_text => self.judge.text(&text),
            Some(name) => {
                let form = form.unwrap_or(CallForm::Function);
                self.judge.call(form, name, if nothing { b"{}" } else { &text })
            }
            None => return Err(Refused::NoName),
        };
        let bytes = text.len() as u64; // a length fits
        let (repaired, repair) = match outcome {
            Outcome::Pass => (None, None),
            Outcome::Repaired(text, repair) => (Some(text), Some(repair)),
            Outcome::Refused(finding) => return Err(Refused::Value { at: place.at, name, finding }),
        };
        self.count(repaired.as_ref().map_or(0, Vec::len))?;
        if place.is_text && text.is_empty() {
            self.silent.push(self.speaker(place.at)); // one for each of a bounded number of values
        } else {
            self.note_spoke(place.at)?;
            self.verdicts.push(Verdict { at: place.at, name: name.clone(), bytes, repair });
        }
        self.judged.push(Judged { id, place, form, name, text, repaired, told: false });
        Ok(())
    }

    fn hold(&mut self, held: Held) -> Result<(), Refused<J::Finding>> {
        self.count(held.block.len())?;
        self.queue.push_back(held);
        self.held_last = true;
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refused<J::Finding>> {
        self.held_bytes += bytes;
        self.held_bytes_most = self.held_bytes_most.max(self.held_bytes);
        if self.held_bytes > self.held_bytes_max { Err(Refused::HeldBytesMax) } else { Ok(()) }
    }

    /// Gives out events from the front as far as their values are judged.
    fn release(&mut self, out: &mut Vec<Bytes>) {
        while let Some(held) = self.queue.front() {
            if held.pieces.iter().any(|piece| self.open.iter().any(|value| value.id == piece.id)) {
                return;
            }
            let Some(held) = self.queue.pop_front() else { return };
            self.held_bytes = self.held_bytes.saturating_sub(held.block.len());
            out.push(self.rewritten(held));
        }
        self.forget();
    }

    /// With nothing held back, only what may be said again or go on has to be remembered, and mostly only that it was.
    fn forget(&mut self) {
        let again = self.dialect == Dialect::OpenAiResponses;
        for judged in &mut self.judged {
            if !again {
                let kept = judged.text.len() + judged.repaired.as_ref().map_or(0, Vec::len);
                self.held_bytes = self.held_bytes.saturating_sub(kept);
                judged.text = Vec::new();
                judged.repaired = None;
            }
        }
        if self.dialect == Dialect::Gemini {
            self.judged.clear(); // every value comes whole
        }
    }

    /// The event with the pieces of repaired values replaced.
    fn rewritten(&mut self, held: Held) -> Bytes {
        let data = event::data(&held.block, held.first);
        match self.replaced(held.pieces, &data) {
            Some(data) => event::with_data(&held.block, held.first, &data),
            None => held.block,
        }
    }

    /// The document with the pieces of repaired values replaced, if it has any.
    fn replaced(&mut self, pieces: Vec<Piece>, data: &[u8]) -> Option<Vec<u8>> {
        let mut edits = Vec::new();
        for piece in pieces {
            let Some(judged) = self.judged.iter_mut().find(|judged| judged.id == piece.id) else { continue };
            let Some(repaired) = judged.repaired.as_ref().filter(|_| piece.span.len() > EMPTY.len()) else {
                continue; // nothing was said here
            };
            let whole = piece.whole || !std::mem::replace(&mut judged.told, true);
            let mut literal = Vec::new();
            match (piece.raw, whole) {
                (true, _) => literal.extend_from_slice(repaired),
                (false, true) => text::encode(repaired, &mut literal),
                (false, false) => literal.extend_from_slice(EMPTY),
            }
            edits.push((piece.span, literal));
        }
        if edits.is_empty() {
            return None;
        }
        edits.sort_unstable_by_key(|(span, _)| span.start);
        let mut out = Vec::with_capacity(data.len());
        let mut from = 0;
        for (span, literal) in edits {
            out.extend_from_slice(data.get(from..span.start).unwrap_or_default());
            out.extend_from_slice(&literal);
            from = span.end;
        }
        out.extend_from_slice(data.get(from..).unwrap_or_default());
        Some(out)
    }
}

fn span(part: &Part, data: &[u8]) -> Option<Range<usize>> {
    let (from, to) = (usize::try_from(part.from).ok()?, usize::try_from(part.to).ok()?);
    data.get(from..to).map(|_| from..to)
}

/// Whether both are said, and not the same.
fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
    one.is_some() && other.is_some() && one != other
}

/// Whether `literal` says `text`: a JSON string, or the value itself.
fn says(part: &Part, literal: &[u8], text: &[u8]) -> bool {
    if part.kind == PartKind::ValueAgain {
        return literal == text;
    }
    let mut said = Vec::new();
    text::decode(literal, &mut said) && said == text
}
