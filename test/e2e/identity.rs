//! Who calls: API keys, scopes, tenants, certificates beside them, and what is revoked. Tokens of a real issuer are in
//! `test/clients/test_identity.py`.

use std::path::{Path, PathBuf};

use estoppel_kit::http::{Answer, Peer, Request, get};
use estoppel_kit::{RedisServer, Scratch};
use estoppel_stub::{Reply, Script};
use serde_json::{Value, json};

use crate::authority::Authority;
use crate::client::{self, run, speak_http2};
use crate::support::{OPEN, PATIENCE, Setup, World, cli, path};

const HELLO: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hello"}]}"#;

/// A key as `estoppel identity key new` makes it.
fn new_key(file: &Path, subject: &str, more: &[&str]) -> (String, String) {
    let words = [&["identity", "key", "new", "--subject", subject, "--file", path(file)], more].concat();
    let (code, made) = cli(&words);
    assert_eq!(code, 0, "{made}");
    let text = |name: &str| made["data"][name].as_str().unwrap().to_owned();
    (text("key"), text("id"))
}

struct Keys {
    scratch: Scratch,
    file: PathBuf,
}

impl Keys {
    fn new() -> Self {
        let scratch = Scratch::new("identity");
        let file = scratch.write("keys.ndjson", "# who may call\n");
        scratch.write("revoked", "# nobody\n");
        Self { scratch, file }
    }

    fn key(&self, subject: &str, more: &[&str]) -> String {
        new_key(&self.file, subject, more).0
    }

    /// `route` has keys of the route that takes everything.
    fn setup(&self, route: &str) -> Setup {
        let (keys, revoked) = (&self.file, self.scratch.join("revoked"));
        let config = format!(
            "{route}\n[identity]\napi_keys = {{ file = {keys:?} }}\nrevoked = {{ file = {revoked:?} }}\n\
             certificates = {{ tenants = [{{ name = \"acme.test\", tenant = \"acme\" }}] }}\n"
        );
        Setup { config, ..Setup::default() }
    }
}

