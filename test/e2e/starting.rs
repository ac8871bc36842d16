use std::process::Command;
use std::time::Duration;

use estoppel_kit::http::{Peer, Request};
use estoppel_kit::{Exit, Process, Scratch};
use estoppel_stub::{Body, Fault, Framing, Reply, Script};
use serde_json::Value;

use crate::support::{OPEN, PATIENCE, Setup, World, chat, cli, daemon_binary, path, write_config};

const HELLO: &str = r#"{"model":"m","messages":[]}"#;

/// Starts a daemon that must refuse to: exit code and what it said.
fn refused(scratch: &Scratch) -> (Exit, String) {
    let mut command = Command::new(daemon_binary());
    command.arg("--config").arg(scratch.join("estoppeld.toml"));
    let mut daemon = Process::start("refused", command, scratch);
    let exit = daemon.wait_exit(PATIENCE);
    (exit, daemon.stderr())
}

/// What `--check-config` says of the same configuration.
fn checked(scratch: &Scratch) -> (Option<i32>, String) {
    let mut command = Command::new(daemon_binary());
    let done = command.arg("--check-config").arg("--config").arg(scratch.join("estoppeld.toml")).output();
    let done = done.unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

/// What only a start can find out: whether an address and a folder can be had.
const KNOWN_AT_START: [&str; 3] = ["PORT_IN_USE", "LISTEN_FAILED", "DIRECTORY_READ_ONLY"];

/// One clear line with the code, and nothing else that looks like a crash. `--check-config` says the same.
fn check_refused(prepare: impl FnOnce(&Scratch), code: &str, exit: i32, hint: &str) {
    let scratch = Scratch::new("refused");
    write_config(&scratch, "127.0.0.1:9".parse().unwrap(), &Setup::default());
    prepare(&scratch);
    let (status, checked) = checked(&scratch);
    let (ended, said) = refused(&scratch);
    let own = |said: &str| -> String {
        said.lines().filter(|line| line.starts_with("estoppeld: ")).map(|line| format!("{line}\n")).collect()
    };
    match KNOWN_AT_START.contains(&code) {
        true => assert_eq!((status, checked.as_str()), (Some(0), "")),
        false => assert_eq!((status, checked), (Some(exit), own(&said)), "--check-config"),
    }
    assert_eq!(ended, Exit::Code(exit), "{said}");
    let line = said.lines().find(|line| line.starts_with("estoppeld: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.starts_with(&format!("estoppeld: {code}: ")), "{line}");
    assert!(line.contains(hint), "{line}");
    assert!(!said.contains("panicked"), "{said}");
}

fn edit(scratch: &Scratch, from: &str, to: &str) {
    let file = scratch.join("estoppeld.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn bad_configuration_is_named_with_its_key() {
    check_refused(
        |s| edit(s, "upstream = \"stub\"", "upstream = \"nobody\""),
        "CONFIG_INVALID",
        6,
        "route[0].upstream",
    );
    check_refused(|s| edit(s, "[[listener]]", "[[lisener]]"), "CONFIG_INVALID", 6, "lisener");
    check_refused(|s| edit(s, "[instance]", "[instance"), "CONFIG_INVALID", 6, "estoppeld.toml");
    check_refused(
        |s| std::fs::remove_file(s.join("estoppeld.toml")).unwrap(),
        "FILE_UNREADABLE",
        6,
        "no configuration",
    );
}

#[test]
fn every_unknown_key_is_reported_at_once_and_so_is_what_else_is_wrong() {
    let scratch = Scratch::new("unknown");
    write_config(&scratch, "127.0.0.1:9".parse().unwrap(), &Setup::default());
    edit(&scratch, "[instance]", "[instance]\nhots = \"x\"");
    edit(&scratch, "[policy]", "[serverr]\n\n[policy]\nfiel = \"x\"");
    edit(&scratch, "upstream = \"stub\"", "upstream = \"nobody\"\nnmae = \"x\"");
    let (code, said) = checked(&scratch);
    assert_eq!((code, said.lines().count()), (Some(6), 5), "{said}");
    for key in ["instance.hots: ", "serverr: ", "policy.fiel: ", "route[0].nmae: ", "route[0].upstream: "] {
        assert!(said.lines().any(|line| line.contains(&format!("estoppeld.toml: {key}"))), "{key} {said}");
    }
    edit(&scratch, "[serverr]", "[server]\nthreads = \"many\"");
    let (_, said) = checked(&scratch);
    assert!(said.contains("policy.fiel: ") && said.contains("server.threads: "), "{said}");
}

#[test]
fn values_that_no_start_could_use_are_named() {
    for (section, line, key) in [
        ("[log]", "level = \"estoppel=loud\"", "log.level"),
        ("[server]", "threads = 100000", "server.threads"),
        ("[server]", "drains_max = 9000000000000000000", "server.drains_max"),
        ("[server]", "holds_max = 9000000000000000000", "server.holds_max"),
        ("[server]", "connections_max = 9000000000000000000", "server.connections_max"),
        ("[server]", "held_mib = 9000000000000000000", "server.held_mib"),
        ("[journal]", "queue_entries = 9000000000000000000", "queue_entries"),
        ("[journal]", "segment_mib = 2048", "journal.segment_mib"),
        ("[journal]", "spill_mib = 2", "journal.spill_mib"),
        ("[journal]", "spill_mib = 17592186044416", "journal.spill_mib"),
    ] {
        let change = |s: &Scratch| {
            if section == "[journal]" {
                edit(s, section, &format!("{section}\nspill = {:?}\n{line}", s.join("spill")));
            } else {
                edit(s, "[policy]", &format!("{section}\n{line}\n\n[policy]"));
            }
        };
        check_refused(change, "CONFIG_INVALID", 6, key);
    }
    let upstream = "connections_max = 9000000000000000000\nurl = ";
    check_refused(|s| edit(s, "url = ", upstream), "CONFIG_INVALID", 6, "upstream.stub.connections_max");
}

#[test]
fn a_bad_policy_is_named_with_its_place() {
    check_refused(
        |s| drop(s.write("policy.yaml", "version: 1\nname: x\nruls: []\n")),
        "POLICY_INVALID",
        6,
        "ruls",
    );
    check_refused(
        |s| std::fs::remove_file(s.join("policy.yaml")).unwrap(),
        "FILE_UNREADABLE",
        6,
        "policy.yaml",
    );
}

#[test]
fn bad_keys_are_named_and_never_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let with_keys = |change: fn(&Scratch)| {
        move |scratch: &Scratch| {
            let keys = scratch.join("keys");
            assert_eq!(cli(&["keys", "init", "--dir", path(&keys)]).0, 0);
            edit(scratch, "init = true", &format!("dir = {keys:?}"));
            change(scratch);
        }
    };
    let open = |s: &Scratch| {
        std::fs::set_permissions(s.join("keys/receipt.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    };
    check_refused(with_keys(open), "KEY_PERMISSIONS", 6, "chmod 600");
    check_refused(
        with_keys(|s| std::fs::remove_file(s.join("keys/checkpoint.pem")).unwrap()),
        "KEY_INVALID",
        6,
        "keys init",
    );
    check_refused(
        with_keys(|s| std::fs::write(s.join("keys/manifest.pem"), "x").unwrap()),
        "KEY_INVALID",
        6,
        "manifest.pem",
    );
}

#[test]
fn a_missing_folder_and_a_port_in_use_are_named() {
    check_refused(|s| edit(s, "/journal\"", "/no/such/journal\""), "DIRECTORY_MISSING", 7, "no");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let busy = move |s: &Scratch| {
        edit(
            s,
            "[[listener]]\nlisten = \"127.0.0.1:0\"",
            &format!("[[listener]]\nlisten = \"127.0.0.1:{port}\""),
        );
    };
    check_refused(busy, "PORT_IN_USE", 1, &port.to_string());
}

/// What a refused start leaves in the journal's place, and in the folder of its keys.
fn left_behind(scratch: &Scratch) -> Vec<String> {
    let list = |folder: &str| std::fs::read_dir(scratch.join(folder)).into_iter().flatten();
    let names = ["journal", "keys"].into_iter().flat_map(list);
    names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_start_that_is_refused_for_its_configuration_writes_nothing() {
    for (change, code) in [
        ("upstream = \"stub\"", "CONFIG_INVALID"),
        ("policy.yaml", "FILE_UNREADABLE"),
        ("http://127.0.0.1", "CONFIG_INVALID"),
    ] {
        let scratch = Scratch::new("nothing");
        write_config(&scratch, "127.0.0.1:9".parse().unwrap(), &Setup::default());
        edit(
            &scratch,
            change,
            &change.replace("stub", "nobody").replace("policy", "none").replace("http", "ftp"),
        );
        let (_, said) = refused(&scratch);
        assert!(said.starts_with(&format!("estoppeld: {code}: ")), "{said}");
        assert_eq!(left_behind(&scratch), [""; 0], "{code}");
    }
}

#[test]
fn tls_files_that_cannot_be_used_are_named() {
    let tls = |cert: &'static str, key: &'static str| {
        move |s: &Scratch| {
            let (cert, key) = (s.write("tls.crt", cert), s.write("tls.key", key));
            let listen = "[[listener]]\nlisten = \"127.0.0.1:0\"";
            edit(s, listen, &format!("{listen}\ntls = {{ cert = {cert:?}, key = {key:?} }}"));
        }
    };
    check_refused(tls("", ""), "CONFIG_INVALID", 6, "tls.crt");
    check_refused(tls("-----BEGIN CERTIFICATE-----\nx\n", ""), "CONFIG_INVALID", 6, "tls.crt");
    check_refused(
        |s| edit(s, "url = \"http:", "ca = \"/no/such/ca.crt\"\nurl = \"https:"),
        "CONFIG_INVALID",
        6,
        "/no/such/ca.crt",
    );
    check_refused(
        |s| edit(s, "url = ", "ca = \"/no/such/ca.crt\"\nurl = "),
        "CONFIG_INVALID",
        6,
        "upstream.stub.ca",
    );
}

#[test]
fn an_address_of_another_machine_and_a_taken_admin_port_are_named() {
    let listen = "[[listener]]\nlisten = \"127.0.0.1:0\"";
    check_refused(
        |s| edit(s, listen, &listen.replace("127.0.0.1", "192.0.2.1")),
        "LISTEN_FAILED",
        1,
        "192.0.2.1",
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"";
    check_refused(
        move |s| edit(s, admin, &admin.replace(":0", &format!(":{port}"))),
        "PORT_IN_USE",
        1,
        &port.to_string(),
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    // Permissions do not stop root; nobody makes a folder in /sys.
    check_refused(
        |s| {
            let journal = s.join("journal");
            edit(s, &format!("dir = {journal:?}"), "dir = \"/sys/estoppel-journal\"");
        },
        "DIRECTORY_READ_ONLY",
        1,
        "/sys/estoppel-journal",
    );
    check_refused(
        |s| {
            s.write("file", "x");
            edit(s, "/journal\"", "/file/journal\"");
        },
        "DIRECTORY_MISSING",
        7,
        "file",
    );
}

#[test]
fn a_bundle_that_is_none_is_named_and_nothing_is_written() {
    let scratch = Scratch::new("bundle");
    let file = scratch.write("x.pef.zip", "not a bundle");
    let (code, answer) = cli(&["verify", path(&file)]);
    assert_eq!(code, 2, "{answer}");
    assert!(answer.to_string().contains("CONTAINER"), "{answer}");
    let (code, answer) = cli(&["verify", path(&scratch.join("none.pef.zip"))]);
    assert_eq!((code, &answer["error"]["code"]), (6, &Value::from("FILE_UNREADABLE")), "{answer}");
    assert_eq!(std::fs::read_dir(scratch.join(".")).unwrap().count(), 1, "verifying writes nothing");
}

#[test]
fn two_daemons_never_share_a_journal() {
    let world = World::new(Script::model());
    let (exit, said) = refused(&world.scratch);
    assert_eq!(exit, Exit::Code(1), "{said}");
    assert!(said.contains("JOURNAL_LOCKED"), "{said}");
}

#[test]
fn every_example_is_valid_or_says_what_it_misses() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new("examples");
    // An example is started where copies of the policies are.
    for entry in std::fs::read_dir(root.join("policies")).unwrap() {
        let file = entry.unwrap().path();
        if file.is_file() {
            std::fs::copy(&file, scratch.join(file.file_name().unwrap())).unwrap();
        }
    }
    for entry in std::fs::read_dir(root.join("examples")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let policy = root.join("policies/baseline.yaml");
        let done = Command::new(daemon_binary())
            .current_dir(scratch.path())
            .args(["--check-config", "--config", path(&file)])
            .args(["--set", &format!("policy.file={}", path(&policy)), "--set", "keys.init=true"])
            .args(["--set", &format!("keys.dir={}", path(&scratch.join("none")))])
            .args(["--set", &format!("journal.dir={}", path(&scratch.join("journal")))])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        // The TLS files of an example are not here; everything else must be right.
        let only_tls = said.lines().all(|line| line.contains("/etc/estoppel/tls/"));
        assert!(done.status.success() || only_tls, "{}: {said}", file.display());
    }
}

#[test]
fn a_policy_that_cannot_be_loaded_leaves_the_last_good_one_in_force() {
    let policy = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow }\nrules:\n  - { id: no-m, when: { model: m }, verdict: block, reason: MODEL_DENIED }\n";
    let mut world = World::with(Script::model(), &Setup { policy: policy.into(), ..Setup::default() });
    assert_eq!(world.send(&chat("reload", HELLO)).status(), 403);
    world.scratch.write("policy.yaml", "version: 1\nname: broken\nrules: [\n");
    world.daemon.hang_up();
    let refused = |world: &World| {
        let text = estoppel_kit::http::get(world.admin, "/metrics").unwrap().text();
        text.contains("estoppel_reloads_total{result=\"refused\"}")
    };
    estoppel_kit::until("the refused reload", PATIENCE, || refused(&world).then_some(()));
    assert_eq!(world.send(&chat("reload", HELLO)).status(), 403, "the last good policy is in force");
    world.scratch.write("policy.yaml", OPEN);
    world.daemon.hang_up();
    estoppel_kit::until("the new policy", PATIENCE, || {
        (world.send(&chat("reload", HELLO)).status() == 200).then_some(())
    });
    let hashes: std::collections::BTreeSet<String> =
        world.receipts("reload").iter().map(|r| r["policy"]["hash"].as_str().unwrap().to_string()).collect();
    assert_eq!(hashes.len(), 2, "each receipt names the policy that judged it");
}

#[test]
fn a_reload_with_a_bad_key_puts_no_part_of_it_in_force() {
    let policy = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow }\nrules:\n  - { id: no-m, when: { model: m }, verdict: block, reason: MODEL_DENIED }\n";
    let mut world = World::with(Script::model(), &Setup { policy: policy.into(), ..Setup::default() });
    let key = world.journal().join("keys/receipt.pem");
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, "no key").unwrap();
    world.scratch.write("policy.yaml", OPEN);
    world.daemon.hang_up();
    let refused = || world.daemon.stderr().contains("reload refused");
    estoppel_kit::until("the refusal", PATIENCE, || refused().then_some(()));
    assert_eq!(world.send(&chat("half", HELLO)).status(), 403, "the old policy is in force");
    std::fs::write(&key, good).unwrap();
    world.daemon.hang_up();
    estoppel_kit::until("the new policy", PATIENCE, || {
        (world.send(&chat("half", HELLO)).status() == 200).then_some(())
    });
}

#[test]
fn the_daemons_own_run_is_not_sealed_from_outside_and_the_journal_starts_again() {
    let mut world = World::new(Script::model());
    let runs = cli(&["run", "list", "--admin", &world.admin.to_string()]).1;
    let own = runs["data"]["runs"].as_array().unwrap().iter().find(|run| run["class"] == "instance").unwrap();
    let (code, refused) = cli(&["seal", own["id"].as_str().unwrap(), "--admin", &world.admin.to_string()]);
    assert_eq!((code, &refused["error"]["code"]), (1, &"RUN_BUSY".into()), "{refused}");
    world.daemon.hang_up();
    assert_eq!(world.send(&chat("job", HELLO)).status(), 200);
    world.stop();
    world.check_journal();
    world.restart();
    world.stop();
}

#[test]
fn operators_are_asked_by_address_and_not_by_web_pages() {
    let world = World::new(Script::model());
    let idle: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(world.admin).unwrap()).collect();
    assert_eq!(estoppel_kit::http::get(world.admin, "/livez").unwrap().status(), 200);
    drop(idle);
    let raw = |request: &str| {
        let mut peer = Peer::connect(world.admin).unwrap();
        peer.send(request.as_bytes()).unwrap();
        String::from_utf8(peer.read_until(b"\r\n").unwrap()).unwrap()
    };
    assert!(raw("GET /runs HTTP/1.1\r\nhost: evil.example\r\n\r\n").contains(" 403 "));
    assert!(raw("GET /runs HTTP/1.1\r\nhost: localhost:1\r\n\r\n").contains(" 200 "));
    let post = "POST /runs/x/seal HTTP/1.1\r\nhost: 127.0.0.1\r\n";
    assert!(raw(&format!("{post}origin: null\r\n\r\n")).contains(" 403 "));
    assert!(raw(&format!("{post}sec-fetch-site: cross-site\r\n\r\n")).contains(" 403 "));
    assert!(raw(&format!("{post}sec-fetch-site: none\r\n\r\n")).contains(" 404 "));
}

#[test]
fn operators_listeners_are_private() {
    let listen = |address: &'static str| {
        move |s: &Scratch| {
            edit(s, "[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{address}\""))
        }
    };
    check_refused(listen("192.0.2.1:0"), "CONFIG_INVALID", 6, "admin.listen");
    check_refused(listen("0.0.0.0:0"), "CONFIG_INVALID", 6, "admin.anywhere");
}

#[test]
fn shutdown_lets_calls_end_and_cuts_the_rest_with_signed_records() {
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let endless = Reply::new(Body::Text(event.into()))
        .header("content-type", "text/event-stream")
        .framing(Framing::Chunked)
        .fault(Fault::Stall { after_bytes: event.len() as u64 });
    let mut world = World::with(
        Script::always(endless),
        &Setup { config: "[server]\ndrain_ms = 300\n".into(), ..Setup::default() },
    );
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&chat("cut", HELLO).wire("gateway")).unwrap();
    peer.read_until(b"data: ").unwrap();
    world.stop();
    let report = world.check_journal();
    assert_eq!(report["counters"]["incomplete"], 1);
    world.restart();
    let receipts = world.receipts("cut");
    assert_eq!(receipts[0]["outcome"]["code"], "SHUTDOWN");
    world.stop();
}

#[test]
fn health_pages_and_metrics_say_how_it_is() {
    let world = World::new(Script::model());
    for page in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(estoppel_kit::http::get(world.admin, page).unwrap().status(), 200, "{page}");
    }
    assert_eq!(world.send(&chat("metrics", HELLO)).status(), 200);
    let text = estoppel_kit::http::get(world.admin, "/metrics").unwrap().text();
    assert!(text.contains("estoppel_calls_total{route=\"stub\",verdict=\"allow\"} 1"), "{text}");
    let missing: Value =
        serde_json::from_str(&estoppel_kit::http::get(world.admin, "/nothing").unwrap().text()).unwrap();
    assert_eq!(missing["code"], "ROUTE_UNKNOWN");
    let seal =
        estoppel_kit::http::send(world.admin, &Request::new("POST", "/runs/nobody/seal").body("")).unwrap();
    assert_eq!(seal.status(), 404);
    let _ = Duration::ZERO;
}

