//! Statements in a scratch schema of a real database, and what they cannot do.

#![allow(clippy::unwrap_used, reason = "a test that cannot read an answer fails")]

use std::time::Duration;

use estoppel_kit::{PostgresServer, until};
use estoppel_snapshot::{
    Closed, Dsn, Form, Ran, Schema, Scratch, ScratchError, ScratchSettings, Settings, Source, diff, role_sql,
};
use serde_json::json;

const SHOP: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'it''s fine');
    CREATE DOMAIN cents AS bigint DEFAULT 5 NOT NULL CHECK (VALUE >= 0);
    CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY (START 100) PRIMARY KEY, name text COLLATE \"C\" NOT NULL, feels mood);
    CREATE TABLE orders (
        id serial PRIMARY KEY,
        customer bigint NOT NULL REFERENCES customers ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
        price cents,
        twice bigint GENERATED ALWAYS AS (id * 2) STORED,
        placed timestamptz DEFAULT '2026-01-02 03:04:05+01',
        CONSTRAINT placed_late CHECK (placed > '2020-01-01+00'),
        UNIQUE (customer, placed)
    );
    CREATE INDEX by_price ON orders (price DESC, id) INCLUDE (customer);
    CREATE INDEX by_name ON customers (lower(name)) WHERE feels = 'sad';
    CREATE VIEW dear AS SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer WHERE o.price > 1000;
    CREATE VIEW a_dear AS SELECT * FROM dear WHERE id > 0;
    CREATE TABLE parted (at date, n int PRIMARY KEY) PARTITION BY RANGE (n);
    CREATE TABLE parted_one PARTITION OF parted FOR VALUES FROM (0) TO (10);
";

fn patient() -> ScratchSettings {
    ScratchSettings {
        connect: Duration::from_secs(30),
        statement: Duration::from_secs(20),
        lock: Duration::from_secs(10),
        ..ScratchSettings::default()
    }
}

/// A server with the shop and the role.
fn server() -> Option<PostgresServer> {
    PostgresServer::start().map(prepared)
}

fn prepared(server: PostgresServer) -> PostgresServer {
    server.sql("postgres", SHOP);
    server.sql("postgres", &role_sql(&dsn(&server, "postgres")));
    server
}

fn dsn(server: &PostgresServer, user: &str) -> Dsn {
    Dsn::parse(&server.url(user, "postgres")).unwrap()
}

async fn look(server: &PostgresServer) -> std::sync::Arc<Schema> {
    let settings = Settings {
        deadline: Duration::from_secs(30),
        statement: Duration::from_secs(20),
        ..Settings::default()
    };
    let (source, task) = Source::new(dsn(server, "postgres"), settings);
    tokio::spawn(task.run());
    source.take().await.unwrap().schema.clone()
}

async fn open_with(server: &PostgresServer, settings: ScratchSettings) -> Scratch {
    let schema = look(server).await;
    Scratch::open(&dsn(server, "estoppel_replay"), settings, &schema, "public", 7).await.unwrap()
}

async fn open(server: &PostgresServer) -> Scratch {
    open_with(server, patient()).await
}

fn text(ran: &Ran) -> Vec<Vec<&str>> {
    let Ran::Rows { rows, .. } = ran else { panic!("{ran:?}") };
    rows.iter().map(|row| row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect()).collect()
}

fn state(ran: &Ran) -> &str {
    match ran {
        Ran::Refused { state, .. } => state,
        ran => panic!("{ran:?}"),
    }
}

/// Nothing of the scratch schema, nothing in the shop, no sequence advanced.
fn check_nothing_stays(server: &PostgresServer) {
    let ask = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'estoppel_replay%'), \
               (SELECT count(*) FROM orders), (SELECT count(*) FROM customers), \
               (SELECT is_called FROM orders_id_seq), (SELECT is_called FROM customers_id_seq), \
               (SELECT count(*) FROM pg_largeobject_metadata)";
    assert_eq!(server.sql("postgres", ask), "0|0|0|f|f|0");
}

