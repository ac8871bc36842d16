//! Values that are held back until they are judged.

use std::time::Duration;

use estoppel_kit::http::Request;
use estoppel_stub::{Body, Delays, Fault, Reply, Script, Split};
use serde_json::{Value, json};

use super::{
    DONE, JUDGED, Read, SURFACES, Surface, TEXT, begin, call, calling, chunk, ends, open_call, outcome,
    piece, receipt, stream, take, world,
};
use crate::support::{OPEN, Setup, World};

const COMMENT: &str = ": keep-alive\n";
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
const STORED: &str = "{ full: { reason: test } }";

/// Judges, has the receipt say the digests of bodies, and does not wait long.
fn impatient(more: &str) -> String {
    let stored = JUDGED.replace("verdict: allow,", &format!("verdict: allow, body_storage: {STORED},"));
    format!("{stored}limits: {{ keepalive_ms: 10{more} }}\n")
}

/// A stream that stops after `text`.
fn stalled(text: &str) -> Reply {
    stream(text).fault(Fault::Stall { after_bytes: text.len() as u64 })
}

/// Reads a stalled answer of `surface` up to `mark`, leaves, and gives what came before `mark` and the receipt.
fn read_stalled(surface: &Surface, text: &str, mark: &str) -> (String, Value) {
    let world = world(stalled(text), &impatient(""));
    let mut peer = estoppel_kit::http::Peer::connect(world.gateway).unwrap();
    peer.send(&surface.request("waits").wire("gateway")).unwrap();
    peer.read_until(b"\r\n\r\n").unwrap();
    let got = peer.read_until(mark.as_bytes()).unwrap();
    drop(peer);
    (String::from_utf8(got).unwrap(), receipt(&world, "waits"))
}

/// The HTTP chunks of a body are gone.
fn unchunked(text: &str) -> String {
    let size = |line: &str| line.ends_with('\r') && line.trim_end().chars().all(|c| c.is_ascii_hexdigit());
    text.split_inclusive('\n')
        .filter(|line| !size(line.trim_end_matches('\n')))
        .collect::<String>()
        .replace('\r', "")
}

