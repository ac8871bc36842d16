//! Recorded SQL of tools, run again in a scratch schema of a real Postgres, of which nothing stays.

use std::path::Path;
use std::process::{Command, Stdio};

use estoppel_evidence::SoftKey;
use estoppel_evidence::envelope::{STATEMENT_TYPE, from_base64, sign};
use estoppel_kit::{PostgresServer, until};
use estoppel_stub::{Body, Reply, Rule, Script};
use serde_json::{Value, json};

use crate::mcp_values::post;
use crate::replay::Recording;
use crate::replay_tolerance::verified_twice;
use crate::support::{PATIENCE, Setup, World, cli, cli_binary, path};

const SHOP: &str = "
    CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
    CREATE TABLE orders (
        id serial PRIMARY KEY,
        customer bigint NOT NULL REFERENCES customers,
        price numeric(10, 2) CHECK (price > 0),
        placed timestamptz NOT NULL DEFAULT now()
    );
    CREATE ROLE estoppel_replay LOGIN;
    GRANT CREATE ON DATABASE postgres TO estoppel_replay;
";
const SQL: &str = "tool=query,argument=/sql,result=/structuredContent/rows";

/// A statement of the tool and what the tool gave: rows, or none where it failed.
type Step = (&'static str, Option<Value>);

fn server() -> Option<PostgresServer> {
    let server = PostgresServer::start()?;
    server.sql("postgres", SHOP);
    Some(server)
}

/// Calls of a tool that runs SQL, behind a gateway that looks at the database if `looks`.
fn recording(server: &PostgresServer, looks: bool, steps: &[Step]) -> Recording {
    let step =
        |(sql, rows): &Step| (json!({ "sql": sql }), rows.as_ref().map(|rows| json!({ "rows": rows })));
    let steps: Vec<_> = steps.iter().map(step).collect();
    recording_of(server, looks, &steps)
}

/// The same, of whole arguments and of all that the tool's answer held.
fn recording_of(server: &PostgresServer, looks: bool, steps: &[(Value, Option<Value>)]) -> Recording {
    let mut script = Script::always(Reply::default().status(404));
    for (at, (_, answer)) in steps.iter().enumerate() {
        let result = match answer {
            Some(answer) => json!({"content": [], "structuredContent": answer}),
            None => json!({"content": [{"type": "text", "text": "refused"}], "isError": true}),
        };
        let answer = json!({"jsonrpc": "2.0", "id": at, "result": result}).to_string();
        let reply = Reply::new(Body::Text(answer)).header("content-type", "application/json");
        let id = format!("\"id\":{at},");
        script = script.on(Rule { body_contains: Some(id), ..Rule::any("", reply) });
    }
    let secrets = estoppel_kit::Scratch::new("url");
    let file = secrets.write("shop.url", server.url("postgres", "postgres"));
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private).unwrap();
    let snapshot = if looks { ", snapshot: { source: shop, mode: enforce }" } else { "" };
    let setup = Setup {
        policy: format!(
            "version: 1\nname: t\ndefaults: {{ verdict: allow, on_not_evaluated: allow, body_storage: {{ full: {{ reason: replay }} }}{snapshot} }}\n"
        ),
        config: format!(
            "[[database]]\nname = \"shop\"\nurl_file = {file:?}\ngrace_ms = 8000\nlock_ms = 8000\n"
        ),
        ..Setup::default()
    };
    let world = World::with(script, &setup);
    for (at, (arguments, _)) in steps.iter().enumerate() {
        let params = json!({"name": "query", "arguments": arguments});
        let call = format!(r#"{{"jsonrpc":"2.0","id":{at},"method":"tools/call","params":{params}}}"#);
        assert_eq!(world.send(&post(&call)).status(), 200, "{arguments}");
    }
    Recording::of(world, "mcp")
}

fn run(server: &PostgresServer, recording: &Recording, name: &str, more: &[&str]) -> (i32, Value) {
    run_by(SQL, server, recording, name, more)
}

fn run_by(
    sql: &str,
    server: &PostgresServer,
    recording: &Recording,
    name: &str,
    more: &[&str],
) -> (i32, Value) {
    let url = server.url("estoppel_replay", "postgres");
    let words = ["--db", &url, "--sql", sql, "--statement-ms", "60000"];
    recording.run(&recording.bundle, name, &[&words, more].concat())
}

fn check_nothing_stays(server: &PostgresServer) {
    let ask = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'estoppel_replay%'), \
               (SELECT count(*) FROM orders), (SELECT is_called FROM orders_id_seq)";
    assert_eq!(server.sql("postgres", ask), "0|0|f");
}

