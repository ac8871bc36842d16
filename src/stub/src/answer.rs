//! An answer that is ready to be sent: bytes, where they are cut, how long to wait, what goes wrong.

mod source;

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

pub use source::filler;
pub(crate) use source::{Cuts, Source};

use crate::script::{Fault, Framing, Interim, Reply, Split, Writes};

/// Largest answer that is kept as one block and sent with one write, and largest single write.
pub(crate) const WRITE_MAX: usize = 64 * 1024;

/// What a body description gave for one request.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// Instead of the script's status: a request that the model cannot read.
    pub status: Option<u16>,
    /// Empty when there is nothing to say about the type.
    pub content_type: String,
    pub source: Source,
    /// The pieces that the body has by itself.
    pub ends: Cuts,
    pub streamed: bool,
    /// Pace that the request asked for.
    pub every: Option<Duration>,
}

impl Made {
    pub fn plain(content_type: &str, bytes: impl Into<Bytes>) -> Self {
        Self::of(content_type, Source::Held(bytes.into()), Cuts::none())
    }

    pub fn of(content_type: &str, source: Source, ends: Cuts) -> Self {
        let content_type = content_type.to_owned();
        Self { status: None, content_type, source, ends, streamed: false, every: None }
    }

    /// Pieces one after another, such as events.
    pub fn pieces(content_type: &str, pieces: &[String]) -> Self {
        let source = Source::Held(pieces.concat().into());
        let ends = Cuts::after_each(pieces.iter().map(String::len));
        Self { streamed: true, ..Self::of(content_type, source, ends) }
    }

    pub fn refusal(status: u16, content_type: &str, text: String) -> Self {
        Self { status: Some(status), ..Self::plain(content_type, text) }
    }
}

/// What ends an answer before its time, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub at: StopAt,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopAt {
    BeforeHead,
    /// After so many bytes of the body.
    Body(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Stall,
    Reset,
    Fin,
}

/// Which bytes go into one write.
#[derive(Clone, Debug)]
pub(crate) enum Batch {
    PerPiece {
        head_apart: bool,
    },
    Joined,
    /// At offsets of the whole answer.
    Wire(Cuts),
}

/// Time between writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    None,
    /// After each write.
    Pause(Duration),
    /// Write n is due n times this after the first.
    Every(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    pub before_head: Duration,
    pub before_body: Duration,
    pub gap: Gap,
}

/// INVARIANT: everything here was checked by `plan`; sending it can fail only because of the peer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: u16,
    /// Without framing: HTTP/2 has its own.
    pub fields: Vec<(String, String)>,
    pub trailers: Vec<(String, String)>,
    /// A length to declare, right or wrong.
    pub declared: Option<u64>,
    /// Interim heads, as HTTP/1.1.
    pub interim: Bytes,
    /// Empty when the body is the whole answer.
    pub head: Bytes,
    pub source: Source,
    pub cuts: Cuts,
    pub chunked: bool,
    /// Ends a chunked body.
    pub tail: Bytes,
    pub batch: Batch,
    pub waits: Waits,
    pub stop: Option<Stop>,
    /// The connection ends after this answer.
    pub close: bool,
    /// The body is sent even where HTTP forbids one.
    pub raw: bool,
    /// The whole answer, when it is one plain write.
    pub ready: Option<Bytes>,
}

enum Frame {
    Nothing,
    Length(u64),
    Chunked,
    Close,
    Raw,
}

impl Answer {
    pub fn new(reply: &Reply, made: Made) -> Self {
        let status = made.status.unwrap_or(reply.status);
        let frame = frame(reply, &made, status);
        let fields = fields(reply, &made);
        let batch = batch(reply);
        let mut answer = Self {
            status,
            declared: match frame {
                Frame::Length(length) => Some(length),
                Frame::Nothing | Frame::Chunked | Frame::Close | Frame::Raw => None,
            },
            interim: reply.interim.iter().map(interim_head).collect::<String>().into(),
            head: head(reply, status, &fields, &frame).into(),
            chunked: matches!(frame, Frame::Chunked),
            tail: tail(reply, &frame).into(),
            cuts: cuts(reply, made.ends),
            batch,
            waits: waits(reply, made.every),
            stop: stop(reply),
            close: reply.close || matches!(frame, Frame::Close) || declares_too_much(reply),
            raw: matches!(frame, Frame::Raw),
            source: if matches!(frame, Frame::Nothing) { Source::empty() } else { made.source },
            trailers: reply.trailers.clone(),
            fields,
            ready: None,
        };
        answer.ready = answer.as_one_write();
        answer
    }

    /// After how many bytes of the body the script ends the answer, and how.
    pub fn stop_in_body(&self) -> Option<(u64, How)> {
        let stop = self.stop?;
        match stop.at {
            StopAt::Body(after) => Some((after.min(self.source.len()), stop.how)),
            StopAt::BeforeHead => None,
        }
    }

