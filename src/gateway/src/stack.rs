//! The one list of layers, in the order in which a call meets them.

use std::convert::Infallible;
use std::sync::Arc;

use http::Response;
use tower::ServiceBuilder;
use tower_service::Service;

use crate::body::AnswerBody;
use crate::call::Accepted;
use crate::layer::{AdmissionLayer, AuthenticationLayer, FirewallLayer, Forward, IdentityLayer, RouteLayer};
use crate::serve::Shared;

/// What a client gets.
pub(crate) type Answer = Response<AnswerBody>;

/// The data plane's stack. Reading order is the order of a call.
pub(crate) fn stack(
    shared: &Arc<Shared>,
) -> impl Service<Accepted, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + 'static {
    ServiceBuilder::new()
        // First whose connection it is, because every later refusal is recorded under that name.
        .layer(IdentityLayer)
        // Then room: nothing below runs for a call whose receipt could not be kept.
        .layer(AdmissionLayer::new(shared.clone()))
        // Then which route, run and policy; from here on every way out leaves a receipt.
        .layer(RouteLayer::new(shared.clone()))
        // Then who calls, by what the request brings: routes say what they need of that, and rules go by it.
        .layer(AuthenticationLayer)
        // Then the verdict: nothing reaches the upstream before it.
        .layer(FirewallLayer)
        // Last the upstream, and its answer on the way back.
        .service(Forward)
}
