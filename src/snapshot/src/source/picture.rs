//! One snapshot over a connection: what is asked, in which order, and what the answers must agree on.

use std::sync::Arc;
use std::time::Instant;

use estoppel_evidence::hash::Sha256;
use tokio_postgres::SimpleQueryRow;

use super::connection::{Answers, Connection};
use super::copies::{Copies, Imported, RowSettings};
use super::{Settings, Snapshot, millis};
use crate::catalog::{self, Namespaces, Part, position, preflight};
use crate::dsn::Dsn;
use crate::error::{Cause, SnapshotError};
use crate::lsn::Lsn;
use crate::rows::{Rows, RowsCause, TableName};
use crate::schema::{self, Schema};
use crate::server::Server;

/// The last schema, and what the catalog was that it was printed from.
#[derive(Debug)]
pub(super) struct Cached {
    catalog: Catalog,
    schema: Arc<Schema>,
    /// The same with the rows that were last read, and what was visible then.
    with_rows: Option<(Box<str>, Arc<Schema>)>,
    server: Arc<Server>,
}

/// What a catalog was like.
#[derive(Clone, Debug)]
struct Catalog {
    fingerprint: Fingerprint,
    /// Of the statement that read it.
    visible: Box<str>,
}

/// Catalog, count of rows, digest of their versions.
type Fingerprint = Arc<[[Box<str>; 3]]>;

/// How often somebody else's DDL may come between before nobody tries again.
const ATTEMPTS: usize = 2;

/// What snapshots are taken with.
pub(super) struct Camera<'a> {
    pub connection: &'a Connection,
    pub dsn: &'a Dsn,
    pub settings: &'a Settings,
}

/// What every snapshot asks, whether or not the schema is known already.
struct Seen {
    server: Server,
    catalog: Catalog,
    namespaces: Namespaces,
    relations: usize,
    lag_bytes: Option<u64>,
    before: Option<Position>,
    after: Option<Position>,
    /// Under which name others can see the same, until the transaction ends.
    exported: Option<Box<str>>,
}

