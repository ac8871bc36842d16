//! What a statement is, and why it is not run: what would survive a rollback, leave the scratch schema, or cannot be told apart from that.
//!
//! This gives reasons. It keeps nothing inside: the role, the transaction and the form in which statements are sent do (`estoppel_snapshot`).

use serde::Serialize;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

/// Longest statement that is run, in bytes.
const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// Why a statement is not run. In byte order of the codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Denial {
    /// Roles, servers, extensions, maintenance.
    Admin,
    /// Code: what it does cannot be seen.
    Code,
    /// Files, programs, other servers, large objects.
    Egress,
    /// Locks that others wait for.
    Lock,
    /// Others are told.
    Notify,
    /// The database refused it to the role.
    Role,
    /// A sequence outside: what it gave out stays given out.
    Seq,
    /// The session's own settings, cursors and prepared statements.
    Session,
    /// More statements than one.
    Several,
    /// Other sessions.
    Signal,
    Sleep,
    /// The transaction's beginning and end.
    TxnControl,
    /// Nobody here knows it.
    Unknown,
    /// It is no SQL, or too long.
    Unreadable,
    /// The log of writes, past the transaction.
    Walmsg,
}

/// A statement that may be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kind {
    /// It reads or writes rows, and may give some.
    pub is_query: bool,
    /// It says in which order.
    pub is_ordered: bool,
    /// It asks for what differs each time: the time, chance, the session.
    pub is_volatile: bool,
}

pub(super) fn kind(statement: &str) -> Result<Kind, Denial> {
    // The protocol has no statement with a zero byte in it.
    if statement.len() > STATEMENT_BYTES_MAX || statement.contains('\0') {
        return Err(Denial::Unreadable);
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, statement).tokenize();
    let tokens = tokens.map_err(|_| Denial::Unreadable)?;
    if tokens.windows(3).any(is_escaped_name) {
        return Err(Denial::Unreadable);
    }
    let tokens: Vec<Token> =
        tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    let end = tokens.iter().rposition(|token| *token != Token::SemiColon).map_or(0, |at| at + 1);
    let tokens = tokens.get(..end).unwrap_or_default();
    if tokens.contains(&Token::SemiColon) {
        return Err(Denial::Several);
    }
    let words: Vec<&Token> = tokens.iter().filter(|token| **token != Token::LParen).collect();
    let word = |at: usize| words.get(at).and_then(|token| written(token)).unwrap_or_default();
    let is_query = command([&word(0), &word(1), &word(2), &word(3)])?;
    functions(tokens)?;
    let mut places = tokens.iter().enumerate();
    let is_volatile = places.any(|(at, token)| is_volatile(token, tokens.get(at + 1)));
    Ok(Kind { is_query, is_ordered: is_ordered(tokens), is_volatile })
}

/// `U&"…"` (PostgreSQL section 4.1.1): a name that is spelt with escapes.
fn is_escaped_name(tokens: &[Token]) -> bool {
    match tokens {
        [Token::Word(u), Token::Ampersand, Token::Word(name)] => {
            u.quote_style.is_none() && u.value.eq_ignore_ascii_case("u") && name.quote_style.is_some()
        }
        _ => false,
    }
}

/// Whether it reads or writes rows.
fn command(words: [&str; 4]) -> Result<bool, Denial> {
    let [first, rest @ ..] = words;
    match first {
        "delete" | "insert" | "merge" | "select" | "table" | "update" | "values" | "with" => Ok(true),
        "comment" | "truncate" => Ok(false),
        "alter" | "create" | "drop" => defines(rest).map(|()| false),
        "abort" | "begin" | "commit" | "end" | "release" | "rollback" | "savepoint" | "start" => {
            Err(Denial::TxnControl)
        }
        "prepare" if rest[0] == "transaction" => Err(Denial::TxnControl),
        "close" | "deallocate" | "declare" | "discard" | "execute" | "fetch" | "load" | "move"
        | "prepare" | "reset" | "set" | "show" => Err(Denial::Session),
        "listen" | "notify" | "unlisten" => Err(Denial::Notify),
        "lock" => Err(Denial::Lock),
        "copy" | "import" => Err(Denial::Egress),
        "call" | "do" => Err(Denial::Code),
        "analyze" | "checkpoint" | "cluster" | "grant" | "reassign" | "refresh" | "reindex" | "revoke"
        | "security" | "vacuum" => Err(Denial::Admin),
        "" => Err(Denial::Unreadable),
        _ => Err(Denial::Unknown),
    }
}

