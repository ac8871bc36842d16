//! Answers whose structured values are judged before they leave: what is held back of a stream, and what the client gets.

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::Captured;
use estoppel_wire::dialect::{EventMark, MarkKind, Part};
use estoppel_wire::judge::Blocks;
use sha2::{Digest as _, Sha256};

use super::{Mark, Response};
use crate::judging;
use crate::store::Feed;

/// An answer whose structured values are judged before they leave.
pub(super) struct HeldBack {
    pub(super) stream: judging::Stream,
    /// It is a stream of events, not one body.
    pub(super) is_stream: bool,
    pub(super) blocks: Blocks,
    pub(super) block_bytes_max: usize,
    /// Of what the upstream sent in a stream.
    pub(super) hash: Sha256,
    pub(super) bytes: u64,
    /// Where what the client gets of a stream is stored, if it is.
    pub(super) feed: Option<Feed>,
    /// The terminator has come, so that what follows is held until the receipt is durable.
    pub(super) ended: bool,
    /// Blocks that may leave now.
    pub(super) ready: Vec<Bytes>,
    /// What the client gets instead of the upstream's body.
    pub(super) replaced: Option<Captured>,
}

impl Response {
    pub(super) fn holds_back(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| judged.is_stream)
    }

    /// Takes bytes of a stream whose values are judged. Gives those that may leave now.
    pub(super) fn hold_back(
        &mut self,
        data: &Bytes,
        ends: &[EventMark],
        hashes: bool,
        now_us: u64,
    ) -> Result<Bytes, Reason> {
        if let Some(feed) = &self.feed {
            feed.push(data.clone());
        }
        if let Some(stream) = &mut self.stream {
            stream.first_us.get_or_insert(now_us);
            stream.last_us = now_us;
        }
        let Some(judged) = &mut self.judged else { return Ok(data.clone()) };
        judged.bytes += data.len() as u64;
        if hashes {
            judged.hash.update(data);
        }
        if !self.scan.so_far().read {
            return Err(Reason::ValueAmbiguous); // what could not be read may hold values
        }
        let (mut left, mut from, mut before) = (Vec::new(), 0, 0);
        let take = |judged: &mut HeldBack, block, parts: &[Part], ends, left: &mut Vec<Bytes>| {
            judged.stream.event(block, parts, ends, left).map_err(|refused| judging::reason(&refused))
        };
        if let Some(line_feed) = judged.blocks.line_feed(data) {
            from = line_feed.len();
            take(judged, line_feed, &[], false, &mut left)?;
        }
        for mark in ends {
            let Some(judged) = &mut self.judged else { break };
            let (block, next) = judged.blocks.end(data, from, mark.end);
            let parts = self.scan.parts().get(before..mark.parts).unwrap_or_default();
            let terminates = mark.kind == MarkKind::Terminator;
            take(judged, block, parts, terminates, &mut left)?;
            if terminates && !judged.ended {
                let terminator = left.pop();
                self.leave(std::mem::take(&mut left), hashes);
                self.judged.iter_mut().for_each(|judged| judged.ended = true);
                left.extend(terminator);
            }
            self.leave(std::mem::take(&mut left), hashes);
            (from, before) = (next, mark.parts);
        }
        self.leave(left, hashes);
        let Some(judged) = &mut self.judged else { return Ok(Bytes::new()) };
        judged.blocks.keep(data, from);
        if judged.blocks.pending() > judged.block_bytes_max {
            return Err(Reason::HeldBytesMax);
        }
        Ok(judged.take_ready())
    }

    pub(super) fn end_held_back(&mut self, hashes: bool) -> Result<Bytes, Reason> {
        let Some(judged) = self.judged.as_mut().filter(|judged| judged.is_stream) else {
            return Ok(Bytes::new());
        };
        judged.stream.finish().map_err(|refused| judging::reason(&refused))?;
        let rest = judged.blocks.take();
        if is_unfinished_event(&rest) {
            return Err(Reason::ValueTruncated);
        }
        judged.ended = true; // after what waits for the receipt
        self.leave(if rest.is_empty() { Vec::new() } else { vec![rest] }, hashes);
        Ok(self.judged.as_mut().map(|judged| judged.take_ready()).unwrap_or_default())
    }

    /// Says something of ours to the client.
    pub(super) fn say(&mut self, event: Bytes, hashes: bool) -> Bytes {
        self.judged.iter_mut().for_each(|judged| judged.ended = false);
        self.tail.clear();
        self.tail_marks.clear();
        self.leave(vec![event], hashes);
        self.judged.as_mut().map(|judged| judged.take_ready()).unwrap_or_default()
    }

    /// Blocks of a judged stream leave: now, or with the tail once the terminator has come.
    fn leave(&mut self, blocks: Vec<Bytes>, hashes: bool) {
        for block in blocks {
            let unit_end = unit_end(&block);
            if self.judged.as_ref().is_some_and(|judged| judged.ended) {
                let piece = self.tail.len();
                self.tail_marks.extend(unit_end.map(|end| Mark { piece, end }));
                self.tail.push(block);
                continue;
            }
            self.pass(&block, hashes);
            if let Some(stream) = &mut self.stream {
                let (unit, rest) = block.split_at(unit_end.unwrap_or(0));
                if unit_end.is_some() {
                    stream.tree.update(unit);
                    stream.tree.end_unit();
                }
                stream.tree.update(rest);
            }
            if let Some(judged) = &mut self.judged {
                judged.ready.push(block);
            }
        }
    }
}

impl HeldBack {
    fn take_ready(&mut self) -> Bytes {
        match self.ready.as_slice() {
            [] => Bytes::new(),
            [_] => self.ready.pop().unwrap_or_default(),
            several => {
                let joined = several.concat().into();
                self.ready.clear();
                joined
            }
        }
    }
}

/// Whether the rest of a stream could be taken for an event by clients that do not wait for its end. Many leave out the
/// line end after the terminator.
fn is_unfinished_event(rest: &[u8]) -> bool {
    let text = rest.trim_ascii();
    !(text.is_empty()
        || text == b"data: [DONE]"
        || text == b"data:[DONE]"
        || text.starts_with(b":") && !text.contains(&b'\n'))
}

/// Where the unit that a block ends, ends in it (SPEC section 7): an LF after a CR belongs to the next one.
fn unit_end(block: &[u8]) -> Option<usize> {
    match block {
        [b'\n'] | [.., 0..=9 | 11..=12 | 14..] => None,
        [.., b'\r', b'\n'] => Some(block.len() - 1),
        _ => Some(block.len()),
    }
}
