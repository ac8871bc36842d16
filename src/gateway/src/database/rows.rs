//! Rows that were written and belong to no call, looked for again and again beside all calls.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use estoppel_evidence::Reason;
use estoppel_snapshot::{Looked, RowWatch};

use super::Database;
use super::lineage::{Calls, Link};
use crate::bypass::{self, Orphans};
use crate::serve::Shared;

/// Looks take at most this part of the time.
const SHARE: u32 = 10;

/// Looks until the database is gone, or not that of the configuration any more.
pub(super) async fn watch(database: Weak<Database>, shared: Weak<Shared>, mut rows: RowWatch) {
    let mut since = None;
    let mut said = "";
    if let Some(database) = database.upgrade() {
        database.metrics.rows_watched(&database.name);
    }
    loop {
        let (Some(database), Some(shared)) = (database.upgrade(), shared.upgrade()) else { return };
        if !is_current(&database, &shared) {
            return;
        }
        let look = database.calls.look();
        let started = Instant::now();
        let looked = rows.look().await;
        let took = started.elapsed();
        let (code, cause) = match &looked {
            Ok(looked) if looked.is_whole => (Reason::Ok, "none"),
            Ok(_) => (Reason::LineageMissing, "too_many"),
            Err(error) => (Reason::LineageMissing, error.cause().as_str()),
        };
        database.metrics.snapshot(&database.name, "watch", code, cause);
        if said != cause && code != Reason::Ok {
            let error = looked.as_ref().err().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                database = &*database.name,
                cause,
                error,
                "rows that belong to no call are not seen"
            );
        }
        said = cause;
        if let Ok(looked) = looked {
            if let Some(since) = since.filter(|_| looked.is_continued) {
                tell(&shared, &database, &looked, since).await;
            }
            since = Some(look);
        }
        let every = Duration::from_millis(database.settings.watch_rows_every_ms());
        drop((database, shared));
        tokio::time::sleep(every.max(took.saturating_mul(SHARE - 1))).await;
    }
}

/// After a reload with another configuration another task looks.
fn is_current(database: &Arc<Database>, shared: &Shared) -> bool {
    let snapshot = shared.snapshot.load();
    snapshot.databases.values().any(|one| Arc::ptr_eq(one, database))
}

async fn tell(shared: &Arc<Shared>, database: &Database, looked: &Looked, since: u64) {
    for (at, table) in database.tables.iter().enumerate() {
        let orphans = orphans(&database.calls, looked, at, since);
        if orphans.count() > 0 {
            bypass::rows_beside_calls(shared, &database.name, table, orphans).await;
        }
    }
}

/// Those of the table at this place.
fn orphans(calls: &Calls, looked: &Looked, table: usize, since: u64) -> Orphans {
    let mut orphans = Orphans { is_all: looked.is_whole, ..Orphans::default() };
    for changed in looked.changed.iter().filter(|changed| changed.table == table) {
        let count = match calls.link(changed.key.as_deref(), since) {
            Link::Call | Link::Untold => continue,
            Link::Nothing => &mut orphans.nothing,
            Link::Unknown => &mut orphans.unknown,
            Link::Ended => &mut orphans.ended,
        };
        *count = count.saturating_add(changed.rows);
    }
    orphans
}

#[cfg(test)]
mod tests {
    use estoppel_evidence::CallId;
    use estoppel_snapshot::Changed;

    use super::*;

    #[test]
    fn rows_are_counted_by_table_and_by_what_they_name() {
        let calls = Arc::<Calls>::default();
        let (ended, inside) = (CallId::new(1, [1; 10]), CallId::new(2, [2; 10]));
        drop(calls.name(ended));
        let _inside = calls.name(inside);
        let since = calls.look();
        let row = |table, key: Option<&str>, rows| Changed { table, key: key.map(Into::into), rows };
        let (ended, inside) = (ended.to_string(), inside.to_string());
        let looked = Looked {
            changed: vec![
                row(0, None, 2),
                row(0, Some(&inside), 5),
                row(0, Some("forged"), 3),
                row(1, Some(&ended), 7),
                row(1, Some(&ended), 1),
            ],
            is_continued: true,
            is_whole: true,
        };
        let whole = Orphans { is_all: true, ..Orphans::default() };
        assert_eq!(orphans(&calls, &looked, 0, since), Orphans { nothing: 2, unknown: 3, ..whole });
        assert_eq!(orphans(&calls, &looked, 1, since), Orphans { ended: 8, ..whole });
        assert_eq!(orphans(&calls, &looked, 2, since), whole);
    }
}
