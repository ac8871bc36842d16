//! The layers of `stack.rs`, one file each.

mod admission;
mod authentication;
mod firewall;
pub(crate) mod forward;
mod identity;
mod route;

pub(crate) use admission::AdmissionLayer;
pub(crate) use authentication::AuthenticationLayer;
pub(crate) use firewall::FirewallLayer;
pub(crate) use forward::Forward;
pub(crate) use identity::IdentityLayer;
pub(crate) use route::RouteLayer;

use std::future::Future;
use std::pin::Pin;

use crate::stack::Answer;

/// A layer's future where it has to wait for bytes.
pub(crate) type Waiting = Pin<Box<dyn Future<Output = Result<Answer, std::convert::Infallible>> + Send>>;
