//! Server-sent events: where each event of a `text/event-stream` ends, and what it says.
//!
//! Grammar: WHATWG HTML, section 9.2.6 "Interpreting an event stream". A line ends with LF, CR or CRLF; an
//! event ends with an empty line; one byte order mark at the start is not data.
//!
//! Words: a *block* is what stands between two empty lines, the closing one included. A block with a `data`
//! field is an event. A comment line that opens a block is a piece of its own, so that a keep-alive can leave
//! at once; the block begins after it.
//!
//! Promises:
//! - Steps, and the absolute offset at which each is made, do not depend on how the bytes were cut.
//! - Bytes are never copied unless a block comes in several chunks, or its data in several lines.
//! - **A CR ends its line at once.** If an LF follows, the two are one line end, and the LF is a step of its
//!   own, [`Step::LineFeed`], when that line end had already closed a block or a comment. So an event is
//!   never kept waiting to see whether an LF comes, and whoever holds events back can let the LF share the
//!   fate of what it completes: clients that look for CRLF CRLF would otherwise see each event one late.
//!   Counted in blocks alone, that LF is the first byte of the next one.
//! - Every byte belongs to exactly one step.
//!
//! Left to others: what the data means, UTF-8 (the reader of the data checks it), and remembering the last id.
//! Bytes of a block that the stream ends in ([`Framer::pending`]) are not an event, says the standard; some clients take
//! them for one ([`Framer::end`]).

#[cfg(test)]
mod tests;

use memchr::memchr2;

use crate::Defect;

/// Bounds on what a [`Framer`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one block, line ends included. Default 256 KiB, at least [`EVENT_BYTES_MIN`].
    pub event_bytes_max: usize,
    /// What becomes of a longer one. Default [`Overflow::PassOver`].
    pub overflow: Overflow,
}

impl Default for Limits {
    fn default() -> Self {
        Self { event_bytes_max: 256 * 1024, overflow: Overflow::PassOver }
    }
}

/// Least value of [`Limits::event_bytes_max`]; smaller ones are raised to it.
pub const EVENT_BYTES_MIN: usize = 16;

/// What a [`Framer`] does when a block is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Finds its end, keeps none of it, and gives it as [`Content::PassedOver`]. For those who only watch.
    PassOver,
    /// Stops for good at the first byte past the limit. For those who must hold events back.
    Break,
}

/// One step through the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The chunk is used up.
    NeedMore,
    /// A block ended.
    Event(Event<'a>),
    /// A comment line outside of any block ended.
    Comment {
        /// As [`Event::has_hidden_line`]; also where it was too long to be kept.
        has_hidden_line: bool,
    },
    /// The LF of a CRLF whose CR ended the last block or comment.
    LineFeed,
    /// Over a limit; the same answer comes from now on.
    Broken(Defect),
}

/// A block: an event if it has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The last `event` field; empty if there is none.
    pub name: &'a [u8],
    /// The data, if the block has any.
    pub content: Content<'a>,
    /// The last `id` field without NUL; an empty one resets the client's last event id.
    pub id: Option<&'a [u8]>,
    /// The last `retry` field that is a number. Milliseconds.
    pub retry_ms: Option<u64>,
    /// Comment lines inside the block, after its first field. Zero if it was passed over.
    pub comments: usize,
    /// A line is none of `data`, `event`, `id`, `retry` and comments. The standard says to ignore it; some clients read it.
    pub has_unknown_line: bool,
    /// A line that is no data has a line end of Unicode in it: some clients read on after it, as of another line.
    pub has_hidden_line: bool,
}

/// What a block brings to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// The `data` lines, joined with LF.
    Data(&'a [u8]),
    /// No `data` line: nothing is dispatched. An empty line, or `id`, `retry` and unknown fields alone.
    Nothing,
    /// Not kept.
    PassedOver(Defect),
}

/// Push framer for one stream.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    block: Block,
    /// The block's bytes from earlier chunks; empty if it began in this one.
    carry: Vec<u8>,
    /// `carry` was lent to the caller with the last event and can go.
    lent: bool,
    /// Several `data` lines, joined.
    joined: Vec<u8>,
    /// The first line has ended, so no byte order mark can come.
    begun: bool,
    /// The last byte was a CR that ended a line.
    after_cr: bool,
    broken: bool,
}

