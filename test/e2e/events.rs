//! A bundle is asked whether events are those that its client got.

use std::path::PathBuf;

use estoppel_kit::http::{Peer, Request};
use estoppel_stub::{Body, Dialect, ModelReply, Reply, Rule, Script, Split, ToolCall};
use serde_json::Value;

use crate::support::{Setup, World, cli, path};

/// Stream, call and bundle of a run that is sealed, and the key of the stream.
struct Asked {
    world: World,
    bundle: PathBuf,
    call: String,
    key: PathBuf,
    stream: Vec<u8>,
}

impl Asked {
    /// What the client got of `target`, and the run's bundle.
    fn of(world: World, target: &str) -> Self {
        Self::request(world, &Request::new("GET", target).header("estoppel-run", "events"))
    }

    fn request(world: World, request: &Request) -> Self {
        // Also what is broken off is kept as far as it came.
        let answer = Peer::connect(world.gateway).unwrap().exchange(request).unwrap();
        assert_eq!(answer.status(), 200);
        world.wait_for_calls("events", 1);
        let call = answer.header("estoppel-call").unwrap().to_string();
        let bundle = world.seal("events");
        let key = world.scratch.join("stream.key");
        disclose(&world, &bundle, &["--call", &call, "--out", path(&key)]);
        Self { world, bundle, call, key, stream: answer.body }
    }

    fn ask(&self, events: &[u8], place: Option<u64>) -> (i32, Value) {
        let file = self.world.scratch.write("events", events);
        let place = place.map(|place| place.to_string());
        let mut words = vec!["verify", path(&self.bundle), "--stream", &self.call];
        words.extend(["--disclosure", path(&self.key), "--events", path(&file)]);
        words.extend(place.iter().flat_map(|place| ["--place", place]));
        let (exit, answer) = cli(&words);
        (exit, answer["data"].clone())
    }

    /// Refused for that reason, at that unit; the bundle itself stays good.
    fn check_refused(&self, events: &[u8], place: Option<u64>, reason: &str, unit: Option<u64>) {
        let (exit, data) = self.ask(events, place);
        let found =
            (exit, data["reason"].as_str(), data["unit"].as_u64(), data["stream"]["verdict"].as_str());
        assert_eq!(found, (2, Some(reason), unit, Some("failed")), "{data}");
        assert_eq!(data["verdicts"]["integrity"], "ok");
    }
}

fn disclose(world: &World, bundle: &std::path::Path, more: &[&str]) -> (i32, Value) {
    let keys = world.journal().join("keys");
    let words = [&["keys", "disclose", path(bundle), "--dir", path(&keys)], more].concat();
    cli(&words)
}

/// The events of a stream whose lines end in LF, each with its blank line.
fn events(stream: &[u8]) -> Vec<&[u8]> {
    let mut found: Vec<&[u8]> = Vec::new();
    let mut from = 0;
    for at in 1..stream.len() {
        if at > from && stream[at - 1..=at] == *b"\n\n" {
            found.push(&stream[from..=at]);
            from = at + 1;
        }
    }
    assert_eq!(from, stream.len());
    found
}

/// A stream of events that all differ.
fn numbered(count: u32) -> World {
    let events: String = (0..count).map(|n| format!("id: {n}\ndata: {{\"token\":{n}}}\n\n")).collect();
    let reply = Reply::new(Body::Text(events))
        .header("content-type", "text/event-stream")
        .framing(estoppel_stub::Framing::Chunked)
        .split(Split::Each { bytes: 1_000 });
    World::new(Script::default().on(Rule::any("/stream", reply)))
}

#[test]
fn one_event_of_ten_thousand_is_proven_at_its_place_and_at_no_other() {
    let asked = Asked::of(numbered(10_000), "/stream");
    let events = events(&asked.stream);
    assert_eq!(events.len(), 10_000);

    let (exit, data) = asked.ask(&asked.stream, None);
    assert_eq!((exit, &data["stream"]["proven"]), (0, &events.len().into()), "{data}");
    let (exit, data) = asked.ask(events[4711], Some(4711));
    assert_eq!((exit, data["stream"]["verdict"].as_str()), (0, Some("proven")), "{data}");
    let path = &data["stream"]["audit_path"];
    assert_eq!((&path["index"], &path["size"]), (&4711.into(), &events.len().into()));
    assert_eq!(path["path"].as_array().unwrap().len(), 14);
    assert_eq!(asked.ask(&events[20..400].concat(), Some(20)).0, 0);

    let mut flipped = events[4711].to_vec();
    flipped[7] ^= 1;
    asked.check_refused(&flipped, Some(4711), "EVENTS_UNKNOWN", None);
    asked.check_refused(events[4711], Some(4712), "EVENT_MISMATCH", Some(4712));
    let mut stream = asked.stream.clone();
    let place = events[..4711].concat().len() + 7;
    stream[place] ^= 1;
    asked.check_refused(&stream, None, "EVENT_MISMATCH", Some(4711));
    asked.check_refused(&events[..9_000].concat(), None, "EVENT_MISSING", Some(9_000));
    asked.check_refused(
        &[&asked.stream[..], b"\n"].concat(),
        None,
        "EVENT_SURPLUS",
        Some(events.len() as u64),
    );
    asked.check_refused(events[0], Some(events.len() as u64), "EVENT_SURPLUS", Some(events.len() as u64));
}

