//! Bodies held against contracts of the policy: JSON, lines, events and CSV, answers and requests, in every release mode.

use estoppel_kit::http::{Answer, Peer, Request};
use estoppel_stub::{Body, Dialect, Framing, ModelReply, Reply, Script, Split, ToolCall, Writes};
use serde_json::{Value, json};

use crate::support::{Setup, World, chat, cli, path};

const ORDER: &str =
    r#"{ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer", "maximum": 9 } } }"#;
const ROWS: &str = r#"{ "version": 1, "columns": [{ "name": "id", "type": "integer" }, { "name": "note", "type": "string" }] }"#;

/// A policy whose default route judges so.
fn policy(judge: &str) -> String {
    format!(
        "version: 1\nname: contracts\ncontracts:\n  order: {{ json: '{ORDER}' }}\n  rows: {{ csv: '{ROWS}' }}\n\
         limits: {{ held_bytes_max: 4096 }}\n\
         defaults: {{ verdict: allow, on_not_evaluated: block, judge: {judge} }}\n"
    )
}

fn world(judge: &str, reply: Reply) -> World {
    World::with(Script::always(reply), &Setup { policy: policy(judge), ..Setup::default() })
}

fn reply(kind: &str, body: &str) -> Reply {
    Reply::new(Body::Text(body.into())).header("content-type", kind)
}

fn get() -> Request {
    Request::new("GET", "/things").header("estoppel-run", "bodies")
}

/// As far as it came.
fn answer(world: &World, request: &Request) -> Answer {
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&request.wire("localhost")).unwrap();
    peer.read_answer().unwrap()
}

fn receipt(world: &World) -> Value {
    world.wait_for_calls("bodies", 1);
    let receipts = world.receipts("bodies");
    assert_eq!(receipts.len(), 1);
    receipts.into_iter().next().unwrap()
}

fn canonical(contract: &str) -> String {
    let value: Value = serde_json::from_str(contract).unwrap();
    estoppel_evidence::Sha256::of(value.to_string().as_bytes()).to_string()
}

const VALID: [(&str, &str, &str); 5] = [
    ("application/json", "order", " {\"n\": 1}\n"),
    ("application/vnd.shop+json; charset=UTF-8", "order", "{\"n\": 1}"),
    ("application/x-ndjson", "order", "{\"n\":1}\n\n{\"n\":2}"),
    (
        "text/event-stream",
        "order",
        ": hi\n\nid: 1\ndata: {\"n\":1}\n\ndata: {\"n\":2}\r\n\r\ndata: [DONE]\n\n",
    ),
    ("text/csv", "rows", "id,note\r\n1,a\r\n2,\"b\r\nc\"\r\n"),
];

#[test]
fn what_keeps_its_contract_passes_byte_for_byte_however_it_was_cut() {
    for (kind, contract, body) in VALID {
        let mut tags = Vec::new();
        for (framing, each) in [
            (Framing::ContentLength, 1 << 20),
            (Framing::Chunked, 1 << 20),
            (Framing::Chunked, 7),
            (Framing::Chunked, 1),
        ] {
            let reply = reply(kind, body).framing(framing).split(Split::Each { bytes: each });
            let world = world(&format!("{{ answer: {contract}, repair: r1 }}"), reply);
            let answer = answer(&world, &get());
            assert_eq!(
                (answer.status(), answer.text().as_str(), answer.end.is_none()),
                (200, body, true),
                "{kind}"
            );
            let receipt = receipt(&world);
            assert_eq!(receipt["verdict"]["action"], "allow", "{receipt}");
            assert_eq!(receipt["evaluated"]["response"]["state"], "judged", "{receipt}");
            assert_eq!(receipt["evaluated"]["response"]["skipped"], 0, "{receipt}");
            let text = if contract == "order" { ORDER } else { ROWS };
            let named =
                json!({ "response": { "digest": canonical(text), "id": contract, "source": "policy" } });
            assert_eq!(receipt["contract"], named, "{kind}");
            assert!(receipt.get("repair").is_none());
            assert_eq!(receipt["response"]["client"]["bytes"], body.len());
            tags.push((receipt["response"]["client"]["bytes"].clone(), receipt["sse"]["units"].clone()));
        }
        tags.dedup();
        assert_eq!(tags.len(), 1, "{kind}: {tags:?}");
    }
}

#[test]
fn the_bundle_holds_the_contract_that_was_enforced() {
    let world = world("{ answer: rows }", reply("text/csv", "id,note\n1,a\n"));
    assert_eq!(answer(&world, &get()).status(), 200);
    world.wait_for_calls("bodies", 1);
    let bundle = world.seal("bodies");
    let file = format!("contracts/{}.json", canonical(ROWS).strip_prefix("sha256:").unwrap());
    let listed = std::process::Command::new("unzip").args(["-p", path(&bundle), &file]).output().unwrap();
    let expected: Value = serde_json::from_str(ROWS).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&listed.stdout).unwrap(), expected);
}

