//! How long a snapshot of a real Postgres takes, beside other ways to read a schema, in one interleaved run.
//!
//! Each round changes one function, so that the first snapshot after it prints the whole schema (`whole`) and the second finds the
//! catalog unchanged (`again`). Beside them: `pg_dump --schema-only`, the views of `information_schema`, and one question after the
//! other for each table (`n+1`), as naive tools ask. All but `pg_dump` use a warm connection over a socket.
//!
//! Exit code 5: of 100 tables, `whole` or `again` has a 95th percentile over 50 ms. `ROUNDS` (100) and `TABLES` (`100 500`) may be set.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot go on stops, and its output is what it is for"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use estoppel_kit::PostgresServer;
use estoppel_snapshot::{Dsn, Settings, Source};
use tokio_postgres::{Client, NoTls};

const BUDGET: Duration = Duration::from_millis(50);
const BUDGET_TABLES: usize = 100;
/// Columns of a table beside its key and two more, and how many of them have a default.
const COLUMNS: usize = 12;
const DEFAULTS: usize = 3;

/// What one way took, in each round.
struct Way {
    name: &'static str,
    took: Vec<Duration>,
}

impl Way {
    fn new(name: &'static str) -> Self {
        Self { name, took: Vec::new() }
    }

    /// Nearest rank.
    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let said = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let rounds: usize = said("ROUNDS", "100").parse().unwrap();
    let mut is_over = false;
    for tables in said("TABLES", "100 500").split_whitespace() {
        let tables = tables.parse().unwrap();
        let Some(ways) = measure(tables, rounds).await else { return ExitCode::SUCCESS };
        let base = ways[0].percentile(50);
        println!("\n{tables} tables, {rounds} rounds   median ms   95th   least   of `whole`");
        for way in &ways {
            let [median, late, least] = [50, 95, 1].map(|percent| way.percentile(percent));
            let ratio = median.as_secs_f64() / base.as_secs_f64();
            println!(
                "{:<28} {:>9.1} {:>6.1} {:>7.1} {ratio:>10.2}",
                way.name,
                ms(median),
                ms(late),
                ms(least)
            );
        }
        is_over |= tables == BUDGET_TABLES && ways[..2].iter().any(|way| way.percentile(95) > BUDGET);
    }
    ExitCode::from(if is_over { 5 } else { 0 })
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

async fn measure(tables: usize, rounds: usize) -> Option<Vec<Way>> {
    let server = PostgresServer::start()?;
    let url = server.url("postgres", "postgres");
    let settings = Settings {
        deadline: Duration::from_secs(30),
        statement: Duration::from_secs(30),
        ..Settings::default()
    };
    let (source, task) = Source::new(Dsn::parse(&url).unwrap(), settings);
    tokio::spawn(task.run());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&schema(tables)).await.unwrap();
    client.batch_execute("ANALYZE").await.unwrap();
    source.take().await.unwrap();

    let mut ways = ["whole", "again", "pg_dump --schema-only", "information_schema", "n+1"].map(Way::new);
    for round in 0..rounds {
        let body =
            format!("CREATE OR REPLACE FUNCTION changing() RETURNS int LANGUAGE sql AS 'SELECT {round}'");
        client.batch_execute(&body).await.unwrap();
        let [whole, again, dump, views, one_by_one] = &mut ways;
        for way in [whole, again] {
            let started = Instant::now();
            source.take().await.unwrap();
            way.took.push(started.elapsed());
        }
        // The slow ones a few times: they are there for the ratio.
        if round % 5 == 0 {
            let started = Instant::now();
            assert!(server.dump("postgres").contains("CREATE TABLE"));
            dump.took.push(started.elapsed());
            let started = Instant::now();
            information_schema(&client).await;
            views.took.push(started.elapsed());
            let started = Instant::now();
            each_table(&client, tables).await;
            one_by_one.took.push(started.elapsed());
        }
    }
    Some(ways.into())
}

fn schema(tables: usize) -> String {
    let mut sql = String::from("CREATE TYPE mood AS ENUM ('sad', 'happy');");
    for table in 0..tables {
        let default = |column: usize| if column < DEFAULTS { " DEFAULT 'x'" } else { "" };
        let columns: String =
            (0..COLUMNS).map(|column| format!(", c{column} text{}", default(column))).collect();
        sql += &format!(
            "CREATE TABLE t{table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, up bigint, feels mood{columns}, \
             CHECK (length(c0) < 100)); CREATE INDEX ON t{table} (c1); CREATE INDEX ON t{table} (lower(c2));"
        );
        if table > 0 {
            sql += &format!("ALTER TABLE t{table} ADD FOREIGN KEY (up) REFERENCES t{};", table - 1);
        }
        if table % 10 == 0 {
            sql += &format!("CREATE VIEW v{table} AS SELECT id, c0 FROM t{table} WHERE c1 = 'a';");
        }
    }
    sql
}

async fn information_schema(client: &Client) {
    for view in [
        "tables",
        "columns",
        "table_constraints",
        "key_column_usage",
        "referential_constraints",
        "check_constraints",
        "views",
    ] {
        let column = if matches!(view, "tables" | "columns" | "views" | "key_column_usage") {
            "table"
        } else {
            "constraint"
        };
        let all = format!("SELECT * FROM information_schema.{view} WHERE {column}_schema = 'public'");
        assert!(!client.query(&all, &[]).await.unwrap().is_empty(), "{view}");
    }
}

async fn each_table(client: &Client, tables: usize) {
    let listed = client
        .query("SELECT oid FROM pg_class WHERE relkind = 'r' AND relname ~ '^t[0-9]'", &[])
        .await
        .unwrap();
    assert_eq!(listed.len(), tables);
    for row in listed {
        let table: u32 = row.get(0);
        for question in [
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = $1 AND attnum > 0",
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1",
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = $1",
            "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = $1",
        ] {
            client.query(question, &[&table]).await.unwrap();
        }
    }
}