#[test]
fn events_are_cut_by_line_ends_however_the_bytes_came() {
    let stream = b"\xef\xbb\xbf\ndata: 1\r\rdata: 2\r\n\r\n: note\r\n\r\ndata: 3\n\n\ndata: cut";
    let units: [&[u8]; 7] = [
        b"\xef\xbb\xbf\n",
        b"data: 1\r\r",
        b"data: 2\r\n\r",
        b"\n: note\r\n\r",
        b"\ndata: 3\n\n",
        b"\n",
        b"data: cut",
    ];
    assert_eq!(units.concat(), stream);
    for bytes in [1, 2, 3, 1_000] {
        let reply = Reply::new(Body::bytes(stream))
            .header("content-type", "text/event-stream")
            .framing(estoppel_stub::Framing::Chunked)
            .split(Split::Each { bytes });
        let asked = Asked::of(World::new(Script::default().on(Rule::any("/stream", reply))), "/stream");
        assert_eq!(asked.stream, stream);
        assert_eq!(asked.ask(stream, None).0, 0, "in pieces of {bytes}");
        for (place, unit) in (0..).zip(units) {
            let (exit, data) = asked.ask(unit, Some(place));
            assert_eq!(exit, 0, "unit {place} in pieces of {bytes}: {data}");
        }
        asked.check_refused(b"data: 2\r\n\r\n", Some(2), "EVENT_MISMATCH", Some(3));
    }
}

