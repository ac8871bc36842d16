//! What collectors get of the journal, and that calls do not wait for it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use estoppel_kit::{Collector, Delivered, Process, Reaction, Scratch, until};
use estoppel_stub::{Body, Reply, Script};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, World, chat};

const ASK: &str = r#"{"model":"m","messages":[]}"#;

fn script() -> Script {
    Script::always(
        Reply::new(Body::Text("{\"choices\":[]}".into())).header("content-type", "application/json"),
    )
}

fn world(feeds: &str) -> World {
    World::with(script(), &Setup { config: feeds.into(), ..Setup::default() })
}

/// A feed to a collector, impatient.
fn to_http(name: &str, format: &str, shape: &str, collector: &Collector, path: &str) -> String {
    format!(
        "[[feeds]]\nname = \"{name}\"\nformat = \"{format}\"\nbatch = 4\nlinger_ms = 5\nretry_min_ms = 1\nretry_max_ms = 20\n\
         to = {{ http = {{ url = \"http://{}{path}\", shape = \"{shape}\", timeout_ms = 2000 }} }}\n\n",
        collector.addr
    )
}

/// Makes calls and gives their receipts' ids.
fn calls(world: &World, count: usize) -> Vec<String> {
    let one = |_| {
        let answer = world.send(&chat("feeds", ASK));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.header("estoppel-receipt").unwrap().to_owned()
    };
    (0..count).map(one).collect()
}

/// Documents by what tells copies apart.
fn uid(document: &Value) -> String {
    let uid = document.pointer("/metadata/uid").or(document.pointer("/event/id")).unwrap();
    uid.as_str().unwrap().to_owned()
}

fn log_index(document: &Value) -> Option<u64> {
    document.pointer("/unmapped/log_index").or(document.pointer("/estoppel/log_index"))?.as_u64()
}

/// All of `ids` are there, and first copies come in the order of the log.
fn check(documents: &[Value], ids: &[String]) {
    let mut seen = BTreeSet::new();
    let first: Vec<&Value> = documents.iter().filter(|document| seen.insert(uid(document))).collect();
    for id in ids {
        assert!(seen.contains(id), "{id} is missing");
    }
    let places: Vec<u64> = first.iter().filter_map(|document| log_index(document)).collect();
    assert!(places.is_sorted(), "{places:?}");
}

fn wait_for(what: &str, ids: &[String], documents: impl Fn() -> Vec<Value>) -> Vec<Value> {
    until(what, PATIENCE, || {
        let documents = documents();
        let seen: BTreeSet<String> = documents.iter().map(uid).collect();
        ids.iter().all(|id| seen.contains(id)).then_some(documents)
    })
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// What Splunk's collector was sent.
fn splunk(collector: &Collector) -> Vec<Value> {
    let events = |request: &Delivered| {
        let body = String::from_utf8(request.body.clone()).unwrap();
        body.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone())
            .collect::<Vec<_>>()
    };
    collector.taken().iter().flat_map(events).collect()
}

