//! Answers that are read on after their client left (`disconnect: drain`), so that the receipt covers what the upstream
//! sent. One task holds them all, at most `server.drains_max`; it ends with the gateway.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{AnswerBody, Screened, Step};
use crate::stack::Answer;

type Pending = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What is left of a call whose client left.
pub(crate) enum Remains {
    /// Its answer has not begun.
    Pending(Pending),
    Body(Box<Screened>),
}

struct Drain {
    remains: Remains,
    until: Instant,
    // INVARIANT: the last field, so that a place is free only once the record has been handed over.
    _place: OwnedSemaphorePermit,
}

/// Where such calls go.
pub(crate) struct Drains {
    places: Arc<Semaphore>,
    max: usize,
    queue: mpsc::Sender<Drain>,
}

impl Drains {
    pub(crate) fn new(max: usize) -> (Self, DrainQueue) {
        let max = max.min(Semaphore::MAX_PERMITS);
        let (queue, drains) = mpsc::channel(max.max(1));
        (Self { places: Arc::new(Semaphore::new(max)), max, queue }, DrainQueue(drains))
    }

    /// Reads on for `time`. Without a free place `remains` is dropped, which ends the call.
    pub(crate) fn take(&self, remains: Remains, time: Duration) {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            // Fails only when the gateway has ended; a place in the queue goes with each permit.
            let _ = self.queue.try_send(Drain { remains, until: Instant::now() + time, _place: place });
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.max - self.places.available_permits()
    }

    /// Returns when nothing is read on.
    pub(crate) async fn ended(&self) {
        let all = u32::try_from(self.max).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await; // Never closed.
    }
}

pub(crate) struct DrainQueue(mpsc::Receiver<Drain>);

impl DrainQueue {
    /// Reads on what comes until `cut`; what is left then is dropped.
    pub(crate) async fn run(mut self, cut: impl Future<Output = ()>) {
        let mut drains = JoinSet::new();
        let mut cut = std::pin::pin!(cut);
        loop {
            tokio::select! {
                () = &mut cut => break,
                Some(_) = drains.join_next() => {}
                drain = self.0.recv() => match drain {
                    Some(drain) => drop(drains.spawn(read_on(drain))),
                    None => break,
                },
            }
        }
        drains.shutdown().await;
    }
}

async fn read_on(drain: Drain) {
    let Drain { remains, until, _place } = drain;
    let mut screened = match remains {
        Remains::Body(screened) => screened,
        Remains::Pending(answer) => match timeout_at(until, answer).await.map(Answer::into_body) {
            Ok(AnswerBody::Screened(mut body)) => match body.take_unrecorded() {
                Some(screened) => screened,
                None => return,
            },
            Ok(AnswerBody::Whole(_)) | Err(_) => return,
        },
    };
    loop {
        match timeout_at(until, poll_fn(|cx| screened.poll_step(cx))).await {
            Ok(Step::Data(data)) => screened.exchange().leaves(&data),
            Ok(Step::End { tail, ack, .. }) => {
                let taken = screened.exchange().taken.take();
                if let (Some(taken), Some(ack)) = (taken, ack)
                    && matches!(timeout_at(until, ack).await, Ok(Ok(_)))
                {
                    taken.store(&tail);
                }
                return;
            }
            Ok(Step::Cut(_) | Step::Judge) | Err(_) => return,
        }
    }
}

/// An answer in the making. When it is dropped before it is there, its client has left, and it is read on.
pub(crate) struct Followed {
    pending: Option<Pending>,
    left: Arc<AtomicBool>,
    shared: Arc<crate::serve::Shared>,
    time: Duration,
}

impl Followed {
    /// `left` tells `pending` that its client has left.
    pub(crate) fn new(
        pending: Pending,
        left: Arc<AtomicBool>,
        shared: Arc<crate::serve::Shared>,
        time: Duration,
    ) -> Self {
        Self { pending: Some(pending), left, shared, time }
    }
}

impl Future for Followed {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(pending) = &mut self.pending else { return Poll::Pending };
        let answer = std::task::ready!(pending.as_mut().poll(cx));
        self.pending = None;
        Poll::Ready(answer)
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take()
            && !self.shared.cutting.load(Ordering::Relaxed)
        {
            self.left.store(true, Ordering::Relaxed);
            self.shared.drains.take(Remains::Pending(pending), self.time);
        }
    }
}
