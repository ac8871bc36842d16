//! The strict grammar as a state machine.
//!
//! Every byte that can decide something is looked at in its turn, and a finding is made at the first byte that
//! shows it; what a value is found to be, at the byte that ends its field. That is why cuts change nothing.

use super::{FinalNewline, Finding, FirstRow, Form, Header, Limits, Summary, Violation, scan::Finder};
use crate::as_u64;

/// One field of a row that is not the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// UTF-8 without control characters, but for tabs, and for LF and CRLF if it is quoted.
    pub value: &'a [u8],
    pub quoted: bool,
    /// True only if the value is ASCII.
    pub ascii: bool,
}

/// Why a visitor refuses a header or a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    pub finding: Finding,
    /// From 0.
    pub column: Option<u32>,
    /// The name, if it is not the header's.
    pub name: Option<Box<str>>,
}

/// Who is told of the fields, and may refuse them.
pub trait Visitor {
    /// Row 1 is whole and names the columns.
    fn header(&mut self, header: &Header) -> Result<(), Misfit> {
        let _ = header;
        Ok(())
    }

    /// The next field; columns count from 0.
    fn field(&mut self, column: u32, field: Field<'_>) -> Result<(), Finding>;

    /// A row that is not the header is whole.
    fn row_end(&mut self, columns: u32) -> Result<(), Misfit> {
        let _ = columns;
        Ok(())
    }
}

/// Push reader for one body.
#[derive(Debug)]
pub struct Reader {
    form: Form,
    limits: Limits,
    delimiter: u8,
    state: State,
    /// The value so far, of a field that earlier chunks began or that has doubled quotes.
    carry: Vec<u8>,
    /// The field under way is quoted.
    quoted: bool,
    /// Some byte of `carry` may be above 0x7F.
    carry_wide: bool,
    /// The column under way, from 0.
    column: u32,
    /// One less than the most fields this row may have.
    column_last: u32,
    /// How many columns there are, once the first row is whole.
    columns: Option<u32>,
    /// The row under way, or the last one; from 1.
    row: u64,
    /// The header is being read.
    naming: bool,
    row_at: u64,
    field_at: u64,
    /// Offset of the first byte that would be over the limit of the field or the row.
    limit_at: u64,
    line_end: Option<LineEnd>,
    header: Header,
    /// The first bytes of the body.
    opening: [u8; 3],
    /// Bytes of earlier chunks.
    before: u64,
    broken: Option<Violation>,
}

/// Where the body stands between two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    RowStart,
    FieldStart,
    Plain,
    Quoted,
    /// After a CR inside quotes.
    QuotedCr,
    /// After a quote inside quotes: the end of the field, or the first of two.
    QuoteInQuoted,
    /// After a CR that ended the last field of a row.
    Cr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    Lf,
    CrLf,
}

/// The violation is noted.
#[derive(Debug)]
struct Stop;

const QUOTE: u8 = b'"';
const BYTE_ORDER_MARK: [u8; 3] = *b"\xEF\xBB\xBF";

impl Reader {
    pub fn new(form: Form, limits: Limits) -> Self {
        Self {
            form,
            limits,
            delimiter: form.delimiter.byte(),
            state: State::RowStart,
            carry: Vec::new(),
            quoted: false,
            carry_wide: false,
            column: 0,
            column_last: limits.columns_max.saturating_sub(1),
            columns: None,
            row: 0,
            naming: form.first_row == FirstRow::Names,
            row_at: 0,
            field_at: 0,
            limit_at: 0,
            line_end: None,
            header: Header::default(),
            opening: [0; 3],
            before: 0,
            broken: None,
        }
    }

    /// Takes all of `chunk`, or stops at the first violation, which is the answer from then on.
    pub fn feed<V: Visitor>(&mut self, chunk: &[u8], visitor: &mut V) -> Result<(), Violation> {
        if self.broken.is_none() && self.run(chunk, visitor).is_ok() {
            self.before += as_u64(chunk.len());
        }
        self.verdict()
    }

