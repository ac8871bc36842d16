use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use estoppel_evidence::Reason;
use estoppel_journal::{Refused, Slot};
use estoppel_wire::dialect::Dialect;

use futures_util::future::Either;
use tower_layer::Layer;
use tower_service::Service;

use crate::call::{Admitted, Identified, InFlight};
use crate::respond::{Refusal, stamp};
use crate::serve::Shared;
use crate::stack::Answer;

/// Lets a call in when there is room for it and for its receipt.
///
/// Takes `Identified`, gives `Admitted`. Answers itself with 503 when too many calls are in flight, when the evidence
/// queue and its spill are full, when evidence cannot be written, and during shutdown: such calls leave no receipt,
/// reach no upstream and are counted. Inside `Identity`, outside everything that costs.
#[derive(Clone)]
pub(crate) struct AdmissionLayer {
    shared: Arc<Shared>,
}

impl AdmissionLayer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        Admission { inner, shared: self.shared.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Admission<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Admission<S> {
    fn admit(&self) -> Result<(Slot, InFlight), Reason> {
        if self.shared.draining.load(Ordering::Relaxed) {
            return Err(Reason::Shutdown);
        }
        let Some(in_flight) = InFlight::enter(&self.shared.in_flight, self.shared.server.in_flight_max)
        else {
            return Err(Reason::InFlightMax);
        };
        match self.shared.journal.admit() {
            Ok(slot) => Ok((slot, in_flight)),
            Err(Refused::Full { .. }) => Err(Reason::EvidenceFull),
            Err(Refused::Failed(reason)) => {
                tracing::debug!(cause = %reason, "evidence cannot be written");
                Err(Reason::EvidenceFailed)
            }
            Err(Refused::Closed) => Err(Reason::Shutdown),
        }
    }

    fn refuse(&self, identified: &Identified, reason: Reason) -> Answer {
        self.shared.metrics.refused(reason);
        let head = &identified.accepted.head;
        let dialect = Dialect::detect(head.method.as_str(), head.uri.path()).unwrap_or(Dialect::Json);
        let refusal = Refusal::new(reason);
        let body = refusal.body(dialect, Some(identified.accepted.call), None);
        let mut answer = refusal.answer(dialect, body);
        stamp(answer.headers_mut(), identified.accepted.call, None, None);
        answer
    }
}

impl<S> Service<Identified> for Admission<S>
where
    S: Service<Admitted, Response = Answer>,
{
    type Response = Answer;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Answer, S::Error>>>;

    /// Always ready: the kernel's backlog is where callers wait, see `Server::connections_max`.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, identified: Identified) -> Self::Future {
        match self.admit() {
            Ok((slot, in_flight)) => Either::Left(self.inner.call(Admitted { identified, slot, in_flight })),
            Err(reason) => Either::Right(ready(Ok(self.refuse(&identified, reason)))),
        }
    }
}
