//! Bodies of JSON texts: one, one a line, or one an event.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr;

use super::held::Held;
use super::value::{Verdict, is_mendable, mended};
use super::{Edit, Format, Refused, Terms, is_unfinished_event};
use crate::as_u64;
use crate::judge::event;
use crate::repair::{EDITS_MOST, Profile, Repaired};
use crate::schema::{Check, CheckLimits, Schema, Violation};
use crate::sse::{Content, Framer, Limits, Overflow, Step};

#[derive(Debug)]
pub(super) struct Texts {
    format: Format,
    check: Check,
    repair: Option<Profile>,
    /// The text under way is malformed, and kept to be repaired.
    spoiled: Option<Violation>,
    /// Nothing but white space has come of the text under way.
    blank: bool,
    framer: Framer,
    /// The bytes of an event that has not ended.
    tail: Vec<u8>,
    first_event: bool,
    units: u64,
    edits: Vec<Edit>,
    lossy: bool,
}

impl Texts {
    pub(super) fn new(schema: Arc<Schema>, format: Format, terms: Terms) -> Self {
        let limits = Limits { event_bytes_max: terms.held_bytes_max, overflow: Overflow::Break };
        Self {
            format,
            check: Check::new(schema, CheckLimits::default(), terms.key),
            repair: terms.repair.filter(|_| terms.holds),
            spoiled: None,
            blank: true,
            framer: Framer::new(limits),
            tail: Vec::new(),
            first_event: true,
            units: 0,
            edits: Vec::new(),
            lossy: false,
        }
    }

    pub(super) fn units(&self) -> u64 {
        self.units
    }

    pub(super) fn edits(&self) -> &[Edit] {
        &self.edits
    }

    pub(super) fn lossy(&self) -> bool {
        self.lossy
    }

    pub(super) fn feed(
        &mut self,
        chunk: &Bytes,
        held: &mut Held,
        out: &mut Vec<Bytes>,
    ) -> Result<(), Refused> {
        match self.format {
            Format::Lines => self.lines(chunk, held, out),
            Format::Events => self.events(chunk, held, out),
            Format::Json | Format::Csv => {
                self.text(chunk)?;
                held.push(chunk.clone());
                Ok(())
            }
        }
    }

    pub(super) fn finish(&mut self, held: &mut Held, out: &mut Vec<Bytes>) -> Result<(), Refused> {
        match self.format {
            Format::Lines if self.blank => {
                held.give(out);
                Ok(())
            }
            Format::Lines | Format::Json | Format::Csv => self.end_text(held, out),
            Format::Events => {
                if is_unfinished_event(&self.tail) {
                    return Err(Refused::Truncated);
                }
                held.give(out);
                Ok(())
            }
        }
    }

    fn lines(&mut self, chunk: &Bytes, held: &mut Held, out: &mut Vec<Bytes>) -> Result<(), Refused> {
        let mut rest = chunk.clone();
        while let Some(at) = memchr(b'\n', &rest) {
            let line = rest.split_to(at + 1);
            let text = line.get(..at).unwrap_or_default();
            self.line(text, &line, held)?;
            if self.blank {
                self.check.reset();
                held.give(out);
            } else {
                self.end_text(held, out)?;
            }
        }
        self.line(&rest, &rest, held)
    }

    fn line(&mut self, text: &[u8], piece: &Bytes, held: &mut Held) -> Result<(), Refused> {
        self.blank &= text.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        self.text(text)?;
        held.push(piece.clone());
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Refused> {
        if self.spoiled.is_some() {
            return Ok(());
        }
        match self.check.feed(text) {
            Ok(()) => Ok(()),
            Err(violation) => self.spoil(violation),
        }
    }

    fn spoil(&mut self, violation: Violation) -> Result<(), Refused> {
        if !self.repair.is_some_and(|profile| is_mendable(&profile, &violation)) {
            return Err(Refused::Json { unit: self.units + 1, violation });
        }
        self.spoiled = Some(violation);
        Ok(())
    }

    /// The text under way is whole.
    fn end_text(&mut self, held: &mut Held, out: &mut Vec<Bytes>) -> Result<(), Refused> {
        if self.spoiled.is_none()
            && let Err(violation) = self.check.finish()
        {
            self.spoil(violation)?;
        }
        match self.spoiled.take() {
            None => held.give(out),
            Some(violation) => {
                let whole = held.waiting();
                let end = if self.format == Format::Lines && whole.ends_with(b"\n") { 1 } else { 0 };
                let (text, end) = whole.split_at(whole.len() - end);
                let repaired = self.mend(violation, text)?;
                held.replace([&repaired[..], end].concat().into(), out);
            }
        }
        self.next_text();
        Ok(())
    }

    fn next_text(&mut self) {
        self.units += 1;
        self.check.reset();
        self.blank = true;
    }

    fn mend(&mut self, violation: Violation, text: &[u8]) -> Result<Vec<u8>, Refused> {
        match mended(&mut self.check, violation, self.repair.as_ref(), text) {
            Verdict::Repaired(repaired) => {
                self.note(&repaired);
                Ok(repaired.bytes)
            }
            Verdict::Valid => Ok(text.to_vec()),
            Verdict::Refused(violation) => Err(Refused::Json { unit: self.units + 1, violation }),
        }
    }

    fn note(&mut self, repaired: &Repaired) {
        self.lossy |= repaired.lossy;
        let room = EDITS_MOST.saturating_sub(self.edits.len());
        self.edits.extend(repaired.edits.iter().take(room).map(|edit| Edit {
            at: as_u64(edit.offset),
            deleted: as_u64(edit.deleted),
            class: edit.class.name(),
        }));
    }

    fn events(&mut self, chunk: &Bytes, held: &mut Held, out: &mut Vec<Bytes>) -> Result<(), Refused> {
        let mut rest = chunk.clone();
        while !rest.is_empty() {
            let mut framer = std::mem::take(&mut self.framer);
            let ahead = rest.clone();
            let (step, taken) = framer.feed(&ahead);
            let piece = rest.split_to(taken);
            let stepped = self.step(&step, piece, held, out);
            self.framer = framer;
            stepped?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        step: &Step<'_>,
        piece: Bytes,
        held: &mut Held,
        out: &mut Vec<Bytes>,
    ) -> Result<(), Refused> {
        self.tail.extend_from_slice(&piece);
        held.push(piece);
        let data = match step {
            Step::NeedMore => return Ok(()),
            Step::Broken(_) => return Err(Refused::HeldBytesMax),
            Step::Event(event) => match event.content {
                Content::Data(data) => Some(data),
                Content::Nothing => None,
                Content::PassedOver(_) => return Err(Refused::HeldBytesMax),
            },
            Step::Comment { .. } | Step::LineFeed => None,
        };
        self.tail.clear();
        let first = std::mem::replace(&mut self.first_event, false);
        let Some(data) = data.filter(|data| *data != b"[DONE]") else {
            held.give_joined(out);
            return Ok(());
        };
        let judged = self.check.feed(data).and_then(|()| self.check.finish());
        match judged {
            Ok(()) => held.give_joined(out),
            Err(violation) => {
                let repaired = self.mend(violation, data)?;
                let block = event::with_data(&held.waiting(), first, &repaired);
                held.replace(block, out);
            }
        }
        self.next_text();
        Ok(())
    }
}