    fn as_one_write(&self) -> Option<Bytes> {
        let len = self.source.len();
        let plain = self.interim.is_empty() && self.waits == Waits::NONE && self.stop.is_none();
        let joined = match self.batch {
            Batch::Joined => true,
            Batch::PerPiece { head_apart } => !head_apart && self.cuts.next_end(0, len) == len,
            Batch::Wire(_) => false,
        };
        if !plain || !joined || len > WRITE_MAX as u64 {
            return None;
        }
        let wire = self.wire();
        (wire.len() <= WRITE_MAX).then(|| wire.into())
    }

    /// Every byte from the head on. For bodies that fit in memory.
    fn wire(&self) -> Vec<u8> {
        let mut wire = self.head.to_vec();
        let (mut position, len) = (0, self.source.len());
        while position < len {
            let end = self.cuts.next_end(position, len);
            if self.chunked {
                wire.extend_from_slice(chunk_line(end - position).as_bytes());
            }
            while position < end {
                let slice = self.source.slice(position, end);
                position += slice.len() as u64;
                wire.extend_from_slice(&slice);
            }
            if self.chunked {
                wire.extend_from_slice(b"\r\n");
            }
        }
        wire.extend_from_slice(&self.tail);
        wire
    }
}

impl Waits {
    pub const NONE: Self = Self { before_head: Duration::ZERO, before_body: Duration::ZERO, gap: Gap::None };
}

pub(crate) fn chunk_line(size: u64) -> String {
    format!("{size:x}\r\n")
}

fn frame(reply: &Reply, made: &Made, status: u16) -> Frame {
    let len = made.source.len();
    match reply.framing {
        Some(Framing::ContentLength) => Frame::Length(len),
        Some(Framing::Chunked) => Frame::Chunked,
        Some(Framing::Close) => Frame::Close,
        Some(Framing::WrongLength { by }) => Frame::Length(len.saturating_add_signed(by)),
        Some(Framing::Raw) => Frame::Raw,
        None if matches!(status, 204 | 304) => Frame::Nothing,
        None if made.streamed || !reply.trailers.is_empty() => Frame::Chunked,
        None => Frame::Length(len),
    }
}

fn fields(reply: &Reply, made: &Made) -> Vec<(String, String)> {
    let mut fields = reply.headers.clone();
    let typed = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if !typed && !made.content_type.is_empty() {
        fields.push(("content-type".to_owned(), made.content_type.clone()));
    }
    fields
}

fn head(reply: &Reply, status: u16, fields: &[(String, String)], frame: &Frame) -> String {
    if matches!(frame, Frame::Raw) {
        return String::new();
    }
    let own_words = reply.reason.as_deref().filter(|_| status == reply.status);
    let mut head = status_line(status, own_words);
    push_fields(&mut head, fields);
    match frame {
        Frame::Length(length) => head.push_str(&format!("content-length: {length}\r\n")),
        Frame::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
        Frame::Nothing | Frame::Close | Frame::Raw => {}
    }
    if reply.close || matches!(frame, Frame::Close) {
        head.push_str("connection: close\r\n");
    }
    head.push_str("\r\n");
    head
}

fn interim_head(interim: &Interim) -> String {
    let mut head = status_line(interim.status, None);
    push_fields(&mut head, &interim.headers);
    head.push_str("\r\n");
    head
}

fn status_line(status: u16, words: Option<&str>) -> String {
    let registered = || StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    let words = words.or_else(registered).unwrap_or("");
    format!("HTTP/1.1 {status} {words}\r\n")
}

fn push_fields(text: &mut String, fields: &[(String, String)]) {
    for (name, value) in fields {
        text.extend([name, ": ", value, "\r\n"]);
    }
}

fn tail(reply: &Reply, frame: &Frame) -> String {
    let mut tail = String::new();
    if matches!(frame, Frame::Chunked) {
        tail.push_str("0\r\n");
        push_fields(&mut tail, &reply.trailers);
        tail.push_str("\r\n");
    }
    tail
}

fn declares_too_much(reply: &Reply) -> bool {
    matches!(reply.framing, Some(Framing::WrongLength { by }) if by > 0)
}

fn cuts(reply: &Reply, ends: Cuts) -> Cuts {
    match &reply.split {
        Split::PerEvent => ends,
        Split::Whole => Cuts::none(),
        Split::Each { bytes } => Cuts::Each(*bytes),
        Split::At { offsets } => Cuts::At(offsets.as_slice().into()),
    }
}

fn batch(reply: &Reply) -> Batch {
    if let Some((bytes, _)) = slow(reply) {
        return Batch::Wire(Cuts::Each(bytes));
    }
    match &reply.writes {
        Writes::PerPiece => Batch::PerPiece { head_apart: false },
        Writes::HeadFirst => Batch::PerPiece { head_apart: true },
        Writes::Joined => Batch::Joined,
        Writes::Each { bytes } => Batch::Wire(Cuts::Each(*bytes)),
        Writes::At { offsets } => Batch::Wire(Cuts::At(offsets.as_slice().into())),
    }
}