    /// The body is over.
    pub fn finish<V: Visitor>(&mut self, visitor: &mut V) -> Result<Summary, Violation> {
        if self.broken.is_none() {
            let _ = self.end(visitor); // what it found is noted
        }
        self.verdict()?;
        Ok(Summary { rows: self.rows(), columns: self.columns.unwrap_or(0), bytes: self.before })
    }

    /// The names of the columns, as far as they were read.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Offset behind the last row that was accepted.
    pub fn settled(&self) -> u64 {
        if self.broken.is_none() && self.state == State::RowStart { self.before } else { self.row_at }
    }

    /// Bytes kept on the heap.
    pub fn held_bytes(&self) -> u64 {
        as_u64(self.carry.capacity()) + self.header.held_bytes()
    }

    fn verdict(&self) -> Result<(), Violation> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn run<V: Visitor>(&mut self, chunk: &[u8], visitor: &mut V) -> Result<(), Stop> {
        self.open(chunk)?;
        let mut finder = Finder::new(chunk, self.delimiter);
        let (mut pos, mut start, mut close) = (0, 0, 0);
        while let Some(&byte) = chunk.get(pos) {
            match self.state {
                State::RowStart => self.begin_row(byte, pos)?,
                State::FieldStart => {
                    self.begin_field(pos);
                    finder.forget();
                    pos += usize::from(self.quoted_by(byte));
                    start = pos;
                }
                State::Plain => {
                    pos = finder.plain(pos);
                    let Some(&mark) = chunk.get(pos) else { break };
                    self.within(pos)?;
                    if !self.ends_field(mark) {
                        return Err(self.unexpected(mark, pos));
                    }
                    self.end_field(chunk.get(start..pos).unwrap_or_default(), finder.wide(), visitor)?;
                    self.separate(mark, pos, visitor)?;
                    pos += 1;
                    if self.state == State::FieldStart {
                        // Most fields are plain and have one behind them: no need to go through the states.
                        (pos, start) = self.plain_fields(chunk, pos, &mut finder, visitor)?;
                    }
                }
                State::Quoted => {
                    pos = finder.quoted(pos);
                    let Some(&mark) = chunk.get(pos) else { break };
                    self.within(pos)?;
                    self.state = match mark {
                        QUOTE => State::QuoteInQuoted,
                        b'\r' => State::QuotedCr,
                        _ => return Err(self.unexpected(mark, pos)),
                    };
                    close = pos;
                    pos += 1;
                }
                State::QuotedCr if byte == b'\n' => {
                    self.state = State::Quoted;
                    pos += 1;
                }
                State::QuotedCr => return Err(self.bare_cr(pos)),
                State::QuoteInQuoted => {
                    self.within(pos)?;
                    let piece = chunk.get(start..close).unwrap_or_default();
                    if byte == QUOTE {
                        self.keep(piece, finder.wide());
                        self.carry.push(QUOTE);
                        self.state = State::Quoted;
                        start = pos + 1;
                    } else if self.ends_field(byte) {
                        self.end_field(piece, finder.wide(), visitor)?;
                        self.separate(byte, pos, visitor)?;
                    } else {
                        return Err(self.stop(Finding::TextAfterQuote, self.at(pos)));
                    }
                    pos += 1;
                }
                State::Cr if byte == b'\n' => {
                    self.end_row(LineEnd::CrLf, pos, visitor)?;
                    pos += 1;
                }
                State::Cr => return Err(self.bare_cr(pos)),
            }
        }
        self.pause(chunk, start, close, finder.wide())
    }

