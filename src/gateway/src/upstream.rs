//! Connections to upstreams: a small keyed pool over hyper's connection API.
//!
//! An HTTP/1.1 connection has no task of its own: whoever uses it drives it, first here until the response head is
//! there, then in [`Relay`] as the body is polled. So a burst of small chunks is read in one go, nothing wakes anything
//! else, and dropping a call closes its connection. HTTP/2 connections are shared by as many calls as the upstream allows
//! on one, and have one task each, per connection and not per call.

mod connect;
mod pool;
mod relay;
mod shared;
mod stream;

pub(crate) use connect::{ConnectError, Target};
pub(crate) use pool::{Answered, Pool, SendError};
pub(crate) use relay::Relay;