#[tokio::test]
async fn a_schema_is_recreated_without_its_rows_and_nothing_of_it_stays() {
    let Some(server) = server() else { return };
    let before = look(&server).await;
    let mut scratch = open(&server).await;
    assert!(scratch.not_recreated().is_empty(), "{:?}", scratch.not_recreated());
    let insert = "INSERT INTO customers (name, feels) VALUES ('Ada', 'it''s fine'), ('Bob', NULL) RETURNING id, name, feels;";
    let ran = scratch.run(insert, &[], true).await.unwrap();
    assert_eq!(text(&ran), [["100", "Ada", "it's fine"], ["101", "Bob", "NULL"]]);
    let order = "-- first\nINSERT INTO orders (customer, price) VALUES (100, 2000) RETURNING id, twice, placed -- last";
    let ran = scratch.run(order, &[], true).await.unwrap();
    assert_eq!(text(&ran), [["1", "2", "2026-01-02 02:04:05+00"]]);
    let Ran::Rows { columns, .. } = &ran else { unreachable!() };
    assert_eq!(
        columns.iter().map(|column| column.form).collect::<Vec<_>>(),
        [Form::Number, Form::Number, Form::Time]
    );
    assert_eq!(text(&scratch.run("TABLE a_dear", &[], true).await.unwrap()), [["1", "Ada"]]);
    for (statement, expected) in [
        ("INSERT INTO orders (customer) VALUES (999)", "23503"),
        ("INSERT INTO orders (customer, price) VALUES (100, -1)", "23514"),
        ("INSERT INTO orders (customer, placed) VALUES (100, '2026-01-02 03:04:05+01')", "23505"),
        ("INSERT INTO customers (feels) VALUES ('sad')", "23502"),
        ("INSERT INTO parted (n) VALUES (10)", "23514"),
        ("SELECT nope", "42703"),
    ] {
        assert_eq!(state(&scratch.run(statement, &[], true).await.unwrap()), expected, "{statement}");
    }
    let insert = "INSERT INTO parted (n) VALUES (1), (2)";
    assert_eq!(scratch.run(insert, &[], true).await.unwrap(), Ran::Done { count: Some(2) });
    assert_eq!(
        scratch.run("ALTER TABLE orders ADD COLUMN note text", &[], false).await.unwrap(),
        Ran::Done { count: None }
    );
    assert_eq!(text(&scratch.run("SELECT note FROM orders", &[], true).await.unwrap()), [["NULL"]]);
    assert_eq!(scratch.close().await.unwrap(), Closed { kept: true, gone: true });
    check_nothing_stays(&server);
    assert_eq!(diff(&before, &*look(&server).await), []);
}

#[tokio::test]
async fn every_version_recreates_the_schema_and_keeps_statements_inside() {
    for major in [13, 14, 16, 17, 18] {
        let Some(server) = PostgresServer::start_version(major).map(prepared) else { return };
        let mut scratch = open(&server).await;
        assert!(scratch.not_recreated().is_empty(), "{major}: {:?}", scratch.not_recreated());
        let insert = "INSERT INTO customers (name) VALUES ('Ada') RETURNING id";
        assert_eq!(text(&scratch.run(insert, &[], true).await.unwrap()), [["100"]], "{major}");
        let bound = "INSERT INTO orders (customer, price) SELECT id, $1 FROM customers WHERE name = $2 RETURNING price";
        let ran = scratch.run(bound, &[json!(12), json!("Ada")], true).await.unwrap();
        assert_eq!(text(&ran), [["12"]], "{major}");
        for (statement, is_query, expected) in [
            ("COMMIT", true, "42601"),
            ("COMMIT", false, "0A000"),
            ("SELECT 1; COMMIT", true, "42601"),
            ("DO $$ BEGIN COMMIT; END $$", false, "2D000"),
            ("SELECT nextval('public.orders_id_seq')", true, "42501"),
            ("SELECT pg_read_file('/etc/passwd')", true, "42501"),
        ] {
            let ran = scratch.run(statement, &[], is_query).await.unwrap();
            assert_eq!(state(&ran), expected, "{major}, {statement}: {ran:?}");
        }
        assert_eq!(scratch.close().await.unwrap(), Closed { kept: true, gone: true }, "{major}");
        check_nothing_stays(&server);
    }
}