    /// Takes fields from `pos`, where one begins, for as long as they are plain and a delimiter ends them. Gives
    /// the place that the states go on from, and the start of its field.
    #[inline(always)]
    fn plain_fields<V: Visitor>(
        &mut self,
        chunk: &[u8],
        mut pos: usize,
        finder: &mut Finder<'_>,
        visitor: &mut V,
    ) -> Result<(usize, usize), Stop> {
        let row_limit = self.row_at + u64::from(self.limits.record_bytes_max);
        let field_max = u64::from(self.limits.field_bytes_max);
        let mut column = self.column;
        let column_last = if self.naming { column } else { self.column_last };
        loop {
            finder.forget();
            let end = finder.plain(pos);
            let limit = row_limit.min(self.at(pos) + field_max);
            if chunk.get(end) != Some(&self.delimiter)
                || column >= column_last
                || finder.wide()
                || self.at(end) > limit
            {
                self.column = column;
                return Ok((pos, pos));
            }
            let value = chunk.get(pos..end).unwrap_or_default();
            if let Err(finding) = visitor.field(column, Field { value, quoted: false, ascii: true }) {
                self.column = column;
                return Err(self.stop(finding, self.at(pos)));
            }
            column += 1;
            pos = end + 1;
        }
    }

    /// The chunk ends inside a field, or between two.
    fn pause(&mut self, chunk: &[u8], start: usize, close: usize, wide: bool) -> Result<(), Stop> {
        match self.state {
            State::RowStart | State::FieldStart | State::Cr => return Ok(()),
            State::Plain | State::Quoted => self.within(chunk.len())?,
            State::QuotedCr | State::QuoteInQuoted => {} // the next byte decides what this one was
        }
        let end = if self.state == State::QuoteInQuoted { close } else { chunk.len() };
        self.keep(chunk.get(start..end).unwrap_or_default(), wide);
        Ok(())
    }

    fn keep(&mut self, piece: &[u8], wide: bool) {
        self.carry.extend_from_slice(piece);
        self.carry_wide |= wide;
    }

    /// Looks at how the body begins, once each time more of it is there.
    fn open(&mut self, chunk: &[u8]) -> Result<(), Stop> {
        let Some(missing @ [_, ..]) =
            usize::try_from(self.before).ok().and_then(|n| self.opening.get_mut(n..))
        else {
            return Ok(());
        };
        missing.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        if matches!(self.opening, [b'{' | b'[' | b'<', ..]) {
            return Err(self.refuse(Finding::NotCsv));
        }
        if self.opening == BYTE_ORDER_MARK {
            return Err(self.refuse(Finding::ByteOrderMark));
        }
        Ok(())
    }

    /// Something about the first bytes.
    fn refuse(&mut self, finding: Finding) -> Stop {
        self.row = 1;
        self.note(finding, 0, None, None)
    }

    fn begin_row(&mut self, byte: u8, pos: usize) -> Result<(), Stop> {
        let offset = self.at(pos);
        self.row += 1;
        self.column = 0;
        self.row_at = offset;
        if self.columns.is_some() && self.rows() > self.limits.rows_max {
            return Err(self.note(Finding::RowsMax, offset, None, None));
        }
        if matches!(byte, b'\r' | b'\n') {
            return Err(self.note(Finding::BlankLine, offset, None, None));
        }
        self.state = State::FieldStart;
        Ok(())
    }

    #[inline(always)]
    fn begin_field(&mut self, pos: usize) {
        self.field_at = self.at(pos);
        let field = self.field_at + u64::from(self.limits.field_bytes_max);
        self.limit_at = field.min(self.row_at + u64::from(self.limits.record_bytes_max));
    }

    /// Whether the field that begins with `byte` is quoted.
    #[inline(always)]
    fn quoted_by(&mut self, byte: u8) -> bool {
        self.quoted = byte == QUOTE;
        self.state = if self.quoted { State::Quoted } else { State::Plain };
        self.quoted
    }

    #[inline(always)]
    fn ends_field(&self, byte: u8) -> bool {
        byte == self.delimiter || byte == b'\n' || byte == b'\r'
    }

    /// The bytes before `pos` are within the limits of their field and row.
    #[inline(always)]
    fn within(&mut self, pos: usize) -> Result<(), Stop> {
        if self.at(pos) <= self.limit_at { Ok(()) } else { Err(self.over()) }
    }

    #[cold]
    fn over(&mut self) -> Stop {
        let row_limit = self.row_at + u64::from(self.limits.record_bytes_max);
        let finding =
            if self.limit_at == row_limit { Finding::RecordBytesMax } else { Finding::FieldBytesMax };
        self.stop(finding, self.limit_at)
    }

