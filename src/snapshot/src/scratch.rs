//! A schema of its own in a real database, in which recorded statements are run and of which nothing stays.
//!
//! What keeps them inside, in this order: a role that may do nothing else ([`role`]), one transaction that is never committed, and a form in
//! which they are sent that takes one statement and can end no transaction. Reads and writes are tried as `PREPARE … AS`, whose grammar
//! has no other, and then sent by the extended protocol, with their parameters bound ([`parameter`]); everything else is parsed alone and then
//! run by `EXECUTE` of PL/pgSQL, which refuses to end the transaction around it. That nothing did is looked up after each statement. If this program dies, the server rolls back.

mod definition;
mod parameter;
mod rewrite;
mod role;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{TryStreamExt as _, pin_mut};
use serde_json::Value;
use tokio_postgres::types::Kind;
use tokio_postgres::{SimpleQueryMessage, Statement, Transaction};

use crate::dsn::Dsn;
use crate::error::SnapshotError;
use crate::schema::Schema;
use crate::source::{Connection, Settings, connect};
use crate::tls::Tls;

use definition::Definition;
use parameter::Bound;

/// How statements are run.
#[derive(Clone, Debug)]
pub struct ScratchSettings {
    /// The longest that connecting may take.
    pub connect: Duration,
    /// The longest that the server may work on one statement; then it is refused with the state `57014`.
    pub statement: Duration,
    /// The longest that a statement may wait for somebody else's lock; then `55P03`.
    pub lock: Duration,
    /// More rows of one statement are not read.
    pub rows_max: usize,
    /// More bytes of the rows of one statement are not read.
    pub bytes_max: usize,
    pub tls: Option<Tls>,
}

impl Default for ScratchSettings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            statement: Duration::from_secs(5),
            lock: Duration::from_secs(1),
            rows_max: 10_000,
            bytes_max: 64 << 20,
            tls: None,
        }
    }
}

/// Why statements cannot be run, or can no longer.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    #[error("the database could not be connected to")]
    Connect(#[source] SnapshotError),
    #[error("this role may do more than a replay needs: {}", .0.join("; "))]
    Role(Vec<&'static str>),
    #[error("the connection was lost; the server rolls back")]
    Lost(#[source] tokio_postgres::Error),
    #[error("the server refused what a replay needs: {0}")]
    Refused(Box<str>),
    #[error("a schema with {0} objects is not recreated, limit {max}", max = definition::OBJECTS_MAX)]
    Objects(usize),
    #[error("the schema document has no namespace `{namespace}`{}", listed(.there))]
    Namespace { namespace: String, there: Vec<String> },
}

/// Most namespaces that an error names.
const LISTED_MAX: usize = 20;

fn listed(there: &[String]) -> String {
    let names: Vec<_> = there.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    match (names.is_empty(), there.len() > LISTED_MAX) {
        (true, _) => "; it has none".to_owned(),
        (false, false) => format!("; it has {}", names.join(", ")),
        (false, true) => format!("; it has {} and others", names.join(", ")),
    }
}

/// A column of what a statement gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    pub name: String,
    pub form: Form,
}

/// How the text of a value is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Bool,
    /// `\x` and hexadecimal digits.
    Bytes,
    Json,
    Number,
    Text,
    /// With or without a zone; the session's is UTC.
    Time,
    /// Lists, records and ranges: the server's own notation.
    Nested,
}

/// What a statement gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ran {
    /// It gives no rows, and has written so many, if it writes any.
    Done {
        count: Option<u64>,
    },
    Rows {
        columns: Vec<Column>,
        rows: Vec<Vec<Option<String>>>,
    },
    /// It was not run: the values are not as many as its parameters, one is no value of its type, or its rows could not be told from a cursor's.
    Unbound,
    /// More than [`ScratchSettings::rows_max`] or [`ScratchSettings::bytes_max`].
    TooMany,
    /// By the server, with its state; what it had done is undone.
    Refused {
        state: String,
        message: String,
    },
    /// The transaction is another one afterwards, or none. Nothing may be run any more.
    Escaped,
}

/// What is known at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    /// The transaction was the same from beginning to end.
    pub kept: bool,
    /// The schema is not there any more.
    pub gone: bool,
}