#[tokio::test]
async fn no_statement_gets_out() {
    let Some(server) = server() else { return };
    server.sql("postgres", "CREATE TABLE heard (x int); GRANT SELECT ON heard TO PUBLIC");
    let mut scratch = open(&server).await;
    for (statement, is_query, expected) in [
        ("COMMIT", true, "42601"),
        ("COMMIT", false, "0A000"),
        ("ROLLBACK", false, "0A000"),
        ("PREPARE TRANSACTION 'x'", false, "0A000"),
        ("SAVEPOINT x", false, "0A000"),
        ("RELEASE SAVEPOINT step", false, "0A000"),
        ("SELECT 1; COMMIT", true, "42601"),
        ("SELECT 1; COMMIT", false, "42601"),
        ("/* */ CREATE TABLE a (); COMMIT; --", false, "42601"),
        ("DO $$ BEGIN COMMIT; END $$", false, "2D000"),
        ("INSERT INTO public.orders (customer) VALUES (1)", true, "42501"),
        ("SELECT nextval('public.orders_id_seq')", true, "42501"),
        ("SELECT setval('public.customers_id_seq', 9)", true, "42501"),
        ("DROP TABLE public.orders", false, "42501"),
        ("CREATE TABLE public.mine (x int)", false, "42501"),
        ("SET ROLE postgres", false, "42501"),
        ("SET SESSION AUTHORIZATION postgres", false, "42501"),
        ("COPY customers FROM PROGRAM 'true'", false, "42501"),
        ("COPY customers TO '/tmp/estoppel-replay'", false, "42501"),
        ("SELECT pg_read_file('/etc/passwd')", true, "42501"),
        ("SELECT lo_import('/etc/passwd')", true, "42501"),
        ("ALTER SYSTEM SET work_mem = '1GB'", false, "25001"),
        ("CREATE DATABASE mine", false, "25001"),
        ("CREATE ROLE mine", false, "42501"),
        ("VACUUM", false, "25001"),
        ("LOAD '/tmp/x.so'", false, "42501"),
    ] {
        let ran = scratch.run(statement, &[], is_query).await.unwrap();
        assert_eq!(state(&ran), expected, "{statement}: {ran:?}");
    }
    for statement in [
        "SELECT lo_create(77)",
        "SELECT set_config('search_path', 'public', false)",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT pg_notify('heard', 'x')",
    ] {
        text(&scratch.run(statement, &[], true).await.unwrap());
    }
    let paths =
        scratch.run("SELECT current_setting('search_path'), current_setting('statement_timeout')", &[], true);
    assert_eq!(text(&paths.await.unwrap()), [["estoppel_replay_0000000000000007, pg_temp", "20s"]]);
    assert_eq!(scratch.close().await.unwrap(), Closed { kept: true, gone: true });
    check_nothing_stays(&server);
}

