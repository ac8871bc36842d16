//! Judged answers of Gemini: whole, as events, and as the array of responses that a stream without `alt=sse` is.

use estoppel_kit::http::{Answer, Peer, Request};
use estoppel_stub::{Body, Dialect, ModelReply, Reply, Script, ToolCall};
use serde_json::{Value, json};

use crate::support::{Setup, World};

const POLICY: &str = "version: 1
name: judged
defaults:
  verdict: allow
  judge: { unknown_tools: block, repair: r1 }
";

const WHOLE: &str = "/v1beta/models/scripted-1:generateContent";
const EVENTS: &str = "/v1beta/models/scripted-1:streamGenerateContent?alt=sse";
const ARRAY: &str = "/v1beta/models/scripted-1:streamGenerateContent";
const PATHS: [&str; 3] = [WHOLE, EVENTS, ARRAY];

const CITY: &str = r#"{"type":"OBJECT","properties":{"city":{"type":"STRING","min_length":"2"},"days":{"type":"INTEGER","nullable":true}},"required":["city"],"propertyOrdering":["city","days"]}"#;

/// A request with these members beside its contents.
fn request(path: &str, more: &str) -> Request {
    let body = format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"weather?"}}]}}],{more}}}"#);
    Request::new("POST", path)
        .header("content-type", "application/json")
        .header("estoppel-run", "judged")
        .body(body.into_bytes())
}