fn call(target: &str, headers: &[(&str, &str)]) -> Request {
    let request = Request::new("POST", target)
        .header("content-type", "application/json")
        .header("estoppel-run", "who")
        .body(HELLO);
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

fn chat(headers: &[(&str, &str)]) -> Request {
    call("/v1/chat/completions", headers)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

fn answered(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// What the daemon's own run says that was done.
fn acts(world: &mut World) -> Vec<(String, String)> {
    world.stop();
    let bundles = std::fs::read_dir(world.journal().join("bundles")).unwrap();
    let shown = bundles.map(|bundle| cli(&["show", path(&bundle.unwrap().path())]).1);
    let entries = shown.flat_map(|shown| shown["data"]["entries"].as_array().unwrap().clone());
    let acts = entries.filter(|entry| entry["kind"] == "act");
    acts.map(|act| (text(&act, "/act").into(), text(&act, "/on").into())).collect()
}

#[test]
fn a_key_says_who_calls_in_every_dialect_and_goes_no_further() {
    let keys = Keys::new();
    let key = keys.key("nightly", &["--tenant", "acme", "--days", "1"]);
    let world = World::with(Script::always(Reply::json("{}")), &keys.setup("identity_required = true"));
    let bearer = format!("Bearer {key}");
    for (target, name, value) in [
        ("/v1/chat/completions", "authorization", bearer.as_str()),
        ("/v1/messages", "x-api-key", &key),
        ("/v1beta/models/m:generateContent", "x-goog-api-key", &key),
        ("/any", "api-key", &key),
        ("/any", "estoppel-key", &key),
    ] {
        let answer = world.send(&call(target, &[(name, value), ("x-forwarded-user", "root")]));
        assert_eq!(answer.status(), 200, "{target} {}", answer.text());
        let seen = world.upstream.hits().last().unwrap();
        assert_eq!(seen.header(name), None, "{target}");
        assert!(!String::from_utf8_lossy(&seen.head).contains(&key));
        assert_eq!(seen.header("x-forwarded-user").as_deref(), Some("root"));
    }
    // What is the upstream's is left alone.
    let both =
        chat(&[("estoppel-key", &key), ("authorization", "Bearer sk-theirs"), ("x-api-key", "theirs")]);
    assert_eq!(world.send(&both).status(), 200);
    let seen = world.upstream.hits().last().unwrap();
    assert_eq!(seen.header("authorization").as_deref(), Some("Bearer sk-theirs"));
    assert_eq!(seen.header("x-api-key").as_deref(), Some("theirs"));
    let receipts = world.receipts("who");
    assert_eq!(receipts.len(), 6);
    for receipt in receipts {
        assert_eq!(
            (text(&receipt, "/identity/kind"), text(&receipt, "/identity/subject")),
            ("api_key", "nightly")
        );
        assert_eq!(text(&receipt, "/tenant"), "acme");
        assert_eq!(receipt["identity"]["kid"], key[4..20]);
    }
}

#[test]
fn a_route_may_let_a_key_go_on_or_not_look_for_one() {
    let keys = Keys::new();
    let key = keys.key("nightly", &[]);
    let routes =
        "[[route]]\nname = \"theirs\"\npath = \"/theirs\"\nupstream = \"stub\"\nread_credentials = false\n\n";
    let setup = Setup { routes: routes.into(), ..keys.setup("forward_credential = true") };
    let world = World::with(Script::always(Reply::json("{}")), &setup);
    for target in ["/ours", "/theirs"] {
        assert_eq!(world.send(&call(target, &[("x-api-key", &key)])).status(), 200);
        assert_eq!(world.upstream.hits().last().unwrap().header("x-api-key").as_deref(), Some(key.as_str()));
    }
    let wrong = format!("{}x", &key[..key.len() - 1]);
    assert_eq!(world.send(&call("/ours", &[("x-api-key", &wrong)])).status(), 401);
    assert_eq!(world.send(&call("/theirs", &[("x-api-key", &wrong)])).status(), 200);
    let kinds: Vec<_> =
        world.receipts("who").iter().map(|receipt| text(receipt, "/identity/kind").to_owned()).collect();
    assert_eq!(kinds, ["api_key", "none", "none", "none"]);
}

#[test]
fn what_is_no_good_is_refused_in_the_caller_s_dialect_with_a_receipt_and_is_written_nowhere() {
    let keys = Keys::new();
    let key = keys.key("nightly", &[]);
    let expired = keys.key("old", &["--days", "0"]);
    let (revoked, id) = new_key(&keys.file, "gone", &[]);
    assert_eq!(cli(&["identity", "key", "revoke", &id, "--file", path(&keys.file)]).0, 0);
    let wrong = format!("{}{}", &key[..21], &expired[21..]);
    let setup = Setup { journal: "segment_mib = 1".into(), ..keys.setup("identity_required = true") };
    let world = World::with(Script::always(Reply::json("{}")), &setup);
    let mut codes = Vec::new();
    for (secret, code) in [
        (None, "IDENTITY_REQUIRED"),
        (Some(wrong.as_str()), "API_KEY_INVALID"),
        (Some("esk_"), "API_KEY_INVALID"),
        (Some(&expired), "API_KEY_INVALID"),
        (Some(&revoked), "IDENTITY_REVOKED"),
    ] {
        let headers: Vec<_> = secret.iter().map(|secret| ("x-api-key", *secret)).collect();
        let openai = world.send(&chat(&headers));
        let anthropic = world.send(&call("/v1/messages", &headers));
        let plain = world.send(&call("/any", &headers));
        for answer in [&openai, &anthropic, &plain] {
            assert_eq!(answer.status(), 401, "{code}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert_eq!(challenge.contains("error=\"invalid_token\""), secret.is_some(), "{challenge}");
        }
        assert_eq!(text(&answered(&openai), "/error/code"), code);
        assert_eq!(text(&answered(&openai), "/error/type"), "authentication_error");
        assert_eq!(text(&answered(&anthropic), "/error/type"), "authentication_error");
        assert_eq!(text(&answered(&plain), "/code"), code);
        codes.extend([code; 3]);
    }
    let several = world.send(&chat(&[("x-api-key", &key), ("estoppel-key", &key)]));
    assert_eq!((several.status(), text(&answered(&several), "/error/code")), (400, "HEADER_INVALID"));
    assert_eq!(world.send(&chat(&[("x-api-key", &key)])).status(), 200);
    assert_eq!(world.upstream.hits().total(), 1);
    let metric = |code| world.metric(&format!("estoppel_outcomes_total{{code=\"{code}\",route=\"stub\"}}"));
    assert_eq!(metric("API_KEY_INVALID"), Some(9.0));
    let receipts = world.receipts("who");
    let told: Vec<_> = receipts.iter().map(|receipt| text(receipt, "/outcome/code")).collect();
    assert_eq!(told, [&codes[..], &["HEADER_INVALID", "OK"]].concat());
    for receipt in &receipts[..9] {
        assert_eq!(receipt["identity"], json!({ "kind": "none" }), "who did not prove it is nobody");
    }
    // A key that has ended or was taken back proves whose it was.
    let whose = [9, 12].map(|at| text(&receipts[at], "/identity/subject").to_owned());
    assert_eq!(whose, ["old", "gone"]);
    let metrics = get(world.admin, "/metrics").unwrap().text();
    let journal = walk(&world.journal());
    for secret in [&key, &expired, &revoked, &wrong] {
        let secret = &secret[21..];
        assert!(!world.daemon.stderr().contains(secret) && !metrics.contains(secret));
        assert!(!journal.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()));
    }
}

/// The bytes of all files below a folder.
fn walk(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        bytes.extend(if entry.is_dir() { walk(&entry) } else { std::fs::read(&entry).unwrap_or_default() });
    }
    bytes
}

