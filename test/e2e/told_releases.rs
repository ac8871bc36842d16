//! Who is told of releases: signed webhooks, channels of a chat, buckets; and that no promotion waits for any of them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use estoppel_kit::{Collector, Delivered, Exit, Method, Process, Reaction, SeaweedServer, until};
use serde_json::{Value, json};

use crate::releases::{Repository, git};
use crate::support::{PATIENCE, cli, cli_binary, path};

const SECRET: [u8; 32] = [0x5a; 32];
const OTHER: [u8; 32] = [0xa5; 32];

/// Every request that a receiver got, taken or not.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Delivered>>>);

impl Seen {
    fn receiver(mut reacts: impl FnMut(usize) -> Reaction + Send + 'static) -> (Self, Collector) {
        let seen = Self::default();
        let noted = seen.clone();
        let collector = Collector::start(move |number, request| {
            noted.0.lock().unwrap().push(request.clone());
            reacts(number)
        });
        (seen, collector.unwrap())
    }

    /// All of them keep the published schema.
    fn all(&self) -> Vec<Delivered> {
        let all = self.0.lock().unwrap().clone();
        for request in &all {
            let of = if request.header("webhook-id").is_some() { "message" } else { "channel" };
            demand_valid(of, &body(request));
            let agent = concat!("estoppel/", env!("CARGO_PKG_VERSION"));
            assert_eq!(request.header("user-agent"), Some(agent));
            assert_eq!(request.header("content-type"), Some("application/json"));
        }
        all
    }

    fn ids(&self) -> Vec<String> {
        self.all().iter().map(|request| request.header("webhook-id").unwrap().to_owned()).collect()
    }
}

fn secret(keys: &[[u8; 32]]) -> String {
    keys.iter().map(|key| format!("whsec_{}\n", STANDARD.encode(key))).collect()
}

