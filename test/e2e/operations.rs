//! Operations of a plain API behind one route: what a request is, what is held against its contracts, and what is none.

use estoppel_kit::Scratch;
use estoppel_kit::http::Request;
use estoppel_stub::{Body, Reply, Script};
use serde_json::{Value, json};

use crate::support::{Setup, World, cli, path};

const POLICY: &str = r#"version: 1
name: shop
contracts:
  order: { json: '{ "type": "object", "required": ["sku"] }' }
  receipt: { json: '{ "type": "object", "required": ["id"] }' }
  list: { json: '{ "type": "array" }' }
defaults: { verdict: allow, on_not_evaluated: allow }
routes:
  stub:
    judge: { answer: receipt }
    operations:
    - { id: orders.create, method: POST, path: /v1/orders, judge: { request: order } }
    - { id: orders.get, method: GET, path: "/v1/orders/{id}" }
    - { id: orders.search, method: GET, path: /v1/orders/search, judge: { answer: list } }
    - { id: orders.delete, method: DELETE, path: "/v1/orders/{id}" }
    - { id: health, method: GET, path: /health, judge: none }
rules:
- { id: nothing-is-deleted, when: { operation: "orders.del*" }, verdict: block, reason: OPERATION_DENIED }
"#;

fn world(policy: &str, answer: &str) -> World {
    let reply = Reply::new(Body::Text(answer.into())).header("content-type", "application/json");
    World::with(Script::always(reply), &Setup { policy: policy.into(), ..Setup::default() })
}

fn request(method: &str, target: &str, body: &str) -> Request {
    let request = Request::new(method, target).header("estoppel-run", "operations");
    if body.is_empty() { request } else { request.header("content-type", "application/json").body(body) }
}

/// Status and code of the answer, and operation, action and reason of the receipt.
fn check(policy: &str, answer: &str, request: &Request, expected: (u16, &str, &str, &str)) {
    let world = world(policy, answer);
    let got = world.send(request);
    world.wait_for_calls("operations", 1);
    let receipt = &world.receipts("operations")[0];
    let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let reason = said(&receipt["verdict"]["reason"]);
    let operation = said(&receipt["operation"]);
    let action = said(&receipt["verdict"]["action"]);
    let found = (got.status(), operation.as_str(), action.as_str(), reason.as_str());
    assert_eq!(found, expected, "{request:?}: {}", got.text());
    let problem: Value = serde_json::from_slice(&got.body).unwrap_or_default();
    match action.as_str() {
        "block" => assert_eq!(problem["code"], json!(reason), "{}", got.text()),
        _ => assert_eq!(got.text(), answer),
    }
}

#[test]
fn each_operation_has_its_own_contracts_and_its_name_in_rules_and_receipts() {
    let receipt = "{\"id\":1}";
    let violated = "CONTRACT_VIOLATED";
    for (method, target, body, answer, expected) in [
        ("POST", "/v1/orders", "{\"sku\":1}", receipt, (200, "orders.create", "allow", "")),
        ("POST", "/v1/orders", "{}", receipt, (422, "orders.create", "block", "REQUEST_VIOLATED")),
        ("POST", "/v1/orders", "{\"sku\":1}", "[]", (422, "orders.create", "block", violated)),
        ("GET", "/v1/orders/7?expand=all", "", receipt, (200, "orders.get", "allow", "")),
        ("GET", "/v1/orders/7", "", "[]", (422, "orders.get", "block", violated)),
        ("GET", "/v1/orders/search?q=a", "", "[]", (200, "orders.search", "allow", "")),
        ("GET", "/v1/orders/search", "", receipt, (422, "orders.search", "block", violated)),
        ("GET", "/health", "", "17", (200, "health", "allow", "")),
        ("DELETE", "/v1/orders/7", "", receipt, (403, "orders.delete", "block", "OPERATION_DENIED")),
    ] {
        check(POLICY, answer, &request(method, target, body), expected);
    }
}

