//! One event as it came: its data, and its data replaced.

use bytes::Bytes;
use memchr::memchr2;

use super::stream::LINE_FEED;
use crate::sse::has_other_line_end;

/// The lines of a block with their ends: LF, CR or CRLF.
fn lines(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at(at);
        let end = match after {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        let (end, next) = after.split_at(end);
        rest = next;
        Some((line, end))
    })
}

/// The value of a line of `field`.
fn value_of<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(field)? {
        [] => Some(b""),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

fn data_of(line: &[u8]) -> Option<&[u8]> {
    value_of(line, b"data")
}

/// Whether a line that is no data has a line end of Unicode in it: some clients read on after it, as of another line.
pub fn has_hidden_line(block: &[u8]) -> bool {
    lines(block).any(|(line, _)| data_of(line).is_none() && has_other_line_end(line))
}

/// What a block says beside its data: all other lines, comments too, joined with LF.
pub fn beside_data(block: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for (line, _) in lines(block).filter(|(line, _)| !line.is_empty() && data_of(line).is_none()) {
        all.extend_from_slice(line);
        all.push(b'\n');
    }
    all
}

/// Whether a block is an event of this name.
pub fn is_named(block: &[u8], name: &[u8]) -> bool {
    lines(block).filter_map(|(line, _)| value_of(line, b"event")).last() == Some(name)
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A block without the byte order mark that a stream may begin with; no other is one.
pub fn without_mark(block: &[u8], first: bool) -> &[u8] {
    block.strip_prefix(BYTE_ORDER_MARK).filter(|_| first).unwrap_or(block)
}

/// The data of a block: its `data` lines, joined with LF. `first`: the stream begins with it.
pub fn data(block: &Bytes, first: bool) -> Bytes {
    let mut all = lines(without_mark(block, first)).filter_map(|(line, _)| data_of(line));
    let Some(first) = all.next() else { return Bytes::new() };
    match all.next() {
        None => block.slice_ref(first),
        Some(second) => {
            let mut joined = first.to_vec();
            for line in [second].into_iter().chain(all) {
                joined.push(b'\n');
                joined.extend_from_slice(line);
            }
            joined.into()
        }
    }
}

/// The block with other data; the rest as it was.
pub fn with_data(block: &[u8], first: bool, data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(block.len() + data.len());
    let mut written = false;
    let rest = without_mark(block, first);
    out.extend_from_slice(block.get(..block.len() - rest.len()).unwrap_or_default());
    for (line, end) in lines(rest) {
        if data_of(line).is_none() {
            out.extend_from_slice(line);
            out.extend_from_slice(end);
        } else if !std::mem::replace(&mut written, true) {
            for part in data.split(|byte| *byte == b'\n') {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(part);
                out.extend_from_slice(end);
            }
        }
    }
    out.into()
}

/// Cuts chunks into blocks where a [`crate::dialect::ResponseScan`] has marked their ends.
///
/// A block that ends in CR takes the LF after it along, because some clients wait for that. Where the two are in two
/// chunks, the LF is a block of its own.
#[derive(Debug, Default)]
pub struct Blocks {
    /// The beginning of a block, from earlier chunks.
    carry: Vec<u8>,
    /// The last chunk ended in the CR that ended a block.
    after_cr: bool,
}

impl Blocks {
    /// At the start of a chunk: the LF that belongs to the last block. What follows begins after it.
    pub fn line_feed(&mut self, chunk: &Bytes) -> Option<Bytes> {
        let first = chunk.get(..1)?;
        let whole = std::mem::take(&mut self.after_cr) && first == LINE_FEED;
        whole.then(|| chunk.slice_ref(first))
    }

    /// The block that ends before `to`, and began at `from` or in an earlier chunk; and where the next begins.
    pub fn end(&mut self, chunk: &Bytes, from: usize, to: usize) -> (Bytes, usize) {
        let ends_in_cr = to > from && chunk.get(to - 1) == Some(&b'\r');
        let next = to + usize::from(ends_in_cr && chunk.get(to) == Some(&b'\n'));
        self.after_cr = ends_in_cr && to == chunk.len();
        let rest = chunk.get(from..next).unwrap_or_default();
        if self.carry.is_empty() {
            return (chunk.slice_ref(rest), next);
        }
        self.carry.extend_from_slice(rest);
        (std::mem::take(&mut self.carry).into(), next)
    }

    /// What follows the last block that ends in this chunk.
    pub fn keep(&mut self, chunk: &Bytes, from: usize) {
        self.carry.extend_from_slice(chunk.get(from..).unwrap_or_default());
    }

    /// Whether the next chunk may begin with the LF that belongs to the last block.
    pub fn is_after_cr(&self) -> bool {
        self.after_cr
    }

    /// Bytes of a block that has not ended.
    pub fn pending(&self) -> usize {
        self.carry.len()
    }

    /// What of a stream that is over belongs to no block.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.carry).into()
    }
}
