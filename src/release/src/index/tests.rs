use std::time::Duration;

use serde_json::json;

use super::*;
use crate::code::Code;
use crate::generation::StageName;
use crate::ledger::Outcome;
use crate::scene::{Scene, climb, document};

/// One red run, then one of each change that passed, and a second generation that nobody has run.
fn ledger() -> Ledger {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "test -e no", "true"));
    scene.evolve("1.0.0", &[]);
    scene.evolve("1.0.0", &["B-2"]);
    scene.amend(document("1.0.0", "true", "true"));
    scene.evolve("1.0.0", &["A-1"]);
    scene.seal(document("1.1.0", "true", "true"));
    scene.store().read().unwrap()
}

fn code(index: &Index, sql: &str) -> Code {
    index.query(sql).unwrap_err().code
}

#[test]
fn a_question_is_answered_from_what_the_ledger_has() {
    let ledger = ledger();
    let index = Index::of(&ledger).unwrap();
    let kinds = index.query("SELECT kind, count(*) FROM events GROUP BY kind ORDER BY kind").unwrap();
    let sum: i64 = kinds.rows.iter().map(|row| if let Cell::Whole(count) = row[1] { count } else { 0 }).sum();
    assert_eq!(usize::try_from(sum).unwrap(), ledger.events().len());
    let text = |text: &str| Cell::Text(text.into());
    let runs = index.query("SELECT result, tag FROM evolutions ORDER BY started_at").unwrap();
    assert_eq!(runs.rows[0], [text("FAILED"), Cell::Null]);
    assert_eq!(runs.rows[1], [text("PASSED"), text("v1.0.0-rc.1")]);
    let head = index.query("SELECT head FROM ledger").unwrap();
    assert_eq!(head.rows, [[text(&ledger.head().to_string())]]);
    let changes = index.query("SELECT id, proven FROM changes WHERE version = '1.0.0' ORDER BY id").unwrap();
    assert_eq!(changes.rows, [[text("A-1"), Cell::Whole(1)], [text("B-2"), Cell::Whole(1)]]);
    assert_eq!(
        index.query("WITH x(a) AS (VALUES (1)) SELECT a FROM x -- one").unwrap().rows,
        [[Cell::Whole(1)]]
    );
}

#[test]
fn nothing_is_written_attached_or_left_running() {
    let index = Index::of(&ledger()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("out.db").display().to_string();
    for sql in [
        "INSERT INTO ledger VALUES ('a', 'b', 1)",
        "UPDATE generations SET status = 'promoted'",
        "DELETE FROM events",
        "DROP TABLE events",
        "CREATE TABLE x (a)",
        "WITH x AS (SELECT 1) INSERT INTO ledger SELECT 'a', 'b', 1 FROM x",
        "INSERT INTO ledger VALUES ('a', 'b', 1) RETURNING head",
        "BEGIN IMMEDIATE",
        "BEGIN",
        &format!("ATTACH '{file}' AS other"),
        &format!("VACUUM INTO '{file}'"),
    ] {
        assert_eq!(code(&index, sql), Code::QueryWrites, "{sql}");
    }
    for sql in [
        "",
        "-- nothing",
        "SELEC 1",
        "SELECT nothing FROM events",
        "SELECT 1; SELECT 2",
        "SELECT load_extension('x')",
    ] {
        assert_eq!(code(&index, sql), Code::QueryInvalid, "{sql}");
    }
    assert!(!std::path::Path::new(&file).exists());
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let late = index.query_within(endless, Duration::from_millis(50)).unwrap_err();
    assert_eq!(late.code, Code::QueryTime);
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10001) SELECT i FROM n";
    assert_eq!(code(&index, many), Code::QueryRowsMax);
    assert_eq!(code(&index, "SELECT zeroblob(9000000)"), Code::QueryRowsMax);
    assert!(index.query("SELECT count(*) FROM events").is_ok());
}

