//! Bytes, lines and events.

use std::collections::BTreeSet;

use estoppel_stub::{Framing, Rule, Script, Split, Writes};

use super::{
    DONE, JUDGED, Surface, TEXT, ask, begin, call, calling, chunk, outcome, piece, receipt, stream, take,
    world,
};
use crate::determinism::{answers, assert_all_alike};
use crate::support::{OPEN, Setup, World, chat};

#[test]
fn h01_any_chunking_gives_the_same_bytes_and_digests() {
    for surface in Surface::streams() {
        let name = surface.name;
        let broken = if name == "gemini_stream" {
            r#"{"city":"Köln"}"#
        } else {
            "```json\n{\"city\":\"Köln\",}\n```"
        };
        let body = surface.wire("get_weather", broken);
        let (script, count) = answers(&body, "text/event-stream", Framing::Chunked, body.len() / 60);
        let world = World::with(script, &Setup { policy: JUDGED.into(), ..Setup::default() });
        let given: BTreeSet<String> =
            (0..count).map(|_| world.send(&surface.request("cuts")).text()).collect();
        assert_eq!(given.len(), 1, "{name}: {given:?}");
        assert_eq!(given.contains(&body), name == "gemini_stream", "{name}");
        let first = assert_all_alike(&world, "cuts", count);
        assert_eq!(first["evaluated"]["response"]["state"], "judged", "{name}");
        let verdict = if name == "gemini_stream" { "allow" } else { "repair" };
        assert_eq!(first["verdict"]["action"], verdict, "{name}");
    }
}

#[test]
fn h02_characters_are_never_cut_and_bytes_that_are_none_are_a_finding() {
    let body = calling("{\"city\":\"é日😀\"}").replace("Wait", "é日😀");
    let (script, count) = answers(&body, "text/event-stream", Framing::Chunked, 3);
    let cut = World::with(script, &Setup { policy: JUDGED.into(), ..Setup::default() });
    for _ in 0..count {
        assert_eq!(cut.send(&chat("cuts", &ask())).text(), body);
    }
    assert_all_alike(&cut, "cuts", count);

    let text = TEXT.replace("Wait", "SECRET\u{1}").replace('\u{1}', "\\u0041").into_bytes();
    let mut bad = text.clone();
    let at = bad.windows(6).position(|six| six == b"\\u0041").unwrap();
    bad.splice(at..at + 6, *b"\xF0\x9F\x98");
    bad.extend_from_slice(DONE.as_bytes());
    for split in [Split::Whole, Split::Each { bytes: 1 }] {
        let open = world(stream(&bad).split(split.clone()), OPEN);
        assert_eq!(take(&open, "open").body, bad, "bytes stay what they are");
        assert_eq!(receipt(&open, "open")["evaluated"]["response"]["defect"], "INVALID_UTF8");
        let judged = world(stream(&bad).split(split), JUDGED);
        let answer = take(&judged, "judged");
        assert!(answer.end.is_some() && !answer.text().contains("SECRET"), "{}", answer.text());
        let receipt = receipt(&judged, "judged");
        assert_eq!(receipt["verdict"]["action"], "block", "{receipt}");
        assert_eq!(receipt["evaluated"]["response"]["defect"], "INVALID_UTF8");
    }
}

/// Units of the evidence format: each ends just after the line end of a blank line; a CR ends a line at once.
fn units(bytes: &[u8]) -> usize {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let (mut count, mut line, mut after_cr, mut open) = (0, 0, false, false);
    for byte in bytes {
        open = true;
        match byte {
            b'\n' if std::mem::take(&mut after_cr) => continue,
            b'\n' | b'\r' if line == 0 => (count, open) = (count + 1, false),
            b'\n' | b'\r' => line = 0,
            _ => line += 1,
        }
        after_cr = *byte == b'\r';
    }
    count + usize::from(open)
}

