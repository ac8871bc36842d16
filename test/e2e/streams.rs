//! The hard cases of proxying streams of models, one test for each, by number.
//!
//! - `wire`: bytes, events and lines, H1 to H4, H6, H24.
//! - `values`: values that are held back, H5, H7 to H9, H11, H20 to H23.
//! - `ends`: who breaks off and what that leaves, H10, H12 to H14, H18, H19, H26.
//! - `headers`: what is around a stream, H15 to H17, H25.

mod ends;
mod headers;
mod values;
mod wire;

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use estoppel_kit::http::{Answer, Peer, Request};
use estoppel_stub::{Body, Dialect, Framing, ModelReply, Reply, Script, Split, Stub, ToolCall};
use serde_json::Value;

use crate::support::{PATIENCE, Setup, World, chat};

/// Judges every value, and lets pass what the policy could not look at.
const JUDGED: &str = "version: 1
name: judged
defaults: { verdict: allow, on_not_evaluated: allow, judge: { unknown_tools: json, repair: r1 } }
";
const TOOL: &str = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
const DONE: &str = "data: [DONE]\n\n";
const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Wait\"}}]}\n\n";

fn ask() -> String {
    format!(
        r#"{{"model":"m","stream":true,"messages":[],"tools":[{{"type":"function","function":{{"name":"get_weather","parameters":{TOOL}}}}}]}}"#
    )
}

/// One chunk of a chat for choice `index`.
fn chunk(index: usize, delta: &str, finish: Option<&str>) -> String {
    let finish = finish.map_or_else(|| "null".to_owned(), |word| format!("\"{word}\""));
    format!(
        "data: {{\"model\":\"m\",\"choices\":[{{\"index\":{index},\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
    )
}

/// The chunk in which a call of `get_weather` begins.
fn call(choice: usize, index: usize) -> String {
    let call = format!(
        r#"{{"index":{index},"id":"call_{choice}_{index}","type":"function","function":{{"name":"get_weather","arguments":""}}}}"#
    );
    chunk(choice, &format!(r#"{{"tool_calls":[{call}]}}"#), None)
}

/// A piece of its arguments.
fn piece(choice: usize, index: usize, text: &str) -> String {
    let text = Value::from(text);
    chunk(
        choice,
        &format!(r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":{text}}}}}]}}"#),
        None,
    )
}

/// A chat in which `arguments` come in pieces of three characters.
fn calling(arguments: &str) -> String {
    let characters: Vec<char> = arguments.chars().collect();
    let pieces = characters.chunks(3).map(|few| piece(0, 0, &few.iter().collect::<String>()));
    format!("{TEXT}{}{}{}{DONE}", call(0, 0), pieces.collect::<String>(), chunk(0, "{}", Some("tool_calls")))
}

/// A chat that has begun a call and not ended it: [`TEXT`] may leave, the rest may not.
fn open_call() -> String {
    format!("{TEXT}{}{}", call(0, 0), piece(0, 0, "{\"city\": \"SECRET"))
}

/// The index of each event's end in `text` where events end in LF LF.
fn ends(text: &str) -> Vec<u64> {
    text.match_indices("\n\n").map(|(at, _)| at as u64 + 2).collect()
}

/// `bytes` as an event stream, each event a chunk of its own.
fn stream(bytes: impl AsRef<[u8]>) -> Reply {
    let bytes = bytes.as_ref();
    let body = Body::Base64(base64::engine::general_purpose::STANDARD.encode(bytes));
    let offsets = ends(&String::from_utf8_lossy(bytes)).into_iter().filter(|end| *end < bytes.len() as u64);
    Reply::new(body)
        .header("content-type", "text/event-stream")
        .framing(Framing::Chunked)
        .split(Split::At { offsets: offsets.collect() })
}

fn world(reply: Reply, policy: &str) -> World {
    World::with(Script::always(reply), &Setup { policy: policy.into(), ..Setup::default() })
}

/// Asks for a stream of chat and takes what comes, whole or not.
fn take(world: &World, run: &str) -> Answer {
    Peer::connect(world.gateway).unwrap().exchange(&chat(run, &ask())).unwrap()
}

/// Asks for a stream of chat and stays.
fn begin(world: &World, run: &str) -> Peer {
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&chat(run, &ask()).wire("gateway")).unwrap();
    peer
}

/// The only receipt of `run`, once its call has ended.
fn receipt(world: &World, run: &str) -> Value {
    world.wait_for_calls(run, 1);
    world.wait_until_idle();
    let mut receipts = world.receipts(run);
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    receipts.remove(0)
}

fn outcome(receipt: &Value) -> (&str, &str, bool) {
    let outcome = &receipt["outcome"];
    let text = |name: &str| outcome[name].as_str().unwrap();
    (text("code"), text("client"), outcome["complete"].as_bool().unwrap())
}

/// What a client reads of a chat: by choice and index the name, id and arguments of each call; and the text of each
/// choice.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    calls: BTreeMap<(u64, u64), [String; 3]>,
    texts: BTreeMap<u64, String>,
}

impl Read {
    fn of(body: &str) -> Self {
        let mut read = Self::default();
        for line in body.lines() {
            let Some(Ok(chunk)) = line.strip_prefix("data: ").map(serde_json::from_str::<Value>) else {
                continue;
            };
            for choice in chunk["choices"].as_array().into_iter().flatten() {
                let at = choice["index"].as_u64().unwrap_or_default();
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                read.texts.entry(at).or_default().push_str(&text(&choice["delta"]["content"]));
                for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                    let said = read.calls.entry((at, call["index"].as_u64().unwrap())).or_default();
                    said[0].push_str(&text(&call["id"]));
                    said[1].push_str(&text(&call["function"]["name"]));
                    said[2].push_str(&text(&call["function"]["arguments"]));
                }
            }
        }
        read
    }
}

