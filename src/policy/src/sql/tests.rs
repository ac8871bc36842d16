use super::*;

fn list(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(ToString::to_string).collect())
}

fn terms(statements: &[SqlStatement]) -> SqlTerms {
    SqlTerms {
        statements: statements.to_vec(),
        require_selector: None,
        rows_max: None,
        tables: None,
        tables_not: None,
        functions: None,
    }
}

fn check(terms: &SqlTerms, expected: Truth, texts: &[&str]) {
    let check = SqlCheck::new(terms);
    for text in texts {
        assert_eq!(check.keeps(text), expected, "{text}");
    }
}

#[test]
fn statements_are_what_they_do_wherever_they_stand() {
    use SqlStatement::{Delete, Select};
    let select = terms(&[Select]);
    check(
        &select,
        Truth::True,
        &[
            "SELECT 1",
            "select * from a;",
            "(SELECT 1) UNION ALL SELECT 2",
            "VALUES (1)",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "EXPLAIN SELECT 1",
            "EXPLAIN (ANALYZE) SELECT 1",
            "/* DELETE FROM a */ SELECT 1 -- ; DROP TABLE a",
            "SELECT '; DELETE FROM a', $$DELETE FROM a$$, $q$;$q$, \"DELETE FROM a\" FROM b",
            "SELECT /* a /* nested */ ; DELETE FROM a */ 1",
        ],
    );
    check(
        &select,
        Truth::False,
        &[
            "DELETE FROM a WHERE id = 1",
            "SELECT 1; DELETE FROM a",
            "SELECT 1; SELECT 2",
            "/**/DELETE/**/FROM/**/a",
            "WITH x AS (DELETE FROM a RETURNING *) SELECT * FROM x",
            "WITH x AS (UPDATE a SET b = 1 RETURNING *) SELECT * FROM x",
            "WITH x AS (SELECT 1) DELETE FROM a",
            "WITH x AS (SELECT 1) INSERT INTO a SELECT * FROM x",
            "EXPLAIN ANALYZE DELETE FROM a",
            "EXPLAIN (ANALYZE, VERBOSE) DELETE FROM a",
            "EXPLAIN DELETE FROM a",
            "SELECT * INTO copied FROM a",
            "WITH x AS (SELECT * INTO copied FROM a) SELECT 1",
            "INSERT INTO a VALUES (1)",
            "MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE",
            "TRUNCATE a",
            "TRUNCATE TABLE a CASCADE",
            "DROP TABLE a",
            "COPY a TO PROGRAM 'sh'",
            "COPY a FROM '/etc/passwd'",
            "CALL f()",
            "SET ROLE admin",
            "GRANT ALL ON a TO b",
            "CREATE TABLE a AS SELECT 1",
            "PREPARE p AS DELETE FROM a",
            "EXECUTE p",
            "LOCK TABLE a",
            "VACUUM a",
            "BEGIN",
        ],
    );
    let both = terms(&[Select, Delete]);
    check(
        &both,
        Truth::True,
        &["WITH x AS (DELETE FROM a RETURNING *) SELECT * FROM x", "EXPLAIN ANALYZE DELETE FROM a"],
    );
    check(&terms(&[Delete]), Truth::False, &["WITH x AS (DELETE FROM a RETURNING *) SELECT * FROM x"]);
}

#[test]
fn what_cannot_be_read_or_is_read_in_two_ways_is_unknown() {
    let long = format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX));
    let many = format!("SELECT 1{}", " + 1".repeat(TOKENS_MAX));
    let deep = format!("SELECT {}1{}", "(".repeat(DEPTH_MAX * 2), ")".repeat(DEPTH_MAX * 2));
    let queries =
        format!("SELECT * FROM {}a{}", "(SELECT * FROM ".repeat(DEPTH_MAX * 2), ")".repeat(DEPTH_MAX * 2));
    check(
        &terms(&SqlStatement::ALL),
        Truth::Unknown,
        &[
            "",
            ";",
            "   -- nothing",
            "SELEC 1",
            "SELECT 'open",
            "SELECT $q$ open",
            "SELECT /* open",
            "DELETE FROM a WHERE",
            "DO $$ BEGIN DELETE FROM a; END $$",
            "SELECT /*! 1; DELETE FROM a */ 1",
            r"SELECT '\'; DELETE FROM a; --'",
            r#"SELECT * FROM U&"d\0061ta""#,
            r#"SELECT U&"d\0061ta" FROM a"#,
            "SELECT ?",
            "SELECT `a` FROM b",
            "TABLE users",
            &long,
            &many,
            &deep,
            &queries,
        ],
    );
}

