//! Who breaks off, and what is left then.

use estoppel_kit::http::Peer;
use estoppel_kit::http::Request;
use estoppel_stub::{Body, Delays, Fault, Listen, Outcome, Protocol, Reply, Rule, Script, Split, Stub};

use super::{
    DONE, JUDGED, Read, TEXT, begin, calling, open_call, outcome, receipt, stream, take, upstream_outcome,
    world,
};
use crate::support::{OPEN, PATIENCE, Setup, World, chat};

#[test]
fn h10_a_stream_that_its_upstream_breaks_off_says_so_and_never_looks_whole() {
    let held = open_call();
    let body = calling(r#"{"city":"SECRET"}"#);
    let points =
        [TEXT.len() as u64, held.len() as u64, held.len() as u64 - 7, (body.len() - DONE.len()) as u64];
    for after_bytes in points {
        for fault in [Fault::Truncate { after_bytes }, Fault::Reset { after_bytes }] {
            let world = world(stream(&body).fault(fault), JUDGED);
            let answer = take(&world, "broken");
            let text = answer.text();
            assert!(answer.end.is_some() && text.starts_with(TEXT), "{fault:?}: {text}");
            let last = text.split_inclusive("\n\n").last().unwrap();
            assert!(last.starts_with("data: {\"error\"") && last.contains("TRUNCATED"), "{fault:?}: {text}");
            assert!(!text.contains("[DONE]"), "{fault:?}: {text}");
            let receipt = receipt(&world, "broken");
            assert_eq!(outcome(&receipt), ("TRUNCATED", "handed_over", false), "{fault:?}");
            assert_eq!(receipt["verdict"]["action"], "allow", "{fault:?}: {receipt}");
            assert_eq!(receipt["response"]["client"]["bytes"], text.len(), "{fault:?}");
            let judged = receipt["evaluated"]["response"]["state"] == "judged";
            assert_eq!(Read::of(&text).calls.is_empty(), !judged, "{fault:?}: {text}");
        }
    }
    // Without its end and with the transport's, a value that was open is not whole either.
    let ended = world(stream(&held), JUDGED);
    let answer = take(&ended, "ended");
    assert!(answer.end.is_some() && !answer.text().contains("SECRET"), "{}", answer.text());
    assert_eq!(outcome(&receipt(&ended, "ended")), ("TRUNCATED", "handed_over", false));
    // What is not judged has left as it came, perhaps inside an event: then nothing is said.
    let open = world(stream(&body).fault(Fault::Truncate { after_bytes: held.len() as u64 - 7 }), OPEN);
    let answer = take(&open, "open");
    assert!(answer.end.is_some() && body.starts_with(&answer.text()), "{}", answer.text());
    assert_eq!(outcome(&receipt(&open, "open")).0, "TRUNCATED");
}

/// How each event of `text` begins.
fn starts(text: &str) -> Vec<&str> {
    text.split("\n\n").map(|event| event.get(..60).unwrap_or(event)).collect()
}

#[test]
fn h10_what_came_before_a_break_leaves_in_its_order() {
    let body: String = (0..4).map(|n| TEXT.replace("Wait", &format!("{n}{}", "x".repeat(100)))).collect();
    // The frame that ends the answer comes while those before it wait to be joined with more.
    let reply = Reply::new(Body::Text(body.clone()))
        .header("content-type", "text/event-stream")
        .split(Split::Each { bytes: 100 });
    for policy in [OPEN, JUDGED] {
        let listen = Listen { protocol: Protocol::Http2, ..Listen::default() };
        let upstream = Stub::spawn_thread_on(listen, Script::always(reply.clone())).unwrap();
        let keys = "http2 = \"always\"\n".into();
        let world =
            World::over(upstream, &Setup { policy: policy.into(), upstream: keys, ..Setup::default() });
        for _ in 0..20 {
            let answer = take(&world, "order");
            assert!(answer.text().starts_with(&body), "{policy}: {:?}", starts(&answer.text()));
            assert_eq!(answer.text().contains("TRUNCATED"), policy == JUDGED);
        }
        for receipt in world.receipts("order") {
            assert!(receipt["response"]["client"]["bytes"].as_u64() >= Some(body.len() as u64));
            assert_eq!(outcome(&receipt), ("TRUNCATED", "handed_over", false));
        }
    }
}

/// Asks, reads up to `mark` and leaves. What the receipt says the client got.
fn leave(reply: Reply, mark: Option<&str>) -> u64 {
    let world = world(reply, JUDGED);
    let mut peer = begin(&world, "left");
    match mark {
        None => assert!(world.upstream.hits().wait(PATIENCE, |hits| hits.total() == 1)),
        Some(mark) => drop(peer.read_until(mark.as_bytes()).unwrap()),
    }
    drop(peer);
    assert_eq!(upstream_outcome(&world), Outcome::PeerGone, "{mark:?}");
    let receipt = receipt(&world, "left");
    assert_eq!(outcome(&receipt), ("CLIENT_GONE", "gone", false), "{mark:?}");
    receipt["response"]["client"]["bytes"].as_u64().unwrap_or_default()
}

#[test]
fn h12_a_client_may_leave_at_any_point_and_its_receipt_says_what_it_got() {
    let stalled = |text: &str| stream(text).fault(Fault::Stall { after_bytes: text.len() as u64 });
    let never = Reply::default().fault(Fault::NoAnswer);
    assert_eq!(leave(never, None), 0, "before the head");
    assert_eq!(leave(stalled("").fault(Fault::Slow { bytes_per_write: 1, every_ms: 1 }), None), 0);
    assert_eq!(
        leave(stalled(TEXT).delay_ms(Delays { before_body: 60_000, ..Delays::default() }), Some("\r\n\r\n")),
        0
    );
    assert_eq!(leave(stalled(TEXT), Some("Wait")), TEXT.len() as u64, "inside the stream");
    assert_eq!(leave(stalled(&open_call()), Some("Wait")), TEXT.len() as u64, "while a value is held");
    let judged = calling(r#"{"city":"a"}"#);
    let before_end = judged.trim_end_matches(DONE);
    assert_eq!(
        leave(stalled(before_end), Some("\"tool_calls\"}]}")),
        before_end.len() as u64,
        "after the value"
    );
}

#[test]
fn h12_who_left_gets_neither_the_drained_value_nor_keepalives() {
    let policy = JUDGED
        .replace("verdict: allow,", "verdict: allow, disconnect: { drain: { bytes: 100000, seconds: 20 } },")
        + "limits: { keepalive_ms: 60 }\n";
    for (arguments, action) in
        [(r#"{"city":"a long name"}"#, "allow"), (r#"{"town":"a long name"}"#, "block")]
    {
        let body = calling(arguments);
        let slow = stream(&body).delay_ms(Delays { between_writes: 100, ..Delays::default() });
        let world = world(slow, &policy);
        let mut peer = begin(&world, "drained");
        peer.read_until(b"Wait").unwrap();
        drop(peer);
        let receipt = receipt(&world, "drained");
        assert_eq!(outcome(&receipt), ("CLIENT_GONE", "gone", false), "{action}: {receipt}");
        assert_eq!(receipt["verdict"]["action"], action, "{receipt}");
        let got = receipt["response"]["client"]["bytes"].as_u64().unwrap() as usize - TEXT.len();
        // Before it was known that it left; the stream goes on for 30 times as long.
        assert!(got <= 10 * ": keep-alive\n".len(), "{action}: {got} bytes after the text");
        assert_eq!(receipt["sse"]["units"].as_u64(), Some(1 + u64::from(got > 0)), "{action}: {receipt}");
        if action == "allow" {
            assert_eq!(receipt["response"]["upstream"]["bytes"], body.len());
        }
    }
}

#[test]
fn h12_half_a_close_is_a_departure_unless_the_listener_says_otherwise() {
    let body = calling(r#"{"city":"a"}"#);
    let reply =
        || stream(&body).delay_ms(Delays { before_head: 200, between_writes: 20, ..Delays::default() });
    for (listener, whole) in [("", false), ("half_close = true\n", true)] {
        let setup = Setup { policy: JUDGED.into(), listener: listener.into(), ..Setup::default() };
        let world = World::with(Script::always(reply()), &setup);
        let mut peer = begin(&world, "half");
        assert!(world.upstream.hits().wait(PATIENCE, |hits| hits.total() == 1));
        peer.half_close().unwrap();
        if whole {
            assert_eq!(peer.read_answer().unwrap().text(), body);
            assert_eq!(outcome(&receipt(&world, "half")), ("OK", "handed_over", true));
        } else {
            assert_eq!(outcome(&receipt(&world, "half")), ("CLIENT_GONE", "gone", false));
        }
    }
}

#[test]
fn h13_a_client_that_stops_reading_stops_the_upstream() {
    let bytes = Reply::new(Body::Size { bytes: 60_000_000 });
    let events = Reply::new(Body::Repeat { text: TEXT.into(), times: 1_000_000 })
        .header("content-type", "text/event-stream");
    for (reply, policy) in [(bytes, OPEN), (events.clone(), OPEN), (events, JUDGED)] {
        let script = Script { send_buffer_bytes: Some(16 << 10), ..Script::always(reply) };
        let config = "[server]\nwrite_stall_ms = 1500\n".into();
        let world = World::with(script, &Setup { policy: policy.into(), config, ..Setup::default() });
        let mut peer = begin(&world, "stalled");
        peer.read_until(b"\r\n\r\n").unwrap();
        world.wait_for_calls("stalled", 1);
        let sent = world.upstream.hits().last().unwrap().sent_bytes();
        assert!(sent < 12 << 20, "the upstream sent {sent} bytes to a client that does not read");
        assert_eq!(outcome(&receipt(&world, "stalled")), ("CLIENT_STALLED", "gone", false));
        drop(peer);
    }
}

#[test]
fn h14_each_wait_has_its_own_limit() {
    let stall = |after_bytes| stream(open_call()).fault(Fault::Stall { after_bytes });
    let slow = stream(TEXT.repeat(1000)).delay_ms(Delays { between_writes: 20, ..Delays::default() });
    for (reply, limit, code) in [
        (Reply::default().fault(Fault::NoAnswer), "headers_ms", "TIMEOUT_HEADERS"),
        (stall(0).writes(estoppel_stub::Writes::HeadFirst), "first_event_ms", "TIMEOUT_FIRST_EVENT"),
        (stall(TEXT.len() as u64), "between_events_ms", "TIMEOUT_BETWEEN"),
        (stall(open_call().len() as u64), "between_events_ms", "TIMEOUT_BETWEEN"),
        (slow, "total_ms", "TIMEOUT_TOTAL"),
    ] {
        for policy in [OPEN, JUDGED] {
            let world = world(reply.clone(), &format!("{policy}limits: {{ {limit}: 300 }}\n"));
            let answer = take(&world, "silent");
            assert!(answer.status() == 504 || answer.end.is_some(), "{limit}: a stream does not look whole");
            assert_eq!(
                answer.text().contains(code),
                answer.status() == 504 || policy == JUDGED,
                "{}",
                answer.text()
            );
            assert!(policy == OPEN || !answer.text().contains("SECRET"), "{limit}");
            let receipt = receipt(&world, "silent");
            assert_eq!(receipt["outcome"]["code"], code, "{limit}");
            assert_eq!(receipt["response"]["client"]["bytes"], answer.body.len(), "{limit}");
        }
    }
}

#[test]
fn h14_time_in_which_bytes_are_held_is_not_the_upstreams_silence() {
    let body = calling(&format!(r#"{{"city":"{}"}}"#, "x".repeat(90)));
    let slow = stream(&body).delay_ms(Delays { between_writes: 60, ..Delays::default() });
    // The value is held for about two seconds, and no event is a second after another.
    let world =
        world(slow, &format!("{JUDGED}limits: {{ between_events_ms: 1000, first_event_ms: 1000 }}\n"));
    assert_eq!(take(&world, "held").text(), body);
    assert_eq!(outcome(&receipt(&world, "held")), ("OK", "handed_over", true));
}

#[test]
fn h18_a_request_is_sent_once_unless_no_byte_of_it_was_read() {
    for fault in [Fault::CloseBeforeHead, Fault::ResetBeforeHead] {
        let script =
            Script::always(Reply::default().fault(fault)).on(Rule::any("/first", Reply::text("kept")));
        let world = World::new(script);
        // The connection is a kept one, as for a retry it would have to be.
        assert_eq!(world.send(&Request::new("GET", "/first")).text(), "kept");
        let answer = world.send(&chat("once", &super::ask()));
        assert_eq!(answer.status(), 502, "{fault:?}");
        assert_eq!((world.upstream.hits().total(), world.upstream.hits().connections()), (2, 1), "{fault:?}");
        assert_eq!(outcome(&receipt(&world, "once")), ("UPSTREAM_RESET", "refused", true), "{fault:?}");
    }
    // After a byte of the answer nothing is asked again either.
    let world = world(stream(TEXT.repeat(3)).fault(Fault::Reset { after_bytes: TEXT.len() as u64 }), OPEN);
    assert!(take(&world, "begun").end.is_some());
    assert_eq!((world.upstream.hits().total(), outcome(&receipt(&world, "begun")).0), (1, "TRUNCATED"));
    // A connection that the upstream had closed meanwhile has read nothing.
    let world = World::new(Script::always(Reply { close: true, ..Reply::text("whole") }));
    for call in 1..=5 {
        assert_eq!(world.send(&chat("closed", "{}")).text(), "whole");
        assert_eq!((world.upstream.hits().total(), world.upstream.hits().connections()), (call, call));
    }
    assert_eq!(world.receipts("closed").len(), 5, "one receipt for each call");
}

#[test]
fn h19_a_connection_that_was_left_inside_an_answer_is_not_used_again() {
    let rest = format!("{}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged", "x".repeat(1000));
    for text in [format!("{TEXT}{rest}"), format!("{}{rest}", open_call())] {
        let left = stream(&text).split(Split::Whole).fault(Fault::Slow { bytes_per_write: 64, every_ms: 5 });
        let world = World::with(
            Script::always(Reply::text("honest")).on(Rule::new("POST", "", left)),
            &Setup { policy: JUDGED.into(), ..Setup::default() },
        );
        assert_eq!(world.send(&Request::new("GET", "/warm")).text(), "honest");
        let mut peer = begin(&world, "left");
        peer.read_until(b"Wait").unwrap();
        drop(peer);
        assert_eq!(upstream_outcome(&world), Outcome::PeerGone);
        for _ in 0..3 {
            assert_eq!(world.send(&Request::new("GET", "/next")).text(), "honest");
        }
        assert_eq!(world.upstream.hits().connections(), 2, "the first was closed, the second is kept");
        assert_eq!(outcome(&receipt(&world, "left")), ("CLIENT_GONE", "gone", false));
    }
}

#[test]
fn h26_a_shutdown_ends_or_cuts_streams_and_signs_what_they_got() {
    let setup = |drain: u64| Setup {
        policy: JUDGED.into(),
        config: format!("[server]\ndrain_ms = {drain}\n"),
        ..Setup::default()
    };
    let held = open_call();
    let cut = stream(&held).fault(Fault::Stall { after_bytes: held.len() as u64 });
    let mut world = World::with(Script::always(cut), &setup(300));
    let mut peer = begin(&world, "cut");
    peer.read_until(b"Wait").unwrap();
    let sent =
        |hits: &estoppel_stub::Hits| hits.last().is_some_and(|seen| seen.sent_bytes() >= held.len() as u64);
    assert!(world.upstream.hits().wait(PATIENCE, sent));
    world.stop();
    let (rest, _) = peer.read_to_end().unwrap();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(!rest.contains("SECRET") && !rest.contains("[DONE]") && !rest.ends_with("0\r\n\r\n"), "{rest}");
    assert_eq!(world.check_journal()["counters"]["incomplete"], 1);
    world.restart();
    let receipt = world.receipts("cut").remove(0);
    assert_eq!(outcome(&receipt), ("SHUTDOWN", "gone", false));
    assert_eq!(receipt["response"]["client"]["bytes"], TEXT.len());

    let body = calling(&format!(r#"{{"city":"{}"}}"#, "x".repeat(60)));
    let slow = stream(&body).delay_ms(Delays { between_writes: 30, ..Delays::default() });
    let mut world = World::with(Script::always(slow), &setup(20_000));
    let mut peer = begin(&world, "ends");
    let head = peer.read_until(b"Wait").unwrap();
    world.stop();
    let (rest, _) = peer.read_to_end().unwrap();
    let text = String::from_utf8_lossy(&[head, rest].concat()).into_owned();
    assert!(text.contains(DONE) && text.ends_with("0\r\n\r\n"), "{text}");
    world.check_journal();
    world.restart();
    assert_eq!(outcome(&world.receipts("ends")[0]), ("OK", "handed_over", true));
}

/// Refuses calls of one tool by its name, and looks into nothing.
const BY_NAME: &str = "version: 1
name: names
defaults: { verdict: allow, on_not_evaluated: allow }
rules:
  - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }
limits: { between_events_ms: 300 }
";

/// For each dialect where it is asked, a text, and the data of an event that calls `shell`.
fn calls_by_name() -> [(&'static str, String, &'static str); 4] {
    [
        (
            "/v1/chat/completions",
            TEXT.into(),
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"shell","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#,
        ),
        (
            "/v1/responses",
            "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n".into(),
            r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","id":"f","call_id":"c","name":"shell","arguments":"{}"}}"#,
        ),
        (
            "/v1/messages",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n".into(),
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"shell","input":{}}}"#,
        ),
        (
            "/v1beta/models/m:streamGenerateContent?alt=sse",
            "data: {\"candidates\":[{\"index\":0,\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"Wait\"}]}}]}\n\n".into(),
            r#"{"candidates":[{"index":0,"content":{"role":"model","parts":[{"functionCall":{"name":"shell","args":{}}}]},"finishReason":"STOP"}]}"#,
        ),
    ]
}

/// Asks for what the upstream has for `case`.
fn asking(path: &str, case: usize) -> Request {
    let body = format!(
        r#"{{"model":"m","stream":true,"max_tokens":9,"messages":[],"input":"case-{case};","contents":[{{"role":"user","parts":[{{"text":"x"}}]}}]}}"#
    );
    Request::new("POST", path)
        .header("content-type", "application/json")
        .header("estoppel-run", &format!("case-{case}"))
        .body(body.as_bytes())
}

/// An upstream with an answer for each case.
fn cases(replies: impl IntoIterator<Item = Reply>, policy: &str) -> World {
    let rule = |(case, reply)| Rule { body_contains: Some(format!("case-{case};")), ..Rule::any("", reply) };
    let script = replies.into_iter().enumerate().map(rule);
    let script = script.fold(Script::always(Reply::default().status(404)), Script::on);
    World::with(script, &Setup { policy: policy.into(), ..Setup::default() })
}

fn exchange(world: &World, path: &str, case: usize) -> estoppel_kit::http::Answer {
    Peer::connect(world.gateway).unwrap().exchange(&asking(path, case)).unwrap()
}

#[test]
fn a_call_in_an_event_without_its_end_is_judged_by_its_name() {
    let mut told = Vec::new();
    for (path, text, call) in calls_by_name() {
        let cut = text.len() as u64 + 20;
        for end in ["", "\n", "\r", "\r\n"] {
            for split in [Split::Whole, Split::Each { bytes: 1 }, Split::At { offsets: vec![cut] }] {
                told.push((path, text.clone(), format!("{text}data: {call}{end}"), split));
            }
        }
    }
    let replies = || told.iter().map(|(_, _, body, split)| stream(body).split(split.clone()));
    let (refusing, open) = (cases(replies(), BY_NAME), cases(replies(), OPEN));
    for (case, (path, text, body, split)) in told.iter().enumerate() {
        let (run, told) = (format!("case-{case}"), format!("{body:?} {split:?}"));
        let answer = exchange(&refusing, path, case);
        let got = answer.text();
        assert!(got.starts_with(text) && !got.contains("shell"), "{told}: {got}");
        assert!(got.contains("TOOL_DENIED") && answer.end.is_some(), "{told}: {got}");
        let blocked = receipt(&refusing, &run);
        assert_eq!(blocked["verdict"]["reason"], "TOOL_DENIED", "{told}");
        assert_eq!(blocked["facts"]["tools_called"][0], "shell", "{told}");
        assert_eq!(blocked["response"]["client"]["bytes"], got.len(), "{told}");
        // Where nothing is refused it leaves as it came, and is recorded.
        let answer = exchange(&open, path, case);
        assert!(answer.text().starts_with(body.trim_end()), "{told}: {}", answer.text());
        if *split == Split::Whole {
            assert_eq!(receipt(&open, &run)["facts"]["tools_called"][0], "shell", "{told}");
        }
    }
}

#[test]
fn half_an_event_does_not_leave_where_the_policy_may_refuse_the_whole() {
    let told: Vec<_> = calls_by_name()
        .into_iter()
        .flat_map(|(path, text, call)| {
            ["", "\n"].map(|end| (path, text.clone(), format!("{text}data: {call}{end}")))
        })
        .collect();
    let stalled = |body: &String| stream(body).fault(Fault::Stall { after_bytes: body.len() as u64 });
    let world = cases(told.iter().map(|(_, _, body)| stalled(body)), BY_NAME);
    for (case, (path, text, body)) in told.iter().enumerate() {
        let answer = exchange(&world, path, case);
        let got = answer.text();
        assert!(got.starts_with(text) && !got.contains("shell"), "{body}: {got}");
        assert!(got.contains("TIMEOUT_BETWEEN") && answer.end.is_some(), "{body}: {got}");
        assert_eq!(receipt(&world, &format!("case-{case}"))["outcome"]["code"], "TIMEOUT_BETWEEN", "{body}");
    }
}

#[test]
fn a_last_event_without_its_end_that_is_allowed_leaves_with_the_end() {
    const PATH: &str = "/v1/chat/completions";
    let finish = super::chunk(0, "{}", Some("stop"));
    let rests = ["data: [DONE]", "data: [DONE]\n", ": bye", "id: 7", "data: {\"choices\":[]}\r\n"];
    let bodies: Vec<String> = rests.iter().map(|rest| format!("{TEXT}{finish}{rest}")).collect();
    // Half of one cannot be read, which the policy decides about.
    let half = format!("{TEXT}{finish}data: {{\"choices\":[");
    let strict = BY_NAME.replace("on_not_evaluated: allow", "on_not_evaluated: block");
    for policy in [BY_NAME, &strict] {
        for split in [Split::Whole, Split::Each { bytes: 1 }] {
            let all = bodies.iter().chain([&half]).map(|body| stream(body).split(split.clone()));
            let world = cases(all, policy);
            for (case, body) in bodies.iter().enumerate() {
                let answer = exchange(&world, PATH, case);
                assert_eq!((&answer.text(), answer.end.is_some()), (body, false));
                let receipt = receipt(&world, &format!("case-{case}"));
                assert_eq!(outcome(&receipt), ("OK", "handed_over", true), "{body}");
                assert_eq!(receipt["response"]["client"]["bytes"], body.len(), "{body}");
            }
            let got = exchange(&world, PATH, bodies.len()).text();
            let receipt = receipt(&world, &format!("case-{}", bodies.len()));
            if policy == strict {
                assert!(got.contains("NOT_EVALUATED") && !got.contains("data: {\"choices\":[\n"), "{got}");
                assert_eq!(receipt["verdict"]["reason"], "NOT_EVALUATED");
            } else {
                assert_eq!((got, &receipt["verdict"]["action"]), (half.clone(), &"allow".into()));
            }
        }
    }
}

#[test]
fn an_event_that_is_too_long_to_be_read_waits_for_the_policy_and_not_for_its_end() {
    let long = format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(4000));
    let body = format!("{TEXT}{long}{}{DONE}", super::chunk(0, "{}", Some("stop")));
    let limits = |allow: &str| {
        BY_NAME
            .replace("on_not_evaluated: allow", &format!("on_not_evaluated: {allow}"))
            .replace("between_events_ms: 300", "event_bytes_max: 1024, between_events_ms: 300")
    };
    let stalled = |after| stream(&body).fault(Fault::Stall { after_bytes: after });
    let inside = (TEXT.len() + 3000) as u64;
    let open = world(stalled(inside), &limits("allow"));
    assert_eq!(take(&open, "long").text().len() as u64, inside);
    let open = world(stream(&body), &limits("allow"));
    assert_eq!(take(&open, "long").text(), body);
    let refusing = world(stalled(inside), &limits("block"));
    let got = take(&refusing, "long").text();
    assert!(got.starts_with(TEXT) && got.contains("NOT_EVALUATED") && !got.contains("yyy"), "{got}");
}
