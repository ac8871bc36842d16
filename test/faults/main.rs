//! What an unlucky world does: kill -9 under load, a full disk, a folder that cannot be written.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../e2e/support.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests")]
mod support;

mod confined;
mod disk;
mod kill;