#[test]
fn nothing_that_is_read_needs_more_stack_than_a_worker_has() {
    let bombs = [
        format!("SELECT 1{}", " + 1".repeat(1_000)),
        format!("SELECT 1 WHERE a = 1{}", " AND a = 1".repeat(500)),
        format!("DELETE FROM a WHERE a = 1{}", " OR a = 1".repeat(500)),
        format!("SELECT 1{}", "::int".repeat(1_000)),
        format!("SELECT a{}", "[1]".repeat(650)),
        format!("SELECT 1{}", " IS NULL".repeat(1_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(650)),
        format!("SELECT {}1", "NOT ".repeat(2_000)),
        format!("SELECT {}1", "- ".repeat(2_000)),
        format!("SELECT {}1{}", "(".repeat(1_000), ")".repeat(1_000)),
        format!("SELECT {}1{}", "(SELECT ".repeat(500), ")".repeat(500)),
        format!("SELECT {}1{}", "f(".repeat(600), ")".repeat(600)),
        format!("SELECT {}1{}", "CASE WHEN ".repeat(400), " THEN 1 END".repeat(400)),
        format!("{}SELECT 1{}", "WITH a AS (".repeat(400), ") SELECT 1".repeat(400)),
        format!("{}SELECT 1", "EXPLAIN ".repeat(2_000)),
        format!("SELECT * FROM a{}", " JOIN b ON true".repeat(500)),
        format!("SELECT * FROM {}a{}", "(".repeat(900), ")".repeat(900)),
        format!("SELECT a{}", ".b".repeat(1_000)),
        format!("SELECT {}", "ARRAY[".repeat(900)),
        format!("SELECT CAST(1 AS {}int{})", "ARRAY<".repeat(500), ">".repeat(500)),
    ];
    let checks = move || {
        let terms = SqlTerms { require_selector: Some(true), rows_max: Some(1), ..terms(&SqlStatement::ALL) };
        let check = SqlCheck::new(&terms);
        bombs.iter().map(|bomb| check.keeps(bomb)).filter(|truth| *truth != Truth::True).count()
    };
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(checks).unwrap();
    // All but the `DELETE` with its many `OR`s, each of which picks rows.
    assert_eq!(worker.join().unwrap(), 19);
}

#[test]
fn a_selector_looks_at_a_column_on_every_way() {
    let terms = SqlTerms { require_selector: Some(true), ..terms(&SqlStatement::ALL) };
    let of = |condition: &str| {
        [format!("DELETE FROM a WHERE {condition}"), format!("UPDATE a SET b = 1 WHERE {condition}")]
    };
    for (expected, conditions) in [
        (
            Truth::True,
            &[
                "id = 1",
                "1 = id",
                "a.id = 'x' AND true",
                "id IN (1, 2)",
                "id BETWEEN 1 AND 2",
                "name LIKE 'a%'",
                "lower = 1 OR id = 2",
                "deleted IS NULL",
                "NOT (id = 1)",
                "NOT (id <> 1 OR false)",
                "active",
                "a.id = b.other",
                "created < now",
                "id = id2 + 1",
                "id = 1 OR (true AND id = 2)",
            ][..],
        ),
        (
            Truth::False,
            &[
                "true",
                "1 = 1",
                "'a' = 'a'",
                "1",
                "NOT false",
                "id = id",
                "a.id = id",
                "\"id\" = ID",
                "(id) = ((id))",
                "id = 1 OR true",
                "id = 1 OR 1 = 1",
                "id = 1 OR id = id",
                "NOT (id = 1 AND false)",
                "id IS NOT NULL",
                "NOT (id IS NULL)",
                "name LIKE '%'",
                "name ILIKE '%%'",
                "id IN (id, 2)",
                "id BETWEEN id AND id",
                "id IS NOT DISTINCT FROM id",
                "true IS TRUE",
            ][..],
        ),
        (
            Truth::Unknown,
            &[
                "EXISTS (SELECT 1)",
                "id IN (SELECT id FROM a)",
                "id = (SELECT max(id) FROM a)",
                "f(id)",
                "lower(name) = 'x'",
                "id = id + 0",
                "id >= id - 1",
                "CASE WHEN true THEN true END",
                "id = ANY(ARRAY[1])",
            ][..],
        ),
    ] {
        for condition in conditions {
            let texts = of(condition);
            check(&terms, expected, &[&texts[0], &texts[1]]);
        }
    }
    check(
        &terms,
        Truth::False,
        &[
            "DELETE FROM a",
            "UPDATE a SET b = 1",
            "WITH x AS (DELETE FROM a RETURNING *) SELECT * FROM x WHERE id = 1",
        ],
    );
    check(
        &terms,
        Truth::True,
        &["DELETE FROM a USING b WHERE a.id = b.a_id", "SELECT * FROM a", "INSERT INTO a VALUES (1)"],
    );
}

#[test]
fn a_query_says_how_many_rows_it_gives() {
    let terms = SqlTerms { rows_max: Some(100), ..terms(&SqlStatement::ALL) };
    check(
        &terms,
        Truth::True,
        &[
            "SELECT * FROM a LIMIT 100",
            "SELECT 1 FETCH FIRST 5 ROWS ONLY",
            "SELECT 1 LIMIT 3 OFFSET 9",
            "DELETE FROM a",
        ],
    );
    check(
        &terms,
        Truth::False,
        &[
            "SELECT * FROM a",
            "SELECT * FROM a LIMIT 101",
            "SELECT * FROM a LIMIT ALL",
            "SELECT * FROM a LIMIT NULL",
            "SELECT * FROM a LIMIT (SELECT 5)",
            "SELECT * FROM a LIMIT 5 + 5",
            "SELECT * FROM a LIMIT 99999999999999999999999",
            "SELECT * FROM (SELECT * FROM a LIMIT 5) b",
            "SELECT 1 FETCH FIRST 5 ROWS WITH TIES",
            "EXPLAIN ANALYZE SELECT * FROM a",
            "(SELECT * FROM a LIMIT 5) UNION SELECT * FROM a",
        ],
    );
}

#[test]
fn tables_and_functions_are_listed() {
    let allowed = SqlTerms { tables: list(&["orders", "sales.*"]), ..terms(&SqlStatement::ALL) };
    check(
        &allowed,
        Truth::True,
        &[
            "SELECT * FROM ORDERS o JOIN sales.items i ON o.id = i.id",
            "UPDATE orders SET a = 1",
            "SELECT * FROM \"orders\"",
            "INSERT INTO orders SELECT * FROM sales.x",
            "SELECT 1",
        ],
    );
    check(
        &allowed,
        Truth::False,
        &[
            "SELECT * FROM users",
            "SELECT * FROM \"Orders\"",
            "SELECT * FROM other.orders",
            "SELECT * FROM orders, users",
            "SELECT (SELECT max(id) FROM users)",
            "SELECT * FROM orders WHERE id IN (SELECT id FROM users)",
            "SELECT * FROM orders UNION SELECT * FROM users",
            "DELETE FROM users",
            "DELETE FROM orders USING users WHERE orders.id = users.id",
            "UPDATE orders SET a = 1 FROM users",
            "INSERT INTO users VALUES (1)",
            "INSERT INTO orders VALUES ((SELECT max(id) FROM users))",
            "DELETE FROM orders RETURNING (SELECT max(id) FROM users)",
            "MERGE INTO users USING orders ON true WHEN MATCHED THEN DELETE",
            "WITH orders AS (SELECT * FROM users) SELECT * FROM orders",
            "SELECT * FROM pg_ls_dir('.')",
            "SELECT * FROM orders LEFT JOIN LATERAL (SELECT * FROM users) u ON true",
        ],
    );
    let denied = SqlTerms { tables_not: list(&["users", "pg_*"]), ..terms(&SqlStatement::ALL) };
    check(&denied, Truth::True, &["SELECT * FROM orders"]);
    check(
        &denied,
        Truth::False,
        &[
            "SELECT * FROM public.users",
            "SELECT * FROM \"USERS\"",
            "SELECT * FROM pg_catalog.x",
            "SELECT * FROM a.pg_shadow",
        ],
    );
    check(&denied, Truth::Unknown, &["SELECT * FROM \"a.users\""]);
    let functions = SqlTerms { functions: list(&["count", "lower"]), ..terms(&SqlStatement::ALL) };
    check(&functions, Truth::True, &["SELECT count(*), LOWER(a) FROM b"]);
    check(
        &functions,
        Truth::False,
        &[
            "SELECT pg_terminate_backend(1)",
            "SELECT count(dblink_exec('DELETE FROM a'))",
            "SELECT * FROM dblink('a', 'b')",
            "SELECT * FROM a WHERE f(1)",
            "SELECT * FROM a ORDER BY f(1)",
            "SELECT pg_catalog.lower('a')",
            "SELECT * FROM LATERAL f(1)",
            "INSERT INTO a VALUES (f(1))",
            "DELETE FROM a RETURNING f(1)",
        ],
    );
}
