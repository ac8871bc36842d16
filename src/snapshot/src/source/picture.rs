//! One snapshot over a connection: what is asked, in which order, and what the answers must agree on.

use std::sync::Arc;
use std::time::Instant;

use estoppel_evidence::hash::Sha256;
use tokio_postgres::SimpleQueryRow;

use super::connection::{Answers, Connection};
use super::{Settings, Snapshot};
use crate::catalog::{self, Namespaces, Part, position, preflight};
use crate::error::{Cause, SnapshotError};
use crate::lsn::Lsn;
use crate::schema::{self, Schema};
use crate::server::Server;

/// The last schema, and what the catalog was that it was printed from.
#[derive(Debug)]
pub(super) struct Cached {
    catalog: Catalog,
    schema: Arc<Schema>,
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

pub(super) async fn take(
    connection: &Connection,
    settings: &Settings,
    cached: &mut Option<Cached>,
    started: Instant,
) -> Result<Snapshot, SnapshotError> {
    for _ in 0..ATTEMPTS {
        let mut seen = look(connection, settings, cached.as_ref().map(|cached| &cached.catalog)).await?;
        if let Some(known) = cached.as_mut()
            && seen.catalog.fingerprint == known.catalog.fingerprint
            && *known.server == seen.server
        {
            known.catalog.visible = seen.catalog.visible.clone();
            return Ok(seen.into_snapshot(known.schema.clone(), known.server.clone(), started));
        }
        match read(connection, settings, &mut seen).await {
            Ok(schema) => {
                let (schema, server) = (Arc::new(schema), Arc::new(seen.server.clone()));
                *cached = Some(Cached {
                    catalog: seen.catalog.clone(),
                    schema: schema.clone(),
                    server: server.clone(),
                });
                return Ok(seen.into_snapshot(schema, server, started));
            }
            Err(error) if error.cause() == Cause::DdlRace => connection.roll_back(),
            Err(error) => return Err(error),
        }
    }
    Err(SnapshotError::DdlRace)
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
}

/// In one round trip: where the log is, which system it is, the fingerprint of the catalog, and where the log is then.
async fn look(
    connection: &Connection,
    settings: &Settings,
    known: Option<&Catalog>,
) -> Result<Seen, SnapshotError> {
    let transaction = Transaction::new(connection, settings);
    let transaction_sql = transaction.of(&[catalog::preflight(), fingerprint(known)]);
    let messages = [catalog::LOG_POSITION, catalog::SYSTEM, &transaction_sql, catalog::LOG_POSITION];
    let [before, system, inside, after] = ask(connection, messages).await;
    let before = before.ok().and_then(|answers| Position::read(&answers));
    let after = after.ok().and_then(|answers| Position::read(&answers));
    let mut inside = transaction.answers(inside?);
    let session = inside.next().and_then(|rows| rows.into_iter().next());
    let session = session.ok_or(SnapshotError::Unreadable("no row about the session"))?;

    let timeline = before.as_ref().or(after.as_ref()).and_then(|position| position.timeline);
    let server = read_server(&session, &system?, timeline)?;
    let lag_bytes = judge_recovery(&session, before.as_ref(), after.as_ref(), settings)?;
    let relations = number(&session, preflight::RELATIONS)?;
    if relations > settings.relations_max {
        return Err(SnapshotError::Relations { relations, relations_max: settings.relations_max });
    }
    Ok(Seen {
        server,
        catalog: read_catalog(&session, inside.next(), known)?,
        namespaces: Namespaces::listed(text(&session, preflight::NAMESPACES)),
        relations,
        lag_bytes,
        before,
        after,
    })
}

/// Reads the whole schema, and then the fingerprint once more: if that is what was seen before, no DDL came between.
async fn read(
    connection: &Connection,
    settings: &Settings,
    seen: &mut Seen,
) -> Result<Schema, SnapshotError> {
    let transaction = Transaction::new(connection, settings);
    let queries: Vec<String> =
        Part::ALL.iter().map(|part| part.query(connection.version, &seen.namespaces)).collect();
    let parts = transaction.of(&queries);
    let again = transaction.of(&[catalog::preflight(), fingerprint(Some(&seen.catalog))]);
    let [parts, again, after] = ask(connection, [&parts, &again, catalog::LOG_POSITION]).await;
    let parts: Answers = transaction.answers(parts?).take(queries.len()).collect();
    let mut again = transaction.answers(again?);
    let session = again.next().and_then(|rows| rows.into_iter().next());
    let session = session.ok_or(SnapshotError::Unreadable("no row about the session"))?;
    let catalog = read_catalog(&session, again.next(), Some(&seen.catalog))?;
    if catalog.fingerprint != seen.catalog.fingerprint {
        return Err(SnapshotError::DdlRace);
    }
    seen.catalog.visible = catalog.visible;
    seen.after = after.ok().and_then(|answers| Position::read(&answers));
    schema::read(&parts)
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
    fn new(connection: &Connection, settings: &Settings) -> Self {
        let (statement, lock) = (millis(settings.statement), millis(settings.lock));
        Self { begin: catalog::begin(connection.version, statement, lock) }
    }

    fn of(&self, statements: &[String]) -> String {
        format!("{}; {}; COMMIT", self.begin, statements.join("; "))
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

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, i32::MAX as u64)
}
