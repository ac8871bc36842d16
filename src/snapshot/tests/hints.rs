//! Hints of sessions, as `estoppel doctor` has them written into rows, in a real Postgres.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use estoppel_evidence::id::CallId;
use estoppel_kit::PostgresServer;
use estoppel_snapshot::{
    Cause, Check, Dsn, Hint, RowCount, RowCounter, Settings, Stamp, State, Written, examine,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn patient() -> Settings {
    Settings { deadline: PATIENCE, statement: PATIENCE, lock: PATIENCE, ..Settings::default() }
}

/// `schema.table=column:hint:trigger`.
fn table(text: &str) -> Written {
    let (table, words) = text.split_once('=').unwrap();
    let mut words = words.split(':');
    let table = Written::new(table, words.next().unwrap()).unwrap();
    let Some(hint) = words.next() else { return table };
    let stamp = if words.next() == Some("trigger") { Stamp::Trigger } else { Stamp::Default };
    table.hinted(hint.parse::<Hint>().unwrap(), stamp)
}

async fn examined(server: &PostgresServer, written: &str) -> Vec<Check> {
    let dsn = Dsn::parse(&server.url("watcher", "postgres")).unwrap();
    examine(&dsn, &patient(), &[table(written)]).await
}

/// Runs what is printed of a table until nothing more is.
async fn mended(server: &PostgresServer, written: &str) {
    for _ in 0..3 {
        let checks = examined(server, written).await;
        let fixes: Vec<&str> = checks.iter().filter_map(|check| check.fix.as_deref()).collect();
        if fixes.is_empty() {
            assert!(checks.iter().all(|check| check.state != State::Bad), "{checks:?}");
            return;
        }
        fixes.iter().for_each(|fix| drop(server.sql("postgres", fix)));
    }
    panic!("there is always more to mend of {written}");
}

/// What is bad of a table.
async fn ill(server: &PostgresServer, written: &str) -> String {
    let checks = examined(server, written).await;
    let bad = checks.into_iter().filter(|check| check.state == State::Bad).map(|check| check.what);
    bad.collect::<Vec<_>>().join("; ")
}

/// A statement of a session that says for which call it writes.
fn hinted(hint: &str, statement: &str, call: &str) -> String {
    match hint {
        "setting" => format!("BEGIN; SET LOCAL estoppel.call = '{call}'; {statement}; COMMIT"),
        _ => format!("SET application_name = 'shop estoppel-call={call}'; {statement}"),
    }
}

const A_CALL: &str = "0198c0de-0000-7000-8000-00000000000a";

#[tokio::test]
async fn triggers_of_tables_whose_long_names_begin_alike_do_not_meet() {
    let Some(server) = PostgresServer::start() else { return };
    let tables = ["a", "b"].map(|end| format!("{}_{end}", "orders_of_a_year".repeat(3)));
    server.sql("postgres", "CREATE ROLE watcher LOGIN");
    for (table, key) in tables.iter().zip(["call_id", "of_call"]) {
        assert_eq!(table.len(), 50);
        server.sql("postgres", &format!("CREATE TABLE {table} (id int, {key} text)"));
        mended(&server, &format!("public.{table}={key}:setting:trigger")).await;
    }
    for (table, key) in tables.iter().zip(["call_id", "of_call"]) {
        server.sql("postgres", &hinted("setting", &format!("INSERT INTO {table} VALUES (1)"), A_CALL));
        assert_eq!(server.sql("postgres", &format!("SELECT {key} FROM {table}")), A_CALL);
    }
}

#[tokio::test]
async fn a_column_that_is_too_short_for_a_call_is_found_and_can_be_mended() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", "CREATE ROLE watcher LOGIN; CREATE TABLE orders (id int, call_id varchar(35))");
    for word in ["call_id", "call_id:setting", "call_id:setting:trigger"] {
        let written = format!("public.orders={word}");
        let said = ill(&server, &written).await;
        assert!(said.contains("is too short: 35 characters at most"), "{said}");
        mended(&server, &written).await;
        server.sql("postgres", "ALTER TABLE orders ALTER COLUMN call_id TYPE varchar(36)");
        mended(&server, &written).await;
        server.sql("postgres", &hinted("setting", "INSERT INTO orders VALUES (1)", A_CALL));
        server.sql("postgres", "TRUNCATE orders; ALTER TABLE orders ALTER COLUMN call_id TYPE varchar(35)");
    }
}

#[tokio::test]
async fn a_comment_is_read_whatever_its_other_pairs_hold_and_only_at_the_end() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", "CREATE ROLE watcher LOGIN; CREATE TABLE orders (note text, call_id text)");
    mended(&server, "public.orders=call_id:comment").await;
    let call = format!("estoppel-call='{A_CALL}'");
    for (value, comment, is_read) in [
        ("'x'", format!("/*{call}*/"), true),
        ("'x'", format!("/*action='orders*',{call},route='/a*b/c**'*/ ; "), true),
        ("'x'", format!("/**{call}**/"), true),
        ("'x'", format!("/*{call}*/ /*route='a'*/"), false),
        // What is no comment begins none that reaches over one.
        ("$$/*estoppel-call='0198c0de-0000-7000-8000-00000000000b'$$", format!("/*{call}*/"), true),
        ("$$/*estoppel-call='0198c0de-0000-7000-8000-00000000000b'$$", "/*route='a'*/".into(), false),
        ("$$/*estoppel-call='0198c0de-0000-7000-8000-00000000000b'*/$$", String::new(), false),
    ] {
        server.sql("postgres", &format!("INSERT INTO orders VALUES ({value}) {comment}"));
        let found = server.sql("postgres", "DELETE FROM orders RETURNING coalesce(call_id, 'none')");
        assert_eq!(found, if is_read { A_CALL } else { "none" }, "{value} {comment}");
    }
}

