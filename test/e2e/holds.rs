//! Calls that wait for people: held, decided, released once, and proven by their bundle.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_evidence::entry::{ApprovalDecision, ApprovalStatement};
use estoppel_evidence::envelope::base64;
use estoppel_evidence::{Signer as _, SoftKey};
use estoppel_kit::http::{Answer, Peer, Request, get, post};
use estoppel_kit::{Scratch, require_real};
use estoppel_stub::{Reply, Script};
use serde_json::{Value, json};

use crate::authority::Authority;
use crate::client::{self, read, run, speak_http2};
use crate::support::{PATIENCE, Setup, World, cli, path};

const LARGE: &str = r#"{"amount":90000,"to":"ACME"}"#;
const SMALL: &str = r#"{"amount":9,"to":"ACME"}"#;
const NAMES: [&str; 4] = ["ada", "bob", "cem", "eve"];

fn key(name: &str) -> SoftKey {
    let seed = NAMES.iter().position(|known| *known == name).unwrap() as u8 + 1;
    SoftKey::ed25519(&[seed; 32])
}

pub(crate) fn spki(name: &str) -> String {
    base64(key(name).public().spki())
}

/// Three people, of whom the rule asks; Bob calls as `bob.test` himself, and Eve is none of them.
pub fn policy(hold: &str, more: &str) -> String {
    format!(
        "version: 1\nname: held\ndefaults: {{ verdict: allow, on_not_evaluated: allow, body_storage: hmac }}\n\
         approvers:\n  ada: {}\n  bob: {{ key: {}, identity: bob.test }}\n  cem: {}\nrules:\n{more}\
         - id: large-transfer\n  when: {{ method: POST, body: [{{ at: /amount, greater_than: 1000 }}] }}\n  verdict: hold\n  hold: {{ {hold} }}\n",
        spki("ada"),
        spki("bob"),
        spki("cem"),
    )
}

fn setup(hold: &str) -> Setup {
    Setup { policy: policy(hold, ""), ..Setup::default() }
}

