//! Snapshots of a real Postgres around calls: what is in receipts, journal and bundle, and what a call becomes without one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use estoppel_incident::Pack;
use estoppel_kit::http::{Answer, Peer, Request, Tool};
use estoppel_kit::{PostgresServer, require_real, until};
use estoppel_stub::{Reply, Script};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Setup, World, cli, cli_binary, daemon_binary, path};

/// Deadlines are the subject of their own tests; elsewhere a busy machine is no failure.
pub const PATIENT: &str = "grace_ms = 8000\nlock_ms = 8000\n";
pub const ENFORCE: &str = "snapshot: { source: shop, mode: enforce }";
pub const OBSERVE: &str = "snapshot: { source: shop, mode: observe }";

fn policy(shop: &str) -> String {
    format!(
        "version: 1\nname: test\ndefaults: {{ verdict: allow, on_not_evaluated: allow }}\nroutes:\n  tool:\n    {shop}\n"
    )
}

/// A gateway in front of a tool, with the database at `url`.
pub fn world(tool: &Tool, url: &str, shop: &str, database: &str) -> World {
    let secrets = estoppel_kit::Scratch::new("url");
    let file = write_url(secrets.path(), url);
    let world = World::with(
        Script::always(Reply::json("{}")),
        &Setup {
            policy: policy(shop),
            routes: format!(
                "[upstream.tool]\nurl = \"http://{}\"\n[[route]]\nname = \"tool\"\npath = \"/tool\"\nupstream = \"tool\"\ndialect = \"json\"\n",
                tool.addr()
            ),
            config: format!("[[database]]\nname = \"shop\"\nurl_file = {file:?}\n{database}"),
            ..Setup::default()
        },
    );
    std::mem::forget(secrets); // read again on reload
    world
}

pub fn write_url(folder: &Path, url: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let file = folder.join("shop.url");
    std::fs::write(&file, url).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn idle() -> Tool {
    Tool::start(|_| "{}".into())
}

pub fn call(world: &World, run: &str, what: &str) -> Answer {
    world.send(&request(run, what))
}

pub fn request(run: &str, what: &str) -> Request {
    Request::new("POST", &format!("/tool/{what}"))
        .header("content-type", "application/json")
        .header("estoppel-run", run)
        .body("{}")
}

pub fn superuser(server: &PostgresServer) -> String {
    server.url("postgres", "postgres")
}

/// `code` of both sides of a receipt.
fn codes(receipt: &Value) -> [Option<&str>; 2] {
    ["pre", "post"].map(|side| receipt["snapshot"][side]["code"].as_str())
}

fn digest<'r>(receipt: &'r Value, side: &str) -> &'r str {
    receipt["snapshot"][side]["digest"].as_str().unwrap_or_else(|| panic!("no {side}: {receipt}"))
}

