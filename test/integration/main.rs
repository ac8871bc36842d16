//! Parts joined two or three at a time, each module a question of its own: `cargo test --test integration <module>`.
//!
//! - `gateway_validator`: what the gateway refuses before an upstream sees it, and says of what it did not look at.
//! - `canonical_merkle_parity`: the writer's canonical bytes and tree roots are those of the Python verifier.
//! - `schema_matrix`: each document of a live run is valid by its own schema and by no other.
//! - `externalization_roundtrip`: a body over 25 MiB is beside the bundle, named by its digest.
//! - `recorder_flow`: a call's way from the journal through a crash into a bundle.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../e2e/support.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests")]
mod support;

mod canonical_merkle_parity;
mod externalization_roundtrip;
mod gateway_validator;
mod recorder_flow;
mod schema_matrix;
