//! The real programs, end to end. One binary for all, because linking is dear.
//!
//! - `support`: a daemon with its journal in a scratch folder, and a scripted upstream.
//! - `calls`: what goes through, byte for byte, and what its receipt says.
//! - `chunking`: cutting the same bytes anywhere changes nothing.
//! - `broken`: upstreams and clients that misbehave.
//! - `starting`: bad configuration, keys, ports, folders; reload; shutdown.
//! - `command_line`: the sidecar's own words.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod broken;
mod calls;
mod chunking;
mod command_line;
mod starting;
mod support;
