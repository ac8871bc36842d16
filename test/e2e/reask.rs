//! Models that are asked again where their answer is refused: once, with a receipt of its own, or not at all.

use std::path::Path;
use std::process::Command;

use estoppel_kit::http::{Answer, Peer, Request};
use estoppel_stub::{Delays, Dialect, Fault, ModelReply, Reply, Rule, Script, ToolCall};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, World, cli, cli_binary, path};

const POLICY: &str = "version: 1
name: again
defaults:
  verdict: allow
  judge: { unknown_tools: block, repair: r1, reask: once, release: hold_all }
";
const GOOD: &str = r#"{"city": "Koeln"}"#;
const BAD: &str = r#"{"town": "SECRET"}"#;

struct Surface {
    name: &'static str,
    path: &'static str,
    dialect: Dialect,
}

const fn surface(name: &'static str, path: &'static str, dialect: Dialect) -> Surface {
    Surface { name, path, dialect }
}

const CHAT: Surface = surface("openai_chat", "/v1/chat/completions", Dialect::ChatCompletions);
const CHAT_STREAM: Surface = surface("openai_chat_stream", "/v1/chat/completions", Dialect::ChatCompletions);
const SURFACES: [Surface; 9] = [
    CHAT,
    CHAT_STREAM,
    surface("openai_responses", "/v1/responses", Dialect::Responses),
    surface("openai_responses_stream", "/v1/responses", Dialect::Responses),
    surface("anthropic_messages", "/v1/messages", Dialect::Messages),
    surface("anthropic_messages_stream", "/v1/messages", Dialect::Messages),
    surface("gemini", "/v1beta/models/m:generateContent", Dialect::Gemini),
    surface("gemini_stream", "/v1beta/models/m:streamGenerateContent?alt=sse", Dialect::Gemini),
    surface("gemini_stream", "/v1beta/models/m:streamGenerateContent", Dialect::Gemini),
];

impl Surface {
    fn body(&self) -> Vec<u8> {
        let file = format!("test/e2e/wire/{}.request.json", self.name);
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    }

    fn request(&self) -> Request {
        self.asks(&self.body())
    }

    fn asks(&self, body: &[u8]) -> Request {
        Request::new("POST", self.path)
            .header("content-type", "application/json")
            .header("estoppel-run", "again")
            .body(body)
    }

    fn calls(&self, arguments: &str) -> Reply {
        let call = ToolCall { name: "get_weather".into(), arguments: arguments.into() };
        Reply::model(ModelReply { calls: Some(vec![call]), ..ModelReply::new(self.dialect) })
    }

    /// What the model is told in the second request, which begins as the first.
    fn told(&self, first: &[u8], second: &[u8]) -> String {
        let name = self.name;
        let shared = first.iter().zip(second).take_while(|(a, b)| a == b).count();
        let after = first.len() - shared;
        assert!(second.ends_with(&first[first.len() - after..]), "{name}: only turns are added");
        let body: Value = serde_json::from_slice(second).unwrap();
        let turns = ["messages", "input", "contents"].iter().find_map(|name| body[*name].as_array()).unwrap();
        let [.., said, reply] = turns.as_slice() else { panic!("{name}: {body}") };
        let (called, told) = match self.dialect {
            Dialect::ChatCompletions => {
                assert_eq!(said["tool_calls"][0]["id"], reply["tool_call_id"], "{name}");
                (&said["tool_calls"][0]["function"]["name"], &reply["content"])
            }
            Dialect::Responses => {
                assert_eq!((&said["call_id"], said.get("id")), (&reply["call_id"], None), "{name}");
                (&said["name"], &reply["output"])
            }
            Dialect::Messages => {
                let result = &reply["content"][0];
                assert_eq!(
                    (&said["content"][0]["id"], &json!(true)),
                    (&result["tool_use_id"], &result["is_error"])
                );
                (&said["content"][0]["name"], &result["content"])
            }
            Dialect::Gemini => {
                let response = &reply["parts"][0]["functionResponse"];
                assert_eq!(response["name"], "get_weather", "{name}");
                (&said["parts"][0]["functionCall"]["name"], &response["response"]["error"])
            }
        };
        assert_eq!(called, "get_weather", "{name}: {body}");
        told.as_str().unwrap().to_owned()
    }
}

