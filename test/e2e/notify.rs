//! Who is told of held calls and the like: signed webhooks, and channels of a chat.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use estoppel_evidence::SoftKey;
use estoppel_evidence::envelope::base64;
use estoppel_kit::http::Request;
use estoppel_kit::{Collector, Delivered, Reaction, Scratch, until};
use estoppel_stub::{Reply, Script};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, World, cli, daemon_binary};

const SECRET: [u8; 32] = [0x5a; 32];
/// As the path of Slack's webhooks, which is all that keeps others from writing there.
const HUSH: &str = "/services/T000/B000/hush-hush";

fn policy() -> String {
    let ada = base64(estoppel_evidence::Signer::public(&SoftKey::ed25519(&[1; 32])).spki());
    format!(
        "version: 1\nname: told\ndefaults: {{ verdict: allow, on_not_evaluated: allow }}\napprovers: {{ ada: {ada} }}\nrules:\n\
         - {{ id: large, when: {{ method: POST, body: [{{ at: /amount, greater_than: 1000 }}] }}, verdict: hold, hold: {{ approvers: [ada] }} }}\n\
         - {{ id: no-puts, when: {{ method: PUT }}, verdict: block, reason: OPERATION_DENIED }}\n"
    )
}

fn world(feeds: &str) -> World {
    let script = Script::always(Reply::json(r#"{"done":true}"#));
    World::with(script, &Setup { policy: policy(), config: feeds.into(), ..Setup::default() })
}

fn feed(name: &str, events: &str, to: &str) -> String {
    format!(
        "[[feeds]]\nname = \"{name}\"\nformat = \"notice\"\n{events}linger_ms = 5\nretry_min_ms = 1\nretry_max_ms = 20\n\
         to = {{ {to} }}\n\n"
    )
}

fn private(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
    let file = scratch.write(name, text);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn webhook(collector: &Collector, secret: &Path) -> String {
    format!("webhook = {{ url = \"http://{}/events\", secret_file = {secret:?} }}", collector.addr)
}

fn transfer(method: &str, amount: u32) -> Request {
    Request::new(method, "/transfers")
        .header("content-type", "application/json")
        .body(format!("{{\"amount\":{amount}}}"))
}

/// Sends a call that is held, and gives the hold's id.
fn held(world: &World) -> String {
    let answer = world.send(&transfer("POST", 9_000));
    assert_eq!(answer.status(), 202, "{}", answer.text());
    answer.header("estoppel-hold").unwrap().to_owned()
}

fn notices(collector: &Collector) -> Vec<Value> {
    collector.taken().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

/// Standard Webhooks, by another's HMAC.
fn check_signature(request: &Delivered) {
    let scratch = Scratch::new("signed");
    let head = |name: &str| request.header(name).unwrap();
    assert_eq!(head("user-agent"), concat!("estoppeld/", env!("CARGO_PKG_VERSION")));
    let mut message = format!("{}.{}.", head("webhook-id"), head("webhook-timestamp")).into_bytes();
    message.extend_from_slice(&request.body);
    let file = scratch.write("message", &message);
    let key: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
    let done = Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{key}"), "-binary"])
        .arg(file)
        .output()
        .unwrap();
    assert_eq!(head("webhook-signature"), format!("v1,{}", STANDARD.encode(done.stdout)));
}

#[test]
fn a_held_call_is_told_with_a_signature_and_under_one_id_also_after_a_kill() {
    let (open, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (gate, count) = (open.clone(), tries.clone());
    let ids: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let seen = ids.clone();
    let collector = Collector::start(move |_, request| {
        count.fetch_add(1, Ordering::SeqCst);
        seen.lock().unwrap().push(request.header("webhook-id").unwrap().to_owned());
        Reaction::status(if gate.load(Ordering::SeqCst) { 204 } else { 503 })
    })
    .unwrap();
    let scratch = Scratch::new("webhook");
    let secret = private(&scratch, "secret", &format!("whsec_{}\n", STANDARD.encode(SECRET)));
    let mut world = world(&feed("pager", "events = [\"hold\"]\n", &webhook(&collector, &secret)));
    assert_eq!(world.send(&transfer("POST", 1)).status(), 200);
    let hold = held(&world);
    until("refused tries", PATIENCE, || (tries.load(Ordering::SeqCst) > 2).then_some(()));
    world.daemon.kill_9();
    open.store(true, Ordering::SeqCst);
    world.restart();
    let told = until("the notice", PATIENCE, || Some(notices(&collector)).filter(|told| !told.is_empty()));
    assert_eq!((told[0]["type"].as_str(), &told[0]["data"]["hold"]["id"]), (Some("hold"), &json!(hold)));
    assert_eq!(told[0]["data"]["rule"], Value::Null, "a hold names its rule itself");
    assert_eq!(told[0]["data"]["hold"]["rule"], "large");
    assert!(told[0]["data"]["message"].as_str().unwrap().contains(&format!("estoppel hold show {hold}")));
    assert!(told.iter().all(|notice| notice["type"] == "hold"), "{told:?}");
    let ids = ids.lock().unwrap().clone();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    collector.taken().iter().for_each(check_signature);
}

#[test]
fn a_channel_is_told_of_holds_blocks_and_kill_switches_and_its_url_is_nowhere() {
    let collector = Collector::start(|number, _| match number {
        0 => Reaction::Answer(429, vec![("retry-after", "0".into())], "slow down".into()),
        1 => Reaction::status(403),
        2 => Reaction::Hang,
        _ => Reaction::Answer(200, Vec::new(), "ok".into()),
    })
    .unwrap();
    let url = format!("http://{}{HUSH}", collector.addr);
    let mut world = world(&feed(
        "chat",
        "events = [\"hold\", \"block\", \"act\"]\n",
        &format!("slack = {{ url = {url:?} }}"),
    ));
    let hold = held(&world);
    assert_eq!(world.send(&transfer("PUT", 1)).status(), 403);
    let admin = world.admin.to_string();
    let killed = cli(&["kill", "all", "--by", "ada", "--reason", "drill", "--admin", &admin]);
    assert_eq!(killed.0, 0, "{}", killed.1);
    let lines = || -> Vec<String> {
        let texts =
            notices(&collector).into_iter().map(|message| message["text"].as_str().unwrap().to_owned());
        texts.flat_map(|text| text.lines().map(ToOwned::to_owned).collect::<Vec<_>>()).collect()
    };
    let told = until("three lines", PATIENCE, || Some(lines()).filter(|lines| lines.len() >= 3));
    assert!(told[0].contains("waits for approval") && told[0].contains(&hold), "{told:?}");
    assert!(told[1].contains("blocked") && told[1].contains("rule no-puts"), "{told:?}");
    assert!(told[2].contains("kill") && told[2].contains("ada"), "{told:?}");
    assert_eq!(collector.taken()[0].line, format!("POST {HUSH} HTTP/1.1"));
    let metrics = estoppel_kit::http::get(world.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("estoppel_feed_failures_total{feed=\"chat\"} 3"), "{metrics}");
    world.stop();
    assert!(!metrics.contains("hush") && !world.daemon.stderr().contains("hush"));
}

#[test]
fn what_cannot_be_told_is_refused_before_the_start_without_the_secret_in_the_words() {
    let world = world("");
    let config = world.scratch.join("estoppeld.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let loose = world.scratch.write("loose", format!("https://hooks.example{HUSH}"));
    std::fs::set_permissions(&loose, std::fs::Permissions::from_mode(0o644)).unwrap();
    let short = private(&world.scratch, "short", "whsec_aHVzaA==");
    let wrong = private(&world.scratch, "wrong", &format!("hooks.example{HUSH}"));
    let url = format!("url = \"https://hooks.example{HUSH}\"");
    for (to, said) in [
        (format!("slack = {{ {url}, colour = 1 }}"), "feeds[0].to.slack.colour"),
        (format!("slack = {{ url = \"hooks.example{HUSH} x\" }}"), "feeds[0].to.slack: `url` is not a URL"),
        (format!("slack = {{ url_file = {loose:?} }}"), "others can read"),
        (format!("slack = {{ url_file = {wrong:?} }}"), "is not a URL"),
        (format!("slack = {{ {url}, secret_file = {short:?} }}"), "nothing to sign"),
        (format!("webhook = {{ {url} }}"), "must have a `secret_file`"),
        (format!("webhook = {{ {url}, secret_file = {short:?} }}"), "it is not `whsec_`"),
    ] {
        std::fs::write(&config, format!("{text}{}", feed("x", "", &to))).unwrap();
        let done = Command::new(daemon_binary())
            .arg("--check-config")
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let words = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert_eq!(done.status.code(), Some(6), "{to}: {words}");
        assert!(words.contains(said) && !words.contains("hush"), "{to}: {words}");
    }
}
