use bytes::BytesMut;
use http_body_util::Full;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Builder;

use super::*;
use crate::hits::Hits;
use crate::script::{Body as Said, Delays, Fault, Rule, Split};
use crate::serve::tests::certificate;
use crate::stub::Stub;

const PATIENCE: Duration = Duration::from_secs(20);

type Client = SendRequest<Full<Bytes>>;

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
}

async fn client(stub: &Stub) -> Client {
    let tcp = TcpStream::connect(stub.addr()).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri("http://stub.test/a?b=c").header("x-a", "1");
    request.body(Full::from(body.to_owned())).unwrap()
}

/// What a client sees of one answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    status: u16,
    frames: Vec<String>,
    trailers: usize,
    whole: bool,
}

async fn get(client: &mut Client) -> Got {
    let Ok(response) = client.send_request(request("GET", "")).await else { return Got::default() };
    let mut got = Got { status: response.status().as_u16(), whole: true, ..Got::default() };
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) if data.is_empty() => {}
            Ok(Ok(data)) => got.frames.push(String::from_utf8(data.to_vec()).unwrap()),
            Ok(Err(frame)) => got.trailers += frame.trailers_ref().map_or(0, HeaderMap::len),
            Err(_) => {
                got.whole = false;
                break;
            }
        }
    }
    got
}

async fn check(reply: Reply, frames: &[&str], whole: bool) {
    let stub = Stub::start_h2(Script::always(reply.clone()), None).await.unwrap();
    let got = get(&mut client(&stub).await).await;
    let frames: Vec<String> = frames.iter().map(|frame| (*frame).to_owned()).collect();
    assert_eq!((got.frames, got.whole), (frames, whole), "{reply:?}");
}

async fn await_outcome(stub: &Stub, outcome: Outcome) {
    let ended = |hits: &Hits| hits.last().is_some_and(|seen| seen.outcome() == outcome);
    assert!(stub.hits().wait_async(PATIENCE, ended).await, "{:?}", stub.hits().last());
}

#[test]
fn a_piece_is_a_frame() {
    run(async {
        check(Reply::sse(&["1", "22"]), &["data: 1\n\n", "data: 22\n\n"], true).await;
        check(Reply::text("abcde").split(Split::Each { bytes: 2 }), &["ab", "cd", "e"], true).await;
        check(Reply::text("abcde"), &["abcde"], true).await;
        check(Reply::text(""), &[], true).await;
        let slow = Fault::Slow { bytes_per_write: 3, every_ms: 1 };
        check(Reply::text("abcde").fault(slow), &["abc", "de"], true).await;
    });
}

#[test]
fn an_answer_that_is_cut_keeps_what_came_before() {
    run(async {
        for fault in [Fault::Reset { after_bytes: 3 }, Fault::Truncate { after_bytes: 3 }] {
            let split = Split::Each { bytes: 2 };
            check(Reply::text("abcde").split(split).fault(fault), &["ab", "c"], false).await;
        }
        for fault in [Fault::ResetBeforeHead, Fault::CloseBeforeHead] {
            check(Reply::text("abcde").fault(fault), &[], false).await;
        }
    });
}

#[test]
fn a_reset_stream_leaves_the_connection_and_a_truncated_one_ends_it() {
    run(async {
        let faults = [(Fault::Reset { after_bytes: 1 }, true), (Fault::Truncate { after_bytes: 1 }, false)];
        for (fault, lives) in faults {
            let first = Rule::any("", Reply::text("xy").fault(fault)).times(1);
            let stub = Stub::start_h2(Script::always(Reply::text("ok")).on(first), None).await.unwrap();
            let mut client = client(&stub).await;
            assert!(!get(&mut client).await.whole);
            await_outcome(&stub, Outcome::CutByScript).await;
            assert_eq!(get(&mut client).await.frames == ["ok"], lives, "{fault:?}");
        }
    });
}

#[test]
fn close_sends_goaway_and_the_answer_goes_on() {
    run(async {
        let slow = Reply::text("abc").fault(Fault::Slow { bytes_per_write: 1, every_ms: 20 });
        let stub = Stub::start_h2(Script::always(Reply { close: true, ..slow }), None).await.unwrap();
        let mut client = client(&stub).await;
        assert_eq!(get(&mut client).await.frames, ["a", "b", "c"]);
        let refused = async {
            while client.ready().await.is_ok() {
                sleep(Duration::from_millis(1)).await
            }
        };
        assert!(tokio::time::timeout(PATIENCE, refused).await.is_ok(), "further streams are taken");
    });
}

