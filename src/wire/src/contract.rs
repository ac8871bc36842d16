//! A body held against one contract while it flows: JSON, JSON lines, events, or CSV.
//!
//! What is judged as one is a *unit*: the whole text of JSON, a line, the data of an event, a row. [`Body`] keeps a unit
//! back until it is whole and valid, and then gives out the bytes that came. A malformed text is repaired once where
//! [`Terms::repair`] grants it; the repaired text has to be valid as well, or nothing of it leaves.
//!
//! | format | unit | not judged |
//! |---|---|---|
//! | [`Format::Json`] | the body | - |
//! | [`Format::Lines`] | a line that LF ends, or the last | blank lines |
//! | [`Format::Events`] | the data of an event | events without data, comments, the data `[DONE]` |
//! | [`Format::Csv`] | a row; the body, for what is asked of it whole | - |
//!
//! Promises:
//! - What leaves, and the refusal, do not depend on how the bytes were cut.
//! - No byte of a unit leaves before the unit is valid, nor after one was refused.
//! - Memory is bounded by [`Terms::held_bytes_max`] and the bounds of the checks.
//!
//! Left to others: content codings, which format a body is in, and what a refusal means for the call.

mod held;
mod refused;
mod text;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::as_u64;
use crate::csv;
use crate::repair::Profile;
use crate::schema::{HashKey, Schema};

use held::Held;
pub use refused::{Kind, Refused};
use text::Texts;
pub use value::{Verdict, judge_value};

/// What a body has to be.
#[derive(Clone, Debug)]
pub enum Contract {
    /// Of every unit.
    Json(Arc<Schema>),
    Csv(Arc<csv::Contract>),
}

/// How a body of JSON texts is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One text.
    Json,
    /// A text a line: NDJSON, JSON Lines.
    Lines,
    /// `text/event-stream`, with a text in each event.
    Events,
    /// `text/csv`.
    Csv,
}

/// How a body is judged.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Units are kept back until they are valid. If not, the caller passes bytes on as long as nothing is refused, and
    /// nothing is repaired.
    pub holds: bool,
    /// Bytes kept back at once, and of one event in any case.
    pub held_bytes_max: usize,
    /// Which damage is undone; of CSV the two edits of spec/contracts/csv.md, at most as many as for a value.
    pub repair: Option<Profile>,
    /// Drawn at random by the caller.
    pub key: HashKey,
}

/// One change that was made, without what came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Where: in its unit, of CSV in the body.
    pub at: u64,
    pub deleted: u64,
    /// The stable name of its class.
    pub class: &'static str,
}

/// Judges one body.
#[derive(Debug)]
pub struct Body {
    machine: Machine,
    held: Held,
    refused: Option<Refused>,
}

#[derive(Debug)]
enum Machine {
    Texts(Box<Texts>),
    Csv(Box<Rows>),
}

#[derive(Debug)]
struct Rows {
    /// None once the body is over.
    check: Option<csv::Check>,
    repair: Option<csv::Repair>,
    /// Bytes, as repaired, of the rows that were accepted.
    settled: u64,
    rows: u64,
}

impl Body {
    /// None if the contract says nothing about bodies of this format.
    pub fn new(contract: &Contract, format: Format, terms: Terms) -> Option<Self> {
        let machine = match (contract, format) {
            (Contract::Csv(contract), Format::Csv) => {
                let repair = terms.repair.filter(|_| terms.holds);
                let repair =
                    repair.map(|profile| csv::Repair::new(contract.form().delimiter, profile.edits_max));
                Machine::Csv(Box::new(Rows {
                    check: Some(csv::Check::new(contract.clone())),
                    repair,
                    settled: 0,
                    rows: 0,
                }))
            }
            (Contract::Json(schema), Format::Json | Format::Lines | Format::Events) => {
                Machine::Texts(Box::new(Texts::new(schema.clone(), format, terms)))
            }
            _ => return None,
        };
        Some(Self { machine, held: Held::new(terms.holds, terms.held_bytes_max), refused: None })
    }