#[test]
fn a_body_that_is_read_whole_is_refused_with_the_place() {
    let cases = [
        ("application/json", "order", "{\"n\":10}", "CONTRACT_VIOLATED", "`/n`"),
        ("application/json", "order", "{\"n\":1", "VALUE_TRUNCATED", "byte 6"),
        ("application/json", "order", "{\"n\":1,\"n\":2}", "VALUE_MALFORMED", "twice"),
        ("application/json", "order", "", "VALUE_TRUNCATED", ""),
        ("application/x-ndjson", "order", "{\"n\":1}\n{\"m\":1}\n", "CONTRACT_VIOLATED", "text 2"),
        ("text/csv", "rows", "id,note\n1,a\n2\n", "VALUE_MALFORMED", "row 3"),
        ("text/csv", "rows", "id,note\n1,a\n2,b\"c\n", "VALUE_MALFORMED", "row 3, column 2 `note`"),
        ("text/csv", "rows", "id,note\n1,=cmd()\n", "CONTRACT_VIOLATED", "row 2, column 2 `note`"),
        ("text/csv", "rows", "id,note\nx,a\n", "CONTRACT_VIOLATED", "row 2, column 1 `id`"),
    ];
    for (kind, contract, body, code, place) in cases {
        let world = world(&format!("{{ answer: {contract} }}"), reply(kind, body));
        let answer = world.send(&get());
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status(), &problem["code"]), (422, &json!(code)), "{body:?}: {problem}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(problem["title"].as_str().unwrap().contains(place), "{problem}");
        let receipt = receipt(&world);
        assert_eq!(receipt["verdict"], json!({ "action": "block", "mode": "enforce", "reason": code }));
        assert_eq!(receipt["outcome"]["client"], "refused");
        assert_eq!(receipt["response"]["upstream"]["status"], 200);
        assert_eq!(
            receipt["evaluated"]["response"]["state"],
            if body.is_empty() { "empty" } else { "judged" }
        );
        assert_eq!(receipt["contract"]["response"]["id"], contract);
    }
}

#[test]
fn of_a_stream_only_valid_units_leave_and_then_the_transport_breaks() {
    let cases = [
        ("application/x-ndjson", "order", "{\"n\":1}\n{\"m\":1}\n{\"n\":2}\n", "{\"n\":1}\n"),
        (
            "text/event-stream",
            "order",
            "data: {\"n\":1}\n\ndata: {}\n\ndata: {\"n\":2}\n\n",
            "data: {\"n\":1}\n\n",
        ),
        ("text/csv", "rows", "id,note\n1,a\n2,=x\n3,b\n", "id,note\n1,a\n"),
    ];
    for (kind, contract, body, left) in cases {
        for bytes in [1, 1 << 20] {
            let reply = reply(kind, body).framing(Framing::Chunked).split(Split::Each { bytes });
            let world = world(&format!("{{ answer: {contract} }}"), reply);
            let answer = answer(&world, &get());
            assert_eq!((answer.status(), answer.text().as_str()), (200, left), "{kind}");
            assert!(answer.end.is_some(), "a cut answer must not look whole");
            let receipt = receipt(&world);
            assert_eq!(receipt["verdict"]["reason"], "CONTRACT_VIOLATED");
            assert_eq!(receipt["outcome"]["complete"], false);
            assert_eq!(receipt["response"]["client"]["bytes"], left.len(), "{receipt}");
        }
    }
}

#[test]
fn malformed_texts_are_repaired_once_and_the_receipt_says_how() {
    let cases = [
        ("application/json", "order", "```json\n{\"n\": 1,}\n```", "{\"n\": 1}\n", "code_fence"),
        (
            "application/x-ndjson",
            "order",
            "{\"n\":1}\n{\"n\":2,}\n",
            "{\"n\":1}\n{\"n\":2}\n",
            "trailing_comma",
        ),
        (
            "text/event-stream",
            "order",
            "id: 1\ndata: {\"n\":2,}\n\n",
            "id: 1\ndata: {\"n\":2}\n\n",
            "trailing_comma",
        ),
        ("text/csv", "rows", "\u{feff}id,note\n1,a\n", "id,note\n1,a\n", "CSV_BYTE_ORDER_MARK_REMOVED"),
    ];
    for (kind, contract, body, left, class) in cases {
        for framing in [Framing::ContentLength, Framing::Chunked] {
            let world =
                world(&format!("{{ answer: {contract}, repair: r1 }}"), reply(kind, body).framing(framing));
            let answer = answer(&world, &get());
            assert_eq!(
                (answer.status(), answer.text().as_str(), answer.end.is_none()),
                (200, left, true),
                "{kind}"
            );
            let receipt = receipt(&world);
            assert_eq!(receipt["verdict"]["action"], "repair", "{receipt}");
            assert_eq!(receipt["repair"]["edits"][0]["op"], class, "{receipt}");
            assert_eq!(receipt["response"]["client"]["bytes"], left.len());
            assert_eq!(receipt["response"]["upstream"]["bytes"], body.len());
        }
        let strict = world(&format!("{{ answer: {contract} }}"), reply(kind, body));
        let refused = answer(&strict, &get());
        assert!(refused.status() == 422 || refused.end.is_some(), "{kind}: {}", refused.text());
    }
}