#[test]
fn statements_run_again_in_the_recorded_schema_and_nothing_of_them_stays() {
    let Some(server) = server() else { return };
    let recording = recording(
        &server,
        true,
        &[
            (
                "INSERT INTO customers (name) VALUES ('Ada'), ('Bob') RETURNING id",
                Some(json!([{"id": 1}, {"id": 2}])),
            ),
            ("INSERT INTO orders (customer, price) VALUES (2, 12.5)", Some(json!([]))),
            ("INSERT INTO customers (name) VALUES ('Ada')", None),
            (
                "SELECT c.name, o.price FROM orders o JOIN customers c ON c.id = o.customer ORDER BY o.id",
                Some(json!([{"name": "Bob", "price": "12.50"}])),
            ),
            ("ALTER TABLE orders ADD COLUMN note text", Some(json!([]))),
            ("SELECT note, customer FROM orders", Some(json!([[null, 2]]))),
        ],
    );
    // What is there today is not what was recorded.
    server.sql("postgres", "ALTER TABLE customers DROP COLUMN name CASCADE");
    let (code, certificate) = run(&server, &recording, "c.json", &[]);
    assert_eq!((code, &certificate["status"]), (0, &json!("success")), "{certificate}");
    assert_eq!((&certificate["mode"], &certificate["counts"]["matched"]), (&json!("database"), &json!(6)));
    let database = &certificate["database"];
    assert_eq!((&database["kept"], &database["gone"]), (&json!(true), &json!(true)));
    assert_eq!((&database["statements"], &database["schema_from"]), (&json!(6), &json!("bundle")));
    assert_eq!(database["server"]["user"], "estoppel_replay");
    assert_eq!(database["compared"], json!({"counts": 0, "rows": 5}), "one failed as it had");
    check_nothing_stays(&server);
    let (code, said) = recording.verify(&recording.out("c.json"), &recording.bundle, &[]);
    assert_eq!((code, &said["status"]), (0, &json!("success")), "{said}");
    check_forgeries(&recording, &recording.out("c.json"));
}

fn check_forgeries(recording: &Recording, certificate: &Path) {
    let envelope: Value = serde_json::from_slice(&std::fs::read(certificate).unwrap()).unwrap();
    let payload = from_base64(envelope["payload"].as_str().unwrap()).unwrap();
    let database = "/predicate/database";
    for (pointer, value, code) in [
        ("/kept", json!(false), "CERTIFICATE_STATUS"),
        ("/gone", json!(false), "CERTIFICATE_STATUS"),
        ("/not_recreated", json!([{"count": 1, "part": "views"}]), "CERTIFICATE_STATUS"),
        ("/denied", json!([{"count": 1, "code": "LOCK"}]), "CERTIFICATE_STATUS"),
        ("/sources", json!([{"argument": "/sql", "tool": "other"}]), "CERTIFICATE_MISMATCH"),
        ("/statements", json!(-1), "CERTIFICATE_SCHEMA"),
        ("/compared", json!({"counts": 0, "rows": 7}), "CERTIFICATE_STATUS"),
        ("/compared/rows", json!("6"), "CERTIFICATE_SCHEMA"),
        ("", Value::Null, "CERTIFICATE_SCHEMA"),
    ] {
        let mut statement: Value = serde_json::from_slice(&payload).unwrap();
        *statement.pointer_mut(&format!("{database}{pointer}")).unwrap() = value;
        let signed = sign(STATEMENT_TYPE, statement.to_string().as_bytes(), &SoftKey::ed25519(&[9; 32]));
        let file = recording.scratch.write("forged.json", String::from_utf8(signed.unwrap()).unwrap());
        assert_eq!(verified_twice(recording, &file), (2, Some(code.to_owned())), "{pointer}");
    }
}