/// As a number, to be compared.
fn lsn(receipt: &Value, side: &str) -> u64 {
    let text = receipt["snapshot"][side]["lsn"].as_str().unwrap_or_else(|| panic!("no {side}: {receipt}"));
    let (high, low) = text.split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

pub fn downgrades(receipt: &Value) -> Vec<(&str, &str)> {
    let list = receipt["downgrades"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .map(|one| (one["code"].as_str().unwrap(), one["detail"].as_str().unwrap_or_default()))
        .collect()
}

fn stored(world: &World) -> usize {
    std::fs::read_dir(world.journal().join("snapshots")).unwrap().count()
}

#[test]
fn an_incident_has_what_changed_in_the_database_under_each_call() {
    let Some(server) = PostgresServer::start() else { return };
    let server = Arc::new(server);
    server.sql("postgres", "CREATE TABLE orders (id int)");
    let theirs = Arc::downgrade(&server);
    let tool = Tool::start(move |target| {
        if target == "/tool/migrate" {
            theirs.upgrade().unwrap().sql("postgres", "ALTER TABLE orders ADD COLUMN note text");
        }
        "{}".into()
    });
    let world = world(&tool, &superuser(&server), ENFORCE, PATIENT);
    for what in ["read", "migrate"] {
        assert_eq!(call(&world, "ddl", what).status(), 200, "{what}");
    }
    let bundle = world.seal("ddl");
    let [_, receipt] = &world.receipts_in(&bundle)[..] else { panic!("two calls") };
    let scratch = estoppel_kit::Scratch::new("incident");
    let out = scratch.join("a.zip");
    let (exit, said) = cli(&["incident", "--from", path(&bundle), "--out", path(&out)]);
    let summary = &said["data"]["index"]["summary"];
    assert_eq!(
        (exit, &summary["snapshots"], &summary["diffs"], &summary["outside"]),
        (0, &json!(2), &json!(1), &json!(0)),
        "{said:#}"
    );
    assert_eq!(cli(&["incident", "verify", path(&out)]).0, 0);

    let mut pack = Pack::from_zip(&std::fs::read(&out).unwrap()).unwrap();
    let content = |pack: &Pack, name: &str| {
        pack.files.iter().find(|(path, _)| path.as_str() == name).unwrap().1.clone()
    };
    let timeline: Value = serde_json::from_slice(&content(&pack, "timeline.json")).unwrap();
    let links = timeline["rows"].as_array().unwrap().iter().flat_map(|row| row["links"].as_array().unwrap());
    let links: Vec<&Value> = links.collect();
    let [diff] = links.iter().filter(|link| link["kind"] == "diff").collect::<Vec<_>>()[..] else {
        panic!("{links:#?}")
    };
    let name = diff["at"].as_str().unwrap();
    let document = content(&pack, name);
    assert_eq!(diff["to"], json!(estoppel_evidence::Sha256::of(&document).to_string()));
    let read: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(read["diff"]["changes"][0]["path"], "/columns/public/orders/note", "{read:#}");
    let at = |side: &str| {
        let to = receipt["snapshot"][side]["digest"].as_str().unwrap();
        let link = links.iter().find(|link| link["kind"] == "snapshot" && link["to"] == to).unwrap();
        assert!(link["at"].as_str().unwrap().ends_with(&format!("!snapshots/{}.json", &to[7..])), "{link}");
        to.to_owned()
    };
    assert_eq!(
        (&read["context"]["from"]["digest"], &read["context"]["to"]["digest"]),
        (&json!(at("pre")), &json!(at("post")))
    );

    let refused = |pack: &Pack| {
        let forged = scratch.write("forged.zip", pack.to_zip().unwrap());
        let (exit, said) = cli(&["incident", "verify", path(&forged)]);
        (exit, said["error"]["code"].as_str().unwrap().to_owned())
    };
    let kept = pack.files.insert(
        name.parse().unwrap(),
        String::from_utf8(document).unwrap().replace("note", "fine").into_bytes(),
    );
    assert_eq!(refused(&pack), (2, "INCIDENT_ALTERED".to_owned()));
    assert!(
        kept.is_some() && pack.files.remove(&name.parse::<estoppel_bundle::BundlePath>().unwrap()).is_some()
    );
    assert_eq!(refused(&pack), (2, "INCIDENT_MISSING".to_owned()));
}

#[test]
fn a_snapshot_that_was_not_taken_has_no_diff_and_the_incident_says_why() {
    let Some(server) = PostgresServer::start() else { return };
    let server = Arc::new(server);
    server.sql("postgres", "CREATE TABLE orders (id int); CREATE TABLE stock (id int)");
    let theirs = Arc::downgrade(&server);
    let locks: Arc<std::sync::Mutex<Vec<estoppel_kit::LockedTable>>> = Arc::default();
    let held = locks.clone();
    let tool = Tool::start(move |target| {
        let server = theirs.upgrade().unwrap();
        match target {
            "/tool/order" => drop(server.sql("postgres", "INSERT INTO orders VALUES (1)")),
            "/tool/many" => {
                drop(server.sql("postgres", "INSERT INTO orders SELECT n FROM generate_series(2, 99) n"));
            }
            "/tool/migrate" => drop(server.sql("postgres", "ALTER TABLE stock ADD COLUMN note text")),
            _ => held.lock().unwrap().push(server.lock("postgres", "pg_catalog.pg_namespace")),
        }
        "{}".into()
    });
    let config =
        "grace_ms = 4000\nlock_ms = 200\nlate_ms = 0\nrows = [\"orders\"]\nrows_max = 5\nrows_ms = 4000\n";
    let world = world(&tool, &superuser(&server), OBSERVE, config);
    for what in ["order", "many", "migrate", "lock"] {
        assert_eq!(call(&world, "ddl", what).status(), 200, "{what}");
    }
    locks.lock().unwrap().clear();
    let bundle = world.seal("ddl");
    let scratch = estoppel_kit::Scratch::new("not-compared");
    let out = scratch.join("a.zip");
    let (exit, said) = cli(&["incident", "--from", path(&bundle), "--out", path(&out)]);
    let summary = &said["data"]["index"]["summary"];
    assert_eq!((exit, &summary["diffs"], &summary["not_compared"]), (0, &json!(2), &json!(3)), "{said:#}");
    assert_eq!(cli(&["incident", "verify", path(&out)]).0, 0);
    let pack = Pack::from_zip(&std::fs::read(&out).unwrap()).unwrap();
    let read = |name: &str| -> Value {
        let found = pack.files.iter().find(|(path, _)| path.as_str() == name).unwrap();
        serde_json::from_slice(found.1).unwrap()
    };
    let timeline = read("timeline.json");
    let rows = timeline["rows"].as_array().unwrap();
    let calls: Vec<&Value> = rows.iter().filter(|row| row["kind"] == "call").collect();
    let [order, many, migrate, lock] = &calls[..] else { panic!("{calls:#?}") };
    let changed = |row: &Value| -> Option<Vec<String>> {
        let links = row["links"].as_array().unwrap();
        let diff = read(links.iter().find(|link| link["kind"] == "diff")?["at"].as_str().unwrap());
        let changes = diff["diff"]["changes"].as_array().unwrap().iter();
        Some(changes.map(|change| change["path"].as_str().unwrap().to_owned()).collect())
    };
    let unread = json!([{ "cause": "rows_max", "code": "ROWS_MISSING", "table": "public.orders" }]);
    assert!(changed(order).unwrap().iter().all(|path| path.starts_with("/rows/public/orders")), "{order:#}");
    assert!(order["not_compared"].is_null(), "{order:#}");
    assert_eq!((changed(many), &many["not_compared"]), (None, &unread), "{many:#}");
    let column = vec!["/columns/public/stock/note".to_owned()];
    assert_eq!((changed(migrate), &migrate["not_compared"]), (Some(column), &unread), "{migrate:#}");
    let late = json!([{ "cause": "lock_timeout", "code": "POST_TIMEOUT", "side": "post" }]);
    assert_eq!((changed(lock), &lock["not_compared"]), (None, &late), "{lock:#}");
}

#[test]
fn ddl_inside_a_call_is_between_its_digests_and_what_changes_nothing_has_one() {
    let Some(server) = PostgresServer::start() else { return };
    let server = Arc::new(server);
    server.sql("postgres", "CREATE TABLE orders (id int)");
    let theirs = Arc::downgrade(&server);
    let tool = Tool::start(move |target| {
        match target {
            "/tool/migrate" => {
                drop(theirs.upgrade().unwrap().sql("postgres", "ALTER TABLE orders ADD COLUMN note text"))
            }
            "/tool/insert" => {
                drop(theirs.upgrade().unwrap().sql("postgres", "INSERT INTO orders VALUES (1)"))
            }
            _ => {}
        }
        "{}".into()
    });
    let world = world(&tool, &superuser(&server), ENFORCE, PATIENT);
    for what in ["read", "insert", "migrate", "read"] {
        assert_eq!(call(&world, "ddl", what).status(), 200, "{what}");
    }
    let bundle = world.seal("ddl");
    let receipts = world.receipts_in(&bundle);
    for (number, expected) in [(2, 0), (3, 5)] {
        let (exit, said) = cli(&["snapshot", "diff", path(&bundle), "--call", &number.to_string()]);
        assert_eq!(exit, expected, "{said}");
        let changes = said["data"]["changes"].as_array().unwrap();
        let paths: Vec<_> =
            changes.iter().map(|change| (change["op"].as_str(), change["path"].as_str())).collect();
        let note = [(Some("add"), Some("/columns/public/orders/note"))];
        assert_eq!(paths, if number == 3 { &note[..] } else { &[] });
    }
    let listed = Command::new(cli_binary()).arg("show").arg(&bundle).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let said: Vec<&str> =
        listed.lines().filter_map(|line| line.split_once("OK, shop ")).map(|said| said.1).collect();
    // Of a read it depends on whether the server itself wrote into its log meanwhile.
    let is_read = |said: &str| ["as before", "schema as before"].contains(&said);
    let [read, "schema as before", "changed", again] = said[..] else { panic!("{listed}") };
    assert!(is_read(read) && is_read(again), "{listed}");
    let [read, insert, migrate, again] = receipts.as_slice() else { panic!("{receipts:?}") };
    for receipt in &receipts {
        assert_eq!((&receipt["snapshot"]["source"], codes(receipt)), (&json!("shop"), [None, None]));
        assert!(lsn(receipt, "pre") <= lsn(receipt, "post"));
    }
    assert_eq!(digest(read, "pre"), digest(read, "post"));
    assert_eq!(digest(insert, "pre"), digest(insert, "post"));
    assert!(lsn(insert, "pre") < lsn(insert, "post"), "a row was written");
    assert_ne!(digest(migrate, "pre"), digest(migrate, "post"));
    assert_eq!(
        (digest(insert, "post"), digest(migrate, "post")),
        (digest(migrate, "pre"), digest(again, "pre"))
    );

    assert_eq!(stored(&world), 2, "one for each digest");
    let manifest = cli(&["show", path(&bundle)]).1;
    let files = manifest["data"]["manifest"]["files"].as_array().unwrap_or_else(|| panic!("{manifest}"));
    let roles = files.iter().filter(|file| file["role"] == "snapshot");
    let mut named: Vec<String> = roles
        .map(|file| {
            let hex = file["sha256"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            assert_eq!(file["path"], format!("snapshots/{hex}.json"));
            file["sha256"].as_str().unwrap().to_owned()
        })
        .collect();
    named.sort();
    let mut said = vec![digest(migrate, "pre").to_owned(), digest(migrate, "post").to_owned()];
    said.sort();
    assert_eq!(named, said);
    others_agree(&bundle);
}

#[test]
fn of_tables_that_are_named_it_is_said_how_many_rows_a_call_added_and_removed_and_never_what_is_in_them() {
    let Some(server) = PostgresServer::start() else { return };
    let server = Arc::new(server);
    server.sql(
        "postgres",
        "CREATE TABLE orders (id int, note text); CREATE TABLE log (id int); \
         INSERT INTO orders VALUES (1, 'secret-note'), (2, 'two')",
    );
    let theirs = Arc::downgrade(&server);
    let tool = Tool::start(move |target| {
        let statement = match target {
            "/tool/order" => {
                "UPDATE orders SET note = 'changed' WHERE id = 2; INSERT INTO orders VALUES (3, 'x')"
            }
            "/tool/many" => "INSERT INTO orders SELECT n, 'many' FROM generate_series(4, 99) n",
            _ => "INSERT INTO log VALUES (1)",
        };
        drop(theirs.upgrade().unwrap().sql("postgres", statement));
        "{}".into()
    });
    let config = format!("{PATIENT}rows = [\"orders\"]\nrows_max = 5\nrows_ms = 1500\n");
    let world = world(&tool, &superuser(&server), ENFORCE, &config);
    for what in ["order", "log", "many"] {
        assert_eq!(call(&world, "rows", what).status(), 200, "{what}");
    }
    let bundle = world.seal("rows");
    others_agree(&bundle);
    let receipts = world.receipts_in(&bundle);
    for (number, expected, rows) in [
        (1, 5, json!([{ "rows": "changed", "table": "public.orders", "added": 2, "gone": 1 }])),
        (2, 0, json!([])),
        (3, 5, json!([{ "rows": "unknown", "table": "public.orders", "cause": "rows_max" }])),
    ] {
        let (exit, said) = cli(&["snapshot", "diff", path(&bundle), "--call", &number.to_string()]);
        assert_eq!((exit, &said["data"]["rows"]), (expected, &rows), "{said}");
        assert_eq!(said["data"]["changes"], json!([]));
    }
    assert_ne!(digest(&receipts[0], "pre"), digest(&receipts[0], "post"));
    assert_eq!(digest(&receipts[1], "pre"), digest(&receipts[1], "post"));
    let listed = Command::new(cli_binary()).arg("show").arg(&bundle).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.matches("OK, shop schema and rows of 1 table as before").count(), 1, "{listed}");
    let missing = [("ROWS_MISSING", "post: public.orders rows_max")];
    assert_eq!((downgrades(&receipts[1]), downgrades(&receipts[2])), (vec![], missing.to_vec()));
    let folder = world.scratch.join("unpacked");
    unpack(&bundle, &folder);
    for file in std::fs::read_dir(folder.join("snapshots")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(text.contains("orders") && !text.contains("secret-note"), "{text}");
    }
}

#[test]
fn a_declared_table_whose_rows_cannot_be_read_is_told_at_the_start_and_when_it_changes() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE TABLE orders (id int); CREATE TABLE stock (id int); CREATE ROLE watcher LOGIN; GRANT SELECT ON stock TO watcher",
    );
    let tool = idle();
    let rows = "rows = [\"orders\", \"stock\", \"gone\"]\nrows_ms = 1500\n";
    let mut world = world(&tool, &server.url("watcher", "postgres"), OBSERVE, &format!("{PATIENT}{rows}"));
    let read = |world: &World, table: &str| {
        world.metric(&format!(r#"estoppel_row_digests{{database="shop",table="public.{table}"}}"#))
    };
    let is = |world: &World, orders: f64| {
        let said = ["orders", "stock", "gone"].map(|table| read(world, table));
        (said == [Some(orders), Some(1.0), Some(0.0)]).then_some(())
    };
    until("the first look, before any call", PATIENCE, || is(&world, 0.0));
    let told = |world: &World, table: &str, cause: &str| {
        let said = world.daemon.stderr();
        let lines = said.lines().filter(|line| line.contains("no digests of the rows"));
        lines.filter(|line| line.contains(table) && line.contains(cause)).count()
    };
    let is_told = |world: &World, expected: [usize; 3]| {
        let tables =
            [("public.orders", "permission"), ("public.gone", "unknown_table"), ("public.stock", "")];
        (tables.map(|(table, cause)| told(world, table, cause)) == expected).then_some(())
    };
    until("the log says so", PATIENCE, || is_told(&world, [1, 1, 0]));

    server.sql("postgres", "GRANT SELECT ON orders TO watcher");
    assert_eq!(call(&world, "told", "one").status(), 200);
    until("it can be read", PATIENCE, || is(&world, 1.0));
    server.sql("postgres", "REVOKE SELECT ON orders FROM watcher; INSERT INTO stock VALUES (1)");
    assert_eq!(call(&world, "told", "two").status(), 200);
    until("it cannot be read", PATIENCE, || is(&world, 0.0));
    until("the log says so again, of that one", PATIENCE, || is_told(&world, [2, 1, 0]));

    // What is not asked for any more is not told any more.
    let file = world.scratch.join("estoppeld.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace(rows, "rows = [\"stock\"]\nrows_ms = 1500\n");
    std::fs::write(&file, text).unwrap();
    world.daemon.hang_up();
    until("the reload", PATIENCE, || {
        let told = ["orders", "stock", "gone"].map(|table| read(&world, table));
        (told == [None, Some(1.0), None]).then_some(())
    });
    world.stop();
}

#[test]
fn two_looks_at_a_database_are_compared_without_a_gateway() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1); CREATE ROLE watcher LOGIN",
    );
    let scratch = estoppel_kit::Scratch::new("looks");
    let look = |user: &str, name: &str| {
        let (url, file) = (server.url(user, "postgres"), scratch.join(name));
        let taken = cli(&["snapshot", "take", "--pg", &url, "--rows", "orders", "--out", path(&file)]);
        (taken, file)
    };
    let ((exit, said), before) = look("postgres", "before.json");
    assert_eq!((exit, &said["data"]["rows"][0]["says"]["count"]), (0, &json!(1)), "{said}");
    server.sql("postgres", "INSERT INTO orders VALUES (2); ALTER TABLE orders ADD CHECK (id > 0)");
    let (_, after) = look("postgres", "after.json");
    let (exit, said) = cli(&["snapshot", "diff", path(&before), path(&after)]);
    let rows = json!([{ "rows": "changed", "table": "public.orders", "added": 1, "gone": 0 }]);
    assert_eq!((exit, &said["data"]["rows"]), (5, &rows), "{said}");
    assert_eq!(said["data"]["changes"][0]["path"], "/constraints/public/orders/orders_id_check");
    assert_eq!(cli(&["snapshot", "diff", path(&after), path(&after)]).0, 0);
    let (exit, said) = cli(&["diff", path(&before), path(&after)]);
    assert!(exit == 5 && said.to_string().contains("/rows/public/orders"), "{said}");

    let ((exit, said), watched) = look("watcher", "watcher.json");
    assert_eq!((exit, &said["data"]["rows"][0]["says"]["cause"]), (5, &json!("permission")), "{said}");
    assert_eq!(cli(&["snapshot", "diff", path(&after), path(&watched)]).0, 5, "nobody knows");
    let nowhere =
        ["snapshot", "take", "--pg", "postgresql:///postgres?host=/nonexistent/estoppel&user=postgres"];
    let (exit, said) = cli(&nowhere);
    assert_eq!((exit, &said["error"]["code"]), (1, &json!("PRE_FAIL")), "{said}");
}

