//! One database with one warm connection of its own.

mod connection;
mod copies;
mod picture;

use std::sync::Arc;
use std::time::{Duration, Instant};

use estoppel_evidence::hash::Sha256;
use tokio::sync::{mpsc, oneshot};

use crate::dsn::Dsn;
use crate::error::SnapshotError;
use crate::lsn::Lsn;
use crate::schema::Schema;
use crate::server::Server;
use crate::tls::Tls;
use copies::Copies;
pub use copies::RowSettings;
use picture::{Cached, Camera};

pub(crate) use connection::{Answers, Connection};

/// How snapshots of a database are taken.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The longest that one snapshot may take, connecting included.
    pub deadline: Duration,
    /// The longest that the server may work on one statement; a whole millisecond at least.
    pub statement: Duration,
    /// The longest that printing a definition may queue behind DDL.
    pub lock: Duration,
    /// More relations than this are not looked at.
    pub relations_max: usize,
    /// So many callers may wait for snapshots of one database.
    pub waiting_max: usize,
    /// Whether a replica will do, and how far it may be behind. `None`: only a primary.
    pub replica_lag_bytes_max: Option<u64>,
    /// Who may vouch for the server's certificate, where the connection is over TLS.
    pub tls: Option<Tls>,
    /// Rows of which tables are read; within the deadline, and none by default.
    pub rows: RowSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(250),
            statement: Duration::from_millis(200),
            lock: Duration::from_millis(100),
            relations_max: 1_000,
            waiting_max: 1_024,
            replica_lag_bytes_max: None,
            tls: None,
            rows: RowSettings::default(),
        }
    }
}

/// What a database looked like, at one moment between two places of its log.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub schema: Arc<Schema>,
    /// Digest of the versions of the catalog's rows: equal only on one server, and there only if no DDL came between.
    pub state: Sha256,
    pub server: Arc<Server>,
    /// Where the log was before and after. What the snapshot shows was committed before `after`; if both are equal,
    /// nobody wrote in between, anywhere on the server. `None`: the server does not say.
    pub before: Option<Lsn>,
    pub after: Option<Lsn>,
    /// How far the log was on disk afterwards, for the same reasons perhaps not known.
    pub flushed: Option<Lsn>,
    pub relations: usize,
    /// How far a replica was behind what it had received. `None` of a primary.
    pub lag_bytes: Option<u64>,
    pub took: Duration,
}

/// Asks for snapshots of one database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    requests: mpsc::Sender<Request>,
    deadline: Duration,
}

type Answer = Result<Arc<Snapshot>, Arc<SnapshotError>>;
type Request = oneshot::Sender<Answer>;

/// What a [`Source`] is served by: to be run as one task, which ends when no source is left.
#[derive(Debug)]
pub struct SourceTask {
    requests: mpsc::Receiver<Request>,
    dsn: Dsn,
    settings: Settings,
    connection: Option<Connection>,
    copies: Copies,
    cached: Option<Cached>,
    pinned: Option<Arc<Server>>,
}

impl Source {
    /// A source and the task that serves it. Nothing is connected to yet.
    pub fn new(dsn: Dsn, settings: Settings) -> (Self, SourceTask) {
        let (sender, requests) = mpsc::channel(settings.waiting_max.max(1));
        let source = Self { requests: sender, deadline: settings.deadline };
        let (copies, connection, cached, pinned) = (Copies::default(), None, None, None);
        (source, SourceTask { requests, dsn, settings, connection, copies, cached, pinned })
    }

    /// A snapshot that begins after this was called. Callers who wait together get the same one.
    ///
    /// # Errors
    /// What [`SnapshotError`] says.
    pub async fn take(&self) -> Answer {
        let (sender, answer) = oneshot::channel();
        if self.requests.try_send(sender).is_err() {
            return Err(Arc::new(SnapshotError::Busy(self.requests.max_capacity())));
        }
        // One snapshot may be under way that began too early.
        let patience = self.deadline.saturating_mul(2);
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Arc::new(SnapshotError::Late(patience))),
        }
    }
}

/// A connection for questions of one's own, within the deadline.
pub(crate) async fn connect(
    dsn: &Dsn,
    settings: &Settings,
    options: Option<&str>,
) -> Result<Connection, SnapshotError> {
    let opened = tokio::time::timeout(settings.deadline, Connection::open(dsn, settings, options)).await;
    opened.unwrap_or(Err(SnapshotError::Late(settings.deadline)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, i32::MAX as u64)
}

impl SourceTask {
    /// Serves until the last [`Source`] is gone.
    pub async fn run(mut self) {
        while let Some(first) = self.requests.recv().await {
            let mut waiting = vec![first];
            while let Ok(another) = self.requests.try_recv() {
                waiting.push(another);
            }
            waiting.retain(|request| !request.is_closed());
            if waiting.is_empty() {
                continue;
            }
            let answer = self.take().await.map(Arc::new).map_err(Arc::new);
            if let Err(error) = &answer {
                tracing::warn!(database = %self.dsn, cause = error.cause().as_str(), %error, "no snapshot");
            }
            for request in waiting {
                // Who gave up waiting has been told so.
                let _ = request.send(answer.clone());
            }
        }
    }

    async fn take(&mut self) -> Result<Snapshot, SnapshotError> {
        let started = Instant::now();
        let deadline = self.settings.deadline;
        let taken = match tokio::time::timeout(deadline, self.take_whole(started)).await {
            Ok(taken) => taken,
            Err(_) => Err(SnapshotError::Late(deadline)),
        };
        match &taken {
            Ok(_) => {}
            // Never a cancel request: poolers have died of it. A closed connection ends the query, or its timeout does.
            Err(error) if !error.spares_connection() => self.connection = None,
            Err(_) => {
                if let Some(connection) = &self.connection {
                    connection.roll_back();
                }
            }
        }
        taken
    }

    async fn take_whole(&mut self, started: Instant) -> Result<Snapshot, SnapshotError> {
        let warm = self.connection.take().filter(|connection| !connection.is_closed());
        let was_warm = warm.is_some();
        let connection = match warm {
            Some(connection) => connection,
            None => Connection::open(&self.dsn, &self.settings, None).await?,
        };
        self.connection = Some(connection.clone());
        match self.picture(connection, started).await {
            // The server went away while nobody looked; a new connection may find it, or its successor.
            Err(error) if was_warm && !error.spares_connection() => {
                let connection = Connection::open(&self.dsn, &self.settings, None).await?;
                self.connection = Some(connection.clone());
                self.picture(connection, started).await
            }
            taken => taken,
        }
    }

    async fn picture(&mut self, connection: Connection, started: Instant) -> Result<Snapshot, SnapshotError> {
        let camera = Camera { connection: &connection, dsn: &self.dsn, settings: &self.settings };
        let snapshot = camera.take(&mut self.copies, &mut self.cached, started).await?;
        match &self.pinned {
            Some(pinned) if !pinned.is_same(&snapshot.server) => Err(SnapshotError::Identity {
                before: pinned.to_string().into(),
                now: snapshot.server.to_string().into(),
            }),
            Some(_) => Ok(snapshot),
            None => {
                self.pinned = Some(snapshot.server.clone());
                Ok(snapshot)
            }
        }
    }
}
