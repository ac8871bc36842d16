//! The acknowledgement that a record is durable.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use estoppel_evidence::{Leaf, Reason};
use tokio::sync::oneshot;

/// The record will not become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("evidence cannot be written: {0}")]
pub struct AckError(pub Reason);

/// Resolves once the record is durable. Dropping it changes nothing about the record.
#[derive(Debug)]
pub struct Ack(oneshot::Receiver<Result<Recorded, AckError>>);

pub(crate) type AckSender = oneshot::Sender<Result<Recorded, AckError>>;

/// Where a record is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// In the journal, under this entry hash.
    Journal(Leaf),
}

impl Recorded {
    /// The entry's hash, once it has its place in the chain.
    pub fn leaf(self) -> Option<Leaf> {
        match self {
            Self::Journal(leaf) => Some(leaf),
        }
    }
}

impl AckError {
    /// The stable code.
    pub fn reason(self) -> Reason {
        self.0
    }
}

impl Ack {
    pub(crate) fn pair() -> (AckSender, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// Waits on the calling thread. Must not be called on a runtime's thread.
    ///
    /// # Errors
    /// [`AckError`] when the journal failed.
    pub fn wait(self) -> Result<Recorded, AckError> {
        self.0.blocking_recv().unwrap_or(Err(AckError(Reason::EvidenceFailed)))
    }
}

impl Future for Ack {
    type Output = Result<Recorded, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or(Err(AckError(Reason::EvidenceFailed))))
    }
}