fn splunk_ok() -> Reaction {
    Reaction::Answer(200, Vec::new(), r#"{"text":"Success","code":0}"#.into())
}

#[test]
fn a_file_has_every_receipt_once_also_after_a_restart() {
    let scratch = Scratch::new("feeds");
    let (ocsf, ecs) = (scratch.join("ocsf.ndjson"), scratch.join("ecs.ndjson"));
    let feed = |name: &str, path: &Path| {
        format!(
            "[[feeds]]\nname = \"{name}\"\nformat = \"{name}\"\nlinger_ms = 5\nto = {{ file = {{ path = {path:?} }} }}\n\n"
        )
    };
    let mut world = world(&(feed("ocsf", &ocsf) + &feed("ecs", &ecs)));
    let mut ids = calls(&world, 5);
    for path in [&ocsf, &ecs] {
        wait_for("receipts in the file", &ids, || lines(path));
    }
    world.stop();
    world.restart();
    ids.extend(calls(&world, 5));
    world.stop();
    for path in [&ocsf, &ecs] {
        let documents = lines(path);
        check(&documents, &ids);
        let keys: BTreeSet<String> = documents.iter().map(uid).collect();
        assert_eq!(keys.len(), documents.len(), "nothing came twice");
    }
    let started = lines(&ocsf).iter().filter(|document| document["class_uid"] == 6002).count();
    assert_eq!(started, 4, "two starts and two stops");
    world.check_journal();
}

#[test]
fn a_collector_that_refuses_delays_and_breaks_gets_every_receipt_in_order() {
    let collector = Collector::start(|number, _| match number {
        0 => Reaction::Answer(429, vec![("retry-after", "0".into())], String::new()),
        1 => Reaction::status(503),
        2 => Reaction::Answer(503, Vec::new(), r#"{"text":"Server is busy","code":9}"#.into()),
        4 => Reaction::Hang,
        6 => Reaction::Answer(200, Vec::new(), r#"{"text":"Data channel is missing","code":10}"#.into()),
        8 => Reaction::AnswerAndClose(500),
        _ => splunk_ok(),
    })
    .unwrap();
    let world = world(&to_http("siem", "ocsf", "splunk_hec", &collector, "/services/collector/event"));
    let ids = calls(&world, 30);
    let documents = wait_for("all receipts", &ids, || splunk(&collector));
    check(&documents, &ids);
    assert!(world.metric("estoppel_feed_failures_total{feed=\"siem\"}") >= Some(6.0));
    assert!(world.metric("estoppel_feed_retries_total{feed=\"siem\"}") >= Some(6.0));
    until("no lag", PATIENCE, || {
        (world.metric("estoppel_feed_lag_entries{feed=\"siem\"}") == Some(0.0)).then_some(())
    });
    assert!(world.metric("estoppel_feed_last_success_timestamp_seconds{feed=\"siem\"}") > Some(1e9));
    let first = collector.taken().remove(0);
    assert_eq!(first.line, "POST /services/collector/event HTTP/1.1");
    assert_eq!(first.header("content-type"), Some("application/json"));
}

#[test]
fn a_daemon_that_is_killed_while_it_delivers_loses_no_receipt() {
    // Takes two batches, then nothing until the daemon was killed.
    let open = Arc::new(AtomicBool::new(false));
    let (gate, seen) = (open.clone(), Arc::new(Mutex::new(0)));
    let count = seen.clone();
    let collector = Collector::start(move |number, _| {
        *count.lock().unwrap() = number;
        if number < 2 || gate.load(Ordering::SeqCst) { splunk_ok() } else { Reaction::Hang }
    })
    .unwrap();
    let mut world = world(&to_http("siem", "ocsf", "splunk_hec", &collector, "/hec"));
    let mut ids = calls(&world, 20);
    until("a delivery that fails", PATIENCE, || (*seen.lock().unwrap() > 4).then_some(()));
    world.daemon.kill_9();
    open.store(true, Ordering::SeqCst);
    world.restart();
    ids.extend(calls(&world, 3));
    let documents = wait_for("all receipts", &ids, || splunk(&collector));
    check(&documents, &ids);
}

#[test]
fn calls_do_not_notice_a_dead_collector_and_nothing_is_lost_when_it_is_back() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!(
        "[[feeds]]\nname = \"dead\"\nformat = \"ecs\"\nlinger_ms = 5\nretry_min_ms = 5\nretry_max_ms = 20\n\
         to = {{ http = {{ url = \"http://{dead}/\", shape = \"ndjson\" }} }}\n"
    );
    let mut world = world(&nobody);
    let mut ids = calls(&world, 20);
    until("failures", PATIENCE, || {
        (world.metric("estoppel_feed_failures_total{feed=\"dead\"}") > Some(2.0)).then_some(())
    });
    assert!(world.metric("estoppel_feed_lag_entries{feed=\"dead\"}") >= Some(20.0));
    assert_eq!(world.metric("estoppel_journal_failed"), Some(0.0));
    // Also over a restart that finds it still dead.
    world.stop();
    world.restart();
    ids.extend(calls(&world, 5));
    let back = Collector::start_at(dead, |_, _| Reaction::status(204)).unwrap();
    let ndjson = || {
        let bodies: Vec<u8> = back.taken().into_iter().flat_map(|request| request.body).collect();
        String::from_utf8(bodies).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let documents = wait_for("all receipts", &ids, ndjson);
    check(&documents, &ids);
    world.check_journal();
}

#[test]
fn calls_do_not_notice_that_no_collector_of_open_telemetry_is_there() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let signals = ["traces", "metrics", "logs"];
    let feed = |name: &str| {
        format!(
            "[[feeds]]\nname = \"{name}\"\nformat = \"otlp_{name}\"\nlinger_ms = 5\nretry_min_ms = 5\nretry_max_ms = 20\n\
             to = {{ http = {{ url = \"http://{dead}/v1/{name}\", shape = \"otlp\" }} }}\n\n"
        )
    };
    let world = world(&signals.map(feed).concat());
    let ids = calls(&world, 10);
    for name in signals {
        until("failures", PATIENCE, || {
            (world.metric(&format!("estoppel_feed_failures_total{{feed=\"{name}\"}}")) > Some(2.0))
                .then_some(())
        });
    }
    let ids = [ids, calls(&world, 10)].concat();
    assert_eq!(world.metric("estoppel_journal_failed"), Some(0.0));
    let back = Collector::start_at(dead, |_, _| Reaction::status(200)).unwrap();
    for name in signals {
        until("no lag", PATIENCE, || {
            (world.metric(&format!("estoppel_feed_lag_entries{{feed=\"{name}\"}}")) == Some(0.0))
                .then_some(())
        });
        assert_eq!(
            world.metric(&format!("estoppel_feed_refused_documents_total{{feed=\"{name}\"}}")),
            Some(0.0)
        );
    }
    for request in back.taken() {
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    }
    for name in ["traces", "logs"] {
        let line = format!("POST /v1/{name} HTTP/1.1");
        let bodies: Vec<u8> =
            back.taken().into_iter().filter(|r| r.line == line).flat_map(|r| r.body).collect();
        for id in &ids {
            assert!(bodies.windows(id.len()).any(|window| window == id.as_bytes()), "{name} {id}");
        }
    }
    world.check_journal();
}

#[test]
fn a_feed_that_begins_now_keeps_its_beginning_over_a_kill() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut world = world(&format!(
        "[[feeds]]\nname = \"now\"\nformat = \"ecs\"\nfrom = \"now\"\nlinger_ms = 5\nretry_min_ms = 5\nretry_max_ms = 20\n\
         to = {{ http = {{ url = \"http://{dead}/\", shape = \"ndjson\" }} }}\n"
    ));
    let ids = calls(&world, 5);
    world.daemon.kill_9();
    let back = Collector::start_at(dead, |_, _| Reaction::status(204)).unwrap();
    world.restart();
    let ndjson = || {
        let bodies: Vec<u8> = back.taken().into_iter().flat_map(|request| request.body).collect();
        String::from_utf8(bodies).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let documents = wait_for("all receipts", &ids, ndjson);
    check(&documents, &ids);
}

#[test]
fn entries_that_were_removed_before_they_were_told_are_a_finding_and_a_count() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "[[feeds]]\nname = \"late\"\nformat = \"ocsf\"\nlinger_ms = 5\nretry_min_ms = 5\nretry_max_ms = 20\n\
         to = {{ http = {{ url = \"http://{dead}/\", shape = \"ndjson\" }} }}\n"
    );
    let world =
        World::with(script(), &Setup { config, journal: "segment_mib = 1".into(), ..Setup::default() });
    let folder = world.journal().join("segments");
    let segments = || {
        let names = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut firsts: Vec<u64> =
            names.filter_map(|name| name.strip_suffix(".seg").and_then(|first| first.parse().ok())).collect();
        firsts.sort_unstable();
        firsts
    };
    while segments().len() < 3 {
        calls(&world, 50);
    }
    let firsts = segments();
    std::fs::remove_file(folder.join(format!("{:020}.seg", firsts[1]))).unwrap();
    let last = calls(&world, 1);
    let back = Collector::start_at(dead, |_, _| Reaction::status(204)).unwrap();
    let ndjson = || -> Vec<Value> {
        let bodies: Vec<u8> = back.taken().into_iter().flat_map(|request| request.body).collect();
        String::from_utf8(bodies).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let documents = wait_for("what came after the gap", &last, ndjson);
    let gaps: Vec<&Value> =
        documents.iter().filter(|event| event["finding_info"]["types"] == json!(["feed_gap"])).collect();
    assert_eq!(gaps.len(), 1);
    let said = format!("entries {} to {} of the log", firsts[1], firsts[2] - 1);
    assert_eq!(gaps[0]["finding_info"]["desc"], json!(said));
    let missed = world.metric("estoppel_feed_missed_entries_total{feed=\"late\"}");
    assert_eq!(missed, Some((firsts[2] - firsts[1]) as f64));
    let told: BTreeSet<u64> = documents.iter().filter_map(log_index).collect();
    assert!(told.range(firsts[1]..firsts[2]).next().is_none());
    assert!(told.range(..firsts[1]).count() > 100 && told.range(firsts[2]..).next().is_some());
}

#[test]
fn of_a_bulk_only_what_was_not_taken_is_sent_again() {
    let seen: Arc<Mutex<Vec<(String, u16)>>> = Arc::default();
    let told = seen.clone();
    let collector = Collector::start(move |number, request| {
        let body = String::from_utf8(request.body.clone()).unwrap();
        let ids = body.lines().step_by(2).map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["create"]["_id"].as_str().unwrap().to_owned()
        });
        let mut known = told.lock().unwrap();
        let mut items = Vec::new();
        for (at, id) in ids.enumerate() {
            let copy = known.iter().any(|(known, status)| *known == id && *status == 201);
            let status = match (number, at) {
                _ if copy => 409,
                (0..3, 1 | 3) => 429,
                (5, 0) => 400,
                _ => 201,
            };
            known.push((id, status));
            items.push(json!({ "create": { "status": status, "error": { "type": "t" } } }));
        }
        Reaction::Answer(200, Vec::new(), json!({ "errors": true, "items": items }).to_string())
    })
    .unwrap();
    let world = world(&to_http("elastic", "ecs", "elastic_bulk", &collector, "/estoppel/_bulk"));
    let ids = calls(&world, 30);
    let taken = until("all receipts", PATIENCE, || {
        let seen = seen.lock().unwrap().clone();
        let settled = |id: &String| {
            let id = id.trim_start_matches("leaf:");
            seen.iter().any(|(known, status)| known == id && [201, 400].contains(status))
        };
        ids.iter().all(settled).then_some(seen)
    });
    let refused: Vec<&String> = taken.iter().filter(|(_, status)| *status == 400).map(|(id, _)| id).collect();
    assert_eq!(refused.len(), 1, "one was refused for good");
    let created: Vec<&String> = taken.iter().filter(|(_, status)| *status == 201).map(|(id, _)| id).collect();
    assert_eq!(created.iter().collect::<BTreeSet<_>>().len(), created.len(), "nothing was created twice");
    let again = taken.iter().filter(|(_, status)| *status == 409).count();
    assert_eq!(again, 0, "what was taken was not sent again");
    let aside = until("the refused document", PATIENCE, || {
        let aside = lines(&world.journal().join("feeds/elastic.refused.ndjson"));
        (!aside.is_empty()).then_some(aside)
    });
    assert_eq!(uid(&aside[0]).trim_start_matches("leaf:"), refused[0]);
    assert_eq!(world.metric("estoppel_feed_refused_documents_total{feed=\"elastic\"}"), Some(1.0));
}