/// One way to ask a model, and the wire of its answer.
struct Surface {
    name: &'static str,
    path: &'static str,
    dialect: Dialect,
}

const GEMINI: &str = "/v1beta/models/scripted-1:generateContent";
const GEMINI_STREAM: &str = "/v1beta/models/scripted-1:streamGenerateContent?alt=sse";
/// Plain and streamed, in turn.
const SURFACES: [Surface; 8] = [
    Surface { name: "openai_chat", path: "/v1/chat/completions", dialect: Dialect::ChatCompletions },
    Surface { name: "openai_chat_stream", path: "/v1/chat/completions", dialect: Dialect::ChatCompletions },
    Surface { name: "openai_responses", path: "/v1/responses", dialect: Dialect::Responses },
    Surface { name: "openai_responses_stream", path: "/v1/responses", dialect: Dialect::Responses },
    Surface { name: "anthropic_messages", path: "/v1/messages", dialect: Dialect::Messages },
    Surface { name: "anthropic_messages_stream", path: "/v1/messages", dialect: Dialect::Messages },
    Surface { name: "gemini", path: GEMINI, dialect: Dialect::Gemini },
    Surface { name: "gemini_stream", path: GEMINI_STREAM, dialect: Dialect::Gemini },
];

impl Surface {
    fn streams() -> impl Iterator<Item = &'static Self> {
        SURFACES.iter().skip(1).step_by(2)
    }

    fn request(&self, run: &str) -> Request {
        let file = format!("test/e2e/wire/{}.request.json", self.name);
        let body = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        Request::new("POST", self.path)
            .header("content-type", "application/json")
            .header("estoppel-run", run)
            .body(body)
    }

    fn reply(&self, tool: &str, arguments: &str) -> Reply {
        let call = ToolCall { name: tool.into(), arguments: arguments.into() };
        Reply::model(ModelReply { calls: Some(vec![call]), ..ModelReply::new(self.dialect) })
    }

    /// The answer as the upstream gives it.
    fn wire(&self, tool: &str, arguments: &str) -> String {
        let upstream = Stub::spawn_thread(Script::always(self.reply(tool, arguments))).unwrap();
        estoppel_kit::http::send(upstream.addr(), &self.request("x")).unwrap().text()
    }
}

/// Waits until the upstream's last answer is over and says how.
fn upstream_outcome(world: &World) -> estoppel_stub::Outcome {
    let over = |hits: &estoppel_stub::Hits| {
        hits.last().is_some_and(|seen| seen.outcome() != estoppel_stub::Outcome::Answering)
    };
    assert!(world.upstream.hits().wait(PATIENCE, over), "the upstream still sends");
    world.upstream.hits().last().unwrap().outcome()
}
