use std::convert::Infallible;
use std::task::{Context, Poll};

use estoppel_evidence::Reason;
use estoppel_evidence::entry::IdentityKind;
use futures_util::future::Either;
use tower_layer::Layer;
use tower_service::Service;

use super::Waiting;
use crate::call::{Authenticated, Routed};
use crate::exchange::Exchange;
use crate::identity::{Caller, Presented, Unproven};
use crate::layer::forward::refused;
use crate::respond::Refusal;
use crate::stack::Answer;

/// Says who calls, by what the request brings, or else by its connection.
///
/// Takes `Routed`, gives `Authenticated`. Answers itself when a credential is no good, when the route needs an identity or a scope
/// that the caller does not have, and then what `Route` had to refuse to known callers only. Inside `Route` (a refusal leaves a
/// receipt, and routes say what they need), outside `Firewall` (rules go by who calls). Waits only for the keys of an issuer.
#[derive(Clone, Copy)]
pub(crate) struct AuthenticationLayer;

impl<S> Layer<S> for AuthenticationLayer {
    type Service = Authentication<S>;

    fn layer(&self, inner: S) -> Authentication<S> {
        Authentication { inner }
    }
}

#[derive(Clone)]
pub(crate) struct Authentication<S> {
    inner: S,
}

impl<S> Service<Routed> for Authentication<S>
where
    S: Service<Authenticated, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Either<S::Future, Waiting>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        let callers = routed.exchange.snapshot.callers.clone();
        let presented = match routed.route.reads_credentials {
            true => callers.presented(&routed.head.headers),
            false => Presented::Nothing { foreign: false },
        };
        if let Presented::Nothing { foreign } = presented {
            let caller = callers.by_certificate(&routed.exchange.record.identity);
            return match admit(routed, caller, foreign) {
                Ok(authenticated) => Either::Left(self.inner.call(authenticated)),
                Err((exchange, refusal)) => {
                    Either::Right(Box::pin(async move { Ok(refused(exchange, *refusal).await) }))
                }
            };
        }
        let mut inner = self.inner.clone();
        Either::Right(Box::pin(async move {
            let now_us = routed.exchange.shared.clock.unix_us();
            let caller = callers.prove(&presented, &routed.exchange.record.identity, now_us).await;
            match admit(routed, caller, false) {
                Ok(authenticated) => {
                    std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
                    inner.call(authenticated).await
                }
                Err((exchange, refusal)) => Ok(refused(exchange, *refusal).await),
            }
        }))
    }
}

/// Writes down who calls, and whether they may go on. `foreign`: there is a token of somebody else's.
fn admit(
    routed: Routed,
    caller: Result<Caller, Unproven>,
    foreign: bool,
) -> Result<Authenticated, (Box<Exchange>, Box<Refusal>)> {
    let Routed { mut exchange, head, body, route, unlisted } = routed;
    let refusal = match caller {
        Err(Unproven { reason, caller }) => {
            caller.into_iter().for_each(|caller| exchange.called_by(*caller));
            Some(Refusal::new(reason))
        }
        Ok(caller) => {
            let proven = caller.identity.kind != IdentityKind::None;
            let has = |scope: &String| caller.scopes.iter().any(|own| **own == **scope);
            let in_scope = route.scopes.iter().all(has);
            let needed = route.identity_required || !route.scopes.is_empty();
            exchange.called_by(caller);
            exchange.find_stream(&head);
            if needed && !proven {
                let credentials = exchange.snapshot.callers.takes_credentials();
                let is_bad = foreign && credentials;
                Some(Refusal::new(if is_bad { Reason::TokenInvalid } else { Reason::IdentityRequired }))
            } else if !in_scope {
                Some(Refusal::new(Reason::ScopeMissing))
            } else {
                unlisted
            }
        }
    };
    match refusal {
        None => Ok(Authenticated { exchange, head, body, route }),
        Some(refusal) => Err((exchange, Box::new(refusal))),
    }
}