#[test]
fn rows_that_differ_fail_at_their_call_and_place() {
    let Some(server) = server() else { return };
    let recording = recording(
        &server,
        true,
        &[
            ("INSERT INTO customers (name) VALUES ('Ada')", Some(json!([]))),
            ("SELECT id, name FROM customers", Some(json!([{"id": 1, "name": "Eve"}]))),
            ("INSERT INTO orders (customer, price) VALUES (1, -1)", Some(json!([]))),
            (
                "SELECT name, now() AS at FROM customers",
                Some(json!([{"name": "Ada", "at": "2020-01-01T00:00:00Z"}])),
            ),
        ],
    );
    let (code, certificate) = run(&server, &recording, "c.json", &[]);
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")), "{certificate}");
    assert_eq!(certificate["counts"]["drift"], json!([{"code": "DB_DRIFT", "count": 2}]));
    assert_eq!(certificate["counts"]["skipped"], json!([{"code": "UNDECIDED", "count": 1}]), "the time");
    let first = &certificate["divergences"][0];
    assert_eq!((&first["code"], &first["at"]), (&json!("DB_DRIFT"), &json!(["/0/name"])));
    assert_eq!((&first["seq"], &certificate["first_divergent_seq"]), (&json!(2), &json!(2)));
    check_nothing_stays(&server);
    assert_eq!(recording.verify(&recording.out("c.json"), &recording.bundle, &[]).1["status"], "failed");
    let rules = json!({"normalize": [{"as": "any", "at": "/*/name"}, {"as": "time", "at": "/*/at"}], "v": "replay-normalizers/v0"});
    let file = recording.scratch.write("normalizers.json", rules.to_string());
    let (_, certificate) = run(&server, &recording, "n.json", &["--normalizers", path(&file)]);
    assert_eq!(certificate["counts"]["matched"], 3, "{certificate}");
}