/// The verifiers that share no code with ours.
pub fn others_agree(bundle: &Path) {
    for (program, verifier) in [("python3", "python/pef_verify.py"), ("node", "javascript/pef-verify.mjs")] {
        let Some(program) = require_real(program) else { continue };
        let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/verifiers").join(verifier);
        let done = Command::new(program).arg(spec).arg(bundle).output().unwrap();
        assert!(done.status.success(), "{verifier}: {}", String::from_utf8_lossy(&done.stdout));
    }
}

#[test]
fn a_snapshot_that_was_altered_in_a_bundle_or_slipped_into_it_is_refused() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", "CREATE TABLE orders (id int)");
    let world = world(&idle(), &superuser(&server), ENFORCE, PATIENT);
    assert_eq!(call(&world, "altered", "read").status(), 200);
    let bundle = world.seal("altered");
    let folder = world.scratch.join("unpacked");
    unpack(&bundle, &folder);
    assert_eq!(cli(&["verify", path(&folder)]).0, 0);
    let snapshots = folder.join("snapshots");
    let file = std::fs::read_dir(&snapshots).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"orders\""));
    std::fs::write(&file, text.replacen("\"orders\"", "\"0rders\"", 1)).unwrap();
    assert_eq!(refused(&folder), "FILE_DIGEST");
    std::fs::write(&file, &text).unwrap();
    std::fs::write(snapshots.join(format!("{}.json", "0".repeat(64))), text).unwrap();
    assert_eq!(refused(&folder), "FILE_UNLISTED");
}

