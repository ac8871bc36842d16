//! What a snapshot of a real Postgres costs, beside other ways to read a schema, in one interleaved run.
//!
//! Each round changes a default, so that the first snapshot after it prints the whole schema (`whole`), the second sees that nobody has
//! written since (`unchanged`), and a third, after somebody wrote a row, that the catalog is the same (`written`). Beside them:
//! `pg_dump --schema-only`, the views of `information_schema`, and one question after the other for each table (`n+1`), as
//! naive tools ask. All but `pg_dump` use a warm connection over a socket. CPU is that of client and server together.
//!
//! Exit code 5: one takes a larger part of the CPU of `n+1` than `GATES` says. Times are told, and judge nothing.
//! `ROUNDS` (100) and `TABLES` (`100 500`) may be set.

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

/// What a way may cost of what `n+1` does, in CPU.
const GATES: [(&str, f64); 3] = [("whole", 1.0 / 2.0), ("written", 1.0 / 8.0), ("unchanged", 1.0 / 8.0)];
/// Columns of a table beside its key and two more, and how many of them have a default.
const COLUMNS: usize = 12;
const DEFAULTS: usize = 3;
/// The kernel's, in which it tells what children used.
const TICK: Duration = Duration::from_millis(10);

/// What one way took, in each round.
struct Way {
    name: &'static str,
    took: Vec<Duration>,
    cpu: Duration,
}

impl Way {
    fn new(name: &'static str) -> Self {
        Self { name, took: Vec::new(), cpu: Duration::ZERO }
    }

    /// Nearest rank.
    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    }

    fn mean_cpu(&self) -> Duration {
        self.cpu / u32::try_from(self.took.len()).unwrap().max(1)
    }

    async fn measure<T>(&mut self, cpu: impl Fn() -> Duration, work: impl Future<Output = T>) {
        let (before, started) = (cpu(), Instant::now());
        work.await;
        self.took.push(started.elapsed());
        // What a session used that has ended is told once the server has noticed its end.
        tokio::time::sleep(TICK).await;
        self.cpu += cpu() - before;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let said = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let rounds: usize = said("ROUNDS", "100").parse().unwrap();
    let mut is_over = false;
    for tables in said("TABLES", "100 500").split_whitespace() {
        let Some(ways) = measure(tables.parse().unwrap(), rounds).await else { return ExitCode::SUCCESS };
        let naive = ways.iter().find(|way| way.name == "n+1").unwrap().mean_cpu().as_secs_f64();
        println!("\n{tables} tables, {rounds} rounds   median ms   95th   least     CPU   of n+1");
        for way in &ways {
            let [median, late, least] = [50, 95, 1].map(|percent| ms(way.percentile(percent)));
            let (cpu, ratio) = (ms(way.mean_cpu()), way.mean_cpu().as_secs_f64() / naive);
            println!("{:<28} {median:>9.1} {late:>6.1} {least:>7.1} {cpu:>7.1} {ratio:>8.3}", way.name);
            is_over |= GATES.iter().any(|(name, most)| *name == way.name && ratio > *most);
        }
    }
    ExitCode::from(if is_over { 5 } else { 0 })
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What a thread or a process of one has used.
fn cpu_of(task: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{task}/schedstat")).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// What children of a process used that have ended.
fn cpu_of_children(process: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after_name = text.rsplit_once(')').unwrap().1;
    let ticks = after_name.split_whitespace().skip(13).take(2).map(|ticks| ticks.parse::<u32>().unwrap());
    TICK * ticks.sum::<u32>()
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
    for change in ["ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()", &schema(tables), "ANALYZE"]
    {
        client.batch_execute(change).await.unwrap();
    }
    source.take().await.unwrap();
    let of_source = "SELECT pid::text FROM pg_stat_activity WHERE application_name = 'estoppel-snapshot'";
    let source_pid = server.sql("postgres", of_source);
    let client_pid: String = client.query_one("SELECT pg_backend_pid()::text", &[]).await.unwrap().get(0);
    let first = server.sql("postgres", "SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)");
    let with = |backend: String| move || cpu_of("thread-self") + cpu_of(&backend);
    let (of_source, of_client) = (with(source_pid), with(client_pid));
    let of_children = || cpu_of_children("self") + cpu_of_children(&first);

    let names = ["whole", "unchanged", "written", "pg_dump --schema-only", "information_schema", "n+1"];
    let mut ways = names.map(Way::new);
    let [whole, unchanged, written, dump, views, one_by_one] = &mut ways;
    for round in 0..rounds {
        let change = format!("ALTER TABLE t{} ALTER c0 SET DEFAULT '{round}'", round % tables);
        client.batch_execute(&change).await.unwrap();
        whole.measure(&of_source, async { source.take().await.unwrap() }).await;
        unchanged.measure(&of_source, async { source.take().await.unwrap() }).await;
        client.batch_execute("INSERT INTO t0 DEFAULT VALUES").await.unwrap();
        written.measure(&of_source, async { source.take().await.unwrap() }).await;
        // The slow ones a few times: they are there for the ratio.
        if round % 5 == 0 {
            let dumped = async { assert!(server.dump("postgres").contains("CREATE TABLE")) };
            dump.measure(of_children, dumped).await;
            views.measure(&of_client, information_schema(&client)).await;
            one_by_one.measure(&of_client, each_table(&client, tables)).await;
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
