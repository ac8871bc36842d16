//! `estoppel replay run --db`: recorded SQL in a scratch schema.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use estoppel_evidence::{Reason, Sha256};
use estoppel_replay::certificate::{BodiesBy, Mode};
use estoppel_replay::database::{Opened, Plan, SchemaFrom, read_schema, recorded_schema, replay, steps};
use estoppel_replay::{Connections, Matching, Normalizers, ReplayError, Tally};
use estoppel_snapshot::{
    Dsn, Schema, Scratch, ScratchError, ScratchSettings, Settings, Snapshot, Source, Tls, role_sql,
};

use super::{Prepared, Said, causes, classes, conclude, key, normalizers, unread};
use crate::arguments::{ReplayDatabase, ReplayRun};
use crate::output::{Failure, Output, plain};

/// Most of `--sql`.
const SOURCES_MAX: usize = 64;
/// A look at a catalog may be slow: it is no call's.
const LOOK: Duration = Duration::from_secs(30);
const RELATIONS_MAX: usize = 20_000;

pub(super) fn run(
    output: Output,
    run: &ReplayRun,
    url: &str,
    prepared: &Prepared,
) -> Result<ExitCode, Failure> {
    let wanted = &run.database;
    let dsn = Dsn::parse(url).map_err(|error| invalid(&error.to_string()))?;
    if wanted.sql.len() > SOURCES_MAX {
        return Err(invalid(&format!("--sql: at most {SOURCES_MAX}")));
    }
    let normalizers = run.normalizers.as_deref().map(normalizers).transpose()?;
    let mut classes = classes(output, run.policy.as_deref())?;
    let tls = Tls::trusting(wanted.db_ca.as_deref())
        .map_err(|error| Failure::reason(Reason::FileUnreadable, plain(&causes(&error))))?;
    let bundle = &prepared.bundle;
    let steps = steps(bundle, &wanted.sql).map_err(|error| unread(&error))?;
    let mut connections = Connections::default();
    let addresses = dsn.addresses().map_err(|error| {
        Failure::reason(Reason::DependencyMissing, plain(&format!("`{dsn}` cannot be looked up: {error}")))
    })?;
    connections.allow(addresses);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::runtime("INTERNAL", error.to_string()))?;
    let mut tally = Tally::new(Matching::Strict);
    let replayed = runtime.block_on(async {
        let seen = look(&dsn, &tls).await?;
        let (schema, digest, schema_from) = match recorded_schema(&steps) {
            Some(digest) => {
                let schema = read_schema(bundle, digest).map_err(|error| unread(&error))?;
                (Arc::new(schema), digest, SchemaFrom::Bundle)
            }
            None => (seen.schema.clone(), seen.schema.digest().0, SchemaFrom::Database),
        };
        let scratch = open(&dsn, wanted, tls, &schema).await?;
        output.note(&format!("{} calls with SQL, in schema {} of {dsn}", steps.len(), scratch.name()));
        let server = (*seen.server).clone();
        let namespace = wanted.namespace.clone();
        let opened = Opened { scratch, schema: digest, schema_from, namespace, server };
        let capture = prepared.capture.as_ref();
        let plan =
            Plan { sources: &wanted.sql, normalizers: normalizers.as_ref(), capture, classes: &mut classes };
        let replayed = replay(bundle, &steps, plan, opened, &mut tally, &mut connections).await;
        replayed.map_err(|error| unread(&error))
    })?;
    let bodies_by = if prepared.capture.is_some() { BodiesBy::Tag } else { BodiesBy::Digest };
    let digest: Option<Sha256> = normalizers.as_ref().map(Normalizers::digest);
    let said = Said {
        connections: connections.count(),
        normalizers: digest,
        database: Some(replayed),
        policy: classes.policy(),
        ..Said::of(Mode::Database, bodies_by)
    };
    conclude(output, &run.of, bundle, &prepared.key, prepared.started, &tally, said)
}

/// What the database looks like now, and which it is.
async fn look(dsn: &Dsn, tls: &Tls) -> Result<Arc<Snapshot>, Failure> {
    let settings = Settings {
        deadline: LOOK,
        statement: LOOK,
        lock: LOOK,
        relations_max: RELATIONS_MAX,
        tls: Some(tls.clone()),
        ..Settings::default()
    };
    let (source, task) = Source::new(dsn.clone(), settings);
    let task = tokio::spawn(task.run());
    let taken = source.take().await;
    task.abort();
    taken.map_err(|error| {
        let message = format!("{dsn}: {}", causes(&*error));
        Failure::reason(Reason::DependencyMissing, plain(&message))
            .hint("`estoppel doctor --pg URL` says what is in the way")
    })
}

async fn open(dsn: &Dsn, wanted: &ReplayDatabase, tls: Tls, schema: &Schema) -> Result<Scratch, Failure> {
    let settings = ScratchSettings {
        statement: Duration::from_millis(wanted.statement_ms.max(1)),
        tls: Some(tls),
        ..ScratchSettings::default()
    };
    let [id, _] = key()?;
    let opened = Scratch::open(dsn, settings, schema, &wanted.namespace, id).await;
    opened.map_err(|error| {
        let is_role = matches!(error, ScratchError::Role(_));
        let failure = unread(&ReplayError::from(error));
        if is_role {
            failure.hint(format!("an administrator makes the right one: {}", role_sql(dsn)))
        } else {
            failure
        }
    })
}

fn invalid(message: &str) -> Failure {
    Failure::reason(Reason::ArgumentInvalid, plain(message))
}