/// An open transaction with a scratch schema in it. Dropping it closes the connection, and the server rolls back.
#[derive(Debug)]
pub struct Scratch {
    connection: Connection,
    name: String,
    begin: String,
    transaction: String,
    settings: ScratchSettings,
    steps: u64,
    not_recreated: BTreeMap<&'static str, u64>,
}

impl Scratch {
    /// Opens a transaction and recreates the tables, types, sequences, constraints, indexes and views of one namespace of `schema` in a schema
    /// `estoppel_replay_<id>` of it.
    ///
    /// # Errors
    /// What [`ScratchError`] says. What of the schema could not be recreated is no error: [`Scratch::not_recreated`].
    pub async fn open(
        dsn: &Dsn,
        settings: ScratchSettings,
        schema: &Schema,
        namespace: &str,
        id: u64,
    ) -> Result<Self, ScratchError> {
        let there: Vec<String> = schema.namespaces().map(ToOwned::to_owned).collect();
        if !there.iter().any(|name| name == namespace) {
            return Err(ScratchError::Namespace { namespace: namespace.to_owned(), there });
        }
        let limits =
            Settings { deadline: settings.connect, tls: settings.tls.clone(), ..Settings::default() };
        // A pooler refuses options; behind one, prepared statements and settings would be somebody else's next.
        let connection = connect(dsn, &limits, Some("-c jit=off")).await.map_err(ScratchError::Connect)?;
        role::check(&connection).await?;
        let name = format!("estoppel_replay_{id:016x}");
        let begin = local_settings(&name, &settings, connection.version);
        let mut scratch = Self {
            connection,
            name,
            begin,
            transaction: String::new(),
            settings,
            steps: 0,
            not_recreated: BTreeMap::new(),
        };
        scratch.tell(&format!("BEGIN; CREATE SCHEMA {}; {}", scratch.name, scratch.begin)).await?;
        scratch.transaction = scratch.current().await?.unwrap_or_default();
        scratch.recreate(definition::of(schema, namespace)?).await?;
        Ok(scratch)
    }