#[test]
fn one_document_that_is_refused_does_not_stop_the_others() {
    let bad: Arc<Mutex<Option<String>>> = Arc::default();
    let chosen = bad.clone();
    let collector = Collector::start(move |number, request| {
        let logs: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
        let mut bad = chosen.lock().unwrap();
        let message = |log: &Value| log["message"].as_str().unwrap().to_owned();
        if number == 1 {
            *bad = Some(message(logs.last().unwrap()));
        }
        let has = bad.as_ref().is_some_and(|bad| logs.iter().any(|log| message(log) == *bad));
        Reaction::status(if has { 400 } else { 202 })
    })
    .unwrap();
    let token = Scratch::new("token");
    let file = token.write("datadog.token", "s3cret-token\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let feed = to_http("datadog", "ocsf", "datadog", &collector, "/api/v2/logs")
        .replace("timeout_ms = 2000", &format!("timeout_ms = 2000, token_file = {file:?}"));
    let mut world = world(&feed);
    let ids = calls(&world, 20);
    let refused = until("a refusal", PATIENCE, || {
        lines(&world.journal().join("feeds/datadog.refused.ndjson")).pop().map(|document| uid(&document))
    });
    let others: Vec<String> = ids.into_iter().filter(|id| *id != refused).collect();
    let logs = || {
        let taken = collector.taken();
        let logs =
            taken.iter().flat_map(|request| serde_json::from_slice::<Vec<Value>>(&request.body).unwrap());
        logs.map(|log| serde_json::from_str(log["message"].as_str().unwrap()).unwrap()).collect()
    };
    let documents = wait_for("the others", &others, logs);
    check(&documents, &others);
    assert_eq!(collector.taken()[0].header("dd-api-key"), Some("s3cret-token"));
    world.stop();
    assert!(!world.daemon.stderr().contains("s3cret"), "the token is in no log");
}

#[test]
fn a_reload_starts_and_ends_feeds_without_a_loss() {
    let scratch = Scratch::new("feeds");
    let feed = |name: &str| {
        let path = scratch.join(format!("{name}.ndjson"));
        format!(
            "[[feeds]]\nname = \"{name}\"\nformat = \"ecs\"\nlinger_ms = 5\nto = {{ file = {{ path = {path:?} }} }}\n\n"
        )
    };
    let mut world = world(&feed("one"));
    let config = world.scratch.join("estoppeld.toml");
    let without = std::fs::read_to_string(&config).unwrap().replace(&feed("one"), "");
    let mut ids = calls(&world, 3);
    let set = |world: &mut World, feeds: &str| {
        std::fs::write(&config, format!("{without}{feeds}")).unwrap();
        world.daemon.hang_up();
    };
    let run = |world: &World, names: [bool; 2]| {
        let runs = |name| world.metric(&format!("estoppel_feed_lag_entries{{feed=\"{name}\"}}")).is_some();
        until("a reload", PATIENCE, || ([runs("one"), runs("two")] == names).then_some(()));
    };
    let two = feed("two").replace("linger_ms", "from = \"now\"\nlinger_ms");
    set(&mut world, &(feed("one") + &two));
    run(&world, [true, true]);
    let later = calls(&world, 3);
    ids.extend(later.clone());
    check(&wait_for("receipts", &ids, || lines(&scratch.join("one.ndjson"))), &ids);
    let told = wait_for("receipts", &later, || lines(&scratch.join("two.ndjson")));
    assert!(!told.iter().any(|document| uid(document) == ids[0]), "the second began when it was started");
    set(&mut world, &two);
    run(&world, [false, true]);
    ids.extend(calls(&world, 3));
    let refused = |world: &World| world.metric("estoppel_reloads_total{result=\"refused\"}");
    let before = refused(&world);
    set(&mut world, "[[feeds]]\nname = \"x\"\nformat = \"cef\"\nto = { stdout = true }\n");
    until("a reload that is refused", PATIENCE, || (refused(&world) > before).then_some(()));
    run(&world, [false, true]);
    set(&mut world, &(feed("one") + &two));
    run(&world, [true, true]);
    let documents = wait_for("receipts", &ids, || lines(&scratch.join("one.ndjson")));
    check(&documents, &ids);
    let keys: BTreeSet<String> = documents.iter().map(uid).collect();
    assert_eq!(keys.len(), documents.len(), "it went on where it had stopped");
}

#[test]
fn a_feed_that_cannot_work_is_refused_by_name_before_the_start() {
    let world = world("");
    let config = world.scratch.join("estoppeld.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let token = world.scratch.write("token", "x");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let http = |more: &str| {
        format!("to = {{ http = {{ url = \"https://127.0.0.1:1/\", shape = \"ndjson\"{more} }} }}")
    };
    let alerted = |more: &str| {
        format!("to = {{ stdout = true }}\n[[alerts]]\nname = \"a\"\nshare = \"passed\"\n{more}")
    };
    for (feed, said) in [
        ("to = {}".to_owned(), "feeds[0].to: must have exactly one of"),
        ("to = { stdout = true }\ncolour = 1".into(), "feeds[0].colour"),
        (http(&format!(", token_file = {token:?}")), "others can read"),
        (http(", ca = \"/nowhere.pem\""), "/nowhere.pem"),
        (alerted("below = 2.0"), "alerts[0].below: must be between 0 and 1"),
        (alerted("above = 0.5\nroute = \"nowhere\""), "alerts[0].route: there is no route `nowhere`"),
        (alerted("above = 0.5\nroutes = 1"), "alerts[0].routes"),
        ("to = { syslog = { address = \"udp://127.0.0.1:1\" } }".into(), "feeds[0].to.syslog.address"),
    ] {
        std::fs::write(&config, format!("{text}[[feeds]]\nname = \"x\"\nformat = \"ocsf\"\n{feed}\n"))
            .unwrap();
        let mut command = Command::new(crate::support::daemon_binary());
        let done = command.arg("--check-config").arg("--config").arg(&config).output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(6), "{feed}: {stderr}");
        assert!(stderr.contains(said), "{feed}: {stderr}");
    }
}

