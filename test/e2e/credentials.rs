//! Credentials of upstreams: what a client sends of its own never crosses, and what the upstream gets is nobody else's.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;

use estoppel_kit::http::Request;
use estoppel_stub::{Delays, Reply, Rule, Script, Stub};
use serde_json::json;

use crate::support::{Setup, World};

const POLICY: &str = "version: 1\nname: open\ndefaults: { verdict: allow, on_not_evaluated: allow }\n";
const CLIENTS: &str = "clients-own-secret";

fn post(token: Option<&str>) -> Request {
    post_to("/mcp", token)
}

fn post_to(target: &str, token: Option<&str>) -> Request {
    let request = Request::new("POST", target)
        .header("content-type", "application/json")
        .header("estoppel-run", "broker")
        .header("cookie", "session=clients-own-secret")
        .header("x-api-key", CLIENTS)
        .body(r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#);
    match token {
        Some(token) => request.header("authorization", &format!("Bearer {token}")),
        None => request,
    }
}

fn world(upstream: Script, credential: &str) -> World {
    let upstream_keys = format!("[upstream.stub.credential]\n{credential}\n");
    World::with(upstream, &Setup { policy: POLICY.into(), upstream: upstream_keys, ..Setup::default() })
}

fn tools() -> Script {
    Script::always(
        Reply::text(r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}"#)
            .header("content-type", "application/json"),
    )
}

fn issued(token: &str, seconds: u64) -> Reply {
    let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": seconds });
    Reply::text(&body.to_string()).header("content-type", "application/json")
}

/// What the upstream got to see: its own credential, and nothing of the client's.
fn authorizations(world: &World) -> Vec<Option<String>> {
    let seen = world.upstream.hits().requests();
    for request in &seen {
        assert!(!String::from_utf8_lossy(&request.head).contains(CLIENTS), "{:?}", request.head);
    }
    seen.iter().map(|request| request.header("authorization")).collect()
}

fn exchange(issuer: &Stub, more: &str) -> String {
    format!(
        "[upstream.stub.credential.token_exchange]\ntoken_url = \"http://{}/token\"\naudience = \"https://tools.example\"\n{more}",
        issuer.addr()
    )
}

#[test]
fn a_static_token_takes_the_place_of_the_client_s() {
    let scratch = estoppel_kit::Scratch::new("token");
    let file = scratch.write("token", "gateways-own\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let world = world(tools(), &format!("static = {{ file = {file:?} }}"));
    assert_eq!(world.send(&post(Some(CLIENTS))).status(), 200);
    assert_eq!(world.send(&post(None)).status(), 200);
    assert_eq!(
        authorizations(&world),
        [Some("Bearer gateways-own".into()), Some("Bearer gateways-own".into())]
    );
    assert!(!world.daemon.stderr().contains("gateways-own"));
}

#[test]
fn a_program_mints_a_token_once_and_again_after_a_401() {
    let script = Script::always(Reply::default().status(401))
        .on(Rule { times: Some(2), ..Rule::any("", tools().otherwise) });
    let world = world(script, r#"command = { argv = ["sh", "-c", "echo minted-$(date +%N)"] }"#);
    let statuses: Vec<u16> = (0..4).map(|_| world.send(&post(Some(CLIENTS))).status()).collect();
    assert_eq!(statuses, [200, 200, 401, 401]);
    let seen = authorizations(&world);
    assert!(seen.iter().flatten().all(|value| value.starts_with("Bearer minted-")), "{seen:?}");
    assert!(seen[0] == seen[1] && seen[1] == seen[2] && seen[2] != seen[3], "{seen:?}");
}

#[test]
fn a_client_s_token_is_exchanged_once_for_all_who_bring_it() {
    let slow =
        Reply { delay_ms: Delays { before_head: 100, ..Delays::default() }, ..issued("exchanged", 600) };
    let issuer = Stub::spawn_thread(Script::always(slow)).unwrap();
    let world = world(tools(), &exchange(&issuer, "scope = \"read\"\n"));
    let (sender, answers) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (world, sender) = (&world, sender.clone());
            scope.spawn(move || sender.send(world.send(&post(Some(CLIENTS))).status()).unwrap());
        }
    });
    assert_eq!(answers.try_iter().collect::<Vec<_>>(), [200; 4]);
    assert_eq!(authorizations(&world), vec![Some("Bearer exchanged".to_string()); 4]);
    assert_eq!(issuer.hits().total(), 1);
    let form = String::from_utf8(issuer.hits().last().unwrap().body.to_vec()).unwrap();
    for part in [
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange",
        "subject_token=clients-own-secret",
        "audience=https%3A%2F%2Ftools.example",
        "scope=read",
    ] {
        assert!(form.contains(part), "{form}");
    }
    assert_eq!(world.send(&post(Some("another"))).status(), 200);
    assert_eq!(issuer.hits().total(), 2, "another client's token is exchanged for itself");
    assert!(!world.daemon.stderr().contains(CLIENTS) && !world.daemon.stderr().contains("exchanged"));
}