#[test]
fn further_classes_of_edits_are_made_where_the_policy_names_them() {
    let cases = [
        ("string_to_integer", "{\"n\":\"7\"}", "{\"n\":7}", false),
        ("missing_closer", "{\"n\":7,\"x\":\"a\"", "{\"n\":7,\"x\":\"a\"}", true),
    ];
    for (class, body, left, lossy) in cases {
        let granted = world(
            &format!("{{ answer: order, repair: {{ r1: [{class}] }} }}"),
            reply("application/json", body),
        );
        assert_eq!(granted.send(&get()).text(), left, "{class}");
        let receipt = receipt(&granted);
        assert_eq!(
            (&receipt["repair"]["edits"][0]["op"], &receipt["repair"]["lossy"]),
            (&json!(class), &json!(lossy))
        );
        let safe = world("{ answer: order, repair: r1 }", reply("application/json", body));
        assert_eq!(safe.send(&get()).status(), 422, "{class}");
    }
}

#[test]
fn a_signed_body_is_not_repaired() {
    let reply = reply("application/json", "{\"n\":1,}").header("content-digest", "sha-256=:AAAA:");
    let world = world("{ answer: order, repair: r1 }", reply);
    assert_eq!(world.send(&get()).status(), 422);
}

#[test]
fn what_cannot_be_held_against_a_contract_is_refused() {
    let good = "{\"n\":1}";
    let cases = [
        reply("text/plain", good),
        reply("application/json", good).header("content-encoding", "gzip"),
        reply("application/json; charset=utf-16", good),
        reply("text/csv", "id\n1\n"),
        reply("application/json", good).status(206),
        Reply::new(Body::Text(good.into())),
    ];
    for reply in cases {
        let world = world("{ answer: order }", reply);
        let answer = world.send(&get());
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status(), &problem["code"]), (422, &json!("CONTRACT_UNSUPPORTED")), "{problem}");
        let receipt = receipt(&world);
        assert_eq!(receipt["verdict"]["reason"], "CONTRACT_UNSUPPORTED");
    }
}

#[test]
fn errors_and_answers_without_a_body_are_not_held_against_it() {
    let error = world("{ answer: order }", reply("application/json", "{\"error\":1}").status(500));
    assert_eq!(
        (error.send(&get()).status(), receipt(&error)["verdict"]["action"].as_str()),
        (500, Some("allow"))
    );
    let none = world("{ answer: order }", Reply::new(Body::Text(String::new())).status(204));
    assert_eq!(none.send(&get()).status(), 204);
    let head = world("{ answer: order }", reply("application/json", "{\"m\":1}"));
    let request = Request::new("HEAD", "/things").header("estoppel-run", "bodies");
    assert_eq!(head.send(&request).status(), 200);
}

#[test]
fn hold_all_gives_nothing_before_all_has_passed() {
    let body = "{\"n\":1}\n{\"m\":1}\n";
    let bad = world(
        "{ answer: order, release: hold_all }",
        reply("application/x-ndjson", body).framing(Framing::Chunked),
    );
    let refused = bad.send(&get());
    assert_eq!(refused.status(), 422, "{}", refused.text());
    assert_eq!(receipt(&bad)["verdict"]["reason"], "CONTRACT_VIOLATED");
    let events = "data: {\"n\":1}\n\ndata: {\"n\":2}\n\n";
    let good = world(
        "{ answer: order, release: hold_all }",
        reply("text/event-stream", events).framing(Framing::Chunked),
    );
    assert_eq!(good.send(&get()).text(), events);
    assert_eq!(receipt(&good)["sse"]["units"], 2);
    let long = "{\"n\":1}\n".repeat(1000);
    let over = world(
        "{ answer: order, release: hold_all }",
        reply("application/x-ndjson", &long).framing(Framing::Chunked),
    );
    let refused = over.send(&get());
    assert_eq!(refused.status(), 422, "{}", refused.text());
    assert_eq!(receipt(&over)["verdict"]["reason"], "HELD_BYTES_MAX");
    let units = world("{ answer: order }", reply("application/x-ndjson", &long).framing(Framing::Chunked));
    assert_eq!(units.send(&get()).text(), long);
}

