use estoppel_kit::http::Request;
use estoppel_stub::{Body, Reply, Rule, Script};
use serde_json::Value;

use crate::support::{Setup, World, chat, cli, path};

const HELLO: &str = r#"{"model":"scripted-1","messages":[{"role":"user","content":"hello"}]}"#;

#[test]
fn a_plain_call_comes_back_as_it_was_sent_and_names_its_receipt() {
    let world = World::new(Script::model());
    let direct = estoppel_kit::http::send(world.upstream.addr(), &chat("x", HELLO)).unwrap();
    let answer = world.send(&chat("plain", HELLO));
    assert_eq!(answer.body, direct.body);
    let receipts = world.receipts("plain");
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0]["call"], answer.header("estoppel-call").unwrap());
    assert!(answer.header("estoppel-receipt").unwrap().starts_with("leaf:"));
    assert_eq!(receipts[0]["response"]["client"]["tag"], receipts[0]["response"]["upstream"]["tag"]);
    assert_eq!(receipts[0]["response"]["client"]["bytes"], answer.body.len());
}

#[test]
fn a_stream_of_ten_thousand_events_is_notarized_event_by_event() {
    let world = World::new(Script::model());
    let answer = world.send(&Request::new("GET", "/sse/10000/0").header("estoppel-run", "long"));
    assert_eq!(answer.body, estoppel_kit::http::get(world.upstream.addr(), "/sse/10000/0").unwrap().body);
    let receipts = world.receipts("long");
    let sse = &receipts[0]["sse"];
    let events = answer.body.windows(2).filter(|pair| pair == b"\n\n").count();
    assert_eq!(sse["units"].as_u64(), Some(events as u64));
    assert_eq!(sse["level"], 0);
    assert!(sse["nodes"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn large_binary_bodies_go_through_in_both_directions() {
    let echo = Script::default().on(Rule::any("/echo", Reply::new(Body::Echo)));
    let world = World::new(echo);
    let body: Vec<u8> = estoppel_stub::filler(0, 3 << 20);
    let answer = world.send(&Request::new("POST", "/echo").header("estoppel-run", "big").body(&body));
    assert!(answer.body == body, "the bytes differ");
    let receipts = world.receipts("big");
    assert_eq!(receipts[0]["request"]["bytes"], body.len());
    assert_eq!(receipts[0]["response"]["client"]["bytes"], body.len());
    assert_eq!(receipts[0]["evaluated"]["response"]["state"], "not_evaluated");
}

#[test]
fn a_blocked_call_never_reaches_the_upstream() {
    let policy = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow }\nrules:\n  - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED, threat: [\"owasp_llm:2025/LLM06\"] }\n";
    let world = World::with(Script::model(), &Setup { policy: policy.into(), ..Setup::default() });
    let body = r#"{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"shell"}}]}"#;
    let answer = world.send(&chat("blocked", body));
    assert_eq!(answer.status(), 403);
    assert_eq!(world.upstream.hits().total(), 0);
    let receipts = world.receipts("blocked");
    assert_eq!(receipts[0]["verdict"]["action"], "block");
    assert_eq!(receipts[0]["policy"]["rule"], "no-shell");
    assert_eq!(receipts[0]["threat"]["ids"][0], "owasp_llm:2025/LLM06");
    assert!(receipts[0]["response"].get("upstream").is_none());
}

#[test]
fn a_tool_that_the_model_calls_is_judged_when_the_answer_is_whole() {
    let policy = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow }\nrules:\n  - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }\n";
    let text = r#"{"model":"m","choices":[{"index":0,"message":{"role":"assistant","tool_calls":[{"function":{"name":"shell"}}]},"finish_reason":"tool_calls"}]}"#;
    let script =
        Script::always(Reply::new(Body::Text(text.into())).header("content-type", "application/json"));
    let world = World::with(script, &Setup { policy: policy.into(), ..Setup::default() });
    let answer = world.send(&chat("called", HELLO));
    assert_eq!(answer.status(), 403);
    assert!(!answer.text().contains("tool_calls"));
    let receipts = world.receipts("called");
    assert_eq!(receipts[0]["verdict"]["reason"], "TOOL_DENIED");
    assert_eq!(receipts[0]["response"]["upstream"]["bytes"], text.len());
}

#[test]
fn context_headers_are_claims_and_are_not_forwarded() {
    let world = World::new(Script::model());
    let claims = ["job_id", "service_id", "pipeline_id", "evolution_id", "agent", "runtime", "schema"];
    let header = |claim: &str| format!("estoppel-{}", claim.replace('_', "-"));
    let request = claims
        .iter()
        .fold(chat("claims", HELLO), |request, claim| request.header(&header(claim), &format!("{claim}/1")));
    assert_eq!(world.send(&request).status(), 200);
    let seen = world.upstream.hits().last().unwrap();
    assert!(seen.headers().iter().all(|(name, _)| !name.to_ascii_lowercase().starts_with("estoppel-")));
    let bundle = world.seal("claims");
    let manifest = &cli(&["show", path(&bundle)]).1["data"]["manifest"];
    for claim in claims {
        assert_eq!(manifest["claims"][claim], serde_json::json!([format!("{claim}/1")]));
    }
    assert_eq!(manifest["build"]["name"], "estoppeld");
}

#[test]
fn every_receipt_names_the_policy_that_judged_it() {
    let world = World::new(Script::model());
    for body in [HELLO, "{", ""] {
        assert!(world.send(&chat("hash", body)).header("estoppel-receipt").is_some());
    }
    let (_, answer) = cli(&["policy", "hash", path(&world.scratch.join("policy.yaml"))]);
    let receipts = world.receipts("hash");
    assert_eq!(receipts.len(), 3);
    for receipt in receipts {
        assert_eq!(receipt["policy"]["hash"], answer["data"]["policy_hash"]);
    }
}

#[test]
fn context_that_is_not_signed_is_refused_where_a_key_is_set() {
    let scratch = estoppel_kit::Scratch::new("context");
    let secret = scratch.write("context.key", format!("{}\n", "07".repeat(32)));
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let routes = format!("[[route]]\nname = \"signed\"\nupstream = \"stub\"\ncontext_key = {secret:?}\n\n");
    let setup = Setup { routes, ..Setup::default() };
    let world = World::with(Script::model(), &setup);
    let t = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let text = format!("estoppel-context/v1\n{t}\nPOST /v1/chat/completions\nestoppel-run:signed\n");
    let signed = scratch.write("signed", text);
    let mac = std::process::Command::new("openssl")
        .args([
            "mac",
            "-digest",
            "SHA256",
            "-macopt",
            &format!("hexkey:{}", "07".repeat(32)),
            "-in",
            path(&signed),
            "HMAC",
        ])
        .output()
        .unwrap();
    let tag = String::from_utf8(mac.stdout).unwrap().trim().to_lowercase();
    let unsigned = world.send(&chat("signed", HELLO));
    assert_eq!((unsigned.status(), world.upstream.hits().total()), (401, 0));
    assert!(unsigned.text().contains("CONTEXT_UNSIGNED"), "{}", unsigned.text());
    let answer =
        world.send(&chat("signed", HELLO).header("estoppel-context-signature", &format!("t={t},v1={tag}")));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let receipts = world.receipts("signed");
    assert_eq!(receipts.len(), 1, "a call whose context is not believed is not in its run");
    assert_eq!(receipts[0]["call"], answer.header("estoppel-call").unwrap());
}

#[test]
fn a_trace_is_noted_if_it_is_valid_and_goes_on_as_it_came() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let world = World::new(Script::model());
    for (at, (parent, state, noted)) in [
        (PARENT, "congo=t61rcWkgMzE , rojo=1", Some(Some("congo=t61rcWkgMzE,rojo=1"))),
        (PARENT, "not a state", Some(None)),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", "congo=1", None),
        ("anything", "congo=1", None),
    ]
    .into_iter()
    .enumerate()
    {
        let request =
            chat(&format!("traced-{at}"), HELLO).header("traceparent", parent).header("tracestate", state);
        assert_eq!(world.send(&request).status(), 200);
        let seen = world.upstream.hits().last().unwrap();
        assert_eq!(seen.header("traceparent").as_deref(), Some(parent));
        assert_eq!(seen.header("tracestate").as_deref(), Some(state));
        let ext = world.receipts(&format!("traced-{at}"))[0].get("ext").cloned().unwrap_or_default();
        assert_eq!(ext.get("traceparent").and_then(Value::as_str), noted.map(|_| PARENT));
        assert_eq!(ext.get("tracestate").and_then(Value::as_str), noted.flatten());
    }
}