#[test]
fn keys_are_rotated_in_a_running_daemon_and_old_and_new_receipts_verify() {
    let mut world = World::new(Script::model());
    let keys = world.journal().join("keys");
    let trust_before = std::fs::read(world.journal().join("trust.json")).unwrap();
    assert_eq!(world.send(&chat("rotated", HELLO)).status(), 200);
    for key_use in ["receipt", "checkpoint", "manifest"] {
        let done = cli(&["keys", "rotate", "--dir", path(&keys), "--use", key_use]);
        assert_eq!(done.0, 0, "{}", done.1);
        world.daemon.hang_up();
        let kept = || {
            let listed = cli(&["keys", "list", "--dir", path(&keys)]).1; // refused while a key is being moved
            let rows = listed["data"]["keys"].as_array().cloned().unwrap_or_default();
            rows.iter().filter(|row| row["held"] == "kept").count()
        };
        estoppel_kit::until("the rotation", PATIENCE, || (kept() == 0).then_some(()));
        assert_eq!(world.send(&chat("rotated", HELLO)).status(), 200);
    }
    let bundle = world.seal("rotated");
    assert_eq!(world.receipts_in(&bundle).len(), 4);
    let old_trust = world.scratch.write("before.json", trust_before);
    let (code, report) = cli(&["verify", path(&bundle), "--trust", path(&old_trust)]);
    assert_eq!(code, 0, "the receipt key's rotation is vouched for by the old one: {report}");
    world.stop();
    world.check_journal();
}

