//! Every version of PostgreSQL that is or was supported, and what its failures are called. The table of
//! docs/compatibility/postgres.md is what comes out.

#![allow(clippy::unwrap_used, reason = "a test that cannot read an answer fails")]

use std::path::Path;
use std::time::Duration;

use estoppel_kit::PostgresServer;
use estoppel_snapshot::{Dsn, RowSettings, Settings, Snapshot, SnapshotError, Source, State, examine};

const DDL: &str = "
    CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE \"C\" NOT NULL);
    CREATE TABLE orders (
        id serial PRIMARY KEY,
        customer bigint NOT NULL REFERENCES customers ON DELETE CASCADE,
        price bigint NOT NULL CHECK (price >= 0),
        placed timestamptz DEFAULT '2026-01-02 03:04:05+01'
    );
    CREATE INDEX by_price ON orders (price DESC, id) INCLUDE (customer);
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.placed := now(); RETURN NEW; END $$;
    CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
    ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
    CREATE POLICY mine ON orders FOR SELECT USING (customer = 7);
    CREATE TABLE parted (at date, n int) PARTITION BY RANGE (at);
    CREATE TABLE parted_2026 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    INSERT INTO parted VALUES ('2026-02-03', 4), ('2026-05-06', NULL);
    CREATE ROLE watcher LOGIN;
    GRANT SELECT ON parted, orders TO watcher;
";
const VERSIONS: std::ops::RangeInclusive<u32> = 12..=18;
const COLUMNS: [&str; 9] = [
    "whole",
    "rows: may be read, may not, policies of rows",
    "the log may not be asked",
    "a table is locked",
    "more relations than allowed",
    "another database of that name",
    "doctor",
    "it is a replica",
    "it is gone",
];

type Taken = Result<std::sync::Arc<Snapshot>, std::sync::Arc<SnapshotError>>;

fn settings() -> Settings {
    Settings { deadline: Duration::from_secs(30), statement: Duration::from_secs(20), ..Settings::default() }
}

fn source(url: &str, settings: Settings) -> Source {
    let (source, task) = Source::new(Dsn::parse(url).unwrap(), settings);
    tokio::spawn(task.run());
    source
}

/// The code of a snapshot before a call.
fn code(taken: &Taken) -> String {
    match taken {
        Ok(snapshot) if snapshot.before.is_none() || snapshot.after.is_none() => "`LSN_MISSING`".into(),
        Ok(_) => "taken".into(),
        Err(error) => format!("`{}` {}", error.reason().code(), error.cause().as_str()),
    }
}

/// What becomes of the rows of three tables.
async fn rows(url: &str) -> String {
    let tables = ["parted", "customers", "orders"].map(|table| table.parse().unwrap()).to_vec();
    let rows = RowSettings { tables, time_max: Duration::from_secs(20), ..RowSettings::default() };
    match source(url, Settings { rows, ..settings() }).take().await {
        Err(_) => "none".into(),
        Ok(snapshot) => {
            let rows = snapshot.schema.rows().unwrap();
            let of = |table: &str| {
                let (_, says) = rows.tables().find(|(name, _)| &*name.table == table).unwrap();
                let count = says["count"].as_u64().map(|count| format!("{count} rows"));
                count.unwrap_or_else(|| says["cause"].as_str().unwrap().to_owned())
            };
            ["parted", "customers", "orders"].map(of).join(", ")
        }
    }
}

/// What becomes of snapshots of one version, column by column, and the digest of the schema.
async fn tried(major: u32) -> Option<(Vec<String>, Option<String>)> {
    let mut server = PostgresServer::start_version(major)?;
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", DDL);
    let (ours, watchers) = (server.url("postgres", "shop"), server.url("watcher", "shop"));
    let whole = source(&watchers, settings()).take().await;
    let digest = whole.as_ref().ok().map(|snapshot| snapshot.schema.digest().to_string());
    let mut cells = vec![code(&whole), rows(&watchers).await];

    server.sql("shop", "REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC");
    cells.push(code(&source(&watchers, settings()).take().await));
    server.sql("shop", "GRANT EXECUTE ON FUNCTION pg_current_wal_insert_lsn() TO PUBLIC");

    let lock = server.lock("shop", "orders");
    cells.push(code(&source(&ours, settings()).take().await));
    drop(lock);

    cells.push(code(&source(&ours, Settings { relations_max: 2, ..settings() }).take().await));

    let known = source(&ours, settings());
    let _ = known.take().await; // of a version that is refused there is none
    let sessions =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'estoppel-snapshot'";
    server.sql("postgres", sessions);
    server.sql("postgres", "DROP DATABASE shop");
    server.sql("postgres", "CREATE DATABASE shop");
    cells.push(code(&known.take().await));

    let checks = examine(&Dsn::parse(&watchers).unwrap(), &settings(), &[]).await;
    let is = |state| checks.iter().any(|check| check.state == state);
    let said = match (is(State::Bad), is(State::BestEffort)) {
        (true, _) => "refused",
        (false, true) => "only with `--allow-best-effort`",
        (false, false) => "fit",
    };
    cells.push(said.into());

    server.crash();
    server.restart_as_replica();
    cells.push(code(&source(&ours, settings()).take().await));

    server.crash();
    cells.push(code(&source(&ours, settings()).take().await));
    Some((cells, digest))
}

#[tokio::test]
async fn every_version_is_what_the_table_says() {
    let mut table =
        format!("| Postgres | {} |\n|---|{}\n", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len()));
    let mut digests = Vec::new();
    for major in VERSIONS {
        let Some((cells, digest)) = tried(major).await else { return };
        table.push_str(&format!("| {major} | {} |\n", cells.join(" | ")));
        digests.extend(digest);
    }
    assert!(digests.len() == 6 && digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility/postgres.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- versions -->\n").unwrap();
    let (stated, after) = rest.split_once("<!-- /versions -->\n").unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = format!("{before}<!-- versions -->\n{table}<!-- /versions -->\n{after}");
        std::fs::write(&page, text).unwrap();
    } else {
        assert_eq!(stated, table, "UPDATE_GOLDEN=1 writes docs/compatibility/postgres.md");
    }
}