impl Default for Framer {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Framer {
    pub fn new(limits: Limits) -> Self {
        let event_bytes_max = limits.event_bytes_max.max(EVENT_BYTES_MIN);
        Self {
            limits: Limits { event_bytes_max, ..limits },
            block: Block::default(),
            carry: Vec::new(),
            lent: false,
            joined: Vec::new(),
            begun: false,
            after_cr: false,
            broken: false,
        }
    }

    /// Takes a prefix of `chunk` up to the next step; returns the step and how many bytes that was.
    ///
    /// After [`Step::NeedMore`] the whole chunk is taken; after anything else, feed the rest. The step ends
    /// exactly after those bytes, so they can be released as the original buffer.
    pub fn feed<'a>(&'a mut self, chunk: &'a [u8]) -> (Step<'a>, usize) {
        if self.lent {
            self.carry.clear();
            self.lent = false;
        }
        let (end, taken) = self.scan(chunk);
        let step = match end {
            End::Chunk => Step::NeedMore,
            End::Comment { has_hidden_line } => Step::Comment { has_hidden_line },
            End::LineFeed => Step::LineFeed,
            End::Limit => Step::Broken(Defect::EventBytesMax),
            End::Block(block) => {
                self.lent = !self.carry.is_empty();
                let bytes = if self.lent { &self.carry } else { chunk };
                Step::Event(block.event(bytes, &self.joined))
            }
        };
        (step, taken)
    }

    /// Bytes taken of a block or comment that has not ended. At the end of the stream these are the
    /// unterminated tail, which is not an event.
    pub fn pending(&self) -> usize {
        self.block.len
    }

    /// Whether the block under way is longer than the limit, and given as [`Content::PassedOver`] when it ends.
    pub fn passes_over(&self) -> bool {
        self.block.kept == Kept::NotTheBlock
    }