#[test]
fn statements_run_again_with_their_parameters_and_nothing_in_these_is_code() {
    let Some(server) = server() else { return };
    let hostile = "'); DROP TABLE public.orders; COMMIT; --";
    let with = |sql: &str, params: Value| json!({ "sql": sql, "params": params });
    let rows = |rows: Value| Some(json!({ "rows": rows }));
    let recording = recording_of(
        &server,
        false,
        &[
            (
                with("INSERT INTO customers (name) VALUES ($1) RETURNING id", json!([hostile])),
                rows(json!([{"id": 1}])),
            ),
            (with("SELECT name FROM customers WHERE id = $1", json!([1])), rows(json!([{"name": hostile}]))),
            (
                with("INSERT INTO orders (customer, price) VALUES ($1, $2)", json!([1, "12.50"])),
                rows(json!([])),
            ),
            (
                with(
                    "SELECT price FROM orders WHERE price > $1 AND customer = ANY ($2)",
                    json!([12, [1, 2]]),
                ),
                rows(json!([{"price": "12.50"}])),
            ),
            (with("SELECT price FROM orders WHERE customer = $1", json!(["1 OR true"])), None),
            (with("SELECT price FROM orders WHERE customer = $1", json!(["nobody"])), rows(json!([]))),
            (
                with("SELECT count(*) FROM customers WHERE name = $1", json!([null])),
                rows(json!([{"count": 1}])),
            ),
            (with("SELECT count(*) FROM customers WHERE name = $1", json!(["a\u{0}b"])), None),
            (with("SELECT name FROM customers WHERE id = $1", json!([])), rows(json!([]))),
            (with("SELECT name FROM customers WHERE id = $1", json!([1, 2])), None),
            (with("SELECT name FROM customers WHERE id = $1", json!({"1": 1})), rows(json!([]))),
            (
                with("SELECT $1::timestamptz > now() AS late", json!(["2020-01-01"])),
                rows(json!([{"late": true}])),
            ),
            (with("SELECT nextval($1)", json!(["public.orders_id_seq"])), rows(json!([{"nextval": 1}]))),
            (with("SELECT $1; COMMIT", json!([1])), rows(json!([]))),
            (with("COPY orders TO STDOUT", json!([])), rows(json!([]))),
            (with("DO $$ BEGIN END $$", json!([])), rows(json!([]))),
            (with("SELECT 'a\u{0}b'", json!([])), rows(json!([]))),
            (with("SELECT * FROM public.orders WHERE id = $1", json!([1])), rows(json!([]))),
            (json!({ "sql": "SELECT count(*) FROM customers" }), rows(json!([{"count": "1"}]))),
        ],
    );
    let by = "tool=query,argument=/sql,parameters=/params,result=/structuredContent/rows";
    let (code, certificate) = run_by(by, &server, &recording, "c.json", &[]);
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")), "{certificate}");
    let counts = &certificate["counts"];
    assert_eq!((&counts["recorded"], &counts["matched"]), (&json!(19), &json!(7)), "{certificate}");
    assert_eq!(counts["drift"], json!([{"code": "DB_DRIFT", "count": 2}]), "{certificate}");
    let skipped = json!([{"code": "STATEMENT_DENIED", "count": 6}, {"code": "UNDECIDED", "count": 4}]);
    assert_eq!(counts["skipped"], skipped, "{certificate}");
    let at =
        |place: usize| (&certificate["divergences"][place]["seq"], &certificate["divergences"][place]["at"]);
    assert_eq!(at(0), (&json!(6), &Value::Null), "a text is no number, and had been none");
    assert_eq!(at(1), (&json!(7), &json!(["/0/count"])), "NULL is equal to nothing");
    let one = |code: &str| json!({"code": code, "count": 1});
    let denied = ["CODE", "EGRESS", "ROLE", "SEQ", "SEVERAL", "UNREADABLE"].map(one);
    let database = &certificate["database"];
    assert_eq!(database["denied"], json!(denied));
    assert_eq!(database["sources"][0]["parameters"], "/params");
    assert_eq!((&database["kept"], &database["gone"]), (&json!(true), &json!(true)));
    check_nothing_stays(&server);
    assert_eq!(recording.verify(&recording.out("c.json"), &recording.bundle, &[]).1["status"], "failed");
    let (_, certificate) = run(&server, &recording, "without.json", &[]);
    assert_eq!(certificate["counts"]["matched"], 0, "without them nobody knows: {certificate}");
}