#[tokio::test]
async fn a_trigger_that_is_switched_off_or_writes_another_hint_is_mended_by_what_the_doctor_prints() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE ROLE watcher LOGIN; CREATE TABLE orders (id int, call_id uuid); \
         CREATE TABLE parted (id int, call_id text) PARTITION BY LIST (id); CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1)",
    );
    for table in ["orders", "parted"] {
        let (setting, name) = (
            format!("public.{table}=call_id:setting:trigger"),
            format!("public.{table}=call_id:application_name:trigger"),
        );
        mended(&server, &setting).await;
        server.sql("postgres", &format!("ALTER TABLE {table} DISABLE TRIGGER ALL"));
        assert!(ill(&server, &setting).await.contains("no call of setting"));
        mended(&server, &setting).await;
        assert!(ill(&server, &name).await.contains("no call of application_name"));
        mended(&server, &name).await;
        server
            .sql("postgres", &hinted("application_name", &format!("INSERT INTO {table} VALUES (1)"), A_CALL));
        assert_eq!(server.sql("postgres", &format!("SELECT call_id FROM {table}")), A_CALL);
    }
}

#[tokio::test]
async fn of_tables_between_and_of_those_that_inherit_it_is_known_whether_they_write_the_call() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE ROLE watcher LOGIN; CREATE SCHEMA \"Odd one\";
         CREATE TABLE parted (id int, part int, call_id text) PARTITION BY LIST (id);
         CREATE TABLE between_ PARTITION OF parted FOR VALUES IN (1) PARTITION BY LIST (part);
         CREATE TABLE leaf PARTITION OF between_ FOR VALUES IN (1);
         CREATE TABLE orders (id int, call_id text); CREATE TABLE heir () INHERITS (orders);
         CREATE TABLE \"Odd one\".\"heir of heir\" () INHERITS (heir)",
    );
    for (table, writes, breaks) in [
        (
            "parted=call_id:setting",
            "between_ VALUES (1, 1)",
            "ALTER TABLE ONLY between_ ALTER COLUMN call_id DROP DEFAULT",
        ),
        (
            "orders=call_id:setting",
            "heir VALUES (1)",
            "ALTER TABLE ONLY heir ALTER COLUMN call_id DROP DEFAULT",
        ),
        (
            "orders=call_id:setting:trigger",
            "\"Odd one\".\"heir of heir\" VALUES (1)",
            "DROP TRIGGER estoppel_call_orders ON \"Odd one\".\"heir of heir\"",
        ),
    ] {
        let written = format!("public.{table}");
        let (name, _) = table.split_once('=').unwrap();
        mended(&server, &written).await;
        server.sql("postgres", &hinted("setting", &format!("INSERT INTO {writes}"), A_CALL));
        assert_eq!(server.sql("postgres", &format!("SELECT call_id FROM {name}")), A_CALL);
        server.sql("postgres", &format!("TRUNCATE {name}; {breaks}"));
        assert!(ill(&server, &written).await.contains("no call of setting"), "{written}");
        mended(&server, &written).await;
        server.sql("postgres", "ALTER TABLE orders ALTER COLUMN call_id DROP DEFAULT");
    }
}

#[tokio::test]
async fn nothing_is_claimed_of_a_column_that_takes_no_whole_call_by_its_hint() {
    let Some(server) = PostgresServer::start() else { return };
    let default = "(regexp_match(current_setting('estoppel.call'::text, true), \
                   '^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$'::text))[1]";
    server.sql("postgres", &format!("CREATE TABLE orders (call_id varchar(36) DEFAULT {default}); CREATE ROLE watcher LOGIN; GRANT SELECT (call_id, xmin) ON orders TO watcher"));
    let dsn = Dsn::parse(&server.url("watcher", "postgres")).unwrap();
    let table = Written::new("public.orders", "call_id").unwrap().hinted(Hint::Setting, Stamp::Default);
    let (counter, task) = RowCounter::new(dsn, patient(), [table].into());
    tokio::spawn(task.run());
    let call: CallId = A_CALL.parse().unwrap();
    assert_eq!(*counter.count(call).await.unwrap(), [Ok(RowCount { rows: 0, is_more: false })]);
    for of_type in ["varchar(35)", "char(35)"] {
        server.sql("postgres", &format!("ALTER TABLE orders ALTER COLUMN call_id TYPE {of_type}"));
        assert_eq!(*counter.count(call).await.unwrap(), [Err(Cause::HintMissing)], "{of_type}");
    }
}
