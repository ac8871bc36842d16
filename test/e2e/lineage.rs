//! Rows of a real Postgres that name the call that wrote them, and rows that belong to no call.

use std::sync::{Arc, Mutex, Weak, mpsc};

use estoppel_kit::http::{Answer, Asked, Tool};
use estoppel_kit::{PostgresServer, until};
use serde_json::{Value, json};

use crate::snapshots::{
    ENFORCE, OBSERVE, PATIENT, call, downgrades, instance_entries, others_agree, request, world,
};
use crate::support::{PATIENCE, World, cli, cli_binary};

const WRITTEN: &str = "written = [{ table = \"public.orders\", key = \"call_id\" }]\n";
const WATCHED: &str = "watch_rows = true\nwatch_rows_every_ms = 50\nwatch_rows_ms = 20000\n";
const FOUND: &str = r#"estoppel_bypass_total{source="database"}"#;
const SEEN: &str = r#"estoppel_rows_seen{database="shop",table="public.orders"}"#;
/// All that a role needs.
const GRANTS: &str = "CREATE ROLE watcher LOGIN; CREATE INDEX ON orders (call_id); GRANT SELECT (call_id, xmin) ON orders TO watcher";

/// A database with a table of orders, and a tool that writes into it what the target says.
fn shop() -> Option<(Arc<PostgresServer>, Tool)> {
    let server = Arc::new(PostgresServer::start()?);
    server.sql("postgres", "CREATE TABLE orders (id serial, note text, call_id uuid)");
    server.sql("postgres", GRANTS);
    let theirs = Arc::downgrade(&server);
    let tool = Tool::start_reading(move |asked| {
        if asked.target == "/tool/insert" {
            insert(&theirs, &format!("'{}'", named(asked)));
        }
        json!({ "named": asked.all("estoppel-call") }).to_string()
    });
    Some((server, tool))
}

fn named(asked: &Asked) -> String {
    asked.all("estoppel-call").concat()
}

fn insert(server: &Weak<PostgresServer>, call: &str) {
    let server = server.upgrade().unwrap();
    server.sql(
        "postgres",
        &format!("INSERT INTO orders (note, call_id) VALUES ('of-ada', {call}), ('of-ada', {call})"),
    );
}

/// A gateway as an operator would set it up: the role can do nothing but look.
fn gateway(tool: &Tool, server: &PostgresServer, shop: &str, database: &str) -> World {
    world(tool, &server.url("watcher", "postgres"), shop, &format!("{PATIENT}{WRITTEN}{database}"))
}

fn looks(world: &World, code: &str, cause: &str) -> f64 {
    let name =
        format!(r#"estoppel_snapshots_total{{cause="{cause}",code="{code}",database="shop",side="watch"}}"#);
    world.metric(&name).unwrap_or(0.0)
}

/// Waits until a look has begun and ended.
fn wait_for_look(world: &World) {
    let before = looks(world, "OK", "none");
    until("a look at the rows", PATIENCE, || (looks(world, "OK", "none") >= before + 2.0).then_some(()));
}

fn id(answer: &Answer) -> String {
    answer.header("estoppel-call").unwrap().to_owned()
}

fn bypasses(world: &World) -> Vec<Value> {
    instance_entries(world).into_iter().filter(|entry| entry["kind"] == "bypass").collect()
}

#[test]
fn rows_that_name_their_call_are_in_its_receipt_and_no_bypass() {
    let Some((server, tool)) = shop() else { return };
    let mut world = gateway(&tool, &server, ENFORCE, WATCHED);
    wait_for_look(&world);
    let forged = request("linked", "insert").header("estoppel-call", "0198c0de-0000-7000-8000-000000000001");
    let inserted = world.send(&forged);
    let read = call(&world, "linked", "read");
    for answer in [&inserted, &read] {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body, json!({ "named": [id(answer)] }), "what a client says of itself does not cross");
    }
    wait_for_look(&world);
    assert_eq!(world.metric(FOUND), Some(0.0));
    let bundle = world.seal("linked");
    others_agree(&bundle);
    let receipts = world.receipts_in(&bundle);
    let writes = |rows: u64| json!([{ "rows": rows, "table": "public.orders" }]);
    assert_eq!(receipts[0]["ext"]["writes"], writes(2));
    assert_eq!(receipts[1]["ext"]["writes"], writes(0));
    assert_eq!(receipts[0]["call"], json!(id(&inserted)));
    let shown = std::process::Command::new(cli_binary()).arg("show").arg(&bundle).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("OK, shop schema as before, 2 rows of public.orders"), "{shown}");
    world.stop();
    world.check_journal();
}

