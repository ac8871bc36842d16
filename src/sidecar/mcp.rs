//! `estoppel mcp …`.

use std::process::ExitCode;

use estoppel_gateway::bridge;
use serde_json::{Value, json};

use crate::admin::{ask, encoded};
use crate::arguments::{Bridge, McpCommand, PinnedTool, PinsCommand};
use crate::output::{Failure, Output, plain};

pub fn run(output: &Output, command: &McpCommand) -> Result<ExitCode, Failure> {
    let command = match command {
        McpCommand::Bridge(asked) => return bridge(output, asked),
        McpCommand::Pins(command) => command,
    };
    match command {
        PinsCommand::List(daemon) => list(*output, &daemon.admin),
        PinsCommand::Accept { tool, definition } => {
            say(*output, "accept", tool, &format!("&definition={}", encoded(definition)))
        }
        PinsCommand::Forget(tool) => say(*output, "forget", tool, ""),
    }
}

fn bridge(output: &Output, asked: &Bridge) -> Result<ExitCode, Failure> {
    if !asked.listen.ip().is_loopback() {
        let message = format!("--listen: the bridge listens on loopback only, not on `{}`", asked.listen);
        return Err(Failure::input("ARGUMENT_INVALID", message));
    }
    let settings = bridge::Settings {
        listen: asked.listen,
        path: asked.path.clone(),
        command: bridge::Command { argv: asked.command.clone(), environment: asked.env.clone() },
        sessions_max: asked.sessions_max.max(1),
    };
    let listening = |address| {
        output.note(&format!("bridge on http://{address} at {}", asked.path));
        output.data(&json!({ "listening": format!("http://{address}{}", asked.path) }));
    };
    bridge::run(settings, listening)
        .map_err(|error| Failure::runtime("LISTEN_FAILED", format!("{}: {error}", asked.listen)))?;
    Ok(ExitCode::SUCCESS)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn list(output: Output, admin: &str) -> Result<ExitCode, Failure> {
    let pins = ask(admin, "GET", "/mcp/pins")?["pins"].clone();
    let pins = pins.as_array().cloned().unwrap_or_default();
    for pin in &pins {
        let [route, server, tool, definition] =
            ["route", "server", "tool", "definition"].map(|key| text(&pin[key]));
        output.line(&plain(&format!("{route:<12} {server:<12} {tool:<24} {definition}")));
        if let Some(offered) = pin["offered"].as_str() {
            output.line(&plain(&format!("{:<50} refused {offered}", "")));
        }
    }
    Ok(output.data(&json!({ "pins": pins })))
}

fn say(output: Output, word: &str, tool: &PinnedTool, more: &str) -> Result<ExitCode, Failure> {
    let PinnedTool { tool, route, server, daemon } = tool;
    let [tool, route, server] = [tool, route, server].map(|text| encoded(text));
    let path = format!("/mcp/pins/{word}?route={route}&server={server}&tool={tool}{more}");
    let done = ask(&daemon.admin, "POST", &path)?;
    output.line(&plain(&format!("done; receipt {}", text(&done["receipt"]))));
    Ok(output.data(&done))
}