#[test]
fn an_alert_is_told_once_by_every_feed_and_its_counts_outlive_restarts() {
    let scratch = Scratch::new("alerts");
    let paths = ["ocsf", "ecs"].map(|name| scratch.join(format!("{name}.ndjson")));
    let feed = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        format!(
            "[[feeds]]\nname = \"{name}\"\nformat = \"{name}\"\nlinger_ms = 5\nto = {{ file = {{ path = {path:?} }} }}\n\n"
        )
    };
    let alert = "[[alerts]]\nname = \"pass-rate\"\nshare = \"passed\"\nbelow = 0.8\ncalls_min = 4\nwindow_s = 86400\n";
    let policy = "version: 1\nname: t\ndefaults: { verdict: allow, on_not_evaluated: allow }\nrules:\n  - { id: no-shell, when: { tool: shell }, verdict: block, reason: TOOL_DENIED }\n";
    let config = paths.each_ref().map(feed).concat() + alert;
    let mut world = World::with(script(), &Setup { config, policy: policy.into(), ..Setup::default() });
    let alerts = |path: &Path| -> Vec<String> {
        let is_alert = |document: &Value| {
            document["finding_info"]["types"] == json!(["alert"])
                || document["estoppel"]["finding"]["class"] == json!("alert")
        };
        lines(path).iter().filter(|document| is_alert(document)).map(uid).collect()
    };
    let denied = |world: &World| {
        let body = r#"{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"shell"}}]}"#;
        assert_eq!(world.send(&chat("feeds", body)).status(), 403);
    };
    calls(&world, 3);
    world.stop();
    for path in &paths {
        assert_eq!(alerts(path), [""; 0], "three green calls are no alert");
    }
    world.restart();
    denied(&world);
    world.stop();
    let raised = paths.each_ref().map(|path| alerts(path));
    assert_eq!(raised[0].len(), 1, "three of four passed");
    assert_eq!(raised[0], raised[1], "every feed tells it under one key");
    world.restart();
    denied(&world);
    denied(&world);
    world.stop();
    assert_eq!(paths.each_ref().map(|path| alerts(path)), raised, "it was told");
}

