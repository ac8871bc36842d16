//! Who may run recorded statements: a role that can do nothing but that.

use tokio_postgres::SimpleQueryMessage;

use super::{ScratchError, lost};
use crate::dsn::Dsn;
use crate::source::Connection;

/// Extensions whose functions reach other servers, files or programs.
const REACHING: &str = "'adminpack', 'aws_lambda', 'aws_s3', 'dblink', 'file_fdw', 'http', 'pg_background', 'pg_cron', 'pg_net', \
                        'pg_surgery', 'postgres_fdw'";
/// Schemas that the server brings.
const OWN: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// What is asked, and what is said where the answer is no.
fn questions() -> [(String, &'static str); 11] {
    let relation = |kinds: &str, privileges: &str| {
        format!(
            "NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OWN} \
             AND CASE WHEN c.relkind IN ({kinds}) THEN {privileges} END)"
        )
    };
    let function = |which: &str| {
        format!(
            "NOT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OWN} \
             AND has_function_privilege(p.oid, 'EXECUTE') AND {which})"
        )
    };
    [
        ("NOT r.rolsuper".into(), "it is a superuser"),
        ("NOT r.rolbypassrls".into(), "it has BYPASSRLS"),
        ("NOT r.rolcreaterole".into(), "it has CREATEROLE"),
        ("NOT r.rolcreatedb".into(), "it has CREATEDB"),
        ("NOT r.rolreplication".into(), "it has REPLICATION"),
        ("session_user = current_user".into(), "it is not the role that connected"),
        (
            "NOT EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid)".into(),
            "it is a member of another role",
        ),
        (
            "NOT EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid AND deptype = 'o')".into(),
            "it owns objects",
        ),
        (
            relation(
                "'r', 'p', 'v', 'm', 'f'",
                "has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')",
            ),
            "it may write to tables",
        ),
        (relation("'S'", "has_sequence_privilege(c.oid, 'USAGE, UPDATE')"), "it may advance sequences"),
        (
            function(&format!(
                "(p.prosecdef OR EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid WHERE d.objid = p.oid \
                 AND d.deptype = 'e' AND e.extname IN ({REACHING})))"
            )),
            "it may call functions that run as somebody else or reach out of the database",
        ),
    ]
}

/// # Errors
/// [`ScratchError::Role`] with all that is too much.
pub(super) async fn check(connection: &Connection) -> Result<(), ScratchError> {
    let questions = questions();
    let columns: Vec<&str> = questions.iter().map(|(question, _)| question.as_str()).collect();
    let ask = format!(
        "BEGIN READ ONLY; SET LOCAL search_path = pg_catalog; SELECT {}, has_database_privilege(current_database(), 'CREATE') \
         FROM pg_roles r WHERE r.rolname = current_user; COMMIT",
        columns.join(", ")
    );
    let answer = connection.client().simple_query(&ask).await.map_err(lost)?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let is_true = |at: usize| row.and_then(|row| row.try_get(at).ok().flatten()) == Some("t");
    let places = questions.iter().enumerate();
    let mut found: Vec<&'static str> =
        places.filter(|(at, _)| !is_true(*at)).map(|(_, (_, fault))| *fault).collect();
    if !is_true(questions.len()) {
        found.push("it may not create a schema");
    }
    if found.is_empty() { Ok(()) } else { Err(ScratchError::Role(found)) }
}

/// Makes the role, but for its password.
pub(super) fn sql(dsn: &Dsn) -> String {
    let database = quoted(dsn.config().get_dbname().unwrap_or_default());
    format!(
        "CREATE ROLE estoppel_replay LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT; \
         GRANT CONNECT, CREATE ON DATABASE {database} TO estoppel_replay;"
    )
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
