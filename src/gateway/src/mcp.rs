//! What the gateway knows of MCP servers beyond one call, and what it does for their clients.

pub(crate) mod agreement;
pub(crate) mod lists;
pub(crate) mod operators;
pub(crate) mod pin_file;
pub(crate) mod sessions;