#[test]
fn h03_lines_and_events_are_those_of_the_standard() {
    let plain = calling(r#"{"city":"Köln"}"#);
    let lines = "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"a\"}}]}\n\n";
    let cases = [
        plain.clone(),
        plain.replace('\n', "\r\n"),
        plain.replace('\n', "\r"),
        plain.replace("\n\n", "\r\n\n"),
        plain.replace("\n\n", "\n\r\n"),
        plain.replace("\n\n", "\r\n\r"),
        plain.replace("\n\n", "\n\n\n"),
        plain.replace("\n\n", "\n\n\n\n"),
        plain.replace('\n', "\r\n").replace("\r\n\r\n", "\r\n\r\n\r\n"),
        format!("\u{FEFF}{plain}"),
        format!("\u{FEFF}{}", plain.replace('\n', "\r\n")),
        plain.replace("data: ", "data:"),
        format!("{lines}{plain}"),
        format!("{}{plain}", lines.replace('\n', "\r\n")),
        plain.trim_end().to_owned(),
        format!("{}\n", plain.trim_end()),
        plain.replace("data: [", "retry: 5\nunknown: x\nid: 7\ndata: ["),
    ];
    let splits = [Split::Whole, Split::Each { bytes: 1 }, Split::Each { bytes: 7 }];
    for policy in [OPEN, JUDGED] {
        let each = cases.iter().flat_map(|text| splits.iter().map(move |split| (text, split.clone())));
        let script = each.clone().fold(Script::default(), |script, (text, split)| {
            script.on(Rule::any("", stream(text).split(split)).times(1))
        });
        let world = World::with(script, &Setup { policy: policy.into(), ..Setup::default() });
        for (text, split) in each.clone() {
            assert_eq!(take(&world, "lines").text(), *text, "{split:?}");
        }
        for (receipt, (text, split)) in world.receipts("lines").iter().zip(each) {
            assert_eq!(outcome(receipt), ("OK", "handed_over", true), "{text:?} {receipt}");
            assert_eq!(receipt["sse"]["units"], units(text.as_bytes()), "{text:?} {split:?} {policy}");
            assert_eq!(receipt["facts"]["tools_called"][0], "get_weather", "{text:?}");
        }
    }
    // What no blank line has ended is no event, so nothing in it was judged and it does not leave.
    let tail = format!("{TEXT}{}", call(0, 0).trim_end());
    let open = world(stream(&tail), OPEN);
    let answer = take(&open, "tail");
    assert!(answer.end.is_some(), "a stream without its end does not look whole");
    assert_eq!(outcome(&receipt(&open, "tail")), ("TRUNCATED", "handed_over", false));
}

#[test]
fn h04_comments_and_pings_pass_as_they_came_and_are_counted() {
    let comments = [":\n\n", ": OPENROUTER PROCESSING\n\n", ": a\n: b\n\n", ":no space\n"];
    let body = calling(r#"{"city":"Köln"}"#);
    let at = body.find("data: {\"model\"").unwrap();
    let body = format!("{}{}{}", &body[..at], comments.concat(), &body[at..]);
    for policy in [OPEN, JUDGED] {
        let world = world(stream(&body), policy);
        assert_eq!(take(&world, "comments").text(), body);
        let receipt = receipt(&world, "comments");
        assert_eq!(receipt["sse"]["comments"], 5, "{receipt}");
        assert_eq!(outcome(&receipt), ("OK", "handed_over", true));
    }
    let anthropic = Surface::streams().find(|surface| surface.name.starts_with("anthropic")).unwrap();
    let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    let body = anthropic
        .wire("get_weather", r#"{"city":"Köln"}"#)
        .replace("\n\nevent: content", &format!("\n\n{ping}event: content"));
    let world = world(stream(&body), JUDGED);
    assert_eq!(world.send(&anthropic.request("pings")).text(), body);
    let receipt = receipt(&world, "pings");
    assert_eq!(receipt["sse"]["events"], body.matches("\n\n").count(), "{receipt}");
    assert_eq!(receipt["evaluated"]["response"]["state"], "judged");
}

#[test]
fn h06_lines_events_and_everything_that_is_held_have_a_bound() {
    let limits = |limits: &str| format!("{JUDGED}limits: {{ {limits} }}\n");
    let endless = [
        format!("{TEXT}data: SECRET{}", "x".repeat(1 << 20)),
        format!("{TEXT}data: SECRET\n{}", "data: x\n".repeat(1 << 17)),
    ];
    let many = format!("{TEXT}{}{}", call(0, 0), piece(0, 0, "SECRET").repeat(100));
    let wide: String = (0..40).map(|index| call(0, index) + &piece(0, index, "SECRET")).collect();
    for (body, policy) in [
        (&endless[0], JUDGED.to_owned()),
        (&endless[1], JUDGED.to_owned()),
        (&endless[0], limits("event_bytes_max: 4096")),
        (&many, limits("held_bytes_max: 8192")),
        (&wide, limits("held_bytes_max: 8192")),
    ] {
        let world = world(stream(body), &policy);
        let answer = take(&world, "bound");
        assert!(answer.end.is_some() && !answer.text().contains("SECRET"), "{}", answer.text());
        let receipt = receipt(&world, "bound");
        assert_eq!(receipt["verdict"]["action"], "block", "{policy} {receipt}");
        assert_eq!(receipt["outcome"]["code"], "HELD_BYTES_MAX", "{policy}");
        assert_eq!(receipt["response"]["client"]["bytes"], answer.body.len());
    }
}

#[test]
fn h24_each_event_leaves_without_the_next() {
    let text = |word: &str| chunk(0, &format!(r#"{{"content":"{word}"}}"#), None);
    let plain = [text("one"), text("two"), text("three")];
    let beside = [text("one"), call(0, 0), piece(0, 0, "{\"city"), text("two")];
    for (events, policy) in [(&plain[..], OPEN), (&plain[..], JUDGED), (&beside[..], JUDGED)] {
        for shown in 1..=events.len() {
            let body = events[..shown].concat();
            let last = events[..shown].iter().rfind(|event| event.contains("content")).unwrap();
            // The upstream says no more; what it has said comes.
            let stalled = stream(&body)
                .writes(Writes::HeadFirst)
                .fault(estoppel_stub::Fault::Stall { after_bytes: body.len() as u64 });
            let world = world(stalled, policy);
            let mut peer = begin(&world, "flush");
            let got = peer.read_until(last.as_bytes()).unwrap();
            assert!(!String::from_utf8_lossy(&got).contains("tool_calls"));
            drop(peer);
            assert_eq!(outcome(&receipt(&world, "flush")), ("CLIENT_GONE", "gone", false));
        }
    }
}
