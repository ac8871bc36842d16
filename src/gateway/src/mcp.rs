//! What the gateway knows of MCP servers beyond one call, and what it does for their clients.

pub(crate) mod agreement;
mod endpoint;
pub(crate) mod federation;
pub(crate) mod lists;
pub(crate) mod mirrored;
pub(crate) mod opening;
pub(crate) mod operators;
pub(crate) mod pin_file;
pub(crate) mod sessions;
pub(crate) mod streams;