fn waits(reply: &Reply, every: Option<Duration>) -> Waits {
    let delays = reply.delay_ms;
    let pause = slow(reply).map_or(delays.between_writes, |(_, every_ms)| every_ms);
    let gap = match (pause, every) {
        (0, Some(every)) if !every.is_zero() => Gap::Every(every),
        (0, _) => Gap::None,
        (pause, _) => Gap::Pause(Duration::from_millis(pause)),
    };
    Waits {
        before_head: Duration::from_millis(delays.before_head),
        before_body: Duration::from_millis(delays.before_body),
        gap,
    }
}

/// Bytes a write, and milliseconds between writes.
pub(crate) fn slow(reply: &Reply) -> Option<(u64, u64)> {
    reply.faults.iter().find_map(|fault| match *fault {
        Fault::Slow { bytes_per_write, every_ms } => Some((bytes_per_write, every_ms)),
        _ => None,
    })
}

fn stop(reply: &Reply) -> Option<Stop> {
    reply.faults.iter().find_map(|fault| {
        let (at, how) = match *fault {
            Fault::Stall { after_bytes } => (StopAt::Body(after_bytes), How::Stall),
            Fault::Reset { after_bytes } => (StopAt::Body(after_bytes), How::Reset),
            Fault::Truncate { after_bytes } => (StopAt::Body(after_bytes), How::Fin),
            Fault::NoAnswer => (StopAt::BeforeHead, How::Stall),
            Fault::CloseBeforeHead => (StopAt::BeforeHead, How::Fin),
            Fault::ResetBeforeHead => (StopAt::BeforeHead, How::Reset),
            Fault::Slow { .. } => return None,
        };
        Some(Stop { at, how })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reply: &Reply, made: Made, expected: &str) {
        assert_eq!(String::from_utf8(Answer::new(reply, made).wire()).unwrap(), expected);
    }

    #[test]
    fn headers_keep_their_order_and_framing_comes_last() {
        let reply = Reply::default().header("B", "1").header("a", "2").header("B", "3");
        let expected =
            "HTTP/1.1 200 OK\r\nB: 1\r\na: 2\r\nB: 3\r\ncontent-type: text/x\r\ncontent-length: 2\r\n\r\nhi";
        check(&reply, Made::plain("text/x", "hi"), expected);
    }

    #[test]
    fn pieces_become_chunks() {
        let made = Made::pieces("text/event-stream", &["data: 1\n\n".to_owned(), "data: 22\n\n".to_owned()]);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
        let body = "9\r\ndata: 1\n\n\r\na\r\ndata: 22\n\n\r\n0\r\nx-t: 1\r\n\r\n";
        check(&Reply::default().trailer("x-t", "1"), made, &format!("{head}\r\n{body}"));
    }

    #[test]
    fn a_stated_split_wins_over_the_pieces_of_the_body() {
        let made = Made::pieces("", &["ab".to_owned(), "cd".to_owned()]);
        let reply = Reply::default().split(Split::At { offsets: vec![1, 3] });
        let expected =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n";
        check(&reply, made, expected);
    }

    #[test]
    fn a_wrong_length_is_declared_and_the_body_is_whole() {
        let reply = Reply::default().framing(Framing::WrongLength { by: -1 });
        check(&reply, Made::plain("", "abc"), "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabc");
        assert!(!Answer::new(&reply, Made::plain("", "abc")).close);
        let reply = Reply::default().framing(Framing::WrongLength { by: 1 });
        assert!(Answer::new(&reply, Made::plain("", "abc")).close);
    }

    #[test]
    fn raw_adds_nothing_and_204_has_no_body() {
        check(&Reply::default().framing(Framing::Raw), Made::plain("text/plain", "220 hi"), "220 hi");
        check(&Reply::default().status(204), Made::plain("", "gone"), "HTTP/1.1 204 No Content\r\n\r\n");
        let stated = Reply::default().status(204).framing(Framing::ContentLength);
        let expected = "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\ngone";
        check(&stated, Made::plain("", "gone"), expected);
    }

    #[test]
    fn only_plain_small_answers_are_kept_as_one_write() {
        let small = || Made::plain("", "x");
        assert!(Answer::new(&Reply::default(), small()).ready.is_some());
        assert!(Answer::new(&Reply::default().fault(Fault::NoAnswer), small()).ready.is_none());
        assert!(Answer::new(&Reply::default().writes(Writes::HeadFirst), small()).ready.is_none());
        let two = Made::pieces("", &["a".to_owned(), "b".to_owned()]);
        assert!(Answer::new(&Reply::default(), two.clone()).ready.is_none());
        assert!(Answer::new(&Reply::default().writes(Writes::Joined), two).ready.is_some());
        assert!(Answer::new(&Reply::default(), Made::plain("", vec![0; WRITE_MAX])).ready.is_none());
    }
}
