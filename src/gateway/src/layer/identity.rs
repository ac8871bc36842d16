use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::call::{Accepted, Identified};

/// Says who calls, as far as the connection proves it.
///
/// Takes `Accepted`, gives `Identified`. Never answers itself: whether an identity is needed is the route's to say.
/// Outside everything else, because every record names the caller.
#[derive(Clone, Copy)]
pub(crate) struct IdentityLayer;

impl<S> Layer<S> for IdentityLayer {
    type Service = Identity<S>;

    fn layer(&self, inner: S) -> Identity<S> {
        Identity { inner }
    }
}

#[derive(Clone)]
pub(crate) struct Identity<S> {
    inner: S,
}

impl<S: Service<Identified>> Service<Accepted> for Identity<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, accepted: Accepted) -> Self::Future {
        let identity = accepted.peer.identity.clone();
        self.inner.call(Identified { accepted, identity })
    }
}