#[test]
fn a_judged_stream_is_proven_as_it_left_repaired_or_broken_off() {
    for (arguments, action) in [
        (r#"{"city": "Oslo"}"#, "allow"),
        ("```json\n{\"city\": \"Oslo\",}\n```", "repair"),
        (r#"{"town": "Oslo"}"#, "block"),
    ] {
        let call = ToolCall { name: "w".into(), arguments: arguments.into() };
        let reply = ModelReply { calls: Some(vec![call]), ..ModelReply::new(Dialect::ChatCompletions) };
        let script = Script::always(Reply::model(reply));
        let asked = judged(script);
        assert_eq!(asked.world.receipts_in(&asked.bundle)[0]["verdict"]["action"], action);
        check_whole(&asked);
        if action == "allow" {
            let reply =
                Reply::new(Body::bytes(String::from_utf8(asked.stream).unwrap().replace('\n', "\r\n")))
                    .header("content-type", "text/event-stream")
                    .framing(estoppel_stub::Framing::Chunked)
                    .split(Split::Each { bytes: 7 });
            let asked = judged(Script::always(reply));
            assert_eq!(asked.world.receipts_in(&asked.bundle)[0]["evaluated"]["response"]["state"], "judged");
            check_whole(&asked);
        }
    }
}

/// A call whose values are judged, so that its events are held back.
fn judged(script: Script) -> Asked {
    let policy = "version: 1\nname: judged\ndefaults: { verdict: allow, judge: { unknown_tools: block, repair: r1 } }\n";
    let ask = r#"{"model":"m","stream":true,"messages":[],"tools":[{"type":"function","function":{"name":"w","parameters":
        {"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]}"#;
    let world = World::with(script, &Setup { policy: policy.into(), ..Setup::default() });
    Asked::request(world, &crate::support::chat("events", ask))
}

/// What the client got is the stream, and less than that is not.
fn check_whole(asked: &Asked) {
    let (exit, data) = asked.ask(&asked.stream, None);
    assert_eq!(exit, 0, "{data}: {}", asked.stream.escape_ascii());
    let shorter = asked.ask(&asked.stream[..asked.stream.len() - 1], None);
    assert_eq!((shorter.0, shorter.1["stream"]["verdict"].as_str()), (2, Some("failed")));
}

#[test]
fn forged_nodes_and_what_is_no_sealed_bundle_prove_nothing() {
    let asked = Asked::of(World::new(Script::model()), "/sse/20/0");
    let mut forged = std::fs::read(&asked.bundle).unwrap();
    let name = format!("streams/{}.nodes", asked.call);
    let local = |at: &usize| {
        forged[*at..].starts_with(b"PK\x03\x04") && forged[at + 30..].starts_with(name.as_bytes())
    };
    let at = (0..forged.len() - 30).find(local).unwrap() + 30 + name.len();
    forged[at + 40] ^= 1;
    let forged = asked.world.scratch.write("forged.pef.zip", forged);
    let stream = asked.world.scratch.write("stream", &asked.stream);
    let journal = asked.world.journal();
    let ask = |evidence: &std::path::Path| {
        let words = ["verify", path(evidence), "--stream", &asked.call, "--disclosure", path(&asked.key)];
        cli(&[&words[..], &["--events", path(&stream)]].concat())
    };
    let (exit, answer) = ask(&forged);
    assert_eq!((exit, answer["data"]["reason"].as_str()), (2, Some("FILE_DIGEST")));
    assert_eq!(answer["data"]["stream"]["verdict"], "unchecked");
    let (exit, answer) = ask(&journal);
    assert_eq!((exit, answer["error"]["code"].as_str()), (6, Some("ARGUMENT_INVALID")));
    assert!(answer["error"]["hint"].as_str().unwrap().contains("seal"), "{answer}");
}

#[test]
fn without_nodes_the_whole_stream_is_proven_and_a_single_event_is_not() {
    let policy = crate::support::OPEN.replace("body_storage: hmac", "body_storage: none");
    let world = World::with(Script::model(), &Setup { policy, ..Setup::default() });
    let asked = Asked::of(world, "/sse/20/0");
    assert_eq!(asked.ask(&asked.stream, None).0, 0);
    let (exit, data) = asked.ask(events(&asked.stream)[3], Some(3));
    assert_eq!((exit, data["reason"].as_str()), (6, Some("STREAM_NODES_ABSENT")), "{data}");
    asked.check_refused(&asked.stream[1..], None, "EVENTS_UNKNOWN", None);
}

#[test]
fn a_key_opens_its_call_and_no_other() {
    let world = World::new(Script::model());
    let run = |target| Request::new("GET", target).header("estoppel-run", "events");
    let (first, plain) = (world.send(&run("/sse/9/0")), world.send(&run("/health")));
    let asked = Asked::of(world, "/sse/7/0");
    let scratch = &asked.world.scratch;
    let out = |name: &str| scratch.join(name);

    let made = disclose(&asked.world, &asked.bundle, &["--scope", "run", "--out", path(&out("run.key"))]);
    assert_eq!(made.0, 0, "{}", made.1);
    let other = first.header("estoppel-call").unwrap();
    let made = disclose(
        &asked.world,
        &asked.bundle,
        &["--call", other, "--scope", "call", "--out", path(&out("other.key"))],
    );
    assert_eq!(made.0, 0, "{}", made.1);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(out("run.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let wrong = String::from_utf8(scratch.read("stream.key")).unwrap();
    let key = wrong.split("\"key\":\"").nth(1).unwrap()[..64].to_string();
    scratch.write("wrong.key", wrong.replace(&key, &"0".repeat(64)));
    scratch.write("broken.key", &wrong[1..]);

    let stream = scratch.write("stream", &asked.stream);
    let plain = plain.header("estoppel-call").unwrap();
    for (key, call, exit, reason) in [
        ("stream.key", &*asked.call, 0, None),
        ("run.key", &asked.call, 0, None),
        ("run.key", other, 2, Some("EVENT_MISMATCH")),
        ("run.key", plain, 2, Some("STREAM_ABSENT")),
        ("run.key", "01a1fe62-e8fc-79f2-b129-ec2e185d9f92", 2, Some("CALL_UNKNOWN")),
        ("other.key", &asked.call, 6, Some("DISCLOSURE_MISMATCH")),
        ("wrong.key", &asked.call, 2, Some("EVENTS_UNKNOWN")),
        ("broken.key", &asked.call, 6, Some("DISCLOSURE_INVALID")),
    ] {
        let file = out(key);
        let words = ["verify", path(&asked.bundle), "--stream", call, "--disclosure", path(&file)];
        let (found, answer) = cli(&[&words[..], &["--events", path(&stream)]].concat());
        assert_eq!((found, answer["data"]["reason"].as_str()), (exit, reason), "{key} {call}: {answer}");
    }

    let refused = |more: &[&str]| {
        let (exit, answer) = disclose(&asked.world, &asked.bundle, more);
        (exit, answer["error"]["code"].as_str().unwrap().to_string())
    };
    let fresh = out("fresh.key");
    let fresh = path(&fresh);
    assert_eq!(refused(&["--call", &asked.call, "--out", path(&asked.key)]), (8, "OUTPUT_EXISTS".into()));
    assert_eq!(refused(&["--call", plain, "--out", fresh]), (6, "ARGUMENT_INVALID".into()));
    let hint = &disclose(&asked.world, &asked.bundle, &["--call", plain, "--out", fresh]).1["error"]["hint"];
    assert!(hint.as_str().is_some_and(|hint| hint.contains("--scope call")), "{hint}");
    assert_eq!(refused(&["--call", "0", "--out", fresh]), (6, "ARGUMENT_INVALID".into()));
    assert_eq!(refused(&["--out", fresh]), (6, "ARGUMENT_INVALID".into()));
    assert_eq!(refused(&["--scope", "run", "--call", other, "--out", fresh]), (6, "ARGUMENT_INVALID".into()));
    let keys = out("other-keys");
    assert_eq!(cli(&["keys", "init", "--dir", path(&keys)]).0, 0);
    let words = ["keys", "disclose", path(&asked.bundle), "--dir", path(&keys), "--call", &asked.call];
    let (exit, answer) = cli(&[&words[..], &["--out", fresh]].concat());
    assert_eq!((exit, answer["error"]["code"].as_str()), (6, Some("KEY_INVALID")), "{answer}");
    assert!(!out("fresh.key").exists());
}
