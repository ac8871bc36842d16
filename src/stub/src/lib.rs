//! A scripted upstream: exact bytes, exact chunking, any fault.
//!
//! Tests, benches, the quickstart and replay talk to it where a model, a tool server or an API would be.
//! What it answers is data ([`Script`]), the same for the same request: no randomness, no clock in any
//! answer, fixed ids. What it received is kept exactly ([`Hits`]), so that a test can say what an upstream
//! saw and how an answer ended there.
//!
//! HTTP/1.1 is written by hand over the socket, because chunk borders, write borders, wrong lengths and
//! resets must be ours to choose. HTTP/2 goes through hyper, where a piece of a body is a DATA frame.
//!
//! Reading order: `script` (what can be asked for), `plan` (the checked form), `answer` (bytes to send),
//! `send` (when and in which writes), `serve` (connections), `h2`, `stub` (starting and stopping), `hits`,
//! `model` (a small deterministic model that the official SDKs can talk to), `respond` (answers of other code, for replay).
//!
//! On purpose absent: HTTP/1.1 pipelining, upgrades, compression (send compressed bytes as `base64`), a
//! client that closes its sending side while it waits (it counts as gone, as with hyper), both protocols on
//! one port.

mod answer;
mod h2;
mod hits;
mod model;
mod path_body;
mod plan;
mod request;
mod respond;
mod script;
mod send;
mod serve;
mod sse;
mod stub;

pub use answer::filler;
pub use hits::{Hits, Outcome, Seen};
pub use plan::ScriptError;
pub use respond::{Asked, Respond};
pub use script::{
    Body, Delays, Dialect, Fault, Framing, HeaderMatch, Interim, LineEnd, ModelReply, PathBody, Remember,
    Reply, Rule, Script, Split, SseEvent, ToolCall, Writes,
};
pub use stub::{Listen, Protocol, StartError, Stub, serve_forever};
