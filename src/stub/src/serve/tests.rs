use std::net::Ipv4Addr;

use estoppel_kit::http::{Answer as Got, End, HttpError, Peer, Request, get, post, send};
use rustls::pki_types::PrivateKeyDer;
use tokio::runtime::Builder;

use crate::filler;
use crate::script::{Body, Fault, Framing, Reply, Rule, Split};
use crate::stub::{Stub, serve_forever};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn start(reply: Reply) -> Stub {
    Stub::spawn_thread(Script::always(reply)).unwrap()
}

/// What a client sees of an answer to `GET /`, whole or not.
fn seen(stub: &Stub) -> Result<Got, HttpError> {
    Peer::connect(stub.addr())?.exchange(&Request::new("GET", "/"))
}

fn await_outcome(stub: &Stub, outcome: Outcome) {
    let ended = |hits: &Hits| hits.last().is_some_and(|seen| seen.outcome() == outcome);
    assert!(stub.hits().wait(PATIENCE, ended), "{:?}", stub.hits().last().map(|seen| seen.outcome()));
}

#[test]
fn exchanges_follow_each_other_on_one_connection() {
    let stub = start(Reply::new(Body::Echo));
    let mut peer = Peer::connect(stub.addr()).unwrap();
    let chunked = Request::new("POST", "/b?q").header("Content-Type", "x/y").chunks(&[b"hel", b"lo"]);
    for request in [Request::new("POST", "/a").body("hi"), chunked.clone()] {
        let _ = peer.exchange(&request).unwrap().complete().unwrap();
    }
    let last = peer.exchange(&chunked).unwrap();
    assert_eq!((last.text().as_str(), last.header("content-type")), ("hello", Some("x/y")));
    assert_eq!((stub.hits().connections(), stub.hits().total(), stub.hits().count("/b")), (1, 3, 2));
    let seen = stub.hits().last().unwrap();
    let wire = [&seen.head[..], &seen.body_wire].concat();
    assert_eq!(wire, chunked.wire(&stub.addr().to_string()), "the exact bytes are kept");
    assert_eq!((&seen.body[..], seen.connection), (&b"hello"[..], 1));
    assert_eq!(seen.header("CONTENT-TYPE").as_deref(), Some("x/y"));
    await_outcome(&stub, Outcome::Sent);
}

#[test]
fn a_connection_ends_in_order_when_either_side_asks() {
    let close = Reply { close: true, ..Reply::text("x") };
    let until_close = Reply::text("x").framing(Framing::Close);
    for reply in [close, until_close] {
        let stub = start(reply);
        let mut peer = Peer::connect(stub.addr()).unwrap();
        let answer = peer.exchange(&Request::new("GET", "/")).unwrap().complete().unwrap();
        assert_eq!((answer.text().as_str(), answer.header("connection")), ("x", Some("close")));
        assert_eq!(peer.read_to_end().unwrap(), (Vec::new(), End::Fin));
    }
    let stub = start(Reply::text("x"));
    let mut peer = Peer::connect(stub.addr()).unwrap();
    let _ = peer.exchange(&Request::new("GET", "/").header("connection", "close")).unwrap();
    assert_eq!(peer.read_to_end().unwrap().1, End::Fin);
}

#[test]
fn chunks_are_the_pieces_that_were_asked_for() {
    let sse = start(Reply::sse(&["1", "22"]).trailer("x-sum", "9"));
    let answer = seen(&sse).unwrap();
    assert_eq!((answer.text().as_str(), &answer.chunks[..]), ("data: 1\n\ndata: 22\n\n", &[9, 10][..]));
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "9".to_owned())]);
    let each = start(Reply::text("abcde").framing(Framing::Chunked).split(Split::Each { bytes: 2 }));
    assert_eq!(seen(&each).unwrap().chunks, [2, 2, 1]);
}