    /// The last piece of the field's value is there.
    #[inline(always)]
    fn end_field<V: Visitor>(&mut self, piece: &[u8], wide: bool, visitor: &mut V) -> Result<(), Stop> {
        if wide | self.naming | !self.carry.is_empty() {
            return self.end_field_apart(piece, wide, visitor);
        }
        let field = Field { value: piece, quoted: self.quoted, ascii: true };
        match visitor.field(self.column, field) {
            Ok(()) => Ok(()),
            Err(finding) => Err(self.stop(finding, self.field_at)),
        }
    }

    /// The same for values in pieces, values beyond ASCII, and names.
    #[inline(never)]
    fn end_field_apart<V: Visitor>(&mut self, piece: &[u8], wide: bool, visitor: &mut V) -> Result<(), Stop> {
        if self.carry.is_empty() {
            return self.end_value(piece, wide, visitor);
        }
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(piece);
        let result = self.end_value(&carry, wide | self.carry_wide, visitor);
        carry.clear();
        self.carry = carry;
        self.carry_wide = false;
        result
    }

    fn end_value<V: Visitor>(&mut self, value: &[u8], wide: bool, visitor: &mut V) -> Result<(), Stop> {
        let ascii = !wide || value.is_ascii();
        if !ascii {
            self.check_text(value)?;
        }
        if self.naming {
            if value.is_empty() {
                return Err(self.stop(Finding::HeaderEmpty, self.field_at));
            }
            self.header.push(value, self.field_at);
            return Ok(());
        }
        let field = Field { value, quoted: self.quoted, ascii };
        visitor.field(self.column, field).map_err(|finding| self.stop(finding, self.field_at))
    }

    /// UTF-8, and none of the control characters U+0080 to U+009F.
    fn check_text(&mut self, value: &[u8]) -> Result<(), Stop> {
        if let Err(error) = std::str::from_utf8(value) {
            return Err(self.stop(Finding::InvalidUtf8, self.written_at(value, error.valid_up_to())));
        }
        let control = value.windows(2).position(|pair| matches!(pair, [0xC2, 0x80..=0x9F]));
        match control {
            Some(at) => Err(self.stop(Finding::ControlCharacter, self.written_at(value, at))),
            None => Ok(()),
        }
    }

    /// Where byte `at` of a value stands in the body.
    fn written_at(&self, value: &[u8], at: usize) -> u64 {
        let doubled = value.iter().take(at).filter(|&&byte| byte == QUOTE).count();
        let quotes = if self.quoted { 1 + doubled } else { 0 };
        self.field_at + as_u64(at + quotes)
    }

    /// The byte at `pos` ends a field that was accepted.
    #[inline(always)]
    fn separate<V: Visitor>(&mut self, mark: u8, pos: usize, visitor: &mut V) -> Result<(), Stop> {
        if mark == self.delimiter {
            if self.column >= self.column_last {
                return Err(self.too_many(pos));
            }
            self.column += 1;
            self.state = State::FieldStart;
        } else if mark == b'\n' {
            self.end_row(LineEnd::Lf, pos, visitor)?;
        } else {
            self.state = State::Cr;
        }
        Ok(())
    }

    #[cold]
    fn too_many(&mut self, pos: usize) -> Stop {
        let finding = if self.columns.is_some() { Finding::RaggedRow } else { Finding::ColumnsMax };
        self.column += 1;
        self.stop(finding, self.at(pos))
    }

    /// The LF at `pos` ends a row.
    #[inline]
    fn end_row<V: Visitor>(&mut self, line_end: LineEnd, pos: usize, visitor: &mut V) -> Result<(), Stop> {
        let offset = self.at(pos);
        if *self.line_end.get_or_insert(line_end) != line_end {
            return Err(self.note(Finding::MixedLineEnds, offset, None, None));
        }
        self.close_row(offset, visitor)?;
        self.state = State::RowStart;
        Ok(())
    }

