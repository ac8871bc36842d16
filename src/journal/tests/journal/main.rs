//! The journal from outside: what is acknowledged is there, what is there is right, and no failure changes that.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test that cannot go on fails; not every test needs every tool"
)]

mod begin;
mod deleted;
mod disk;
mod faults;
mod follow;
mod kit;
mod recover;
mod rotate;
mod runs;
mod seal;
mod spill;
mod write;