#[test]
fn what_is_none_of_them_never_reaches_the_upstream_unless_the_policy_says_so() {
    for (method, target) in [
        ("GET", "/v1/orders"),
        ("POST", "/v1/orders/"),
        ("POST", "/V1/orders"),
        ("POST", "/v1//orders"),
        ("GET", "/v1/orders/Search"),
        ("GET", "/v1/orders/x%2F..%2Fsearch"),
        ("GET", "/v1/orders/search;a"),
        ("GET", "/v1/orders/%252e"),
        ("GET", "/admin"),
    ] {
        let world = world(POLICY, "{\"id\":1}");
        let got = world.send(&request(method, target, ""));
        assert_eq!(got.status(), 403, "{target}: {}", got.text());
        assert_eq!(world.upstream.hits().requests().len(), 0, "{target}");
        world.wait_for_calls("operations", 1);
        assert_eq!(world.receipts("operations")[0]["verdict"]["reason"], "OPERATION_DENIED", "{target}");
    }
    let dots = world(POLICY, "{}");
    assert_eq!(dots.send(&request("GET", "/health/../v1/orders", "")).status(), 400);
    let overridden = request("GET", "/health", "").header("x-http-method-override", "DELETE");
    check(POLICY, "{}", &overridden, (403, "http", "block", "OPERATION_DENIED"));
    let allowed = POLICY.replace("rules:", "    other_operations: allow\nrules:");
    check(&allowed, "{\"id\":1}", &request("GET", "/admin", ""), (200, "http", "allow", ""));
    check(&allowed, "[]", &request("GET", "/admin", ""), (422, "http", "block", "CONTRACT_VIOLATED"));
}

#[test]
fn what_looks_like_an_operation_never_goes_on_as_another() {
    let policy = POLICY.replace("rules:", "    other_operations: allow\nrules:");
    let world = world(&policy, "{\"id\":1}");
    let order = |target: &str| request("POST", target, "{}");
    let delete = || request("DELETE", "/v1/orders/7", "");
    let mut alike: Vec<Request> = vec![
        request("DELETE", "/v1/orders/7/", ""),
        request("DELETE", "/V1/orders/7", ""),
        request("delete", "/v1/orders/7", ""),
        request("DELETE", "/v1/orders/a%23", ""),
        request("DELETE", "/v1/orders/%c0%ae", ""),
        request("DELETE", "/v1/orders/%c0%af", ""),
        request("DELETE", "/v1/orders/%ef%bc%8f", ""),
    ];
    let targets =
        ["/v1/orders/", "/v1/Orders", "/v1/orders;a", "/v1//orders", "/v1/orders%2f", "/v1%2forders"];
    alike.extend(targets.map(order));
    let overrides = [
        "X-HTTP-Method-Override",
        "X_HTTP_METHOD_OVERRIDE",
        "X-HTTP_Method-Override",
        "X.Method.Override",
        "X-Rewrite-URL",
        "X_Original_URL",
        "X-Original-URI",
        "X-Forwarded-Uri",
        "X-Envoy-Original-Path",
    ];
    alike.extend(overrides.map(|name| delete().header(name, "x")));
    alike.extend(overrides.map(|name| request("GET", "/admin", "").header(name, "/v1/orders/7")));
    for request in &alike {
        let got = world.send(request);
        let problem: Value = serde_json::from_slice(&got.body).unwrap_or_default();
        let found = (got.status(), problem["code"].as_str());
        assert_eq!(found, (403, Some("OPERATION_DENIED")), "{request:?}: {}", got.text());
    }
    assert_eq!(world.upstream.hits().requests().len(), 0);
    for other in [request("DELETE", "/v1/carts/a;b%2f", ""), request("PUT", "/v1/orders/", "{}")] {
        let got = world.send(&other);
        assert_eq!(got.status(), 200, "{other:?}: {}", got.text());
    }
}

#[test]
fn a_model_keeps_its_operation_and_must_be_listed_as_well() {
    let listed = "    - { id: chat, method: POST, path: /v1/chat/completions, judge: none }\nrules:";
    let policy = POLICY.replace("rules:", listed);
    let chat = request("POST", "/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}");
    check(&policy, "{\"id\":\"a\"}", &chat, (200, "openai.chat.completions", "allow", ""));
    let world = world(POLICY, "{}");
    assert_eq!(world.send(&chat).status(), 403);
    assert_eq!(world.upstream.hits().requests().len(), 0);
}