#[test]
fn each_of_many_calls_at_once_has_its_own_rows() {
    const CALLS: usize = 24;
    let Some((server, tool)) = shop() else { return };
    let world = gateway(&tool, &server, ENFORCE, WATCHED);
    wait_for_look(&world);
    let statuses: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..CALLS).map(|_| scope.spawn(|| call(&world, "many", "insert").status())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; CALLS]);
    wait_for_look(&world);
    assert_eq!(world.metric(FOUND), Some(0.0));
    let receipts = world.receipts("many");
    let rows: Vec<_> = receipts.iter().map(|receipt| &receipt["ext"]["writes"][0]["rows"]).collect();
    assert_eq!(rows, [2; CALLS], "{receipts:?}");
}

#[test]
fn a_route_without_declared_tables_tells_its_upstream_nothing() {
    let Some((server, tool)) = shop() else { return };
    let world = world(&tool, &server.url("watcher", "postgres"), ENFORCE, PATIENT);
    let body: Value = serde_json::from_slice(&call(&world, "plain", "read").body).unwrap();
    assert_eq!(body, json!({ "named": [] }));
    assert!(world.receipts("plain")[0]["ext"]["writes"].is_null());
}

#[test]
fn rows_that_name_no_call_another_s_or_one_that_had_ended_are_bypasses() {
    let Some((server, tool)) = shop() else { return };
    let mut world = gateway(&tool, &server, ENFORCE, WATCHED);
    let ended = id(&call(&world, "orphans", "insert"));
    wait_for_look(&world);
    let theirs = Arc::downgrade(&server);
    let forged = "0198c0de-0000-7000-8000-000000000001";
    let mut found = 0.0;
    for key in ["NULL", &format!("'{forged}'"), &format!("'{ended}'")] {
        insert(&theirs, key);
        found += 2.0;
        until("they are found", PATIENCE, || (world.metric(FOUND) == Some(found)).then_some(()));
    }
    server.sql("postgres", &format!("UPDATE orders SET note = 'changed' WHERE call_id = '{ended}'"));
    until("they are found", PATIENCE, || (world.metric(FOUND) == Some(found + 4.0)).then_some(()));
    wait_for_look(&world);
    assert_eq!(world.metric(FOUND), Some(found + 4.0), "once");
    world.stop();
    let entries = bypasses(&world);
    let said: Vec<_> =
        entries.iter().map(|entry| (&entry["count"], entry["comment"].as_str().unwrap())).collect();
    assert_eq!(
        said,
        [
            (&json!(2), "rows written beside calls: 2 name no call"),
            (&json!(2), "rows written beside calls: 2 name none of this gateway"),
            (&json!(2), "rows written beside calls: 2 name one that had ended"),
            (&json!(4), "rows written beside calls: 4 name one that had ended"),
        ]
    );
    for entry in &entries {
        let named = (&entry["source"], &entry["upstream"], &entry["ref"]);
        assert_eq!(named, (&json!("database"), &json!("shop"), &json!("public.orders")));
    }
    let told = serde_json::to_string(&entries).unwrap() + &world.daemon.stderr();
    assert!(!told.contains("of-ada") && !told.contains(forged), "rows stay where they are");
    world.check_journal();
    let bundle = world.journal().join("bundles");
    let shown = std::fs::read_dir(bundle).unwrap().map(|file| {
        let zip = file.unwrap().path();
        String::from_utf8(
            std::process::Command::new(cli_binary()).arg("show").arg(zip).output().unwrap().stdout,
        )
    });
    let shown: String = shown.map(Result::unwrap).collect();
    assert!(
        shown.contains("2 by database, shop, public.orders, rows written beside calls: 2 name no call"),
        "{shown}"
    );
}