    /// How many objects of each part of the schema are not there.
    pub fn not_recreated(&self) -> &BTreeMap<&'static str, u64> {
        &self.not_recreated
    }

    /// The name of the schema.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs one statement with the values of its parameters. A refused one leaves everything as it was.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn run(
        &mut self,
        statement: &str,
        parameters: &[Value],
        is_query: bool,
    ) -> Result<Ran, ScratchError> {
        self.steps += 1;
        // A function may have left cursors open.
        self.tell(&format!("CLOSE ALL; SAVEPOINT step; {}", self.begin)).await?;
        let ran = match (is_query, parameters) {
            (true, _) => self.query(statement, parameters).await?,
            (false, []) => self.command(statement).await.or_else(refused)?,
            (false, _) => Ran::Unbound,
        };
        let end = match ran {
            Ran::Refused { .. } => "ROLLBACK TO SAVEPOINT step; RELEASE SAVEPOINT step",
            _ => "RELEASE SAVEPOINT step",
        };
        if let Err(ScratchError::Refused(_)) = self.tell(end).await {
            return Ok(Ran::Escaped);
        }
        Ok(if self.current().await?.as_ref() == Some(&self.transaction) { ran } else { Ran::Escaped })
    }

    /// Rolls back, and looks whether the schema is gone. Where it is not, it is dropped, and that is said all the same.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn close(self) -> Result<Closed, ScratchError> {
        let kept = self.current().await.ok().flatten().as_ref() == Some(&self.transaction);
        self.tell("ROLLBACK").await?;
        let look = format!("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = '{}'", self.name);
        let gone = self.connection.client().simple_query(&look).await.map_err(lost)?;
        let gone = !gone.iter().any(|message| matches!(message, SimpleQueryMessage::Row(_)));
        if !gone {
            self.tell(&format!("DROP SCHEMA {} CASCADE", self.name)).await?;
        }
        Ok(Closed { kept, gone })
    }

    async fn query(&mut self, statement: &str, parameters: &[Value]) -> Result<Ran, ScratchError> {
        let prepared = match self.prepare(statement).await {
            Ok(prepared) => prepared,
            Err(error) => return refused(error),
        };
        let Some(bound) = Bound::all(parameters, prepared.params()) else { return Ok(Ran::Unbound) };
        let client = self.connection.client_alone();
        let client = client.ok_or_else(|| ScratchError::Refused("a connection of its own".into()))?;
        // The `BEGIN` of it changes nothing in a transaction. If this is dropped on the way, all is rolled back.
        let within = client.transaction().await.map_err(lost)?;
        let ran = run_bound(&within, &prepared, &bound, &self.settings).await;
        // Its end would be that of the transaction.
        std::mem::forget(within);
        ran.or_else(refused)
    }

    /// `PREPARE` takes one statement that reads or writes rows and nothing else, which the server sees to: what it has taken is such a one by
    /// itself, too.
    async fn prepare(&self, statement: &str) -> Result<Statement, tokio_postgres::Error> {
        let client = self.connection.client();
        let step = format!("step_{}", self.steps);
        client.execute(&format!("PREPARE {step} AS {statement}"), &[]).await?;
        client.batch_execute(&format!("DEALLOCATE {step}")).await?;
        client.prepare(statement).await
    }

    /// Parsed by itself, so that it is one statement, and then run where no transaction can be ended.
    async fn command(&self, statement: &str) -> Result<Ran, tokio_postgres::Error> {
        let client = self.connection.client();
        client.prepare(statement).await?;
        let hex: String = statement.bytes().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("pg_catalog.convert_from(pg_catalog.decode('{hex}', 'hex'), 'UTF8')");
        client.batch_execute(&format!("DO $step$ BEGIN EXECUTE {text}; END $step$")).await?;
        Ok(Ran::Done { count: None })
    }

    async fn recreate(&mut self, definitions: definition::Definitions) -> Result<(), ScratchError> {
        self.not_recreated = definitions.left_out;
        for definition in &definitions.list {
            if !self.define(definition).await? {
                *self.not_recreated.entry(definition.part).or_default() += 1;
            }
        }
        let mut views = definitions.views;
        loop {
            let before = views.len();
            let mut left = Vec::new();
            for view in views {
                if !self.define(&view).await? {
                    left.push(view);
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            if left.len() == before {
                *self.not_recreated.entry("views").or_default() += before as u64; // usize fits
                return Ok(());
            }
            views = left;
        }
    }

    /// Whether the server took it.
    async fn define(&self, definition: &Definition) -> Result<bool, ScratchError> {
        self.tell("SAVEPOINT step").await?;
        let defined = self.connection.client().execute(&*definition.sql, &[]).await;
        let is_defined = match defined {
            Ok(_) => true,
            Err(error) => {
                if let Ran::Refused { state, message } = refused(error)? {
                    tracing::debug!(part = definition.part, state, message, "not recreated");
                }
                false
            }
        };
        let undo = if is_defined { "" } else { "ROLLBACK TO SAVEPOINT step; " };
        self.tell(&format!("{undo}RELEASE SAVEPOINT step")).await?;
        Ok(is_defined)
    }

    /// Our own words, without rows.
    async fn tell(&self, statements: &str) -> Result<(), ScratchError> {
        self.connection.client().batch_execute(statements).await.map_err(lost)
    }

    /// The number of the transaction, if it has one.
    async fn current(&self) -> Result<Option<String>, ScratchError> {
        const ASK: &str = "SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text";
        let answer = self.connection.client().simple_query(ASK).await.map_err(lost)?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
            _ => None,
        });
        Ok(row.map(ToOwned::to_owned))
    }
}

async fn run_bound(
    within: &Transaction<'_>,
    prepared: &Statement,
    bound: &[Bound],
    settings: &ScratchSettings,
) -> Result<Ran, tokio_postgres::Error> {
    let portal = within.bind_raw(prepared, bound).await?;
    if prepared.columns().is_empty() {
        let rows = within.query_portal_raw(&portal, 0).await?;
        pin_mut!(rows);
        while rows.try_next().await?.is_some() {}
        return Ok(Ran::Done { count: rows.rows_affected() });
    }
    let columns = prepared
        .columns()
        .iter()
        .map(|column| Column { name: column.name().to_owned(), form: form_of(column.type_()) })
        .collect();
    let Some(name) = portal_name(within).await? else { return Ok(Ran::Unbound) };
    let rows = fetch(within, &name, settings).await?;
    Ok(rows.map_or(Ran::TooMany, |rows| Ran::Rows { columns, rows }))
}