    /// The stream is over: the block or comment that it ended in, as clients take it that do not wait for the empty line.
    /// None if nothing is left.
    pub fn end(&mut self) -> Option<Step<'_>> {
        if self.pending() == 0 || self.broken {
            return None;
        }
        // The end of its last line, unless that is there, and the empty line.
        let mut ended = self.scan(b"\n").0;
        for _ in 0..2 {
            if matches!(ended, End::Chunk) {
                ended = self.scan(b"\n").0;
            }
        }
        Some(match ended {
            End::Comment { has_hidden_line } => Step::Comment { has_hidden_line },
            End::Block(block) => {
                self.lent = true;
                Step::Event(block.event(&self.carry, &self.joined))
            }
            End::Chunk | End::LineFeed => return None,
            End::Limit => Step::Broken(Defect::EventBytesMax),
        })
    }

    fn scan(&mut self, chunk: &[u8]) -> (End, usize) {
        if self.broken {
            return (End::Limit, 0);
        }
        let carried = self.block.len;
        let mut taken = 0;
        loop {
            let rest = chunk.get(taken..).unwrap_or_default();
            if self.after_cr && !rest.is_empty() {
                self.after_cr = false;
                if rest.first() == Some(&b'\n') {
                    taken += 1;
                    if carried + taken == 1 {
                        return (End::LineFeed, taken);
                    }
                    self.block.line = carried + taken;
                    continue;
                }
            }
            let Some(length) = line_length(rest) else {
                return self.pause(chunk, carried);
            };
            taken += length + 1;
            self.after_cr = rest.get(length) == Some(&b'\r');
            let line = self.line(chunk, carried, taken);
            if !matches!(line, Line::Within) {
                return self.close(line, carried, taken);
            }
        }
    }

    /// Reads the line whose end is the last of the `taken` bytes.
    fn line(&mut self, chunk: &[u8], carried: usize, taken: usize) -> Line {
        let first = !std::mem::replace(&mut self.begun, true);
        let mut span = Span { start: self.block.line, end: carried + taken - 1 };
        self.block.line = carried + taken;
        match self.block.kept {
            Kept::NotTheComment => return Line::Comment,
            Kept::NotTheBlock if span.start == span.end => return Line::Empty,
            Kept::NotTheBlock => return Line::Within,
            Kept::All => {}
        }
        if carried > 0 {
            self.gather(chunk, carried, taken);
        }
        let bytes = if carried > 0 { &self.carry } else { chunk };
        if first && span.of(bytes).starts_with(BYTE_ORDER_MARK) {
            span.start += BYTE_ORDER_MARK.len();
        }
        self.block.line(span, bytes, &mut self.joined)
    }

    /// Appends to the carried bytes what is missing of the first `taken` bytes of `chunk`.
    fn gather(&mut self, chunk: &[u8], carried: usize, taken: usize) {
        let present = self.carry.len().saturating_sub(carried);
        self.carry.extend_from_slice(chunk.get(present..taken).unwrap_or_default());
    }

    fn close(&mut self, line: Line, carried: usize, taken: usize) -> (End, usize) {
        let too_long = carried + taken > self.limits.event_bytes_max;
        if too_long && self.limits.overflow == Overflow::Break {
            return self.stop(carried);
        }
        let mut block = std::mem::take(&mut self.block);
        match line {
            Line::Within => (End::Chunk, taken),
            Line::Comment => {
                self.carry.clear();
                (End::Comment { has_hidden_line: too_long || block.has_hidden_line }, taken)
            }
            Line::Empty => {
                if too_long {
                    block.kept = Kept::NotTheBlock;
                }
                (End::Block(block), taken)
            }
        }
    }

    /// The chunk ended inside a block or between two.
    fn pause(&mut self, chunk: &[u8], carried: usize) -> (End, usize) {
        let len = carried + chunk.len();
        if self.block.kept == Kept::All {
            if len <= self.limits.event_bytes_max {
                self.gather(chunk, carried, chunk.len());
            } else if self.limits.overflow == Overflow::Break {
                return self.stop(carried);
            } else {
                self.block.kept = self.give_up(chunk, carried);
                self.carry.clear();
            }
        }
        self.block.len = len;
        (End::Chunk, chunk.len())
    }

    /// What the block under way will be without its bytes: a lone comment needs none.
    fn give_up(&self, chunk: &[u8], carried: usize) -> Kept {
        let byte = |at: usize| if at < carried { self.carry.get(at) } else { chunk.get(at - carried) };
        let marked =
            !self.begun && BYTE_ORDER_MARK.iter().enumerate().all(|(at, mark)| byte(at) == Some(mark));
        let start = self.block.line + if marked { BYTE_ORDER_MARK.len() } else { 0 };
        if !self.block.fields && byte(start) == Some(&b':') { Kept::NotTheComment } else { Kept::NotTheBlock }
    }

    /// Ends for good, exactly at the limit.
    fn stop(&mut self, carried: usize) -> (End, usize) {
        self.broken = true;
        self.carry = Vec::new();
        self.block.len = self.limits.event_bytes_max;
        (End::Limit, self.limits.event_bytes_max - carried) // `pause` lets nothing longer be carried
    }
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Bytes before the next line end.
fn line_length(rest: &[u8]) -> Option<usize> {
    match rest.first()? {
        b'\n' | b'\r' => Some(0), // the empty line of most events is not worth a search
        _ => memchr2(b'\r', b'\n', rest),
    }
}

/// Why a scan came to an end.
enum End {
    Chunk,
    Comment { has_hidden_line: bool },
    LineFeed,
    Block(Block),
    Limit,
}

/// What one line means for its block.
enum Line {
    Within,
    /// A comment before any field.
    Comment,
    Empty,
}

/// Part of a block, by offsets from its first byte, which stay true when the block moves into `carry`.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }
}

/// Whether the bytes of earlier chunks are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kept {
    #[default]
    All,
    /// They were too many, and are a lone comment.
    NotTheComment,
    /// They were too many.
    NotTheBlock,
}

/// What is known of the block under way.
#[derive(Debug, Default)]
struct Block {
    /// Its bytes in earlier chunks.
    len: usize,
    /// Where its current line starts.
    line: usize,
    kept: Kept,
    fields: bool,
    comments: usize,
    name: Span,
    data: Span,
    data_lines: usize,
    id: Option<Span>,
    retry_ms: Option<u64>,
    has_unknown_line: bool,
    has_hidden_line: bool,
}

