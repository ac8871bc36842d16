//! The edits that may be made to a CSV body before it is judged: two kinds, and no others.
//!
//! | edit | when |
//! |---|---|
//! | [`EditClass::ByteOrderMark`] | the body begins with one, or with several |
//! | [`EditClass::LineEnd`] | an LF or CRLF outside of quotes is not like the first one |
//!
//! Promises: the output does not depend on how the bytes were cut; the edits, applied to the input, give the
//! output; repairing twice is repairing once; no byte of a value is touched, nor any inside quotes. What is
//! malformed stays so, and the judge finds it: a CR by itself, several before an LF, an open quote.

#[cfg(test)]
mod tests;

use super::{Delimiter, Finding, scan::Finder};
use crate::as_u64;

/// Most edits by default.
pub const EDITS_MAX: usize = 1024;

/// What kind of edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EditClass {
    ByteOrderMark,
    LineEnd,
}

impl EditClass {
    /// Every class, in the order of declaration.
    pub const ALL: [Self; 2] = [Self::ByteOrderMark, Self::LineEnd];

    /// What it does, in a few words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ByteOrderMark => "a byte order mark was taken away",
            Self::LineEnd => "a line end was made the one that the contract names",
        }
    }

    /// The stable code of a receipt.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ByteOrderMark => "CSV_BYTE_ORDER_MARK_REMOVED",
            Self::LineEnd => "CSV_LINE_END_UNIFIED",
        }
    }
}

/// One edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Where, in the body as received.
    pub offset: u64,
    pub class: EditClass,
    /// How many bytes from there were left out.
    pub deleted: u8,
    /// What was put there.
    pub inserted: &'static [u8],
}

/// Repairs one body while it streams.
#[derive(Debug)]
pub struct Repair {
    delimiter: u8,
    edits_max: usize,
    edits: Vec<Edit>,
    state: State,
    /// Bytes of a mark at the start that were taken and not given.
    mark: usize,
    /// CRs right before this byte, outside of quotes; the last is not given yet. Counted to [`MANY`].
    crs: u8,
    line_end: Option<LineEnd>,
    before: u64,
    broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of the body, where a mark may stand.
    Opening,
    RowStart,
    FieldStart,
    Plain,
    Quoted,
    QuoteInQuoted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    Lf,
    CrLf,
}

/// More edits than allowed.
#[derive(Debug)]
struct Stop;

const BYTE_ORDER_MARK: &[u8; 3] = b"\xEF\xBB\xBF";
const MANY: u8 = 2;

impl Repair {
    pub fn new(delimiter: Delimiter, edits_max: usize) -> Self {
        Self {
            delimiter: delimiter.byte(),
            edits_max,
            edits: Vec::new(),
            state: State::Opening,
            mark: 0,
            crs: 0,
            line_end: None,
            before: 0,
            broken: false,
        }
    }

    /// Appends what becomes of `chunk` to `out`; up to three bytes of it may come with the next one.
    /// Over the limit the answer is [`Finding::EditsMax`] from then on, and what was given is of no use.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Finding> {
        if !self.broken {
            self.broken = self.run(chunk, out).is_err();
            self.before += as_u64(chunk.len());
        }
        self.verdict()
    }

    /// The body is over; what was still held goes to `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Finding> {
        if !self.broken {
            self.end(out);
        }
        self.verdict()
    }

    /// The edits so far, in the order of their offsets.
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    fn verdict(&self) -> Result<(), Finding> {
        if self.broken { Err(Finding::EditsMax) } else { Ok(()) }
    }

    fn run(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
        let mut pos = self.open(chunk, out)?;
        let mut finder = Finder::new(chunk, self.delimiter);
        while let Some(&byte) = chunk.get(pos) {
            if self.state == State::QuoteInQuoted && byte == b'"' {
                self.state = State::Quoted;
                out.push(byte);
                pos += 1;
                continue;
            }
            if byte == b'\n' && self.state != State::Quoted {
                self.line_feed(pos, out)?;
                pos += 1;
                continue;
            }
            self.give_cr(out);
            if byte == b'\r' && self.state != State::Quoted {
                self.crs = (self.crs + 1).min(MANY);
                self.state = State::Plain;
                pos += 1;
                continue;
            }
            self.crs = 0;
            let end = self.stretch(byte, pos, &mut finder);
            out.extend_from_slice(chunk.get(pos..end).unwrap_or_default());
            pos = end;
        }
        Ok(())
    }

    /// Where the bytes end that go out as they are, of which the one at `pos` is the first; it is no line end.
    fn stretch(&mut self, byte: u8, pos: usize, finder: &mut Finder<'_>) -> usize {
        match self.state {
            State::Quoted => {
                let end = finder.quoted(pos);
                if end > pos {
                    return end;
                }
                if byte == b'"' {
                    self.state = State::QuoteInQuoted;
                }
            }
            State::Opening | State::RowStart | State::FieldStart if byte == b'"' => {
                self.state = State::Quoted
            }
            _ if byte == self.delimiter => self.state = State::FieldStart,
            _ => {
                self.state = State::Plain;
                return finder.plain(pos + 1);
            }
        }
        pos + 1
    }

    /// Takes marks at the start of the body; gives the place of what follows.
    fn open(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<usize, Stop> {
        let mut pos = 0;
        while self.state == State::Opening {
            let Some(byte) = chunk.get(pos) else { break };
            if BYTE_ORDER_MARK.get(self.mark) != Some(byte) {
                self.give_mark(out);
                break;
            }
            self.mark += 1;
            pos += 1;
            if self.mark == BYTE_ORDER_MARK.len() {
                self.mark = 0;
                let offset = (self.before + as_u64(pos)).saturating_sub(3);
                self.edit(Edit { offset, class: EditClass::ByteOrderMark, deleted: 3, inserted: b"" })?;
            }
        }
        Ok(pos)
    }

    /// The first bytes are no mark.
    fn give_mark(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(BYTE_ORDER_MARK.get(..self.mark).unwrap_or_default());
        self.state = if self.mark == 0 { State::RowStart } else { State::Plain };
        self.mark = 0;
    }

    fn give_cr(&mut self, out: &mut Vec<u8>) {
        if self.crs > 0 {
            out.push(b'\r');
        }
    }

    /// The LF at `pos`, outside of quotes.
    fn line_feed(&mut self, pos: usize, out: &mut Vec<u8>) -> Result<(), Stop> {
        let offset = self.before + as_u64(pos);
        let here = if self.crs == 0 { LineEnd::Lf } else { LineEnd::CrLf };
        let wanted = *self.line_end.get_or_insert(here);
        let class = EditClass::LineEnd;
        match (wanted, self.crs) {
            (LineEnd::CrLf, 0) => {
                self.edit(Edit { offset, class, deleted: 0, inserted: b"\r" })?;
                out.push(b'\r');
            }
            (LineEnd::Lf, 1) => {
                self.edit(Edit { offset: offset.saturating_sub(1), class, deleted: 1, inserted: b"" })?;
            }
            _ => self.give_cr(out),
        }
        out.push(b'\n');
        self.crs = 0;
        self.state = State::RowStart;
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.give_cr(out);
        self.crs = 0;
        if self.state == State::Opening {
            self.give_mark(out);
        }
    }

    fn edit(&mut self, edit: Edit) -> Result<(), Stop> {
        if self.edits.len() >= self.edits_max {
            return Err(Stop);
        }
        self.edits.push(edit);
        Ok(())
    }
}