#[test]
fn each_fault_is_what_the_client_feels() {
    let sized = |fault| start(Reply::text("0123456789").fault(fault));
    let felt = |fault| seen(&sized(fault)).map(|answer| (answer.end, answer.body.len())).unwrap();
    assert_eq!(felt(Fault::Truncate { after_bytes: 4 }), (Some(End::Fin), 4));
    assert_eq!(felt(Fault::Truncate { after_bytes: 0 }), (Some(End::Fin), 0));
    let before_head = |fault| match seen(&sized(fault)) {
        Err(HttpError::Ended { end, got }) => (end, got.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(before_head(Fault::CloseBeforeHead), (End::Fin, 0));
    assert_eq!(before_head(Fault::ResetBeforeHead), (End::Reset, 0));
    let stub = start(Reply::text("0123456789").fault(Fault::Reset { after_bytes: 4 }));
    let mut peer = Peer::connect(stub.addr()).unwrap();
    peer.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(peer.read_to_end().unwrap().1, End::Reset, "what came before may be lost with it");
    await_outcome(&stub, Outcome::CutByScript);
}

#[test]
fn a_silent_stub_notices_that_the_peer_has_gone() {
    for fault in [Fault::NoAnswer, Fault::Stall { after_bytes: 4 }] {
        let stub = start(Reply::text("0123456789").fault(fault));
        let mut peer = Peer::connect(stub.addr()).unwrap();
        peer.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        if matches!(fault, Fault::Stall { .. }) {
            assert!(peer.read_until(b"0123").unwrap().ends_with(b"\r\n\r\n0123"));
        }
        assert!(peer.quiet_for(Duration::from_millis(30)).unwrap());
        assert_eq!(stub.hits().last().unwrap().outcome(), Outcome::Answering);
        drop(peer);
        await_outcome(&stub, Outcome::PeerGone);
    }
}

#[test]
fn a_peer_that_does_not_read_is_felt() {
    let script = Script {
        send_buffer_bytes: Some(16 * 1024),
        ..Script::always(Reply::new(Body::Size { bytes: 1 << 40 }))
    };
    let stub = Stub::spawn_thread(script).unwrap();
    let mut peer = Peer::connect(stub.addr()).unwrap();
    peer.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let head = peer.read_head().unwrap();
    assert_eq!(head.header("content-length"), Some("1099511627776"));
    assert_eq!(peer.read_exactly(300_000).unwrap(), filler(0, 300_000));
    let mut before = 0;
    estoppel_kit::until("the socket is full", PATIENCE, || {
        let now = stub.hits().last().unwrap().sent_bytes();
        std::mem::replace(&mut before, now).eq(&now).then_some(())
    });
    assert!((300_000..64 << 20).contains(&before), "{before}");
    peer.reset().unwrap();
    await_outcome(&stub, Outcome::PeerGone);
}

#[test]
fn an_answer_before_the_body_arrives_whole_and_ends_with_fin() {
    let rule = Rule { before_body: true, ..Rule::any("/early", Reply::text("too large").status(413)) };
    let stub = Stub::spawn_thread(Script::default().on(rule)).unwrap();
    let mut peer = Peer::connect(stub.addr()).unwrap();
    peer.send(b"POST /early HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n").unwrap();
    peer.send(&vec![b'x'; 200_000]).unwrap();
    let answer = peer.read_answer().unwrap();
    assert_eq!((answer.status(), answer.text().as_str(), answer.interim.len()), (413, "too large", 0));
    assert_eq!(peer.read_to_end().unwrap().1, End::Fin);
    assert_eq!(stub.hits().last().unwrap().body_bytes, 0);
}

#[test]
fn a_client_that_asks_is_told_to_continue() {
    let stub = start(Reply::new(Body::Echo));
    let mut peer = Peer::connect(stub.addr()).unwrap();
    peer.send(b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").unwrap();
    assert_eq!(peer.read_head().unwrap().status, 100);
    peer.send(b"hi").unwrap();
    assert_eq!(peer.read_answer().unwrap().text(), "hi");
}

#[test]
fn what_no_rule_may_see_is_refused_and_kept() {
    let stub = start(Reply::text("x"));
    let smuggled = b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut peer = Peer::connect(stub.addr()).unwrap();
    peer.send(smuggled).unwrap();
    assert_eq!(peer.read_answer().unwrap().complete().unwrap().status(), 400);
    assert_eq!(peer.read_to_end().unwrap().1, End::Fin);
    let kept = stub.hits().last().unwrap();
    assert_eq!([&kept.head[..], &kept.body_wire].concat(), smuggled);
    assert_eq!((kept.outcome(), stub.hits().refused(), stub.hits().total()), (Outcome::Refused, 1, 0));
    let mut peer = Peer::connect(stub.addr()).unwrap();
    peer.send(b"GARBAGE\r\n\r\n").unwrap();
    assert_eq!(peer.read_answer().unwrap().status(), 400);
    assert_eq!(&stub.hits().last().unwrap().head[..], b"GARBAGE\r\n\r\n");
    let peer = Peer::connect(stub.addr()).unwrap();
    { peer }.send(b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf").unwrap();
    assert!(stub.hits().wait(PATIENCE, |hits| hits.refused() == 3), "a request that never becomes whole");
    assert_eq!(&stub.hits().last().unwrap().body[..], b"half");
}

#[test]
fn wrong_lengths_are_felt_as_such() {
    let long = start(Reply::text("abc").framing(Framing::WrongLength { by: 2 }));
    assert_eq!(seen(&long).unwrap().end, Some(End::Fin));
    let short = start(Reply::text("abc").framing(Framing::WrongLength { by: -1 }));
    let mut peer = Peer::connect(short.addr()).unwrap();
    assert_eq!(peer.exchange(&Request::new("GET", "/")).unwrap().text(), "ab");
    assert_eq!(peer.read_exactly(1).unwrap(), b"c", "the rest poisons the connection");
}

#[test]
fn head_has_the_length_and_no_body() {
    let stub = start(Reply::text("abc"));
    let mut peer = Peer::connect(stub.addr()).unwrap();
    let answer = peer.exchange(&Request::new("HEAD", "/")).unwrap();
    assert_eq!((answer.header("content-length"), answer.body.len()), (Some("3"), 0));
    assert_eq!(peer.exchange(&Request::new("GET", "/")).unwrap().text(), "abc");
}

#[test]
fn raw_bytes_are_sent_as_they_are() {
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab";
    let stub = start(Reply { close: true, ..Reply::text(both).framing(Framing::Raw) });
    let mut peer = Peer::connect(stub.addr()).unwrap();
    peer.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(peer.read_to_end().unwrap(), (both.as_bytes().to_vec(), End::Fin));
}

#[test]
fn first_an_error_then_an_answer() {
    let script =
        Script::always(Reply::text("ok")).on(Rule::any("", Reply::text("busy").status(503)).times(1));
    let stub = Stub::spawn_thread(script).unwrap();
    let statuses: Vec<u16> = (0..2).map(|_| get(stub.addr(), "/").unwrap().status()).collect();
    assert_eq!(statuses, [503, 200]);
}

#[test]
fn the_model_answers_on_any_prefix_and_the_rest_is_404() {
    let stub = Stub::spawn_thread(Script::model()).unwrap();
    let body = r#"{"messages":[{"role":"user","content":"hello"}]}"#;
    for path in ["/v1/chat/completions", "/chat/completions", "/openai/deployments/x/chat/completions?v=1"] {
        assert!(post(stub.addr(), path, body).unwrap().text().contains("HELLO"), "{path}");
    }
    assert_eq!(get(stub.addr(), "/json/1000").unwrap().body.len(), 1000);
    assert_eq!(get(stub.addr(), "/bytes/100000").unwrap().body, filler(0, 100_000));
    assert_eq!(get(stub.addr(), "/sse/3/0").unwrap().chunks.len(), 4);
    assert_eq!(get(stub.addr(), "/v1/models").unwrap().status(), 200);
    assert_eq!(get(stub.addr(), "/nothing").unwrap().status(), 404);
    let delete = send(stub.addr(), &Request::new("DELETE", "/v1/chat/completions")).unwrap();
    assert_eq!(delete.status(), 404);
}

#[test]
fn events_come_at_the_pace_that_the_path_asks_for() {
    let stub = Stub::spawn_thread(Script::model()).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(get(stub.addr(), "/sse/40/500").unwrap().chunks.len(), 41);
    assert!(started.elapsed() >= Duration::from_micros(40 * 500), "{:?}", started.elapsed());
}

#[test]
fn stopping_closes_every_connection_and_the_port() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let stall = || Script::always(Reply::default().fault(Fault::NoAnswer));
    let on_task = runtime.block_on(Stub::start(stall())).unwrap();
    let on_thread = Stub::spawn_thread(stall()).unwrap();
    for stub in [on_task, on_thread] {
        let addr = stub.addr();
        let mut peer = Peer::connect(addr).unwrap();
        peer.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(stub.hits().wait(PATIENCE, |hits| hits.total() == 1));
        runtime.block_on(stub.shutdown());
        assert_eq!(peer.read_to_end().unwrap().1, End::Fin);
        assert!(std::net::TcpStream::connect(addr).is_err());
    }
}

#[test]
fn dropping_stops_it_too() {
    let stub = start(Reply::default());
    let addr = stub.addr();
    let mut peer = Peer::connect(addr).unwrap();
    let _ = peer.exchange(&Request::new("GET", "/")).unwrap();
    drop(stub);
    assert_eq!(peer.read_to_end().unwrap().1, End::Fin);
    assert!(std::net::TcpStream::connect(addr).is_err());
}

#[test]
fn a_thread_of_its_own_can_be_started_inside_a_runtime() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stub = Stub::spawn_thread(Script::default()).unwrap();
        assert_eq!(get(stub.addr(), "/").unwrap().status(), 404);
    });
}