/// A model that answers first `first`, and then `then`.
fn world(first: Reply, then: Reply, policy: &str) -> World {
    let script = Script::always(then).on(Rule { reply: first, times: Some(1), ..Rule::default() });
    World::with(script, &Setup { policy: policy.into(), ..Setup::default() })
}

fn outcomes(world: &World) -> Vec<(&'static str, f64)> {
    const ALL: [&str; 9] = [
        "passed",
        "refused",
        "failed",
        "gone",
        "unfit",
        "bytes_max",
        "total_time",
        "no_memory",
        "no_evidence",
    ];
    let count = |outcome: &&'static str| {
        let name = format!("estoppel_reasks_total{{outcome=\"{outcome}\",route=\"stub\"}}");
        Some((*outcome, world.metric(&name)?))
    };
    ALL.iter().filter_map(count).collect()
}

/// Two receipts that name each other: of the refused answer, and of the second.
fn pair(world: &World) -> (Value, Value) {
    world.wait_for_calls("again", 2);
    pair_of(&world.receipts("again"))
}

fn pair_of(receipts: &[Value]) -> (Value, Value) {
    let [first, second] = receipts else { panic!("{receipts:#?}") };
    assert_eq!(first["ext"], json!({ "reask": { "next": second["call"] } }), "{first}");
    assert_eq!(second["ext"], json!({ "reask": { "of": first["call"] } }), "{second}");
    assert_eq!(first["verdict"]["action"], "block");
    assert_eq!(first["outcome"]["client"], "refused");
    assert_eq!(first["outcome"]["complete"], false);
    assert_eq!(first["response"]["client"], json!({ "bytes": 0 }), "nothing of it was given");
    assert!(first.get("sse").is_none(), "no unit of it reached the client");
    assert_ne!(first["request"]["tag"], second["request"]["tag"]);
    (first.clone(), second.clone())
}

fn refused(answer: &Answer, code: &str) {
    assert_eq!(answer.status(), 422, "{}", answer.text());
    assert!(answer.text().contains(code) && !answer.text().contains("SECRET"), "{}", answer.text());
}

#[test]
fn a_refused_call_is_asked_for_again_and_the_second_answer_is_given() {
    for surface in &SURFACES {
        let name = format!("{} {}", surface.name, surface.path);
        let world = world(surface.calls(BAD), surface.calls(GOOD), POLICY);
        let answer = world.send(&surface.request());
        assert_eq!(answer.status(), 200, "{name}: {}", answer.text());
        assert!(!answer.text().contains("SECRET"), "{name}: {}", answer.text());
        let seen = world.upstream.hits().requests();
        assert_eq!(seen.len(), 2, "{name}");
        let told = surface.told(&seen[0].body, &seen[1].body);
        assert!(told.contains("CONTRACT_VIOLATED") && told.contains("/required"), "{name}: {told}");
        assert!(!told.contains("SECRET"), "{name}: {told}");
        let (first, second) = pair(&world);
        assert_eq!(first["verdict"]["reason"], "CONTRACT_VIOLATED", "{name}");
        assert_eq!(
            (&second["verdict"]["action"], &second["outcome"]["code"]),
            (&json!("allow"), &json!("OK"))
        );
        assert_eq!(second["outcome"]["complete"], true, "{name}");
        assert_eq!(second["evaluated"]["response"]["state"], "judged", "{name}");
        assert_eq!(second["request"]["bytes"], seen[1].body_bytes, "{name}");
        assert_eq!(second["response"]["client"]["tag"], second["response"]["upstream"]["tag"], "{name}");
        assert_eq!(second["contract"], first["contract"].clone(), "{name}");
        assert_eq!(answer.header("estoppel-call"), second["call"].as_str(), "{name}");
        assert_eq!(outcomes(&world), [("passed", 1.0)], "{name}");
        world.wait_until_idle();
    }
}