#[test]
fn what_is_compared_is_said_and_what_is_not_never_counts_as_equal() {
    let Some(server) = server() else { return };
    let sql = |sql: &str| json!({ "sql": sql });
    let names = "SELECT name FROM customers ORDER BY id";
    let recording = recording_of(
        &server,
        true,
        &[
            (sql("INSERT INTO customers (name) VALUES ('Ada'), ('Bob')"), Some(json!({"tag": "INSERT 0 2"}))),
            (sql(names), Some(json!({"rows": [["Ada"], ["Bob"]], "tag": "SELECT 2"}))),
            (
                sql("SELECT ARRAY[name] AS names FROM customers"),
                Some(json!({"rows": [[["Ada"]], [["Bob"]]]})),
            ),
            (sql(names), Some(json!({"text": "Ada, Bob"}))),
            (sql(names), Some(json!({"rows": [["Ada"], ["Bob"]], "tag": "many"}))),
        ],
    );
    let both = "tool=query,argument=/sql,result=/structuredContent/rows,count=/structuredContent/tag";
    let (code, certificate) = run_by(both, &server, &recording, "both.json", &[]);
    assert_eq!((code, &certificate["status"]), (5, &json!("partial")), "{certificate}");
    let not_compared = |count: u64| json!([{"code": "NOT_COMPARED", "count": count}]);
    assert_eq!(certificate["counts"]["skipped"], not_compared(3));
    assert_eq!(certificate["reasons"], json!(["NOT_COMPARED"]));
    assert_eq!(certificate["database"]["compared"], json!({"counts": 2, "rows": 1}));
    let verify =
        |name: &str| recording.verify(&recording.out(name), &recording.bundle, &[]).1["status"].clone();
    assert_eq!(verify("both.json"), "partial");
    assert_eq!(verified_twice(&recording, &recording.out("both.json")), (0, None));
    let (code, certificate) = run_by("tool=query,argument=/sql", &server, &recording, "none.json", &[]);
    assert_eq!((code, &certificate["status"]), (5, &json!("partial")), "no `result` is no equality");
    assert_eq!(certificate["counts"]["skipped"], not_compared(4));
    assert_eq!(certificate["database"]["compared"], json!({"counts": 0, "rows": 0}));
    let other = recording_of(
        &server,
        true,
        &[
            (sql("INSERT INTO customers (name) VALUES ('Ada'), ('Bob')"), Some(json!({"tag": "INSERT 0 3"}))),
            (sql(names), Some(json!({"rows": [["Bob"], ["Ada"]]}))),
            (sql("SELECT name FROM customers"), Some(json!({"rows": [["Bob"], ["Ada"]]}))),
            (sql("SELECT name FROM customers"), Some(json!({"rows": [["Bob"], ["Eve"]]}))),
            (sql("SELECT name FROM customers"), Some(json!({"rows": [["Bob"]]}))),
            (sql("DELETE FROM customers WHERE name = 'Eve'"), Some(json!({"tag": 1}))),
        ],
    );
    let (code, certificate) = run_by(both, &server, &other, "other.json", &[]);
    assert_eq!((code, &certificate["status"]), (5, &json!("failed")), "{certificate}");
    let found: Vec<(&Value, &Value)> =
        certificate["divergences"].as_array().unwrap().iter().map(|row| (&row["seq"], &row["at"])).collect();
    let expected = [
        (json!(1), json!(["/count"])),
        (json!(2), json!(["/0/name", "/1/name"])),
        (json!(4), json!(["/1/name"])),
        (json!(5), json!(["/1"])),
        (json!(6), json!(["/count"])),
    ];
    assert_eq!(found, expected.iter().map(|(seq, at)| (seq, at)).collect::<Vec<_>>());
    assert_eq!(certificate["counts"]["matched"], 1);
    check_nothing_stays(&server);
}

#[test]
fn statements_that_would_get_out_are_denied_and_said_by_code() {
    let Some(server) = server() else { return };
    let recording = recording(
        &server,
        false,
        &[
            ("INSERT INTO customers (name) VALUES ('Ada')", Some(json!([]))),
            ("COMMIT", Some(json!([]))),
            ("SELECT 1; COMMIT", Some(json!([]))),
            ("COPY customers TO PROGRAM 'touch /tmp/estoppel-escaped'", Some(json!([]))),
            ("DO $$ BEGIN COMMIT; END $$", Some(json!([]))),
            ("SET ROLE postgres", Some(json!([]))),
            ("SELECT nextval('public.orders_id_seq')", Some(json!([{"nextval": 1}]))),
            ("DELETE FROM public.orders", Some(json!([]))),
        ],
    );
    let (code, certificate) = run(&server, &recording, "c.json", &[]);
    assert_eq!((code, &certificate["status"]), (5, &json!("partial")), "{certificate}");
    let one = |code: &str| json!({"code": code, "count": 1});
    let denied = ["CODE", "EGRESS", "ROLE", "SEQ", "SESSION", "SEVERAL", "TXN_CONTROL"].map(one);
    assert_eq!(certificate["database"]["denied"], json!(denied));
    assert_eq!(certificate["reasons"], json!(["STATEMENT_DENIED"]));
    assert_eq!(certificate["database"]["schema_from"], "database", "the bundle has no snapshot");
    check_nothing_stays(&server);
    assert_eq!(recording.verify(&recording.out("c.json"), &recording.bundle, &[]).1["status"], "partial");
    let (code, _) = run(&server, &recording, "allowed.json", &["--allow-partial"]);
    assert_eq!(code, 0);
}

