//! `estoppel doctor --pg` against a real PostgreSQL.

use std::process::Command;

use estoppel_kit::PostgresServer;

use crate::support::{cli, cli_binary};

#[test]
fn the_sql_that_the_doctor_suggests_turns_its_findings_green() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE ROLE watcher LOGIN; REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_current_wal_insert_lsn() FROM PUBLIC",
    );
    let url = server.url("watcher", "postgres");
    let seen = Command::new(cli_binary()).args(["doctor", "--pg", &url, "--suggest-fixes"]).output().unwrap();
    let text = String::from_utf8(seen.stdout).unwrap();
    assert_eq!(seen.status.code(), Some(7), "{text}");
    let grants: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("GRANT")).collect();
    assert_eq!(grants.len(), 2, "{text}");
    for grant in grants {
        server.sql("postgres", grant);
    }
    let (code, said) = cli(&["doctor", "--pg", &url]);
    assert_eq!(code, 0, "{said}");
    assert!(said.to_string().contains("a snapshot of 0 relations took"), "{said}");
}

#[test]
fn the_sql_that_the_doctor_prints_lets_snapshots_have_digests_of_rows() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE SCHEMA \"my shop\"; CREATE TABLE \"my shop\".\"Or\"\"ders\" (id int, note text); INSERT INTO \"my shop\".\"Or\"\"ders\" VALUES (1, 'a'), (2, 'b'); \
         CREATE TABLE hidden (id int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE TABLE partly (id int, note text); \
         CREATE ROLE watcher LOGIN; GRANT SELECT ON hidden TO watcher; GRANT SELECT (id) ON partly TO watcher",
    );
    let url = server.url("watcher", "postgres");
    let tables = ["my shop.Or\"ders", "hidden", "partly"];
    let ask = |tables: &[&str]| cli(&[&["doctor", "--pg", &url, "--rows"], tables].concat());
    let (exit, said) = ask(&tables);
    assert_eq!(exit, 7, "{said}");
    let findings = said["data"]["findings"].as_array().unwrap();
    let fixes: Vec<&str> = findings.iter().filter_map(|finding| finding["fix"].as_str()).collect();
    let expected = [
        r#"GRANT USAGE ON SCHEMA "my shop" TO "watcher";"#,
        r#"GRANT SELECT ON "my shop"."Or""ders" TO "watcher";"#,
        r#"ALTER ROLE "watcher" BYPASSRLS;"#,
        r#"GRANT SELECT ON "public"."partly" TO "watcher";"#,
    ];
    assert_eq!(fixes, expected, "{said}");
    let words = [&["doctor", "--pg", &url, "--suggest-fixes", "--rows"], &tables[..]].concat();
    let told = Command::new(cli_binary()).args(words).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(expected.iter().all(|fix| told.contains(fix)), "{told}");
    for fix in fixes {
        server.sql("postgres", fix);
    }
    let (exit, said) = ask(&tables);
    assert_eq!(exit, 0, "{said}");
    for (table, rows) in tables.iter().zip([2, 0, 0]) {
        let schema = if table.contains('.') { "" } else { "public." };
        let what = format!("snapshots can have digests of the {rows} rows of {schema}{table}");
        let findings = said["data"]["findings"].as_array().unwrap();
        assert!(
            findings.iter().any(|finding| finding["what"] == what && finding["state"] == "ok"),
            "{what}: {said}"
        );
    }
}

#[test]
fn what_cannot_be_mended_by_sql_is_said_of_a_table_s_rows() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql(
        "postgres",
        "CREATE TABLE many AS SELECT generate_series(1, 10001) n; CREATE TABLE few (n int); CREATE INDEX of_few ON few (n)",
    );
    let url = server.url("postgres", "postgres");
    for (table, exit, why) in [
        ("gone", 7, "there is no table public.gone"),
        ("Few", 7, "there is no table public.Few"),
        ("of_few", 7, "public.of_few is no table"),
        ("many", 0, "rows of public.many were not read: rows_max"),
        ("few", 0, "digests of the 0 rows of public.few"),
    ] {
        let (code, said) = cli(&["doctor", "--pg", &url, "--rows", table]);
        assert!(code == exit && said.to_string().contains(why), "{table}: {code} {said}");
    }
    let done = Command::new(cli_binary()).args(["doctor", "--pg", &url, "--rows", "a.b.c"]).output().unwrap();
    assert_eq!(done.status.code(), Some(6));
}

#[test]
fn a_version_at_the_end_of_its_support_has_to_be_allowed() {
    for (major, exit, allowed) in [(12, 7, 7), (13, 7, 0), (14, 7, 0), (15, 0, 0), (18, 0, 0)] {
        let Some(server) = PostgresServer::start_version(major) else { return };
        server.sql("postgres", "CREATE ROLE watcher LOGIN");
        let url = server.url("watcher", "postgres");
        assert_eq!(cli(&["doctor", "--pg", &url]).0, exit, "{major}");
        let (code, said) = cli(&["doctor", "--pg", &url, "--allow-best-effort"]);
        assert_eq!(code, allowed, "{major}: {said}");
        assert!(said.to_string().contains(&format!("Postgres {major}")), "{said}");
    }
}

#[test]
fn what_is_no_database_is_refused_without_showing_it() {
    for url in ["postgresql://ada:hunter2@db/shop?sslmode=prefer", "mysql://ada:hunter2@db/shop"] {
        let (code, said) = cli(&["doctor", "--pg", url]);
        assert_eq!((code, &said["error"]["code"]), (6, &"ARGUMENT_INVALID".into()), "{said}");
        assert!(!said.to_string().contains("hunter2"), "{said}");
    }
}
