//! What is around a stream.

use estoppel_kit::http::{Peer, Request};
use estoppel_stub::{Body, Framing, Interim, Reply, Rule, Script};

use super::{JUDGED, TEXT, ask, calling, outcome, receipt, stream, take, world};
use crate::client;
use crate::support::{OPEN, Setup, World, chat};

#[test]
fn h15_headers_of_one_connection_stay_there_and_lengths_are_of_what_is_sent() {
    let echo = Reply::text("x")
        .header("connection", "x-hop, keep-alive")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=1")
        .header("proxy-authenticate", "Basic")
        .header("estoppel-receipt", "forged")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2");
    let hops = World::new(Script::always(echo));
    let request = Request::new("POST", "/x")
        .header("connection", "content-length, host, x-secret")
        .header("x-secret", "1")
        .header("te", "trailers, deflate")
        .header("proxy-authorization", "Basic abc")
        .header("authorization", "Bearer kept")
        .header("accept", "a")
        .header("accept", "b")
        .body("abc");
    let answer = hops.send(&request);
    for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_ne!(answer.header("estoppel-receipt"), Some("forged"));
    assert_eq!(answer.head.all("set-cookie"), ["a=1", "b=2"]);
    let seen = hops.upstream.hits().last().unwrap();
    assert_eq!((&seen.body[..], seen.header("x-secret"), seen.header("te")), (&b"abc"[..], None, None));
    assert_eq!((seen.header("proxy-authorization"), seen.header("upgrade")), (None, None));
    assert_eq!(seen.header("authorization").as_deref(), Some("Bearer kept"));
    assert_eq!(seen.header("host"), Some(hops.upstream.addr().to_string()));
    let head = String::from_utf8_lossy(&seen.head).to_ascii_lowercase();
    assert_eq!(head.matches("accept: ").count(), 2, "{head}");
    assert!(!head.contains("connection: content-length"), "{head}");

    // With a repair in it, a stream is longer or shorter than was announced.
    let body = calling(r#"{"city":"a",}"#);
    let announced = Reply::new(Body::Text(body.clone())).header("content-type", "text/event-stream");
    for (text, changed) in [(body.clone(), true), (calling(r#"{"city":"a"}"#), false)] {
        let repaired = world(Reply { body: Body::Text(text.clone()), ..announced.clone() }, JUDGED);
        let answer = take(&repaired, "length");
        assert_eq!((answer.header("content-length"), answer.end.is_none()), (None, true));
        assert_eq!(answer.text() != text, changed);
        let receipt = receipt(&repaired, "length");
        assert_eq!(receipt["response"]["client"]["bytes"], answer.body.len());
    }
    // A coding that was not asked for cannot be looked into.
    let coded = world(
        stream(&body).header("content-encoding", "gzip"),
        &JUDGED.replace("on_not_evaluated: allow", "on_not_evaluated: block"),
    );
    let answer = take(&coded, "coded");
    assert_eq!((answer.status(), answer.header("content-encoding")), (403, None));
    assert_eq!(receipt(&coded, "coded")["downgrades"][0]["code"], "ENCODING_UNSUPPORTED");
}

#[test]
fn h16_streams_are_never_compressed() {
    let body = TEXT.repeat(2_000) + super::DONE;
    for policy in [OPEN, JUDGED] {
        let world = world(stream(&body), policy);
        let request = chat("plain", &ask()).header("accept-encoding", "gzip, br, zstd");
        let answer = world.send(&request);
        assert_eq!((answer.header("content-encoding"), answer.text() == body), (None, true));
        let seen = world.upstream.hits().last().unwrap();
        assert_eq!(seen.header("accept-encoding").as_deref(), Some("identity"));
    }
}

#[test]
fn h17_trailers_come_after_what_was_held_and_interim_heads_before() {
    let asking = || chat("trailers", &ask()).header("te", "trailers").header("connection", "te");
    let framed = |text: &str| Reply {
        interim: vec![Interim { status: 103, headers: vec![("link".into(), "</a>".into())] }],
        ..stream(text)
            .header("trailer", "x-sum, estoppel-receipt")
            .trailer("x-sum", "9")
            .trailer("estoppel-receipt", "forged")
    };
    let body = calling(r#"{"city":"Köln"}"#);
    for text in [body.clone(), body.replace("data: [DONE]\n\n", "data: [DONE]\n")] {
        let passed = world(framed(&text), JUDGED);
        let answer = Peer::connect(passed.gateway).unwrap().exchange(&asking()).unwrap();
        assert_eq!((answer.text(), answer.end), (text, None));
        let names: Vec<&str> = answer.trailers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-sum", "estoppel-receipt"]);
        assert!(answer.trailers[1].1.starts_with("leaf:"), "{:?}", answer.trailers);
        assert_eq!(outcome(&receipt(&passed, "trailers")), ("OK", "handed_over", true));
    }
    // HTTP/2 gives trailers to who did not ask for them, but none in our name that are not ours.
    let both = world(framed(&body), JUDGED);
    let got = client::run(async {
        client::send(&mut client::http2(both.gateway).await, client::chat("two", &ask())).await
    });
    assert_eq!((got.text(), got.broken.is_none()), (body, true));
    assert_eq!(got.trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-sum"]);
    for text in [calling(r#"{"town":"SECRET"}"#), super::open_call()] {
        let refused = world(framed(&text), JUDGED);
        let answer = Peer::connect(refused.gateway).unwrap().exchange(&asking()).unwrap();
        assert!(answer.end.is_some() && answer.trailers.is_empty(), "{:?}", answer.trailers);
        assert!(!answer.text().contains("SECRET"), "{}", answer.text());
        assert_eq!(receipt(&refused, "trailers")["outcome"]["complete"], false);
    }
}

#[test]
fn h25_sessions_and_resumption_of_mcp_are_the_servers_business() {
    let gone = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#;
    let whole = r#"{"jsonrpc":"2.0","id":9,"result":{"content":[{"type":"text","text":"é"}]}}"#;
    let events = format!(
        "id: s1/0\nretry: 3000\ndata: \n\n: ping\n\nid: s1/1\nevent: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":1,\"progress\":0.50}}}}\n\nid: s1/2\nevent: message\ndata: {whole}\n\n"
    );
    let session = |reply: Reply| reply.header("mcp-session-id", "s1");
    let script = Script::always(session(stream(&events)))
        .on(Rule { body_contains: Some("\"json\"".into()), ..Rule::any("/mcp", session(Reply::json(whole))) })
        .on(Rule {
            body_contains: Some("\"lost\"".into()),
            ..Rule::any("/mcp", Reply::json(gone).status(404))
        })
        .on(Rule {
            body_contains: Some("notifications".into()),
            ..Rule::any(
                "/mcp",
                Reply::new(Body::Text(String::new())).status(202).framing(Framing::ContentLength),
            )
        });
    for policy in [OPEN, JUDGED] {
        let world = World::with(script.clone(), &Setup { policy: policy.into(), ..Setup::default() });
        let ask = |name: &str| {
            Request::new("POST", "/mcp")
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .header("mcp-session-id", "s1")
                .header("last-event-id", "s1/0")
                .header("estoppel-run", "mcp")
                .body(format!(
                    r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{{"name":"{name}"}}}}"#
                ))
        };
        let answer = world.send(&ask("events"));
        assert_eq!(
            (answer.status(), answer.text(), answer.header("mcp-session-id")),
            (200, events.clone(), Some("s1"))
        );
        let seen = world.upstream.hits().last().unwrap();
        assert_eq!(seen.header("mcp-session-id").as_deref(), Some("s1"));
        assert_eq!(seen.header("last-event-id").as_deref(), Some("s1/0"));
        let answer = world.send(&ask("json"));
        assert_eq!(
            (answer.status(), answer.text(), answer.header("mcp-session-id")),
            (200, whole.into(), Some("s1"))
        );
        let answer = world.send(&ask("lost"));
        assert_eq!(
            (answer.status(), answer.text(), answer.header("mcp-session-id")),
            (404, gone.into(), None)
        );
        let note = Request::new("POST", "/mcp")
            .header("content-type", "application/json")
            .header("estoppel-run", "mcp")
            .body(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!(world.send(&note).status(), 202);
        let receipts = world.receipts("mcp");
        let codes: Vec<&str> = receipts.iter().map(|receipt| outcome(receipt).0).collect();
        assert_eq!(codes, ["OK", "OK", "UPSTREAM_ERROR", "OK"]);
        assert_eq!(receipts[0]["sse"]["units"], 4);
    }
}