#[test]
fn what_is_taken_back_is_refused_soon_on_connections_too_and_the_journal_says_so() {
    let keys = Keys::new();
    let (first, id) = new_key(&keys.file, "nightly", &[]);
    let second = keys.key("agent", &[]);
    let mut world = World::with(Script::always(Reply::json("{}")), &keys.setup("identity_required = true"));
    let mut peer = Peer::connect(world.gateway).unwrap();
    let mut status = |key: &str| peer.exchange(&chat(&[("x-api-key", key)])).unwrap().status();
    assert_eq!((status(&first), status(&second)), (200, 200));
    assert_eq!(cli(&["identity", "key", "revoke", &id, "--file", path(&keys.file)]).0, 0);
    estoppel_kit::until("the key is taken back", PATIENCE, || (status(&first) == 401).then_some(()));
    let third = keys.key("late", &[]);
    estoppel_kit::until("a new key is taken", PATIENCE, || (status(&third) == 200).then_some(()));
    assert_eq!(status(&second), 200);
    keys.scratch.write("revoked", "subject agent\nnonsense\n");
    estoppel_kit::until("a list that cannot be read is told", PATIENCE, || {
        (world.metric("estoppel_identity_reloads_total{result=\"refused\"}") == Some(1.0)).then_some(())
    });
    assert_eq!(status(&second), 200, "what it said before holds");
    keys.scratch.write("revoked", "subject agent\n");
    estoppel_kit::until("the subject is taken back", PATIENCE, || (status(&second) == 401).then_some(()));
    assert_eq!(status(&third), 200);
    keys.scratch.write("revoked", "");
    estoppel_kit::until("the subject is let in again", PATIENCE, || (status(&second) == 200).then_some(()));
    let told = acts(&mut world);
    let third = format!("kid {}", &third[4..20]);
    let loads = |on: &str| told.iter().filter(|(act, told)| act == "identity.load" && told == on).count();
    assert_eq!((loads("api_keys"), loads("revoked")), (3, 4), "{told:?}");
    let changes: Vec<_> = told.iter().filter(|(act, _)| act != "identity.load").collect();
    let expected = [
        ("revoke".into(), format!("kid {id}")),
        ("restore".into(), third),
        ("revoke".into(), "subject agent".into()),
        ("restore".into(), "subject agent".into()),
    ];
    assert_eq!(changes, expected.iter().collect::<Vec<_>>());
    world.check_journal();
}