fn script() -> Script {
    Script::always(Reply::json(r#"{"done":true}"#))
}

fn transfer(body: &str) -> Request {
    Request::new("POST", "/transfers")
        .header("content-type", "application/json")
        .header("estoppel-run", "held")
        .body(body)
}

pub fn again(hold: &str, body: &str) -> Request {
    transfer(body).header("estoppel-hold", hold)
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    format!("{} {}", answer.status(), body["code"].as_str().unwrap_or("-"))
}

pub struct People {
    admin: String,
    scratch: Scratch,
}

impl People {
    pub fn new(world: &World) -> Self {
        let scratch = Scratch::new("people");
        for name in NAMES {
            let file = scratch.write(format!("{name}.pem"), key(name).to_pem().unwrap().as_bytes());
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { admin: world.admin.to_string(), scratch }
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.scratch.join(format!("{name}.pem"))
    }

    /// Exit code, and the code of what is wrong or the hold's state.
    pub fn decide(&self, verb: &str, hold: &str, name: &str) -> (i32, String) {
        let (exit, said) = cli(&[
            "hold",
            verb,
            hold,
            "--key",
            path(&self.key(name)),
            "--comment",
            "by phone",
            "--admin",
            &self.admin,
        ]);
        let word = said["error"]["code"].as_str().or(said["data"]["state"].as_str());
        (exit, word.unwrap_or_default().to_owned())
    }
}

pub fn check(found: (i32, String), exit: i32, word: &str) {
    assert_eq!((found.0, found.1.as_str()), (exit, word));
}

/// Sends a call that is held, and gives the hold's id.
pub fn held(world: &World, body: &str) -> String {
    held_with(world, transfer(body))
}

fn held_with(world: &World, call: Request) -> String {
    let answer = world.send(&call);
    assert_eq!(code(&answer), "202 APPROVAL_REQUIRED", "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    let hold = answer.header("estoppel-hold").unwrap().to_owned();
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&said["hold"]["id"], &said["retryable"]), (&json!(hold), &json!(true)));
    hold
}

fn passes(world: &World, hold: &str, body: &str) {
    let answer = world.send(&again(hold, body));
    assert_eq!((answer.status(), answer.text().as_str()), (200, r#"{"done":true}"#));
}

pub fn show(world: &World, hold: &str) -> Value {
    let (exit, said) = cli(&["hold", "show", hold, "--admin", &world.admin.to_string()]);
    assert_eq!(exit, 0, "{said}");
    said["data"].clone()
}

pub fn entries(bundle: &Path, kind: &str) -> Vec<Value> {
    let shown = cli(&["show", path(bundle)]).1;
    let all = shown["data"]["entries"].as_array().unwrap().clone();
    all.into_iter().filter(|entry| entry["kind"] == kind).collect()
}

/// Seals the run and has three verifiers judge it.
pub fn sealed(world: &World) -> (PathBuf, Vec<Value>) {
    world.wait_until_idle();
    let bundle = world.seal("held");
    let receipts = world.receipts_in(&bundle);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/verifiers");
    let trust = world.journal().join("trust.json");
    for (tool, program) in [("python3", "python/pef_verify.py"), ("node", "javascript/pef-verify.mjs")] {
        let Some(tool) = require_real(tool) else { continue };
        let mut command = Command::new(tool);
        command.arg(root.join(program)).args(["--json", "--trust"]).args([&trust, &bundle]);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stdout));
    }
    (bundle, receipts)
}

#[test]
fn a_held_call_passes_once_and_only_as_it_was_approved() {
    let world = World::with(script(), &setup("approvers: [ada]"));
    let people = People::new(&world);
    assert_eq!(world.send(&transfer(SMALL)).status(), 200);
    let hold = held(&world, LARGE);
    assert_eq!(world.upstream.hits().total(), 1, "only the small one");
    assert_eq!(code(&world.send(&again(&hold, LARGE))), "202 APPROVAL_REQUIRED");
    let shown = show(&world, &hold);
    assert_eq!(
        (&shown["state"], &shown["method"], &shown["body"]),
        (&json!("open"), &json!("POST"), &Value::Null)
    );
    let ada = people.key("ada");
    let other =
        ["hold", "approve", &hold, "--key", path(&ada), "--payload", "other", "--admin", &people.admin];
    let (exit, said) = cli(&other);
    assert_eq!((exit, &said["error"]["code"]), (4, &json!("HOLD_PAYLOAD")));
    check(people.decide("approve", &hold, "ada"), 0, "approved");
    let changed = LARGE.replace("ACME", "EVIL");
    assert_eq!(code(&world.send(&again(&hold, &changed))), "409 HOLD_PAYLOAD");
    let elsewhere = Request::new("POST", "/transfers?twice").header("estoppel-hold", &hold);
    let elsewhere = elsewhere.header("content-type", "application/json").body(LARGE);
    assert_eq!(code(&world.send(&elsewhere)), "409 HOLD_PAYLOAD");
    passes(&world, &hold, LARGE);
    assert_eq!(code(&world.send(&again(&hold, LARGE))), "409 HOLD_CLOSED");
    assert_eq!(world.upstream.hits().total(), 2, "the small one and the approved one");
    check(people.decide("deny", &hold, "ada"), 4, "HOLD_CLOSED");
    assert_eq!(code(&world.send(&again("01980000-0000-7000-8000-000000000000", LARGE))), "404 HOLD_UNKNOWN");
    assert_eq!(code(&world.send(&again("nonsense", LARGE))), "404 HOLD_UNKNOWN");
    let metric =
        |outcome| world.metric(&format!("estoppel_holds_total{{outcome=\"{outcome}\",route=\"stub\"}}"));
    assert_eq!((metric("opened"), metric("released")), (Some(1.0), Some(1.0)));
    assert_eq!(world.metric("estoppel_holds_open"), Some(0.0));
    let (bundle, receipts) = sealed(&world);
    let actions: Vec<&str> = receipts.iter().map(|r| r["verdict"]["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["allow", "hold", "hold", "block", "allow", "block", "block", "block"]);
    let released = &receipts[4];
    let (opened, decided) = (&entries(&bundle, "hold")[0], &entries(&bundle, "approval")[0]);
    assert_eq!(released["hold"]["outcome"], "approved");
    assert_eq!(released["approval"]["hold"], json!(hold));
    assert_eq!(released["approval"]["approved"], json!([key("ada").public().id()]));
    assert_eq!((&released["request"]["tag"], &opened["payload"]), (&opened["payload"], &shown["payload"]));
    assert_eq!((&decided["by"], &decided["comment"]), (&json!("ada"), &json!("by phone")));
}

#[test]
fn a_held_call_names_no_other_operation_in_a_header() {
    let world = World::with(script(), &setup("approvers: [ada]"));
    let people = People::new(&world);
    for header in ["x-http-method-override", "X_Original_URL"] {
        let answer = world.send(&transfer(LARGE).header(header, "/elsewhere"));
        assert_eq!(code(&answer), "403 OPERATION_DENIED", "{header}");
    }
    let hold = held(&world, LARGE);
    check(people.decide("approve", &hold, "ada"), 0, "approved");
    let other = again(&hold, LARGE).header("x-http-method-override", "DELETE");
    assert_eq!(code(&world.send(&other)), "403 OPERATION_DENIED");
    assert_eq!(world.upstream.hits().total(), 0);
    passes(&world, &hold, LARGE);
    let (_, receipts) = sealed(&world);
    let actions: Vec<&str> = receipts.iter().map(|r| r["verdict"]["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["block", "block", "hold", "block", "allow"]);
}

#[test]
fn approvers_see_where_a_held_call_goes_and_it_comes_again_so() {
    let rule = "- { id: gone, when: { method: DELETE }, verdict: hold, hold: { approvers: [ada] } }\n";
    let world =
        World::with(script(), &Setup { policy: policy("approvers: [ada]", rule), ..Setup::default() });
    let call = || {
        Request::new("DELETE", "/users/7?token=s3cret-in-the-path")
            .header("estoppel-run", "held")
            .header("mcp-session-id", "one")
    };
    let token = |request: Request, token| request.header("authorization", token);
    let typed = |request: Request| request.header("content-type", "application/json");
    let hold = held_with(&world, typed(token(call(), "Bearer s3cret-token")));
    let shown = show(&world, &hold);
    assert_eq!(shown["target"], "/users/7?token=s3cret-in-the-path");
    assert_eq!((&shown["content_type"], &shown["credential"]), (&json!("application/json"), &json!(true)));
    assert!(!shown.to_string().contains("s3cret-token"));
    let list = cli(&["hold", "list", "--admin", &world.admin.to_string()]).1;
    assert!(!list.to_string().contains("s3cret"), "{list}");
    check(People::new(&world).decide("approve", &hold, "ada"), 0, "approved");
    let again = |request: Request| code(&world.send(&request.header("estoppel-hold", &hold)));
    assert_eq!(again(typed(token(call(), "Bearer other"))), "409 HOLD_PAYLOAD");
    assert_eq!(again(typed(call())), "409 HOLD_PAYLOAD");
    assert_eq!(again(token(call(), "Bearer s3cret-token")), "409 HOLD_PAYLOAD");
    let elsewhere =
        Request::new("DELETE", "/users/7?token=s3cret-in-the-path").header("mcp-session-id", "two");
    assert_eq!(again(typed(token(elsewhere, "Bearer s3cret-token"))), "409 HOLD_PAYLOAD");
    assert_eq!(world.upstream.hits().total(), 0);
    assert_eq!(again(typed(token(call(), "Bearer s3cret-token"))), "200 -");
    let shown = show(&world, &hold);
    assert_eq!((&shown["target"], &shown["credential"]), (&Value::Null, &Value::Null), "it is over");
    let (bundle, _) = sealed(&world);
    let kept = std::fs::read_dir(world.journal().join("segments")).into_iter().flatten();
    let mut files: Vec<PathBuf> = kept.map(|entry| entry.unwrap().path()).collect();
    files.push(bundle);
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"s3cret"), "{}", file.display());
    }
}

#[test]
fn one_denial_ends_a_hold_even_after_it_was_approved() {
    let world = World::with(script(), &setup("approvers: [ada, cem]"));
    let people = People::new(&world);
    let hold = held(&world, LARGE);
    check(people.decide("approve", &hold, "ada"), 0, "approved");
    check(people.decide("approve", &hold, "cem"), 4, "HOLD_DECIDED");
    check(people.decide("deny", &hold, "cem"), 0, "denied");
    assert_eq!(code(&world.send(&again(&hold, LARGE))), "403 HOLD_DENIED");
    check(people.decide("approve", &hold, "ada"), 4, "HOLD_DENIED");
    assert_eq!(world.upstream.hits().total(), 0);
    let (bundle, receipts) = sealed(&world);
    assert_eq!(receipts[1]["hold"]["outcome"], "denied");
    assert_eq!(entries(&bundle, "approval").len(), 2);
}

#[test]
fn a_hold_that_nobody_decides_expires() {
    let world = World::with(script(), &setup("approvers: [ada], ttl_ms: 1000"));
    let people = People::new(&world);
    let hold = held(&world, LARGE);
    estoppel_kit::until("the hold's end", PATIENCE, || {
        (code(&world.send(&again(&hold, LARGE))) == "403 HOLD_EXPIRED").then_some(())
    });
    check(people.decide("approve", &hold, "ada"), 4, "HOLD_EXPIRED");
    assert_eq!(world.upstream.hits().total(), 0);
    let (_, receipts) = sealed(&world);
    assert_eq!(receipts.last().unwrap()["hold"]["outcome"], "expired");
}

#[test]
fn two_of_three_different_people_have_to_approve() {
    let world = World::with(script(), &setup("approvers: [ada, bob, cem], needs: 2"));
    let people = People::new(&world);
    let hold = held(&world, LARGE);
    check(people.decide("approve", &hold, "ada"), 0, "open");
    check(people.decide("approve", &hold, "ada"), 4, "HOLD_DECIDED");
    check(people.decide("approve", &hold, "eve"), 4, "DECISION_INVALID");
    assert_eq!(code(&world.send(&again(&hold, LARGE))), "202 APPROVAL_REQUIRED");
    check(people.decide("approve", &hold, "cem"), 0, "approved");
    passes(&world, &hold, LARGE);
    let (_, receipts) = sealed(&world);
    assert_eq!(receipts[2]["approval"]["approved"].as_array().unwrap().len(), 2);
}

#[test]
fn the_admin_listener_takes_no_decision_that_was_not_signed_so() {
    let world = World::with(script(), &setup("approvers: [ada, cem], needs: 2"));
    let hold = held(&world, LARGE);
    let shown = show(&world, &hold);
    let member = |name: &str| shown[name].clone();
    let statement: ApprovalStatement = serde_json::from_value(json!({
        "decision": "approve", "expires": member("expires"), "hold": member("id"), "iss": member("iss"),
        "nonce": "0".repeat(32), "payload": member("payload"), "policy": member("policy"), "run": member("run"),
    }))
    .unwrap();
    let tell = |signer: &str, stated: &ApprovalStatement, signed: &ApprovalStatement| {
        let signature = base64(&key(signer).sign(&signed.message()).unwrap());
        let document = json!({ "signature": signature, "spki": spki("ada"), "statement": stated });
        code(&post(world.admin, &format!("/holds/{hold}/decisions"), document.to_string()).unwrap())
    };
    let other = |change: &dyn Fn(&mut ApprovalStatement)| {
        let mut statement = statement.clone();
        change(&mut statement);
        statement
    };
    assert_eq!(tell("eve", &statement, &statement), "403 DECISION_INVALID", "another key signed");
    let denied = other(&|s| s.decision = ApprovalDecision::Deny);
    assert_eq!(tell("ada", &statement, &denied), "403 DECISION_INVALID", "something else was signed");
    let changes: [&dyn Fn(&mut ApprovalStatement); 6] = [
        &|s| s.by = Some("cem".into()),
        &|s| s.comment = Some("x".repeat(257)),
        &|s| s.nonce = "0".repeat(31),
        &|s| s.expires.0 += 1,
        &|s| s.policy.0[0] ^= 1,
        &|s| s.iss = "localhost/other/1".parse().unwrap(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let wrong = other(change);
        assert_eq!(tell("ada", &wrong, &wrong), "403 DECISION_INVALID", "{number}");
    }
    let page = format!("/holds/{hold}/decisions");
    assert_eq!(code(&post(world.admin, &page, "{}").unwrap()), "400 REQUEST_INVALID");
    assert_eq!(code(&post(world.admin, &page, "x".repeat(20_000)).unwrap()), "413 REQUEST_BYTES_MAX");
    assert_eq!(show(&world, &hold)["approved"], 0);
    assert_eq!(tell("ada", &statement, &statement), "200 -");
    assert_eq!(show(&world, &hold)["approved"], 1);
    let entries = get(world.admin, "/holds").unwrap().text();
    assert!(!entries.contains("signature"), "{entries}");
    sealed_after_denial(&world, &hold);
}

fn sealed_after_denial(world: &World, hold: &str) {
    check(People::new(world).decide("deny", hold, "cem"), 0, "denied");
    sealed(world);
}

#[test]
fn nobody_approves_a_call_of_their_own() {
    let (authority, clients, pki) = (Authority::new(), Authority::new(), Scratch::new("pki"));
    let ca = clients.write(&pki, "clients.crt");
    let listener = format!("tls = {{ {}, client_ca = {ca:?} }}\n", authority.server().toml(&pki, "listener"));
    let world = World::with(script(), &Setup { listener, ..setup("approvers: [ada, bob], needs: 1") });
    let leaf = clients.issue(&["bob.test"]);
    let got = run(async {
        let stream = client::tls(world.gateway, authority.client(&["h2"], Some(&leaf))).await.unwrap();
        let request =
            client::request("POST", "/transfers", "held").header("content-type", "application/json");
        let request = request.body(LARGE.to_owned().into()).unwrap();
        read(speak_http2(stream).await.send_request(request).await.unwrap()).await
    });
    assert_eq!(got.status, 202, "{}", got.text());
    let hold = got.header("estoppel-hold").unwrap();
    let people = People::new(&world);
    assert_eq!(show(&world, hold)["requester"], "bob.test");
    check(people.decide("approve", hold, "bob"), 4, "DECISION_INVALID");
    check(people.decide("approve", hold, "ada"), 0, "approved");
}

#[test]
fn a_hold_is_of_the_policy_that_made_it() {
    let mut world = World::with(script(), &setup("approvers: [ada]"));
    let people = People::new(&world);
    let hold = held(&world, LARGE);
    check(people.decide("approve", &hold, "ada"), 0, "approved");
    world.scratch.write("policy.yaml", policy("approvers: [ada], ttl_ms: 60000", ""));
    world.daemon.hang_up();
    estoppel_kit::until("the new policy", PATIENCE, || {
        world.metric("estoppel_reloads_total{result=\"ok\"}").filter(|reloads| *reloads > 0.0)
    });
    assert_eq!(code(&world.send(&again(&hold, LARGE))), "409 HOLD_POLICY");
    assert_eq!(world.upstream.hits().total(), 0);
    check(people.decide("deny", &hold, "ada"), 4, "HOLD_DECIDED");
}

#[test]
fn what_enough_had_approved_when_the_daemon_was_killed_is_never_released() {
    let mut world = World::with(script(), &setup("approvers: [ada]"));
    let (approved, used) = (held(&world, LARGE), held(&world, LARGE));
    let people = People::new(&world);
    check(people.decide("approve", &approved, "ada"), 0, "approved");
    check(people.decide("approve", &used, "ada"), 0, "approved");
    passes(&world, &used, LARGE);
    world.daemon.kill_9();
    world.check_journal();
    world.restart();
    assert_eq!(code(&world.send(&again(&approved, LARGE))), "409 HOLD_CLOSED");
    let after = code(&world.send(&again(&used, LARGE)));
    assert!(["404 HOLD_UNKNOWN", "409 HOLD_CLOSED"].contains(&after.as_str()), "{after}");
    assert_eq!(world.upstream.hits().total(), 1);
    world.stop();
    world.check_journal();
}

#[test]
fn what_waited_when_the_daemon_was_killed_waits_on_and_passes_once() {
    let mut world = World::with(script(), &setup("approvers: [ada, bob, cem], needs: 2"));
    let hold = held(&world, LARGE);
    let denied = held(&world, LARGE);
    check(People::new(&world).decide("approve", &hold, "ada"), 0, "open");
    check(People::new(&world).decide("deny", &denied, "bob"), 0, "denied");
    world.daemon.kill_9();
    world.check_journal();
    world.restart();
    let people = People::new(&world);
    let said = show(&world, &hold);
    assert_eq!((&said["state"], &said["approved"], &said["body"]), (&json!("open"), &json!(1), &Value::Null));
    assert_eq!(code(&world.send(&again(&hold, LARGE))), "202 APPROVAL_REQUIRED");
    assert_eq!(code(&world.send(&again(&hold, SMALL.replace('9', "8000").as_str()))), "409 HOLD_PAYLOAD");
    assert_eq!(code(&world.send(&again(&denied, LARGE))), "404 HOLD_UNKNOWN");
    check(people.decide("approve", &hold, "ada"), 4, "HOLD_DECIDED");
    check(people.decide("approve", &hold, "cem"), 0, "approved");
    passes(&world, &hold, LARGE);
    assert_eq!(code(&world.send(&again(&hold, LARGE))), "409 HOLD_CLOSED");
    assert_eq!(world.upstream.hits().total(), 1);
    let (bundle, _) = sealed(&world);
    assert_eq!(entries(&bundle, "approval").len(), 3);
    assert_eq!(world.metric("estoppel_holds_open"), Some(0.0));
}

#[test]
fn a_hold_that_a_planned_restart_finds_expired_or_under_another_policy_is_not_released() {
    let mut world = World::with(script(), &setup("approvers: [ada], ttl_ms: 1000"));
    let expired = held(&world, LARGE);
    world.stop();
    world.restart();
    estoppel_kit::until("the end of the hold", PATIENCE, || {
        (code(&world.send(&again(&expired, LARGE))) == "403 HOLD_EXPIRED").then_some(())
    });
    world.scratch.write("policy.yaml", policy("approvers: [ada]", ""));
    world.stop();
    world.restart();
    let hold = held(&world, LARGE);
    world.stop();
    world.scratch.write("policy.yaml", policy("approvers: [ada], ttl_ms: 60000", ""));
    world.restart();
    assert_eq!(code(&world.send(&again(&hold, LARGE))), "409 HOLD_POLICY");
    check(People::new(&world).decide("approve", &hold, "ada"), 4, "DECISION_INVALID");
    assert_eq!(world.upstream.hits().total(), 0);
}

/// A call that waits, sent and not yet answered, and its hold.
fn waiting(world: &World) -> (Peer, String) {
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&transfer(LARGE).wire("gateway.test")).unwrap();
    let hold = estoppel_kit::until("a hold", PATIENCE, || {
        let said = cli(&["hold", "list", "--admin", &world.admin.to_string()]).1;
        let first = said["data"]["holds"].get(0)?;
        (first["state"] == "open").then(|| first["id"].as_str().unwrap().to_owned())
    });
    (peer, hold)
}

#[test]
fn a_client_that_waits_gets_its_answer_with_the_approval_or_the_denial() {
    let world = World::with(script(), &setup("approvers: [ada], mode: wait"));
    let people = People::new(&world);
    for (verb, state, expected) in [("approve", "approved", "200 -"), ("deny", "denied", "403 HOLD_DENIED")] {
        let (mut peer, hold) = waiting(&world);
        let (exit, said) = people.decide(verb, &hold, "ada");
        assert!(exit == 0 && (said == state || said == "released"), "{exit} {said}");
        assert_eq!(code(&peer.read_answer().unwrap()), expected);
    }
    assert_eq!(world.upstream.hits().total(), 1);
    let (bundle, receipts) = sealed(&world);
    assert_eq!(receipts.len(), 2, "one for each call");
    assert_eq!(
        (&receipts[0]["hold"]["outcome"], &receipts[1]["hold"]["outcome"]),
        (&json!("approved"), &json!("denied"))
    );
    assert_eq!(receipts[0]["call"], entries(&bundle, "hold")[0]["call"]);
    assert!(receipts[0]["approval"].is_object() && receipts[1]["approval"].is_null());
}

#[test]
fn a_client_that_waits_does_not_pass_under_a_policy_that_is_gone() {
    let mut world = World::with(script(), &setup("approvers: [ada], mode: wait"));
    let people = People::new(&world);
    let (mut peer, hold) = waiting(&world);
    world.scratch.write("policy.yaml", policy("approvers: [ada], mode: wait, ttl_ms: 60000", ""));
    world.daemon.hang_up();
    estoppel_kit::until("the new policy", PATIENCE, || {
        world.metric("estoppel_reloads_total{result=\"ok\"}").filter(|reloads| *reloads > 0.0)
    });
    let (exit, said) = people.decide("approve", &hold, "ada");
    assert!(exit == 0 && ["approved", "abandoned"].contains(&said.as_str()), "{exit} {said}");
    assert_eq!(code(&peer.read_answer().unwrap()), "409 HOLD_POLICY");
    assert_eq!(world.upstream.hits().total(), 0);
    sealed(&world);
}

#[test]
fn a_client_that_leaves_while_it_waits_ends_its_hold() {
    let mut world = World::with(script(), &setup("approvers: [ada], mode: wait"));
    let people = People::new(&world);
    let (peer, hold) = waiting(&world);
    peer.reset().unwrap();
    estoppel_kit::until("the hold's end", PATIENCE, || {
        (show(&world, &hold)["state"] == "abandoned").then_some(())
    });
    check(people.decide("approve", &hold, "ada"), 4, "HOLD_CLOSED");
    let (_, receipts) = sealed(&world);
    assert_eq!(receipts[0]["verdict"]["action"], "hold");
    assert_eq!(receipts[0]["outcome"]["code"], "CLIENT_GONE");
    let (mut peer, _) = waiting(&world);
    world.stop();
    assert_eq!(code(&peer.read_answer().unwrap()), "503 SHUTDOWN");
    assert_eq!(world.upstream.hits().total(), 0);
    world.check_journal();
}

#[test]
fn a_block_outranks_a_hold_and_two_rules_never_hold_one_call() {
    let tools = |names: &[&str]| {
        let tools = names.iter().map(|name| json!({ "type": "function", "function": { "name": name } }));
        json!({ "model": "m", "messages": [], "tools": tools.collect::<Vec<_>>() }).to_string()
    };
    let rule = |id: &str, tool: &str| {
        format!("- {{ id: {id}, when: {{ tool: {tool} }}, verdict: hold, hold: {{ approvers: [ada] }} }}\n")
    };
    let more = format!(
        "{}{}- {{ id: no-shell, when: {{ tool: shell }}, verdict: block, reason: TOOL_DENIED }}\n",
        rule("one", "transfer"),
        rule("two", "wire"),
    );
    let world = World::with(
        Script::model(),
        &Setup { policy: policy("approvers: [ada]", &more), ..Setup::default() },
    );
    let ask = |names: &[&str]| world.send(&crate::support::chat("held", &tools(names)));
    let error = |answer: &Answer| {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        (
            answer.status(),
            body["error"]["code"].as_str().unwrap().to_owned(),
            answer.header("estoppel-hold").is_some(),
        )
    };
    assert_eq!(error(&ask(&["transfer", "shell"])), (403, "TOOL_DENIED".into(), false));
    assert_eq!(error(&ask(&["transfer", "wire"])), (403, "APPROVAL_REQUIRED".into(), false));
    let held = ask(&["transfer", "search"]);
    assert_eq!(
        error(&held),
        (403, "APPROVAL_REQUIRED".into(), true),
        "a model's client takes any 2xx for an answer"
    );
    let hold = held.header("estoppel-hold").unwrap();
    check(People::new(&world).decide("approve", hold, "ada"), 0, "approved");
    let again = crate::support::chat("held", &tools(&["transfer", "search"])).header("estoppel-hold", hold);
    assert_eq!(world.send(&again).status(), 200);
    sealed(&world);
}

#[test]
fn a_stored_body_is_shown_and_one_of_which_nothing_is_kept_cannot_be_held() {
    let full = policy("approvers: [ada]", "")
        .replace("body_storage: hmac", "body_storage: { full: { reason: audit } }");
    let world = World::with(script(), &Setup { policy: full, ..Setup::default() });
    let hold = held(&world, LARGE);
    assert_eq!(show(&world, &hold)["body"], LARGE);
    check(People::new(&world).decide("approve", &hold, "ada"), 0, "approved");
    passes(&world, &hold, LARGE);
    let (_, receipts) = sealed(&world);
    assert_eq!(receipts[0]["request"]["sha256"], receipts[1]["request"]["sha256"]);
    let scratch = Scratch::new("none");
    let none = policy("approvers: [ada]", "").replace("body_storage: hmac", "body_storage: none");
    let file = scratch.write("policy.yaml", none);
    let (exit, said) = cli(&["policy", "lint", path(&file)]);
    assert_eq!((exit, &said["error"]["code"]), (6, &json!("POLICY_UNENFORCEABLE")), "{said}");
}

#[test]
fn more_calls_than_may_wait_are_turned_away() {
    let config = "[server]\nholds_max = 1\n".to_owned();
    let world = World::with(script(), &Setup { config, ..setup("approvers: [ada]") });
    let hold = held(&world, LARGE);
    assert_eq!(code(&world.send(&transfer(LARGE))), "503 HOLDS_MAX");
    check(People::new(&world).decide("deny", &hold, "ada"), 0, "denied");
    held(&world, LARGE);
}

#[test]
fn a_held_call_that_brings_a_key_is_approved_once_and_done_once() {
    let keyed = "controls:\n- { id: once, kind: idempotency, when: {}, seconds: 60 }\n";
    let setup = Setup { policy: policy("approvers: [ada]", "") + keyed, ..Setup::default() };
    let world = World::with(script(), &setup);
    let people = People::new(&world);
    let keyed = |request: Request| request.header("idempotency-key", "k");
    let hold = held_with(&world, keyed(transfer(LARGE)));
    // Its key is free as long as it waits.
    let other = held_with(&world, keyed(transfer(LARGE)));
    check(people.decide("deny", &other, "ada"), 0, "denied");
    check(people.decide("approve", &hold, "ada"), 0, "approved");
    let first = world.send(&keyed(again(&hold, LARGE)));
    assert_eq!((first.status(), first.header("idempotency-replayed")), (200, None));
    let repeated = world.send(&keyed(transfer(LARGE)));
    assert_eq!((repeated.status(), repeated.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(repeated.body, first.body);
    assert_eq!(world.upstream.hits().total(), 1);
    let (_, receipts) = sealed(&world);
    let last = receipts.last().unwrap();
    assert_eq!(
        (&last["idempotency"]["decision"], &last["verdict"]["action"]),
        (&json!("stored"), &json!("allow"))
    );
}