fn offers(schema: &str) -> String {
    format!(r#""tools":[{{"function_declarations":[{{"name":"get_weather","parameters":{schema}}}]}}]"#)
}

fn asks(config: &str) -> String {
    format!(r#""generation_config":{{{config}}}"#)
}

fn world(reply: Reply, policy: &str) -> World {
    World::with(Script::always(reply), &Setup { policy: policy.into(), ..Setup::default() })
}

fn calls(name: &str, arguments: &str) -> Reply {
    let call = ToolCall { name: name.into(), arguments: arguments.into() };
    Reply::model(ModelReply { calls: Some(vec![call]), ..ModelReply::new(Dialect::Gemini) })
}

fn says(text: &str) -> Reply {
    let text = Some(text.into());
    Reply::model(ModelReply { text, fragment_bytes: Some(5), ..ModelReply::new(Dialect::Gemini) })
}

/// An answer of the upstream's own making.
fn answers(kind: &str, body: String) -> Reply {
    Reply::new(Body::Text(body)).header("content-type", kind)
}

/// The responses in an answer.
fn responses(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    match serde_json::from_str(&text) {
        Ok(Value::Array(responses)) => responses,
        Ok(response) => vec![response],
        Err(_) => text
            .split("\n\n")
            .filter_map(|event| event.trim_start().strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect(),
    }
}

/// The text that a client joins.
fn text(answer: &Answer) -> String {
    let responses = responses(answer);
    let parts =
        responses.iter().flat_map(|response| response["candidates"][0]["content"]["parts"].as_array());
    parts.flatten().filter(|part| part["thought"] != true).filter_map(|part| part["text"].as_str()).collect()
}

/// Nothing of it came through; the receipt.
fn refused(world: &World, request: &Request, path: &str, code: &str) -> Value {
    let (status, body) = match estoppel_kit::http::send(world.gateway, request) {
        Ok(answer) => (answer.status(), answer.text()),
        Err(error) => (0, error.to_string()),
    };
    assert!(!body.contains("SECRET"), "{path} {code}: {body}");
    // What cannot be enforced is refused before it is sent.
    let in_stream = path == EVENTS && code != "CONTRACT_UNSUPPORTED";
    assert_eq!(status, if in_stream { 0 } else { 422 }, "{path} {code}: {body}");
    assert!(in_stream || body.contains(code), "{path} {code}: {body}");
    let receipt = world.receipts("judged").remove(0);
    assert_eq!(receipt["verdict"]["action"], "block", "{path} {code}: {receipt}");
    assert_eq!(receipt["verdict"]["reason"], code, "{path}: {receipt}");
    receipt
}

#[test]
fn a_valid_call_passes_byte_for_byte_and_the_contract_names_its_language() {
    let enforced = format!(
        r#"{{"tools":{{"get_weather":{{"$schema":"urn:estoppel:schema:gemini","schema":{CITY}}}}}}}"#
    );
    let canonical = estoppel_evidence::canonical::foreign(enforced.as_bytes()).unwrap();
    let digest = estoppel_evidence::Sha256::of(&canonical).to_string();
    for path in PATHS {
        let reply = || calls("get_weather", r#"{"city": "Köln", "days": null}"#);
        let open = world(reply(), "version: 1\nname: open\ndefaults: { verdict: allow }\n");
        let judged = world(reply(), POLICY);
        let answer = judged.send(&request(path, &offers(CITY)));
        assert_eq!(answer.text(), open.send(&request(path, &offers(CITY))).text(), "{path}");
        assert!(answer.text().contains("Köln"), "{path}");
        let receipt = judged.receipts("judged").remove(0);
        assert_eq!(receipt["verdict"]["action"], "allow", "{path}: {receipt}");
        assert_eq!(receipt["evaluated"]["response"]["state"], "judged", "{path}");
        assert_eq!(receipt["contract"]["response"]["digest"], digest, "{path}");
    }
}

#[test]
fn what_breaks_geminis_schema_never_leaves() {
    for path in PATHS {
        for (tool, arguments, schema, code) in [
            ("get_weather", r#"{"days":1,"town":"SECRET"}"#, CITY, "CONTRACT_VIOLATED"),
            ("get_weather", r#"{"city":"S","x":"SECRET"}"#, CITY, "CONTRACT_VIOLATED"),
            ("get_weather", r#"["SECRET"]"#, CITY, "CONTRACT_VIOLATED"),
            ("undeclared", r#"{"city":"SECRET"}"#, CITY, "CONTRACT_MISSING"),
            (
                "get_weather",
                r#"{"city":"SECRET"}"#,
                r#"{"type":"OBJECT","oneOf":[]}"#,
                "CONTRACT_UNSUPPORTED",
            ),
        ] {
            let world = world(calls(tool, arguments), POLICY);
            refused(&world, &request(path, &offers(schema)), path, code);
        }
    }
}

#[test]
fn a_text_asked_for_by_a_schema_is_repaired_once_or_refused() {
    let config = asks(&format!(r#""response_mime_type":"application/json","response_schema":{CITY}"#));
    for path in PATHS {
        let judged = world(says("```json\n{\"city\": \"Köln\",}\n```"), POLICY);
        let answer = judged.send(&request(path, &config));
        let read: Value = serde_json::from_str(&text(&answer)).unwrap();
        assert_eq!(read, json!({ "city": "Köln" }), "{path}: {}", answer.text());
        let receipt = judged.receipts("judged").remove(0);
        assert_eq!(receipt["verdict"]["action"], "repair", "{path}: {receipt}");
        assert_eq!(receipt["outcome"]["complete"], true, "{path}");
        for said in [r#"{"town": "SECRET"}"#, "SECRET"] {
            let code = if said.starts_with('{') { "CONTRACT_VIOLATED" } else { "VALUE_MALFORMED" };
            refused(&world(says(said), POLICY), &request(path, &config), path, code);
        }
    }
}

#[test]
fn json_without_a_schema_is_any_json() {
    let config = asks(r#""responseMimeType":"application/json""#);
    for path in PATHS {
        let judged = world(says(r#"[1, "two"]"#), POLICY);
        assert_eq!(text(&judged.send(&request(path, &config))), r#"[1, "two"]"#, "{path}");
        refused(&world(says("not SECRET"), POLICY), &request(path, &config), path, "VALUE_MALFORMED");
    }
}

#[test]
fn a_text_asked_for_as_one_of_a_list_is_one_of_it() {
    let listed = asks(
        r#""responseMimeType":"text/x.enum","responseSchema":{"type":"STRING","enum":["ja \"!\"","nein"]}"#,
    );
    let unlisted = asks(r#""responseMimeType":"text/x.enum""#);
    for path in PATHS {
        let judged = world(says("ja \"!\""), POLICY);
        assert_eq!(text(&judged.send(&request(path, &listed))), "ja \"!\"", "{path}");
        assert_eq!(judged.receipts("judged")[0]["evaluated"]["response"]["state"], "judged", "{path}");
        refused(&world(says("SECRET"), POLICY), &request(path, &listed), path, "CONTRACT_VIOLATED");
        refused(&world(says("SECRET"), POLICY), &request(path, &unlisted), path, "CONTRACT_UNSUPPORTED");
    }
}

#[test]
fn thoughts_flow_and_snake_case_is_read() {
    let config = asks(r#""responseMimeType":"application/json""#) + "," + &offers(CITY);
    let part = |part: &str, end: &str| {
        format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}}{end},"index":0}}]}}"#)
    };
    let said = |args: &str| {
        [
            part(r#"{"text":"hm, JSON?","thought":true}"#, ""),
            part(r#"{"text":"{\"a\":"}"#, ""),
            part(r#"{"thought":true,"text":"and now"},{"text":"1}"}"#, ""),
            part(
                &format!(r#"{{"function_call":{{"name":"get_weather","args":{args}}}}}"#),
                r#","finish_reason":"STOP""#,
            ),
        ]
    };
    let events =
        |said: [String; 4]| answers("text/event-stream", said.map(|one| format!("data: {one}\n\n")).concat());
    let array = |said: [String; 4]| answers("application/json", format!("[{}]", said.join(",\r\n")));
    for path in [EVENTS, ARRAY] {
        let reply = |args: &str| if path == EVENTS { events(said(args)) } else { array(said(args)) };
        let judged = world(reply(r#"{"city":"Bonn"}"#), POLICY);
        let answer = judged.send(&request(path, &config));
        assert_eq!((responses(&answer).len(), text(&answer).as_str()), (4, r#"{"a":1}"#), "{path}");
        let receipt = judged.receipts("judged").remove(0);
        assert_eq!(receipt["facts"]["tools_called"], json!(["get_weather"]), "{path}: {receipt}");
        assert_eq!(receipt["facts"]["finish"], json!(["STOP"]), "{path}");
        assert_eq!(receipt["verdict"]["action"], "allow", "{path}");
        refused(
            &world(reply(r#"{"x":"SECRET"}"#), POLICY),
            &request(path, &config),
            path,
            "CONTRACT_VIOLATED",
        );
    }
}

#[test]
fn what_is_cut_inside_a_value_does_not_leave() {
    let config = asks(&format!(r#""responseMimeType":"application/json","responseSchema":{CITY}"#));
    let half = r#"{"candidates":[{"content":{"parts":[{"text":"{\"city\":\"SECRET\""}]}}]}"#;
    let events = world(answers("text/event-stream", format!("data: {half}\n\n")), POLICY);
    let answer = estoppel_kit::http::send(events.gateway, &request(EVENTS, &config));
    assert!(!answer.is_ok_and(|answer| answer.text().contains("SECRET")));
    assert_eq!(events.receipts("judged")[0]["verdict"]["reason"], "VALUE_TRUNCATED");
    for (path, body) in [(ARRAY, format!("[{half}")), (WHOLE, half[..half.len() - 4].to_owned())] {
        let open = POLICY.replace("  judge", "  on_not_evaluated: allow\n  judge");
        let cut = world(answers("application/json", body), &open);
        let answer = estoppel_kit::http::send(cut.gateway, &request(path, &config));
        assert!(!answer.is_ok_and(|answer| answer.text().contains("SECRET")), "{path}");
        let receipt = cut.receipts("judged").remove(0);
        assert_eq!(receipt["verdict"]["action"], "block", "{path}: {receipt}");
    }
    // Whole JSON with half a value in it.
    for (path, body) in [(ARRAY, format!("[{half}]")), (WHOLE, half.to_owned())] {
        let cut = world(answers("application/json", body), &POLICY.replace(", repair: r1", ""));
        refused(&cut, &request(path, &config), path, "VALUE_TRUNCATED");
    }
}

#[test]
fn neither_spelling_of_a_tool_gets_past_a_rule_for_the_other() {
    for (named, offered) in [("googleSearch", "google_search"), ("google_search", "googleSearch")] {
        let rule = format!(
            "- {{ id: no-search, when: {{ tool: {named} }}, verdict: block, reason: TOOL_DENIED }}\n"
        );
        let policy = format!("version: 1\nname: rules\ndefaults: {{ verdict: allow }}\nrules:\n{rule}");
        let world = world(says("SECRET"), &policy);
        let answer = world.send(&request(WHOLE, &format!(r#""tools":[{{"{offered}":{{}}}}]"#)));
        assert_eq!(answer.status(), 403, "{offered}: {}", answer.text());
        assert_eq!(world.upstream.hits().total(), 0, "{offered}");
    }
}

#[test]
fn a_line_that_clients_take_for_data_against_the_standard_is_refused() {
    let say = |more: &str| {
        format!(
            r#"data: {{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"hi"}}]}},"index":0{more}}}]}}"#
        )
    };
    let call = r#"{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"get_weather","args":{"city":"SECRET"}}}]},"index":0}]}"#;
    let rule = |when: &str| {
        format!(
            "version: 1\nname: judged\ndefaults: {{ verdict: allow, on_not_evaluated: block }}\nrules:\n  - {{ id: refuse, when: {{ {when} }}, verdict: block, reason: TOOL_DENIED }}\n"
        )
    };
    let by_arguments = rule("tool: get_weather, arguments: [{ at: /city, equals: SECRET }]");
    let by_name = rule("tool: get_weather");
    // Judging refuses it whatever the policy says of the unread.
    let judged = POLICY.replace("  judge", "  on_not_evaluated: allow\n  judge");
    let watched = "version: 1\nname: judged\ndefaults: { verdict: allow, on_not_evaluated: allow }\n";
    let lines = ["", " ", "\t", " data: ", "\u{feff}data: ", "\u{a0}data: ", "\u{3000}data: "];
    // Ends of lines for Python.
    let hidden = ["id: 1\u{2028}data: ", ": c\u{85}"];
    for before in lines.into_iter().chain(hidden) {
        let body =
            format!("{}\r\n\r\n{before}{call}\r\n\r\n{}\r\n\r\n", say(""), say(r#","finishReason":"STOP""#));
        let reply = || answers("text/event-stream", body.clone());
        for (policy, more, reason) in [
            (&judged, offers(CITY), "VALUE_AMBIGUOUS"),
            (&by_arguments, offers(CITY), "NOT_EVALUATED"),
            (&by_name, asks(""), "NOT_EVALUATED"),
        ] {
            let world = world(reply(), policy);
            let answer = Peer::connect(world.gateway).unwrap().exchange(&request(EVENTS, &more)).unwrap();
            assert!(!answer.text().contains("SECRET"), "{before:?}: {}", answer.text());
            let receipt = world.receipts("judged").remove(0);
            assert_eq!(receipt["verdict"]["action"], "block", "{before:?}");
            assert_eq!(receipt["verdict"]["reason"], reason, "{before:?}");
        }
        let world = world(reply(), watched);
        assert_eq!(world.send(&request(EVENTS, &offers(CITY))).text(), body);
        let receipt = world.receipts("judged").remove(0);
        assert_eq!(receipt["evaluated"]["response"]["defect"], "CONTENT_UNKNOWN", "{receipt}");
    }
}
