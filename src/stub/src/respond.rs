//! Answers that are made for each request by other code, in the place of a script.

use std::fmt;

use bytes::Bytes;

use crate::script::Reply;

/// A request, as far as an answer can depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub method: &'a str,
    /// Path and query, as sent.
    pub target: &'a str,
    /// Without its framing.
    pub body: &'a Bytes,
}

/// Makes the answer to a request. It is asked once for each, in the order in which they became whole; what contradicts
/// itself is sent as a 500 that says so.
pub trait Respond: Send + Sync + fmt::Debug {
    fn respond(&self, asked: &Asked<'_>) -> Reply;
}
