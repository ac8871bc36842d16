//! One snapshot over a connection: what is asked, in which order, and what the answers must agree on.

use std::sync::Arc;
use std::time::Instant;

use estoppel_evidence::hash::Sha256;
use tokio_postgres::SimpleQueryRow;

use super::connection::{Answers, Connection};
use super::{Settings, Snapshot};
use crate::catalog::{self, Part, position, preflight};
use crate::error::SnapshotError;
use crate::lsn::Lsn;
use crate::schema::{self, Schema};
use crate::server::Server;

/// The last schema, and the fingerprint of the catalog that it was printed from.
#[derive(Debug)]
pub(super) struct Cached {
    fingerprint: Fingerprint,
    schema: Arc<Schema>,
    server: Arc<Server>,
}

/// Catalog, count of rows, digest of their versions.
type Fingerprint = Vec<[Box<str>; 3]>;

/// How often somebody else's DDL may come between before nobody tries again.
const ATTEMPTS: usize = 2;

pub(super) async fn take(
    connection: &Connection,
    settings: &Settings,
    cached: &mut Option<Cached>,
    started: Instant,
) -> Result<Snapshot, SnapshotError> {
    if let Some(known) = cached.as_ref() {
        let seen = look(connection, settings, &[]).await?;
        if seen.fingerprint == known.fingerprint && *known.server == seen.server {
            return Ok(seen.into_snapshot(known.schema.clone(), known.server.clone(), started));
        }
    }
    let queries: Vec<String> = Part::ALL.iter().map(|part| part.query(connection.version)).collect();
    for _ in 0..ATTEMPTS {
        match whole(connection, settings, &queries).await {
            Ok((seen, schema)) => {
                let (schema, server) = (Arc::new(schema), Arc::new(seen.server.clone()));
                *cached = Some(Cached {
                    fingerprint: seen.fingerprint.clone(),
                    schema: schema.clone(),
                    server: server.clone(),
                });
                return Ok(seen.into_snapshot(schema, server, started));
            }
            Err(error) if error.cause() == crate::error::Cause::DdlRace => connection.roll_back(),
            Err(error) => return Err(error),
        }
    }
    Err(SnapshotError::DdlRace)
}

/// What every snapshot asks, whether or not the schema is known already.
struct Seen {
    server: Server,
    fingerprint: Fingerprint,
    relations: usize,
    lag_bytes: Option<u64>,
    before: Option<Position>,
    after: Option<Position>,
    parts: Answers,
}

async fn whole(
    connection: &Connection,
    settings: &Settings,
    queries: &[String],
) -> Result<(Seen, Schema), SnapshotError> {
    let mut seen = look(connection, settings, queries).await?;
    let parts = std::mem::take(&mut seen.parts);
    let schema = schema::read(&parts)?;
    Ok((seen, schema))
}

/// Asks everything in one round trip: where the log is, which system it is, the transaction, the fingerprint once more if
/// definitions were printed, and where the log is then.
async fn look(
    connection: &Connection,
    settings: &Settings,
    queries: &[String],
) -> Result<Seen, SnapshotError> {
    let begin = catalog::begin(connection.version, millis(settings.statement), millis(settings.lock));
    let fingerprint = catalog::fingerprint();
    let mut statements = vec![begin.clone(), catalog::preflight(), fingerprint.clone()];
    statements.extend_from_slice(queries);
    statements.push("COMMIT".to_owned());
    let transaction = statements.join("; ");
    let again = format!("{begin}; {fingerprint}; COMMIT");

    let mut messages = vec![catalog::LOG_POSITION, catalog::SYSTEM, &transaction];
    if !queries.is_empty() {
        messages.push(&again);
    }
    messages.push(catalog::LOG_POSITION);
    let mut answers = connection.ask_all(&messages).await.into_iter();
    let mut next = || answers.next().unwrap_or(Err(SnapshotError::Unreadable("an answer is missing")));

    let before = next().ok().and_then(|answers| Position::read(&answers));
    let system = next()?;
    let inside = next()?;
    let again = if queries.is_empty() { None } else { Some(next()?) };
    let after = next().ok().and_then(|answers| Position::read(&answers));

    // `BEGIN` and each `SET` are statements without rows.
    let settings_count = begin.matches(';').count() + 1;
    let mut inside = inside.into_iter().skip(settings_count);
    let session = inside.next().and_then(|rows| rows.into_iter().next());
    let session = session.ok_or(SnapshotError::Unreadable("no row about the session"))?;
    let fingerprint = read_fingerprint(inside.next())?;
    if let Some(again) = again
        && read_fingerprint(again.into_iter().nth(settings_count))? != fingerprint
    {
        return Err(SnapshotError::DdlRace);
    }

    let timeline = before.as_ref().or(after.as_ref()).and_then(|position| position.timeline);
    let server = read_server(&session, &system, timeline)?;
    let lag_bytes = judge_recovery(&session, before.as_ref(), after.as_ref(), settings)?;
    let relations = number(&session, preflight::RELATIONS)?;
    if relations > settings.relations_max {
        return Err(SnapshotError::Relations { relations, relations_max: settings.relations_max });
    }
    Ok(Seen {
        server,
        fingerprint,
        relations,
        lag_bytes,
        before,
        after,
        parts: inside.take(queries.len()).collect(),
    })
}

impl Seen {
    fn into_snapshot(self, schema: Arc<Schema>, server: Arc<Server>, started: Instant) -> Snapshot {
        let state = serde_json::json!({
            "database_oid": server.database_oid,
            "fingerprint": self.fingerprint,
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

fn read_fingerprint(rows: Option<Vec<SimpleQueryRow>>) -> Result<Fingerprint, SnapshotError> {
    let unreadable = SnapshotError::Unreadable("no fingerprint of the catalog");
    let Some(rows) = rows.filter(|rows| !rows.is_empty()) else { return Err(unreadable) };
    let read =
        |row: &SimpleQueryRow| Some([text(row, 0)?.into(), text(row, 1)?.into(), text(row, 2)?.into()]);
    rows.iter().map(read).collect::<Option<_>>().ok_or(unreadable)
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