#[test]
fn stdout_has_the_documents_and_nothing_else() {
    let mut world = world("[[feeds]]\nname = \"out\"\nformat = \"ocsf\"\nto = { stdout = true }\n");
    let ids = calls(&world, 5);
    world.stop();
    let out = world.daemon.stdout();
    let documents: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    check(&documents, &ids);
}

/// A real rsyslog that writes messages to a file.
fn rsyslog(program: &Path, scratch: &Scratch, number: u32, port: u16) -> Process {
    let (out, pid) = (scratch.join("messages"), scratch.join("rsyslog.pid"));
    let config = format!(
        "global(workDirectory={dir:?} net.enableDNS=\"off\" maxMessageSize=\"128k\")\n\
         module(load=\"imptcp\")\n\
         template(name=\"raw\" type=\"string\" string=\"%app-name% %hostname% %syslogseverity% %msg:::drop-last-lf%\\n\")\n\
         ruleset(name=\"in\") {{ action(type=\"omfile\" file={out:?} template=\"raw\") }}\n\
         input(type=\"imptcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"in\" SupportOctetCountedFraming=\"on\")\n",
        dir = scratch.path(),
    );
    let file = scratch.write(format!("rsyslog-{number}.conf"), config);
    let mut command = Command::new(program);
    command.arg("-n").arg("-f").arg(file).arg("-i").arg(pid);
    let mut process = Process::start(&format!("rsyslog-{number}"), command, scratch);
    process.wait_ready(PATIENCE, |_| std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    process
}

#[test]
fn rsyslog_gets_every_receipt_also_when_it_was_away() {
    let Some(program) = estoppel_kit::require_real("rsyslogd") else { return };
    let scratch = Scratch::new("rsyslog");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut first = rsyslog(&program, &scratch, 1, port);
    let world = world(&format!(
        "[[feeds]]\nname = \"syslog\"\nformat = \"ecs\"\nlinger_ms = 5\nretry_min_ms = 5\nretry_max_ms = 20\n\
         to = {{ syslog = {{ address = \"tcp://127.0.0.1:{port}\" }} }}\n"
    ));
    let written = || {
        let text = std::fs::read_to_string(scratch.join("messages")).unwrap_or_default();
        let document = |line: &str| {
            let rest = line.strip_prefix("estoppeld localhost ").unwrap();
            serde_json::from_str(rest.split_once(' ').unwrap().1.trim_start()).ok()
        };
        text.lines().filter_map(document).collect()
    };
    let mut ids = calls(&world, 20);
    wait_for("receipts at rsyslog", &ids, written);
    first.terminate();
    first.wait_exit(PATIENCE);
    ids.extend(calls(&world, 20));
    let mut second = rsyslog(&program, &scratch, 2, port);
    ids.extend(calls(&world, 5));
    let documents = wait_for("all receipts at rsyslog", &ids, written);
    check(&documents, &ids);
    second.terminate();
    second.wait_exit(PATIENCE);
}

#[test]
fn a_damaged_cursor_stops_its_feed_alone_until_it_is_mended() {
    let scratch = Scratch::new("feeds");
    let feed = |name: &str| {
        let path = scratch.join(name);
        let path = path.display();
        format!(
            "[[feeds]]\nname = \"{name}\"\nformat = \"ecs\"\nto = {{ file = {{ path = \"{path}\" }} }}\n\n"
        )
    };
    let mut world = world(&format!("{}{}", feed("broken"), feed("sound")));
    let told = |name: &'static str, ids: &[String]| wait_for(name, ids, || lines(&scratch.join(name)));
    let ids = calls(&world, 2);
    told("broken", &ids);
    world.stop();
    let cursor = world.journal().join("feeds/broken.cursor");
    std::fs::write(&cursor, "{").unwrap();
    world.restart();
    let ids = calls(&world, 2);
    told("sound", &ids);
    assert_eq!(world.metric("estoppel_feed_off{feed=\"broken\"}"), Some(1.0));
    assert_eq!(world.metric("estoppel_feed_off{feed=\"sound\"}"), None);
    assert!(world.daemon.stderr().contains("the feed is off"), "{}", world.daemon.stderr());
    std::fs::remove_file(&cursor).unwrap();
    world.daemon.hang_up();
    told("broken", &ids);
    assert_eq!(world.metric("estoppel_feed_off{feed=\"broken\"}"), None);
}
