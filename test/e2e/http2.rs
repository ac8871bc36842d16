use std::time::Duration;

use bytes::Bytes;
use estoppel_kit::http::{Peer, Request};
use estoppel_stub::{Body, Fault, Listen, Outcome, Protocol, Reply, Rule, Script, Split, Stub};
use http_body_util::{BodyExt as _, Full};

use crate::client::{chat, http2, read, request, run, send};
use crate::support::{OPEN, Setup, World};

const HELLO: &str = r#"{"model":"m","messages":[]}"#;
const ASK: &str = r#"{"model":"m","stream":true,"messages":[]}"#;
const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";

fn upstream(script: Script) -> Stub {
    Stub::spawn_thread_on(Listen { protocol: Protocol::Http2, ..Listen::default() }, script).unwrap()
}

/// HTTP/2 on both sides.
fn world(script: Script) -> World {
    World::over(upstream(script), &always(Setup::default()))
}

fn always(setup: Setup) -> Setup {
    Setup { upstream: "http2 = \"always\"\n".into(), ..setup }
}

fn events(times: usize) -> Reply {
    Reply::new(Body::Text(EVENT.repeat(times) + "data: [DONE]\n\n"))
        .header("content-type", "text/event-stream")
        .split(Split::Each { bytes: 7 })
}

