//! What the writer is asked besides writing records, and answers that are waited for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use estoppel_evidence::entry::{Event, SealReason};
use estoppel_evidence::{KeyId, Reason, RunId, Sha256, Signer, Use};

use crate::admit::{AckError, Acknowledge};
use crate::keys::RotateError;
use crate::run::{Run, RunHandle};
use crate::seal::{SealError, SealedRun};

/// A request to the writer.
pub(crate) enum Control {
    Seal {
        run: Arc<Run>,
        reason: SealReason,
        answer: Answer<Result<SealedRun, SealError>>,
    },
    Export {
        run: RunId,
        /// Not where a bundle is there.
        only_missing: bool,
        answer: Answer<Result<SealedRun, SealError>>,
    },
    Rotate {
        use_: Use,
        new: Arc<dyn Signer>,
        answer: Answer<Result<Rotated, RotateError>>,
    },
    PolicyLoaded {
        policy: Option<Sha256>,
        refused: Option<Reason>,
    },
    /// An event of a run, or of the instance.
    Note {
        run: Option<RunHandle>,
        event: Box<Event>,
        ack: Acknowledge,
    },
    /// Answered when everything pushed before is durable and covered by a published checkpoint.
    Checkpoint {
        answer: Answer<Result<u64, AckError>>,
    },
}

impl Control {
    pub fn refuse(self, error: AckError) {
        match self {
            Self::Seal { answer, .. } | Self::Export { answer, .. } => {
                answer.give(Err(SealError::Journal(error)))
            }
            Self::Rotate { answer, .. } => answer.give(Err(RotateError::Journal(error))),
            Self::Checkpoint { answer } => answer.give(Err(error)),
            Self::Note { ack, .. } => ack.give(Err(error)),
            Self::PolicyLoaded { .. } => {}
        }
    }
}

/// What a rotation changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotated {
    pub use_: Use,
    pub old: KeyId,
    pub new: KeyId,
    /// Runs that got a `key.rotate` entry.
    pub runs: usize,
}

/// An answer that comes later: a future, or waited for with [`Pending::wait`].
#[derive(Debug)]
#[must_use = "the answer says whether it was done"]
pub struct Pending<T>(Result<oneshot::Receiver<T>, Option<T>>);

/// The answering side of a [`Pending`].
#[derive(Debug)]
pub(crate) struct Answer<T>(oneshot::Sender<T>);

/// What becomes of an answer that can no longer come.
pub trait Lost {
    /// The answer that is given instead.
    fn lost() -> Self;
}

impl<T> Pending<T> {
    pub(crate) fn channel() -> (Answer<T>, Self) {
        let (sender, receiver) = oneshot::channel();
        (Answer(sender), Self(Ok(receiver)))
    }

    /// An answer that is known already.
    pub(crate) fn ready(answer: T) -> Self {
        Self(Err(Some(answer)))
    }
}

impl<T: Lost> Pending<T> {
    /// Waits on this thread. Not for use inside a runtime.
    pub fn wait(self) -> T {
        match self.0 {
            Ok(receiver) => receiver.blocking_recv().unwrap_or_else(|_| T::lost()),
            Err(answer) => answer.unwrap_or_else(T::lost),
        }
    }
}

impl<T: Lost + Unpin> Future for Pending<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            Ok(receiver) => Pin::new(receiver).poll(cx).map(|answer| answer.unwrap_or_else(|_| T::lost())),
            Err(answer) => Poll::Ready(answer.take().unwrap_or_else(T::lost)),
        }
    }
}

impl<T> Answer<T> {
    pub fn give(self, answer: T) {
        drop(self.0.send(answer)); // whoever asked may have left
    }
}

impl<T> Lost for Result<T, SealError> {
    fn lost() -> Self {
        Err(SealError::Journal(AckError::Failed))
    }
}

impl<T> Lost for Result<T, RotateError> {
    fn lost() -> Self {
        Err(RotateError::Journal(AckError::Failed))
    }
}

impl<T> Lost for Result<T, AckError> {
    fn lost() -> Self {
        Err(AckError::Failed)
    }
}