#[test]
fn a_route_that_needs_a_scope_says_which() {
    let keys = Keys::new();
    let (reader, writer) =
        (keys.key("r", &["--scope", "read"]), keys.key("w", &["--scope", "read", "--scope", "write"]));
    let world = World::with(Script::always(Reply::json("{}")), &keys.setup("scopes = [\"read\", \"write\"]"));
    let statuses = [None, Some(&reader), Some(&writer)].map(|key| {
        let headers: Vec<_> = key.iter().map(|key| ("x-api-key", key.as_str())).collect();
        let answer = world.send(&chat(&headers));
        (answer.status(), answer.header("www-authenticate").map(str::to_owned))
    });
    assert_eq!(statuses[0], (401, Some("Bearer scope=\"read write\"".into())));
    assert_eq!(statuses[1].0, 403);
    let challenge = statuses[1].1.as_deref().unwrap();
    assert!(challenge.contains("error=\"insufficient_scope\"") && challenge.contains("scope=\"read write\""));
    assert_eq!(statuses[2], (200, None));
    let codes: Vec<_> =
        world.receipts("who").iter().map(|receipt| text(receipt, "/outcome/code").to_owned()).collect();
    assert_eq!(codes, ["IDENTITY_REQUIRED", "SCOPE_MISSING", "OK"]);
}

