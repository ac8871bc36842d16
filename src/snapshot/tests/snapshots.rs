//! Snapshots of real databases.

#![allow(clippy::unwrap_used, reason = "a test that cannot read an answer fails")]

use std::sync::Arc;
use std::time::Duration;

use estoppel_kit::PostgresServer;
use estoppel_snapshot::{
    Cause, Change, Check, Dsn, RowChange, RowSettings, Schema, Settings, Snapshot, SnapshotError, Source,
    State, diff, examine, row_changes,
};
use serde_json::Value;

const SHOP: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE DOMAIN cents AS bigint NOT NULL CHECK (VALUE >= 0);
    CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE \"C\" NOT NULL, feels mood);
    CREATE TABLE orders (
        id serial PRIMARY KEY,
        gone int,
        customer bigint NOT NULL REFERENCES customers ON DELETE CASCADE DEFERRABLE,
        price cents,
        twice bigint GENERATED ALWAYS AS (id * 2) STORED,
        placed timestamptz DEFAULT '2026-01-02 03:04:05+01',
        CONSTRAINT placed_late CHECK (placed > '2020-01-01+00')
    );
    ALTER TABLE orders DROP COLUMN gone;
    CREATE INDEX by_price ON orders (price DESC, id) INCLUDE (customer);
    CREATE INDEX by_name ON customers (lower(name)) WHERE feels = 'happy';
    CREATE VIEW dear AS SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer WHERE o.price > 1000;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.placed := now(); RETURN NEW; END $$;
    CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
    ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
    CREATE POLICY mine ON orders FOR SELECT USING (customer = current_setting('app.me')::bigint);
    CREATE TABLE parted (at date, n int) PARTITION BY RANGE (at);
    CREATE TABLE parted_2026 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
";

/// For what a busy machine does late.
const WAIT: Duration = Duration::from_secs(20);

fn source(url: &str, settings: Settings) -> Source {
    let (source, task) = Source::new(Dsn::parse(url).unwrap(), settings);
    tokio::spawn(task.run());
    source
}

/// Deadlines are the subject of their own tests; elsewhere a busy machine is no failure.
fn patient() -> Settings {
    Settings { deadline: Duration::from_secs(30), statement: Duration::from_secs(20), ..Settings::default() }
}

async fn taken(source: &Source) -> Arc<Snapshot> {
    source.take().await.unwrap()
}

fn cause(answer: Result<Arc<Snapshot>, Arc<SnapshotError>>) -> Cause {
    answer.map(|_| ()).unwrap_err().cause()
}

fn paths(from: &Snapshot, to: &Snapshot) -> Vec<String> {
    diff(&from.schema, &to.schema).iter().map(|change| change.path().to_owned()).collect()
}

#[tokio::test]
async fn writing_rows_changes_the_log_and_not_the_schema() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let source = source(&server.url("postgres", "postgres"), patient());
    let first = taken(&source).await;
    let still = taken(&source).await;
    assert_eq!(first.schema.digest(), still.schema.digest());
    assert_eq!(first.state, still.state);
    assert!(first.before.is_some() && first.before <= first.after && first.after <= still.before);

    for statement in ["INSERT INTO customers (name) VALUES ('Ada')", "ANALYZE", "VACUUM FREEZE customers"] {
        server.sql("postgres", statement);
    }
    let after = taken(&source).await;
    assert_eq!(after.schema.digest(), first.schema.digest());
    assert_eq!(after.state, first.state);
    assert!(after.before > still.after);
}

