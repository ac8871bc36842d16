//! A body that was read whole, still in its original pieces.

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Room;

/// The pieces that have not been given out.
pub(crate) struct HeldBody {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
    _room: Room,
}

impl HeldBody {
    /// Empty pieces are left out. `room` is the memory that they were counted against.
    pub(crate) fn new(mut pieces: Vec<Bytes>, room: Room) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces: pieces.into_iter(), left, _room: room }
    }

    /// What has not been given out, in one piece.
    pub(crate) fn bytes(&self) -> Bytes {
        match self.pieces.as_slice() {
            [one] => one.clone(),
            several => several.concat().into(),
        }
    }

    pub(crate) fn next(&mut self) -> Option<Frame<Bytes>> {
        let piece = self.pieces.next()?;
        self.left -= piece.len() as u64;
        Some(Frame::data(piece))
    }

    pub(crate) fn is_end(&self) -> bool {
        self.left == 0
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