#[test]
fn stream_and_cut_forwards_until_the_first_violation() {
    let long = format!("{{\"n\":1,\"x\":\"{}\"}}", "y".repeat(20_000));
    let reply_of = |body: &str| {
        let writes = Writes::Each { bytes: 4096 };
        reply("application/json", body)
            .framing(Framing::Chunked)
            .split(Split::Each { bytes: 1024 })
            .writes(writes)
    };
    let good = world("{ answer: order, release: stream_and_cut }", reply_of(&long));
    assert_eq!(good.send(&get()).text(), long);
    assert_eq!(receipt(&good)["evaluated"]["response"]["state"], "judged");
    let bad = long.replace("\"n\":1", "\"m\":1");
    let cut = world("{ answer: order, release: stream_and_cut }", reply_of(&bad));
    let answer = answer(&cut, &get());
    assert_eq!(answer.status(), 200);
    assert!(answer.end.is_some());
    assert!(bad.starts_with(&answer.text()) && answer.body.len() < bad.len());
    let receipt = receipt(&cut);
    assert_eq!(receipt["verdict"]["reason"], "CONTRACT_VIOLATED");
    assert_eq!(receipt["response"]["client"]["bytes"], answer.body.len());
}

#[test]
fn observe_changes_nothing_and_records_what_it_found() {
    for (kind, body) in [
        ("application/json", "{\"m\":1,}"),
        ("application/x-ndjson", "{\"n\":1}\n{\"m\":1}\n{\"n\":2}\n"),
        ("text/event-stream", "data: nothing\n\n"),
        ("text/plain", "hello"),
    ] {
        let policy = policy("{ answer: order, repair: r1, release: observe }")
            .replace("evaluated: block", "evaluated: allow");
        let script = Script::always(reply(kind, body).framing(Framing::Chunked));
        let world = World::with(script, &Setup { policy, ..Setup::default() });
        let answer = answer(&world, &get());
        assert_eq!(
            (answer.status(), answer.text().as_str(), answer.end.is_none()),
            (200, body, true),
            "{kind}"
        );
        let receipt = receipt(&world);
        assert_eq!(receipt["verdict"]["action"], "allow", "{receipt}");
        assert_eq!(receipt["downgrades"][0]["detail"], "observed in the answer", "{receipt}");
        let code = receipt["downgrades"][0]["code"].as_str().unwrap();
        let metric = format!(
            "estoppel_violations_total{{code=\"{code}\",enforced=\"no\",route=\"stub\",side=\"answer\"}}"
        );
        assert_eq!(world.metric(&metric), Some(1.0));
    }
}

#[test]
fn requests_are_held_against_their_contract_before_anything_leaves() {
    let world = world("{ request: order }", reply("application/json", "{}"));
    let post = |body: &str| {
        Request::new("POST", "/things")
            .header("content-type", "application/json")
            .header("estoppel-run", "bodies")
            .body(body)
    };
    assert_eq!(world.send(&post("{\"n\":1}")).status(), 200);
    assert_eq!(world.send(&get()).status(), 200);
    assert_eq!(world.upstream.hits().total(), 2);
    let csv = Request::new("POST", "/things").header("content-type", "text/csv").body("id\n1\n");
    let cases = [
        (post("{\"n\":10}"), "REQUEST_VIOLATED"),
        (post("{\"n\":1,}"), "REQUEST_VIOLATED"),
        (post(""), "REQUEST_VIOLATED"),
        (csv.header("estoppel-run", "bodies"), "CONTRACT_UNSUPPORTED"),
        (Request::new("POST", "/things").header("estoppel-run", "bodies").body("n=1"), "REQUEST_VIOLATED"),
        (Request::new("GET", "/things").header("estoppel-run", "bodies").body("{}"), "REQUEST_VIOLATED"),
    ];
    let count = cases.len();
    for (request, code) in cases {
        let answer = world.send(&request);
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status(), &problem["code"]), (422, &json!(code)), "{problem}");
        assert_eq!(problem["retryable"], false, "{problem}");
    }
    let coded = world.send(&post("{\"n\":1}").header("content-encoding", "gzip"));
    assert_eq!(coded.status(), 403, "{}", coded.text());
    assert_eq!(world.upstream.hits().total(), 2, "nothing of a refused request may leave");
    world.wait_for_calls("bodies", count as u64 + 3);
    let refused = "estoppel_violations_total{code=\"REQUEST_VIOLATED\",enforced=\"yes\",route=\"stub\",side=\"request\"}";
    assert_eq!(world.metric(refused), Some(count as f64 - 1.0));
    let receipts = world.receipts("bodies");
    let named = json!({ "request": { "digest": canonical(ORDER), "id": "order", "source": "policy" } });
    assert_eq!(receipts[0]["contract"], named);
    assert_eq!(receipts[0]["evaluated"]["request"]["state"], "judged");
    assert!(receipts[1].get("contract").is_none());
    let judged = |receipt: &&Value| receipt["verdict"]["reason"] != "CONTRACT_UNSUPPORTED";
    assert!(receipts[2..count + 2].iter().filter(judged).all(|receipt| receipt["contract"] == named));
    let unheld = &receipts[2..count + 2].iter().find(|receipt| !judged(receipt)).unwrap();
    assert!(
        unheld.get("contract").is_none() && unheld["evaluated"]["request"]["state"] != "judged",
        "{unheld}"
    );
}

