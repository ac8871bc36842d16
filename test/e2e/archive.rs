//! What is sealed, in a bucket of a real S3 service that enforces object lock; and who had a bundle in hand.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use estoppel_evidence::Sha256;
use estoppel_evidence::time::UnixMicros;
use estoppel_kit::http::{Request, get};
use estoppel_kit::{Exit, Method, Process, Scratch, SeaweedServer, until};
use estoppel_stub::{Reply, Script};
use serde_json::{Value, json};

use crate::authority::Authority;
use crate::custody::{custodian, list_of};
use crate::support::{PATIENCE, Setup, World, cli, cli_binary, path};

const BUCKET: &str = "evidence";
const MIB: u64 = 1 << 20;

/// The table `[archive]`, and the files that it names.
fn table(scratch: &Scratch, server: &SeaweedServer, bucket: &str, mode: &str, more: &str) -> String {
    let key = secret(scratch, "s3-key.json", credentials(SeaweedServer::SECRET));
    format!(
        "[archive]\nendpoint = \"http://{}\"\nbucket = \"{bucket}\"\nprefix = \"gw-1/\"\nmode = \"{mode}\"\nretain_days = 2\n\
         credentials = {{ file = {key:?} }}\n{more}\n",
        server.address()
    )
}

fn credentials(secret: &str) -> String {
    json!({ "Version": 1, "AccessKeyId": SeaweedServer::KEY, "SecretAccessKey": secret }).to_string()
}

