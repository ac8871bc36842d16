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