#[tokio::test]
async fn a_role_that_may_do_more_is_refused_and_told_why() {
    let Some(server) = server() else { return };
    let schema = look(&server).await;
    let refused =
        async |user: &str| match Scratch::open(&dsn(&server, user), patient(), &schema, "public", 7).await {
            Err(ScratchError::Role(faults)) => faults,
            other => panic!("{other:?}"),
        };
    assert!(refused("postgres").await.contains(&"it is a superuser"));
    for (grant, revoke, fault) in [
        (
            "ALTER ROLE estoppel_replay BYPASSRLS",
            "ALTER ROLE estoppel_replay NOBYPASSRLS",
            "it has BYPASSRLS",
        ),
        (
            "ALTER ROLE estoppel_replay CREATEROLE",
            "ALTER ROLE estoppel_replay NOCREATEROLE",
            "it has CREATEROLE",
        ),
        ("ALTER ROLE estoppel_replay CREATEDB", "ALTER ROLE estoppel_replay NOCREATEDB", "it has CREATEDB"),
        (
            "ALTER ROLE estoppel_replay REPLICATION",
            "ALTER ROLE estoppel_replay NOREPLICATION",
            "it has REPLICATION",
        ),
        (
            "GRANT pg_read_server_files TO estoppel_replay",
            "REVOKE pg_read_server_files FROM estoppel_replay",
            "it is a member of another role",
        ),
        (
            "GRANT UPDATE ON orders TO estoppel_replay",
            "REVOKE UPDATE ON orders FROM estoppel_replay",
            "it may write to tables",
        ),
        (
            "GRANT USAGE ON SEQUENCE orders_id_seq TO PUBLIC",
            "REVOKE USAGE ON SEQUENCE orders_id_seq FROM PUBLIC",
            "it may advance sequences",
        ),
        (
            "CREATE TABLE theirs (); ALTER TABLE theirs OWNER TO estoppel_replay",
            "DROP TABLE theirs",
            "it owns objects",
        ),
        (
            "CREATE FUNCTION next_order() RETURNS bigint LANGUAGE sql SECURITY DEFINER RETURN nextval('orders_id_seq')",
            "DROP FUNCTION next_order()",
            "it may call functions that run as somebody else or reach out of the database",
        ),
        (
            "REVOKE CREATE ON DATABASE postgres FROM estoppel_replay",
            "GRANT CREATE ON DATABASE postgres TO estoppel_replay",
            "it may not create a schema",
        ),
    ] {
        server.sql("postgres", grant);
        assert!(refused("estoppel_replay").await.contains(&fault), "{grant}");
        server.sql("postgres", revoke);
    }
    let scratch =
        Scratch::open(&dsn(&server, "estoppel_replay"), patient(), &schema, "public", 7).await.unwrap();
    assert!(scratch.close().await.unwrap().gone);
    check_nothing_stays(&server);
}