#[test]
fn a_second_bad_answer_is_refused_for_good() {
    for surface in &SURFACES {
        let name = surface.name;
        let world = world(surface.calls(BAD), surface.calls(r#"{"city": 5}"#), POLICY);
        refused(&world.send(&surface.request()), "CONTRACT_VIOLATED");
        assert_eq!(world.upstream.hits().total(), 2, "{name}");
        let (_, second) = pair(&world);
        assert_eq!(
            (&second["verdict"]["action"], &second["outcome"]["complete"]),
            (&json!("block"), &json!(true))
        );
        assert_eq!(outcomes(&world), [("refused", 1.0)], "{name}");
    }
}

#[test]
fn nothing_is_asked_again_unless_the_policy_says_so() {
    for policy in [POLICY.replace("reask: once", "reask: none"), POLICY.replace("reask: once, ", "")] {
        for surface in [&CHAT, &CHAT_STREAM] {
            let world = world(surface.calls(BAD), surface.calls(GOOD), &policy);
            refused(&world.send(&surface.request()), "CONTRACT_VIOLATED");
            assert_eq!(world.upstream.hits().total(), 1);
            let receipts = world.receipts("again");
            assert_eq!((receipts.len(), receipts[0].get("ext")), (1, None));
            assert_eq!(outcomes(&world), []);
        }
    }
}

#[test]
fn a_route_lays_its_own_word_over_the_defaults() {
    let policy = format!("{POLICY}routes: {{ stub: {{ judge: {{ reask: none }} }} }}\n");
    let world = world(CHAT.calls(BAD), CHAT.calls(GOOD), &policy);
    refused(&world.send(&CHAT.request()), "CONTRACT_VIOLATED");
    assert_eq!(world.upstream.hits().total(), 1);
}

#[test]
fn a_stream_that_has_begun_is_not_asked_for_again() {
    let policy = POLICY.replace("hold_all", "hold_structured");
    let world = world(CHAT_STREAM.calls(BAD), CHAT_STREAM.calls(GOOD), &policy);
    let answer = Peer::connect(world.gateway).unwrap().exchange(&CHAT_STREAM.request()).unwrap();
    assert!(answer.text().contains("CONTRACT_VIOLATED"), "{}", answer.text());
    assert_eq!(world.upstream.hits().total(), 1);
}

#[test]
fn a_value_is_corrected_once() {
    let fenced = "```json\n{\"city\": \"Koeln\",}\n```";
    // A repair is enough, so nothing is asked.
    let repaired = world(CHAT.calls(fenced), CHAT.calls(GOOD), POLICY);
    assert_eq!(repaired.send(&CHAT.request()).status(), 200);
    assert_eq!(repaired.upstream.hits().total(), 1);
    // What was asked for again is not repaired.
    let asked = world(CHAT.calls(BAD), CHAT.calls(fenced), POLICY);
    refused(&asked.send(&CHAT.request()), "VALUE_MALFORMED");
    assert_eq!(asked.upstream.hits().total(), 2);
    assert!(pair(&asked).1.get("repair").is_none());
}

#[test]
fn a_text_that_was_asked_for_as_json_is_asked_for_again() {
    let schema = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
    let format = format!(r#"{{"type":"json_schema","json_schema":{{"name":"x","schema":{schema}}}}}"#);
    let body =
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"response_format":{format}}}"#);
    let says =
        |text: &str| Reply::model(ModelReply { text: Some(text.into()), ..ModelReply::new(CHAT.dialect) });
    let world = world(says(BAD), says(GOOD), POLICY);
    let answer = world.send(&CHAT.asks(body.as_bytes()));
    let read: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(read["choices"][0]["message"]["content"], GOOD);
    let second: Value = serde_json::from_slice(&world.upstream.hits().requests()[1].body).unwrap();
    assert_eq!(second["messages"][1], json!({ "role": "assistant", "content": BAD }));
    assert_eq!(second["messages"][2]["role"], "user");
    pair(&world);
}

#[test]
fn what_fails_the_second_time_is_refused_for_the_first_reason() {
    let cases = [
        (Reply::json("{}").status(400), "", "UPSTREAM_ERROR"),
        (Reply::json("{}").fault(Fault::CloseBeforeHead), "", "UPSTREAM_RESET"),
        (Reply::json("{}").fault(Fault::NoAnswer), "limits: { total_ms: 900 }\n", "TIMEOUT_TOTAL"),
        (
            CHAT.calls(GOOD).fault(Fault::Stall { after_bytes: 300 }),
            "limits: { total_ms: 900 }\n",
            "TIMEOUT_TOTAL",
        ),
        (CHAT.calls(GOOD).fault(Fault::Truncate { after_bytes: 300 }), "", "TRUNCATED"),
    ];
    for (then, limits, code) in cases {
        let world = world(CHAT.calls(BAD), then, &format!("{POLICY}{limits}"));
        let answer = world.send(&CHAT.request());
        refused(&answer, "CONTRACT_VIOLATED");
        assert_eq!(world.upstream.hits().total(), 2, "{code}");
        let (_, second) = pair(&world);
        assert_eq!(second["outcome"]["code"], code, "{second}");
        assert_eq!(second["outcome"]["client"], "refused", "{second}");
        assert_eq!(second["response"]["client"]["bytes"], answer.body.len(), "{code}");
        assert_eq!(outcomes(&world), [("failed", 1.0)], "{code}");
    }
}

#[test]
fn a_second_answer_that_holds_none_is_no_answer() {
    let no_items = r#"{"id":"c","object":"chat.completion","choices":[]}"#;
    let error = r#"{"error":{"message":"SECRET","type":"server_error"}}"#;
    for then in [
        Reply::json("").status(204),
        Reply::json(""),
        Reply::json(" "),
        Reply::json("{}"),
        Reply::json(no_items),
        Reply::json(error),
        Reply::sse(&[error]),
    ] {
        let said = format!("{then:?}");
        let world = world(CHAT.calls(BAD), then, POLICY);
        refused(&world.send(&CHAT.request()), "CONTRACT_VIOLATED");
        assert_eq!(world.upstream.hits().total(), 2, "{said}");
        let (_, second) = pair(&world);
        assert_eq!(second["outcome"]["code"], "UPSTREAM_ERROR", "{said}: {second}");
        assert_eq!(second["outcome"]["client"], "refused", "{said}: {second}");
        assert_eq!(outcomes(&world), [("failed", 1.0)], "{said}");
    }
}

#[test]
fn a_second_request_that_would_be_too_large_is_not_made() {
    let body = String::from_utf8(CHAT.body()).unwrap().replace("Use the", &"x".repeat(900));
    let own = POLICY.replace("reask: once", "reask: { once: { bytes_max: 1024 } }");
    for policy in [own, format!("{POLICY}limits: {{ request_bytes_max: {} }}\n", body.len())] {
        let world = world(CHAT.calls(BAD), CHAT.calls(GOOD), &policy);
        refused(&world.send(&CHAT.asks(body.as_bytes())), "CONTRACT_VIOLATED");
        assert_eq!(world.upstream.hits().total(), 1);
        assert_eq!(outcomes(&world), [("bytes_max", 1.0)]);
        assert_eq!(world.receipts("again").len(), 1);
    }
}

#[test]
fn a_long_answer_is_not_said_back() {
    let long = format!(r#"{{"town": "{}"}}"#, "x".repeat(300 << 10));
    let world = world(CHAT.calls(&long), CHAT.calls(GOOD), POLICY);
    refused(&world.send(&CHAT.request()), "CONTRACT_VIOLATED");
    assert_eq!((world.upstream.hits().total(), outcomes(&world)), (1, vec![("bytes_max", 1.0)]));
}

#[test]
fn without_a_place_in_the_evidence_nothing_is_asked() {
    let script = Script::always(CHAT.calls(GOOD)).on(Rule {
        reply: CHAT.calls(BAD),
        times: Some(1),
        ..Rule::default()
    });
    let setup = Setup { policy: POLICY.into(), journal: "queue_entries = 1".into(), ..Setup::default() };
    let world = World::with(script, &setup);
    refused(&world.send(&CHAT.request()), "CONTRACT_VIOLATED");
    assert_eq!(world.upstream.hits().total(), 1);
    assert_eq!(outcomes(&world), [("no_evidence", 1.0)]);
    assert_eq!(world.receipts("again")[0].get("ext"), None);
}

#[test]
fn what_could_have_an_effect_twice_is_not_asked_again() {
    let text = |surface: &Surface| String::from_utf8(surface.body()).unwrap();
    let with = |surface: &Surface, member: &str| text(surface).replacen('{', &format!("{{{member},"), 1);
    let responses = &SURFACES[2];
    for (surface, body, headers) in [
        (responses, with(responses, r#""conversation":"conv_1""#), None),
        (responses, with(responses, r#""background":true"#), None),
        (responses, text(responses).replace(r#""tools":["#, r#""tools":[{"type":"web_search"},"#), None),
        (&SURFACES[4], with(&SURFACES[4], r#""mcp_servers":[{"type":"url","url":"x","name":"y"}]"#), None),
        (&CHAT, with(&CHAT, r#""web_search_options":{}"#), None),
        (&CHAT, text(&CHAT), Some(("content-digest", "sha-256=:AA==:"))),
        (&CHAT, text(&CHAT), Some(("authorization", "AWS4-HMAC-SHA256 Credential=x"))),
    ] {
        let policy = POLICY.replace("verdict: allow", "verdict: allow\n  on_not_evaluated: allow");
        let world = world(surface.calls(BAD), surface.calls(GOOD), &policy);
        let mut request = surface.asks(body.as_bytes());
        if let Some((name, value)) = headers {
            request = request.header(name, value);
        }
        refused(&world.send(&request), "CONTRACT_VIOLATED");
        assert_eq!(world.upstream.hits().total(), 1, "{body} {headers:?}");
        assert_eq!(outcomes(&world), [("unfit", 1.0)], "{body} {headers:?}");
    }
}

#[test]
fn an_answer_that_was_cut_short_is_not_asked_for_again() {
    let call = ToolCall { name: "get_weather".into(), arguments: r#"{"city": "K"#.into() };
    let reply = ModelReply {
        calls: Some(vec![call]),
        finish: Some("length".into()),
        ..ModelReply::new(CHAT.dialect)
    };
    let world = world(Reply::model(reply), CHAT.calls(GOOD), POLICY);
    refused(&world.send(&CHAT.request()), "VALUE_TRUNCATED");
    assert_eq!((world.upstream.hits().total(), outcomes(&world)), (1, vec![("unfit", 1.0)]));
}

#[test]
fn the_second_request_has_an_idempotency_key_of_its_own() {
    let world = world(CHAT.calls(BAD), CHAT.calls(GOOD), POLICY);
    let request = CHAT.request().header("idempotency-key", "mine").header("authorization", "Bearer k");
    assert_eq!(world.send(&request).status(), 200);
    let seen = world.upstream.hits().requests();
    let key = |n: usize| seen[n].header("idempotency-key").unwrap();
    assert_eq!(key(0), "mine");
    assert_eq!(Some(key(1).as_str()), pair(&world).1["call"].as_str());
    assert_eq!(seen[1].header("authorization").as_deref(), Some("Bearer k"));
    assert!(seen[1].headers().iter().all(|(name, _)| !name.starts_with("estoppel-")));
}

#[test]
fn a_policy_may_keep_the_place_from_the_model() {
    let policy = POLICY.replace("reask: once", "reask: { once: { tell: code } }");
    let world = world(CHAT.calls(BAD), CHAT.calls(GOOD), &policy);
    assert_eq!(world.send(&CHAT.request()).status(), 200);
    let seen = world.upstream.hits().requests();
    let told = CHAT.told(&seen[0].body, &seen[1].body);
    assert!(told.contains("CONTRACT_VIOLATED") && !told.contains("required"), "{told}");
}

#[test]
fn a_client_that_leaves_meanwhile_leaves_two_receipts() {
    let drain = "  disconnect: { drain: { bytes: 65536, seconds: 20 } }\n";
    for (more, code) in [("", "CLIENT_GONE"), (drain, "CLIENT_GONE")] {
        let late = CHAT.calls(GOOD).delay_ms(Delays { before_head: 300, ..Delays::default() });
        let world = world(CHAT.calls(BAD), late, &format!("{POLICY}{more}"));
        let mut peer = Peer::connect(world.gateway).unwrap();
        peer.send(&CHAT.request().wire("gateway")).unwrap();
        assert!(world.upstream.hits().wait(PATIENCE, |hits| hits.total() == 2));
        drop(peer);
        world.wait_until_idle();
        let (_, second) = pair(&world);
        assert_eq!(
            (&second["outcome"]["client"], &second["outcome"]["code"]),
            (&json!("gone"), &json!(code))
        );
        assert_eq!(outcomes(&world), [("gone", 1.0)]);
        let read_on = !more.is_empty();
        assert_eq!(second["response"].get("upstream").is_some(), read_on, "{second}");
    }
}

#[test]
fn the_first_receipt_is_on_disk_before_anything_is_asked_again() {
    let silent = Reply::json("{}").fault(Fault::NoAnswer);
    let mut world = world(CHAT.calls(BAD), silent, POLICY);
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&CHAT.request().wire("gateway")).unwrap();
    assert!(world.upstream.hits().wait(PATIENCE, |hits| hits.total() == 2));
    world.daemon.kill_9();
    world.restart();
    let receipts = world.receipts("again");
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0]["verdict"]["reason"], "CONTRACT_VIOLATED");
    assert!(receipts[0]["ext"]["reask"]["next"].is_string(), "{}", receipts[0]);
}

#[test]
fn with_sync_both_requests_are_announced_and_with_full_storage_both_are_kept() {
    let policy =
        POLICY.replace("verdict: allow", "verdict: allow\n  body_storage: { full: { reason: audit } }");
    let script = Script::always(CHAT.calls(GOOD)).on(Rule {
        reply: CHAT.calls(BAD),
        times: Some(1),
        ..Rule::default()
    });
    let setup = Setup { policy, journal: "durability = \"sync\"".into(), ..Setup::default() };
    let world = World::with(script, &setup);
    assert_eq!(world.send(&CHAT.request()).status(), 200);
    let bundle = world.seal("again");
    let (first, second) = pair_of(&world.receipts_in(&bundle));
    for receipt in [&first, &second] {
        assert!(
            receipt["request"]["sha256"].is_string() && receipt["response"]["upstream"]["sha256"].is_string()
        );
    }
    let shown = cli(&["show", path(&bundle)]).1;
    let entries = shown["data"]["entries"].as_array().unwrap();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["run.open", "intent", "call", "intent", "call", "run.seal"]);
    let shown = Command::new(cli_binary()).args(["show", path(&bundle)]).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("CONTRACT_VIOLATED (incomplete), asked again in seq 4\n"), "{text}");
    assert!(text.contains("OK, asks again for seq 2\n"), "{text}");
}

#[test]
fn what_is_asked_again_is_counted_again_and_blocked_by_a_cap_that_is_used_up() {
    for (limit, hits) in [(2, 2), (1, 1)] {
        let cap = format!(
            "controls: [{{ id: cap, kind: cap, when: {{}}, unit: calls, limit: {limit}, per: month }}]\n"
        );
        let world = world(CHAT.calls(BAD), CHAT.calls(GOOD), &format!("{POLICY}{cap}"));
        let answer = world.send(&CHAT.request());
        assert_eq!(answer.status(), if hits == 2 { 200 } else { 429 }, "{}", answer.text());
        assert_eq!(world.upstream.hits().total(), hits);
        assert_eq!(
            world.metric(r#"estoppel_control_counted_total{control="cap",unit="calls"}"#),
            Some(hits as f64)
        );
        world.wait_for_calls("again", 2);
        let receipts = world.receipts("again");
        let states: Vec<_> = receipts.iter().map(|receipt| &receipt["limits"][0]["state"]).collect();
        assert_eq!(states, if hits == 2 { ["counted", "counted"] } else { ["counted", "exceeded"] });
    }
}
