//! Rows that name calls, in a real Postgres.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::id::CallId;
use estoppel_kit::{PostgresServer, until};
use estoppel_snapshot::{
    Cause, Changed, Dsn, Looked, RowCount, RowCounter, RowWatch, Settings, SnapshotError, Written,
};

const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text, call_id uuid);
    CREATE TABLE \"Odd names\" (id int, \"of call\" text)";
/// All that a role needs that looks at them.
const GRANTS: &str = "CREATE ROLE watcher LOGIN; GRANT SELECT (call_id, xmin) ON orders TO watcher;
    GRANT SELECT (\"of call\", xmin) ON \"Odd names\" TO watcher";
const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn patient() -> Settings {
    Settings { deadline: PATIENCE, statement: PATIENCE, lock: PATIENCE, ..Settings::default() }
}

fn tables() -> Arc<[Written]> {
    [("public.orders", "call_id"), ("public.Odd names", "of call")]
        .map(|(table, key)| Written::new(table, key).unwrap())
        .into()
}

fn watch(server: &PostgresServer, settings: Settings, bytes_max: u64) -> RowWatch {
    RowWatch::new(Dsn::parse(&server.url("watcher", "postgres")).unwrap(), settings, tables(), bytes_max)
}

fn started() -> Option<PostgresServer> {
    let server = PostgresServer::start()?;
    server.sql("postgres", TABLES);
    server.sql("postgres", GRANTS);
    Some(server)
}

async fn changed(watch: &mut RowWatch) -> Vec<(usize, Option<String>, u64)> {
    let looked = watch.look().await.unwrap();
    assert!(looked.is_continued && looked.is_whole, "{looked:?}");
    let mut changed: Vec<_> = looked
        .changed
        .into_iter()
        .map(|Changed { table, key, rows }| (table, key.map(Into::into), rows))
        .collect();
    changed.sort();
    changed
}

fn cause<T: std::fmt::Debug>(taken: Result<T, SnapshotError>) -> Cause {
    taken.unwrap_err().cause()
}

const ONE: &str = "0198c0de-0000-7000-8000-000000000001";
const OTHER: &str = "0198c0de-0000-7000-8000-000000000002";

#[tokio::test]
async fn rows_that_name_a_call_are_counted_by_table() {
    let Some(server) = started() else { return };
    let dsn = Dsn::parse(&server.url("watcher", "postgres")).unwrap();
    let (counter, task) = RowCounter::new(dsn, patient(), tables());
    tokio::spawn(task.run());
    server.sql(
        "postgres",
        &format!(
            "INSERT INTO orders VALUES (1, '', '{ONE}'), (2, '', '{ONE}'), (3, '', '{OTHER}'), (4, '', NULL);
             INSERT INTO \"Odd names\" SELECT n, '{OTHER}' FROM generate_series(1, 10001) n"
        ),
    );
    let calls =
        [ONE, OTHER, "0198c0de-0000-7000-8000-000000000003"].map(|call| call.parse::<CallId>().unwrap());
    let counted = futures_util::future::join_all(calls.map(|call| counter.count(call))).await;
    let counted: Vec<_> = counted.into_iter().map(|counted| counted.unwrap().to_vec()).collect();
    let exact = |rows| RowCount { rows, is_more: false };
    assert_eq!(counted[0], [exact(2), exact(0)]);
    assert_eq!(counted[1], [exact(1), RowCount { rows: 10_000, is_more: true }]);
    assert_eq!(counted[2], [exact(0), exact(0)]);
    server.sql("postgres", "ALTER TABLE orders RENAME call_id TO call");
    assert_eq!(counter.count(calls[0]).await.unwrap_err().cause(), Cause::KeyMissing);
    server.sql("postgres", "ALTER TABLE orders RENAME call TO call_id");
    assert_eq!(counter.count(calls[0]).await.unwrap()[0], exact(2));
}

#[tokio::test]
async fn a_look_sees_each_row_that_was_written_since_the_one_before_once() {
    let Some(server) = started() else { return };
    server.sql("postgres", "INSERT INTO orders VALUES (1, '', NULL)");
    let mut watch = watch(&server, patient(), MIB);
    let first = watch.look().await.unwrap();
    assert_eq!(first, Looked { changed: vec![], is_continued: false, is_whole: true });
    assert_eq!(changed(&mut watch).await, []);
    server.sql("postgres", &format!("INSERT INTO orders VALUES (2, '', NULL), (3, '', '{ONE}')"));
    server.sql("postgres", &format!("INSERT INTO \"Odd names\" VALUES (1, '{}')", "k".repeat(99)));
    let key = |key: &str| Some(key.to_owned());
    assert_eq!(changed(&mut watch).await, [(0, None, 1), (0, key(ONE), 1), (1, key(&"k".repeat(64)), 1)]);
    server.sql("postgres", "UPDATE orders SET note = 'x' WHERE id = 3; DELETE FROM orders WHERE id = 1");
    assert_eq!(changed(&mut watch).await, [(0, key(ONE), 1)], "a delete leaves nothing to see");
    for statement in ["SELECT * FROM orders FOR UPDATE", "VACUUM FREEZE orders", "VACUUM FULL orders"] {
        server.sql("postgres", statement);
    }
    assert_eq!(changed(&mut watch).await, []);
    assert_eq!(changed(&mut watch).await, []);
}

#[tokio::test]
async fn what_was_under_way_at_one_look_is_seen_by_that_after_its_commit_savepoints_too() {
    let Some(server) = started() else { return };
    let mut watch = watch(&server, patient(), MIB);
    watch.look().await.unwrap();
    let (long, connection) =
        tokio_postgres::connect(&server.url("postgres", "postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    long.batch_execute("BEGIN; INSERT INTO orders VALUES (1, '', NULL); SAVEPOINT a; INSERT INTO orders VALUES (2, '', NULL); RELEASE a")
        .await
        .unwrap();
    for n in 3..6 {
        server.sql("postgres", &format!("INSERT INTO orders VALUES ({n}, '', NULL)"));
        assert_eq!(changed(&mut watch).await, [(0, None, 1)], "{n}");
    }
    long.batch_execute("COMMIT").await.unwrap();
    let late = changed(&mut watch).await;
    assert_eq!(late.iter().map(|(_, _, rows)| rows).sum::<u64>(), 2, "{late:?}");
    assert_eq!(changed(&mut watch).await, []);
}

#[tokio::test]
async fn rows_of_partitions_are_rows_of_their_table() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE TABLE orders (id int, call_id uuid) PARTITION BY LIST (id);
         CREATE TABLE orders_1 PARTITION OF orders FOR VALUES IN (1); CREATE TABLE \"Odd names\" (\"of call\" text)",
    );
    server.sql("postgres", GRANTS);
    let mut whole = watch(&server, patient(), MIB);
    whole.look().await.unwrap();
    server.sql("postgres", "INSERT INTO orders VALUES (1, NULL)");
    assert_eq!(changed(&mut whole).await, [(0, None, 1)]);
    assert_eq!(cause(watch(&server, patient(), 8_191).look().await), Cause::TooLarge);
}

#[tokio::test]
async fn why_rows_cannot_be_looked_at_is_said_and_the_next_look_goes_on_from_the_last() {
    let Some(mut server) = started() else { return };
    let mut whole = watch(&server, patient(), MIB);
    whole.look().await.unwrap();
    server.sql("postgres", "INSERT INTO orders VALUES (1, '', NULL)");
    for (breaks, mends, expected) in [
        (
            "REVOKE SELECT (xmin) ON orders FROM watcher",
            "GRANT SELECT (xmin) ON orders TO watcher",
            Cause::Permission,
        ),
        ("ALTER TABLE orders RENAME TO gone", "ALTER TABLE gone RENAME TO orders", Cause::TableMissing),
        (
            "ALTER TABLE orders RENAME call_id TO call",
            "ALTER TABLE orders RENAME call TO call_id",
            Cause::KeyMissing,
        ),
        (
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
            Cause::RlsFiltered,
        ),
    ] {
        server.sql("postgres", breaks);
        assert_eq!(cause(whole.look().await), expected, "{breaks}");
        server.sql("postgres", mends);
    }
    server.crash();
    assert_eq!(cause(whole.look().await), Cause::Connect);
    server.restart();
    assert_eq!(changed(&mut whole).await, [(0, None, 1)]);
}

#[tokio::test]
async fn a_look_ends_in_its_time_and_at_the_size_of_a_table() {
    let Some(server) = started() else { return };
    server.sql(
        "postgres",
        "INSERT INTO orders SELECT n, repeat('x', 99), NULL FROM generate_series(1, 200000) n",
    );
    assert_eq!(cause(watch(&server, patient(), MIB).look().await), Cause::TooLarge);
    let locked = server.lock("postgres", "orders");
    let short = Duration::from_millis(200);
    for (hasty, expected) in [
        (Settings { lock: short, ..patient() }, Cause::LockTimeout),
        (Settings { statement: short, ..patient() }, Cause::StatementTimeout),
        (Settings { deadline: short, ..patient() }, Cause::Budget),
    ] {
        let mut watch = watch(&server, hasty, 256 * MIB);
        assert_eq!(cause(watch.look().await), expected);
    }
    drop(locked);
}

#[tokio::test]
async fn more_keys_than_are_read_end_what_is_claimed() {
    let Some(server) = started() else { return };
    let mut watch = watch(&server, patient(), 256 * MIB);
    watch.look().await.unwrap();
    server.sql(
        "postgres",
        "INSERT INTO orders SELECT n, '', md5(n::text)::uuid FROM generate_series(1, 100001) n; INSERT INTO orders VALUES (0, '', NULL)",
    );
    let looked = watch.look().await.unwrap();
    assert!(looked.is_continued && !looked.is_whole);
    assert!(looked.changed.iter().any(|changed| changed.key.is_none()), "rows that name nothing come first");
    assert!(!watch.look().await.unwrap().is_continued);
    assert_eq!(changed(&mut watch).await, []);
}

#[tokio::test]
async fn a_replica_says_which_rows_came_to_it() {
    let Some(server) = started() else { return };
    let replica = server.replica();
    let mut watch = watch(&replica, patient(), MIB);
    watch.look().await.unwrap();
    server.sql("postgres", "INSERT INTO orders VALUES (1, '', NULL)");
    until("it came", PATIENCE, || {
        (replica.sql("postgres", "SELECT count(*) FROM orders") == "1").then_some(())
    });
    assert_eq!(changed(&mut watch).await, [(0, None, 1)]);
    assert_eq!(changed(&mut watch).await, []);
}

#[tokio::test]
async fn all_versions_say_which_rows_were_written() {
    for major in [13, 14, 16, 17, 18] {
        let Some(server) = PostgresServer::start_version(major) else { return };
        server.sql("postgres", TABLES);
        server.sql("postgres", GRANTS);
        let mut watch = watch(&server, patient(), MIB);
        watch.look().await.unwrap();
        server.sql("postgres", &format!("INSERT INTO orders VALUES (1, '', NULL), (2, '', '{ONE}')"));
        assert_eq!(changed(&mut watch).await, [(0, None, 1), (0, Some(ONE.to_owned()), 1)], "{major}");
    }
}
