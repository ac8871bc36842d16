//! Tenants keep to what is theirs: the tenant that a call names, held against the one that its caller proved.

use estoppel_kit::Scratch;
use estoppel_kit::http::{HttpError, Request};
use estoppel_stub::{Body, Dialect, ModelReply, Reply, Rule, Script, ToolCall};
use serde_json::{Value, json};

use crate::support::{Setup, World, cli, path};

const FENCE: &str = r#"version: 1
name: fence
defaults: { verdict: allow }
rules:
- id: own-invoices
  when: { tool: invoices }
  unless: { arguments: [{ at: /tenant_id, tenant: own }] }
  verdict: block
  reason: TENANT_FENCE
- id: own-rows
  when: { tool: rows, arguments: [{ at: /filters/*/tenant, tenant: other }] }
  verdict: block
  reason: TENANT_FENCE
- id: own-orders
  when: { route: plain, method: POST }
  unless: { body: [{ at: /order/tenant, tenant: own }] }
  verdict: block
  reason: TENANT_FENCE
"#;
const PASS: (Value, &str) = (Value::Null, "");
const UNREAD: (Value, &str) = (Value::Null, "NOT_EVALUATED");

/// Gateway and keys of one caller of each tenant, and of one of none.
struct Tenants {
    world: World,
    _keys: Scratch,
    acme: String,
    globex: String,
    nobody: String,
}

impl Tenants {
    fn new(script: Script) -> Self {
        let keys = Scratch::new("tenants");
        let file = keys.write("keys.ndjson", "");
        let key = |subject: &str, more: &[&str]| {
            let words =
                [&["identity", "key", "new", "--subject", subject, "--file", path(&file)], more].concat();
            let (code, made) = cli(&words);
            assert_eq!(code, 0, "{made}");
            made["data"]["key"].as_str().unwrap().to_owned()
        };
        let acme = key("ada", &["--tenant", "acme"]);
        let globex = key("gus", &["--tenant", "globex"]);
        let nobody = key("ned", &[]);
        let config = format!("[identity]\napi_keys = {{ file = {file:?} }}\n");
        let routes =
            "[[route]]\nname = \"plain\"\npath = \"/plain\"\nupstream = \"stub\"\ndialect = \"json\"\n";
        let setup = Setup { policy: FENCE.into(), config, routes: routes.into(), ..Setup::default() };
        Self { world: World::with(script, &setup), _keys: keys, acme, globex, nobody }
    }

    /// Status and text, also of an answer that is cut. What callers say of their tenant in headers counts for nothing.
    fn send(&self, key: Option<&str>, target: &str, body: &str) -> (u16, String) {
        let request = Request::new("POST", target)
            .header("content-type", "application/json")
            .header("estoppel-run", "tenants")
            .header("x-tenant", "acme");
        let request = key
            .iter()
            .fold(request, |request, key| request.header("authorization", &format!("Bearer {key}")));
        match estoppel_kit::http::send(self.world.gateway, &request.body(body)) {
            Ok(answer) => (answer.status(), answer.text()),
            Err(HttpError::Incomplete { answer }) => (answer.status(), answer.text()),
            Err(error) => panic!("{error}"),
        }
    }

    fn ruled(receipt: &Value) -> (Value, &str) {
        (receipt["policy"]["rule"].clone(), receipt["verdict"]["reason"].as_str().unwrap_or_default())
    }
}

fn mcp(tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

fn by(rule: &str) -> (Value, &'static str) {
    (json!(rule), "TENANT_FENCE")
}

/// Whose key, the path, the body, and what is expected.
type Case<'a> = (Option<&'a str>, &'a str, String, (Value, &'a str));

/// CLY-4.10: the tenant fence, for calls of MCP tools and for bodies of plain JSON.
#[test]
fn a_call_that_names_another_tenant_than_its_callers_never_reaches_the_upstream() {
    let result = Reply::json(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#);
    let plain = Reply::new(Body::Text("{}".into())).header("content-type", "application/json");
    let tenants = Tenants::new(Script::always(result).on(Rule::any("/plain", plain)));
    let (acme, globex, nobody) = (Some(&*tenants.acme), Some(&*tenants.globex), Some(&*tenants.nobody));
    let fence = || by("own-invoices");
    let cases: Vec<Case<'_>> = vec![
        (acme, "/mcp", mcp("invoices", r#"{"tenant_id":"acme"}"#), PASS),
        (globex, "/mcp", mcp("invoices", r#"{"tenant_id":"globex"}"#), PASS),
        (globex, "/mcp", mcp("invoices", r#"{"tenant_id":"acme"}"#), fence()),
        (acme, "/mcp", mcp("invoices", r#"{"tenant_id":"ACME"}"#), fence()),
        (acme, "/mcp", mcp("invoices", r#"{"tenant_id":"*"}"#), fence()),
        (acme, "/mcp", mcp("invoices", "{}"), fence()),
        (acme, "/mcp", mcp("invoices", r#"{"tenant_id":null}"#), UNREAD),
        (acme, "/mcp", mcp("invoices", r#"{"tenant_id":["acme"]}"#), UNREAD),
        (acme, "/mcp", mcp("invoices", r#"{"tenant_id":7}"#), UNREAD),
        (acme, "/mcp", mcp("invoices", r#"{"tenant_id":"acme","tenant_id":"globex"}"#), UNREAD),
        (nobody, "/mcp", mcp("invoices", r#"{"tenant_id":"acme"}"#), UNREAD),
        (None, "/mcp", mcp("invoices", r#"{"tenant_id":"acme"}"#), UNREAD),
        (None, "/mcp", mcp("weather", r#"{"tenant_id":"acme"}"#), PASS),
        (acme, "/mcp", mcp("rows", r#"{"filters":[{"tenant":"acme"}]}"#), PASS),
        (acme, "/mcp", mcp("rows", r#"{"filters":[{"tenant":"acme"},{"tenant":"globex"}]}"#), by("own-rows")),
        (nobody, "/mcp", mcp("rows", r#"{"filters":[{"tenant":"acme"}]}"#), UNREAD),
        (acme, "/plain", r#"{"order":{"tenant":"acme"}}"#.into(), PASS),
        (globex, "/plain", r#"{"order":{"tenant":"acme"}}"#.into(), by("own-orders")),
        (globex, "/plain", r#"{"order":"{\"tenant\":\"globex\"}"}"#.into(), UNREAD),
        (None, "/plain", r#"{"order":{"tenant":"acme"}}"#.into(), UNREAD),
    ];
    for (key, target, body, (_, reason)) in &cases {
        let before = tenants.world.upstream.hits().total();
        let (status, text) = tenants.send(*key, target, body);
        assert_eq!(status, if reason.is_empty() { 200 } else { 403 }, "{body}: {text}");
        assert!(text.contains(reason), "{body}: {text}");
        let reached = tenants.world.upstream.hits().total() - before;
        assert_eq!(reached, u64::from(reason.is_empty()), "{body}");
    }
    let receipts = tenants.world.receipts("tenants");
    assert_eq!(receipts.len(), cases.len());
    for (receipt, (_, _, body, expected)) in receipts.iter().zip(&cases) {
        assert_eq!(&Tenants::ruled(receipt), expected, "{body}: {receipt}");
    }
}

#[test]
fn a_call_that_a_model_makes_for_another_tenant_never_leaves() {
    for stream in [false, true] {
        let arguments = r#"{"tenant_id": "acme", "month": "2026-05"}"#;
        let call = ToolCall { name: "invoices".into(), arguments: arguments.into() };
        let reply = ModelReply { calls: Some(vec![call]), ..ModelReply::new(Dialect::Messages) };
        let tenants = Tenants::new(Script::always(Reply::model(reply)));
        let body = json!({ "model": "m", "stream": stream, "max_tokens": 9, "messages": [] }).to_string();
        let cases = [(&tenants.acme, PASS), (&tenants.globex, by("own-invoices")), (&tenants.nobody, UNREAD)];
        for (key, (_, reason)) in &cases {
            let (_, text) = tenants.send(Some(key), "/v1/messages", &body);
            assert_eq!(text.contains("\"invoices\""), reason.is_empty(), "{stream}: {text}");
            assert!(text.contains(reason), "{stream}: {text}");
        }
        let receipts = tenants.world.receipts("tenants");
        assert_eq!(receipts.len(), cases.len());
        for (receipt, (_, expected)) in receipts.iter().zip(&cases) {
            assert_eq!(&Tenants::ruled(receipt), expected, "{stream}: {receipt}");
        }
    }
}

#[test]
fn an_explanation_says_that_no_tenant_is_proven() {
    let scratch = Scratch::new("tenants");
    let file = scratch.write("policy.yaml", FENCE);
    let explain = |more: &[&str]| {
        let call = "invoices={\"tenant_id\":\"acme\"}";
        let words = ["policy", "explain", path(&file), "--route", "mcp", "--call", call];
        cli(&[&words, more].concat()).1
    };
    let unproven = explain(&[]).to_string();
    assert!(unproven.contains("a text, and no proven tenant to hold it against"), "{unproven}");
    assert_eq!(explain(&["--tenant", "acme"])["data"]["verdict"], "allow");
    assert_eq!(explain(&["--tenant", "globex"])["data"]["rule"], "own-invoices");
}