    fn close_row<V: Visitor>(&mut self, offset: u64, visitor: &mut V) -> Result<(), Stop> {
        let columns = self.column + 1;
        if columns != *self.columns.get_or_insert(columns) {
            self.column += 1;
            return Err(self.stop(Finding::RaggedRow, offset));
        }
        self.column_last = self.column;
        if self.naming {
            return self.close_header(visitor);
        }
        visitor.row_end(columns).map_err(|misfit| self.misfit(misfit, offset))
    }

    fn close_header<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), Stop> {
        self.naming = false;
        let misfit = match self.header.duplicate() {
            Some(column) => {
                let column = u32::try_from(column).ok();
                Misfit { finding: Finding::HeaderDuplicate, column, name: None }
            }
            None => match visitor.header(&self.header) {
                Ok(()) => return Ok(()),
                Err(misfit) => misfit,
            },
        };
        Err(self.misfit(misfit, self.row_at))
    }

    fn misfit(&mut self, misfit: Misfit, offset: u64) -> Stop {
        let column = misfit.column.and_then(|column| usize::try_from(column).ok());
        let field = column.filter(|_| self.row == 1).and_then(|column| self.header.offset(column));
        self.note(misfit.finding, field.unwrap_or(offset), misfit.column, misfit.name)
    }

    fn end<V: Visitor>(&mut self, visitor: &mut V) -> Result<(), Stop> {
        match self.state {
            State::RowStart if self.row == 0 => {
                self.row = 1;
                return Err(self.note(Finding::Empty, 0, None, None));
            }
            State::RowStart => return Ok(()),
            State::Quoted | State::QuotedCr => {
                return Err(self.stop(Finding::UnterminatedQuote, self.field_at));
            }
            State::Cr => return Err(self.bare_cr(0)),
            State::FieldStart => {
                self.begin_field(0);
                self.quoted = false;
            }
            State::Plain | State::QuoteInQuoted => {}
        }
        self.within(0)?;
        self.end_field(b"", self.carry_wide, visitor)?;
        self.close_row(self.before, visitor)?;
        self.state = State::RowStart;
        match self.form.final_newline {
            FinalNewline::Optional => Ok(()),
            FinalNewline::Required => Err(self.note(Finding::FinalNewlineMissing, self.before, None, None)),
        }
    }

    /// Rows but the header, the one under way included.
    fn rows(&self) -> u64 {
        self.row.saturating_sub(u64::from(self.form.first_row == FirstRow::Names))
    }

    #[inline(always)]
    fn at(&self, pos: usize) -> u64 {
        self.before + as_u64(pos)
    }

    /// The byte before `pos` was a CR without an LF.
    fn bare_cr(&mut self, pos: usize) -> Stop {
        self.stop(Finding::BareCr, self.at(pos).saturating_sub(1))
    }

    /// A special byte where none may be.
    #[cold]
    fn unexpected(&mut self, byte: u8, pos: usize) -> Stop {
        let offset = self.at(pos);
        match byte {
            QUOTE => self.stop(Finding::StrayQuote, offset),
            0 => self.stop(Finding::Nul, offset),
            3 if offset == 2 && self.opening.starts_with(b"PK") => self.refuse(Finding::NotCsv),
            _ => self.stop(Finding::ControlCharacter, offset),
        }
    }

    /// Ends for good, with the column under way.
    #[cold]
    fn stop(&mut self, finding: Finding, offset: u64) -> Stop {
        self.note(finding, offset, Some(self.column), None)
    }

    #[cold]
    fn note(&mut self, finding: Finding, offset: u64, column: Option<u32>, name: Option<Box<str>>) -> Stop {
        let named = column.filter(|_| !self.naming).and_then(|column| {
            let name = self.header.name(usize::try_from(column).ok()?)?;
            Some(String::from_utf8_lossy(name).into())
        });
        let column = column.map(|column| column.saturating_add(1));
        self.broken = Some(Violation { finding, row: self.row, column, name: name.or(named), offset });
        Stop
    }
}