#[tokio::test]
async fn parameters_are_bound_and_nothing_in_them_is_code() {
    let Some(server) = server() else { return };
    server.sql(
        "postgres",
        "CREATE TABLE kinds (n numeric, at timestamptz, tags text[], grid int[], doc jsonb, ok bool, id uuid, feels mood, costs cents)",
    );
    let mut scratch = open(&server).await;
    let id = "0198c0de-0000-7000-8000-000000000001";
    let values = [
        json!(12.5),
        json!("2026-01-02T03:04:05Z"),
        json!(["a,b", "\"q\"", null]),
        json!([[1, 2], [3, 4]]),
        json!([{"a": 1}]),
        json!(true),
        json!(id),
        json!("it's fine"),
        json!(7),
    ];
    let insert = "INSERT INTO kinds VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                  RETURNING n, at, tags[1], tags[2], tags[3] IS NULL, grid[2][1], doc->0->>'a', ok, id, feels, costs";
    let ran = scratch.run(insert, &values, true).await.unwrap();
    let expected =
        ["12.5", "2026-01-02 03:04:05+00", "a,b", "\"q\"", "t", "3", "1", "t", id, "it's fine", "7"];
    assert_eq!(text(&ran), [expected]);
    let select = "SELECT n FROM kinds WHERE id = $2 AND n < $1 AND ($3::text IS NULL)";
    let ran = scratch.run(select, &[json!("13"), json!(id), json!(null)], true).await.unwrap();
    assert_eq!(text(&ran), [["12.5"]]);
    let update = "UPDATE kinds SET ok = $1 WHERE n = ANY ($2)";
    let ran = scratch.run(update, &[json!(false), json!([12.5, 13])], true).await.unwrap();
    assert_eq!(ran, Ran::Done { count: Some(1) });
    let hostile = [
        "'); COMMIT; --",
        "\\'; COMMIT; --",
        "$1",
        "$$; COMMIT; $$",
        "E'\\047",
        "/* */",
        "set_config('search_path', 'public', false)",
    ];
    for hostile in hostile {
        let ran = scratch.run("SELECT $1::text, length($1)", &[json!(hostile)], true).await.unwrap();
        assert_eq!(text(&ran), [[hostile, hostile.len().to_string().as_str()]]);
    }
    for (statement, parameters, expected) in [
        ("SELECT nextval($1)", json!(["public.orders_id_seq"]), "42501"),
        ("SELECT setval($1::regclass, 9)", json!(["public.orders_id_seq"]), "42501"),
        ("SELECT pg_read_file($1)", json!(["/etc/passwd"]), "42501"),
        ("SELECT * FROM orders WHERE id = $1", json!(["1 OR true"]), "22P02"),
        ("SELECT $1::text", json!(["a\u{0}b"]), "22021"),
        ("SELECT * FROM kinds WHERE tags = $1", json!(["no list"]), "22P02"),
        ("COMMIT", json!([1]), "42601"),
        ("SELECT $1; COMMIT", json!([1]), "42601"),
        ("COPY customers TO STDOUT", json!([]), "42601"),
        ("DO $$ BEGIN COMMIT; END $$", json!([]), "42601"),
    ] {
        let ran = scratch.run(statement, parameters.as_array().unwrap(), true).await.unwrap();
        assert_eq!(state(&ran), expected, "{statement}: {ran:?}");
    }
    for (statement, parameters, is_query) in [
        ("SELECT * FROM orders WHERE id = $1", json!([]), true),
        ("SELECT * FROM orders WHERE id = $1", json!([1, 2]), true),
        ("SELECT 1", json!([1]), true),
        ("SELECT $1::bytea", json!([{"type": "Buffer", "data": [1]}]), true),
        ("SELECT $1::text", json!([[1]]), true),
        ("CREATE TABLE a AS SELECT $1", json!([1]), false),
    ] {
        let ran = scratch.run(statement, parameters.as_array().unwrap(), is_query).await.unwrap();
        assert_eq!(ran, Ran::Unbound, "{statement}");
    }
    let ran = scratch.run("SELECT $1::int AS n INTO made", &[json!(1)], true).await.unwrap();
    assert_eq!(ran, Ran::Done { count: Some(1) });
    assert_eq!(text(&scratch.run("SELECT count(*) FROM kinds, made", &[], true).await.unwrap()), [["1"]]);
    assert_eq!(scratch.close().await.unwrap(), Closed { kept: true, gone: true });
    check_nothing_stays(&server);
}

#[tokio::test]
async fn cursors_that_a_function_leaves_open_are_no_rows_of_a_statement() {
    let Some(server) = server() else { return };
    server.sql(
        "postgres",
        "CREATE FUNCTION leaves(name text) RETURNS refcursor LANGUAGE plpgsql AS $$ \
           DECLARE c refcursor := name; BEGIN OPEN c FOR SELECT 666 AS one; RETURN c; END $$;
         CREATE FUNCTION folded() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ \
           DECLARE c refcursor := 'q'; BEGIN OPEN c FOR SELECT 666; RETURN 1; END $$",
    );
    let mut scratch = open(&server).await;
    for name in ["c", "p0", "z"] {
        let ran = scratch.run("SELECT public.leaves($1)", &[json!(name)], true).await.unwrap();
        assert_eq!(text(&ran), [[name]]);
        assert_eq!(text(&scratch.run("SELECT 1 AS one", &[], true).await.unwrap()), [["1"]]);
    }
    let ran = scratch.run("SELECT public.folded()", &[], true).await.unwrap();
    assert!(ran == Ran::Unbound || text(&ran) == [["1"]], "{ran:?}");
    let ran = scratch.run("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'step%'", &[], true);
    assert_eq!(text(&ran.await.unwrap()), [["0"]], "nothing heaps up on the server");
    assert!(scratch.close().await.unwrap().kept);
}

