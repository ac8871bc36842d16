//! The events of an answer: cut out of chunks, and given to what judges them.

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_wire::contract::is_unfinished_event;
use estoppel_wire::dialect::{EventMark, MarkKind, Part, ResponseScan};
use estoppel_wire::judge::{Blocks, has_hidden_line};

use super::mcp::Answers;
use super::{Objection, Stream};

/// What judges the events of an answer, and gives those that may leave.
pub(crate) trait JudgesEvents {
    /// The second half of a line end that two chunks share.
    fn line_feed(&mut self, line_feed: Bytes, left: &mut Vec<Bytes>) -> Result<(), Objection>;

    /// The next block, with the values in it; `ends` if it is the one that ends the stream.
    fn event(
        &mut self,
        block: Bytes,
        parts: &[Part],
        ends: bool,
        left: &mut Vec<Bytes>,
    ) -> Result<(), Objection>;

    /// The stream has said that it was cut short.
    fn cut_short(&mut self) {}

    /// Whether a block is refused in which some clients see a line that is not looked at.
    fn refuses_hidden_lines(&self) -> bool {
        true
    }

    /// The stream is over.
    fn finish(&mut self) -> Result<(), Objection>;
}

impl JudgesEvents for Stream {
    fn line_feed(&mut self, line_feed: Bytes, left: &mut Vec<Bytes>) -> Result<(), Objection> {
        Stream::line_feed(self, line_feed, left).map_err(Objection::of_answer)
    }

    fn event(
        &mut self,
        block: Bytes,
        parts: &[Part],
        ends: bool,
        left: &mut Vec<Bytes>,
    ) -> Result<(), Objection> {
        Stream::event(self, block, parts, ends, left).map_err(Objection::of_answer)
    }

    fn cut_short(&mut self) {
        self.judge_mut().cut_short();
    }

    fn finish(&mut self) -> Result<(), Objection> {
        Stream::finish(self).map_err(Objection::of_answer)
    }
}

/// Each event of a server's is one message.
impl JudgesEvents for Answers {
    fn line_feed(&mut self, line_feed: Bytes, left: &mut Vec<Bytes>) -> Result<(), Objection> {
        left.push(line_feed);
        Ok(())
    }

    fn event(&mut self, block: Bytes, _: &[Part], _: bool, left: &mut Vec<Bytes>) -> Result<(), Objection> {
        left.push(Answers::event(self, block)?);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Objection> {
        Ok(())
    }
}

/// What may leave of a chunk.
#[derive(Default)]
pub(crate) struct Left {
    /// The second half of a line end, whose first half has left. It comes before the blocks.
    pub(crate) line_feed: Option<Bytes>,
    pub(crate) blocks: Vec<Bytes>,
    /// Which of them is the event that ends the stream.
    pub(crate) terminator: Option<usize>,
}

/// Judges the events that end in `data`, where `scan`, which has just taken it, has marked their `ends`.
///
/// # Errors
/// The first objection. What was put into `left` came before it.
pub(crate) fn judge(
    values: &mut impl JudgesEvents,
    blocks: &mut Blocks,
    block_bytes_max: usize,
    scan: &ResponseScan,
    data: &Bytes,
    ends: &[EventMark],
    left: &mut Left,
) -> Result<(), Objection> {
    let (mut from, mut before) = (0, 0);
    if let Some(line_feed) = blocks.line_feed(data) {
        from = line_feed.len();
        let mut out = Vec::new();
        values.line_feed(line_feed, &mut out)?;
        left.line_feed = out.pop();
    }
    for mark in ends {
        let (block, next) = blocks.end(data, from, mark.end);
        let parts = scan.parts().get(before..mark.parts).unwrap_or_default();
        let terminates = mark.kind == MarkKind::Terminator;
        let had = left.blocks.len();
        if mark.cut_short {
            values.cut_short();
        }
        judge_block(values, block, parts, terminates, &mut left.blocks)?;
        if terminates && left.terminator.is_none() && left.blocks.len() > had {
            left.terminator = Some(left.blocks.len() - 1);
        }
        (from, before) = (next, mark.parts);
    }
    blocks.keep(data, from);
    if blocks.pending() > block_bytes_max { Err(Reason::HeldBytesMax.into()) } else { Ok(()) }
}

/// Judges one block, with the values in it; `ends` if it is the one that ends the stream.
///
/// # Errors
/// There is an objection to it.
pub(crate) fn judge_block(
    values: &mut impl JudgesEvents,
    block: Bytes,
    parts: &[Part],
    ends: bool,
    left: &mut Vec<Bytes>,
) -> Result<(), Objection> {
    if values.refuses_hidden_lines() && has_hidden_line(&block) {
        let what = "a line that is no data has a line end of Unicode in it, which some clients take for one";
        return Err(Objection::new(Reason::ValueAmbiguous, what));
    }
    values.event(block, parts, ends, left)
}

/// The answer is over: what of it belongs to no event may leave, if nothing is held back any more.
///
/// # Errors
/// It ended inside a value or an event.
pub(crate) fn finish(
    values: &mut impl JudgesEvents,
    blocks: &mut Blocks,
    left: &mut Vec<Bytes>,
) -> Result<(), Objection> {
    let finished = values.finish();
    left.extend(Some(blocks.take()).filter(|rest| !rest.is_empty()));
    let is_cut = left.iter().any(|rest| is_unfinished_event(rest));
    finished.and_then(|()| if is_cut { Err(Reason::ValueTruncated.into()) } else { Ok(()) })
}