#[test]
fn it_does_not_start_with_a_bad_script_or_beyond_loopback() {
    let bad = Script::always(Reply::default().status(1));
    assert!(matches!(Stub::spawn_thread(bad), Err(StartError::Script(_))));
    let everywhere = (Ipv4Addr::UNSPECIFIED, 0).into();
    assert!(matches!(serve_forever(everywhere, Script::default(), drop), Err(StartError::NotLoopback(_))));
    let taken = start(Reply::default());
    let again = serve_forever(taken.addr(), Script::default(), drop);
    assert!(matches!(again, Err(StartError::Listen { .. })));
}

/// A certificate for `localhost`, as server and as client see it.
pub(crate) fn certificate() -> (Arc<ServerConfig>, rustls::ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let server = server.unwrap().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    (Arc::new(server.unwrap()), client.unwrap().with_root_certificates(roots).with_no_client_auth())
}

/// What comes over TLS until the end, and how it ended: with close_notify, or without (an error).
async fn over_tls(reply: Reply) -> (String, Result<(), io::ErrorKind>) {
    let (server, client) = certificate();
    let stub = Stub::start_tls(Script::always(reply), server).await.unwrap();
    let tcp = TcpStream::connect(stub.addr()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let mut tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    tls.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    let end = tls.read_to_end(&mut got).await.map(drop).map_err(|error| error.kind());
    (String::from_utf8(got).unwrap(), end)
}

#[test]
fn tls_ends_with_close_notify_unless_the_script_cuts_it() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let whole = runtime.block_on(over_tls(Reply { close: true, ..Reply::text("hello") }));
    assert!(whole.0.ends_with("\r\n\r\nhello"));
    assert_eq!(whole.1, Ok(()));
    let cut = runtime.block_on(over_tls(Reply::text("hello").fault(Fault::Truncate { after_bytes: 2 })));
    assert!(cut.0.ends_with("\r\n\r\nhe"));
    assert_eq!(cut.1, Err(io::ErrorKind::UnexpectedEof));
    let reset = runtime.block_on(over_tls(Reply::text("hello").fault(Fault::ResetBeforeHead)));
    assert_eq!(reset.1, Err(io::ErrorKind::ConnectionReset));
}