fn private(repository: &Repository, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let file = repository.scratch.write(name, text);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// Tells these destinations from now on.
fn configure(repository: &Repository, destinations: &str) {
    let file = repository.scratch.write("notify.toml", format!("repository = \"payments\"\n{destinations}"));
    git(&repository.dir, &["config", "estoppel.notify", path(&file)]);
}

fn destination(name: &str, more: &str, to: &str) -> String {
    format!("[[destinations]]\nname = \"{name}\"\n{more}\nto = {{ {to} }}\n\n")
}

fn webhook(collector: &Collector, secret: &Path) -> String {
    let addr = collector.addr;
    format!("webhook = {{ url = \"http://{addr}/told\", secret_file = {secret:?}, timeout_ms = 1500 }}")
}

/// A repository whose next promotion passes.
fn proven(name: &str) -> Repository {
    let repository = Repository::new(name);
    repository.seal("1.2.0", "true", &json!({}), &json!({}));
    assert_eq!(repository.evolve("1.2.0").0, 0);
    repository
}

/// Exit code and rows.
fn notify(repository: &Repository, words: &[&str]) -> (i32, Vec<Value>) {
    let (exit, answer) = repository.ask(&[&["notify"], words].concat());
    let rows = answer["data"]["destinations"].as_array();
    (exit, rows.unwrap_or_else(|| panic!("{answer}")).clone())
}

/// The signature of Standard Webhooks, by another's HMAC.
fn signature(request: &Delivered, key: [u8; 32]) -> String {
    let scratch = estoppel_kit::Scratch::new("signed");
    let head = |name: &str| request.header(name).unwrap();
    let mut message = format!("{}.{}.", head("webhook-id"), head("webhook-timestamp")).into_bytes();
    message.extend_from_slice(&request.body);
    let file = scratch.write("message", &message);
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let done = Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{key}"), "-binary"])
        .arg(file)
        .output()
        .unwrap();
    format!("v1,{}", STANDARD.encode(done.stdout))
}

/// What is sent is what spec/notification.md says: a `message`, what a `channel` gets, or what is `kept` in a bucket.
fn demand_valid(of: &str, value: &Value) {
    let mut schema: Value =
        serde_json::from_str(include_str!("../../spec/notification.schema.json")).unwrap();
    if of != "message" {
        schema = json!({ "$ref": format!("#/$defs/{of}"), "$defs": schema["$defs"] });
    }
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> = validator.iter_errors(value).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{value} {faults:?}");
}

fn body(request: &Delivered) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn a_promotion_is_told_with_a_signature_and_under_one_id_over_three_retries() {
    let repository = proven("told");
    let (seen, collector) = Seen::receiver(|number| Reaction::status(if number < 3 { 500 } else { 204 }));
    let key = private(&repository, "secret", secret(&[SECRET]));
    let events = "events = [\"generation.promoted\"]";
    configure(&repository, &destination("pager", events, &webhook(&collector, &key)));
    repository.done("owner", &["promote", "1.2.0"]);
    let (exit, rows) = notify(&repository, &["status"]);
    assert_eq!((exit, &rows[0]["failed"]["tries"]), (5, &json!(1)), "{rows:?}");
    assert!(rows[0]["failed"]["why"].as_str().unwrap().contains("500"), "{rows:?}");
    let status = repository.ask(&["status"]);
    assert_eq!((status.0, &status.1["data"]["alerts"][0]["destination"]), (5, &json!("pager")));

    let (exit, rows) = notify(&repository, &["send", "--now"]);
    assert_eq!((exit, &rows[0]["failed"]["tries"]), (1, &json!(2)));
    let (exit, rows) = notify(&repository, &["send", "--wait", "--tries", "4"]);
    assert_eq!((exit, &rows[0]["waiting"], &rows[0]["failed"]), (0, &json!(0), &Value::Null), "{rows:?}");
    assert_eq!(notify(&repository, &["status"]).0, 0);
    assert_eq!(repository.ask(&["status"]).0, 0);
    assert_eq!(notify(&repository, &["send"]).0, 0);

    let all = seen.all();
    assert_eq!(all.len(), 4, "one try and three retries, and nothing after it was taken");
    assert!(seen.ids().iter().all(|id| *id == seen.ids()[0] && id.starts_with("msg_")));
    for request in &all {
        assert_eq!(request.header("webhook-signature").unwrap(), signature(request, SECRET));
        assert_eq!(request.body, all[0].body);
    }
    let told = body(&all[3]);
    assert_eq!(told["type"], "generation.promoted");
    assert_eq!((&told["data"]["version"], &told["data"]["tag"]), (&json!("1.2.0"), &json!("v1.2.0")));
    let changes = json!([{ "id": "PAY-001", "type": "fix", "title": "Round as banks do" }]);
    assert_eq!((&told["data"]["changes"], &told["data"]["repository"]), (&changes, &json!("payments")));
}

#[test]
fn no_promotion_fails_for_a_receiver_that_redirects_hangs_or_cuts_its_answer() {
    let repository = proven("receivers");
    let (elsewhere, other) = Seen::receiver(|_| Reaction::status(204));
    let to = format!("http://{}/elsewhere", other.addr);
    let (seen, collector) = Seen::receiver(move |number| match number {
        0 => Reaction::Answer(307, vec![("location", to.clone())], String::new()),
        1 => Reaction::Silent,
        2 => Reaction::Cut(200),
        3 => Reaction::Hang,
        _ => Reaction::status(200),
    });
    let key = private(&repository, "secret", secret(&[SECRET]));
    let events = "events = [\"generation.promoted\"]";
    configure(&repository, &destination("pager", events, &webhook(&collector, &key)));
    repository.done("owner", &["promote", "1.2.0"]);
    let mut whys = vec![notify(&repository, &["status"]).1[0]["failed"]["why"].clone()];
    for _ in 0..3 {
        let (exit, rows) = notify(&repository, &["send", "--now"]);
        assert_eq!(exit, 1, "{rows:?}");
        whys.push(rows[0]["failed"]["why"].clone());
    }
    let said = ["answered 307", "did not answer within 1 s", "broke", "broke"];
    for (why, said) in whys.iter().zip(said) {
        assert!(why.as_str().unwrap().contains(said), "{why} {said}");
    }
    assert_eq!(notify(&repository, &["send", "--now"]).0, 0);
    assert_eq!((seen.all().len(), elsewhere.all().len()), (5, 0), "nothing is followed");
    assert!(seen.ids().iter().all(|id| *id == seen.ids()[0]));
    assert_eq!(repository.ask(&["ledger", "verify"]).0, 0);
}

#[test]
fn what_a_receiver_had_when_the_sender_was_killed_comes_again_under_the_same_id_and_nothing_is_lost() {
    let repository = proven("killed");
    let (seen, collector) =
        Seen::receiver(|number| if number < 2 { Reaction::Silent } else { Reaction::status(204) });
    let key = private(&repository, "secret", secret(&[SECRET]));
    configure(&repository, &destination("pager", "from = \"start\"", &webhook(&collector, &key)));
    for round in 0..2 {
        let mut command = Command::new(cli_binary());
        command.args(["notify", "send", "--now", "--repo", path(&repository.dir)]);
        let mut sender = Process::start(&format!("sender-{round}"), command, &repository.scratch);
        until("a request", PATIENCE, || (seen.all().len() > round).then_some(()));
        assert_eq!(sender.kill_9(), Exit::Signal(9));
    }
    let (exit, rows) = notify(&repository, &["send", "--now"]);
    assert_eq!((exit, &rows[0]["waiting"]), (0, &json!(0)), "{rows:?}");
    let ids = seen.ids();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    let kinds: Vec<Value> = collector.taken().iter().map(|request| body(request)["type"].clone()).collect();
    let all = json!(["roles.set", "roles.set", "generation.sealed", "evolution.passed"]);
    assert_eq!(json!(kinds), all, "in the order of the ledger, without beginnings");
    // A second sender beside one that works leaves it alone.
    let (exit, rows) = notify(&repository, &["send"]);
    assert_eq!((exit, seen.all().len()), (0, 6), "{rows:?}");
}

#[test]
fn a_secret_is_replaced_without_a_message_that_a_receiver_cannot_verify() {
    let repository = proven("rotated");
    let (seen, collector) = Seen::receiver(|_| Reaction::status(204));
    let key = private(&repository, "secret", secret(&[SECRET]));
    let events = "events = [\"approval.given\"]";
    configure(&repository, &destination("pager", events, &webhook(&collector, &key)));
    for keys in [&[SECRET][..], &[SECRET, OTHER], &[OTHER]] {
        private(&repository, "secret", secret(keys));
        repository.done("owner", &["approve", "1.2.0"]);
    }
    let signed: Vec<String> =
        seen.all().iter().map(|request| request.header("webhook-signature").unwrap().to_owned()).collect();
    let all = seen.all();
    let (old, new) = (|at: usize| signature(&all[at], SECRET), |at: usize| signature(&all[at], OTHER));
    assert_eq!(signed, [old(0), format!("{} {}", old(1), new(1)), new(2)]);
}

#[test]
fn two_clones_say_the_same_of_an_event_under_the_same_id() {
    let repository = proven("clones");
    let clone = repository.scratch.join("clone");
    git(repository.scratch.path(), &["clone", "--quiet", path(&repository.dir), path(&clone)]);
    let genesis = repository.ask(&["ledger", "verify"]).1["data"]["genesis"].as_str().unwrap().to_owned();
    assert_eq!(cli(&["ledger", "join", &genesis, "--repo", path(&clone)]).0, 0);
    let (seen, collector) = Seen::receiver(|_| Reaction::status(204));
    let key = private(&repository, "secret", secret(&[SECRET]));
    configure(&repository, &destination("pager", "from = \"start\"", &webhook(&collector, &key)));
    let file = repository.scratch.join("notify.toml");
    git(&clone, &["config", "estoppel.notify", path(&file)]);
    assert_eq!(notify(&repository, &["send"]).0, 0);
    let ours = seen.all().len();
    assert_eq!(cli(&["notify", "send", "--repo", path(&clone)]).0, 0);
    let (ids, all) = (seen.ids(), seen.all());
    assert!(ours > 3 && all.len() == 2 * ours);
    assert_eq!(ids[..ours], ids[ours..]);
    assert!((0..ours).all(|at| all[at].body == all[ours + at].body));
}

#[test]
fn a_channel_is_told_in_lines_and_what_a_receiver_does_not_want_does_not_stop_the_rest() {
    let repository = Repository::new("channel");
    let (said, chat) = Seen::receiver(|_| Reaction::Answer(200, Vec::new(), "ok".into()));
    let (seen, picky) = Seen::receiver(|number| Reaction::status(if number == 0 { 400 } else { 204 }));
    let key = private(&repository, "secret", secret(&[SECRET]));
    let hush = format!("http://{}/services/T0/B0/hush-hush", chat.addr);
    let url = private(&repository, "url", &hush);
    let slack = format!("slack = {{ url_file = {url:?} }}");
    let events = "events = [\"evolution.failed\", \"promotion.refused\", \"alert\"]";
    configure(
        &repository,
        &format!(
            "pass_rate_min = 80\n{}{}",
            destination("chat", events, &slack),
            destination("picky", events, &webhook(&picky, &key))
        ),
    );
    repository.seal("1.0.0", "false", &json!({}), &json!({}));
    assert_eq!(repository.evolve("1.0.0").0, 3);
    assert_eq!(repository.sign("owner", &["promote", "1.0.0"]).0, 3);
    let lines: Vec<String> =
        said.all().iter().map(|request| body(request)["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0], "evolution of 1.0.0 failed by Ada · payments");
    assert!(lines[1].starts_with("HIGH 0 of 1 evolutions of 1.0.0 passed, fewer than 80"), "{lines:?}");
    assert!(lines[2].starts_with("promotion of 1.0.0 refused by Ada: "), "{lines:?}");

    let (exit, rows) = notify(&repository, &["status"]);
    assert_eq!((exit, &rows[1]["waiting"]), (5, &json!(0)), "{rows:?}");
    assert!(rows[1]["refused"][0]["why"].as_str().unwrap().contains("400"), "{rows:?}");
    let (exit, rows) = notify(&repository, &["send", "--refused"]);
    assert_eq!((exit, &rows[1]["refused"]), (0, &json!([])), "{rows:?}");
    let types: Vec<Value> = seen.all().iter().map(|request| body(request)["type"].clone()).collect();
    let told = json!(["evolution.failed", "promotion.refused", "evolution.failed", "alert"]);
    assert_eq!(json!(types), told);

    let figures = repository.scratch.join("figures.prom");
    repository.ask(&["status", "--textfile", path(&figures)]);
    let figures = std::fs::read_to_string(figures).unwrap();
    assert!(figures.contains("estoppel_notify_waiting{destination=\"chat\"} 0\n"), "{figures}");
    // The URL is a secret, also where it cannot be used.
    private(&repository, "url", "hush-hush");
    repository.commit(&[]);
    assert_eq!(repository.evolve("1.0.0").0, 3);
    let (exit, answer) = repository.ask(&["notify", "status"]);
    assert!(exit == 5 && !answer.to_string().contains("hush"), "{answer}");
}

#[test]
fn every_event_is_kept_in_a_bucket_under_its_digest_by_signed_requests() {
    let Some(server) = SeaweedServer::start() else { return };
    server.make_bucket("releases", true);
    let repository = proven("bucket");
    let credentials = |secret: &str| {
        json!({ "Version": 1, "AccessKeyId": SeaweedServer::KEY, "SecretAccessKey": secret }).to_string()
    };
    let key = private(&repository, "s3.json", credentials("of-somebody-else"));
    let s3 = format!(
        "s3 = {{ endpoint = \"http://{}\", bucket = \"releases\", prefix = \"pay/\", mode = \"governance\", retain_days = 2, \
         credentials = {{ file = {key:?} }} }}",
        server.address()
    );
    configure(&repository, &destination("bucket", "", &s3));
    repository.done("owner", &["promote", "1.2.0"]);
    let (exit, rows) = notify(&repository, &["status"]);
    assert_eq!(exit, 5, "{rows:?}");
    assert!(rows[0]["failed"]["why"].as_str().unwrap().contains("refused it"), "{rows:?}");
    private(&repository, "s3.json", credentials(SeaweedServer::SECRET));
    let (exit, rows) = notify(&repository, &["send", "--now"]);
    assert_eq!((exit, &rows[0]["waiting"]), (0, &json!(0)), "{rows:?}");

    let names = git(&repository.dir, &["ls-tree", "-r", "--name-only", "refs/estoppel/ledger"]);
    assert!(names.lines().count() >= 6, "{names}");
    for name in names.lines() {
        let hex = name.trim_start_matches("events/").trim_end_matches(".json").replace('/', "");
        let object = server.ask(Method::Get, "releases", &format!("pay/sha256/{hex}"), &[], b"");
        let event = Command::new("git")
            .args(["-C", path(&repository.dir), "cat-file", "blob", &format!("refs/estoppel/ledger:{name}")])
            .output()
            .unwrap();
        assert!(object.status() == 200 && object.body == event.stdout, "{name}");
        let envelope: Value = serde_json::from_slice(&object.body).unwrap();
        demand_valid("kept", &envelope);
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let schema = serde_json::from_str(include_str!("../../spec/ledger.schema.json")).unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap();
        assert!(jsonschema::is_valid(&schema, &payload), "{payload}");
        assert_eq!(object.header("x-amz-object-lock-mode"), Some("GOVERNANCE"));
    }
    // Another clone, which does not know what was told, finds all of it there.
    std::fs::remove_dir_all(repository.dir.join(".git/estoppel/notify")).unwrap();
    assert_eq!(notify(&repository, &["send"]).0, 0);
}

/// An example of the page about notifications.
fn on_the_page(language: &str, number: usize) -> &'static str {
    let page = include_str!("../../docs/notifications.md");
    let example = page.split(&format!("```{language}\n")).nth(number + 1);
    example.and_then(|rest| rest.split("```").next()).unwrap()
}

#[test]
fn the_settings_on_the_page_are_settings() {
    let repository = Repository::new("page");
    repository.commit(&[(".estoppel/notify.toml", on_the_page("toml", 0))]);
    git(&repository.dir, &["config", "estoppel.notify", ".estoppel/notify.toml"]);
    let (exit, rows) = notify(&repository, &["status"]);
    assert_eq!(exit, 0, "{rows:?}");
    let names: Vec<&Value> = rows.iter().map(|row| &row["destination"]).collect();
    assert_eq!(json!(names), json!(["deploy", "chat", "kept"]));
    let waiting: Vec<&Value> = rows.iter().map(|row| &row["waiting"]).collect();
    assert_eq!(json!(waiting), json!([0, 0, 2]), "a bucket begins with the first event");
}

#[test]
fn settings_that_cannot_be_used_are_refused_whole_and_nobody_is_told() {
    let repository = Repository::new("settings");
    assert_eq!(repository.ask(&["notify", "status"]).0, 6, "nobody is told where nothing is said");
    let hush = "url = \"https://hooks.example/hush-hush\"";
    let table = "endpoint = \"https://s3.example\", bucket = \"b\", mode = \"compliance\", retain_days = 1";
    for (text, said) in [
        (destination("A", "", ""), vec!["destinations[0].name", "destinations[0].to"]),
        (destination("a", "colour = 1", &format!("slack = {{ {hush} }}")), vec!["colour"]),
        (
            destination("a", "events = [\"promoted\"]", &format!("slack = {{ {hush} }}")),
            vec!["`promoted` is none of"],
        ),
        (destination("a", "", &format!("webhook = {{ {hush} }}")), vec!["`secret_file` or `secret_env`"]),
        (
            destination("a", "", &format!("slack = {{ {hush}, url_env = \"URL\" }}")),
            vec!["exactly one of `url`"],
        ),
        (
            destination(
                "a",
                "",
                &format!("s3 = {{ {table}, credentials = {{ command = {{ argv = [\"touch\", \"x\"] }} }} }}"),
            ),
            vec!["not from a command"],
        ),
        (destination("a", "events = [\"alert\"]", &format!("s3 = {{ {table} }}")), vec!["no effect on `s3`"]),
        ("pass_rate_min = 101\n[[destinations]]".into(), vec!["name"]),
    ] {
        configure(&repository, &text);
        let (exit, answer) = repository.ask(&["notify", "status"]);
        assert_eq!((exit, &answer["error"]["code"]), (6, &json!("CONFIG_INVALID")), "{text} {answer}");
        let words = answer.to_string();
        assert!(said.iter().all(|said| words.contains(said)) && !words.contains("hush"), "{text} {words}");
    }
    // What is not told stops nothing.
    repository.seal("1.2.0", "true", &json!({}), &json!({}));
    assert_eq!(repository.evolve("1.2.0").0, 0);
    repository.done("owner", &["promote", "1.2.0"]);
    git(&repository.dir, &["config", "estoppel.notify", "gone.toml"]);
    assert_eq!(repository.ask(&["notify", "status"]).0, 6);

    // A secret from the environment, which is not there.
    let slack = "slack = { url_env = \"ESTOPPEL_TEST_NO_SUCH_URL\" }";
    configure(&repository, &destination("chat", "from = \"start\"", slack));
    let (exit, rows) = notify(&repository, &["send"]);
    assert_eq!(exit, 1);
    assert!(rows[0]["failed"]["why"].as_str().unwrap().contains("is not set"), "{rows:?}");
    std::fs::write(repository.dir.join(".git/estoppel/notify/chat.told"), "half").unwrap();
    assert_eq!(notify(&repository, &["status"]).0, 5);
    std::fs::write(repository.dir.join(".git/estoppel/notify/chat.told"), "no digest\n").unwrap();
    let (exit, answer) = repository.ask(&["notify", "status"]);
    assert_eq!((exit, &answer["error"]["code"]), (1, &json!("NOTIFY_STATE")), "{answer}");
}

#[test]
fn who_is_told_learns_what_environments_have() {
    let repository = proven("told-environments");
    repository.done("owner", &["promote", "1.2.0"]);
    let (seen, collector) = Seen::receiver(|_| Reaction::status(204));
    let key = private(&repository, "secret", secret(&[SECRET]));
    let events = "events = [\"environment.set\", \"roles.set\"]";
    configure(&repository, &destination("pager", events, &webhook(&collector, &key)));
    repository.done("owner", &["environment", "bind", "staging", "--stage", "beta"]);
    repository.done("owner", &["environment", "set", "production", "1.2.0"]);
    let told: Vec<Value> = seen.all().iter().map(body).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((&told[0]["type"], &told[1]["type"]), (&json!("roles.set"), &json!("environment.set")));
    let data = &told[1]["data"];
    assert_eq!((&data["environment"], &data["tag"]), (&json!("production"), &json!("v1.2.0")), "{data}");
    assert!(data["message"].as_str().unwrap().contains("in production"), "{data}");
}

#[test]
fn settings_that_are_no_plain_file_of_their_own_are_not_read_and_hold_up_nothing() {
    let repository = Repository::new("settings-files");
    let dir = &repository.dir;
    let text = "repository = \"payments\"\ndestinations = []\n";
    let elsewhere = repository.scratch.write("elsewhere.toml", text);
    let pipe = |name: &str| {
        let pipe = repository.scratch.join(name);
        let made = Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).output().unwrap();
        assert!(made.status.success());
        pipe
    };
    let large = repository.scratch.write("large.toml", text.to_owned() + &"#".repeat(1 << 20));
    std::fs::create_dir_all(dir.join(".estoppel")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.join(".estoppel/notify.toml")).unwrap();
    std::os::unix::fs::symlink(repository.scratch.path(), dir.join("linked")).unwrap();
    let settings = pipe("settings");
    for (named, code) in [
        (path(&settings), "FILE_UNREADABLE"),
        ("/dev/zero", "FILE_UNREADABLE"),
        (path(&large), "FILE_UNREADABLE"),
        (".estoppel/notify.toml", "CONFIG_INVALID"),
        ("linked/elsewhere.toml", "CONFIG_INVALID"),
    ] {
        git(dir, &["config", "estoppel.notify", named]);
        let (exit, answer) = repository.ask(&["notify", "status"]);
        assert_eq!((exit, &answer["error"]["code"]), (6, &json!(code)), "{named} {answer}");
        // It holds up no command.
        repository.done("owner", &["environment", "bind", "staging", "--stage", "beta"]);
    }
    git(dir, &["config", "estoppel.notify", path(&elsewhere)]);
    assert_eq!(repository.ask(&["notify", "status"]).0, 0);
    // What the settings name.
    let named = pipe("named");
    std::os::unix::fs::symlink(&elsewhere, dir.join("secret")).unwrap();
    let s3 = format!(
        "s3 = {{ endpoint = \"http://127.0.0.1:1\", bucket = \"b\", mode = \"compliance\", retain_days = 1, \
         credentials = {{ file = {named:?} }} }}"
    );
    for to in [
        format!("slack = {{ url_file = {named:?} }}"),
        format!("slack = {{ url = \"https://127.0.0.1:1/x\", ca = {named:?} }}"),
        s3,
    ] {
        configure(&repository, &destination("chat", "from = \"start\"", &to));
        let (exit, rows) = notify(&repository, &["send", "--now"]);
        assert_eq!(exit, 1, "{rows:?}");
        assert!(rows[0]["failed"]["why"].as_str().unwrap().contains("no plain file"), "{rows:?}");
    }
    let linked = format!("slack = {{ url_file = {:?} }}", dir.join("secret"));
    configure(&repository, &destination("chat", "", &linked));
    let (exit, answer) = repository.ask(&["notify", "status"]);
    assert_eq!((exit, &answer["error"]["code"]), (6, &json!("CONFIG_INVALID")), "{answer}");
}

#[test]
fn a_destination_is_tried_without_a_cursor_that_moves() {
    let repository = proven("tried");
    let (seen, collector) = Seen::receiver(|number| Reaction::status(if number < 2 { 202 } else { 401 }));
    let (said, chat) = Seen::receiver(|_| Reaction::Answer(200, Vec::new(), "ok".into()));
    let key = private(&repository, "secret", secret(&[SECRET, OTHER]));
    let slack = format!("slack = {{ url = \"http://{}/x\" }}", chat.addr);
    let events = "events = [\"generation.promoted\"]";
    configure(
        &repository,
        &format!(
            "{}{}",
            destination("pager", events, &webhook(&collector, &key)),
            destination("chat", "", &slack)
        ),
    );
    repository.done("owner", &["approve", "1.2.0"]);
    let files = || {
        let folder = std::fs::read_dir(repository.dir.join(".git/estoppel/notify")).unwrap();
        let files = folder.map(|file| file.unwrap().path());
        files
            .map(|file| (file.clone(), std::fs::read(file).unwrap()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (before, count) = (files(), said.all().len());
    let (exit, rows) = notify(&repository, &["test"]);
    assert_eq!(exit, 0, "{rows:?}");
    assert_eq!(
        (&rows[0]["ok"], &rows[0]["status"], &rows[0]["to"]),
        (&json!(true), &json!(202), &json!("webhook"))
    );
    assert_eq!(
        (&rows[1]["ok"], &rows[1]["status"], &rows[1]["id"]),
        (&json!(true), &json!(200), &Value::Null)
    );
    assert_eq!(notify(&repository, &["test", "pager"]).0, 0);
    assert!(files() == before, "no cursor was touched");

    let all = seen.all();
    let [first, second] = all.as_slice() else { panic!("{all:?}") };
    let data = &body(first)["data"];
    assert_eq!((&body(first)["type"], &data["repository"]), (&json!("estoppel.test"), &json!("payments")));
    assert_eq!(data["message"], "a test of pager: nothing happened");
    let signed = format!("{} {}", signature(first, SECRET), signature(first, OTHER));
    assert_eq!(first.header("webhook-signature"), Some(signed.as_str()));
    assert_eq!(rows[0]["id"], first.header("webhook-id").unwrap());
    assert_ne!(first.header("webhook-id"), second.header("webhook-id"), "each is one of its own");
    assert_eq!(body(&said.all()[count])["text"], "a test of chat: nothing happened · payments");

    // It says no; then nobody is there; then it cannot be used.
    let (exit, rows) = notify(&repository, &["test", "pager"]);
    assert_eq!((exit, &rows[0]["ok"], &rows[0]["status"]), (1, &json!(false), &Value::Null));
    assert!(rows[0]["why"].as_str().unwrap().contains("401"), "{rows:?}");
    let gone = "webhook = { url = \"http://127.0.0.1:9/x\", secret_file = \"secret\", timeout_ms = 1500 }";
    configure(&repository, &destination("pager", "", gone));
    let (exit, rows) = notify(&repository, &["test"]);
    assert_eq!((exit, &rows[0]["ok"]), (7, &json!(false)), "{rows:?}");
    assert!(rows[0]["why"].as_str().unwrap().contains("could not reach"), "{rows:?}");
    private(&repository, "secret", "no secret");
    assert_eq!(notify(&repository, &["test"]).0, 1);
    let (exit, answer) = repository.ask(&["notify", "test", "nobody"]);
    assert_eq!((exit, &answer["error"]["code"]), (6, &json!("DESTINATION_UNKNOWN")), "{answer}");
}

#[test]
fn a_bucket_is_asked_and_gets_nothing() {
    let Some(server) = SeaweedServer::start() else { return };
    server.make_bucket("locked", true);
    server.make_bucket("open", false);
    let repository = proven("asked");
    let credentials =
        json!({ "Version": 1, "AccessKeyId": SeaweedServer::KEY, "SecretAccessKey": SeaweedServer::SECRET });
    let key = private(&repository, "s3.json", credentials.to_string());
    let s3 = |bucket: &str| {
        format!(
            "s3 = {{ endpoint = \"http://{}\", bucket = \"{bucket}\", mode = \"compliance\", retain_days = 2, \
             credentials = {{ file = {key:?} }} }}",
            server.address()
        )
    };
    configure(&repository, &destination("kept", "", &s3("locked")));
    let (exit, rows) = notify(&repository, &["test"]);
    assert_eq!((exit, &rows[0]["ok"], &rows[0]["to"]), (0, &json!(true), &json!("s3")), "{rows:?}");
    let listed = server.ask(Method::Get, "locked", "", &[], b"");
    let listed = String::from_utf8(listed.body).unwrap();
    assert!(listed.contains("<Name>locked</Name>") && !listed.contains("<Key>"), "{listed}");
    configure(&repository, &destination("kept", "", &s3("open")));
    let (exit, rows) = notify(&repository, &["test"]);
    assert_eq!((exit, &rows[0]["ok"]), (1, &json!(false)), "{rows:?}");
}

#[test]
fn a_destination_that_is_changed_is_told_nothing_until_somebody_says_what_it_is() {
    let repository = proven("moved");
    let (old_seen, old) = Seen::receiver(|number| Reaction::status(if number == 0 { 204 } else { 503 }));
    let (new_seen, new) = Seen::receiver(|_| Reaction::status(204));
    let key = private(&repository, "secret", secret(&[SECRET]));
    let events = "events = [\"approval.given\"]";
    configure(&repository, &destination("pager", events, &webhook(&old, &key)));
    repository.done("owner", &["approve", "1.2.0"]);
    repository.done("owner", &["approve", "1.2.0"]);
    let waited = old_seen.ids()[1].clone();

    // Another address: nothing is sent there, and nothing else is held up.
    let (other_seen, other) = Seen::receiver(|_| Reaction::status(204));
    configure(
        &repository,
        &format!(
            "{}{}",
            destination("pager", events, &webhook(&new, &key)),
            destination("other", events, &webhook(&other, &key))
        ),
    );
    repository.done("owner", &["approve", "1.2.0"]);
    let (exit, rows) = notify(&repository, &["send", "--now"]);
    assert_eq!((exit, &rows[0]["moved"], &rows[0]["waiting"]), (1, &json!(true), &json!(2)), "{rows:?}");
    assert_eq!((&rows[1]["moved"], &rows[1]["waiting"]), (&json!(false), &json!(0)), "{rows:?}");
    assert_eq!((new_seen.all().len(), other_seen.all().len()), (0, 1));
    let (exit, rows) = notify(&repository, &["status"]);
    assert_eq!((exit, &rows[0]["moved"]), (5, &json!(true)));
    let said = text(&repository, &["notify", "status"]);
    assert!(
        said.contains("`estoppel notify begin pager` begins anew, with --go-on where it stands"),
        "{said}"
    );
    assert_eq!(repository.ask(&["status"]).0, 5);

    // The same receiver elsewhere is told what the old address did not take.
    assert_eq!(notify(&repository, &["begin", "pager", "--go-on"]).0, 0);
    assert_eq!(notify(&repository, &["send"]).0, 0);
    assert_eq!((new_seen.all().len(), new_seen.ids()[0] == waited), (2, true));

    // Another beginning is a change as well; begun anew, the whole ledger is told.
    let from = format!("{events}\nfrom = \"start\"");
    configure(&repository, &destination("pager", &from, &webhook(&new, &key)));
    let (exit, rows) = notify(&repository, &["send"]);
    assert_eq!((exit, &rows[0]["moved"], new_seen.all().len()), (1, &json!(true), 2), "{rows:?}");
    assert_eq!(notify(&repository, &["begin", "pager"]).0, 0);
    assert_eq!((notify(&repository, &["send"]).0, new_seen.all().len()), (0, 5));
    assert!(new_seen.ids()[3..] == new_seen.ids()[..2], "{:?}", new_seen.ids());

    // Another receiver begins with what comes next.
    configure(&repository, &destination("pager", events, &webhook(&other, &key)));
    assert_eq!(notify(&repository, &["begin", "pager"]).0, 0);
    assert_eq!((notify(&repository, &["send"]).0, other_seen.all().len()), (0, 1));
    let (exit, answer) = repository.ask(&["notify", "begin", "nobody"]);
    assert_eq!((exit, &answer["error"]["code"]), (6, &json!("DESTINATION_UNKNOWN")), "{answer}");

    // A file with another secret URL in it, and settings that lie elsewhere, are no change.
    let url = |to: &Collector| format!("http://{}/told", to.addr);
    let file = "webhook = { url_file = \"to.url\", secret_file = \"secret\", timeout_ms = 1500 }";
    private(&repository, "to.url", url(&new));
    configure(&repository, &destination("pager", events, file));
    assert_eq!(notify(&repository, &["begin", "pager"]).0, 0);
    private(&repository, "to.url", url(&other));
    std::fs::create_dir(repository.scratch.join("elsewhere")).unwrap();
    for name in ["notify.toml", "to.url", "secret"] {
        let to = repository.scratch.join("elsewhere").join(name);
        std::fs::copy(repository.scratch.join(name), to).unwrap();
    }
    let elsewhere = repository.scratch.join("elsewhere/notify.toml");
    git(&repository.dir, &["config", "estoppel.notify", path(&elsewhere)]);
    let (exit, rows) = notify(&repository, &["status"]);
    assert_eq!((exit, &rows[0]["moved"]), (0, &json!(false)), "{rows:?}");
}

/// What a person sees.
fn text(repository: &Repository, words: &[&str]) -> String {
    let done =
        Command::new(cli_binary()).args(words).args(["--repo", path(&repository.dir)]).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn a_destination_that_refuses_everything_takes_one_line() {
    let repository = proven("flood");
    let (_, picky) = Seen::receiver(|_| Reaction::Answer(422, Vec::new(), "no\u{1b}[2Jthanks".into()));
    let key = private(&repository, "secret", secret(&[SECRET]));
    configure(&repository, &destination("picky", "from = \"start\"", &webhook(&picky, &key)));
    for _ in 0..4 {
        repository.done("owner", &["approve", "1.2.0"]);
    }
    let (exit, rows) = notify(&repository, &["status"]);
    let refused = rows[0]["refused"].as_array().unwrap();
    assert!(exit == 5 && refused.len() >= 8, "{rows:?}");
    let last = refused.last().unwrap()["event"].as_str().unwrap();
    let said = text(&repository, &["notify", "status"]);
    assert_eq!(said.lines().count(), 2, "{said}");
    let line = said.lines().nth(1).unwrap();
    assert!(
        line.contains(&format!("did not want {} events, the last one {last}: ", refused.len())),
        "{said}"
    );
    assert!(line.contains("answered 422") && !line.contains('\u{1b}'), "{said}");
    let said = text(&repository, &["status"]);
    assert_eq!(said.lines().filter(|line| line.contains("did not want")).count(), 1, "{said}");
}

#[test]
fn the_receiver_on_the_page_takes_what_is_signed_once_and_nothing_else() {
    let repository = Repository::new("page-receiver");
    let script = repository.scratch.write("receiver.py", on_the_page("python", 0));
    let mut command = Command::new("python3");
    command.arg(&script).env("SECRET", secret(&[SECRET]).trim()).env("PORT", "0");
    let mut receiver = Process::start("receiver", command, &repository.scratch);
    let port: u16 = receiver.wait_ready(PATIENCE, |receiver| receiver.stdout().lines().next()?.parse().ok());
    let lines = || -> Vec<String> { receiver.stdout().lines().map(str::to_owned).collect() };
    let key = private(&repository, "secret", secret(&[OTHER, SECRET]));
    let to = format!("webhook = {{ url = \"http://127.0.0.1:{port}/\", secret_file = {key:?} }}");
    let settings = format!("repository = \"payments\"\n{}", destination("pager", "", &to));
    repository.commit(&[(".estoppel/notify.toml", &settings)]);
    repository.seal("1.2.0", "true", &json!({}), &json!({}));
    assert_eq!(repository.evolve("1.2.0").0, 0);

    let programs = Path::new(cli_binary()).parent().unwrap();
    let search = format!("{}:{}", path(programs), std::env::var("PATH").unwrap());
    let ran = Command::new("bash")
        .args(["-euc", on_the_page("sh", 0)])
        .current_dir(&repository.dir)
        .env("PATH", search)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    repository.done("owner", &["promote", "1.2.0"]);
    let told = "1.2.0 promoted as v1.2.0 by";
    let said = lines();
    assert_eq!(said[1], "estoppel.test a test of pager: nothing happened", "{said:?}");
    assert_eq!(said.iter().filter(|line| line.contains(told)).count(), 1, "{said:?}");
    // Told again, it knows the copies.
    configure(&repository, &destination("pager", "from = \"start\"", &to));
    assert_eq!(notify(&repository, &["begin", "pager"]).0, 0);
    assert_eq!(notify(&repository, &["send"]).0, 0);
    assert_eq!(lines().iter().filter(|line| line.contains(told)).count(), 1);

    private(&repository, "secret", secret(&[OTHER]));
    let count = lines().len();
    let (exit, rows) = notify(&repository, &["test"]);
    assert!(exit == 1 && rows[0]["why"].as_str().unwrap().contains("401"), "{rows:?}");
    assert_eq!(lines().len(), count);
}

#[test]
fn openssl_says_by_the_line_on_the_page_that_a_message_is_ours() {
    let repository = proven("page-openssl");
    let (seen, collector) = Seen::receiver(|_| Reaction::status(204));
    let key = private(&repository, "secret", secret(&[OTHER, SECRET]));
    configure(&repository, &destination("pager", "", &webhook(&collector, &key)));
    repository.done("owner", &["promote", "1.2.0"]);
    let request = seen.all().pop().unwrap();
    repository.scratch.write("body", &request.body);
    let ask = |key: &[[u8; 32]], id: &str| {
        Command::new("bash")
            .args(["-euc", on_the_page("sh", 1)])
            .current_dir(repository.scratch.path())
            .env("SECRET", secret(key).trim())
            .env("ID", id)
            .env("TIMESTAMP", request.header("webhook-timestamp").unwrap())
            .env("SIGNATURE", request.header("webhook-signature").unwrap())
            .output()
            .unwrap()
    };
    let id = request.header("webhook-id").unwrap();
    for key in [SECRET, OTHER] {
        let said = ask(&[key], id);
        assert_eq!((said.status.success(), said.stdout.as_slice()), (true, b"ours\n".as_slice()), "{said:?}");
    }
    assert!(!ask(&[[1; 32]], id).status.success());
    assert!(!ask(&[SECRET], "msg_0").status.success());
}