#[test]
fn what_was_received_is_kept_as_http_1_1_would_write_it() {
    run(async {
        let stub =
            Stub::start_h2(Script::always(Reply::new(Said::Echo).trailer("x-sum", "9")), None).await.unwrap();
        let mut client = client(&stub).await;
        let response = client.send_request(request("POST", "hello")).await.unwrap();
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().map(HeaderMap::len), Some(1));
        assert_eq!(collected.to_bytes(), "hello");
        let seen = stub.hits().last().unwrap();
        let head = "POST /a?b=c HTTP/2\r\nhost: stub.test\r\nx-a: 1\r\ncontent-length: 5\r\n\r\n";
        assert_eq!((&seen.head[..], &seen.body[..]), (head.as_bytes(), &b"hello"[..]));
        assert_eq!((stub.hits().count("/a"), seen.sent_bytes()), (1, 5));
        await_outcome(&stub, Outcome::Sent).await;
    });
}

#[test]
fn a_client_that_resets_its_stream_is_noticed_while_the_stub_is_silent() {
    run(async {
        for fault in [Fault::NoAnswer, Fault::Stall { after_bytes: 1 }] {
            let stub = Stub::start_h2(Script::always(Reply::text("abc").fault(fault)), None).await.unwrap();
            let mut client = client(&stub).await;
            let asking = tokio::spawn(async move { get(&mut client).await });
            assert!(stub.hits().wait_async(PATIENCE, |hits| hits.total() == 1).await);
            assert_eq!(stub.hits().last().unwrap().outcome(), Outcome::Answering);
            asking.abort();
            await_outcome(&stub, Outcome::PeerGone).await;
        }
    });
}

#[test]
fn lengths_head_and_pauses_are_kept() {
    run(async {
        let delays = Delays { before_head: 3, before_body: 5, between_writes: 7 };
        let reply = Reply::text("abc").split(Split::Each { bytes: 1 }).delay_ms(delays);
        let stub = Stub::start_h2(Script::always(reply), None).await.unwrap();
        let mut client = client(&stub).await;
        let started = Instant::now();
        let response = client.send_request(request("GET", "")).await.unwrap();
        assert_eq!(response.headers()["content-length"], "3");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abc");
        assert!(started.elapsed() >= Duration::from_millis(3 + 5 + 2 * 7));
        let response = client.send_request(request("HEAD", "")).await.unwrap();
        assert_eq!(response.headers()["content-length"], "3");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
    });
}

#[test]
fn it_speaks_over_tls_by_alpn() {
    run(async {
        let (server, mut config) = certificate();
        let stub = Stub::start_h2(Script::model(), Some(server)).await.unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(stub.addr()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let asked: Request<Full<Bytes>> =
            Request::builder().uri("https://localhost/bytes/200000").body(Full::default()).unwrap();
        let mut body: Incoming = sender.send_request(asked).await.unwrap().into_body();
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            all.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
        }
        assert_eq!(all, crate::filler(0, 200_000)[..]);
    });
}

#[test]
fn what_http2_cannot_do_is_refused_at_the_start() {
    run(async {
        let reply = Reply::text("x").framing(Framing::Raw).writes(Writes::Joined);
        let script = Script::default().on(Rule::any("/", reply));
        let Err(StartError::NotInHttp2 { problems }) = Stub::start_h2(script, None).await else { panic!() };
        assert_eq!(problems, ["rules[0].reply.framing", "rules[0].reply.writes"]);
    });
}

#[test]
fn stopping_ends_streams_in_flight() {
    run(async {
        let stub =
            Stub::start_h2(Script::always(Reply::default().fault(Fault::NoAnswer)), None).await.unwrap();
        let mut client = client(&stub).await;
        let asking = tokio::spawn(async move { get(&mut client).await });
        assert!(stub.hits().wait_async(PATIENCE, |hits| hits.total() == 1).await);
        stub.shutdown().await;
        assert!(!asking.await.unwrap().whole);
    });
}