/// GAI-1.2.1c: what a caller may do with a tool, and how often, goes by what it has proven, at every gateway.
#[test]
fn rates_and_tools_go_by_the_proven_caller_at_two_gateways_whatever_it_says_of_itself() {
    let Some(redis) = RedisServer::start() else { return };
    let keys = Keys::new();
    let (ada, bob) = (keys.key("ada", &["--tenant", "acme"]), keys.key("bob", &["--tenant", "acme"]));
    let eve = keys.key("eve", &["--tenant", "other"]);
    let policy = "version: 1\nname: test\ndefaults: { verdict: allow, on_not_evaluated: allow }\nrules:\n\
        - { id: pay, when: { tool: pay }, unless: { tenant: acme }, verdict: block, reason: TOOL_DENIED }\n\
        controls:\n- { id: each, kind: rate, when: { tool: [pay, look] }, by: [identity, tool], limit: 3, seconds: 3600 }\n\
        - { id: tenant, kind: cap, when: { tool: pay }, by: [tenant], unit: calls, limit: 5, per: month }\n";
    let setup = || {
        let Setup { config, .. } = keys.setup("dialect = \"mcp\"\nidentity_required = true");
        let state = format!("[state]\nstore = \"redis\"\nurl = \"{}\"\ntimeout_ms = 20000\n", redis.url());
        Setup { policy: policy.into(), config: format!("{config}\n{state}"), ..Setup::default() }
    };
    let result = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
    let worlds = [(); 2].map(|()| World::with(Script::always(Reply::json(result)), &setup()));
    let tool = |at: usize, key: &str, name: &str| {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": name, "arguments": { "identity": "ada", "tenant": "acme" } } });
        let request = Request::new("POST", "/mcp")
            .header("content-type", "application/json")
            .header("authorization", &format!("Bearer {key}"))
            .header("estoppel-run", "who")
            .header("estoppel-agent", "ada")
            .header("x-forwarded-user", "ada")
            .header("x-tenant", "acme");
        let answer = worlds[at].send(&request.body(call.to_string()));
        let code = text(&answered(&answer), "/error/data/code").to_owned();
        (answer.status(), code)
    };
    for world in 0..2 {
        estoppel_kit::until("switches are read", PATIENCE, || {
            (tool(world, &ada, "free").0 == 200).then_some(())
        });
    }
    let statuses: Vec<u16> = (0..4).map(|n| tool(n % 2, &ada, "pay").0).collect();
    assert_eq!(statuses, [200, 200, 200, 429], "over both");
    assert_eq!(tool(1, &ada, "look").0, 200, "each tool has a count of its own");
    assert_eq!(tool(1, &bob, "pay").0, 200, "and each caller");
    assert_eq!(tool(0, &eve, "pay"), (403, "TOOL_DENIED".into()), "whatever it calls itself");
    assert_eq!(tool(0, &bob, "pay").0, 200);
    assert_eq!(tool(0, &bob, "pay"), (429, "CAP_MAX".into()), "five of the tenant");
    let hits: u64 = worlds.iter().map(|world| world.upstream.hits().total()).sum();
    assert_eq!(hits, 2 + 3 + 1 + 2);
    let killed =
        cli(&["kill", "tenant:other", "--by", "o", "--reason", "r", "--admin", &worlds[0].admin.to_string()]);
    assert_eq!(killed.0, 0, "{}", killed.1);
    estoppel_kit::until("the other gateway blocks", PATIENCE, || {
        (tool(1, &eve, "free") == (403, "KILLED".into())).then_some(())
    });
    assert_eq!(tool(1, &bob, "free").0, 200);
    for world in &worlds {
        for receipt in world.receipts("who") {
            let tenant = if text(&receipt, "/identity/subject") == "eve" { "other" } else { "acme" };
            assert_eq!((text(&receipt, "/tenant"), text(&receipt, "/claims/agent")), (tenant, "ada"));
        }
    }
}