#[tokio::test]
async fn each_kind_of_change_is_seen_where_it_was_made() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let source = source(&server.url("postgres", "postgres"), patient());
    let mut before = taken(&source).await;
    for (statement, path) in [
        ("CREATE SCHEMA other", "/namespaces/other"),
        ("CREATE TABLE fresh ()", "/relations/public/fresh"),
        ("ALTER TABLE orders SET (fillfactor = 50)", "/relations/public/orders/options"),
        ("ALTER TABLE orders FORCE ROW LEVEL SECURITY", "/relations/public/orders/row_security_forced"),
        ("ALTER TABLE customers ADD COLUMN note text", "/columns/public/customers/note"),
        ("ALTER TABLE customers ALTER note SET DEFAULT 'x'", "/columns/public/customers/note/default"),
        ("ALTER TABLE customers ALTER note SET NOT NULL", "/columns/public/customers/note/not_null"),
        ("ALTER TABLE customers ALTER note TYPE varchar(9)", "/columns/public/customers/note/type"),
        (
            "ALTER TABLE customers ADD CONSTRAINT short CHECK (length(note) < 9)",
            "/constraints/public/customers/short",
        ),
        (
            "ALTER DOMAIN cents ADD CONSTRAINT small CHECK (VALUE < 1000000)",
            "/constraints/public/cents/small",
        ),
        ("CREATE UNIQUE INDEX by_note ON customers (note)", "/indexes/public/customers/by_note"),
        ("ALTER TABLE orders DISABLE TRIGGER touched", "/triggers/public/orders/touched/enabled"),
        ("ALTER POLICY mine ON orders USING (true)", "/policies/public/orders/mine/using"),
        (
            "CREATE OR REPLACE VIEW dear AS SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer",
            "/views/public/dear/definition",
        ),
        ("CREATE RULE quiet AS ON DELETE TO customers DO INSTEAD NOTHING", "/rules/public/customers/quiet"),
        (
            "CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
            "/functions/public/touch()/body",
        ),
        ("ALTER TYPE mood ADD VALUE 'calm' BEFORE 'happy'", "/types/public/mood/labels"),
        ("ALTER SEQUENCE orders_id_seq INCREMENT 7", "/sequences/public/orders_id_seq/increment"),
        ("ALTER TABLE parted DETACH PARTITION parted_2026", "/relations/public/parted_2026/parents"),
    ] {
        server.sql("postgres", statement);
        let after = taken(&source).await;
        let found = paths(&before, &after);
        assert!(found.iter().any(|found| found == path), "{statement}: {found:?}");
        assert_ne!(before.state, after.state, "{statement}");
        before = after;
    }
}

#[tokio::test]
async fn a_copy_on_another_server_has_the_same_schema_and_another_state() {
    let (Some(one), Some(other)) = (PostgresServer::start(), PostgresServer::start()) else { return };
    one.sql("postgres", SHOP);
    other.sql("postgres", "CREATE TABLE first_come (x int); DROP TABLE first_come");
    other.sql("postgres", SHOP);
    let here = taken(&source(&one.url("postgres", "postgres"), patient())).await;
    let there = taken(&source(&other.url("postgres", "postgres"), patient())).await;
    assert_eq!(diff(&here.schema, &there.schema), Vec::<Change>::new());
    assert_eq!(here.schema.digest(), there.schema.digest());
    assert_ne!(here.state, there.state);
    assert_eq!(here.server.major(), there.server.major());
}

#[tokio::test]
async fn what_is_not_described_is_named() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let source = source(&server.url("postgres", "postgres"), patient());
    assert_eq!(taken(&source).await.schema.uncovered().collect::<Vec<_>>(), Vec::<&str>::new());
    server.sql(
        "postgres",
        "CREATE PUBLICATION all_of_it FOR ALL TABLES; GRANT SELECT ON orders TO PUBLIC; SELECT lo_create(0)",
    );
    let uncovered = taken(&source).await;
    let uncovered: Vec<&str> = uncovered.schema.uncovered().collect();
    assert_eq!(uncovered, ["large_objects", "privileges", "publications"]);
}

#[tokio::test]
async fn who_may_only_connect_sees_the_same() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    server.sql("postgres", "CREATE ROLE watcher LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC");
    let owner = taken(&source(&server.url("postgres", "postgres"), patient())).await;
    let watcher = taken(&source(&server.url("watcher", "postgres"), patient())).await;
    assert_eq!(owner.schema.digest(), watcher.schema.digest());
    assert!(watcher.before.is_some());
}