impl Block {
    fn line(&mut self, line: Span, bytes: &[u8], joined: &mut Vec<u8>) -> Line {
        match line.of(bytes).first() {
            None => return Line::Empty,
            Some(b':') => {
                self.has_hidden_line |= has_other_line_end(line.of(bytes));
                if !self.fields {
                    return Line::Comment;
                }
                self.comments += 1;
            }
            Some(_) => {
                self.fields = true;
                self.field(line, bytes, joined);
            }
        }
        Line::Within
    }

    fn field(&mut self, line: Span, bytes: &[u8], joined: &mut Vec<u8>) {
        let name_and_value = name_and_value(line, bytes);
        if name_and_value.is_none_or(|(name, _)| name != b"data") {
            self.has_hidden_line |= has_other_line_end(line.of(bytes));
        }
        let Some((name, value)) = name_and_value else {
            self.has_unknown_line = true;
            return;
        };
        match name {
            b"data" => self.data(value, bytes, joined),
            b"event" => self.name = value,
            b"id" if value.of(bytes).contains(&0) => {}
            b"id" => self.id = Some(value),
            b"retry" => self.retry_ms = number(value.of(bytes)).or(self.retry_ms),
            _ => self.has_unknown_line = true,
        }
    }

    fn data(&mut self, value: Span, bytes: &[u8], joined: &mut Vec<u8>) {
        self.data_lines += 1;
        if self.data_lines == 1 {
            self.data = value;
            return;
        }
        if self.data_lines == 2 {
            joined.clear();
            joined.extend_from_slice(self.data.of(bytes));
        }
        joined.push(b'\n');
        joined.extend_from_slice(value.of(bytes));
    }

    fn event<'a>(&self, bytes: &'a [u8], joined: &'a [u8]) -> Event<'a> {
        let content = match self.data_lines {
            _ if self.kept != Kept::All => {
                let content = Content::PassedOver(Defect::EventBytesMax);
                return Event {
                    name: b"",
                    content,
                    id: None,
                    retry_ms: None,
                    comments: 0,
                    has_unknown_line: false,
                    has_hidden_line: false,
                };
            }
            0 => Content::Nothing,
            1 => Content::Data(self.data.of(bytes)),
            _ => Content::Data(joined),
        };
        let id = self.id.map(|id| id.of(bytes));
        Event {
            name: self.name.of(bytes),
            content,
            id,
            retry_ms: self.retry_ms,
            comments: self.comments,
            has_unknown_line: self.has_unknown_line,
            has_hidden_line: self.has_hidden_line,
        }
    }
}

/// Whether a line has in it what ends a line for some clients: a vertical tab, a form feed, one of the information separators,
/// U+0085, U+2028 or U+2029.
pub(crate) fn has_other_line_end(line: &[u8]) -> bool {
    line.iter().any(|byte| matches!(byte, 0x0B | 0x0C | 0x1C..=0x1E))
        || line.windows(2).any(|two| two == b"\xC2\x85")
        || line.windows(3).any(|three| matches!(three, b"\xE2\x80\xA8" | b"\xE2\x80\xA9"))
}

/// Longest name of a field that means anything (`event`, `retry`).
const FIELD_NAME_MAX: usize = 5;

/// Splits `name: value`; `None` for names that mean nothing.
fn name_and_value(line: Span, bytes: &[u8]) -> Option<(&[u8], Span)> {
    let text = line.of(bytes);
    match text.iter().take(FIELD_NAME_MAX + 1).position(|&byte| byte == b':') {
        Some(colon) => {
            let space = usize::from(text.get(colon + 1) == Some(&b' '));
            Some((text.get(..colon)?, Span { start: line.start + colon + 1 + space, end: line.end }))
        }
        None if text.len() <= FIELD_NAME_MAX => Some((text, Span { start: line.end, end: line.end })),
        None => None,
    }
}

/// A value of ASCII digits alone; other values are ignored, as the standard says.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