    /// Takes the next chunk, and puts what may leave into `out`. Of events, pieces are whole blocks.
    ///
    /// # Errors
    /// The first refusal, which is the answer from then on. What was put into `out` came before it.
    pub fn feed(&mut self, chunk: &Bytes, out: &mut Vec<Bytes>) -> Result<(), Refused> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let fed = match &mut self.machine {
            Machine::Texts(texts) => {
                in_room(chunk.clone(), &mut self.held, |piece, held| texts.feed(piece, held, out))
            }
            Machine::Csv(rows) => rows.feed(chunk, &mut self.held, out),
        };
        self.noted(fed)
    }

    /// The body is over.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn finish(&mut self, out: &mut Vec<Bytes>) -> Result<(), Refused> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let finished = match &mut self.machine {
            Machine::Texts(texts) => texts.finish(&mut self.held, out),
            Machine::Csv(rows) => rows.finish(&mut self.held, out),
        };
        self.noted(finished)
    }

    fn noted(&mut self, result: Result<(), Refused>) -> Result<(), Refused> {
        self.refused = result.as_ref().err().cloned();
        result
    }

    /// Units that were valid so far, repaired ones included. Of CSV only once the body is over.
    pub fn units(&self) -> u64 {
        match &self.machine {
            Machine::Texts(texts) => texts.units(),
            Machine::Csv(rows) => rows.rows,
        }
    }

    /// What was changed of what may have left, in order, at most `max` edits.
    pub fn edits(&self, max: usize) -> Vec<Edit> {
        match &self.machine {
            Machine::Texts(texts) => texts.edits().iter().copied().take(max).collect(),
            Machine::Csv(rows) => rows.edits().take(max).collect(),
        }
    }

    /// Whether a repair closed what had been cut.
    pub fn lossy(&self) -> bool {
        matches!(&self.machine, Machine::Texts(texts) if texts.lossy())
    }

    /// Bytes kept back now.
    pub fn held_bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Most bytes that were kept back at once, those included that came with the last byte of their unit.
    pub fn held_bytes_most(&self) -> usize {
        self.held.bytes_most()
    }
}

impl Rows {
    fn feed(&mut self, chunk: &Bytes, held: &mut Held, out: &mut Vec<Bytes>) -> Result<(), Refused> {
        let Some(repair) = &mut self.repair else { return self.check(chunk.clone(), held, out) };
        let mut piece = Vec::with_capacity(chunk.len());
        let repaired = repair.feed(chunk, &mut piece);
        self.check(piece.into(), held, out)?; // what is wrong before the edit too many was there first
        repaired.map_err(Refused::CsvRepair)
    }

    fn finish(&mut self, held: &mut Held, out: &mut Vec<Bytes>) -> Result<(), Refused> {
        let mut rest = Vec::new();
        if let Some(repair) = &mut self.repair {
            repair.finish(&mut rest).map_err(Refused::CsvRepair)?;
        }
        self.check(rest.into(), held, out)?;
        let Some(check) = self.check.take() else { return Ok(()) };
        self.rows = check.finish().map_err(Refused::Csv)?.rows;
        self.settled = u64::MAX;
        held.give(out);
        Ok(())
    }

    /// Edits of accepted rows.
    fn edits(&self) -> impl Iterator<Item = Edit> {
        let edits = self.repair.as_ref().map(csv::Repair::edits).unwrap_or_default();
        let (mut inserted, mut deleted) = (0, 0);
        edits.iter().map_while(move |edit| {
            let at = edit.offset + inserted - deleted;
            inserted += length(edit.inserted);
            deleted += u64::from(edit.deleted);
            let class = edit.class.code();
            (at < self.settled).then_some(Edit { at: edit.offset, deleted: edit.deleted.into(), class })
        })
    }

    fn check(&mut self, piece: Bytes, held: &mut Held, out: &mut Vec<Bytes>) -> Result<(), Refused> {
        let Some(check) = &mut self.check else { return Ok(()) };
        in_room(piece, held, |piece, held| {
            let checked = check.feed(piece);
            self.settled = check.settled();
            held.push(piece.clone());
            held.give_until(self.settled, out);
            checked.map_err(Refused::Csv)
        })
    }
}

/// Gives `bytes` in pieces that can be kept back, so that cuts do not decide what is found first.
fn in_room(
    mut bytes: Bytes,
    held: &mut Held,
    mut feed: impl FnMut(&Bytes, &mut Held) -> Result<(), Refused>,
) -> Result<(), Refused> {
    while !bytes.is_empty() {
        let piece = held.take(&mut bytes)?;
        feed(&piece, held)?;
    }
    Ok(())
}

/// Whether what a stream ends in, without the empty line that ends an event, could still be taken for an event by clients
/// that do not wait for it. Many servers leave out the line end after the terminator.
pub fn is_unfinished_event(rest: &[u8]) -> bool {
    let text = rest.trim_ascii();
    !(text.is_empty()
        || text == b"data: [DONE]"
        || text == b"data:[DONE]"
        || text.starts_with(b":") && !text.contains(&b'\n') && !text.contains(&b'\r'))
}

/// Length as a counter.
fn length(bytes: &[u8]) -> u64 {
    as_u64(bytes.len())
}
