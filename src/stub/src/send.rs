//! Sends one answer over HTTP/1.1: which bytes in which write, when, and how it ends.
//!
//! The whole answer is laid out as wire bytes with marks (ends of pieces, the place where it stops), then written in
//! the batches that the script asks for. While it pauses it watches whether the peer goes away.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::answer::{Answer, Batch, Gap, How, Stop, StopAt, WRITE_MAX, chunk_line};
use crate::hits::{Outcome, Progress};

/// What the connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    KeepOpen,
    Close,
    Reset,
}

/// A stream whose read side also says when the peer has gone.
pub(crate) trait Wire: AsyncReadExt + AsyncWriteExt + Unpin + Send {}

impl<T: AsyncReadExt + AsyncWriteExt + Unpin + Send> Wire for T {}

/// Sends the answer. `head_only` is the answer to HEAD. Bytes that the peer sends meanwhile go to `early`.
pub(crate) async fn send<S: Wire>(
    stream: &mut S,
    answer: &Answer,
    head_only: bool,
    early: &mut BytesMut,
    progress: &Progress,
) -> After {
    let sent = Sender { stream, early, progress }.run(answer, head_only).await;
    match sent {
        Ok(After::KeepOpen) => {
            progress.end(Outcome::Sent);
            if answer.close { After::Close } else { After::KeepOpen }
        }
        Ok(after) => {
            progress.end(Outcome::CutByScript);
            after
        }
        Err(Gone) => {
            progress.end(Outcome::PeerGone);
            After::Close
        }
    }
}

/// The peer closed or reset.
struct Gone;

struct Sender<'a, S> {
    stream: &'a mut S,
    early: &'a mut BytesMut,
    progress: &'a Progress,
}

impl<S: Wire> Sender<'_, S> {
    async fn run(&mut self, answer: &Answer, head_only: bool) -> Result<After, Gone> {
        if let Some(ready) = answer.ready.as_ref().filter(|_| !head_only) {
            self.write(ready).await?;
            return Ok(After::KeepOpen);
        }
        self.write(&answer.interim).await?;
        self.pause(answer.waits.before_head).await?;
        if let Some(Stop { at: StopAt::BeforeHead, how }) = answer.stop {
            return self.stop(how).await;
        }
        if head_only && !answer.raw {
            self.write(&answer.head).await?;
            return Ok(After::KeepOpen);
        }
        self.body(answer).await
    }

    async fn body(&mut self, answer: &Answer) -> Result<After, Gone> {
        let stop = answer.stop.and_then(|stop| match stop.at {
            StopAt::Body(bytes) => Some((bytes.min(answer.source.len()), stop.how)),
            StopAt::BeforeHead => None,
        });
        let mut batch = Batcher::new(answer);
        batch.put(self, &answer.head).await?;
        let head_apart = matches!(answer.batch, Batch::PerPiece { head_apart: true });
        if head_apart || !answer.waits.before_body.is_zero() {
            batch.flush(self).await?;
            self.pause(answer.waits.before_body).await?;
        }
        let len = answer.source.len();
        let mut position = 0;
        while position < len && stop.is_none_or(|(at, _)| position < at) {
            let end = answer.cuts.next_end(position, len);
            if answer.chunked {
                batch.put(self, chunk_line(end - position).as_bytes()).await?;
            }
            let until = stop.map_or(end, |(at, _)| at.min(end));
            while position < until {
                let slice = answer.source.slice(position, until);
                position += slice.len() as u64;
                batch.put(self, &slice).await?;
            }
            if answer.chunked && position == end {
                batch.put(self, b"\r\n").await?;
            }
            if position < len || stop.is_some() {
                batch.piece(self).await?;
            }
        }
        if let Some((_, how)) = stop {
            batch.flush(self).await?;
            return self.stop(how).await;
        }
        batch.put(self, &answer.tail).await?;
        batch.flush(self).await?;
        Ok(After::KeepOpen)
    }

    async fn stop(&mut self, how: How) -> Result<After, Gone> {
        match how {
            How::Reset => Ok(After::Reset),
            How::Fin => Ok(After::Close),
            How::Stall => loop {
                self.pause(Duration::from_secs(3600)).await?;
            },
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.stream.write_all(bytes).await.map_err(|_| Gone)?;
        self.stream.flush().await.map_err(|_| Gone)?;
        self.progress.sent(bytes.len());
        Ok(())
    }

    /// Waits, unless the peer goes away first.
    async fn pause(&mut self, time: Duration) -> Result<(), Gone> {
        if time.is_zero() {
            return Ok(());
        }
        let until = Instant::now() + time;
        loop {
            let read = tokio::time::timeout_at(until, self.stream.read_buf(self.early));
            match read.await {
                Err(_) => return Ok(()),
                Ok(Ok(0) | Err(_)) => return Err(Gone),
                Ok(Ok(_)) => {}
            }
        }
    }
}

/// Gathers bytes into the writes that the script asks for.
struct Batcher<'a> {
    answer: &'a Answer,
    buffer: BytesMut,
    /// Bytes of the answer before `buffer`.
    written: u64,
    writes: u32,
    first: Option<Instant>,
}

impl<'a> Batcher<'a> {
    fn new(answer: &'a Answer) -> Self {
        Self { answer, buffer: BytesMut::new(), written: 0, writes: 0, first: None }
    }

    async fn put<S: Wire>(&mut self, sender: &mut Sender<'_, S>, bytes: &[u8]) -> Result<(), Gone> {
        self.buffer.extend_from_slice(bytes);
        if let Batch::Wire(cuts) = &self.answer.batch {
            loop {
                let end = cuts.next_end(self.written, u64::MAX);
                let Some(size) =
                    usize::try_from(end - self.written).ok().filter(|size| *size <= self.buffer.len())
                else {
                    break;
                };
                let part = self.buffer.split_to(size.clamp(1, WRITE_MAX)).freeze();
                self.give(sender, part).await?;
            }
        }
        while self.buffer.len() >= WRITE_MAX {
            let part = self.buffer.split_to(WRITE_MAX).freeze();
            self.give(sender, part).await?;
        }
        Ok(())
    }

    /// A piece has ended.
    async fn piece<S: Wire>(&mut self, sender: &mut Sender<'_, S>) -> Result<(), Gone> {
        match self.answer.batch {
            Batch::PerPiece { .. } => self.flush(sender).await,
            Batch::Joined | Batch::Wire(_) => Ok(()),
        }
    }

    async fn flush<S: Wire>(&mut self, sender: &mut Sender<'_, S>) -> Result<(), Gone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let part = self.buffer.split().freeze();
        self.give(sender, part).await
    }

    async fn give<S: Wire>(&mut self, sender: &mut Sender<'_, S>, part: Bytes) -> Result<(), Gone> {
        if self.writes > 0 {
            let wait = match self.answer.waits.gap {
                Gap::None => Duration::ZERO,
                Gap::Pause(pause) => pause,
                Gap::Every(every) => {
                    let due = self.first.unwrap_or_else(Instant::now) + every * self.writes;
                    due.saturating_duration_since(Instant::now())
                }
            };
            sender.pause(wait).await?;
        }
        self.first.get_or_insert_with(Instant::now);
        self.writes += 1;
        self.written += part.len() as u64;
        sender.write(&part).await
    }
}