#[test]
fn a_key_folder_that_cannot_be_read_leaves_the_keys_in_force() {
    let mut world = World::new(Script::model());
    let key = world.journal().join("keys/receipt.pem");
    let text = std::fs::read(&key).unwrap();
    std::fs::write(&key, "no key").unwrap();
    world.daemon.hang_up();
    let refused = || world.daemon.stderr().contains("the last good configuration stays in force");
    estoppel_kit::until("the refusal", PATIENCE, || refused().then_some(()));
    assert_eq!(world.send(&chat("kept", HELLO)).status(), 200);
    assert_eq!(world.receipts("kept").len(), 1);
    std::fs::write(&key, text).unwrap();
}

#[test]
fn with_evidence_off_calls_are_judged_and_forwarded_and_leave_nothing() {
    let rule = format!(
        "{OPEN}rules:\n  - {{ id: no-m, when: {{ model: denied }}, verdict: block, reason: MODEL_DENIED }}\n"
    );
    let setup = Setup { policy: rule, journal: "enabled = false".into(), ..Setup::default() };
    let mut world = World::with(Script::model(), &setup);
    for body in [HELLO, &HELLO.replace("\"m\"", "\"m\",\"stream\":true")] {
        let answer = world.send(&chat("none", body));
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.body,
            estoppel_kit::http::send(world.upstream.addr(), &chat("none", body)).unwrap().body
        );
        assert!(answer.header("estoppel-call").is_some() && answer.header("estoppel-receipt").is_none());
    }
    assert_eq!(world.send(&chat("none", &HELLO.replace("\"m\"", "\"denied\""))).status(), 403);
    let (code, refused) = cli(&["seal", "none", "--admin", &world.admin.to_string()]);
    assert_eq!((code, &refused["error"]["code"]), (6, &"EVIDENCE_OFF".into()), "{refused}");
    let metrics = estoppel_kit::http::get(world.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("\nestoppel_journal_enabled 0\n"));
    world.daemon.hang_up();
    assert_eq!(world.send(&chat("none", HELLO)).status(), 200);
    world.stop();
    assert!(!world.journal().exists());
}