#[test]
fn the_commands_find_an_operation_as_the_daemon_does() {
    let scratch = Scratch::new("operations");
    let policy = scratch.write("policy.yaml", POLICY);
    let explain = |method: &str, target: &str| {
        let words =
            ["policy", "explain", path(&policy), "--route", "stub", "--method", method, "--path", target];
        let (code, answer) = cli(&words);
        let data = &answer["data"];
        (code, data["operation"].clone(), data["verdict"].clone(), data["reason"].clone())
    };
    assert_eq!(explain("GET", "/v1/orders/7"), (0, json!("orders.get"), json!("allow"), Value::Null));
    let denied = json!("OPERATION_DENIED");
    assert_eq!(
        explain("DELETE", "/v1/orders/7"),
        (3, json!("orders.delete"), json!("block"), denied.clone())
    );
    assert_eq!(explain("GET", "/v1/orders/Search"), (3, Value::Null, json!("block"), denied));
    for target in ["/v1/orders/../x", "/v1/%6frders", "/v1/orders/%zz", "v1/orders", "/v1/orders/a b"] {
        let invalid = (3, Value::Null, json!("block"), json!("REQUEST_INVALID"));
        assert_eq!(explain("GET", target), invalid, "{target}");
    }
    let (code, refused) = cli(&[
        "policy",
        "explain",
        path(&policy),
        "--route",
        "stub",
        "--method",
        "GET",
        "--path",
        "/health?a",
    ]);
    assert_eq!((code, &refused["error"]["code"]), (6, &json!("ARGUMENT_INVALID")));
    let open = scratch.write("open.yaml", POLICY.replace("rules:", "    other_operations: allow\nrules:"));
    let (code, alike) = cli(&[
        "policy",
        "explain",
        path(&open),
        "--route",
        "stub",
        "--method",
        "POST",
        "--path",
        "/v1/orders/",
    ]);
    assert_eq!((code, &alike["data"]["reason"]), (3, &json!("OPERATION_DENIED")));
    let unknown = |route: &str| {
        let (code, said) = cli(&["policy", "explain", path(&policy), "--route", route]);
        (code, said["data"]["warnings"].as_array().map(Vec::len))
    };
    assert_eq!((unknown("stub"), unknown("shop")), ((0, Some(0)), (0, Some(1))));
    let body = scratch.write("answer.json", "[]");
    let judge = |id: &str| {
        let words = ["judge", path(&body), "--policy", path(&policy), "--route", "stub", "--operation", id];
        let (code, answer) = cli(&words);
        (code, answer["data"]["verdict"].clone())
    };
    assert_eq!(judge("orders.search"), (0, json!("pass")));
    assert_eq!(judge("orders.get"), (3, json!("block")));
    assert_eq!((judge("health").0, judge("orders").0), (6, 6));
}

#[test]
fn a_header_names_no_other_method_than_the_one_that_rules_go_by() {
    let base = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow }\n";
    let delete = request("POST", "/users/7", "{}").header("X-HTTP-Method-Override", "DELETE");
    for (rule, expected) in [
        ("rules:\n- { id: a, when: { method: DELETE }, verdict: block, reason: X }\n", 403),
        (
            "rules:\n- { id: a, when: { route: s* }, unless: { method: GET }, verdict: block, reason: X }\n",
            403,
        ),
        ("rules:\n- { id: a, when: { operation: x }, verdict: block, reason: X }\n", 403),
        ("controls:\n- { id: a, kind: rate, when: { method: DELETE }, limit: 1, seconds: 60 }\n", 403),
        ("rules:\n- { id: a, when: { route: other, method: DELETE }, verdict: block, reason: X }\n", 200),
        ("rules:\n- { id: a, when: { identity: b }, verdict: block, reason: X }\n", 200),
    ] {
        let rule = rule.replace("route: other", "route: oth*");
        let world = world(&format!("{base}{rule}"), "{}");
        let got = world.send(&delete);
        assert_eq!(got.status(), expected, "{rule}: {}", got.text());
        let is_denied = got.text().contains("OPERATION_DENIED");
        assert_eq!(
            (is_denied, world.upstream.hits().requests().len()),
            (expected == 403, usize::from(expected == 200))
        );
    }
}
