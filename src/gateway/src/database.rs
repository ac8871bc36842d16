//! Databases that are looked at around calls (`snapshot` of the policy).
//!
//! A [`Database`] is one of the configuration with its warm connection; calls that look at the same time share a snapshot. What
//! comes after a call is looked at by [`posts`], so that also a call that was dropped gets it.

mod digests;
mod lineage;
mod posts;
mod rows;
mod watch;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use estoppel_evidence::entry::{Downgrade, SnapshotSide, TableWrites};
use estoppel_evidence::{CallId, Reason, Sha256, text};
use estoppel_policy::SnapshotMode;
use estoppel_snapshot::{
    Cause, Dsn, RowCounter, RowCounterTask, RowWatch, Snapshot, SnapshotError, Source, SourceTask, Tls,
    Written,
};
use tokio::runtime::Handle;

use self::digests::Digests;
use self::lineage::Calls;
pub(crate) use self::lineage::Named;
pub(crate) use self::posts::{Due, Posts};
pub(crate) use self::watch::Inside;
use self::watch::Watch;
use crate::Metrics;
use crate::bypass;
use crate::chain::Chain;
use crate::serve::Shared;
use crate::settings;

/// How often a database is tried again that could not be looked at, and how often one is looked at whose schema is watched.
const RETRY: Duration = Duration::from_secs(5);

/// One database of the configuration.
pub(crate) struct Database {
    name: Arc<str>,
    settings: settings::Database,
    /// Of its URL and its authorities: others are another database.
    place: Sha256,
    source: Source,
    digests: Digests,
    /// Tables whose rows name calls, and who counts these.
    tables: Arc<[Written]>,
    counter: Option<RowCounter>,
    calls: Arc<Calls>,
    /// What serves it, until it is started.
    tasks: Mutex<Option<Tasks>>,
    is_up: AtomicBool,
    /// If its schema is watched.
    watch: Option<Arc<Watch>>,
    metrics: Metrics,
}

struct Tasks {
    source: SourceTask,
    counter: Option<RowCounterTask>,
    rows: Option<RowWatch>,
}

/// The database of a route, and what it means for its calls.
#[derive(Clone)]
pub(crate) struct Look {
    pub(crate) database: Arc<Database>,
    pub(crate) mode: SnapshotMode,
}

/// On which side of its call a snapshot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    Before,
    After,
}

impl When {
    fn as_str(self) -> &'static str {
        match self {
            Self::Before => "pre",
            Self::After => "post",
        }
    }
}

/// Why there is no snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Missed {
    pub(crate) code: Reason,
    cause: Cause,
}

impl Missed {
    /// Too many calls wait already.
    fn busy() -> Self {
        Self { code: Reason::PostTimeout, cause: Cause::Busy }
    }

    fn of(error: &SnapshotError, when: When) -> Self {
        let code = match (error.reason(), when) {
            (Reason::PreFail, When::After) => Reason::PostTimeout,
            (code, _) => code,
        };
        Self { code, cause: error.cause() }
    }

    /// The rows of a call are not counted.
    fn lineage(cause: Cause) -> Self {
        Self { code: Reason::LineageMissing, cause }
    }

    /// For the receipt's list of what was not done.
    pub(crate) fn downgrade(self) -> Downgrade {
        Downgrade { code: self.code, detail: Some(self.cause.as_str().into()) }
    }
}