#[test]
fn what_a_call_writes_that_nobody_looked_at_before_is_its_own_and_what_comes_after_its_end_is_not() {
    let Some((server, _)) = shop() else { return };
    let theirs = Arc::downgrade(&server);
    let (told, calls) = mpsc::channel();
    let (told, (go, wait)) = (Mutex::new(told), mpsc::channel());
    let wait = Mutex::new(wait);
    let tool = Tool::start_reading(move |asked| {
        told.lock().unwrap().send(named(asked)).unwrap();
        wait.lock().unwrap().recv().unwrap();
        insert(&theirs, &format!("'{}'", named(asked)));
        "{}".into()
    });
    let nothing = "snapshot: { source: shop, mode: observe }\n    operations:\n    - { id: write, method: POST, path: /tool/insert, snapshot: none }\n    other_operations: allow";
    let mut world = gateway(&tool, &server, nothing, WATCHED);
    wait_for_look(&world);
    let address = world.gateway;
    let sent =
        std::thread::spawn(move || estoppel_kit::http::send(address, &request("skipped", "insert")).unwrap());
    let late = calls.recv_timeout(PATIENCE).unwrap();
    wait_for_look(&world);
    // A reload with another configuration, while the call is under way.
    let config = world.scratch.join("estoppeld.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("watch_rows_every_ms = 50", "watch_rows_every_ms = 60")).unwrap();
    world.daemon.hang_up();
    let reloaded = r#"estoppel_reloads_total{result="ok"}"#;
    until("reload", PATIENCE, || (world.metric(reloaded) >= Some(1.0)).then_some(()));
    wait_for_look(&world);
    go.send(()).unwrap();
    assert_eq!(sent.join().unwrap().status(), 200);
    wait_for_look(&world);
    assert_eq!(world.metric(FOUND), Some(0.0));
    let receipt = &world.receipts("skipped")[0];
    assert_eq!(receipt["snapshot"], json!({ "pre": { "code": "POLICY_SKIP" }, "source": "shop" }));
    assert!(receipt["ext"]["writes"].is_null(), "{receipt}");
    insert(&Arc::downgrade(&server), &format!("'{late}'"));
    until("they are found", PATIENCE, || (world.metric(FOUND) == Some(2.0)).then_some(()));
}

#[test]
fn of_the_time_without_a_gateway_nothing_is_claimed_and_after_it_rows_are_watched_again() {
    let Some((server, tool)) = shop() else { return };
    let mut world = gateway(&tool, &server, ENFORCE, WATCHED);
    assert_eq!(call(&world, "restart", "insert").status(), 200);
    wait_for_look(&world);
    world.stop();
    insert(&Arc::downgrade(&server), "NULL");
    world.restart();
    wait_for_look(&world);
    assert_eq!(call(&world, "restart", "insert").status(), 200);
    wait_for_look(&world);
    assert_eq!(world.metric(FOUND), Some(0.0));
    insert(&Arc::downgrade(&server), "NULL");
    until("they are found", PATIENCE, || (world.metric(FOUND) == Some(2.0)).then_some(()));
    world.stop();
    world.check_journal();
}

#[test]
fn rows_that_cannot_be_looked_at_stop_no_call_and_are_said_to_be_unseen() {
    let Some((server, tool)) = shop() else { return };
    let world = gateway(&tool, &server, ENFORCE, WATCHED);
    let breaks = [
        ("permission", "REVOKE SELECT (call_id, xmin) ON orders FROM watcher"),
        ("table_missing", "ALTER TABLE orders RENAME TO gone"),
        (
            "rls_filtered",
            "ALTER TABLE gone RENAME TO orders; GRANT SELECT (call_id, xmin) ON orders TO watcher; ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
        ),
    ];
    for (cause, sql) in breaks {
        server.sql("postgres", sql);
        until("it is seen", PATIENCE, || (looks(&world, "LINEAGE_MISSING", cause) > 0.0).then_some(()));
        let answer = call(&world, cause, "read");
        assert_eq!(answer.status(), 200, "{cause}");
        let receipt = &world.receipts(cause)[0];
        assert_eq!(receipt["ext"]["writes"], json!([{ "cause": cause, "table": "public.orders" }]));
        assert_eq!(world.metric(SEEN), Some(0.0));
        assert_eq!(downgrades(receipt), [("LINEAGE_MISSING", format!("public.orders {cause}").as_str())]);
    }
    server.sql("postgres", "ALTER TABLE orders DISABLE ROW LEVEL SECURITY");
    wait_for_look(&world);
    assert_eq!(world.metric(SEEN), Some(1.0));
    insert(&Arc::downgrade(&server), "NULL");
    until("they are found", PATIENCE, || (world.metric(FOUND) == Some(2.0)).then_some(()));
}

#[test]
fn a_table_that_cannot_be_looked_at_leaves_what_is_said_of_the_others() {
    let Some((server, tool)) = shop() else { return };
    server.sql(
        "postgres",
        "CREATE TABLE items (call_id uuid); GRANT SELECT (call_id, xmin) ON items TO watcher",
    );
    let both = "written = [{ table = \"public.items\", key = \"call_id\" }, { table = \"public.orders\", key = \"call_id\" }]\n";
    let world =
        world(&tool, &server.url("watcher", "postgres"), ENFORCE, &format!("{PATIENT}{both}{WATCHED}"));
    wait_for_look(&world);
    server.sql("postgres", "REVOKE SELECT (xmin, call_id) ON items FROM watcher");
    until("it is seen", PATIENCE, || (looks(&world, "LINEAGE_MISSING", "permission") > 0.0).then_some(()));
    assert_eq!(call(&world, "both", "insert").status(), 200);
    insert(&Arc::downgrade(&server), "NULL");
    until("they are found", PATIENCE, || (world.metric(FOUND) == Some(2.0)).then_some(()));
    assert_eq!(world.metric(SEEN), Some(1.0));
    assert_eq!(world.metric(&SEEN.replace("orders", "items")), Some(0.0));
    let receipt = &world.receipts("both")[0];
    let writes =
        json!([{ "cause": "permission", "table": "public.items" }, { "rows": 2, "table": "public.orders" }]);
    assert_eq!(receipt["ext"]["writes"], writes);
    assert_eq!(downgrades(receipt), [("LINEAGE_MISSING", "public.items permission")]);
}

#[test]
fn three_hundred_thousand_rows_at_once_are_all_found() {
    const ROWS: u32 = 300_000;
    let Some((server, tool)) = shop() else { return };
    let world = gateway(&tool, &server, ENFORCE, &WATCHED.replace("20000", "60000"));
    wait_for_look(&world);
    let bulk =
        format!("INSERT INTO orders (call_id) SELECT md5(n::text)::uuid FROM generate_series(1, {ROWS}) n");
    server.sql("postgres", &bulk);
    until("all are found", PATIENCE * 6, || (world.metric(FOUND) == Some(f64::from(ROWS))).then_some(()));
    assert_eq!(looks(&world, "LINEAGE_MISSING", "too_many"), 0.0);
}

#[test]
fn a_table_that_is_too_large_to_be_watched_is_counted_and_said_to_be_unseen() {
    let Some((server, tool)) = shop() else { return };
    server.sql("postgres", "INSERT INTO orders (note) SELECT repeat('x', 99) FROM generate_series(1, 20000)");
    let world = gateway(&tool, &server, OBSERVE, &format!("{WATCHED}watch_rows_mib_max = 1\n"));
    until("it is seen", PATIENCE, || (looks(&world, "LINEAGE_MISSING", "too_large") > 0.0).then_some(()));
    assert_eq!(call(&world, "large", "insert").status(), 200);
    let receipt = &world.receipts("large")[0];
    assert_eq!(receipt["ext"]["writes"], json!([{ "rows": 2, "table": "public.orders" }]));
    assert_eq!(world.metric(FOUND), Some(0.0));
}

/// Sets the database up as the doctor says, so that it writes the call itself.
fn stamped(server: &PostgresServer, hint: &str, stamp: &str) -> String {
    let word = if stamp == "trigger" { format!("{hint}:trigger") } else { hint.to_owned() };
    let url = server.url("watcher", "postgres");
    let (_, said) = cli(&["doctor", "--pg", &url, "--written", &format!("public.orders=call_id:{word}")]);
    let findings = said["data"]["findings"].as_array().unwrap();
    let fixes: Vec<&str> = findings.iter().filter_map(|finding| finding["fix"].as_str()).collect();
    assert_eq!(fixes.len(), 1, "{said}");
    server.sql("postgres", fixes[0]);
    let (exit, said) = cli(&["doctor", "--pg", &url, "--written", &format!("public.orders=call_id:{word}")]);
    assert_eq!(exit, 0, "{said}");
    format!(
        "written = [{{ table = \"public.orders\", key = \"call_id\", hint = \"{hint}\", stamp = \"{stamp}\" }}]\n"
    )
}

/// A statement of a session that says for which call it writes, as a driver would say it.
fn hinted(hint: &str, statement: &str, call: &str) -> String {
    match hint {
        "setting" => format!("BEGIN; SET LOCAL estoppel.call = '{call}'; {statement}; COMMIT"),
        "application_name" => format!("SET application_name = 'shop estoppel-call={call}'; {statement}"),
        _ => format!("{statement} /*estoppel-call='{call}',traceparent='00-0-0-00'*/"),
    }
}

const TWO: &str = "INSERT INTO orders (note) VALUES ('of-ada'), ('of-ada')";

#[test]
fn the_database_writes_the_call_of_a_session_into_rows_whatever_the_hint_is() {
    for (hint, stamp) in [
        ("setting", "default"),
        ("application_name", "default"),
        ("comment", "default"),
        ("setting", "trigger"),
        ("application_name", "trigger"),
        ("comment", "trigger"),
    ] {
        let Some((server, _)) = shop() else { return };
        if hint == "comment" {
            server.sql("postgres", "ALTER TABLE orders ALTER COLUMN call_id TYPE text");
        }
        let written = stamped(&server, hint, stamp);
        let theirs = Arc::downgrade(&server);
        let tool = Tool::start_reading(move |asked| {
            let server = theirs.upgrade().unwrap();
            if asked.target == "/tool/insert" {
                server.sql("postgres", &hinted(hint, TWO, &named(asked)));
            }
            if asked.target == "/tool/update" {
                server.sql("postgres", &hinted(hint, "UPDATE orders SET note = 'changed'", &named(asked)));
            }
            "{}".into()
        });
        let mut world = world(
            &tool,
            &server.url("watcher", "postgres"),
            ENFORCE,
            &format!("{PATIENT}{written}{WATCHED}"),
        );
        wait_for_look(&world);
        let ended = id(&call(&world, "hinted", "insert"));
        let writes = |rows: u64| json!([{ "hint": hint, "rows": rows, "table": "public.orders" }]);
        assert_eq!(world.receipts("hinted")[0]["ext"]["writes"], writes(2), "{hint} {stamp}");
        wait_for_look(&world);
        assert_eq!(world.metric(FOUND), Some(0.0), "{hint} {stamp}");
        let unknown = "0198c0de-0000-7000-8000-000000000001";
        let said = [
            (TWO.to_owned(), "2 name no call"),
            (hinted(hint, TWO, unknown), "2 name none of this gateway"),
            (hinted(hint, TWO, &ended), "2 name one that had ended"),
            (hinted(hint, TWO, "not-a-call"), "2 name no call"),
        ];
        for (at, (statement, _)) in said.iter().enumerate() {
            server.sql("postgres", statement);
            let found = (at as f64 + 1.0) * 2.0;
            until("they are found", PATIENCE, || (world.metric(FOUND) == Some(found)).then_some(()));
        }
        // What is changed bears the call that changed it where a trigger says so, else the one that inserted it.
        assert_eq!(call(&world, "changed", "update").status(), 200);
        wait_for_look(&world);
        let rows = if stamp == "trigger" { 10 } else { 0 };
        assert_eq!(world.receipts("changed")[0]["ext"]["writes"], writes(rows), "{hint} {stamp}");
        let beside = if stamp == "trigger" { 8.0 } else { 18.0 };
        until("they are found", PATIENCE, || (world.metric(FOUND) == Some(beside)).then_some(()));
        world.stop();
        let comments: Vec<_> =
            bypasses(&world).iter().map(|entry| entry["comment"].as_str().unwrap().to_owned()).collect();
        for ((_, expected), comment) in said.iter().zip(&comments) {
            assert_eq!(comment, &format!("rows written beside calls: {expected}"), "{hint} {stamp}");
        }
        world.check_journal();
    }
}

#[test]
fn a_row_is_of_the_call_that_its_session_names_and_a_pooled_session_that_keeps_an_old_one_is_found() {
    let Some((server, _)) = shop() else { return };
    let Some(pool) = estoppel_kit::PgBouncer::start(&server, "transaction") else { return };
    let written = stamped(&server, "setting", "default");
    let theirs = Arc::downgrade(&server);
    let (told, calls) = mpsc::channel();
    let (go, wait) = mpsc::channel::<String>();
    let (told, wait) = (Mutex::new(told), Mutex::new(wait));
    let other = Arc::new(Mutex::new(String::new()));
    let mistaken = other.clone();
    let tool = Tool::start_reading(move |asked| {
        if asked.target == "/tool/waits" {
            told.lock().unwrap().send(named(asked)).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
        let server = theirs.upgrade().unwrap();
        match asked.target.as_str() {
            // It takes another call for its own, of another run, that is still under way.
            "/tool/mistakes" => {
                drop(server.sql("postgres", &hinted("setting", TWO, &mistaken.lock().unwrap())))
            }
            // It says for which call the session writes, and does not take it back.
            "/tool/leaks" => pool_sql(&pool, &format!("SET estoppel.call = '{}'; {TWO}", named(asked))),
            "/tool/forgets" => pool_sql(&pool, TWO),
            _ => {}
        }
        "{}".into()
    });
    let world =
        world(&tool, &server.url("watcher", "postgres"), ENFORCE, &format!("{PATIENT}{written}{WATCHED}"));
    wait_for_look(&world);
    let address = world.gateway;
    let first =
        std::thread::spawn(move || estoppel_kit::http::send(address, &request("first", "waits")).unwrap());
    *other.lock().unwrap() = calls.recv_timeout(PATIENCE).unwrap();
    assert_eq!(call(&world, "second", "mistakes").status(), 200);
    go.send(String::new()).unwrap();
    assert_eq!(first.join().unwrap().status(), 200);
    let writes = |run: &str| world.receipts(run)[0]["ext"]["writes"][0]["rows"].clone();
    assert_eq!((writes("second"), writes("first")), (json!(0), json!(2)), "a name is believed");
    wait_for_look(&world);
    assert_eq!(world.metric(FOUND), Some(0.0));
    assert_eq!(call(&world, "leaks", "leaks").status(), 200);
    assert_eq!(writes("leaks"), json!(2));
    wait_for_look(&world);
    assert_eq!(world.metric(FOUND), Some(0.0));
    assert_eq!(call(&world, "forgets", "forgets").status(), 200);
    assert_eq!(writes("forgets"), json!(0), "the session still named the call before");
    until("they are found", PATIENCE, || (world.metric(FOUND) == Some(2.0)).then_some(()));
}

/// By the pooler, whose one connection is everybody's.
fn pool_sql(pool: &estoppel_kit::PgBouncer, statements: &str) {
    let mut psql = std::process::Command::new("psql");
    psql.args([
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        &pool.url("postgres", "postgres"),
        "-c",
        statements,
    ]);
    let done = psql.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn where_the_database_writes_no_call_any_more_nothing_is_claimed_and_it_is_said() {
    let Some((server, tool)) = shop() else { return };
    let written = stamped(&server, "setting", "default");
    let world =
        world(&tool, &server.url("watcher", "postgres"), ENFORCE, &format!("{PATIENT}{written}{WATCHED}"));
    wait_for_look(&world);
    server.sql(
        "postgres",
        "ALTER TABLE orders ALTER COLUMN call_id SET DEFAULT '0198c0de-0000-7000-8000-000000000001'",
    );
    until("it is seen", PATIENCE, || (looks(&world, "LINEAGE_MISSING", "hint_missing") > 0.0).then_some(()));
    server.sql("postgres", TWO);
    assert_eq!(call(&world, "gone", "read").status(), 200);
    let receipt = &world.receipts("gone")[0];
    assert_eq!(downgrades(receipt), [("LINEAGE_MISSING", "public.orders hint_missing")]);
    assert_eq!(world.metric(FOUND), Some(0.0));
    stamped(&server, "setting", "default");
    until("they are found", PATIENCE, || (world.metric(FOUND) == Some(2.0)).then_some(()));
}

#[test]
fn the_doctor_s_index_for_a_partitioned_table_can_be_made() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE TABLE orders (id int, call_id text) PARTITION BY LIST (id); CREATE TABLE orders_1 PARTITION OF orders FOR VALUES IN (1);
         CREATE ROLE watcher LOGIN",
    );
    let url = server.url("watcher", "postgres");
    for word in ["call_id", "call_id:setting", "call_id:comment:trigger"] {
        let ask = || cli(&["doctor", "--pg", &url, "--written", &format!("public.orders={word}")]);
        for finding in ask().1["data"]["findings"].as_array().unwrap() {
            finding["fix"].as_str().into_iter().for_each(|fix| drop(server.sql("postgres", fix)));
        }
        let (exit, said) = ask();
        assert_eq!(exit, 0, "{word}: {said}");
    }
    server.sql("postgres", "ALTER TABLE orders_1 ALTER COLUMN call_id DROP DEFAULT");
    let (exit, said) = cli(&["doctor", "--pg", &url, "--written", "public.orders=call_id:setting"]);
    assert!(exit == 7 && said.to_string().contains("no call of setting"), "a part of it has none: {said}");
    let (exit, said) =
        cli(&["doctor", "--pg", &url, "--written", "public.orders=new:setting", "--suggest-fixes"]);
    assert!(exit == 7 && said.to_string().contains("ADD COLUMN \\\"new\\\" text"), "{said}");
}

#[test]
fn the_sql_that_the_doctor_prints_lets_rows_be_asked_which_call_wrote_them() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int, call_id uuid); CREATE ROLE watcher LOGIN",
    );
    let url = server.url("watcher", "postgres");
    let ask = |written: &str| cli(&["doctor", "--pg", &url, "--written", written]);
    let (exit, said) = ask("shop.orders=call_id");
    assert_eq!(exit, 7, "{said}");
    let findings = said["data"]["findings"].as_array().unwrap();
    let fixes: Vec<&str> = findings.iter().filter_map(|finding| finding["fix"].as_str()).collect();
    assert_eq!(fixes.len(), 3, "{said}");
    for fix in fixes {
        server.sql("postgres", fix);
    }
    let (exit, said) = ask("shop.orders=call_id");
    assert_eq!(exit, 0, "{said}");
    assert!(said.to_string().contains("rows of shop.orders can be asked"), "{said}");
    for (written, why) in [
        ("shop.gone=call_id", "there is no table shop.gone"),
        ("shop.orders=call", "has no column"),
        ("shop.orders=id", "is integer"),
    ] {
        let (exit, said) = ask(written);
        assert!(exit == 7 && said.to_string().contains(why), "{written}: {said}");
    }
    let done = std::process::Command::new(cli_binary())
        .args(["doctor", "--pg", &url, "--written", "orders"])
        .output();
    assert_eq!(done.unwrap().status.code(), Some(6));
}
