//! Events of an answer from which nothing is held back, where the policy may refuse what they say: each leaves once it is
//! whole, since some clients take its lines as they come.

use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_wire::dialect::{Dialect, EventMark, Framing};
use tokio::sync::Semaphore;

use super::{Exchange, Response};
use crate::body::Room;
use crate::judging::Objection;

/// The event that is under way.
#[derive(Default)]
pub(super) struct Unfinished {
    bytes: Vec<u8>,
    /// The last event that left ended in a CR, so that an LF belongs to it.
    after_cr: bool,
    /// A part of it has left, because nobody will know what it says and the policy lets that pass.
    begun: bool,
    room: Room,
}

impl Exchange {
    /// Whether events of such an answer leave once they are whole.
    pub(super) fn keeps_unfinished(&self, framing: Framing) -> Option<Box<Unfinished>> {
        let is_read = framing == Framing::Sse && !matches!(self.dialect, Dialect::Json | Dialect::Bytes);
        let refuses = self.route.as_ref().is_some_and(|route| route.refuses_answers);
        (is_read && refuses).then(Box::default)
    }

    /// The stream is over: what it ended in, without the empty line that ends an event, is judged as one.
    ///
    /// # Errors
    /// The policy blocks it; it may not leave.
    pub(crate) fn end_events(&mut self) -> Result<(), Objection> {
        let Some(response) = self.response.as_mut().filter(|response| response.facts.is_none()) else {
            return Ok(());
        };
        let ended = response.scan.end_event();
        if ended.is_none() || response.holds_back() { Ok(()) } else { self.judge_stream() }
    }
}

impl Response {
    /// What may leave of what is kept and of `data`, in which events end at `ends`; these are moved to where they are in what
    /// leaves.
    ///
    /// # Errors
    /// There is no memory for what is kept.
    pub(super) fn whole_events(
        &mut self,
        data: Bytes,
        ends: &mut [EventMark],
        memory: &Arc<Semaphore>,
    ) -> Result<Bytes, Reason> {
        let passes_over = self.scan.passes_over();
        let Some(unfinished) = &mut self.unfinished else { return Ok(data) };
        let left = unfinished.take(data, ends, passes_over);
        unfinished.room.hold(memory, unfinished.bytes.len() as u64)?; // a length fits
        Ok(left)
    }

    /// Whether nobody will know what the event says that is under way.
    pub(super) fn passes_over(&self) -> bool {
        self.unfinished.is_some() && !self.holds_back() && self.scan.passes_over()
    }

    /// Whether the client is between two events of a stream that nothing else holds back.
    pub(super) fn is_between_events(&self) -> bool {
        self.judged.is_none() && self.unfinished.as_ref().is_some_and(|unfinished| !unfinished.begun)
    }

    /// Bytes that are kept.
    pub(super) fn unfinished_bytes(&self) -> u64 {
        self.unfinished.as_ref().map_or(0, |unfinished| unfinished.bytes.len() as u64) // a length fits
    }

    /// What the stream ended in leaves with what waits for the receipt.
    pub(super) fn release_unfinished(&mut self) {
        let rest = self.unfinished.take().map(|unfinished| unfinished.bytes).unwrap_or_default();
        self.tail.extend(Some(rest.into()).filter(|rest: &Bytes| !rest.is_empty()));
    }
}

impl Unfinished {
    fn take(&mut self, data: Bytes, ends: &mut [EventMark], passes_over: bool) -> Bytes {
        let has_line_feed = |at: usize| data.get(at) == Some(&b'\n');
        let last = ends.last().map(|mark| mark.end);
        let ended_in_cr = |end: usize| end > 0 && data.get(end - 1) == Some(&b'\r');
        let whole = match last {
            Some(end) => end + usize::from(ended_in_cr(end) && has_line_feed(end)),
            None => usize::from(self.after_cr && has_line_feed(0)),
        };
        if !data.is_empty() {
            self.after_cr = last.is_some_and(|end| end == data.len() && ended_in_cr(end));
        }
        self.begun = passes_over;
        let leaves = if passes_over { data.len() } else { whole };
        let rest = data.get(leaves..).unwrap_or_default();
        if leaves == 0 {
            self.bytes.extend_from_slice(rest);
            return Bytes::new();
        }
        let before = std::mem::replace(&mut self.bytes, rest.to_vec());
        let data = data.slice(..leaves);
        if before.is_empty() {
            return data;
        }
        ends.iter_mut().for_each(|mark| mark.end += before.len());
        [&before[..], &data[..]].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use estoppel_wire::dialect::ResponseScan;

    use super::*;

    /// What leaves of each piece, with where events end in all that left.
    fn left(pieces: &[&str]) -> (Vec<String>, Vec<usize>) {
        let mut scan = ResponseScan::new(Dialect::Gemini, Framing::Sse).event_bytes_max(32);
        let (mut unfinished, mut left, mut at, mut all) = (Unfinished::default(), Vec::new(), Vec::new(), 0);
        for piece in pieces {
            let mut ends = Vec::new();
            scan.push(piece.as_bytes(), &mut |mark| ends.push(mark));
            let data = Bytes::copy_from_slice(piece.as_bytes());
            let out = unfinished.take(data, &mut ends, scan.passes_over());
            at.extend(ends.iter().map(|mark| all + mark.end));
            all += out.len();
            left.push(String::from_utf8(out.to_vec()).unwrap());
        }
        (left, at)
    }

    #[test]
    fn an_event_leaves_with_the_last_byte_of_its_empty_line() {
        let (all, at) =
            left(&["data: {}\n", "\ndata", ": {}", "\n\n\n: c\n", "da", "ta: {}\r\n\r", "", "\n", "\n"]);
        let said = ["", "data: {}\n\n", "", "data: {}\n\n\n", "", ": c\ndata: {}\r\n\r", "", "\n", "\n"];
        assert_eq!(all, said);
        assert_eq!(at, [10, 20, 21, 36, 38]);
        let (all, at) = left(&["data: {}\r\n\r\ndata: {}\r\r", "x"]);
        assert_eq!((all, at), (vec!["data: {}\r\n\r\ndata: {}\r\r".into(), String::new()], vec![11, 22]));
    }

    #[test]
    fn what_is_too_long_to_be_read_is_not_kept() {
        let long = "x".repeat(40);
        let (all, _) = left(&["data: ", &long, "x\n\nda", "ta: 1\n\n"]);
        assert_eq!(all, [String::new(), format!("data: {long}"), "x\n\n".into(), "data: 1\n\n".into()]);
    }
}