impl Database {
    /// Reads the URL. That of `before` goes on where nothing has changed.
    pub(crate) fn build(
        settings: &settings::Database,
        metrics: &Metrics,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, String> {
        let said = |problem: String| format!("database `{}`: {problem}", settings.name);
        let url = url(settings).map_err(said)?;
        let authorities = match &settings.ca {
            None => Vec::new(),
            Some(path) => std::fs::read(path)
                .map_err(|error| said(format!("cannot read `{}`: {error}", path.display())))?,
        };
        let place = Sha256::of(&[url.as_bytes(), b"\0", &authorities].concat());
        if let Some(before) = before.filter(|before| before.place == place && before.settings == *settings) {
            return Ok(before.clone());
        }
        let dsn = Dsn::parse(&url).map_err(|error| said(error.to_string()))?;
        if settings.ca.is_some() && !dsn.tls() {
            return Err(said("`ca` has no effect without TLS; say `sslmode=verify-full` in the URL".into()));
        }
        let tls = dsn.tls().then(|| Tls::trusting(settings.ca.as_deref())).transpose();
        let deadline = Duration::from_millis(settings.wait_ms());
        let lag = settings.replica_lag_bytes_max.unwrap_or(settings::Database::REPLICA_LAG_BYTES);
        let looks = estoppel_snapshot::Settings {
            deadline,
            statement: settings.statement_ms.map_or(deadline, Duration::from_millis),
            lock: Duration::from_millis(settings.lock_ms),
            relations_max: settings.relations_max,
            waiting_max: settings.waiting_max,
            replica_lag_bytes_max: settings.allow_replica.then_some(lag),
            tls: tls.map_err(|error| said(Chain(&error).to_string()))?,
            rows: settings.rows(),
        };
        let tables: Arc<[Written]> = settings.written().into();
        let counter =
            (!tables.is_empty()).then(|| RowCounter::new(dsn.clone(), looks.clone(), tables.clone()));
        let (counter, count) = counter.unzip();
        let rows = settings.watch_rows.then(|| {
            let patience = Duration::from_millis(settings.watch_rows_ms());
            let looks =
                estoppel_snapshot::Settings { deadline: patience, statement: patience, ..looks.clone() };
            RowWatch::new(dsn.clone(), looks, &tables, settings.watch())
        });
        let (source, task) = Source::new(dsn, looks);
        // Calls go on over a reload, and so may what they write.
        let calls = before.filter(|before| before.place == place).map(|before| before.calls.clone());
        Ok(Arc::new(Self {
            name: settings.name.as_str().into(),
            settings: settings.clone(),
            place,
            source,
            digests: Digests::of(settings.rows().tables),
            tables,
            counter,
            calls: calls.unwrap_or_default(),
            tasks: Mutex::new(Some(Tasks { source: task, counter: count, rows })),
            is_up: AtomicBool::new(false),
            watch: settings.watch_schema.then(Arc::default),
            metrics: metrics.clone(),
        }))
    }

    /// Its name in the configuration.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Begins to serve it, once. Nothing waits for the database to be there.
    pub(crate) fn start(self: &Arc<Self>, runtime: &Handle, shared: &Arc<Shared>) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Tasks { source, counter, rows }) = tasks else { return };
        self.metrics.database_up(&self.name, false);
        runtime.spawn(source.run());
        runtime.spawn(keep_up(Arc::downgrade(self), Arc::downgrade(shared)));
        counter.into_iter().for_each(|counter| drop(runtime.spawn(counter.run())));
        let watch = |rows| rows::watch(Arc::downgrade(self), Arc::downgrade(shared), rows);
        rows.into_iter().for_each(|rows| drop(runtime.spawn(watch(rows))));
    }

    /// A snapshot that begins now, in the time that a call may wait for it.
    pub(crate) async fn look(&self, when: When) -> Result<Arc<Snapshot>, Missed> {
        let started = Instant::now();
        let deadline = Duration::from_millis(self.settings.wait_ms());
        let taken = match tokio::time::timeout(deadline, self.source.take()).await {
            Ok(taken) => taken.map_err(|error| Missed::of(&error, when)),
            Err(_) => Err(Missed::of(&SnapshotError::Late(deadline), when)),
        };
        self.tell(taken.as_ref().ok());
        let is_slow = started.elapsed() > Duration::from_millis(self.settings.budget_ms);
        self.metrics.looked(&self.name, when.as_str(), started.elapsed(), is_slow);
        let (code, cause) = match &taken {
            Ok(taken) => (side(taken, when).code.unwrap_or(Reason::Ok), "none"),
            Err(missed) => (missed.code, missed.cause.as_str()),
        };
        self.metrics.snapshot(&self.name, when.as_str(), code, cause);
        taken
    }

    /// A snapshot for which no call waits.
    async fn look_late(&self) -> Option<Arc<Snapshot>> {
        let taken = self.source.take().await.ok();
        self.tell(taken.as_ref());
        taken
    }

    /// What became of a snapshot for which no call waited.
    fn tell_late(&self, code: Reason, cause: &str) {
        self.metrics.snapshot(&self.name, "late", code, cause);
    }

    /// A call that may change it begins, if that is watched.
    pub(crate) fn enter(&self) -> Option<Inside> {
        self.watch.as_ref().map(Watch::enter)
    }

    /// From now on rows may name the call, if they name any.
    pub(crate) fn name_call(&self, call: CallId) -> Option<Named> {
        self.counter.as_ref().map(|_| self.calls.name(call))
    }

    /// How many rows of each declared table name the call now.
    async fn count(&self, call: CallId) -> Counted {
        let Some(counter) = &self.counter else { return Counted::default() };
        let deadline = Duration::from_millis(self.settings.wait_ms());
        let counted = match tokio::time::timeout(deadline, counter.count(call)).await {
            Ok(counted) => counted.map_err(|error| error.cause()),
            Err(_) => Err(Cause::Budget),
        };
        let counts = match counted {
            Ok(counts) => counts,
            Err(cause) => {
                self.tell_counted(Reason::LineageMissing, cause.as_str());
                return Counted { writes: Vec::new(), missed: Some(Missed::lineage(cause).downgrade()) };
            }
        };
        let writes = self.tables.iter().zip(counts).map(|(table, count)| writes(table, count)).collect();
        let counted = Counted::of(writes);
        if counted.missed.is_none() {
            self.tell_counted(Reason::Ok, "none");
        }
        let causes = counted.writes.iter().filter_map(|writes| writes.cause.as_deref());
        causes.for_each(|cause| self.tell_counted(Reason::LineageMissing, cause));
        counted
    }

    fn tell_counted(&self, code: Reason, cause: &str) {
        self.metrics.snapshot(&self.name, "rows", code, cause);
    }

    /// None is taken after a call, because too many wait.
    fn is_busy(&self) -> Missed {
        let missed = Missed::busy();
        self.metrics.snapshot(&self.name, When::After.as_str(), missed.code, missed.cause.as_str());
        missed
    }

    /// What came of a try, as far as it is more than one call's.
    fn tell(&self, taken: Option<&Arc<Snapshot>>) {
        self.is_up.store(taken.is_some(), Ordering::Relaxed);
        self.metrics.database_up(&self.name, taken.is_some());
        if let Some(taken) = taken {
            self.digests.tell(&self.name, taken, &self.metrics);
        }
    }

    /// What is told of tables of this one, and not of the one that is there now, is not told any more.
    pub(crate) fn forget(&self, now: Option<&Arc<Self>>) {
        let tables = now.map(|now| now.digests.tables()).unwrap_or_default();
        for table in self.digests.tables().iter().filter(|table| !tables.contains(table)) {
            self.metrics.rows_undigested(&self.name, &table.to_string());
        }
        if now.is_none() {
            self.metrics.database_gone(&self.name);
        }
    }
}

