//! The request body: read whole before it is judged, or read while it is sent.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_wire::dialect::{RequestFacts, RequestScan};
use futures_util::FutureExt as _;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, Sleep};

use super::{Cut, HeldBody, Room};
use crate::headers;
use crate::store::Feed;

/// Why a request body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    TooLarge,
    Broken,
    Stalled,
    /// Too many bodies are held.
    NoRoom,
}

impl ReadError {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::TooLarge => Reason::RequestBytesMax,
            Self::Broken => Reason::RequestBroken,
            Self::Stalled => Reason::RequestStalled,
            Self::NoRoom => Reason::InFlightMax,
        }
    }
}

/// The next frame of a request body, waited for at most `stall`.
pub(crate) async fn read_next(
    body: &mut Incoming,
    stall: Duration,
) -> Option<Result<Frame<Bytes>, ReadError>> {
    if body.is_end_stream() {
        return None;
    }
    let mut next = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    let frame = match (&mut next).now_or_never() {
        Some(frame) => frame, // mostly it is there, and needs no timer
        None => match tokio::time::timeout(stall, next).await {
            Err(_) => return Some(Err(ReadError::Stalled)),
            Ok(frame) => frame,
        },
    };
    frame.map(|frame| frame.map_err(|_| ReadError::Broken))
}

/// What is sent upstream as a request body.
pub(crate) enum UpstreamBody {
    /// Read whole already, with the memory that it was counted against.
    Held(HeldBody),
    /// Read while it is sent.
    Streamed(Box<StreamedBody>),
}

impl UpstreamBody {
    /// `room` is the memory that the chunks were counted against.
    pub(crate) fn held(chunks: Vec<Bytes>, room: Room) -> Self {
        Self::Held(HeldBody::new(chunks, room))
    }

    pub(crate) fn streamed(body: Incoming, upload: Arc<Upload>, stall: Duration) -> Self {
        Self::Streamed(Box::new(StreamedBody { body, upload, stall, timer: None }))
    }
}

/// How far a streamed request body has been read; shared with the call's record, because the upstream connection owns
/// the body while it sends it.
pub(crate) struct Upload {
    state: Mutex<UploadState>,
    bytes_max: u64,
}

struct UploadState {
    hash: Option<Sha256>,
    feed: Option<Feed>,
    bytes: u64,
    scan: Option<RequestScan>,
    error: Option<ReadError>,
}

impl Upload {
    /// `feed` is where the body is stored.
    pub(crate) fn new(
        hashes: bool,
        feed: Option<Feed>,
        scan: Option<RequestScan>,
        bytes_max: u64,
    ) -> Arc<Self> {
        let state = UploadState { hash: hashes.then(Sha256::new), feed, bytes: 0, scan, error: None };
        Arc::new(Self { state: Mutex::new(state), bytes_max })
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, UploadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, data: &Bytes) -> Result<(), ReadError> {
        let mut state = self.locked();
        state.bytes += data.len() as u64;
        if state.bytes > self.bytes_max {
            state.error = Some(ReadError::TooLarge);
            return Err(ReadError::TooLarge);
        }
        if let Some(hash) = &mut state.hash {
            hash.update(data);
        }
        if let Some(feed) = &state.feed {
            feed.push(data.clone());
        }
        if let Some(scan) = &mut state.scan {
            scan.push(data);
        }
        Ok(())
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.locked().feed.as_ref().map_or(Poll::Ready(()), |feed| feed.poll_room(cx))
    }

    fn fail(&self, error: ReadError) {
        self.locked().error.get_or_insert(error);
    }

    /// Why reading ended early, if it did.
    pub(crate) fn error(&self) -> Option<ReadError> {
        self.locked().error
    }

    /// What was read: hash, size and facts.
    pub(crate) fn take(&self) -> (Sha256, u64, Option<RequestFacts>) {
        let mut state = self.locked();
        state.feed = None;
        let facts = state.scan.as_mut().map(RequestScan::finish);
        (state.hash.take().unwrap_or_default(), state.bytes, facts)
    }
}

/// A request body that is read while it is sent.
pub(crate) struct StreamedBody {
    body: Incoming,
    upload: Arc<Upload>,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl StreamedBody {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        ready!(self.upload.poll_room(cx));
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.timer = None;
                if let Some(data) = frame.data_ref() {
                    self.upload.see(data)?;
                }
                if let Some(trailers) = frame.trailers_mut() {
                    headers::for_upstream_trailers(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(ReadError::Broken))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let stall = self.stall;
                let timer = self
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + stall)));
                ready!(timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(ReadError::Stalled)))
            }
        }
    }
}

use std::future::Future as _;

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Held(body) => Poll::Ready(body.next().map(Ok)),
            Self::Streamed(streamed) => match ready!(streamed.poll_next(cx)) {
                Some(Err(error)) => {
                    streamed.upload.fail(error);
                    Poll::Ready(Some(Err(Cut(error.reason()))))
                }
                Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Held(body) => body.is_end(),
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held(body) => body.size_hint(),
            Self::Streamed(streamed) => streamed.body.size_hint(),
        }
    }
}