#[test]
fn results_of_tools_keep_their_contract_on_the_way_to_the_model() {
    let world =
        world("{ results: { place: order } }", Reply::model(ModelReply::new(Dialect::ChatCompletions)));
    let ask = |result: &str| {
        let call =
            json!({ "id": "c1", "type": "function", "function": { "name": "place", "arguments": "{}" } });
        let messages = json!([
            { "role": "assistant", "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c1", "content": result },
        ]);
        world.send(&chat("bodies", &json!({ "model": "m", "messages": messages }).to_string()))
    };
    assert_eq!(ask("{\"n\":1}").status(), 200);
    let refused = ask("{\"n\":10}");
    assert_eq!(refused.status(), 422);
    assert!(refused.text().contains("result of `place`: "), "{}", refused.text());
    assert_eq!(ask("{\"n\":1,}").status(), 422);
    let twice = r#"{"model":"m","messages":[{"role":"tool","tool_call_id":"x","content":"{}"}]}"#;
    assert!(world.send(&chat("bodies", twice)).text().contains("REQUEST_VIOLATED"));
    assert_eq!(world.upstream.hits().total(), 1);
    world.wait_for_calls("bodies", 4);
    let document =
        json!({ "results": { "place": serde_json::from_str::<Value>(ORDER).unwrap() } }).to_string();
    let digest = estoppel_evidence::Sha256::of(document.as_bytes()).to_string();
    let receipts = world.receipts("bodies");
    for receipt in &receipts[..3] {
        assert_eq!(receipt["contract"]["request"], json!({ "digest": digest, "source": "policy" }));
        assert_eq!(receipt["evaluated"]["request"]["state"], "judged");
    }
}