#[test]
fn h05_a_client_from_which_values_are_held_back_gets_keepalives_of_its_dialect() {
    for surface in Surface::streams() {
        let name = surface.name;
        let whole = surface.wire("get_weather", r#"{"city": "Köln, but longer than a piece"}"#);
        let first = ends(&whole)[0] as usize;
        match name {
            "gemini_stream" => {
                // Whatever precedes an event, Google's clients lose the event for it.
                let world = world(stalled(&whole[..whole.len() - 4]), &impatient(""));
                let mut peer = estoppel_kit::http::Peer::connect(world.gateway).unwrap();
                peer.send(&surface.request("waits").wire("gateway")).unwrap();
                peer.read_until(b"\r\n\r\n").unwrap();
                assert!(peer.quiet_for(Duration::from_millis(300)).unwrap(), "{name}");
            }
            "anthropic_messages_stream" => {
                // Before the stream has opened, a comment; then pings.
                let (got, _) = read_stalled(surface, &whole[..first - 1], COMMENT);
                assert!(!got.contains("event:"), "{name}: {got}");
                let (got, receipt) = read_stalled(surface, &whole[..whole.len() * 2 / 3], PING);
                let got = unchunked(&got);
                assert_eq!(got.strip_suffix(PING), Some(&whole[..first]), "{name}: {got}");
                assert_eq!(outcome(&receipt), ("CLIENT_GONE", "gone", false), "{name}");
            }
            _ => {
                let (got, receipt) = read_stalled(surface, &whole[..whole.len() * 2 / 3], COMMENT);
                let got = unchunked(&got);
                let events = got.strip_suffix(COMMENT).unwrap();
                assert!(
                    whole.starts_with(events) && (events.is_empty() || events.ends_with("\n\n")),
                    "{name}: {got}"
                );
                assert_eq!(outcome(&receipt), ("CLIENT_GONE", "gone", false), "{name}");
            }
        }
    }
}

#[test]
fn h05_keepalives_stand_between_events_and_are_in_the_receipt() {
    for surface in Surface::streams() {
        let whole = surface.wire("get_weather", r#"{"city": "Köln"}"#);
        // With events as they are, and with events that come in pieces.
        for pieces in [stream(&whole), stream(&whole).split(Split::Each { bytes: 97 })] {
            check_slow(surface, &whole, &pieces);
        }
    }
}

fn check_slow(surface: &Surface, whole: &str, reply: &Reply) {
    let name = surface.name;
    let slow = reply.clone().delay_ms(Delays { between_writes: 50, ..Delays::default() });
    let world = world(slow, &impatient(""));
    let answer = world.send(&surface.request("slow"));
    let text = answer.text();
    let said = text.matches(PING).count() + text.matches(COMMENT).count();
    assert_eq!(said > 0, name != "gemini_stream", "{name}: {text}");
    let opened = text.find(PING).is_none_or(|at| text[..at].contains("event: message_start"));
    assert!(opened && text.contains(PING) == name.starts_with("anthropic"), "{name}: {text}");
    assert_eq!(text.replace(PING, "").replace(COMMENT, ""), whole, "{name}");
    let marked = text.replace(PING, "\0").replace(COMMENT, "\0");
    for before in marked.split_inclusive('\0').filter_map(|before| before.strip_suffix('\0')) {
        assert!(before.is_empty() || before.ends_with("\n\n"), "{name}: inside an event: {before:?}");
    }
    assert!(marked.ends_with("\n\n"), "{name}: after the end");
    let receipt = receipt(&world, "slow");
    assert_eq!(outcome(&receipt), ("OK", "handed_over", true), "{name}");
    assert_eq!(receipt["verdict"]["action"], "allow", "{name}");
    assert_eq!(receipt["response"]["client"]["bytes"], answer.body.len(), "{name}");
    assert_eq!(receipt["response"]["upstream"]["bytes"], whole.len(), "{name}");
    let same = receipt["response"]["client"]["tag"] == receipt["response"]["upstream"]["tag"];
    assert_eq!(same, said == 0, "{name}");
    let digest = estoppel_evidence::Sha256::of(&answer.body).to_string();
    assert_eq!(receipt["response"]["client"]["sha256"], digest, "{name}");
    // A comment belongs to the unit that follows it, a ping is one.
    let units = ends(&answer.text()).len();
    assert_eq!(receipt["sse"]["units"], units, "{name}");
    assert_eq!(receipt["sse"]["events"], ends(whole).len(), "{name}: events are the upstream's");
}

#[test]
fn h05_nothing_is_said_where_nothing_is_held() {
    let (judged, unjudged) = (impatient(""), format!("{OPEN}limits: {{ keepalive_ms: 10 }}\n"));
    let half = format!("{TEXT}data: {{\"half\"");
    // An LF may follow that belongs to the CR.
    let half_line_end = format!("{}{}", call(0, 0), TEXT.replace('\n', "\r"));
    let cases = [
        (TEXT, &judged, TEXT),
        (TEXT, &unjudged, TEXT),
        (&half, &unjudged, "\"half\""),
        (&half_line_end, &judged, "\r\r"),
    ];
    for (text, policy, mark) in cases {
        let world = world(stalled(text), policy);
        let mut peer = begin(&world, "quiet");
        peer.read_until(mark.as_bytes()).unwrap();
        peer.read_until(b"\r\n").unwrap(); // of the HTTP chunk
        assert!(peer.quiet_for(Duration::from_millis(300)).unwrap(), "{text:?} {policy}");
    }
    // Nor once the stream has ended, while its upstream has not.
    for late in ["", ": late"] {
        let ended = calling(r#"{"city":"a"}"#) + late;
        assert_eq!(take(&world(stalled(&ended), &judged), "ended").text(), ended);
    }
}

#[test]
fn h05_keepalives_do_not_keep_a_silent_upstream() {
    let world = world(stalled(&open_call()), &impatient(", between_events_ms: 400"));
    let answer = take(&world, "silent");
    assert!(answer.end.is_some() && answer.text().contains(COMMENT), "{}", answer.text());
    assert!(!answer.text().contains("SECRET"));
    let receipt = receipt(&world, "silent");
    assert_eq!(outcome(&receipt), ("TIMEOUT_BETWEEN", "handed_over", false));
    assert_eq!(receipt["response"]["client"]["bytes"], answer.body.len());
}

#[test]
fn h07_calls_of_several_choices_come_in_pieces_and_leave_judged() {
    let good = r#"{"city": "a"}"#;
    let broken = r#"{"city": "b",}"#;
    let said = |choice, index| if (choice, index) == (1, 0) { broken } else { good };
    let places = [(0, 0), (1, 0), (0, 1), (1, 1)];
    let mut body: String = places.iter().map(|&(choice, index)| call(choice, index)).collect();
    for at in 0..broken.len() {
        for (choice, index) in places {
            let Some(character) = said(choice, index).get(at..=at) else { continue };
            body.push_str(&piece(choice, index, character));
        }
        body.push_str(&chunk(at % 2, &format!(r#"{{"content":"{at} "}}"#), None));
    }
    let both = format!(
        r#"{{"tool_calls":[{},{}]}}"#,
        r#"{"index":2,"id":"call_0_2","function":{"name":"get_weather","arguments":"{\"city\""}}"#,
        r#"{"index":3,"id":"call_0_3","function":{"name":"get_weather","arguments":"{\"city\":\"d\"}"}}"#
    );
    body.push_str(&chunk(0, &both, None));
    body.push_str(&piece(0, 2, ":\"c\"}"));
    let open = body.clone();
    body.push_str(&chunk(1, "{}", Some("tool_calls")));
    body.push_str(&chunk(0, "{}", Some("tool_calls")));
    body.push_str(DONE);
    let world = world(stream(&body), JUDGED);
    let (got, sent) = (Read::of(&take(&world, "parallel").text()), Read::of(&body));
    assert_eq!(got.texts, sent.texts);
    assert_eq!(got.calls.len(), 6);
    for (at, [id, name, arguments]) in &got.calls {
        assert_eq!([id, name], [&sent.calls[at][0], &sent.calls[at][1]], "{at:?}: said once");
        let whole: Value = serde_json::from_str(arguments).unwrap_or_else(|_| panic!("{at:?}: {arguments}"));
        assert!(whole["city"].is_string());
        assert_eq!(arguments == &sent.calls[at][2], *at != (1, 0), "{at:?}: {arguments}");
    }
    let receipt = receipt(&world, "parallel");
    assert_eq!(receipt["verdict"]["action"], "repair", "{receipt}");
    assert_eq!(receipt["repair"]["edits"].as_array().unwrap().len(), 1);
    // The text of both choices goes on while their calls are held.
    let texts: Vec<&str> = open.split_inclusive("\n\n").filter(|event| event.contains("content")).collect();
    let world = super::world(stalled(&open), JUDGED);
    let mut peer = begin(&world, "live");
    let got = peer.read_until(texts.last().unwrap().as_bytes()).unwrap();
    let got = String::from_utf8(got).unwrap();
    assert!(texts.iter().all(|text| got.contains(text)) && !got.contains("tool_calls"), "{got}");
}

#[test]
fn h08_chunks_without_choices_or_deltas_pass_and_are_metered() {
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}"#;
    let azure = r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}"#;
    let without = [
        format!("data: {{\"choices\":[],{usage}}}\n\n"),
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{}}}}],{usage}}}\n\n"),
        format!("data: {{\"choices\":[{{\"delta\":{{}}}}],{usage}}}\n\n"),
        format!("data: {{{usage}}}\n\n"),
        format!("data: {{\"choices\":null,{usage}}}\n\n"),
    ];
    for last in without {
        let body =
            format!("{azure}\n\n{}", calling(r#"{"city":"a"}"#).replace(DONE, &format!("{last}{DONE}")));
        for policy in [OPEN, JUDGED] {
            let world = world(stream(&body), policy);
            assert_eq!(take(&world, "usage").text(), body, "{policy}");
            let receipt = receipt(&world, "usage");
            assert_eq!(outcome(&receipt), ("OK", "handed_over", true), "{receipt}");
            assert_eq!(receipt["facts"]["usage"], json!({ "input": 3, "output": 4, "total": 7 }), "{last}");
        }
    }
}

#[test]
fn h09_errors_inside_a_200_are_passed_on_and_named() {
    let chat_error =
        "data: {\"error\":{\"message\":\"slow down\",\"type\":\"rate_limit_error\",\"code\":429}}\n\n";
    let cases = [
        ("openai_chat_stream", TEXT.to_owned(), chat_error.to_owned()),
        ("openai_chat_stream", TEXT.to_owned(), format!("{chat_error}{DONE}")),
        (
            "openai_responses_stream",
            String::new(),
            "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit\",\"message\":\"m\",\"param\":null}\n\n".into(),
        ),
        (
            "anthropic_messages_stream",
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"content\":[]}}\n\n".into(),
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n".into(),
        ),
        ("gemini_stream", String::new(), "data: {\"error\":{\"code\":503,\"message\":\"m\",\"status\":\"UNAVAILABLE\"}}\n\n".into()),
    ];
    for (name, before, error) in cases {
        let surface = SURFACES.iter().find(|surface| surface.name == name).unwrap();
        for policy in [OPEN, JUDGED] {
            let world = world(stream(format!("{before}{error}")), policy);
            let answer = world.send(&surface.request("error"));
            assert_eq!(answer.text(), format!("{before}{error}"), "{name}");
            let receipt = receipt(&world, "error");
            assert_eq!(outcome(&receipt).0, "UPSTREAM_ERROR", "{name}: {receipt}");
            assert!(receipt["facts"]["error"].is_string(), "{name}: {receipt}");
            assert_eq!(world.upstream.hits().total(), 1, "{name}: it is not asked again");
        }
    }
    // A value that was held when the error came never leaves; the error does.
    let world = world(stream(format!("{}{chat_error}", open_call())), JUDGED);
    let answer = take(&world, "held");
    assert!(answer.text().starts_with(&format!("{TEXT}{chat_error}")), "{}", answer.text());
    assert!(!answer.text().contains("SECRET") && !answer.text().contains("[DONE]"), "{}", answer.text());
    let receipt = receipt(&world, "held");
    assert_eq!(receipt["response"]["client"]["bytes"], answer.body.len(), "{receipt}");
    assert_eq!(receipt["facts"]["error"], "429");
    assert_eq!(receipt["outcome"]["complete"], false, "{receipt}");
}

#[test]
fn h11_what_left_before_a_block_is_in_the_receipt() {
    let bad = calling(r#"{"town":"SECRET"}"#);
    let world = world(stream(&bad), JUDGED);
    let answer = take(&world, "late");
    assert!(answer.end.is_some() && answer.text().starts_with(TEXT), "{}", answer.text());
    assert!(!answer.text().contains("tool_calls") && !answer.text().contains("[DONE]"), "{}", answer.text());
    assert!(answer.text()[TEXT.len()..].starts_with("data: {\"error\""), "{}", answer.text());
    let receipt = receipt(&world, "late");
    assert_eq!(receipt["verdict"]["reason"], "CONTRACT_VIOLATED", "{receipt}");
    assert_eq!(outcome(&receipt), ("CONTRACT_VIOLATED", "handed_over", false));
    assert_eq!(receipt["response"]["client"]["bytes"], answer.body.len());
    assert_eq!(receipt["sse"]["units"], 2, "the text and our last words");
    assert!(
        receipt["response"]["upstream"]["bytes"].as_u64() > receipt["response"]["client"]["bytes"].as_u64()
    );
}

#[test]
fn h20_hostile_json_in_a_held_value_is_refused_and_numbers_keep_their_text() {
    let deep = format!(r#"{{"city":"SECRET","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let hostile = [
        r#"{"city":"a","city":"SECRET"}"#,
        r#"{"city":"a","\u0063ity":"SECRET"}"#,
        r#"{"city":"SECRET\ud800"}"#,
        r#"{"city":"SECRET","x":NaN}"#,
        r#"{"city":"SECRET","x":Infinity}"#,
        r#"{"city":"SECRET","x":01}"#,
        r#"{"city":"SECRET"}{"city":"a"}"#,
        r#"["SECRET"]"#,
        &deep,
    ];
    for arguments in hostile {
        let world = world(stream(calling(arguments)), JUDGED);
        let answer = take(&world, "hostile");
        let calls = Read::of(&answer.text()).calls;
        let receipt = receipt(&world, "hostile");
        if receipt["verdict"]["action"] == "repair" {
            let said = &calls[&(0, 0)][2];
            let read: Result<Value, _> = serde_json::from_str(said);
            assert!(
                read.is_ok() && !said.contains("NaN") && !said.contains("Infinity"),
                "{arguments}: {said}"
            );
            continue;
        }
        assert_eq!(receipt["verdict"]["action"], "block", "{arguments}: {receipt}");
        assert!(calls.is_empty() && !answer.text().contains("SECRET"), "{arguments}: {}", answer.text());
    }
    let numbers = r#"{"city":"a","n":123456789012345678901234567890,"e":1E+400,"z":-0.0,"f":1.10}"#;
    let world = world(stream(calling(numbers)), JUDGED);
    assert_eq!(Read::of(&take(&world, "numbers").text()).calls[&(0, 0)][2], numbers);
    assert_eq!(receipt(&world, "numbers")["verdict"]["action"], "allow");
}

#[test]
fn h21_what_was_not_looked_at_is_never_recorded_as_passed() {
    let body = calling(r#"{"town":"SECRET"}"#);
    let deny = JUDGED.replace("on_not_evaluated: allow", "on_not_evaluated: block");
    let labels =
        [("text/plain", None), ("application/octet-stream", None), ("text/event-stream", Some("gzip"))];
    for (kind, coding) in labels {
        let reply = || {
            let reply = Reply::new(Body::Text(body.clone())).header("content-type", kind);
            coding.into_iter().fold(reply, |reply, coding| reply.header("content-encoding", coding))
        };
        let blocked = world(reply(), &deny);
        let answer = take(&blocked, "unseen");
        assert_eq!(answer.status(), 403, "{kind}");
        assert!(!answer.text().contains("SECRET"), "{kind}");
        let said = receipt(&blocked, "unseen");
        assert_eq!(said["verdict"]["reason"], "NOT_EVALUATED", "{kind}: {said}");
        let passed = world(reply(), JUDGED);
        assert_eq!(take(&passed, "unseen").text(), body);
        let said = receipt(&passed, "unseen");
        let looked = &said["evaluated"]["response"];
        assert_eq!(
            (&looked["state"], &looked["skipped"]),
            (&json!("not_evaluated"), &json!(body.len())),
            "{kind}"
        );
        assert!(said.get("contract").is_none() && said.get("repair").is_none(), "{kind}: {said}");
    }
    // A dialect that nobody knows.
    let world = world(stream(&body), &deny);
    let request = Request::new("POST", "/v9/answers")
        .header("content-type", "application/json")
        .header("estoppel-run", "unknown");
    assert_eq!(world.send(&request.body("{}")).status(), 403);
    assert_eq!(world.upstream.hits().total(), 0);
    assert_eq!(receipt(&world, "unknown")["verdict"]["reason"], "NOT_EVALUATED");
}

#[test]
fn h22_no_other_surface_lets_a_call_escape() {
    let blocks = JUDGED.replace("unknown_tools: json", "unknown_tools: block");
    let rule = format!(
        "{OPEN}rules:\n  - {{ id: no-shell, when: {{ tool: shell }}, verdict: block, reason: TOOL_DENIED }}\n"
    );
    for (policy, reason) in [(&blocks, "CONTRACT_MISSING"), (&rule, "TOOL_DENIED")] {
        for surface in &SURFACES {
            let name = surface.name;
            let reply = surface.reply("shell", r#"{"city":"SECRET"}"#);
            let world =
                World::with(Script::always(reply), &Setup { policy: policy.clone(), ..Setup::default() });
            let mut peer = estoppel_kit::http::Peer::connect(world.gateway).unwrap();
            let answer = peer.exchange(&surface.request("surface")).unwrap();
            assert!(!answer.text().contains("SECRET"), "{name} {reason}: {}", answer.text());
            let receipt = receipt(&world, "surface");
            assert_eq!(receipt["verdict"]["action"], "block", "{name}: {receipt}");
            assert_eq!(receipt["verdict"]["reason"], reason, "{name}");
        }
        // The same over a socket that nobody looks into.
        let world = world(stream(calling("{}")), policy);
        let upgrade = Request::new("GET", "/v1/realtime?model=m")
            .header("estoppel-run", "surface")
            .header("connection", "upgrade")
            .header("upgrade", "websocket");
        assert_eq!((world.send(&upgrade).status(), world.upstream.hits().total()), (501, 0));
        assert_eq!(receipt(&world, "surface")["verdict"]["action"], "block");
    }
}

#[test]
fn h23_observing_neither_holds_back_nor_blocks() {
    let observes = JUDGED.replace("repair: r1", "repair: r1, release: observe");
    assert_ne!(observes, JUDGED);
    let whole = calling(r#"{"town":"SECRET",}"#);
    for text in [whole.as_str(), "data: {\"choices\":\n\n", "data: {\"choices\":[]}\n\ndata: [DONE]\n\n"] {
        let open = world(stream(text), OPEN);
        let observed = world(stream(text), &observes);
        let (expected, got) = (take(&open, "same"), take(&observed, "same"));
        assert_eq!((got.text(), got.end.is_some()), (expected.text(), expected.end.is_some()));
        let receipt = receipt(&observed, "same");
        assert_eq!(receipt["verdict"]["action"], "allow", "{receipt}");
    }
    // Each event of a call is there while the value is still open: nobody waits for its end.
    let open = format!("{}{}", open_call(), piece(0, 0, "{\"town\""));
    let world = world(stalled(&open), &observes);
    let mut peer = begin(&world, "pace");
    peer.read_until(b"town").unwrap();
    drop(peer);
    let receipt = receipt(&world, "pace");
    assert_eq!(outcome(&receipt).1, "gone", "{receipt}");
    let found = world_of(&whole, &observes);
    assert_eq!(
        found["downgrades"],
        json!([{ "code": "VALUE_MALFORMED", "detail": "observed in the answer" }])
    );
}

/// The receipt of one answer.
fn world_of(text: &str, policy: &str) -> Value {
    let world = world(stream(text), policy);
    assert_eq!(take(&world, "found").text(), text);
    receipt(&world, "found")
}
