//! Bytes that wait for their verdict.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{Refused, length};
use crate::as_u64;

/// Most bytes of pieces that are joined.
const JOINED_MAX: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Held {
    holds: bool,
    bytes_max: usize,
    /// Not judged yet.
    waiting: VecDeque<Bytes>,
    /// Offset in the body of the first of them.
    waiting_at: u64,
    bytes: usize,
    bytes_most: usize,
}

impl Held {
    pub(super) fn new(holds: bool, bytes_max: usize) -> Self {
        Self { holds, bytes_max, waiting: VecDeque::new(), waiting_at: 0, bytes: 0, bytes_most: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Most bytes at once so far.
    pub(super) fn bytes_most(&self) -> usize {
        self.bytes_most
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if !self.holds || piece.is_empty() {
            return;
        }
        self.bytes += piece.len();
        self.bytes_most = self.bytes_most.max(self.bytes);
        // Tiny pieces of one unit are joined, so that what is kept is no multiple of what came.
        match self.waiting.back_mut() {
            Some(last) if last.len() + piece.len() <= JOINED_MAX => {
                let mut joined = BytesMut::from(std::mem::take(last));
                joined.extend_from_slice(&piece);
                *last = joined.freeze();
            }
            _ => self.waiting.push_back(piece),
        }
    }

    /// As much of `rest` as may be kept back.
    ///
    /// # Errors
    /// Nothing more may be.
    pub(super) fn take(&self, rest: &mut Bytes) -> Result<Bytes, Refused> {
        let room = if self.holds { self.bytes_max.saturating_sub(self.bytes) } else { usize::MAX };
        match room {
            0 => Err(Refused::HeldBytesMax),
            room => Ok(rest.split_to(room.min(rest.len()))),
        }
    }

    /// All that waits, as one.
    pub(super) fn waiting(&self) -> Bytes {
        match self.waiting.iter().collect::<Vec<_>>().as_slice() {
            [one] => (*one).clone(),
            several => several.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>().into(),
        }
    }

    /// What waits may leave.
    pub(super) fn give(&mut self, out: &mut Vec<Bytes>) {
        self.give_until(u64::MAX, out);
    }

    /// The same as one piece.
    pub(super) fn give_joined(&mut self, out: &mut Vec<Bytes>) {
        let joined = self.waiting();
        self.replace(joined, out);
    }

    /// `piece` may leave in the place of what waits.
    pub(super) fn replace(&mut self, piece: Bytes, out: &mut Vec<Bytes>) {
        let waited: usize = self.waiting.iter().map(Bytes::len).sum();
        self.bytes -= waited;
        self.waiting_at += as_u64(waited);
        self.waiting.clear();
        if self.holds {
            out.push(piece);
        }
    }

    /// What stands before `offset` may leave.
    pub(super) fn give_until(&mut self, offset: u64, out: &mut Vec<Bytes>) {
        while let Some(mut piece) = self.waiting.pop_front() {
            let left = offset.saturating_sub(self.waiting_at);
            if left < length(&piece) {
                let at = usize::try_from(left).unwrap_or(piece.len());
                let rest = piece.split_off(at);
                self.waiting.push_front(rest);
            }
            if piece.is_empty() {
                return;
            }
            self.waiting_at += length(&piece);
            self.bytes -= piece.len();
            out.push(piece);
        }
    }
}
