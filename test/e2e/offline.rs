//! `estoppel judge` and `estoppel contract`: what they say, that it is what the daemon does, and that they keep little.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use estoppel_kit::Scratch;
use estoppel_kit::http::{Peer, Request};
use estoppel_stub::{Body, Dialect, ModelReply, Reply, Script, ToolCall};
use serde_json::{Value, json};

use crate::support::{Setup, World, chat, cli, cli_binary, path};

const ORDER: &str =
    r#"{ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer", "maximum": 9 } } }"#;
const ROWS: &str = r#"{ "version": 1, "columns": [{ "name": "id", "type": "integer" }, { "name": "note", "type": "string" }] }"#;

/// A folder with both contracts.
fn folder(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    scratch.write("order.schema.json", ORDER);
    scratch.write("rows.contract.json", ROWS);
    scratch
}

/// Data of `estoppel judge` in `chunk` bytes, and what left.
fn judge(scratch: &Scratch, file: &Path, more: &[&str], chunk: u32) -> (i32, Value, Vec<u8>) {
    let out = scratch.join("out");
    let chunk = chunk.to_string();
    let words = [&["judge", path(file), "--chunk", &chunk, "--out", path(&out)], more].concat();
    let (code, answer) = cli(&words);
    let left = std::fs::read(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    (code, answer["data"].clone(), left)
}

/// The same in pieces of every size.
fn judged(scratch: &Scratch, file: &Path, more: &[&str]) -> (i32, Value, String) {
    let whole = judge(scratch, file, more, 1 << 20);
    for chunk in [1, 2, 7, 64] {
        let pieces = judge(scratch, file, more, chunk);
        assert_eq!((pieces.0, &pieces.2), (whole.0, &whole.2), "{} by {chunk}", file.display());
        for key in ["verdict", "reason", "detail", "place", "edits", "lossy"] {
            assert_eq!(pieces.1[key], whole.1[key], "{key} of {} by {chunk}", file.display());
        }
    }
    (whole.0, whole.1, String::from_utf8(whole.2).unwrap())
}

#[test]
fn a_body_is_judged_alike_in_pieces_of_any_size() {
    let scratch = folder("bodies");
    let order = scratch.join("order.schema.json");
    let rows = scratch.join("rows.contract.json");
    // Name, body, verdict, reason, place, what leaves.
    let cases = [
        ("a.json", " {\"n\": 1}\n", "pass", "", "", " {\"n\": 1}\n"),
        ("b.json", "{\"n\":1,}", "repair", "", "", "{\"n\":1}"),
        ("c.json", "{\"n\":10}", "block", "CONTRACT_VIOLATED", "`/n`, byte 5", ""),
        ("d.json", "{\"n\":1", "block", "VALUE_TRUNCATED", "`/n`, byte 6", ""),
        ("a.ndjson", "{\"n\":1}\n\n{\"n\":2}", "pass", "", "", "{\"n\":1}\n\n{\"n\":2}"),
        (
            "b.jsonl",
            "{\"n\":1}\n{}\n{\"n\":2}\n",
            "block",
            "CONTRACT_VIOLATED",
            "text 2, ``, byte 1",
            "{\"n\":1}\n",
        ),
        ("a.sse", "id: 1\ndata: {\"n\":1,}\n\n", "repair", "", "", "id: 1\ndata: {\"n\":1}\n\n"),
        ("b.sse", "data: {\"n\":1}\n\ndata: 1", "block", "VALUE_TRUNCATED", "", "data: {\"n\":1}\n\n"),
        ("a.csv", "id,note\r\n1,a\r\n", "pass", "", "", "id,note\r\n1,a\r\n"),
        (
            "b.csv",
            "id,note\n1,a\n2,=1+1\n",
            "block",
            "CONTRACT_VIOLATED",
            "row 3, column 2, byte 14",
            "id,note\n1,a\n",
        ),
        ("c.csv", "\u{feff}id,note\n1,a\n", "repair", "", "", "id,note\n1,a\n"),
    ];
    for (name, body, verdict, reason, place, left) in cases {
        let contract = if name.ends_with(".csv") { &rows } else { &order };
        let file = scratch.write(name, body);
        let (code, data, out) = judged(&scratch, &file, &["--contract", path(contract), "--repair", "r1"]);
        assert_eq!(code, if verdict == "block" { 3 } else { 0 }, "{name}: {data}");
        assert_eq!(data["verdict"], verdict, "{name}: {data}");
        assert_eq!(data["reason"].as_str().unwrap_or_default(), reason, "{name}: {data}");
        assert_eq!(data["place"]["text"].as_str().unwrap_or_default(), place, "{name}: {data}");
        assert_eq!(out, left, "{name}");
        assert_eq!(data["edits"].as_array().unwrap().is_empty(), verdict != "repair", "{name}: {data}");
    }
    let (_, data, _) =
        judge(&scratch, &scratch.join("b.json"), &["--contract", path(&order), "--repair", "r1"], 9);
    let edit = json!([{ "class": "trailing_comma", "offset": 6, "bytes": 1, "tool": null }]);
    assert_eq!((&data["edits"], &data["units"], &data["bytes"]), (&edit, &json!(1), &json!(8)), "{data}");
    let (_, data, _) = judge(&scratch, &scratch.join("b.csv"), &["--contract", path(&rows)], 9);
    let place = json!({ "code": "CSV_FORMULA", "row": 3, "column": 2, "name": "note", "byte": 14,
        "text": "row 3, column 2, byte 14", "unit": null, "tool": null });
    assert_eq!(data["place"], place);
}

#[test]
fn what_is_said_to_people_has_verdict_place_edits_and_time() {
    let scratch = folder("words");
    let file = scratch.write("a.ndjson", "{\"n\":1,}\n{\"n\":\"x\"}\n");
    let done = Command::new(cli_binary())
        .args([
            "judge",
            path(&file),
            "--contract",
            path(&scratch.join("order.schema.json")),
            "--repair",
            "r1",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(3));
    for line in [
        "a.ndjson: block\n",
        "reason        CONTRACT_VIOLATED: text 2: fails `/properties/n/type` at `/n`, byte 5\n",
        "place         text 2, `/n`, byte 5\n",
        "edit          trailing_comma at byte 6, 1 deleted\n",
        "judged        1 in 19 bytes\n",
        "held back     9 bytes at most\n",
        " MB/s\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn what_cannot_be_judged_is_said_before_anything_is_read() {
    let scratch = folder("refused");
    let (order, rows) = (scratch.join("order.schema.json"), scratch.join("rows.contract.json"));
    let file = scratch.write("a.txt", "{}");
    let json = scratch.write("a.json", "{}");
    let bad = scratch.write("bad.schema.json", "{ \"type\": \"objekt\", \"items\": 1 }");
    let policy = scratch.write("policy.yaml", "version: 1\nname: none\ndefaults: { verdict: allow }\n");
    let code = |words: &[&str]| {
        let (code, answer) = cli(&[&["judge"], words].concat());
        let error = answer["error"]["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        (code, error)
    };
    let refused = |words: &[&str], expected: &str| assert_eq!(code(words), (6, expected.into()), "{words:?}");
    refused(&[path(&file), "--contract", path(&order)], "ARGUMENT_INVALID");
    refused(&[path(&json)], "ARGUMENT_INVALID");
    refused(&[path(&json), "--contract", path(&bad)], "CONTRACT_INVALID");
    refused(&[path(&json), "--contract", "order", "--policy", path(&policy)], "ARGUMENT_INVALID");
    refused(&[path(&json), "--policy", path(&policy), "--route", "llm"], "ARGUMENT_INVALID");
    refused(&[path(&json), "--contract", path(&order), "--repair", "r1+guess"], "ARGUMENT_INVALID");
    refused(&[path(&json), "--contract", path(&order), "--chunk", "0"], "ARGUMENT_INVALID");
    refused(&[path(&json), "--dialect", "gemini", "--policy", path(&policy)], "ARGUMENT_INVALID");
    refused(&[path(&json), "--dialect", "gemini", "--as", "csv"], "ARGUMENT_INVALID");
    refused(&["/no/such/file.json", "--contract", path(&order)], "FILE_UNREADABLE");
    let kept = scratch.write("kept", "mine");
    assert_eq!(
        code(&[path(&json), "--contract", path(&order), "--out", path(&kept)]),
        (8, "OUTPUT_EXISTS".into())
    );
    assert_eq!(scratch.read("kept"), b"mine");
    let (exit, answer) = cli(&["judge", path(&json), "--contract", path(&rows)]);
    assert_eq!((exit, &answer["data"]["reason"]), (3, &json!("CONTRACT_UNSUPPORTED")), "{answer}");
}

#[test]
fn release_and_held_bytes_are_those_of_the_daemon() {
    let scratch = folder("release");
    let order = scratch.join("order.schema.json");
    let text = format!("{{\"n\":1,\"note\":\"{}\"}}", "x".repeat(4000));
    let file = scratch.write("long.json", &text);
    let run = |more: &[&str]| judge(&scratch, &file, &[&["--contract", path(&order)], more].concat(), 100);
    let (code, data, out) = run(&["--held-bytes-max", "1024"]);
    assert_eq!((code, data["release"].as_str()), (0, Some("stream_and_cut")), "{data}");
    assert_eq!((out.len(), &data["held_bytes_most"]), (text.len(), &json!(0)));
    for release in ["hold_structured", "hold_all"] {
        let (code, data, out) = run(&["--held-bytes-max", "1024", "--release", release]);
        assert_eq!((code, data["reason"].as_str(), out.len()), (3, Some("HELD_BYTES_MAX"), 0), "{data}");
        assert_eq!(run(&["--release", release]).0, 0);
    }
    assert_eq!(run(&["--held-bytes-max", "1024", "--repair", "r1"]).1["reason"], "HELD_BYTES_MAX");
    let lines = scratch.write("lines.ndjson", "{\"n\":1}\n{}\n{\"n\":2}\n");
    let run = |release: &str| {
        let more = ["--contract", path(&order), "--release", release];
        let (code, data, out) = judge(&scratch, &lines, &more, 4);
        (code, data["observed"].clone(), data["reason"].clone(), String::from_utf8(out).unwrap())
    };
    let violated = json!("CONTRACT_VIOLATED");
    let told = |code, observed: bool, out: &str| (code, json!(observed), violated.clone(), out.to_owned());
    assert_eq!(run("hold_structured"), told(3, false, "{\"n\":1}\n"));
    assert_eq!(run("hold_all"), told(3, false, ""));
    assert_eq!(run("stream_and_cut"), told(3, false, "{\"n\":1}\n"));
    assert_eq!(run("observe"), told(0, true, "{\"n\":1}\n{}\n{\"n\":2}\n"));
    let policy = scratch.write("policy.yaml", POLICY.replace("JUDGE", "none").replace("4096", "1024"));
    let of_policy = ["--contract", "order", "--policy", path(&policy), "--release", "hold_structured"];
    assert_eq!(judge(&scratch, &file, &of_policy, 100).1["reason"], "HELD_BYTES_MAX");
}

const POLICY: &str = "version: 1
name: same
contracts:
  order: { json: '{ \"type\": \"object\", \"required\": [\"n\"], \"properties\": { \"n\": { \"type\": \"integer\", \"maximum\": 9 } } }' }
  rows: { csv: '{ \"version\": 1, \"columns\": [{ \"name\": \"id\", \"type\": \"integer\" }, { \"name\": \"note\", \"type\": \"string\" }] }' }
limits: { held_bytes_max: 4096 }
defaults: { verdict: allow, judge: JUDGE }
";

/// What the daemon makes of an answer to `request`, and what `estoppel judge` says of the upstream's bytes, are the same.
fn same(reply: Reply, judge: &str, request: &Request, ending: &str, more: &[&str]) -> String {
    let policy = POLICY.replace("JUDGE", judge);
    let world = World::with(Script::always(reply), &Setup { policy, ..Setup::default() });
    let came = estoppel_kit::http::send(world.upstream.addr(), request).unwrap();
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&request.wire("localhost")).unwrap();
    let client = peer.read_answer().unwrap();
    world.wait_for_calls("same", 1);
    let receipt = world.receipts("same").remove(0);

    let scratch = Scratch::new("same");
    let file = scratch.write(format!("answer.{ending}"), &came.body);
    let policy = world.scratch.join("policy.yaml");
    let more = [&["--policy", path(&policy), "--route", "stub"], more].concat();
    let (_, data, out) = judged(&scratch, &file, &more);
    let verdict = data["verdict"].as_str().unwrap().to_owned();
    assert_eq!(
        receipt["verdict"]["action"],
        if verdict == "pass" { "allow" } else { &verdict },
        "{data} {receipt}"
    );
    assert_eq!(receipt["verdict"]["reason"], data["reason"], "{data} {receipt}");
    let edits: Vec<Value> = data["edits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edit| json!({ "at": edit["offset"], "del": edit["bytes"], "op": edit["class"] }))
        .collect();
    assert_eq!(receipt["repair"]["edits"].as_array().cloned().unwrap_or_default(), edits, "{data} {receipt}");
    if verdict != "block" {
        assert_eq!(client.text(), out, "{data}");
    } else if client.status() == 200 {
        assert!(client.text().starts_with(&out), "{out} {}", client.text());
    } else {
        let detail = data["detail"].as_str().unwrap();
        assert_eq!(client.status(), 422);
        assert!(client.text().contains(&detail.replace('"', "\\\"")), "{detail} {}", client.text());
    }
    verdict
}

#[test]
fn bodies_come_to_what_the_daemon_makes_of_them() {
    let get = Request::new("GET", "/things").header("estoppel-run", "same");
    let check = |kind: &str, ending: &str, contract: &str, body: &str, verdict: &str| {
        let reply = Reply::new(Body::Text(body.into())).header("content-type", kind);
        let judge = format!("{{ answer: {contract}, repair: r1 }}");
        assert_eq!(same(reply, &judge, &get, ending, &[]), verdict, "{body}");
    };
    check("application/json", "json", "order", "{\"n\": 1}", "pass");
    check("application/json", "json", "order", "// one\n{\"n\": 1}", "repair");
    check("application/json", "json", "order", "{\"n\": \"one\"}", "block");
    check("application/x-ndjson", "ndjson", "order", "{\"n\":1,}\n{\"n\":2}\n", "repair");
    check("text/event-stream", "sse", "order", "data: {\"n\":1}\n\ndata: {}\n\n", "block");
    check("text/csv", "csv", "rows", "id,note\n1,a\n2,\"b\n", "block");
}

#[test]
fn a_models_answer_comes_to_what_the_daemon_makes_of_it() {
    let surfaces = [
        ("openai_chat", "/v1/chat/completions", Dialect::ChatCompletions, false),
        ("openai_chat", "/v1/chat/completions", Dialect::ChatCompletions, true),
        ("openai_responses", "/v1/responses", Dialect::Responses, true),
        ("anthropic_messages", "/v1/messages", Dialect::Messages, true),
    ];
    let cases = [
        (r#"{"city": "Köln"}"#, "pass"),
        ("```json\n{\"city\": \"Köln\",}\n```", "repair"),
        (r#"{"city": 5}"#, "block"),
        (r#"{"city": "Köl"#, "block"),
    ];
    for (dialect, target, shape, stream) in surfaces {
        let kind = if stream { "_stream" } else { "" };
        let file = format!("test/e2e/wire/{dialect}{kind}.request.json");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let body = std::fs::read(&file).unwrap();
        let request = Request::new("POST", target)
            .header("content-type", "application/json")
            .header("estoppel-run", "same")
            .body(body);
        for (arguments, verdict) in cases {
            let call = ToolCall { name: "get_weather".into(), arguments: arguments.into() };
            let reply = Reply::model(ModelReply { calls: Some(vec![call]), ..ModelReply::new(shape) });
            let more = ["--dialect", dialect, "--request", path(&file)];
            let judge = "{ unknown_tools: block, repair: r1 }";
            let ending = if stream { "sse" } else { "json" };
            assert_eq!(same(reply, judge, &request, ending, &more), verdict, "{dialect}{kind} {arguments}");
        }
    }
}

#[test]
fn a_stream_with_line_ends_of_two_bytes_may_be_cut_between_them() {
    let scratch = folder("line-ends");
    let request = root().join("examples/contracts/answers.request.json");
    let event = |arguments: &str, first: bool| {
        let function = json!({ "name": if first { "place_order" } else { "" }, "arguments": arguments });
        let call = json!({ "index": 0, "id": if first { "c" } else { "" }, "function": function });
        let choice = json!({ "index": 0, "delta": { "tool_calls": [call] } });
        format!("data: {}\r\n\r\n", json!({ "choices": [choice] })).replace("\"name\":\"\"", "\"name\":null")
    };
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\r\n\r\ndata: [DONE]\r\n\r\n";
    let comment = ": hello\r\n\r\n";
    let stream = |pieces: [&str; 2], first: &str, between: &str| {
        [first, &event(pieces[0], true), between, &event(pieces[1], false), end].concat()
    };
    let asked = ["--dialect", "openai_chat", "--request", path(&request), "--repair", "r1"];
    let pieces = ["{\"sku\":", "\"AB-1234\"}"];
    let file = scratch.write("good", stream(pieces, "", comment));
    let (code, data, out) = judged(&scratch, &file, &asked);
    assert_eq!(
        (code, data["verdict"].as_str(), out),
        (0, Some("pass"), stream(pieces, "", comment)),
        "{data}"
    );
    let damaged = scratch.write("damaged", stream([pieces[0], "\"AB-1234\",}"], "", comment));
    let (code, data, out) = judged(&scratch, &damaged, &asked);
    let repaired = stream(["{\"sku\":\"AB-1234\"}", ""], "", comment);
    assert_eq!((code, data["verdict"].as_str(), out), (0, Some("repair"), repaired), "{data}");
    let cut = scratch.write("cut", event("{", true));
    assert_eq!(judged(&scratch, &cut, &asked).1["reason"], "TRUNCATED");
}

#[test]
fn the_policy_takes_the_place_of_what_a_request_asks_for() {
    let scratch = folder("policy");
    let tool =
        json!({ "type": "function", "function": { "name": "order", "parameters": { "type": "object" } } });
    let request = json!({ "model": "m", "messages": [], "tools": [tool] });
    let request = scratch.write("request.json", request.to_string());
    let policy = scratch.write("policy.yaml", POLICY.replace("JUDGE", "{ tools: { order: order } }"));
    let call = json!({ "id": "c", "type": "function", "function": { "name": "order", "arguments": "{}" } });
    let message = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
    let answer = json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "tool_calls" }] });
    let answer = scratch.write("answer", answer.to_string());
    let asked = ["--dialect", "openai_chat", "--request", path(&request)];
    assert_eq!(judged(&scratch, &answer, &asked).1["verdict"], "pass");
    let of_route = [&asked[..], &["--policy", path(&policy), "--route", "llm"]].concat();
    let (code, data, out) = judged(&scratch, &answer, &of_route);
    assert_eq!((code, data["reason"].as_str(), out.as_str()), (3, Some("CONTRACT_VIOLATED"), ""));
    assert_eq!(data["place"]["tool"], "order");
    assert_eq!(data["detail"], "call of `order`: fails `/required` at the top, byte 1: `n` is missing");
}

#[test]
fn a_request_that_the_daemon_would_not_send_is_refused_for_it() {
    let scratch = folder("request");
    let text =
        json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": { "$ref": "http://a/b" } } });
    let request = json!({ "model": "m", "messages": [], "response_format": text });
    let request = scratch.write("request.json", request.to_string());
    let message = json!({ "role": "assistant", "content": "{}" });
    let answer = json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] });
    let answer = scratch.write("answer", answer.to_string());
    let asked = ["--dialect", "openai_chat", "--request", path(&request)];
    let (code, data, out) = judged(&scratch, &answer, &asked);
    assert_eq!(
        (code, data["reason"].as_str(), out.as_str()),
        (3, Some("CONTRACT_UNSUPPORTED"), ""),
        "{data}"
    );
    let (code, data, out) = judged(&scratch, &answer, &[&asked[..], &["--release", "observe"]].concat());
    assert_eq!(
        (code, &data["observed"], out.as_bytes()),
        (0, &json!(true), &*scratch.read("answer")),
        "{data}"
    );
    let broken = scratch.write("broken.json", "{");
    let asked = ["--dialect", "openai_chat", "--request", path(&broken)];
    assert_eq!(judged(&scratch, &answer, &asked).1["reason"], "NOT_EVALUATED");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files in examples/contracts with this ending.
fn examples(ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("examples/contracts")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| path(file).ends_with(ending));
    files.sort();
    files
}

