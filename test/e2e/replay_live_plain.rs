//! Recorded calls of a plain API, made again for real against a tool that does something: only of operations that were allowed, only
//! where the run was named, and only at targets that somebody named.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use estoppel_evidence::SoftKey;
use estoppel_evidence::envelope::{STATEMENT_TYPE, from_base64, sign};
use estoppel_kit::Scratch;
use estoppel_kit::http::{Request, Tool};
use estoppel_stub::{Listen, Reply, Script, Stub};
use serde_json::{Value, json};

use crate::authority::Authority;
use crate::replay::Recording;
use crate::replay_live::{run, run_id};
use crate::replay_tolerance::verified_twice;
use crate::support::{Setup, World, path};

/// What a route takes off stands before each.
const CALLS: [(&str, &str, &str); 3] = [
    ("POST", "/tool/v1/orders", "{\"sku\": \"a\",  \"count\": 3}"),
    ("PUT", "/tool/v1/stock?of=a", "{\"count\":1e2}"),
    ("DELETE", "/tool/v1/orders/7", ""),
];
const FULL: &str = "{ full: { reason: replay } }";
const STOCK: &str = "PUT /tool/v1/stock?of=a";

/// Method, target, body and names of headers of each request.
type Asked = Arc<Mutex<Vec<(String, String, String, Vec<String>)>>>;

struct Shop {
    recording: Recording,
    tool: Tool,
    asked: Asked,
    /// What the tool says of itself in each answer.
    version: Arc<Mutex<Value>>,
}

impl Shop {
    fn new(storage: &str, determinism: &str) -> Self {
        let (asked, version) = (Asked::default(), Arc::new(Mutex::new(json!(1))));
        let (theirs, says) = (asked.clone(), version.clone());
        let tool = Tool::start_reading(move |request| {
            let names = request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
            let body = String::from_utf8(request.body.clone()).unwrap();
            let mut asked = theirs.lock().unwrap();
            asked.push((request.method.clone(), request.target.clone(), body, names));
            json!({"did": request.method, "version": *says.lock().unwrap()}).to_string()
        });
        let policy = format!(
            "version: 1\nname: t\ndefaults: {{ verdict: allow, on_not_evaluated: allow, body_storage: {storage} }}\nroutes:\n  tool:\n    other_operations: allow\n    \
             operations:\n    - {{ id: orders.create, method: POST, path: /tool/v1/orders{determinism} }}\n    \
             - {{ id: orders.cancel, method: DELETE, path: \"/tool/v1/orders/{{id}}\" }}\n"
        );
        let routes = format!(
            "[upstream.tool]\nurl = \"http://{}\"\n[[route]]\nname = \"tool\"\npath = \"/tool\"\nstrip_path = true\nupstream = \"tool\"\ndialect = \"json\"\n",
            tool.addr()
        );
        let world = World::with(
            Script::always(Reply::text("not json")),
            &Setup { policy, routes, ..Setup::default() },
        );
        for (method, target, body) in CALLS {
            let call = Request::new(method, target)
                .header("estoppel-run", "p")
                .header("authorization", "Bearer s3cret");
            let call = if body.is_empty() { call } else { call.header("content-type", "application/json") };
            assert_eq!(world.send(&call.body(body)).status(), 200);
        }
        // A call of the run that is none of a plain API.
        let other = Request::new("POST", "/elsewhere").header("estoppel-run", "p").body("x");
        assert_eq!(world.send(&other).status(), 200);
        world.wait_for_calls("p", CALLS.len() as u64 + 1);
        asked.lock().unwrap().clear();
        Self { recording: Recording::of(world, "p"), tool, asked, version }
    }

    fn url(&self) -> String {
        format!("http://{}", self.tool.addr())
    }

    /// `replay run --live` at a URL, where everything is said that has to be.
    fn at(&self, url: &str, out: &str, more: &[&str]) -> (i32, Value) {
        let keys = self.recording.keys();
        let more = [&["--keys", path(&keys), "--strip-path", "/tool/"], more].concat();
        run(&self.recording, out, url, Some(&run_id(&self.recording)), &more)
    }

    /// What was asked since the last look: method, target and body.
    fn was_asked(&self) -> Vec<(String, String, String)> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        for (.., names) in &asked {
            let own = ["accept", "content-length", "content-type", "host", "user-agent"];
            let other = names.iter().find(|name| !own.contains(&name.as_str()));
            assert_eq!(other, None, "nothing of the recorded head is sent: {names:?}");
        }
        asked.into_iter().map(|(method, target, body, _)| (method, target, body)).collect()
    }

    fn holds(&self, out: &str) {
        assert_eq!(verified_twice(&self.recording, &self.recording.out(out)), (0, None), "{out}");
    }
}

