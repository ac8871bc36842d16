//! What can be asked about servers and tools of MCP.

use clap::{Args, Subcommand};

use super::Daemon;

#[derive(Subcommand, Debug)]
pub enum McpCommand {
    /// What servers said first of their tools.
    #[command(subcommand)]
    Pins(PinsCommand),
    /// Serves an MCP server that speaks over standard input and output as streamable HTTP.
    Bridge(Bridge),
}

#[derive(Args, Debug)]
pub struct Bridge {
    /// Address to listen on; loopback only.
    #[arg(long, default_value = "127.0.0.1:9100")]
    pub listen: std::net::SocketAddr,
    /// Path of the endpoint.
    #[arg(long, default_value = "/mcp")]
    pub path: String,
    /// Name of an environment variable that the server gets beside the usual ones. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub env: Vec<String>,
    /// Most sessions at a time, each with a process of its own.
    #[arg(long, default_value_t = 16)]
    pub sessions_max: usize,
    /// The server and its arguments, after `--`; no shell is asked.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub enum PinsCommand {
    /// Lists the tools that are pinned, and definitions that were refused because they are others.
    List(Daemon),
    /// Takes a definition that was refused in the place of the pinned one; leaves a receipt.
    Accept {
        #[command(flatten)]
        tool: PinnedTool,
        /// Digest of the refused definition, as `list` shows it.
        #[arg(long)]
        definition: String,
    },
    /// Forgets a tool, so that what its server says next counts; leaves a receipt.
    Forget(PinnedTool),
}

/// A pinned tool.
#[derive(Args, Debug)]
pub struct PinnedTool {
    /// Name of the tool.
    pub tool: String,
    /// Route of its server.
    #[arg(long)]
    pub route: String,
    /// Path at which the server is asked.
    #[arg(long, default_value = "/mcp")]
    pub server: String,
    #[command(flatten)]
    pub daemon: Daemon,
}