#[test]
fn the_shipped_fixtures_hold() {
    let files = [examples(".fixtures.yaml"), examples(".fixtures.json")].concat();
    assert!(files.len() >= 3);
    let words: Vec<&str> =
        ["contract", "test"].into_iter().chain(files.iter().map(|file| path(file))).collect();
    let (code, answer) = cli(&words);
    assert_eq!(code, 0, "{answer:#}");
    assert!(answer["data"]["passed"].as_u64().unwrap() >= 12, "{answer}");
    assert_eq!(answer["data"]["failed"], 0);
    let schema = root().join("spec/contracts/fixtures.schema.json");
    for file in examples(".fixtures.json") {
        assert_eq!(cli(&["judge", path(&file), "--contract", path(&schema)]).0, 0, "{}", file.display());
    }
    for file in [examples(".schema.json"), examples(".contract.json")].concat() {
        let (code, answer) = cli(&["contract", "lint", path(&file)]);
        let kind = if path(&file).ends_with(".schema.json") { "json" } else { "csv" };
        assert_eq!((code, &answer["data"]["kind"]), (0, &json!(kind)), "{answer}");
    }
}

#[test]
fn a_case_that_comes_out_otherwise_fails_with_what_differs() {
    let scratch = folder("fixtures");
    let cases = "cases:
- { name: right, body: '{\"n\":1}', expect: pass, out: '{\"n\":1}' }
- { name: verdict, body: '{\"n\":1}', expect: block }
- { name: reason, body: '{}', expect: block, reason: VALUE_MALFORMED }
- { name: place, body: '{\"n\":11}', expect: block, place: \"`/m`\" }
- { name: near, body: '{\"n\":11}', expect: block, place: \"`/n\" }
- { name: out, body_file: order.json, expect: repair, out: '{\"n\":2}' }
";
    scratch.write("order.json", "{\"n\":1,}");
    let head = "version: 1\ncontract: { file: order.schema.json }\nrepair: r1\n";
    let file = scratch.write("order.fixtures.yaml", format!("{head}{cases}"));
    let (code, answer) = cli(&["contract", "test", path(&file)]);
    assert_eq!((code, &answer["ok"]), (5, &json!(false)), "{answer}");
    assert_eq!((&answer["data"]["passed"], &answer["data"]["failed"]), (&json!(1), &json!(5)), "{answer:#}");
    for case in answer["data"]["files"][0]["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let problems = case["problems"].as_array().unwrap();
        assert_eq!(problems.is_empty(), name == "right", "{case}");
        let names = problems.iter().all(|problem| {
            let what = if name == "near" { "place" } else { name };
            problem.as_str().unwrap().starts_with(what)
        });
        assert!(names, "{case}");
    }
    let named = scratch.write("policy.yaml", POLICY.replace("JUDGE", "none"));
    assert!(named.is_file());
    let rows = "version: 1\npolicy: { file: policy.yaml, contract: rows }\ncases:\n- { name: a, body: \"id,note\\n1,b\\n\", expect: pass }\n";
    assert_eq!(cli(&["contract", "test", path(&scratch.write("rows.yaml", rows))]).0, 0);
    let broken =
        scratch.write("broken.yaml", format!("{head}cases:\n- {{ name: a, expect: pass, place: row 1 }}\n"));
    let (code, answer) = cli(&["contract", "test", path(&broken)]);
    assert_eq!((code, answer["error"]["code"].as_str()), (6, Some("FIXTURES_INVALID")));
    assert_eq!(answer["error"]["data"]["errors"][0]["path"], "cases[0]", "{answer}");
    let missing = scratch.write(
        "missing.yaml",
        format!("{head}cases:\n- {{ name: a, body_file: none.json, expect: pass }}\n"),
    );
    assert_eq!(cli(&["contract", "test", path(&missing)]).1["error"]["code"], "FILE_UNREADABLE");
}

#[test]
fn the_page_about_fixtures_has_an_example_that_holds() {
    let scratch = Scratch::new("page");
    let page = std::fs::read_to_string(root().join("docs/fixtures.md")).unwrap();
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let file = scratch.write("example.yaml", example);
    let schema = std::fs::read(root().join("examples/contracts/order.schema.json")).unwrap();
    scratch.write("order.schema.json", schema);
    let order = |count: u32| format!("{{\"sku\":\"AB-1234\",\"count\":{count}}}\n");
    scratch.write("too-many.ndjson", order(99) + &order(100));
    let (code, answer) = cli(&["contract", "test", path(&file)]);
    assert_eq!((code, &answer["data"]["passed"]), (0, &json!(2)), "{answer:#}");
}

#[test]
fn the_schema_of_fixtures_takes_what_is_read_and_nothing_else() {
    let scratch = folder("shape");
    let schema = root().join("spec/contracts/fixtures.schema.json");
    let check = |change: Value, is_good: bool| {
        let case = json!({ "name": "a", "body": "{\"n\":1}", "expect": "pass" });
        let mut fixtures = json!({ "version": 1, "cases": [case] });
        for (key, value) in change.as_object().unwrap() {
            fixtures[key] = value.clone();
        }
        let file = scratch.write("fixtures.json", fixtures.to_string());
        let read = cli(&["contract", "test", path(&file)]).1;
        assert_eq!(read["error"]["code"] != "FIXTURES_INVALID", is_good, "{fixtures} {read}");
        let judged = cli(&["judge", path(&file), "--contract", path(&schema)]).1;
        assert_eq!(judged["ok"], is_good, "{fixtures} {judged}");
    };
    let contract = json!({ "file": "order.schema.json" });
    let with = |key: &str, value: Value| json!({ "contract": contract, key: value });
    check(json!({ "contract": contract }), true);
    check(json!({ "contract": { "json": "{}" } }), true);
    check(json!({ "policy": { "file": "p.yaml", "contract": "order" } }), true);
    check(json!({ "dialect": "gemini", "request": "{}" }), true);
    check(json!({ "dialect": "gemini", "policy": { "file": "p.yaml", "route": "llm" } }), true);
    check(with("repair", json!({ "r1": ["prose"] })), true);
    check(with("as", json!("ndjson")), true);
    check(json!({}), false);
    check(json!({ "contract": {} }), false);
    check(json!({ "contract": { "json": "{}", "csv": "{}" } }), false);
    check(json!({ "dialect": "telnet" }), false);
    check(json!({ "dialect": "gemini", "policy": { "file": "p.yaml", "contract": "order" } }), false);
    check(json!({ "dialect": "gemini", "request": "{}", "request_file": "a" }), false);
    check(json!({ "policy": { "file": "p.yaml", "route": "llm" } }), false);
    check(with("request", json!("{}")), false);
    check(with("dialect", json!("gemini")), false);
    check(with("as", json!("xml")), false);
    check(json!({ "dialect": "gemini", "as": "sse" }), true);
    check(json!({ "dialect": "gemini", "as": "ndjson" }), false);
    check(with("repair", json!("r2")), false);
    check(with("cases", json!([])), false);
    check(with("cases", json!([{ "name": "a", "expect": "pass" }])), false);
    check(with("cases", json!([{ "name": "a", "body": "1", "body_file": "b", "expect": "pass" }])), false);
    check(with("cases", json!([{ "name": "a", "body": "1", "expect": "allow" }])), false);
    check(with("more", json!(1)), false);
}

#[test]
fn lint_names_the_place_of_every_error() {
    let scratch = Scratch::new("lint");
    let schema = scratch.write(
        "bad.json",
        r##"{ "properties": { "a": { "type": "objekt" }, "b": { "$ref": "#/nowhere" } } }"##,
    );
    let (code, answer) = cli(&["contract", "lint", path(&schema)]);
    assert_eq!((code, answer["error"]["code"].as_str()), (6, Some("CONTRACT_INVALID")));
    let said = answer["error"]["data"]["errors"].to_string();
    assert!(said.contains("`/properties/a/type`"), "{said}");
    let rows =
        scratch.write("rows.json", r#"{ "version": 1, "columns": [{ "name": "a", "type": "text" }] }"#);
    let (code, answer) = cli(&["contract", "lint", path(&rows)]);
    assert!(code == 6 && answer["error"].to_string().contains("`/columns/0/type`"), "{answer}");
    let ours = scratch.write("ours.json", ORDER);
    let digest =
        estoppel_evidence::Sha256::of(serde_json::from_str::<Value>(ORDER).unwrap().to_string().as_bytes());
    assert_eq!(cli(&["contract", "lint", path(&ours)]).1["data"]["digest"], digest.to_string());
    assert_eq!(cli(&["contract", "lint", path(&ours), "--as", "csv"]).0, 6);
}

#[test]
fn a_policy_is_linted_at_once_and_what_is_wrong_inside_its_contracts_has_a_place_in_its_file() {
    let scratch = Scratch::new("policy-lint");
    let contracts = "contracts:
  order:
    json: |
      { \"properties\": {
          \"é\": 1, \"sku\": { \"type\": \"objekt\" } } }
  rows: { csv: '{ \"version\": 1, \"columns\": [{ \"name\": \"a\", \"type\": \"text\" }] }' }
  cut: { json: '{ \"type\"' }
";
    let lint = |text: &str| {
        let file = scratch.write("policy.yaml", text);
        let (code, answer) = cli(&["policy", "lint", path(&file)]);
        let errors = answer["error"]["data"]["errors"].as_array().cloned().unwrap_or_default();
        let said = |error: &Value| {
            format!("{} {} {}", error["line"], error["column"], error["code"].as_str().unwrap())
        };
        let said: Vec<String> = errors.iter().map(said).collect();
        (code, answer["error"]["code"].as_str().unwrap_or_default().to_owned(), said)
    };
    let (code, kind, said) = lint(&format!("version: 1\nname: a\n{contracts}"));
    let inside =
        ["7 16 CONTRACT_INVALID", "7 36 CONTRACT_INVALID", "8 68 CONTRACT_INVALID", "9 25 CONTRACT_INVALID"];
    assert_eq!((code, kind.as_str(), said), (6, "CONTRACT_INVALID", inside.map(String::from).to_vec()));
    let (code, kind, said) = lint(&format!("version: 1\nname: a\n{contracts}more: 1\n"));
    assert_eq!((code, kind.as_str(), said.len()), (6, "POLICY_INVALID", 5), "{said:?}");
    assert_eq!((&said[..4], said[4].as_str()), (&inside.map(String::from)[..], "10 1 POLICY_UNKNOWN_KEY"));
}

/// The digests that `contract lint` prints are those of receipts, by what was held against the contract.
#[test]
fn lint_prints_the_digests_that_receipts_show() {
    let scratch = Scratch::new("digests");
    let schema = r#"{ "type": "object", "required": ["city"] }"#;
    let file = scratch.write("weather.json", schema);
    let (_, answer) = cli(&["contract", "lint", path(&file), "--tool", "get_weather"]);
    let call = ToolCall { name: "get_weather".into(), arguments: "{\"city\":\"Oslo\"}".into() };
    let reply =
        Reply::model(ModelReply { calls: Some(vec![call]), ..ModelReply::new(Dialect::ChatCompletions) });
    let policy = format!(
        "version: 1\nname: d\ncontracts: {{ weather: {{ json: '{schema}' }} }}\n\
         defaults: {{ verdict: allow, judge: {{ tools: {{ get_weather: weather }} }} }}\n"
    );
    let world = World::with(Script::always(reply), &Setup { policy, ..Setup::default() });
    let ask = r#"{"model":"m","messages":[{"role":"user","content":"hello"}],"tools":[{"type":"function","function":{"name":"get_weather"}}]}"#;
    assert_eq!(world.send(&chat("digests", ask)).status(), 200);
    world.wait_for_calls("digests", 1);
    let receipt = &world.receipts("digests")[0];
    assert_eq!(receipt["contract"]["response"]["digest"], answer["data"]["digest_of_tool"], "{receipt:#}");
    assert_ne!(answer["data"]["digest"], answer["data"]["digest_of_tool"]);
}

/// Most memory of a process so far, in bytes.
fn peak(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Peak of memory once all but a pipe's worth of `head` and `times` times `piece` was read, and the answer.
fn streamed(more: &[&str], head: &[u8], piece: &[u8], times: usize) -> (u64, Value) {
    let mut child = Command::new(cli_binary())
        .args(["--json", "judge", "-"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(head).unwrap();
    (0..times).for_each(|_| pipe.write_all(piece).unwrap());
    let peak = peak(&child);
    drop(pipe);
    let answer = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    (peak, answer)
}

#[test]
fn sixty_four_mebibytes_take_no_more_memory_than_one() {
    let scratch = folder("large");
    let (order, rows) = (scratch.join("order.schema.json"), scratch.join("rows.contract.json"));
    let line = format!("{{\"n\":1,\"note\":\"{}\"}}\n", "x".repeat(4075)).into_bytes();
    let row = format!("1,{}\n", "x".repeat(4093)).into_bytes();
    let member = format!("{{\"note\":\"{}\"}},\n", "x".repeat(4080)).into_bytes();
    let any = scratch.write("any.json", "{ \"type\": \"array\" }");
    let check = |format: &str, contract: &Path, head: &str, piece: &[u8], verdict: &str| {
        let more = ["--as", format, "--contract", path(contract)];
        let times = |bytes: usize| bytes.div_ceil(piece.len());
        let (small, _) = streamed(&more, head.as_bytes(), piece, times(1 << 20));
        let (large, answer) = streamed(&more, head.as_bytes(), piece, times(64 << 20));
        assert_eq!(answer["data"]["verdict"], verdict, "{answer}");
        assert!(answer["data"]["bytes"].as_u64() >= Some(64 << 20), "{answer}");
        assert!(large < small + (8 << 20), "{format}: {small} bytes for one MiB, {large} for 64");
    };
    check("ndjson", &order, "", &line, "pass");
    check("csv", &rows, "id,note\n", &row, "pass");
    check("json", &any, "[\n", &member, "block"); // cut at its end
}

#[test]
fn judge_says_which_route_is_not_there_and_what_a_models_answer_needs() {
    let scratch = Scratch::new("judge-says");
    let policy = scratch.write(
        "p.yaml",
        "version: 1\nname: p\ndefaults: { verdict: allow }\nroutes: { openai: { judge: { repair: r1 } } }\n",
    );
    let file = scratch.write("a.json", "{}");
    let said = |more: &[&str]| {
        let words = [&["judge", path(&file), "--policy", path(&policy)][..], more].concat();
        let (code, answer) = cli(&words);
        assert_eq!((code, &answer["error"]["code"]), (6, &json!("ARGUMENT_INVALID")), "{answer}");
        answer["error"]["message"].as_str().unwrap().to_owned()
    };
    for more in [&["--route", "nope"][..], &["--route", "nope", "--operation", "x"]] {
        let said = said(more);
        assert!(said.contains("has no route `nope`"), "{said}");
    }
    let said = said(&["--route", "openai"]);
    assert!(said.contains("route `openai`") && said.contains("--dialect"), "{said}");
}