fn unpack(bundle: &Path, folder: &Path) {
    let script = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])";
    let done = Command::new("python3").args(["-c", script]).arg(bundle).arg(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The code for which all of it is refused.
fn refused(bundle: &Path) -> String {
    let (exit, report) = cli(&["verify", path(bundle)]);
    assert_eq!(exit, 2, "{report}");
    let text = report.to_string();
    ["FILE_DIGEST", "FILE_UNLISTED"]
        .into_iter()
        .find(|code| text.contains(&format!("\"{code}\"")))
        .unwrap_or_else(|| panic!("{text}"))
        .into()
}

#[test]
fn without_its_database_a_call_is_503_where_that_is_enforced_and_goes_on_where_it_is_observed() {
    let nowhere = "postgresql:///postgres?host=/nonexistent/estoppel&user=postgres";
    for (shop, status, asked) in [(ENFORCE, 503, 0), (OBSERVE, 200, 1)] {
        let tool = idle();
        let mut world = world(&tool, nowhere, shop, "");
        let ready = estoppel_kit::http::get(world.admin, "/readyz").unwrap();
        assert_eq!(ready.status(), 200, "other routes work");
        let answer = call(&world, "down", "read");
        assert_eq!((answer.status(), tool.asked()), (status, asked));
        if shop == ENFORCE {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!((&body["code"], &body["retryable"]), (&json!("PRE_FAIL"), &json!(true)));
            assert!(answer.header("retry-after").is_some());
        }
        let receipt = &world.receipts("down")[0];
        assert_eq!(receipt["snapshot"], json!({ "pre": { "code": "PRE_FAIL" }, "source": "shop" }));
        assert_eq!(downgrades(receipt), [("PRE_FAIL", "connect")]);
        let verdict = if shop == ENFORCE { ("block", "PRE_FAIL") } else { ("allow", "OK") };
        let said = (receipt["verdict"]["action"].as_str(), receipt["outcome"]["code"].as_str());
        assert_eq!(said, (Some(verdict.0), Some(verdict.1)));
        assert_eq!(world.metric(r#"estoppel_database_up{database="shop"}"#), Some(0.0));
        let count = r#"estoppel_snapshots_total{cause="connect",code="PRE_FAIL",database="shop",side="pre"}"#;
        assert_eq!(world.metric(count), Some(1.0));
        world.stop();
        world.check_journal();
        assert!(!world.daemon.stderr().contains("panicked"));
    }
}

#[test]
fn a_server_that_crashed_or_ended_its_session_is_found_again() {
    let Some(mut server) = PostgresServer::start() else { return };
    let world = world(&idle(), &superuser(&server), ENFORCE, PATIENT);
    assert_eq!(call(&world, "crash", "read").status(), 200);
    server.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'estoppel-snapshot'",
    );
    assert_eq!(call(&world, "crash", "read").status(), 200);
    server.crash();
    assert_eq!(call(&world, "crash", "read").status(), 503);
    server.restart();
    assert_eq!(call(&world, "crash", "read").status(), 200);
    assert_eq!(world.metric(r#"estoppel_database_up{database="shop"}"#), Some(1.0));
    let receipts = world.receipts("crash");
    let pre: Vec<_> = receipts.iter().map(|receipt| codes(receipt)[0]).collect();
    assert_eq!(pre, [None, None, Some("PRE_FAIL"), None]);
    assert_eq!(downgrades(&receipts[2]), [("PRE_FAIL", "connect")]);
}

#[test]
fn a_catalog_that_is_locked_ends_in_the_cause_whose_limit_came_first() {
    let Some(server) = PostgresServer::start() else { return };
    for (limits, cause) in [
        ("grace_ms = 8000\nlock_ms = 50\n", "lock_timeout"),
        ("grace_ms = 8000\nlock_ms = 8000\nstatement_ms = 50\n", "statement_timeout"),
        ("budget_ms = 400\ngrace_ms = 400\nlock_ms = 8000\nstatement_ms = 8000\n", "budget"),
    ] {
        let world = world(&idle(), &superuser(&server), ENFORCE, limits);
        until("the connection is warm", PATIENCE, || {
            (world.metric(r#"estoppel_database_up{database="shop"}"#) == Some(1.0)).then_some(())
        });
        let locked = server.lock("postgres", "pg_catalog.pg_namespace");
        assert_eq!(call(&world, "locked", "read").status(), 503, "{cause}");
        drop(locked);
        assert_eq!(downgrades(&world.receipts("locked")[0]), [("PRE_FAIL", cause)]);
    }
}

#[test]
fn an_answer_is_given_when_the_snapshot_after_it_does_not_come_in_time() {
    let Some(server) = PostgresServer::start() else { return };
    let server = Arc::new(server);
    let theirs = Arc::downgrade(&server);
    let locks: Arc<std::sync::Mutex<Vec<estoppel_kit::LockedTable>>> = Arc::default();
    let held = locks.clone();
    let tool = Tool::start(move |_| {
        held.lock().unwrap().push(theirs.upgrade().unwrap().lock("postgres", "pg_catalog.pg_namespace"));
        r#"{"done":true}"#.into()
    });
    let limits = "grace_ms = 3000\nlock_ms = 100\nlate_ms = 0\n";
    let world = world(&tool, &superuser(&server), ENFORCE, limits);
    let answer = call(&world, "late", "lock");
    locks.lock().unwrap().clear();
    assert_eq!((answer.status(), answer.text().as_str()), (200, r#"{"done":true}"#));
    let bundle = world.seal("late");
    let (exit, said) = cli(&["snapshot", "diff", path(&bundle), "--call", "1"]);
    let message = said["error"]["message"].as_str().unwrap();
    assert!(exit == 6 && message.contains("POST_TIMEOUT"), "{said}");
    let receipt = &world.receipts_in(&bundle)[0];
    assert_eq!(codes(receipt), [None, Some("POST_TIMEOUT")]);
    assert!(receipt["snapshot"]["post"]["digest"].is_null());
    assert_eq!(downgrades(receipt), [("POST_TIMEOUT", "lock_timeout")]);
    assert_eq!(receipt["outcome"]["code"], "OK");
}

#[test]
fn a_snapshot_that_comes_after_the_receipt_is_an_entry_of_its_own_before_the_run_is_sealed() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", "CREATE TABLE orders (id int)");
    let server = Arc::new(server);
    let theirs = Arc::downgrade(&server);
    let locks: Arc<std::sync::Mutex<Vec<estoppel_kit::LockedTable>>> = Arc::default();
    let held = locks.clone();
    let tool = Tool::start(move |target| {
        let server = theirs.upgrade().unwrap();
        if target == "/tool/migrate" {
            server.sql("postgres", "ALTER TABLE orders ADD COLUMN note text");
            held.lock().unwrap().push(server.lock("postgres", "pg_catalog.pg_namespace"));
        }
        "{}".into()
    });
    let limits = "grace_ms = 3000\nlock_ms = 100\nlate_ms = 60000\n";
    let world = world(&tool, &superuser(&server), ENFORCE, limits);
    assert_eq!(call(&world, "late", "migrate").status(), 200);
    locks.lock().unwrap().clear();
    let late = r#"estoppel_snapshots_total{cause="none",code="OK",database="shop",side="late"}"#;
    until("the late snapshot is there", PATIENCE, || (world.metric(late) == Some(1.0)).then_some(()));
    let bundle = world.seal("late");
    others_agree(&bundle);
    assert_eq!(cli(&["verify", path(&bundle)]).0, 0);
    let receipt = &world.receipts_in(&bundle)[0];
    assert_eq!(codes(receipt), [None, Some("POST_TIMEOUT")]);
    let shown = cli(&["show", path(&bundle)]).1;
    let entries = shown["data"]["entries"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["kind"] == "snapshot").unwrap_or_else(|| panic!("{shown}"));
    assert_eq!((&entry["call"], &entry["source"]), (&receipt["call"], &json!("shop")));
    let (exit, said) = cli(&["snapshot", "diff", path(&bundle), "--call", "1"]);
    let paths = said["data"]["changes"].as_array().unwrap().iter().map(|change| change["path"].as_str());
    assert_eq!((exit, paths.collect::<Vec<_>>()), (5, vec![Some("/columns/public/orders/note")]), "{said}");
    assert_eq!(said["data"]["late"], entry["seq"]);
}

/// After a call during which its database died.
fn after_its_database_died(late_ms: u64) -> Option<World> {
    let server = Arc::new(std::sync::Mutex::new(PostgresServer::start()?));
    let theirs = Arc::downgrade(&server);
    let tool = Tool::start(move |_| {
        theirs.upgrade().unwrap().lock().unwrap().crash();
        r#"{"done":true}"#.into()
    });
    let url = superuser(&server.lock().unwrap());
    let world = world(&tool, &url, ENFORCE, &format!("grace_ms = 3000\nlate_ms = {late_ms}\n"));
    let answer = call(&world, "dies", "write");
    assert_eq!((answer.status(), answer.text().as_str()), (200, r#"{"done":true}"#));
    Some(world)
}

#[test]
fn a_server_that_dies_while_a_call_is_made_is_awaited_for_a_while_and_then_the_receipt_stands_alone() {
    let Some(world) = after_its_database_died(1_000) else { return };
    let receipt = world.receipts("dies").pop().unwrap();
    assert_eq!(codes(&receipt), [None, Some("POST_TIMEOUT")]);
    assert_eq!(downgrades(&receipt), [("POST_TIMEOUT", "connect")]);
    assert!(receipt["snapshot"]["pre"]["digest"].is_string());
    let given_up =
        r#"estoppel_snapshots_total{cause="budget",code="POST_TIMEOUT",database="shop",side="late"}"#;
    assert_eq!(world.metric(given_up), Some(1.0));
}

#[test]
fn a_gateway_that_ends_awaits_no_late_snapshot() {
    let Some(mut world) = after_its_database_died(60_000) else { return };
    world.stop();
    world.check_journal();
    assert!(!world.daemon.stderr().contains("panicked"));
}

#[test]
fn what_a_role_may_not_ask_is_said() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE ROLE watcher LOGIN; REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC",
    );
    let world = world(&idle(), &server.url("watcher", "postgres"), ENFORCE, PATIENT);
    assert_eq!(call(&world, "denied", "read").status(), 200);
    server.sql("postgres", "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC");
    assert_eq!(call(&world, "denied", "read").status(), 503);
    let receipts = world.receipts("denied");
    assert_eq!(codes(&receipts[0]), [Some("LSN_MISSING"); 2]);
    assert!(receipts[0]["snapshot"]["pre"]["lsn"].is_null());
    assert_eq!(digest(&receipts[0], "pre"), digest(&receipts[0], "post"));
    assert_eq!(
        (codes(&receipts[1])[0], downgrades(&receipts[1])),
        (Some("PRE_FAIL"), vec![("PRE_FAIL", "permission")])
    );
}

#[test]
fn a_replica_is_no_database_unless_it_may_be_one_and_is_near_enough() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", "CREATE TABLE orders (id int)");
    let replica = server.replica();
    let refused = world(&idle(), &superuser(&replica), ENFORCE, PATIENT);
    assert_eq!(call(&refused, "replica", "read").status(), 503);
    let receipt = &refused.receipts("replica")[0];
    let said = (codes(receipt)[0], receipt["outcome"]["code"].as_str(), downgrades(receipt));
    assert_eq!(said, (Some("REPLICA_LAG"), Some("REPLICA_LAG"), vec![("REPLICA_LAG", "replica_rejected")]));

    let allowed = world(&idle(), &superuser(&replica), ENFORCE, &format!("{PATIENT}allow_replica = true\n"));
    // It says nothing of what it received before something came.
    until("the replica follows", PATIENCE, || {
        server.sql("postgres", "INSERT INTO orders VALUES (1)");
        (replica.sql("postgres", "SELECT pg_last_wal_receive_lsn() IS NOT NULL") == "t").then_some(())
    });
    assert_eq!(call(&allowed, "replica", "read").status(), 200);
    replica.sql("postgres", "SELECT pg_wal_replay_pause()");
    assert_eq!(call(&allowed, "replica", "read").status(), 503);
    let bundle = allowed.seal("replica");
    let receipts = allowed.receipts_in(&bundle);
    assert_eq!(codes(&receipts[0]), [None, None]);
    let lag = receipts[0]["ext"]["snapshot_lag_bytes"].as_u64().unwrap();
    let metrics = &cli(&["show", path(&bundle)]).1["data"]["manifest"]["metrics"];
    assert_eq!(metrics["snapshot_lag_bytes_max"], lag, "{metrics}");
    others_agree(&bundle);
    assert!(receipts[1]["ext"]["snapshot_lag_bytes"].is_null());
    assert_eq!(downgrades(&receipts[1]), [("REPLICA_LAG", "replay_paused")]);
}

#[test]
fn an_operation_can_be_left_out_and_too_many_relations_are() {
    let Some(server) = PostgresServer::start() else { return };
    let shop = "snapshot: { source: shop, mode: enforce }\n    operations:\n    - { id: look, method: GET, path: /tool/look, snapshot: none }\n    other_operations: allow";
    let small = world(&idle(), &superuser(&server), shop, &format!("{PATIENT}relations_max = 1\n"));
    let look = Request::new("GET", "/tool/look").header("estoppel-run", "skip");
    assert_eq!(small.send(&look).status(), 200);
    assert_eq!(call(&small, "skip", "write").status(), 200);
    server.sql("postgres", "CREATE TABLE a (x int); CREATE TABLE b (x int)");
    assert_eq!(call(&small, "skip", "write").status(), 200, "left alone on purpose is no failure");
    let receipts = small.receipts("skip");
    let skipped = json!({ "pre": { "code": "POLICY_SKIP" }, "source": "shop" });
    assert_eq!((&receipts[0]["snapshot"], downgrades(&receipts[0])), (&skipped, vec![]));
    assert_eq!(codes(&receipts[1]), [None, None]);
    let last = (&receipts[2]["snapshot"], downgrades(&receipts[2]));
    assert_eq!(last, (&skipped, vec![("POLICY_SKIP", "too_many_relations")]));
}

#[test]
fn the_snapshot_after_is_taken_for_a_stream_and_for_a_client_that_left() {
    let Some(server) = PostgresServer::start() else { return };
    let server = Arc::new(server);
    let theirs = Arc::downgrade(&server);
    let (entered, waits) = std::sync::mpsc::channel();
    let entered = std::sync::Mutex::new(entered);
    let tool = Tool::start(move |target| {
        theirs.upgrade().unwrap().sql("postgres", "CREATE TABLE IF NOT EXISTS made (id int)");
        if target == "/tool/slow" {
            entered.lock().unwrap().send(()).unwrap();
            std::thread::sleep(PATIENCE);
        }
        "[".to_owned() + &"1,".repeat(200_000) + "1]"
    });
    let world = world(&tool, &superuser(&server), ENFORCE, PATIENT);
    assert_eq!(call(&world, "large", "large").body.len(), 400_003);
    let large = &world.receipts("large")[0];
    assert_ne!(digest(large, "pre"), digest(large, "post"));

    server.sql("postgres", "DROP TABLE made");
    let mut peer = Peer::connect(world.gateway).unwrap();
    peer.send(&request("left", "slow").wire("gateway")).unwrap();
    waits.recv_timeout(PATIENCE).unwrap();
    drop(peer);
    world.wait_for_calls("left", 1);
    let left = &world.receipts("left")[0];
    assert_eq!(left["outcome"]["code"], "CLIENT_GONE");
    assert_ne!(digest(left, "pre"), digest(left, "post"), "what it had done by then");
}

#[test]
fn a_reload_takes_another_database_and_a_stop_leaves_no_call_without_its_receipt() {
    let (Some(one), Some(other)) = (PostgresServer::start(), PostgresServer::start()) else { return };
    one.sql("postgres", "CREATE TABLE orders (id int)");
    let mut world = world(&idle(), &superuser(&one), ENFORCE, PATIENT);
    assert_eq!(call(&world, "before", "read").status(), 200);
    let before = world.receipts("before");
    let config = std::fs::read_to_string(world.scratch.join("estoppeld.toml")).unwrap();
    let line = config.lines().find_map(|line| line.strip_prefix("url_file = ")).unwrap();
    std::fs::write(line.trim_matches('"'), superuser(&other)).unwrap();
    world.daemon.hang_up();
    until("reload", PATIENCE, || {
        (world.metric(r#"estoppel_reloads_total{result="ok"}"#) >= Some(1.0)).then_some(())
    });
    assert_eq!(call(&world, "after", "read").status(), 200);
    let after = world.receipts("after");
    assert_ne!(digest(&before[0], "pre"), digest(&after[0], "pre"));
    world.stop();
    world.check_journal();
}

#[test]
fn a_configuration_that_cannot_be_is_refused_and_shows_no_secret() {
    let scratch = estoppel_kit::Scratch::new("config");
    let good = "postgresql://ada:hunter2@127.0.0.1/shop";
    let check = |url: &str, shop: &str, database: &str| {
        let place = match url {
            "$SHOP_URL" => "url_env = \"SHOP_URL\"".to_owned(),
            url => format!("url_file = {:?}", write_url(scratch.path(), url)),
        };
        let setup = Setup {
            policy: policy(shop),
            routes: "[[route]]\nname = \"tool\"\npath = \"/tool\"\nupstream = \"stub\"\n".into(),
            config: format!("[[database]]\nname = \"shop\"\n{place}\n{database}"),
            ..Setup::default()
        };
        let config = crate::support::write_config(&scratch, "127.0.0.1:9".parse().unwrap(), &setup);
        let mut command = Command::new(daemon_binary());
        command.env("SHOP_URL", good).arg("--check-config").arg("--config").arg(config);
        let done = command.output().unwrap();
        let said =
            String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        assert!(!said.contains("hunter2"), "{said}");
        (done.status.code().unwrap(), said)
    };
    for url in [good, "$SHOP_URL"] {
        let (code, said) = check(url, ENFORCE, "");
        assert_eq!(code, 0, "{said}");
    }
    for (url, shop, database, why) in [
        ("postgresql://ada:hunter2@db/shop?sslmode=prefer", ENFORCE, "", "sslmode"),
        ("postgresql://ada:x@hunter2@db/shop", ENFORCE, "", "percent-encoded"),
        ("mysql://ada:hunter2@db/shop", ENFORCE, "", "postgresql://"),
        ("", ENFORCE, "", "postgresql://"),
        (good, "snapshot: { source: stock, mode: observe }", "", "`stock`"),
        (good, ENFORCE, "url_env = \"NO_SUCH_URL\"\n", "one of `url_file` and `url_env`"),
        (good, ENFORCE, "grace_ms = 20000\n", "server.evidence_ms"),
        (good, ENFORCE, "replica_lag_bytes_max = 1\n", "allow_replica"),
        (good, ENFORCE, "written = [{ table = \"orders\", key = \"call_id\" }]\n", "a schema and a table"),
        (good, ENFORCE, "written = [{ table = \"a.b\", key = \"\" }]\n", "the name of a column"),
        (
            good,
            ENFORCE,
            "written = [{ table = \"a.b\", key = \"c\" }, { table = \"a.b\", key = \"d\" }]\n",
            "is there already",
        ),
        (good, ENFORCE, "watch_rows = true\n", "no effect without `written`"),
        (
            good,
            ENFORCE,
            "written = [{ table = \"a.b\", key = \"c\" }]\nwatch_rows_ms = 9\n",
            "no effect without `watch_rows = true`",
        ),
        (
            good,
            ENFORCE,
            "written = [{ table = \"a.b\", key = \"c\" }]\nwatch_rows = true\nwatch_rows_every_ms = 0\n",
            "must be between 1 and 3600000",
        ),
        (good, ENFORCE, "ca = \"/nonexistent.pem\"\n", "/nonexistent.pem"),
        (
            good,
            ENFORCE,
            "rows = [\"a.b\", \"orders\", \"public.orders\"]\n",
            "rows: names `public.orders` twice",
        ),
        (good, ENFORCE, "rows = [\"a.b.c\"]\n", "`a.b.c` is no name of a table"),
        (good, ENFORCE, "rows = [\"\"]\n", "`` is no name of a table"),
        (good, ENFORCE, "rows = [\"a\"]\nrows_max = 0\n", "must be between 1 and 1000000"),
        (good, ENFORCE, "rows = [\"a\"]\nrows_bytes_max = 0\n", "must be between 1 and"),
        (good, ENFORCE, "rows = [\"a\"]\nrows_ms = 0\n", "must be between 1 and 60,000"),
    ] {
        let (code, said) = check(url, shop, database);
        assert_eq!((code, said.contains(why)), (6, true), "{url} {database}: {said}");
    }
}

#[test]
fn a_key_of_a_call_that_met_no_database_can_be_used_again() {
    let Some(mut server) = PostgresServer::start() else { return };
    let tool = idle();
    let once =
        format!("{ENFORCE}\ncontrols:\n- {{ id: once, kind: idempotency, when: {{}}, seconds: 3600 }}");
    let world = world(&tool, &superuser(&server), &once, PATIENT);
    server.crash();
    let keyed = request("keyed", "write").header("idempotency-key", "order-7");
    assert_eq!(world.send(&keyed).status(), 503);
    server.restart();
    for _ in 0..2 {
        assert_eq!(world.send(&keyed).status(), 200);
    }
    assert_eq!(tool.asked(), 1);
    let receipts = world.receipts("keyed");
    let said: Vec<_> = receipts.iter().map(|receipt| receipt["idempotency"]["decision"].as_str()).collect();
    assert_eq!(said[1..], [Some("first"), Some("stored")]);
    assert!(receipts[2]["snapshot"].is_null(), "what was stored is given without asking anybody");
}

#[test]
fn a_change_of_a_schema_between_calls_is_a_bypass_and_what_calls_do_is_none() {
    let Some(server) = PostgresServer::start() else { return };
    let server = Arc::new(server);
    server.sql("postgres", "CREATE TABLE orders (id int)");
    let theirs = Arc::downgrade(&server);
    let tool = Tool::start(move |target| {
        let column = target.trim_start_matches("/tool/").to_owned();
        theirs.upgrade().unwrap().sql("postgres", &format!("ALTER TABLE orders ADD COLUMN {column} text"));
        "{}".into()
    });
    let mut world = world(&tool, &superuser(&server), ENFORCE, &format!("{PATIENT}watch_schema = true\n"));
    let found = r#"estoppel_bypass_total{source="database"}"#;
    assert_eq!(call(&world, "inside", "one").status(), 200);
    assert_eq!(call(&world, "inside", "two").status(), 200);
    assert_eq!(world.metric(found), Some(0.0), "these have receipts");
    server.sql("postgres", "ALTER TABLE orders ADD COLUMN direct text");
    until("the change is seen", PATIENCE, || (world.metric(found) == Some(1.0)).then_some(()));
    assert_eq!(call(&world, "inside", "three").status(), 200);
    assert_eq!(world.metric(found), Some(1.0), "once");

    world.stop();
    let lines = instance_entries(&world);
    let bypasses: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "bypass").collect();
    let [bypass] = bypasses.as_slice() else { panic!("{bypasses:?}") };
    assert_eq!((&bypass["source"], &bypass["upstream"]), (&json!("database"), &json!("shop")));
    assert_eq!((&bypass["ref"], &bypass["count"]), (&json!("/columns/public/orders/direct"), &json!(1)));
    world.check_journal();
}

/// The entries of the instance's own run, from its bundle.
pub fn instance_entries(world: &World) -> Vec<Value> {
    let bundles = std::fs::read_dir(world.journal().join("bundles")).unwrap();
    let zips = bundles.map(|file| file.unwrap().path()).filter(|file| file.is_file());
    let shown = zips.map(|zip| cli(&["show", path(&zip)]).1["data"]["entries"].as_array().unwrap().clone());
    shown.filter(|entries| entries[0]["class"] == "instance").flatten().collect()
}