/// As SQL, of the one portal that is open.
async fn portal_name(within: &Transaction<'_>) -> Result<Option<String>, tokio_postgres::Error> {
    const ASK: &str = "SELECT pg_catalog.quote_ident(name) FROM pg_catalog.pg_cursors";
    let answer = within.simple_query(ASK).await?;
    let mut rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
        _ => None,
    });
    let name = rows.next().map(ToOwned::to_owned);
    Ok(name.filter(|_| rows.next().is_none()))
}

/// The rows of a portal as texts, which only a `FETCH` gives. None where they are too many; the server is not asked for more than one
/// beyond.
async fn fetch(
    within: &Transaction<'_>,
    name: &str,
    settings: &ScratchSettings,
) -> Result<Option<Vec<Vec<Option<String>>>>, tokio_postgres::Error> {
    let most = settings.rows_max.saturating_add(1);
    let rows = format!("FETCH FORWARD {most} FROM {name}");
    let rows = within.client().simple_query_raw(&rows).await?;
    pin_mut!(rows);
    let (mut kept, mut bytes, mut is_more) = (Vec::new(), 0, false);
    while let Some(message) = rows.try_next().await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let cells = || (0..row.len()).map(|at| row.try_get(at).ok().flatten());
        bytes += cells().flatten().map(str::len).sum::<usize>();
        is_more |= kept.len() == settings.rows_max || bytes > settings.bytes_max;
        match is_more {
            true => kept = Vec::new(),
            false => kept.push(cells().map(|cell| cell.map(ToOwned::to_owned)).collect()),
        }
    }
    Ok((!is_more).then_some(kept))
}

/// SQL by which an administrator makes the role for replays in this database.
pub fn role_sql(dsn: &Dsn) -> String {
    role::sql(dsn)
}

/// Set before each statement again, since a statement can set what is local to the transaction.
fn local_settings(name: &str, settings: &ScratchSettings, version: u32) -> String {
    let millis = |duration: Duration| duration.as_millis().clamp(1, i32::MAX as u128);
    let (statement, lock) = (millis(settings.statement), millis(settings.lock));
    let mut all = vec![
        format!("search_path = {name}, pg_temp"),
        format!("statement_timeout = {statement}"),
        format!("lock_timeout = {lock}"),
        "idle_in_transaction_session_timeout = '60s'".to_owned(),
        "TimeZone = 'UTC'".to_owned(),
        "DateStyle = 'ISO, YMD'".to_owned(),
        "IntervalStyle = 'postgres'".to_owned(),
        "extra_float_digits = 1".to_owned(),
        "bytea_output = 'hex'".to_owned(),
        "standard_conforming_strings = on".to_owned(),
        "jit = off".to_owned(),
    ];
    // A server that works on a statement otherwise does not see that nobody waits for it any more.
    if version >= 140_000 {
        all.push("client_connection_check_interval = '1s'".to_owned());
    }
    all.iter().map(|setting| format!("SET LOCAL {setting}")).collect::<Vec<_>>().join("; ")
}

fn form_of(of: &tokio_postgres::types::Type) -> Form {
    match (of.kind(), of.name()) {
        (Kind::Domain(base), _) => form_of(base),
        (Kind::Enum(_), _) => Form::Text,
        (Kind::Simple, "bool") => Form::Bool,
        (Kind::Simple, "bytea") => Form::Bytes,
        (Kind::Simple, "int2" | "int4" | "int8" | "float4" | "float8" | "numeric" | "oid") => Form::Number,
        (Kind::Simple, "json" | "jsonb") => Form::Json,
        (Kind::Simple, "timestamp" | "timestamptz") => Form::Time,
        (Kind::Simple, _) => Form::Text,
        _ => Form::Nested,
    }
}

/// What the server said, or that it is gone.
fn refused(error: tokio_postgres::Error) -> Result<Ran, ScratchError> {
    match error.as_db_error() {
        Some(db) if !db.code().code().starts_with("57P") => {
            Ok(Ran::Refused { state: db.code().code().to_owned(), message: db.message().to_owned() })
        }
        _ => Err(ScratchError::Lost(error)),
    }
}

fn lost(error: tokio_postgres::Error) -> ScratchError {
    match error.as_db_error() {
        Some(db) => ScratchError::Refused(db.message().into()),
        None => ScratchError::Lost(error),
    }
}