#[test]
fn a_key_over_a_connection_with_a_certificate_says_who_calls_and_both_are_written_down() {
    let keys = Keys::new();
    let key = keys.key("anna", &["--tenant", "people"]);
    let (authority, clients, pki) = (Authority::new(), Authority::new(), Scratch::new("pki"));
    let ca = clients.write(&pki, "clients.crt");
    let listener = format!("tls = {{ {}, client_ca = {ca:?} }}\n", authority.server().toml(&pki, "listener"));
    let setup = Setup { listener, ..keys.setup("identity_required = true") };
    let world = World::with(Script::always(Reply::json("{}")), &setup);
    let leaf = clients.issue(&["agents.acme.test"]);
    run(async {
        let stream = client::tls(world.gateway, authority.client(&["h2"], Some(&leaf))).await.unwrap();
        let mut peer = speak_http2(stream).await;
        let request = |key: Option<&str>| {
            let mut request = client::chat("who", HELLO);
            if let Some(key) = key {
                request.headers_mut().insert("x-api-key", key.parse().unwrap());
            }
            request
        };
        assert_eq!(client::send(&mut peer, request(None)).await.status, 200);
        assert_eq!(client::send(&mut peer, request(Some(&key))).await.status, 200);
        assert_eq!(client::send(&mut peer, request(Some("esk_wrong"))).await.status, 401);
        keys.scratch.write("revoked", "subject agents.acme.test\n");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while client::send(&mut peer, request(None)).await.status != 401 {
            assert!(tokio::time::Instant::now() < deadline, "the certificate is not taken back");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let refused = client::send(&mut peer, request(Some(&key))).await;
        assert_eq!(refused.status, 401, "nor does a key help whose connection is revoked");
    });
    let receipts = world.receipts("who");
    assert_eq!(text(&receipts[0], "/identity/subject"), "agents.acme.test");
    assert_eq!(text(&receipts[0], "/tenant"), "acme");
    assert_eq!((text(&receipts[1], "/identity/subject"), text(&receipts[1], "/tenant")), ("anna", "people"));
    assert_eq!(receipts[1]["ext"]["identity"], json!({ "certificate": "agents.acme.test" }));
    assert_eq!(
        text(&receipts[2], "/identity/subject"),
        "agents.acme.test",
        "what is proven of a call that is refused"
    );
    assert_eq!(text(receipts.last().unwrap(), "/outcome/code"), "IDENTITY_REVOKED");
}

#[test]
fn a_key_is_shown_once_and_the_file_is_kept_whole() {
    let keys = Keys::new();
    let (key, id) = new_key(&keys.file, "nightly", &["--tenant", "acme", "--scope", "read"]);
    let text_of = || std::fs::read_to_string(&keys.file).unwrap();
    assert!(text_of().starts_with("# who may call\n") && !text_of().contains(&key[21..]));
    let list = || cli(&["identity", "key", "list", "--file", path(&keys.file)]).1["data"]["keys"].clone();
    assert_eq!(
        list()[0],
        json!({ "id": id, "subject": "nightly", "tenant": "acme", "scopes": ["read"], "expires": null, "state": "taken" })
    );
    assert_eq!(cli(&["identity", "key", "revoke", &id, "--file", path(&keys.file)]).0, 0);
    assert_eq!(list()[0]["state"], "revoked");
    assert_eq!(cli(&["identity", "key", "revoke", &id, "--file", path(&keys.file)]).0, 0, "again");
    for words in
        [&["revoke", "0000000000000000"][..], &["new", "--subject", ""], &["new", "--subject", "a\nb"]]
    {
        let (code, answer) = cli(&[&["identity", "key"], words, &["--file", path(&keys.file)]].concat());
        assert_eq!((code, text(&answer, "/error/code")), (6, "ARGUMENT_INVALID"), "{words:?}");
    }
    keys.scratch.write("keys.ndjson", "{}\n");
    let refused = cli(&["identity", "key", "new", "--subject", "a", "--file", path(&keys.file)]);
    assert_eq!((refused.0, text(&refused.1, "/error/code")), (6, "FILE_UNREADABLE"));
    assert_eq!(text_of(), "{}\n", "what cannot be read is not written over");
}

#[test]
fn what_would_let_nobody_or_anybody_in_is_refused_at_the_start() {
    let keys = Keys::new();
    let issuer = "name = \"i\"\nissuer = \"https://i\"\n";
    for (more, expected) in [
        ("[identity]\napi_keys = { file = \"/no/such/file\" }", "identity.api_keys"),
        ("[identity]\nkeys = {}", "identity.keys"),
        (&format!("[[identity.jwt]]\n{issuer}audience = []\njwks_file = \"x\""), "identity.jwt[0].audience"),
        (
            &format!("[[identity.jwt]]\n{issuer}audience = [\"a\"]\njwks_url = \"http://i.example\""),
            "jwks_url",
        ),
        (&format!("[[identity.jwt]]\n{issuer}audience = [\"a\"]\njwks_file = \"/no/such\""), "/no/such"),
        (
            &format!(
                "[[identity.jwt]]\n{issuer}audience = [\"a\"]\njwks_file = \"x\"\nalgorithms = [\"HS256\"]"
            ),
            "HS256",
        ),
    ] {
        let setup = Setup { policy: OPEN.into(), config: more.into(), ..Setup::default() };
        let config = crate::support::write_config(&keys.scratch, "127.0.0.1:9".parse().unwrap(), &setup);
        let done = std::process::Command::new(crate::support::daemon_binary())
            .args(["--config".as_ref(), config.as_os_str(), "--check-config".as_ref()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(6), "{more}: {said}");
        assert!(said.contains(expected), "{more}: {said}");
    }
}
