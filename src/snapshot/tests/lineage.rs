//! Rows that name calls, in a real Postgres.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::id::CallId;
use estoppel_kit::{PostgresServer, until};
use estoppel_snapshot::{
    Cause, Changed, Dsn, Looked, RowCount, RowCounter, RowWatch, Settings, SnapshotError, WatchSettings,
    Written,
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

/// Looks again and again, and counts its looks.
struct Eye {
    watch: RowWatch,
    looks: u64,
}

fn watch_with(server: &PostgresServer, settings: Settings, watch: WatchSettings) -> Eye {
    let dsn = Dsn::parse(&server.url("watcher", "postgres")).unwrap();
    Eye { watch: RowWatch::new(dsn, settings, &tables(), watch), looks: 0 }
}

fn watch(server: &PostgresServer, settings: Settings, bytes_max: u64) -> Eye {
    watch_with(server, settings, WatchSettings { bytes_max, ..WatchSettings::default() })
}

impl Eye {
    /// One look at the table at this place.
    async fn look_at(&mut self, table: usize) -> (Result<Looked, SnapshotError>, Vec<Changed>) {
        self.looks += 1;
        let mut all = Vec::new();
        let looked = self.watch.look(table, self.looks, &mut |changed| all.push(changed)).await;
        (looked, all)
    }

    /// At the first table.
    async fn look(&mut self) -> Result<Looked, SnapshotError> {
        self.look_at(0).await.0
    }

    /// What both tables are seen for the first time with.
    async fn begin(&mut self) {
        for table in 0..2 {
            let (looked, found) = self.look_at(table).await;
            assert_eq!(looked.unwrap(), Looked { is_continued: false, is_whole: true });
            assert_eq!(found, []);
        }
    }
}

fn started() -> Option<PostgresServer> {
    let server = PostgresServer::start()?;
    server.sql("postgres", TABLES);
    server.sql("postgres", GRANTS);
    Some(server)
}

async fn changed(watch: &mut Eye) -> Vec<(usize, Option<String>, u64)> {
    let mut changed = Vec::new();
    for table in 0..2 {
        let (looked, found) = watch.look_at(table).await;
        assert_eq!(looked.unwrap(), Looked { is_continued: true, is_whole: true });
        changed.extend(found.into_iter().map(|Changed { key, rows, .. }| (table, key.map(Into::into), rows)));
    }
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
    let exact = |rows| Ok(RowCount { rows, is_more: false });
    assert_eq!(counted[0], [exact(2), exact(0)]);
    assert_eq!(counted[1], [exact(1), Ok(RowCount { rows: 10_000, is_more: true })]);
    assert_eq!(counted[2], [exact(0), exact(0)]);
}

#[tokio::test]
async fn a_table_that_cannot_be_counted_hinders_no_other() {
    let Some(server) = started() else { return };
    let dsn = Dsn::parse(&server.url("watcher", "postgres")).unwrap();
    let settings = Settings { lock: Duration::from_millis(100), ..patient() };
    let (counter, task) = RowCounter::new(dsn, settings, tables());
    tokio::spawn(task.run());
    let call: CallId = ONE.parse().unwrap();
    server.sql(
        "postgres",
        &format!("INSERT INTO orders VALUES (1, '', '{ONE}'); INSERT INTO \"Odd names\" VALUES (1, '{ONE}')"),
    );
    let one = Ok(RowCount { rows: 1, is_more: false });
    for (breaks, mends, expected) in [
        (
            "ALTER TABLE orders RENAME call_id TO call",
            "ALTER TABLE orders RENAME call TO call_id",
            Cause::KeyMissing,
        ),
        ("ALTER TABLE orders RENAME TO gone", "ALTER TABLE gone RENAME TO orders", Cause::TableMissing),
        (
            "REVOKE SELECT (call_id) ON orders FROM watcher",
            "GRANT SELECT (call_id) ON orders TO watcher",
            Cause::Permission,
        ),
        (
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
            Cause::RlsFiltered,
        ),
    ] {
        server.sql("postgres", breaks);
        for _ in 0..2 {
            assert_eq!(*counter.count(call).await.unwrap(), [Err(expected), one], "{breaks}");
        }
        server.sql("postgres", mends);
        assert_eq!(*counter.count(call).await.unwrap(), [one, one], "{mends}");
    }
    let locked = server.lock("postgres", "orders");
    assert_eq!(*counter.count(call).await.unwrap(), [Err(Cause::LockTimeout), one]);
    drop(locked);
}

#[tokio::test]
async fn a_look_sees_each_row_that_was_written_since_the_one_before_once() {
    let Some(server) = started() else { return };
    server.sql("postgres", "INSERT INTO orders VALUES (1, '', NULL)");
    let mut watch = watch(&server, patient(), MIB);
    watch.begin().await;
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
async fn a_row_was_written_after_the_last_look_also_if_that_found_nothing_new() {
    let Some(server) = started() else { return };
    let mut watch = watch(&server, patient(), MIB);
    for _ in 0..3 {
        watch.look().await.unwrap();
    }
    let last = watch.looks;
    server.sql("postgres", "INSERT INTO orders VALUES (1, '', NULL)");
    let (_, found) = watch.look_at(0).await;
    assert_eq!(found, [Changed { key: None, rows: 1, since: last }]);
}

#[tokio::test]
async fn what_was_under_way_at_one_look_is_seen_by_that_after_its_commit_savepoints_too() {
    let Some(server) = started() else { return };
    let mut watch = watch(&server, patient(), MIB);
    watch.begin().await;
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
    whole.begin().await;
    server.sql("postgres", "INSERT INTO orders VALUES (1, NULL)");
    assert_eq!(changed(&mut whole).await, [(0, None, 1)]);
    assert_eq!(cause(watch(&server, patient(), 8_191).look().await), Cause::TooLarge);
}

#[tokio::test]
async fn tables_that_inherit_count_for_the_size_of_their_table_at_all_depths() {
    let Some(server) = started() else { return };
    server.sql(
        "postgres",
        "CREATE TABLE heir () INHERITS (orders); CREATE TABLE grandson () INHERITS (heir);
         CREATE TABLE nephew () INHERITS (orders, heir)",
    );
    let mut whole = watch(&server, patient(), 8_192);
    whole.begin().await;
    server.sql("postgres", "INSERT INTO grandson VALUES (1, 'x', NULL)");
    assert_eq!(changed(&mut whole).await, [(0, None, 1)], "its rows are read");
    server.sql("postgres", "INSERT INTO nephew VALUES (1, 'x', NULL)");
    match whole.look().await {
        Err(SnapshotError::TooLarge { bytes, .. }) => assert_eq!(bytes, 16_384, "each counts once"),
        other => panic!("{other:?}"),
    }
    server.sql("postgres", "DROP TABLE nephew");
    assert!(whole.look().await.unwrap().is_whole);
}

#[tokio::test]
async fn why_rows_cannot_be_looked_at_is_said_and_the_next_look_goes_on_from_the_last() {
    let Some(mut server) = started() else { return };
    let mut whole = watch(&server, patient(), MIB);
    whole.begin().await;
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
async fn nothing_is_missed_of_three_hundred_thousand_rows_at_once() {
    const ROWS: u64 = 300_000;
    let Some(server) = started() else { return };
    let mut watch = watch(&server, patient(), 256 * MIB);
    watch.begin().await;
    server.sql(
        "postgres",
        &format!("INSERT INTO orders SELECT n, '', md5(n::text)::uuid FROM generate_series(1, {ROWS}) n; INSERT INTO orders VALUES (0, '', NULL)"),
    );
    let found = changed(&mut watch).await;
    assert_eq!(found.iter().map(|(_, _, rows)| rows).sum::<u64>(), ROWS + 1);
    let keys: std::collections::BTreeSet<_> = found.iter().map(|(_, key, _)| key).collect();
    assert_eq!((found.len() as u64, keys.len() as u64), (ROWS + 1, ROWS + 1), "each once");
    assert_eq!(changed(&mut watch).await, []);
}

#[tokio::test]
async fn a_look_goes_on_where_the_one_before_ended_and_finds_each_row_once_whoever_writes_meanwhile() {
    let Some(mut server) = started() else { return };
    let mut watch =
        watch_with(&server, patient(), WatchSettings { page: 7, pages_max: 1, ..WatchSettings::default() });
    watch.begin().await;
    let since_begin = watch.looks - 1;
    let (long, connection) =
        tokio_postgres::connect(&server.url("postgres", "postgres"), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // Older than all that follows, and in sight only after the first pages were read.
    long.batch_execute(
        "BEGIN; INSERT INTO orders SELECT n, 'late', md5(n::text)::uuid FROM generate_series(1000, 1008) n",
    )
    .await
    .unwrap();
    // One transaction with more than one page of keys, then many with one each.
    server.sql("postgres", "INSERT INTO orders SELECT n, '', CASE WHEN n > 1 THEN md5(n::text)::uuid END FROM generate_series(1, 20) n");
    for n in 21..40 {
        server.sql("postgres", &format!("INSERT INTO orders VALUES ({n}, '', md5('{n}')::uuid)"));
    }
    let mut found = Vec::new();
    let mut pieces = 0;
    let mut sweeps = 0;
    while sweeps < 3 {
        if pieces == 2 {
            long.batch_execute("COMMIT").await.unwrap();
        }
        if pieces == 3 {
            server.sql("postgres", "REVOKE SELECT (xmin) ON orders FROM watcher");
            assert_eq!(cause(watch.look().await), Cause::Permission);
            server.sql("postgres", "GRANT SELECT (xmin) ON orders TO watcher");
            server.sql("postgres", "INSERT INTO orders VALUES (2000, '', NULL)");
        }
        let (looked, more) = watch.look_at(0).await;
        assert!(more.len() <= 7, "a page at a time");
        found.extend(more.into_iter().map(|changed| (changed.key, changed.rows, changed.since)));
        let looked = looked.unwrap();
        assert!(looked.is_continued);
        sweeps += u32::from(looked.is_whole);
        pieces += 1;
    }
    let first_sweep = found.iter().filter(|(_, _, since)| *since <= since_begin).count();
    assert_eq!(found.iter().map(|(_, rows, _)| rows).sum::<u64>(), 39 + 9 + 1, "{found:?}");
    assert!(
        first_sweep >= 39,
        "what was there as the sweep began was written since the look before it: {found:?}"
    );
    let keys: std::collections::BTreeSet<_> = found.iter().filter_map(|(key, _, _)| key.as_ref()).collect();
    assert_eq!(keys.len(), 38 + 9, "each once");
    server.crash();
    assert_eq!(cause(watch.look().await), Cause::Connect);
    server.restart();
    assert!(watch.look_at(0).await.0.unwrap().is_continued);
}

#[tokio::test]
async fn a_table_that_cannot_be_looked_at_hinders_no_other() {
    let Some(server) = started() else { return };
    let mut watch = watch(&server, patient(), MIB);
    watch.begin().await;
    server.sql("postgres", "ALTER TABLE orders RENAME TO gone; INSERT INTO gone VALUES (1, '', NULL); INSERT INTO \"Odd names\" VALUES (1, NULL)");
    assert_eq!(cause(watch.look().await), Cause::TableMissing);
    let (looked, found) = watch.look_at(1).await;
    assert_eq!(looked.unwrap(), Looked { is_continued: true, is_whole: true });
    assert_eq!(found.iter().map(|changed| changed.rows).collect::<Vec<_>>(), [1]);
    server.sql("postgres", "ALTER TABLE gone RENAME TO orders");
    assert_eq!(changed(&mut watch).await, [(0, None, 1)], "of this one nothing was lost");
}

#[tokio::test]
async fn a_replica_says_which_rows_came_to_it() {
    let Some(server) = started() else { return };
    let replica = server.replica();
    let mut watch = watch(&replica, patient(), MIB);
    watch.begin().await;
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
        watch.begin().await;
        server.sql("postgres", &format!("INSERT INTO orders VALUES (1, '', NULL), (2, '', '{ONE}')"));
        assert_eq!(changed(&mut watch).await, [(0, None, 1), (0, Some(ONE.to_owned()), 1)], "{major}");
    }
}
