use std::sync::Arc;

use estoppel_kit::Scratch;
use estoppel_stub::{Listen, Protocol, Script, Stub};
use rustls::ClientConfig;

use crate::authority::{Authority, Leaf};
use crate::client::{self, read, run, speak_http1, speak_http2};
use crate::support::{PATIENCE, Setup, World, chat};

const HELLO: &str = r#"{"model":"m","messages":[]}"#;

fn listener(scratch: &Scratch, leaf: &Leaf, more: &str) -> Setup {
    let listener = format!("tls = {{ {}{more} }}\n", leaf.toml(scratch, "listener"));
    Setup { listener, ..Setup::default() }
}

/// One plain call over TLS: what was negotiated, and the answer.
async fn call(
    world: &World,
    config: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<(Vec<u8>, client::Got)> {
    let stream = client::tls(world.gateway, config).await?;
    let spoken = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
    let answer = if spoken == b"h2" {
        speak_http2(stream).await.send_request(client::chat(name, HELLO)).await
    } else {
        let mut request = client::chat(name, HELLO);
        *request.uri_mut() = "/v1/chat/completions".parse().unwrap();
        request.headers_mut().insert("host", "gateway.test".parse().unwrap());
        speak_http1(stream).await.send_request(request).await
    };
    Ok((spoken, read(answer.map_err(std::io::Error::other)?).await))
}

#[test]
fn a_tls_listener_speaks_what_alpn_chose() {
    let (authority, pki) = (Authority::new(), Scratch::new("pki"));
    let world = World::with(Script::model(), &listener(&pki, &authority.server(), ""));
    for (offered, spoken) in [(&["h2", "http/1.1"][..], &b"h2"[..]), (&["http/1.1"], b"http/1.1"), (&[], b"")]
    {
        let (chosen, got) = run(call(&world, authority.client(offered, None), "tls")).unwrap();
        assert_eq!((chosen.as_slice(), got.status.as_u16()), (spoken, 200), "{}", got.text());
    }
    let versions: Vec<String> =
        world.receipts("tls").iter().map(|r| r["request"]["version"].to_string()).collect();
    assert_eq!(versions, ["\"2\"", "\"1.1\"", "\"1.1\""]);
}

#[test]
fn plain_text_on_a_tls_listener_is_refused() {
    let (authority, pki) = (Authority::new(), Scratch::new("pki"));
    let world = World::with(Script::model(), &listener(&pki, &authority.server(), ""));
    assert!(estoppel_kit::http::get(world.gateway, "/v1/models").is_err());
    assert_eq!(world.upstream.hits().total(), 0);
}

#[test]
fn a_client_certificate_is_the_identity_in_the_receipt_and_none_is_refused() {
    let (authority, clients, pki) = (Authority::new(), Authority::new(), Scratch::new("pki"));
    let ca = clients.write(&pki, "clients.crt");
    let world =
        World::with(Script::model(), &listener(&pki, &authority.server(), &format!(", client_ca = {ca:?}")));
    let leaf = clients.issue(&["billing.test"]);
    let (_, got) = run(call(&world, authority.client(&["h2"], Some(&leaf)), "mtls")).unwrap();
    assert_eq!(got.status, 200, "{}", got.text());
    let stranger = Authority::new().issue(&["billing.test"]);
    for refused in [None, Some(&stranger)] {
        assert!(run(call(&world, authority.client(&["http/1.1"], refused), "mtls")).is_err());
    }
    assert_eq!(world.upstream.hits().total(), 1);
    let receipts = world.receipts("mtls");
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0]["identity"]["kind"], "mtls");
    assert_eq!(receipts[0]["identity"]["subject"], "billing.test");
    assert!(receipts[0]["identity"]["kid"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn where_certificates_are_optional_a_route_may_still_ask_for_one() {
    let (authority, clients, pki) = (Authority::new(), Authority::new(), Scratch::new("pki"));
    let ca = clients.write(&pki, "clients.crt");
    let setup =
        listener(&pki, &authority.server(), &format!(", client_ca = {ca:?}, client_required = false"));
    let mut world = World::with(Script::model(), &setup);
    let file = world.scratch.join("estoppeld.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    world.stop();
    std::fs::write(&file, text.replace("name = \"stub\"", "name = \"stub\"\nidentity_required = true"))
        .unwrap();
    world.restart();
    let leaf = clients.issue(&[]);
    let (_, known) = run(call(&world, authority.client(&["h2"], Some(&leaf)), "asked")).unwrap();
    let (_, unknown) = run(call(&world, authority.client(&["h2"], None), "asked")).unwrap();
    assert_eq!((known.status.as_u16(), unknown.status.as_u16()), (200, 401));
    let receipts = world.receipts("asked");
    assert_eq!(receipts[0]["identity"]["subject"], receipts[0]["identity"]["kid"], "no DNS name: its digest");
    assert_eq!(receipts[1]["outcome"]["code"], "IDENTITY_REQUIRED");
}

#[test]
fn a_reload_takes_new_certificates_and_keeps_connections() {
    let (old, new, pki) = (Authority::new(), Authority::new(), Scratch::new("pki"));
    let mut world = World::with(Script::model(), &listener(&pki, &old.server(), ""));
    let kept = run(async {
        let stream = client::tls(world.gateway, old.client(&["h2"], None)).await.unwrap();
        let runtime_bound = call(&world, old.client(&["h2"], None), "before").await.unwrap();
        assert_eq!(runtime_bound.1.status, 200);
        let mut kept = speak_http2(stream).await;
        assert_eq!(client::send(&mut kept, client::chat("before", HELLO)).await.status, 200);
        new.server().toml(&pki, "listener");
        world.daemon.hang_up();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while client::tls(world.gateway, new.client(&["h2"], None)).await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "the new certificate is not presented");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(client::tls(world.gateway, old.client(&["h2"], None)).await.is_err());
        client::send(&mut kept, client::chat("after", HELLO)).await
    });
    assert_eq!(kept.status, 200, "the connection from before the reload goes on");
}

#[test]
fn a_reload_with_a_broken_certificate_changes_nothing() {
    let (authority, pki) = (Authority::new(), Scratch::new("pki"));
    let mut world = World::with(Script::model(), &listener(&pki, &authority.server(), ""));
    pki.write("listener.crt", "not a certificate");
    world.daemon.hang_up();
    estoppel_kit::until("the refused reload", PATIENCE, || {
        world.metric("estoppel_reloads_total{result=\"refused\"}")
    });
    let (_, got) = run(call(&world, authority.client(&["h2"], None), "still")).unwrap();
    assert_eq!(got.status, 200);
    assert!(world.daemon.stderr().contains("listener.crt"), "{}", world.daemon.stderr());
}

fn tls_stub(authority: &Authority, clients: Option<&Authority>, protocol: Protocol) -> Stub {
    let listen =
        Listen { tls: Some(Authority::serve(&authority.server(), clients)), protocol, ..Listen::default() };
    Stub::spawn_thread_on(listen, Script::model()).unwrap()
}

fn check_upstream(upstream: Stub, keys: String, status: u16, code: &str) {
    let world = World::over(
        upstream,
        &Setup {
            upstream: keys,
            upstream_tls: true,
            config: "[log]\nlevel = \"debug\"\n".into(),
            ..Setup::default()
        },
    );
    for _ in 0..2 {
        let answer = world.send(&chat("up", HELLO));
        assert_eq!(answer.status(), status, "{}", answer.text());
    }
    let receipts = world.receipts("up");
    assert_eq!(receipts[1]["outcome"]["code"], code);
    let reached = if status == 200 { 2 } else { 0 };
    assert_eq!(world.upstream.hits().total(), reached);
    assert!(status != 200 || world.upstream.hits().connections() == 1, "the connection is used again");
}

#[test]
fn an_upstream_is_trusted_by_its_own_authority_only() {
    let (authority, other, pki) = (Authority::new(), Authority::new(), Scratch::new("pki"));
    let ca = format!("ca = {:?}", authority.write(&pki, "ca.crt"));
    let wrong = format!("ca = {:?}", other.write(&pki, "other.crt"));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        check_upstream(tls_stub(&authority, None, protocol), ca.clone(), 200, "OK");
        check_upstream(tls_stub(&authority, None, protocol), wrong.clone(), 502, "UPSTREAM_TLS");
    }
    check_upstream(tls_stub(&authority, None, Protocol::Http1), String::new(), 502, "UPSTREAM_TLS");
}

#[test]
fn an_upstream_whose_certificate_names_another_host_is_not_trusted() {
    let (authority, pki) = (Authority::new(), Scratch::new("pki"));
    let listen =
        Listen { tls: Some(Authority::serve(&authority.issue(&["other.test"]), None)), ..Listen::default() };
    let upstream = Stub::spawn_thread_on(listen, Script::model()).unwrap();
    let ca = format!("ca = {:?}", authority.write(&pki, "ca.crt"));
    check_upstream(upstream, ca, 502, "UPSTREAM_TLS");
}

#[test]
fn an_upstream_that_asks_for_a_certificate_gets_the_configured_one() {
    let (authority, clients, pki) = (Authority::new(), Authority::new(), Scratch::new("pki"));
    let ca = format!("ca = {:?}\n", authority.write(&pki, "ca.crt"));
    let client = format!("client = {{ {} }}", clients.issue(&["gateway.test"]).toml(&pki, "client"));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let upstream = || tls_stub(&authority, Some(&clients), protocol);
        check_upstream(upstream(), format!("{ca}{client}"), 200, "OK");
        check_upstream(upstream(), ca.clone(), 502, "UPSTREAM_TLS");
    }
}
