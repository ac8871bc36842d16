//! Each adapter from recorded wire bytes: captured as it came, and blocked before it leaves.
//!
//! `wire/<name>.request.json` and `wire/<name>.answer.{json,sse}` are what a client and the scripted model, an MCP server
//! and a plain JSON tool said to each other.

use std::path::{Path, PathBuf};

use estoppel_kit::http::Request;
use estoppel_stub::{Body, Reply, Script};
use serde_json::Value;

use crate::support::{Setup, World};

struct Adapter {
    name: &'static str,
    path: &'static str,
    dialect: &'static str,
    operation: &'static str,
    /// The tool that is called; none where the call itself is the tool.
    tool: Option<&'static str>,
    /// Where the dialect's own error has the code.
    code: &'static str,
}

const fn llm(
    name: &'static str,
    path: &'static str,
    dialect: &'static str,
    operation: &'static str,
    code: &'static str,
) -> Adapter {
    Adapter { name, path, dialect, operation, tool: Some("get_weather"), code }
}

const ADAPTERS: &[Adapter] = &[
    llm("openai_chat", "/v1/chat/completions", "openai_chat", "openai.chat.completions", "/error/code"),
    llm(
        "openai_chat_stream",
        "/v1/chat/completions",
        "openai_chat",
        "openai.chat.completions",
        "/error/code",
    ),
    llm("openai_responses", "/v1/responses", "openai_responses", "openai.responses", "/error/code"),
    llm("openai_responses_stream", "/v1/responses", "openai_responses", "openai.responses", "/error/code"),
    llm("anthropic_messages", "/v1/messages", "anthropic_messages", "anthropic.messages", "/error/message"),
    llm(
        "anthropic_messages_stream",
        "/v1/messages",
        "anthropic_messages",
        "anthropic.messages",
        "/error/message",
    ),
    llm("gemini", GEMINI, "gemini", "gemini.generate_content", "/error/details/0/reason"),
    llm(
        "gemini_stream",
        GEMINI_STREAM,
        "gemini",
        "gemini.stream_generate_content",
        "/error/details/0/reason",
    ),
    llm("mcp", "/mcp", "mcp", "mcp.tools/call", "/error/data/code"),
    Adapter {
        name: "json_tool",
        path: "/tools/weather",
        dialect: "json",
        operation: "json",
        tool: None,
        code: "/code",
    },
];
const GEMINI: &str = "/v1beta/models/scripted-1:generateContent";
const GEMINI_STREAM: &str = "/v1beta/models/scripted-1:streamGenerateContent?alt=sse";

const ROUTES: &str =
    "[[route]]\nname = \"tools\"\npath = \"/tools\"\nupstream = \"stub\"\ndialect = \"json\"\n";
const POLICY: &str = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow }\n";

fn wire(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("test/e2e/wire").join(name)
}

impl Adapter {
    fn request(&self) -> Request {
        let body = std::fs::read(wire(&format!("{}.request.json", self.name))).unwrap();
        Request::new("POST", self.path)
            .header("content-type", "application/json")
            .header("estoppel-run", "adapter")
            .body(body)
    }

    fn answer(&self) -> (String, &'static str) {
        let file = |kind: &str| std::fs::read_to_string(wire(&format!("{}.answer.{kind}", self.name)));
        file("sse")
            .map_or_else(|_| (file("json").unwrap(), "application/json"), |text| (text, "text/event-stream"))
    }

    fn world(&self, rules: &str) -> (World, String) {
        let (body, kind) = self.answer();
        let script = Script::always(Reply::new(Body::Text(body.clone())).header("content-type", kind));
        let setup = Setup { policy: format!("{POLICY}{rules}"), routes: ROUTES.into(), ..Setup::default() };
        (World::with(script, &setup), body)
    }
}

#[test]
fn every_adapter_captures_recorded_bytes() {
    for adapter in ADAPTERS {
        let name = adapter.name;
        let (world, body) = adapter.world("");
        let answer = world.send(&adapter.request());
        assert_eq!((answer.status(), answer.text()), (200, body), "{name}");
        let receipt = world.receipts("adapter").remove(0);
        assert_eq!(receipt["dialect"], adapter.dialect, "{name}");
        assert_eq!(receipt["operation"], adapter.operation, "{name}");
        assert_eq!(receipt["outcome"]["complete"], true, "{name}");
        assert_eq!(receipt["evaluated"]["request"]["state"], "recognized", "{name}: {receipt}");
        assert_eq!(receipt["response"]["client"]["tag"], receipt["response"]["upstream"]["tag"], "{name}");
        assert_eq!(
            receipt["facts"]["tools_called"][0].as_str(),
            adapter.tool,
            "{name}: {}",
            receipt["facts"]
        );
        let events = answer.header("content-type") == Some("text/event-stream");
        assert_eq!(receipt.get("sse").is_some(), events, "{name}");
    }
}

#[test]
fn every_adapter_blocks_before_anything_leaves_and_in_its_own_words() {
    for adapter in ADAPTERS {
        let name = adapter.name;
        let when = match adapter.tool {
            Some(tool) => format!("operation: {}, tool: {tool}", adapter.operation),
            None => format!("route: tools, operation: {}", adapter.operation),
        };
        let rule = format!(
            "rules:\n  - {{ id: no-tool, when: {{ {when} }}, verdict: block, reason: TOOL_DENIED }}\n"
        );
        let (world, _) = adapter.world(&rule);
        let answer = world.send(&adapter.request());
        let error: Value = serde_json::from_str(&answer.text()).unwrap();
        let code = error.pointer(adapter.code).and_then(Value::as_str).unwrap_or_default();
        assert!(code.contains("TOOL_DENIED"), "{name}: {error}");
        assert_eq!(world.upstream.hits().total(), 0, "{name}");
        let receipt = world.receipts("adapter").remove(0);
        assert_eq!(receipt["verdict"]["action"], "block", "{name}");
        assert_eq!(receipt["policy"]["rule"], "no-tool", "{name}");
        assert!(receipt["response"].get("upstream").is_none(), "{name}");
    }
}
