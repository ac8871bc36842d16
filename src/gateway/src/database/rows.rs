//! Rows that were written and belong to no call, looked for again and again beside all calls.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use estoppel_evidence::Reason;
use estoppel_snapshot::{Changed, RowWatch};

use super::Database;
use super::lineage::{Calls, Link};
use crate::bypass::{self, Orphans};
use crate::serve::Shared;

/// Looks take at most this part of the time.
const SHARE: u32 = 10;

/// Looks until the database is gone, or not that of the configuration any more. Each table is looked at for itself: one that cannot be
/// hinders no other.
pub(super) async fn watch(database: Weak<Database>, shared: Weak<Shared>, rows: RowWatch) {
    let Some(known) = database.upgrade() else { return };
    let (metrics, name, tables) = (known.metrics.clone(), known.name.clone(), known.tables.clone());
    drop(known);
    metrics.rows_watched(&name);
    look_on(&database, &shared, rows, tables.len()).await;
    tables.iter().for_each(|table| metrics.rows_unwatched(&name, &table.to_string()));
}

async fn look_on(database: &Weak<Database>, shared: &Weak<Shared>, mut rows: RowWatch, tables: usize) {
    let mut said = vec![""; tables];
    loop {
        let started = Instant::now();
        let every = {
            let (Some(database), Some(shared)) = (database.upgrade(), shared.upgrade()) else { return };
            for (at, said) in said.iter_mut().enumerate() {
                if !is_current(&database, &shared) {
                    return;
                }
                look(&database, &shared, &mut rows, at, said).await;
            }
            Duration::from_millis(database.settings.watch_rows_every_ms())
        };
        tokio::time::sleep(every.max(started.elapsed().saturating_mul(SHARE - 1))).await;
    }
}

/// One look at the table at this place. `said` is why it could not be looked at the last time.
async fn look(
    database: &Database,
    shared: &Arc<Shared>,
    rows: &mut RowWatch,
    at: usize,
    said: &mut &'static str,
) {
    let Some(table) = database.tables.get(at) else { return };
    let mut orphans = Orphans::default();
    let mut found = |changed: Changed| count(&mut orphans, &database.calls, &changed);
    let looked = rows.look(at, database.calls.look(), &mut found).await;
    let (code, cause) = match &looked {
        Ok(looked) if looked.is_whole => (Reason::Ok, "none"),
        // The next look goes on.
        Ok(_) => (Reason::Ok, "partly"),
        Err(error) => (Reason::LineageMissing, error.cause().as_str()),
    };
    database.metrics.snapshot(&database.name, "watch", code, cause);
    database.metrics.rows_seen(&database.name, &table.to_string(), looked.is_ok());
    if let Err(error) = &looked
        && *said != cause
    {
        tracing::warn!(
            database = &*database.name,
            table = %table,
            cause,
            %error,
            "rows that belong to no call are not seen"
        );
    }
    *said = cause;
    if orphans.count() > 0 {
        bypass::rows_beside_calls(shared, &database.name, table, orphans).await;
    }
}

/// After a reload with another configuration another task looks.
fn is_current(database: &Arc<Database>, shared: &Shared) -> bool {
    let snapshot = shared.snapshot.load();
    snapshot.databases.values().any(|one| Arc::ptr_eq(one, database))
}

/// Rows that name no call that was under way as they were written.
fn count(orphans: &mut Orphans, calls: &Calls, changed: &Changed) {
    let count = match calls.link(changed.key.as_deref(), changed.since) {
        Link::Call | Link::Untold => return,
        Link::Nothing => &mut orphans.nothing,
        Link::Unknown => &mut orphans.unknown,
        Link::Ended => &mut orphans.ended,
    };
    *count = count.saturating_add(changed.rows);
}

#[cfg(test)]
mod tests {
    use estoppel_evidence::CallId;

    use super::*;

    #[test]
    fn rows_are_counted_by_what_they_name() {
        let calls = Arc::<Calls>::default();
        let (ended, inside) = (CallId::new(1, [1; 10]), CallId::new(2, [2; 10]));
        drop(calls.name(ended));
        let _inside = calls.name(inside);
        let since = calls.look();
        let (ended, inside) = (ended.to_string(), inside.to_string());
        let mut orphans = Orphans::default();
        for (key, rows) in
            [(None, 2), (Some(&*inside), 5), (Some("forged"), 3), (Some(&*ended), 7), (Some(&*ended), 1)]
        {
            count(&mut orphans, &calls, &Changed { key: key.map(Into::into), rows, since });
        }
        assert_eq!(orphans, Orphans { nothing: 2, unknown: 3, ended: 8 });
    }
}