#[test]
fn without_a_credential_nothing_is_sent() {
    let issuer = Stub::spawn_thread(
        Script::always(Reply::default().status(500))
            .on(Rule { times: Some(1), ..Rule::any("", Reply::default().status(400)) }),
    )
    .unwrap();
    let world = world(tools(), &exchange(&issuer, ""));
    let refused = |token: Option<&str>| {
        let answer = crate::mcp_values::seen(&world, &post(token));
        let challenge = answer.header("www-authenticate").map(str::to_owned);
        (answer.status(), crate::mcp_values::refusal(&answer, &json!(7)), challenge.is_some())
    };
    assert_eq!(refused(None), (401, "CREDENTIAL_MISSING".into(), true));
    assert_eq!(refused(Some("expired")), (401, "CREDENTIAL_MISSING".into(), true));
    assert_eq!(refused(Some("good")), (503, "CREDENTIAL_FAILED".into(), false));
    assert_eq!(world.upstream.hits().total(), 0);
    let codes: Vec<_> =
        world.receipts("broker").into_iter().map(|receipt| receipt["outcome"]["code"].clone()).collect();
    assert_eq!(codes, [json!("CREDENTIAL_MISSING"), json!("CREDENTIAL_MISSING"), json!("CREDENTIAL_FAILED")]);
}

#[test]
fn a_client_without_a_token_is_told_where_tokens_are_given() {
    let issuer = Stub::spawn_thread(Script::always(Reply::default().status(500))).unwrap();
    let setup = Setup {
        policy: POLICY.into(),
        upstream: format!("[upstream.stub.credential]\n{}\n", exchange(&issuer, "")),
        config: "[route.protected_resource]\nresource = \"https://gw.example/mcp\"\nauthorization_servers = [\"https://login.example\"]\nscopes_supported = [\"read\"]\n".into(),
        ..Setup::default()
    };
    let world = World::with(tools(), &setup);
    let refused = crate::mcp_values::seen(&world, &post(None));
    let metadata = "/.well-known/oauth-protected-resource/mcp";
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.contains(&format!("resource_metadata=\"https://gw.example{metadata}\"")),
        "{challenge}"
    );
    let told = world.send(&Request::new("GET", metadata).header("estoppel-run", "broker"));
    let document: serde_json::Value = serde_json::from_str(&told.text()).unwrap();
    assert_eq!((told.status(), &document["resource"]), (200, &json!("https://gw.example/mcp")));
    assert_eq!(document["authorization_servers"], json!(["https://login.example"]));
    assert_eq!(world.upstream.hits().total(), 0);
    let receipt = world.receipts("broker").remove(1);
    assert_eq!((&receipt["verdict"]["action"], &receipt["outcome"]["code"]), (&json!("allow"), &json!("OK")));
    assert_eq!(receipt["response"]["client"]["bytes"], json!(told.text().len()), "{receipt}");
}

#[test]
fn a_token_that_others_can_read_is_refused_at_the_start() {
    let scratch = estoppel_kit::Scratch::new("token");
    let file = scratch.write("token", "t");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let setup = Setup {
        policy: POLICY.into(),
        upstream: format!("[upstream.stub.credential.static]\nfile = {file:?}\n"),
        ..Setup::default()
    };
    let (code, said) = checked(&scratch, &setup);
    assert_eq!(code, Some(6));
    assert!(said.contains("credential"), "{said}");
}

/// What `--check-config` ends with and says.
fn checked(scratch: &estoppel_kit::Scratch, setup: &Setup) -> (Option<i32>, String) {
    let config = crate::support::write_config(scratch, "127.0.0.1:9".parse().unwrap(), setup);
    let done = std::process::Command::new(crate::support::daemon_binary())
        .args(["--config".as_ref(), config.as_os_str(), "--check-config".as_ref()])
        .output()
        .unwrap();
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn an_upstream_that_needs_no_credential_gets_none_of_its_clients() {
    let world = world(tools(), "none = true\nheader = \"x-team-token\"");
    let sent = post(Some(CLIENTS)).header("x-team-token", CLIENTS);
    assert_eq!(world.send(&sent).status(), 200);
    assert_eq!(authorizations(&world), [None]);
}

#[test]
fn credentials_in_the_query_stay_here_too() {
    let world = world(tools(), "none = true");
    for query in
        ["key=clients-own-secret", "alt=sse&%6bey=clients-own-secret&Access_Token=clients-own-secret&x=1"]
    {
        assert_eq!(world.send(&post_to(&format!("/v1/items?{query}"), None)).status(), 200);
    }
    authorizations(&world);
    let targets: Vec<String> = world.upstream.hits().requests().into_iter().map(|hit| hit.target).collect();
    assert_eq!(targets, ["/v1/items", "/v1/items?alt=sse&x=1"]);
}

#[test]
fn where_credentials_are_required_no_upstream_goes_without() {
    let scratch = estoppel_kit::Scratch::new("required");
    let said_of = |credential: &str, route: &str| {
        let setup = Setup {
            policy: POLICY.into(),
            upstream: format!("{credential}\n[server]\ncredentials_required = true\n"),
            routes: String::new(),
            config: route.into(),
            ..Setup::default()
        };
        checked(&scratch, &setup)
    };
    let (code, said) = said_of("", "");
    assert_eq!(code, Some(6));
    assert!(said.contains("upstream.stub.credential") && said.contains("none = true"), "{said}");
    let none = "credential = { none = true }";
    let (code, said) = said_of(none, "");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = said_of(none, "forward_credential = true\n");
    assert_eq!(code, Some(6));
    assert!(said.contains("route[0].forward_credential"), "{said}");
}