impl Camera<'_> {
    pub async fn take(
        &self,
        copies: &mut Copies,
        cached: &mut Option<Cached>,
        started: Instant,
    ) -> Result<Snapshot, SnapshotError> {
        for _ in 0..ATTEMPTS {
            let mut seen = self.look(cached.as_ref().map(|cached| &cached.catalog)).await?;
            let at = seen.catalog.visible.clone();
            let rows = self.import(copies, cached.as_ref(), &mut seen).await;
            let is_known = cached.as_ref().is_some_and(|known| {
                seen.catalog.fingerprint == known.catalog.fingerprint && *known.server == seen.server
            });
            if !is_known {
                match self.read(&mut seen).await {
                    Ok(schema) => *cached = Some(Cached::new(schema, &seen)),
                    Err(error) if error.cause() == Cause::DdlRace => {
                        self.connection.roll_back();
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let known = cached.as_mut().ok_or(SnapshotError::DdlRace)?;
            let schema = match rows {
                None => known.schema.clone(),
                Some(Importing::Known(schema)) => schema,
                Some(Importing::Begun(imported)) => {
                    let rows = self.rows(copies, imported, &mut seen).await?;
                    let schema = known.schema.with_rows(Arc::new(rows)).map(Arc::new);
                    let schema = schema.ok_or(SnapshotError::Unreadable("a name that no JSON can hold"))?;
                    known.with_rows = known.repeats(&self.settings.rows).then(|| (at, schema.clone()));
                    schema
                }
            };
            known.catalog.visible = seen.catalog.visible.clone();
            return Ok(seen.into_snapshot(schema, known.server.clone(), started));
        }
        Err(SnapshotError::DdlRace)
    }

    /// In one round trip: where the log is, which system it is, the fingerprint of the catalog, and where the log is then. The
    /// transaction stays open where others are to see the same.
    async fn look(&self, known: Option<&Catalog>) -> Result<Seen, SnapshotError> {
        let transaction = Transaction::new(self);
        let exports = !self.settings.rows.tables.is_empty();
        let mut statements = vec![catalog::preflight(), fingerprint(known)];
        let inside = if exports {
            statements.push(catalog::EXPORT.to_owned());
            transaction.left_open(&statements)
        } else {
            transaction.of(&statements)
        };
        let after = if exports { "" } else { catalog::LOG_POSITION }; // in a transaction its failure would end that
        let messages = [catalog::LOG_POSITION, catalog::SYSTEM, &inside, after];
        let [before, system, inside, after] = ask(self.connection, messages).await;
        let before = before.ok().and_then(|answers| Position::read(&answers));
        let after = after.ok().and_then(|answers| Position::read(&answers));
        let mut inside = transaction.answers(inside?);
        let session = inside.next().and_then(|rows| rows.into_iter().next());
        let session = session.ok_or(SnapshotError::Unreadable("no row about the session"))?;

        let timeline = before.as_ref().or(after.as_ref()).and_then(|position| position.timeline);
        let server = read_server(&session, &system?, timeline)?;
        let lag_bytes = judge_recovery(&session, before.as_ref(), after.as_ref(), self.settings)?;
        let relations = number(&session, preflight::RELATIONS)?;
        let relations_max = self.settings.relations_max;
        if relations > relations_max {
            return Err(SnapshotError::Relations { relations, relations_max });
        }
        let catalog = read_catalog(&session, inside.next(), known)?;
        let exported = inside.next().and_then(|rows| rows.into_iter().next());
        Ok(Seen {
            server,
            catalog,
            namespaces: Namespaces::listed(text(&session, preflight::NAMESPACES)),
            relations,
            lag_bytes,
            before,
            after,
            exported: exported.and_then(|row| text(&row, 0).map(Into::into)),
        })
    }

    /// Begins to read rows, at the moment that was seen. None where none are asked for.
    async fn import(
        &self,
        copies: &mut Copies,
        cached: Option<&Cached>,
        seen: &mut Seen,
    ) -> Option<Importing> {
        let exported = seen.exported.take()?;
        let rows = cached.and_then(|cached| cached.with_rows.as_ref());
        let importing = match rows.filter(|(visible, _)| *visible == seen.catalog.visible) {
            Some((_, schema)) => Importing::Known(schema.clone()),
            None => Importing::Begun(copies.import(self.dsn, self.settings, &exported).await),
        };
        self.connection.roll_back();
        let [after] = ask(self.connection, [catalog::LOG_POSITION]).await;
        seen.after = after.ok().and_then(|answers| Position::read(&answers));
        Some(importing)
    }

    /// Reads the whole schema, and then the fingerprint once more: if that is what was seen before, no DDL came between.
    async fn read(&self, seen: &mut Seen) -> Result<Schema, SnapshotError> {
        let transaction = Transaction::new(self);
        let query = |part: &Part| part.query(self.connection.version, &seen.namespaces);
        let queries: Vec<String> = Part::ALL.iter().map(query).collect();
        let parts = transaction.of(&queries);
        let again = transaction.of(&[catalog::preflight(), fingerprint(Some(&seen.catalog))]);
        let [parts, again, after] = ask(self.connection, [&parts, &again, catalog::LOG_POSITION]).await;
        let parts: Answers = transaction.answers(parts?).take(queries.len()).collect();
        seen.settle(transaction.answers(again?), after)?;
        schema::read(&parts)
    }

    /// The rows of the moment that was seen. Where the schema is another by now they may be neither that's nor this one's.
    async fn rows(
        &self,
        copies: &mut Copies,
        imported: Result<Imported, RowsCause>,
        seen: &mut Seen,
    ) -> Result<Rows, SnapshotError> {
        let wanted = &self.settings.rows;
        let rows = match imported {
            Ok(imported) => copies.read(imported, wanted).await,
            Err(cause) => Rows::missing(&wanted.tables, cause),
        };
        let transaction = Transaction::new(self);
        let again = transaction.of(&[catalog::preflight(), fingerprint(Some(&seen.catalog))]);
        let [again, after] = ask(self.connection, [&again, catalog::LOG_POSITION]).await;
        match seen.settle(transaction.answers(again?), after) {
            Ok(()) => Ok(rows),
            Err(SnapshotError::DdlRace) => Ok(Rows::missing(&wanted.tables, RowsCause::DdlRace)),
            Err(error) => Err(error),
        }
    }
}

/// Rows that are known from the last time, or are to be read.
enum Importing {
    Known(Arc<Schema>),
    Begun(Result<Imported, RowsCause>),
}

impl Cached {
    fn new(schema: Schema, seen: &Seen) -> Self {
        Self {
            catalog: seen.catalog.clone(),
            schema: Arc::new(schema),
            with_rows: None,
            server: Arc::new(seen.server.clone()),
        }
    }

    /// Whether rows are the same as long as nobody writes here: those of views and of other servers need not be.
    fn repeats(&self, wanted: &RowSettings) -> bool {
        let relations = &self.schema.parts()["relations"];
        let is_table = |name: &TableName| relations[&*name.schema][&*name.table]["kind"] == "table";
        let schemas = relations.as_object().into_iter().flat_map(|schemas| schemas.values());
        let mut all = schemas.filter_map(|tables| tables.as_object()).flat_map(|tables| tables.values());
        wanted.tables.iter().all(is_table) && all.all(|relation| relation["kind"] != "foreign_table")
    }
}

fn fingerprint(known: Option<&Catalog>) -> String {
    catalog::fingerprint(known.map(|known| &*known.visible))
}

fn read_catalog(
    session: &SimpleQueryRow,
    rows: Option<Vec<SimpleQueryRow>>,
    known: Option<&Catalog>,
) -> Result<Catalog, SnapshotError> {
    let unreadable = SnapshotError::Unreadable("no fingerprint of the catalog");
    let visible = text(session, preflight::VISIBLE).filter(|visible| catalog::is_visible(visible));
    let (Some(visible), Some(rows)) = (visible, rows) else { return Err(unreadable) };
    let fingerprint = match (rows.is_empty(), known) {
        (true, Some(known)) if *known.visible == *visible => known.fingerprint.clone(),
        (true, _) => return Err(unreadable),
        (false, _) => {
            let read = |row: &SimpleQueryRow| {
                Some([text(row, 0)?.into(), text(row, 1)?.into(), text(row, 2)?.into()])
            };
            rows.iter().map(read).collect::<Option<_>>().ok_or(unreadable)?
        }
    };
    Ok(Catalog { fingerprint, visible: visible.into() })
}

/// Statements that see one moment, in one message.
struct Transaction {
    begin: String,
}

impl Transaction {
    fn new(camera: &Camera<'_>) -> Self {
        let (statement, lock) = (millis(camera.settings.statement), millis(camera.settings.lock));
        Self { begin: catalog::begin(camera.connection.version, statement, lock) }
    }

    fn of(&self, statements: &[String]) -> String {
        format!("{}; COMMIT", self.left_open(statements))
    }

    fn left_open(&self, statements: &[String]) -> String {
        format!("{}; {}", self.begin, statements.join("; "))
    }

    /// Those of the statements: `BEGIN` and each `SET` are some without rows.
    fn answers(&self, answers: Answers) -> impl Iterator<Item = Vec<SimpleQueryRow>> {
        answers.into_iter().skip(self.begin.matches(';').count() + 1)
    }
}

/// All in one round trip, each with its own outcome.
async fn ask<const N: usize>(
    connection: &Connection,
    messages: [&str; N],
) -> [Result<Answers, SnapshotError>; N] {
    let mut answers = connection.ask_all(&messages).await.into_iter();
    std::array::from_fn(|_| answers.next().unwrap_or(Err(SnapshotError::Unreadable("an answer is missing"))))
}

impl Seen {
    /// What was visible last, unless the catalog is another than was seen.
    fn settle(
        &mut self,
        mut again: impl Iterator<Item = Vec<SimpleQueryRow>>,
        after: Result<Answers, SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let session = again.next().and_then(|rows| rows.into_iter().next());
        let session = session.ok_or(SnapshotError::Unreadable("no row about the session"))?;
        let catalog = read_catalog(&session, again.next(), Some(&self.catalog))?;
        if catalog.fingerprint != self.catalog.fingerprint {
            return Err(SnapshotError::DdlRace);
        }
        self.catalog.visible = catalog.visible;
        self.after = after.ok().and_then(|answers| Position::read(&answers));
        Ok(())
    }

    fn into_snapshot(self, schema: Arc<Schema>, server: Arc<Server>, started: Instant) -> Snapshot {
        let state = serde_json::json!({
            "database_oid": server.database_oid,
            "fingerprint": self.catalog.fingerprint.as_ref(),
            "system_identifier": server.system_identifier,
        });
        Snapshot {
            state: Sha256::of(state.to_string().as_bytes()),
            schema,
            server,
            before: self.before.as_ref().and_then(Position::visible),
            after: self.after.as_ref().and_then(Position::visible),
            flushed: self.after.as_ref().and_then(|position| position.flushed),
            relations: self.relations,
            lag_bytes: self.lag_bytes,
            took: started.elapsed(),
        }
    }
}

/// Where a server's log was.
struct Position {
    inserted: Option<Lsn>,
    flushed: Option<Lsn>,
    received: Option<Lsn>,
    replayed: Option<Lsn>,
    is_paused: bool,
    timeline: Option<u32>,
}

impl Position {
    fn read(answers: &Answers) -> Option<Self> {
        let row = answers.first()?.first()?;
        let lsn = |at: usize| text(row, at).and_then(|text| text.parse().ok());
        Some(Self {
            inserted: lsn(position::INSERTED),
            flushed: lsn(position::FLUSHED),
            received: lsn(position::RECEIVED),
            replayed: lsn(position::REPLAYED),
            is_paused: text(row, position::PAUSED) == Some("t"),
            timeline: text(row, position::TIMELINE).and_then(|hex| u32::from_str_radix(hex, 16).ok()),
        })
    }

    /// What is committed and visible lies before this.
    fn visible(&self) -> Option<Lsn> {
        self.inserted.or(self.replayed)
    }
}

/// How far a replica is behind. Only being in recovery makes one: a server that was promoted still knows what it replayed last.
fn judge_recovery(
    session: &SimpleQueryRow,
    before: Option<&Position>,
    after: Option<&Position>,
    settings: &Settings,
) -> Result<Option<u64>, SnapshotError> {
    if text(session, preflight::IN_RECOVERY) == Some("f") {
        return Ok(None);
    }
    let Some(limit_bytes) = settings.replica_lag_bytes_max else { return Err(SnapshotError::Replica) };
    let position = after.or(before).ok_or(SnapshotError::Replica)?;
    let (Some(received), Some(replayed)) = (position.received, position.replayed) else {
        return Err(SnapshotError::Replica);
    };
    if position.is_paused {
        return Err(SnapshotError::ReplayPaused { at: replayed });
    }
    let lag_bytes = received.bytes_since(replayed);
    if lag_bytes > limit_bytes {
        return Err(SnapshotError::ReplicaLag { lag_bytes, limit_bytes });
    }
    Ok(Some(lag_bytes))
}

fn read_server(
    session: &SimpleQueryRow,
    system: &Answers,
    timeline: Option<u32>,
) -> Result<Server, SnapshotError> {
    let name = |at: usize| text(session, at).ok_or(SnapshotError::Unreadable("a session without its names"));
    let system = system.first().and_then(|rows| rows.first()).and_then(|row| text(row, 0));
    Ok(Server {
        database: name(preflight::DATABASE)?.into(),
        database_oid: number(session, preflight::DATABASE_OID)?,
        server_version: number(session, preflight::VERSION)?,
        system_identifier: system.ok_or(SnapshotError::Unreadable("no system identifier"))?.into(),
        timeline,
        user: name(preflight::USER)?.into(),
    })
}

fn text(row: &SimpleQueryRow, at: usize) -> Option<&str> {
    row.try_get(at).ok().flatten()
}

fn number<T: std::str::FromStr>(row: &SimpleQueryRow, at: usize) -> Result<T, SnapshotError> {
    text(row, at)
        .and_then(|text| text.parse().ok())
        .ok_or(SnapshotError::Unreadable("a number of the session"))
}
