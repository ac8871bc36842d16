//! Bodies of the bridge's answers: whole, or events as they are said.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

/// Messages on their way to one client. Dropping it ends what it listens to.
pub(super) type Said = mpsc::Receiver<String>;

pub(super) enum Body {
    Whole(Option<Bytes>),
    Events(Said),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(match self.get_mut() {
            Self::Whole(body) => body.take().map(|body| Ok(Frame::data(body))),
            Self::Events(said) => ready!(said.poll_recv(cx))
                .map(|message| Ok(Frame::data(format!("event: message\ndata: {message}\n\n").into()))),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }
}