#[test]
fn a_replay_that_is_killed_leaves_nothing() {
    let Some(server) = server() else { return };
    let recording = recording(
        &server,
        false,
        &[
            ("INSERT INTO customers (name) VALUES ('Ada')", Some(json!([]))),
            ("SELECT count(*) FROM generate_series(1, 100000000000) n", Some(json!([{"count": 1}]))),
        ],
    );
    let out = recording.out("killed.json");
    let url = server.url("estoppel_replay", "postgres");
    let mut command = Command::new(cli_binary());
    command.args(["replay", "run", path(&recording.bundle), "--key", path(&recording.key)]);
    command
        .args(["--out", path(&out), "--sql", SQL, "--statement-ms", "600000"])
        .env("ESTOPPEL_REPLAY_DB", url);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let sessions = |what: &str| {
        server.sql(
            "postgres",
            &format!("SELECT count(*) FROM pg_stat_activity WHERE usename = 'estoppel_replay' {what}"),
        )
    };
    until("it works", PATIENCE, || {
        (sessions("AND state = 'active' AND query LIKE 'FETCH%'") == "1").then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    until("the server noticed", PATIENCE, || (sessions("") == "0").then_some(()));
    check_nothing_stays(&server);
    assert!(!out.exists());
}

#[test]
fn rows_within_what_a_policy_tolerates_match_and_others_fail_with_how_far() {
    let Some(server) = server() else { return };
    let recording = recording(
        &server,
        true,
        &[
            ("INSERT INTO customers (name) VALUES ('Ada')", Some(json!([]))),
            ("INSERT INTO orders (customer, price) VALUES (1, 12.5), (1, 3)", Some(json!([]))),
            (
                "SELECT customer, price FROM orders",
                Some(json!([{"customer": 1, "price": 3.0}, [1, "12.51"]])),
            ),
        ],
    );
    let by = |amount: &str| {
        let policy = format!(
            "version: 1\nname: t\nroutes:\n  stub:\n    determinism:\n      class: E0\n      tools: {{ query: {{ class: E1, tolerance: {{ rows: [{{ at: /*/price, absolute: \"{amount}\" }}] }} }} }}\n"
        );
        let file = recording.scratch.write(format!("{amount}.yaml"), policy);
        let out = format!("{amount}.json");
        let answer = run(&server, &recording, &out, &["--policy", path(&file)]);
        let (code, said) = recording.verify(&recording.out(&out), &recording.bundle, &[]);
        assert_eq!((code, &said["status"]), (0, &answer.1["status"]), "{said}");
        answer
    };
    assert_eq!(run(&server, &recording, "exact.json", &[]).1["reasons"], json!(["DB_DRIFT"]));
    let (code, certificate) = by("0.01");
    assert_eq!((code, &certificate["reasons"]), (0, &json!(["TOLERATED"])), "{certificate}");
    let noted = &certificate["determinism"]["tolerated"];
    assert_eq!(
        (&noted[0]["part"], &noted[0]["at"], noted[1].is_null()),
        (&json!("rows"), &json!("/1/price"), true)
    );
    let (code, certificate) = by("0.009");
    assert_eq!((code, &certificate["reasons"]), (5, &json!(["DB_DRIFT"])), "{certificate}");
    let beyond = json!([{"at": "/1/price", "by": "0.01", "of": "absolute", "within": "0.009"}]);
    assert_eq!(certificate["divergences"][0]["beyond"], beyond);
    check_nothing_stays(&server);
}

#[test]
fn a_role_that_may_do_more_is_refused_before_anything_runs() {
    let Some(server) = server() else { return };
    let recording = recording(&server, false, &[("SELECT 1 AS a", Some(json!([{"a": 1}])))]);
    let out = recording.out("c.json");
    let url = server.url("postgres", "postgres");
    let words = |url: &str, sql: &str| {
        let words =
            ["replay", "run", path(&recording.bundle), "--key", path(&recording.key), "--out", path(&out)];
        cli(&[&words[..], &["--db", url, "--sql", sql]].concat())
    };
    let (code, said) = words(&url, SQL);
    assert_eq!((code, &said["error"]["code"]), (6, &json!("ARGUMENT_INVALID")), "{said}");
    assert!(said["error"]["message"].as_str().unwrap().contains("it is a superuser"), "{said}");
    assert!(said["error"]["hint"].as_str().unwrap().contains("CREATE ROLE estoppel_replay"), "{said}");
    let away = "postgresql://estoppel_replay@127.0.0.1:1/postgres";
    let (code, said) = words(away, SQL);
    assert_eq!((code, &said["error"]["code"]), (7, &json!("DEPENDENCY_MISSING")), "{said}");
    assert!(!out.exists(), "nothing is half-written");
}

#[test]
fn a_source_that_nothing_is_of_is_refused_and_a_pointer_that_finds_nothing_is_told() {
    let Some(server) = server() else { return };
    let recording = recording(&server, false, &[("SELECT 1 AS a", Some(json!([{"a": 1}])))]);
    let url = server.url("estoppel_replay", "postgres");
    let out = recording.out("c.json");
    for wrong in ["tool=other,argument=/sql", "operation=query,argument=/sql"] {
        let words =
            ["replay", "run", path(&recording.bundle), "--key", path(&recording.key), "--out", path(&out)];
        // Also beside one that is right.
        for more in [&["--db", &url, "--sql", wrong][..], &["--db", &url, "--sql", SQL, "--sql", wrong]] {
            let (code, said) = cli(&[&words[..], more].concat());
            assert_eq!((code, &said["error"]["code"]), (6, &json!("ARGUMENT_INVALID")), "{said}");
            let message = said["error"]["message"].as_str().unwrap();
            let expected = format!("no call of the run is of `{wrong}`; there are `tool=query`");
            assert!(message.contains(&expected), "{message}");
            assert!(!out.exists(), "nothing is signed");
        }
    }
    for (reason, source, pointer) in [
        ("UNDECIDED", "tool=query,argument=/sqll,result=/structuredContent/rows", "argument=/sqll"),
        ("NOT_COMPARED", "tool=query,argument=/sql,result=/structured/rows", "result=/structured/rows"),
    ] {
        let out = recording.out(&format!("{reason}.json"));
        let words =
            ["replay", "run", path(&recording.bundle), "--key", path(&recording.key), "--out", path(&out)];
        let (code, said) = cli(&[&words[..], &["--db", &url, "--sql", source]].concat());
        assert_eq!((code, &said["data"]["certificate"]["reasons"]), (5, &json!([reason])));
        assert_eq!(said["data"]["unfound"], json!([{"calls": 1, "pointer": pointer}]), "{said}");
    }
}

#[test]
fn a_namespace_that_the_snapshot_does_not_have_is_refused_and_nothing_is_signed() {
    let Some(server) = server() else { return };
    let steps: &[Step] =
        &[("INSERT INTO customers (name) VALUES (NULL)", None), ("SELECT 1 AS a", Some(json!([{"a": 1}])))];
    for looks in [true, false] {
        let recording = recording(&server, looks, steps);
        let url = server.url("estoppel_replay", "postgres");
        let out = recording.out("c.json");
        let words =
            ["replay", "run", path(&recording.bundle), "--key", path(&recording.key), "--out", path(&out)];
        let more = ["--db", &url, "--sql", SQL, "--namespace", "typo"];
        let (code, said) = cli(&[&words[..], &more].concat());
        assert_eq!((code, &said["error"]["code"]), (6, &json!("ARGUMENT_INVALID")), "{said}");
        let message = said["error"]["message"].as_str().unwrap();
        assert!(message.contains("no namespace `typo`; it has `public`"), "{message}");
        assert!(!out.exists(), "nothing is signed");
    }
}