/// As the tool gets it.
fn sent(place: usize) -> (String, String, String) {
    let (method, target, body) = CALLS[place];
    (method.into(), target.strip_prefix("/tool").unwrap().into(), body.into())
}

const CREATE: [&str; 4] = ["--allow-operation", "orders.create", "--target", "/tool/v1/orders"];
const CANCEL: [&str; 4] = ["--allow-operation", "orders.cancel", "--target", "/tool/v1/orders/7"];
const SET: [&str; 2] = ["--allow-operation", STOCK];

#[test]
fn without_an_operation_and_the_run_said_nothing_is_connected_to() {
    let shop = Shop::new(FULL, "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (recording, id, keys) = (&shop.recording, run_id(&shop.recording), shop.recording.keys());
    let keyed = [&["--keys", path(&keys)], &CREATE[..]].concat();
    let other = "01980000-0000-7000-8000-000000000000";
    for (said, more) in
        [(None, &[][..]), (Some(&*id), &["--keys", path(&keys)]), (None, &keyed), (Some(other), &keyed)]
    {
        let (code, answer) = run(recording, "c.json", &url, said, more);
        assert_eq!((code, &answer["error"]["code"]), (8, &json!("LIVE_REFUSED")), "{said:?} {more:?}");
    }
    let refused = |url: &str, more: &[&str], expected: (i32, &str)| {
        let (code, answer) = run(recording, "c.json", url, Some(&id), &[&keyed, more].concat());
        assert_eq!(
            (code, answer["error"]["code"].as_str()),
            (expected.0, Some(expected.1)),
            "{url} {more:?} {answer}"
        );
    };
    refused("http://192.0.2.1:9/", &[], (8, "LIVE_REFUSED"));
    refused("http://no-such-host.invalid/", &[], (8, "LIVE_REFUSED"));
    let invalid = (6, "ARGUMENT_INVALID");
    refused(&format!("{url}?a=b"), &[], invalid);
    refused("http://ada:hunter2@127.0.0.1:9/", &[], invalid);
    refused(&url.replace("http", "https"), &[], invalid);
    refused(&url, &["--upstream-ca", path(&recording.key)], invalid);
    refused(&url.replace("http", "https"), &["--upstream-ca", path(&recording.key)], (6, "FILE_UNREADABLE"));
    refused(&url, &["--strip-path", "/tool/v1/ord"], invalid);
    refused(&url, &["--target", "/other", "--strip-path", "/tool"], invalid);
    let (code, answer) = run(recording, "c.json", &url, Some(&id), &CREATE);
    assert_eq!((code, &answer["error"]["code"]), (6, &json!("ARGUMENT_INVALID")), "no key: {answer}");
    for named in ["json", "http", "", "post /tool/v1/orders", "POST tool", "POST /a#b"] {
        let more = ["--keys", path(&keys), "--allow-operation", named];
        let (code, answer) = run(recording, "c.json", &url, Some(&id), &more);
        assert_eq!((code, &answer["error"]["code"]), (6, &json!("ARGUMENT_INVALID")), "{named}: {answer}");
    }
    let both = [&keyed[..], &["--allow-tool", "add"]].concat();
    assert_eq!(run(recording, "c.json", &url, Some(&id), &both).0, 6, "of one upstream");
    let waiting = listener.accept().map(|_| ()).unwrap_err();
    assert_eq!(waiting.kind(), std::io::ErrorKind::WouldBlock, "nobody came");
    assert_eq!((shop.was_asked(), recording.out("c.json").exists()), (vec![], false));
}

#[test]
fn allowed_operations_are_called_again_as_they_were_and_others_are_not() {
    let shop = Shop::new(FULL, "");
    let (code, answer) = shop.at(&shop.url(), "two.json", &[&CREATE[..], &SET].concat());
    let certificate = &answer["data"]["certificate"];
    assert_eq!((code, &certificate["status"]), (5, &json!("partial")), "{answer}");
    assert_eq!((&certificate["mode"], &certificate["bodies_by"]), (&json!("live"), &json!("tag")));
    assert_eq!(certificate["counts"]["skipped"], json!([{"code": "OPERATION_NOT_ALLOWED", "count": 1}]));
    let receipts = shop.recording.world.receipts_in(&shop.recording.bundle);
    let tag = receipts.iter().find(|receipt| receipt["request"]["method"] == "PUT").unwrap();
    let stock = format!("PUT {}", tag["request"]["target_tag"].as_str().unwrap());
    let live = json!({"operations": [stock, "orders.create"], "sent": 2, "upstream": shop.url()});
    assert_eq!(certificate["live"], live, "paths are named by their tags");
    assert_eq!(certificate["upstream_connections"], 0);
    assert_eq!(shop.was_asked(), [sent(0), sent(1)], "byte for byte, in their order");
    shop.holds("two.json");

    let all = [&CREATE[..], &SET, &CANCEL].concat();
    let (code, answer) = shop.at(&shop.url(), "all.json", &all);
    assert_eq!((code, &answer["data"]["certificate"]["status"]), (0, &json!("success")), "{answer}");
    assert_eq!(shop.was_asked(), [sent(0), sent(1), sent(2)]);
    shop.holds("all.json");

    // Whose path nobody named is not guessed, and a path of another call is none of it.
    let named = [
        "--allow-operation",
        "orders.cancel",
        "--target",
        "/tool/v1/orders",
        "--target",
        "/tool/v1/orders/8",
    ];
    let (code, answer) =
        shop.at(&format!("{}/base/", shop.url()), "named.json", &[&SET[..], &named].concat());
    let skipped = &answer["data"]["certificate"]["counts"]["skipped"];
    assert_eq!((code, &answer["data"]["unnamed"]), (5, &json!(1)), "{answer}");
    let expected = json!([{"code": "OPERATION_NOT_ALLOWED", "count": 1}, {"code": "UNDECIDED", "count": 1}]);
    assert_eq!(*skipped, expected);
    let (method, target, body) = sent(1);
    assert_eq!(shop.was_asked(), [(method, format!("/base{target}"), body)]);
    shop.holds("named.json");
    forged(&shop, "two.json", &stock);
}

/// A certificate that says otherwise what was allowed does not hold, by either verifier.
fn forged(shop: &Shop, name: &str, stock: &str) {
    let recording = &shop.recording;
    let envelope: Value = serde_json::from_slice(&std::fs::read(recording.out(name)).unwrap()).unwrap();
    let payload = from_base64(envelope["payload"].as_str().unwrap()).unwrap();
    let check = |change: &dyn Fn(&mut Value), code: &str| {
        let mut statement: Value = serde_json::from_slice(&payload).unwrap();
        change(&mut statement["predicate"]);
        let signed = sign(STATEMENT_TYPE, statement.to_string().as_bytes(), &SoftKey::ed25519(&[9; 32]));
        let file = recording.scratch.write("forged.json", String::from_utf8(signed.unwrap()).unwrap());
        let (exit, said) = verified_twice(recording, &file);
        assert_eq!((exit, said.as_deref()), (2, Some(code)), "{statement}");
    };
    let status = "CERTIFICATE_STATUS";
    check(&|said| said["live"]["operations"] = json!(["orders.create"]), "CERTIFICATE_MISMATCH");
    check(&|said| said["live"]["operations"] = json!([stock]), "CERTIFICATE_MISMATCH");
    check(
        &|said| said["live"]["operations"] = json!([stock, "orders.cancel", "orders.create"]),
        "CERTIFICATE_MISMATCH",
    );
    check(&|said| said["live"]["operations"] = json!(["orders.create", stock]), status);
    check(&|said| said["live"]["tools"] = json!(["add"]), status);
    check(&|said| said["bodies_by"] = json!("digest"), status);
    check(&|said| said["live"]["sent"] = json!(3), status);
}

#[test]
fn an_operation_that_answers_otherwise_fails_and_no_more_is_called() {
    let shop = Shop::new(FULL, "");
    let all = [&CREATE[..], &SET, &CANCEL].concat();
    *shop.version.lock().unwrap() = json!(2);
    let (code, answer) = shop.at(&shop.url(), "other.json", &all);
    let certificate = &answer["data"]["certificate"];
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")), "{answer}");
    assert_eq!(certificate["reasons"], json!(["ANSWER_DRIFT", "UNDECIDED"]));
    assert_eq!(certificate["divergences"][0]["at"], json!(["/version"]));
    assert_eq!(shop.was_asked(), [sent(0)]);
    shop.holds("other.json");

    let rules = json!({"normalize": [{"as": "number", "at": "/version"}], "v": "replay-normalizers/v0"});
    let file = shop.recording.scratch.write("normalizers.json", rules.to_string());
    let more = [&all[..], &["--normalizers", path(&file)]].concat();
    assert_eq!(shop.at(&shop.url(), "normalized.json", &more).0, 0);
    shop.holds("normalized.json");

    // The same body with another status, a redirect that is not followed, and nobody there.
    let same = json!({"did": "POST", "version": 1}).to_string();
    let refusing = Stub::spawn_thread(Script::always(Reply::json(&same).status(409))).unwrap();
    let moved = Reply::json("{}").status(307).header("location", &format!("{}/v1/orders", shop.url()));
    let moving = Stub::spawn_thread(Script::always(moved)).unwrap();
    shop.was_asked();
    for (name, url) in [
        ("409.json", format!("http://{}", refusing.addr())),
        ("307.json", format!("http://{}", moving.addr())),
        ("away.json", "http://127.0.0.1:1".to_owned()),
    ] {
        let (code, answer) = shop.at(&url, name, &CREATE);
        assert_eq!(
            (code, &answer["data"]["certificate"]["reasons"][1]),
            (5, &json!("STATUS_DRIFT")),
            "{answer}"
        );
        shop.holds(name);
    }
    assert_eq!((refusing.hits().total(), moving.hits().total(), shop.was_asked()), (1, 1, vec![]));
}

#[test]
fn an_operation_that_answers_within_its_tolerance_matches_and_beyond_it_fails() {
    let class = ", determinism: { class: E1, tolerance: { answer: [{ at: /version, absolute: \"1\" }] } }";
    let shop = Shop::new(FULL, class);
    for (name, version, code, reason) in
        [("near.json", 2, 5, "TOLERATED"), ("far.json", 3, 5, "ANSWER_DRIFT")]
    {
        *shop.version.lock().unwrap() = json!(version);
        let (found, answer) = shop.at(&shop.url(), name, &CREATE);
        let reasons = answer["data"]["certificate"]["reasons"].as_array().unwrap();
        assert_eq!((found, reasons.contains(&json!(reason))), (code, true), "{answer}");
        shop.holds(name);
    }
}

#[test]
fn what_was_not_stored_is_not_sent() {
    let shop = Shop::new("hmac", "");
    let (code, answer) = shop.at(&shop.url(), "c.json", &[&CREATE[..], &SET, &CANCEL].concat());
    assert_eq!(code, 5, "{answer}");
    let skipped = &answer["data"]["certificate"]["counts"]["skipped"];
    assert_eq!(*skipped, json!([{"code": "BODY_ABSENT", "count": 3}]));
    assert_eq!(shop.was_asked(), []);
    shop.holds("c.json");
}

#[test]
fn an_api_behind_tls_is_trusted_by_the_named_authority_only() {
    let shop = Shop::new(FULL, "");
    let (authority, other, pki) = (Authority::new(), Authority::new(), Scratch::new("pki"));
    let listen = Listen { tls: Some(Authority::serve(&authority.server(), None)), ..Listen::default() };
    let said = json!({"did": "POST", "version": 1}).to_string();
    let server = Stub::spawn_thread_on(listen, Script::always(Reply::json(&said))).unwrap();
    let (ca, wrong) = (authority.write(&pki, "ca.crt"), other.write(&pki, "other.crt"));
    let url = format!("https://localhost:{}", server.addr().port());
    let (_, answer) = shop.at(&url, "wrong.json", &[&CREATE[..], &["--upstream-ca", path(&wrong)]].concat());
    let certificate = &answer["data"]["certificate"];
    assert_eq!(certificate["reasons"], json!(["OPERATION_NOT_ALLOWED", "STATUS_DRIFT"]), "{answer}");
    assert_eq!(server.hits().total(), 0, "nothing was said to who is not trusted");
    let (_, answer) = shop.at(&url, "right.json", &[&CREATE[..], &["--upstream-ca", path(&ca)]].concat());
    let certificate = &answer["data"]["certificate"];
    assert_eq!(certificate["reasons"], json!(["OPERATION_NOT_ALLOWED"]), "{answer}");
    assert_eq!(
        (&certificate["counts"]["matched"], &certificate["live"]["upstream"]),
        (&json!(1), &json!(url))
    );
    shop.holds("right.json");
}