#[tokio::test]
async fn no_more_rows_and_bytes_are_kept_than_are_allowed() {
    let Some(server) = server() else { return };
    let settings = ScratchSettings { rows_max: 10, bytes_max: 1000, ..patient() };
    let mut scratch = open_with(&server, settings).await;
    for (statement, is_within) in [
        ("SELECT n FROM generate_series(1, 10) n", true),
        ("SELECT n FROM generate_series(1, 11) n", false),
        ("SELECT generate_series(1, 1000000000000)", false),
        ("SELECT repeat('x', 100) FROM generate_series(1, 10)", true),
        ("SELECT repeat('x', 101) FROM generate_series(1, 10)", false),
        ("INSERT INTO customers (name) SELECT 'x' FROM generate_series(1, 11) RETURNING id", false),
    ] {
        let ran = scratch.run(statement, &[], true).await.unwrap();
        assert_eq!(ran != Ran::TooMany, is_within, "{statement}");
    }
    let ran = scratch.run("INSERT INTO customers (name) SELECT 'x' FROM generate_series(1, 5000)", &[], true);
    assert_eq!(ran.await.unwrap(), Ran::Done { count: Some(5000) });
    assert_eq!(text(&scratch.run("SELECT count(*) FROM customers", &[], true).await.unwrap()), [["5011"]]);
    assert!(scratch.close().await.unwrap().kept);
}

#[tokio::test]
async fn bounds_end_a_statement_and_not_the_replay() {
    let Some(server) = server() else { return };
    let settings = ScratchSettings { statement: Duration::from_millis(300), rows_max: 10, ..patient() };
    let mut scratch = open_with(&server, settings).await;
    assert_eq!(state(&scratch.run("SELECT pg_sleep(60)", &[], true).await.unwrap()), "57014");
    assert_eq!(scratch.run("SELECT generate_series(1, 11)", &[], true).await.unwrap(), Ran::TooMany);
    assert_eq!(text(&scratch.run("SELECT count(*) FROM orders", &[], true).await.unwrap()), [["0"]]);
    assert!(scratch.close().await.unwrap().gone);
}

#[tokio::test]
async fn what_is_left_open_is_rolled_back_by_the_server() {
    let Some(server) = server() else { return };
    let mut scratch = open(&server).await;
    scratch.run("INSERT INTO customers (name) VALUES ('Ada')", &[], true).await.unwrap();
    drop(scratch);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'estoppel_replay'";
    let ended = move || {
        let is_over = || (server.sql("postgres", sessions) == "0").then_some(());
        until("the session ended", Duration::from_secs(30), is_over);
        server
    };
    let server = tokio::task::spawn_blocking(ended).await.unwrap();
    check_nothing_stays(&server);
}

#[tokio::test]
async fn what_is_not_recreated_is_counted() {
    let Some(server) = server() else { return };
    server.sql(
        "postgres",
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
         CREATE FUNCTION one() RETURNS int LANGUAGE sql IMMUTABLE RETURN 1;
         CREATE VIEW ones AS SELECT one();
         CREATE SCHEMA other; CREATE TABLE other.far (id int PRIMARY KEY);
         CREATE TABLE near (far int REFERENCES other.far)",
    );
    let scratch = open(&server).await;
    let expected = [("constraints", 1), ("functions", 2), ("triggers", 1), ("views", 1)];
    assert_eq!(
        scratch.not_recreated().iter().map(|(part, count)| (*part, *count)).collect::<Vec<_>>(),
        expected
    );
    assert!(scratch.close().await.unwrap().gone);
}
