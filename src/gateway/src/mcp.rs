//! What the gateway knows of MCP servers beyond one call.

pub(crate) mod sessions;