fn secret(scratch: &Scratch, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let file = scratch.write(name, content);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn push(what: &Path, config: &Path) -> (i32, Value) {
    cli(&["archive", "push", path(what), "--config", path(config)])
}

/// Exit code, and the code of each fault or of the error.
fn verify(what: &Path, config: &Path) -> (i32, Vec<String>) {
    let (exit, answer) = cli(&["archive", "verify", path(what), "--config", path(config)]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let codes = match answer["error"]["data"]["faults"].as_array() {
        Some(faults) => faults.iter().map(|fault| text(&fault["code"])).collect(),
        None if exit == 0 => Vec::new(),
        None => vec![text(&answer["error"]["code"])],
    };
    (exit, codes)
}

fn status(what: &Path) -> Value {
    let (exit, answer) = cli(&["archive", "status", path(what)]);
    assert_eq!(exit, 0, "{answer}");
    answer["data"].clone()
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

/// A folder of bundles with one real bundle, and a journal around it with a segment that is over.
fn sealed(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let world = World::new(Script::always(Reply::json("{}")));
    let request = Request::new("POST", "/orders").header("estoppel-run", "nightly");
    assert_eq!(world.send(&request.body("{}")).status(), 200);
    let bundle = world.seal("nightly");
    let key = world.journal().join("keys/manifest.pem");
    secret(scratch, "gateway/manifest.pem", std::fs::read(key).unwrap());
    let kept = scratch.write("journal/bundles/nightly.pef.zip", std::fs::read(bundle).unwrap());
    scratch.write("journal/segments/00000000000000000000.seg", "what was written");
    scratch.write("journal/segments/00000000000000000007.seg", "what is being written");
    (scratch.join("journal"), kept)
}

fn version(status: &Value, kind: &str) -> (String, String) {
    let entry = status["entries"].as_array().unwrap().iter().find(|entry| entry["kind"] == kind).unwrap();
    (entry["key"].as_str().unwrap().to_owned(), entry["version"].as_str().unwrap().to_owned())
}

#[test]
fn what_is_archived_is_confirmed_and_can_neither_be_replaced_nor_deleted() {
    let Some(server) = SeaweedServer::start() else { return };
    server.make_bucket(BUCKET, true);
    let scratch = Scratch::new("archive");
    let (journal, bundle) = sealed(&scratch);
    let config = scratch.write("a.toml", table(&scratch, &server, BUCKET, "compliance", "legal_hold = true"));
    assert_eq!(status(&journal)["waiting"].as_array().unwrap().len(), 2);
    let (exit, answer) = push(&journal, &config);
    assert_eq!((exit, answer["data"]["archived"].as_array().unwrap().len()), (0, 2), "{answer:#}");
    let (exit, answer) = push(&bundle, &config);
    assert_eq!((exit, &answer["data"]["known"], &answer["data"]["archived"]), (0, &json!(1), &json!([])));
    assert_eq!(verify(&journal, &config), (0, Vec::new()));
    let known = status(&journal);
    assert_eq!(known["waiting"], json!([]), "{known:#}");
    let kinds: Vec<_> =
        known["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["bundle", "segment"], "the segment that is written to is not archived");

    let (key, id) = version(&known, "bundle");
    let content = std::fs::read(&bundle).unwrap();
    assert_eq!(key, format!("gw-1/sha256/{}", Sha256::of(&content).hex()), "addressed by content");
    let read = server.ask(Method::Get, BUCKET, &format!("{key}?versionId={id}"), &[], b"");
    assert!(read.body == content, "the copy is the bundle");
    assert_eq!(read.header("x-amz-object-lock-mode"), Some("COMPLIANCE"));
    assert_eq!(read.header("x-amz-object-lock-legal-hold"), Some("ON"));
    let replaced = server.ask(Method::Put, BUCKET, &key, &[("if-none-match", "*")], b"forged");
    assert_eq!(replaced.status(), 412);
    for headers in [&[][..], &[("x-amz-bypass-governance-retention", "true")]] {
        let deleted = server.ask(Method::Delete, BUCKET, &format!("{key}?versionId={id}"), headers, b"");
        assert_eq!(deleted.status(), 403, "{}", deleted.text());
    }
    let shorter = "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2026-01-01T00:00:00Z</RetainUntilDate></Retention>";
    let shortened =
        server.ask(Method::Put, BUCKET, &format!("{key}?retention&versionId={id}"), &[], shorter.as_bytes());
    assert!(shortened.status() >= 400, "{}", shortened.text());
    // A version above it hides it from who asks for the newest, and changes nothing of it.
    assert_eq!(server.ask(Method::Put, BUCKET, &key, &[], b"forged").status(), 200);
    assert_eq!(verify(&journal, &config), (0, Vec::new()));
}

#[test]
fn what_was_changed_is_gone_or_is_kept_shorter_is_named() {
    let Some(server) = SeaweedServer::start() else { return };
    server.make_bucket(BUCKET, true);
    let scratch = Scratch::new("archive");
    let (journal, bundle) = sealed(&scratch);
    let config = scratch.write("a.toml", table(&scratch, &server, BUCKET, "governance", ""));
    assert_eq!(push(&journal, &config).0, 0);
    let index = journal.join("bundles/archive.ndjson");
    let (written, content) = (std::fs::read_to_string(&index).unwrap(), std::fs::read(&bundle).unwrap());
    let refused = |codes: &[&str]| (2, codes.iter().map(|code| (*code).to_owned()).collect::<Vec<_>>());

    std::fs::write(&index, written.replace("nightly.pef.zip", "renamed.pef.zip")).unwrap();
    assert_eq!(verify(&journal, &config), refused(&["ARCHIVE_CHAIN"]));
    assert_eq!(code(&push(&journal, &config).1), "ARCHIVE_CHAIN", "nothing is added to what does not hold");
    std::fs::write(&index, written.split_once('\n').unwrap().1).unwrap();
    assert_eq!(verify(&journal, &config), refused(&["ARCHIVE_CHAIN"]));
    std::fs::write(&index, &written).unwrap();
    let (key, id) = version(&status(&journal), "bundle");

    std::fs::write(&bundle, [&content[..], b"x"].concat()).unwrap();
    assert_eq!(verify(&journal, &config), refused(&["ARCHIVE_LOCAL_CHANGED"]));
    std::fs::remove_file(&bundle).unwrap();
    assert_eq!(verify(&journal, &config), (0, Vec::new()), "the copy is there for that");
    std::fs::write(&bundle, &content).unwrap();

    let forged = server.ask(Method::Put, BUCKET, &key, &[], b"forged");
    let other = forged.header("x-amz-version-id").unwrap();
    let first = written.lines().next().unwrap().replace(&id, other) + "\n";
    std::fs::write(&index, first).unwrap();
    assert_eq!(verify(&journal, &config), refused(&["ARCHIVE_CHANGED"]));
    std::fs::write(&index, &written).unwrap();

    let bypass = [("x-amz-bypass-governance-retention", "true")];
    let soon = "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2037-01-01T00:00:00Z</RetainUntilDate></Retention>";
    let at = format!("{key}?retention&versionId={id}");
    assert_eq!(server.ask(Method::Put, BUCKET, &at, &bypass, soon.as_bytes()).status(), 200);
    assert_eq!(verify(&journal, &config), (0, Vec::new()), "longer is no fault");
    let seconds = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 86_400;
    let tomorrow = UnixMicros(seconds * 1_000_000).to_string().replace(".000000", "");
    let sooner = soon.replace("2037-01-01T00:00:00Z", &tomorrow);
    assert_eq!(server.ask(Method::Put, BUCKET, &at, &bypass, sooner.as_bytes()).status(), 200);
    assert_eq!(verify(&journal, &config), refused(&["ARCHIVE_RETENTION_SHORT"]));
    let deleted = server.ask(Method::Delete, BUCKET, &format!("{key}?versionId={id}"), &bypass, b"");
    assert_eq!(deleted.status(), 204, "{}", deleted.text());
    assert_eq!(verify(&journal, &config), refused(&["ARCHIVE_MISSING"]));
}

#[test]
fn a_file_that_changed_since_it_was_archived_is_named_by_the_next_push_and_no_copy_is_made_of_it() {
    let Some(server) = SeaweedServer::start() else { return };
    server.make_bucket(BUCKET, true);
    let scratch = Scratch::new("archive");
    let (journal, bundle) = sealed(&scratch);
    let config = scratch.write("a.toml", table(&scratch, &server, BUCKET, "governance", ""));
    let (exit, answer) = push(&journal, &config);
    assert_eq!((exit, answer["data"]["archived"].as_array().unwrap().len()), (0, 2), "{answer:#}");
    let index = journal.join("bundles/archive.ndjson");
    let segment = journal.join("segments/00000000000000000000.seg");
    let written = std::fs::read(&index).unwrap();
    for file in [&bundle, &segment] {
        let content = std::fs::read(file).unwrap();
        let mut flipped = content.clone();
        flipped[content.len() / 2] ^= 1;
        for other in [flipped, [&content[..], b"x"].concat(), content[..content.len() - 1].to_vec()] {
            std::fs::write(file, other).unwrap();
            let (exit, answer) = push(&journal, &config);
            let failed = &answer["data"]["failed"];
            assert_eq!((exit, failed.as_array().unwrap().len()), (2, 1), "{answer:#}");
            let name = file.file_name().unwrap().to_str().unwrap();
            assert_eq!(
                (&failed[0]["code"], &failed[0]["name"]),
                (&json!("ARCHIVE_LOCAL_CHANGED"), &json!(name))
            );
            assert_eq!((&answer["data"]["known"], &answer["data"]["archived"]), (&json!(1), &json!([])));
            assert_eq!(std::fs::read(&index).unwrap(), written, "no other copy is made");
        }
        // No content, and the content under another name.
        let aside = scratch.write("aside", &content);
        let replace: [&dyn Fn(); 3] =
            [&|| std::fs::write(file, "").unwrap(), &|| std::fs::create_dir(file).unwrap(), &|| {
                std::os::unix::fs::symlink(&aside, file).unwrap()
            }];
        for other in replace {
            std::fs::remove_file(file).or_else(|_| std::fs::remove_dir(file)).unwrap();
            other();
            let (exit, answer) = push(&journal, &config);
            let (failed, name) = (&answer["data"]["failed"], file.file_name().unwrap().to_str().unwrap());
            assert_eq!((exit, failed.as_array().unwrap().len()), (2, 1), "{answer:#}");
            assert_eq!(
                (&failed[0]["code"], &failed[0]["name"]),
                (&json!("ARCHIVE_LOCAL_CHANGED"), &json!(name))
            );
            assert_eq!((&answer["data"]["known"], &answer["data"]["archived"]), (&json!(1), &json!([])));
            assert_eq!(std::fs::read(&index).unwrap(), written, "no other copy is made");
            let waiting = &status(&journal)["waiting"];
            assert_eq!((&waiting[0]["name"], &waiting[0]["bytes"]), (&json!(name), &json!(0)), "{waiting:#}");
            assert_eq!(verify(&journal, &config), (2, vec!["ARCHIVE_LOCAL_CHANGED".to_owned()]));
        }
        std::fs::remove_file(file).unwrap();
        std::fs::write(file, content).unwrap();
    }
    scratch.write("journal/bundles/empty.pef.zip", "");
    let (exit, answer) = push(&journal, &config);
    assert_eq!((exit, &answer["data"]["known"]), (0, &json!(2)), "{answer:#}");
    assert_eq!(status(&journal)["waiting"], json!([]), "nothing was archived of what is empty");
    assert_eq!(verify(&journal, &config), (0, Vec::new()), "the copies are what they were");
}

#[test]
fn nothing_is_sent_where_it_would_not_be_kept_or_nobody_may() {
    let Some(server) = SeaweedServer::start() else { return };
    server.make_bucket("plain", false);
    server.make_bucket(BUCKET, true);
    let scratch = Scratch::new("archive");
    let (journal, bundle) = sealed(&scratch);
    let config = |bucket: &str| {
        scratch.write(format!("{bucket}.toml"), table(&scratch, &server, bucket, "compliance", ""))
    };
    for (bucket, exit, reason) in
        [("plain", 8, "ARCHIVE_LOCK_MISSING"), ("none", 7, "ARCHIVE_BUCKET_MISSING")]
    {
        let (found, answer) = push(&journal, &config(bucket));
        assert_eq!((found, code(&answer)), (exit, reason), "{answer:#}");
    }
    let listed = server.ask(Method::Get, "plain", "", &[], b"");
    assert!(!listed.text().contains("<Contents>"), "{}", listed.text());

    let config = config(BUCKET);
    secret(&scratch, "s3-key.json", credentials("not-the-secret"));
    let (exit, answer) = push(&journal, &config);
    assert_eq!((exit, code(&answer)), (6, "ARCHIVE_DENIED"), "{answer:#}");
    assert!(!answer.to_string().contains("not-the-secret") && !answer.to_string().contains("X-Amz"));
    std::fs::set_permissions(scratch.join("s3-key.json"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(code(&push(&journal, &config).1), "ARCHIVE_CREDENTIALS");
    secret(&scratch, "s3-key.json", credentials(SeaweedServer::SECRET));

    // Somebody else has put something under the digest of the bundle.
    let key = format!("gw-1/sha256/{}", Sha256::of(&std::fs::read(&bundle).unwrap()).hex());
    assert_eq!(server.ask(Method::Put, BUCKET, &key, &[], b"forged").status(), 200);
    let (exit, answer) = push(&bundle, &config);
    assert_eq!((exit, &answer["data"]["failed"][0]["code"]), (2, &json!("ARCHIVE_CHANGED")), "{answer:#}");
    assert_eq!(status(&bundle)["entries"], json!([]), "what is not confirmed is not in the index");
}

#[test]
fn what_is_there_already_is_taken_over_and_kept_as_long_as_is_asked() {
    let Some(server) = SeaweedServer::start() else { return };
    server.make_bucket(BUCKET, true);
    let scratch = Scratch::new("archive");
    let (journal, bundle) = sealed(&scratch);
    let content = std::fs::read(&bundle).unwrap();
    // As if a push had been killed before its entry was written, or another service had put it there, unprotected.
    let key = format!("gw-1/sha256/{}", Sha256::of(&content).hex());
    let put = server.ask(Method::Put, BUCKET, &key, &[], &content);
    let config = scratch.write("a.toml", table(&scratch, &server, BUCKET, "governance", "legal_hold = true"));
    assert_eq!(push(&journal, &config).0, 0);
    let (_, id) = version(&status(&journal), "bundle");
    assert_eq!(put.header("x-amz-version-id"), Some(id.as_str()), "there is no second copy");
    let head = server.ask(Method::Get, BUCKET, &format!("{key}?versionId={id}"), &[], b"");
    assert_eq!(head.header("x-amz-object-lock-mode"), Some("GOVERNANCE"));
    assert_eq!(head.header("x-amz-object-lock-legal-hold"), Some("ON"));
    assert_eq!(verify(&journal, &config), (0, Vec::new()));

    std::fs::remove_file(journal.join("bundles/archive.ndjson")).unwrap();
    assert_eq!(push(&journal, &config).0, 0);
    assert_eq!(version(&status(&journal), "bundle").1, id);
    let listed = server.ask(Method::Get, BUCKET, "?versions", &[], b"").text();
    assert_eq!(listed.matches("<Version>").count(), 2, "one of the bundle, one of the segment: {listed}");

    // The command hook, and a list that another process holds.
    let command =
        format!("credentials = {{ command = {{ argv = [\"cat\", {:?}] }} }}", scratch.join("s3-key.json"));
    let text = std::fs::read_to_string(&config).unwrap();
    let file = text.lines().find(|line| line.starts_with("credentials")).unwrap();
    let config = scratch.write("b.toml", text.replace(file, &command));
    assert_eq!(verify(&journal, &config), (0, Vec::new()));
    let held = std::fs::File::open(journal.join("bundles/archive.ndjson")).unwrap();
    held.lock().unwrap();
    let (exit, answer) = push(&journal, &config);
    assert_eq!((exit, code(&answer), &answer["error"]["retryable"]), (1, "ARCHIVE_BUSY", &json!(true)));
}

#[test]
fn a_service_is_known_by_its_certificate() {
    let scratch = Scratch::new("archive");
    let authority = Authority::new();
    authority.server().toml(&scratch, "s3");
    let (certificate, key) = (scratch.join("s3.crt"), scratch.join("s3.key"));
    let Some(server) = SeaweedServer::start_tls(&certificate, &key) else { return };
    server.make_bucket(BUCKET, true);
    let (journal, _) = sealed(&scratch);
    let plain = table(&scratch, &server, BUCKET, "compliance", "");
    let endpoint = format!("https://{}", server.secure_address());
    let text = plain.replace(&format!("http://{}", server.address()), &endpoint);
    let unknown = scratch.write("a.toml", &text);
    let (exit, answer) = push(&journal, &unknown);
    assert_eq!((exit, code(&answer)), (7, "ARCHIVE_UNREACHABLE"), "{answer:#}");
    let ca = authority.write(&scratch, "ca.pem");
    let known = scratch.write("b.toml", format!("{text}ca = {ca:?}\n"));
    assert_eq!(push(&journal, &known).0, 0);
    assert_eq!(verify(&journal, &known), (0, Vec::new()));
}

/// A large file that is uploaded in parts, and the file that says how far it is.
fn large(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let file = scratch.write("bundles/large.pef.zip", b"not a bundle, which nobody asks here");
    std::fs::File::options().write(true).open(&file).unwrap().set_len(130 * MIB + 1).unwrap();
    let sha256 = Sha256::of(&std::fs::read(&file).unwrap());
    let progress = scratch.join(format!("bundles/archive.{}.upload", sha256.hex()));
    (file, progress)
}

/// Starts a push and returns when the service has a few parts, with the id of the upload.
fn begin(scratch: &Scratch, name: &str, config: &Path, progress: &Path) -> (Process, String) {
    let mut command = Command::new(cli_binary());
    command.args(["--json", "archive", "push"]).arg(scratch.join("bundles")).arg("--config").arg(config);
    let mut process = Process::start(name, command, scratch);
    let upload = process.wait_ready(PATIENCE, |_| {
        let text = std::fs::read(progress).ok()?;
        let said: Value = serde_json::from_slice(&text).unwrap();
        let enough = said["parts"].as_array().unwrap().len() >= 2;
        enough.then(|| said["upload"].as_str().unwrap().to_owned())
    });
    (process, upload)
}

fn uploads(server: &SeaweedServer) -> String {
    server.ask(Method::Get, BUCKET, "?uploads", &[], b"").text()
}

#[test]
fn an_upload_that_a_kill_cut_off_goes_on_where_it_was() {
    let Some(server) = SeaweedServer::start() else { return };
    server.make_bucket(BUCKET, true);
    let scratch = Scratch::new("archive");
    let (file, progress) = large(&scratch);
    let config = scratch.write("a.toml", table(&scratch, &server, BUCKET, "governance", "part_mib = 5"));
    let (mut pushing, upload) = begin(&scratch, "push", &config, &progress);
    assert!(matches!(pushing.kill_9(), Exit::Signal(9)));
    assert_eq!(status(&file)["entries"], json!([]), "half a copy is none");
    assert!(uploads(&server).contains(&upload));

    let (exit, answer) = push(&file, &config);
    assert_eq!((exit, answer["data"]["archived"].as_array().unwrap().len()), (0, 1), "{answer:#}");
    // Another upload would have left the first one in the bucket.
    assert!(!uploads(&server).contains("<UploadId>"), "{}", uploads(&server));
    assert!(!progress.exists());
    assert_eq!(verify(&file, &config), (0, Vec::new()));
}

#[test]
fn a_service_that_dies_in_mid_upload_is_named_and_found_again() {
    let Some(mut server) = SeaweedServer::start() else { return };
    server.make_bucket(BUCKET, true);
    let scratch = Scratch::new("archive");
    let (file, progress) = large(&scratch);
    let config = scratch.write("a.toml", table(&scratch, &server, BUCKET, "governance", "part_mib = 5"));
    let (mut pushing, _) = begin(&scratch, "push", &config, &progress);
    server.kill_9();
    assert_eq!(pushing.wait_exit(PATIENCE), Exit::Code(7), "{}", pushing.stdout());
    let said: Value = serde_json::from_str(&pushing.stdout()).unwrap();
    assert_eq!((code(&said), &said["error"]["retryable"]), ("ARCHIVE_UNREACHABLE", &json!(true)));
    assert_eq!(status(&file)["entries"], json!([]));
    server.restart();
    assert_eq!(push(&file, &config).0, 0);
    assert_eq!(verify(&file, &config), (0, Vec::new()));
}

#[test]
fn the_daemon_archives_what_it_seals_and_signs_for_it() {
    let Some(mut server) = SeaweedServer::start() else { return };
    server.make_bucket(BUCKET, true);
    let scratch = Scratch::new("archive");
    let (key, public) = custodian(&scratch, "gateway", 9);
    let more = format!(
        "scan_seconds = 1\nretry_min_ms = 10\nretry_max_ms = 50\ncustody = {{ key = {key:?}, actor = \"gateway e2e\" }}\n"
    );
    let config = table(&scratch, &server, BUCKET, "governance", &more);
    let file = scratch.write("a.toml", &config);
    let mut world = World::with(Script::always(Reply::json("{}")), &Setup { config, ..Setup::default() });
    let call = |world: &World, run: &str| {
        let request = Request::new("POST", "/orders").header("estoppel-run", run);
        assert_eq!(world.send(&request.body("{}")).status(), 200);
        world.seal(run)
    };
    let archived = |world: &World, kind: &str, least: f64| {
        until("archived", PATIENCE, || {
            let count = world.metric(&format!("estoppel_archive_files_total{{kind=\"{kind}\"}}"));
            (count >= Some(least)).then_some(())
        });
    };
    let first = call(&world, "first");
    archived(&world, "custody", 1.0);
    assert_eq!(world.metric("estoppel_archive_files_total{kind=\"bundle\"}"), Some(1.0));

    server.kill_9();
    call(&world, "second");
    until("a failure", PATIENCE, || {
        (world.metric("estoppel_archive_failures_total") > Some(0.0)).then_some(())
    });
    assert!(world.metric("estoppel_archive_waiting_files") >= Some(1.0));
    assert_eq!(get(world.admin, "/readyz").unwrap().status(), 200, "calls do not wait for the archive");
    server.restart();
    archived(&world, "custody", 2.0);
    until("nothing waits", PATIENCE, || {
        (world.metric("estoppel_archive_waiting_files") == Some(0.0)).then_some(())
    });
    assert!(!world.daemon.stderr().contains(SeaweedServer::SECRET), "secrets are not logged");
    world.stop();
    assert_eq!(verify(&world.journal(), &file).0, 0);
    world.check_journal();

    let (exit, answer) = cli(&["custody", "verify", path(&first), "--signer", path(&public)]);
    assert_eq!((exit, &answer["data"]["signers"]), (0, &json!("trusted")), "{answer:#}");
    let entries = answer["data"]["entries"].as_array().unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry["entry"]["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["sealed", "archived"]);
    let (_, id) = version(&status(&first), "bundle");
    assert_eq!(entries[1]["entry"]["archived"]["version"], json!(id));

    // What the archive has of the list cannot be cut off any more.
    let list = list_of(&first);
    let text = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, text.lines().next().unwrap().to_owned() + "\n").unwrap();
    let (exit, answer) = cli(&["custody", "verify", path(&first)]);
    assert_eq!((exit, code(&answer)), (2, "CUSTODY_CUT"), "{answer}");
    assert_eq!(verify(&world.journal(), &file), (2, vec!["ARCHIVE_LOCAL_CHANGED".to_owned()]));
}

#[test]
fn whoever_pushes_may_sign_for_the_copy_and_stands_in_for_whom_the_settings_name() {
    let Some(server) = SeaweedServer::start() else { return };
    server.make_bucket(BUCKET, true);
    let scratch = Scratch::new("archive");
    let (_, bundle) = sealed(&scratch);
    let ((ada, public), (gateway, _)) = (custodian(&scratch, "ada", 1), custodian(&scratch, "gateway", 2));
    let named = format!("custody = {{ key = {gateway:?}, actor = \"gateway\" }}");
    let config = scratch.write("a.toml", table(&scratch, &server, BUCKET, "governance", &named));
    let words = ["archive", "push", path(&bundle), "--config", path(&config)];
    let missing = scratch.join("none.pem");
    let (exit, answer) =
        cli(&[&words[..], &["--custody-key", path(&missing), "--custody-by", "Ada"]].concat());
    assert_eq!((exit, code(&answer)), (6, "KEY_INVALID"), "{answer:#}");
    assert_eq!(status(&bundle)["entries"], json!([]), "nothing is sent that could not be signed for");
    let (exit, answer) = cli(&[&words[..], &["--custody-key", path(&ada), "--custody-by", "Ada"]].concat());
    assert_eq!((exit, answer["data"]["archived"].as_array().unwrap().len()), (0, 2), "{answer:#}");
    let (exit, answer) = cli(&["custody", "verify", path(&bundle), "--signer", path(&public)]);
    assert_eq!(exit, 0, "{answer:#}");
    let entries = answer["data"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    let copied = &entries[1]["entry"];
    assert_eq!((&copied["action"], &copied["actor"]), (&json!("archived"), &json!("Ada")));
    assert_eq!(copied["archived"]["version"], json!(version(&status(&bundle), "bundle").1));
}

#[test]
fn a_chain_of_custody_says_who_did_what_and_no_entry_can_be_altered_cut_or_moved() {
    let scratch = Scratch::new("custody");
    let (_, bundle) = sealed(&scratch);
    let ((ada, ada_public), (bo, bo_public)) = (custodian(&scratch, "ada", 1), custodian(&scratch, "bo", 2));
    let add = |key: &Path, words: &[&str]| {
        cli(&[&["custody", "add", path(&bundle), "--key", path(key), "--actor", "ada"], words].concat())
    };
    let disclosed = scratch.write("key.json", "a disclosed key");
    assert_eq!(
        add(&ada, &["--action", "moved", "--from", "gateway", "--to", "safe", "--note", "by hand"]).0,
        0
    );
    assert_eq!(add(&bo, &["--action", "verified"]).0, 0);
    let (exit, last) =
        add(&ada, &["--action", "disclosed", "--to", "auditor", "--what", "run", "--file", path(&disclosed)]);
    assert_eq!(exit, 0, "{last}");
    let key = |run: &str, scope: &str| {
        let key = json!({ "key": "00", "run": run, "scope": scope, "v": "pef-disclosure/v0" }).to_string();
        let file = scratch.write("other.json", key);
        let words = ["--action", "disclosed", "--to", "auditor", "--what", "run", "--file", path(&file)];
        let (exit, answer) = add(&ada, &words);
        (exit, answer["error"]["code"].as_str().map(str::to_owned))
    };
    let refused = (6, Some("KEY_INVALID".to_owned()));
    assert_eq!(key("01980000-0000-7000-8000-000000000000", "run"), refused, "the key of another run");
    let run = cli(&["show", path(&bundle)]).1["data"]["manifest"]["run"].as_str().unwrap().to_owned();
    assert_eq!(key(&run, "call"), refused, "the key of a call");
    let judge = |words: &[&str]| {
        let (exit, answer) = cli(&[&["custody", "verify", path(&bundle)], words].concat());
        (exit, code(&answer).to_owned(), answer)
    };
    let head = last["data"]["head"].as_str().unwrap();
    let known = ["--signer", path(&ada_public), "--signer", path(&bo_public), "--head", head];
    let (exit, _, answer) = judge(&known);
    assert_eq!(exit, 0, "{answer:#}");
    let said: Vec<&Value> =
        answer["data"]["entries"].as_array().unwrap().iter().map(|one| &one["entry"]).collect();
    assert_eq!(
        said.iter().map(|one| one["action"].as_str().unwrap()).collect::<Vec<_>>(),
        ["sealed", "moved", "verified", "disclosed"]
    );
    assert_eq!((&said[1]["moved"]["to"], &said[1]["note"]), (&json!("safe"), &json!("by hand")));
    assert_eq!(said[2]["verified"]["integrity"], "ok");
    assert_eq!(said[3]["disclosed"]["sha256"], json!(Sha256::of(b"a disclosed key").to_string()));
    assert_eq!(judge(&known[..2]).1, "CUSTODY_UNTRUSTED");

    let list = list_of(&bundle);
    let text = std::fs::read_to_string(&list).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [one, two, three, four] = lines[..] else { panic!("{text}") };
    let at = two.find("\"sig\":\"").unwrap() + 7;
    let other = if two[at..].starts_with('A') { "B" } else { "A" };
    let altered = format!("{}{other}{}", &two[..at], &two[at + 1..]);
    let torn = format!("{one}\n{two}");
    for (forged, code) in [
        (String::new(), "CUSTODY_FORM"),
        (torn, "CUSTODY_FORM"),
        (format!("{two}\n{three}\n{four}\n"), "CUSTODY_CHAIN"),
        (format!("{one}\n{three}\n{four}\n"), "CUSTODY_CHAIN"),
        (format!("{one}\n{three}\n{two}\n{four}\n"), "CUSTODY_CHAIN"),
        (format!("{one}\n{altered}\n{three}\n{four}\n"), "CUSTODY_SIGNATURE"),
        (format!("{one}\n{two}\n{three}\n"), "CUSTODY_CUT"),
    ] {
        std::fs::write(&list, &forged).unwrap();
        let (exit, found, answer) = judge(&["--head", head]);
        assert_eq!((exit, found.as_str()), (2, code), "{answer}");
    }
    std::fs::write(&list, format!("{one}\n{three}\n")).unwrap();
    let (exit, answer) = add(&ada, &["--action", "verified"]);
    assert_eq!((exit, code(&answer)), (2, "CUSTODY_CHAIN"), "nothing is added to what does not hold");

    // A gateway's key vouches for what it recorded, and for nothing else.
    std::fs::write(&list, &text).unwrap();
    let (exit, answer) = add(&scratch.join("gateway/manifest.pem"), &["--action", "verified"]);
    assert_eq!((exit, code(&answer)), (8, "CUSTODY_KEY_SHARED"), "{answer}");
    assert_eq!(code(&add(&ada, &["--action", "verified", "--note", "a\nb"]).1), "CUSTODY_WORDS");
    assert_eq!(std::fs::read_to_string(&list).unwrap(), text, "nothing was added");

    // What does not verify is recorded, and said.
    let tampered = scratch.join("tampered.pef.zip");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let mark = b"\"kind\":\"call\"";
    let place = bytes.windows(mark.len()).position(|window| window == mark).unwrap();
    bytes[place + mark.len() - 2] ^= 1;
    std::fs::write(&tampered, &bytes).unwrap();
    let words =
        ["custody", "add", path(&tampered), "--key", path(&ada), "--actor", "ada", "--action", "verified"];
    let (exit, answer) = cli(&words);
    assert_eq!(exit, 2, "{answer}");
    let said = std::fs::read_to_string(list_of(&tampered)).unwrap();
    assert_eq!(said.lines().count(), 2, "{said}");
    let (exit, shown) = cli(&["custody", "show", path(&tampered)]);
    assert_eq!(exit, 0, "{shown}");
    let recorded = &shown["data"]["entries"][1]["entry"]["verified"];
    assert_eq!(recorded["integrity"], "failed");
    assert_eq!((&recorded["reason"], code(&answer)), (&answer["error"]["code"], code(&answer)));
    assert_eq!(answer["error"]["data"]["list"], path(&list_of(&tampered)));

    // The list of one bundle says nothing of another.
    let another = Scratch::new("other");
    std::fs::copy(sealed(&another).1, &bundle).unwrap();
    std::fs::write(&list, &text).unwrap();
    assert_eq!(judge(&[]).1, "CUSTODY_BUNDLE");
}