#[test]
fn streams_are_byte_exact_over_every_pair_of_protocols() {
    let expected = EVENT.repeat(50) + "data: [DONE]\n\n";
    let worlds = [
        World::over(Stub::spawn_thread(Script::always(events(50))).unwrap(), &Setup::default()),
        world(Script::always(events(50))),
    ];
    let mut roots = Vec::new();
    for world in &worlds {
        let plain = world.send(&crate::support::chat("pairs", ASK));
        assert_eq!(plain.text(), expected);
        let got = run(async { send(&mut http2(world.gateway).await, chat("pairs", ASK)).await });
        assert_eq!(got.text(), expected);
        assert!(got.broken.is_none());
        for receipt in world.receipts("pairs") {
            assert_eq!(receipt["response"]["client"]["tag"], receipt["response"]["upstream"]["tag"]);
            assert_eq!(receipt["sse"]["units"], 51);
            assert_eq!(receipt["sse"]["terminated"], true);
            roots.push(receipt["request"]["version"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(roots, ["1.1", "2", "1.1", "2"]);
}

#[test]
fn a_stream_tells_its_receipt_in_a_trailer() {
    let world = world(Script::always(Reply::sse(&["{}", "[DONE]"])));
    let mut ask = chat("trailer", ASK);
    ask.headers_mut().insert("te", "trailers".parse().unwrap());
    let got = run(async { send(&mut http2(world.gateway).await, ask).await });
    let leaf = got.trailers.get("estoppel-receipt").unwrap().to_str().unwrap();
    assert!(leaf.starts_with("leaf:"), "{leaf}");
    assert_eq!(got.header("estoppel-call"), world.receipts("trailer")[0]["call"].as_str());
}

#[test]
fn trailers_of_the_upstream_cross_after_the_body() {
    let script = Script::always(Reply::text("abc").trailer("x-sum", "9"));
    for world in [world(script.clone()), World::new(script)] {
        let mut ask = request("GET", "/x", "sum").body(Full::<Bytes>::default()).unwrap();
        ask.headers_mut().insert("te", "trailers".parse().unwrap());
        let got = run(async { send(&mut http2(world.gateway).await, ask).await });
        assert_eq!((got.text().as_str(), got.trailers["x-sum"].as_bytes()), ("abc", &b"9"[..]));
    }
}

#[test]
fn request_bodies_larger_than_every_window_arrive_whole() {
    let echo = Script::default().on(Rule::any("/echo", Reply::new(Body::Echo)));
    let world = world(echo);
    let body = estoppel_stub::filler(0, 3 << 20);
    let ask = request("POST", "/echo", "large").body(Full::from(body.clone())).unwrap();
    let got = run(async { send(&mut http2(world.gateway).await, ask).await });
    assert!(got.body == body, "the bytes differ");
    assert_eq!(world.receipts("large")[0]["request"]["bytes"], body.len());
}

#[test]
fn many_streams_share_a_connection_and_are_answered_for_themselves() {
    const CALLS: usize = 600;
    let world = world(Script::model());
    let world = &world;
    let bodies = run(async move {
        let clients = [http2(world.gateway).await, http2(world.gateway).await, http2(world.gateway).await];
        let calls = (0..CALLS).map(|number| {
            let mut client = clients[number % clients.len()].clone();
            let path = format!("/json/{}", 100 + number);
            tokio::spawn(async move {
                let ask = request("GET", &path, "many").body(Full::default()).unwrap();
                send(&mut client, ask).await
            })
        });
        let mut got = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            got.push(call.await.unwrap());
        }
        got
    });
    for (number, got) in bodies.iter().enumerate() {
        assert_eq!((got.status.as_u16(), got.body.len()), (200, 100 + number), "{}", got.text());
    }
    assert_eq!(world.receipts("many").len(), CALLS);
    let connections = world.upstream.hits().connections();
    assert!(connections <= CALLS as u64 / 100, "{connections} connections for {CALLS} streams");
}

#[test]
fn more_streams_than_the_upstream_allows_get_a_further_connection() {
    const CALLS: usize = 450;
    let hold = Reply::json("{}").delay_ms(estoppel_stub::Delays { before_head: 1_500, ..Default::default() });
    let policy = format!("{OPEN}limits: {{ headers_ms: 4000 }}\n");
    let world = World::over(upstream(Script::always(hold)), &always(Setup { policy, ..Setup::default() }));
    let world = &world;
    let refused = run(async move {
        let clients = [http2(world.gateway).await, http2(world.gateway).await];
        let calls = (0..CALLS).map(|number| {
            let mut client = clients[number % clients.len()].clone();
            tokio::spawn(async move { send(&mut client, chat("wide", HELLO)).await })
        });
        let mut refused = 0;
        for call in calls.collect::<Vec<_>>() {
            refused += usize::from(call.await.unwrap().status != 200);
        }
        refused
    });
    assert_eq!(refused, 0, "a stream waited behind others until its time was over");
    let connections = world.upstream.hits().connections();
    assert!((2..=5).contains(&connections), "{connections} connections");
}

#[test]
fn a_stream_that_is_reset_in_its_middle_never_looks_complete() {
    let after = 2 * EVENT.len() as u64;
    for fault in [Fault::Reset { after_bytes: after }, Fault::Truncate { after_bytes: after }] {
        let world = world(Script::always(events(9).fault(fault)));
        let got = run(async { send(&mut http2(world.gateway).await, chat("reset", ASK)).await });
        assert!(got.broken.is_some() && !got.text().contains("[DONE]"), "{fault:?}: {}", got.text());
        assert_eq!(got.text(), EVENT.repeat(2));
        let receipts = world.receipts("reset");
        assert_eq!(receipts[0]["outcome"]["code"], "TRUNCATED");
        assert_eq!(receipts[0]["response"]["client"]["bytes"], got.body.len());
    }
}

#[test]
fn one_broken_stream_leaves_the_others_of_its_connection() {
    let broken = Rule::any("/broken", Reply::text("abc").fault(Fault::Reset { after_bytes: 1 }));
    let dead = Rule::any("/dead", Reply::default().fault(Fault::ResetBeforeHead));
    let world = world(Script::always(Reply::text("whole")).on(broken).on(dead));
    run(async {
        let mut client = http2(world.gateway).await;
        let ask = |path: &str| request("GET", path, "mixed").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(send(&mut client, ask("/a")).await.text(), "whole");
        assert!(send(&mut client, ask("/broken")).await.broken.is_some());
        assert_eq!(send(&mut client, ask("/dead")).await.status, 502);
        assert_eq!(send(&mut client, ask("/b")).await.text(), "whole");
    });
    assert_eq!(world.upstream.hits().connections(), 1);
    let codes: Vec<String> =
        world.receipts("mixed").iter().map(|r| r["outcome"]["code"].as_str().unwrap().into()).collect();
    assert_eq!(codes, ["OK", "TRUNCATED", "UPSTREAM_RESET", "OK"]);
}

#[test]
fn after_goaway_the_answer_ends_and_the_next_call_takes_another_connection() {
    let slow = events(5).fault(Fault::Slow { bytes_per_write: 64, every_ms: 5 });
    let world = world(Script::always(Reply { close: true, ..slow }));
    run(async {
        let mut client = http2(world.gateway).await;
        for _ in 0..3 {
            let got = send(&mut client, chat("goaway", ASK)).await;
            assert!(got.broken.is_none() && got.text().ends_with("[DONE]\n\n"), "{}", got.text());
        }
    });
    assert_eq!(world.upstream.hits().connections(), 3);
    assert!(world.receipts("goaway").iter().all(|receipt| receipt["outcome"]["code"] == "OK"));
}

#[test]
fn a_client_that_resets_its_stream_stops_the_upstream_and_nothing_else() {
    let slow = events(10_000).fault(Fault::Slow { bytes_per_write: 64, every_ms: 10 });
    let world = world(Script::always(Reply::text("other")).on(Rule::new("POST", "", slow)));
    run(async {
        let mut client = http2(world.gateway).await;
        let response = client.send_request(chat("gone", ASK)).await.unwrap();
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        let stopped = world.upstream.hits().wait_async(Duration::from_secs(5), |hits| {
            hits.requests().iter().any(|seen| seen.outcome() == Outcome::PeerGone)
        });
        assert!(stopped.await, "the upstream still sends");
        let ask = request("GET", "/x", "other").body(Full::default()).unwrap();
        assert_eq!(send(&mut client, ask).await.text(), "other");
    });
    assert_eq!(world.upstream.hits().connections(), 1);
    world.wait_until_idle();
    assert_eq!(world.receipts("gone")[0]["outcome"]["code"], "CLIENT_GONE");
}

#[test]
fn a_client_that_grants_no_window_stops_the_upstream() {
    let script = Script { send_buffer_bytes: Some(16 << 10), ..Script::model() };
    let world = world(script);
    let sent = run(async {
        let mut client = http2(world.gateway).await;
        let ask = request("GET", "/bytes/60000000", "window").body(Full::default()).unwrap();
        let response = client.send_request(ask).await.unwrap(); // its body is not read
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let sent = world.upstream.hits().last().unwrap().sent_bytes();
            if sent == before && sent > 0 {
                drop(response);
                break sent;
            }
            before = sent;
        }
    });
    assert!(sent < 4 << 20, "the upstream sent {sent} bytes to a client that does not read");
    world.wait_for_calls("window", 1);
}

#[test]
fn tunnels_and_upgrades_are_refused() {
    let world = world(Script::model());
    let got = run(async {
        let mut client = http2(world.gateway).await;
        let mut connect = request("CONNECT", "", "tunnel").body(Full::<Bytes>::default()).unwrap();
        *connect.uri_mut() = "example.test:443".parse().unwrap();
        connect.headers_mut().clear();
        connect.headers_mut().insert("estoppel-run", "tunnel".parse().unwrap());
        send(&mut client, connect).await
    });
    assert_eq!(got.status, 501, "{}", got.text());
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(b"CONNECT example.test:443 HTTP/1.1\r\nhost: example.test:443\r\nestoppel-run: tunnel\r\n\r\n")
        .unwrap();
    assert_eq!(peer.read_answer().unwrap().status(), 501);
    let h2c = Request::new("GET", "/v1/models")
        .header("connection", "upgrade, http2-settings")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA");
    assert_eq!(world.send(&h2c).status(), 200, "an offer of h2c is not taken and does no harm");
    assert_eq!(world.upstream.hits().last().unwrap().header("upgrade"), None);
    assert_eq!(world.upstream.hits().last().unwrap().header("http2-settings"), None);
    let codes: Vec<String> =
        world.receipts("tunnel").iter().map(|r| r["outcome"]["code"].as_str().unwrap().into()).collect();
    assert_eq!(codes, ["UPGRADE_REFUSED", "UPGRADE_REFUSED"]);
}

#[test]
fn a_listener_without_http2_does_not_speak_it() {
    let world =
        World::with(Script::model(), &Setup { listener: "http2 = false\n".into(), ..Setup::default() });
    run(async {
        let mut client = http2(world.gateway).await;
        let asked = client.send_request(chat("none", HELLO)).await;
        assert!(asked.is_err());
    });
    assert_eq!(world.upstream.hits().total(), 0);
}

#[test]
fn heads_over_the_limit_and_connection_headers_are_refused() {
    let config = "[server]\nhead_bytes_max = 8192\n";
    let world = World::with(Script::model(), &Setup { config: config.into(), ..Setup::default() });
    run(async {
        let mut client = http2(world.gateway).await;
        let ask = request("GET", "/v1/models", "big").header("x-big", "x".repeat(20_000));
        let answered = client.send_request(ask.body(Full::default()).unwrap()).await;
        assert!(answered.is_err() || read(answered.unwrap()).await.status == 431);
        let ask = request("GET", "/v1/models", "big").body(Full::default()).unwrap();
        assert_eq!(send(&mut client, ask).await.status, 200, "the connection lives");
    });
    assert_eq!(world.upstream.hits().total(), 1);
}

#[test]
fn a_host_that_differs_from_the_authority_is_refused() {
    let world = World::new(Script::model());
    run(async {
        let mut client = http2(world.gateway).await;
        let ask = request("GET", "/v1/models", "host").header("host", "elsewhere.test");
        assert_eq!(send(&mut client, ask.body(Full::default()).unwrap()).await.status, 400);
        let ask = request("GET", "/v1/models", "host").header("host", "gateway.test");
        assert_eq!(send(&mut client, ask.body(Full::default()).unwrap()).await.status, 200);
    });
    assert_eq!(world.receipts("host")[0]["outcome"]["code"], "REQUEST_INVALID");
    let seen = world.upstream.hits().last().unwrap();
    assert_eq!(seen.header("host"), Some(world.upstream.addr().to_string()));
}