#[tokio::test]
async fn temporary_tables_of_others_are_nobody_s_change() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let source = source(&server.url("postgres", "postgres"), patient());
    let before = taken(&source).await;
    let (client, connection) =
        tokio_postgres::connect(&server.url("postgres", "postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("CREATE TEMP TABLE mine (x int); CREATE INDEX ON mine (x)").await.unwrap();
    let after = taken(&source).await;
    assert_eq!(before.state, after.state);
}

#[tokio::test]
async fn callers_who_wait_together_share_a_snapshot() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let source = source(&server.url("postgres", "postgres"), patient());
    taken(&source).await;
    let all = futures_util::future::join_all((0..64).map(|_| source.take())).await;
    let mut kinds: Vec<*const Snapshot> = all.iter().map(|one| Arc::as_ptr(one.as_ref().unwrap())).collect();
    kinds.sort();
    kinds.dedup();
    assert!(kinds.len() < 8, "{} snapshots for 64 callers", kinds.len());
}

#[tokio::test]
async fn more_callers_than_may_wait_are_told_so() {
    let Some(server) = PostgresServer::start() else { return };
    let source = source(&server.url("postgres", "postgres"), Settings { waiting_max: 2, ..patient() });
    let all = futures_util::future::join_all((0..16).map(|_| source.take())).await;
    assert!(all.iter().any(Result::is_ok));
    let refused: Vec<Cause> = all.into_iter().filter(Result::is_err).map(cause).collect();
    assert!(!refused.is_empty() && refused.iter().all(|cause| *cause == Cause::Busy), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_crashed_is_found_again() {
    let Some(mut server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let source = source(&server.url("postgres", "postgres"), patient());
    let before = taken(&source).await;
    server.crash();
    assert_eq!(cause(source.take().await), Cause::Connect);
    server.restart();
    let after = taken(&source).await;
    assert_eq!(before.schema.digest(), after.schema.digest());
    assert!(before.server.is_same(&after.server));
}

#[tokio::test]
async fn a_backend_that_was_ended_is_replaced_at_once() {
    let Some(server) = PostgresServer::start() else { return };
    let source = source(&server.url("postgres", "postgres"), patient());
    taken(&source).await;
    let ended = server.sql(
        "postgres",
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'estoppel-snapshot'",
    );
    assert_eq!(ended, "1");
    taken(&source).await;
}

#[tokio::test]
async fn printing_a_definition_does_not_queue_behind_ddl_for_long() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let (client, connection) =
        tokio_postgres::connect(&server.url("postgres", "postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; LOCK TABLE customers IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let source = source(&server.url("postgres", "postgres"), patient());
    assert_eq!(cause(source.take().await), Cause::LockTimeout);
    client.batch_execute("ROLLBACK").await.unwrap();
    taken(&source).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_not_waited_for() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let settings = Settings { deadline: Duration::from_millis(300), ..patient() };
    let source = source(&server.url("postgres", "postgres"), settings);
    let (client, connection) =
        tokio_postgres::connect(&server.url("postgres", "postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // Nobody gets past the catalog while this is locked, not even who connects.
    client.batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_namespace IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let refused = cause(source.take().await);
    assert!(matches!(refused, Cause::Budget | Cause::LockTimeout | Cause::Connect), "{refused:?}");
    client.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn more_relations_than_allowed_are_left_alone() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let source = source(&server.url("postgres", "postgres"), Settings { relations_max: 3, ..patient() });
    let error = source.take().await.unwrap_err();
    assert_eq!(error.cause(), Cause::TooManyRelations);
    assert_eq!(error.reason().code(), "POLICY_SKIP");
}

#[tokio::test]
async fn a_database_behind_the_same_name_that_is_another_is_refused() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", "CREATE DATABASE shop");
    let source = source(&server.url("postgres", "shop"), patient());
    taken(&source).await;
    server.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'estoppel-snapshot'",
    );
    server.sql("postgres", "DROP DATABASE shop");
    server.sql("postgres", "CREATE DATABASE shop");
    assert_eq!(cause(source.take().await), Cause::Identity);
}

/// Whether a snapshot waits for somebody's lock.
fn is_queued(server: &PostgresServer) -> bool {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'estoppel-snapshot' AND wait_event_type = 'Lock'";
    server.sql("postgres", waiting) == "1"
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_while_it_is_read_is_never_mixed_into_a_schema() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let source =
        source(&server.url("postgres", "postgres"), Settings { lock: Duration::from_secs(20), ..patient() });
    let (client, connection) =
        tokio_postgres::connect(&server.url("postgres", "postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; ALTER TABLE customers RENAME name TO label").await.unwrap();
    // The snapshot has read the old name, and now waits to print a definition, which will have the new one.
    let reader = source.clone();
    let snapshot = tokio::spawn(async move { reader.take().await });
    estoppel_kit::until("the snapshot waits for the lock", WAIT, || is_queued(&server).then_some(()));
    client.batch_execute("COMMIT").await.unwrap();

    let snapshot = snapshot.await.unwrap().unwrap();
    let parts = snapshot.schema.parts();
    let columns = parts["columns"]["public"]["customers"].as_object().unwrap();
    let index = parts["indexes"]["public"]["customers"]["by_name"]["definition"].as_str().unwrap();
    let view = parts["views"]["public"]["dear"]["definition"].as_str().unwrap();
    assert!(columns.contains_key("label") && !columns.contains_key("name"), "{columns:?}");
    assert!(index.contains("lower(label)") && view.contains("c.label AS name"), "{index} {view}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_that_never_stops_is_an_answer_of_its_own() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let source = source(&server.url("postgres", "postgres"), patient());
    let (client, connection) =
        tokio_postgres::connect(&server.url("postgres", "postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let storm = tokio::spawn(async move {
        loop {
            client
                .batch_execute("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
                .await
                .unwrap();
        }
    });
    let raced = async {
        loop {
            if let Err(error) = source.take().await {
                return error.cause();
            }
        }
    };
    assert_eq!(tokio::time::timeout(WAIT, raced).await.unwrap(), Cause::DdlRace);
    storm.abort();
    assert!(storm.await.unwrap_err().is_cancelled());
    taken(&source).await;
}

fn check<'a>(checks: &'a [Check], part: &str) -> &'a Check {
    checks.iter().find(|check| check.what.contains(part)).unwrap_or_else(|| panic!("{part}: {checks:?}"))
}

#[tokio::test]
async fn what_the_doctor_says_turns_each_finding_good() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    server.sql(
        "postgres",
        "CREATE ROLE watcher LOGIN; REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_current_wal_insert_lsn() FROM PUBLIC",
    );
    let look = async |user: &str| {
        examine(&Dsn::parse(&server.url(user, "postgres")).unwrap(), &patient(), &[]).await
    };

    let checks = look("watcher").await;
    let log = check(&checks, "the log does not say where it is");
    let identity = check(&checks, "does not say which one it is");
    assert_eq!((log.state, identity.state), (State::Warn, State::Bad));
    assert_eq!(check(&checks, "no snapshot").state, State::Bad);
    for fix in [log, identity] {
        server.sql("postgres", fix.fix.as_ref().unwrap());
    }
    let mended = look("watcher").await;
    assert!(mended.iter().all(|check| check.state == State::Good), "{mended:?}");

    let superuser = look("postgres").await;
    assert!(check(&superuser, "superuser").fix.as_ref().unwrap().contains("CREATE ROLE"));
    assert_eq!(check(&look("nobody_of_that_name").await, "nobody_of_that_name").state, State::Bad);
}

#[tokio::test]
async fn a_log_that_may_not_be_asked_leaves_the_snapshot_whole_without_it() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    server.sql(
        "postgres",
        "CREATE ROLE watcher LOGIN; REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC",
    );
    let snapshot = taken(&source(&server.url("watcher", "postgres"), patient())).await;
    assert_eq!((snapshot.before, snapshot.after, snapshot.server.timeline), (None, None, None));
    assert!(snapshot.schema.parts()["relations"]["public"]["orders"].is_object());
}

#[tokio::test]
async fn documents_keep_their_published_schema() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    server.sql("postgres", "CREATE RULE quiet AS ON DELETE TO customers DO INSTEAD NOTHING; CREATE MATERIALIZED VIEW m AS SELECT 1 AS one");
    let snapshot = taken(&source(&server.url("postgres", "postgres"), patient())).await;
    keeps_its_published_schema(&snapshot);
}

fn keeps_its_published_schema(snapshot: &Snapshot) {
    let published: serde_json::Value =
        serde_json::from_str(include_str!("../../../spec/snapshot.schema.json")).unwrap();
    let document: serde_json::Value = serde_json::from_slice(snapshot.schema.bytes()).unwrap();
    let validator = jsonschema::validator_for(&published).unwrap();
    let broken: Vec<String> =
        validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(broken, Vec::<String>::new());
    assert_eq!(&Schema::parse(snapshot.schema.bytes()).unwrap(), snapshot.schema.as_ref());
}

/// With the rows of these tables.
fn looking_into(tables: &[&str]) -> Settings {
    let tables = tables.iter().map(|table| table.parse().unwrap()).collect();
    let rows = RowSettings { tables, time_max: Duration::from_secs(20), ..RowSettings::default() };
    Settings { rows, ..patient() }
}

/// How many rows each table has, or why that is not known.
fn counted(snapshot: &Arc<Snapshot>) -> Vec<String> {
    let rows = snapshot.schema.rows().unwrap();
    let said = |(name, says): (&_, Value)| match says["count"].as_u64() {
        Some(count) => format!("{name} {count}"),
        None => format!("{name} {} {}", says["code"].as_str().unwrap(), says["cause"].as_str().unwrap()),
    };
    rows.tables().map(said).collect()
}

fn changed(from: &Arc<Snapshot>, to: &Arc<Snapshot>) -> Vec<RowChange> {
    row_changes(from.schema.rows(), to.schema.rows())
}

const STOCK: &str = "
    CREATE TABLE stock (id int, name text); INSERT INTO stock SELECT n, 'thing ' || n FROM generate_series(1, 100) n;
    CREATE TABLE prices (id int); INSERT INTO prices VALUES (1), (1);
    CREATE TABLE other (id int);
";

#[tokio::test]
async fn rows_that_came_and_went_are_counted_of_the_tables_that_were_named() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", STOCK);
    let url = server.url("postgres", "postgres");
    let (source, without) = (source(&url, looking_into(&["stock", "prices"])), source(&url, patient()));
    let before = taken(&source).await;
    assert_eq!(counted(&before), ["public.prices 2", "public.stock 100"]);
    assert_eq!(taken(&source).await.schema.digest(), before.schema.digest(), "nobody wrote");
    let plain = taken(&without).await;
    assert_eq!(plain.schema.digest(), before.schema.schema_digest());
    assert_ne!(plain.schema.digest(), before.schema.digest());
    assert!(before.before.is_some() && before.before <= before.after);

    for statement in ["INSERT INTO other VALUES (1)", "VACUUM FULL other", "VACUUM stock"] {
        server.sql("postgres", statement);
    }
    assert_eq!(taken(&source).await.schema.digest(), before.schema.digest(), "what was not named");
    server.sql(
        "postgres",
        "INSERT INTO stock VALUES (101, 'new'), (102, NULL); UPDATE stock SET name = 'x' WHERE id = 1; DELETE FROM stock WHERE id = 2",
    );
    let after = taken(&source).await;
    let stock = RowChange::Changed { table: "public.stock".into(), added: 3, gone: 2 };
    assert_eq!(changed(&before, &after), [stock]);
    assert_eq!(diff(&before.schema, &after.schema), []);
    assert_eq!(before.schema.schema_digest(), after.schema.schema_digest());
    server.sql("postgres", "DELETE FROM prices WHERE ctid = (SELECT min(ctid) FROM prices)");
    let prices = RowChange::Changed { table: "public.prices".into(), added: 0, gone: 1 };
    assert_eq!(changed(&after, &taken(&source).await), [prices], "one of two that are equal");
    keeps_its_published_schema(&after);
}

#[tokio::test]
async fn a_table_whose_rows_are_not_read_says_why_and_the_others_are_there() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", STOCK);
    server.sql(
        "postgres",
        "CREATE ROLE watcher LOGIN; CREATE TABLE mine (id int); ALTER TABLE mine ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY one ON mine USING (id = 1); GRANT SELECT ON mine, prices TO watcher",
    );
    let all = ["mine", "nowhere.at_all", "stock", "prices"];
    let watcher = taken(&source(&server.url("watcher", "postgres"), looking_into(&all))).await;
    assert_eq!(
        counted(&watcher),
        [
            "nowhere.at_all ROWS_MISSING unknown_table",
            "public.mine ROWS_MISSING rls_filtered",
            "public.prices 2",
            "public.stock ROWS_MISSING permission"
        ]
    );
    keeps_its_published_schema(&watcher);
    let (ours, wanted) = (server.url("postgres", "postgres"), looking_into(&["stock", "prices"]));
    let with = |change: &dyn Fn(&mut RowSettings)| {
        let mut settings = wanted.clone();
        change(&mut settings.rows);
        source(&ours, settings)
    };
    let few = taken(&with(&|rows| rows.rows_max = 99)).await;
    assert_eq!(counted(&few), ["public.prices 2", "public.stock ROWS_MISSING rows_max"]);
    let exactly = taken(&with(&|rows| rows.rows_max = 102)).await;
    assert_eq!(counted(&exactly), ["public.prices 2", "public.stock 100"]);
    let short = taken(&with(&|rows| rows.bytes_max = 99)).await;
    assert_eq!(
        counted(&short),
        ["public.prices ROWS_MISSING bytes_max", "public.stock ROWS_MISSING bytes_max"]
    );

    let source = with(&|rows| rows.time_max = Duration::from_millis(300));
    let locked = server.lock("postgres", "stock");
    let late = taken(&source).await;
    drop(locked);
    let stock = &counted(&late)[1];
    assert!(stock.ends_with("lock_timeout") || stock.ends_with("time_max"), "{stock}");
    keeps_its_published_schema(&late);
}

