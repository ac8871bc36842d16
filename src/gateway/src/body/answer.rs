//! The body of an answer: ours, whole, or the upstream's as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{Cut, HeldBody, Room, ScreenedBody};

/// What a client gets.
pub(crate) enum AnswerBody {
    /// Known bytes.
    Whole(HeldBody),
    /// The upstream's bytes as they come.
    Screened(Box<ScreenedBody>),
}

impl AnswerBody {
    pub(crate) fn whole(pieces: Vec<Bytes>) -> Self {
        Self::held(pieces, Room::default())
    }

    /// The same of bytes that were counted against `room`.
    pub(crate) fn held(pieces: Vec<Bytes>, room: Room) -> Self {
        Self::Whole(HeldBody::new(pieces, room))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(held) => Poll::Ready(held.next().map(Ok)),
            Self::Screened(body) => Pin::new(body.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(held) => held.is_end(),
            Self::Screened(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(held) => held.size_hint(),
            Self::Screened(body) => body.size_hint(),
        }
    }
}