#[test]
fn what_a_request_asks_for_and_nobody_can_enforce_is_refused_before_it_is_sent() {
    let tool = |schema: &str| {
        format!(
            r#"{{"model":"m","messages":[],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}"#
        )
    };
    let remote = tool(r#"{"properties":{"a":{"$ref":"http://x/y"}}}"#);
    let text = r#"{"model":"m","messages":[],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"$ref":"http://x/y"}}}}"#;
    let model = || Reply::model(ModelReply::saying(Dialect::ChatCompletions, "{}"));
    let strict = world("{ unknown_tools: block }", model());
    let lenient = world("{ unknown_tools: json }", model());
    for (world, request, place) in [
        (&strict, remote.as_str(), "tool `f`: "),
        (&strict, text, "the text: "),
        (&lenient, text, "the text: "),
    ] {
        let refused = world.send(&chat("bodies", request));
        assert_eq!(refused.status(), 422, "{}", refused.text());
        assert!(
            refused.text().contains("CONTRACT_UNSUPPORTED") && refused.text().contains(place),
            "{}",
            refused.text()
        );
        assert!(refused.text().contains("$ref"), "{}", refused.text());
    }
    assert_eq!(strict.upstream.hits().total() + lenient.upstream.hits().total(), 0);
    assert_eq!(
        lenient.send(&chat("bodies", &remote)).status(),
        200,
        "a tool that is not called harms nobody"
    );
    assert_eq!(strict.send(&chat("bodies", &tool(r#"{"type":"object"}"#))).status(), 200);
}

#[test]
fn formats_are_asserted_where_the_policy_says_so() {
    let day = r#"{ "type": "object", "properties": { "day": { "type": "string", "format": "date" } } }"#;
    let policy = |formats: &str| {
        format!(
            "version: 1\nname: formats\ncontracts:\n  day: {{ json: '{day}' }}\n\
             defaults: {{ verdict: allow, judge: {{ answer: day{formats} }} }}\n"
        )
    };
    for (formats, body, status) in [
        ("", r#"{"day":"tomorrow"}"#, 200),
        (", formats: annotate", r#"{"day":"tomorrow"}"#, 200),
        (", formats: assert", r#"{"day":"tomorrow"}"#, 422),
        (", formats: assert", r#"{"day":"2026-11-21"}"#, 200),
    ] {
        let setup = Setup { policy: policy(formats), ..Setup::default() };
        let world = World::with(Script::always(reply("application/json", body)), &setup);
        let answer = world.send(&get());
        assert_eq!(answer.status(), status, "{formats} {body}: {}", answer.text());
    }
    let scratch = estoppel_kit::Scratch::new("formats");
    let unknown = policy(", formats: assert").replace("\"date\"", "\"postcode\"");
    let file = scratch.write("policy.yaml", unknown);
    let (code, report) = cli(&["policy", "lint", path(&file)]);
    assert!(code == 6 && report.to_string().contains("/properties/day/format"), "{report}");
}

#[test]
fn a_request_in_which_nothing_is_held_against_its_contract_does_not_leave() {
    let world = world("{ request: order }", reply("application/json", "{}"));
    let send = |path: &str, kinds: &[&str], body: &str| {
        let request = Request::new("POST", path).header("estoppel-run", "bodies").body(body);
        world.send(&kinds.iter().fold(request, |request, kind| request.header("content-type", kind)))
    };
    let chat = r#"{"model":"m","messages":[]}"#;
    for (path, kinds, body) in [
        ("/things", &["text/event-stream"][..], "{\"n\":10}\n\n"),
        ("/things", &["text/event-stream"], "data: {\"n\":1}\n\n"),
        ("/things", &["text/event-stream", "application/json"], "{\"n\":10}\n\n"),
        ("/things", &["application/json", "application/json"], "{\"n\":1}"),
        ("/things", &["application/x-ndjson"], "\n \n"),
        ("/things", &["application/json; charset = utf-7"], "{\"n\":1}"),
        ("/things", &["application/json; charset=utf-8; charset=utf-7"], "{\"n\":1}"),
        ("/things", &["application/json; x=\";charset=utf-8;\"; charset=utf-7"], "{\"n\":1}"),
        ("/v1/chat/completions", &["text/event-stream"], chat),
        ("/v1/chat/completions", &["application/x-ndjson"], chat),
        ("/v1/chat/completions", &["application/json"], chat),
    ] {
        let answer = send(path, kinds, body);
        assert!([403, 422].contains(&answer.status()), "{kinds:?} {body}: {}", answer.text());
    }
    assert_eq!(world.upstream.hits().total(), 0);
    assert_eq!(
        send("/things", &["application/json; charset=\"UTF-8\"; profile=a"], "{\"n\":1}").status(),
        200
    );
}

#[test]
fn an_answer_that_clients_may_decode_otherwise_is_refused() {
    const OFFER: &str = r#"{"model":"m","messages":[]}"#;
    let said =
        r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}"#;
    for kind in [
        "application/json; charset=utf-16",
        "application/json;charset = utf-7",
        "text/event-stream; charset=utf-7",
    ] {
        let world = world("{}", reply(kind, said));
        let answer = world.send(&chat("bodies", OFFER));
        assert_eq!(answer.status(), 422, "{kind}: {}", answer.text());
        assert_eq!(receipt(&world)["verdict"]["reason"], "CONTRACT_UNSUPPORTED");
    }
    let twice =
        world("{ answer: order }", reply("application/json", "{\"n\":1}").header("content-type", "text/csv"));
    assert_eq!(twice.send(&get()).status(), 422);
    let coded = reply("application/json", "{\"n\":1}")
        .header("content-encoding", "identity")
        .header("content-encoding", "gzip");
    assert_eq!(world("{ answer: order }", coded).send(&get()).status(), 422);
}

#[test]
fn every_successful_answer_with_a_body_is_judged() {
    for status in [200, 201, 203, 205, 299] {
        let bad = world("{ answer: order }", reply("application/json", "{\"n\":10}").status(status));
        assert_eq!(bad.send(&get()).status(), 422, "{status}");
    }
    let calls = vec![ToolCall { name: "place".into(), arguments: "{\"n\":10}".into() }];
    let model = ModelReply { calls: Some(calls), ..ModelReply::new(Dialect::ChatCompletions) };
    let reset = world("{ tools: { place: order } }", Reply::model(model).status(205));
    assert_eq!(reset.send(&chat("bodies", r#"{"model":"m","messages":[]}"#)).status(), 422);
}

#[test]
fn what_a_model_was_cut_in_is_not_closed_for_it() {
    for (finish, stream, passes) in [
        ("length", false, false),
        ("content_filter", true, false),
        ("length", true, false),
        ("tool_calls", true, true),
    ] {
        let calls = vec![ToolCall { name: "place".into(), arguments: "{\"n\":1,\"x\":\"a\"".into() }];
        let finish = Some(finish.to_owned());
        let model = ModelReply { calls: Some(calls), finish, ..ModelReply::new(Dialect::ChatCompletions) };
        let world =
            world("{ tools: { place: order }, repair: { r1: [missing_closer] } }", Reply::model(model));
        let ask = json!({ "model": "m", "messages": [], "stream": stream }).to_string();
        let answer = answer(&world, &chat("bodies", &ask));
        let passed = answer.status() == 200 && answer.end.is_none();
        assert_eq!(passed, passes, "{stream}: {}", answer.text());
        let receipt = receipt(&world);
        assert_eq!(receipt["verdict"]["action"], if passes { "repair" } else { "block" }, "{receipt}");
    }
}

#[test]
fn a_client_that_cannot_tell_a_cut_gets_the_answer_whole_or_not_at_all() {
    use std::io::{Read as _, Write as _};
    for (body, status) in [("{\"n\":1}\n{\"m\":1}\n", "422"), ("{\"n\":1}\n{\"n\":2}\n", "200")] {
        let world = world("{ answer: order }", reply("application/x-ndjson", body).framing(Framing::Chunked));
        let mut stream = std::net::TcpStream::connect(world.gateway).unwrap();
        stream.write_all(b"GET /things HTTP/1.0\r\nhost: localhost\r\nestoppel-run: bodies\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.0 {status}")), "{text}");
        assert_eq!(text.ends_with(body), status == "200", "{text}");
    }
}

#[test]
fn what_was_repaired_was_looked_at() {
    let world = world("{ answer: order, repair: r1 }", reply("application/json", "\u{feff}{\"n\":1,}"));
    assert_eq!(world.send(&get()).status(), 200);
    let looked = receipt(&world)["evaluated"]["response"].clone();
    assert_eq!(looked, json!({ "bytes": 11, "skipped": 0, "state": "judged" }));
}

#[test]
fn a_route_says_only_what_is_different_there() {
    let policy =
        policy("{ answer: order, repair: r1 }") + "routes: { stub: { judge: { release: hold_all } } }\n";
    for (body, status) in [("{\"n\":1,}", 200), ("{\"n\":10}", 422)] {
        let setup = Setup { policy: policy.clone(), ..Setup::default() };
        let world = World::with(Script::always(reply("application/json", body)), &setup);
        assert_eq!(world.send(&get()).status(), status, "{body}");
    }
    let off = policy.replace("{ release: hold_all }", "none");
    let world = World::with(
        Script::always(reply("application/json", "{\"n\":10}")),
        &Setup { policy: off, ..Setup::default() },
    );
    assert_eq!(world.send(&get()).status(), 200);
}

#[test]
fn csv_is_uploaded_only_if_it_keeps_its_contract() {
    let world = world("{ request: rows }", reply("application/json", "{}"));
    let put = |body: &str| Request::new("PUT", "/rows").header("content-type", "text/csv").body(body);
    assert_eq!(world.send(&put("id,note\n1,a\n")).status(), 200);
    let refused = world.send(&put("id,note\n1,@SUM(A1)\n"));
    assert_eq!(refused.status(), 422);
    assert!(refused.text().contains("row 2, column 2 `note`"), "{}", refused.text());
    assert_eq!(world.upstream.hits().total(), 1);
}

#[test]
fn a_tool_of_the_policy_takes_the_place_of_the_requests_own() {
    const OFFER: &str = r#"{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"place","parameters":{"type":"object"}}}]}"#;
    for (arguments, status) in [("{\"n\":1}", 200), ("{\"n\":10}", 422), ("{}", 422)] {
        let calls = vec![ToolCall { name: "place".into(), arguments: arguments.into() }];
        let model = ModelReply { calls: Some(calls), ..ModelReply::new(Dialect::ChatCompletions) };
        let world = world("{ tools: { place: order } }", Reply::model(model));
        let answer = world.send(&chat("bodies", OFFER));
        assert_eq!(answer.status(), status, "{}", answer.text());
        let receipt = receipt(&world);
        let enforced =
            json!({ "tools": { "place": serde_json::from_str::<Value>(ORDER).unwrap() } }).to_string();
        let digest = estoppel_evidence::Sha256::of(enforced.as_bytes()).to_string();
        assert_eq!(
            receipt["contract"]["response"],
            json!({ "digest": digest, "id": "place", "source": "policy" })
        );
        if status == 422 {
            assert!(answer.text().contains("call of `place`: "), "{}", answer.text());
        }
    }
}

#[test]
fn a_model_answer_is_observed_cut_or_held_whole_as_the_policy_says() {
    const OFFER: &str = r#"{"model":"m","stream":true,"messages":[],"tools":[{"type":"function","function":{"name":"place","parameters":{"type":"object","required":["n"]}}}]}"#;
    let run = |release: &str, arguments: &str| {
        let calls = vec![ToolCall { name: "place".into(), arguments: arguments.into() }];
        let model = ModelReply { calls: Some(calls), ..ModelReply::new(Dialect::ChatCompletions) };
        let world = world(&format!("{{ repair: r1, release: {release} }}"), Reply::model(model));
        let answer = answer(&world, &chat("bodies", OFFER));
        (answer, receipt(&world))
    };
    let (observed, receipt) = run("observe", "{}");
    assert!(observed.end.is_none() && observed.text().contains("[DONE]"), "{}", observed.text());
    assert_eq!(
        receipt["downgrades"],
        json!([{ "code": "CONTRACT_VIOLATED", "detail": "observed in the answer" }])
    );
    assert_eq!(receipt["verdict"]["action"], "allow");
    let (cut, receipt) = run("stream_and_cut", "{}");
    assert!(cut.end.is_some() && !cut.text().contains("[DONE]"), "{}", cut.text());
    assert_eq!(receipt["verdict"]["reason"], "CONTRACT_VIOLATED");
    assert_eq!(receipt["response"]["client"]["bytes"], cut.body.len());
    let (refused, receipt) = run("hold_all", "{}");
    assert_eq!(refused.status(), 422, "{}", refused.text());
    assert_eq!(receipt["verdict"]["reason"], "CONTRACT_VIOLATED");
    let (held, receipt) = run("hold_all", "{\"n\":1,}");
    assert!(held.status() == 200 && held.text().contains("[DONE]"), "{}", held.text());
    assert_eq!(receipt["verdict"]["action"], "repair");
}

#[test]
fn a_call_in_two_thousand_deltas_is_held_back_and_judged_within_the_default_limits() {
    for (dialect, path) in [
        (Dialect::ChatCompletions, "/v1/chat/completions"),
        (Dialect::Responses, "/v1/responses"),
        (Dialect::Messages, "/v1/messages"),
    ] {
        let arguments = json!({ "text": "x".repeat(20_000) }).to_string();
        let calls = vec![ToolCall { name: "write".into(), arguments }];
        let model = ModelReply { calls: Some(calls), fragment_bytes: Some(10), ..ModelReply::new(dialect) };
        let policy = "version: 1\nname: long\ndefaults: { verdict: allow, judge: {} }\n";
        let setup = Setup { policy: policy.into(), ..Setup::default() };
        let world = World::with(Script::always(Reply::model(model)), &setup);
        let ask = r#"{"model":"m","stream":true,"max_tokens":1,"messages":[],"input":"x"}"#;
        let request = Request::new("POST", path).header("content-type", "application/json");
        let answer = answer(&world, &request.header("estoppel-run", "bodies").body(ask));
        assert!(answer.end.is_none(), "{path}: {}", answer.text().len());
        let receipt = receipt(&world);
        assert!(receipt["sse"]["events"].as_u64() > Some(2_000), "{receipt}");
        assert_eq!(receipt["evaluated"]["response"]["state"], "judged", "{receipt}");
    }
}

#[test]
fn what_all_calls_hold_back_together_is_bounded() {
    let policy = policy("{ answer: order, release: hold_all }").replace("4096", "8388608");
    let long = format!("{{\"n\":1,\"x\":\"{}\"}}", "y".repeat(3 << 20));
    let reply = reply("application/json", &long).framing(Framing::Chunked);
    let setup = Setup { policy, config: "[server]\nheld_mib = 2\n".into(), ..Setup::default() };
    let world = World::with(Script::always(reply), &setup);
    let answer = world.send(&get());
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    assert_eq!(receipt(&world)["outcome"]["code"], "IN_FLIGHT_MAX");
}

#[test]
fn a_contract_that_cannot_be_enforced_keeps_its_policy_from_being_loaded() {
    let scratch = estoppel_kit::Scratch::new("contract");
    let text = "version: 1\nname: bad\ncontracts:\n  order: { json: '{\"properties\":{\"a\":{\"typo\":1,\"$ref\":\"http://x/y\"}}}' }\n  \
                rows: { csv: '{\"version\":1,\"colums\":[]}' }\n";
    let file = scratch.write("policy.yaml", text);
    let (code, report) = cli(&["policy", "lint", path(&file)]);
    assert_eq!(code, 6, "{report}");
    let text = report.to_string();
    assert!(text.contains("contract `order`") && text.contains("/properties/a/$ref"), "{text}");
    assert!(text.contains("contract `rows`") && text.contains("colums"), "{text}");
    for (keyword, code) in [("maximun", 6), ("nullable", 6), ("x-ours", 0), ("examples", 0), ("if", 0)] {
        let value = if keyword == "examples" { "[1]" } else { "{}" };
        let schema = format!("{{\"properties\":{{\"a\":{{\"{keyword}\":{value}}}}}}}");
        let text = format!("version: 1\nname: bad\ncontracts: {{ c: {{ json: '{schema}' }} }}\n");
        let (got, report) = cli(&["policy", "lint", path(&scratch.write("keyword.yaml", text))]);
        assert_eq!(got, code, "{keyword}: {report}");
        assert!(code == 0 || report.to_string().contains(&format!("/properties/a/{keyword}")), "{report}");
    }
    for number in ["9007199254740993", "1e400", "0.10000000000000000001"] {
        let text =
            format!("version: 1\nname: bad\ncontracts: {{ c: {{ json: '{{\"const\":{number}}}' }} }}\n");
        let (code, report) = cli(&["policy", "lint", path(&scratch.write("numbers.yaml", text))]);
        assert!(code == 6 && report.to_string().contains("double"), "{number}: {report}");
    }
}