#[test]
fn figures_are_what_a_recount_of_the_ledger_gives() {
    let ledger = ledger();
    let index = Index::of(&ledger).unwrap();
    let version: crate::Version = "1.0.0".parse().unwrap();
    let ended: Vec<Outcome> = ledger.finished(&version).map(|(_, run)| run.result).collect();
    let passed = ended.iter().filter(|result| **result == Outcome::Passed).count();
    let rate = index.metric("pass_rate", Some(&version)).unwrap();
    assert_eq!(
        (rate.part, rate.whole),
        (i64::try_from(passed).unwrap(), i64::try_from(ended.len()).unwrap())
    );
    assert_eq!((rate.part, rate.whole), (2, 3));
    assert_eq!(rate.value, Some(2.0 / 3.0));
    let none = index.metric("pass_rate", Some(&"1.1.0".parse().unwrap())).unwrap();
    assert_eq!((none.whole, none.value), (0, None));
    assert_eq!(index.metric("proven_rate", None).unwrap().part, 2);
    for (name, _, _) in METRICS {
        assert!(index.metric(name, None).is_ok(), "{name}");
    }
    assert_eq!(index.metric("luck", None).unwrap_err().code, Code::MetricUnknown);
}

#[test]
fn rows_of_a_file_cannot_be_changed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("index.sqlite");
    let index = Index::of(&ledger()).unwrap();
    index.write(&path).unwrap();
    assert_eq!(index.write(&path).unwrap_err().code, Code::IndexExists);
    let db = Connection::open(&path).unwrap();
    for sql in [
        "UPDATE generations SET status = 'promoted'",
        "DELETE FROM events",
        "INSERT INTO gates SELECT id, 'a', 'pass', 'b' FROM events",
        "INSERT OR REPLACE INTO ledger VALUES ('a', 'b', 1)",
    ] {
        assert!(db.execute(sql, []).unwrap_err().to_string().contains("are not changed"), "{sql}");
    }
    let required = "SELECT count(*) FROM pragma_table_info('evolutions') WHERE \"notnull\" = 1 \
                    AND name IN ('commit', 'contract', 'nonce', 'runner')";
    assert_eq!(db.query_row(required, [], |row| row.get::<_, i64>(0)).unwrap(), 4);
    assert_eq!(index.query("SELECT count(*) FROM ledger").unwrap().rows, [[Cell::Whole(1)]]);
}

#[test]
fn a_standing_says_what_is_proven_now() {
    let scene = Scene::new();
    scene.seal(document("1.0.0", "true", "test -e no"));
    scene.evolve("1.0.0", &["A-1"]);
    scene.evolve("1.0.0", &["B-2"]);
    let now = |scene: &Scene| standings(&scene.store().read().unwrap()).remove(0);
    let proven = |scene: &Scene| now(scene).changes.iter().map(|change| change.proven).collect::<Vec<_>>();
    assert_eq!(proven(&scene), [true, false]);
    assert_eq!(now(&scene).last.unwrap().result, Outcome::Failed);
    assert_eq!(now(&scene).passed_of_hundred(), Some(50));
    scene.amend(document("1.0.0", "echo", "test -e no"));
    assert_eq!(proven(&scene), [false, false], "the proof was of another contract");
    scene.evolve("1.0.0", &["A-1"]);
    assert_eq!(proven(&scene), [true, false]);
    assert_eq!(now(&scene).tag.as_deref(), Some("v1.0.0-rc.2"));
}

#[test]
fn the_next_stage_is_that_of_the_latest_candidate() {
    let scene = Scene::new();
    let mut contract = document("1.0.0", "true", "true");
    contract["stages"] = json!([{ "stage": "alpha" }, { "stage": "beta" }, { "stage": "final" }]);
    scene.seal(contract);
    let next = || {
        let standing = standings(&scene.store().read().unwrap()).remove(0);
        (standing.next_stage, standing.stage.map(|(_, tag)| tag))
    };
    assert_eq!(next(), (StageName::Alpha, None));
    scene.evolve("1.0.0", &[]);
    climb(&scene, "1.0.0", StageName::Alpha);
    assert_eq!(next(), (StageName::Beta, Some("v1.0.0-alpha.1".into())));
    scene.commit("f", "mended");
    scene.evolve("1.0.0", &[]);
    assert_eq!(next(), (StageName::Alpha, Some("v1.0.0-alpha.1".into())));
}
