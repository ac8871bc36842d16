//! Test harness: what every test of this repository may lean on.
//!
//! - [`every_split`]: the same bytes cut in every way that matters, for push parsers.
//! - [`Scratch`]: a folder that goes away, unless the test failed.
//! - [`Process`]: a real program, its output in files, its end under control.
//! - [`Terminal`]: a real program on a terminal of its own.
//! - [`PostgresServer`], [`PgBouncer`], [`RedisServer`], [`SeaweedServer`]: real ones that can be killed.
//! - [`http`]: a blocking HTTP/1.1 peer that shows exact bytes; it shares no code with what it tests.
//! - [`Collector`]: a collector of logs that answers as a test wants.
//! - [`fuzz`]: fuzz targets as plain functions.
//! - [`require_real`]: a missing tool skips loudly, and fails where `REQUIRE_REAL=1`.
//! - [`until`]: waiting without fixed sleeps; [`Seeded`]: chance that can be run again.
//!
//! Everything here may panic: a harness that cannot do its work must stop the test with a clear text.
//! There is no "find a free port": programs bind port 0 and print where they listen ([`address_after`]),
//! have a socket in a folder, or an address of this machine for themselves.

mod collector;
pub mod fuzz;
pub mod http;
mod pgbouncer;
mod poll;
mod postgres;
mod process;
mod redis;
mod require;
mod scratch;
mod seaweed;
mod seeded;
mod split;
mod terminal;

pub use collector::{Collector, Delivered, Reaction};
pub use pgbouncer::PgBouncer;
pub use poll::until;
pub use postgres::{LockedTable, PostgresServer};
pub use process::{Exit, Process, address_after};
pub use redis::RedisServer;
pub use require::{require_real, require_real_with};
pub use rusty_s3::Method;
pub use scratch::Scratch;
pub use seaweed::SeaweedServer;
pub use seeded::{Seeded, seed};
pub use split::every_split;
pub use terminal::Terminal;
