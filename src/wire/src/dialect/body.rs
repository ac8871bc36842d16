//! One JSON body, and how much of a body was looked at.

use crate::{
    Defect, as_u64,
    json::{Limits, Tokenizer, Visitor},
};

/// What was looked at of one body, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evaluated {
    /// Bytes that were read without a defect, framing included. `bytes + skipped` is the whole body.
    pub bytes: u64,
    /// Events whose data was read without a defect; 0 if the body is no stream.
    pub events: u64,
    /// Bytes from which nothing was, or could be, read: after a defect in JSON, of events with a defect, of an
    /// unterminated last event, or all of a body that nobody here can read.
    pub skipped: u64,
    /// Events that are part of `skipped`.
    pub skipped_events: u64,
    /// The first reason for which something was skipped, or for which the facts may be read in two ways.
    pub defect: Option<Defect>,
}

impl Evaluated {
    pub(super) fn skip(&mut self, bytes: u64, defect: Defect) {
        self.skipped += bytes;
        self.defect.get_or_insert(defect);
    }
}

/// A body that is one JSON text, or one that is only counted.
#[derive(Debug)]
pub(super) struct JsonBody<P> {
    tokenizer: Tokenizer<P>,
    len: u64,
    unread: Option<Defect>,
}

impl<P: Copy> JsonBody<P> {
    pub(super) fn new(root: Option<P>) -> Self {
        Self { tokenizer: Tokenizer::new(Limits::default(), root), len: 0, unread: None }
    }

    /// Counts the bytes and reads none.
    pub(super) fn unread(why: Defect) -> Self {
        Self { unread: Some(why), ..Self::new(None) }
    }

    pub(super) fn push<V: Visitor<Place = P>>(&mut self, chunk: &[u8], visitor: &mut V) {
        self.len += as_u64(chunk.len());
        if self.unread.is_none() {
            // A defect stays in the tokenizer, which takes nothing more; `finish` reports it.
            let _ = self.tokenizer.feed(chunk, visitor);
        }
    }

    /// An empty body has nothing to evaluate and no defect.
    pub(super) fn finish<V: Visitor<Place = P>>(&mut self, visitor: &mut V) -> Evaluated {
        let mut evaluated = Evaluated::default();
        if self.len == 0 {
            return evaluated;
        }
        match self.unread {
            Some(why) => evaluated.skip(self.len, why),
            None => {
                evaluated.defect = self.tokenizer.finish(visitor).err();
                evaluated.bytes = self.tokenizer.offset();
                evaluated.skipped = self.len.saturating_sub(evaluated.bytes);
            }
        }
        evaluated
    }
}
