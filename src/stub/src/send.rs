//! Puts an answer on an HTTP/1.1 connection: in the writes it asks for, with its pauses, up to what ends it.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};

use crate::answer::{Answer, Batch, Gap, How, StopAt, WRITE_MAX, chunk_line};
use crate::hits::Progress;

/// Most bytes of a next request that are taken in while an answer is being sent.
const INBOX_MAX: usize = 64 * 1024;

/// Why an answer was not sent to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broke {
    PeerGone,
    /// By the script. Never `Stall`: that one ends when the peer goes.
    Script(How),
}

/// The sending side of a connection, for one answer.
pub(crate) struct Sender<'a, S> {
    pub stream: &'a mut S,
    /// What the peer sends meanwhile.
    pub inbox: &'a mut BytesMut,
    /// Bytes of the write that is being put together.
    pub held: &'a mut BytesMut,
    pub progress: &'a Progress,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<'_, S> {
    /// Sends it all, or stops where the script or the peer says so. `bodyless` is for answers to HEAD.
    pub async fn send(mut self, answer: &Answer, bodyless: bool) -> Result<(), Broke> {
        if let Some(ready) = answer.ready.as_ref().filter(|_| !bodyless) {
            return self.write(ready).await;
        }
        if !answer.interim.is_empty() {
            self.write(&answer.interim).await?;
        }
        self.pause(answer.waits.before_head).await?;
        if let Some(stop) = answer.stop.filter(|stop| stop.at == StopAt::BeforeHead) {
            return self.stop(stop.how).await;
        }
        self.held.clear();
        let (batch, gap) = (&answer.batch, answer.waits.gap);
        let mut run = Run { sender: self, batch, gap, first: None, writes: 0, at: 0 };
        run.send(answer, bodyless).await
    }

    /// One write, or as many as the socket makes of it.
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Broke> {
        while !bytes.is_empty() {
            match self.stream.write(bytes).await {
                Ok(0) | Err(_) => return Err(Broke::PeerGone),
                Ok(count) => {
                    self.progress.sent(count);
                    bytes = &bytes[count..];
                }
            }
        }
        self.stream.flush().await.map_err(|_| Broke::PeerGone)
    }

    async fn stop(&mut self, how: How) -> Result<(), Broke> {
        if how == How::Stall {
            loop {
                self.listen().await?;
            }
        }
        Err(Broke::Script(how))
    }

    async fn pause(&mut self, time: Duration) -> Result<(), Broke> {
        if time.is_zero() { Ok(()) } else { self.pause_until(Instant::now() + time).await }
    }

    /// Waits, and notices a peer that goes away meanwhile.
    async fn pause_until(&mut self, due: Instant) -> Result<(), Broke> {
        loop {
            tokio::select! {
                biased;
                () = sleep_until(due) => return Ok(()),
                heard = self.listen() => heard?,
            }
        }
    }

    /// Takes in what the peer sends; fails when it has gone.
    async fn listen(&mut self) -> Result<(), Broke> {
        if self.inbox.len() >= INBOX_MAX {
            return std::future::pending().await; // A peer that says so much more is not looked at now.
        }
        self.inbox.reserve(1024);
        match self.stream.read_buf(self.inbox).await {
            Ok(0) | Err(_) => Err(Broke::PeerGone),
            Ok(_) => Ok(()),
        }
    }
}

/// One run through head, pieces and end.
struct Run<'a, S> {
    sender: Sender<'a, S>,
    batch: &'a Batch,
    gap: Gap,
    /// When the first write was made.
    first: Option<Instant>,
    writes: u32,
    /// How many bytes of the answer, without interim heads, were put into writes so far.
    at: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Run<'_, S> {
    async fn send(&mut self, answer: &Answer, bodyless: bool) -> Result<(), Broke> {
        self.put(&answer.head).await?;
        if !answer.waits.before_body.is_zero() {
            self.flush().await?;
            self.sender.pause(answer.waits.before_body).await?;
            (self.first, self.writes) = (None, 0); // The pace of the body starts with the body.
        } else if matches!(self.batch, Batch::PerPiece { head_apart: true }) {
            self.flush().await?;
        }
        if !bodyless || answer.raw {
            self.send_body(answer).await?;
        }
        self.flush().await
    }

    async fn send_body(&mut self, answer: &Answer) -> Result<(), Broke> {
        let len = answer.source.len();
        let stop = answer.stop_in_body();
        let limit = stop.map_or(len, |(after, _)| after);
        let mut position = 0;
        while position < limit {
            let end = answer.cuts.next_end(position, len);
            if position > 0 {
                self.end_piece().await?;
            }
            self.send_piece(answer, position, end, limit).await?;
            position = end;
        }
        if let Some((_, how)) = stop {
            self.flush().await?;
            return self.sender.stop(how).await;
        }
        self.put(&answer.tail).await
    }

    /// One piece, or its beginning when `limit` lies in it.
    async fn send_piece(&mut self, answer: &Answer, from: u64, end: u64, limit: u64) -> Result<(), Broke> {
        if answer.chunked {
            self.put(chunk_line(end - from).as_bytes()).await?;
        }
        let mut position = from;
        while position < end.min(limit) {
            let slice = answer.source.slice(position, end.min(limit));
            position += slice.len() as u64;
            self.put(&slice).await?;
        }
        if answer.chunked && position == end {
            self.put(b"\r\n").await?;
        }
        Ok(())
    }

    /// Adds bytes to the write that is being put together; writes are made as they become whole.
    async fn put(&mut self, mut bytes: &[u8]) -> Result<(), Broke> {
        while !bytes.is_empty() {
            let room = self.room();
            let count = bytes.len().min(room);
            self.sender.held.extend_from_slice(&bytes[..count]);
            self.at += count as u64;
            bytes = &bytes[count..];
            if count == room {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// How many bytes still go into this write; never 0, because `put` flushes what is full.
    fn room(&self) -> usize {
        let full = WRITE_MAX - self.sender.held.len();
        match self.batch {
            Batch::PerPiece { .. } | Batch::Joined => full,
            Batch::Wire(cuts) => {
                let to_cut = cuts.next_end(self.at, u64::MAX) - self.at;
                usize::try_from(to_cut).unwrap_or(usize::MAX).min(full)
            }
        }
    }

    async fn end_piece(&mut self) -> Result<(), Broke> {
        match self.batch {
            Batch::PerPiece { .. } => self.flush().await,
            Batch::Joined | Batch::Wire(_) => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), Broke> {
        if self.sender.held.is_empty() {
            return Ok(());
        }
        if let Some(first) = self.first {
            match self.gap {
                Gap::None => {}
                Gap::Pause(time) => self.sender.pause(time).await?,
                Gap::Every(every) => self.catch_up(first + every.saturating_mul(self.writes)).await?,
            }
        }
        self.first.get_or_insert_with(Instant::now);
        self.writes = self.writes.saturating_add(1);
        let mut held = std::mem::take(self.sender.held);
        let written = self.sender.write(&held).await;
        held.clear();
        *self.sender.held = held; // Its memory serves the next write.
        written
    }

    /// Waits unless the write is due already: a late writer does not get later and later.
    async fn catch_up(&mut self, due: Instant) -> Result<(), Broke> {
        if due <= Instant::now() { Ok(()) } else { self.sender.pause_until(due).await }
    }
}

#[cfg(test)]
mod tests;