/// What is defined, after the words that say how.
fn defines(words: [&str; 3]) -> Result<(), Denial> {
    const HOW: [&str; 10] = [
        "concurrently",
        "global",
        "local",
        "materialized",
        "or",
        "recursive",
        "replace",
        "temp",
        "temporary",
        "unique",
    ];
    let object =
        words.into_iter().find(|word| !HOW.contains(word) && *word != "unlogged").unwrap_or_default();
    match object {
        "domain" | "index" | "sequence" | "table" | "type" | "view" => Ok(()),
        "aggregate" | "cast" | "constraint" | "function" | "operator" | "procedure" | "routine" | "rule"
        | "transform" | "trigger" => Err(Denial::Code),
        "" => Err(Denial::Unreadable),
        _ => Err(Denial::Admin),
    }
}

fn functions(tokens: &[Token]) -> Result<(), Denial> {
    for (at, token) in tokens.iter().enumerate() {
        let Some(name) = written(token).filter(|_| tokens.get(at + 1) == Some(&Token::LParen)) else {
            continue;
        };
        if let Some(denial) = function(&name, tokens.get(at + 2)) {
            return Err(denial);
        }
    }
    Ok(())
}

fn function(name: &str, argument: Option<&Token>) -> Option<Denial> {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match name {
        "nextval" | "setval" => {
            let is_inside = match argument {
                Some(Token::SingleQuotedString(sequence)) => !sequence.contains('.'),
                _ => false,
            };
            (!is_inside).then_some(Denial::Seq)
        }
        "set_config" => Some(Denial::Session),
        "pg_notify" => Some(Denial::Notify),
        "pg_logical_emit_message" => Some(Denial::Walmsg),
        "pg_cancel_backend"
        | "pg_promote"
        | "pg_reload_conf"
        | "pg_rotate_logfile"
        | "pg_terminate_backend" => Some(Denial::Signal),
        "cursor_to_xml"
        | "database_to_xml"
        | "query_to_xml"
        | "query_to_xml_and_xmlschema"
        | "query_to_xmlschema"
        | "ts_rewrite"
        | "ts_stat" => Some(Denial::Code),
        "pg_read_binary_file" | "pg_read_file" | "pg_stat_file" => Some(Denial::Egress),
        _ if begins(&["dblink", "http_", "lo_", "loread", "lowrite", "pg_ls_"]) => Some(Denial::Egress),
        _ if begins(&["pg_advisory_", "pg_try_advisory_"]) => Some(Denial::Lock),
        _ if begins(&["pg_sleep"]) => Some(Denial::Sleep),
        _ if begins(&[
            "pg_backup_",
            "pg_copy_",
            "pg_create_",
            "pg_drop_",
            "pg_replication_",
            "pg_stat_reset",
            "pg_switch_wal",
            "pg_wal_replay_",
        ]) =>
        {
            Some(Denial::Admin)
        }
        _ => None,
    }
}

/// `ORDER BY` outside of parentheses.
fn is_ordered(tokens: &[Token]) -> bool {
    let mut depth = 0_usize;
    tokens.iter().zip(tokens.iter().skip(1)).any(|(token, next)| {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        let is = |token: &Token, name: &str| written(token).is_some_and(|word| word == name);
        depth == 0 && is(token, "order") && is(next, "by")
    })
}