/// A session that another one's work can be seen to wait for.
async fn session(server: &PostgresServer) -> tokio_postgres::Client {
    let url = server.url("postgres", "postgres");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A snapshot whose rows are read while somebody does this to `stock`, after `prices` was read.
async fn meanwhile(server: &PostgresServer, source: &Source, statement: &str) -> Arc<Snapshot> {
    server.sql("postgres", "INSERT INTO other VALUES (1)"); // where nobody wrote, rows are not read again
    let somebody = session(server).await;
    somebody.batch_execute("BEGIN; LOCK TABLE stock IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let reader = source.clone();
    let snapshot = tokio::spawn(async move { reader.take().await });
    estoppel_kit::until("the snapshot waits for the lock", WAIT, || is_queued(server).then_some(()));
    somebody.batch_execute(&format!("{statement}; COMMIT")).await.unwrap();
    snapshot.await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_those_of_the_moment_that_the_schema_is_of() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", STOCK);
    let settings = looking_into(&["prices", "stock"]);
    let source =
        source(&server.url("postgres", "postgres"), Settings { lock: Duration::from_secs(20), ..settings });
    let before = taken(&source).await;
    let during = meanwhile(&server, &source, "DELETE FROM stock; INSERT INTO prices VALUES (3)").await;
    assert_eq!(changed(&before, &during), [], "both are as they were when it began");
    assert_eq!(counted(&taken(&source).await), ["public.prices 3", "public.stock 0"]);

    for statement in [
        "ALTER TABLE stock ADD COLUMN note text DEFAULT 'x'",
        "TRUNCATE stock",
        "INSERT INTO stock VALUES (7); TRUNCATE stock",
    ] {
        let torn = meanwhile(&server, &source, statement).await;
        let ddl_race = ["public.prices ROWS_MISSING ddl_race", "public.stock ROWS_MISSING ddl_race"];
        assert_eq!(counted(&torn), ddl_race, "{statement}");
        assert_eq!(counted(&taken(&source).await), ["public.prices 3", "public.stock 0"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_definition_that_went_away_while_it_was_printed_is_read_without_it() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", SHOP);
    let source =
        source(&server.url("postgres", "postgres"), Settings { lock: Duration::from_secs(20), ..patient() });
    let somebody = session(&server).await;
    somebody.batch_execute("BEGIN; DROP VIEW dear").await.unwrap();
    let reader = source.clone();
    let snapshot = tokio::spawn(async move { reader.take().await });
    estoppel_kit::until("the snapshot waits for the lock", WAIT, || is_queued(&server).then_some(()));
    somebody.batch_execute("COMMIT").await.unwrap();
    let snapshot = snapshot.await.unwrap().unwrap();
    assert!(snapshot.schema.parts()["views"]["public"]["dear"].is_null());
}

#[test]
fn other_bytes_are_no_schema() {
    for bytes in [&b""[..], b"{}", b"{ }", br#"{"format":"estoppel-schema/1","parts":{},"uncovered":{}}"#] {
        assert!(Schema::parse(bytes).is_err());
    }
}
