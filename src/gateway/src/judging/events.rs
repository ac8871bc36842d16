//! The events of a model's answer: cut out of chunks, and given to what judges them.

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_wire::contract::is_unfinished_event;
use estoppel_wire::dialect::{EventMark, MarkKind, ResponseScan};
use estoppel_wire::judge::Blocks;

use super::{Objection, Stream};

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
    stream: &mut Stream,
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
        stream.line_feed(line_feed, &mut out).map_err(Objection::of_answer)?;
        left.line_feed = out.pop();
    }
    for mark in ends {
        let (block, next) = blocks.end(data, from, mark.end);
        let parts = scan.parts().get(before..mark.parts).unwrap_or_default();
        let terminates = mark.kind == MarkKind::Terminator;
        let had = left.blocks.len();
        stream.event(block, parts, terminates, &mut left.blocks).map_err(Objection::of_answer)?;
        if terminates && left.terminator.is_none() && left.blocks.len() > had {
            left.terminator = Some(left.blocks.len() - 1);
        }
        (from, before) = (next, mark.parts);
    }
    blocks.keep(data, from);
    if blocks.pending() > block_bytes_max { Err(Reason::HeldBytesMax.into()) } else { Ok(()) }
}

/// The answer is over: what of it belongs to no event may leave, if nothing is held back any more.
///
/// # Errors
/// It ended inside a value or an event.
pub(crate) fn finish(
    stream: &mut Stream,
    blocks: &mut Blocks,
    left: &mut Vec<Bytes>,
) -> Result<(), Objection> {
    let finished = stream.finish().map_err(Objection::of_answer);
    left.extend(Some(blocks.take()).filter(|rest| !rest.is_empty()));
    let is_cut = left.iter().any(|rest| is_unfinished_event(rest));
    finished.and_then(|()| if is_cut { Err(Reason::ValueTruncated.into()) } else { Ok(()) })
}