/// Something that is called, or written without parentheses, and gives something else each time.
fn is_volatile(token: &Token, next: Option<&Token>) -> bool {
    const CALLED: &[&str] = &[
        "clock_timestamp",
        "gen_random_bytes",
        "gen_random_uuid",
        "now",
        "pg_backend_pid",
        "pg_current_xact_id",
        "random",
        "random_normal",
        "statement_timestamp",
        "timeofday",
        "transaction_timestamp",
        "txid_current",
        "uuid_generate_v1",
        "uuid_generate_v1mc",
        "uuid_generate_v4",
        "uuidv4",
        "uuidv7",
        "version",
    ];
    const WRITTEN: &[&str] = &[
        "ctid",
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "localtime",
        "localtimestamp",
        "session_user",
        "tableoid",
        "user",
        "xmin",
    ];
    let Token::Word(word) = token else { return false };
    let name = word.value.to_lowercase();
    let is_called = next == Some(&Token::LParen);
    is_called && CALLED.contains(&name.as_str())
        || word.quote_style.is_none() && WRITTEN.contains(&name.as_str())
}

/// A name as the server takes it.
fn written(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_lowercase()),
        Token::Word(word) => Some(word.value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::*;

    fn check(expected: Result<bool, Denial>, statements: &[&str]) {
        for statement in statements {
            assert_eq!(kind(statement).map(|kind| kind.is_query), expected, "{statement}");
        }
    }

    #[test]
    fn what_stays_inside_is_run() {
        check(
            Ok(true),
            &[
                "SELECT 1",
                "  -- hello\n select * from orders where note = 'COMMIT; DROP' ; ;",
                "(SELECT 1) UNION (SELECT 2)",
                "WITH d AS (DELETE FROM a RETURNING *) SELECT * FROM d",
                "insert into a values ($$;$$) returning id",
                "TABLE a",
                "SELECT nextval('orders_id_seq')",
                "SELECT lower('pg_sleep(1)'), count(*) FROM \"do\"",
            ],
        );
        check(
            Ok(false),
            &[
                "CREATE TABLE a (x int)",
                "CREATE TEMP TABLE a AS SELECT 1",
                "CREATE UNIQUE INDEX ON a (x)",
                "CREATE OR REPLACE VIEW v AS SELECT 1",
                "ALTER TABLE a ADD b int",
                "DROP VIEW v",
                "TRUNCATE a",
            ],
        );
    }

    #[test]
    fn what_would_not_is_denied_by_its_code() {
        use Denial as D;
        for (denial, statements) in [
            (
                D::TxnControl,
                &["COMMIT", "/* */ rollback", "PREPARE TRANSACTION 'x'", "SAVEPOINT a", "END"][..],
            ),
            (D::Several, &["SELECT 1; COMMIT", "SELECT 1;;SELECT 2", "SELECT 1 /* ; */ ; DROP TABLE a"]),
            (
                D::Session,
                &[
                    "SET ROLE postgres",
                    "RESET ALL",
                    "SELECT set_config('a', 'b', false)",
                    "LOAD 'x'",
                    "SHOW ALL",
                ],
            ),
            (
                D::Egress,
                &[
                    "COPY a TO PROGRAM 'x'",
                    "COPY a FROM STDIN",
                    "SELECT * FROM dblink('x', 'SELECT 1')",
                    "SELECT public . dblink_exec ('x')",
                    "SELECT lo_import('/etc/passwd')",
                    "SELECT pg_read_file('/etc/passwd')",
                    "SELECT \"pg_ls_dir\"('/')",
                ],
            ),
            (
                D::Code,
                &[
                    "DO $$ BEGIN END $$",
                    "CALL p()",
                    "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1",
                    "CREATE OR REPLACE TRIGGER t",
                    "SELECT query_to_xml('DELETE FROM a', true, true, '')",
                ],
            ),
            (D::Notify, &["LISTEN a", "NOTIFY a", "SELECT pg_notify('a', 'b')"]),
            (D::Lock, &["LOCK TABLE a", "SELECT pg_advisory_lock(1)", "SELECT pg_try_advisory_xact_lock(1)"]),
            (D::Seq, &["SELECT nextval('public.orders_id_seq')", "SELECT setval(name, 1) FROM a"]),
            (D::Sleep, &["SELECT pg_sleep(1)", "SELECT pg_sleep_for('1 day')"]),
            (D::Signal, &["SELECT pg_terminate_backend(1)"]),
            (D::Walmsg, &["SELECT pg_logical_emit_message(false, 'a', 'b')"]),
            (
                D::Unreadable,
                &[
                    r#"SELECT U&"pg\005flogical_emit_message"(false, 'a', 'b')"#,
                    r#"SELECT u&"pg!005fadvisory_lock" UESCAPE '!' (1)"#,
                    r#"SELECT 1 AS U&"d\0061t\+000061""#,
                ],
            ),
            (
                D::Admin,
                &[
                    "VACUUM",
                    "ALTER SYSTEM SET a = 1",
                    "CREATE EXTENSION dblink",
                    "CREATE ROLE a",
                    "GRANT ALL ON a TO b",
                    "DROP DATABASE a",
                    "CREATE PUBLICATION a",
                    "SELECT pg_create_physical_replication_slot('a')",
                ],
            ),
            (D::Unknown, &["EXPLAIN SELECT 1", "HELLO world"]),
            (D::Unreadable, &["", " -- nothing", "SELECT 'open", ";"]),
        ] {
            check(Err(denial), statements);
        }
        assert_eq!(kind(&"x".repeat(STATEMENT_BYTES_MAX + 1)), Err(D::Unreadable));
        assert_eq!(kind("SELECT 'a\0b'"), Err(D::Unreadable));
    }

    #[test]
    fn what_is_denied_is_denied_with_parameters_too() {
        for (denial, statement) in [
            (Denial::Seq, "SELECT nextval($1)"),
            (Denial::Seq, "SELECT pg_catalog.setval($1::regclass, $2)"),
            (Denial::Session, "SELECT set_config($1, $2, false)"),
            (Denial::Notify, "SELECT pg_notify($1, $2)"),
            (Denial::Code, "SELECT query_to_xml($1, true, true, '')"),
            (Denial::Egress, "SELECT * FROM dblink($1, $2) AS t (a int)"),
            (Denial::Egress, "SELECT lo_import($1)"),
            (Denial::Lock, "SELECT pg_advisory_lock($1)"),
            (Denial::Session, "EXECUTE a($1)"),
            (Denial::Several, "SELECT $1; COMMIT"),
        ] {
            assert_eq!(kind(statement), Err(denial), "{statement}");
        }
    }

    #[test]
    fn order_and_chance_are_seen() {
        let of = |statement: &str| kind(statement).map(|kind| (kind.is_ordered, kind.is_volatile));
        assert_eq!(of("SELECT * FROM a ORDER BY id"), Ok((true, false)));
        assert_eq!(of("SELECT * FROM (SELECT * FROM a ORDER BY id) b"), Ok((false, false)));
        assert_eq!(of("SELECT now()"), Ok((false, true)));
        assert_eq!(of("SELECT 'now()' FROM a WHERE b < CURRENT_DATE"), Ok((false, true)));
        assert_eq!(of("SELECT 'now()' FROM a"), Ok((false, false)));
        assert_eq!(of("SELECT version, now FROM a"), Ok((false, false)), "columns");
    }

    proptest! {
        #[test]
        fn nothing_that_stands_before_it_hides_a_second_statement(
            text in "(SELECT|--|/\\*|\\*/|'|\"|\\$a\\$|\\$\\$|E'|U&'|;|\\\\|\n|[ -~]|é){0,24}"
        ) {
            let statement = format!("{text}\n; COMMIT");
            prop_assert!(kind(&statement).is_err(), "{statement}");
        }
    }

    #[test]
    fn codes_stand_in_the_specification() {
        let schema = include_str!("../../../../spec/replay.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let pointer =
            "/properties/predicate/properties/database/properties/denied/items/properties/code/enum";
        let all = [
            Denial::Admin,
            Denial::Code,
            Denial::Egress,
            Denial::Lock,
            Denial::Notify,
            Denial::Role,
            Denial::Seq,
            Denial::Session,
            Denial::Several,
            Denial::Signal,
            Denial::Sleep,
            Denial::TxnControl,
            Denial::Unknown,
            Denial::Unreadable,
            Denial::Walmsg,
        ];
        assert_eq!(schema.pointer(pointer), Some(&serde_json::json!(all)));
    }
}