/// How many rows name a call.
#[derive(Default)]
struct Counted {
    writes: Vec<TableWrites>,
    /// What could not be counted, for the receipt's list of what was not done.
    missed: Option<Downgrade>,
}

impl Counted {
    fn of(writes: Vec<TableWrites>) -> Self {
        let mut gaps = writes.iter().filter_map(|writes| Some((&writes.table, writes.cause.as_ref()?)));
        let missed = gaps.next().map(|(table, cause)| {
            let more = match gaps.count() {
                0 => String::new(),
                count => format!(", and {count} more"),
            };
            let detail = text::text(&format!("{table} {cause}{more}")).into();
            Downgrade { code: Reason::LineageMissing, detail: Some(detail) }
        });
        Self { writes, missed }
    }
}

fn writes(table: &Written, count: Result<estoppel_snapshot::RowCount, Cause>) -> TableWrites {
    let name = TableWrites {
        hint: table.hint().map(|(hint, _)| hint.as_str().into()),
        table: table.to_string().into(),
        ..TableWrites::default()
    };
    match count {
        Ok(count) => TableWrites { more: count.is_more, rows: Some(count.rows), ..name },
        Err(cause) => TableWrites { cause: Some(cause.as_str().into()), ..name },
    }
}

/// What the receipt says of a snapshot. Between the places of the log of both sides lies all that a call can have changed.
pub(crate) fn side(taken: &Snapshot, when: When) -> SnapshotSide {
    let lsn = match when {
        When::Before => taken.before,
        When::After => taken.after,
    };
    SnapshotSide {
        code: lsn.is_none().then_some(Reason::LsnMissing),
        digest: Some(taken.schema.digest().0),
        lsn: lsn.map(|lsn| lsn.to_string().into()),
    }
}

/// What a snapshot has not of the rows that were asked for, for the receipt's list of what was not done.
pub(crate) fn without_rows(taken: &Snapshot, when: When) -> Option<Downgrade> {
    let mut gaps = taken.schema.rows()?.gaps();
    let (table, cause) = gaps.next()?;
    let more = match gaps.count() {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    let detail = format!("{}: {table} {}{more}", when.as_str(), cause.as_str());
    Some(Downgrade { code: Reason::RowsMissing, detail: Some(text::text(&detail).into()) })
}

/// Tries a database again as long as it cannot be looked at; the first time makes its connection warm. Looks at one whose
/// schema is watched while no call does.
async fn keep_up(database: Weak<Database>, shared: Weak<Shared>) {
    loop {
        let Some(database) = database.upgrade() else { return };
        let watches = database.watch.as_ref().is_some_and(|watch| watch.is_idle());
        if watches || !database.is_up.load(Ordering::Relaxed) {
            let inside = database.enter();
            let seen = database.look_late().await.map(|taken| taken.schema.clone());
            if let (Some(inside), Some(now), Some(shared)) = (&inside, &seen, shared.upgrade())
                && let Some(base) = inside.changed(now)
            {
                bypass::beside_calls(&shared, &database.name, base, now).await;
            }
            inside.into_iter().for_each(|inside| inside.undone(seen.as_ref()));
        }
        drop(database);
        tokio::time::sleep(RETRY).await;
    }
}

fn url(settings: &settings::Database) -> Result<String, String> {
    let read = |path: &Path| estoppel_journal::keys::read_secret(path).map_err(|error| error.to_string());
    let text = match (&settings.url_file, &settings.url_env) {
        (Some(path), _) => read(path)?.to_string(),
        (None, Some(name)) => {
            std::env::var(name).map_err(|_| format!("the environment has no text in `{name}`"))?
        }
        (None, None) => return Err("needs one of `url_file` and `url_env`".into()),
    };
    Ok(text.trim().to_owned())
}
