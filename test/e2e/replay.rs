//! Recorded calls run again: judged again offline, served to a client that runs again, and what the certificate says.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use estoppel_evidence::envelope::{STATEMENT_TYPE, base64, from_base64, pae, sign};
use estoppel_evidence::{Signer as _, SoftKey};
use estoppel_kit::http::{Request, send};
use estoppel_kit::{Scratch, require_real_with};
use estoppel_stub::Script;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, World, chat, cli, cli_binary, path, start, write_config};

const RULES: &str = "  - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }\n";
/// Offers a model a tool.
const TOOL: &str = r#"{"model":"scripted-1","messages":[{"role":"user","content":"call get_weather"}],"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object"}}}]}"#;

fn setup(storage: &str) -> Setup {
    let policy = format!(
        "version: 1\nname: t\ndefaults: {{ verdict: allow, on_not_evaluated: allow, body_storage: {storage} }}\nrules:\n{RULES}"
    );
    Setup { policy, ..Setup::default() }
}

fn full() -> Setup {
    setup("{ full: { reason: replay } }")
}

fn ask(text: &str, stream: bool) -> String {
    format!(r#"{{"model":"scripted-1","stream":{stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

/// A bundle and what replays it.
pub(crate) struct Recording {
    pub world: World,
    pub bundle: PathBuf,
    pub key: PathBuf,
    pub scratch: Scratch,
}

impl Recording {
    pub fn of(world: World, run: &str) -> Self {
        let bundle = world.seal(run);
        let scratch = Scratch::new("replay");
        let key = private(&scratch, "certifier.pem", 9);
        Self { world, bundle, key, scratch }
    }

    /// Two plain calls that are equal, a streamed one, and one that a rule blocks.
    fn usual(setup: &Setup) -> Self {
        let world = World::with(Script::model(), setup);
        for body in [ask("one", false), ask("one", false), ask("two", true)] {
            assert_eq!(world.send(&chat("r", &body)).status(), 200);
        }
        let blocked = TOOL.replace("get_weather", "shell");
        assert_eq!(world.send(&chat("r", &blocked)).status(), 403);
        Self::of(world, "r")
    }

    pub fn keys(&self) -> PathBuf {
        self.world.journal().join("keys")
    }

    pub fn out(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// `estoppel replay run` of `bundle`: exit code and certificate.
    pub fn run(&self, bundle: &Path, name: &str, more: &[&str]) -> (i32, Value) {
        let (out, keys) = (self.out(name), self.keys());
        let words = [
            "replay",
            "run",
            path(bundle),
            "--key",
            path(&self.key),
            "--out",
            path(&out),
            "--keys",
            path(&keys),
        ];
        let (code, answer) = cli(&[&words, more].concat());
        (code, answer["data"]["certificate"].clone())
    }

    pub fn verify(&self, certificate: &Path, bundle: &Path, more: &[&str]) -> (i32, Value) {
        let words = ["replay", "verify-certificate", path(certificate), "--bundle", path(bundle)];
        let (code, answer) = cli(&[&words, more].concat());
        (code, answer["data"].clone())
    }

    fn trust(&self) -> PathBuf {
        self.world.journal().join("trust.json")
    }

    pub fn serve(&self, name: &str, more: &[&str]) -> Served {
        self.serve_by(Path::new(cli_binary()), name, more)
    }

    fn serve_by(&self, program: &Path, name: &str, more: &[&str]) -> Served {
        let (out, keys) = (self.out(name), self.keys());
        let mut command = Command::new(program);
        command.args(["--json", "replay", "serve", path(&self.bundle), "--key", path(&self.key)]);
        command.args(["--out", path(&out), "--keys", path(&keys)]).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let first: Value = serde_json::from_str(&first).unwrap();
        let url = first["data"]["listening"].as_str().unwrap_or_else(|| panic!("{first}"));
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Served { child: Some(child), lines, address }
    }
}

/// A running `replay serve`.
pub(crate) struct Served {
    child: Option<Child>,
    lines: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

impl Served {
    fn stop(&self) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits for the end: exit code and certificate.
    pub fn certificate(mut self) -> (i32, Value) {
        let mut last = String::new();
        self.lines.read_line(&mut last).unwrap();
        let status = self.child.take().unwrap().wait().unwrap();
        let last: Value = serde_json::from_str(&last).unwrap();
        (status.code().unwrap(), last["data"]["certificate"].clone())
    }

    fn ask(&self, body: &str) -> estoppel_kit::http::Answer {
        self.send(&chat("again", body))
    }

    pub fn send(&self, request: &Request) -> estoppel_kit::http::Answer {
        send(self.address, request).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn private(scratch: &Scratch, name: &str, seed: u8) -> PathBuf {
    let file = scratch.write(name, &**SoftKey::ed25519(&[seed; 32]).to_pem().unwrap());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// The bundle with the first stored body that contains `text` altered, and every CRC right.
fn altered(recording: &Recording, text: &str) -> PathBuf {
    altered_in(recording, "bodies/", text)
}

/// As [`altered`], in a file whose path begins so.
fn altered_in(recording: &Recording, path: &str, text: &str) -> PathBuf {
    let archive = estoppel_bundle::Archive::open(std::fs::read(&recording.bundle).unwrap()).unwrap();
    let mut writer = estoppel_bundle::ZipWriter::new(Vec::new());
    let mut is_done = false;
    for entry in archive.entries() {
        let mut content = Vec::new();
        archive.content(entry).read_to_end(&mut content).unwrap();
        let at = content.windows(text.len()).position(|part| part == text.as_bytes());
        if let Some(at) = at.filter(|_| !is_done && entry.path.as_str().starts_with(path)) {
            content[at] ^= 1;
            is_done = true;
        }
        let crc = crc32(&content);
        writer.entry(&entry.path, content.len() as u64, crc, &mut &*content).unwrap();
    }
    assert!(is_done, "a file `{path}…` has `{text}`");
    let file = recording.scratch.join("altered.pef.zip");
    std::fs::write(&file, writer.finish().unwrap()).unwrap();
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[test]
fn what_was_recorded_comes_out_again_and_the_certificate_holds() {
    let recording = Recording::usual(&full());
    let (code, certificate) = recording.run(&recording.bundle, "c.json", &[]);
    assert_eq!((code, &certificate["status"]), (0, &json!("success")), "{certificate}");
    assert_eq!(certificate["counts"]["recorded"], 4);
    assert_eq!(certificate["counts"]["matched"], 4);
    assert_eq!((&certificate["mode"], &certificate["upstream_connections"]), (&json!("judge"), &json!(0)));
    let (file, trust) = (recording.out("c.json"), recording.trust());
    let (code, said) = recording.verify(&file, &recording.bundle, &["--trust", path(&trust)]);
    assert_eq!((code, &said["status"], &said["signer"]), (0, &json!("success"), &json!("self_asserted")));
    let public = recording.scratch.write("signer.pem", SoftKey::ed25519(&[9; 32]).public().pem());
    let other = recording.scratch.write("other.pem", SoftKey::ed25519(&[8; 32]).public().pem());
    let (code, said) = recording.verify(&file, &recording.bundle, &["--signer", path(&public)]);
    assert_eq!((code, &said["signer"]), (0, &json!("trusted")));
    let (code, said) = recording.verify(&file, &recording.bundle, &["--signer", path(&other)]);
    assert_eq!((code, &said["reason"]), (2, &json!("CERTIFICATE_UNTRUSTED")));
}

#[test]
fn a_recorded_answer_that_was_altered_fails_at_its_call() {
    let recording = Recording::usual(&full());
    let bundle = altered(&recording, "data: ");
    let (code, certificate) = recording.run(&bundle, "altered.json", &[]);
    assert_eq!((code, &certificate["status"]), (2, &json!("failed")), "{certificate}");
    assert_eq!(certificate["first_divergent_seq"], 3, "the streamed call");
    assert_eq!(certificate["bundle"]["reason"], "FILE_DIGEST");
    assert_eq!(certificate["reasons"], json!(["BODY_DRIFT", "BUNDLE_INVALID", "UNDECIDED"]));
    let words = ["replay", "run", path(&bundle), "--key", path(&recording.key), "--out"];
    let told = |out: &str, more: &[&str]| {
        let done =
            Command::new(cli_binary()).args(words).arg(recording.out(out)).args(more).output().unwrap();
        String::from_utf8([done.stdout, done.stderr].concat()).unwrap()
    };
    assert!(told("told.json", &[]).contains("does not verify: FILE_DIGEST"));
    let db = ["--db", "postgresql://nobody@127.0.0.1:1/none", "--sql", "tool=query,argument=/sql"];
    assert!(told("db.json", &db).contains("(FILE_DIGEST), so nothing of it was run again"));
    let (code, said) = recording.verify(&recording.out("altered.json"), &bundle, &[]);
    assert_eq!((code, &said["reason"]), (2, &json!("FILE_DIGEST")));
    let (code, said) = recording.verify(&recording.out("altered.json"), &recording.bundle, &[]);
    assert_eq!(
        (code, &said["reason"]),
        (2, &json!("CERTIFICATE_MISMATCH")),
        "the bundle as it was does verify"
    );
}

#[test]
fn whatever_of_a_bundle_was_altered_ends_the_replay_before_anything_is_judged() {
    let recording = Recording::usual(&full());
    for (file, text) in
        [("receipts.ndjson", "allow"), ("policy/", "on_not"), ("manifest.json", "receipts.ndjson")]
    {
        let bundle = altered_in(&recording, file, text);
        let out = format!("{}.json", file.trim_end_matches('/'));
        let (code, certificate) = recording.run(&bundle, &out, &[]);
        assert_eq!(code, 2, "{file}");
        if recording.out(&out).exists() {
            assert_eq!(
                (&certificate["status"], &certificate["counts"]["matched"]),
                (&json!("failed"), &json!(0)),
                "{file}"
            );
        }
    }
    let (folder, out) = (recording.scratch.path(), recording.out("folder.json"));
    let words = ["replay", "run", path(folder), "--key", path(&recording.key), "--out", path(&out)];
    let (code, answer) = cli(&words);
    assert_eq!((code, &answer["error"]["code"]), (6, &json!("ARGUMENT_INVALID")), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("expected the `.pef.zip`"), "{answer}");
}

#[test]
fn tags_alone_are_no_success_also_where_every_call_was_blocked() {
    let world = World::with(Script::model(), &setup("hmac"));
    let blocked = TOOL.replace("get_weather", "shell");
    assert_eq!(world.send(&chat("blocked", &blocked)).status(), 403);
    let recording = Recording::of(world, "blocked");
    let (code, certificate) = recording.run(&recording.bundle, "c.json", &[]);
    assert_eq!((code, &certificate["status"]), (5, &json!("partial")), "{certificate}");
    assert_eq!((&certificate["mode"], &certificate["reasons"]), (&json!("tag"), &json!(["TAGS_ONLY"])));
    assert_eq!(recording.verify(&recording.out("c.json"), &recording.bundle, &[]).0, 0);
}

#[test]
fn without_bodies_a_replay_is_partial_and_says_so() {
    let recording = Recording::usual(&setup("hmac"));
    let (code, certificate) = recording.run(&recording.bundle, "tag.json", &[]);
    assert_eq!((code, &certificate["status"], &certificate["mode"]), (5, &json!("partial"), &json!("tag")));
    assert_eq!(certificate["reasons"], json!(["BODY_ABSENT", "TAGS_ONLY"]));
    let (code, _) = recording.run(&recording.bundle, "allowed.json", &["--allow-partial"]);
    assert_eq!(code, 0);
    let (code, said) = recording.verify(&recording.out("tag.json"), &recording.bundle, &[]);
    assert_eq!((code, &said["status"]), (0, &json!("partial")), "{said}");
    let (code, answer) = cli(&[
        "replay",
        "run",
        path(&recording.bundle),
        "--key",
        path(&recording.key),
        "--out",
        path(&recording.out("tag.json")),
    ]);
    assert_eq!((code, &answer["error"]["code"]), (8, &json!("OUTPUT_EXISTS")));
}

#[test]
fn values_that_were_repaired_or_refused_are_judged_again() {
    let policy = "version: 1\nname: t\ncontracts:\n  weather: { json: '{ \"type\": \"object\", \"required\": [\"city\"] }' }\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: { full: { reason: replay } }, judge: { repair: r1, tools: { get_weather: weather } } }\n";
    let arguments = [r#"{"city": "Paris"}"#, r#"{"city": "Paris",}"#, r#"{"town": "Paris"}"#];
    let world = World::with(
        Script::default()
            .on(tool_call(arguments[0]).times(1))
            .on(tool_call(arguments[1]).times(1))
            .on(tool_call(arguments[2])),
        &Setup { policy: policy.into(), ..Setup::default() },
    );
    let statuses: Vec<u16> = arguments.iter().map(|_| world.send(&chat("v", TOOL)).status()).collect();
    assert_eq!(statuses[0], 200);
    assert_eq!(statuses[2], 422);
    let recording = Recording::of(world, "v");
    let verdicts: Vec<Value> = recording
        .world
        .receipts_in(&recording.bundle)
        .iter()
        .map(|receipt| receipt["verdict"]["action"].clone())
        .collect();
    assert_eq!(verdicts, ["allow", "repair", "block"], "{statuses:?}");
    let (code, certificate) = recording.run(&recording.bundle, "values.json", &[]);
    assert_eq!((code, &certificate["counts"]["matched"]), (0, &json!(3)), "{certificate}");
}

fn tool_call(arguments: &str) -> estoppel_stub::Rule {
    use estoppel_stub::{Dialect, ModelReply, Reply, Rule, ToolCall};
    let call = ToolCall { name: "get_weather".into(), arguments: arguments.into() };
    let model = ModelReply { calls: Some(vec![call]), ..ModelReply::new(Dialect::ChatCompletions) };
    Rule::new("POST", "/v1/chat/completions", Reply::model(model))
}

#[test]
fn a_certificate_that_was_forged_or_is_of_another_bundle_does_not_hold() {
    let recording = Recording::usual(&full());
    assert_eq!(recording.run(&recording.bundle, "c.json", &[]).0, 0);
    let envelope: Value = serde_json::from_slice(&std::fs::read(recording.out("c.json")).unwrap()).unwrap();
    let payload = from_base64(envelope["payload"].as_str().unwrap()).unwrap();
    let forged = |name: &str, change: &dyn Fn(&mut Value), seed: Option<u8>| {
        let mut statement: Value = serde_json::from_slice(&payload).unwrap();
        change(&mut statement);
        let bytes = statement.to_string().into_bytes();
        let file = match seed {
            Some(seed) => {
                let key = SoftKey::ed25519(&[seed; 32]);
                String::from_utf8(sign(STATEMENT_TYPE, &bytes, &key).unwrap()).unwrap()
            }
            None => {
                let mut envelope = envelope.clone();
                envelope["payload"] = base64(&bytes).into();
                envelope.to_string()
            }
        };
        let file = recording.scratch.write(name, file);
        let (code, said) = recording.verify(&file, &recording.bundle, &[]);
        (code, said["reason"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |code: &str| (2, code.to_owned());
    let finished =
        |statement: &mut Value| statement["predicate"]["finished"] = "2030-01-01T00:00:00.000000Z".into();
    assert_eq!(forged("a", &finished, None), refused("CERTIFICATE_SIGNATURE"));
    assert_eq!(
        forged("b", &finished, Some(9)),
        (0, String::new()),
        "whoever has the key may say another time"
    );
    assert_eq!(forged("c", &finished, Some(8)), refused("CERTIFICATE_KEY"));
    let of = |path: &'static str, value: Value| {
        move |statement: &mut Value| *statement.pointer_mut(path).unwrap() = value.clone()
    };
    assert_eq!(
        forged("d", &of("/predicate/status", "failed".into()), Some(9)),
        refused("CERTIFICATE_STATUS")
    );
    assert_eq!(
        forged("e", &of("/predicate/counts/matched", 3.into()), Some(9)),
        refused("CERTIFICATE_STATUS")
    );
    assert_eq!(
        forged("f", &of("/predicate/upstream_connections", 1.into()), Some(9)),
        refused("CERTIFICATE_STATUS")
    );
    let fewer = |statement: &mut Value| {
        statement["predicate"]["counts"]["matched"] = 3.into();
        statement["predicate"]["counts"]["recorded"] = 3.into();
    };
    assert_eq!(forged("g", &fewer, Some(9)), refused("CERTIFICATE_MISMATCH"));
    let root = format!("root:{}", "0".repeat(64));
    assert_eq!(
        forged("h", &of("/predicate/bundle/root", root.into()), Some(9)),
        refused("CERTIFICATE_MISMATCH")
    );
    assert_eq!(forged("i", &of("/predicate/policies", json!([])), Some(9)), refused("CERTIFICATE_MISMATCH"));
    assert_eq!(forged("j", &of("/predicate/v", "replay/v1".into()), Some(9)), refused("CERTIFICATE_SCHEMA"));
    assert_eq!(forged("k", &|_| (), Some(9)), (0, String::new()));
    let no_envelope = recording.scratch.write("l", "{}");
    assert_eq!(recording.verify(&no_envelope, &recording.bundle, &[]).1["reason"], "CERTIFICATE_MALFORMED");
    let other = Recording::usual(&full());
    let (code, said) = recording.verify(&recording.out("c.json"), &other.bundle, &[]);
    assert_eq!((code, &said["reason"]), (2, &json!("CERTIFICATE_MISMATCH")));
}

#[test]
fn openssl_verifies_what_a_certificate_signs() {
    let recording = Recording::usual(&full());
    for (name, key) in [("ed25519", SoftKey::ed25519(&[9; 32])), ("p256", SoftKey::p256(&[9; 32]).unwrap())] {
        let private = recording.scratch.write(name, &**key.to_pem().unwrap());
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
        let out = recording.out(&format!("{name}.json"));
        let words = ["replay", "run", path(&recording.bundle), "--key", path(&private), "--out", path(&out)];
        assert_eq!(cli(&words).0, 0);
        assert_eq!(recording.verify(&out, &recording.bundle, &[]).0, 0);
        let envelope: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
        let bytes = |value: &Value| from_base64(value.as_str().unwrap()).unwrap();
        let message = recording.scratch.write("message", pae(STATEMENT_TYPE, &bytes(&envelope["payload"])));
        let signature = recording.scratch.write("signature", bytes(&envelope["signatures"][0]["sig"]));
        let public = recording.scratch.write("public.pem", key.public().pem());
        let mut command = Command::new("openssl");
        match name {
            "p256" => {
                command.args(["dgst", "-sha256", "-verify", path(&public), "-signature", path(&signature)])
            }
            _ => command.args(["pkeyutl", "-verify", "-pubin", "-inkey", path(&public), "-rawin"]).args([
                "-sigfile",
                path(&signature),
                "-in",
            ]),
        };
        let verified = command.arg(&message).output().unwrap();
        assert!(verified.status.success(), "{name}: {}", String::from_utf8_lossy(&verified.stderr));
    }
}

#[test]
fn a_key_that_signs_evidence_or_others_can_read_signs_no_certificate() {
    let recording = Recording::usual(&full());
    let out = recording.out("c.json");
    let attempt = |key: &Path| {
        let (code, answer) =
            cli(&["replay", "run", path(&recording.bundle), "--key", path(key), "--out", path(&out)]);
        (code, answer["error"]["code"].as_str().unwrap().to_owned())
    };
    let manifest = recording.keys().join("manifest.pem");
    assert_eq!(attempt(&manifest), (6, "KEY_INVALID".into()));
    let open = private(&recording.scratch, "open.pem", 7);
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(attempt(&open), (6, "KEY_PERMISSIONS".into()));
    assert!(!out.exists(), "nothing is half-written");
}

#[test]
fn a_replay_of_nothing_is_no_success() {
    let world = World::with(Script::model(), &full());
    let blocked = TOOL.replace("get_weather", "shell");
    assert_eq!(world.send(&chat("other", &blocked)).status(), 403);
    let recording = Recording::of(world, "other");
    let served = recording.serve("steps.json", &["--side", "upstream", "--until-done"]);
    let (code, certificate) = served.certificate();
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")));
    assert_eq!(certificate["reasons"], json!(["NO_STEPS"]), "nothing had gone upstream");
    assert_eq!(recording.verify(&recording.out("steps.json"), &recording.bundle, &[]).0, 0);
    let served = recording.serve("none.json", &[]);
    served.stop();
    let (code, certificate) = served.certificate();
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")));
    assert_eq!(certificate["reasons"], json!(["MISSING"]));
    assert_eq!(certificate["divergences"][0]["seq"], 1);
}

#[test]
fn a_client_runs_again_and_gets_what_was_recorded() {
    let recording = Recording::usual(&full());
    let upstream_saw = recording.world.upstream.hits().total();
    let receipts = recording.world.receipts_in(&recording.bundle);
    let bundle = estoppel_bundle::Bundle::from_zip(std::fs::read(&recording.bundle).unwrap()).unwrap();
    let recorded: Vec<Vec<u8>> = receipts
        .iter()
        .map(|receipt| {
            let side = serde_json::from_value(receipt["response"]["client"].clone()).unwrap();
            bundle.body(&side).unwrap().unwrap()
        })
        .collect();
    let served = recording.serve("served.json", &["--until-done"]);
    let blocked = TOOL.replace("get_weather", "shell");
    let asked = [ask("one", false), ask("one", false), ask("two", true), blocked];
    let answers: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = asked[..2].iter().map(|body| scope.spawn(|| served.ask(body))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let later: Vec<_> = asked[2..].iter().map(|body| served.ask(body)).collect();
    for (answer, (body, receipt)) in answers.iter().chain(&later).zip(recorded.iter().zip(&receipts)) {
        assert_eq!(u64::from(answer.status()), receipt["response"]["client"]["status"].as_u64().unwrap());
        assert!(answer.body == *body);
    }
    let (code, certificate) = served.certificate();
    assert_eq!((code, &certificate["status"]), (0, &json!("success")), "{certificate}");
    assert_eq!((&certificate["counts"]["matched"], &certificate["side"]), (&json!(4), &json!("client")));
    assert_eq!(certificate["upstream_connections"], 0);
    assert_eq!(recording.world.upstream.hits().total(), upstream_saw, "the real upstream heard nothing");
    let (code, said) = recording.verify(&recording.out("served.json"), &recording.bundle, &[]);
    assert_eq!((code, &said["status"]), (0, &json!("success")), "{said}");
}

#[test]
fn a_program_that_is_upgraded_while_it_serves_says_which_one_it_was() {
    let recording = Recording::usual(&full());
    let program = recording.scratch.join("estoppel");
    if std::fs::hard_link(cli_binary(), &program).is_err() {
        std::fs::copy(cli_binary(), &program).unwrap();
    }
    let served = recording.serve_by(&program, "upgraded.json", &["--lenient"]);
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "the next version").unwrap();
    served.stop();
    let (code, certificate) = served.certificate();
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")), "{certificate}");
    let digest = estoppel_evidence::Sha256::of(&std::fs::read(cli_binary()).unwrap());
    assert_eq!(certificate["tool"]["digest"], digest.to_string());
}

#[test]
fn a_request_that_was_not_recorded_is_a_miss_and_never_goes_upstream() {
    let recording = Recording::usual(&full());
    let upstream_saw = recording.world.upstream.hits().total();
    let served = recording.serve("strict.json", &["--until-done"]);
    for _ in 0..2 {
        assert_eq!(served.ask(&ask("one", false)).status(), 200);
    }
    let answer = served.ask(&ask("ten", true));
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status(), &said["error"]["code"]), (599, &json!("ARG_DRIFT")));
    assert_eq!(said["error"]["nearest"]["seq"], 3);
    assert_eq!(said["error"]["nearest"]["at"], json!(["/messages/0/content"]));
    let (code, certificate) = served.certificate();
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")));
    assert_eq!(certificate["reasons"], json!(["ARG_DRIFT", "MISSING"]));
    assert_eq!(certificate["first_divergent_seq"], 3);
    assert_eq!(recording.world.upstream.hits().total(), upstream_saw);
    let (code, said) = recording.verify(&recording.out("strict.json"), &recording.bundle, &[]);
    assert_eq!((code, &said["status"]), (0, &json!("failed")), "{said}");
}

#[test]
fn lenient_goes_on_and_a_step_is_never_given_twice() {
    let recording = Recording::usual(&full());
    let served = recording.serve("lenient.json", &["--lenient"]);
    let elsewhere = Request::new("POST", "/v2/chat/completions").body(ask("two", true));
    let answer = send(served.address, &elsewhere).unwrap();
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status(), &said["error"]["code"]), (599, &json!("MISS")));
    assert_eq!(said["error"]["nearest"]["differs"], "method or target");
    assert_eq!(served.ask(&ask("two", true)).status(), 200, "early");
    let shaped = ask("one", false).replace("\"stream\":false,", "");
    assert_eq!(served.ask(&shaped).status(), 200, "the nearest");
    let statuses: Vec<u16> = (0..3).map(|_| served.ask(&ask("one", false)).status()).collect();
    assert_eq!(
        statuses,
        [200, 403, 599],
        "the second is left, then the nearest of another body, then nothing"
    );
    served.stop();
    let (code, certificate) = served.certificate();
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")));
    let counts = &certificate["counts"];
    assert_eq!(
        (&counts["matched"], &counts["miss"], &counts["reordered"]),
        (&json!(2), &json!(2), &json!(1)),
        "{counts}"
    );
    assert_eq!(counts["drift"], json!([{"code": "SCHEMA_DRIFT", "count": 2}]));
    let (code, said) = recording.verify(&recording.out("lenient.json"), &recording.bundle, &[]);
    assert_eq!((code, &said["status"]), (0, &json!("failed")), "{said}");
}

#[test]
fn declared_values_may_differ_and_the_certificate_says_by_which_file() {
    let recording = Recording::usual(&full());
    let rules =
        json!({"normalize": [{"as": "any", "at": "/messages/*/content"}], "v": "replay-normalizers/v0"});
    let file = recording.scratch.write("normalizers.json", rules.to_string());
    let served = recording.serve("normalized.json", &["--until-done", "--normalizers", path(&file)]);
    let blocked = TOOL.replace("get_weather", "shell");
    for body in [ask("a", false), ask("b", false), ask("c", true), blocked] {
        assert_ne!(served.ask(&body).status(), 599, "{body}");
    }
    let (code, certificate) = served.certificate();
    assert_eq!((code, &certificate["status"]), (0, &json!("success")), "{certificate}");
    let digest = estoppel_evidence::Sha256::of(rules.to_string().as_bytes());
    assert_eq!(certificate["normalizers"], digest.to_string());
    let file = recording.scratch.join("normalized.json");
    let words = ["replay", "verify-certificate", path(&file), "--bundle", path(&recording.bundle)];
    let told = std::process::Command::new(crate::support::cli_binary()).args(words).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains(&format!("normalizers {digest}")), "{told}");
}

#[test]
fn a_gateway_runs_again_in_front_of_what_its_upstream_said() {
    let recording = Recording::usual(&full());
    let before = recording.world.receipts_in(&recording.bundle);
    let served = recording.serve("upstream.json", &["--side", "upstream", "--until-done"]);
    let scratch = Scratch::new("again");
    write_config(&scratch, served.address, &full());
    let (mut daemon, gateway, admin) = start(&scratch, 0);
    let blocked = TOOL.replace("get_weather", "shell");
    for body in [ask("one", false), ask("one", false), ask("two", true), blocked] {
        assert!(matches!(send(gateway, &chat("r", &body)).unwrap().status(), 200 | 403));
    }
    let (code, certificate) = served.certificate();
    assert_eq!((code, &certificate["status"]), (0, &json!("success")), "{certificate}");
    assert_eq!(certificate["counts"]["recorded"], 3, "the blocked call had no upstream");
    let sealed = cli(&["seal", "r", "--admin", &admin.to_string()]);
    let after = cli(&["show", sealed.1["data"]["path"].as_str().unwrap()]);
    let after = after.1["data"]["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "call");
    let after: Vec<&Value> = after.collect();
    assert_eq!(after.len(), before.len());
    for (at, (before, after)) in before.iter().zip(after).enumerate() {
        assert_eq!(after["verdict"], before["verdict"]);
        assert_eq!(after["response"]["upstream"]["sha256"], before["response"]["upstream"]["sha256"]);
        // The error that a blocked call gets has no call's id in this dialect.
        assert_eq!(after["response"]["client"]["sha256"], before["response"]["client"]["sha256"], "{at}");
    }
    let (code, _) = recording.verify(&recording.out("upstream.json"), &recording.bundle, &[]);
    assert_eq!(code, 0);
    daemon.terminate();
    daemon.wait_exit(PATIENCE);
}

#[test]
fn a_route_that_takes_its_path_off_is_served_with_a_prefix() {
    let recording = Recording::usual(&full());
    let served = recording.serve("prefix.json", &["--prefix", "/v1", "--lenient"]);
    let bare = Request::new("POST", "/chat/completions").body(ask("one", false));
    assert_eq!(send(served.address, &bare).unwrap().status(), 200);
    assert_eq!(served.ask(&ask("one", false)).status(), 599);
    served.stop();
    let (_, certificate) = served.certificate();
    assert_eq!((&certificate["counts"]["matched"], &certificate["counts"]["miss"]), (&json!(1), &json!(1)));
}

/// The sizes of the chunks of an answer on the wire.
fn chunk_sizes(address: SocketAddr, body: &str) -> Vec<usize> {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {length}\r\n\r\n{body}").unwrap();
    let mut wire = Vec::new();
    stream.read_to_end(&mut wire).unwrap();
    let start = wire.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
    let (mut rest, mut sizes) = (&wire[start..], Vec::new());
    while let Some(end) = rest.windows(2).position(|part| part == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        sizes.push(size);
        rest = &rest[end + 2 + size + 2..];
    }
    sizes
}

#[test]
fn a_stream_is_sent_in_its_recorded_units() {
    let recording = Recording::usual(&full());
    let receipts = recording.world.receipts_in(&recording.bundle);
    let bundle = estoppel_bundle::Bundle::from_zip(std::fs::read(&recording.bundle).unwrap()).unwrap();
    let side = serde_json::from_value(receipts[2]["response"]["client"].clone()).unwrap();
    let ends = estoppel_bundle::unit_ends(&bundle.body(&side).unwrap().unwrap());
    assert_eq!(receipts[2]["sse"]["units"], ends.len(), "the units of the receipt");
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let units: Vec<usize> = starts.zip(&ends).map(|(from, to)| to - from).collect();
    let served = recording.serve("chunks.json", &[]);
    assert_eq!(chunk_sizes(served.address, &ask("two", true)), units);
    served.stop();
    served.certificate();
}

#[test]
fn an_answer_that_was_cut_is_cut_again_and_counts_as_that() {
    use estoppel_stub::{Fault, Reply, Rule};
    let cut = Reply::text("half of it").fault(Fault::Truncate { after_bytes: 4 });
    let world = World::with(Script::model().on(Rule::any("/cut", cut)), &full());
    let asked = Request::new("GET", "/cut").header("estoppel-run", "cut");
    assert!(send(world.gateway, &asked).is_err(), "no end of the body");
    world.wait_for_calls("cut", 1);
    let recording = Recording::of(world, "cut");
    let (code, certificate) = recording.run(&recording.bundle, "run.json", &[]);
    assert_eq!((code, &certificate["reasons"]), (5, &json!(["TRUNCATED"])), "{certificate}");
    let served = recording.serve("cut.json", &["--until-done"]);
    assert!(send(served.address, &Request::new("GET", "/cut")).is_err(), "no end of the body");
    let (code, certificate) = served.certificate();
    assert_eq!((code, &certificate["status"]), (5, &json!("partial")));
    assert_eq!(certificate["counts"]["truncated"], 1);
    assert_eq!(recording.verify(&recording.out("cut.json"), &recording.bundle, &[]).0, 0);
}

#[test]
fn redacted_bodies_make_a_replay_partial() {
    let recording = Recording::usual(&setup("{ full: { reason: r, redact: [/messages/*/content] } }"));
    let (code, certificate) = recording.run(&recording.bundle, "run.json", &[]);
    assert_eq!((code, &certificate["status"]), (5, &json!("partial")));
    assert!(certificate["reasons"].as_array().unwrap().contains(&json!("BODY_REDACTED")), "{certificate}");
    let served = recording.serve("redacted.json", &["--until-done"]);
    let blocked = TOOL.replace("get_weather", "shell");
    for body in [ask("one", false), ask("one", false), ask("two", true), blocked] {
        assert_ne!(served.ask(&body).status(), 599);
    }
    let (code, certificate) = served.certificate();
    assert_eq!((code, &certificate["status"]), (5, &json!("partial")));
    assert_eq!(certificate["reasons"], json!(["BODY_REDACTED"]));
}

type Bodies = std::collections::BTreeMap<String, Vec<u8>>;

/// What somebody else could seal: the bundle with what `change` makes of receipts and bodies, digests and all.
fn resealed(recording: &Recording, change: impl Fn(&mut Vec<Value>, &mut Bodies)) -> Memory {
    let archive = estoppel_bundle::Archive::open(std::fs::read(&recording.bundle).unwrap()).unwrap();
    let (mut bodies, mut files, mut manifest, mut lines) =
        (Bodies::new(), Bodies::new(), Value::Null, Vec::new());
    for entry in archive.entries() {
        let mut content = Vec::new();
        archive.content(entry).read_to_end(&mut content).unwrap();
        match entry.path.as_str() {
            "manifest.json" => manifest = serde_json::from_slice(&content).unwrap(),
            "receipts.ndjson" => {
                let split = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                lines = split.map(|line| serde_json::from_slice(line).unwrap()).collect();
            }
            name if name.starts_with("bodies/") => drop(bodies.insert(name.to_owned(), content)),
            name => drop(files.insert(name.to_owned(), content)),
        }
    }
    change(&mut lines, &mut bodies);
    files.extend(bodies);
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    files.insert("receipts.ndjson".to_owned(), lines.into_bytes());
    let rows = manifest["files"].as_array_mut().unwrap();
    rows.retain(|row| !row["path"].as_str().unwrap().starts_with("bodies/"));
    let bodies = files.keys().filter(|path| path.starts_with("bodies/"));
    rows.extend(bodies.map(|path| json!({"path": path, "role": "body"})));
    for row in rows {
        let content = &files[row["path"].as_str().unwrap()];
        row["bytes"] = content.len().into();
        row["sha256"] = estoppel_evidence::Sha256::of(content).to_string().into();
    }
    files.insert("manifest.json".to_owned(), manifest.to_string().into_bytes());
    Memory(files)
}

struct Memory(Bodies);

impl estoppel_bundle::Source for Memory {
    fn files(&self) -> Result<Vec<(estoppel_bundle::BundlePath, u64)>, estoppel_bundle::OpenError> {
        Ok(self.0.iter().map(|(path, content)| (path.parse().unwrap(), content.len() as u64)).collect())
    }

    fn open(&self, path: &estoppel_bundle::BundlePath) -> std::io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0[path.as_str()].as_slice()))
    }
}

/// Puts another body in the place of those that `sides` of call `seq` have.
fn replace(lines: &mut [Value], bodies: &mut Bodies, seq: usize, sides: &[&str]) {
    for side in sides {
        let side = lines[seq].pointer_mut(side).unwrap();
        let name = format!("bodies/{}", side["sha256"].as_str().unwrap().trim_start_matches("sha256:"));
        let mut content = bodies[&name].clone();
        let at = content.len() / 2;
        content[at] ^= 1;
        let digest = estoppel_evidence::Sha256::of(&content);
        side["sha256"] = digest.to_string().into();
        bodies.insert(format!("bodies/{}", digest.hex()), content);
    }
}

#[test]
fn what_another_hand_sealed_is_found_by_judging_again() {
    use estoppel_replay::{Connections, Matching, Status, Tally, judge};
    let recording = Recording::usual(&full());
    let capture = estoppel_journal::keys::load_capture(&recording.keys()).unwrap();
    type Change<'a> = &'a dyn Fn(&mut Vec<Value>, &mut Bodies);
    let check = |change: Change<'_>, with_key: bool, expected: Option<(&str, u64)>| {
        let bundle = estoppel_bundle::Bundle::open(resealed(&recording, change)).unwrap();
        let key = capture.run(bundle.manifest().run);
        let (mut tally, mut connections) = (Tally::new(Matching::Strict), Connections::default());
        let key = with_key.then_some(&key);
        judge::judge(&bundle, key, [1, 2], &mut tally, &mut connections).unwrap();
        let found = tally.divergences().0.first().map(|row| (row.code.as_str(), row.seq.unwrap()));
        assert_eq!(found, expected, "{:?}", tally.counts());
        assert_eq!(tally.status(0) == Status::Failed, expected.is_some());
    };
    let (upstream, client) = ("/response/upstream", "/response/client");
    check(&|_, _| (), true, None);
    check(&|lines, bodies| replace(lines, bodies, 2, &[upstream]), false, Some(("ANSWER_DRIFT", 2)));
    check(&|lines, bodies| replace(lines, bodies, 3, &[client]), false, Some(("ANSWER_DRIFT", 3)));
    check(&|lines, bodies| replace(lines, bodies, 3, &[upstream, client]), true, Some(("BODY_DRIFT", 3)));
    check(&|lines, bodies| replace(lines, bodies, 1, &["/request"]), true, Some(("BODY_DRIFT", 1)));
    let let_pass = |lines: &mut Vec<Value>, _: &mut Bodies| {
        lines[4]["verdict"] = json!({"action": "allow", "mode": "enforce"});
    };
    check(&let_pass, true, Some(("STATUS_DRIFT", 4)));
    let other_rule = |lines: &mut Vec<Value>, _: &mut Bodies| lines[4]["policy"]["rule"] = "another".into();
    check(&other_rule, true, Some(("STATUS_DRIFT", 4)));
}

#[test]
fn judging_again_needs_no_network_at_all() {
    let recording = Recording::usual(&full());
    let (out, keys) = (recording.out("offline.json"), recording.keys());
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--", cli_binary(), "--json", "replay", "run"]);
    command.args([
        path(&recording.bundle),
        "--key",
        path(&recording.key),
        "--out",
        path(&out),
        "--keys",
        path(&keys),
    ]);
    let probe = || {
        let words = ["--user", "--map-root-user", "--net", "--", "true"];
        match Command::new("unshare").args(words).output() {
            Ok(done) if done.status.success() => Ok(()),
            Ok(done) => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    if require_real_with("a network namespace", probe).is_none() {
        return;
    }
    let done = command.output().unwrap();
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert_eq!(said["data"]["certificate"]["status"], "success");
}
